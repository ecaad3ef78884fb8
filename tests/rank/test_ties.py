"""Models that give ties a probability, and Thurstone's: worked numbers, maxima, limits, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, linprog, minimize

import palate
from palate.data import PreferenceData
from palate.errors import DataError
from palate.rank import connectivity, count
from palate.rank.bradley_terry import BradleyTerry
from palate.rank.links import DavidsonTies, GlennDavidTies, Logistic, Probit, RaoKupperTies
from palate.rank.thurstone import Thurstone
from palate.rank.ties import Davidson, RaoKupper

WINS = [[0, 6, 4], [2, 0, 5], [3, 3, 0]]
TIES = [[0, 4, 2], [4, 0, 3], [2, 3, 0]]
LINKS = [Logistic(), Probit(), DavidsonTies(), RaoKupperTies(), GlennDavidTies()]
MODELS = [Davidson(), RaoKupper(), Thurstone(ties="threshold")]


def votes(wins, ties=None):
    items, scores = [], []
    for i, row in enumerate(wins):
        for j, n in enumerate(row):
            items += [[f"m{i}", f"m{j}"]] * n
            scores += [[1.0, 0.0]] * n
            if ties is not None and i < j:
                items += [[f"m{i}", f"m{j}"]] * ties[i][j]
                scores += [[1.0, 1.0]] * ties[i][j]
    return PreferenceData.from_columns({"items": items, "scores": scores})


def in_order(model):
    return np.array([model.strengths_[model.items_.index(name)] for name in sorted(model.items_)])


# -- worked numbers --


def test_davidson_on_the_reference_table():
    model = Davidson().fit(votes(WINS, TIES))
    np.testing.assert_allclose(in_order(model), [0.464078, -0.155685, -0.308393], atol=1e-6)
    assert model.nu_ == pytest.approx(0.813756, abs=1e-6)
    assert -model.log_likelihood_ == pytest.approx(34.080282, abs=1e-6)


def test_rao_kupper_on_the_reference_table():
    model = RaoKupper().fit(votes(WINS, TIES))
    np.testing.assert_allclose(in_order(model), [0.359802, -0.111880, -0.247922], atol=1e-6)
    assert model.eta_ == pytest.approx(1.831606, abs=1e-6)
    assert -model.log_likelihood_ == pytest.approx(34.076353, abs=1e-6)


def test_half_ties_on_the_reference_table():
    model = BradleyTerry().fit(votes(WINS, TIES))
    np.testing.assert_allclose(in_order(model), [0.329059, -0.110383, -0.218675], atol=1e-6)


def test_thurstone_on_the_reference_games():
    games = votes([[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]])
    np.testing.assert_allclose(
        in_order(Thurstone().fit(games)), [-0.390242, 0.043858, -0.359003, 0.705386], atol=1e-6
    )


# -- the models against their definitions --


@pytest.mark.parametrize("link", LINKS, ids=lambda link: type(link).__name__)
def test_derivatives_are_those_of_the_log_probabilities(link):
    d, t, step = np.array([-20.0, -3.0, -0.5, 0.0, 0.1, 2.0, 9.0]), 0.7, 1e-5
    found = link.derivatives(d, t)

    def differ(function, tie=False):
        if tie:
            return (function(d, t + step) - function(d, t - step)) / (2 * step)
        return (function(d + step, t) - function(d - step, t)) / (2 * step)

    np.testing.assert_allclose(differ(link.log_probabilities), found.slope, atol=1e-6)
    np.testing.assert_allclose(differ(lambda d, t: link.derivatives(d, t).slope), -found.curvature, atol=1e-6)
    np.testing.assert_allclose(differ(link.log_probabilities, True), found.tie_slope, atol=1e-6)
    np.testing.assert_allclose(
        differ(lambda d, t: link.derivatives(d, t).slope, True), -found.cross, atol=1e-6
    )
    np.testing.assert_allclose(
        differ(lambda d, t: link.derivatives(d, t).tie_slope, True), -found.tie_curvature, atol=1e-6
    )
    if link.tie_start is not None:
        p = np.exp(link.log_probabilities(d, t))
        np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
        np.testing.assert_allclose(p[:, 0] + p[:, 2] / 2, link.share(d, t), atol=1e-12)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: type(link).__name__)
def test_sums_over_outcomes_are_those_of_the_derivatives(link):
    rng = np.random.default_rng(0)
    weight, d = rng.integers(0, 4, (6, 3)).astype(float), rng.normal(0, 2, 6)
    found, each = link.at(link.prepare(weight), d, 0.4), link.derivatives(d, 0.4)
    np.testing.assert_allclose(found.slope, (weight * each.slope).sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.curvature, (weight * each.curvature).sum(axis=1), atol=1e-12)
    assert found.loss == pytest.approx(-(weight * link.log_probabilities(d, 0.4)).sum())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.method)
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_the_fit_is_the_maximum_and_the_sandwich_its_covariance(model, l2):
    """Against a general minimiser and numerical derivatives of the written out likelihood."""
    model = model.set_params(l2=l2, interval="sandwich").fit(votes(WINS, TIES))
    order = [model.items_.index(f"m{i}") for i in range(3)]

    def log_p(x, i, j, outcome):
        p, q, t = np.exp(x[i]), np.exp(x[j]), x[3]
        if model.method == "davidson":
            top = {"win": p, "tie": np.exp(t) * np.sqrt(p * q)}[outcome]
            return np.log(top / (p + q + np.exp(t) * np.sqrt(p * q)))
        if model.method == "rao_kupper":
            eta = np.exp(t)
            top = {"win": q + eta * p, "tie": (eta**2 - 1) * q}[outcome]
            if outcome == "win":
                return np.log(p / (p + eta * q))
            return np.log((eta**2 - 1) * p * q / ((p + eta * q) * (q + eta * p)))
        from statistics import NormalDist

        cdf = NormalDist(0, np.sqrt(2)).cdf
        win = cdf(x[i] - x[j] - t)
        return np.log(win if outcome == "win" else cdf(x[i] - x[j] + t) - win)

    cells = [(i, j, "win", WINS[i][j]) for i in range(3) for j in range(3) if WINS[i][j]]
    cells += [(i, j, "tie", TIES[i][j]) for i in range(3) for j in range(i) if TIES[i][j]]

    def loss(x):
        ridge = 0.5 * l2 * (x[:3] @ x[:3])
        return ridge - sum(n * log_p(x, i, j, outcome) for i, j, outcome, n in cells)

    start = np.append(model.strengths_[order], model.tie_)
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 20_000, "maxfev": 20_000}
    best = minimize(loss, start + 0.1, method="Nelder-Mead", options=options).x
    best[:3] -= best[:3].mean()
    np.testing.assert_allclose(start, best, atol=2e-5)

    gradient = lambda x: approx_fprime(x, loss, 1e-6)  # noqa: E731
    hessian = np.array([(gradient(start + e) - gradient(start - e)) / 2e-4 for e in 1e-4 * np.eye(4)])
    scores = [approx_fprime(start, lambda x, c=c: log_p(x, *c[:3]), 1e-7) for c in cells]
    middle = sum(n * np.outer(s, s) for s, (*_, n) in zip(scores, cells, strict=True))
    inverse = np.linalg.pinv(hessian, rcond=1e-4)
    expected = inverse @ middle @ inverse
    np.testing.assert_allclose(
        model.covariance_[np.ix_(order, order)], expected[:3, :3], rtol=5e-3, atol=1e-4
    )
    assert model.tie_error_**2 == pytest.approx(expected[3, 3], rel=5e-3)


def test_newman_of_evalica_is_davidson_with_half_the_parameter():
    evalica = pytest.importorskip("evalica")
    data = votes(WINS, TIES)
    a, b = zip(*data.column("items").to_pylist(), strict=True)
    outcome = {(1.0, 0.0): evalica.Winner.X, (1.0, 1.0): evalica.Winner.Draw}
    winners = [outcome[tuple(scores)] for scores in data.column("scores").to_pylist()]
    theirs = evalica.newman(a, b, winners, tolerance=1e-12, limit=10_000)
    model = Davidson().fit(data)
    scores = np.log(theirs.scores[sorted(model.items_)].to_numpy())
    np.testing.assert_allclose(in_order(model), scores - scores.mean(), atol=1e-6)
    assert model.nu_ == pytest.approx(2 * theirs.v, abs=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.method)
def test_the_board_predicts_shares_with_the_tie_parameter(model):
    board = model.set_params(l2=0.0).fit(votes(WINS, TIES)).leaderboard()
    matrix = board.win_matrix()
    np.testing.assert_allclose(
        (matrix.predicted + matrix.predicted.T)[np.triu_indices(3, 1)], 1.0, atol=1e-12
    )
    assert board.win_probability("m0", "m2") > 0.5
    assert board.to_json()["diagnostics"]["ties"] == pytest.approx(9 / 32)


@pytest.mark.parametrize(
    ("model", "plain"),
    [(Davidson(), BradleyTerry()), (RaoKupper(), BradleyTerry()), (Thurstone(ties="threshold"), Thurstone())],
    ids=["davidson", "rao_kupper", "thurstone"],
)
def test_without_ties_they_are_the_models_without(model, plain):
    data = votes(WINS)
    one, other = model.set_params(l2=0.0).fit(data), plain.fit(data)
    np.testing.assert_allclose(in_order(one), in_order(other), atol=1e-9)
    np.testing.assert_allclose(one.covariance_, other.covariance_, atol=1e-9)
    assert one.tie_error_ is None


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.method)
def test_swapping_sides_changes_nothing_and_doubling_the_data_halves_the_covariance(model):
    data = votes(WINS, TIES)
    model = model.set_params(l2=0.0)
    items, scores = data.column("items").to_pylist(), data.column("scores").to_pylist()
    turned = PreferenceData.from_columns(
        {"items": [x[::-1] for x in items], "scores": [x[::-1] for x in scores]}
    )
    once = model.fit(data)
    strengths, covariance, error = in_order(once), once.covariance_, once.tie_error_
    np.testing.assert_allclose(in_order(model.fit(turned)), strengths, atol=1e-9)
    twice = model.fit(PreferenceData.concat([data, data]))
    np.testing.assert_allclose(in_order(twice), strengths, atol=1e-9)
    np.testing.assert_allclose(twice.covariance_, covariance / 2, atol=1e-9)
    assert twice.tie_error_ == pytest.approx(error / np.sqrt(2))


def test_drawn_errors_of_a_tie_model_agree_with_its_covariance(monkeypatch):
    rng = np.random.default_rng(1)
    theta = rng.normal(0, 1, 25)
    a = rng.integers(0, 25, 5000)
    b = (a + rng.integers(1, 25, 5000)) % 25
    gap = theta[a] - theta[b] + rng.logistic(0, 1, 5000)
    scores = np.where(gap[:, None] * [1, -1] > -0.5, 1.0, 0.0)
    data = PreferenceData.from_columns(
        {"items": [[f"m{i:02}", f"m{j:02}"] for i, j in zip(a, b, strict=True)], "scores": list(scores)}
    )
    exact = RaoKupper().fit(data)
    monkeypatch.setattr("palate.rank.information.DENSE_ITEMS", 5)
    monkeypatch.setattr("palate.rank.likelihood.DENSE_ITEMS", 5)
    drawn = RaoKupper().fit(data)
    np.testing.assert_allclose(drawn.strengths_, exact.strengths_, atol=1e-8)
    ratio = np.sqrt(np.mean(drawn.draws_**2, axis=1) / np.diag(exact.covariance_))
    assert ratio.mean() == pytest.approx(1.0, abs=0.06)
    assert drawn.tie_error_ == pytest.approx(exact.tie_error_, rel=0.3)


# -- data they cannot be fitted to --


@pytest.mark.parametrize("method", ["davidson", "rao_kupper", "thurstone"])
def test_only_ties_are_refused(method):
    options = {"ties": "threshold"} if method == "thurstone" else {}
    with pytest.raises(DataError, match="every comparison is a tie; the method 'bradley_terry' counts them"):
        palate.rank(votes([[0, 0], [0, 0]], [[0, 5], [5, 0]]), method, **options)


@pytest.mark.parametrize("method", ["davidson", "rao_kupper"])
def test_ties_that_cannot_be_told_from_wins_are_refused_and_a_ridge_helps(method):
    data = votes([[0, 1], [0, 0]], [[0, 1], [1, 0]])
    with pytest.raises(DataError, match="a wider tie always fits better; set l2 > 0"):
        palate.rank(data, method)
    assert palate.rank(data, method, l2=0.5).strengths["m0"] > 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=8))
def test_refusal_is_exactly_where_the_maximum_is_infinite(drawn):
    """Against a linear programme for a direction along which the likelihood never falls."""
    drawn = [(a, b, tie) for a, b, tie in drawn if a != b]
    if not any(tie for *_, tie in drawn) or all(tie for *_, tie in drawn):
        return
    data = PreferenceData.from_columns(
        {
            "items": [[f"m{a}", f"m{b}"] for a, b, _ in drawn],
            "scores": [[1.0, 1.0 if tie else 0.0] for *_, tie in drawn],
        }
    )
    counted = count(data)
    size = counted.n_items
    code = {name: i for i, name in enumerate(counted.items)}
    rows = []
    for a, b, tie in drawn:
        row = np.zeros(size + 1)
        row[code[f"m{a}"]], row[code[f"m{b}"]] = 1, -1
        if tie:
            rows += [np.append(row[:-1], -1), np.append(-row[:-1], -1)]  # |v_a - v_b| <= w
        else:
            rows.append(np.append(-row[:-1], 1))  # v_a - v_b >= w
    rows = np.array(rows)
    # A direction that is not the shift of all strengths: some difference from item 0, or w, is not zero.
    fix = np.zeros((1, size + 1))
    fix[0, 0] = 1
    reach = 0.0
    for target in range(1, size + 1):
        for sign in (1, -1):
            cost = np.zeros(size + 1)
            cost[target] = -sign
            found = linprog(cost, rows, np.zeros(len(rows)), fix, [0], bounds=[(-1, 1)] * (size + 1))
            reach = max(reach, -found.fun)
    finite = reach < 1e-7

    def refused():
        try:
            connectivity.refuse_separated(counted)
            connectivity.refuse_separated_by_ties(counted)
        except DataError:
            return True
        return False

    assert refused() != finite
