"""Ratings: long tables (one rating a row), wide tables (one a cell), and implicit interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data.formats import writing
from palate.data.formats.batch import Batch, list_array
from palate.data.formats.registry import COMMON as EVERY
from palate.data.formats.registry import Format
from palate.errors import ConfigError

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

ITEM = ("item", "item_id", "movieId", "movie_id", "product_id", "iid", "model", "system")
USER = ("annotator", "user", "user_id", "userId", "rater", "worker", "annotator_id", "uid")
LONG = {
    "item": ITEM, "prompt": ("prompt",), "response": ("response", "completion", "output"),
    "rating": ("rating", "score", "stars"),
}  # fmt: skip
SIGNALS = {"item": ITEM, "value": ("value", "rating", "count", "clicks", "plays")}
COMMON = {"annotator": USER, "time": ("time", "timestamp", "tstamp", "date")}
KINDS = ("annotator", "aspect", "item")


def detect_long(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    thing = columns.keys() & {*ITEM, "response"}
    return 0.7 if thing and columns.keys() & {"rating", "score", "stars"} else 0.0


def detect_interactions(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    return (
        0.7 if columns.keys() & set(ITEM) and columns.keys() & set(USER) and "rating" not in columns else 0.0
    )


def read_long(batch: Batch) -> pa.Table:
    """One rating a row; ``range=(low, high)`` checks it, ``higher_is_better=False`` turns its sign
    (penalties)."""
    columns = _rated(batch)
    values = batch.number("rating", labels=True)
    _check_range(batch, values, "rating")
    if not batch.option("higher_is_better", True):
        values = pl.select(pl.when(values == 0).then(0.0).otherwise(-values)).to_series()
    columns["scores"] = list_array(np.arange(batch.height + 1), values.to_arrow())
    return batch.table(columns, protocol="rating", scale="interval")


def _rated(batch: Batch) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    one = np.arange(batch.height + 1)
    if batch.has("item"):
        columns["items"] = list_array(one, batch.text("item", empty=False).to_arrow())
    if batch.has("response"):
        columns["responses"] = list_array(one, batch.text("response").to_arrow())
    if not columns:
        raise batch.context.error(
            "there is neither an item nor a response that is rated",
            "name a column 'item' or 'response', or say which it is with columns={'item': ...}",
        )
    if batch.has("prompt"):
        columns["prompt"] = batch.text("prompt", null=True)
    return columns


def _check_range(batch: Batch, values: pl.Series, name: str) -> None:
    bounds = batch.option("range")
    if bounds is None:
        return
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise ConfigError(f"range is a pair of numbers such as (1, 5), not {bounds!r}") from None
    batch.fail(
        (values < low) | (values > high), name, f"{{value}} is outside the scale {low:g} to {high:g}",
        "correct it, drop the row, or give another range=(low, high)",
    )  # fmt: skip


def read_interactions(batch: Batch) -> pa.Table:
    """What users did with items: scores [1], or [value] where there is a value; who did not act is not in
    the data."""
    columns = {"items": list_array(np.arange(batch.height + 1), batch.text("item", empty=False).to_arrow())}
    batch.text("annotator", empty=False)
    values = batch.number("value") if batch.has("value") else pl.Series(np.ones(batch.height))
    columns["scores"] = list_array(np.arange(batch.height + 1), values.to_arrow())
    return batch.table(columns, protocol="behaviour", scale="ordinal", annotator_kind="behaviour")


def read_wide(batch: Batch) -> pa.Table:
    """A table with a rating in each cell; an empty cell is not judged.

    ``columns_are="item"``: a row is an annotator who rates the columns (one judgment over k items).
    Otherwise a row
    is an item, and each cell a judgment by the column's annotator or on the column's aspect. The first
    column names
    the row, unless ``columns={"item": ...}`` (or "annotator") says another. Columns without any number are
    metadata.
    """
    kind = batch.option("columns_are")
    if kind not in KINDS:
        raise ConfigError(f"ratings-wide needs columns_are={' or '.join(map(repr, KINDS))}, got {kind!r}")
    own = "annotator" if kind == "item" else "item"
    free = [
        name
        for name in batch.frame.columns
        if name not in batch.context.ignore and not name.startswith("\x00")
    ]
    key = batch.context.columns.get(own)
    if key is None:
        batch.names[own] = free[0]
        batch.used.add(free[0])
    cells = _cells(batch, [name for name in free if name not in batch.used])
    batch.used.update(cells)
    names = list(cells)
    values = np.stack(list(cells.values()), axis=1)
    batch.fail(np.isnan(values).all(axis=1), names[0], "every rating of this row is empty", "drop the row")
    keys = batch.text(own, empty=False)
    if kind == "item":
        k, n = len(names), batch.height
        offsets = np.arange(0, n * k + 1, k)
        return batch.table(
            {
                "items": list_array(offsets, pa.array(names * n)),
                "scores": list_array(offsets, pa.array(values.ravel())),
                "annotator": keys,
            },
            protocol="rating", scale="interval",
        )  # fmt: skip
    rows, cols = np.nonzero(~np.isnan(values))
    one = np.arange(len(rows) + 1)
    columns: dict[str, Any] = {
        "items": list_array(one, keys.gather(rows).to_arrow()),
        "scores": list_array(one, pa.array(values[rows, cols])),
        kind: pl.Series(names).gather(cols),
    }
    return batch.table(columns, rows=rows, protocol="rating", scale="interval")


def _cells(batch: Batch, names: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    pinned: list[str] | None = batch.context.state.get("cells")
    cells = {}
    for name in names if pinned is None else pinned:
        if name not in batch.frame.columns:
            cells[name] = np.full(batch.height, np.nan)
            continue
        column = batch.frame[name]
        if pinned is None and not column.dtype.is_numeric():
            text = column.cast(pl.String) if column.dtype != pl.String else column
            if not text.str.strip_chars().cast(pl.Float64, strict=False).is_not_null().any():
                continue
        batch.names[name] = name
        values = batch.number(name, null=True, nan=True).fill_null(np.nan)
        _check_range(batch, values.fill_nan(None), name)
        cells[name] = values.to_numpy()
    if not cells:
        raise batch.context.error("there is no column of ratings", "give columns of numbers")
    batch.context.state["cells"] = list(cells)
    return cells


def write_long(data: PreferenceData) -> writing.Rows:
    """Rows of annotator, item (and/or prompt, response), rating, from judgments of one thing."""
    named = {"items": "item", "responses": "response"}
    first = data.scores[data.offsets()[:-1]]
    kept = (writing.lengths(data) == 1) & ~np.isnan(first)
    present = [name for name in named if data.has(name)]
    for name in present:
        kept &= writing.given(data, name)
    data = data.mask(kept)
    columns: dict[str, Any] = {named[name]: writing.alternative(data, name, 0) for name in present}
    if data.has("prompt"):
        columns["prompt"] = data.column("prompt")
    columns["rating"] = pa.array(data.scores)
    columns |= writing.common(data, protocol="rating", scale="interval")
    return writing.Rows(
        pa.table(columns), kept, "of other than one thing (use data.ratings() for one row a score)"
    )


FORMATS = (
    Format(
        "ratings",
        "long rating tables: annotator, item (or prompt, response), rating", LONG, detect_long, read_long,
        required=("rating",), options=frozenset({"range", "higher_is_better"}),
        common=COMMON, write=write_long,
    ),
    Format(
        "ratings-wide", "wide rating tables: one rating a cell (needs columns_are=)", {"item": ()},
        read=read_wide, options=frozenset({"range", "columns_are"}),
        common=dict.fromkeys(EVERY, ()),
    ),
    Format(
        "interactions",
        "implicit interactions: user, item, optional value and time", SIGNALS, detect_interactions,
        read_interactions, required=("item", "annotator"), common=COMMON,
    ),
)  # fmt: skip
