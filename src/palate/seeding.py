"""Randomness is passed in: one helper turns a seed into generators."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int | np.random.Generator, *scope: str | int) -> np.random.Generator:
    """A NumPy generator for `seed`; `scope` names the use, so that two uses of a seed draw independently."""
    if isinstance(seed, np.random.Generator):
        return seed
    words = [int.from_bytes(hashlib.sha256(str(part).encode()).digest()[:4], "little") for part in scope]
    return np.random.default_rng([seed, *words])
