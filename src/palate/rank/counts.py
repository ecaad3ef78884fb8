"""From judgments to aggregated comparisons: who met whom, how often, and with which outcome.

Every method whose likelihood depends on the judgments only through who beat whom is fitted from these counts,
so its cost after one pass over the rows depends on the number of distinct pairs and not on the number of
votes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.battles import FIRST_WINS, SECOND_WINS, TIE, Battles, Codes, Floats, Ints, battles

_STEP = 1 << 18
"""Rows counted into a table at a time, so that their keys stay in the processor's cache."""

# (first, second, weight, square, count) of `Comparisons`
_Pairs = tuple[Ints, Ints, Floats, Floats, Ints]


@dataclass(frozen=True)
class Clustered:
    """Comparisons that are not independent: those of one ranking, of one annotator, about one prompt.

    Equal comparisons of a cluster are summed. All arrays have one entry per comparison so summed: its cluster
    (numbered from 0 without gaps), the codes of winner and loser, whether it is a tie, and its weight in the
    cluster's score, which is squared as a whole: the weight itself, or the square root of a weight that
    counts equal judgments.
    """

    cluster: Ints
    winner: Ints
    loser: Ints
    tie: npt.NDArray[np.bool_]
    weight: Floats

    @property
    def n_clusters(self) -> int:
        return int(self.cluster.max(initial=-1)) + 1


@dataclass(frozen=True)
class Comparisons:
    """Comparisons summed over equal pairs of M items; P pairs were compared at least once.

    Attributes:
        items: the M names; a code is a position in this list.
        first, second: codes of each pair, first < second, shape (P,).
        weight: total weight of "first wins", "second wins" and "tie", shape (P, 3).
        square: sums of squared weights, shape (P, 3), of those comparisons that are a judgment of their own.
        count: number of comparisons, whatever their weight, shape (P, 3).
        clustered: the comparisons that depend on others; they are part of `weight` and `count` but not of
            `square`, because their scores have to be summed within a cluster before they are squared.
        unused: number of judgments that compare nothing (one judged item, weight 0, a dropped tie).
        source: the file the judgments came from, for messages.
    """

    items: list[str]
    first: Ints
    second: Ints
    weight: Floats
    square: Floats
    count: Ints
    clustered: Clustered | None = None
    unused: int = 0
    source: str | Path | None = None

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_comparisons(self) -> int:
        return int(self.count.sum())

    @cached_property
    def cell(self) -> Ints:
        """Of each pair, first * M + second: its place in a flat matrix of all items, shape (P,)."""
        return self.first * self.n_items + self.second

    @cached_property
    def total(self) -> Floats:
        """Weight of all comparisons of each pair, shape (P,)."""
        # Several times faster than sum(axis=1) over so short an axis.
        return np.asarray(np.einsum("po->p", self.weight))

    @cached_property
    def wins(self) -> Floats:
        """Weight of the wins of each pair's first item, a tie being half a win, shape (P,)."""
        return np.asarray(self.weight[:, FIRST_WINS] + 0.5 * self.weight[:, TIE])

    @property
    def ties(self) -> float:
        """Share of the weight that is on ties."""
        total = self.weight.sum()
        return float(self.weight[:, TIE].sum() / total) if total else 0.0

    def per_item(self, values: npt.NDArray[Any], to_second: npt.NDArray[Any] | None = None) -> Floats:
        """Sum a value of each pair over its items (`to_second` for the second, if it differs); shape (M,)."""
        other = values if to_second is None else to_second
        first = np.bincount(self.first, values, minlength=self.n_items)
        return np.asarray(first + np.bincount(self.second, other, minlength=self.n_items))

    def without_ties(self) -> Comparisons:
        """The same comparisons with every tie left out."""
        decided = self.count[:, :TIE].sum(axis=1) > 0
        weight, square, counts = (x[decided].copy() for x in (self.weight, self.square, self.count))
        weight[:, TIE] = square[:, TIE] = counts[:, TIE] = 0
        first, second, clustered = self.first[decided], self.second[decided], self.clustered
        if clustered is not None:
            keep = ~clustered.tie
            cluster = np.unique(clustered.cluster[keep], return_inverse=True)[1]
            winner, loser = clustered.winner[keep], clustered.loser[keep]
            clustered = Clustered(cluster, winner, loser, clustered.tie[keep], clustered.weight[keep])
        return replace(
            self, first=first, second=second, weight=weight, square=square, count=counts, clustered=clustered
        )

    def scaled(self, factor: Floats) -> Comparisons:
        """The same comparisons with the weight of each pair times `factor`, shape (P,), which is positive."""
        clustered = self.clustered
        if clustered is not None:
            pair = self.pair_of(clustered.winner, clustered.loser)
            clustered = replace(clustered, weight=clustered.weight * factor[pair])
        factor = factor[:, None]
        return replace(self, weight=self.weight * factor, square=self.square * factor**2, clustered=clustered)

    def __add__(self, other: Comparisons) -> Comparisons:
        """These comparisons and others, which may have other items; see `palate.rank.merging.merge`."""
        from palate.rank.merging import merge

        return merge((self, other)) if isinstance(other, Comparisons) else NotImplemented

    def pair_of(self, a: Ints, b: Ints) -> Ints:
        """The position among the P pairs of each pair of item codes, in either order, which has met."""
        key = np.minimum(a, b) * self.n_items + np.maximum(a, b)
        return np.asarray(np.searchsorted(self.cell, key))


def count(
    data: PreferenceData | Battles | Comparisons,
    both_bad: Literal["tie", "drop"] = "tie",
    weights: Literal["importance", "count"] = "importance",
    cluster: npt.NDArray[np.integer[Any]] | None = None,
) -> Comparisons:
    """Aggregate the judgments about named items; see `palate.rank.battles` for what a judgment implies.

    Args:
        data: judgments with `items`, any k, mixed freely; or their battles; counts are returned as they are.
        both_bad: whether equal scores marked "both_bad" are ties or left out.
        weights: "importance", one judgment that matters that much; or "count", so many equal judgments (as in
            election profiles, one row a distinct ballot), which have smaller standard errors.
        cluster: which cluster (user, prompt) each judgment belongs to, shape (rows,), -1 for one of its own.

    Raises:
        DataError: as `battles`; or a weight that should be a count is not a whole number.
        ConfigError: `both_bad` or `weights` has another value, or battles or counts are given that were made
            without it.
    """
    if weights not in ("importance", "count"):
        raise ConfigError(f"weights is {weights!r}; use 'importance' or 'count'")
    if isinstance(data, Comparisons):
        if (both_bad, weights) != ("tie", "importance"):
            raise ConfigError(
                "both_bad and weights say how judgments are counted, and these are; give them to `count`"
            )
        return data
    rows = battles(data, both_bad)
    frequency = weights == "count" and rows.weight is not None
    if frequency:
        _refuse_fractions(rows)
    return _compared(rows, _clusters(rows, cluster), frequency, rankings=cluster is None)


def _clusters(rows: Battles, cluster: npt.NDArray[np.integer[Any]] | None) -> Ints | None:
    """The cluster of each battle, -1 where it is independent of all others; None where all are."""
    if cluster is None:
        if not rows.shared:
            return None
        judgment = rows.judgment
        return np.where(np.bincount(judgment)[judgment] > 1, judgment, -1)
    of_rows = cluster.astype(np.int64)
    alone = of_rows < 0
    of_rows[alone] = of_rows.max(initial=-1) + 1 + np.arange(alone.sum())
    return np.asarray(rows.of(of_rows))


def _refuse_fractions(rows: Battles) -> None:
    broken = np.flatnonzero(rows.weights != np.rint(rows.weights))
    if len(broken):
        raise DataError(
            f"the weight {rows.weights[broken[0]]:g} is not a count", row=int(rows.judgment[broken[0]]) + 1,
            field="weight", file=rows.source, remedy="give whole numbers, or set weights='importance'",
        )  # fmt: skip


def _aggregate(
    size: int, first: Codes, second: Codes, outcome: npt.NDArray[np.int8], weight: Floats | None
) -> _Pairs:
    """Sum rows over equal pairs: (first, second, weight, square, count) as in `Comparisons`."""
    if 3 * size * size <= max(4 * len(first), 1 << 20):
        return _by_table(size, first, second, outcome, weight)
    return _by_sorting(size, first, second, outcome, weight)


def _by_table(
    size: int, first: Codes, second: Codes, outcome: npt.NDArray[np.int8], weight: Floats | None
) -> _Pairs:
    """Count into a table of all ordered pairs, for few items."""
    cells = 3 * size * size
    counts = np.zeros(cells, dtype=np.int64)
    sums, square = np.zeros((2, cells if weight is not None else 0))
    step = max(_STEP, 2 * cells)
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        key = first[part].astype(np.int64)
        key *= size
        key += second[part]
        key *= 3
        key += outcome[part]
        counts += np.bincount(key, minlength=cells)
        if weight is not None:
            sums += np.bincount(key, weight[part], minlength=cells)
            square += np.bincount(key, weight[part] ** 2, minlength=cells)
    i, j = np.triu_indices(size, 1)

    def of_pairs(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        table = values.reshape(size, size, 3)
        return np.asarray(table[i, j] + table[j, i][:, [SECOND_WINS, FIRST_WINS, TIE]])

    counted = of_pairs(counts)
    met = np.einsum("po->p", counted) > 0
    i, j, counted = i[met], j[met], counted[met]
    if weight is None:
        whole = counted.astype(np.float64)
        return i, j, whole, whole, counted
    return i, j, of_pairs(sums), of_pairs(square), counted


def _by_sorting(
    size: int, first: Codes, second: Codes, outcome: npt.NDArray[np.int8], weight: Floats | None
) -> _Pairs:
    """Sort and sum, for many items: memory grows with the rows, never with the square of the items."""
    turned = first > second
    key = np.where(turned, second, first).astype(np.int64)
    key *= size
    key += np.where(turned, first, second)
    outcome = np.where(turned & (outcome != TIE), 1 - outcome, outcome)
    order = np.argsort(key, kind="stable")
    key = key[order]
    new = np.ones(len(key), dtype=bool)
    new[1:] = key[1:] != key[:-1]
    cell = (np.cumsum(new) - 1) * 3 + outcome[order]
    i, j = np.divmod(key[new], size)

    def total(values: Floats | None) -> npt.NDArray[Any]:
        return np.bincount(cell, values, minlength=3 * len(i)).reshape(len(i), 3)

    counts = total(None)
    if weight is None:
        sums = counts.astype(np.float64)
        return i, j, sums, sums, counts
    weight = weight[order]
    return i, j, total(weight), total(weight * weight), counts


def _compared(rows: Battles, cluster: Ints | None, frequency: bool, rankings: bool) -> Comparisons:
    """Sum all battles; those of a cluster stay out of the sums of squares and are kept by cluster.

    Clusters that are rankings come in order and name no pair twice, which saves sorting them.
    """
    size = len(rows.items)
    every: Any = slice(None)
    i, j, sums, square, counts = _sums(rows, every, frequency)
    clustered = None
    if cluster is not None and (cluster >= 0).any():
        inside, alone = cluster >= 0, cluster < 0
        square = np.zeros_like(sums)
        if alone.any():
            a, b, _, found, _ = _sums(rows, alone, frequency)
            square[np.searchsorted(i * size + j, a * size + b)] = found
        part = every if inside.all() else inside
        clustered = _by_cluster(rows, part, cluster[part], summed=rankings)
        if frequency and rankings:
            clustered = replace(clustered, weight=np.sqrt(clustered.weight))
    return Comparisons(rows.items, i, j, sums, square, counts, clustered, rows.unused, rows.source)


def _by_cluster(rows: Battles, part: Any, cluster: Ints, *, summed: bool) -> Clustered:
    """The clusters of a part of the battles; `summed` if they are in order and no pair recurs in one."""
    size = len(rows.items)
    first, second = rows.first[part].astype(np.int64), rows.second[part].astype(np.int64)
    outcome, weight = rows.outcome[part], rows.weights[part]
    tie, turned = outcome == TIE, outcome == SECOND_WINS
    turned |= tie & (first > second)
    if turned.any():
        first, second = np.where(turned, second, first), np.where(turned, first, second)
    if summed:
        number = np.concatenate([[0], np.cumsum(cluster[1:] != cluster[:-1])])
        return Clustered(number, first, second, tie, weight)
    return sum_clusters(size, cluster, first, second, tie, weight)


def sum_clusters(
    size: int, cluster: Ints, winner: Ints, loser: Ints, tie: npt.NDArray[np.bool_], weight: Floats
) -> Clustered:
    """Comparisons in clusters, summed over the equal ones of a cluster; of a tie, winner < loser."""
    cluster = np.unique(cluster, return_inverse=True)[1]
    comparison = (winner * size + loser) * 2 + tie
    order = np.lexsort((comparison, cluster))
    cluster, comparison = cluster[order], comparison[order]
    new = np.concatenate([[True], (cluster[1:] != cluster[:-1]) | (comparison[1:] != comparison[:-1])])
    at = order[new]
    total = np.add.reduceat(weight[order], np.flatnonzero(new))
    return Clustered(cluster[new], winner[at], loser[at], tie[at], total)


def _sums(rows: Battles, part: Any, frequency: bool) -> _Pairs:
    """As `_aggregate` of a part of the battles, where a weight that is a frequency stands for so many."""
    weight = None if rows.weight is None else rows.weight[part]
    size, first, second = len(rows.items), rows.first[part], rows.second[part]
    i, j, sums, square, counts = _aggregate(size, first, second, rows.outcome[part], weight)
    if frequency:
        square, counts = sums, np.rint(sums).astype(np.int64)
    return i, j, sums, square, counts
