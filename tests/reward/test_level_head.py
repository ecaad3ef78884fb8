"""Scores read off levels: their reach, their aspects, and two stages of training with them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from palate import losses
from palate.data import PreferenceData
from palate.data.applicable import not_applicable
from palate.errors import ConfigError, DataError, PalateWarning
from palate.reward import RewardModel, RewardStage, fit_stages, heads
from palate.training import groups_for
from palate.training.ratings import ratings_of

HEAD = {"temperature": 0.2, "dim": 4}
STEPS = {"steps": 30, "batch_size": 8, "learning_rate": 0.02, "schedule": "constant", "logging_steps": 10}


def rated(prompts: int = 12, models: int = 5, seed: int = 0, **columns) -> PreferenceData:
    """Two aspects, each linear in one feature, rated 1 to 5."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(prompts, models, 3))
    scores = np.clip(np.round(3 + 1.2 * x[:, :, :2]), 1, 5).transpose(0, 2, 1).reshape(-1, models)
    made = {
        "prompt_id": np.repeat([f"p{i}" for i in range(prompts)], 2).tolist(),
        "items": [[f"m{i}" for i in range(models)]] * (2 * prompts),
        "features": np.repeat(x, 2, axis=0).tolist(),
        "scores": scores.tolist(),
        "aspect": ["shape", "colour"] * prompts,
    }
    return PreferenceData.from_columns(made | columns)


def test_a_score_is_the_mean_level_under_the_softmax_of_the_cosines():
    head = heads.get("levels", dim=5)
    cosines = torch.tensor([0.1, 0.15, 0.3, 0.35, 0.2], dtype=torch.float64)
    rest = torch.sqrt(1 - cosines**2)
    with torch.no_grad():  # a vector along the first axis, and levels at these angles from it
        head.prompts.copy_(torch.stack([cosines, rest, *torch.zeros(3, 5)], -1))
    z = torch.tensor([2.0, 0, 0, 0, 0], dtype=torch.float64)
    weights = torch.softmax(cosines, 0)
    assert weights.tolist() == pytest.approx([0.176620, 0.185676, 0.215724, 0.226785, 0.195195], abs=1e-6)
    assert head.score(z).item() == pytest.approx(3.0782597, abs=1e-7)


def test_the_reach_is_that_of_the_best_cosines():
    assert heads.get("levels").reach == pytest.approx((1.878, 4.122), abs=5e-4)
    assert heads.get("levels", temperature=1e-4).reach == (1.0, 5.0)
    head = heads.get("levels", low=0, high=3, levels=4, temperature=0.7)
    every = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=4)), dtype=torch.float64)
    means = torch.softmax(every / 0.7, -1) @ head.support
    assert head.reach == pytest.approx((means.min().item(), means.max().item()))


def test_labels_beyond_the_reach_are_warned_of():
    with pytest.warns(PalateWarning, match=r"of 120 scores lie outside 1\.88 to 4\.12"):
        heads.get("levels", rated())
    heads.get("levels", rated(), **HEAD)


def test_labels_outside_the_levels_are_refused():
    data = rated(1, 3, scores=[[1.0, 2.0, 3.0], [1.0, 0.0, 3.0]])
    with pytest.raises(DataError, match=r"row 2, field 'scores': a score of 0 on levels from 1 to 5"):
        heads.get("levels", data, **HEAD)


def test_an_aspect_with_one_label_is_named():
    data = rated(2, 3, scores=[[1.0, 2.0, 3.0], [4.0, 4.0, np.nan]] * 2)
    with pytest.raises(DataError, match="all labels of the aspect 'colour' are 4"):
        RewardModel("features", head="levels", head_params=HEAD, loss="mse", training=STEPS).fit(data)


@pytest.mark.parametrize(
    "bad",
    [{"names": ["a", "a"]}, {"names": ["overall"]}, {"levels": 1}, {"low": 5.0, "high": 1.0}, {"dim": 0},
     {"temperature": 0.0}],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError):
        heads.get("levels", **bad)


def test_it_learns_every_aspect_and_survives_saving(tmp_path):
    data = rated(40)
    model = RewardModel(
        "features", head="levels", head_params=HEAD, loss="mse", training={**STEPS, "steps": 150}
    ).fit(data)
    x = np.array([[2.0, -2.0, 0.0], [-2.0, 2.0, 0.0]])
    outputs = torch.from_numpy(model.scorer_.features(x))
    each = model.head_.by_aspect(outputs).detach().numpy()
    assert each[0, 0] > each[1, 0] + 1
    assert each[0, 1] < each[1, 1] - 1
    assert model.score_features(x) == pytest.approx(each.mean(1))
    again = RewardModel.load(model.save(tmp_path / "model"))
    assert again.score_features(x) == pytest.approx(model.score_features(x))


def test_judgments_without_aspects_have_one_score():
    data = rated()
    one = PreferenceData.from_columns(
        {name: data.table.column(name) for name in ("prompt_id", "items", "features", "scores")}
    )
    model = RewardModel("features", head="levels", head_params=HEAD, loss="mse", training=STEPS).fit(one)
    assert model.head_.aspects == ()
    assert model.score_data(one).scores.shape == (24, 5)


def test_ranking_then_scoring_keeps_the_levels_of_the_first_stage():
    data = rated(40)
    curriculum = {"gap_start": 2.5, "consistency_start": 0.5, "pool_step": 1, "epochs": 5}
    order = {
        "loss": "rank_hinge + rank_n_contrast",
        "loss_params": {"rank_hinge": curriculum, "rank_n_contrast": {"on": "outputs"}},
        "head_params": HEAD,
    }
    first, last = fit_stages(
        RewardModel("features", head="levels", hidden=(8,), groups="lists", training=STEPS),
        [
            RewardStage(data, order),
            RewardStage(data, {"loss": "mse", "head_params": {**HEAD, "learn": False}}),
        ],
    )
    assert torch.equal(first.head_.prompts.data, last.head_.prompts)
    assert int(first.loss_.terms[0].curriculum.epoch) == 4
    assert 0 < first.fit_["pairs_selected"] <= 1
    right = [(model.score_data(data).scores - 3).std() for model in (first, last)]
    assert min(right) > 0.1


def test_ratings_of_other_aspects_are_found_by_prompt_and_item():
    data = PreferenceData.from_columns(
        {
            "prompt_id": ["p", "p", "q", "p"],
            "items": [["a", "b"], ["b", "a"], ["a", "b"], ["a", "b"]],
            "scores": [[1.0, 2.0], [3.0, 4.0], [5.0, np.nan], [3.0, 2.0]],
            "aspect": ["x", "y", "x", "x"],
        }
    )
    found = ratings_of(data, np.array([[0, 1], [2, 3], [4, 5]]), ("x", "y"))
    # The first aspect of p was judged twice.
    wanted = [[[2, 4], [2, 3]], [[2, 3], [2, 4]], [[5, np.nan], [np.nan, np.nan]]]
    np.testing.assert_array_equal(found, wanted)


def test_ratings_need_to_know_which_alternatives_are_the_same():
    data = PreferenceData.from_columns(
        {"features": [[[1.0], [2.0]]], "scores": [[1.0, 2.0]], "aspect": ["x"]}
    )
    with pytest.raises(DataError, match="give alternatives items or responses"):
        groups_for(losses.get("rank_hinge"), data, aspects=("x",))
    assert "ratings" not in groups_for(losses.get("listmle"), data, aspects=("x",)).extra


def test_a_score_that_means_not_applicable_becomes_missing():
    data = rated(1, 3, scores=[[0.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    found, count = not_applicable(data)
    assert count == 4
    np.testing.assert_array_equal(found.scores, [np.nan, 2, 3, np.nan, np.nan, np.nan])
    assert found.column("items").equals(data.column("items"))
    with pytest.warns(PalateWarning, match="on a scale that begins at 0: 4 scores could be ratings"):
        not_applicable(data, low=0)
    with pytest.warns(PalateWarning, match="1 ratings are lower"):
        not_applicable(rated(1, 2, scores=[[-1.0, 0.0], [1.0, 2.0]]))
