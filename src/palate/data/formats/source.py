"""From a file of any kind to batches of rows as polars frames, with one clear error where that cannot be
done."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from palate.errors import DataError

SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".soc": "preflib", ".soi": "preflib", ".toc": "preflib", ".toi": "preflib", ".cat": "preflib",
}  # fmt: skip
"""What the end of a file's name says about how it is stored."""

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
MAX_RATIO, MAX_PLAIN = 500, 1 << 29
"""A compressed file that has grown beyond MAX_PLAIN bytes and MAX_RATIO times its size is refused."""

SOURCE_OPTIONS = frozenset({"separator", "names"})


@dataclass(frozen=True)
class Stored:
    """A file on disk and how it is stored: `kind` is csv, jsonl, json, parquet, arrow or preflib."""

    path: Path
    name: str
    kind: str
    compression: str | None
    separator: str
    suffix: str


@contextmanager
def located(source: str | Path) -> Iterator[Stored]:
    """The file to read: standard input and compressed binary files are put into a temporary file first."""
    if str(source) == "-":
        with tempfile.TemporaryDirectory(prefix="palate-") as folder:
            path = Path(folder) / "stdin"
            with open(path, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield _describe(path, "<stdin>")
        return
    path = Path(source)
    stored = _describe(path, str(source))
    if stored.compression and stored.kind in ("parquet", "arrow"):
        with tempfile.TemporaryDirectory(prefix="palate-") as folder:
            plain = Path(folder) / path.stem
            with open_text(stored) as stream, open(plain, "wb") as file:
                while block := stream.read(1 << 22):
                    file.write(block)
            yield Stored(plain, stored.name, stored.kind, None, stored.separator, stored.suffix)
        return
    yield stored


def _describe(path: Path, name: str) -> Stored:
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", file=name, remedy="check the path"
        ) from None
    if not head:
        raise DataError("is empty", file=name, remedy="give a file with at least one judgment")
    compression = "gzip" if head[:2] == b"\x1f\x8b" else "zstd" if head[:4] == b"\x28\xb5\x2f\xfd" else None
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        if compression is None:
            raise DataError(
                f"is not {COMPRESSIONS[suffixes[-1]]} data though its name ends in {suffixes[-1]}", file=name,
                remedy="rename it, or fetch it again",
            )  # fmt: skip
        suffixes.pop()
    suffix = suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""
    kind = SUFFIXES.get(suffix)
    if compression:
        start = Stored(path, name, "csv", compression, ",", suffix)
        with open_text(start) as stream:
            head = stream.read(4096)
    if kind is None:
        kind = _sniff(head)
    if kind in ("csv", "json", "jsonl", "preflib"):
        _check_text(head, name)
    separator = "\t" if suffix in (".tsv", ".tab") or (not suffix and b"\t" in head.split(b"\n")[0]) else ","
    return Stored(path, name, kind, compression, separator, suffix)


def _sniff(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1":
        return "arrow"
    if text[:1] == b"{":
        return "jsonl"
    if text[:1] == b"[":
        return "json"
    return "preflib" if text[:11] == b"# FILE NAME" else "csv"


def _check_text(head: bytes, name: str) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in head.split(b"\n")[0]:
        raise DataError(
            "is not UTF-8 text (it looks like UTF-16 or a binary file)", file=name,
            remedy="convert it, for example: iconv -f UTF-16 -t UTF-8",
        )  # fmt: skip


class _Guard:
    """A binary stream that refuses to grow out of proportion and knows whether its quotes are balanced."""

    def __init__(self, stream: Any, size: int, compressed: bool, name: str) -> None:
        self.stream, self.size, self.compressed, self.name = stream, size, compressed, name
        self.seen = self.quotes = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        block: bytes = self.stream.read(size) if size >= 0 else self.stream.read()
        self.seen += len(block)
        self.quotes += block.count(b'"')
        if self.compressed and self.seen > MAX_PLAIN and self.seen > MAX_RATIO * self.size:
            raise DataError(
                f"grows to more than {MAX_RATIO} times its size when decompressed", file=self.name,
                remedy="decompress it yourself first if you trust it",
            )  # fmt: skip
        return block

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False


@contextmanager
def open_text(stored: Stored) -> Iterator[_Guard]:
    """The file's bytes, decompressed."""
    size = os.path.getsize(stored.path)
    with one_error(stored.name), open(stored.path, "rb") as raw:
        stream: Any = raw
        if stored.compression:
            stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), stored.compression)
        yield _Guard(stream, size, stored.compression is not None, stored.name)


@contextmanager
def one_error(name: str) -> Iterator[None]:
    """Turn what the libraries below raise for a broken file into a `DataError`."""
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(_plainly(error), file=name, remedy=_remedy(error)) from None
    except RecursionError:
        raise DataError("is nested too deeply", file=name, remedy="flatten it") from None


def _plainly(error: Exception) -> str:
    text = str(error).strip().split("\n")[0].strip()
    if "Truncated compressed stream" in text or isinstance(error, EOFError):
        return "ends in the middle of its compressed data"
    if "inflate failed" in text or "ZSTD" in text:
        return f"its compressed data is broken ({text})"
    if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in text or "valid UTF-8" in text:
        return "is not UTF-8 text"
    if "straddling" in text:
        return "has a line of more than 32 MB"
    return f"cannot be read ({text[:200]})"


def _remedy(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnicodeDecodeError) or "UTF8" in text or "UTF-8" in text:
        return "convert it, for example: iconv -f LATIN1 -t UTF-8"
    if "straddling" in text:
        return "check for a quote that is never closed, or split the line"
    return "the file is cut off or damaged; fetch or write it again"


def table_batches(stored: Stored, batch_rows: int, options: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    """The rows of a stored table, at most `batch_rows` at a time."""
    from palate.data.formats import delimited, jsontext

    if stored.kind == "csv":
        frames = delimited.read(stored, options.get("separator"), options.get("names"))
    elif stored.kind in ("jsonl", "json"):
        frames = jsontext.read(stored)
    else:
        frames = (pl.from_arrow(batch) for batch in arrow_batches(stored, batch_rows))  # type: ignore[misc]
    with one_error(stored.name):
        for frame in frames:
            for start in range(0, frame.height, batch_rows):
                yield frame.slice(start, batch_rows)


def arrow_batches(stored: Stored, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of a Parquet or Arrow file; an Arrow file is memory-mapped."""
    with one_error(stored.name):
        if stored.kind == "parquet":
            with pq.ParquetFile(stored.path, memory_map=True) as file:
                yield from file.iter_batches(batch_size=batch_rows)
            return
        with arrow_reader(stored.path) as (reader, count):
            for index in range(count) if count is not None else ():
                yield reader.get_batch(index)
            if count is None:
                yield from reader


@contextmanager
def arrow_reader(path: Path) -> Iterator[tuple[Any, int | None]]:
    """An IPC reader and its number of batches; None for the streaming form, which is read in order."""
    mapped = pa.memory_map(str(path))
    if mapped.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(mapped)
        yield reader, reader.num_record_batches
    else:
        mapped.seek(0)
        yield pa.ipc.open_stream(mapped), None


def arrow_schema(stored: Stored) -> pa.Schema | None:
    """The schema of a Parquet or Arrow file, with its metadata; None for other files."""
    if stored.kind not in ("parquet", "arrow"):
        return None
    with one_error(stored.name):
        if stored.kind == "parquet":
            with pq.ParquetFile(stored.path) as file:
                return file.schema_arrow
        with arrow_reader(stored.path) as (reader, _):
            return reader.schema


def text_lines(stored: Stored) -> IO[str]:
    """All of a text file, decompressed, as UTF-8."""
    import io

    with open_text(stored) as stream:
        blocks = []
        while block := stream.read(1 << 20):
            blocks.append(block)
        return io.StringIO(b"".join(blocks).decode("utf-8-sig"))
