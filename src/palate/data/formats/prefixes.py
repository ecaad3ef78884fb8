"""The beginning two columns of texts share, found by bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

ROWS_AT_ONCE = 1024
_SPACE = np.zeros(256, dtype=bool)
_SPACE[list(b" \n\t\r")] = True


def split(first: pl.Series, second: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Common beginning up to and with its last white space, and what follows it in each; shapes (rows,)."""
    parts = [
        _split(first.slice(start, ROWS_AT_ONCE), second.slice(start, ROWS_AT_ONCE))
        for start in range(0, len(first), ROWS_AT_ONCE)
    ]
    prompts, lefts, rights = zip(*parts, strict=True)
    return pl.concat(prompts), pl.concat(lefts), pl.concat(rights)


def _split(first: pl.Series, second: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    a, a_offsets = _bytes(first)
    b, b_offsets = _bytes(second)
    shared = np.minimum(np.diff(a_offsets), np.diff(b_offsets))
    rows = np.repeat(np.arange(len(shared)), shared)
    begin = np.concatenate([[0], np.cumsum(shared)])[:-1]
    position = np.arange(len(rows)) - np.repeat(begin, shared)
    x, y = a[np.repeat(a_offsets[:-1], shared) + position], b[np.repeat(b_offsets[:-1], shared) + position]
    at = np.flatnonzero(x != y)
    np.minimum.at(shared, rows[at], position[at])
    cut = np.zeros_like(shared)
    space = np.flatnonzero(_SPACE[x] & (position < shared[rows]))
    np.maximum.at(cut, rows[space], position[space] + 1)
    zero = np.zeros_like(cut)
    return (
        _slice(a, a_offsets, zero, cut),
        _slice(a, a_offsets, cut, np.diff(a_offsets)),
        _slice(b, b_offsets, cut, np.diff(b_offsets)),
    )


def _bytes(texts: pl.Series) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    array = texts.rechunk().to_arrow()
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    return np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, np.uint8), offsets


def _slice(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> pl.Series:
    size = end - start
    ends = np.concatenate([[0], np.cumsum(size)])
    index = np.arange(ends[-1]) + np.repeat(offsets[:-1] + start - ends[:-1], size)
    array = pa.LargeStringArray.from_buffers(
        len(size), pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(np.ascontiguousarray(data[index]))
    )
    return pl.Series(pl.from_arrow(array))
