"""`load`, `scan`, `write` and `detect`: one way in and out for every format."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data import schema
from palate.data.formats import registry, source
from palate.data.formats.batch import Batch, ColumnMap, Context
from palate.data.formats.registry import Format
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning

HUB_OPTIONS = frozenset({"split", "name", "revision"})
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    path: str | Path,
    format: str | None = None,
    *,
    columns: ColumnMap | None = None,
    labels: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = (),
    pattern: str = "*",
    **options: Any,
) -> PreferenceData:
    """Read judgments from a file, a folder, standard input or the Hugging Face hub.

    Args:
        path: a file (CSV, TSV, JSON Lines, JSON, Parquet, Arrow, PrefLib; plain, .gz or .zst), a folder of
            such files
            (read in order of name), ``"-"`` for standard input, or a hub id ``"owner/name"`` (options
            `split`,
            `name`, `revision`).
        format: name of a format (see `formats`); detected from name and columns by default.
        columns: fields of the format and the file's columns that hold them, for files with other names:
            ``{"model_a": "left", "winner": "choice"}``. Several columns are joined with "/".
        labels: values of the file and what the format calls them: ``{"left": "model_a", "right":
            "model_b"}``.
        constants: fields that have one value for the whole file: ``{"annotator": "gpt-4",
            "annotator_kind": "model"}``.
        ignore: columns to leave out; other columns that no field takes are kept in `metadata`.
        pattern: which files of a folder to read.
        **options: options of the format, and of delimited files: `separator`, and `names` for those
            without header.

    Returns:
        The judgments, in the file's order. A Parquet or Arrow file that Palate wrote is read as it is, an
        Arrow file without copying.

    Raises:
        DataError: the input cannot be read as judgments; names file, row, field and remedy.
        ConfigError: unknown format, option or field.
    """
    asked = _Asked(format, columns or {}, labels or {}, constants or {}, tuple(ignore), options)
    if _is_hub(path):
        return _finish([*_read_hub(str(path), asked, 1 << 16)], str(path))
    if str(path) != "-" and Path(path).is_dir():
        parts = [_load_file(file, asked) for file in _files(Path(path), pattern)]
        return PreferenceData.concat(parts) if len(parts) > 1 else parts[0]
    return _load_file(path, asked)


def scan(
    path: str | Path,
    format: str | None = None,
    batch_rows: int = 65536,
    *,
    columns: ColumnMap | None = None,
    labels: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = (),
    pattern: str = "*",
    **options: Any,
) -> Iterator[PreferenceData]:
    """Read judgments in batches of at most `batch_rows` rows of the file, in bounded memory.

    Takes what `load` takes and gives the same judgments. Row numbers in errors count through the whole
    file. That ids
    are unique is only checked within a batch. A JSON array or a PrefLib profile is read whole first.
    """
    if batch_rows < 1:
        raise ConfigError(f"batch_rows must be at least 1, got {batch_rows}")
    asked = _Asked(format, columns or {}, labels or {}, constants or {}, tuple(ignore), options)
    if _is_hub(path):
        yield from (
            _checked(table, first, str(path)) for table, first in _read_hub(str(path), asked, batch_rows)
        )
        return
    folder = str(path) != "-" and Path(path).is_dir()
    for file in _files(Path(path), pattern) if folder else [path]:
        yield from (_checked(table, first, str(file)) for table, first in _tables(file, asked, batch_rows))


class _Asked:
    """What the caller asked for, apart from where to read."""

    def __init__(
        self, format: str | None, columns: ColumnMap, labels: Mapping[str, Any], constants: Mapping[str, Any],
        ignore: tuple[str, ...], options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.format = registry.get(format) if format is not None else None
        self.columns, self.labels, self.constants, self.ignore = columns, labels, constants, ignore
        self.options = options

    def context(self, file: str) -> Context:
        return Context(file, self.columns, self.labels, self.constants, self.ignore, self.options)

    def bare(self) -> bool:
        return not (self.columns or self.labels or self.constants or self.ignore or self.options)

    def check(self, format: Format, extra: frozenset[str]) -> None:
        registry.check_options(f"format {format.name}", self.options, format.options | extra)


def _load_file(path: str | Path, asked: _Asked) -> PreferenceData:
    name = "<stdin>" if str(path) == "-" else str(path)
    return _finish([*_tables(path, asked, 1 << 16, whole=True)], name)


def _finish(parts: list[tuple[pa.Table, int]], name: str) -> PreferenceData:
    tables = [table for table, _ in parts]
    if not tables:
        raise DataError("holds no rows", file=name, remedy="give a file with at least one judgment")
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
    return PreferenceData(table, source=name)


def _checked(table: pa.Table, first_row: int, name: str) -> PreferenceData:
    try:
        return PreferenceData(table, source=name)
    except DataError as error:
        if error.row is not None:
            error.row += first_row
        raise


def _tables(
    path: str | Path, asked: _Asked, batch_rows: int, whole: bool = False
) -> Iterator[tuple[pa.Table, int]]:
    """Tables of judgments and the number of the file's rows before each."""
    with source.located(path) as stored:
        context = asked.context(stored.name)
        named = asked.format
        if stored.kind == "preflib" or (named is not None and named.parse is not None):
            yield from _profile(stored, context, asked, batch_rows)
            return
        own = source.arrow_schema(stored)
        if (
            own is not None
            and schema.SCHEMA_KEY in (own.metadata or {})
            and (named is None or named.name == "palate")
        ):
            if not asked.bare():
                raise ConfigError(
                    f"{stored.name} holds judgments as they are; it takes no columns, labels or options"
                )
            yield from _own(stored, own, batch_rows, whole)
            return
        frames = source.table_batches(stored, batch_rows, asked.options)
        yield from _judgments(frames, context, asked, source.SOURCE_OPTIONS)


def _judgments(
    frames: Iterator[pl.DataFrame], context: Context, asked: _Asked, extra: frozenset[str]
) -> Iterator[tuple[pa.Table, int]]:
    row, format = 0, asked.format
    for frame in frames:
        if format is None:
            format = _detect(frame, context)
        if not row:
            asked.check(format, extra)
        if format.read is None:
            raise ConfigError(f"{format.name} is not read from tables")
        batch = Batch(frame, row, context, format)
        yield format.read(batch), row
        row += frame.height
    if not row:
        raise context.error("holds no rows", "give a file with at least one judgment")
    for note, count in context.notes.items():
        if count:
            warnings.warn(f"{context.file}: {count} {note}", PalateWarning, stacklevel=2)


def _profile(
    stored: source.Stored, context: Context, asked: _Asked, batch_rows: int
) -> Iterator[tuple[pa.Table, int]]:
    format = asked.format or registry.get("preflib")
    if format.parse is None:
        raise ConfigError(f"{stored.name} is a PrefLib profile, not {format.name}; leave out format=")
    asked.check(format, frozenset())
    if asked.columns or asked.labels or asked.constants:
        raise ConfigError("a PrefLib profile takes no columns, labels or constants")
    with source.one_error(stored.name):
        table = format.parse(stored, context)
    for start in range(0, table.num_rows, batch_rows):
        yield table.slice(start, batch_rows), start


def _own(
    stored: source.Stored, own: pa.Schema, batch_rows: int, whole: bool
) -> Iterator[tuple[pa.Table, int]]:
    version = own.metadata[schema.SCHEMA_KEY].decode("utf-8", "replace")
    if version != schema.VERSION:
        raise DataError(
            f"holds judgments of version {version!r}, this Palate reads {schema.VERSION!r}", file=stored.name,
            remedy="read it with the Palate that wrote it, or upgrade",
        )  # fmt: skip
    with source.one_error(stored.name):
        if whole and stored.kind == "arrow":
            with source.arrow_reader(stored.path) as (reader, _):
                table = reader.read_all()
                table.validate()
                yield table, 0
                return
        if whole:
            yield pq.read_table(stored.path, memory_map=True), 0
            return
    row = 0
    for batch in source.arrow_batches(stored, batch_rows):
        table = pa.Table.from_batches([batch])
        for start in range(0, table.num_rows, batch_rows):
            yield table.slice(start, batch_rows), row + start
        row += table.num_rows


def detect(path: str | Path, *, columns: ColumnMap | None = None, **options: Any) -> str:
    """The name of the format a file is in.

    Raises:
        DataError: no format fits, or several fit equally well; the message names them.
    """
    with source.located(path) as stored:
        if stored.kind == "preflib":
            return "preflib"
        own = source.arrow_schema(stored)
        if own is not None and schema.SCHEMA_KEY in (own.metadata or {}):
            return "palate"
        registry.check_options("detect", options, source.SOURCE_OPTIONS)
        for frame in source.table_batches(stored, 1000, options):
            return _detect(frame, Context(stored.name, columns or {})).name
        raise DataError("holds no rows", file=stored.name, remedy="give a file with at least one judgment")


def _detect(frame: pl.DataFrame, context: Context) -> Format:
    sample = frame.head(100)
    seen: dict[str, pl.DataType] = dict(sample.schema)
    for field, column in context.columns.items():
        if isinstance(column, str) and column in seen:
            seen[field] = seen[column]
        elif not isinstance(column, str):
            seen[field] = pl.String()
    scores = {each.name: each.detect(seen, sample) for each in registry.formats().values()}
    best = max(scores.values())
    names = sorted(name for name, score in scores.items() if score == best)
    shown = ", ".join(list(frame.columns)[:20])
    if best == 0:
        raise context.error(
            f"no format has these columns: {shown}",
            f"say which with format= ({', '.join(sorted(scores))}), and name its fields with columns={{...}}",
        )
    if len(names) > 1:
        raise context.error(
            f"its columns fit the formats {' and '.join(names)}",
            f"say which with format={names[0]!r} or another",
        )
    return registry.get(names[0])


def _files(folder: Path, pattern: str) -> list[Path]:
    def stored(path: Path) -> bool:
        suffixes = [suffix.lower() for suffix in path.suffixes]
        if suffixes and suffixes[-1] in source.COMPRESSIONS:
            suffixes.pop()
        return bool(suffixes) and suffixes[-1] in source.SUFFIXES

    hidden = {".cache"}
    found = sorted(
        path for path in folder.rglob(pattern)
        if path.is_file() and not path.name.startswith(".") and not hidden & set(path.parts) and stored(path)
    )  # fmt: skip
    found = [
        path for path in found if path.name not in ("state.json", "dataset_info.json", "dataset_infos.json")
    ]
    if not found:
        raise DataError(
            f"has no file to read that matches {pattern!r}", file=folder,
            remedy=f"files end in {', '.join(source.SUFFIXES)} (and .gz or .zst)",
        )  # fmt: skip
    return found


def _is_hub(path: str | Path) -> bool:
    return isinstance(path, str) and path != "-" and not Path(path).exists() and bool(
        _HUB_ID.fullmatch(path)
    ) and not any(path.lower().endswith(end) for end in (*source.SUFFIXES, *source.COMPRESSIONS))  # fmt: skip


def _read_hub(name: str, asked: _Asked, batch_rows: int) -> Iterator[tuple[pa.Table, int]]:
    from palate.data.formats.hub import frames

    given = {key: value for key, value in asked.options.items() if key in HUB_OPTIONS}
    rest = {key: value for key, value in asked.options.items() if key not in HUB_OPTIONS}
    inner = _Asked(None, asked.columns, asked.labels, asked.constants, asked.ignore, rest)
    inner.format = asked.format
    yield from _judgments(frames(name, batch_rows, **given), inner.context(name), inner, frozenset())
