"""Palate's own table in JSON Lines, Parquet and Arrow: the columns of the judgment record as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema
from palate.data.formats import writing
from palate.data.formats.batch import Batch, list_array
from palate.data.formats.registry import COMMON, Format

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

NESTED = tuple(name for name, kind in schema.COLUMNS.items() if pa.types.is_nested(kind))


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    if not columns.keys() <= schema.COLUMNS.keys() or "scores" not in columns:
        return 0.0
    return 1.0 if columns.keys() & set(schema.ALTERNATIVES) else 0.0


def read(batch: Batch) -> pa.Table:
    """The record's columns; a null among the scores is NaN."""
    columns: dict[str, pl.Series | pa.Array] = {}
    for name in NESTED:
        if batch.has(name):
            columns[name] = _nested(batch, name)
    if batch.has("prompt"):
        columns["prompt"] = batch.text("prompt", null=True)
    return batch.table(columns)


def _nested(batch: Batch, name: str) -> pa.Array:
    kind = schema.COLUMNS[name]
    array = batch.raw(name).rechunk().to_arrow()
    try:
        fitted = _fit(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError):
        wrong = ~np.asarray(array.is_null())
        batch.fail(wrong, name, "{value} is of the wrong type", f"give values of the type {kind}")
        raise
    if name == "scores":
        valid = fitted.is_valid()
        lengths = pc.fill_null(pc.list_value_length(fitted), 0).to_numpy(zero_copy_only=False)
        whole = list_array(
            np.concatenate([[0], np.cumsum(lengths)]), pc.fill_null(fitted.flatten(), float("nan"))
        )
        return pc.if_else(valid, whole, pa.scalar(None, kind))
    return fitted


def _fit(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array as JSON gives it, as one of a type of the record; numbers and texts do not turn into each
    other."""
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            raise pa.ArrowTypeError("not a list")
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        mask = array.is_null()
        if pa.types.is_list(kind):
            return pa.ListArray.from_arrays(offsets, _fit(array.flatten(), kind.value_type), mask=mask)
        pairs = _fit(array.flatten(), pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        return pa.MapArray.from_arrays(offsets, pairs.field("key"), pairs.field("value"), mask=mask)
    if pa.types.is_struct(kind):
        if not pa.types.is_struct(array.type):
            raise pa.ArrowTypeError("not an object")
        parts = [_fit(pc.struct_field(array, field.name), field.type) for field in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=array.is_null())
    if (
        _is_text(array.type) != _is_text(kind)
        or pa.types.is_boolean(array.type)
        or pa.types.is_nested(array.type)
    ):
        raise pa.ArrowTypeError("another type")
    return array.cast(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def write(data: PreferenceData) -> writing.Rows:
    """Every column as it is; times as ISO 8601 text, and views as lists of {key, value} (for JSON)."""
    columns = {}
    for name in data.table.column_names:
        column = data.column(name)
        columns[name] = writing.iso_times(column) if name == "time" else writing.without_maps(column)
    return writing.Rows(pa.table(columns), np.ones(data.n_rows, dtype=bool))


FORMATS = (
    Format(
        "palate", "Palate's own judgments: .jsonl, .parquet, .arrow",
        {name: (name,) for name in schema.COLUMNS if name not in COMMON}, detect, read, required=("scores",),
        common={name: (name,) for name in COMMON}, write=write,
    ),
)  # fmt: skip
