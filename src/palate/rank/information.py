"""Solves with the information matrix of a comparison model.

Strengths enter through differences, so the matrix is a weighted graph Laplacian, sum over pairs of c x x'
with x = e_first - e_second (plus a ridge). All-equal shifts are its null direction: right sides sum to zero
and solutions have mean zero, which is the same as using the pseudo-inverse.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack
from scipy.sparse import csr_array
from threadpoolctl import ThreadpoolController

from palate.errors import DataError
from palate.rank.counts import Clustered, Comparisons

Floats = npt.NDArray[np.float64]

ONE_THREAD_ITEMS = 1500
"""Up to this many items one BLAS thread is as fast as many, and far faster where others use the machine."""

DENSE_ITEMS = 3000
"""Up to this many items the matrix is factored; beyond, systems are solved by conjugate gradients."""


class Undetermined(DataError, LinAlgError):  # type: ignore[misc]
    """Comparisons whose information matrix is singular to working precision."""


@lru_cache(maxsize=1)
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def threads(size: int) -> AbstractContextManager[object]:
    """A context in which linear algebra on `size` items uses as many threads as are worth their waiting."""
    if size > ONE_THREAD_ITEMS:
        return nullcontext()
    return cast(AbstractContextManager[object], _thread_pools().limit(limits=1, user_api="blas"))


class Information:
    """The matrix L = sum_p curvature_p x_p x_p' + l2 I over the P pairs of `comparisons`.

    Args:
        comparisons: the pairs.
        curvature: their weights, shape (P,), not negative.
        l2: ridge added to the diagonal.

    Raises:
        Undetermined: the matrix has no factor to working precision.
    """

    def __init__(self, comparisons: Comparisons, curvature: Floats, l2: float = 0.0) -> None:
        self.size, self.l2 = comparisons.n_items, l2
        self.diagonal = comparisons.per_item(curvature) + l2
        self._factor: tuple[Floats, bool] | None = None
        self._beside: csr_array | None = None
        # The null direction gets a curvature of its own; on right sides that sum to zero it does not show.
        self._shift = float(self.diagonal.mean())
        if self.size <= DENSE_ITEMS:
            # The lower triangle is all that is read; in Fortran's order its cells come as the pairs do.
            level = self._shift / self.size
            dense = np.full((self.size, self.size), level, order="F")
            cells = dense.ravel(order="K")
            cells[comparisons.cell] = level - curvature
            cells[:: self.size + 1] = level + self.diagonal
            try:
                self._factor = cho_factor(dense, lower=True, overwrite_a=True, check_finite=False)
            except LinAlgError:
                raise Undetermined(
                    "the comparisons hardly determine the strengths: what connects some items weighs next to "
                    "nothing beside the rest",
                    file=comparisons.source, remedy="bring the weights closer together, or set l2 > 0",
                ) from None  # fmt: skip
        else:
            half = csr_array(
                (curvature, (comparisons.first, comparisons.second)), shape=(self.size, self.size)
            )
            self._beside = (half + half.T).tocsr()

    def solve(self, right: Floats, tolerance: float = 1e-12) -> Floats:
        """Solve L x = right for right sides (M,) or (M, B) whose columns sum to zero.

        Args:
            right: the right sides.
            tolerance: relative residual at which conjugate gradients stop; a factored matrix needs none.
        """
        if self._factor is not None:
            return np.asarray(cho_solve(self._factor, right, check_finite=False))
        columns = right.reshape(self.size, -1)
        return self._iterate(columns, tolerance).reshape(right.shape)

    def inverse(self) -> Floats:
        """The centred inverse (pseudo-inverse where l2 = 0), shape (M, M); only up to `DENSE_ITEMS`."""
        assert self._factor is not None
        lower, _ = lapack.dpotri(self._factor[0], lower=1)
        full = np.tril(lower) + np.tril(lower, -1).T
        return np.asarray(full - 1.0 / (self.size * (self._shift + self.l2)))

    def _iterate(self, right: Floats, tolerance: float) -> Floats:
        """Conjugate gradients with a diagonal preconditioner, all columns at once."""
        beside = self._beside
        assert beside is not None
        diagonal = self.diagonal[:, None]
        x = np.zeros_like(right)
        residual = right - right.mean(axis=0)
        goal = tolerance * np.linalg.norm(residual, axis=0)
        z = residual / diagonal
        direction = z.copy()
        rho = np.einsum("ij,ij->j", residual, z)
        for _ in range(10 * self.size):
            if (np.linalg.norm(residual, axis=0) <= goal).all():
                break
            product = diagonal * direction - beside @ direction
            curvature = np.einsum("ij,ij->j", direction, product)
            step = np.divide(rho, curvature, out=np.zeros_like(rho), where=curvature > 0)
            if not step.any():
                break
            x += step * direction
            residual -= step * product
            z = residual / diagonal
            before, rho = rho, np.einsum("ij,ij->j", residual, z)
            direction *= np.divide(rho, before, out=np.zeros_like(rho), where=before > 0)
            direction += z
        return np.asarray(x - x.mean(axis=0))


def laplacian(comparisons: Comparisons, weight: Floats) -> Floats:
    """The dense matrix sum_p weight_p x_p x_p', shape (M, M)."""
    size = comparisons.n_items
    dense = np.zeros(size * size)
    dense[comparisons.cell] = -weight
    upper = dense.reshape(size, size)
    whole = upper + upper.T
    whole.flat[:: size + 1] = -whole.sum(axis=1)
    return np.asarray(whole)


def score_matrix(clustered: Clustered, residual: Floats, size: int) -> csr_array:
    """Scores of the judgments that imply several comparisons, sparse of shape (judgments, M).

    Args:
        clustered: the comparisons.
        residual: weight times (outcome - probability) of the winner's side, one per comparison.
        size: number of items M.
    """
    rows = np.concatenate([clustered.cluster, clustered.cluster])
    columns = np.concatenate([clustered.winner, clustered.loser])
    values = np.concatenate([residual, -residual])
    return csr_array((values, (rows, columns)), shape=(int(clustered.cluster.max(initial=-1)) + 1, size))
