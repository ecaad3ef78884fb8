"""Calibration errors with their worked numbers, in one order of the pair and in both."""

from __future__ import annotations

import numpy as np
import pytest

from palate import evaluate

STATED = [0.95, 0.85, 0.65, 0.55, 0.35]
HAPPENED = [1, 1, 0, 1, 0]


def test_worked_errors_in_one_order_and_in_both():
    assert evaluate.expected_calibration_error(STATED, HAPPENED) == pytest.approx(0.33)
    assert evaluate.expected_calibration_error(STATED, HAPPENED, symmetric=True) == pytest.approx(0.19)
    # One answer to a bin: gaps of .05, .15, .65, .45, .35.
    assert evaluate.average_calibration_error(STATED, HAPPENED) == pytest.approx(0.33)
    assert evaluate.maximum_calibration_error(STATED, HAPPENED) == pytest.approx(0.65)
    # In both orders .65 did not happen once and, as 1 - .35, did once: a half, and a gap of .15.
    both = evaluate.reliability(STATED, HAPPENED, symmetric=True)
    assert both["n"].to_list() == [1, 1, 2, 1, 1, 2, 1, 1]


def test_average_and_maximum_count_bins_not_answers():
    p, y = [0.85] * 4 + [0.25], [1, 1, 1, 0, 1]
    assert evaluate.expected_calibration_error(p, y) == pytest.approx((4 * 0.10 + 0.75) / 5)
    assert evaluate.average_calibration_error(p, y) == pytest.approx((0.10 + 0.75) / 2)
    assert evaluate.maximum_calibration_error(p, y) == pytest.approx(0.75)


def test_probabilities_that_come_true_as_often_as_stated_have_no_error():
    p, y = np.repeat([0.25, 0.75], 4), [1, 0, 0, 0, 1, 1, 1, 0]
    for error in (
        evaluate.expected_calibration_error, evaluate.average_calibration_error,
        evaluate.maximum_calibration_error,
    ):  # fmt: skip
        assert error(p, y) == pytest.approx(0)
        assert error(p, y, symmetric=True) == pytest.approx(0)
        assert np.isnan(error([np.nan], [1]))


def test_both_orders_are_what_the_preferred_side_says_in_bins_of_the_same_width():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = (rng.random(500) < p**2).astype(float)
    side = np.where(p > 0.5, p, 1 - p)
    right = np.where(p > 0.5, y, 1 - y)
    assert evaluate.expected_calibration_error(p, y, 20, symmetric=True) == pytest.approx(
        evaluate.expected_calibration_error(side, right, 10, low=0.5)
    )


def test_with_the_chosen_side_first_one_order_says_only_how_sure_a_judge_is():
    p = np.random.default_rng(1).random(300)
    assert evaluate.expected_calibration_error(p, np.ones(300)) == pytest.approx(1 - p.mean())
    assert evaluate.expected_calibration_error(p, np.ones(300), symmetric=True) > 0.2
