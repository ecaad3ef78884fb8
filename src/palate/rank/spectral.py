"""Strengths from the stationary distribution of a Markov chain that walks from losers to winners."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgWarning
from scipy.linalg import solve as solve_linear
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, gmres

from palate.data.table import PreferenceData
from palate.errors import DataError, PalateWarning
from palate.rank import connectivity
from palate.rank.base import Ranker
from palate.rank.battles import Battles
from palate.rank.counts import Comparisons, count
from palate.rank.information import DENSE_ITEMS, threads
from palate.rank.leaderboard import anchored
from palate.rank.luce import TIES, Luce, Ties
from palate.rank.orderings import Orderings
from palate.rank.plackett_luce import TOLERANCE, as_orderings, compared, described, maximise, spread

Floats = npt.NDArray[np.float64]

Source = PreferenceData | Battles | Comparisons | Orderings


@dataclass(kw_only=True, repr=False, eq=False)
class RankCentrality(Ranker):
    """The random walk that goes from i to j in proportion to the share of their comparisons that j won;
    strengths are the logarithms of its stationary distribution (Negahban, Oh and Shah 2012).

    Every pair counts the same, however often it was compared. Consistent under Bradley-Terry, but not its
    maximum-likelihood estimate. No intervals: use "ilsr" or "bradley_terry" for those.

    Args:
        ties: "half" counts a tie as half a win for each, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        weights: "importance" or "count", see `palate.rank.count`.
        alpha: wins added to both sides of every pair of items, also of those that never met, before shares
            are taken. Positive values connect any data.
        anchor: an item, or {item: rating}, that fixes the ratings' zero.
    """

    method = "rank_centrality"

    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"
    alpha: float = 0.0
    anchor: str | Mapping[str, float] | None = None

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate the strengths.

        Raises:
            DataError: nothing is compared, or the walk cannot reach every item from every other and alpha is
                0 (the items are named).
            ConfigError: a parameter has a value that cannot be used.
        """
        self._choice("ties", ("half", "drop"))
        self._number("alpha", 0.0)
        if self.anchor is not None:
            anchored(self.anchor)
        counted = count(data, self.both_bad, self.weights)
        self._anchor(counted.items)
        ties = counted.ties
        if self.ties == "drop":
            counted = counted.without_ties()
            if len(counted.first) == 0:
                raise DataError(
                    "every comparison is a tie", file=counted.source, remedy="count them with ties='half'"
                )
        if self.alpha == 0:
            _refuse_separated(counted)
        won = np.stack([counted.wins, counted.total - counted.wins], axis=1)
        rates = (won + self.alpha) / (counted.total + 2 * self.alpha)[:, None]
        # Pairs that never met have a share of one half if alpha is added to both of its sides.
        others = 0.5 if self.alpha else 0.0
        with threads(counted.n_items):
            theta, converged = stationary(counted, rates - others, others, np.zeros(counted.n_items))
        if not converged:
            _warn_slow(self.method, "alpha")
        self.items_, self.strengths_ = counted.items, theta
        self.comparisons_, self.n_comparisons_ = counted, counted.n_comparisons
        self.diagnostics_ = {**_connected(counted), "ties": ties, "alpha": self.alpha, "converged": converged}
        return self


@dataclass(kw_only=True, repr=False, eq=False)
class LuceSpectralRanking(Ranker):
    """The random walk in which each choice of i from a set S makes the others of S pass to i at the rate
    1 / |S|; strengths are the logarithms of its stationary distribution (Maystre and Grossglauser 2015).

    One pass over rankings or comparisons, as good as "ilsr" where all items are about as strong. No
    intervals: use "ilsr" for those.

    Args:
        ties: how tied ranks enter, as in `PlackettLuce`; a tie of two is half a win for each but with "drop".
        both_bad: whether equal scores marked "both_bad" are ties or not compared.
        weights: "importance" or "count", see `palate.rank.count`.
        alpha: added to the rate from every item to every other. Positive values connect any data.
        anchor: an item, or {item: rating}, that fixes the ratings' zero.
    """

    method = "lsr"

    ties: Ties = "efron"
    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"
    alpha: float = 0.0
    anchor: str | Mapping[str, float] | None = None

    def fit(self, data: Source) -> Self:
        """Estimate the strengths.

        Raises:
            DataError: nothing is compared, or the walk cannot reach every item from every other and alpha is
                0 (the items are named).
            ConfigError: a parameter has a value that cannot be used, or comparisons were counted from longer
                rankings.
        """
        model = self._model(data)
        with threads(model.rankings.n_items):
            theta, converged = self._walk(model, np.zeros(model.rankings.n_items))
        if not converged:
            _warn_slow(self.method, "alpha")
        self.strengths_ = theta
        self.diagnostics_["converged"] = converged
        return self

    def _model(self, data: Source) -> Luce:
        """Check parameters and data, and learn all that does not depend on the strengths."""
        self._choice("ties", TIES)
        self._number("alpha", 0.0)
        if self.anchor is not None:
            anchored(self.anchor)
        rankings = as_orderings(data, self.both_bad, self.weights, self.method)
        self._anchor(rankings.items)
        counted = compared(rankings, self.ties)
        if self.alpha == 0:
            _refuse_separated(counted)
        self.items_, self.n_ = rankings.items, rankings.per_item()
        self.comparisons_, self.n_comparisons_ = counted, counted.n_comparisons
        self.diagnostics_ = {**described(rankings, counted), **_connected(counted), "alpha": self.alpha}
        return Luce(rankings, self.ties)

    def _walk(self, model: Luce, theta: Floats, passes: int = 20) -> tuple[Floats, bool]:
        return stationary(model.graph, model.flow(theta), self.alpha, theta, passes)


@dataclass(kw_only=True, repr=False, eq=False)
class IterativeLSR(LuceSpectralRanking):
    """Luce spectral ranking with rates 1 / sum_S exp(theta), repeated until theta stays: the
    maximum-likelihood strengths of Bradley-Terry and Plackett-Luce (Maystre and Grossglauser 2015).

    "plackett_luce" finds the same strengths in fewer steps; this one takes `alpha` in place of a ridge.

    Args:
        ties, both_bad, weights, alpha, anchor: as in `LuceSpectralRanking`.
        max_iter: most passes over the rankings.
        interval: "sandwich" or "hessian", those of the maximum-likelihood estimate. With alpha > 0 the
            strengths are none, and have no intervals.
        level: coverage of the intervals.
    """

    method = "ilsr"

    max_iter: int = 500
    interval: Literal["sandwich", "hessian"] = "sandwich"
    level: float = 0.95

    def fit(self, data: Source) -> Self:
        """Estimate the strengths; see `LuceSpectralRanking.fit`."""
        self._choice("interval", ("sandwich", "hessian"))
        self._number("level", 0.0, 1.0, open=True)
        self._number("max_iter", 1, whole=True)
        model = self._model(data)
        theta = np.zeros(model.rankings.n_items)
        converged, passes = False, 0
        with threads(len(theta)):
            while not converged and passes < self.max_iter:
                passes += 1
                # The rates change with theta, so that more than one improvement at a time would be wasted.
                theta, converged = self._walk(model, theta, passes=1)
            fitted = maximise(model, 0.0, theta, steps=0)
            self.covariance_ = self.draws_ = None
            if self.alpha == 0:
                self.covariance_, self.draws_ = spread(
                    model, fitted, 0.0, sandwich=self.interval == "sandwich"
                )
        if not converged:
            _warn_slow(self.method, "alpha or max_iter")
        self.strengths_ = theta
        self.diagnostics_ |= {
            "iterations": passes,
            "converged": converged,
            "log_likelihood": fitted.log_likelihood,
            "interval": self.interval if self.alpha == 0 else None,
        }
        return self


def stationary(
    pairs: Comparisons, rates: Floats, others: float, theta: Floats, passes: int = 20
) -> tuple[Floats, bool]:
    """Logarithms, with mean 0, of the stationary distribution of a Markov chain, and whether they stay.

    A guess p is improved by the factors x that balance the flow p_i x_i rate_ij into and out of every state,
    so that small shares become as exact as large ones. Up to `DENSE_ITEMS` states the system is factored,
    beyond it is solved by GMRES.

    Args:
        pairs: the P pairs of items that the chain goes between.
        rates: to the first item of each pair from the second, and back, shape (P, 2).
        others: a rate from every item to every other, added to these.
        theta: logarithms of the guess.
        passes: most improvements.
    """
    size, first, second = pairs.n_items, pairs.first, pairs.second
    solve = _solve_dense if size <= DENSE_ITEMS else _solve_sparse
    for _ in range(passes):
        guess = np.exp(theta - theta.max())
        to_first, to_second = rates[:, 0] * guess[second], rates[:, 1] * guess[first]
        into = csr_array(
            (np.r_[to_first, to_second], (np.r_[first, second], np.r_[second, first])), shape=(size, size)
        )
        change = solve(into, others * guess)
        factor = np.maximum(1.0 + change, 1e-6)
        theta = theta + np.log(factor)
        theta -= theta.mean()
        if np.abs(np.log(factor / factor.mean())).max() <= TOLERANCE:
            return theta, True
    return theta, False


def _solve_dense(into: csr_array, others: Floats) -> Floats:
    """What to add to 1 for each state to balance the flows `into` (to, from), and `others` to all."""
    flow = into.toarray() + others
    np.fill_diagonal(flow, 0.0)
    leaving = flow.sum(axis=0)
    missing = flow.sum(axis=1) - leaving
    # Flows fix the factors up to a common one; that what is added sums to 0 makes the system regular.
    system = 1.0 / len(leaving) - flow / leaving[:, None]
    system.flat[:: len(leaving) + 1] += 1.0
    with warnings.catch_warnings():
        # A system near to singular shows in the flows, which then are not balanced.
        warnings.simplefilter("ignore", LinAlgWarning)
        return np.asarray(solve_linear(system, missing / leaving, overwrite_a=True, check_finite=False))


def _solve_sparse(into: csr_array, others: Floats) -> Floats:
    """As `_solve_dense`, for many states."""
    size = len(others)
    leaving = np.asarray(into.sum(axis=0)).ravel() + others * (size - 1)

    def unbalanced(x: Floats) -> Floats:
        return np.asarray(x - (into @ x + float(others @ x) - others * x) / leaving)

    balance = LinearOperator((size, size), matvec=unbalanced, dtype=np.float64)
    return np.asarray(gmres(balance, -unbalanced(np.ones(size)), rtol=1e-8, restart=50, maxiter=40)[0])


def _connected(counted: Comparisons) -> dict[str, int]:
    return {
        "components": connectivity.met(counted)[0],
        "strong_components": connectivity.beaten(counted)[0],
    }


def _refuse_separated(counted: Comparisons) -> None:
    """As `connectivity.refuse_separated`, with the remedy these methods have."""
    try:
        connectivity.refuse_separated(counted)
    except DataError as error:
        remedy = error.remedy.replace("l2 > 0", "alpha > 0")
        raise DataError(error.problem, remedy=remedy, file=error.file) from None


def _warn_slow(method: str, cure: str) -> None:
    warnings.warn(
        f"{method} did not converge: the comparisons hardly connect some of the items; raise {cure}",
        PalateWarning,
        stacklevel=3,
    )
