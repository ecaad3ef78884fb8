"""Whether one judge is right more often than another on the same pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError
from palate.rank.significance import adjusted
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

EXACT = 200
"""Up to so many clusters on which two judges differ, the randomisation test is computed exactly."""
_TOGETHER = 1 << 22  # resampled counts held at once


def paired_accuracy(
    names: Sequence[str],
    right: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """Compare every two judges by the pairs on which both answered.

    Args:
        names: of m judges.
        right: shape (n, m), how right each was on each pair: 1, 0, or 0.5 where it called the two equal.
        cluster: shape (n,), prompt of each pair; pairs of a prompt are right or wrong together.
        weight: shape (n,), of each pair, for the difference and its interval and for `p`.
        confidence: coverage of the intervals.
        resamples: bootstrap resamples of clusters.
        seed: of the bootstrap.

    Returns:
        One row for each two judges, the more accurate first, smallest p first: `a`, `b`; `difference` of
        their accuracies with `lower` and `upper` (percentiles over resampled clusters); `a_only`, `b_only`
        (pairs on which one did better than the other); `p_mcnemar`, exact, with pairs taken as independent
        (McNemar 1947); `p`, of the randomisation test that turns the sign of the difference of whole
        clusters, which is McNemar's where each prompt has one pair and all weigh the same; `p_holm`, that
        times what Holm (1979) asks for all rows together.

        The test is exact for up to `EXACT` clusters that differ, if their differences are multiples of a
        half, and uses the normal distribution with the same variance beyond that.

    Raises:
        ConfigError: shapes do not fit, an answer is missing, or there is no pair.
    """
    r = np.asarray(right, dtype=np.float64)
    if r.ndim != 2 or r.shape[1] != len(names) or not len(r):
        raise ConfigError(f"right must have shape (pairs, {len(names)}) with a pair or more; got {r.shape}")
    if np.isnan(r).any():
        raise ConfigError("every judge must have answered every pair; leave the others out")
    n, m = r.shape
    w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    codes = np.arange(n) if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    if w.shape != (n,) or codes.shape != (n,) or not w.sum() > 0:
        raise ConfigError(f"weight and cluster need one entry for each of {n} pairs, and a weight above 0")
    accuracy = w @ r / w.sum()
    order = np.lexsort((np.array(names, dtype=str), -accuracy))
    i, j = (order[side] for side in np.triu_indices(m, 1))
    groups = int(codes.max()) + 1
    totals = np.zeros((groups, m))
    np.add.at(totals, codes, r * w[:, None])
    draws = _resampled(totals, np.bincount(codes, w, groups).astype(np.float64), resamples, seed)
    tail = (1.0 - confidence) / 2
    lower, upper = np.empty(len(i)), np.empty(len(i))
    for first in np.unique(i):  # one judge against all after it, so that memory stays small
        rows = np.flatnonzero(i == first)
        gaps = draws[:, [first]] - draws[:, j[rows]]
        lower[rows], upper[rows] = np.quantile(gaps, [tail, 1.0 - tail], axis=0)
    better = _better(r)
    a_only, b_only = better[i, j], better[j, i]
    p = np.array([_flipped(totals[:, a] - totals[:, b]) for a, b in zip(i, j, strict=True)])
    return pl.DataFrame(
        {
            "a": [names[k] for k in i],
            "b": [names[k] for k in j],
            "difference": accuracy[i] - accuracy[j],
            "lower": lower,
            "upper": upper,
            "a_only": a_only,
            "b_only": b_only,
            "p_mcnemar": mcnemar(a_only, b_only),
            "p": p,
            "p_holm": adjusted(p, "holm"),
        },
        schema_overrides={"a": pl.String, "b": pl.String, "p": pl.Float64},
    ).sort("p", maintain_order=True)


def mcnemar(a_only: npt.ArrayLike, b_only: npt.ArrayLike) -> Floats:
    """Exact two-sided p of McNemar's test from the discordant counts, element by element (McNemar 1947).

    >>> mcnemar(9, 2).round(6)
    array(0.06543)
    """
    from scipy.special import bdtr  # slow to import

    a, b = np.asarray(a_only, dtype=np.int64), np.asarray(b_only, dtype=np.int64)
    fewer = np.minimum(a, b).astype(np.float64)
    return np.asarray(np.minimum(1.0, 2.0 * bdtr(fewer, a + b, 0.5)))


def _resampled(totals: Floats, sizes: Floats, resamples: int, seed: int) -> Floats:
    """Accuracy of each judge in each resample of clusters, shape (resamples, m)."""
    rng = generator(seed, "paired accuracy")
    groups, m = totals.shape
    both = np.concatenate([totals, sizes[:, None]], axis=1)
    made = np.empty((resamples, m))
    step = max(1, _TOGETHER // groups)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        sums = counts.astype(np.float64) @ both
        # A resample may hold only clusters of weight 0, where some have that.
        made[start : start + size] = sums[:, :m] / np.where(sums[:, m:] > 0, sums[:, m:], np.nan)
    return made


def _better(r: Floats) -> npt.NDArray[np.int64]:
    """Shape (m, m): on how many pairs the row was righter than the column."""
    full, some = (r == 1.0).astype(np.float64), (r >= 0.5).astype(np.float64)
    half, none = (r == 0.5).astype(np.float64), (r == 0.0).astype(np.float64)
    won = some.T @ none + full.T @ half
    return np.asarray(np.rint(won), dtype=np.int64)


def _flipped(difference: Floats) -> float:
    """Two-sided p of the sum of `difference` (clusters,) when each has either sign with equal chance."""
    from scipy.special import ndtr

    d = np.abs(difference[np.abs(difference) > 1e-12])
    if not len(d):
        return 1.0
    total = abs(float(difference.sum()))
    doubled = np.rint(2.0 * d)
    if len(d) > EXACT or not np.allclose(doubled, 2.0 * d):
        return float(2.0 * ndtr(-total / np.sqrt((d**2).sum())))
    chance = np.ones(1)
    for size, count in zip(*np.unique(doubled.astype(np.int64), return_counts=True), strict=True):
        chance = np.convolve(chance, _signs(int(size), int(count)))
    reach = len(chance) // 2  # sums run from -reach to reach
    at = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, chance[at >= round(2.0 * total)].sum()))


def _signs(size: int, count: int) -> Floats:
    """Chances of the sums of `count` numbers +size or -size, from -size * count to size * count."""
    from scipy.stats import binom

    chance = np.zeros(2 * size * count + 1)
    chance[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
    return chance
