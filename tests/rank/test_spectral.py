"""Rank centrality and Luce spectral ranking: worked numbers, oracles, and that repetition gives the maximum
of the likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import BradleyTerry, count, orderings, plackett_luce, spectral
from palate.rank.orderings import Orderings
from palate.rank.plackett_luce import PlackettLuce
from palate.rank.spectral import IterativeLSR, LuceSpectralRanking, RankCentrality

ALL = [RankCentrality, LuceSpectralRanking, IterativeLSR]
GAMES = [("A", "B", 2, 3), ("A", "D", 1, 4), ("B", "C", 5, 3), ("C", "D", 1, 3)]


def played(games, ties=()):
    """Judgments of two: (a, b, wins of a, wins of b), and (a, b, ties)."""
    items = [[a, b] for a, b, won, lost in games for _ in range(won + lost)]
    scores = [score for _, _, won, lost in games for score in [[1, 0]] * won + [[0, 1]] * lost]
    for a, b, n in ties:
        items += [[a, b]] * n
        scores += [[1, 1]] * n
    return PreferenceData.from_columns({"items": items, "scores": scores})


def ranked(rankings):
    return PreferenceData.from_columns(
        {
            "items": [[str(i) for i in ranking] for ranking in rankings],
            "scores": [[-k for k in range(len(ranking))] for ranking in rankings],
        }
    )


def random_pairs(size=7, n=150, seed=0):
    rng = np.random.default_rng(seed)
    theta = np.linspace(-1, 1, size)
    first = rng.integers(0, size, n)
    second = (first + rng.integers(1, size, n)) % size
    won = rng.random(n) < 1 / (1 + np.exp(theta[second] - theta[first]))
    pairs = np.where(won[:, None], np.stack([first, second], 1), np.stack([second, first], 1))
    return [(int(a), int(b)) for a, b in pairs]


def random_rankings(size=7, n=60, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        part = rng.permutation(size)[: rng.integers(2, size + 1)]
        found.append([int(i) for i in part[np.argsort(-(part / size + rng.gumbel(size=len(part))))]])
    return found


def in_order(fitted, names):
    position = {name: i for i, name in enumerate(fitted.items_)}
    return fitted.strengths_[[position[str(name)] for name in names]]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (LuceSpectralRanking, [-0.473317, 0.048873, -0.391079, 0.815522]),
        (RankCentrality, [-0.481047, 0.036314, -0.367524, 0.812256]),
        (IterativeLSR, [-0.446545, 0.042403, -0.415803, 0.819946]),
    ],
)
def test_the_22_games_give_the_sheets_strengths(method, expected):
    np.testing.assert_allclose(in_order(method().fit(played(GAMES)), "ABCD"), expected, atol=1e-6)


def test_rank_centrality_has_the_sheets_stationary_distribution():
    data = played([("0", "1", 7, 3), ("0", "2", 6, 4), ("1", "2", 8, 2)])
    share = np.exp(in_order(RankCentrality().fit(data), "012"))
    np.testing.assert_allclose(share / share.sum(), [0.486726, 0.327434, 0.185841], atol=1e-6)


def test_rank_centrality_counts_every_pair_the_same():
    once, often = [("a", "b", 2, 1), ("b", "c", 1, 1), ("a", "c", 3, 1)], [("a", "b", 20, 10)]
    left, right = (RankCentrality().fit(played(games)) for games in (once, [*often, *once[1:]]))
    np.testing.assert_allclose(in_order(left, "abc"), in_order(right, "abc"), atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_choix_finds_the_same_from_pairs(alpha):
    choix = pytest.importorskip("choix")
    pairs = random_pairs()
    data = ranked(pairs)
    for method, peer in (
        (RankCentrality, choix.rank_centrality),
        (LuceSpectralRanking, choix.lsr_pairwise),
        (IterativeLSR, choix.ilsr_pairwise),
    ):
        fitted = method(alpha=alpha).fit(data)
        np.testing.assert_allclose(in_order(fitted, range(7)), peer(7, pairs, alpha=alpha), atol=1e-6)
        counted = method(alpha=alpha).fit(count(data))
        np.testing.assert_allclose(counted.strengths_, fitted.strengths_, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_choix_finds_the_same_from_rankings(alpha):
    choix = pytest.importorskip("choix")
    rankings = random_rankings()
    for method, peer in ((LuceSpectralRanking, choix.lsr_rankings), (IterativeLSR, choix.ilsr_rankings)):
        fitted = method(alpha=alpha).fit(ranked(rankings))
        np.testing.assert_allclose(in_order(fitted, range(7)), peer(7, rankings, alpha=alpha), atol=1e-6)


def test_choix_finds_the_same_from_choices():
    choix = pytest.importorskip("choix")
    chosen = [(ranking[0], ranking[1:]) for ranking in random_rankings(n=120)]
    data = PreferenceData.from_columns(
        {
            "items": [[str(best), *map(str, others)] for best, others in chosen],
            "scores": [[1] + [0] * len(others) for _, others in chosen],
            "protocol": ["choice"] * len(chosen),
        }
    )
    for method, peer in ((LuceSpectralRanking, choix.lsr_top1), (IterativeLSR, choix.ilsr_top1)):
        np.testing.assert_allclose(in_order(method().fit(data), range(7)), peer(7, chosen), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from(["efron", "breslow", "drop"]), st.booleans())
def test_repeated_to_its_fixed_point_it_is_the_maximum_of_the_likelihood(seed, ties, pairs):
    rng = np.random.default_rng(seed)
    rankings = random_rankings(5, 80, seed)
    if pairs:
        rankings = [ranking[:2] for ranking in rankings]
    scores = [[float(-k // rng.integers(1, 3)) for k in range(len(ranking))] for ranking in rankings]
    data = PreferenceData.from_columns(
        {
            "items": [[str(i) for i in ranking] for ranking in rankings],
            "scores": scores,
            "weight": rng.uniform(0.5, 2.0, 80),
        }
    )
    expected = PlackettLuce(ties=ties).fit(data)
    fitted = IterativeLSR(ties=ties).fit(data)
    np.testing.assert_allclose(fitted.strengths_, expected.strengths_, atol=1e-7)
    np.testing.assert_allclose(fitted.covariance_, expected.covariance_, atol=1e-7)
    assert fitted.diagnostics_["log_likelihood"] == pytest.approx(expected.log_likelihood_)


def test_ties_are_half_wins_or_left_out():
    games = [("a", "b", 6, 2), ("a", "c", 4, 3), ("b", "c", 5, 3)]
    ties = [("a", "b", 4), ("a", "c", 2), ("b", "c", 4)]
    halves = [("a", "b", 16, 8), ("a", "c", 10, 8), ("b", "c", 14, 10)]
    for method in ALL:
        with_ties, doubled = method().fit(played(games, ties)), method().fit(played(halves))
        np.testing.assert_allclose(in_order(with_ties, "abc"), in_order(doubled, "abc"), atol=1e-9)
        dropped, absent = method(ties="drop").fit(played(games, ties)), method().fit(played(games))
        np.testing.assert_allclose(in_order(dropped, "abc"), in_order(absent, "abc"), atol=1e-9)


@pytest.mark.parametrize("method", ALL)
def test_what_is_not_connected_needs_alpha(method):
    apart = played([("a", "b", 2, 1), ("c", "d", 1, 2)])
    with pytest.raises(DataError, match=r"2 groups that never met: \(a, b\), \(c, d\); .* set alpha > 0"):
        method().fit(apart)
    with pytest.raises(DataError, match=r"a never lost.*alpha > 0"):
        method().fit(played([("a", "b", 2, 0), ("b", "c", 1, 2)]))
    fitted = method(alpha=0.1).fit(apart)
    assert fitted.diagnostics_["components"] == 2
    assert in_order(fitted, "ad").min() > in_order(fitted, "bc").max()


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": -1.0}, ConfigError, "alpha is -1.0"),
        ({"ties": "whole"}, ConfigError, "ties is 'whole'"),
        ({"weights": "votes"}, ConfigError, "weights is 'votes'"),
        ({"anchor": "Z"}, ConfigError, "unknown anchor 'Z'"),
    ],
)
def test_parameters_are_checked(method, options, error, message):
    with pytest.raises(error, match=message):
        method(**options).fit(played(GAMES))


def test_comparisons_of_longer_rankings_are_enough_for_rank_centrality_alone():
    counted = count(ranked(random_rankings()))
    assert RankCentrality().fit(counted).n_comparisons_ == counted.n_comparisons
    for method in (LuceSpectralRanking, IterativeLSR):
        with pytest.raises(ConfigError, match="needs whole rankings"):
            method().fit(counted)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_many_items_give_the_same_strengths_without_a_dense_matrix(monkeypatch, alpha):
    pairs = random_pairs(25, 800, seed=1)
    rankings = Orderings.from_codes([r[:6] for r in random_rankings(25, 200, seed=2) if len(r) > 5])
    for method in ALL:
        data = ranked(pairs) if method is RankCentrality else rankings
        dense = method(alpha=alpha).fit(data)
        with monkeypatch.context() as patched:
            for module in (spectral, plackett_luce):
                patched.setattr(module, "DENSE_ITEMS", 5)
            patched.setattr(orderings, "TABLE_ITEMS", 5)
            sparse = method(alpha=alpha).fit(data)
        np.testing.assert_allclose(sparse.strengths_, dense.strengths_, atol=1e-7)
        assert sparse.diagnostics_["converged"]


def test_one_solve_without_a_dense_matrix_is_nearly_the_answer(monkeypatch):
    counted = count(ranked(random_pairs(25, 800, seed=1)))
    rates = np.stack([counted.wins, counted.total - counted.wins], axis=1)
    exact, _ = spectral.stationary(counted, rates, 0.0, np.zeros(25))
    monkeypatch.setattr(spectral, "DENSE_ITEMS", 5)
    once, _ = spectral.stationary(counted, rates, 0.0, np.zeros(25), passes=1)
    np.testing.assert_allclose(once, exact, atol=1e-6)


def test_small_shares_are_as_exact_as_large_ones():
    ladder = played([(str(i), str(i + 1), 99, 1) for i in range(12)])
    expected = BradleyTerry().fit(ladder)
    for method in ALL:
        fitted = method().fit(ladder)
        assert np.ptp(fitted.strengths_) == pytest.approx(12 * np.log(99))
        np.testing.assert_allclose(fitted.strengths_, expected.strengths_, atol=1e-6)


def test_too_few_passes_are_reported():
    with pytest.warns(PalateWarning, match="did not converge"):
        assert not IterativeLSR(max_iter=1).fit(played(GAMES)).diagnostics_["converged"]


def test_only_the_fixed_point_has_intervals():
    data = played(GAMES)
    board = palate.rank(data, method="ilsr", interval="hessian")
    other = palate.rank(data, interval="hessian")
    assert board.table["lower"].to_list() == pytest.approx(other.table["lower"].to_list(), abs=1e-5)
    for method, options in (("lsr", {}), ("rank_centrality", {}), ("ilsr", {"alpha": 0.5})):
        assert palate.rank(data, method=method, **options).table["lower"].null_count() == 4


def test_candidates_of_an_election_are_ranked_alike_by_every_method(shared_data):
    data = palate.load(shared_data / "preflib" / "irish" / "00001-00000002.soi")
    boards = [
        palate.rank(data, method=method, weights="count").strengths
        for method in ("plackett_luce", "ilsr", "lsr", "rank_centrality")
    ]
    assert boards[0] == pytest.approx(boards[1], abs=1e-7)
    assert len({next(iter(board)) for board in boards}) == 1
