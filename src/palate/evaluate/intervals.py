"""How sure a share is: Wilson intervals that know about weights, graded values and clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from palate.errors import ConfigError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """A share with its interval and what was left out of it.

    Attributes:
        value: the share, NaN where nothing was counted.
        lower, upper: bounds of its interval.
        n: how many observations were counted.
        ties: how many of these the judge called equal (each counts half).
        missing: how many had no answer; they are in none of the other numbers.
        gold_ties: how many had no right answer because the gold judgment is a tie; not counted either.
    """

    value: float
    lower: float
    upper: float
    n: int
    ties: int = 0
    missing: int = 0
    gold_ties: int = 0

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.lower:.1%} to {self.upper:.1%}, n = {self.n:,})"


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share seen in n observations; n need not be whole (Wilson 1927)."""
    if not n > 0 or np.isnan(share):
        return np.nan, np.nan
    z = special.ndtri(0.5 + confidence / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def share_with_interval(
    values: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Weighted mean of values in [0, 1] with its interval: (share, lower, upper).

    The interval is Wilson's at the number of observations that would give the variance seen: n for plain
    zeros and ones, p (1 - p) / V else, where V is the linearised variance of the weighted mean over clusters
    (Korn and Graubard 1998; Franco et al. 2019). So pairs of one prompt that are right or wrong together
    widen it, and graded values narrow it. With few clusters the t quantile replaces the normal one.

    Args:
        values: shape (n,), between 0 and 1, none missing.
        weight: shape (n,), 0 or more; 1 each where None.
        cluster: shape (n,), what belongs together (a prompt); None where all are independent. With fewer than
            two clusters their spread is unknown and the observations are taken as independent.
        confidence: coverage of the interval.

    Raises:
        ConfigError: shapes differ or a value is outside [0, 1].
    """
    x = np.asarray(values, dtype=np.float64)
    w = np.ones_like(x) if weight is None else np.asarray(weight, dtype=np.float64)
    if x.ndim != 1 or w.shape != x.shape:
        raise ConfigError(f"values and weight must have the same shape (n,); got {x.shape} and {w.shape}")
    if len(x) and not (x.min() >= 0 and x.max() <= 1):
        raise ConfigError(
            "values must lie between 0 and 1, without NaN; leave missing ones out and count them"
        )
    counted = w > 0
    x, w = x[counted], w[counted]
    if not len(x):
        return np.nan, np.nan, np.nan
    total = w.sum()
    share = float((w * x).sum() / total)
    codes = None
    if cluster is not None:
        codes = np.unique(np.asarray(cluster)[counted], return_inverse=True)[1]
        codes = codes if len(codes) and codes.max() > 0 else None
    n = _effective_n(x, w, share, codes, confidence)
    return share, *wilson(share, n, confidence)


def mean_with_interval(
    values: npt.ArrayLike, *, cluster: npt.ArrayLike | None = None, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of any numbers with its t interval over clusters: (mean, lower, upper).

    The variance is the linearised one of `share_with_interval`; the bounds are NaN with fewer than two
    clusters.

    Args:
        values: shape (n,), none missing.
        cluster: shape (n,), what belongs together; None where all are independent.
        confidence: coverage of the interval.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return np.nan, np.nan, np.nan
    codes = np.arange(len(x)) if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    mean, groups = float(x.mean()), int(codes.max()) + 1
    if groups < 2:
        return mean, np.nan, np.nan
    residual = np.bincount(codes, weights=x - mean, minlength=groups)
    error = np.sqrt(groups / (groups - 1) * float((residual**2).sum())) / len(x)
    half = float(special.stdtrit(groups - 1, 0.5 + confidence / 2) * error)
    return mean, mean - half, mean + half


def _effective_n(
    x: Floats, w: Floats, share: float, codes: npt.NDArray[np.intp] | None, confidence: float
) -> float:
    kish = float(w.sum() ** 2 / (w**2).sum())
    if codes is None:
        if len(x) < 2 or np.isin(x, (0.0, 1.0)).all():
            return kish
        codes = np.arange(len(x))
    groups = int(codes.max()) + 1
    residual = np.bincount(codes, weights=w * (x - share), minlength=groups)
    variance = groups / (groups - 1) * float((residual**2).sum()) / w.sum() ** 2
    spread = share * (1 - share)
    known = variance > 1e-15 and spread > 1e-15
    n = spread / variance if known else min(float(groups), kish)
    ratio = special.ndtri(0.5 + confidence / 2) / special.stdtrit(groups - 1, 0.5 + confidence / 2)
    return n * float(ratio) ** 2
