"""Cyclic ratings: items as vectors whose skew-symmetric product is the log-odds, so that orders may go in
circles."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.optimize
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh
from scipy.special import expit, log_expit

from palate.data.table import PreferenceData
from palate.errors import ConfigError, PalateWarning
from palate.rank import connectivity
from palate.rank.base import Ranker
from palate.rank.battles import Battles
from palate.rank.bradley_terry import decided
from palate.rank.counts import Comparisons, count
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DENSE = 200
"""Up to so many items the start comes from a dense eigendecomposition, beyond from a sparse one."""


@dataclass(kw_only=True, repr=False, eq=False)
class CyclicRatings(Ranker):
    """P(i beats j) = 1 / (1 + exp(-S_ij)), ``S_ij = sum_l (v_i[2l] v_j[2l+1] - v_i[2l+1] v_j[2l])``: a free
    vector per item, two coordinates a plane (preference embeddings of items; Zhang et al. 2024).

    S is skew-symmetric, S_ij = -S_ji, and needs no transitivity: a plane holds a circle, a scale, or a bent
    scale. The strength of an item is its mean log-odds over all items, which is the least-squares fit of
    differences to S; the board's win probabilities are those of S itself. S does not change if planes are
    turned or skewed, so vectors are only known up to that.

    The log-likelihood less ``l2 / 2 * sum |v|^2`` is maximised by L-BFGS from the leading planes of the
    observed shares. It has more than one maximum where `dim` is small.

    Args:
        dim: length of the vectors, even; 2 holds one circle or one scale, 4 one of each. Every table of M
            items is reached with M of them (M + 1 if odd).
        l2: ridge of the vectors; positive, as undecided pairs need it to be finite. Planes that the data do
            not bear out are shrunk to nothing.
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating.
        max_iter: of the optimiser.

    Further attributes after `fit` (see `Ranker` for the rest; there are no intervals):
        vectors_: shape (M, dim).
        planes_: share of |S|^2 in each plane of S (its real Schur form), largest first; shape (dim / 2,).
        transitive_: share of |S|^2 in differences of strengths; 1 for a scale, 0 for a pure circle, 0 too
            where S is 0.
        log_likelihood_: without the ridge.
        n_iter_, converged_: of the optimiser.
    """

    method = "cyclic"

    dim: int = 4
    l2: float = 0.1
    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    anchor: str | Mapping[str, float] | None = None
    max_iter: int = 2000

    vectors_: Floats = field(init=False)
    planes_: Floats = field(init=False)
    transitive_: float = field(init=False)
    log_likelihood_: float = field(init=False)
    n_iter_: int = field(init=False)
    converged_: bool = field(init=False)

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate the vectors.

        Raises:
            DataError: nothing is compared, or every comparison is a tie and ties are dropped.
            ConfigError: a parameter has a value that cannot be used.
        """
        self._choice("ties", ("half", "drop"))
        self._number("dim", 2, whole=True)
        if self.dim % 2:
            raise ConfigError(f"dim is {self.dim}; use an even number, two coordinates a plane")
        self._number("l2", 0.0, open=True)
        self._number("max_iter", 1, whole=True)
        counted = count(data, self.both_bad)
        self._anchor(counted.items)
        used = decided(counted) if self.ties == "drop" else counted
        connectivity.warn_apart(used, stacklevel=3)
        v, result = maximise(used, self.dim, self.l2, self.max_iter)
        if not result.success:
            warnings.warn(
                f"the fit stopped after {result.nit} iterations without reaching a maximum; raise max_iter",
                PalateWarning,
                stacklevel=2,
            )
        self.items_, self.vectors_, self.comparisons_ = used.items, v, used
        self.n_comparisons_ = used.n_comparisons
        self.strengths_, self.log_odds_ = mean_log_odds(v), partial(log_odds, v)
        self.planes_, self.transitive_ = shares(v)
        s = log_odds(v, used.first, used.second)
        self.log_likelihood_ = float(used.wins @ log_expit(s) + (used.total - used.wins) @ log_expit(-s))
        self.n_iter_, self.converged_ = int(result.nit), bool(result.success)
        self.diagnostics_ = {
            "components": connectivity.met(used)[0],
            "strong_components": connectivity.beaten(used)[0],
            "ties": counted.ties,
            "iterations": self.n_iter_,
            "converged": self.converged_,
            "log_likelihood": self.log_likelihood_,
            "l2": self.l2,
            "planes": self.planes_.tolist(),
            "transitive": self.transitive_,
            "no_intervals": "vectors have none here; bootstrap the judgments",
        }
        return self


def log_odds(v: Floats, first: Ints, second: Ints) -> Floats:
    """S of pairs of rows of `v` (M, dim): shape of `first` and `second`."""
    a, b = v[first], v[second]
    return np.asarray(
        np.einsum("...l,...l->...", a[..., 0::2], b[..., 1::2])
        - np.einsum("...l,...l->...", a[..., 1::2], b[..., 0::2])
    )


def turned(v: Floats) -> Floats:
    """Each row times R, by which <R a, b> = S(a, b): planes turned by 90 degrees, shape (M, dim)."""
    made = np.empty_like(v)
    made[:, 0::2], made[:, 1::2] = -v[:, 1::2], v[:, 0::2]
    return made


def mean_log_odds(v: Floats) -> Floats:
    """Mean of each row of S, shape (M,); their mean is 0."""
    # Beyond nine decimals stands what is left of the optimiser's rounding, which would order equal items.
    return np.asarray(np.round(turned(v) @ v.mean(axis=0), 9))


def shares(v: Floats) -> tuple[Floats, float]:
    """Share of |S|^2 in each plane of S, largest first, and in differences of the mean log-odds.

    The non-zero eigenvalues of S are those of V' R V, of size dim. They come in pairs +-i mu, one a plane,
    which holds 2 mu^2 of |S|^2.
    """
    eigenvalues = np.linalg.eigvals(v.T @ turned(v))
    parts = np.sort(eigenvalues.imag**2)[::-1][::2]
    total = 2.0 * float(parts.sum())
    if total == 0.0:
        return np.zeros_like(parts), 0.0
    r = mean_log_odds(v)
    return parts * (2.0 / total), min(1.0, 2.0 * len(v) * float(r @ r) / total)


def maximise(counted: Comparisons, dim: int, l2: float, max_iter: int) -> tuple[Floats, Any]:
    """Vectors of the largest penalised likelihood, shape (M, dim), and what the optimiser says."""
    i, j, wins, total = counted.first, counted.second, counted.wins, counted.total
    size, scale = counted.n_items, float(total.sum())

    def objective(flat: Floats) -> tuple[float, Floats]:
        v = flat.reshape(size, dim)
        s = log_odds(v, i, j)
        loss = -(wins @ log_expit(s) + (total - wins) @ log_expit(-s))
        slope = total * expit(s) - wins
        # dS_ij / dv_j = R v_i and dS_ij / dv_i = -R v_j, so the gradient is one skew-symmetric product.
        gradient = _skew(counted, -slope) @ turned(v) + l2 * v
        return float(loss + 0.5 * l2 * np.sum(v * v)) / scale, gradient.ravel() / scale

    result = scipy.optimize.minimize(
        objective, start(counted, dim).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": max_iter, "maxfun": 2 * max_iter, "gtol": 1e-8, "ftol": 1e-13, "maxcor": 20},
    )  # fmt: skip
    return result.x.reshape(size, dim), result


def start(counted: Comparisons, dim: int) -> Floats:
    """The best table of this many planes for the log-odds of the shrunk shares won, shape (M, dim).

    A plane of a skew-symmetric table T is the real and the imaginary part of an eigenvector of the Hermitian
    matrix iT. Pairs that never met count as even.
    """
    size = counted.n_items
    seen = np.log((counted.wins + 0.5) / (counted.total - counted.wins + 0.5))
    table = _skew(counted, 1j * seen)
    planes = min(dim // 2, size // 2)
    if size <= DENSE or planes >= size - 1:
        values, vectors = np.linalg.eigh(table.toarray())
    else:
        first = generator(0, "cyclic ratings").standard_normal(size).astype(complex)
        values, vectors = eigsh(table, k=planes, which="LA", v0=first)
    order = np.argsort(-values)[:planes]
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    v = np.zeros((size, dim))
    # With iT u = m u and u = x + iy, T holds 2 m (y x' - x y').
    root = np.sqrt(2.0 * values)
    v[:, 0 : 2 * planes : 2], v[:, 1 : 2 * planes : 2] = root * vectors.imag, root * vectors.real
    return v


def _skew(counted: Comparisons, values: npt.NDArray[Any]) -> csr_array:
    """The skew-symmetric matrix (M, M) with these values at (first, second) of each pair."""
    rows = np.concatenate([counted.first, counted.second])
    columns = np.concatenate([counted.second, counted.first])
    size = counted.n_items
    return csr_array((np.concatenate([values, -values]), (rows, columns)), shape=(size, size))
