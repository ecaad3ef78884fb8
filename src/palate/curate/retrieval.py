"""Which unverified pairs to label next: those near the verified ones that the reward model gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.curate.asked import Opinion, agreement, enough
from palate.curate.hygiene import overlap
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges.neighbours import described, embedded, nearest

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ROUNDING = 1e-9
"""k_max (1 - p) may exceed a whole number by this and still be it."""


def retrieval_budget(p: npt.ArrayLike, k_max: int = 8) -> Integers:
    """How many neighbours a verified pair asks for, of the shape of `p`.

        k = k_max                     if p <= 0.5
            ceil(k_max (1 - p))       otherwise

    (Liu et al., 2025, "Skywork-Reward-V2"). A pair the model gets wrong, or calls even, asks for all.

    Args:
        p: probability that the model gives the verified choice; NaN, no answer, counts as wrong.
        k_max: most neighbours, 1 or more.

    Raises:
        ConfigError: a probability outside 0 to 1, or k_max below 1.

    >>> retrieval_budget([0.31, 0.5, 0.51, 0.8, 0.95, 1.0]).tolist()
    [8, 8, 4, 2, 1, 0]
    """
    given = np.asarray(p, dtype=np.float64)
    if k_max < 1:
        raise ConfigError(f"k_max is a number of neighbours, 1 or more; got {k_max}")
    if ((given < 0) | (given > 1)).any():
        raise ConfigError(f"probabilities lie between 0 and 1; got {given[(given < 0) | (given > 1)][0]:g}")
    right = given > 0.5
    return np.where(right, np.ceil(k_max * (1.0 - np.where(right, given, 1.0)) - ROUNDING), k_max).astype(
        np.int64
    )


def error_driven(
    judge: Opinion,
    gold: PreferenceData,
    pool: PreferenceData,
    embed: Any = "all-minilm-l6-v2",
    *,
    k_max: int = 8,
    text: Callable[[PreferenceData], Sequence[str]] = described,
    used: npt.ArrayLike = (),
    exclude_overlap: bool = False,
) -> Integers:
    """Rows of the pool nearest to the verified pairs that a judge gets wrong or is unsure of.

    Each verified pair asks for its `retrieval_budget` of neighbours; together they are taken once, those of
    the pairs the judge is most wrong about first.

    Args:
        judge: a reward model or any judge, or its probabilities of the verified choices, shape (rows of
            gold,).
        gold: verified judgments of two alternatives.
        pool: unverified ones.
        embed: see `palate.judges.neighbours.embedded`; similarity is the cosine.
        k_max: most neighbours of a verified pair.
        text: what is embedded of judgments; prompt and attributes.
        used: rows of the pool never to return.
        exclude_overlap: pass over rows of the pool that are verified (the same prompt and alternatives); they
            are an error without.

    Returns:
        Distinct rows of `pool`.

    Raises:
        DataError: there is no verified pair, or gold and pool share pairs.
        ConfigError: judgments of more than two alternatives, or vectors of different lengths.
    """
    pairs = enough(gold, 1)
    open_ = np.ones(pool.n_rows, dtype=bool)
    open_[np.asarray(used, dtype=np.int64)] = False
    shared = overlap(pool, gold)
    if shared.any() and not exclude_overlap:
        refuse_overlap(shared, pool)
    rows = np.flatnonzero(open_ & ~shared)
    p = agreement(judge, gold, pairs)
    budget = retrieval_budget(p, k_max)
    asking = np.flatnonzero(budget > 0)
    asking = asking[np.argsort(np.nan_to_num(p[asking], nan=0.0), kind="stable")]
    if not len(rows) or not len(asking):
        return np.empty(0, dtype=np.int64)
    every = text(gold)
    queries = embedded(embed, [every[row] for row in pairs.judgment[asking].tolist()])
    offered = text(pool)
    targets = embedded(embed, [offered[row] for row in rows.tolist()], queries.shape[1])
    found = nearest(queries, targets, budget[asking]).ravel()
    found = found[found >= 0]
    _, first = np.unique(found, return_index=True)
    return np.asarray(rows[found[np.sort(first)]])


def refuse_overlap(shared: npt.NDArray[np.bool_], pool: PreferenceData, name: str = "the pool") -> None:
    """Raise the error for judgments that hold verified pairs."""
    raise DataError(
        f"{int(shared.sum())} of {pool.n_rows} pairs of {name} are among the verified ones",
        row=int(np.flatnonzero(shared)[0]) + 1, file=pool.source,
        remedy="take them out, or pass over them with exclude_overlap=True",
    )  # fmt: skip
