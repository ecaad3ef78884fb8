"""Annotators who rate on scales of their own: biases, inconsistencies, and screening, from ratings alone.

The model is x = psi[item] + Delta[annotator] + nu[annotator] * noise: items have a true score, annotators a
bias and an inconsistency. Everything is computed from sums over the cells (annotator, item) with ratings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg

from palate.data.codes import combine, first_places

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TOLERANCE = 1e-9
"""A fit ends when no score moves by more than this share of the ratings' standard deviation."""

MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Cells:
    """Ratings summed over equal annotator and item; arrays have one entry per cell with ratings.

    Attributes:
        annotator, item: codes.
        count: number of ratings.
        weight: their total weight.
        mean: their weighted mean.
        scatter: their weighted sum of squares around it.
        n_annotators, n_items: A and M.
    """

    annotator: Ints
    item: Ints
    count: Ints
    weight: Floats
    mean: Floats
    scatter: Floats
    n_annotators: int
    n_items: int

    @classmethod
    def of(
        cls, annotator: Ints, item: Ints, score: Floats, weight: Floats, n_annotators: int, n_items: int
    ) -> Self:
        """From one entry per rating, shape (N,) each."""
        if n_annotators * n_items <= max(4 * len(score), 1 << 16):
            cell = annotator * n_items + item
            count = np.bincount(cell, minlength=n_annotators * n_items)
            kept = np.flatnonzero(count)
            who, what, count = kept // n_items, kept % n_items, count[kept]
            place = np.empty(n_annotators * n_items, dtype=np.int64)
            place[kept] = np.arange(len(kept))
            cell = place[cell]
        else:
            cell, size = combine(annotator, item)
            first = first_places(cell, size)
            who, what, count = annotator[first], item[first], np.bincount(cell)
        mass = np.asarray(np.bincount(cell, weight), dtype=np.float64)
        mean = np.asarray(np.bincount(cell, weight * score) / mass)
        scatter = np.asarray(np.bincount(cell, weight * (score - mean[cell]) ** 2), dtype=np.float64)
        return cls(who, what, count, mass, mean, scatter, n_annotators, n_items)

    @cached_property
    def matrix(self) -> csr_array:
        """Weights, shape (items, annotators)."""
        return csr_array((self.weight, (self.item, self.annotator)), shape=(self.n_items, self.n_annotators))

    @cached_property
    def turned(self) -> csr_array:
        """Weights, shape (annotators, items)."""
        return self.matrix.T.tocsr()

    @cached_property
    def n(self) -> Ints:
        """Number of ratings of each annotator, shape (A,)."""
        return self.by_annotator(self.count).astype(np.int64)

    @cached_property
    def mass(self) -> Floats:
        """Weight of the ratings of each annotator, shape (A,)."""
        return self.by_annotator(self.weight)

    @cached_property
    def means(self) -> Floats:
        """Mean rating of each annotator, shape (A,); 0 for one without ratings."""
        return ratio(self.by_annotator(self.weight * self.mean), self.mass)

    def by_annotator(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sums of a value of each cell, shape (A,)."""
        return np.asarray(np.bincount(self.annotator, values, self.n_annotators), dtype=np.float64)

    def by_item(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sums of a value of each cell, shape (M,)."""
        return np.asarray(np.bincount(self.item, values, self.n_items), dtype=np.float64)

    def groups(self) -> tuple[int, Ints]:
        """Groups of items that no annotator connects: how many, and that of each item, shape (M,)."""
        size = self.n_items + self.n_annotators
        graph = csr_array(
            (np.ones(len(self.item), dtype=np.int8), (self.item, self.n_items + self.annotator)),
            shape=(size, size),
        )
        labels = connected_components(graph, directed=False)[1][: self.n_items]
        names, labels = np.unique(labels, return_inverse=True)
        return len(names), labels.astype(np.int64)

    def residuals(self, psi: Floats, bias: Floats) -> Floats:
        """Weighted sum of squared residuals of each annotator, shape (A,)."""
        gap = self.mean - psi[self.item] - bias[self.annotator]
        return self.by_annotator(self.scatter + self.weight * gap**2)


@dataclass(frozen=True)
class Fit:
    """Scores and annotators, as fitted.

    Attributes:
        psi: score of each item, shape (M,).
        bias: of each annotator, with mean 0 over those who rated; shape (A,).
        variance: nu^2 of each annotator, shape (A,).
        log_likelihood: of the ratings, at their weights.
        n_iter, converged: of the search.
    """

    psi: Floats
    bias: Floats
    variance: Floats
    log_likelihood: float
    n_iter: int
    converged: bool


def ratio(top: npt.NDArray[Any], bottom: npt.NDArray[Any], empty: float = 0.0) -> Floats:
    """top / bottom, and `empty` where the bottom is 0."""
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), empty), where=bottom > 0))


def equal_variances(cells: Cells) -> Fit:
    """Least squares of x = psi + Delta + noise: scores free of the annotators' biases.

    Where every annotator rated every item these are the plain means, and the biases those of ITU-T P.913;
    elsewhere an item is freed of the biases of those who happened to rate it.
    """
    one = np.ones(cells.n_annotators)
    psi, bias = _two_way(cells, one, None)
    squares = float(cells.residuals(psi, bias).sum())
    raters = int((cells.n > 0).sum())
    freedom = max(int(cells.count.sum()) - cells.n_items - raters + 1, 1)
    variance = np.full(cells.n_annotators, squares / freedom)
    return Fit(psi, bias, variance, _log_likelihood(cells, psi, bias, variance), 1, True)


def own_variances(cells: Cells, shrinkage: float) -> Fit:
    """Maximum likelihood of x = psi + Delta + nu * noise (Li, Bampis, Krasula, Janowski and Le Callet 2020).

    Alternates between scores and biases, the ratings weighted by 1/nu^2, and the inconsistencies
    nu^2 = (sum of squared residuals + shrinkage * pooled variance) / (n + shrinkage).

    The likelihood itself has no maximum: it grows without bound as the scores approach the ratings of one
    annotator. `shrinkage`, in ratings, keeps the search from it; with 0 it ends where it settles.
    """
    start = equal_variances(cells)
    pooled = float(start.variance[0])
    scale = math.sqrt(max(pooled, float(np.var(cells.mean)), 1e-300))
    psi, bias = start.psi, start.bias
    n = cells.n + shrinkage
    floor = 1e-12 * scale**2  # an annotator who agrees to the last digit may not weigh infinitely
    variance, converged, n_iter = start.variance, False, 0
    while not converged and n_iter < MAX_ITERATIONS:
        n_iter += 1
        squares = cells.residuals(psi, bias) + shrinkage * pooled
        variance = np.maximum(ratio(squares, n, pooled), floor)
        before = psi
        psi, bias = _two_way(cells, variance, psi)
        converged = bool(np.abs(psi - before).max() <= TOLERANCE * scale)
    return Fit(psi, bias, variance, _log_likelihood(cells, psi, bias, variance), n_iter, converged)


def covariance(cells: Cells, variance: Floats) -> Floats:
    """Covariance of the scores, shape (M, M): the inverse of the Fisher information of scores and biases.

    The biases have mean 0 over the annotators, which fixes the scores' zero.
    """
    system = _System(cells, variance)
    base = np.asarray(system.dense_inverse())
    raters = (cells.n > 0) / np.count_nonzero(cells.n)
    a = ratio(raters * variance, cells.mass)
    g = np.asarray(cells.matrix @ (a / variance))
    shift = np.eye(cells.n_items) - g[None, :]
    return np.asarray(shift @ base @ shift.T + float(a @ (a * cells.mass / variance)))


def error_draws(cells: Cells, variance: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Draws of the error of the scores, shape (M, draws), for items too many for `covariance`."""
    found = np.empty((cells.n_items, draws))
    error = np.sqrt(variance[cells.annotator] / cells.weight)
    for k in range(draws):
        noise = Cells(
            cells.annotator, cells.item, cells.count, cells.weight, error * rng.normal(size=len(error)),
            cells.scatter, cells.n_annotators, cells.n_items,
        )  # fmt: skip
        found[:, k] = _two_way(noise, variance, None)[0]
    return found


def unbiased_variances(cells: Cells, fit: Fit, shrinkage: float) -> Floats:
    """The annotators' variances divided by degrees of freedom instead of ratings, shape (A,).

    An annotator pays for the own bias, and for each item's score in proportion to the annotator's share of
    its information. With likelihood variances, intervals of scores would be too short.
    """
    precision = cells.weight / fit.variance[cells.annotator]
    share = precision / cells.by_item(precision)[cells.item]
    n = np.maximum(cells.n, 1)
    paid = 1.0 + cells.by_annotator(share * (1.0 - 1.0 / n[cells.annotator]))
    return np.asarray(fit.variance * (n + shrinkage) / np.maximum(n - paid + shrinkage, 1.0))


class _System:
    """Normal equations of scores and biases with the biases eliminated, for given variances."""

    def __init__(self, cells: Cells, variance: Floats) -> None:
        self.cells = cells
        self.inverse = 1.0 / variance
        self.diagonal = cells.by_item(cells.weight * self.inverse[cells.annotator])
        self.pulled = ratio(self.inverse, cells.mass)

    def times(self, psi: Floats) -> Floats:
        inner = np.asarray(self.cells.turned @ psi) * self.pulled
        return np.asarray(self.diagonal * psi - self.cells.matrix @ inner)

    def solve(self, right: Floats, start: Floats | None) -> Floats:
        """A solution with mean 0; right sides sum to 0."""
        size = len(right)
        operator = LinearOperator((size, size), matvec=self.times, dtype=np.float64)
        inverse = 1.0 / self.diagonal
        before = LinearOperator((size, size), matvec=lambda v: inverse * v.ravel(), dtype=np.float64)
        found = cg(operator, right, x0=start, rtol=1e-13, atol=0.0, maxiter=10 * size + 100, M=before)[0]
        return np.asarray(found - found.mean())

    def dense_inverse(self) -> Floats:
        """The pseudo-inverse, shape (M, M)."""
        cells = self.cells
        dense = np.diag(self.diagonal) - (cells.matrix * self.pulled[None, :] @ cells.turned).toarray()
        # The null direction gets a curvature of its own, which is taken away from the inverse.
        size, shift = len(dense), float(self.diagonal.mean())
        inverse = cho_solve(cho_factor(dense + shift / size), np.eye(size))
        return np.asarray(inverse - 1.0 / (shift * size))


def _two_way(cells: Cells, variance: Floats, start: Floats | None) -> tuple[Floats, Floats]:
    """Weighted least squares of scores and biases, the biases having mean 0."""
    system = _System(cells, variance)
    center = float(cells.weight @ cells.mean / cells.weight.sum())
    precision = cells.weight * system.inverse[cells.annotator]
    right = cells.by_item(precision * (cells.mean - center))
    right -= np.asarray(cells.matrix @ (system.inverse * (cells.means - center * (cells.mass > 0))))
    psi = system.solve(right, start)
    bias = np.where(cells.mass > 0, cells.means - ratio(np.asarray(cells.turned @ psi), cells.mass), 0.0)
    middle = float(bias.sum() / np.count_nonzero(cells.n))
    return psi + middle, np.where(cells.mass > 0, bias - middle, 0.0)


def _log_likelihood(cells: Cells, psi: Floats, bias: Floats, variance: Floats) -> float:
    used = cells.n > 0
    safe = np.maximum(variance[used], 1e-300)
    squares = cells.residuals(psi, bias)[used]
    return float(-0.5 * (cells.n[used] * np.log(2 * np.pi * safe) + squares / safe).sum())
