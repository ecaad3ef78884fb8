"""JSON Lines in blocks and whole JSON files, with the row and field of what is wrong in them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from palate.data.formats.source import Stored, open_text
from palate.errors import DataError

BLOCK = 1 << 23
MAX_LINE = 1 << 27
MAX_DEPTH = 64
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def read(stored: Stored) -> Iterator[pl.DataFrame]:
    """Frames of a JSON Lines file, or the one frame of a JSON file that holds an array of objects."""
    if stored.kind == "json" and _starts(stored) != b"{":
        yield _read_array(stored)
        return
    rows = 0
    for block in _blocks(stored):
        frame = parse_lines(block, stored.name, rows)
        rows += frame.height
        if frame.height:
            yield frame
    if not rows:
        raise DataError("holds no rows", file=stored.name, remedy="give a file with at least one judgment")


def parse_lines(block: bytes, name: str, first_row: int) -> pl.DataFrame:
    """Whole lines of JSON objects as a frame; keys that a line lacks are null in it."""
    if not block.strip():
        return pl.DataFrame()
    if _depth(block) > MAX_DEPTH:
        _diagnose(block, name, first_row)
    if b"\\u" in block and _LONE_SURROGATE.search(block):
        _diagnose(block, name, first_row)
    try:
        frame = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        _diagnose(block, name, first_row)
        reason = str(error).split("\n")[0][:200]
        raise DataError(
            f"cannot be read as JSON Lines ({reason})", file=name, remedy="give one type for each field"
        ) from None
    if not frame.width:
        raise DataError(
            "holds only empty objects", file=name, remedy="give a file with at least one judgment"
        )
    return frame


def _blocks(stored: Stored) -> Iterator[bytes]:
    with open_text(stored) as stream:
        rest, first = b"", True
        while block := stream.read(BLOCK):
            if first:
                block, first = block.removeprefix(b"\xef\xbb\xbf"), False
            cut = block.rfind(b"\n") + 1
            if cut:
                yield rest + block[:cut]
                rest = block[cut:]
            else:
                rest += block
                if len(rest) > MAX_LINE:
                    raise DataError(
                        "has a line of more than 128 MB", file=stored.name, remedy="split the line"
                    )
        if rest:
            yield rest


def _starts(stored: Stored) -> bytes:
    with open_text(stored) as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


def _read_array(stored: Stored) -> pl.DataFrame:
    blocks = []
    with open_text(stored) as stream:
        while block := stream.read(BLOCK):
            blocks.append(block)
    text = b"".join(blocks).removeprefix(b"\xef\xbb\xbf")
    name = stored.name
    if _depth(text) > MAX_DEPTH and _exact_depth(text) > MAX_DEPTH:
        raise DataError(f"is nested more than {MAX_DEPTH} deep", file=name, remedy="flatten it")
    values = _loads(text, name, None)
    if not isinstance(values, list):
        raise DataError(
            f"holds {_type(values)} where a list of objects is wanted", file=name, remedy="write [{...}, ...]"
        )
    if not values:
        raise DataError("holds no rows", file=name, remedy="give a file with at least one judgment")
    for row, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(f"is {_type(value)}, not an object", file=name, row=row, remedy="write {...}")
    lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    try:
        encoded = lines.encode()
    except UnicodeEncodeError:
        raise DataError(
            "holds half of a surrogate pair", file=name, remedy="write the character whole"
        ) from None
    return parse_lines(encoded, name, 0)


def _depth(block: bytes) -> int:
    """An upper bound of the nesting in any line: brackets inside of texts count too."""
    data = np.frombuffer(block, dtype=np.uint8)
    step = ((data == 0x7B) | (data == 0x5B)).astype(np.int8)
    step -= (data == 0x7D) | (data == 0x5D)
    marks = np.flatnonzero(step)
    level = np.cumsum(step[marks], dtype=np.int64)
    if not len(level):
        return 0
    # Texts with unbalanced brackets shift the level, so depth is measured from where its line began.
    line_of = np.searchsorted(np.flatnonzero(data == 0x0A), marks)
    starts = np.flatnonzero(np.diff(line_of, prepend=-1))
    before = np.concatenate([[0], level])[starts]
    return int((level - np.repeat(before, np.diff(np.append(starts, len(marks))))).max())


def _exact_depth(line: bytes) -> int:
    depth = deepest = 0
    for char in _STRING.sub(b"", line):
        depth += (char in b"{[") - (char in b"}]")
        deepest = max(deepest, depth)
    return deepest


def _diagnose(block: bytes, name: str, first_row: int) -> None:
    """Find the first bad line and say what is wrong with it; return if no line is bad by itself."""
    kinds: dict[str, dict[str, int]] = {}
    row = first_row
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        row += 1
        if _exact_depth(line) > MAX_DEPTH:
            raise DataError(f"is nested more than {MAX_DEPTH} deep", file=name, row=row, remedy="flatten it")
        value = _loads(line, name, row)
        if not isinstance(value, dict):
            raise DataError(f"is {_type(value)}, not an object", file=name, row=row, remedy="write {...}")
        for key, entry in value.items():
            if _has_surrogate(entry):
                raise DataError(
                    "holds half of a surrogate pair",
                    file=name,
                    row=row,
                    field=key,
                    remedy="write the character whole",
                )
            if entry is not None:
                kinds.setdefault(key, {}).setdefault(_type(entry), row)
    for key, found in kinds.items():
        if len(found) > 1:
            (first, at), (second, row) = list(found.items())[:2]
            raise DataError(
                f"holds {second} where row {at} holds {first}", file=name, row=row, field=key,
                remedy="give one type for the whole column",
            )  # fmt: skip


def _loads(text: bytes, name: str, row: int | None) -> Any:
    def constant(value: str) -> Any:
        raise DataError(f"{value} is not JSON", file=name, row=row, remedy="write null")

    try:
        return json.loads(text.decode("utf-8"), parse_constant=constant)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 text (byte {text[error.start]:#04x})", file=name, row=row,
            remedy="convert it, for example: iconv -f LATIN1 -t UTF-8",
        ) from None  # fmt: skip
    except RecursionError:
        raise DataError("is nested too deeply", file=name, row=row, remedy="flatten it") from None
    except ValueError as error:
        raise DataError(
            f"is not JSON ({error})", file=name, row=row, remedy="the file is cut off or damaged at this row"
        ) from None


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return any(map(_has_surrogate, value.values())) or any(map(_has_surrogate, value))
    return isinstance(value, list) and any(map(_has_surrogate, value))


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number")


def checked_depth(text: str | None) -> None:
    """Raise ValueError for JSON text nested too deeply to be handed to a parser."""
    if text is not None and _exact_depth(text.encode()) > MAX_DEPTH:
        raise ValueError("nested too deeply")
