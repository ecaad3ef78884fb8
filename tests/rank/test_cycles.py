"""Cycles and lack of fit: found where they are, not where there is only noise."""

from __future__ import annotations

import numpy as np
import pytest

import palate
from palate.data import PreferenceData
from palate.rank import count
from palate.rank.cycles import find_cycles, transitivity


def votes(shares, n):
    """n votes for each pair (a, b): share, so many of them for a."""
    items, scores = [], []
    for (a, b), share in shares.items():
        won = round(share * n)
        items += [[a, b]] * n
        scores += [[1.0, 0.0]] * won + [[0.0, 1.0]] * (n - won)
    return PreferenceData.from_columns({"items": items, "scores": scores})


def simulated(gap, size, n, seed):
    rng = np.random.default_rng(seed)
    theta = np.arange(size) * gap
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < 1 / (1 + np.exp(theta[b] - theta[a]))
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": list(np.stack([won, ~won], axis=1).astype(float)),
        }
    )


def test_a_cycle_is_named_in_the_direction_of_its_wins():
    data = votes({("rock", "scissors"): 0.8, ("paper", "scissors"): 0.2, ("paper", "rock"): 0.75}, 100)
    found = find_cycles(count(data))
    assert found.height == 1
    row = found.row(0, named=True)
    circle = (row["a"], row["b"], row["c"])
    beats = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}
    assert {circle[:2], circle[1:], (circle[2], circle[0])} == beats
    shares = {
        circle[:2]: row["share_ab"],
        circle[1:]: row["share_bc"],
        (circle[2], circle[0]): row["share_ca"],
    }
    assert shares == pytest.approx(
        {("rock", "scissors"): 0.8, ("scissors", "paper"): 0.8, ("paper", "rock"): 0.75}
    )
    assert row["p_adjusted"] < 1e-6


def test_a_cycle_of_narrow_majorities_is_seen_but_not_believed():
    found = find_cycles(count(votes({("a", "b"): 0.52, ("b", "c"): 0.52, ("c", "a"): 0.52}, 50)))
    assert found.height == 1
    assert found["p"][0] > 0.3


def test_an_order_has_no_cycle():
    assert find_cycles(count(votes({("a", "b"): 0.7, ("b", "c"): 0.7, ("a", "c"): 0.8}, 50))).height == 0


def test_cycles_are_rarely_found_where_all_items_are_equal():
    found = [transitivity_of(simulated(0.0, 8, 4000, seed))["cycles_significant"] > 0 for seed in range(100)]
    assert np.mean(found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def transitivity_of(data):
    model = palate.rank.BradleyTerry().fit(data)
    pairs = model.comparisons_
    return transitivity(pairs, model.link(model.strengths_[pairs.first] - model.strengths_[pairs.second]))


def test_lack_of_fit_has_the_level_it_states_where_the_model_holds():
    p = [transitivity_of(simulated(0.2, 6, 3000, seed))["lack_of_fit_p"] for seed in range(200)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 200))
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)


def test_the_board_says_what_no_order_can_describe():
    data = votes(
        {
            ("a", "b"): 0.8,
            ("b", "c"): 0.8,
            ("c", "a"): 0.8,
            ("d", "a"): 0.6,
            ("d", "b"): 0.6,
            ("d", "c"): 0.6,
        },
        100,
    )
    board = palate.rank(data)
    found = board.diagnostics["transitivity"]
    assert found["triads"] == 4
    assert found["cycles_significant"] == 1
    assert set(found["worst_cycle"]) == {"a", "b", "c"}
    assert found["lack_of_fit_p"] < 1e-6
    assert any("beats" in line and "no order" in line for line in board.diagnostics["advice"])


def test_rare_pairs_and_two_items_have_nothing_to_test():
    found = transitivity_of(votes({("a", "b"): 0.6}, 50))
    assert found == {
        "triads": 0, "cycles": 0, "cycles_significant": 0, "worst_cycle": None, "lack_of_fit_p": None
    }  # fmt: skip
    assert find_cycles(count(votes({("a", "b"): 0.6, ("b", "c"): 0.6, ("c", "a"): 0.6}, 5))).height == 0
