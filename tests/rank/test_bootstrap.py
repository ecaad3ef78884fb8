"""The bootstrap from counts: what it draws, how replicates are refitted, how wide its intervals are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import palate
from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.rank import BradleyTerry, count
from palate.rank import bootstrap as bootstrap_module
from palate.rank.bootstrap import bootstrap
from palate.rank.likelihood import maximise
from palate.rank.links import DavidsonTies, GlennDavidTies, Logistic, Probit, RaoKupperTies


def battles(n=1500, size=8, seed=0, ties=0.3, **columns):
    rng = np.random.default_rng(seed)
    theta = np.linspace(-1, 1, size)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    gap = theta[a] - theta[b] + rng.logistic(0, 1, n)
    scores = np.stack([gap > -ties, gap < ties], axis=1).astype(float)
    items = [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)]
    return PreferenceData.from_columns({"items": items, "scores": list(scores), **columns})


@pytest.fixture(scope="module")
def votes():
    return battles()


def test_compiled_poisson_draws_have_the_poisson_distribution():
    from palate.rank import _bootstrap_kernels as kernels

    means = np.array([0.3, 1.0, 2.5, 17.0, 400.0])
    tables = kernels.poisson_tables(means)
    which = np.tile(np.arange(5, dtype=np.int32), 40)
    drawn = np.empty((2000, 200))
    seeds = np.random.default_rng(0).integers(0, 2**63, 2000, dtype=np.uint64)
    kernels.draw_cells(which, np.ones(200), *tables, seeds, drawn)
    for k, mean in enumerate(means):
        values = drawn[:, which == k].ravel().astype(int)
        top = int(stats.poisson.ppf(0.999, mean))
        edges = np.unique(stats.poisson.ppf(np.linspace(0.05, 0.95, 10), mean).astype(int))
        observed = np.bincount(np.searchsorted(edges, np.minimum(values, top)), minlength=len(edges) + 1)
        cumulative = np.concatenate([[0], stats.poisson.cdf(edges, mean), [1]])
        assert stats.chisquare(observed, np.diff(cumulative) * len(values)).pvalue > 1e-4
    across = np.corrcoef(drawn.T)[np.triu_indices(200, 1)]
    assert np.abs(across).max() < 6 / np.sqrt(2000)


def test_compiled_draws_are_those_of_the_plain_form():
    """Inversion of the cumulative distribution at the same uniform numbers."""
    from palate.rank import _bootstrap_kernels as kernels

    means = np.array([0.7, 30.0])
    which = np.array([0, -1, 1, 1], dtype=np.int32)
    seeds = np.array([5, 2**62 + 11], dtype=np.uint64)
    drawn = np.empty((2, 4))
    kernels.draw_cells(which, np.array([1.0, 1.0, 0.5, 2.0]), *kernels.poisson_tables(means), seeds, drawn)
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15
    for b, seed in enumerate(seeds.tolist()):
        state, expected = seed, []
        for k, scale in zip(which, (1.0, 1.0, 0.5, 2.0), strict=True):
            if k < 0:
                expected.append(0.0)
                continue
            state = (state + golden) & mask
            z = state
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
            uniform = ((z ^ (z >> 31)) >> 11) / 2**53
            expected.append(scale * stats.poisson.ppf(uniform, means[k]))
        np.testing.assert_allclose(drawn[b], expected)


@pytest.mark.parametrize(
    "link", [Logistic(), Probit(), DavidsonTies(), RaoKupperTies(), GlennDavidTies()],
    ids=lambda link: type(link).__name__,
)  # fmt: skip
def test_each_replicate_is_a_full_refit(votes, link, monkeypatch):
    counted = count(votes)
    fitted = maximise(counted, link)
    drawn = []
    monkeypatch.setattr(bootstrap_module, "_Resampler", _recording(drawn))
    found = bootstrap(counted, link, fitted, 0.0, 6, seed=1)
    from dataclasses import replace

    weights = np.concatenate([w for _, w in sorted(drawn, key=lambda entry: entry[0])])
    for b in range(6):
        exact = maximise(replace(counted, weight=weights[b]), link)
        np.testing.assert_allclose(found.theta[:, b], exact.theta, atol=1e-6)
        assert found.tie[b] == pytest.approx(exact.tie, abs=1e-6)


def _recording(drawn):
    class Recording(bootstrap_module._Resampler):
        def __call__(self, begin, n):
            weight = super().__call__(begin, n)
            drawn.append((begin, weight.copy()))
            return weight

    return Recording


def test_spread_agrees_with_the_sandwich(votes):
    boot = BradleyTerry(interval="bootstrap", replicates=4000).fit(votes)
    sandwich = BradleyTerry().fit(votes)
    np.testing.assert_allclose(boot.strengths_, sandwich.strengths_)
    np.testing.assert_allclose(
        np.cov(boot.draws_), sandwich.covariance_, atol=0.1 * sandwich.covariance_.max()
    )
    one, other = boot.leaderboard().table, sandwich.leaderboard().table
    np.testing.assert_allclose(one["lower"], other["lower"], atol=4)
    np.testing.assert_allclose(one["upper"], other["upper"], atol=4)
    assert boot.leaderboard().interval("m0") == pytest.approx(
        tuple(one.filter(item="m0").select("lower", "upper").row(0))
    )


def test_clusters_are_resampled_as_a_whole():
    user = np.repeat(np.arange(100), 15)
    votes = battles(annotator=[f"u{u}" for u in user])
    # Each user casts the same fifteen votes again: twice the votes, no more evidence.
    twice = PreferenceData.concat([votes, votes])
    once, again = (
        BradleyTerry(interval="bootstrap", cluster="annotator", replicates=1500).fit(data)
        for data in (votes, twice)
    )
    clustered = BradleyTerry(cluster="annotator").fit(votes)
    np.testing.assert_allclose(again.draws_.std(axis=1), once.draws_.std(axis=1), rtol=1e-6)
    np.testing.assert_allclose(once.draws_.std(axis=1), np.sqrt(np.diag(clustered.covariance_)), rtol=0.12)


def test_rankings_are_resampled_as_a_whole():
    rng = np.random.default_rng(2)
    utility = np.linspace(0, 1, 5) + rng.gumbel(0, 1, (400, 5))
    data = PreferenceData.from_columns(
        {"items": [list("abcde")] * 400, "scores": list(utility), "weight": rng.uniform(0.5, 2, 400)}
    )
    boot, sandwich = BradleyTerry(interval="bootstrap").fit(data), BradleyTerry().fit(data)
    np.testing.assert_allclose(boot.draws_.std(axis=1), np.sqrt(np.diag(sandwich.covariance_)), rtol=0.12)


def test_weights_keep_their_variance():
    rng = np.random.default_rng(4)
    votes = battles(weight=rng.choice([0.1, 1.0, 6.0], 1500))
    boot, sandwich = BradleyTerry(interval="bootstrap").fit(votes), BradleyTerry().fit(votes)
    np.testing.assert_allclose(boot.draws_.std(axis=1), np.sqrt(np.diag(sandwich.covariance_)), rtol=0.12)


def test_one_seed_gives_one_result_whatever_the_blocks(votes, monkeypatch):
    once = BradleyTerry(interval="bootstrap", replicates=50, seed=3).fit(votes).draws_
    monkeypatch.setattr(bootstrap_module, "_BLOCK", 1)
    np.testing.assert_array_equal(
        BradleyTerry(interval="bootstrap", replicates=50, seed=3).fit(votes).draws_, once
    )
    other = BradleyTerry(interval="bootstrap", replicates=50, seed=4).fit(votes).draws_
    assert not np.array_equal(other, once)


def test_replicates_without_a_finite_estimate_are_counted_and_said():
    wins = [["a", "b"]] * 12 + [["b", "c"]] * 12 + [["a", "c"]] * 12
    scores = ([[1.0, 0.0]] * 11 + [[0.0, 1.0]]) * 3
    board = palate.rank(
        PreferenceData.from_columns({"items": wins, "scores": scores}), interval="bootstrap", replicates=200
    )
    assert 0 < board.diagnostics["degenerate_replicates"] < 200
    assert any("bootstrap replicates had no finite estimate" in line for line in board.diagnostics["advice"])
    assert np.isfinite(board.draws).all()


def test_the_bootstrap_is_refused_for_very_many_items(votes, monkeypatch):
    monkeypatch.setattr(bootstrap_module, "DENSE_ITEMS", 5)
    with pytest.raises(ConfigError, match="bootstrap intervals need at most 5 items"):
        palate.rank(votes, interval="bootstrap")
