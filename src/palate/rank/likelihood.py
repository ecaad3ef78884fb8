"""Maximum likelihood for models of pairs: strengths, an optional tie parameter, and their covariance.

Everything is computed from aggregated comparisons, so the cost depends on the number of distinct pairs. The
Hessian is a graph Laplacian of the strengths, bordered by one row for the tie parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from palate.rank.battles import FIRST_WINS, TIE
from palate.rank.counts import Comparisons
from palate.rank.information import DENSE_ITEMS, Information, laplacian, score_matrix
from palate.rank.links import Link, Sums
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-10
"""The fit ends when no gradient exceeds this share of the largest total weight of an item."""

MAX_ITERATIONS = 100
DRAWS = 64
"""Draws in place of the covariance beyond `DENSE_ITEMS`; a standard error from them is good to about 9 %."""


@dataclass(frozen=True)
class Maximum:
    """Where the (penalised) likelihood has its maximum.

    Attributes:
        theta: strengths with mean 0, shape (M,).
        tie: the tie parameter, 0 for a link that has none.
        log_likelihood: without the ridge.
        iterations: Newton steps taken.
        relative_gradient: the largest gradient over the largest total weight of an item.
    """

    theta: Floats
    tie: float
    log_likelihood: float
    iterations: int
    relative_gradient: float

    @property
    def converged(self) -> bool:
        return self.relative_gradient <= TOLERANCE


@dataclass(frozen=True)
class Spread:
    """Uncertainty of strengths and tie parameter: a covariance (M, M), or draws (M, DRAWS) of the error."""

    covariance: Floats | None
    draws: Floats | None
    tie_error: float | None


def maximise(
    counted: Comparisons, link: Link, l2: float = 0.0, start: tuple[Floats, float] | None = None
) -> Maximum:
    """Newton's method with a halving line search on NLL + l2/2 |theta|^2.

    Args:
        counted: the comparisons; without a ridge they must have a finite maximum (`connectivity`).
        link: the model.
        l2: ridge in units of the strengths; the tie parameter has none.
        start: strengths and tie parameter to begin at, such as those of an earlier fit.
    """
    scale = float(counted.per_item(counted.total).max() + l2)
    weight = link.prepare(counted.weight)

    def at(theta: Floats, tie: float) -> tuple[float, Sums]:
        sums = link.at(weight, theta[counted.first] - theta[counted.second], tie)
        return sums.loss + 0.5 * l2 * float(theta @ theta), sums

    theta = np.zeros(counted.n_items) if start is None else start[0]
    tie = (link.tie_start or 0.0) if start is None else start[1]
    loss, sums = at(theta, tie)
    moved, steps = True, 0
    while True:
        ascent = counted.per_item(sums.slope, -sums.slope) - l2 * theta
        tie_ascent = 0.0 if sums.tie_slope is None else float(sums.tie_slope.sum())
        gradient = max(float(np.abs(ascent).max()), abs(tie_ascent)) / scale
        if gradient <= TOLERANCE or not moved or steps == MAX_ITERATIONS:
            return Maximum(theta - theta.mean(), tie, -sums.loss, steps, gradient)
        steps += 1
        system = Bordered(counted, sums, l2)
        step, tie_step = system.solve(ascent, tie_ascent, max(1e-12, min(0.1, gradient)))
        slope = float(ascent @ step) + tie_ascent * float(tie_step)
        rounding, size, moved = 1e-13 * abs(loss), 1.0, False
        while size > 1e-6 and not moved:
            trial, tie_trial = theta + size * step, tie + size * float(tie_step)
            if link.allows(tie_trial):
                reached, there = at(trial, tie_trial)
                # Rounding may not stop a step that is right at the minimum.
                if reached <= loss - 1e-4 * size * slope + rounding:
                    theta, tie, loss, sums, moved = trial, tie_trial, reached, there, True
            size /= 2


class Bordered:
    """The negative Hessian [[A, b], [b', c]] of strengths and tie parameter, or A alone without one."""

    def __init__(self, counted: Comparisons, sums: Sums, l2: float) -> None:
        self.information = Information(counted, sums.curvature, l2)
        self.border: Floats | None = None
        if sums.cross is not None and sums.tie_curvature is not None:
            self.border = counted.per_item(sums.cross, -sums.cross)
            self.through = self.information.solve(self.border)
            self.complement = float(sums.tie_curvature.sum() - self.border @ self.through)

    def solve(self, right: Floats, tie: Any, tolerance: float = 1e-12) -> tuple[Floats, Any]:
        """Solve for right sides (M,) or (M, B), whose columns sum to zero, and their tie parts."""
        x = self.information.solve(right, tolerance)
        if self.border is None:
            return x, np.zeros_like(tie)
        step = (tie - self.border @ x) / self.complement
        return x - (self.through * step if right.ndim == 1 else np.outer(self.through, step)), step

    def inverse(self) -> tuple[Floats, Floats | None, float | None]:
        """Its blocks: (M, M), (M,) and a number; only up to `DENSE_ITEMS` items."""
        inverse = self.information.inverse()
        if self.border is None:
            return inverse, None, None
        inverse += np.outer(self.through, self.through) / self.complement
        return inverse, -self.through / self.complement, 1.0 / self.complement


def spread(
    counted: Comparisons, link: Link, fitted: Maximum, l2: float = 0.0, *, sandwich: bool = True
) -> Spread:
    """The covariance of the estimates.

    H^-1 G H^-1 with H the negative Hessian (with the ridge) and G the sum of squared scores, those of a
    cluster summed before they are squared; or H^-1 alone. Beyond `DENSE_ITEMS` items, draws with that
    covariance, from conjugate-gradient solves.
    """
    gap = fitted.theta[counted.first] - fitted.theta[counted.second]
    sums = link.at(link.prepare(counted.weight), gap, fitted.tie)
    system = Bordered(counted, sums, l2)
    middle, clusters = _middle_of_pairs(counted, link, gap, fitted.tie, sums, sandwich), None
    if sandwich and counted.clustered is not None:
        clusters = cluster_scores(counted, link, fitted.theta, fitted.tie)
    if counted.n_items <= DENSE_ITEMS:
        return _dense(counted, system, middle, clusters, sandwich)
    return _drawn(counted, system, middle, clusters, 0.0 if sandwich else l2)


# Sums of squares and products of the scores of each pair, shape (P,): strengths, both, tie parameter.
_Middle = tuple[Floats, Floats | None, Floats | None]


def _middle_of_pairs(
    counted: Comparisons, link: Link, gap: Floats, tie: float, sums: Sums, sandwich: bool
) -> _Middle:
    if not sandwich:
        return sums.curvature, sums.cross, sums.tie_curvature
    found, square = link.derivatives(gap, tie), counted.square
    own = np.einsum("po,po,po->p", square, found.slope, found.slope)
    if link.tie_start is None:
        return own, None, None
    both = np.einsum("po,po,po->p", square, found.slope, found.tie_slope)
    return own, both, np.einsum("po,po,po->p", square, found.tie_slope, found.tie_slope)


def cluster_scores(
    counted: Comparisons, link: Link, theta: Floats, tie: float
) -> tuple[csr_array, Floats | None]:
    """Score of each cluster: sparse (clusters, M) for the strengths, (clusters,) for the tie parameter."""
    clustered = counted.clustered
    assert clustered is not None
    found = link.derivatives(theta[clustered.winner] - theta[clustered.loser], tie)
    outcome = np.where(clustered.tie, TIE, FIRST_WINS)
    every = np.arange(len(outcome))
    residual = clustered.weight * found.slope[every, outcome]
    scores = score_matrix(clustered, residual, counted.n_items)
    if link.tie_start is None:
        return scores, None
    weighted = clustered.weight * found.tie_slope[every, outcome]
    total = np.bincount(clustered.cluster, weighted, minlength=clustered.n_clusters)
    return scores, total.astype(np.float64)


def _dense(
    counted: Comparisons,
    system: Bordered,
    middle: _Middle,
    clusters: tuple[csr_array, Floats | None] | None,
    sandwich: bool,
) -> Spread:
    inverse, border, corner = system.inverse()
    if not sandwich:
        return Spread(inverse, None, None if corner is None else float(np.sqrt(corner)))
    own, both, tie = middle
    squares = laplacian(counted, own)
    beside = counted.per_item(both, -both) if both is not None else None
    last = float(tie.sum()) if tie is not None else 0.0
    if clusters is not None:
        scores, tie_scores = clusters
        squares += (scores.T @ scores).toarray()
        if beside is not None and tie_scores is not None:
            beside += scores.T @ tie_scores
            last += float(tie_scores @ tie_scores)
    covariance = inverse @ squares @ inverse
    if border is None or beside is None or corner is None:
        return Spread(covariance, None, None)
    mixed = np.outer(inverse @ beside, border)
    covariance += mixed + mixed.T + last * np.outer(border, border)
    variance = border @ squares @ border + 2.0 * corner * (border @ beside) + last * corner * corner
    return Spread(covariance, None, float(np.sqrt(variance)))


def _drawn(
    counted: Comparisons,
    system: Bordered,
    middle: _Middle,
    clusters: tuple[csr_array, Floats | None] | None,
    l2: float,
) -> Spread:
    """Scores with the covariance of the middle, by the Cholesky factor of each pair's block, then solved."""
    normal = generator(0, "pair_likelihood").standard_normal
    own, both, tie = middle
    deviation = np.sqrt(own)
    along = np.divide(both, deviation, out=np.zeros_like(own), where=deviation > 0) if both is not None else 0
    rest = np.sqrt(np.maximum(tie - along * along, 0.0)) if tie is not None else None
    right, tie_right = np.empty((counted.n_items, DRAWS)), np.zeros(DRAWS)
    for column in range(DRAWS):
        noise = normal(len(own))
        right[:, column] = counted.per_item(deviation * noise, -deviation * noise)
        if rest is not None:
            tie_right[column] = np.sum(along * noise + rest * normal(len(own)))
    if clusters is not None:
        scores, tie_scores = clusters
        noise = normal((scores.shape[0], DRAWS))
        right += scores.T @ noise
        if tie_scores is not None:
            tie_right += tie_scores @ noise
    if l2 > 0:
        right += np.sqrt(l2) * normal(right.shape)
    draws, tie_draws = system.solve(right - right.mean(axis=0), tie_right, 1e-3)
    return Spread(None, draws, float(np.sqrt(np.mean(tie_draws**2))) if rest is not None else None)
