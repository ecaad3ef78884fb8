"""Exact tests between settings, and accuracy on pairs with tied labels."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError, DataError
from palate.evaluate.paired_setting import paired_setting_test
from palate.evaluate.pairwise_alignment import pairwise_alignment


def test_sixty_wins_of_a_hundred_are_tested_exactly():
    assert paired_setting_test(60, 40).p == pytest.approx(0.028444, abs=1e-6)
    assert paired_setting_test(40, 60).p == pytest.approx(0.982400, abs=1e-6)


def test_ties_are_dropped_or_split_into_whole_votes():
    assert paired_setting_test(60, 40, ties=11) == paired_setting_test(60, 40)
    assert paired_setting_test(60, 40, 11, "half") == paired_setting_test(65, 45)
    assert paired_setting_test(0, 0, 2, "half") == (0.5, 0.75, 2)


def test_votes_that_cannot_be_tested():
    with pytest.raises(DataError, match="no votes are left to test"):
        paired_setting_test(0, 0, 5)
    for wins in (-1, 2.5):
        with pytest.raises(DataError, match=r"field 'wins': .* is no number of votes"):
            paired_setting_test(wins, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown ties_rule 'keep'"):
        paired_setting_test(1, 1, ties_rule="keep")  # type: ignore[arg-type]


def test_a_tied_label_is_worth_a_half_and_an_equal_preference_nothing_or_a_half():
    preference, label = [0.7, 0.4, 0.5], [1, 0.5, 1]
    assert pairwise_alignment(preference, label) == pytest.approx(0.5)
    assert pairwise_alignment(preference, label, equal="half") == pytest.approx(0.666667, abs=1e-6)


def test_missing_aspects_are_left_out():
    assert pairwise_alignment([0.9, np.nan, 0.2], [1, 1, np.nan]) == 1.0


def test_bad_alignments():
    with pytest.raises(DataError, match="no pair has both"):
        pairwise_alignment([np.nan], [1])
    with pytest.raises(DataError, match=r"row 2, field 'label': 2 is not between 0 and 1"):
        pairwise_alignment([0.1, 0.2], [1, 2])
    with pytest.raises(DataError, match="preferences have shape"):
        pairwise_alignment([0.1], [1, 0])
    with pytest.raises(ConfigError, match="unknown value of equal 'one'"):
        pairwise_alignment([0.1], [1], equal="one")  # type: ignore[arg-type]
