"""Which items can be put on one scale: components of the graph of comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import NegativeCycleError, connected_components, johnson

from palate.errors import DataError, PalateWarning
from palate.rank.battles import FIRST_WINS, SECOND_WINS, TIE
from palate.rank.counts import Comparisons

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def met(comparisons: Comparisons) -> tuple[int, Ints]:
    """Groups of items that comparisons connect, whoever won: how many, and each item's, shape (M,)."""
    return _components(comparisons.first, comparisons.second, comparisons.n_items, "weak")


def beaten(comparisons: Comparisons) -> tuple[int, Ints]:
    """Groups within which everyone beats everyone through a chain of wins, a tie being half a win for both.

    The Bradley-Terry likelihood has a finite maximum exactly if there is one such group (Ford 1957).
    """
    return _components(*_wins(comparisons), comparisons.n_items, "strong")


def _wins(comparisons: Comparisons) -> tuple[Ints, Ints]:
    """Winner and loser of every pair and direction in which there was a win or a tie."""
    weight, first, second = comparisons.weight, comparisons.first, comparisons.second
    up = weight[:, FIRST_WINS] + weight[:, TIE] > 0
    down = weight[:, SECOND_WINS] + weight[:, TIE] > 0
    return np.concatenate([first[up], second[down]]), np.concatenate([second[up], first[down]])


def _components(source: Ints, target: Ints, size: int, kind: str) -> tuple[int, Ints]:
    graph = csr_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(size, size))
    found, labels = connected_components(graph, directed=True, connection=kind)
    return int(found), np.asarray(labels, dtype=np.int64)


def refuse_separated(comparisons: Comparisons) -> None:
    """Raise a `DataError` that names the items concerned unless finite strengths exist for all of them."""
    items = comparisons.items
    strong, group = beaten(comparisons)
    if strong == 1:
        return
    weak, apart = met(comparisons)
    if weak > 1:
        raise DataError(
            f"the comparisons are disconnected: {describe_groups(items, weak, apart)}",
            file=comparisons.source,
            remedy="compare across the groups, rank each by itself, or set l2 > 0",
        )
    above = np.ones(strong, dtype=bool)
    below = np.ones(strong, dtype=bool)
    winner, loser = _wins(comparisons)
    across = group[winner] != group[loser]
    above[group[loser[across]]] = False
    below[group[winner[across]]] = False
    sizes = np.bincount(group)
    if sizes.max() > 1:
        # The main body is what the others are apart from; to name it would say the same again.
        above[sizes.argmax()] = below[sizes.argmax()] = False
    named = above | below
    parts = [_extremes(items, group, above, "lost"), _extremes(items, group, below, "won")]
    raise DataError(
        f"no finite estimate: {', '.join(part for part in parts if part)}",
        file=comparisons.source,
        remedy="set l2 > 0 or drop " + ("it" if sizes[named].sum() == 1 else "them"),
    )


def ties_bound(comparisons: Comparisons) -> bool:
    """Whether ties are so placed that a model with a tie parameter has a finite maximum.

    Beyond connected wins and ties it needs that no strengths put every win at least one unit apart and every
    tie at most one unit: along such strengths the likelihood never falls (the difference and the width of a
    tie grow together). A chain of wins that returns to where it began excludes them.
    """
    weight, first, second = comparisons.weight, comparisons.first, comparisons.second
    up, down, tie = weight[:, FIRST_WINS] > 0, weight[:, SECOND_WINS] > 0, weight[:, TIE] > 0
    if (up & down).any():
        return True
    winner = np.concatenate([first[up], second[down]])
    loser = np.concatenate([second[up], first[down]])
    size = comparisons.n_items
    if _components(winner, loser, size, "strong")[0] < size:
        return True
    # Only an order without cycles is left: such strengths exist if their constraints have no negative cycle.
    # A pair both won and tied is exactly one unit apart, its two constraints going in opposite directions.
    source, target = [winner], [loser]
    cost = [np.full(len(winner), -1.0)]
    for a, b, won in ((first, second, up), (second, first, down)):
        bound = tie & ~won
        source.append(a[bound])
        target.append(b[bound])
        cost.append(np.ones(int(bound.sum())))
    graph = csr_array(
        (np.concatenate(cost), (np.concatenate(source), np.concatenate(target))), shape=(size, size)
    )
    try:
        johnson(graph, indices=[0])
    except NegativeCycleError:
        return True
    return False


def refuse_separated_by_ties(comparisons: Comparisons) -> None:
    """Raise a `DataError` unless `ties_bound`."""
    if not ties_bound(comparisons):
        raise DataError(
            "no finite estimate: wins are so ordered, and ties so placed, that a wider tie always "
            "fits better",
            file=comparisons.source,
            remedy="set l2 > 0, add comparisons, or count ties as half wins (method 'bradley_terry')",
        )


def warn_apart(comparisons: Comparisons, stacklevel: int) -> None:
    """Warn, naming the groups, where some items never met: a ridge or prior alone puts them on one scale."""
    groups, labels = met(comparisons)
    if groups > 1:
        warnings.warn(
            f"{describe_groups(comparisons.items, groups, labels)}; "
            "strengths of different groups cannot be compared",
            PalateWarning,
            stacklevel=stacklevel + 1,
        )


def describe_groups(items: Sequence[str], count: int, labels: Ints) -> str:
    """Name groups that never met: "the items fall into 2 groups that never met: (a, b), (c)"."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])
    groups.sort(key=lambda members: (-len(members), members[0]))
    shown = ", ".join(f"({listed([items[int(m)] for m in members], 5)})" for members in groups[:5])
    more = f" and {count - 5} more" if count > 5 else ""
    return f"the items fall into {count} groups that never met: {shown}{more}"


def listed(names: Sequence[Any], limit: int) -> str:
    """Names with commas, at most `limit` of them."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(str(name) for name in names[:limit]) + more


def _extremes(items: Sequence[str], group: Ints, extreme: Bools, verb: str) -> str:
    """Say which items, or groups of them, never lost (or won) against the rest."""
    sizes = np.bincount(group, minlength=len(extreme))
    single = np.flatnonzero(extreme[group] & (sizes[group] == 1))
    parts = []
    if len(single):
        parts.append(f"{listed([items[int(i)] for i in single], 5)} never {verb}")
    several = np.flatnonzero(extreme & (sizes > 1))
    for label in several[:3]:
        names = listed([items[int(i)] for i in np.flatnonzero(group == label)], 5)
        parts.append(f"the group ({names}) never {verb} against any other")
    if len(several) > 3:
        parts.append(f"{len(several) - 3} more groups never {verb}")
    return ", ".join(parts)
