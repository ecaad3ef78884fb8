"""The recipes about leaderboards: their recorded verdicts, and the worked numbers of their methods."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from palate import losses, recipes
from palate.data import PreferenceData
from palate.data.citations import citation_features
from palate.data.style import style_features
from palate.errors import ConfigError
from palate.rank import BradleyTerry
from palate.rank.contextual import ContextualBradleyTerry
from palate.recipes import experiments
from palate.recipes.experiments.aspect_heads import train_linear

NAMES = ("music-arena", "search-arena", "3dgen-bench")


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_result_is_of_the_shipped_recipe(name, pytestconfig):
    recipe = recipes.get(name)
    result = recipes.recorded(name, pytestconfig.rootpath / recipes.papers.RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_values_that_were_recorded(name, pytestconfig):
    recipe = recipes.get(name)
    result = recipes.recorded(name, pytestconfig.rootpath / recipes.papers.RESULTS)
    assert result is not None
    found = experiments.resolve(recipe.experiment)(1, recipe.parameters_at("small"))
    assert found == pytest.approx(result.values[1], abs=0.01)


@pytest.mark.parametrize(
    ("experiment", "needed"),
    [("listening_gate", {}), ("controlled_votes", {}), ("aspect_heads", {"heads": {"aspects": {}}})],
)
def test_an_unknown_parameter_is_refused(experiment, needed):
    with pytest.raises(ConfigError, match=f"parameters of {experiment}: field 'voets': Extra inputs"):
        experiments.resolve(experiment)(0, {"voets": 3, **needed})


def test_listening_does_nothing_where_nobody_is_careless():
    found = experiments.resolve("listening_gate")(0, {"careless": 0.0, "repeats": 2, "replicates": 20})
    assert found["gate/tau"] == found["open/tau"]
    assert found["gate/rmse"] == found["open/rmse"]


def test_control_changes_little_where_style_moves_no_vote():
    style = {"length_effect": 0.0, "citation_effect": 0.0, "battles": 2000}
    found = experiments.resolve("controlled_votes")(0, {"style": style, "credulous": {"battles": 100}})
    assert found["fitted/length"] == pytest.approx(0.0, abs=0.15)
    assert found["fitted/citations"] == pytest.approx(0.0, abs=0.15)
    assert found["controlled/rmse"] == pytest.approx(found["plain/rmse"], abs=0.1)


def test_a_head_learns_the_weights_that_made_the_labels():
    rng = np.random.default_rng(0)
    difference, weights = rng.normal(size=(4000, 4)), np.array([1.0, -0.5, 0.0, 0.3])
    chance = 1 / (1 + np.exp(-difference @ weights))
    np.testing.assert_allclose(train_linear(difference, chance, 1e-9), weights, atol=1e-4)
    mask = np.arange(4000) < 2000
    chance[~mask] = 0.5
    np.testing.assert_allclose(train_linear(difference, chance, 1e-9, mask), weights, atol=1e-4)


# -- Music Arena: ties count half for each side, ridge 1, mean 1000 --


def votes(items, wins, ties):
    rows = [
        ([a, b], [1.0, 0.0])
        for i, a in enumerate(items)
        for j, b in enumerate(items)
        for _ in range(wins[i][j])
    ]
    rows += [
        ([items[i], items[j]], [1.0, 1.0])
        for i in range(len(items))
        for j in range(i)
        for _ in range(ties[i][j])
    ]
    return PreferenceData.from_columns({"items": [a for a, _ in rows], "scores": [s for _, s in rows]})


def test_two_systems_with_six_wins_two_losses_and_two_ties():
    data = votes(["a", "b"], [[0, 6], [2, 0]], [[0, 2], [2, 0]])
    board = BradleyTerry(l2=1).fit(data).leaderboard()
    gap = board.strengths["a"] - board.strengths["b"]
    assert gap == pytest.approx(0.688287, abs=1e-6)
    ratings = dict(board.table.select("item", "rating").rows())
    assert ratings["a"] - ratings["b"] == pytest.approx(119.57, abs=0.005)
    assert (ratings["a"], ratings["b"]) == pytest.approx((1059.78, 940.22), abs=0.005)
    plain = BradleyTerry().fit(data).strengths_
    assert 400 / math.log(10) * abs(plain[0] - plain[1]) == pytest.approx(147.19, abs=0.005)


def test_three_systems_with_ties():
    data = votes(["a", "b", "c"], [[0, 7, 5], [3, 0, 4], [1, 2, 0]], [[0, 2, 1], [2, 0, 3], [1, 3, 0]])
    board = BradleyTerry(l2=1).fit(data).leaderboard()
    assert list(board.strengths.values()) == pytest.approx([0.547269, -0.074810, -0.472459], abs=1e-6)
    assert board.table["rating"].to_list() == pytest.approx([1095.07, 987.00, 917.93], abs=0.005)
    assert board.table["rating"].mean() == pytest.approx(1000, abs=1e-9)


def test_both_bad_changes_no_order_where_it_is_symmetric():
    data = votes(["a", "b", "c"], [[0, 7, 5], [3, 0, 4], [1, 2, 0]], [[0, 2, 2], [2, 0, 2], [2, 2, 0]])
    tied = data.with_columns(
        tie=["both_bad" if row[0] == row[1] else None for row in data.scores.reshape(-1, 2)]
    )
    kept, dropped = (BradleyTerry(l2=1, both_bad=way).fit(tied).leaderboard() for way in ("tie", "drop"))
    assert list(kept.strengths) == list(dropped.strengths)
    assert kept.strengths != dropped.strengths


# -- Search Arena: normalised differences of features, extracted from texts and traces --

LENGTHS = [(300, 100), (120, 240), (80, 80), (500, 350)]
CITATIONS = [(6, 3), (0, 2), (4, 4), (5, 9)]
URL = "https://example.org/a"


@pytest.fixture(scope="module")
def answers() -> PreferenceData:
    return PreferenceData.from_columns({
        "items": [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]],
        "responses": [["word " * n for n in row] for row in LENGTHS],
        "scores": [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
    })  # fmt: skip


@pytest.fixture(scope="module")
def features(answers):
    return {
        "length": style_features(answers, ["words"])["words"],
        "citations": citation_features(answers, traces=[[[[URL] * n] for n in row] for row in CITATIONS])[
            "citations"
        ],
    }


def test_features_are_extracted_and_standardised_to_the_worked_numbers(answers, features):
    np.testing.assert_array_equal(features["length"], LENGTHS)
    np.testing.assert_array_equal(features["citations"], CITATIONS)
    worked = {
        "length": ([0.498753, -0.332410, 0, 0.176263], [1.375144, -1.391655, -0.285119, 0.301631]),
        "citations": ([0.3, -0.666667, 0, -0.266667], [1.289574, -1.430255, 0.445489, -0.304808]),
    }
    fitted = ContextualBradleyTerry(features=features, l2=1, l2_features=1).fit(answers)
    rows = {row["feature"]: row for row in fitted.coefficients_.to_dicts()}
    for name, (differences, scores) in worked.items():
        u = features[name]
        f = (u[:, 0] - u[:, 1]) / (u[:, 0] + u[:, 1] + 1)
        np.testing.assert_allclose(f, differences, atol=1e-6)
        np.testing.assert_allclose((f - rows[name]["mean"]) / rows[name]["sd"], scores, atol=1e-6)


def test_swapping_sides_changes_nothing_without_centring(answers, features):
    options = {"l2": 1.0, "l2_features": 1.0, "center": False}
    fitted = ContextualBradleyTerry(features=features, **options).fit(answers)
    swapped = PreferenceData.from_columns({
        "items": [row[::-1] for row in answers.column("items").to_pylist()],
        "scores": answers.scores.reshape(-1, 2)[:, ::-1],
    })  # fmt: skip
    turned = ContextualBradleyTerry(features={k: v[:, ::-1] for k, v in features.items()}, **options).fit(
        swapped
    )
    same = dict(zip(turned.items_, turned.strengths_, strict=True))
    assert [same[item] for item in fitted.items_] == pytest.approx(fitted.strengths_.tolist(), abs=1e-9)
    for column in ("coefficient", "standard_error"):
        assert turned.coefficients_[column].to_list() == pytest.approx(
            fitted.coefficients_[column].to_list(), abs=1e-9
        )


# -- 3DGen-Bench: the pair loss on soft labels --


@pytest.mark.parametrize(("label", "loss"), [(1.0, 0.313262), (0.0, 1.313262), (0.5, 0.813262)])
def test_the_pair_loss_is_the_logistic_loss_of_the_difference(label, loss):
    for shift in (0.0, 7.0):
        scores = torch.tensor([2.0, 1.0], dtype=torch.float64) + shift
        value = losses.pairwise.logistic(scores[0] - scores[1], label)
        assert float(value) == pytest.approx(loss, abs=1e-6)
        assert float(losses.pairwise.logistic(scores[1] - scores[0], 1 - label)) == pytest.approx(
            loss, abs=1e-6
        )


def test_a_tie_costs_the_papers_constant_more_and_has_its_gradient():
    """The paper takes log 2 off the loss of a tied label, so that a tied prediction of one costs nothing."""
    margin = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    loss = losses.pairwise.logistic(margin, 0.5)
    assert loss.item() - math.log(2) == pytest.approx(0.120115, abs=1e-6)
    assert float(losses.pairwise.logistic(torch.tensor(0.0), 0.5)) - math.log(2) == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert float(margin.grad) == pytest.approx(1 / (1 + math.exp(-1)) - 0.5, abs=1e-9)
