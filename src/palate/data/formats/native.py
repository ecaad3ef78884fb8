"""Palate's own table in JSON Lines, Parquet and Arrow: the columns of the judgment record as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data import schema
from palate.data.formats import writing
from palate.data.formats.batch import Batch
from palate.data.formats.registry import COMMON, Format

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

TURNS = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
TYPES: dict[str, pl.DataType] = {
    "messages": TURNS,
    "context": pl.List(pl.Struct({"id": pl.String, "text": pl.String})),
    "items": pl.List(pl.String()),
    "responses": pl.List(pl.String()),
    "response_messages": pl.List(TURNS),
    "response_context": pl.List(pl.String()),
    "response_views": pl.List(pl.List(pl.Struct({"key": pl.String, "value": pl.String}))),
    "features": pl.List(pl.List(pl.Float32())),
    "media": pl.List(pl.String()),
    "scores": pl.List(pl.Float64()),
}


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    if not columns.keys() <= schema.COLUMNS.keys() or "scores" not in columns:
        return 0.0
    return 1.0 if columns.keys() & set(schema.ALTERNATIVES) else 0.0


def read(batch: Batch) -> pa.Table:
    """The record's columns; a null among the scores is NaN."""
    columns: dict[str, pl.Series | pa.Array] = {}
    for name, kind in TYPES.items():
        if batch.has(name):
            columns[name] = _nested(batch, name, kind)
    if batch.has("prompt"):
        columns["prompt"] = batch.text("prompt", null=True)
    return batch.table(columns)


def _nested(batch: Batch, name: str, kind: pl.DataType) -> pl.Series | pa.Array:
    values = batch.raw(name)
    if values.dtype == pl.Null:
        values = values.cast(kind)
    remedy = f"give values of the type {schema.COLUMNS[name]}"
    if not _alike(values.dtype, kind):
        batch.fail(values.is_not_null(), name, "{value} is of the wrong type", remedy)
        values = pl.Series([None] * batch.height, dtype=kind)
    if isinstance(values.dtype, pl.List) and isinstance(values.dtype.inner, pl.Struct):
        wanted = [part.name for part in kind.inner.fields]  # type: ignore[attr-defined]
        values = values.list.eval(pl.struct(pl.element().struct.field(part) for part in wanted))
    try:
        values = values.cast(kind)
    except pl.exceptions.PolarsError:
        batch.fail(values.is_not_null(), name, "{value} is of the wrong type", remedy)
    if name == "scores":
        values = values.list.eval(pl.element().fill_null(float("nan")))
    if name == "response_views":
        return _views(values)
    return values


def _alike(given: pl.DataType, wanted: pl.DataType) -> bool:
    if given == pl.Null:
        return True
    if isinstance(wanted, pl.List):
        return isinstance(given, pl.List) and _alike(given.inner, wanted.inner)  # type: ignore[arg-type]
    if isinstance(wanted, pl.Struct):
        names = {part.name: part.dtype for part in given.fields} if isinstance(given, pl.Struct) else {}
        return all(part.name in names and _alike(names[part.name], part.dtype) for part in wanted.fields)  # type: ignore[arg-type]
    if wanted == pl.String:
        return given == pl.String
    return given.is_numeric()


def _views(values: pl.Series) -> pa.Array:
    """Lists of lists of {key, value} as lists of maps."""
    outer = values.to_arrow().cast(
        pa.list_(pa.list_(pa.struct([("key", pa.string()), ("value", pa.large_string())])))
    )
    maps = outer.values
    pairs = maps.values
    as_maps = pa.MapArray.from_arrays(maps.offsets, pairs.field("key"), pairs.field("value"))
    mask = pa.array(np.asarray(outer.is_null())) if outer.null_count else None
    return pa.ListArray.from_arrays(outer.offsets, as_maps, mask=mask).cast(schema.COLUMNS["response_views"])


def write(data: PreferenceData) -> writing.Rows:
    """Every column as it is; times as ISO 8601 text, and views as lists of {key, value} (for JSON)."""
    columns = {}
    for name in data.table.column_names:
        column = data.column(name)
        columns[name] = writing.iso_times(column) if name == "time" else column
    return writing.Rows(pa.table(columns), np.ones(data.n_rows, dtype=bool))


FORMATS = (
    Format(
        "palate", "Palate's own judgments: .jsonl, .parquet, .arrow",
        {name: (name,) for name in schema.COLUMNS if name not in COMMON}, detect, read, required=("scores",),
        common={name: (name,) for name in COMMON}, write=write,
    ),
)  # fmt: skip
