"""The checks at the border: a table of judgments is brought to the schema, or refused with a clear error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema
from palate.errors import DataError, unknown

NOT_CONVERTIBLE = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What Arrow raises for values that are not of the type asked for."""


def normalise(table: pa.Table, source: str | Path | None = None) -> pa.Table:
    """Check a table of judgments and bring it to the schema's types and column order."""
    for name in table.column_names:
        if name not in schema.COLUMNS:
            raise unknown_column(name, source)
    if "scores" not in table.column_names:
        raise DataError(
            "the column 'scores' is missing", remedy="give k scores for each judgment", file=source
        )
    columns = {}
    for name, kind in schema.COLUMNS.items():
        if name not in table.column_names:
            continue
        column = table.column(name)
        if name != "scores" and column.null_count == len(column) and table.num_rows:
            continue
        columns[name] = _cast(column, kind, name, source)
    columns["scores"] = _missing_as_nan(columns["scores"])
    table = pa.table(columns, metadata={schema.SCHEMA_KEY: schema.VERSION.encode()})
    _check_rows(table, source)
    return table


def _cast(
    column: pa.ChunkedArray, kind: pa.DataType, name: str, source: str | Path | None
) -> pa.ChunkedArray:
    if column.type == kind:
        return _plain_dictionary(column) if pa.types.is_dictionary(kind) else column
    try:
        if pa.types.is_dictionary(kind):
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.string())
            return column.cast(pa.string()).dictionary_encode().cast(kind)
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"holds {column.type} where {kind} is wanted ({error})", field=name, file=source
        ) from None


def _plain_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same categories with each value once and nulls among the indices; Arrow allows other forms too."""
    for chunk in column.iterchunks():
        values = chunk.dictionary
        if values.null_count or pc.count_distinct(values).as_py() != len(values):
            return column.cast(pa.string()).dictionary_encode()
    return column


def first_bad_row(values: Sequence[Any], kind: pa.DataType) -> int | None:
    """The number, from 1, of the first of `values` that cannot become `kind`; found by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pa.array(values[low:middle], type=kind)
            low = middle
        except NOT_CONVERTIBLE:
            high = middle
    return low + 1 if high > low else None


def _missing_as_nan(scores: pa.ChunkedArray) -> pa.ChunkedArray:
    """Scores in which "not judged" has one form, NaN; files also write it as null."""
    if scores.null_count or pc.list_flatten(scores).null_count == 0:
        return scores
    whole = scores.combine_chunks()
    lengths = pc.list_value_length(whole).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    filled = pc.fill_null(whole.flatten(), float("nan"))
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), filled)])


def _check_rows(table: pa.Table, source: str | Path | None) -> None:
    def fail(bad: pa.ChunkedArray, field: str, problem: str, remedy: str) -> None:
        rows = np.flatnonzero(bad.fill_null(False).to_numpy(zero_copy_only=False))
        if len(rows):
            more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
            raise DataError(problem + more, row=int(rows[0]) + 1, field=field, file=source, remedy=remedy)

    lengths = pc.list_value_length(table.column("scores"))
    fail(pc.is_null(lengths), "scores", "no scores", "give one score per alternative, NaN for 'not judged'")
    fail(pc.equal(lengths, 0), "scores", "an empty list of scores", "drop the row or give its scores")
    given = [name for name in schema.ALTERNATIVES if name in table.column_names]
    for name in given:
        other = pc.list_value_length(table.column(name))
        fail(
            pc.not_equal(other, lengths), name, "its length differs from that of 'scores'",
            "give one entry per score",
        )  # fmt: skip
    if table.num_rows and not given:
        raise DataError(
            "judgments without anything judged",
            remedy=f"give one of: {', '.join(schema.ALTERNATIVES)}",
            file=source,
        )
    infinite = pc.is_inf(pc.list_flatten(table.column("scores")))
    if pc.any(infinite).as_py():
        flat = np.flatnonzero(infinite.fill_null(False).to_numpy(zero_copy_only=False))
        ends = np.cumsum(lengths.to_numpy(zero_copy_only=False))
        row = int(np.searchsorted(ends, flat[0], side="right"))
        raise DataError(
            "an infinite score",
            row=row + 1,
            field="scores",
            file=source,
            remedy="give a finite number or NaN",
        )
    for name, allowed in schema.CATEGORIES.items():
        if name in table.column_names:
            column = table.column(name)
            bad = [
                v
                for v in pc.unique(column.cast(pa.string())).to_pylist()
                if v is not None and v not in allowed
            ]
            if bad:
                fail(
                    pc.equal(column.cast(pa.string()), bad[0]), name, f"unknown value {bad[0]!r}",
                    f"use one of: {', '.join(allowed)}",
                )  # fmt: skip
    if "weight" in table.column_names:
        weight = table.column("weight")
        bad = pc.or_(pc.less(weight, 0.0), pc.invert(pc.is_finite(weight)))
        fail(bad, "weight", "a weight that is negative or not finite", "give a finite weight of 0 or more")
    if "id" in table.column_names:
        ids = table.column("id")
        if pc.count_distinct(ids).as_py() != len(ids) - ids.null_count:
            import polars as pl

            series = pl.Series(pl.from_arrow(ids))
            first = int(np.flatnonzero((~series.is_first_distinct() & series.is_not_null()).to_numpy())[0])
            raise DataError(
                f"the id {series[first]!r} occurs twice", row=first + 1, field="id", file=source,
                remedy="give each judgment an id of its own, or leave the column out",
            )  # fmt: skip


def unknown_column(name: str, source: str | Path | None) -> DataError:
    return DataError(str(unknown("column", name, schema.COLUMNS)), file=source)
