"""Training in stages carries the model along, and weights of related models can be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.reward import RewardModel, RewardStage, extrapolate, fit_stages, merge, search

TRUE = np.array([1.0, -2.0, 0.5])
STEPS = {"steps": 30, "batch_size": 32, "learning_rate": 0.05, "logging_steps": 30}


def ratings(seed: int = 0) -> PreferenceData:
    x = np.random.default_rng(seed).normal(size=(100, 1, 3))
    return PreferenceData.from_columns({"features": x.tolist(), "scores": (2 + x @ TRUE).tolist()})


def pairs(seed: int = 1) -> PreferenceData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(100, 2, 3))
    first = rng.random(100) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 1]) @ TRUE))
    scores = np.stack([first, ~first], axis=1).astype(float)
    return PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})


def with_weights(values: list[float], **params: Any) -> RewardModel:
    """A fitted linear model whose weights are then set."""
    model = RewardModel("features", **params).fit(pairs())
    network = model.scorer_.network  # type: ignore[attr-defined]
    with torch.no_grad():
        network.last.weight.copy_(torch.tensor([values]))
    return model


def weight(model: RewardModel) -> list[float]:
    return model.scorer_.network.last.weight[0].tolist()  # type: ignore[attr-defined]


def test_extrapolation_goes_on_past_the_second_model() -> None:
    """Worked numbers: [1, -2] to [1.4, -1.5], factor 1.52 (HelpSteer2-Preference)."""
    base, tuned = with_weights([1.0, -2.0, 0.0]), with_weights([1.4, -1.5, 0.0])
    assert weight(extrapolate(base, tuned, 1.52)) == pytest.approx([1.608, -1.24, 0.0])
    assert weight(extrapolate(base, tuned, 0.0)) == weight(base)
    assert weight(extrapolate(base, tuned, 1.0)) == weight(tuned)
    x = np.eye(3)
    assert extrapolate(base, tuned, 1.0).score_features(x).tolist() == tuned.score_features(x).tolist()


def test_merging_is_the_mean_of_weights_and_leaves_the_members_alone() -> None:
    one, other = with_weights([1.0, 0.0, 2.0]), with_weights([3.0, 4.0, 2.0])
    assert weight(merge([one, other])) == [2.0, 2.0, 2.0]
    assert weight(merge([one, other], [3, 1])) == [1.5, 1.0, 2.0]
    assert weight(one) == [1.0, 0.0, 2.0]


def test_a_merged_model_is_saved_and_loaded(tmp_path: Path) -> None:
    made = merge([with_weights([1.0, 0.0, 2.0]), with_weights([3.0, 4.0, 2.0])])
    again = RewardModel.load(made.save(tmp_path / "m"))
    assert again.score_features(np.eye(3)).tolist() == made.score_features(np.eye(3)).tolist()


def test_the_factor_is_searched_and_the_smallest_of_equals_is_taken() -> None:
    base, tuned = with_weights([0.0, 0.0, 0.0]), with_weights([1.0, 0.0, 0.0])
    best, table = search(base, tuned, lambda model: -abs(weight(model)[0] - 1.5), [1.0, 2.0, 1.5])
    assert weight(best) == [1.5, 0.0, 0.0]
    assert table["alpha"].to_list() == [1.0, 1.5, 2.0]
    level, _ = search(base, tuned, lambda model: 0.0, [2.0, 1.0])
    assert weight(level) == weight(tuned)


def test_models_that_do_not_belong_together_are_refused_with_all_differences() -> None:
    other = RewardModel("features", hidden=[4], training=STEPS).fit(pairs())
    with pytest.raises(ConfigError, match=r"layers.0.bias is only in one; .*last.weight has shapes"):
        extrapolate(with_weights([1.0, 0.0, 0.0]), other, 1.5)
    elsewhere = RewardModel("features").fit(pairs(seed=5))
    with pytest.raises(ConfigError, match="mean of the inputs differs; scale of the inputs differs"):
        merge([with_weights([1.0, 0.0, 0.0]), elsewhere])
    with pytest.raises(ConfigError, match="two models or more"):
        merge([elsewhere])
    with pytest.raises(ConfigError, match="one share of 0 or more"):
        merge([elsewhere, elsewhere], [1.0, -1.0])


def test_each_stage_starts_where_the_one_before_ended() -> None:
    common = RewardModel("features", training=STEPS)
    slow = {"training": {**STEPS, "learning_rate": 1e-6}}
    first, second = fit_stages(common, [RewardStage(ratings(), {"loss": "mse"}), RewardStage(pairs(), slow)])
    assert weight(second) == pytest.approx(weight(first), abs=1e-3)
    assert (first.loss, second.loss) == ("mse", "bradley_terry")
    moved = fit_stages(common, [RewardStage(ratings(), {"loss": "mse"}), RewardStage(pairs())])[-1]
    assert np.abs(np.subtract(weight(moved), weight(first))).max() > 0.01


def test_a_run_folder_holds_finished_stages_and_refuses_others(tmp_path: Path) -> None:
    stages = [
        RewardStage(ratings(), {"loss": "mse"}, "rate"),
        RewardStage(pairs(), {"l2": 0.5, "pull": "start"}),
    ]
    once = fit_stages(RewardModel("features"), stages, tmp_path / "run")
    before = (tmp_path / "run" / "rate" / "model" / "weights.safetensors").stat().st_mtime_ns
    again = fit_stages(RewardModel("features"), stages, tmp_path / "run")
    assert [weight(model) for model in again] == [weight(model) for model in once]
    assert (tmp_path / "run" / "rate" / "model" / "weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="other settings"):
        fit_stages(RewardModel("features", l2=0.7), stages, tmp_path / "run")


def test_stages_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match="at least one stage"):
        fit_stages(RewardModel("features"), [])
    with pytest.raises(ConfigError, match="different names; got a, a"):
        fit_stages(RewardModel("features"), [RewardStage(pairs(), name="a"), RewardStage(pairs(), name="a")])


@pytest.mark.models
def test_tuned_models_are_mixed_with_their_adapters_merged(minilm: Path, tmp_path: Path) -> None:
    texts = PreferenceData.from_columns(
        {"prompt": ["p"] * 8, "responses": [["good words", "bad words"]] * 8, "scores": [[1.0, 0.0]] * 8}
    )
    settings = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "dtype": "float32", "lora": 4}
    base = RewardModel(str(minilm), mode="finetune", training=settings).fit(texts)
    tuned = RewardModel(str(minilm), mode="finetune", training=settings).fit(texts, init=base)

    def scores(model: RewardModel) -> list[float]:
        return model.score(["p", "p"], ["good words", "other things"]).scores.tolist()

    assert scores(extrapolate(base, tuned, 1.0)) == pytest.approx(scores(tuned), abs=1e-4)
    assert scores(extrapolate(base, tuned, 0.0)) == pytest.approx(scores(base), abs=1e-4)
    far = extrapolate(base, tuned, 2.0)
    assert abs(scores(far)[0] - scores(tuned)[0]) > 1e-4
    assert scores(RewardModel.load(far.save(tmp_path / "far"))) == pytest.approx(scores(far), abs=1e-5)
