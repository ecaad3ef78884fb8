"""What a reward model refuses, in one line that says where and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palate import RewardModel, losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.reward import extrapolate, heads


def pairs(n: int = 20, source: str | None = None, **columns: Any) -> PreferenceData:
    x = np.random.default_rng(0).normal(size=(n, 2, 3))
    return PreferenceData.from_columns(
        {
            "prompt": [f"p{i}" for i in range(n)],
            "features": x.tolist(),
            "scores": [[1.0, 0.0]] * n,
            **columns,
        },
        source=source,
    )


def told(*values: Any) -> PreferenceData:
    """Pairs whose metadata holds `values` in turn under the key "told"."""
    return pairs(metadata=[json.dumps({"told": values[i % len(values)]}) for i in range(20)])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"l2": "abc"}, "l2 must be 0 or more, a finite number; got 'abc'"),
        ({"l2": float("inf")}, "l2 must be 0 or more"),
        ({"tolerance": -1.0}, "tolerance must be 0 or more"),
        ({"tolerance": None}, "tolerance must be 0 or more"),
        ({"dropout": "abc"}, "dropout must be in"),
        ({"max_iter": 0}, "max_iter must be a whole number of 1 or more; got 0"),
        ({"max_iter": 1.5}, "max_iter must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"seed": True}, "seed must be a whole number"),
        ({"text": "prompt"}, "text must be one of both, joint, response"),
        ({"hidden": 64}, r"hidden must be a list of widths of 1 or more such as \[64\]; got 64"),
        ({"hidden": "64"}, "hidden must be a list"),
        ({"hidden": [8, 0]}, "hidden must be a list of widths of 1 or more"),
        ({"hidden": [10**9]}, "4,000,000,000 weights"),
        ({"feature_names": "a,b,c"}, "feature_names must be a list of names"),
        ({"columns": 3}, "columns must be a mapping"),
        ({"head_params": [1]}, "head_params must be a mapping"),
        ({"loss_params": "smoothing"}, "loss_params must be a mapping"),
        ({"loss": None}, "loss must be a name; got None"),
        ({"head": 3}, "head must be a name; got 3"),
        ({"loss_params": {"smoothing": "abc"}}, "the loss 'bradley_terry' cannot be built"),
        ({"loss": "ordinal", "loss_params": {"levels": 5}}, "the loss 'ordinal' cannot be built"),
        ({"head": "attributes", "head_params": {"merit": "learned"}}, "merit must be a mapping"),
        ({"head": "attributes", "head_params": {"names": "abc"}}, "must be a list; got 'abc'"),
        ({"head": "bins", "head_params": {"low": "a"}}, "the head 'bins' cannot be built"),
    ],
)
def test_a_parameter_of_the_wrong_kind_is_named(params: dict[str, Any], message: str) -> None:
    data = pairs(aspect=["a"] * 20)
    with pytest.raises(ConfigError, match=message) as caught:
        RewardModel("features", **params).fit(data)
    assert "\n" not in str(caught.value)


def test_a_loss_with_a_parameter_of_the_wrong_kind_is_refused_in_a_sum_too() -> None:
    with pytest.raises(ConfigError, match="'hinge' cannot be built"):
        losses.get("bradley_terry + 0.1*hinge", hinge={"scale": "wide"})


def test_every_head_says_that_a_parameter_is_of_the_wrong_kind() -> None:
    with pytest.raises(ConfigError, match="the head 'quantiles' cannot be built"):
        heads.get("quantiles", pairs(), quantiles="many")


def test_a_row_that_is_wrong_is_named_by_its_place_in_the_file_after_a_split(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(20, 2, 3))
    features[17, 0, 1] = np.nan
    path = tmp_path / "choices.parquet"
    pairs(features=features.tolist()).save(path)
    data = PreferenceData(pairs(features=features.tolist()).table, source=path)
    seen = 0
    for seed in range(6):
        for part in data.split(0.5, seed=seed):
            if 18 not in part.row_numbers:
                continue
            seen += 1
            with pytest.raises(DataError, match="row 18, field 'features'"):
                RewardModel("features").fit(part)
    assert seen == 6


def test_rows_keep_their_numbers_through_parts_of_parts() -> None:
    data = pairs()
    part = data.take([7, 3, 15]).mask([True, False, True]).with_columns(weight=[1.0, 2.0])
    assert part.row_numbers.tolist() == [8, 16]
    assert data.row_numbers.tolist() == list(range(1, 21))


def test_a_value_told_with_a_pair_is_named_by_its_place_in_the_file() -> None:
    data = told(1.0, 2.0, 0.5, -1.0).mask(np.arange(20) >= 5)
    with pytest.raises(DataError, match="row 8, field 'told': -1 where"):
        RewardModel("features", columns={"strength": "told"}).fit(data)


def test_text_among_numbers_is_named_by_its_row() -> None:
    with pytest.raises(DataError, match="row 2, field 'told': strength must be a number; got 'strong'"):
        RewardModel("features", columns={"strength": "told"}).fit(told(1.0, "strong"))


def test_strengths_of_zero_alone_teach_nothing() -> None:
    with pytest.raises(DataError, match="field 'told': every judgment that could teach something has"):
        RewardModel("features", columns={"strength": "told"}).fit(told(0))


def test_vectors_without_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="row 1, field 'features': a vector without numbers"):
        RewardModel("features").fit(pairs(features=[[[], []]] * 20))


def saved(folder: Path, **changed: Any) -> Path:
    """A model in a folder, with entries of its description replaced, or taken out where they are None."""
    path = RewardModel("features").fit(pairs()).save(folder) / "reward.json"
    state = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({name: value for name, value in state.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    "changed",
    [
        {"params": []},
        {"params": {"nope": 1}},
        {"params": {"l2": "much"}},
        {"params": None},
        {"fit": None},
        {"n_groups": None},
        {"data_fingerprint": None},
        {"version": "2"},
    ],
)
def test_a_description_that_was_changed_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        RewardModel.load(saved(tmp_path / "model", **changed))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"version": 1' + "0" * 5000 + "}", "{", "null"])
def test_a_description_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    folder = saved(tmp_path / "model")
    (folder / "reward.json").write_text(text)
    with pytest.raises(ConfigError, match=r"reward.json (is damaged|does not describe)"):
        RewardModel.load(folder)


def test_weights_that_are_not_finite_are_not_loaded(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    weights = load_file(folder / "weights.safetensors")
    weights["network.last.weight"][0, 1] = np.nan
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(ConfigError, match=r"network\.last\.weight is not finite"):
        RewardModel.load(folder)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["a", "b", "c"], "no number"),
        ([[1, 2, 3], [1, 2]], "unequal length"),
        (3.0, "one number in place of a vector"),
        ([1.0, 2.0], "vectors of length 2"),
    ],
)
def test_features_that_are_no_vectors_are_refused(features: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        RewardModel("features").fit(pairs()).score_features(features)


def test_a_model_learns_from_preference_data_alone() -> None:
    with pytest.raises(ConfigError, match="learns from PreferenceData, not list"):
        RewardModel("features").fit([("a", "b")])  # type: ignore[arg-type]


def test_extrapolation_wants_a_finite_step() -> None:
    model = RewardModel("features").fit(pairs())
    with pytest.raises(ConfigError, match="alpha must be a finite number; got nan"):
        extrapolate(model, model, float("nan"))
