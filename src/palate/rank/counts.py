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
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.table import PreferenceData
from palate.data.views import pair_index
from palate.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]

# (first, second, weight, square, count) of `Comparisons`
_Pairs = tuple[Ints, Ints, Floats, Floats, Ints]
# (first, second, outcome, weight) of each comparison, its judgment where that is shared (else -1), and
# `unused`
_Rows = tuple[Codes, Codes, npt.NDArray[np.int8], Floats | None, Ints | None, int]

FIRST_WINS, SECOND_WINS, TIE = 0, 1, 2
"""Columns of `Comparisons.weight` and `Comparisons.square`."""


@dataclass(frozen=True)
class Implied:
    """Comparisons that share a judgment: a ranking of k items implies k(k-1)/2 that are not independent.

    All arrays have one entry per implied comparison: the judgment it comes from (numbered from 0 without
    gaps), the codes of winner and loser, whether it is a tie, and the weight of its score in the sum of
    squared scores: that of the judgment, or the square root of a weight that counts equal judgments.
    """

    judgment: Ints
    winner: Ints
    loser: Ints
    tie: npt.NDArray[np.bool_]
    weight: Floats


@dataclass(frozen=True)
class Comparisons:
    """Comparisons summed over equal pairs of M items; P pairs were compared at least once.

    Attributes:
        items: the M names; a code is a position in this list.
        first, second: codes of each pair, first < second, shape (P,).
        weight: total weight of "first wins", "second wins" and "tie", shape (P, 3).
        square: sums of squared weights, shape (P, 3), of those comparisons that are a judgment of their own.
        count: number of comparisons, whatever their weight, shape (P, 3).
        implied: the comparisons that share a judgment with others; they are part of `weight` and `count` but
            not of `square`, because their scores have to be summed within a judgment before they are squared.
        unused: number of judgments that compare nothing (one judged item, weight 0, a dropped tie).
        source: the file the judgments came from, for messages.
    """

    items: list[str]
    first: Ints
    second: Ints
    weight: Floats
    square: Floats
    count: Ints
    implied: Implied | None = None
    unused: int = 0
    source: str | Path | None = None

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_comparisons(self) -> int:
        return int(self.count.sum())

    @cached_property
    def total(self) -> Floats:
        """Weight of all comparisons of each pair, shape (P,)."""
        return np.asarray(self.weight.sum(axis=1))

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
        first, second, implied = self.first[decided], self.second[decided], self.implied
        if implied is not None:
            keep = ~implied.tie
            judgment = np.unique(implied.judgment[keep], return_inverse=True)[1]
            winner, loser = implied.winner[keep], implied.loser[keep]
            implied = Implied(judgment, winner, loser, implied.tie[keep], implied.weight[keep])
        return replace(
            self, first=first, second=second, weight=weight, square=square, count=counts, implied=implied
        )


def count(
    data: PreferenceData,
    both_bad: Literal["tie", "drop"] = "tie",
    weights: Literal["importance", "count"] = "importance",
) -> Comparisons:
    """Aggregate the judgments about named items.

    A judgment of k items gives all comparisons it implies: higher score beats lower, equal scores tie, NaN
    ("not judged") compares with nothing. A `choice` compares the chosen with each of the others and those not
    at all.

    Args:
        data: judgments with `items`; any k, mixed freely.
        both_bad: whether equal scores marked "both_bad" are ties or left out.
        weights: "importance", one judgment that matters that much; or "count", so many equal judgments (as in
            election profiles, one row a distinct ballot), which have smaller standard errors.

    Raises:
        DataError: there are no judgments, no items, a missing item, an item twice in one judgment, or no
            comparison; or a weight that should be a count is not a whole number.
        ConfigError: `both_bad` or `weights` has another value.
    """
    if weights not in ("importance", "count"):
        raise ConfigError(f"weights is {weights!r}; use 'importance' or 'count'")
    if both_bad not in ("tie", "drop"):
        raise ConfigError(f"both_bad is {both_bad!r}; use 'tie' or 'drop'")
    if data.n_rows == 0:
        raise DataError("no judgments to rank", file=data.source)
    if not data.has("items"):
        raise DataError(
            "the judgments name no items", field="items", file=data.source,
            remedy="name what is ranked (systems, songs, players) in the column 'items'",
        )  # fmt: skip
    codes, items = _encode(data)
    if len(items) < 2:
        raise DataError(
            f"only one item ('{items[0]}')",
            field="items",
            file=data.source,
            remedy="a ranking needs two or more",
        )
    offsets = data.offsets()
    paired = bool((np.diff(offsets) == 2).all())
    if paired:
        rows = _of_two(data, codes.reshape(-1, 2), both_bad)
    else:
        rows = _of_many(data, codes, offsets, both_bad)
    if len(rows[0]) == 0:
        raise _nothing_compared(data, offsets)
    frequency = weights == "count" and data.has("weight")
    if frequency:
        _refuse_fractions(data)
    return replace(_compared(items, rows, frequency), source=data.source)


def _encode(data: PreferenceData) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Codes of all alternatives in row order, flat, and the names in order of first appearance."""
    column = data.table.column("items")
    # Chunk by chunk where possible: joining the strings of many batches costs as much as encoding them.
    flat = pa.chunked_array([data.flat("items")]) if column.null_count else pc.list_flatten(column)
    if flat.null_count:
        missing = np.flatnonzero(flat.is_null().to_numpy())
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            "a missing item" + more, row=int(np.searchsorted(data.offsets(), missing[0], side="right")),
            field="items", file=data.source, remedy="name every item, or drop the row",
        )  # fmt: skip
    chunks = flat.dictionary_encode().unify_dictionaries().chunks
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks])
    return codes, chunks[0].dictionary.to_pylist()


def _of_two(data: PreferenceData, codes: npt.NDArray[np.int32], both_bad: str) -> _Rows:
    """Rows of two items: every row is at most one comparison."""
    scores = data.scores.reshape(-1, 2)
    left, right = scores[:, 0], scores[:, 1]
    lost = left < right
    outcome = (TIE - TIE * (left > right).view(np.int8) - lost.view(np.int8)).astype(np.int8, copy=False)
    first, second = codes[:, 0], codes[:, 1]
    weight = data.weights if data.has("weight") else None
    drop = np.zeros(0, dtype=bool)
    if np.isnan(scores.sum()):
        drop = np.isnan(left) | np.isnan(right)
    if (data.has("protocol") or (data.has("tie") and both_bad == "drop")) and (outcome == TIE).any():
        void = _is(data, "protocol", "choice")
        if both_bad == "drop":
            void |= _is(data, "tie", "both_bad")
        void &= outcome == TIE
        drop = drop | void if len(drop) else void
    if weight is not None and not weight.all():
        drop = drop | (weight == 0) if len(drop) else weight == 0
    _refuse_twice(data, first, second, None)
    unused = 0
    if drop.any():
        keep = ~drop
        unused = int(drop.sum())
        first, second, outcome = first[keep], second[keep], outcome[keep]
        weight = weight[keep] if weight is not None else None
    return first, second, outcome, weight, None, unused


def _of_many(data: PreferenceData, codes: npt.NDArray[np.int32], offsets: Ints, both_bad: str) -> _Rows:
    """Rows of any length, through the pairs they imply."""
    read = [name for name in ("scores", "protocol", "tie") if data.has(name)]
    index = pair_index(PreferenceData(data.table.select(read), check=False), ties="keep", both_bad=both_bad)
    judgment = index.judgment
    first = codes[offsets[judgment] + index.chosen]
    second = codes[offsets[judgment] + index.rejected]
    outcome = np.where(index.tie, TIE, FIRST_WINS).astype(np.int8)
    weight = data.weights[judgment] if data.has("weight") else None
    _refuse_twice(data, first, second, judgment)
    if weight is not None and not weight.all():
        keep = weight > 0
        first, second, outcome, weight = first[keep], second[keep], outcome[keep], weight[keep]
        judgment = judgment[keep]
    per_judgment = np.bincount(judgment, minlength=data.n_rows)
    unused = int((per_judgment == 0).sum())
    shared = per_judgment[judgment] > 1
    return first, second, outcome, weight, np.where(shared, judgment, -1), unused


def _is(data: PreferenceData, column: str, value: str) -> npt.NDArray[np.bool_]:
    codes, names = data.codes(column)
    if value not in names:
        return np.zeros(data.n_rows, dtype=bool)
    return np.asarray(codes == names.index(value))


def _refuse_twice(
    data: PreferenceData,
    first: Codes,
    second: Codes,
    judgment: Ints | None,
) -> None:
    same = first == second
    if same.any():
        at = int(np.flatnonzero(same)[0])
        row = at if judgment is None else int(judgment[at])
        name = data.column("items")[row].as_py()
        twice = next(item for item in name if name.count(item) > 1)
        raise DataError(
            f"the item '{twice}' is compared with itself", row=row + 1, field="items", file=data.source,
            remedy="drop the row, or name its items apart",
        )  # fmt: skip


def _refuse_fractions(data: PreferenceData) -> None:
    broken = np.flatnonzero(data.weights != np.rint(data.weights))
    if len(broken):
        raise DataError(
            f"the weight {data.weights[broken[0]]:g} is not a count", row=int(broken[0]) + 1, field="weight",
            file=data.source, remedy="give whole numbers, or set weights='importance'",
        )  # fmt: skip


def _nothing_compared(data: PreferenceData, offsets: Ints) -> DataError:
    judged = np.add.reduceat(~np.isnan(data.scores), offsets[:-1])
    if (judged < 2).all():
        return DataError(
            "every judgment scores a single item, so nothing is compared", file=data.source,
            remedy="bring the ratings of a prompt together with data.group_by_prompt(), or average them",
        )  # fmt: skip
    if data.has("weight") and not data.weights.any():
        return DataError(
            "every weight is 0", field="weight", file=data.source, remedy="give positive weights"
        )
    return DataError(
        "no judgment compares two items",
        file=data.source,
        remedy="keep ties (both_bad='tie'), or add comparisons",
    )


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
    key = first.astype(np.int64)
    key *= size
    key += second
    key *= 3
    key += outcome
    i, j = np.triu_indices(size, 1)

    def total(values: Floats | None) -> npt.NDArray[Any]:
        table = np.bincount(key, values, minlength=3 * size * size).reshape(size, size, 3)
        return np.asarray(table[i, j] + table[j, i][:, [SECOND_WINS, FIRST_WINS, TIE]])

    counts = total(None)
    met = counts.any(axis=1)
    i, j, counts = i[met], j[met], counts[met]
    if weight is None:
        sums = counts.astype(np.float64)
        return i, j, sums, sums, counts
    return i, j, total(weight), total(weight * weight), counts


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
    new = np.concatenate([[True], key[1:] != key[:-1]])
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


def _compared(items: list[str], rows: _Rows, frequency: bool) -> Comparisons:
    """Sum all rows; those that share a judgment stay out of the sums of squares and are kept by judgment."""
    first, second, outcome, weight, judgment, unused = rows
    size = len(items)
    i, j, sums, square, counts = _sums(size, first, second, outcome, weight, frequency)
    if judgment is None or (judgment < 0).all():
        return Comparisons(items, i, j, sums, square, counts, None, unused)
    shared, alone = judgment >= 0, judgment < 0
    square = np.zeros_like(sums)
    if alone.any():
        its = weight[alone] if weight is not None else None
        a, b, _, found, _ = _sums(size, first[alone], second[alone], outcome[alone], its, frequency)
        square[np.searchsorted(i * size + j, a * size + b)] = found
    weights = weight[shared] if weight is not None else np.ones(int(shared.sum()))
    implied = Implied(
        np.unique(judgment[shared], return_inverse=True)[1].astype(np.int64),
        first[shared].astype(np.int64),
        second[shared].astype(np.int64),
        outcome[shared] == TIE,
        np.sqrt(weights) if frequency else weights,
    )
    return Comparisons(items, i, j, sums, square, counts, implied, unused)


def _sums(
    size: int,
    first: Codes,
    second: Codes,
    outcome: npt.NDArray[np.int8],
    weight: Floats | None,
    frequency: bool,
) -> _Pairs:
    """As `_aggregate`, where a weight that is a frequency stands for so many rows of weight 1."""
    i, j, sums, square, counts = _aggregate(size, first, second, outcome, weight)
    if frequency:
        square, counts = sums, np.rint(sums).astype(np.int64)
    return i, j, sums, square, counts
