"""Consensus rankings by counting: Borda, Copeland and Schulze. Kemeny's is in `palate.rank.kemeny`.

They aggregate preferences and model nothing: a strength is a score on the method's own scale, there are no
probabilities and no intervals, and items that the method does not separate have equal strengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import DataError
from palate.rank.base import Ranker
from palate.rank.battles import Battles
from palate.rank.connectivity import listed, met
from palate.rank.counts import Comparisons, count
from palate.rank.leaderboard import Scale
from palate.rank.majority import Majority

Floats = npt.NDArray[np.float64]


@dataclass(kw_only=True, repr=False, eq=False)
class Consensus(Ranker):
    """What the consensus methods share.

    Args:
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        weights: "importance", a judgment of weight w matters w times as much; "count", it stands for w equal
            judgments, as the ballots of an election profile do. The ranking is the same, the counts are not.
    """

    link = None  # type: ignore[assignment]

    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"

    def _counted(self, data: PreferenceData | Battles | Comparisons) -> Comparisons:
        return count(data, self.both_bad, self.weights)

    def _set(self, counted: Comparisons, score: Floats, unit: str) -> None:
        """Learn a score per item, shape (M,), as strengths around its mean."""
        mean = float(score.mean())
        self.items_, self.comparisons_ = counted.items, counted
        self.n_comparisons_ = counted.n_comparisons
        self.strengths_, self.scale_ = score - mean, Scale(unit, 1.0, mean)


@dataclass(kw_only=True, repr=False, eq=False)
class Borda(Consensus):
    """Borda count (de Borda 1784): an alternative earns a point for each one ranked below it in a judgment.

    The points of an item are thus its pairwise wins within judgments, half a point for a tie. A rating of k
    alternatives is a ranking with ties; alternatives that were not judged give and get nothing.

    Args:
        partial: how judgments that do not cover all items count. "share" is points over the points that could
            be had, the share of alternatives beaten among those judged together: comparable between items
            that were judged unequally often, and in the order of the points where all judgments cover all
            items. "points" is the plain sum, which favours items that were judged often.
        ties: "half" counts a tie as half a point for both, "drop" leaves ties out.
        both_bad, weights: as for every consensus method, see `Consensus`.
    """

    method = "borda"

    partial: Literal["share", "points"] = "share"
    ties: Literal["half", "drop"] = "half"

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Add up the points.

        Raises:
            DataError: nothing is compared, or `partial` is "share" and an item is in no comparison.
            ConfigError: a parameter has a value that cannot be used.
        """
        self._choice("partial", ("share", "points"))
        self._choice("ties", ("half", "drop"))
        counted = self._counted(data)
        ties = counted.ties
        if self.ties == "drop":
            counted = counted.without_ties()
        points, possible = won(counted), counted.per_item(counted.total)
        if self.partial == "share":
            refuse_unmet(counted, possible)
            self._set(
                counted, points / possible, "Borda share (of the alternatives judged with it, those beaten)"
            )
        else:
            self._set(counted, points, "Borda points (alternatives beaten, over all judgments)")
        self.diagnostics_ = {
            "components": met(counted)[0],
            "ties": ties,
            "points_possible": [float(possible.min()), float(possible.max())],
            **Majority.of(counted).diagnostics(),
        }
        return self


@dataclass(kw_only=True, repr=False, eq=False)
class Copeland(Consensus):
    """Copeland's rule (1951): the number of opponents beaten by a majority, plus half of those tied with.

    A pair is won by the item with more weight of wins in their comparisons, by whatever margin. Pairs that
    never met are tied. The item that beats all others (the Condorcet winner), where there is one, is first.
    """

    method = "copeland"

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Count victories.

        Raises:
            DataError: nothing is compared.
            ConfigError: a parameter has a value that cannot be used.
        """
        counted = self._counted(data)
        majority = Majority.of(counted)
        score = (len(counted.items) - 1 + majority.net) / 2
        self._set(counted, score, "Copeland score (opponents beaten, ties half)")
        self.diagnostics_ = {"components": met(counted)[0], **majority.diagnostics()}
        return self


@dataclass(kw_only=True, repr=False, eq=False)
class Schulze(Consensus):
    """Schulze's method (2011): i beats j if the strongest path of victories from i to j beats the one back.

    A path is as strong as its weakest victory. Strengths count the items that an item beats in this sense,
    those undecided being half; the relation is transitive, so i beats j implies a higher strength, and items
    of equal strength are undecided between. Pairs that never met are tied and give no victory.

    Time grows with the cube of the largest group that majorities do not split (`MATRIX_ITEMS` at most).

    Args:
        strength: of a victory: "winning_votes", the weight of those who prefer the winner, as Schulze
            recommends; or "margins", less the weight of those who prefer the loser. Tied comparisons are
            votes for neither.
        both_bad, weights: as for every consensus method, see `Consensus`.
    """

    method = "schulze"

    strength: Literal["winning_votes", "margins"] = "winning_votes"

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Find the strongest paths between all items.

        Raises:
            DataError: nothing is compared.
            ConfigError: a parameter has a value that cannot be used, or there are too many items.
        """
        self._choice("strength", ("winning_votes", "margins"))
        counted = self._counted(data)
        majority = Majority.of(counted)
        votes, margin = majority.votes, majority.margin[:, None] * np.array([1, -1])
        victory = np.where(margin > 0, votes if self.strength == "winning_votes" else margin, 0)
        net = np.empty(counted.n_items)
        undecided, ahead = 0, 0
        for block in majority.blocks:
            # Between blocks all victories point one way, so no path leaves a block and returns.
            paths = strongest_paths(majority.matrix(block, victory, self.method))
            beats = paths > paths.T
            behind = counted.n_items - ahead - len(block)
            net[block] = beats.sum(axis=1) - beats.sum(axis=0) + behind - ahead
            undecided += len(block) * (len(block) - 1) // 2 - int(beats.sum())
            ahead += len(block)
        score = (counted.n_items - 1 + net) / 2
        self._set(counted, score, "items beaten in Schulze's order, undecided ones half")
        best = np.flatnonzero(net == net.max())
        self.diagnostics_ = {
            "components": met(counted)[0],
            "winners": [counted.items[i] for i in best],
            "undecided_pairs": undecided,
            **majority.diagnostics(),
        }
        return self


def strongest_paths(victory: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Codes of the strengths of the strongest paths between n items, shape (n, n), in the order of strength.

    Only comparisons of strengths enter (Floyd and Warshall's algorithm with max and min), so they are
    replaced by their ranks among the distinct values, which mostly fit into two bytes.

    Args:
        victory: strength of the row's victory over the column's item, shape (n, n); 0 where it has none.
    """
    distinct, codes = np.unique(victory, return_inverse=True)
    kind = np.uint16 if len(distinct) <= 1 << 16 else np.uint32
    paths = codes.reshape(victory.shape).astype(kind)
    through = np.empty_like(paths)
    for k in range(len(paths)):
        np.minimum(paths[:, k, None], paths[k], out=through)
        np.maximum(paths, through, out=paths)
    # A path from an item back to itself decides nothing.
    np.fill_diagonal(paths, 0)
    return paths


def won(counted: Comparisons) -> Floats:
    """Weight of the comparisons each item won, a tie being half, shape (M,)."""
    return counted.per_item(counted.wins, counted.total - counted.wins)


def refuse_unmet(counted: Comparisons, possible: Floats) -> None:
    """Raise a `DataError` that names the items without any comparison.

    Args:
        counted: the comparisons.
        possible: weight of each item's comparisons, shape (M,).
    """
    unmet = np.flatnonzero(possible == 0)
    if len(unmet):
        names = listed([counted.items[i] for i in unmet], 5)
        raise DataError(
            f"no comparison of {names}, so no share of them was won", field="items", file=counted.source,
            remedy="compare them, drop them, or keep ties (ties='half') if they only tied",
        )  # fmt: skip
