"""The union of comparisons counted apart: batches of a file, shards of a log, updates of an arena."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError
from palate.rank.battles import Floats, Ints
from palate.rank.counts import Clustered, Comparisons, sum_clusters


def merge(parts: Sequence[Comparisons], clusters: Sequence[npt.ArrayLike] | None = None) -> Comparisons:
    """The comparisons of all parts together, exactly as if their judgments had been counted at once.

    Items are those of any part, by name, in order of first appearance. A cluster (a ranking, an annotator)
    of one part is not that of another, unless `clusters` says which are the same.

    Args:
        parts: one or more counts; they may name different items.
        clusters: for each part the codes of its clusters, shape (its `clustered.n_clusters`,), equal codes
            being one cluster, such as an annotator who judged in several parts. With ``count(data,
            cluster=codes)`` they are ``numpy.unique(codes)``, where each code is 0 or more and each judgment
            compares something. Not for clusters whose weights are square roots (see `Clustered`).

    Raises:
        ConfigError: there are no parts, or `clusters` has another shape.
    """
    if not parts:
        raise ConfigError("there is nothing to merge; give one or more counts")
    if len(parts) == 1 and clusters is None:
        return parts[0]
    places, items = _union([part.items for part in parts])
    size = len(items)
    first = np.concatenate([place[part.first] for place, part in zip(places, parts, strict=True)])
    second = np.concatenate([place[part.second] for place, part in zip(places, parts, strict=True)])
    turned = np.flatnonzero(first > second)
    first[turned], second[turned] = second[turned], first[turned]
    key, row = np.unique(first * size + second, return_inverse=True)
    cell = (row[:, None] * 3 + np.arange(3)).ravel()

    def total(tables: list[npt.NDArray[np.float64]]) -> Floats:
        table = np.concatenate(tables)
        table[turned] = table[turned][:, [1, 0, 2]]
        return np.asarray(np.bincount(cell, table.ravel(), minlength=3 * len(key)).reshape(-1, 3), np.float64)

    weight, square = total([part.weight for part in parts]), total([part.square for part in parts])
    # Counts stay exact in floating point up to 2^53.
    count = np.rint(total([part.count.astype(np.float64) for part in parts])).astype(np.int64)
    sources = {part.source for part in parts}
    return Comparisons(
        items=items,
        first=key // size,
        second=key % size,
        weight=weight,
        square=square,
        count=count,
        clustered=_clusters(parts, places, size, clusters),
        unused=sum(part.unused for part in parts),
        source=sources.pop() if len(sources) == 1 else None,
    )


def _union(names: list[list[str]]) -> tuple[list[Ints], list[str]]:
    """The place of every name of every list in one list of all, and that list."""
    if all(each == names[0] for each in names[1:]):
        return [np.arange(len(names[0]))] * len(names), names[0]
    known: dict[str, int] = {}
    places = [
        np.array([known.setdefault(name, len(known)) for name in each], dtype=np.int64) for each in names
    ]
    return places, list(known)


def _clusters(
    parts: Sequence[Comparisons], places: list[Ints], size: int, codes: Sequence[npt.ArrayLike] | None
) -> Clustered | None:
    if codes is not None and len(codes) != len(parts):
        raise ConfigError(f"clusters has codes for {len(codes)} parts, there are {len(parts)}")
    found = []
    before = 0
    for at, (part, place) in enumerate(zip(parts, places, strict=True)):
        clustered = part.clustered
        if clustered is None:
            continue
        if codes is None:
            cluster = clustered.cluster + before
            before += clustered.n_clusters
        else:
            given = np.asarray(codes[at])
            if given.shape != (clustered.n_clusters,):
                raise ConfigError(
                    f"clusters[{at}] has shape {given.shape}; give one code for each of "
                    f"{clustered.n_clusters} clusters"
                )
            cluster = given[clustered.cluster]
        winner, loser = place[clustered.winner], place[clustered.loser]
        turned = clustered.tie & (winner > loser)
        winner, loser = np.where(turned, loser, winner), np.where(turned, winner, loser)
        found.append((cluster, winner, loser, clustered.tie, clustered.weight))
    if not found:
        return None
    together = [np.concatenate(arrays) for arrays in zip(*found, strict=True)]
    return Clustered(*together) if codes is None else sum_clusters(size, *together)
