"""Judges against how strongly people preferred, and the area under the ROC curve of their margins."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from palate.data import PreferenceData
from palate.errors import DataError
from palate.evaluate import auc, evaluate, strength_report
from palate.judges import LengthJudge


def pairs(strengths: list[Any]) -> PreferenceData:
    """The chosen response has two words more than the other for each point of strength, one less at 1."""
    lengths = [-1 if s == 1 else 2 * int(s or 0) for s in strengths]
    return PreferenceData.from_columns(
        {
            "prompt": [f"p{i}" for i in range(len(strengths))],
            "responses": [[" ".join(["w"] * (9 + n)), " ".join(["w"] * 9)] for n in lengths],
            "scores": [[1.0, 0.0]] * len(strengths),
            "metadata": [json.dumps({"strength": s}) for s in strengths],
        }
    )


def test_accuracy_is_told_per_strength_and_margins_follow_it() -> None:
    by, correlation = strength_report(LengthJudge(), pairs([1, 2, 3, 3, 2, 1]))
    assert by["accuracy"].to_list() == [0.0, 1.0, 1.0]
    assert correlation == pytest.approx(1.0)


def test_a_strength_that_is_missing_is_refused_by_row() -> None:
    with pytest.raises(DataError, match="row 2, field 'strength'"):
        strength_report(LengthJudge(), pairs([1, None, 2]))


def test_the_area_is_that_of_both_orders() -> None:
    margin = np.random.default_rng(0).normal(0.4, 1.0, size=200)
    margin[:20] = 0.0
    both = roc_auc_score(np.repeat([1, 0], 200), np.concatenate([margin, -margin]))
    assert auc(margin) == pytest.approx(both)
    assert auc([1.0, 2.0]) == 1.0
    assert auc([0.0]) == 0.5
    assert np.isnan(auc([np.nan]))
    assert evaluate(LengthJudge(), pairs([1, 2, 3])).metrics["auc"] == pytest.approx(8 / 9)
