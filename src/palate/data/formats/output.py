"""`write`: judgments to a file of any format, whole or not at all, and never less than was there without a
word."""

from __future__ import annotations

import gzip
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from palate.data.formats import preflib, registry, source, writing
from palate.data.formats.batch import Batch, Context
from palate.data.formats.registry import Format
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.runs import atomic_write

KINDS = ("csv", "jsonl", "json", "parquet", "arrow")


def write(
    data: PreferenceData, path: str | Path, format: str | None = None, *, lossy: bool = False, **options: Any
) -> None:
    """Write judgments to a file; how it is stored follows from its name, compressed if that ends in .gz or
    .zst.

    Args:
        data: the judgments.
        path: .csv, .tsv, .jsonl, .json, .parquet, .arrow/.feather, or .soc/.soi/.toc/.toi/.cat; ``"-"``
            writes JSON
            Lines to standard output. The file is written whole or not at all.
        format: name of a format that can be written (see `formats`); by default PrefLib for its endings and
            Palate's own columns for .jsonl, .json, .parquet and .arrow.
        lossy: write what the format can hold. By default the rows are read back before they are written,
            and what
            would be lost is an error.
        **options: of the format (`conversational` for trl and kto, `kind` for preflib).

    Raises:
        DataError: the format cannot hold something that the data has; the message names it.
        ConfigError: unknown format, option or file ending.
    """
    suffixes, compression, kind = _how(path)
    chosen = _which(path, format, kind, suffixes)
    registry.check_options(f"format {chosen.name}", options, chosen.write_options)
    if not data.n_rows:
        raise DataError("there are no judgments to write", file=path, remedy="give at least one")
    if chosen.render is not None:
        content = _profile(data, path, suffixes, lossy, options)
        with _target(path) as file, _compressed(file, compression) as out:
            out.write(content)
        return
    if chosen.name == "palate" and kind in ("parquet", "arrow"):
        table = PreferenceData(data.table).table.unify_dictionaries()
    elif chosen.write is None:
        raise ConfigError(f"the format {chosen.name} is only read; write one of: {', '.join(_writable())}")
    elif chosen.name == "palate" and kind == "csv":
        raise ConfigError(
            "Palate's own columns are nested; write .jsonl, .parquet or .arrow, or give a format"
        )
    else:
        table = _rows(data, chosen, path, lossy, options)
    with _target(path) as file, _compressed(file, compression) as out:
        _store(table, out, kind, "\t" if suffixes in (".tsv", ".tab") else ",")


def check_output(path: str | Path, format: str | None = None) -> None:
    """Refuse a name or format that `write` would refuse, before the work whose outcome it is to hold.

    Raises:
        ConfigError: unknown format or file ending, or a format that is only read.
    """
    suffix, _, kind = _how(path)
    chosen = _which(path, format, kind, suffix)
    if chosen.write is None and chosen.render is None and chosen.name != "palate":
        raise ConfigError(f"the format {chosen.name} is only read; write one of: {', '.join(_writable())}")


def _how(path: str | Path) -> tuple[str, str | None, str]:
    if str(path) == "-":
        return ".jsonl", None, "jsonl"
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    compression = source.COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in source.SUFFIXES:
        raise ConfigError(
            f"{path}: cannot tell how to store it; end its name in one of: {', '.join(source.SUFFIXES)}"
        )
    return suffix, compression, source.SUFFIXES[suffix]


def _which(path: str | Path, format: str | None, kind: str, suffix: str) -> Format:
    if format is None:
        if kind == "preflib":
            return registry.get("preflib")
        if kind == "csv":
            raise ConfigError(
                f"{path}: a table can hold several formats; say which: {', '.join(_writable())}"
            )
        return registry.get("palate")
    chosen = registry.get(format)
    if (chosen.name == "preflib") != (kind == "preflib"):
        raise ConfigError(f"{path}: {suffix} is not how {chosen.name} is stored")
    return chosen


def _writable() -> list[str]:
    return sorted(f.name for f in registry.formats().values() if f.write is not None or f.render is not None)


def _rows(
    data: PreferenceData, format: Format, path: str | Path, lossy: bool, options: dict[str, Any]
) -> pa.Table:
    """The rows of a format, after it was made sure that reading them gives the data again."""
    assert format.write is not None
    assert format.read is not None
    rows: writing.Rows = format.write(data, **options)
    missing = int(data.n_rows - rows.kept.sum())
    if missing == data.n_rows:
        remedy = "turn lists into pairs with data.as_pairs()" if "of two" in rows.reason else ""
        raise DataError(
            f"{format.name} can hold none of the judgments: all are {rows.reason}", file=path, remedy=remedy
        )
    if lossy:
        return rows.table
    if missing:
        raise _lost(path, format, [f"{missing} judgments {rows.reason}"])
    if format.name != "palate":
        frame = pl.DataFrame(pl.from_arrow(rows.table))
        try:
            back = format.read(Batch(frame, 0, Context(str(path)), format))
        except DataError as error:
            raise DataError(
                f"cannot be written as {format.name}: {error.problem}", file=path,
                row=error.row, field=error.field,
                remedy="correct it, or choose another format",
            ) from None  # fmt: skip
        lost = writing.differences(data.table, PreferenceData(back).table)
        if lost:
            raise _lost(path, format, lost)
    return rows.table


def _profile(
    data: PreferenceData, path: str | Path, suffix: str, lossy: bool, options: dict[str, Any]
) -> bytes:
    kind = options.get("kind") or suffix.lstrip(".")
    content, kept, reason = preflib.render(data, kind)
    if lossy:
        return content
    format = registry.get("preflib")
    if not kept.all():
        raise _lost(path, format, [f"{int((~kept).sum())} judgments {reason}"])
    back = preflib.parse_text(content.decode(), kind, Context(str(path)))
    lost = writing.differences(data.table, PreferenceData(back).table)
    if lost:
        raise _lost(path, format, lost)
    return content


def _lost(path: str | Path, format: Format, what: list[str]) -> DataError:
    return DataError(
        f"{format.name} cannot hold everything: it would lose or change {', '.join(what)}", file=path,
        remedy="write .parquet or .jsonl to keep it all, or pass lossy=True",
    )  # fmt: skip


def _target(path: str | Path) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdout.buffer) if str(path) == "-" else atomic_write(path, "wb")


def _compressed(file: IO[bytes], compression: str | None) -> Any:
    if compression == "gzip":
        # No name and no time in the header: equal data gives equal files.
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
    if compression == "zstd":
        return pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd")
    return nullcontext(file)


def _store(table: pa.Table, out: Any, kind: str, separator: str) -> None:
    if kind == "parquet":
        pq.write_table(table, out, compression="zstd")
    elif kind == "arrow":
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    elif kind == "csv":
        flat = pl.DataFrame(pl.from_arrow(table)).with_columns(
            pl.Series(name, _json_cells(table.column(name)), dtype=pl.String)
            for name in table.column_names
            if pa.types.is_nested(table.schema.field(name).type)
        )
        pacsv.write_csv(flat.to_arrow(), out, pacsv.WriteOptions(delimiter=separator))
    else:
        text = pl.DataFrame(pl.from_arrow(table)).write_ndjson()
        if kind == "json":
            text = "[" + text.rstrip("\n").replace("\n", ",\n") + "]\n"
        out.write(text.encode())


def _json_cells(column: pa.ChunkedArray) -> pl.Series:
    values = pl.Series("v", pl.from_arrow(column))
    wrapped = values.to_frame().select(pl.struct("v").struct.json_encode()).to_series()
    text = wrapped.str.strip_prefix('{"v":').str.strip_suffix("}")
    return text.set(values.is_null(), None)
