"""Pairwise tests with multiplicity control, rank confidence sets, and how many votes separate items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

import palate
from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.rank import BradleyTerry, Leaderboard
from palate.rank.planning import votes_needed, votes_to_separate
from palate.rank.significance import pairwise_tests, rank_sets


def board(theta, covariance, level=0.95):
    """A leaderboard of given estimates."""
    names = [f"m{i}" for i in range(len(theta))]
    return Leaderboard(
        "given", names, np.asarray(theta, float), np.asarray(covariance, float), None, None, level=level
    )


def battles(theta, n, seed):
    rng = np.random.default_rng(seed)
    size = len(theta)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < 1 / (1 + np.exp(theta[b] - theta[a]))
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": list(np.stack([won, ~won], axis=1).astype(float)),
        }
    )


def test_every_pair_is_tested_as_compare_does():
    data = palate.rank(battles(np.linspace(-1, 1, 5), 400, 0))
    tests = pairwise_tests(data, "none")
    assert tests.height == 10
    for row in tests.to_dicts():
        assert (row["difference"], row["standard_error"], row["p"]) == pytest.approx(
            tuple(data.compare(row["a"], row["b"]))
        )
        assert row["difference"] >= 0
    assert tests["p"].is_sorted()
    assert (tests["p_adjusted"] == tests["p"]).all()


@pytest.mark.parametrize("adjust", ["holm", "bonferroni", "bh"])
def test_adjusted_p_values_agree_with_statsmodels(adjust):
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    tests = pairwise_tests(palate.rank(battles(np.linspace(-0.5, 0.5, 6), 500, 1)), adjust)
    name = {"bh": "fdr_bh"}.get(adjust, adjust)
    reject, adjusted, *_ = multipletests(tests["p"].to_numpy(), alpha=0.05, method=name)
    np.testing.assert_allclose(tests["p_adjusted"], adjusted, atol=1e-12)
    assert tests["significant"].to_list() == reject.tolist()


def test_the_joint_distribution_finds_more_than_bonferroni_and_is_valid():
    covariance = np.eye(8) * 0.04
    rng = np.random.default_rng(0)
    false, looser = 0, 0
    for seed in range(200):
        estimate = board(rng.normal(0, 0.2, 8), covariance)
        joint = pairwise_tests(estimate, "max_t", seed=seed)
        false += bool(joint["significant"].any())
        looser += bool(
            (joint["p_adjusted"] <= pairwise_tests(estimate, "bonferroni")["p_adjusted"] + 0.01).all()
        )
    # 200 trials at 5 %: beyond 20 is three standard deviations.
    assert false <= 20
    assert looser >= 195


def test_stepping_down_finds_no_less_than_holm_and_agrees_with_the_rank_sets():
    data = palate.rank(battles(np.linspace(-0.6, 0.6, 7), 900, 11))
    joint = pairwise_tests(data, "max_t").sort("a", "b")
    holm = pairwise_tests(data, "holm").sort("a", "b")
    assert (joint["p_adjusted"] <= holm["p_adjusted"] + 0.01).all()
    sets = {row["item"]: row for row in rank_sets(data).to_dicts()}
    found = joint.filter("significant")
    for item, row in sets.items():
        assert row["rank_best"] == 1 + found.filter(b=item).height
        assert row["rank_worst"] == 7 - found.filter(a=item).height


def test_all_adjusted_values_rise_with_the_plain_ones():
    data = palate.rank(battles(np.linspace(-0.6, 0.6, 7), 500, 12))
    for adjust in ("holm", "bonferroni", "bh", "max_t"):
        assert pairwise_tests(data, adjust)["p_adjusted"].is_sorted()


@pytest.mark.parametrize("method", ["simultaneous", "marginal"])
def test_rank_sets_contain_the_true_ranks_as_often_as_they_say(method):
    theta = np.array([0.0, 0.0, 0.3, 0.5, 0.9, 0.9])
    # Tied items may have either of the ranks they share.
    low = rankdata(-theta, method="min")
    high = rankdata(-theta, method="max")
    rng = np.random.default_rng(1)
    mixing = rng.normal(0, 0.1, (6, 6))
    covariance = mixing @ mixing.T + 0.01 * np.eye(6)
    trials, all_in, each_in = 300, 0, np.zeros(6)
    for seed in range(trials):
        sets = rank_sets(board(rng.multivariate_normal(theta, covariance), covariance), method, seed=seed)
        sets = sets.sort("item")
        inside = (sets["rank_best"].to_numpy() <= low) & (sets["rank_worst"].to_numpy() >= high)
        all_in += inside.all()
        each_in += inside
    if method == "simultaneous":
        assert all_in / trials > 0.95 - 3 * np.sqrt(0.05 * 0.95 / trials)
    else:
        assert (each_in / trials > 0.95 - 3 * np.sqrt(0.05 * 0.95 / trials)).all()


def test_simultaneous_sets_contain_the_marginal_ones():
    data = palate.rank(battles(np.linspace(-0.4, 0.4, 12), 2500, 3))
    wide, narrow = rank_sets(data), rank_sets(data, "marginal")
    assert (wide["rank_best"] <= narrow["rank_best"]).all()
    assert (wide["rank_worst"] >= narrow["rank_worst"]).all()
    assert narrow["item"].to_list() == list(data.strengths)


def test_clear_differences_give_single_ranks():
    sets = rank_sets(board([3.0, 2.0, 1.0], np.eye(3) * 1e-4))
    assert sets.rows() == [("m0", 1, 1, 1), ("m1", 2, 2, 2), ("m2", 3, 3, 3)]
    tied = rank_sets(board([0.0, 0.0, 0.0], np.eye(3)))
    assert tied["rank_best"].to_list() == [1, 1, 1]
    assert tied["rank_worst"].to_list() == [3, 3, 3]


def test_bootstrap_draws_serve_in_place_of_a_covariance():
    data = battles(np.linspace(-1, 1, 6), 3000, 4)
    exact, drawn = palate.rank(data), palate.rank(data, interval="bootstrap", replicates=3000)
    one, other = pairwise_tests(exact, "none").sort("a", "b"), pairwise_tests(drawn, "none").sort("a", "b")
    np.testing.assert_allclose(one["standard_error"], other["standard_error"], rtol=0.1)


def test_boards_without_uncertainty_and_wrong_words_are_refused():
    plain = Leaderboard("given", ["a", "b"], np.array([0.5, -0.5]), None, None, None)
    for function in (pairwise_tests, rank_sets):
        with pytest.raises(ConfigError, match="the method given gives no standard errors"):
            function(plain)
    with pytest.raises(ConfigError, match="adjust is 'fdr'; use 'holm' or"):
        pairwise_tests(board([0, 1], np.eye(2)), "fdr")
    with pytest.raises(ConfigError, match="method is 'joint'; use 'simultaneous' or 'marginal'"):
        rank_sets(board([0, 1], np.eye(2)), "joint")


# -- planning --


@pytest.mark.parametrize(("items", "points"), [(2, 100.0), (5, 80.0)])
def test_so_many_votes_give_the_promised_power(items, points):
    n = votes_needed(points, items, power=0.8)
    theta = np.zeros(items)
    theta[0], theta[-1] = (x * points / palate.rank.leaderboard.POINTS for x in (0.5, -0.5))
    found = [
        palate.rank(battles(theta, n, seed)).compare("m0", f"m{items - 1}").p < 0.05 for seed in range(200)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / 200))


def test_more_votes_of_the_same_kind_reach_the_planned_error():
    data = battles(np.array([0.15, 0.0, -0.1, -0.05]), 800, 5)
    now = palate.rank(data)
    plan = votes_to_separate(now, "m0", "m2")
    repeats = plan.total / now.comparisons.n_comparisons
    assert plan.more == plan.total - 800
    then = now.compare("m0", "m2").standard_error / np.sqrt(repeats)
    assert now.compare("m0", "m2").difference / then == pytest.approx(1.959964 + 0.841621, rel=0.01)


def test_direct_votes_are_what_the_information_says():
    data = battles(np.array([0.06, 0.0, -0.06]), 600, 9)
    model = BradleyTerry(interval="hessian").fit(data)
    now = model.leaderboard()
    plan = votes_to_separate(now, "m0", "m2")
    i, j = model.items_.index("m0"), model.items_.index("m2")
    x = np.zeros(3)
    x[i], x[j] = 1, -1
    p = now.win_probability("m0", "m2")
    information = np.linalg.pinv(model.covariance_) + plan.direct * p * (1 - p) * np.outer(x, x)
    error = np.sqrt(x @ np.linalg.pinv(information) @ x)
    assert abs(now.compare("m0", "m2").difference) / error == pytest.approx(2.801585, rel=0.01)
    assert plan.direct < plan.more


def test_separated_items_need_no_more():
    plan = votes_to_separate(palate.rank(battles(np.array([1.0, -1.0]), 500, 7)), "m0", "m1")
    assert plan.more == 0
    assert plan.direct == 0


def test_plans_that_make_no_sense_are_refused():
    data = palate.rank(battles(np.array([0.2, -0.2]), 100, 8))
    with pytest.raises(ConfigError, match=r"power is 1\.0; use a number between 0 and 1"):
        votes_to_separate(data, "m0", "m1", power=1.0)
    with pytest.raises(ConfigError, match="'m0' and 'm0' have equal strengths"):
        votes_to_separate(data, "m0", "m0")
    with pytest.raises(ConfigError, match="points is 0; give a difference other than 0"):
        votes_needed(0)
    with pytest.raises(ConfigError, match="items is 1"):
        votes_needed(10, 1)
    with pytest.raises(ConfigError, match="ties is 1"):
        votes_needed(10, ties=1)
