"""The trainer reaches the same end however often it is interrupted, and logs what happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateError
from palate.runs import Run
from palate.training import (
    PreferenceTrainer,
    Scored,
    Stage,
    TrainingConfig,
    configure,
    groups_for,
    order_of,
    train_stages,
)

LENGTH = 6


class TokenGroups:
    """Random token sequences in groups of three; the second of a group is the best."""

    def __init__(self, n: int, seed: int = 0) -> None:
        made = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(0, 32, (n, 3, LENGTH), generator=made)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Any) -> dict[str, Any]:
        tokens = self.tokens[list(rows)]
        n = len(tokens)
        return {
            "tokens": tokens,
            "targets": torch.tensor([1.0, 2.0, 0.0]).repeat(n, 1),
            "mask": torch.ones(n, 3, dtype=torch.bool),
            "weight": torch.ones(n),
        }


def likelihood(model: torch.nn.Module, batch: dict[str, Any]) -> Scored:
    tokens = batch["tokens"].flatten(0, 1)
    log_probs = model(input_ids=tokens).logits[:, :-1].log_softmax(-1)
    total = log_probs.gather(-1, tokens[:, 1:, None]).sum((1, 2)).view(-1, 3)
    return Scored(total, {"chosen_log_prob": total[:, 1].detach()}, tokens.numel())


class RunningLogistic(torch.nn.Module):
    """Logistic loss of best less worst: it keeps a running mean and learns a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, scores: torch.Tensor, targets: torch.Tensor, **_: Any) -> torch.Tensor:
        margin = scores[:, 1] - scores[:, 2]
        self.mean = 0.9 * self.mean + 0.1 * margin.mean().detach()
        return torch.nn.functional.softplus(-self.scale * (margin - 0.1 * self.mean)).mean()


def tiny_model(dropout: float = 0.0) -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=32, attention_dropout=dropout,
        )
    )  # fmt: skip


CONFIG = TrainingConfig(
    steps=12, batch_size=3, learning_rate=1e-2, save_steps=4, logging_steps=3, lora=0, gradient_accumulation=2
)


class Interrupted(Exception):
    pass


def trainer(
    folder: Path, *, stop_at: int | None = None, dropout: float = 0.0, config: TrainingConfig = CONFIG
) -> PreferenceTrainer:
    seen = 0

    def score(model: torch.nn.Module, batch: dict[str, Any]) -> Scored:
        nonlocal seen
        seen += 1
        if stop_at is not None and seen > stop_at * config.gradient_accumulation:
            raise Interrupted
        return likelihood(model, batch)

    run = Run(folder, {"config": config.model_dump()})
    return PreferenceTrainer(tiny_model(dropout), TokenGroups(10), score, RunningLogistic(), config, run=run)


def without_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("time", "tokens_per_second")} for row in rows]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_interrupted_run_ends_bitwise_like_an_uninterrupted_one(tmp_path: Path, dropout: float) -> None:
    whole = trainer(tmp_path / "whole", dropout=dropout)
    whole.fit()
    for stop in (
        6,
        5,
    ):  # stops at step 6 after the checkpoint of step 4, then 5 steps later at 9 after that of 8
        with pytest.raises(Interrupted):
            trainer(tmp_path / "cut", stop_at=stop, dropout=dropout).fit()
    resumed = trainer(tmp_path / "cut", dropout=dropout)
    resumed.fit()
    for (name, a), b in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert isinstance(whole.preference_loss, RunningLogistic)
    assert isinstance(resumed.preference_loss, RunningLogistic)
    assert torch.equal(whole.preference_loss.mean, resumed.preference_loss.mean)
    assert torch.equal(whole.preference_loss.scale, resumed.preference_loss.scale)
    assert whole.preference_loss.scale != 1
    assert whole.run is not None
    assert resumed.run is not None
    assert without_clock(whole.run.metrics()) == without_clock(resumed.run.metrics())
    assert [row["step"] for row in resumed.run.metrics()] == [3, 6, 9, 12]


def test_a_checkpoint_cut_off_while_it_was_written_is_not_resumed_from(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit()
    last = first.last_checkpoint()
    assert last is not None
    assert last.name == "checkpoint-12"
    torn = last.with_name("checkpoint-99")
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    assert first.last_checkpoint() == last
    again = trainer(tmp_path)
    again.fit()  # finished: nothing is trained again
    assert all(
        torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True)
    )


def test_training_lowers_the_loss_and_raises_accuracy_and_margin(tmp_path: Path) -> None:
    run = trainer(tmp_path, config=configure(TrainingConfig, CONFIG, steps=60))
    before, _ = run.measure(), run.fit()
    after = run.measure()
    assert after["loss"] < 0.5 * before["loss"]
    assert after["accuracy"] > max(before["accuracy"], 0.8)
    assert after["margin"] > before["margin"] + 1


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    tiny = tiny_model()
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    PreferenceTrainer(
        tiny, TokenGroups(4), likelihood, RunningLogistic(), configure(TrainingConfig, CONFIG, steps=2)
    ).fit()
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_no_pickle_of_arguments_is_left_in_a_checkpoint(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit()
    folder = run.last_checkpoint()
    assert folder is not None
    assert not (folder / "training_args.bin").exists()
    assert json.loads((folder / "palate.json").read_text())["step"] == 12


def test_each_pass_over_the_data_visits_every_group_once() -> None:
    order = order_of(7, 20, seed=3)
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert not np.array_equal(order[:7], order[7:14])
    assert np.array_equal(order, order_of(7, 20, seed=3))
    assert not np.array_equal(order, order_of(7, 20, seed=4))


def test_stages_run_in_sequence_on_the_same_model_and_finished_ones_are_loaded(tmp_path: Path) -> None:
    def stages() -> list[Stage]:
        short = configure(TrainingConfig, CONFIG, steps=4)
        named = enumerate(("rank", "score"))
        return [
            Stage(name, TokenGroups(6, seed), likelihood, RunningLogistic(), short) for seed, name in named
        ]

    first, again = tiny_model(), tiny_model()
    train_stages(first, stages(), Run(tmp_path, {}))
    train_stages(again, stages(), Run(tmp_path, {}))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(ConfigError, match="different names"):
        train_stages(tiny_model(), [*stages(), stages()[0]])


def test_a_loss_that_is_not_finite_stops_the_run_with_advice(tmp_path: Path) -> None:
    def broken(model: torch.nn.Module, batch: dict[str, Any]) -> Scored:
        return Scored(likelihood(model, batch).scores * torch.nan)

    with pytest.raises(PalateError, match=r"nan at step 1; lower the learning rate"):
        PreferenceTrainer(tiny_model(), TokenGroups(4), broken, RunningLogistic(), CONFIG).fit()
    with pytest.raises(PalateError, match="nothing to train on"):
        PreferenceTrainer(tiny_model(), TokenGroups(0), likelihood, RunningLogistic(), CONFIG)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"learning_rate": -1.0}, "'learning_rate' cannot be -1.0"),
        ({"steps": 0}, "'steps' cannot be 0"),
        ({"lerning_rate": 0.1}, "unknown setting 'lerning_rate'; did you mean 'learning_rate'"),
    ],
)
def test_a_setting_out_of_range_is_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(TrainingConfig, None, **setting)


def test_judgments_of_weight_0_take_no_place_in_a_batch() -> None:
    columns = {"items": [["a", "b"]] * 3, "scores": [[1.0, 0.0]] * 3}
    data = PreferenceData.from_columns({**columns, "weight": [1.0, 0.0, 2.0]})
    made = groups_for(losses.get("bradley_terry"), data)
    assert made.judgment.tolist() == [0, 2]
    assert made.weight.tolist() == [1.0, 2.0]
    nothing = PreferenceData.from_columns({**columns, "weight": [0.0] * 3})
    with pytest.raises(DataError, match="every judgment that could teach something has weight 0"):
        groups_for(losses.get("listmle"), nothing)
