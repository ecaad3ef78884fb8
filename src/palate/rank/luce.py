"""Luce's choice axiom over rankings: every ranking is a series of choices, the best of those that are left.

A choice of r from the set S has probability p_r / sum_{j in S} p_j with p = exp(theta). Plackett-Luce and
Luce spectral ranking need of rankings what is here: the likelihood of their choices with two derivatives, and
the rates of a Markov chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from palate.rank.columns import each
from palate.rank.counts import Comparisons
from palate.rank.orderings import Orderings

Floats = npt.NDArray[np.float64]

Ties = Literal["efron", "breslow", "drop"]

TIES = ("efron", "breslow", "drop")
"""What it is that m items are tied, with T their sum of p and R that of all below them.

"efron": m choices, the t-th of them from R + (1 - t/m) T, t = 0..m-1, the mean of what is left (Efron 1977).
"breslow": m choices of one of them, each from R + T (Peto 1972, Breslow 1974).
"drop": each is chosen from R and itself; those tied are not compared with each other.

The first two are the treatments of tied times in Cox's regression, whose partial likelihood has the same
form. As the last of all is no choice, m items tied at the end are m - 1 choices from T, shared by them alike;
a tie of two is then half a win for each.
"""

FEW, PARTS = 1 << 16, 4
"""Rankings of more alternatives than `FEW` are gone through in so many parts, by threads."""

WIDEST = 700.0
"""Strengths further than this below the best count as this far: exp of more is no number."""


@dataclass(frozen=True)
class Point:
    """What rankings say at some strengths.

    Attributes:
        loss: minus the log-likelihood.
        gradient: of the loss, shape (M,).
        curvature: minus the second derivative of the loss for each pair of items, shape (P,); the second
            derivatives are the Laplacian matrix of these.
        score: of each ranking at weight 1, choices won minus those expected, beside its items (flat).
    """

    loss: float
    gradient: Floats
    curvature: Floats
    score: Floats


class Luce:
    """The choices of rankings.

    Args:
        rankings: the rankings.
        ties: how tied ranks enter, see `TIES`.
    """

    def __init__(self, rankings: Orderings, ties: Ties) -> None:
        self.rankings, self.ties = rankings, ties
        self._ties, self._pairs = TIES.index(ties), rankings.together
        weight = np.repeat(rankings.weight, np.diff(rankings.offsets))
        self.largest = float(np.bincount(rankings.code, weight).max())

    @cached_property
    def graph(self) -> Comparisons:
        """The P pairs of items in one ranking, as comparisons without weight."""
        first, second = self._pairs.first, self._pairs.second
        none, never = np.zeros((len(first), 3)), np.zeros((len(first), 3), dtype=np.int64)
        return Comparisons(self.rankings.items, first, second, none, none, never)

    def at(self, theta: Floats, l2: float = 0.0) -> Point:
        """Loss and derivatives at strengths theta, shape (M,), with a ridge in loss and gradient."""
        from palate.rank._luce_kernels import likelihood

        of, p, (table, key) = self.rankings, powers(theta), self._pairs.index
        score = np.empty(len(of.code))
        # A number of parts that does not depend on the machine keeps the sums the same everywhere.
        parts = PARTS if len(of.code) > FEW and len(self._pairs.first) < len(of.code) else 1
        edges = np.linspace(0, len(of), parts + 1).astype(int)
        gradient = np.zeros((parts, len(theta)))
        curvature = np.zeros((parts, len(self._pairs.first)))

        def add(part: int) -> float:
            low, high = edges[part], edges[part + 1]
            return float(
                likelihood(
                    of.code, of.place, of.offsets[low : high + 1], of.apart[low:high], of.weight[low:high],
                    self._ties, p, table, key, score, gradient[part], curvature[part],
                )
            )  # fmt: skip

        loss = sum(each(add, range(parts))) + 0.5 * l2 * float(theta @ theta)
        slope = gradient.sum(axis=0) + l2 * theta
        return Point(loss, slope - slope.mean(), curvature.sum(axis=0), score)

    def squares(self, score: Floats) -> Floats:
        """The sum of the squared scores of rankings as weights of a Laplacian matrix, shape (P,)."""
        from palate.rank._luce_kernels import products

        rankings = self.rankings
        size = rankings.n_items
        return np.asarray(
            products(rankings.code, rankings.offsets, rankings.square, score, size, *self._pairs.index)
        )

    def scores(self, score: Floats) -> csr_array:
        """Flat scores as a sparse matrix (N, M)."""
        shape = (len(self.rankings), self.rankings.n_items)
        return csr_array((score, self.rankings.code, self.rankings.offsets), shape=shape)

    def flow(self, theta: Floats) -> Floats:
        """Rates of the Markov chain of Luce spectral ranking, (P, 2): to the first of a pair, to the second.

        A choice of i from S makes each other j in S pass to i at the rate 1 / sum_S p, with p of mean 1. The
        chain's stationary distribution is p itself exactly where the likelihood has its maximum (Maystre and
        Grossglauser 2015).
        """
        from palate.rank._luce_kernels import flow

        of, (table, key) = self.rankings, self._pairs.index
        p = powers(theta)
        return np.asarray(
            flow(of.code, of.place, of.offsets, of.apart, of.weight, self._ties, p / p.mean(), table, key)
        )


def powers(theta: Floats) -> Floats:
    """exp(theta), scaled so that the largest is 1."""
    return np.asarray(np.exp(np.maximum(theta - theta.max(), -WIDEST)))
