"""RewardBench scores: published weights, shared credit, and the subset with several right answers."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError, DataError
from palate.evaluate.reward_benchmarks import SECTIONS, best_of_credit, reward_bench, ties_score

EVERY = {name: 1.0 for subsets in SECTIONS.values() for name in subsets}


def test_sections_weigh_as_published():
    totals = {section: sum(subsets.values()) for section, subsets in SECTIONS.items()}
    assert totals == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968}


def test_sections_are_weighted_and_their_mean_is_plain():
    scores = reward_bench(EVERY | {"alpacaeval-easy": 0.0, "math-prm": 0.5})
    assert scores["Chat"] == pytest.approx(258 / 358)
    assert scores["Reasoning"] == pytest.approx(0.75)
    assert scores["overall"] == pytest.approx((258 / 358 + 1 + 1 + 0.75) / 4)


def test_credit_is_shared_by_those_at_the_top():
    scores = [[3, 1, 2, 0], [2, 2, 1, 0], [1, 2, 0, 0], [5, 5, 5, 5]]
    assert best_of_credit(scores).tolist() == [1.0, 0.5, 0.0, 0.25]
    assert best_of_credit(scores, right=1).tolist() == [0.0, 0.5, 1.0, 0.25]


def test_the_score_of_ties_can_exceed_one():
    # Right answers spread over 0.5, gaps of 1.5 and 2 to the wrong ones.
    found = ties_score([[2.0, 1.5]], [[0.0, -1.0]], [2.0], [[0.0]])
    assert found == pytest.approx(1.009640, abs=1e-6)


def test_its_parts_are_what_they_say():
    # The second question has a wrong answer above a right one, and its reference is wrong.
    right, wrong = [[2.0, 1.5], [1.0, 0.0]], [[0.0], [0.5]]
    found = ties_score(right, wrong, [2.0, 0.0], [[0.0], [1.0]])
    small = np.tanh(1.5 / 0.5 - 1), np.tanh(-1.0 / 1.0 - 1)
    assert found == pytest.approx(0.15 + 0.15 + 0.1 + 0.1 + 0.01 * np.mean(small))


def test_no_spread_at_all_is_its_limit():
    assert ties_score([[1.0, 1.0]], [[0.0]], [1.0], [[0.0]]) == pytest.approx(1.01)
    assert ties_score([[1.0, 1.0]], [[2.0]], [1.0], [[0.0]]) == pytest.approx(0.3 - 0.01)
    assert ties_score([[1.0, 1.0]], [[1.0]], [1.0], [[0.0]]) == pytest.approx(0.3 + 0.01 * np.tanh(-1))


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="unknown subset of RewardBench 'chat'"):
        reward_bench({"chat": 1.0})
    with pytest.raises(ConfigError, match="no accuracy for mt-bench-hard"):
        reward_bench({name: 1.0 for name in EVERY if name != "mt-bench-hard"})
    with pytest.raises(ConfigError, match=r"the accuracy of math-prm is 70\.0"):
        reward_bench(EVERY | {"math-prm": 70.0})
    with pytest.raises(ConfigError, match=r"scores have shape \(2,\)"):
        best_of_credit([1, 2])
    with pytest.raises(DataError, match="row 2, field 'scores': a score is not a number"):
        best_of_credit([[1, 2], [np.nan, 1]])
    with pytest.raises(DataError, match="there are 1, 1, 1, 2 questions"):
        ties_score([[1.0]], [[0.0]], [1.0], [[0.0], [0.0]])
    with pytest.raises(DataError, match="row 1: a question lacks right or wrong answers"):
        ties_score([[]], [[0.0]], [1.0], [[0.0]])
