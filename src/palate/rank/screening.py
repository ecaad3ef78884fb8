"""Screening of observers: whose ratings lie outside the others' too often (ITU-R BT.500)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WIDE = np.sqrt(20.0)
"""Standard deviations that bound ratings which are not normally distributed; normal ones are bounded by 2."""

MOST_OUTSIDE, LEAST_BALANCE = 0.05, 0.3


def bt500(annotator: Ints, stimulus: Ints, score: Floats) -> npt.NDArray[np.bool_]:
    """Which annotators the procedure of ITU-R BT.500 rejects, shape (annotators,).

    Of each stimulus, ratings are normal if their kurtosis m4 / m2^2 lies within 2 and 4. A rating lies
    outside if it is 2 standard deviations (n - 1) or more from the mean, sqrt(20) of them where ratings are
    not normal. An annotator with P ratings outside above and Q below, of n, is rejected if
    (P + Q) / n > 0.05 and |P - Q| / (P + Q) < 0.3: often outside, and not to one side only, which would be
    a bias. Stimuli without spread have no outside. Among n observers nobody can be more than
    (n - 1) / sqrt(n) standard deviations away, so with 21 or fewer no rating lies outside that is not normal.

    Args:
        annotator, stimulus: codes 0, 1, ... of each rating, shape (N,).
        score: shape (N,).
    """
    n = np.bincount(stimulus)
    safe = np.maximum(n, 1)
    mean = np.bincount(stimulus, score) / safe
    gap = score - mean[stimulus]
    m2, m4 = np.bincount(stimulus, gap**2) / safe, np.bincount(stimulus, gap**4) / safe
    spread = m2 > 1e-20 * np.maximum(mean**2, 1e-280)
    kurtosis = np.divide(m4, m2**2, out=np.zeros_like(m2), where=spread)
    deviation = np.sqrt(np.divide(m2 * n, n - 1, out=np.zeros_like(m2), where=n > 1))
    bound = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, WIDE) * deviation
    bound = np.where(spread, bound, np.inf)[stimulus]
    size = int(annotator.max()) + 1
    above = np.bincount(annotator[gap >= bound], minlength=size)
    below = np.bincount(annotator[gap <= -bound], minlength=size)
    outside, total = above + below, np.maximum(np.bincount(annotator, minlength=size), 1)
    one_sided = np.abs(above - below) / np.maximum(outside, 1)
    return np.asarray((outside / total > MOST_OUTSIDE) & (one_sided < LEAST_BALANCE))
