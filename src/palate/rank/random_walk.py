"""Strengths that follow a random walk: the most probable path, its covariance, and how well it predicts.

The Hessian of the log-posterior is block-tridiagonal, one block of M x M per period. It is never formed: one
pass forward in time and one back (a Kalman filter and smoother in the form of Rauch, Tung and Striebel 1965)
solve it, and stay exact as the drift goes to 0 or grows without bound, where the blocks themselves lose their
digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack
from scipy.special import expit

from palate.errors import ConfigError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOLERANCE = 1e-6
"""The path is found when a Newton step moves no strength by more; the error is then about its square."""

CLOSE = 1e-4
"""The same for predictions, which need no more."""

MAX_ITERATIONS = 50


@dataclass(frozen=True)
class Walk:
    """Comparisons of M items in T periods, summed over equal pairs of a period; arrays have shape (P,).

    Attributes:
        n_items: M.
        period: numbers 0 to T - 1, ascending; every period has a pair.
        first, second: codes of the pair's items.
        total: weight of its comparisons.
        wins: weight of the first item's wins, a tie being half.
        gaps: time from each period to the next, shape (T - 1,).
        l2: precision of each strength in the first period.
    """

    n_items: int
    period: Ints
    first: Ints
    second: Ints
    total: Floats
    wins: Floats
    gaps: Floats
    l2: float

    @property
    def n_periods(self) -> int:
        return len(self.gaps) + 1

    @cached_property
    def parts(self) -> list[slice]:
        """The pairs of each period."""
        bounds = np.searchsorted(self.period, np.arange(self.n_periods + 1))
        return [slice(start, end) for start, end in pairwise(bounds.tolist())]

    def gap(self, theta: Floats) -> Floats:
        """Difference of strengths of each pair, for paths (T, M)."""
        return np.asarray(theta[self.period, self.first] - theta[self.period, self.second])

    def log_likelihood(self, theta: Floats) -> float:
        """Of all comparisons on the paths `theta`, shape (T, M)."""
        gap = self.gap(theta)
        lost = self.total - self.wins
        # log(1 + e^d) is max(d, 0) + log(1 + e^-|d|): so nothing cancels where an item always wins.
        surprise = self.wins * np.maximum(-gap, 0.0) + lost * np.maximum(gap, 0.0)
        return -float(np.sum(surprise + self.total * np.log1p(np.exp(-np.abs(gap)))))

    def penalty(self, theta: Floats, drift: float) -> float:
        """Minus the log-density of the paths, up to constants."""
        steps = np.diff(theta, axis=0) ** 2
        return 0.5 * float(self.l2 * theta[0] @ theta[0] + (steps.sum(axis=1) / self.gaps).sum() / drift**2)


@dataclass(frozen=True)
class Path:
    """The most probable path of all strengths.

    Attributes:
        theta: strengths, shape (T, M).
        drift: standard deviation of a step over one unit of time.
        log_likelihood: of the comparisons.
        iterations: Newton steps taken.
        converged: whether the last step was small enough.
    """

    theta: Floats
    drift: float
    log_likelihood: float
    iterations: int
    converged: bool


def most_probable(walk: Walk, drift: float, start: Floats | None = None) -> Path:
    """Newton's method with a halving line search, from the paths `start`, shape (T, M), or from 0."""
    theta = np.zeros((walk.n_periods, walk.n_items)) if start is None else start
    loss = walk.penalty(theta, drift) - walk.log_likelihood(theta)
    steps, done = 0, False
    while True:
        goal, _, _ = _smooth(walk, drift, theta)
        step = goal - theta
        size, moved = 1.0, False
        while size > 1e-6 and not moved:
            trial = theta + size * step
            reached = walk.penalty(trial, drift) - walk.log_likelihood(trial)
            # Rounding may not stop a step that is right at the minimum.
            if reached <= loss + 1e-12 * abs(loss):
                theta, loss, moved = trial, reached, True
            size /= 2
        steps += 1
        done = float(np.abs(step).max()) <= TOLERANCE
        if done or not moved or steps == MAX_ITERATIONS:
            break
    return Path(theta, drift, walk.log_likelihood(theta), steps, done)


def covariances(walk: Walk, path: Path) -> Iterator[tuple[int, Floats]]:
    """The covariance of the strengths of each period, (M, M), given all comparisons; last period first."""
    size, drift = walk.n_items, path.drift
    _, last, between = _smooth(walk, drift, path.theta)
    covariance = last
    yield walk.n_periods - 1, covariance
    for t in range(walk.n_periods - 2, -1, -1):
        variance = drift**2 * walk.gaps[t]
        gain = -variance * between[t]
        gain.flat[:: size + 1] += 1.0
        covariance = variance * gain + gain @ covariance @ gain.T
        yield t, covariance


def _smooth(walk: Walk, drift: float, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Solve the quadratic problem around the paths `theta`.

    Returns:
        Its solution (T, M), the covariance of the last period (M, M), and the inverses of the covariances
        predicted for periods 1 to T - 1 from those before, shape (T - 1, M, M).
    """
    size, periods = walk.n_items, walk.n_periods
    gap = walk.gap(theta)
    probability = expit(gap)
    curvature = walk.total * probability * (1.0 - probability)
    # What a linear model with this curvature would have to see to be at its maximum here.
    seen = curvature * gap + walk.wins - walk.total * probability
    variances = drift**2 * walk.gaps
    between = np.empty((periods - 1, size, size))
    filtered = np.empty((periods, size))
    precision = walk.l2 * np.eye(size)
    information = np.zeros(size)
    covariance = precision
    for t, part in enumerate(walk.parts):
        if t:
            covariance.flat[:: size + 1] += variances[t - 1]
            precision = _inverse(_factor(covariance))
            between[t - 1] = precision
            information = precision @ filtered[t - 1]
        i, j = walk.first[part], walk.second[part]
        precision = _with_pairs(precision, i, j, curvature[part])
        information = information + np.bincount(i, seen[part], size) - np.bincount(j, seen[part], size)
        covariance = _inverse(_factor(precision))
        filtered[t] = covariance @ information
    smoothed = filtered
    for t in range(periods - 2, -1, -1):
        ahead = smoothed[t + 1] - filtered[t]
        smoothed[t] = smoothed[t + 1] - variances[t] * (between[t] @ ahead)
    return smoothed, covariance, between


def one_ahead_loss(walk: Walk, drift: float) -> float:
    """Mean log-loss of the comparisons of each period but the first, predicted from the periods before.

    A prediction takes the uncertainty of the difference d ~ N(m, v) into account: the expected probability is
    close to 1 / (1 + exp(-m / sqrt(1 + pi v / 8))) (MacKay 1992).
    """
    size = walk.n_items
    mean, covariance = np.zeros(size), np.eye(size) / walk.l2
    loss = weight = 0.0
    for t, part in enumerate(walk.parts):
        i, j, total, wins = walk.first[part], walk.second[part], walk.total[part], walk.wins[part]
        if t:
            covariance.flat[:: size + 1] += drift**2 * walk.gaps[t - 1]
            variance = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
            gap = (mean[i] - mean[j]) / np.sqrt(1.0 + np.pi / 8.0 * variance)
            loss += float(np.sum(total * np.logaddexp(0.0, gap) - wins * gap))
            weight += float(total.sum())
        prior = _inverse(_factor(covariance))
        theta, step = mean, np.full(size, np.inf)
        for _ in range(MAX_ITERATIONS):
            probability = expit(theta[i] - theta[j])
            factor = _factor(_with_pairs(prior, i, j, total * probability * (1.0 - probability)))
            if np.abs(step).max() < CLOSE:
                break
            residual = wins - total * probability
            ascent = np.bincount(i, residual, size) - np.bincount(j, residual, size) - prior @ (theta - mean)
            step, _ = lapack.dpotrs(factor, ascent, lower=1)
            # Far from the maximum a full step may overshoot where the curvature vanishes.
            theta = theta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        mean, covariance = theta, _inverse(factor)
    return loss / weight


def _with_pairs(precision: Floats, i: Ints, j: Ints, weight: Floats) -> Floats:
    """A precision matrix with the information of pairs added."""
    size = len(precision)
    full = precision.copy()
    full[i, j] -= weight
    full[j, i] -= weight
    full.flat[:: size + 1] += np.bincount(i, weight, size) + np.bincount(j, weight, size)
    return full


def _factor(matrix: Floats) -> Floats:
    """The lower Cholesky factor of a symmetric positive definite matrix."""
    factor, failed = lapack.dpotrf(matrix, lower=1)
    if failed:
        raise ConfigError("drift and l2 are too far apart for the precision of numbers; use a larger l2")
    return np.asarray(factor)


def _inverse(factor: Floats) -> Floats:
    """The inverse of the matrix whose Cholesky factor this is."""
    lower, _ = lapack.dpotri(factor, lower=1)
    full = np.tril(lower)
    full += np.tril(lower, -1).T
    return np.asarray(full)
