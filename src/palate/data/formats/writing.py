"""From judgments to the rows of a format, and what a format cannot hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema
from palate.data.formats.chat import Turns
from palate.data.formats.registry import COMMON

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Rows of a format, from the judgments where `kept`; `reason` says which judgments have no place in
    it."""

    table: pa.Table
    kept: Mask
    reason: str = ""


def lengths(data: PreferenceData) -> npt.NDArray[np.int64]:
    return np.diff(data.offsets())


def given(data: PreferenceData, column: str) -> Mask:
    """Shape (rows,): where a column is not null."""
    if not data.has(column):
        return np.zeros(data.n_rows, dtype=bool)
    return np.asarray(data.column(column).is_valid().to_numpy(zero_copy_only=False))


def alternative(data: PreferenceData, column: str, index: int | npt.NDArray[np.int64]) -> pa.Array:
    """Entry `index` of each row of a column with one entry per alternative."""
    return data.flat(column).take(pa.array(data.offsets()[:-1] + index))


def common(
    data: PreferenceData,
    *,
    names: Mapping[str, str] | None = None,
    skip: tuple[str, ...] = (),
    **defaults: str,
) -> dict[str, pa.Array]:
    """Columns of the common fields that the data has; a fixed-value column only where it is not the
    default."""
    names = names or {}
    found: dict[str, pa.Array] = {}
    for name, aliases in COMMON.items():
        if name in skip:
            continue
        default = defaults.get(name)
        if default is None and not data.has(name):
            continue
        column = data.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        if default is not None and data.n_rows and pc.all(pc.equal(column, default).fill_null(False)).as_py():
            continue
        key = names.get(name, aliases[0])
        found[key] = times(column) if name == "time" else column
    return found


def times(column: pa.Array) -> pa.Array:
    """Seconds since 1970 as float64 where that is exact for every row, otherwise ISO 8601 text."""
    micros = column.cast(pa.int64())
    seconds = pc.divide(micros.cast(pa.float64(), safe=False), 1e6)
    back = pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64(), safe=False)
    small = pc.less(pc.abs(seconds), 1e11)
    if pc.all(pc.and_(pc.equal(back, micros), small)).as_py() in (True, None):
        return seconds
    return iso_times(column)


def iso_times(column: pa.Array) -> pa.Array:
    series = pl.Series(pl.from_arrow(column)).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return series.to_arrow()


def add_number(metadata: pl.Series | None, name: str, values: npt.NDArray[np.float64]) -> pl.Series:
    """JSON objects with one more number in them."""
    number = pl.Series(values).cast(pl.String)
    if metadata is None:
        return pl.select(pl.format(f'{{{{"{name}":{{}}}}}}', number)).to_series()
    rest = metadata.fill_null("{}").str.strip_prefix("{").str.strip_suffix("}").str.strip_chars()
    comma = pl.select(pl.when(rest == "").then(pl.lit("")).otherwise(pl.lit(","))).to_series()
    return pl.select(pl.concat_str(pl.lit(f'{{"{name}":'), number, comma, rest, pl.lit("}"))).to_series()


# -- conversations -----------------------------------------------------------------------------------------


def is_chat(data: PreferenceData) -> bool:
    return data.has("messages") or data.has("response_messages")


def prompt_turns(data: PreferenceData) -> Turns:
    """Each prompt as turns: its messages, or one user turn with its text; no turn where there is no
    prompt."""
    return _turns(data.column("messages"), data.column("prompt"), "user")


def response_turns(data: PreferenceData, index: int | npt.NDArray[np.int64]) -> Turns:
    """Response `index` of each row as turns: its messages, or one assistant turn with its text."""
    kind = schema.COLUMNS["messages"]
    listed = (
        alternative(data, "response_messages", index)
        if data.has("response_messages")
        else pa.nulls(data.n_rows, kind)
    )
    return _turns(listed, alternative(data, "responses", index), "assistant")


def _turns(messages: pa.Array, texts: pa.Array, role: str) -> Turns:
    n = len(texts)
    counts = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    has = messages.is_valid().to_numpy(zero_copy_only=False)
    flat = messages.flatten()
    inner = np.concatenate([[0], np.cumsum(counts)])
    roles = pa.concat_arrays(
        [flat.field("role") if len(flat) else pa.nulls(0, pa.string()), pa.array([role] * n, pa.string())]
    )
    contents = pa.concat_arrays(
        [
            flat.field("content") if len(flat) else pa.nulls(0, pa.large_string()),
            texts.cast(pa.large_string()),
        ]
    )
    text = texts.is_valid().to_numpy(zero_copy_only=False)
    starts = np.where(has, inner[:-1], inner[-1] + np.arange(n))
    ends = np.where(has, inner[1:], starts + text)
    return Turns(roles, contents, starts, ends)


def joined(first: Turns, second: Turns) -> Turns:
    """The turns of `first` and then those of `second`, row by row."""
    shift = len(first.roles)
    counts = first.counts + second.counts
    offsets = np.concatenate([[0], np.cumsum(counts)])
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    split = np.repeat(first.counts, counts)
    take = np.where(
        position < split,
        np.repeat(first.starts, counts) + position,
        np.repeat(second.starts, counts) + position - split + shift,
    )
    roles = pa.concat_arrays([first.roles, second.roles]).take(pa.array(take))
    contents = pa.concat_arrays([first.contents, second.contents]).take(pa.array(take))
    return Turns(roles, contents, offsets[:-1], offsets[1:])


# -- what is lost ------------------------------------------------------------------------------------------


def differences(before: pa.Table, after: pa.Table) -> list[str]:
    """Columns in which two tables of equally many judgments differ, with how many rows do."""
    found = []
    for name in schema.COLUMNS:
        if name not in before.column_names and name not in after.column_names:
            continue
        a, b = (_series(table, name) for table in (before, after))
        bad = int(a.ne_missing(b).sum()) if a.dtype == b.dtype else len(a)
        if bad:
            found.append(f"{name} ({bad} of {len(a)})" if bad < len(a) else name)
    return found


def _series(table: pa.Table, name: str) -> pl.Series:
    column: Any = pa.nulls(table.num_rows, schema.COLUMNS[name])
    if name in table.column_names:
        column = table.column(name)
    return pl.Series(pl.from_arrow(without_maps(column.cast(_plain(column.type)))))


def without_maps(column: Any) -> Any:
    """A column in which maps are lists of {key, value}: JSON objects would merge equal keys."""
    views = schema.COLUMNS["response_views"]
    if column.type != views:
        return column
    pairs = pa.list_(pa.struct([("key", pa.string()), ("value", pa.large_string())]))
    return column.cast(pa.list_(pairs))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_dictionary(kind) else kind
