"""The leaderboard object: table, comparisons, matrix, advice, JSON and pictures."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError
from palate.rank import Leaderboard, Ranker, count, methods, registry
from palate.rank.leaderboard import rank_bounds
from palate.runs import to_json

COLUMNS = ["item", "strength", "rating", "lower", "upper", "rank_best", "rank_worst", "n"]


def votes(games):
    items, scores = [], []
    for a, b, first, second, ties in games:
        items += [[a, b]] * (first + second + ties)
        scores += [[1, 0]] * first + [[0, 1]] * second + [[1, 1]] * ties
    return PreferenceData.from_columns({"items": items, "scores": scores})


@pytest.fixture(scope="module")
def board():
    return palate.rank(
        votes([("A", "B", 2, 3, 0), ("A", "D", 1, 4, 0), ("B", "C", 5, 3, 0), ("C", "D", 1, 3, 0)])
    )


def test_the_table_has_its_columns_and_is_sorted(board):
    assert board.table.columns == COLUMNS
    assert board.table["item"].to_list() == ["D", "B", "C", "A"]
    assert board.table["n"].to_list() == [9, 13, 12, 10]
    assert board.table["rank_best"].to_list() == [1, 1, 1, 1]
    assert board.table["rank_worst"].to_list() == [4, 4, 4, 4]
    assert board.table.schema["n"] == pl.Int64


def test_strengths_have_mean_zero_and_ratings_follow_from_them(board):
    assert sum(board.strengths.values()) == pytest.approx(0, abs=1e-12)
    for row in board.table.iter_rows(named=True):
        assert row["rating"] == pytest.approx(1000 + 400 / math.log(10) * board.strengths[row["item"]])
        assert board.interval(row["item"]) == pytest.approx((row["lower"], row["upper"]))


def test_two_items_are_compared_with_their_covariance(board):
    difference, error, p = board.compare("D", "A")
    assert error**2 == pytest.approx(0.796759, abs=5e-7)
    assert difference / error == pytest.approx(1.4189, abs=5e-5)
    assert p == pytest.approx(0.155941, abs=1e-6)
    assert board.compare("A", "D").difference == -difference
    assert board.compare("A", "A") == (0.0, 0.0, 1.0)


def test_average_predicted_win_rates_of_the_22_games(board):
    average = board.win_matrix().average_predicted
    assert [average[x] for x in "ABCD"] == pytest.approx([0.3641, 0.5158, 0.3734, 0.7467], abs=5e-5)


def test_win_probabilities_are_symmetric_and_have_intervals(board):
    p = board.win_probability("D", "A")
    assert p == pytest.approx(1 / (1 + math.exp(-1.266491)), abs=1e-6)
    assert board.win_probability("A", "D") == pytest.approx(1 - p)
    probability, lower, upper = board.win_interval("D", "A")
    assert lower < probability == p < upper


def test_the_win_matrix_counts_ties_as_half():
    matrix = palate.rank(votes([("a", "b", 3, 1, 4), ("b", "c", 2, 2, 0)])).win_matrix(["b", "a", "c"])
    assert matrix.items == ["b", "a", "c"]
    assert matrix.observed[1, 0] == 5 / 8
    assert matrix.observed[0, 1] == 3 / 8
    assert np.isnan(matrix.observed[1, 2])
    assert matrix.counts.tolist() == [[0, 8, 4], [8, 0, 0], [4, 0, 0]]
    np.testing.assert_allclose(matrix.predicted[0, 1], 3 / 8)
    np.testing.assert_allclose(matrix.predicted + matrix.predicted.T, np.where(np.eye(3) == 1, np.nan, 1.0))


def test_rank_bounds_of_the_sheet():
    best, worst = rank_bounds(np.array([1090.0, 1075, 1066]), np.array([1110.0, 1095, 1074]))
    assert best.tolist() == [1, 1, 3]
    assert worst.tolist() == [2, 2, 3]


def test_rank_bounds_equal_their_definition():
    rng = np.random.default_rng(0)
    middle = rng.normal(0, 1, 60)
    half = rng.uniform(0, 0.5, 60)
    lower, upper = middle - half, middle + half
    best, worst = rank_bounds(lower, upper)
    others = ~np.eye(60, dtype=bool)
    np.testing.assert_array_equal(best, 1 + (lower[None, :] > upper[:, None]).sum(axis=1))
    np.testing.assert_array_equal(worst, 1 + ((upper[None, :] > lower[:, None]) & others).sum(axis=1))


def test_an_anchor_shifts_ratings_and_keeps_widths(board):
    anchored = palate.rank(count_of(board), anchor={"B": 1500})
    assert anchored.table.filter(pl.col("item") == "B")["rating"].item() == pytest.approx(1500)
    shift = anchored.table["rating"] - board.table["rating"]
    assert shift.max() == pytest.approx(shift.min())
    width = (board.table["upper"] - board.table["lower"]).to_list()
    assert (anchored.table["upper"] - anchored.table["lower"]).to_list() == pytest.approx(width)
    named = palate.rank(count_of(board), anchor="B")
    assert named.table.filter(pl.col("item") == "B")["rating"].item() == pytest.approx(1000)


def count_of(board):
    return board.comparisons


def test_a_higher_level_gives_wider_intervals(board):
    wide = palate.rank(count_of(board), level=0.99)
    assert wide.interval("A")[1] > board.interval("A")[1]
    assert (wide.interval("A")[1] - 922.427147) / 94.562091 == pytest.approx(2.575829, abs=1e-5)


def test_json_has_the_public_shape(board):
    shape = json.loads(to_json(board.to_json()))
    assert sorted(shape) == ["diagnostics", "items", "level", "method", "scale", "win_matrix"]
    assert shape["win_matrix"]["probability"][0][0] is None
    assert shape["win_matrix"]["probability"][0][1] == pytest.approx(
        board.win_probability(*shape["win_matrix"]["items"][:2])
    )
    assert shape["method"] == "bradley_terry"
    assert [sorted(item) for item in shape["items"]] == [sorted(COLUMNS)] * 4
    assert shape["items"][0]["item"] == "D"
    assert shape["diagnostics"]["comparisons"] == 22
    assert shape["diagnostics"]["converged"] is True
    assert all(isinstance(line, str) for line in shape["diagnostics"]["advice"])


def test_diagnostics_say_what_the_data_cannot_support(board):
    found = board.diagnostics
    assert found["log_likelihood"] == pytest.approx(-13.428450, abs=5e-7)
    assert found["components"] == found["strong_components"] == 1
    assert found["advice"] == [
        "First place is not decided: D cannot be told from B, C, A at 95%. If D and B differ as they do now, "
        "about 56 more votes between them would show it (80 % power).",
        "Fewer than 30 comparisons: D, B, C, A; their ranks may still move.",
    ]


def test_a_cycle_shows_as_pairs_that_do_not_fit():
    cycle = palate.rank(
        votes(
            [("rock", "scissors", 80, 20, 0), ("scissors", "paper", 80, 20, 0), ("paper", "rock", 80, 20, 0)]
        )
    )
    fit = cycle.diagnostics["fit"]
    assert fit["mean_absolute_error"] == pytest.approx(0.3)
    assert fit["pairs_tested"] == 3
    assert fit["share_outside"] == 1.0
    assert {frozenset((pair["a"], pair["b"])) for pair in fit["outliers"]} == {
        frozenset(("rock", "scissors")), frozenset(("scissors", "paper")), frozenset(("paper", "rock")),
    }  # fmt: skip
    assert any("3 pairs do not fit the strengths" in line for line in cycle.diagnostics["advice"])


@pytest.mark.parametrize("tie_share", [0.0, 0.4])
def test_about_one_pair_in_twenty_lies_outside_when_the_model_holds(tie_share):
    rng = np.random.default_rng(1)
    size, n = 40, 60_000
    theta = rng.normal(0, 0.5, size)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    # A tie replaces a win and a loss of equal shares, so that the mean outcome stays the model's.
    p = 1 / (1 + np.exp(theta[b] - theta[a]))
    tie = tie_share * 2 * np.minimum(p, 1 - p)
    draw = rng.random(n)
    left = np.where(draw < tie, 1, draw < tie + p - tie / 2).astype(float)
    right = np.where(draw < tie, 1, draw >= tie + p - tie / 2).astype(float)
    data = PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": np.stack([left, right], axis=1).tolist(),
        }
    )
    fit = palate.rank(data).diagnostics["fit"]
    assert 0.02 < fit["share_outside"] < 0.08


def test_judgments_that_compare_nothing_are_reported():
    data = PreferenceData.from_rows(
        [{"items": ["a", "b"], "scores": s} for s in ([1, 0], [0, 1], [1, float("nan")])]
    )
    found = palate.rank(data).diagnostics
    assert found["judgments_without_comparison"] == 1
    assert any(line == "1 judgment compares nothing and was not used." for line in found["advice"])


def test_it_reads_well_as_text_and_html(board):
    lines = repr(board).splitlines()
    assert lines[0] == "Leaderboard(bradley_terry: 4 items, 22 comparisons)"
    assert lines[2].split()[:3] == ["1-4", "D", "1142.4"]
    assert "<table" in board._repr_html_()


def test_an_unknown_item_is_named(board):
    with pytest.raises(ConfigError, match=r"^unknown item 'E'; known: A, B, C, D$"):
        board.interval("E")
    with pytest.raises(ConfigError, match=r"^unknown item 'E'"):
        board.win_matrix(["A", "E"])


def test_pictures_show_every_item(board):
    figure = board.plot()
    assert list(figure.data[0].y) == ["D", "B", "C", "A"]
    np.testing.assert_allclose(
        np.asarray(figure.data[0].error_x.array), board.table["upper"] - board.table["rating"]
    )
    assert len(board.plot(top=2).data[0].y) == 2
    heat = board.plot_win_matrix("predicted", top=3)
    assert list(heat.data[0].x) == ["D", "B", "C"]
    assert heat.data[0].z[0][1] == pytest.approx(board.win_probability("D", "B"))
    with pytest.raises(ConfigError, match=r"^which is 'both'; use 'observed' or 'predicted'$"):
        board.plot_win_matrix("both")


def test_a_method_without_intervals_says_so(board):
    plain = Leaderboard("points", board.items, board.theta, None, None, board.comparisons)
    assert plain.table["lower"].null_count() == 4
    assert plain.table["rank_best"].null_count() == 4
    assert plain.plot().data[0].error_x.array is None
    with pytest.raises(ConfigError, match=r"^the method points gives no intervals$"):
        plain.interval("A")
    with pytest.raises(ConfigError, match=r"^the method points gives no standard errors$"):
        plain.compare("A", "B")


def test_equal_strengths_are_ordered_by_name():
    board = palate.rank(votes([("b", "a", 1, 1, 0), ("c", "b", 1, 1, 0), ("a", "c", 1, 1, 0)]))
    assert list(board.strengths) == ["a", "b", "c"]


def test_the_package_is_a_function_and_lists_its_methods():
    assert "bradley_terry" in methods()
    assert all(issubclass(registry.get(name), Ranker) for name in methods())
    assert callable(palate.rank)
    assert count(votes([("a", "b", 1, 1, 0)])).n_comparisons == 2


def test_ranking_loads_neither_torch_nor_plotly():
    heavy = ("torch", "plotly", "transformers", "sklearn")
    code = f"import sys, palate.rank; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
