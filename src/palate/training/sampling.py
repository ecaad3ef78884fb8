"""In which order groups are trained on: shuffled passes, or batches with as many of each source."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError, DataError
from palate.seeding import generator

Integers = npt.NDArray[np.int64]


def order_of(n_groups: int, size: int, seed: int, *scope: str | int) -> Integers:
    """The first `size` entries of shuffled passes over the groups, one shuffle a pass; shape (size,).

    `scope` names the use, so that two orders under one seed are drawn independently.
    """
    passes = -(-size // n_groups)
    shuffles = [generator(seed, "order", *scope, number).permutation(n_groups) for number in range(passes)]
    return np.concatenate(shuffles)[:size].astype(np.int64)


def stratified_order(source: Integers, batch_size: int, batches: int, seed: int) -> Integers:
    """Groups in batches with as many of each source; shape (batches * batch_size,).

    Each source goes through its own shuffled passes, so that a small one comes round more often than a large
    one; within a pass none of its groups comes twice.

    Args:
        source: shape (n,), codes from 0; -1 for none.
        batch_size: groups a batch; a multiple of the number of sources.
        batches: how many.
        seed: of the shuffles.

    Raises:
        DataError: a group is of no source.
        ConfigError: a batch cannot hold as many groups of each source.
    """
    if (source < 0).any():
        row = int(np.flatnonzero(source < 0)[0]) + 1
        raise DataError(
            "a group of no source", row=row, field="source", remedy="give every judgment a source"
        )
    codes = np.unique(source)
    each, left = divmod(batch_size, len(codes))
    if left or not each:
        fitting = sorted({max(each, 1) * len(codes), (each + 1) * len(codes)})
        raise ConfigError(
            f"batches of {batch_size} cannot hold as many groups of each of {len(codes)} sources; "
            f"use a batch_size of {' or '.join(map(str, fitting))}"
        )
    drawn = []
    for code in codes:
        rows = np.flatnonzero(source == code)
        own = order_of(len(rows), batches * each, seed, "source", int(code))
        drawn.append(rows[own].reshape(batches, each))
    return np.concatenate(drawn, axis=1).reshape(-1).astype(np.int64)
