"""Integer codes: how columns are grouped and compared without touching their texts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def combine(*columns: npt.NDArray[np.integer]) -> tuple[Ints, int]:
    """One code per distinct tuple of codes (-1 is a value like any other), numbered by first appearance.

    Args:
        columns: one or more arrays of shape (n,), each with values of -1 or more and fewer than 2^31 of them.

    Returns:
        Codes of shape (n,), and how many distinct ones there are.
    """
    key = columns[0].astype(np.int64) + 1
    bound = int(key.max(initial=0)) + 1
    for column in columns[1:]:
        span = int(column.max(initial=0)) + 2
        if bound * span >= 1 << 62:
            key, bound = _dense(key)
        key = key * span + column + 1
        bound *= span
    return _dense(key)


def _dense(key: Ints) -> tuple[Ints, int]:
    encoded = pa.array(key).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(encoded.dictionary)


def first_places(codes: npt.NDArray[np.integer], size: int) -> Ints:
    """For each code below `size`, the first place where it occurs (0 if it never does)."""
    places = np.zeros(size, dtype=np.int64)
    # Of repeated assignments the last one stays, so the array is walked from its end.
    places[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return places


def scramble(values: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """Well-mixed 64-bit words for integers (the finaliser of splitmix64; Steele, Lea and Flood 2014).

    Sums of such words identify unordered collections: two different ones collide with probability about
    2^-64.
    """
    word = values.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))
