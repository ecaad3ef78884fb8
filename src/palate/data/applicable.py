"""Ratings that stand for "not applicable"."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa

from palate.data.table import PreferenceData
from palate.errors import PalateWarning


def not_applicable(
    data: PreferenceData, value: float = 0.0, *, low: float | None = None
) -> tuple[PreferenceData, int]:
    """Judgments in which a score that means "this aspect does not apply" is missing, not low.

    A relation of two things cannot be judged where a prompt names one; tables of opinion scores often have 0
    there. Taken for a rating, it teaches a model that such responses are bad.

    Args:
        data: judgments.
        value: the score that stands for it.
        low: lowest level of the scale. `PalateWarning` if it is not above `value`, which then is a rating as
            well; without it, if ratings are found below `value`.

    Returns:
        The judgments, and how many scores are now missing.
    """
    scores = data.scores
    hit = scores == value
    if low is not None and low <= value:
        warnings.warn(
            f"{value:g} stands for 'not applicable' on a scale that begins at {low:g}: {int(hit.sum())} "
            "scores could be ratings",
            PalateWarning, stacklevel=2,
        )  # fmt: skip
    elif (scores < value).any():
        warnings.warn(
            f"{value:g} stands for 'not applicable' and {int((scores < value).sum())} ratings are lower: it "
            "could be a rating",
            PalateWarning, stacklevel=2,
        )  # fmt: skip
    kept = np.where(hit, np.nan, scores)
    column = pa.ListArray.from_arrays(pa.array(data.offsets(), type=pa.int32()), pa.array(kept))
    return data.with_columns(scores=column), int(hit.sum())
