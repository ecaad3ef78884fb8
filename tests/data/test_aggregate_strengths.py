"""Graded preferences of several annotators become one label (worked numbers of HelpSteer2-Preference)."""

from __future__ import annotations

import numpy as np
import pytest

from palate.data import aggregate_strengths
from palate.errors import DataError

NAN = float("nan")


def test_the_three_that_agree_most_make_the_label() -> None:
    made = aggregate_strengths(
        [[2, 2, 3, NAN, NAN], [-1, 1, 2, 2, 3], [-2, -1, 1, NAN, NAN], [1, -1, 0, NAN, NAN]]
    )
    assert made.label[:2].tolist() == [2.0, 2.0]
    assert np.isnan(made.label[2:]).all()
    assert made.mean[1] == pytest.approx(5 / 3)
    assert made.spread[2] == 3.0


def test_calling_the_other_response_first_turns_the_label_round() -> None:
    given = np.array([[2, 3, NAN], [1, 2, NAN], [-3, -2, -2]])
    assert aggregate_strengths(-given).label.tolist() == (-aggregate_strengths(given).label).tolist()
    assert aggregate_strengths(given).label.tolist() == [3.0, 2.0, -2.0]


def test_the_mark_of_invalid_pairs_is_no_strength() -> None:
    with pytest.raises(DataError, match=r"row 2, field 'strength': a strength of -100, beyond -3 to 3"):
        aggregate_strengths([[1, 2, 2], [-100, 1, 2]])
