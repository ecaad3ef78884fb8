"""Sequential ratings: worked numbers, peers, order, going on with more judgments, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfcx, expit, ndtr, ndtri

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, MissingDependency, PalateWarning
from palate.rank import count
from palate.rank._online_kernels import of_draw, of_win
from palate.rank.battles import battles
from palate.rank.elo import Elo
from palate.rank.skill import OpenSkill, TrueSkill

START = datetime(2024, 1, 1, tzinfo=UTC)
METHODS = (Elo(k=16), TrueSkill(), OpenSkill())


def judged(items, scores, **columns):
    return PreferenceData.from_columns({"items": items, "scores": scores, **columns})


def votes(n=300, size=6, seed=0, ties=0.2, **columns):
    """Votes between items m0, m1, ... of growing strength."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < expit(0.5 * (a - b))
    scores = np.stack([won, ~won], axis=1).astype(float)
    scores[rng.random(n) < ties] = 1.0
    return judged([[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)], scores.tolist(), **columns)


def rankings(n=60, size=7, seed=0):
    """Rankings of two to five items, some with ties."""
    rng = np.random.default_rng(seed)
    items, scores = [], []
    for _ in range(n):
        chosen = rng.permutation(size)[: rng.integers(2, 6)]
        items.append([f"m{i}" for i in chosen])
        scores.append(np.rint(chosen + rng.normal(0, 2, len(chosen))).tolist())
    return judged(items, scores)


def part(data, rows):
    return PreferenceData(data.table.take(rows))


def of(values, fitted, names):
    return [values[fitted.items_.index(name)] for name in names]


def rows_of(data):
    """(names, scores) of each judgment."""
    return zip(data.column("items").to_pylist(), data.column("scores").to_pylist(), strict=True)


# -- Elo --


def test_elo_gives_the_worked_ratings_in_both_orders():
    games = judged([["0", "1"], ["1", "2"], ["0", "2"], ["2", "0"]], [[1, 0], [1, 0], [1, 1], [1, 0]])
    fitted = Elo(k=32).fit(games)
    assert of(fitted.mu_, fitted, "012") == pytest.approx([997.131, 1000.736, 1002.133], abs=5e-4)
    fitted = Elo(k=32).fit(part(games, [3, 2, 1, 0]))
    assert of(fitted.mu_, fitted, "012") == pytest.approx([1002.902, 999.236, 997.862], abs=5e-4)


def test_elo_ratings_are_those_of_the_board_and_predict():
    board = palate.rank(votes(), method="elo", k=16)
    fitted = Elo(k=16).fit(votes())
    rating = dict(zip(board.table["item"], board.table["rating"], strict=True))
    assert [rating[item] for item in fitted.items_] == pytest.approx(list(fitted.mu_))
    assert np.mean(fitted.mu_) == pytest.approx(1000)
    assert board.win_probability("m5", "m0") == pytest.approx(
        1 / (1 + 10 ** ((rating["m0"] - rating["m5"]) / 400))
    )
    assert board.table["lower"].null_count() == 6


def test_elo_agrees_with_evalica():
    evalica = pytest.importorskip("evalica")
    data = votes(2000, 20)
    xs, ys, winners = [], [], []
    for (a, b), (left, right) in rows_of(data):
        xs.append(a)
        ys.append(b)
        winners.append(
            evalica.Winner.Draw if left == right else evalica.Winner.X if left > right else evalica.Winner.Y
        )
    expected = evalica.elo(xs, ys, winners).scores
    fitted = Elo().fit(data)
    np.testing.assert_allclose(fitted.mu_, expected[fitted.items_], atol=1e-6)


def elo_twin(data, k, weight=None, advantage=0.0):
    """Ratings, and what the first of each judgment was expected to win."""
    rating, shares = {}, []
    weight = np.ones(data.n_rows) if weight is None else weight
    ahead = np.broadcast_to(advantage, data.n_rows)
    for w, more, ((a, b), (left, right)) in zip(weight, ahead, rows_of(data), strict=True):
        ra, rb = rating.setdefault(a, 1000.0), rating.setdefault(b, 1000.0)
        shares.append(1 / (1 + 10 ** ((rb - ra - more) / 400)))
        change = k * w * ((1 + np.sign(left - right)) / 2 - shares[-1])
        rating[a] += change
        rating[b] -= change
    return rating, shares


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 200), st.booleans(), st.sampled_from(["none", "one", "each"]))
def test_elo_equals_its_plain_twin(seed, k, weighted, ahead):
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 3, 40) if weighted else None
    advantage = {"none": 0.0, "one": 60.0, "each": rng.uniform(-100, 100, 40)}[ahead]
    data = votes(40, 4, seed, **({"weight": weight} if weighted else {}))
    expected, shares = elo_twin(data, k, weight, advantage)
    fitted = Elo(k=k, advantage=advantage).fit(data)
    np.testing.assert_allclose(fitted.mu_, [expected[item] for item in fitted.items_], rtol=1e-9)
    np.testing.assert_allclose(fitted.expected_, shares, rtol=1e-9)


def test_expectations_follow_the_rows_whatever_the_order_of_time():
    data = votes(60, time=[START + timedelta(hours=(7 * i) % 60) for i in range(60)])
    order = np.argsort([(7 * i) % 60 for i in range(60)])
    fitted = Elo(advantage=30).fit(data)
    np.testing.assert_allclose(fitted.expected_[order], elo_twin(part(data, order), 4.0, None, 30.0)[1])


def test_judgments_that_compare_nothing_have_no_expectation():
    weight = np.ones(30)
    weight[[3, 17]] = 0.0
    fitted = Elo().fit(votes(30, weight=weight))
    assert np.flatnonzero(np.isnan(fitted.expected_)).tolist() == [3, 17]
    assert Elo().fit(rankings()).expected_ is None
    assert Elo(order="average", permutations=2).fit(votes(30)).expected_ is None


@pytest.mark.parametrize("advantage", ["100", [1.0, 2.0], float("nan"), 1e9, None])
def test_an_advantage_is_a_number_or_one_for_each_judgment(advantage):
    with pytest.raises(ConfigError, match="advantage"):
        Elo(advantage=advantage).fit(votes(30))


def test_a_ranking_has_no_side_that_is_ahead():
    with pytest.raises(ConfigError, match="the first of two"):
        Elo(advantage=50).fit(rankings())


def test_the_average_over_orders_does_not_depend_on_the_order_given():
    data = votes(400)
    backward = part(data, np.arange(400)[::-1])
    options = {"order": "average", "permutations": 200, "k": 16}
    there, back = Elo(**options).fit(data), Elo(**options, seed=1).fit(backward)
    np.testing.assert_allclose(
        of(there.mu_, there, sorted(there.items_)), of(back.mu_, back, sorted(back.items_)), atol=8
    )
    given = [Elo(k=16).fit(x) for x in (data, backward)]
    apart = np.subtract(*(of(x.mu_, x, sorted(x.items_)) for x in given))
    assert np.abs(apart).max() > 40


def test_the_average_over_orders_is_the_median_of_random_orders():
    data = votes(200)
    fitted = Elo(order="average", permutations=400).fit(data)
    rng = np.random.default_rng(5)
    runs = []
    for _ in range(400):
        one = Elo().fit(part(data, rng.permutation(200)))
        runs.append(of(one.mu_, one, fitted.items_))
    np.testing.assert_allclose(fitted.mu_, np.median(runs, axis=0), atol=1.5)


def test_bootstrap_draws_of_elo_spread_like_independent_data():
    fitted = Elo(order="average", permutations=300).fit(votes(500))
    errors = np.sqrt(np.mean(fitted.draws_**2, axis=1)) * 400 / np.log(10)
    many = []
    for seed in range(1, 200):
        one = Elo().fit(votes(500, seed=seed))
        many.append(of(one.mu_, one, fitted.items_))
    np.testing.assert_allclose(errors, np.std(many, axis=0), rtol=0.25)
    assert fitted.leaderboard().table["lower"].null_count() == 0


def test_the_average_is_reproducible_and_follows_its_seed():
    data = rankings()
    once, again, other = (Elo(order="average", permutations=5, seed=seed).fit(data).mu_ for seed in (3, 3, 4))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


def test_a_ranking_counts_as_the_comparisons_it_implies():
    whole = judged([["a", "b", "c"]], [[3, 2, 1]])
    pairs = judged([["a", "b"], ["a", "c"], ["b", "c"]], [[1, 0]] * 3)
    np.testing.assert_allclose(Elo().fit(whole).mu_, Elo().fit(pairs).mu_)


# -- TrueSkill and OpenSkill --


def test_trueskill_gives_the_worked_beliefs():
    won = TrueSkill().fit(judged([["a", "b"]], [[1, 0]]))
    assert list(won.mu_) == pytest.approx([29.396, 20.604], abs=5e-4)
    assert list(won.sigma_) == pytest.approx([7.171, 7.171], abs=5e-4)
    drawn = TrueSkill().fit(judged([["a", "b"]], [[1, 1]]))
    assert list(drawn.mu_) == pytest.approx([25, 25])
    assert list(drawn.sigma_) == pytest.approx([6.458, 6.458], abs=5e-4)


def test_openskill_gives_the_worked_beliefs():
    won = OpenSkill().fit(judged([["a", "b"]], [[1, 0]]))
    assert list(won.mu_) == pytest.approx([27.635389, 22.364611], abs=5e-7)
    assert list(won.sigma_) == pytest.approx([8.065901, 8.065901], abs=5e-7)
    three = OpenSkill().fit(judged([["a", "b", "c"]], [[3, 2, 1]]))
    assert list(three.mu_) == pytest.approx([27.869049, 25.717262, 21.413689], abs=5e-7)
    assert list(three.sigma_) == pytest.approx([8.205243, 8.058224, 8.058224], abs=5e-7)


def normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("make", [votes, rankings])
def test_trueskill_agrees_with_the_package(make):
    trueskill = pytest.importorskip("trueskill")
    data = make()
    # With the package's own approximation of the normal distribution it agrees to 1e-6 only.
    model = trueskill.TrueSkill(backend=(ndtr, normal_density, ndtri))
    rating = {}
    for names, scores in rows_of(data):
        before = [(rating.get(name, model.create_rating()),) for name in names]
        after = model.rate(before, ranks=[-score for score in scores])
        rating |= {name: one for name, (one,) in zip(names, after, strict=True)}
    fitted = TrueSkill().fit(data)
    np.testing.assert_allclose(fitted.mu_, [rating[x].mu for x in fitted.items_], atol=1e-8)
    np.testing.assert_allclose(fitted.sigma_, [rating[x].sigma for x in fitted.items_], atol=1e-8)
    np.testing.assert_allclose(fitted.ordinal_, fitted.mu_ - 3 * fitted.sigma_)


@pytest.mark.parametrize("make", [votes, rankings])
def test_openskill_agrees_with_the_package(make):
    models = pytest.importorskip("openskill.models")
    data = make()
    model = models.PlackettLuce()
    rating = {}
    for names, scores in rows_of(data):
        before = [[rating.get(name, model.rating())] for name in names]
        after = model.rate(before, ranks=[-score for score in scores])
        rating |= {name: one for name, (one,) in zip(names, after, strict=True)}
    fitted = OpenSkill().fit(data)
    np.testing.assert_allclose(fitted.mu_, [rating[x].mu for x in fitted.items_], atol=1e-9)
    np.testing.assert_allclose(fitted.sigma_, [rating[x].sigma for x in fitted.items_], atol=1e-9)


def weng_lin_twin(data, beta=25 / 6, tau=25 / 300, kappa=1e-4):
    """The update as it is written in the docstring."""
    beliefs = {}
    for names, scores in rows_of(data):
        mu, sigma = np.array([beliefs.get(name, (25.0, 25 / 3)) for name in names]).T
        score, v = np.array(scores), sigma**2 + tau**2
        c = np.sqrt(np.sum(v + beta**2))
        among = score[:, None] >= score[None, :]  # [q, s]: s is in the set of q
        p = np.where(among, np.exp(mu / c), 0.0)
        p /= p.sum(axis=1, keepdims=True)
        tied = (score[:, None] == score).sum(axis=1)[:, None]
        omega = v / c * np.sum(among * (np.eye(len(mu)) - p) / tied, axis=0)
        delta = np.sqrt(v) / c * v / c**2 * np.sum(p * (1 - p) / tied, axis=0)
        sigma = np.sqrt(v * np.maximum(1 - delta, kappa))
        beliefs |= dict(zip(names, zip(mu + omega, sigma, strict=True), strict=True))
    return beliefs


@pytest.mark.parametrize("make", [votes, rankings])
def test_openskill_equals_its_plain_twin(make):
    expected = weng_lin_twin(make(seed=4))
    fitted = OpenSkill().fit(make(seed=4))
    np.testing.assert_allclose(
        np.stack([fitted.mu_, fitted.sigma_], axis=1), [expected[x] for x in fitted.items_], rtol=1e-10
    )


def trueskill_twin(data, beta=25 / 6, tau=25 / 300, draw=0.1):
    """The closed form of the docstring for two items."""
    beliefs = {}
    for names, scores in rows_of(data):
        winner, loser = names if scores[0] >= scores[1] else names[::-1]
        (mw, sw), (ml, sl) = (beliefs.get(name, (25.0, 25 / 3)) for name in (winner, loser))
        vw, vl = sw**2 + tau**2, sl**2 + tau**2
        c = np.sqrt(2 * beta**2 + vw + vl)
        t, e = (mw - ml) / c, ndtri((draw + 1) / 2) * np.sqrt(2) * beta / c
        if scores[0] != scores[1]:
            v = normal_density(t - e) / ndtr(t - e)
            w = v * (v + t - e)
        else:
            d = ndtr(e - t) - ndtr(-e - t)
            v = (normal_density(-e - t) - normal_density(e - t)) / d
            w = v**2 + ((e - t) * normal_density(e - t) + (e + t) * normal_density(e + t)) / d
        beliefs[winner] = (mw + vw * v / c, np.sqrt(vw * (1 - vw * w / c**2)))
        beliefs[loser] = (ml - vl * v / c, np.sqrt(vl * (1 - vl * w / c**2)))
    return beliefs


def test_trueskill_equals_its_plain_twin():
    expected = trueskill_twin(votes(seed=4))
    fitted = TrueSkill().fit(votes(seed=4))
    np.testing.assert_allclose(
        np.stack([fitted.mu_, fitted.sigma_], axis=1), [expected[x] for x in fitted.items_], rtol=1e-10
    )


def test_a_pick_of_one_among_three_does_not_tie_the_others():
    items, scores = [["a", "b", "c"]], [[1, 0, 0]]
    pick = OpenSkill(tau=0).fit(judged(items, scores, protocol=["choice"]))
    c = np.sqrt(3 * ((25 / 3) ** 2 + (25 / 6) ** 2))
    moved = (25 / 3) ** 2 / c
    np.testing.assert_allclose(pick.mu_, 25 + moved * np.array([2 / 3, -1 / 3, -1 / 3]))
    tied = OpenSkill(tau=0).fit(judged(items, scores))
    assert tied.sigma_[1] < pick.sigma_[1]
    with pytest.raises(DataError, match=r"row 1.*uncompared.*openskill"):
        TrueSkill().fit(judged(items, scores, protocol=["choice"]))


def test_an_item_that_was_not_judged_is_left_out_of_its_ranking():
    full = judged([["a", "b", "c"], ["a", "b"]], [[3, 2, np.nan], [1, 0]])
    pairs = judged([["a", "b"], ["a", "b"]], [[3, 2], [1, 0]])
    for method in (TrueSkill(), OpenSkill()):
        left_out = method.fit(full)
        assert of(left_out.mu_, left_out, "c") == [25]
        assert left_out.leaderboard().table.filter(item="c")["n"].item() == 0
        np.testing.assert_allclose(of(left_out.mu_, left_out, "ab"), method.fit(pairs).mu_)


@settings(max_examples=50, deadline=None)
@given(st.floats(-60, 30), st.floats(0.01, 8))
def test_truncated_moments_are_safe_in_the_tails(t, e):
    x = t - e
    v, w = of_win(x)
    assert v == pytest.approx(np.sqrt(2 / np.pi) / erfcx(-x / np.sqrt(2)), rel=1e-9, abs=1e-12)
    assert 0 <= w <= 1
    v, w = of_draw(t, e)
    assert 0 <= w <= 1 + 1e-9
    # A draw leaves the truncated difference t + V inside the margin.
    assert abs(t + v) <= e * (1 + 1e-9)


def test_moments_of_a_draw_are_those_of_the_truncated_normal():
    for t, e in [(0.0, 0.5), (0.7, 1.0), (-1.5, 0.2), (2.0, 3.0), (0.3, 1e-4)]:
        grid = np.linspace(-e, e, 200_001)
        weight = np.exp(-0.5 * (grid - t) ** 2)
        mean = np.trapezoid(weight * grid) / np.trapezoid(weight)
        variance = np.trapezoid(weight * (grid - mean) ** 2) / np.trapezoid(weight)
        v, w = of_draw(t, e)
        assert (t + v, 1 - w) == pytest.approx((mean, variance), abs=1e-8)


@pytest.mark.parametrize("method", [TrueSkill(), OpenSkill()])
def test_beliefs_stay_finite_after_the_most_extreme_upsets(method):
    up = judged([["a", "b"]] * 5000, [[1, 0]] * 5000)
    upset = judged([["b", "a"]] * 5, [[1, 0]] * 5)
    fitted = method.set_params(sigma=500.0, tau=0.0).fit(up).partial_fit(upset)
    assert np.isfinite(fitted.mu_).all()
    assert (fitted.sigma_ > 0).all()


@pytest.mark.parametrize("method", [TrueSkill(), OpenSkill()])
def test_beliefs_make_a_board_of_skills(method):
    board = method.fit(votes(3000)).leaderboard()
    assert board.table["item"][0] == "m5"
    assert board.table["item"][-1] == "m0"
    assert board.scale.unit == "skill"
    np.testing.assert_allclose(board.table["rating"].sort(), np.sort(method.mu_))
    np.testing.assert_allclose(np.diag(board.covariance), method.sigma_**2)
    assert board.win_probability("m5", "m0") > 0.7
    assert board.win_probability("m5", "m0") + board.win_probability("m0", "m5") == pytest.approx(1)
    assert board.diagnostics["note"] == "The ratings depend on the order of the judgments."


def test_many_items_have_exact_errors_without_a_dense_covariance():
    n = 3000
    fitted = OpenSkill().fit(judged([[f"m{i}", f"m{i + 1}"] for i in range(n)], [[1, 0]] * n))
    assert fitted.covariance_ is None
    np.testing.assert_allclose(np.sqrt(np.mean(fitted.draws_**2, axis=1)), fitted.sigma_)


# -- order and continuing --


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
@pytest.mark.parametrize("make", [votes, rankings])
def test_continuing_gives_the_same_as_one_fit(method, make):
    if method.method == "trueskill" and make is rankings:
        pytest.importorskip("trueskill")
    data = make()
    whole = method.fit(data)
    expected = (whole.items_, whole.mu_, whole.strengths_, whole.comparisons_, whole.leaderboard().table)
    step = max(1, data.n_rows // 7)
    batches = [part(data, np.arange(i, min(i + step, data.n_rows))) for i in range(0, data.n_rows, step)]
    pieces = type(method)(**method.get_params())
    for batch in batches:
        pieces.partial_fit(batch)
    assert pieces.items_ == expected[0]
    np.testing.assert_array_equal(pieces.mu_, expected[1])
    np.testing.assert_array_equal(pieces.strengths_, expected[2])
    assert pieces.leaderboard().table.equals(expected[4])
    counted = count(data)
    for name in ("first", "second", "weight", "square", "count"):
        np.testing.assert_array_equal(getattr(pieces.comparisons_, name), getattr(counted, name))
    if counted.clustered is not None:
        np.testing.assert_array_equal(
            np.bincount(pieces.comparisons_.clustered.winner), np.bincount(counted.clustered.winner)
        )
        assert pieces.comparisons_.clustered.n_clusters == counted.clustered.n_clusters


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_judgments_are_rated_by_their_time(method):
    if method.method == "trueskill":
        pytest.importorskip("trueskill")
    plain = rankings()
    time = [START + timedelta(hours=i) for i in range(plain.n_rows)]
    dated = PreferenceData.from_columns(
        {"items": plain.column("items"), "scores": plain.column("scores"), "time": time}
    )
    mixed = part(dated, np.random.default_rng(0).permutation(plain.n_rows))
    expected = method.fit(plain)
    assert expected.diagnostics_["order"] == "rows"
    expected = dict(zip(expected.items_, expected.mu_, strict=True))
    fitted = method.fit(mixed)
    assert fitted.diagnostics_["order"] == "time"
    np.testing.assert_allclose(fitted.mu_, [expected[item] for item in fitted.items_], rtol=1e-12)


def test_one_missing_time_leaves_the_order_of_the_rows():
    time = [START + timedelta(hours=1), START, None]
    data = judged([["a", "b"]] * 3, [[1, 0], [0, 1], [1, 0]], time=time)
    fitted = Elo(k=32).fit(data)
    assert fitted.diagnostics_["order"] == "rows"
    np.testing.assert_array_equal(
        fitted.mu_, Elo(k=32).fit(judged([["a", "b"]] * 3, [[1, 0], [0, 1], [1, 0]])).mu_
    )


def test_a_batch_from_the_past_is_rated_with_a_warning():
    late = judged([["a", "b"]], [[1, 0]], time=[START + timedelta(seconds=5)])
    early = judged([["a", "b"]], [[1, 0]], time=[START])
    fitted = Elo().fit(late)
    with pytest.warns(PalateWarning, match="5 seconds before the end of the last one"):
        fitted.partial_fit(early)
    assert fitted.n_comparisons_ == 2


def test_an_empty_batch_changes_nothing_and_a_broken_one_leaves_the_ratings():
    fitted = OpenSkill().fit(votes())
    before, items = fitted.mu_.copy(), list(fitted.items_)
    fitted.partial_fit(PreferenceData(votes().table.slice(0, 0)))
    with pytest.raises(DataError):
        fitted.partial_fit(judged([["new", "new"]], [[1, 0]]))
    with pytest.raises(DataError):
        fitted.partial_fit(judged([["new", "m1"]], [[1, 0]], weight=[2.0]))
    np.testing.assert_array_equal(fitted.mu_, before)
    assert fitted.items_ == items


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_battles_are_rated_like_their_judgments(method):
    data = votes()
    expected = method.fit(data).mu_
    np.testing.assert_array_equal(method.fit(battles(data)).mu_, expected)


# -- what they refuse --


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_counts_have_no_order_and_are_refused(method):
    with pytest.raises(ConfigError, match="in their order, which counts do not keep"):
        method.fit(count(votes()))


def test_both_bad_is_a_tie_or_left_out():
    data = judged([["a", "b"], ["a", "b"]], [[1, 0], [0, 0]], tie=[None, "both_bad"])
    for method in (Elo, TrueSkill, OpenSkill):
        counted, dropped = method().fit(data), method(both_bad="drop").fit(data)
        assert (counted.n_comparisons_, dropped.n_comparisons_) == (2, 1)
        np.testing.assert_array_equal(dropped.mu_, method().fit(part(data, [0])).mu_)


def test_the_average_cannot_go_on():
    fitted = Elo(order="average", permutations=2).fit(votes())
    with pytest.raises(ConfigError, match="needs all judgments at once"):
        fitted.partial_fit(votes())


def test_weights_mean_nothing_to_a_belief():
    data = judged([["a", "b"], ["a", "b"]], [[1, 0], [1, 0]], weight=[1.0, 2.5])
    for method in (TrueSkill(), OpenSkill()):
        with pytest.raises(DataError, match=r"row 2, field 'weight'.*knows no weights \(2\.5"):
            method.fit(data)


def test_a_tie_without_probability_is_refused():
    with pytest.raises(DataError, match=r"row 2.*draw_probability=0"):
        TrueSkill(draw_probability=0).fit(judged([["a", "b"]] * 2, [[1, 0], [1, 1]]))


@pytest.mark.parametrize(
    "method",
    [
        Elo(k=0), Elo(scale=-1), Elo(base=1), Elo(order="random"), Elo(permutations=1),
        TrueSkill(beta=0), TrueSkill(draw_probability=1), TrueSkill(tau=-1), OpenSkill(kappa=0),
        OpenSkill(sigma=float("nan")), OpenSkill(level=1), Elo(anchor="nobody"),
    ],
)  # fmt: skip
def test_unusable_parameters_are_refused(method):
    with pytest.raises(ConfigError):
        method.fit(votes())


def test_only_what_is_rated_loads_the_compiler():
    code = "import sys, palate, palate.rank.elo, palate.rank.skill; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rankings_by_trueskill_name_the_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "trueskill", None)
    with pytest.raises(MissingDependency, match="pip install trueskill"):
        TrueSkill().fit(rankings())
    assert len(TrueSkill().fit(votes()).mu_) == 6
