"""Compiled loops over rankings for `palate.rank.luce` and `palate.rank.orderings`.

Rankings come flat as in `Orderings`. Pairs of items have a position among P pairs: in `table`, shape
(M * M,), or where that is empty by searching the sorted `key`, shape (P,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EFRON, BRESLOW, DROP = 0, 1, 2

CHOSEN, AMONG, LEFT, END = 0, 1, 2, 3
"""Rows of the working memory of one ranking: choices won, what they were chosen from, share of the own group
that is left, column after the group's last. The last three are weights, what is below, and a score."""
WEIGHT, BELOW, RATE, FIELDS = 4, 5, 6, 7


@njit(cache=True, nogil=True)
def _position(a: int, b: int, size: int, table: Any, key: Ints) -> Any:
    if len(table):
        return table[a * size + b]
    wanted = min(a, b) * size + max(a, b)
    low, high = 0, len(key)
    while low < high:
        middle = (low + high) // 2
        if key[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _choose(
    code: Ints, place: Ints, low: int, k: int, loose: bool, ties: int, p: Floats, work: Floats
) -> None:
    """Fill the working memory for the ranking of K items that begins at `low`."""
    work[BELOW, k] = 0.0
    for s in range(k - 1, -1, -1):
        work[WEIGHT, s] = p[code[low + s]]
        work[BELOW, s] = work[BELOW, s + 1] + work[WEIGHT, s]
    start = 0
    while start < k:
        end = start + 1
        while end < k and place[low + end] == place[low + start]:
            end += 1
        size, rest = end - start, work[BELOW, end]
        for s in range(start, end):
            work[END, s] = end
            work[LEFT, s] = 1.0
            if loose:
                work[CHOSEN, s] = 1.0 if end < k else 0.0
                work[AMONG, s] = rest + work[WEIGHT, s]
            else:
                work[CHOSEN, s] = 1.0 if end < k else (size - 1) / size
                if end < k and ties == EFRON:
                    work[LEFT, s] = 1.0 - (s - start) / size
                work[AMONG, s] = rest + work[LEFT, s] * (work[BELOW, start] - rest)
            work[RATE, s] = work[CHOSEN, s] / work[AMONG, s]
        start = end


@njit(cache=True, nogil=True)
def likelihood(
    code: Ints,
    place: Ints,
    offsets: Ints,
    apart: Any,
    weight: Floats,
    ties: int,
    p: Floats,
    table: Any,
    key: Ints,
    score: Floats,
    gradient: Floats,
    curvature: Floats,
) -> float:
    """Minus the log-likelihood of Plackett-Luce; adds to its gradient (M,) and, for each pair, to minus its
    second derivative (P,), and writes the score of each ranking at weight 1 beside its items (flat)."""
    size, longest = len(p), np.diff(offsets).max() + 1
    work = np.empty((FIELDS, longest))
    item, weights, below = np.empty(longest, dtype=np.int64), np.empty(longest), np.empty(longest)
    loss = 0.0
    for r in range(len(weight)):
        low, k, w = offsets[r], offsets[r + 1] - offsets[r], weight[r]
        loose = apart[r] or ties == DROP
        total, strict = 0.0, True
        for s in range(k - 1, -1, -1):
            strict &= place[low + s] == s
            item[s] = code[low + s]
            weights[s] = p[item[s]]
            total += weights[s]
            below[s] = total
        if strict:
            # Most rankings are, and without ties much less is to be done.
            product, before, before_squared = 1.0, 0.0, 0.0
            for s in range(k - 1):
                rate = 1.0 / below[s]
                before += rate
                before_squared += rate * rate
                # One logarithm of a product, as long as that is a number, instead of one for each choice.
                share = weights[s] * rate
                if share < 1e-100:
                    loss -= w * np.log(share)
                else:
                    product *= share
                    if product < 1e-200:
                        loss -= w * np.log(product)
                        product = 1.0
                own = 1.0 - weights[s] * before
                score[low + s] = own
                gradient[item[s]] -= w * own
                value = w * weights[s] * before_squared
                for t in range(s + 1, k):
                    at = _position(item[s], item[t], size, table, key)
                    curvature[at] += value * weights[t]
            own = -weights[k - 1] * before
            score[low + k - 1] = own
            gradient[item[k - 1]] -= w * own
            loss -= w * np.log(product)
            continue
        _choose(code, place, low, k, loose, ties, p, work)
        before = before_squared = 0.0
        start = 0
        while start < k:
            end = int(work[END, start])
            inner = cross = inner_squared = rates = squares = 0.0
            for s in range(start, end):
                rate, square = work[RATE, s], work[RATE, s] / work[AMONG, s]
                left = work[LEFT, s]
                rates += rate
                squares += square
                inner += rate * left
                cross += square * left
                inner_squared += square * left * left
                if work[CHOSEN, s] > 0.0:
                    loss += w * work[CHOSEN, s] * np.log(work[AMONG, s] / work[WEIGHT, s])
            for s in range(start, end):
                if loose:
                    inner, inner_squared = work[RATE, s], 0.0
                    cross = work[RATE, s] / work[AMONG, s]
                own = work[CHOSEN, s] - work[WEIGHT, s] * (before + inner)
                score[low + s] = own
                gradient[code[low + s]] -= w * own
                beside = w * work[WEIGHT, s] * (before_squared + inner_squared)
                above = w * work[WEIGHT, s] * (before_squared + cross)
                for t in range(s + 1, k):
                    at = _position(code[low + s], code[low + t], size, table, key)
                    curvature[at] += (beside if t < end else above) * work[WEIGHT, t]
            before += rates
            before_squared += squares
            start = end
    return loss


@njit(cache=True, nogil=True)
def products(
    code: Ints, offsets: Ints, square: Floats, score: Floats, size: int, table: Any, key: Ints
) -> Floats:
    """Minus the sum of square * score_i * score_j over the rankings that have both items, shape (P,)."""
    total = np.zeros(len(key))
    for r in range(len(square)):
        for s in range(offsets[r], offsets[r + 1]):
            value = square[r] * score[s]
            for t in range(s + 1, offsets[r + 1]):
                total[_position(code[s], code[t], size, table, key)] -= value * score[t]
    return total


@njit(cache=True, nogil=True)
def flow(
    code: Ints,
    place: Ints,
    offsets: Ints,
    apart: Any,
    weight: Floats,
    ties: int,
    p: Floats,
    table: Any,
    key: Ints,
) -> Floats:
    """Rates of the Markov chain of Luce spectral ranking, shape (P, 2): to the first item, to the second.

    Of a choice of i among S, each j in S passes to i at the rate 1 / sum of p over S. Of the choices among
    tied items it is open who won which, so that each has won an equal part of all.
    """
    size = len(p)
    rates = np.zeros((len(key), 2))
    work = np.empty((FIELDS, np.diff(offsets).max() + 1))
    for r in range(len(weight)):
        low, k, w = offsets[r], offsets[r + 1] - offsets[r], weight[r]
        loose = apart[r] or ties == DROP
        _choose(code, place, low, k, loose, ties, p, work)
        start = 0
        while start < k:
            end = int(work[END, start])
            down = level = 0.0
            for s in range(start, end):
                down += w * work[RATE, s] / (end - start)
                level += w * work[RATE, s] * work[LEFT, s] / (end - start)
            for s in range(start, end):
                if loose:
                    down, level = w * work[RATE, s], 0.0
                for t in range(s + 1, k):
                    at = _position(code[low + s], code[low + t], size, table, key)
                    second = int(code[low + s] > code[low + t])
                    rates[at, second] += level if t < end else down
                    if t < end:
                        rates[at, 1 - second] += level
            start = end
    return rates


@njit(cache=True, nogil=True)
def compared(
    code: Ints,
    place: Ints,
    offsets: Ints,
    apart: Any,
    values: Floats,
    size: int,
    table: Any,
    key: Ints,
) -> Floats:
    """Sums of `values`, shape (V, N), over implied comparisons: (V, P, 3), first wins, second wins, tie."""
    total = np.zeros((len(values), len(key), 3))
    for r in range(len(apart)):
        for s in range(offsets[r], offsets[r + 1]):
            for t in range(s + 1, offsets[r + 1]):
                tie = place[s] == place[t]
                if tie and apart[r]:
                    continue
                at = _position(code[s], code[t], size, table, key)
                outcome = 2 if tie else int(code[s] > code[t])
                for v in range(len(values)):
                    total[v, at, outcome] += values[v, r]
    return total


@njit(cache=True, nogil=True)
def mark(code: Ints, offsets: Ints, size: int) -> Any:
    """Which pairs (smaller code * M + larger code) are in one ranking, shape (M * M,)."""
    seen = np.zeros(size * size, dtype=np.bool_)
    for r in range(len(offsets) - 1):
        for s in range(offsets[r], offsets[r + 1]):
            for t in range(s + 1, offsets[r + 1]):
                seen[min(code[s], code[t]) * size + max(code[s], code[t])] = True
    return seen
