"""A hash of judgments that depends on their content alone.

Every column is reduced to streams of bytes that say the same whatever the storage: positions of nulls,
lengths of lists and texts, and values. Each stream has a SHA-256 of its own, fed in slices of bounded size,
so memory does not grow with the table; the digests are hashed together in the order of the column names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema

_SLICE = 1 << 16  # rows hashed at once: small enough for the cache, large enough to amortise the calls

_Feed = Callable[[str, npt.NDArray[Any] | memoryview], None]


def fingerprint(table: pa.Table) -> str:
    """SHA-256 (64 hexadecimal digits) of the judgments in `table`.

    Tables of equal content have equal fingerprints however they are chunked, sliced, dictionary-encoded or
    stored; the order of rows counts, the order of columns does not. A column that is null throughout counts
    as absent, all NaN are the same, and -0.0 is 0.0. One pass over the bytes: the cost is that of hashing
    them.
    """
    names = sorted(name for name in table.column_names if table.column(name).null_count < table.num_rows)
    total = hashlib.sha256(f"palate {schema.VERSION} {table.num_rows}".encode())
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(
            names, pool.map(lambda name: _column(table.column(name)), names), strict=True
        ):
            total.update(f"\n{name} {digest}".encode())
    return total.hexdigest()


def _column(column: pa.ChunkedArray) -> str:
    hashers: dict[str, hashlib._Hash] = {}
    counts: dict[str, int] = {}

    def feed(stream: str, data: npt.NDArray[Any] | memoryview) -> None:
        hashers.setdefault(stream, hashlib.sha256()).update(
            data.data if isinstance(data, np.ndarray) else data
        )

    for chunk in column.iterchunks():
        for start in range(0, len(chunk), _SLICE):
            _array(chunk.slice(start, _SLICE), "", feed, counts)
    total = hashlib.sha256()
    for stream in sorted(hashers):
        total.update(f"{stream} {hashers[stream].hexdigest()}\n".encode())
    for path in sorted(counts):
        total.update(f"{path} {counts[path]}\n".encode())
    return total.hexdigest()


def _array(array: pa.Array, path: str, feed: _Feed, counts: dict[str, int]) -> None:
    """Feed one slice; `counts` holds how many values of each nested path came before it."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _array(array.cast(pa.large_string()), path, feed, counts)
    if pa.types.is_map(kind):
        entries = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return _array(array.cast(pa.list_(entries)), path, feed, counts)
    before = counts.get(path, 0)
    counts[path] = before + len(array)
    if array.null_count:
        nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
        feed(f"{path} null", (nulls + before).astype("<i8"))
        array = array.drop_null()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        feed(f"{path} length", _unsigned(pc.list_value_length(array)))
        _array(array.flatten(), f"{path}[]", feed, counts)
    elif pa.types.is_struct(kind):
        for field, values in zip(kind, array.flatten(), strict=True):
            _array(values, f"{path}.{field.name}", feed, counts)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        feed(f"{path} length", _unsigned(pc.binary_length(array)))
        feed(f"{path} value", _text_bytes(array))
    elif pa.types.is_floating(kind):
        numbers = array.to_numpy(zero_copy_only=False).astype("<f8")
        numbers += 0.0
        numbers[np.isnan(numbers)] = np.nan
        feed(f"{path} value", numbers)
    else:
        feed(f"{path} value", array.cast(pa.int64()).to_numpy(zero_copy_only=False).astype("<i8", copy=False))
    return None


def _unsigned(lengths: pa.Array) -> npt.NDArray[Any]:
    return np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False).astype("<u4"))


def _text_bytes(array: pa.Array) -> memoryview:
    """The bytes of all texts of a slice without nulls, end to end, without a copy."""
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return memoryview(b"")
    wide = np.int64 if pa.types.is_large_string(array.type) else np.int32
    ends = np.frombuffer(offsets, dtype=wide)
    return memoryview(data)[int(ends[array.offset]) : int(ends[array.offset + len(array)])]
