"""Randomness is passed in: one helper turns a seed into generators."""

from __future__ import annotations

import hashlib

import numpy as np

from palate.errors import ConfigError


def generator(seed: int | np.random.Generator, *scope: str | int) -> np.random.Generator:
    """A NumPy generator for `seed`; `scope` names the use, so that two uses of a seed draw independently.

    Raises:
        ConfigError: the seed is no whole number of 0 or more.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed is {seed!r}; use a whole number of 0 or more")
    words = [int.from_bytes(hashlib.sha256(str(part).encode()).digest()[:4], "little") for part in scope]
    return np.random.default_rng([seed, *words])
