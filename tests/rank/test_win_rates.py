"""Win rates: what they count, that their intervals hold, and what they say about the schedule."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import count
from palate.rank.battles import Battles, battles
from palate.rank.win_rates import AverageWinRate, WinRate, wilson

# 22 games among four players: wins of the row over the column.
GAMES = {("A", "B"): (2, 3), ("A", "D"): (1, 4), ("B", "C"): (5, 3), ("C", "D"): (1, 3)}


def votes(*rows):
    """Judgments from (first, second, what the first won) or (..., weight)."""
    columns = {
        "items": [[row[0], row[1]] for row in rows],
        "scores": [[float(row[2]), 1.0 - row[2]] for row in rows],
    }
    if any(len(row) > 3 for row in rows):
        columns["weight"] = [float(row[3]) for row in rows]
    return PreferenceData.from_columns(columns)


def games():
    return votes(
        *(row for (a, b), (won, lost) in GAMES.items() for row in [(a, b, 1)] * won + [(a, b, 0)] * lost)
    )


def rates(board):
    return dict(zip(board.table["item"], board.table["rating"], strict=True))


def random_battles(rng, truth, n, ties=0.0, cluster=None):
    """Battles of random pairs; those of a cluster are of one pair and alike in their outcome."""
    size = len(truth)
    first = rng.integers(0, size, n)
    second = (first + rng.integers(1, size, n)) % size
    luck = rng.random(n)
    if cluster is not None:
        lead = np.unique(cluster, return_index=True)[1][cluster]
        first, second = first[lead], second[lead]
        luck = np.where(rng.random(n) < 0.4, luck[lead], luck)
    outcome = (luck > truth[first, second]).astype(np.int8)
    outcome[rng.random(n) < ties] = 2
    return Battles([f"m{item}" for item in range(size)], first, second, outcome, None, None, False, n)


def test_a_win_rate_counts_comparisons_and_an_average_counts_opponents():
    plain, average = palate.rank(games(), method="win_rate"), palate.rank(games(), method="average_win_rate")
    assert rates(plain) == pytest.approx({"A": 3 / 10, "B": 8 / 13, "C": 4 / 12, "D": 7 / 9})
    assert rates(average) == pytest.approx({"A": 0.3, "B": 0.6125, "C": 0.3125, "D": 0.775})
    assert plain.scale.unit.startswith("win rate")
    assert sum(plain.strengths.values()) == pytest.approx(0.0)
    with pytest.raises(ConfigError, match="win_rate predicts no probability"):
        plain.win_probability("A", "B")


def test_the_adjusted_win_rate_of_mt_bench_is_the_win_rate():
    data = votes(("x", "y", 1), ("x", "y", 0.5), ("y", "x", 0.5), ("x", "y", 0), ("x", "z", 1))
    win, loss, tie = 2, 1, 2
    assert rates(palate.rank(data, method="win_rate"))["x"] == pytest.approx(
        (win + tie / 2) / (win + loss + tie)
    )
    dropped = rates(palate.rank(data, method="win_rate", ties="drop"))
    assert dropped == pytest.approx({"x": 2 / 3, "y": 1 / 2, "z": 0.0})


def test_both_bad_can_be_left_out():
    data = PreferenceData.from_columns(
        {
            "items": [["a", "b"]] * 3,
            "scores": [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]],
            "tie": [None, None, "both_bad"],
        }
    )
    assert rates(palate.rank(data, method="win_rate"))["a"] == pytest.approx(2.5 / 3)
    assert rates(palate.rank(data, method="win_rate", both_bad="drop"))["a"] == 1.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_average_win_rate_and_wins_agree_with_evalica(seed, weighted):
    evalica = pytest.importorskip("evalica")
    rng = np.random.default_rng(seed)
    truth = np.full((5, 5), 0.6)
    found = random_battles(rng, truth, 60, ties=0.3)
    weight = rng.random(60) + 0.1 if weighted else None
    found = Battles(found.items, found.first, found.second, found.outcome, weight, None, False, 60)
    names = np.array(found.items)
    outcomes = np.array([evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw])[found.outcome]
    columns = (names[found.first].tolist(), names[found.second].tolist(), outcomes.tolist())
    theirs = evalica.average_win_rate(*columns, weights=weight).scores
    ours = AverageWinRate().fit(found)
    # Evalica knows the items that occur, and has the rates as scores.
    assert ours.strengths_ + ours.scale_.base == pytest.approx(theirs[ours.items_].to_numpy(), abs=1e-9)
    wins = evalica.counting(*columns, weights=weight).scores
    counted = count(found)
    plain = WinRate().fit(found)
    won = (plain.strengths_ + plain.scale_.base) * counted.per_item(counted.total)
    assert won == pytest.approx(wins[plain.items_].to_numpy(), abs=1e-9)


# -- uncertainty --


def test_wilsons_interval_agrees_with_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    wins, n = np.array([0, 3, 17, 40]), np.array([5, 10, 20, 40])
    for level in (0.8, 0.95):
        expected = proportion.proportion_confint(wins, n, alpha=1 - level, method="wilson")
        assert np.allclose(wilson(wins / n, n, level), expected)


def test_the_board_shows_wilsons_interval():
    board = palate.rank(games(), method="win_rate")
    for item, wins, n in (("A", 3, 10), ("D", 7, 9)):
        low, high = wilson(np.array(wins / n), np.array(n))
        assert board.interval(item) == pytest.approx((low, high))
    perfect = palate.rank(votes(*[("a", "b", 1)] * 10), method="win_rate")
    assert perfect.interval("a") == pytest.approx((0.7224672, 1.0))
    assert 0 < perfect.compare("a", "b").p < 0.001


def test_the_covariance_is_the_sum_of_squared_scores():
    found = random_battles(np.random.default_rng(0), np.full((4, 4), 0.7), 4000, ties=0.2)
    fitted = WinRate().fit(found)
    rate, n = fitted.strengths_ + fitted.scale_.base, np.bincount(np.r_[found.first, found.second])
    scores = np.zeros((len(found), 4))
    rows = np.arange(len(found))
    scores[rows, found.first] = (found.share - rate[found.first]) / n[found.first]
    scores[rows, found.second] = (1 - found.share - rate[found.second]) / n[found.second]
    # One more win and one more loss in 2,000 comparisons.
    assert fitted.covariance_ == pytest.approx(scores.T @ scores, rel=0.01, abs=1e-7)
    assert (fitted.covariance_[~np.eye(4, dtype=bool)] < 0).all()


def test_rankings_are_not_as_many_comparisons_as_they_imply():
    rng = np.random.default_rng(1)
    ranking = np.argsort(rng.normal(size=(200, 8)) + np.arange(8) * 0.3, axis=1).argsort(axis=1)
    data = PreferenceData.from_columns(
        {"items": [list("abcdefgh")] * 200, "scores": ranking.astype(float).tolist()}
    )
    fitted = WinRate().fit(data)
    # A share of a ranking is one observation of a place between 0 and 1.
    shares = ranking / 7
    expected = np.cov(shares.T, bias=True) / 200
    assert fitted.covariance_ == pytest.approx(expected, rel=0.05, abs=2e-5)
    assert (fitted.effective_n_ >= 200 - 1e-9).all()
    assert (fitted.effective_n_ < 1400).all()


@pytest.mark.parametrize("method", ["win_rate", "average_win_rate"])
def test_a_count_is_so_many_judgments_and_an_importance_is_not(method):
    rows = [("a", "b", 1, 3), ("b", "c", 0.5, 2), ("c", "a", 1, 4), ("a", "b", 0, 1)]
    weighted, repeated = votes(*rows), votes(*(row[:3] for row in rows for _ in range(row[3])))
    board = palate.rank(weighted, method=method, weights="count")
    expected = palate.rank(repeated, method=method)
    assert board.covariance == pytest.approx(expected.covariance)
    assert board.table.equals(expected.table)
    important = palate.rank(weighted, method=method)
    assert rates(important) == pytest.approx(rates(expected))
    scaled = palate.rank(votes(*((*row[:3], 10 * row[3]) for row in rows)), method=method)
    assert scaled.covariance == pytest.approx(important.covariance)
    wider = important.table["upper"] - important.table["lower"] > board.table["upper"] - board.table["lower"]
    assert wider.all()


@pytest.mark.parametrize("method", [WinRate, AverageWinRate])
def test_counts_from_longer_judgments_agree_with_their_rows(method):
    rng = np.random.default_rng(2)
    ranking = rng.permuted(np.tile(np.arange(4.0), (30, 1)), axis=1)
    data = PreferenceData.from_columns({"items": [list("abcd")] * 30, "scores": ranking.tolist()})
    by_rows, by_battles, by_counts = (method().fit(x) for x in (data, battles(data), count(data)))
    assert by_rows.covariance_ == pytest.approx(by_counts.covariance_)
    assert by_battles.bounds_ == pytest.approx(by_counts.bounds_)
    assert np.linalg.eigvalsh(by_rows.covariance_).min() > -1e-12


TRUTH = 1 / (1 + np.exp(np.subtract.outer(*[-np.array([2.0, 1.0, 0.4, 0.0, -0.6, -2.0])] * 2)))


@pytest.mark.parametrize(
    ("method", "ties", "clusters"),
    [
        (WinRate(), 0.0, None),
        (WinRate(interval="sandwich"), 0.3, None),
        (WinRate(interval="sandwich"), 0.0, 100),
        (AverageWinRate(), 0.3, None),
    ],
    ids=["wilson", "sandwich", "clusters", "average"],
)
def test_intervals_hold_the_rate_as_often_as_they_say(method, ties, clusters):
    rng = np.random.default_rng(7)
    rounds, n = 250, 500
    # Random pairs meet everybody alike, so that the rate is the mean over the others.
    truth = (TRUTH.sum(axis=1) - 0.5) / 5 * (1 - ties) + ties / 2
    held, differs = [], []
    for _ in range(rounds):
        cluster = None if clusters is None else np.arange(n) // (n // clusters)
        fitted = method.fit(count(random_battles(rng, TRUTH, n, ties, cluster), cluster=cluster))
        low, high = (fitted.bounds_ + fitted.scale_.base).T
        held.append((low <= truth) & (truth <= high))
        error = np.sqrt(np.array([1, -1]) @ fitted.covariance_[1:3, 1:3] @ np.array([1, -1]))
        differs.append(abs(fitted.strengths_[1] - fitted.strengths_[2] - truth[1] + truth[2]) < 1.96 * error)
    # Six rates in 250 rounds: standard error below 1 %; of the difference 1.4 %.
    assert 0.93 < np.mean(held) < 0.98
    assert 0.90 < np.mean(differs) < 0.99


def test_clusters_of_alike_judgments_widen_the_intervals():
    rng = np.random.default_rng(3)
    cluster = np.arange(600) // 20
    found = random_battles(rng, TRUTH, 600, cluster=cluster)
    names = np.array(found.items)
    rows = zip(names[found.first], names[found.second], found.share, strict=True)
    data = votes(*rows)
    alone, together = WinRate().fit(data), WinRate(cluster=cluster).fit(data)
    assert (np.diff(together.bounds_) > np.diff(alone.bounds_)).mean() > 0.8
    assert together.strengths_ == pytest.approx(alone.strengths_)
    with pytest.raises(ConfigError, match="give it to `count`"):
        WinRate(cluster="annotator").fit(count(data))


def test_many_items_have_exact_widths_and_drawn_correlations():
    rng = np.random.default_rng(4)
    size, n = 3200, 40_000
    first = np.concatenate([np.arange(size), rng.integers(0, size, n - size)])
    second = (first + rng.integers(1, 6, n)) % size
    outcome = rng.integers(0, 3, n).astype(np.int8)
    names = [f"m{item}" for item in range(size)]
    many = WinRate(interval="sandwich").fit(Battles(names, first, second, outcome, None, None, False, n))
    assert many.covariance_ is None
    width = many.bounds_[:, 1] - many.strengths_
    inside = (many.bounds_[:, 0] + many.scale_.base > 0) & (many.bounds_[:, 1] + many.scale_.base < 1)
    errors = np.sqrt(np.mean(many.draws_**2, axis=1))
    assert width[inside] == pytest.approx(1.959964 * errors[inside], rel=1e-6)
    # Two items of one pair share their battles: over all pairs the drawn covariances match the exact ones.
    rate, met = many.strengths_ + many.scale_.base, np.bincount(np.r_[first, second])
    share = np.array([1.0, 0.0, 0.5])[outcome]
    left = (share - rate[first]) / met[first]
    right = (1 - share - rate[second]) / met[second]
    drawn = (many.draws_[first] * many.draws_[second]).mean(axis=1)
    exact = csr_array(
        (left * right, (np.minimum(first, second), np.maximum(first, second))), shape=(size, size)
    )
    exact.sum_duplicates()
    pairs = exact[np.minimum(first, second), np.maximum(first, second)]
    assert np.mean(pairs) < 0
    assert np.mean(drawn) == pytest.approx(np.mean(pairs), rel=0.1)


# -- what they cannot say --


def test_they_say_that_they_depend_on_the_schedule():
    # The same skill: b meets the weak, a the strong.
    data = votes(
        *[("a", "x", 1), ("a", "x", 0)] * 20, *[("b", "y", 1)] * 38, *[("b", "y", 0)] * 2, ("x", "y", 1)
    )
    schedule = palate.rank(data, method="win_rate").diagnostics["schedule"]
    assert not schedule["complete"]
    assert schedule["opponents"] == [1, 2]
    low, high = schedule["opponents_win_rate"]
    assert low < 0.1
    assert high > 0.9
    assert "who met whom" in schedule["note"]
    everyone = votes(("a", "b", 1), ("b", "c", 1), ("c", "a", 1))
    assert palate.rank(everyone, method="average_win_rate").diagnostics["schedule"]["complete"]


def test_more_votes_on_one_pair_move_the_win_rate_and_not_the_average():
    few = [("a", "b", 1), ("a", "c", 0), ("b", "c", 1), ("b", "c", 0)]
    many = [*few, *[("a", "b", 1)] * 8]
    plain = [rates(palate.rank(votes(*rows), method="win_rate"))["a"] for rows in (few, many)]
    average = [rates(palate.rank(votes(*rows), method="average_win_rate"))["a"] for rows in (few, many)]
    assert plain == pytest.approx([0.5, 0.9])
    assert average == pytest.approx([0.5, 0.5])


def test_an_item_without_a_comparison_is_named():
    data = votes(("a", "b", 1), ("b", "c", 0.5))
    with pytest.raises(DataError, match=r"no comparison of c, so no share of them was won"):
        palate.rank(data, method="win_rate", ties="drop")
    ties = votes(("a", "b", 0.5))
    with pytest.raises(DataError, match=r"no comparison of a, b"):
        palate.rank(ties, method="average_win_rate", ties="drop")
    board = palate.rank(ties, method="win_rate")
    assert rates(board) == {"a": 0.5, "b": 0.5}
    assert board.compare("a", "b").p == 1.0


@pytest.mark.parametrize(
    ("option", "value"),
    [("ties", "win"), ("interval", "wald"), ("level", 1.0), ("both_bad", "x"), ("weights", "x")],
)
def test_options_that_cannot_be_used_are_named(option, value):
    with pytest.raises(ConfigError, match=f"{option} is {value!r}"):
        palate.rank(games(), method="win_rate", **{option: value})


def test_a_level_widens_the_interval_and_an_anchor_is_no_option():
    narrow, wide = (palate.rank(games(), method="win_rate", level=level) for level in (0.5, 0.99))
    assert (np.diff(narrow.interval("B")) < np.diff(wide.interval("B"))).all()
    with pytest.raises(ConfigError, match="unknown option of win_rate 'anchor'"):
        palate.rank(games(), method="win_rate", anchor="A")


def test_the_crowds_votes_give_rates_between_zero_and_one(shared_data):
    frame = pl.read_csv(shared_data / "llmfao" / "crowd-comparisons.csv.gz")
    crowd = Battles.from_columns(
        frame["left"], frame["right"], frame["winner"], labels={"left": "model_a", "right": "model_b"}
    )
    plain, average = (palate.rank(crowd, method=method) for method in ("win_rate", "average_win_rate"))
    assert plain.table["item"][0] == average.table["item"][0] == "GPT 4"
    assert plain.diagnostics["comparisons"] == 8931
    for board in (plain, average):
        table = board.table
        assert ((table["lower"] >= 0) & (table["upper"] <= 1) & (table["lower"] < table["upper"])).all()
    theta = palate.rank(crowd).strengths
    assert np.corrcoef([theta[i] for i in plain.items], plain.theta)[0, 1] > 0.9
