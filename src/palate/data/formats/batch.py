"""A batch of a file's rows as a reader sees it: fields looked up, checked and converted by columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.data import schema
from palate.data.formats.registry import Format
from palate.errors import ConfigError, DataError, unknown

ColumnMap = Mapping[str, str | Sequence[str]]


@dataclass
class Context:
    """What is known of one file while it is read: the caller's naming of columns, and counts to report."""

    file: str
    columns: ColumnMap = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def error(
        self, problem: str, remedy: str = "", *, row: int | None = None, field: str | None = None
    ) -> DataError:
        return DataError(problem, remedy=remedy, file=self.file, row=row, field=field)


class Batch:
    """Rows `first_row` (counted from 0) and on of a file, with the fields of a format resolved to columns."""

    def __init__(self, frame: pl.DataFrame, first_row: int, context: Context, format: Format) -> None:
        self.frame, self.first_row, self.context, self.format = frame, first_row, context, format
        self.names: dict[str, str] = {}
        self.used: set[str] = set()
        self._resolve()
        for name in format.required:
            if name not in self.names:
                raise self._missing(name)

    def _resolve(self) -> None:
        fields = self.format.all_fields()
        context = self.context
        for given in (*context.columns, *context.constants):
            if given not in fields:
                raise unknown(f"field of format {self.format.name}", given, fields)
        for name, source in context.columns.items():
            parts = [source] if isinstance(source, str) else list(source)
            for part in parts:
                if part not in self.frame.columns:
                    raise context.error(
                        f"there is no column {part!r} to take as {name!r}",
                        f"the columns are: {', '.join(self.frame.columns)}",
                    )
            self.used.update(parts)
            if len(parts) == 1:
                self.names[name] = parts[0]
            else:
                texts = [_as_text(self.frame[part]) for part in parts]
                if any(text is None for text in texts):
                    raise ConfigError(f"only columns of text or numbers can be joined to {name!r}")
                self._add(name, pl.select(pl.concat_str(texts, separator="/")).to_series())
        for name, value in context.constants.items():
            if isinstance(value, list | tuple | dict):
                raise ConfigError(f"the constant for {name!r} must be a single value")
            self._add(name, pl.Series([value] * self.frame.height))
        pinned: dict[str, str] = context.state.setdefault("names", {})
        for name, aliases in fields.items():
            if name in self.names:
                continue
            free = [a for a in aliases if a in self.frame.columns and a not in self.used]
            if name in pinned:
                if pinned[name] not in self.frame.columns:
                    self._add(name, pl.Series([None] * self.frame.height, dtype=pl.Null))
                    continue
                free = [pinned[name]]
            if free:
                self.names[name] = pinned[name] = free[0]
                self.used.add(free[0])

    def _add(self, name: str, values: pl.Series) -> None:
        hidden = f"\x00{name}"
        self.frame = self.frame.with_columns(values.alias(hidden))
        self.names[name] = hidden
        self.used.add(hidden)

    def _missing(self, name: str) -> DataError:
        aliases = self.format.all_fields()[name]
        others = f" (or {', '.join(aliases[1:])})" if len(aliases) > 1 else ""
        shown = [column for column in self.frame.columns if not column.startswith("\x00")]
        return self.context.error(
            f"the field {name!r} of format {self.format.name} is missing",
            f"name a column {aliases[0]!r}{others}, or say which it is with columns={{{name!r}: ...}}; "
            f"the columns are: {', '.join(shown)}",
        )

    # -- looking up ----------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        return int(self.frame.height)

    def option(self, name: str, default: Any = None) -> Any:
        return self.context.options.get(name, default)

    def has(self, *names: str) -> bool:
        return all(name in self.names for name in names)

    def raw(self, name: str) -> pl.Series:
        if name not in self.names:
            raise self._missing(name)
        return self.frame[self.names[name]]

    def shown(self, name: str) -> str:
        """The column a field was found in, as the user knows it."""
        return self.names.get(name, name).lstrip("\x00")

    def fail(self, bad: pl.Series | npt.NDArray[np.bool_], name: str, problem: str, remedy: str) -> None:
        """Raise for the first row where `bad`; ``{value}`` in the problem stands for the value there."""
        array = bad.fill_null(False).to_numpy() if isinstance(bad, pl.Series) else bad
        rows = np.flatnonzero(array)
        if not len(rows):
            return
        if "{value}" in problem:
            problem = problem.replace("{value}", _short(self.raw(name)[int(rows[0])]))
        raise self.context.error(
            problem, remedy, row=self.first_row + int(rows[0]) + 1, field=self.shown(name)
        )

    # -- converting ----------------------------------------------------------------------------------------

    def text(self, name: str, *, null: bool = False, empty: bool = True) -> pl.Series:
        """A field as text; `null` and `empty` say whether a row may lack it or have nothing in it."""
        raw = self.raw(name)
        values = _as_text(raw)
        if values is None:
            self.fail(raw.is_not_null(), name, f"holds {_kind(raw.dtype)} where text is wanted", "give text")
            values = pl.Series([None] * self.height, dtype=pl.String)
        if not null:
            self.fail(values.is_null(), name, "is missing", "give a value or drop the row")
        if not empty:
            self.fail(values.str.strip_chars() == "", name, "is empty", "give a value or drop the row")
        return values.alias(name)

    def verdict(self, name: str, *, null: bool = False) -> pl.Series:
        """A field as text after the caller's `labels` were put in place of the file's."""
        values = self.text(name, null=null).str.strip_chars()
        labels = {str(key): str(value) for key, value in self.context.labels.items()}
        return values.replace(labels) if labels else values

    def number(self, name: str, *, null: bool = False, nan: bool = False, labels: bool = False) -> pl.Series:
        """A field as float64; NaN and null stay apart only if `null` and `nan` allow them."""
        raw = self.raw(name)
        if raw.dtype.is_numeric() and not (labels and self.context.labels):
            values = raw.cast(pl.Float64)
        else:
            text = self.verdict(name, null=True) if labels else self.text(name, null=True).str.strip_chars()
            text = text.replace({"true": "1", "True": "1", "false": "0", "False": "0"})
            values = text.cast(pl.Float64, strict=False)
            self.fail(text.is_not_null() & values.is_null(), name, "{value} is not a number", "give a number")
        if not null:
            self.fail(values.is_null(), name, "is missing", "give a number or drop the row")
        if not nan:
            self.fail(values.is_nan(), name, "is NaN", "give a number or drop the row")
        self.fail(values.is_infinite(), name, "is infinite", "give a finite number")
        return values

    def time(self, name: str = "time") -> pl.Series:
        """A field as UTC time: ISO 8601 text, a time column, or seconds (or milliseconds) since 1970."""
        raw = self.raw(name)
        if isinstance(raw.dtype, pl.Datetime):
            micros = raw.dt.cast_time_unit("us")
            if raw.dtype.time_zone is None:
                return micros.dt.replace_time_zone("UTC")
            return micros.dt.convert_time_zone("UTC")
        if raw.dtype == pl.Date:
            return raw.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        if raw.dtype.is_numeric():
            values = _epoch(raw.cast(pl.Float64))
            bad = raw.is_not_null() & values.is_null()
            self.fail(bad, name, "{value} is not a time", "give seconds since 1970")
            return values
        text = self.text(name, null=True).str.strip_chars()
        text = text.set(text == "", None)
        seconds = _epoch(text.cast(pl.Float64, strict=False))
        if seconds.null_count() == text.null_count():
            return seconds
        iso = text.str.replace(r"[ T]", "T").str.replace(r"(T?UTC|Z|z)$", "+00:00")
        iso = pl.select(
            pl.when(iso.str.contains(r"^\d{4}-\d\d-\d\d$")).then(iso + "T00:00:00").otherwise(iso)
        ).to_series()
        iso = pl.select(
            pl.when(iso.str.contains(r"[+-]\d\d:?\d\d$") & iso.str.contains("T"))
            .then(iso)
            .otherwise(iso + "+00:00")
        ).to_series()
        parsed = iso.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%dT%H:%M:%S%.f%:z", strict=False)
        values = pl.select(pl.coalesce(seconds, parsed)).to_series()
        self.fail(
            text.is_not_null() & values.is_null(), name, "{value} is not a time",
            "give ISO 8601 (2024-05-01T12:00:00Z) or seconds since 1970",
        )  # fmt: skip
        return values

    def table(
        self,
        columns: Mapping[str, pl.Series | pa.Array],
        *,
        rows: npt.NDArray[np.int64] | None = None,
        **defaults: str | None,
    ) -> pa.Table:
        """Judgments from a reader's `columns` and the common fields.

        Args:
            columns: columns of the record; all of one length.
            rows: for each judgment the row of this batch it came from, where that is not one to one.
            **defaults: value of a fixed-value column where the file does not have it.
        """
        result: dict[str, pa.Array] = {}
        count = self.height if rows is None else len(rows)
        extra = self._common()
        for name, default in defaults.items():
            if name not in extra and name not in columns and default is not None:
                indices = pa.array(np.zeros(count, dtype=np.int32))
                result[name] = pa.DictionaryArray.from_arrays(indices, pa.array([default]))
        for name, values in extra.items():
            if name not in columns:
                result[name] = to_arrow(values if rows is None else values.gather(rows), name)
        for name, column in columns.items():
            result[name] = to_arrow(column, name)
        return pa.table(result)

    def _common(self) -> dict[str, pl.Series]:
        found: dict[str, pl.Series] = {}
        for name in ("id", "prompt_id", "annotator", "aspect", "rationale"):
            if self.has(name):
                found[name] = self.text(name, null=True)
        for name, allowed in schema.CATEGORIES.items():
            if self.has(name):
                found[name] = self.text(name, null=True)
                self.fail(
                    ~found[name].is_in(list(allowed)),
                    name,
                    "unknown value {value}",
                    f"use one of: {', '.join(allowed)}",
                )
        if self.has("weight"):
            found["weight"] = self.number("weight", null=True)
            self.fail(found["weight"] < 0, "weight", "{value} is negative", "give a weight of 0 or more")
        if self.has("time"):
            found["time"] = self.time()
        metadata = self.metadata()
        if metadata is not None:
            found["metadata"] = metadata
        return found

    def metadata(self) -> pl.Series | None:
        """The columns no field has taken, as one JSON object a row; merged into a `metadata` column there
        is."""
        rest = [c for c in self.frame.columns if c not in self.used and c not in self.context.ignore]
        own: pl.Series | None = None
        if self.has("metadata"):
            raw = self.raw("metadata")
            own = encode_json(raw) if isinstance(raw.dtype, pl.Struct) else self.text("metadata", null=True)
            own = own.str.strip_chars()
            bad = ~(own.str.starts_with("{") & own.str.ends_with("}"))
            self.fail(bad, "metadata", "is not a JSON object", 'give an object such as {"source": "web"}')
        if not rest:
            return own
        for name in rest:
            if _has_binary(self.frame.schema[name]):
                raise self.context.error(
                    "holds binary data, which metadata cannot keep",
                    f"leave it out with ignore=[{name!r}]",
                    field=name,
                )
        extra = encode_json(self.frame.select(pl.struct(rest)).to_series())
        if own is None:
            return extra
        inner = own.str.strip_prefix("{").str.strip_suffix("}").str.strip_chars()
        joined = pl.select(
            pl.when(own.is_null() | (inner == ""))
            .then(extra)
            .otherwise("{" + inner + "," + extra.str.strip_prefix("{"))
        )
        return joined.to_series()


def _epoch(numbers: pl.Series) -> pl.Series:
    """Seconds since 1970 as times; numbers too large for that are milliseconds or microseconds."""
    size = numbers.abs()
    factor = pl.when(size >= 1e14).then(1.0).when(size >= 1e11).then(1e3).otherwise(1e6)
    micros = pl.select((numbers * factor).round()).to_series()
    micros = micros.set(micros.is_nan() | (micros.abs() > 2.5e17), None)
    return micros.cast(pl.Int64).cast(pl.Datetime("us", "UTC"))


def encode_json(values: pl.Series) -> pl.Series:
    """A struct column as JSON texts; a null row stays null."""
    text = values.struct.json_encode()
    return pl.select(pl.when(values.is_null()).then(None).otherwise(text)).to_series()


def to_arrow(values: pl.Series | pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """Values as an Arrow array of the schema's type for column `name`."""
    kind = schema.COLUMNS[name]
    array = values.to_arrow() if isinstance(values, pl.Series) else values
    if pa.types.is_dictionary(kind):
        if pa.types.is_dictionary(array.type):
            return array
        return array.cast(pa.string()).dictionary_encode()
    return array if array.type == kind else array.cast(kind)


def pair_list(first: pl.Series, second: pl.Series) -> pl.Series:
    """Two columns as one column of lists of two."""
    return pl.select(pl.concat_list(first.alias("a"), second.alias("b"))).to_series()


def list_array(offsets: npt.NDArray[np.int64], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _as_text(values: pl.Series) -> pl.Series | None:
    kind = values.dtype
    if kind == pl.String:
        return values
    if (
        kind == pl.Null
        or kind.is_numeric()
        or kind in (pl.Categorical, pl.Boolean)
        or isinstance(kind, pl.Enum)
    ):
        return values.cast(pl.String)
    if kind.is_temporal():
        return values.cast(pl.String)
    return None


def _kind(kind: pl.DataType) -> str:
    if isinstance(kind, pl.List | pl.Array):
        return "a list"
    if isinstance(kind, pl.Struct):
        return "an object"
    return f"{kind}"


def _has_binary(kind: Any) -> bool:
    if isinstance(kind, pl.Struct):
        return any(_has_binary(part.dtype) for part in kind.fields)
    if isinstance(kind, pl.List | pl.Array):
        return _has_binary(kind.inner)
    return bool(kind == pl.Binary)


def _short(value: Any) -> str:
    if isinstance(value, pl.Series):
        value = value.to_list()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


Reader = Callable[[Batch], pa.Table]
