"""One rating for what several annotators rated: the mean of those that agree most (HelpSteer2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RatingLabels:
    """What `aggregate_ratings` makes of n things; arrays of shape (n,) but `kept`, of shape (n, m).

    Attributes:
        label: the mean rounded to the nearest whole number, halves up; NaN where the kept ratings differ too
            much, or there are none.
        mean: of the kept ratings.
        spread: greatest less least of the kept ratings, NaN where there are none.
        kept: which ratings were kept.
    """

    label: Floats
    mean: Floats
    spread: Floats
    kept: npt.NDArray[np.bool_]


def aggregate_ratings(ratings: npt.ArrayLike, keep: int = 3, max_spread: float = 2.0) -> RatingLabels:
    """Labels from the ratings of several annotators, after Wang et al. (2024).

    Of each thing's ratings the `keep` with the least spread are kept; of several such choices the one with
    the least variance, then the one whose mean is nearest to the median of all, then the lower. All are kept
    where there are no more. A thing whose kept ratings still spread by more than `max_spread` has no label.

    Args:
        ratings: shape (n, m), NaN where an annotator gave none; or (m,) for one thing.
        keep: how many to keep, at least 1.
        max_spread: in units of the ratings.

    Raises:
        ConfigError: `keep` or `max_spread` out of range.
        DataError: ratings of another shape, or an infinite one.

    >>> aggregate_ratings([[0, 3, 4, 4, 2]]).label
    array([4.])
    """
    given = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    if keep < 1 or not max_spread >= 0:
        raise ConfigError(f"keep must be 1 or more and max_spread 0 or more; got {keep} and {max_spread}")
    if given.ndim != 2:
        raise DataError(f"ratings of shape {given.shape}, not (things, annotators)", field="ratings")
    if np.isinf(given).any():
        row = int(np.flatnonzero(np.isinf(given).any(axis=1))[0]) + 1
        raise DataError("an infinite rating", row=row, field="ratings", remedy="give NaN for none")
    n, m = given.shape
    order = np.argsort(given, axis=1, kind="stable")  # NaN comes last
    values = np.take_along_axis(given, order, axis=1)
    count = (~np.isnan(values)).sum(axis=1)
    size = min(keep, m)
    start = np.zeros(n, dtype=np.int64)
    if m > size:
        window = np.lib.stride_tricks.sliding_window_view(values, size, axis=1)  # (n, m - size + 1, size)
        full = np.arange(m - size + 1) + size <= count[:, None]
        middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, m - 1)], axis=1)
        median = np.take_along_axis(values, middle, axis=1).mean(axis=1, keepdims=True)
        best = full
        for key in (
            window[..., -1] - window[..., 0], window.var(axis=2), np.abs(window.mean(axis=2) - median)
        ):  # fmt: skip
            least = np.where(best, key, np.inf).min(axis=1, keepdims=True)
            best = best & (key <= least + 1e-12)
        start = best.argmax(axis=1)
    inside = (np.arange(m) >= start[:, None]) & (np.arange(m) < (start + np.minimum(size, count))[:, None])
    kept = np.zeros((n, m), dtype=bool)
    np.put_along_axis(kept, order, inside, axis=1)
    number = inside.sum(axis=1)
    total = np.where(inside, values, 0.0).sum(axis=1)
    mean = np.divide(total, number, out=np.full(n, np.nan), where=number > 0)
    high = np.where(inside, values, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(inside, values, np.inf).min(axis=1, initial=np.inf)
    spread = np.where(number > 0, high - low, np.nan)
    label = np.where(spread <= max_spread, np.floor(mean + 0.5), np.nan)
    return RatingLabels(label, mean, spread, kept)


def aggregate_strengths(strengths: npt.ArrayLike, keep: int = 3, max_spread: float = 2.0) -> RatingLabels:
    """Labels from several annotators' graded preferences, -3 (the first is much better) to 3 (the second is).

    As `aggregate_ratings`, with halves rounded away from 0, so that it makes no difference which response is
    called first; a pair whose label would be 0 has none (Wang et al., 2024).

    Raises:
        ConfigError, DataError: as `aggregate_ratings`; a strength beyond 3, such as -100, which HelpSteer2
        gives to a pair whose responses are both invalid.

    >>> aggregate_strengths([[-1, 1, 2, 2, 3], [1, -1, 0, np.nan, np.nan]]).label
    array([ 2., nan])
    """
    given = np.atleast_2d(np.asarray(strengths, dtype=np.float64))
    beyond = np.abs(given) > 3
    if beyond.any():
        row = int(np.flatnonzero(beyond.any(axis=1))[0])
        raise DataError(
            f"a strength of {given[row][beyond[row]][0]:g}, beyond -3 to 3", row=row + 1, field="strength",
            remedy="leave out pairs marked as invalid on both sides (-100)",
        )  # fmt: skip
    made = aggregate_ratings(given, keep, max_spread)
    rounded = np.sign(made.mean) * np.floor(np.abs(made.mean) + 0.5)
    label = np.where((made.spread <= max_spread) & (rounded != 0), rounded, np.nan)
    return RatingLabels(label, made.mean, made.spread, made.kept)
