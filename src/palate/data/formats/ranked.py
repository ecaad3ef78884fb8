"""Ranked lists: the responses (or items) of a prompt with a rank each, 1 the best, ties sharing a rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data.formats import chat, writing
from palate.data.formats.batch import Batch
from palate.data.formats.registry import Format
from palate.errors import DataError

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

FIELDS = {
    "prompt": ("prompt",), "responses": ("responses",), "items": ("items", "models"),
    "rank": ("rank", "ranks", "ranking"),
}  # fmt: skip


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    rank = columns.keys() & {"rank", "ranks", "ranking"}
    return 0.9 if rank and columns.keys() & {"responses", "items", "models"} else 0.0


def read(batch: Batch) -> pa.Table:
    """Rankings with scores minus the rank; a null rank is "not judged" (NaN).

    ``renumber=True`` takes lists whose best rank is not 1 and moves them there.
    """
    named = [name for name in ("responses", "items") if batch.has(name)]
    if not named:
        raise batch.context.error(
            "there are neither responses nor items to rank",
            "name a column 'responses' or 'items', or use columns={...}",
        )
    ranks = lists(batch, "rank", pl.Float64, "give a list of ranks such as [1, 2, 2]")
    counts = ranks.list.len()
    batch.fail(counts == 0, "rank", "is an empty list", "drop the row")
    flat = ranks.explode().to_numpy().astype(np.float64)
    rows = np.repeat(np.arange(batch.height), counts.to_numpy())
    judged = ~np.isnan(flat)
    wrong = np.zeros(batch.height, dtype=bool)
    wrong[rows[judged & ~((flat >= 1) & (flat == np.floor(flat)) & np.isfinite(flat))]] = True
    batch.fail(
        wrong,
        "rank",
        "{value} holds a rank that is not a whole number from 1 on",
        "rank from 1, the best, upwards",
    )
    least = np.full(batch.height, np.inf)
    np.minimum.at(least, rows[judged], flat[judged])
    batch.fail(np.isinf(least), "rank", "ranks nothing", "give at least one rank or drop the row")
    if batch.option("renumber"):
        flat = flat - np.where(np.isinf(least), 1, least)[rows] + 1
    else:
        batch.fail(
            least != 1, "rank", "{value} does not start at 1",
            "rank from 1, the best, upwards, or read with renumber=True",
        )  # fmt: skip
    columns: dict[str, Any] = {}
    for name in named:
        values = lists(batch, name, pl.String, "give a list of texts")
        batch.fail(
            values.list.len() != counts,
            name,
            "its length differs from that of the ranks",
            "give one rank for each",
        )
        columns[name] = values
    if batch.has("prompt"):
        is_chat = isinstance(batch.raw("prompt").dtype, pl.List)
        columns |= (
            chat.prompt_columns(chat.turns(batch, "prompt"))
            if is_chat
            else {"prompt": batch.text("prompt", null=True)}
        )
    offsets = np.concatenate([[0], np.cumsum(counts.to_numpy())])
    columns["scores"] = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(-flat))
    return batch.table(columns, protocol="ranking", scale="ordinal")


def lists(batch: Batch, name: str, inner: type[pl.DataType], remedy: str) -> pl.Series:
    """A field of lists (or of JSON lists as text) with entries of one type; only numbers may be null."""
    values = batch.raw(name)
    if values.dtype == pl.String:
        values = chat.decode(batch, values, name, pl.List(inner()), remedy)
    batch.fail(values.is_null(), name, "is missing", remedy)
    if not isinstance(values.dtype, pl.List | pl.Array):
        batch.fail(np.ones(batch.height, dtype=bool), name, "{value} is not a list", remedy)
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    held = values.dtype.inner  # type: ignore[attr-defined]
    if isinstance(held, pl.List | pl.Struct) or (inner is pl.Float64 and held == pl.Boolean):
        batch.fail(values.list.len() > 0, name, "{value} has entries of the wrong type", remedy)
    cast = values.cast(pl.List(inner()), strict=False)
    lost = (
        values.list.eval(pl.element().is_null()).list.sum()
        != cast.list.eval(pl.element().is_null()).list.sum()
    )
    batch.fail(lost, name, "{value} has entries of the wrong type", remedy)
    if inner is pl.String:
        batch.fail(
            cast.list.eval(pl.element().is_null()).list.any(), name, "{value} has an empty entry", remedy
        )
    return cast


def write(data: PreferenceData) -> writing.Rows:
    """Rows of prompt, responses and/or items, and rank, from judgments whose scores are minus the rank."""
    kept = np.ones(data.n_rows, dtype=bool)
    flat, sizes = data.scores, writing.lengths(data)
    rows = np.repeat(np.arange(data.n_rows), sizes)
    judged = ~np.isnan(flat)
    whole = judged & (flat <= -1) & (flat == np.floor(flat))
    kept[rows[judged & ~whole]] = False
    best = np.full(data.n_rows, -np.inf)
    np.maximum.at(best, rows[judged], flat[judged])
    kept &= best == -1
    named = [name for name in ("responses", "items") if data.has(name)]
    for name in named:
        kept &= writing.given(data, name)
    if not named:
        raise DataError("there are neither responses nor items to rank", remedy="write another format")
    data = data.mask(kept)
    columns: dict[str, Any] = {}
    if data.has("messages"):
        columns["prompt"] = writing.prompt_turns(data).to_arrow()
    elif data.has("prompt"):
        columns["prompt"] = data.column("prompt")
    columns |= {name: data.column(name) for name in named}
    values = -data.scores
    ranks = pa.array(np.where(np.isnan(values), 0, values).astype(np.int64), mask=np.isnan(values))
    columns["rank"] = pa.ListArray.from_arrays(pa.array(data.offsets().astype(np.int32)), ranks)
    columns |= writing.common(data, protocol="ranking", scale="ordinal")
    return writing.Rows(pa.table(columns), kept, "whose scores are not minus ranks from 1 on")


FORMATS = (
    Format(
        "ranked", "ranked lists: prompt, responses (or items), rank (1 is best)", FIELDS, detect, read,
        required=("rank",),
        options=frozenset({"renumber"}), write=write,
    ),
)  # fmt: skip
