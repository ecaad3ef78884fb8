"""From columns to codes: two columns of item names and one of winners, without a Python object per row.

The columns are cut into ranges of rows that threads encode side by side (Arrow does it without holding the
interpreter); what is left for Python is one step per distinct name and label.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.formats.arena import LABELS
from palate.errors import ConfigError, DataError
from palate.rank.battles import WEIGHTS, beyond

Int32 = npt.NDArray[np.int32]
Int8 = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]
T = TypeVar("T")
R = TypeVar("R")

RANGE = 1 << 18
FEW = 1 << 15
"""Rows that are encoded at a time: enough that a thread's start does not show, few enough to share evenly."""

MISSING = -1
SHARES = {1.0: 0, 0.0: 1, 0.5: 2}
"""What the first item won, and the code of the label (see `LABELS`) that says the same."""


class Column:
    """A column of any library as Arrow chunks of one type, with the name that messages call it by.

    Args:
        values: an Arrow array or chunked array, a polars or pandas series, a NumPy array or a sequence.
        name: its name, where it has none of its own.
        source: the file it came from, for messages.
    """

    def __init__(self, values: Any, name: str, source: str | Path | None) -> None:
        own = getattr(values, "name", None)
        self.name, self.source = own if isinstance(own, str) and own else name, source
        try:
            self.values = _chunked(values)
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            self.fail(f"is no column of one type ({reason})", "give strings, or cast the column")
        kind = self.values.type
        self.encoded = pa.types.is_dictionary(kind)
        self.kind = kind.value_type if self.encoded else kind

    def __len__(self) -> int:
        return len(self.values)

    def fail(self, problem: str, remedy: str, row: int | None = None) -> NoReturn:
        """Raise a `DataError` about this column; `row` counts from 0."""
        at = None if row is None else row + 1
        raise DataError(problem, remedy=remedy, file=self.source, row=at, field=self.name)

    def refuse_missing(self, what: str) -> None:
        """Raise a `DataError` if a value is missing."""
        if self.values.null_count:
            row = next(iter(np.flatnonzero(pc.is_null(self.values).to_numpy())))
            more = f" (and {self.values.null_count - 1} more)" if self.values.null_count > 1 else ""
            self.fail(f"a missing {what}{more}", "give one in every row, or drop the row", int(row))

    def codes(self, start: int) -> tuple[Int32, pa.Array]:
        """Codes of the rows from `start`, at most `RANGE` of them, and the distinct values they stand for."""
        chunks = self.values.slice(start, RANGE).chunks
        if self.encoded:
            # The dictionary of a whole column may name what these rows do not have.
            joined = pa.chunked_array(chunks).unify_dictionaries()
            names = joined.chunk(0).dictionary
            inner = _dictionary(pa.chunked_array([chunk.indices for chunk in joined.chunks]))
            return inner[0], names.take(inner[1])
        return _dictionary(pa.chunked_array(chunks))


def _chunked(values: Any) -> pa.ChunkedArray:
    if isinstance(values, str | bytes):
        raise TypeError("a single string")
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        stream = hasattr(values, "__arrow_c_stream__")
        values = pa.chunked_array(values) if stream else pa.array(values, from_pandas=True)
    if not isinstance(values, pa.ChunkedArray):
        values = pa.chunked_array([values])
    if not pa.types.is_dictionary(values.type):
        return values
    if any(chunk.dictionary.null_count for chunk in values.chunks):
        return values.cast(values.type.value_type)
    if pa.types.is_string_view(values.type.value_type):
        # What polars calls a categorical; Arrow cannot take from its dictionary.
        kind = pa.dictionary(values.type.index_type, pa.large_string())
        parts = [(chunk.indices, chunk.dictionary.cast(pa.large_string())) for chunk in values.chunks]
        values = pa.chunked_array([pa.DictionaryArray.from_arrays(*part) for part in parts], type=kind)
    return values


def _dictionary(values: pa.ChunkedArray) -> tuple[Int32, pa.Array]:
    chunks = values.dictionary_encode().unify_dictionaries().chunks
    found = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks]
    codes = found[0] if len(found) == 1 else np.concatenate(found)
    return codes.astype(np.int32, copy=False), chunks[0].dictionary


def same_length(*columns: Column) -> int:
    """The number of rows; a `DataError` if there are none or the columns differ."""
    rows = len(columns[0])
    for column in columns[1:]:
        if len(column) != rows:
            column.fail(f"has {len(column):,} rows, {columns[0].name} has {rows:,}", "give equal columns")
    if rows == 0:
        raise DataError("no judgments to rank", file=columns[0].source)
    return rows


def item_codes(first: Column, second: Column) -> tuple[Int32, Int32, list[str]]:
    """Codes of both columns of names, shape (N,) each, and the names in order of first appearance.

    Integers count as names, as they are written.

    Raises:
        DataError: a name is missing or empty, a column holds no names, or a row names one item twice.
    """
    for column in (first, second):
        column.refuse_missing("item")
        kind = column.kind
        if not (is_text(kind) or pa.types.is_integer(kind)):
            column.fail(f"holds values of type {kind}, not names", "give the items' names as strings")
    starts = range(0, len(first), RANGE)
    tasks = [(c, s) for s in starts for c in (first, second)]
    parts = each(lambda at: at[0].codes(at[1]), tasks, threads=len(first) > FEW)
    ends = np.cumsum([len(names) for _, names in parts])
    everything = pa.concat_arrays([names.cast(pa.large_string()) for _, names in parts])
    place, names = _dictionary(pa.chunked_array([everything]))
    turn, order = _by_appearance(parts, ends, place, len(names))
    place = turn[place]
    a, b = np.empty((2, len(first)), dtype=np.int32)
    for at, (codes, found) in enumerate(parts):
        start = at // 2 * RANGE
        into = (b if at % 2 else a)[start : start + len(codes)]
        np.take(place[ends[at] - len(found) : ends[at]], codes, out=into, mode="clip")
    items = names.take(pa.array(order)).to_pylist()
    _refuse_odd_names(first, second, a, b, items)
    return a, b, items


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type holds strings."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _by_appearance(
    parts: list[tuple[Int32, pa.Array]], ends: npt.NDArray[np.int64], place: Int32, size: int
) -> tuple[Int32, Int32]:
    """The rank of each name in order of first appearance, row by row, and the names in that order.

    Only ranges of rows that bring a new name are looked into, so few items cost nothing.
    """
    first = np.full(size, np.iinfo(np.int64).max)
    known = 0
    for at in range(0, len(parts), 2):
        begin, end = (int(ends[at - 1]) if at else 0), int(ends[at + 1])
        if place[begin:end].max(initial=-1) < known:
            continue
        for side, (codes, names) in enumerate(parts[at : at + 2]):
            stop = int(ends[at + side])
            row = np.zeros(len(names), dtype=np.int64)
            # Of repeated assignments the last one stays, so the rows are walked from their end.
            row[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
            np.minimum.at(first, place[stop - len(names) : stop], 2 * (at // 2 * RANGE + row) + side)
        known = int(place[:end].max()) + 1 if end else 0
    order = np.argsort(first, kind="stable").astype(np.int32)
    turn = np.empty(size, dtype=np.int32)
    turn[order] = np.arange(size, dtype=np.int32)
    return turn, order


def _refuse_odd_names(first: Column, second: Column, a: Int32, b: Int32, items: list[str]) -> None:
    same = np.flatnonzero(a == b)
    if len(same):
        twice, remedy = items[a[same[0]]], "drop the row, or name its items apart"
        second.fail(f"the item '{twice}' is compared with itself", remedy, int(same[0]))
    if "" in items:
        empty = items.index("")
        row = int(np.flatnonzero((a == empty) | (b == empty))[0])
        (first if a[row] == empty else second).fail("an empty name", "name every item, or drop the row", row)


def label_codes(winner: Column, labels: Mapping[Any, str] | None) -> Int8:
    """What each row says, shape (N,): 0 first wins, 1 second wins, 2 tie, 3 both bad.

    Args:
        winner: labels (model_a, model_b, tie, both_bad and their spellings), or shares of the first item
            (1, 0, 0.5, or booleans).
        labels: labels of the column, and what they are called here.

    Raises:
        DataError: a label is missing or unknown.
        ConfigError: `labels` gives a name that is no outcome.
    """
    winner.refuse_missing("winner")
    if not (is_text(winner.kind) or pa.types.is_boolean(winner.kind) or _is_number(winner.kind)):
        winner.fail(f"holds values of type {winner.kind}, not winners", "give labels, or 1, 0 and 0.5")
    given = {str(key): _known(value) for key, value in (labels or {}).items()}
    parts = each(winner.codes, range(0, len(winner), RANGE))
    found = []
    for codes, values in parts:
        meaning = np.array([_meaning(value, given) for value in values.to_pylist()], dtype=np.int8)
        found.append(np.take(meaning, codes))
        if MISSING in meaning:
            at = int(np.flatnonzero(found[-1] == MISSING)[0])
            winner.fail(
                f"unknown winner {values[codes[at]].as_py()!r}",
                "use model_a, model_b, tie or both_bad (or 1, 0, 0.5), or name your labels with labels={...}",
                (len(found) - 1) * RANGE + at,
            )
    return np.concatenate(found)


def _known(name: Any) -> int:
    code = LABELS.get(str(name).strip().lower())
    if code is None:
        raise ConfigError(f"labels gives {name!r}; use model_a, model_b, tie or both_bad")
    return code


def _meaning(value: Any, labels: Mapping[str, int]) -> int:
    text = str(value).strip()
    if text in labels:
        return labels[text]
    if isinstance(value, str):
        return LABELS.get(text.lower(), MISSING)
    return SHARES.get(float(value), MISSING) if isinstance(value, bool | int | float) else MISSING


def weights(column: Column) -> Floats:
    """Weights as numbers, shape (N,).

    Raises:
        DataError: one is missing, negative, not finite or no number; or all are 0.
    """
    column.refuse_missing("weight")
    try:
        values = column.values.cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        column.fail(f"holds values of type {column.kind}, not weights", "give numbers")
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        column.fail(
            f"the weight {values[bad[0]]:g} is negative or not finite", "give a finite weight of 0 or more",
            int(bad[0]),
        )  # fmt: skip
    bad = beyond(values)
    if len(bad):
        column.fail(
            f"the weight {values[bad[0]]:g} is not within {WEIGHTS[0]:g} and {WEIGHTS[1]:g}",
            "scale the weights", int(bad[0]),
        )  # fmt: skip
    if not values.any():
        column.fail("every weight is 0", "give positive weights")
    return np.asarray(values, dtype=np.float64)


def each(work: Callable[[T], R], parts: Iterable[T], *, threads: bool = True) -> list[R]:
    """Do a piece of work for each part, in threads where there are several parts and it is worth it."""
    listed = list(parts)
    workers = min(len(listed), os.cpu_count() or 1)
    if workers < 2 or not threads:
        return [work(part) for part in listed]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, listed))
