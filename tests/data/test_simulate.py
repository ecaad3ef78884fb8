"""Simulations follow the models they name."""

from __future__ import annotations

import numpy as np
import pytest

from palate.data.simulate import simulate_battles, simulate_rankings, simulate_ratings, true_strengths
from palate.errors import ConfigError


def test_strengths_are_centred_and_keep_their_differences():
    assert true_strengths({"a": 3.0, "b": 1.0}) == {"a": 1.0, "b": -1.0}
    spaced = true_strengths(4)
    assert list(spaced) == ["item-1", "item-2", "item-3", "item-4"]
    assert sum(spaced.values()) == pytest.approx(0)
    assert list(spaced.values()) == sorted(spaced.values(), reverse=True)
    assert list(true_strengths(["x", "y"])) == ["x", "y"]


def outcome_shares(data, first="a"):
    """Shares of votes that `first` wins, loses and ties."""
    items = np.array(data.flat("items").to_pylist()).reshape(-1, 2)
    scores = data.scores.reshape(-1, 2)
    difference = np.where(items[:, 0] == first, 1, -1) * (scores[:, 0] - scores[:, 1])
    return [(difference > 0).mean(), (difference < 0).mean(), (difference == 0).mean()]


def test_votes_follow_bradley_terry_davidson_and_rao_kupper():
    strong, n = {"a": 0.4, "b": -0.4}, 60_000
    p, q = np.exp(0.4), np.exp(-0.4)
    cases = [
        ({}, [p / (p + q), q / (p + q), 0]),
        ({"ties": 0.7}, [p / (p + q + 0.7), q / (p + q + 0.7), 0.7 / (p + q + 0.7)]),
        ({"ties": 0.5, "tie_model": "rao_kupper"}, [p / (p + 1.5 * q), q / (q + 1.5 * p), None]),
    ]
    for options, expected in cases:
        found = outcome_shares(simulate_battles(n, strong, seed=1, **options))
        if expected[2] is None:
            expected[2] = 1 - expected[0] - expected[1]
        np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(n))


def test_ties_have_a_cause_and_equal_scores():
    data = simulate_battles(2000, 4, ties=1.0, seed=1)
    scores = data.scores.reshape(-1, 2)
    tied = scores[:, 0] == scores[:, 1]
    assert tied.any()
    np.testing.assert_array_equal(tied, data.column("tie").is_valid().to_numpy(zero_copy_only=False))
    assert set(data.column("annotator_kind").to_pylist()) == {"rule"}


def test_no_item_meets_itself_and_sides_are_even():
    items = np.array(simulate_battles(20_000, 5, seed=3).flat("items").to_pylist()).reshape(-1, 2)
    assert (items[:, 0] != items[:, 1]).all()
    counts = np.unique(items[:, 0], return_counts=True)[1]
    assert np.abs(counts / 20_000 - 0.2).max() < 0.012


def test_spammers_guess_and_adversaries_invert():
    data = simulate_battles(
        60_000, {"a": 0.8, "b": -0.8}, annotators=10, spammers=0.2, adversaries=0.3, seed=2
    )
    names = data.column("annotator").to_pylist()
    kinds = np.array([name.split("-")[0] for name in names])
    named = {kind: len({name for name in names if name.startswith(kind)}) for kind in set(kinds)}
    assert named == {"spammer": 2, "adversary": 3, "honest": 5}
    win = 1 / (1 + np.exp(-1.6))
    for kind, expected in (("honest", win), ("spammer", 0.5), ("adversary", 1 - win)):
        assert abs(outcome_shares(data.mask(kinds == kind))[0] - expected) < 0.02


def test_position_bias_is_a_log_odds_for_the_first():
    data = simulate_battles(40_000, {"a": 0.0, "b": 0.0}, position_bias=0.5, seed=1)
    first = (data.scores.reshape(-1, 2)[:, 0] == 1).mean()
    assert abs(first - 1 / (1 + np.exp(-0.5))) < 0.01


def test_rankings_follow_plackett_luce():
    strengths = {"a": 0.6, "b": 0.0, "c": -0.6}
    top = simulate_rankings(30_000, strengths, seed=1).rankings()["items"].list.first()
    weight = np.exp(list(true_strengths(strengths).values()))
    for name, expected in zip(strengths, weight / weight.sum(), strict=True):
        assert abs((top == name).mean() - expected) < 0.012


def test_partial_rankings_rank_k_items_once_each():
    data = simulate_rankings(500, 9, k=4, seed=1)
    ranks = -data.scores.reshape(-1, 4)
    np.testing.assert_array_equal(np.sort(ranks, axis=1), np.tile([1, 2, 3, 4], (500, 1)))
    assert all(len(set(row)) == 4 for row in data.column("items").to_pylist())


def test_ratings_stay_on_the_scale_and_agree_more_with_less_noise():
    noisy, clear = (simulate_ratings(150, noise=noise, bias=0.1, seed=1) for noise in (1.5, 0.2))
    assert set(noisy.scores) == {1, 2, 3, 4, 5}
    assert noisy.agreement(level="interval").value + 0.3 < clear.agreement(level="interval").value
    assert len(simulate_ratings(100, annotators=10, missing=0.3, seed=1)) == pytest.approx(700, abs=60)


def test_simulations_follow_the_seed():
    for simulate in (lambda s: simulate_battles(200, 5, seed=s), lambda s: simulate_rankings(50, 5, seed=s),
                     lambda s: simulate_ratings(20, seed=s)):  # fmt: skip
        assert simulate(1) == simulate(1)
        assert simulate(1) != simulate(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate_battles(10, 1), "needs at least two items; got 1"),
        (lambda: simulate_battles(10, {"a": 1.0, "b": float("inf")}), "needs finite strengths"),
        (lambda: simulate_battles(10, 3, ties=-1), "ties must be 0 or more; got -1"),
        (lambda: simulate_battles(10, 3, tie_model="none"), "unknown tie model 'none'"),
        (lambda: simulate_battles(10, 3, spammers=0.7, adversaries=0.7), "sum to 1 at most"),
        (lambda: simulate_rankings(10, 3, k=4), "k must lie between 2 and the number of items, 3; got 4"),
        (lambda: simulate_ratings(10, levels=1), "at least two levels"),
    ],
)
def test_impossible_simulations_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
