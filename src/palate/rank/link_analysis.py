"""PageRank and eigenvector scores of the win matrix.

Both describe who beat whom and how often; they are no model of it. Scores depend on the schedule (an item
that played more has more to gain), have no scale on which a difference would mean a probability, and no
intervals.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from palate.data.table import PreferenceData
from palate.errors import DataError, PalateWarning
from palate.rank.base import Ranker
from palate.rank.battles import SECOND_WINS, TIE, Battles
from palate.rank.connectivity import beaten, describe_groups, met
from palate.rank.counts import Comparisons, count
from palate.rank.leaderboard import Scale

Floats = npt.NDArray[np.float64]

NOTE = (
    "Scores describe these comparisons and depend on who met whom and how often; they are not calibrated "
    "and have no intervals."
)


@dataclass(kw_only=True, repr=False, eq=False)
class LinkAnalysis(Ranker):
    """What the two share: the win matrix A, where A_ij is the weight of i's wins over j plus half their ties.

    The matrix is sparse, so time and memory grow with the pairs that met.

    Args:
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        weights: "importance", a judgment of weight w matters w times as much; "count", it stands for w equal
            judgments. The scores are the same, the counts are not.
        tolerance: the iteration ends when the scores, whose absolute values sum to 1, change by less in sum.
        max_iterations: or after so many steps, with a warning.

    Further attributes after `fit`:
        scores_: the scores, shape (M,).
        n_iter_: steps taken.
        converged_: whether the tolerance was reached.
    """

    link = None  # type: ignore[assignment]

    unit: ClassVar[str]

    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"
    tolerance: float = 1e-12
    max_iterations: int = 10_000

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Compute the scores.

        Raises:
            DataError: nothing is compared, or nothing has a score.
            ConfigError: a parameter has a value that cannot be used.
        """
        self._check()
        counted = count(data, self.both_bad, self.weights)
        ties = counted.ties
        if self.ties == "drop":
            counted = counted.without_ties()
        score = self._scores(counted, win_matrix(counted))
        mean = float(score.mean())
        self.items_, self.comparisons_, self.scores_ = counted.items, counted, score
        self.n_comparisons_ = counted.n_comparisons
        self.strengths_, self.scale_ = score - mean, Scale(self.unit, 1.0, mean)
        self.diagnostics_ = {
            "components": met(counted)[0],
            "strong_components": beaten(counted)[0],
            "ties": ties,
            "iterations": self.n_iter_,
            "converged": self.converged_,
            "note": NOTE,
        }
        return self

    def _check(self) -> None:
        self._choice("ties", ("half", "drop"))
        self._number("tolerance", 0, open=True)
        self._number("max_iterations", 1, whole=True)

    @abstractmethod
    def _scores(self, counted: Comparisons, wins: csr_array) -> Floats:
        """The scores of the items, shape (M,), from who beat whom."""

    def _iterate(self, step: Callable[[Floats], Floats], size: int) -> Floats:
        """Repeat a step, which keeps the sum of the scores at 1, from equal scores."""
        score = np.full(size, 1.0 / size)
        moved, self.n_iter_ = np.inf, 0
        while moved >= self.tolerance and self.n_iter_ < self.max_iterations:
            before, score = score, step(score)
            moved = float(np.abs(score - before).sum())
            self.n_iter_ += 1
        self.converged_ = moved < self.tolerance
        if self.converged_:
            return score
        warnings.warn(
            f"the scores still moved by {moved:.1g} after {self.n_iter_} steps; "
            "raise max_iterations or tolerance",
            PalateWarning,
            stacklevel=4,
        )
        return score


@dataclass(kw_only=True, repr=False, eq=False)
class PageRank(LinkAnalysis):
    """PageRank (Brin and Page 1998) of the graph in which each loser points to its winners.

    score_i = (1 - damping) / M + damping * sum_j score_j A_ij / sum_k A_kj: the share of time at i of a walk
    that goes from an item to one that beat it, by how often, and with probability 1 - damping (always from an
    unbeaten item) to any item at random. Scores sum to 1; a rating is the score.

    Args:
        damping: probability to follow a loss, below 1.

    The other parameters are those of `LinkAnalysis`.
    """

    method = "pagerank"
    unit = "PageRank (share of the walk)"

    damping: float = 0.85

    def _check(self) -> None:
        super()._check()
        self._number("damping", 0, 1)
        if self.damping == 1:
            self._number("damping", 0, 1, open=True)

    def _scores(self, counted: Comparisons, wins: csr_array) -> Floats:
        lost = np.asarray(wins.sum(axis=0)).ravel()
        share = np.divide(1.0, lost, out=np.zeros_like(lost), where=lost > 0)
        unbeaten = lost == 0

        def step(score: Floats) -> Floats:
            walked = self.damping * (wins @ (score * share))
            # What was not passed on, by chance or because nobody beat the item, goes to all alike.
            return np.asarray(
                walked + (1.0 - self.damping + self.damping * score[unbeaten].sum()) / len(score)
            )

        return self._iterate(step, counted.n_items)


@dataclass(kw_only=True, repr=False, eq=False)
class Eigenvector(LinkAnalysis):
    """Eigenvector scores (Landau 1895; Kendall 1955): an item's score is that of the items it beat, summed.

    score = A score / lambda, with the largest eigenvalue lambda of A; of Euclidean length 1, a rating being
    the score. Items that did not win have score 0. Where items cannot all beat each other through chains of
    wins, an item may have score 0 although it won (all it beat have score 0), see `strong_components` in the
    diagnostics; without any circle of wins there is no score at all.

    The transposed matrix, which some libraries iterate with, gives the losers the high scores.

    Parameters are those of `LinkAnalysis`.
    """

    method = "eigenvector"
    unit = "eigenvector score"

    def _scores(self, counted: Comparisons, wins: csr_array) -> Floats:
        if beaten(counted)[0] == counted.n_items:
            raise DataError(
                "no chain of wins returns to where it began, so the win matrix has no positive eigenvalue",
                file=counted.source, remedy="use method='pagerank', or one that models the comparisons",
            )  # fmt: skip
        apart, components = met(counted)
        if apart > 1:
            warnings.warn(
                f"{describe_groups(counted.items, apart, components)}; "
                "their scores depend on which group played more and cannot be compared",
                PalateWarning,
                stacklevel=4,
            )

        def step(score: Floats) -> Floats:
            passed = wins @ score
            # Half of the old scores stays: alternating wins would otherwise swing the scores for ever.
            passed += 0.5 * passed.sum() * score
            return np.asarray(passed / passed.sum())

        # A last step that keeps nothing makes scores of items without a win exactly 0.
        score = wins @ self._iterate(step, counted.n_items)
        return np.asarray(score / np.linalg.norm(score))


def win_matrix(counted: Comparisons) -> csr_array:
    """Weight of the row's wins over the column's item plus half their ties, sparse of shape (M, M)."""
    half = 0.5 * counted.weight[:, TIE]
    won, lost = counted.wins, counted.weight[:, SECOND_WINS] + half
    rows = np.concatenate([counted.first, counted.second])
    columns = np.concatenate([counted.second, counted.first])
    values = np.concatenate([won, lost])
    return csr_array((values, (rows, columns)), shape=(counted.n_items, counted.n_items))
