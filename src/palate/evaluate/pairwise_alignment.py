"""Accuracy of a scorer on pairs whose labels may be ties (3DGen-Bench; Zhang et al. 2025)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.errors import DataError, unknown


def pairwise_alignment(
    preference: npt.ArrayLike, label: npt.ArrayLike, *, equal: Literal["zero", "half"] = "zero"
) -> float:
    """Mean of the label of the side that the scorer prefers: 1[P0 > P1] l0 + 1[P0 < P1] l1.

    A tied label (.5, .5) is worth .5 whatever the scorer says, so ties pull every scorer towards .5;
    `palate.evaluate.accuracy` leaves them out instead.

    Args:
        preference: P0, the probability that the first is preferred, shape (n,); NaN is left out.
        label: l0, shape (n,), in [0, 1]; l1 = 1 - l0. NaN (an aspect that was not judged) is left out.
        equal: what a pair is worth that the scorer calls exactly equal: "zero" as in the paper, so that a
            constant scorer has 0 on decided pairs, or "half".

    Raises:
        DataError: shapes differ, a value is outside [0, 1], or nothing is left.
        ConfigError: `equal` has another value.

    >>> pairwise_alignment([0.7, 0.4, 0.5], [1, 0.5, 1])
    0.5
    """
    if equal not in ("zero", "half"):
        raise unknown("value of equal", equal, ("zero", "half"))
    p, first = np.asarray(preference, dtype=np.float64), np.asarray(label, dtype=np.float64)
    if p.shape != first.shape or p.ndim != 1:
        raise DataError(f"preferences have shape {p.shape}, labels {first.shape}", remedy="give one a pair")
    for name, values in {"preference": p, "label": first}.items():
        bad = np.flatnonzero((values < 0) | (values > 1))
        if len(bad):
            raise DataError(f"{values[bad[0]]:g} is not between 0 and 1", row=int(bad[0]) + 1, field=name)
    kept = ~(np.isnan(p) | np.isnan(first))
    if not kept.any():
        raise DataError("no pair has both a preference and a label")
    p, first = p[kept], first[kept]
    undecided = 0.5 if equal == "half" else 0.0
    return float(np.mean(np.where(p > 0.5, first, np.where(p < 0.5, 1 - first, undecided))))
