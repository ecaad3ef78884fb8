"""Best of n and over-optimisation, against enumeration and known distributions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.evaluate import (
    best_of_n,
    best_of_n_kl,
    best_of_n_report,
    gold_law,
    over_optimisation,
    selection_weights,
    tilted,
)
from palate.evaluate.best_of_n import log_spaced
from palate.judges import LengthJudge
from palate.judges.base import Comparison, Judge
from palate.reward import RewardModel


def by_enumeration(scores: list[float], n: int) -> np.ndarray[Any, Any]:
    chance = np.zeros(len(scores))
    draws = list(itertools.combinations(range(len(scores)), n))
    for drawn in draws:
        top = max(scores[i] for i in drawn)
        best = [i for i in drawn if scores[i] == top]
        chance[best] += 1 / len(best) / len(draws)
    return chance


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(1, 7))
def test_weights_are_those_of_all_draws_without_replacement(scores: list[int], n: int) -> None:
    n = min(n, len(scores))
    pool = np.array([[*map(float, scores), np.nan]])
    expected = [*by_enumeration([float(x) for x in scores], n), 0.0]
    assert selection_weights(pool, n)[0] == pytest.approx(expected, abs=1e-12)


def test_the_divergence_is_log_n_less_a_bit() -> None:
    assert best_of_n_kl([1, 2, 16, 64]) == pytest.approx([0.0, 0.193147, 1.835089, 3.174508], abs=1e-6)
    with pytest.raises(ConfigError, match="n must be 1 or more"):
        best_of_n_kl(0)


def test_n_runs_over_powers_of_two_and_the_pool() -> None:
    assert [log_spaced(n) for n in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


def test_the_best_of_n_normals_is_as_good_as_their_order_statistic_says() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(1500, 400))
    rho = 0.6
    proxy = rho * gold + np.sqrt(1 - rho**2) * rng.normal(size=gold.shape)
    table = best_of_n({"proxy": proxy, "gold": gold}, gold, [1, 2, 4, 16])
    for row in table.iter_rows(named=True):
        n = row["n"]
        most = integrate.quad(lambda x, n=n: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -9, 9)
        share = rho if row["judge"] == "proxy" else 1.0
        assert row["gain"] == pytest.approx(share * most[0], abs=0.01)
        assert row["gain_lower"] <= row["gain"] <= row["gain_upper"]
    last = table.filter(pl.col("n") == 16)
    assert last["share_of_best"].to_list() == [pytest.approx(rho, abs=0.01), 1.0]


def test_one_of_one_is_the_mean_and_the_whole_pool_gives_its_maximum() -> None:
    scores = [[1.0, 5.0, 3.0], [2.0, np.nan, 0.0]]
    table = best_of_n({"own": scores}, scores, [1, 2])
    assert table["gold"].to_list() == pytest.approx([(3.0 + 1.0) / 2, (13 / 3 + 2.0) / 2])
    assert best_of_n({"own": scores}, scores)["n"].to_list() == [1, 2]


@dataclass
class Longest(Judge):
    """Only compares, and prefers the longer text."""

    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        return Comparison(np.array([float(len(x) > len(y)) for x, y in zip(a, b, strict=True)]))


def test_judges_of_texts_pick_whether_they_score_or_compare() -> None:
    pools = [["a", "bbb", "cc"], ["dddd", "e", "ff"]]
    judges = {"longer": LengthJudge(), "compares": Longest(), "shorter": LengthJudge(prefer="shorter")}
    report = best_of_n_report(judges, LengthJudge(), ["p", "q"], pools)
    assert report.metrics["share_of_best/longer"] == 1.0
    assert report.metrics["share_of_best/compares"] == 1.0
    assert report.metrics["gain/shorter"] == pytest.approx(1.0 - (2 + 7 / 3) / 2)
    assert "best_of_n" in report.figures


def test_pools_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(DataError, match="row 2, field 'scores': the best of 3 needs pools of 3 or more"):
        selection_weights([[1.0, 2.0, 3.0], [1.0, 2.0, np.nan]], 3)
    with pytest.raises(DataError, match="row 1, field 'a': a sample lacks the score or the gold"):
        best_of_n({"a": [[1.0, np.nan]]}, [[1.0, 2.0]])
    with pytest.raises(DataError, match="row 2, field 'gold': a prompt has no sample"):
        best_of_n({"a": [[1.0], [np.nan]]}, [[1.0], [np.nan]])
    with pytest.raises(ConfigError, match=r"a has scores of shape \(1, 2\)"):
        best_of_n({"a": [[1.0, 2.0]]}, [[1.0]])
    with pytest.raises(ConfigError, match="there is no proxy"):
        best_of_n({}, [[1.0]])


# -- over-optimisation --


def test_a_law_is_recovered_from_points_on_it() -> None:
    d = np.linspace(0.1, 3.0, 8)
    best = gold_law(d**2, d * (1.2 - 0.4 * d))
    assert (best.alpha, best.beta, best.peak, best.r2) == pytest.approx((1.2, 0.4, 1.5, 1.0))
    trained = gold_law(d**2, d * (1.0 - 0.5 * np.log(d)), "rl")
    assert (trained.alpha, trained.beta, trained.peak) == pytest.approx((1.0, 0.5, np.e))
    assert gold_law(d**2, 2 * d + d**2).peak == np.inf
    with pytest.raises(DataError, match="2 divergences above 0 do not show a curve"):
        gold_law([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    with pytest.raises(DataError, match="row 2, field 'kl'"):
        gold_law([1.0, np.nan, 2.0], [0.0, 1.0, 2.0])


def test_the_penalised_policy_is_the_best_one_for_its_penalty() -> None:
    rng = np.random.default_rng(0)
    proxy, temperature = rng.normal(size=(1, 6)), 0.7
    step = tilted(proxy, proxy, [temperature])[0]
    value = float(step.proxy[0] - temperature * step.kl[0])
    log_mean = temperature * (np.log(np.exp(proxy / temperature).mean()))
    assert value == pytest.approx(log_mean)
    for other in rng.dirichlet(np.ones(6), 200):
        assert (other * proxy[0]).sum() - temperature * (other * np.log(6 * other)).sum() <= value + 1e-9


def simulated(seed: int, prompts: int = 150, samples: int = 128) -> tuple[Any, Any]:
    """Responses with two features; the gold reward falls where the second goes far from 0."""
    x = np.random.default_rng(seed).normal(size=(prompts, samples, 2))
    return x, x[..., 0] - 0.35 * x[..., 1] ** 2


def test_a_reward_model_that_took_a_trick_for_quality_is_over_optimised() -> None:
    """Its labels come from responses among which more of the second feature was better."""
    x, gold = simulated(0, 1500)
    rng = np.random.default_rng(1)
    features = rng.normal([0.0, -2.0], size=(400, 2, 2))
    value = features[..., 0] - 0.35 * features[..., 1] ** 2
    first = rng.random(400) < 1 / (1 + np.exp(value[:, 1] - value[:, 0]))
    labels = np.stack([first, ~first], axis=1).astype(float)
    data = PreferenceData.from_columns({"features": features.tolist(), "scores": labels.tolist()})
    model = RewardModel("features", l2=1e-3).fit(data)
    scores = model.score_features(x.reshape(-1, 2)).reshape(gold.shape)
    report = over_optimisation({"fitted": scores, "gold": gold}, gold)
    laws = {(row["judge"], row["way"]): row for row in report.tables["laws"].iter_rows(named=True)}
    assert laws["fitted", "best of n"]["certain"]
    for way in ("best of n", "penalised"):
        assert laws["fitted", way]["at_sqrt_kl"] < laws["gold", way]["at_sqrt_kl"]
        assert not laws["gold", way]["certain"]
        assert laws["gold", way]["fall"] == 0.0
    curve = report.tables["over_optimisation"].filter(judge="fitted", way="best of n")
    assert curve["proxy"].is_sorted()
    assert 0 < laws["fitted", "best of n"]["peak"] < curve["sqrt_kl"][-1]
    assert report.metrics["fall/gold"] == 0.0
    assert any("which is certain" in note for note in report.notes)
    assert "over_optimisation" in report.figures


def test_checkpoints_stand_beside_the_curves_in_the_same_units() -> None:
    x, gold = simulated(2, 40, 32)
    proxy = 2.0 * x[..., 0]
    points = [
        {"judge": "p", "kl": kl, "proxy": proxy.mean() + kl, "gold": gold.mean() + 0.5} for kl in (1, 4)
    ]
    table = over_optimisation({"p": proxy}, gold, checkpoints=points).tables["over_optimisation"]
    trained = table.filter(way="trained")
    assert trained["sqrt_kl"].to_list() == [1.0, 2.0]
    assert trained["proxy"].to_list() == pytest.approx([1 / proxy.std(), 4 / proxy.std()])
    assert trained["gold"].to_list() == pytest.approx([0.5, 0.5])
    with pytest.raises(ConfigError, match="checkpoint 1 lacks gold"):
        over_optimisation({"p": proxy}, gold, checkpoints=[{"judge": "p", "kl": 1.0, "proxy": 0.0}])
    with pytest.raises(ConfigError, match="checkpoints of unknown proxies: q"):
        over_optimisation({"p": proxy}, gold, checkpoints=[{"judge": "q"}])
    with pytest.raises(DataError, match="field 'p': the proxy gives all samples one score"):
        over_optimisation({"p": np.ones((2, 3))}, np.ones((2, 3)))
    with pytest.raises(ConfigError, match="temperatures must be above 0"):
        tilted(proxy, gold, [0.0])
