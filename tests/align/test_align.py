"""Aligning a policy: it starts at its reference, learns what is preferred, and can be interrupted."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

import palate
from palate.align import METHODS, Policy
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateError, PalateWarning

WORDS = ["tea", "cup", "red", "blue", "good", "bad", "day", "night", "one", "two", "three"]
SETTINGS: dict[str, Any] = {"lora": 4, "dtype": "float32", "batch_size": 4, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def pairs() -> PreferenceData:
    """The preferred of two answers ends in yes, the other in no."""
    rng = np.random.default_rng(0)

    def answer(end: str) -> str:
        return " ".join([*rng.choice(WORDS, rng.integers(1, 9)), end])

    rows = []
    for i in range(24):
        good, bad = answer("yes"), answer("no")
        swap = i % 2
        rows.append(
            {
                "prompt": " ".join(["tell me about", *rng.choice(WORDS, 3)]),
                "responses": [bad, good] if swap else [good, bad],
                "scores": [0.0, 1.0] if swap else [1.0, 0.0],
            }
        )
    return PreferenceData.from_rows(rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dpo_starts_at_log_2_and_learns_the_preference(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path, dtype: str
) -> None:
    settings = SETTINGS | {"dtype": dtype}
    policy = palate.align(
        tiny_lm, pairs, steps=40, beta=1.0, out=tmp_path / "run", cache=tmp_path, **settings
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # In bfloat16 this holds only because padding makes the log-probabilities independent of the batch.
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert lines[-1]["loss"] < 0.3
    assert lines[-1]["accuracy"] == 1.0
    assert lines[-1]["kl"] > 0.1
    assert {
        "chosen_log_prob",
        "rejected_log_prob",
        "ranking_accuracy",
        "margin",
        "tokens_per_second",
    } <= lines[0].keys()
    assert policy.summary["left_out"]["too_long"] == 0

    frame = pairs.pairs()
    judged = policy.judge().compare(
        frame["prompt"].to_list(), frame["chosen"].to_list(), frame["rejected"].to_list()
    )
    assert (judged.probability > 0.5).mean() == 1.0


def test_the_saved_adapter_is_a_peft_folder_that_scores_the_same(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    policy = palate.align(tiny_lm, pairs, steps=6, out=tmp_path / "run", cache=tmp_path, **SETTINGS)
    folder = tmp_path / "run" / "model"
    prompts, groups = ["tell me about tea"], [["red yes", "red no"]]
    ours = policy.log_probs(prompts, groups).sum
    assert torch.equal(Policy.load(folder).log_probs(prompts, groups).sum, ours)
    theirs = AutoPeftModelForCausalLM.from_pretrained(str(folder))
    assert sum("lora" in name for name, _ in theirs.named_parameters()) > 0
    again = palate.align(
        tiny_lm, pairs, steps=6, out=tmp_path / "run", cache=tmp_path, **SETTINGS
    )  # finished: loaded
    assert torch.equal(again.log_probs(prompts, groups).sum, ours)
    assert again.implicit_reward(["tell me about tea"], ["red yes"]) == pytest.approx(
        policy.implicit_reward(["tell me about tea"], ["red yes"])
    )


def test_a_merged_policy_is_a_plain_transformers_folder(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    policy = palate.align(
        tiny_lm, pairs, steps=4, out=tmp_path / "run", merge=True, cache=tmp_path, **SETTINGS
    )
    folder = tmp_path / "run" / "model"
    assert not (folder / "adapter_config.json").exists()
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, policy.lm.model(ids).logits, atol=1e-5)


class Interrupted(Exception):
    pass


def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS | {"steps": 8, "save_steps": 3, "cache": tmp_path}
    whole = palate.align(tiny_lm, pairs, out=tmp_path / "whole", **settings)
    module = importlib.import_module("palate.align.align")
    real = module.policy_score

    def failing(*arguments: Any) -> Any:
        score, calls = real(*arguments), iter(range(5))

        def cut(*inputs: Any) -> Any:
            if next(calls, None) is None:
                raise Interrupted
            return score(*inputs)

        return cut

    with monkeypatch.context() as patch:
        patch.setattr(module, "policy_score", failing)
        with pytest.raises(Interrupted):
            palate.align(tiny_lm, pairs, out=tmp_path / "cut", **settings)
    resumed = palate.align(tiny_lm, pairs, out=tmp_path / "cut", **settings)
    for (name, a), b in zip(
        whole.lm.model.state_dict().items(), resumed.lm.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert whole.summary["last"] | {"tokens_per_second": 0} == resumed.summary["last"] | {
        "tokens_per_second": 0
    }


def test_reference_log_probs_are_computed_once_for_all_runs_on_the_same_data(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    def computed(data: PreferenceData = pairs, **settings: Any) -> int:
        policy = palate.align(tiny_lm, data, epochs=1, cache=tmp_path, **(SETTINGS | settings))
        return int(policy.summary["reference_computed"])

    assert computed() == 24
    assert computed() == 0
    assert computed(beta=0.5, seed=3, lora=2) == 0
    assert computed(method="ipo") == 0
    assert computed(pairs.take(range(20))) == 20
    assert computed(max_length=32) == 24
    assert computed(dtype="bfloat16") == 24


def test_only_groups_that_are_visited_need_a_reference(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    first = palate.align(tiny_lm, pairs, steps=2, cache=tmp_path, **SETTINGS)
    assert first.summary["reference_computed"] == 8
    rest = palate.align(tiny_lm, pairs, epochs=1, cache=tmp_path, **SETTINGS)
    assert rest.summary["reference_computed"] == 16


def test_damaged_or_foreign_reference_log_probs_are_refused(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    palate.align(tiny_lm, pairs, steps=1, cache=tmp_path, **SETTINGS)
    [key] = tmp_path.glob("*/key.json")
    good = key.read_text()
    key.write_text(good.replace('"version": 1', '"version": 0'))
    with pytest.raises(ConfigError, match="of another model or other data; remove the folder"):
        palate.align(tiny_lm, pairs, steps=1, cache=tmp_path, **SETTINGS)
    key.write_text(good)
    key.with_name("log_probs.safetensors").write_bytes(b"half")
    with pytest.raises(ConfigError, match="are damaged"):
        palate.align(tiny_lm, pairs, steps=1, cache=tmp_path, **SETTINGS)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains(tiny_lm: Path, pairs: PreferenceData, tmp_path: Path, method: str) -> None:
    policy = palate.align(tiny_lm, pairs, method, steps=2, cache=tmp_path, **SETTINGS)
    assert np.isfinite(policy.summary["last"]["loss"])
    assert "kl" in policy.summary["last"]


def test_simpo_computes_no_reference_if_none_is_tracked(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    policy = palate.align(tiny_lm, pairs, "simpo", steps=2, track_reference=False, cache=tmp_path, **SETTINGS)
    assert policy.summary["reference_computed"] == 0
    assert "kl" not in policy.summary["last"]


def test_lists_of_any_length_train_a_plackett_luce_policy(tiny_lm: Path, tmp_path: Path) -> None:
    data = PreferenceData.from_rows(
        [
            {"prompt": "tell me", "responses": ["one yes", "two", "three no"], "scores": [2.0, 1.0, 0.0]},
            {
                "prompt": "say",
                "responses": ["bad no", "good yes", "one", "two"],
                "scores": [0.0, 2.0, float("nan"), 1.0],
            },
            {"prompt": "say a", "responses": ["bad", "good"], "scores": [0.0, 1.0]},
        ]
    )  # fmt: skip
    policy = palate.align(
        tiny_lm, data, "dpo_lists", steps=20, cache=tmp_path, **(SETTINGS | {"batch_size": 3})
    )
    assert policy.summary["last"]["accuracy"] > 0.9
    # The worst of the second list is trained down although an unjudged response stands after it.
    rewards = policy.implicit_reward(["say"] * 3, ["bad no", "two", "good yes"])
    assert rewards[0] < rewards[1] < rewards[2]


def test_equal_responses_are_left_out_and_counted(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    same = PreferenceData.from_rows([{"prompt": "say", "responses": ["yes", "yes"], "scores": [1.0, 0.0]}])
    with pytest.warns(PalateWarning, match="1 of 25 groups prefer a response to an equal one"):
        policy = palate.align(
            tiny_lm, PreferenceData.concat([pairs, same]), steps=1, cache=tmp_path, **SETTINGS
        )
    assert policy.summary["left_out"]["equal_responses"] == 1
    with (
        pytest.warns(PalateWarning),
        pytest.raises(DataError, match="in every group the chosen response equals"),
    ):
        palate.align(tiny_lm, same, steps=1, cache=tmp_path, **SETTINGS)


def test_texts_beyond_the_window_are_counted(tiny_lm: Path, pairs: PreferenceData, tmp_path: Path) -> None:
    long = PreferenceData.from_rows(
        [{"prompt": "say " * 70, "responses": ["yes", "no"], "scores": [1.0, 0.0]},
         {"prompt": "say", "responses": ["yes " * 70, "no"], "scores": [1.0, 0.0]}]
    )  # fmt: skip
    with pytest.warns(PalateWarning, match="1 groups were left out"):
        policy = palate.align(
            tiny_lm, PreferenceData.concat([pairs, long]), steps=1, cache=tmp_path, **SETTINGS
        )
    assert policy.summary["left_out"]["too_long"] == 1
    assert policy.summary["left_out"]["truncated_prompts"] == 1
    with pytest.raises(ConfigError, match="more than the model's window of 64 tokens"):
        palate.align(tiny_lm, pairs, max_length=65, **SETTINGS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dp0"}, "unknown method 'dp0'; did you mean 'dpo'"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"beta": float("nan")}, "beta must be above 0"),
        ({"loss_params": {"smoothing": 0.7}}, "smoothing must be in"),
        ({"stepz": 3}, "unknown setting 'stepz'"),
        ({"strategy": "best"}, "unknown strategy 'best'"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    tiny_lm: Path, pairs: PreferenceData, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        palate.align(tiny_lm, pairs, **options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"responses": ["a", "b"], "scores": [1.0, 1.0]}], "1 of 1 are ties"),
        ([{"responses": ["a"], "scores": [1.0]}], "none of 1 judgments has two judged alternatives"),
        ([{"items": ["a", "b"], "scores": [1.0, 0.0]}], "the data has no responses"),
        (
            [{"responses": ["a", None], "scores": [1.0, 0.0]}],
            "row 1, field 'responses': a response is missing",
        ),
    ],
)
def test_data_without_anything_to_learn_is_one_clear_error(
    tiny_lm: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(PalateError, match=message):
        palate.align(tiny_lm, PreferenceData.from_rows(rows), steps=1, **SETTINGS)


def test_a_folder_with_another_run_or_no_policy_is_refused(
    tiny_lm: Path, pairs: PreferenceData, tmp_path: Path
) -> None:
    palate.align(tiny_lm, pairs, steps=1, out=tmp_path / "run", cache=tmp_path, **SETTINGS)
    with pytest.raises(ConfigError, match=r"other settings \(beta\)"):
        palate.align(tiny_lm, pairs, steps=1, beta=0.2, out=tmp_path / "run", cache=tmp_path, **SETTINGS)
    with pytest.raises(ConfigError, match="holds no policy"):
        Policy.load(tiny_lm)


@pytest.mark.models
@pytest.mark.slow
def test_smollm2_learns_real_pairs_of_harmlessness(smollm2: Path, shared_data: Path, tmp_path: Path) -> None:
    with pytest.warns(PalateWarning):  # prompts that differ, and empty answers
        data = palate.load(shared_data / "hh-rlhf-harmless" / "harmless-base-test.jsonl.gz", format="hh-rlhf")
    frame = data.pairs()
    short = (
        frame["prompt"].str.len_chars() + frame["chosen"].str.len_chars() + frame["rejected"].str.len_chars()
    ) < 300
    sample = data.take(frame.filter(short)["judgment"].to_numpy()[:50])
    policy = palate.align(
        smollm2, sample, steps=40, batch_size=4, learning_rate=2e-4, out=tmp_path / "run", cache=tmp_path
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    late = lines[-12:]
    assert np.mean([row["accuracy"] for row in late]) > 0.8
    assert np.mean([row["margin"] for row in late]) > 0.2
    assert policy.summary["peak_memory_gb"] < 4
