"""The majority relation of all pairs: who won more of their direct comparisons, and where that goes in
circles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from palate.errors import ConfigError
from palate.rank.battles import FIRST_WINS, SECOND_WINS
from palate.rank.counts import Comparisons

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MATRIX_ITEMS = 5000
"""Most items a square matrix is made for; the time of what is done with one grows with their cube."""

TRIPLE_ITEMS = 2000
"""Up to this many items circular triples are counted."""

NAMED = 20
"""At most so many members of a Smith set are named."""


@dataclass(frozen=True)
class Majority:
    """Majority relation over M items, from the P pairs that met. Pairs that never met are tied.

    Votes are whole numbers, so that equal weights stay equal whatever order they were summed in; weights
    that are not whole are counted in units of 1e-12 of the largest. Tied comparisons are votes for neither.

    Attributes:
        comparisons: the pairs.
        votes: for the first and for the second of each pair, shape (P, 2).
        unit: weight of a vote.
    """

    comparisons: Comparisons
    votes: Ints
    unit: float

    @classmethod
    def of(cls, comparisons: Comparisons) -> Majority:
        decided = comparisons.weight[:, [FIRST_WINS, SECOND_WINS]]
        unit = 1.0
        if (decided != np.rint(decided)).any() or decided.max(initial=0.0) > 2.0**52:
            unit = float(decided.max()) * 1e-12
        return cls(comparisons, np.rint(decided / unit).astype(np.int64), unit)

    @property
    def margin(self) -> Ints:
        """Votes for the first of each pair less those for the second, shape (P,)."""
        return np.asarray(self.votes[:, 0] - self.votes[:, 1])

    @cached_property
    def net(self) -> Ints:
        """Victories less defeats of each item, shape (M,)."""
        sign = np.sign(self.margin)
        return self.comparisons.per_item(sign, -sign).astype(np.int64)

    @cached_property
    def victories(self) -> csr_array:
        """1 where the row's item beats the column's, sparse of shape (M, M)."""
        first, second, margin = self.comparisons.first, self.comparisons.second, self.margin
        won, lost = margin > 0, margin < 0
        winner = np.concatenate([first[won], second[lost]])
        loser = np.concatenate([second[won], first[lost]])
        size = self.comparisons.n_items
        return csr_array((np.ones(len(winner), dtype=np.float32), (winner, loser)), shape=(size, size))

    @cached_property
    def blocks(self) -> list[Ints]:
        """The finest partition into groups each of which beats all later ones, item by item; the first is the
        Smith set.

        The k items with the most victories less defeats form such a beginning exactly if these sum to
        k (M - k): among themselves they cancel, and no more can be had from the others.
        """
        order = np.argsort(-self.net, kind="stable")
        k = np.arange(1, len(order) + 1)
        ends = np.flatnonzero(np.cumsum(self.net[order]) == k * (len(order) - k)) + 1
        return list(np.split(order, ends[:-1]))

    @cached_property
    def components(self) -> tuple[int, Ints]:
        """Groups within which everyone beats everyone through a chain of victories: how many, each item's."""
        found, labels = connected_components(self.victories, directed=True, connection="strong")
        return int(found), np.asarray(labels, dtype=np.int64)

    def cycle(self) -> list[int]:
        """A shortest circle of victories through the strongest item that is in any; empty if none is."""
        groups, labels = self.components
        inside = np.bincount(labels, minlength=groups)[labels] > 1
        if not inside.any():
            return []
        start = int(np.flatnonzero(inside)[np.argmax(self.net[inside])])
        reached, before = breadth_first_order(self.victories, start)
        beaten_by = self.victories[:, [start]].toarray().ravel() > 0
        last = int(next(item for item in reached if beaten_by[item]))
        path = [last]
        while path[-1] != start:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def circular_triples(self) -> int | None:
        """How many sets of three items beat each other in a circle; None beyond `TRIPLE_ITEMS` items."""
        groups, labels = self.components
        if groups == len(labels):
            return 0
        involved = np.flatnonzero(np.bincount(labels)[labels] > 1)
        if len(involved) > TRIPLE_ITEMS:
            return None
        beats = self.victories[involved][:, involved].toarray()
        return round(float(((beats @ beats) * beats.T).sum(dtype=np.float64)) / 3)

    def matrix(self, part: Ints, values: npt.NDArray[Any], method: str) -> npt.NDArray[Any]:
        """Values of each pair for its first and its second, shape (P, 2), as a square matrix of some items.

        Raises:
            ConfigError: there are more than `MATRIX_ITEMS` items in the part.
        """
        if len(part) > MATRIX_ITEMS:
            raise ConfigError(
                f"{method} needs a square matrix of {len(part):,} items that majorities do not order, more "
                f"than {MATRIX_ITEMS:,}; rank fewer items, or use 'borda' or 'copeland'"
            )
        place = np.full(self.comparisons.n_items, -1)
        place[part] = np.arange(len(part))
        i, j = place[self.comparisons.first], place[self.comparisons.second]
        inside = (i >= 0) & (j >= 0)
        square = np.zeros((len(part), len(part)), dtype=values.dtype)
        square[i[inside], j[inside]] = values[inside, 0]
        square[j[inside], i[inside]] = values[inside, 1]
        return square

    def diagnostics(self) -> dict[str, Any]:
        """What the majorities say whatever the method.

        Keys: condorcet_winner (the item that beats every other, or None), smith_set (the smallest group whose
        members beat all others; at most `NAMED` names), smith_set_size, majority_cycle (items each of which
        beats the next and the last the first; empty if there is none), circular_triples (None where not
        counted), tied_pairs (as many votes on both sides), unmet_pairs.
        """
        items, pairs = self.comparisons.items, len(self.comparisons.first)
        smith = self.blocks[0]
        return {
            "condorcet_winner": items[smith[0]] if len(smith) == 1 else None,
            "smith_set": [items[i] for i in smith[:NAMED]],
            "smith_set_size": len(smith),
            "majority_cycle": [items[i] for i in self.cycle()],
            "circular_triples": self.circular_triples(),
            "tied_pairs": int((self.margin == 0).sum()),
            "unmet_pairs": len(items) * (len(items) - 1) // 2 - pairs,
        }
