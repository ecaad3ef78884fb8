"""LambdaRank and differentiable NDCG, Spearman and Kendall against the metrics they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, norm, somersd, spearmanr
from sklearn.metrics import ndcg_score

from palate import losses
from palate.errors import ConfigError, DataError

GRADES = np.array([3.0, 1.0, 0.0, 2.0, 2.0, 0.0, 4.0])
SMOOTH = ["approx_ndcg", "soft_rank", "soft_spearman", "soft_kendall"]
seeds = st.integers(0, 10_000)


def scores_of(seed: int, n: int = 7) -> np.ndarray:
    """n scores with gaps of 0.5 or more between them."""
    rng = np.random.default_rng(seed)
    return rng.permutation(n) + rng.uniform(-0.25, 0.25, n)


def found(name: str, scores: np.ndarray, labels: np.ndarray, **params: object) -> float:
    value: torch.Tensor = losses.get(name, **params)(torch.tensor(scores[None]), torch.tensor(labels[None]))
    return value.item()


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_at_temperature_0_they_are_the_metrics(seed):
    s, cold = scores_of(seed), 1e-4
    order = np.random.default_rng(seed).permutation(7).astype(float)
    for name in ("approx_ndcg", "soft_rank"):
        exponential = ndcg_score([2**GRADES - 1], [s])
        assert found(name, s, GRADES, temperature=cold) == pytest.approx(1 - exponential, abs=1e-9)
        linear = found(name, s, GRADES, temperature=cold, gain="linear")
        assert linear == pytest.approx(1 - ndcg_score([GRADES], [s]), abs=1e-9)
    for labels in (GRADES, order):
        rho = spearmanr(s, labels).statistic
        assert found("soft_spearman", s, labels, temperature=cold) == pytest.approx(1 - rho, abs=1e-9)
    tau, somers = kendalltau(s, order).statistic, somersd(GRADES, s).statistic
    assert found("soft_kendall", s, order, temperature=cold) == pytest.approx(1 - tau, abs=1e-9)
    assert found("soft_kendall", s, GRADES, temperature=cold) == pytest.approx(1 - somers, abs=1e-9)


def test_worked_values_at_temperature_1():
    s, y = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    ahead = 1 / (1 + math.exp(-1))
    assert found("approx_ndcg", s, y) == pytest.approx(1 - 1 / math.log2(2 + ahead))
    wins = norm.cdf(-1 / math.sqrt(2))  # that the relevant one stands first
    assert found("soft_rank", s, y) == pytest.approx(1 - wins - (1 - wins) / math.log2(3))
    assert found("soft_kendall", s, y) == pytest.approx(1 + math.tanh(1))
    assert found("soft_spearman", s, y) == pytest.approx(1 + (1 - 2 * wins))


def test_the_temperature_is_in_units_of_the_scores():
    s = scores_of(3)
    for name in SMOOTH:
        assert found(name, 10 * s, GRADES, temperature=20.0) == pytest.approx(
            found(name, s, GRADES, temperature=2.0)
        )


def test_soft_rank_of_two_is_the_expectation_under_normal_noise():
    rng = np.random.default_rng(0)
    s, y = np.array([0.3, 0.0]), np.array([1.0, 2.0])
    noisy = s + 0.5 * rng.normal(size=(200_000, 2))
    second_first = (noisy[:, 1] > noisy[:, 0]).mean()
    gains, low = np.array([1.0, 3.0]), 1 / math.log2(3)
    expected = second_first * 1 + (1 - second_first) * (gains[0] + gains[1] * low) / (
        gains[1] + gains[0] * low
    )
    assert 1 - found("soft_rank", s, y, temperature=0.5) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("top", [None, 3])
def test_lambdarank_weighs_a_pair_by_what_exchanging_it_changes_in_the_ndcg(top):
    s = scores_of(5)
    gains = 2**GRADES - 1
    now = ndcg_score([gains], [s], k=top)
    total = 0.0
    for i in range(7):
        for j in range(7):
            if GRADES[i] > GRADES[j]:
                swapped = s.copy()
                swapped[[i, j]] = s[[j, i]]
                change = abs(ndcg_score([gains], [swapped], k=top) - now)
                total += change * math.log1p(math.exp(-2.0 * (s[i] - s[j])))
    assert found("lambdarank", s, GRADES, top=top, scale=2.0) == pytest.approx(total, rel=1e-9)


def test_the_second_scheme_of_lambdaloss_weighs_by_the_distance_of_ranks():
    s = scores_of(6)
    rank = (-s).argsort().argsort() + 1

    def discount(r: float) -> float:
        return 1 / math.log2(1 + r)

    ideal = sum(g * discount(r) for r, g in enumerate(sorted(GRADES, reverse=True), 1))
    total = 0.0
    for i in range(7):
        for j in range(7):
            if GRADES[i] > GRADES[j]:
                m = abs(rank[i] - rank[j])
                weight = (discount(m) - discount(m + 1)) * (GRADES[i] - GRADES[j]) / ideal
                total += weight * math.log1p(math.exp(s[j] - s[i]))
    assert found("lambdarank", s, GRADES, scheme="ndcg2", gain="linear") == pytest.approx(total, rel=1e-9)


def test_equal_scores_are_ranked_at_their_worst_so_that_training_can_start():
    scores = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    losses.get("lambdarank")(scores, torch.tensor([[0.0, 2.0, 1.0]])).backward()
    assert scores.grad[0, 1] < scores.grad[0, 2] < scores.grad[0, 0]


def test_the_gain_by_rank_reads_the_order_of_labels_alone():
    s = scores_of(7)
    ranking = -np.array([1.0, 4.0, 6.5, 2.0, 3.0, 5.0, 9.0])
    for name in ("lambdarank", "approx_ndcg", "soft_rank"):
        one = found(name, s, ranking, gain="rank")
        assert one == pytest.approx(found(name, s, np.exp(ranking), gain="rank"))
        beaten = (ranking[:, None] > ranking).sum(1).astype(float)
        assert one == pytest.approx(found(name, s, beaten, gain="linear"))
        with pytest.raises(DataError, match=f"row 1, field 'targets': {name} wants grades of 0 or more"):
            found(name, s, ranking)
        with pytest.raises(DataError, match="at most 60 for gain='exponential', got 75; use gain='rank'"):
            found(name, s, 25 * GRADES)


@pytest.mark.parametrize("name", [*SMOOTH, "lambdarank", "listmle", "listnet", "ranklist"])
def test_following_the_gradient_sorts_a_list(name):
    scores = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[3.0, 1.0, 0.0, 2.5, 2.0, 0.5, 4.0]])
    # Exponential gains leave LambdaRank next to nothing to gain from the order of the lowest grades.
    params = {"gain": "rank"} if name == "lambdarank" else {}
    loss, optimiser = losses.get(name, **params), torch.optim.Adam([scores], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss(scores, labels).backward()
        optimiser.step()
    assert kendalltau(scores.detach()[0], labels[0]).statistic > 0.9


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("approx_ndcg", {"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ("soft_kendall", {"temperature": -1.0}, "temperature must be above 0, got -1.0"),
        ("soft_rank", {"gain": "log"}, "gain must be 'exponential', 'linear' or 'rank', got 'log'"),
        ("lambdarank", {"scheme": "ndcg3"}, "scheme must be 'lambdarank' or 'ndcg2', got 'ndcg3'"),
        ("lambdarank", {"top": 0}, "top must be at least 1, got 0"),
        ("lambdarank", {"top": 2, "scheme": "ndcg2"}, "top goes with scheme='lambdarank'"),
        ("lambdarank", {"scale": 0.0}, "scale must be above 0, got 0.0"),
        ("soft_spearman", {"gain": "linear"}, "unknown parameter of the loss 'soft_spearman': 'gain'"),
    ],
)
def test_a_wrong_value_is_refused_when_the_loss_is_built(name, params, message):
    with pytest.raises(ConfigError, match=message):
        losses.get(name, **params)
