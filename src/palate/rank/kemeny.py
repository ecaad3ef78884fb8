"""Kemeny's consensus: the ranking with the fewest pairwise disagreements."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.rank.battles import Battles
from palate.rank.connectivity import met
from palate.rank.consensus import Consensus, won
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import Scale
from palate.rank.linear_ordering import Order, solve
from palate.rank.majority import Majority

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(kw_only=True, repr=False, eq=False)
class Kemeny(Consensus):
    """Kemeny's rule (Kemeny 1959; Young and Levenglick 1978).

    The ranking for which the weight of comparisons that say the opposite is least. Groups of items within
    which victories go in circles (strong components of the majority relation) are ranked one by one: an order
    of the groups against which no majority stands always exists, so the whole is best if each part is. A
    group is ranked exactly, by linear programmes, or by a local search if it is large, which then says that
    it is not proven best.

    A rating is minus the rank. Neighbours in the ranking with as many votes for either order share their mean
    rank.

    Args:
        exact_items: groups of more items are left to the local search.
        time_limit: seconds for the proof of one group; what is found by then counts.
        both_bad, weights: as for every consensus method, see `Consensus`.

    Further attributes after `fit`:
        ranking_: all items, best first.
    """

    method = "kemeny"

    exact_items: int = 60
    time_limit: float = 10.0

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Find the ranking.

        Its diagnostics: disagreements (weight of comparisons against the ranking, ties being half whatever
        the ranking), lower_bound (no ranking has fewer), optimal (whether these prove it best), unique
        (whether it is the only best one; None if that is not known), groups (sizes of groups in which
        victories go in circles).

        Raises:
            DataError: nothing is compared.
            ConfigError: a parameter has a value that cannot be used, or a group has too many items.
        """
        self._number("exact_items", 0, whole=True)
        self._number("time_limit", 0)
        counted = self._counted(data)
        majority = Majority.of(counted)
        strength = won(counted) / np.maximum(counted.per_item(counted.total), 1e-300)
        order, parts = self._arranged(majority, strength)
        place = np.empty(counted.n_items, dtype=np.int64)
        place[order] = np.arange(counted.n_items)

        against = np.where(
            place[counted.first] < place[counted.second], majority.votes[:, 1], majority.votes[:, 0]
        )
        tied = counted.total.sum() - majority.votes.sum() * majority.unit
        least = majority.votes.min(axis=1).sum() + sum(part.bound for part in parts)
        decided = _decided(majority, order)
        rank = _mean_ranks(decided)
        self._set(counted, -rank[place], "minus the Kemeny rank")
        self.scale_ = Scale("minus the Kemeny rank", 1.0, -(counted.n_items + 1) / 2)
        self.ranking_ = [counted.items[i] for i in order]
        known = [part.unique for part in parts]
        self.diagnostics_ = {
            "components": met(counted)[0],
            "disagreements": float(against.sum() * majority.unit + tied / 2),
            "lower_bound": float(least * majority.unit + tied / 2),
            "optimal": all(part.optimal for part in parts),
            # A best ranking other than this one would have two of its neighbours the other way round.
            "unique": False if not decided.all() or False in known else None if None in known else True,
            "groups": sorted((len(part.order) for part in parts), reverse=True),
            **majority.diagnostics(),
        }
        return self

    def _arranged(self, majority: Majority, strength: Floats) -> tuple[Ints, list[Order]]:
        """All items in order, and the orders of the groups in which victories go in circles."""
        groups, labels = majority.components
        sizes = np.bincount(labels, minlength=groups)
        mean = np.bincount(labels, strength) / sizes
        along = _along_victories(majority, labels, mean)
        if groups == len(labels):
            return np.argsort(labels)[along], []
        members = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
        both = majority.margin[:, None] * np.array([1, -1])
        order, parts = [], []
        for group in along:
            inside = members[group]
            if len(inside) > 1:
                margin = majority.matrix(inside, both, self.method).astype(np.float64)
                start = np.lexsort((inside, -strength[inside]))
                parts.append(solve(margin, start, int(self.exact_items), float(self.time_limit)))
                inside = inside[parts[-1].order]
            order.append(inside)
        return np.concatenate(order), parts


def _along_victories(majority: Majority, labels: Ints, strength: Floats) -> Ints:
    """Groups in an order that no victory between two of them contradicts, shape (groups,).

    Args:
        majority: victories, without circles between groups.
        labels: group of each item, shape (M,).
        strength: of each group; of those that may come next the strongest does.
    """
    size = len(strength)
    edges = majority.victories.tocoo()
    source, target = labels[edges.row], labels[edges.col]
    across = source != target
    key = np.unique(source[across] * size + target[across])
    source, target = np.divmod(key, size)
    starts = np.searchsorted(source, np.arange(size + 1)).tolist()
    waiting = np.bincount(target, minlength=size).tolist()
    targets = target.tolist()
    rank = np.empty(size, dtype=np.int64)
    rank[np.argsort(-strength, kind="stable")] = np.arange(size)
    priority = rank.tolist()
    ready = [(priority[group], group) for group in range(size) if waiting[group] == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        _, group = heapq.heappop(ready)
        order.append(group)
        for after in targets[starts[group] : starts[group + 1]]:
            waiting[after] -= 1
            if waiting[after] == 0:
                heapq.heappush(ready, (priority[after], after))
    return np.array(order, dtype=np.int64)


def _decided(majority: Majority, order: Ints) -> npt.NDArray[np.bool_]:
    """Whether each item of a ranking and the next have unequal votes, shape (M - 1,)."""
    pairs = majority.comparisons
    keys = pairs.first * pairs.n_items + pairs.second
    if not len(keys):
        return np.zeros(len(order) - 1, dtype=bool)
    wanted = np.minimum(order[:-1], order[1:]) * pairs.n_items + np.maximum(order[:-1], order[1:])
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.asarray((keys[at] == wanted) & (majority.margin[at] != 0))


def _mean_ranks(decided: npt.NDArray[np.bool_]) -> Floats:
    """Ranks 1..M, equal within runs of neighbours that nothing decides between, shape (M,)."""
    run = np.concatenate([[0], np.cumsum(decided)])
    places = np.arange(1.0, len(run) + 1)
    return np.asarray((np.bincount(run, places) / np.bincount(run))[run])
