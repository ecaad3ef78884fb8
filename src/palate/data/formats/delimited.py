"""CSV and TSV files: streamed as columns of text, so that each reader can say which row holds a bad value."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from palate.data.formats.source import Stored, open_text
from palate.errors import DataError

BLOCK = 1 << 25
FIRST_BLOCK = 1 << 20


def read(
    stored: Stored, separator: str | None = None, names: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """Frames of text columns. An unquoted empty field is null, a quoted one is the empty text.

    Args:
        stored: the file.
        separator: one character; from the file's name or first line by default.
        names: column names of a file without a header line.
    """
    mark = separator or stored.separator
    if len(mark.encode()) != 1:
        raise DataError(
            f"the separator {mark!r} is not one character", file=stored.name, remedy="give one, such as ';'"
        )
    header = list(names) if names else _header(stored, mark)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(
            f"the column {repeated[0]!r} occurs twice in the header",
            file=stored.name,
            remedy="rename one of them",
        )
    convert = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in header},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    rows = 0
    # The reader's first block bounds its smallest piece of work: small files need not pay for a large one.
    size = BLOCK if stored.path.stat().st_size > FIRST_BLOCK or stored.compression else FIRST_BLOCK
    with open_text(stored) as stream:
        try:
            with pacsv.open_csv(
                pa.PythonFile(stream, mode="r"),
                read_options=pacsv.ReadOptions(block_size=size, column_names=header if names else None),
                parse_options=pacsv.ParseOptions(delimiter=mark, newlines_in_values=True),
                convert_options=convert,
            ) as reader:
                for batch in reader:
                    rows += batch.num_rows
                    yield pl.DataFrame(pl.from_arrow(batch))
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                diagnose(stored, mark, header, bool(names))
            raise error
        if stream.quotes % 2:
            diagnose(stored, mark, header, bool(names))
    if not rows:
        raise DataError(
            "has a header and no rows", file=stored.name, remedy="give a file with at least one judgment"
        )


def _header(stored: Stored, mark: str) -> list[str]:
    with open_text(stored) as stream:
        head = stream.read(FIRST_BLOCK)
    text = head.decode("utf-8-sig", errors="replace")
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark):
        if row:
            return row
    raise DataError("is empty", file=stored.name, remedy="give a file with at least one judgment")


def diagnose(stored: Stored, mark: str, header: list[str], headless: bool) -> None:
    """Find the first broken record the slow way and say what is wrong with it."""
    wide = csv.field_size_limit(1 << 31 - 1)
    row = 0
    try:
        with open_text(stored) as stream:
            lines = _lines(stream, stored.name)
            for record in csv.reader(lines, delimiter=mark, strict=False):
                if not record:
                    continue
                row += 1
                if len(record) != len(header):
                    at = row if headless else row - 1
                    raise DataError(
                        f"has {len(record)} fields where the header has {len(header)}", file=stored.name,
                        row=at,
                        remedy="put fields that hold a separator, quote or line break in double quotes",
                    )  # fmt: skip
    except csv.Error as error:
        raise DataError(
            str(error), file=stored.name, row=row, remedy="check the quotes of this row"
        ) from None
    finally:
        csv.field_size_limit(wide)
    with open_text(stored) as stream:
        reader = csv.reader(_lines(stream, stored.name), delimiter=mark, strict=True)
        row = 0
        wide = csv.field_size_limit(1 << 31 - 1)
        try:
            for row, _ in enumerate(reader, start=0 if not headless else 1):  # noqa: B007
                pass
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise DataError(
                    "a quote is opened and never closed", file=stored.name, row=row + 1,
                    remedy="the file is cut off, or a quote inside a field is not doubled",
                ) from None  # fmt: skip
        finally:
            csv.field_size_limit(wide)


def _lines(stream: object, name: str) -> Iterator[str]:
    rest = b""
    number = 0
    while block := stream.read(1 << 20):  # type: ignore[attr-defined]
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield _decode(line, name, number) + "\n"
            number += 1
    if rest:
        yield _decode(rest, name, number)


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"line {number + 1} is not UTF-8 text (byte {line[error.start]:#04x})", file=name,
            remedy="convert it, for example: iconv -f LATIN1 -t UTF-8",
        ) from None  # fmt: skip
