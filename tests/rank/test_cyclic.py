"""Cyclic ratings predict circles that no scale can, and say how much of the odds is a scale."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import schur
from scipy.optimize import check_grad
from scipy.special import expit, log_expit, logit

import palate
from palate.data import PreferenceData
from palate.data.simulate import simulate_battles
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import CyclicRatings, cyclic
from palate.rank.counts import Comparisons


def votes(*pairs: str, times: int = 1) -> PreferenceData:
    return PreferenceData.from_columns({"items": [list(p) for p in pairs] * times,
                                        "scores": [[1, 0]] * (len(pairs) * times)})  # fmt: skip


def counts(wins: np.ndarray) -> Comparisons:
    """Comparisons from a matrix of wins of row over column."""
    i, j = np.triu_indices(len(wins), 1)
    weight = np.stack([wins[i, j], wins[j, i], np.zeros(len(i))], axis=1).astype(float)
    met = weight.sum(axis=1) > 0
    i, j, weight = i[met], j[met], weight[met]
    items = [f"m{code}" for code in range(len(wins))]
    return Comparisons(items, i, j, weight, weight, weight.astype(np.int64))


def table_of(v: np.ndarray) -> np.ndarray:
    every = np.arange(len(v))
    return cyclic.log_odds(v, every[:, None], every[None, :])


def test_vectors_at_120_degrees_beat_each_other_in_a_circle():
    angle = np.radians([0.0, 120.0, 240.0])
    s = table_of(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert s[[0, 1, 2], [1, 2, 0]] == pytest.approx(0.8660254, abs=1e-7)
    assert expit(s[0, 1]) == pytest.approx(0.7039180, abs=1e-7)


def test_rock_paper_scissors_is_predicted_where_bradley_terry_sees_equals():
    data = votes("rs", "sp", "pr", times=40)
    board = palate.rank(data, "cyclic")
    assert set(board.strengths.values()) == {0.0}
    assert board.diagnostics["transitive"] == 0.0
    assert board.diagnostics["planes"] == pytest.approx([1.0, 0.0])
    for first, second in ("rs", "sp", "pr"):
        assert board.win_probability(first, second) > 0.97
        assert palate.rank(data).win_probability(first, second) == pytest.approx(0.5)
    matrix = board.win_matrix()
    assert np.nanmax(np.abs(matrix.predicted + matrix.predicted.T - 1.0)) < 1e-12
    assert board.to_json()["win_matrix"]["probability"][0][1] == matrix.predicted[0, 1]
    assert board.diagnostics["fit"]["mean_absolute_error"] < 0.03


def test_a_scale_is_found_as_bradley_terry_finds_it():
    strengths = {f"m{i}": 0.5 * i for i in range(6)}
    data = simulate_battles(6000, strengths, seed=0)
    ours, peer = CyclicRatings(dim=2).fit(data), palate.rank(data)
    assert ours.transitive_ > 0.95
    theirs = np.array([peer.strengths[item] for item in ours.items_])
    assert ours.strengths_ == pytest.approx(theirs, abs=0.12)


def test_a_scale_and_a_circle_take_two_planes():
    scale = np.array([1.5, 0.5, 0.0, -0.5, -1.5])
    circle = np.array([np.sin(2 * np.pi * (i - j) / 5) for i in range(5) for j in range(5)]).reshape(5, 5)
    s = scale[:, None] - scale[None, :] + circle
    wins = 4000 * expit(s)
    ours = CyclicRatings(dim=4, l2=1e-3).fit(counts(wins))
    assert table_of(ours.vectors_) == pytest.approx(s, abs=0.02)
    assert ours.transitive_ == pytest.approx(np.sum((scale[:, None] - scale) ** 2) / np.sum(s**2), abs=0.01)
    assert ours.strengths_ == pytest.approx(scale, abs=0.02)
    assert table_of(CyclicRatings(dim=2).fit(counts(wins)).vectors_) != pytest.approx(s, abs=0.2)


def test_planes_are_those_of_the_real_schur_form():
    v = np.random.default_rng(0).normal(size=(7, 6))
    s = table_of(v)
    blocks = np.abs(np.diagonal(schur(s, output="real")[0], 1))
    expected = np.sort(blocks[np.argsort(blocks)[-3:]] ** 2)[::-1] * 2 / np.sum(s**2)
    planes, transitive = cyclic.shares(v)
    assert planes == pytest.approx(expected, abs=1e-9)
    r = s.mean(axis=1)
    assert transitive == pytest.approx(np.sum((r[:, None] - r) ** 2) / np.sum(s**2), abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_enough_planes_reach_the_shares_of_any_table(size, seed):
    """With a plane for every two items S is free, so the maximum has the observed shares."""
    rng = np.random.default_rng(seed)
    wins = rng.integers(3, 30, (size, size)).astype(float)
    np.fill_diagonal(wins, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PalateWarning)
        ours = CyclicRatings(dim=size + size % 2, l2=1e-6).fit(counts(wins))
    i, j = np.triu_indices(size, 1)
    share = wins[i, j] / (wins[i, j] + wins[j, i])
    assert table_of(ours.vectors_)[i, j] == pytest.approx(logit(share), abs=0.02)


def test_the_fit_ends_where_the_gradient_of_the_likelihood_is_zero():
    wins = np.random.default_rng(1).integers(0, 9, (6, 6)).astype(float)
    ours = CyclicRatings(dim=2, l2=0.3).fit(counts(wins))
    i, j = np.triu_indices(6, 1)

    def objective(flat):
        s = table_of(flat.reshape(6, 2))[i, j]
        return -(wins[i, j] @ log_expit(s) + wins[j, i] @ log_expit(-s)) + 0.15 * flat @ flat

    assert check_grad(objective, np.zeros_like, ours.vectors_.ravel()) < 1e-3
    assert ours.converged_


def test_many_items_are_fitted_from_a_sparse_start():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 4))
    i, j = np.triu_indices(300, 1)
    keep = rng.random(len(i)) < 0.3
    i, j = i[keep], j[keep]
    won = rng.binomial(10, expit(cyclic.log_odds(truth, i, j)))
    wins = np.zeros((300, 300))
    wins[i, j], wins[j, i] = won, 10 - won
    ours = CyclicRatings(dim=4).fit(counts(wins))
    assert np.corrcoef(table_of(ours.vectors_).ravel(), table_of(truth).ravel())[0, 1] > 0.97


def test_ties_pull_to_even_or_are_left_out():
    scores = [[1, 0]] * 3 + [[1, 1]] * 3
    data = PreferenceData.from_columns({"items": [["a", "b"]] * 6, "scores": scores})
    half, drop = (palate.rank(data, "cyclic", ties=ties) for ties in ("half", "drop"))
    assert 0.6 < half.win_probability("a", "b") < drop.win_probability("a", "b")
    assert (half.diagnostics["comparisons"], drop.diagnostics["comparisons"]) == (6, 3)
    ties = PreferenceData.from_columns({"items": [["a", "b"]] * 6, "scores": [[1, 1]] * 6})
    assert palate.rank(ties, "cyclic").win_probability("a", "b") == 0.5
    with pytest.raises(DataError, match="every comparison is a tie"):
        palate.rank(ties, "cyclic", ties="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 3}, "dim is 3; use an even number, two coordinates a plane"),
        ({"dim": 0}, "dim is 0; use a whole number of 2 or more"),
        ({"l2": 0.0}, "l2 is 0.0; use a number above 0"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        palate.rank(votes("ab"), "cyclic", **options)


def test_a_fit_that_was_cut_off_says_so():
    with pytest.warns(PalateWarning, match="stopped after 1 iterations"):
        board = palate.rank(counts(np.random.default_rng(0).integers(0, 9, (9, 9))), "cyclic", max_iter=1)
    assert not board.diagnostics["converged"]
