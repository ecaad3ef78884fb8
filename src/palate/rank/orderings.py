"""From judgments to rankings: who was put above whom, best first, equal rankings summed.

Methods that need a ranking as a whole (Plackett-Luce, Luce spectral ranking) start here. A battle is a
ranking of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.battles import SECOND_WINS, TIE, encode, nothing_compared
from palate.rank.counts import Clustered, Comparisons

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Orderings:
    """N distinct rankings of two or more of M items, from the shortest to the longest.

    The items of ranking r are entries offsets[r]:offsets[r+1] of the flat arrays, best first.

    Attributes:
        items: the M names; a code is a position in this list.
        code: the ranked items, flat.
        place: how many items of the ranking are strictly better, flat; tied items share a place.
        offsets: where rankings begin and end, shape (N + 1,).
        apart: whether items that share a place were not compared instead of tied, shape (N,). So ends a
            ranking of the top k, and of a choice neither the chosen nor the others are compared.
        weight: total weight of each, shape (N,).
        square: sum of squared weights, shape (N,), or the number of judgments where weights count them.
        count: number of judgments, shape (N,).
        judgment: row of the data of each of the R judgments used, shape (R,).
        ordering: which ranking each of those is, shape (R,).
        importance: the weight of each of those, shape (R,).
        clustered: as in `Comparisons`, where the rankings are of two and come from such.
        unused: number of judgments that compare nothing (one judged item, weight 0, a dropped tie).
        source: the file the judgments came from, for messages.
    """

    items: list[str]
    code: Ints
    place: Ints
    offsets: Ints
    apart: Bools
    weight: Floats
    square: Floats
    count: Ints
    judgment: Ints
    ordering: Ints
    importance: Floats
    clustered: Clustered | None = None
    unused: int = 0
    source: str | Path | None = None

    @classmethod
    def from_codes(cls, ranked: npt.ArrayLike, items: Sequence[str] | None = None) -> Self:
        """Strict rankings of equal length, one a row.

        Args:
            ranked: item codes best first, shape (R, K).
            items: their M names; "0", "1", ... if left out.

        Raises:
            DataError: a row has fewer than two items, an item twice, or a code without a name.

        >>> Orderings.from_codes([[0, 1, 2], [2, 0, 1], [0, 1, 2]]).count.tolist()
        [2, 1]
        """
        code = np.asarray(ranked, dtype=np.int64)
        if code.ndim != 2 or code.shape[1] < 2 or len(code) == 0:
            raise DataError(f"rankings of shape {code.shape}", remedy="give rows of two or more item codes")
        names = [str(i) for i in range(int(code.max()) + 1)] if items is None else list(items)
        if code.min() < 0 or code.max() >= len(names):
            row = int(np.flatnonzero(((code < 0) | (code >= len(names))).any(axis=1))[0])
            raise DataError("an item code without a name", row=row + 1, remedy=f"use 0 to {len(names) - 1}")
        again = _repeats(code)
        if len(again):
            raise DataError(
                f"'{names[again[0][1]]}' is ranked twice", row=again[0][0] + 1, remedy="rank it once"
            )
        place = np.broadcast_to(np.arange(code.shape[1]), code.shape)
        part = _Part(np.arange(len(code)), code, place, np.zeros(len(code), dtype=bool))
        return cls(names, **_summed([part], len(names), None, False))

    @classmethod
    def from_comparisons(cls, counted: Comparisons) -> Self:
        """Each pair and outcome as a ranking of two."""
        pair, outcome = np.nonzero(counted.weight > 0)
        code = np.stack([counted.first[pair], counted.second[pair]], axis=1)
        code[outcome == SECOND_WINS] = code[outcome == SECOND_WINS][:, ::-1]
        place = np.stack([np.zeros(len(pair), dtype=np.int64), (outcome != TIE).astype(np.int64)], axis=1)
        every = np.arange(len(pair))
        cells = (pair, outcome)
        return cls(
            counted.items, code.ravel(), place.ravel(), 2 * np.arange(len(pair) + 1),
            np.zeros(len(pair), dtype=bool), counted.weight[cells], counted.square[cells],
            counted.count[cells], every, every, counted.weight[cells], counted.clustered, counted.unused,
            counted.source,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_judgments(self) -> int:
        return int(self.count.sum())

    def per_item(self) -> Ints:
        """In how many judgments each item was ranked, shape (M,)."""
        times = np.repeat(self.count, np.diff(self.offsets))
        return np.bincount(self.code, times, minlength=self.n_items).astype(np.int64)

    def comparisons(self) -> Comparisons:
        """The comparisons that the rankings imply.

        They are for looking at: `square` takes each of them for a judgment of its own, so that intervals
        are to be had from `palate.rank.count`, which knows those of one ranking, or from the rankings.
        """
        from palate.rank._luce_kernels import compared

        pairs = self.together
        values = np.stack([self.weight, self.square, self.count])
        # Most rankings have no weights, and then all three are one.
        once = bool((values == values[0]).all())
        sums = compared(
            self.code, self.place, self.offsets, self.apart, values[: 1 if once else 3], self.n_items,
            *pairs.index,
        )  # fmt: skip
        weight, square, times = (sums[0], sums[0], sums[0]) if once else sums
        met = times.any(axis=1)
        return Comparisons(
            self.items, pairs.first[met], pairs.second[met], weight[met], square[met],
            np.rint(times[met]).astype(np.int64), self.clustered, self.unused, self.source,
        )  # fmt: skip

    @cached_property
    def together(self) -> Pairs:
        """The pairs of items that are in one ranking, compared there or not."""
        size = self.n_items
        if size <= TABLE_ITEMS:
            from palate.rank._luce_kernels import mark

            return Pairs(np.flatnonzero(mark(self.code, self.offsets, size)), size)
        found = []
        for code in self._by_length():
            i, j = np.triu_indices(code.shape[1], 1)
            step = max(1, _ENTRIES // len(code))
            for start in range(0, len(i), step):
                a, b = code[:, i[start : start + step]], code[:, j[start : start + step]]
                found.append(np.unique(np.minimum(a, b) * size + np.maximum(a, b)))
        return Pairs(np.unique(np.concatenate(found)), size)

    def _by_length(self) -> Iterator[Ints]:
        """Codes of the rankings of equal length, shape (n, K)."""
        lengths = np.diff(self.offsets)
        for k in np.unique(lengths):
            low, high = np.searchsorted(lengths, [k, k + 1])
            yield self.code[self.offsets[low] : self.offsets[high]].reshape(-1, k)


class Pairs:
    """P pairs of M items.

    Attributes:
        first, second: codes of each pair, first < second, in order, shape (P,).
        index: how compiled loops find a pair: a table (M * M,) of positions, empty for many items, and the
            sorted keys, first * M + second.
    """

    def __init__(self, key: Ints, size: int) -> None:
        self.first, self.second = np.divmod(key, size)
        table = np.zeros(size * size if size <= TABLE_ITEMS else 0, dtype=np.int32)
        if len(table):
            table[key] = table[self.second * size + self.first] = np.arange(len(key))
        self.index = (table, key)


TABLE_ITEMS = 3000
"""Up to this many items pairs are found in a table of all pairs; beyond, by searching."""

_ENTRIES = 1 << 20  # comparisons looked at together, so that long rankings need bounded memory


@dataclass(frozen=True)
class _Part:
    """Judgments of equal length: rows of the data (n,), codes and places (n, K), `apart` (n,)."""

    rows: Ints
    code: Ints
    place: Ints
    apart: Bools


def orderings(
    data: PreferenceData,
    both_bad: Literal["tie", "drop"] = "tie",
    weights: Literal["importance", "count"] = "importance",
) -> Orderings:
    """The judgments about named items as rankings.

    Higher scores rank above lower ones and equal scores are ties; an item whose score is NaN was not judged
    and is no part of the ranking. A `choice` ranks the chosen above each of the others and those not at all.
    Judgments of weight 0, and those that compare nothing, are left out and counted in `unused`.

    Args:
        data: judgments with `items`, any k, mixed freely.
        both_bad: whether equal scores marked "both_bad" are ties or not compared.
        weights: "importance", one judgment that matters that much; or "count", so many equal judgments.

    Raises:
        DataError: there are no judgments, no items, a missing item, an item twice in one judgment, nothing
            is compared, or a weight that should be a count is not a whole number.
        ConfigError: `both_bad` or `weights` has another value.
    """
    if both_bad not in ("tie", "drop"):
        raise ConfigError(f"both_bad is {both_bad!r}; use 'tie' or 'drop'")
    if weights not in ("importance", "count"):
        raise ConfigError(f"weights is {weights!r}; use 'importance' or 'count'")
    codes, items = encode(data)
    parts = _parts(data, codes.astype(np.int64), _apart(data, both_bad))
    used = sum(len(part.rows) for part in parts)
    if used == 0:
        raise nothing_compared(data, data.offsets())
    weight = data.weights if data.has("weight") else None
    if weights == "count" and weight is not None:
        _refuse_fractions(data, weight)
    columns = _summed(parts, len(items), weight, weights == "count")
    return Orderings(items, **columns, unused=data.n_rows - used, source=data.source)


def _apart(data: PreferenceData, both_bad: str) -> Bools:
    """Judgments whose equal scores were not compared."""
    found = np.zeros(data.n_rows, dtype=bool)
    for column, value in (("protocol", "choice"), *([("tie", "both_bad")] if both_bad == "drop" else [])):
        codes, names = data.codes(column) if data.has(column) else (np.zeros(0), [])
        if value in names:
            found |= codes == names.index(value)
    return found


def _parts(data: PreferenceData, codes: Ints, apart: Bools) -> list[_Part]:
    """The judgments that compare something, best first, by the number of judged items."""
    offsets, scores = data.offsets(), data.scores
    lengths = np.diff(offsets)
    positive = data.weights > 0
    parts = []
    for k in np.unique(lengths[lengths > 1]):
        rows = np.flatnonzero((lengths == k) & positive)
        if len(rows) == len(lengths):
            score, code = scores.reshape(-1, k), codes.reshape(-1, k)
        else:
            at = offsets[rows][:, None] + np.arange(k)
            score, code = scores[at], codes[at]
        judged = k - np.isnan(score).sum(axis=1)
        score, code = _sorted(score, code)
        new = np.ones(score.shape, dtype=bool)
        new[:, 1:] = score[:, 1:] != score[:, :-1]
        place = np.maximum.accumulate(np.where(new, np.arange(k), 0), axis=1)
        for judged_items in np.unique(judged[judged > 1]):
            keep = judged == judged_items
            keep &= ~(apart[rows] & (place[:, judged_items - 1] == 0))
            if keep.any():
                shown = (code[keep, :judged_items], place[keep, :judged_items])
                parts.append(
                    _Part(rows[keep], *shown, apart[rows[keep]] & ~new[keep, :judged_items].all(axis=1))
                )
    for part in parts:
        for place_of, twice in _repeats(part.code):
            raise DataError(
                f"the item '{_name(data, codes, twice)}' is ranked twice", field="items",
                row=int(part.rows[place_of]) + 1, file=data.source,
                remedy="drop the row, or name its items apart",
            )  # fmt: skip
    return parts


def _sorted(score: Floats, code: Ints) -> tuple[Floats, Ints]:
    """Scores and codes best first, NaN last, equal scores by code."""
    with np.errstate(invalid="ignore"):
        if (score[:, 1:] < score[:, :-1]).all():
            return score, code
    order = np.argsort(code, axis=1)
    score, code = np.take_along_axis(score, order, axis=1), np.take_along_axis(code, order, axis=1)
    order = np.argsort(-score, axis=1, kind="stable")
    return np.take_along_axis(score, order, axis=1), np.take_along_axis(code, order, axis=1)


def _repeats(code: Ints) -> list[tuple[int, int]]:
    """The first ranking that has an item twice and that item, or nothing."""
    ordered = np.sort(code, axis=1)
    row, column = np.nonzero(ordered[:, 1:] == ordered[:, :-1])
    return [(int(row[0]), int(ordered[row[0], column[0]]))] if len(row) else []


def _name(data: PreferenceData, codes: Ints, wanted: int) -> str:
    at = int(np.flatnonzero(codes == wanted)[0])
    return str(data.flat("items")[at].as_py())


def _refuse_fractions(data: PreferenceData, weight: Floats) -> None:
    broken = np.flatnonzero(weight != np.rint(weight))
    if len(broken):
        raise DataError(
            f"the weight {weight[broken[0]]:g} is not a count", row=int(broken[0]) + 1, field="weight",
            file=data.source, remedy="give whole numbers, or set weights='importance'",
        )  # fmt: skip


def _summed(parts: list[_Part], size: int, weight: Floats | None, frequency: bool) -> dict[str, Any]:
    """The columns of `Orderings`, from `code` to `importance`."""
    found: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _COLUMNS}
    base = 0
    for k in sorted({part.code.shape[1] for part in parts}):
        same = [part for part in parts if part.code.shape[1] == k]
        rows, code, place, apart = (
            _joined([getattr(part, name) for part in same]) for name in ("rows", "code", "place", "apart")
        )
        at, number = _distinct(code, place, apart, size)
        n = len(at)
        importance = np.ones(len(rows)) if weight is None else weight[rows]
        times = np.bincount(number, minlength=n)
        total = times.astype(np.float64) if weight is None else np.bincount(number, importance, minlength=n)
        square = total if weight is None or frequency else np.bincount(number, importance**2, minlength=n)
        columns = (
            code[at].ravel(), place[at].ravel(), np.full(n, k), apart[at], total, square,
            np.rint(total).astype(np.int64) if frequency else times, rows,
            number + base if base else number, importance,
        )  # fmt: skip
        for name, values in zip(_COLUMNS, columns, strict=True):
            found[name].append(values)
        base += n
    joined = {name: _joined(values) for name, values in found.items()}
    joined["offsets"] = np.concatenate([[0], np.cumsum(joined["offsets"])]).astype(np.int64)
    return joined


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


_COLUMNS = (
    "code", "place", "offsets", "apart", "weight", "square", "count", "judgment", "ordering", "importance",
)  # fmt: skip


def _distinct(code: Ints, place: Ints, apart: Bools, size: int) -> tuple[Ints, Ints]:
    """One row of each distinct ranking, and which of these each row is."""
    symbols = [code]
    if (place[:, 1:] == place[:, :-1]).any():
        symbols += [(place == np.roll(place, 1, axis=1)).astype(np.int64), apart[:, None].astype(np.int64)]
    words: list[Ints] = []
    room = 1
    for block, values in zip(symbols, (size, 2, 2), strict=False):
        for column in block.T:
            if not words or room > (1 << 62) // values:
                words.append(np.zeros(len(code), dtype=np.int64))
                room = 1
            words[-1] = words[-1] * values + column
            room *= values
    order = np.argsort(words[0]) if len(words) == 1 else np.lexsort(words[::-1])
    new = np.zeros(len(order), dtype=bool)
    new[0] = True
    for word in words:
        new[1:] |= word[order[1:]] != word[order[:-1]]
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number
