"""A reward model says what it comes to on validation data, and can keep the weights that are best there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.reward import RewardModel, finetune, heads
from palate.reward.arrays import fit_arrays
from palate.runs import Run
from palate.training import groups_for

DIM = 5
STEPS = {"steps": 24, "batch_size": 4, "learning_rate": 0.05, "warmup": 0, "eval_steps": 3, "save_steps": 5}
WORDS = ["tea", "cup", "house", "runs", "red", "seven", "quickly", "maybe", "answer", "list"]


def vectors(n: int, noise: float, seed: int, **columns: Any) -> PreferenceData:
    """Pairs of which the first number of the vector decides, but for a share of `noise`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2, DIM))
    first = (x[:, 0, 0] > x[:, 1, 0]) ^ (rng.random(n) < noise)
    scores = np.stack([first, ~first], axis=1).astype(float)
    prompts = [f"p{i // 2}" for i in range(n)]
    return PreferenceData.from_columns(
        {"prompt": prompts, "features": x.tolist(), "scores": scores.tolist(), **columns}
    )


LEARN, HELD = vectors(12, 0.25, 2), vectors(60, 0.1, 1)


def log_loss(model: RewardModel, data: PreferenceData) -> float:
    scores = model.score_data(data).scores
    gap = (scores[:, 0] - scores[:, 1]) * np.diff(data.scores.reshape(-1, 2))[:, 0] * -1
    return float(np.log1p(np.exp(-gap)).mean())


def accuracy(model: RewardModel, data: PreferenceData) -> float:
    scores = model.score_data(data).scores
    return float(((scores[:, 0] > scores[:, 1]) == (data.scores.reshape(-1, 2)[:, 0] > 0)).mean())


def held_out(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics() if "validation_loss" in row]


def test_a_full_batch_fit_says_what_it_comes_to_on_validation_data() -> None:
    model = RewardModel("features").fit(LEARN, validation=HELD)
    assert model.fit_["validation_loss"] == pytest.approx(log_loss(model, HELD), abs=1e-12)
    assert model.fit_["validation_accuracy"] == pytest.approx(accuracy(model, HELD))
    assert "best_step" not in model.fit_
    alone = RewardModel("features").fit(LEARN)
    assert np.array_equal(alone.score_data(HELD).scores, model.score_data(HELD).scores)


@pytest.mark.parametrize("by", ["loss", "accuracy"])
def test_training_in_steps_ends_with_the_weights_that_are_best(tmp_path: Path, by: str) -> None:
    run = Run(tmp_path / "run", {})
    training = {**STEPS, "select": "best", "select_by": by}
    model = RewardModel("features", hidden=(16,), training=training).fit(LEARN, run=run, validation=HELD)
    rows = held_out(run)
    assert [row["step"] for row in rows] == list(range(3, 25, 3))
    best = (
        min(rows, key=lambda row: row["validation_loss"])
        if by == "loss"
        else max(rows, key=lambda row: row["validation_accuracy"])
    )
    assert best["step"] < 24, "the case must have its best before the end"
    assert model.fit_["best_step"] == best["step"]
    assert model.fit_["validation_loss"] == pytest.approx(log_loss(model, HELD), abs=1e-12)
    assert model.fit_["validation_loss"] == pytest.approx(best["validation_loss"], abs=1e-12)
    assert model.fit_["validation_accuracy"] == pytest.approx(accuracy(model, HELD))
    again = RewardModel.load(model.save(tmp_path / "model"))
    assert again.fit_ == model.fit_
    assert np.array_equal(again.score_data(HELD).scores, model.score_data(HELD).scores)
    resumed = RewardModel("features", hidden=(16,), training=training)
    resumed.fit(LEARN, run=Run(tmp_path / "run", {}), validation=HELD)
    assert np.array_equal(resumed.score_data(HELD).scores, model.score_data(HELD).scores)


@pytest.fixture(scope="module")
def llama(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model of two small layers, with SmolLM2's tokenizer but no chat template."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.chat_template, tokenizer.pad_token = None, tokenizer.eos_token
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=96,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def texts(n: int, wrong: int, seed: int) -> PreferenceData:
    """Pairs in which "excellent" is better than "terrible", but for the first `wrong`."""
    rng = np.random.default_rng(seed)
    said = [[" ".join([*rng.choice(WORDS, 3), end]) for end in ("excellent", "terrible")] for _ in range(n)]
    scores = [[0.0, 1.0] if i < wrong else [1.0, 0.0] for i in range(n)]
    return PreferenceData.from_columns(
        {"prompt": [f"Describe {i}" for i in range(n)], "responses": said, "scores": scores}
    )


@pytest.mark.models
@pytest.mark.parametrize("lora", [0, 4])
def test_fine_tuning_keeps_its_best_weights_also_when_interrupted(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: int
) -> None:
    training = {"steps": 10, "batch_size": 4, "learning_rate": 3e-3, "dtype": "float32", "lora": lora,
                "eval_steps": 2, "save_steps": 4, "select": "best", "pad_to_multiple_of": 1}  # fmt: skip
    learn, held = texts(12, 12, 0), texts(10, 0, 1)  # what is learnt is wrong of the held-out pairs

    def model() -> RewardModel:
        return RewardModel(llama, mode="finetune", training=training)

    run = Run(tmp_path / "whole", {})
    whole = model().fit(learn, run=run, validation=held)
    rows = held_out(run)
    assert whole.fit_["best_step"] == 2 < rows[-1]["step"]
    assert whole.fit_["validation_loss"] < rows[-1]["validation_loss"]
    assert whole.fit_["validation_loss"] == pytest.approx(log_loss(whole, held), abs=1e-5)
    sound, calls = finetune.score_batch, 0

    def failing(*arguments: Any) -> Any:
        score = sound(*arguments)

        def scored(trained: Any, batch: Any) -> Any:
            nonlocal calls
            calls += trained.training
            if calls == 7:
                raise KeyboardInterrupt
            return score(trained, batch)

        return scored

    monkeypatch.setattr(finetune, "score_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        model().fit(learn, run=Run(tmp_path / "cut", {}), validation=held)
    monkeypatch.setattr(finetune, "score_batch", sound)
    resumed = model().fit(learn, run=Run(tmp_path / "cut", {}), validation=held)
    assert np.array_equal(resumed.score_data(held).scores, whole.score_data(held).scores)
    if lora:
        with pytest.warns(PalateWarning, match="one token later; give the tokenizer a padding token"):
            whole.export(tmp_path / "out")


@pytest.mark.models
def test_a_head_that_reads_prompts_is_measured_with_those_of_the_validation_data(minilm: Path) -> None:
    held = texts(6, 0, 1)
    told = {"dim": 4, "gate": True}
    model = RewardModel(str(minilm), "gpm", head_params=told).fit(texts(8, 0, 0), validation=held)
    margin = model.margins_data(held)[:, 0, 1]
    assert model.fit_["validation_loss"] == pytest.approx(float(np.log1p(np.exp(-margin)).mean()), abs=1e-9)


def test_sources_of_validation_data_have_the_codes_of_the_training_data() -> None:
    def sourced(names: list[str]) -> PreferenceData:
        told = [json.dumps({"site": names[i % len(names)]}) for i in range(12)]
        return vectors(12, 0.0, 0, metadata=told)

    loss, columns = losses.get("bradley_terry"), {"source": "site"}
    learnt = groups_for(loss, sourced(["a", "b", "c"]), columns=columns)
    held = groups_for(loss, sourced(["c", "a"]), columns=columns).coded_as(learnt)
    assert held.source_names == ("a", "b", "c")
    assert held.extra["source"].tolist() == [2, 0] * 6
    assert held.sources == {"a": 6, "b": 0, "c": 6}
    model = RewardModel("features", columns=columns)
    with pytest.raises(DataError, match="in the validation data: the source 'd' is not in the training data"):
        model.fit(sourced(["a", "b"]), validation=sourced(["a", "d"]))


def test_validation_data_that_cannot_be_used_is_refused_by_name() -> None:
    model = RewardModel("features", training={**STEPS, "select": "best"})
    with pytest.raises(ConfigError, match="select='best' chooses by validation data"):
        model.fit(LEARN)
    ties = PreferenceData.from_columns({"features": [[[1.0] * DIM, [2.0] * DIM]], "scores": [[1.0, 1.0]]})
    with pytest.raises(DataError, match="in the validation data: no judgment prefers one alternative"):
        model.fit(LEARN, validation=ties)
    short = PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1.0, 0.0]]})
    with pytest.raises(DataError, match="vectors of length 1 where the model was fitted on 5"):
        model.fit(LEARN, validation=short)


@pytest.mark.parametrize("loss", ["centering", "magnitude", "simcse", "centering + 0.1 * magnitude"])
@pytest.mark.parametrize("training", [None, STEPS])
def test_a_loss_that_reads_no_preferences_does_not_stand_alone(loss: str, training: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"reads no preferences, .* add it to one that does: 'bradley_terry"
    ):
        RewardModel("features", loss=loss, training=training).fit(LEARN)


def test_pairs_of_rows_are_not_learnt_by_a_penalty_either() -> None:
    with pytest.raises(ConfigError, match="'centering' reads no preferences"):
        fit_arrays(RewardModel("features", loss="centering"), np.eye(3), np.array([[0, 1]]))


@pytest.mark.parametrize("key", ["name", "data"])
def test_a_parameter_of_the_head_may_have_any_name_and_is_refused_by_it(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown parameter of the head 'scalar': '{key}'"):
        heads.get("scalar", LEARN, **{key: "x"})
    with pytest.raises(ConfigError, match=rf"unknown parameter of the head 'scalar': '{key}'"):
        RewardModel("features", head_params={key: "x"}).fit(LEARN)
