"""PageRank and eigenvector scores: peers, linear algebra, and graphs that have none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import count
from palate.rank.battles import Battles
from palate.rank.link_analysis import Eigenvector, PageRank, win_matrix


def outcomes(seed, size=6, n=80, ties=0.3, weighted=False):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, size, n)
    second = (first + rng.integers(1, size, n)) % size
    outcome = np.where(rng.random(n) < ties, 2, rng.random(n) < 0.4).astype(np.int8)
    weight = rng.random(n) + 0.1 if weighted else None
    return Battles([f"m{item}" for item in range(size)], first, second, outcome, weight, None, False, n)


def evalica_columns(evalica, found):
    names = np.array(found.items)
    winners = np.array([evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw])[found.outcome]
    return names[found.first].tolist(), names[found.second].tolist(), winners.tolist()


def beats(*pairs):
    return PreferenceData.from_columns(
        {"items": [list(p) for p in pairs], "scores": [[1.0, 0.0]] * len(pairs)}
    )


def dense(found):
    return win_matrix(count(found)).toarray()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.85]), st.booleans())
def test_pagerank_agrees_with_evalica(seed, damping, weighted):
    evalica = pytest.importorskip("evalica")
    found = outcomes(seed, n=25, weighted=weighted)
    columns = evalica_columns(evalica, found)
    for ties, tie_weight in (("half", 0.5), ("drop", 0.0)):
        theirs = evalica.pagerank(
            *columns,
            damping=damping,
            weights=found.weight,
            tie_weight=tie_weight,
            tolerance=1e-12,
            limit=5000,
        ).scores
        ours = PageRank(damping=damping, ties=ties).fit(found)
        mine = [item for item in ours.items_ if item in theirs.index]
        assert len(mine) == len(theirs) == len(ours.items_)
        assert ours.scores_ == pytest.approx(theirs[ours.items_].to_numpy(), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_eigenvector_agrees_with_evalica_of_the_losers(seed, weighted):
    evalica = pytest.importorskip("evalica")
    found = outcomes(seed, weighted=weighted)
    first, second, winners = evalica_columns(evalica, found)
    # Evalica's scores solve lambda s = A' s, so that the score of an item is that of those who beat it; with
    # the sides swapped they are the usual ones.
    theirs = evalica.eigen(second, first, winners, weights=found.weight, tolerance=1e-12, limit=5000).scores
    ours = Eigenvector().fit(found)
    assert ours.scores_ == pytest.approx(theirs[ours.items_].to_numpy(), abs=1e-6)
    assert np.linalg.norm(ours.scores_) == pytest.approx(1.0)


def test_the_best_player_has_the_highest_score():
    wins = {("a", "b"): 8, ("b", "a"): 2, ("a", "c"): 9, ("c", "a"): 1, ("b", "c"): 7, ("c", "b"): 3}
    data = beats(*(pair for pair, times in wins.items() for _ in range(times)))
    eigenvector = palate.rank(data, method="eigenvector")
    assert eigenvector.table["item"].to_list() == ["a", "b", "c"]
    # The right eigenvector of [[0, 8, 9], [2, 0, 7], [1, 3, 0]].
    assert eigenvector.table["rating"].to_list() == pytest.approx([0.829444, 0.476650, 0.291251], abs=1e-6)
    pagerank = palate.rank(data, method="pagerank")
    assert pagerank.table["rating"].to_list() == pytest.approx([0.391702, 0.363135, 0.245163], abs=1e-6)
    assert pagerank.table["rating"].sum() == pytest.approx(1.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_pagerank_solves_its_linear_system(seed):
    found = outcomes(seed, size=8, n=15)
    wins = dense(found)
    size = len(wins)
    lost = wins.sum(axis=0)
    walk = np.where(lost > 0, wins / np.where(lost > 0, lost, 1.0), 1.0 / size)
    expected = np.linalg.solve(np.eye(size) - 0.85 * walk, np.full(size, 0.15 / size))
    assert PageRank().fit(found).scores_ == pytest.approx(expected, abs=1e-10)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_eigenvector_is_the_perron_vector(seed):
    found = outcomes(seed)
    values, vectors = np.linalg.eig(dense(found))
    lead = np.abs(vectors[:, np.argmax(values.real)].real)
    assert Eigenvector().fit(found).scores_ == pytest.approx(lead / np.linalg.norm(lead), abs=1e-9)


def test_wins_that_alternate_do_not_swing_for_ever():
    # Groups {a, b} and {c, d} only beat each other: eigenvalues come in pairs +-.
    data = beats(("a", "c"), ("a", "d"), ("b", "c"), ("c", "a"), ("d", "b"), ("c", "b"))
    fitted = Eigenvector().fit(data)
    assert fitted.converged_
    matrix = dense(data)
    applied = matrix @ fitted.scores_
    assert applied / np.linalg.norm(applied) == pytest.approx(fitted.scores_, abs=1e-10)


def test_an_unbeaten_item_walks_anywhere():
    scores = PageRank().fit(beats(("a", "b"))).scores_
    # b is reached at random only: b = .15 / 2 + .85 a / 2, and a + b = 1.
    a = (1 - 0.075) / 1.425
    assert scores == pytest.approx([a, 1 - a])


def test_no_circle_of_wins_has_no_eigenvector_score():
    with pytest.raises(DataError, match=r"no chain of wins returns .* use method='pagerank'"):
        palate.rank(beats(("a", "b"), ("b", "c"), ("a", "c")), method="eigenvector")
    assert palate.rank(beats(("a", "b"), ("b", "c"), ("a", "c")), method="pagerank").table["item"][0] == "a"


def test_an_item_that_never_won_has_eigenvector_score_zero():
    board = palate.rank(beats(("a", "b"), ("b", "a"), ("a", "c")), method="eigenvector")
    assert board.table["rating"].to_list()[2] == 0.0
    assert board.diagnostics["strong_components"] == 2


def test_groups_that_never_met_are_named():
    data = beats(("a", "b"), ("b", "a"), ("x", "y"), ("y", "x"))
    with pytest.warns(PalateWarning, match=r"2 groups that never met: \(a, b\), \(x, y\)"):
        palate.rank(data, method="eigenvector")
    assert palate.rank(data, method="pagerank").diagnostics["components"] == 2


def test_too_few_steps_are_said():
    with pytest.warns(PalateWarning, match="after 2 steps; raise max_iterations or tolerance"):
        fitted = PageRank(max_iterations=2).fit(outcomes(0))
    assert (fitted.n_iter_, fitted.diagnostics_["converged"]) == (2, False)


@pytest.mark.parametrize("method", ["pagerank", "eigenvector"])
def test_scores_are_descriptive_only(method):
    found = outcomes(1)
    board = palate.rank(count(found), method=method)
    assert board.strengths == pytest.approx(palate.rank(found, method=method).strengths)
    assert "depend on who met whom" in board.diagnostics["note"]
    assert board.table["lower"].null_count() == 6
    json.dumps(board.to_json())
    with pytest.raises(ConfigError, match="predicts no probability"):
        board.win_probability("m0", "m1")


@pytest.mark.parametrize("method", ["pagerank", "eigenvector"])
def test_only_ties_leave_all_equal(method):
    data = PreferenceData.from_columns(
        {"items": [["a", "b"], ["b", "c"], ["c", "a"]], "scores": [[1.0, 1.0]] * 3}
    )
    assert palate.rank(data, method=method).theta == pytest.approx(np.zeros(3), abs=1e-12)
    if method == "pagerank":
        assert palate.rank(data, method=method, ties="drop").theta == pytest.approx(np.zeros(3), abs=1e-12)
    else:
        with pytest.raises(DataError, match="no chain of wins"):
            palate.rank(data, method=method, ties="drop")


@pytest.mark.parametrize(
    ("option", "value"),
    [("damping", 1), ("damping", -0.1), ("tolerance", 0), ("max_iterations", 0), ("ties", "x")],
)
def test_options_that_cannot_be_used_are_named(option, value):
    with pytest.raises(ConfigError, match=f"{option} is {value!r}"):
        palate.rank(outcomes(0), method="pagerank", **{option: value})


def test_a_hundred_thousand_items_need_no_square_matrix():
    size = 100_000
    rng = np.random.default_rng(0)
    first = np.concatenate([np.arange(size), rng.integers(0, size, size)])
    second = (first + rng.integers(1, size, 2 * size)) % size
    names = [f"m{item}" for item in range(size)]
    outcome = rng.integers(0, 3, 2 * size).astype(np.int8)
    fitted = PageRank().fit(Battles(names, first, second, outcome, None, None, False, 2 * size))
    assert fitted.converged_
    assert fitted.scores_.sum() == pytest.approx(1.0)
