"""Bradley-Terry: worked numbers, identities, oracles, and what it refuses."""

from __future__ import annotations

import warnings

import choix
import evalica
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import BradleyTerry, count
from palate.rank import information as information_module

# Wins of the first and of the second in the 22 games of the textbook example.
GAMES = [("A", "B", 2, 3), ("A", "D", 1, 4), ("B", "C", 5, 3), ("C", "D", 1, 3)]


def played(games, ties=()):
    """One judgment per game, (a, b, wins of a, wins of b), and per tie, (a, b, ties)."""
    items, scores = [], []
    for a, b, first, second in games:
        items += [[a, b]] * (first + second)
        scores += [[1, 0]] * first + [[0, 1]] * second
    for a, b, n in ties:
        items += [[a, b]] * n
        scores += [[1, 1]] * n
    return PreferenceData.from_columns({"items": items, "scores": scores})


def random_battles(n=400, size=6, seed=0, weights=False):
    """Battles between items of random strength, 20 % ties, each item with wins and losses."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 0.7, size)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < expit(theta[a] - theta[b])
    tie = rng.random(n) < 0.2
    left = np.where(tie, 1.0, won)
    right = np.where(tie, 1.0, ~won)
    weight = rng.uniform(0.2, 3.0, n) if weights else np.ones(n)
    return a, b, left, right, weight


def as_data(a, b, left, right, weight):
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": np.stack([left, right], axis=1).tolist(),
            "weight": weight.tolist(),
        }
    )


def in_order(fitted, names):
    position = {name: i for i, name in enumerate(fitted.items_)}
    return fitted.strengths_[[position[name] for name in names]]


@pytest.fixture(scope="module")
def games():
    return played(GAMES)


def test_the_22_games_give_the_textbook_strengths(games):
    fitted = BradleyTerry().fit(games)
    expected = [-0.446545, 0.042403, -0.415803, 0.819946]
    np.testing.assert_allclose(in_order(fitted, "ABCD"), expected, atol=5e-7)
    np.testing.assert_allclose(np.exp(in_order(fitted, "ABCD")), [0.640, 1.043, 0.660, 2.270], atol=8e-4)
    assert fitted.log_likelihood_ == pytest.approx(-13.428450, abs=5e-7)
    assert fitted.converged_
    assert fitted.n_comparisons_ == 22


def test_the_22_games_give_the_sheets_ratings(games):
    board = palate.rank(games)
    ratings = dict(zip(board.table["item"], board.table["rating"], strict=True))
    assert [ratings[x] for x in "ABCD"] == pytest.approx([922.43, 1007.37, 927.77, 1142.44], abs=5e-3)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [("hessian", [95.21, 83.69, 90.40, 107.94]), ("sandwich", [94.56, 84.19, 91.75, 108.39])],
)
def test_standard_errors_of_the_22_games_in_rating_points(games, interval, expected):
    fitted = BradleyTerry(interval=interval).fit(games)
    errors = dict(zip(fitted.items_, 400 / np.log(10) * np.sqrt(np.diag(fitted.covariance_)), strict=True))
    assert [errors[x] for x in "ABCD"] == pytest.approx(expected, abs=5e-3)


def test_the_ridge_of_one_gives_the_sheets_strengths(games):
    fitted = BradleyTerry(l2=1.0).fit(games)
    expected = [-0.354472, 0.102255, -0.322287, 0.574504]
    np.testing.assert_allclose(in_order(fitted, "ABCD"), expected, atol=1e-6)


def test_half_ties_give_the_sheets_strengths():
    data = played(
        [("a", "b", 6, 2), ("a", "c", 4, 3), ("b", "c", 5, 3)], [("a", "b", 4), ("a", "c", 2), ("b", "c", 3)]
    )
    fitted = BradleyTerry().fit(data)
    np.testing.assert_allclose(in_order(fitted, "abc"), [0.329059, -0.110383, -0.218675], atol=5e-7)
    assert palate.rank(data).diagnostics["ties"] == pytest.approx(9 / 32)


def test_a_tie_is_half_a_win_for_each():
    a, b, left, right, weight = random_battles(seed=3)
    halves = weight.copy()
    tie = left == right
    decided = as_data(
        np.concatenate([a, a[tie]]),
        np.concatenate([b, b[tie]]),
        np.concatenate([np.where(tie, 1.0, left), np.zeros(tie.sum())]),
        np.concatenate([np.where(tie, 0.0, right), np.ones(tie.sum())]),
        np.concatenate([np.where(tie, 0.5, halves), np.full(tie.sum(), 0.5)]),
    )
    with_ties = palate.rank(as_data(a, b, left, right, weight)).strengths
    assert palate.rank(decided).strengths == pytest.approx(with_ties, abs=1e-9)


def test_dropped_ties_are_as_if_never_voted():
    a, b, left, right, weight = random_battles(seed=4, weights=True)
    keep = left != right
    dropped = BradleyTerry(ties="drop").fit(as_data(a, b, left, right, weight))
    absent = BradleyTerry().fit(as_data(a[keep], b[keep], left[keep], right[keep], weight[keep]))
    names = sorted(absent.items_)
    np.testing.assert_allclose(in_order(dropped, names), in_order(absent, names), atol=1e-9)
    assert np.trace(dropped.covariance_) == pytest.approx(np.trace(absent.covariance_))
    assert dropped.n_comparisons_ == absent.n_comparisons_


def rowwise_covariance(a, b, outcome, weight, theta, l2, groups=None):
    """H^+ G H^+ summed battle by battle (or group by group), as it is written in the books."""
    size = len(theta)
    x = np.zeros((len(a), size))
    x[np.arange(len(a)), a] += 1
    x[np.arange(len(a)), b] -= 1
    p = expit(x @ theta)
    hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + l2 * np.eye(size)
    scores = x * (weight * (outcome - p))[:, None]
    if groups is not None:
        scores = np.stack([scores[groups == g].sum(axis=0) for g in np.unique(groups)])
    centre = np.eye(size) - 1 / size
    inverse = centre @ np.linalg.inv(hessian + 1.0) @ centre
    return inverse @ (scores.T @ scores) @ inverse


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_the_sandwich_from_counts_is_the_sandwich_of_the_rows(weights, l2):
    a, b, left, right, weight = random_battles(seed=5, weights=weights)
    fitted = BradleyTerry(l2=l2).fit(as_data(a, b, left, right, weight))
    code = {name: i for i, name in enumerate(fitted.items_)}
    first = np.array([code[f"m{i}"] for i in a])
    second = np.array([code[f"m{j}"] for j in b])
    outcome = np.where(left > right, 1.0, np.where(left < right, 0.0, 0.5))
    expected = rowwise_covariance(first, second, outcome, weight, fitted.strengths_, l2)
    np.testing.assert_allclose(fitted.covariance_, expected, rtol=1e-8, atol=1e-12)


def test_comparisons_of_one_ranking_are_summed_before_they_are_squared():
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.5, 6)
    rows, outcomes, owners, first, second = [], [], [], [], []
    for r in range(120):
        k = int(rng.integers(2, 5))
        chosen = rng.permutation(6)[:k]
        scores = np.round(theta[chosen] + rng.gumbel(0, 1, k), 0)
        rows.append({"items": [f"m{i}" for i in chosen], "scores": scores.tolist(), "weight": 1 + r % 3})
        for x in range(k):
            for y in range(x + 1, k):
                first.append(chosen[x])
                second.append(chosen[y])
                owners.append(r)
                outcomes.append(0.5 + 0.5 * np.sign(scores[x] - scores[y]))
    fitted = BradleyTerry().fit(PreferenceData.from_rows(rows))
    code = {name: i for i, name in enumerate(fitted.items_)}
    first = np.array([code[f"m{i}"] for i in first])
    second = np.array([code[f"m{j}"] for j in second])
    owners = np.array(owners)
    expected = rowwise_covariance(
        first, second, np.array(outcomes), 1.0 + owners % 3, fitted.strengths_, 0.0, owners
    )
    np.testing.assert_allclose(fitted.covariance_, expected, rtol=1e-7, atol=1e-12)
    assert fitted.n_comparisons_ == len(owners)


def test_the_gradient_is_zero_at_the_fit():
    a, b, left, right, weight = random_battles(n=5000, size=40, seed=6, weights=True)
    fitted = BradleyTerry().fit(as_data(a, b, left, right, weight))
    theta = dict(zip(fitted.items_, fitted.strengths_, strict=True))
    gap = np.array([theta[f"m{i}"] - theta[f"m{j}"] for i, j in zip(a, b, strict=True)])
    residual = weight * (np.where(left > right, 1.0, np.where(left < right, 0.0, 0.5)) - expit(gap))
    gradient = np.bincount(a, residual) - np.bincount(b, residual)
    assert np.abs(gradient).max() < 1e-10 * np.bincount(a, weight).max() * 4


battles = st.integers(0, 10_000).map(lambda seed: random_battles(n=150, size=5, seed=seed, weights=True))


@settings(max_examples=25, deadline=None)
@given(battles)
def test_swapping_the_sides_changes_nothing(drawn):
    a, b, left, right, weight = drawn
    board = palate.rank(as_data(a, b, left, right, weight), l2=0.01)
    swapped = palate.rank(as_data(b, a, right, left, weight), l2=0.01)
    assert swapped.strengths == pytest.approx(board.strengths, abs=1e-9)
    assert swapped.interval("m0") == pytest.approx(board.interval("m0"))


@settings(max_examples=25, deadline=None)
@given(battles)
def test_every_vote_twice_keeps_the_strengths_and_halves_the_variance(drawn):
    a, b, left, right, weight = drawn
    once = BradleyTerry(l2=0.5).fit(as_data(a, b, left, right, weight))
    twice = BradleyTerry(l2=1.0).fit(as_data(*(np.concatenate([x, x]) for x in drawn)))
    np.testing.assert_allclose(twice.strengths_, once.strengths_, atol=1e-9)
    np.testing.assert_allclose(twice.covariance_, once.covariance_ / 2, rtol=1e-7, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(battles, st.randoms(use_true_random=False))
def test_new_names_for_the_items_change_the_names_only(drawn, random):
    a, b, left, right, weight = drawn
    names = list(range(5))
    random.shuffle(names)
    new = np.array(names)
    board = palate.rank(as_data(a, b, left, right, weight), l2=0.01)
    renamed = palate.rank(as_data(new[a], new[b], left, right, weight), l2=0.01)
    for i in range(5):
        assert renamed.strengths[f"m{new[i]}"] == pytest.approx(board.strengths[f"m{i}"], abs=1e-9)


def test_choix_finds_the_same_strengths():
    a, b, left, right, weight = random_battles(n=3000, size=25, seed=7)
    decided = left != right
    a, b, left, right, weight = (x[decided] for x in (a, b, left, right, weight))
    winners = np.where(left > right, a, b)
    losers = np.where(left > right, b, a)
    expected = choix.ilsr_pairwise(25, list(zip(winners.tolist(), losers.tolist(), strict=True)), tol=1e-11)
    fitted = BradleyTerry().fit(as_data(a, b, left, right, weight))
    np.testing.assert_allclose(in_order(fitted, [f"m{i}" for i in range(25)]), expected, atol=1e-6)


def test_evalica_finds_the_same_strengths_with_half_ties_and_weights():
    a, b, left, right, weight = random_battles(n=3000, size=25, seed=8, weights=True)
    winners = [
        evalica.Winner.X if x > y else evalica.Winner.Y if x < y else evalica.Winner.Draw
        for x, y in zip(left, right, strict=True)
    ]
    names = [f"m{i}" for i in range(25)]
    result = evalica.bradley_terry(
        [names[i] for i in a],
        [names[j] for j in b],
        winners,
        weights=weight.tolist(),
        tolerance=1e-12,
        limit=10_000,
    )
    expected = np.log(result.scores.loc[names].to_numpy())
    fitted = BradleyTerry().fit(as_data(a, b, left, right, weight))
    np.testing.assert_allclose(in_order(fitted, names), expected - expected.mean(), atol=1e-6)


def test_iterative_solves_agree_with_the_factored_matrix(monkeypatch):
    data = as_data(*random_battles(n=4000, size=30, seed=9))
    exact = BradleyTerry().fit(data)
    monkeypatch.setattr(information_module, "DENSE_ITEMS", 10)
    monkeypatch.setattr("palate.rank.likelihood.DENSE_ITEMS", 10)
    drawn = BradleyTerry().fit(data)
    np.testing.assert_allclose(drawn.strengths_, exact.strengths_, atol=1e-9)
    assert drawn.covariance_ is None
    ratio = np.sqrt(np.mean(drawn.draws_**2, axis=1) / np.diag(exact.covariance_))
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    assert ((ratio > 0.65) & (ratio < 1.35)).all()
    board, reference = drawn.leaderboard(), exact.leaderboard()
    assert board.compare("m0", "m1").standard_error == pytest.approx(
        reference.compare("m0", "m1").standard_error, rel=0.35
    )


def test_a_hundred_thousand_items_fit_without_a_square_matrix():
    rng = np.random.default_rng(0)
    size, n = 100_000, 300_000
    theta = rng.normal(0, 1, size)
    a = np.concatenate([np.arange(size), rng.integers(0, size, n - size)])
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < expit(theta[a] - theta[b])
    names = pa.array([f"item {i}" for i in range(size)]).take(pa.array(np.stack([a, b], axis=1).ravel()))
    offsets = pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32))
    scores = pa.array(np.stack([won, ~won], axis=1).ravel().astype(float))
    data = PreferenceData.from_columns(
        {
            "items": pa.ListArray.from_arrays(offsets, names),
            "scores": pa.ListArray.from_arrays(offsets, scores),
        }
    )
    fitted = BradleyTerry(l2=0.5).fit(data)
    assert fitted.converged_
    assert fitted.covariance_ is None
    found = np.empty(size)
    found[[int(name.split()[1]) for name in fitted.items_]] = fitted.strengths_
    residual = won - expit(found[a] - found[b])
    gradient = np.bincount(a, residual, size) - np.bincount(b, residual, size) - 0.5 * found
    assert np.abs(gradient).max() < 1e-8
    board = fitted.leaderboard()
    assert board.table.height == size
    assert (board.table["lower"] < board.table["upper"]).all()
    with pytest.raises(ConfigError, match=r"a win matrix of 100000 items is too large; name at most 2000"):
        board.win_matrix()
    assert board.win_matrix(["item 5", "item 6"]).predicted[0, 1] == pytest.approx(
        board.win_probability("item 5", "item 6")
    )


def test_counts_can_be_fitted_in_place_of_judgments(games):
    assert palate.rank(count(games)).strengths == palate.rank(games).strengths


def test_all_ties_make_all_items_equal_without_spread():
    board = palate.rank(played([], [("a", "b", 5), ("b", "c", 5)]))
    assert list(board.strengths.values()) == [0.0, 0.0, 0.0]
    assert board.interval("a") == (1000.0, 1000.0)


@pytest.mark.parametrize(
    ("games", "ties", "message"),
    [
        (
            [("a", "b", 1, 1), ("b", "c", 0, 2), ("a", "c", 0, 1)],
            [],
            "no finite estimate: c never lost; set l2 > 0 or drop it",
        ),
        (
            [("a", "b", 1, 1), ("b", "c", 2, 0), ("a", "c", 1, 0)],
            [],
            "no finite estimate: c never won; set l2 > 0 or drop it",
        ),
        ([("a", "b", 3, 0)], [], "no finite estimate: a never lost, b never won; set l2 > 0 or drop them"),
        (
            [("a", "b", 1, 1), ("c", "d", 1, 1), ("e", "c", 1, 1), ("a", "c", 2, 0)],
            [],
            "no finite estimate: the group (a, b) never lost against any other; set l2 > 0 or drop them",
        ),
        (
            [("a", "b", 2, 1), ("c", "d", 1, 1)],
            [("e", "f", 2)],
            "the comparisons are disconnected: "
            "the items fall into 3 groups that never met: (a, b), (c, d), (e, f); "
            "compare across the groups, rank each by itself, or set l2 > 0",
        ),
    ],
)
def test_data_without_a_finite_estimate_are_refused_by_name(games, ties, message):
    with pytest.raises(DataError) as caught:
        palate.rank(played(games, ties))
    assert str(caught.value) == message


def test_the_refusal_names_the_file():
    data = PreferenceData.from_rows([{"items": ["a", "b"], "scores": [1, 0]}], source="votes.csv")
    with pytest.raises(DataError, match=r"^votes\.csv: no finite estimate: a never lost, b never won"):
        palate.rank(data)


def test_a_ridge_makes_separated_data_finite():
    board = palate.rank(played([("a", "b", 3, 0), ("b", "c", 3, 0)]), l2=0.1)
    assert list(board.strengths) == ["a", "b", "c"]
    assert board.diagnostics["strong_components"] == 3
    assert any("only l2 keeps" in line for line in board.diagnostics["advice"])


def test_a_ridge_over_disconnected_data_warns_that_groups_cannot_be_compared():
    with pytest.warns(
        PalateWarning, match=r"2 groups that never met: \(a, b\), \(c, d\); strengths of different"
    ):
        board = palate.rank(played([("a", "b", 3, 1), ("c", "d", 1, 2)]), l2=0.1)
    assert board.diagnostics["components"] == 2
    assert board.diagnostics["advice"][0].startswith("The items fall into 2 groups")


def test_ties_only_cannot_be_dropped():
    with pytest.raises(DataError, match=r"^every comparison is a tie; count them with ties='half'$"):
        palate.rank(played([], [("a", "b", 3)]), ties="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ties": "model"}, "ties is 'model'; use 'half' or 'drop'"),
        ({"weights": "votes"}, "weights is 'votes'; use 'importance' or 'count'"),
        ({"both_bad": "loss"}, "both_bad is 'loss'; use 'tie' or 'drop'"),
        ({"interval": "jackknife"}, "interval is 'jackknife'; use 'sandwich' or 'hessian' or 'bootstrap'"),
        ({"l2": -1}, "l2 is -1; use a number of 0 or more"),
        ({"l2": float("nan")}, "l2 is nan; use a number of 0 or more"),
        ({"level": 95}, "level is 95; use a number between 0 and 1, ends excluded"),
        ({"anchor": "Z"}, "unknown anchor 'Z'; known: A, B, C, D"),
        (
            {"anchor": {"A": 1, "B": 2}},
            "anchor is {'A': 1, 'B': 2}; give an item, or one item and its rating such as {'baseline': 1000}",
        ),
        (
            {"prior": 1},
            f"unknown option of bradley_terry 'prior'; known: {', '.join(sorted(BradleyTerry.parameters()))}",
        ),
        (
            {"method": "bradley"},
            "unknown ranking method 'bradley'; did you mean 'bradley_terry'? "
            f"known: {', '.join(palate.rank.methods())}",
        ),
    ],
)
def test_options_that_cannot_be_used_are_named(games, options, message):
    with pytest.raises(ConfigError) as caught:
        palate.rank(games, **options)
    assert str(caught.value) == message


def test_something_else_than_judgments_is_refused():
    with pytest.raises(ConfigError, match=r"^cannot rank a str; read files with palate\.load$"):
        palate.rank("votes.csv")


def test_parameters_round_trip():
    estimator = BradleyTerry(ties="drop", l2=0.3, anchor={"A": 1200})
    again = BradleyTerry(**estimator.get_params())
    assert again.get_params() == estimator.get_params()
    assert again.set_params(l2=0.5) is again
    assert again.l2 == 0.5
    with pytest.raises(ConfigError, match="unknown option of bradley_terry 'anchr'; did you mean 'anchor'"):
        again.set_params(anchr=1)


def test_one_loss_in_a_hundred_thousand_still_converges():
    counted = count(
        PreferenceData.from_columns(
            {
                "items": [["a", "b"], ["a", "b"], ["b", "c"], ["c", "b"]],
                "scores": [[1, 0], [0, 1], [1, 0], [1, 0]],
                "weight": [1e5, 1.0, 1.0, 1e5],
            }
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = BradleyTerry().fit(counted)
    gap = dict(zip(fitted.items_, fitted.strengths_, strict=True))
    assert gap["a"] - gap["b"] == pytest.approx(np.log(1e5), abs=1e-6)
