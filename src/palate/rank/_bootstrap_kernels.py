"""Compiled loops of the bootstrap: Poisson draws of many cells, and refits of Bradley-Terry to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GUIDE = 64
"""Entries by which a draw enters the table of a distribution."""


@njit(cache=True, nogil=True)
def _mixed(state: Any) -> Any:
    """SplitMix64: an integer that looks random, from a counter."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@njit(cache=True, nogil=True)
def poisson_tables(means: Floats) -> tuple[Floats, Ints, Ints, npt.NDArray[np.int32]]:
    """Cumulative probabilities of Poisson distributions, one after the other.

    Args:
        means: shape (U,), positive.

    Returns:
        cumulative probabilities, flat; where each distribution begins there, shape (U + 1,); its smallest
        value, shape (U,); and for u in [g/GUIDE, (g+1)/GUIDE) the first entry that can be the answer,
        relative to the beginning, shape (U, GUIDE).
    """
    size = len(means)
    low, offsets = np.empty(size, np.int64), np.zeros(size + 1, np.int64)
    for k in range(size):
        spread = 9.0 * np.sqrt(means[k]) + 12.0
        low[k] = max(0, int(means[k] - spread))
        offsets[k + 1] = offsets[k] + int(means[k] + spread) + 1 - low[k]
    table, guide = np.empty(offsets[size]), np.empty((size, GUIDE), np.int32)
    for k in range(size):
        begin, n = offsets[k], offsets[k + 1] - offsets[k]
        # Probabilities relative to the mode, so that nothing underflows, then their running sum.
        mode = int(means[k]) - low[k]
        value = 1.0
        for x in range(mode, n):
            table[begin + x] = value
            value *= means[k] / (low[k] + x + 1)
        value = 1.0
        for x in range(mode - 1, -1, -1):
            value *= (low[k] + x + 1) / means[k]
            table[begin + x] = value
        total = 0.0
        for x in range(n):
            total += table[begin + x]
            table[begin + x] = total
        for x in range(n):
            table[begin + x] /= total
        table[begin + n - 1] = 1.0
        at = 0
        for g in range(GUIDE):
            while table[begin + at] <= g / GUIDE:
                at += 1
            guide[k, g] = at
    return table, offsets, low, guide


@njit(cache=True, nogil=True)
def draw_cells(
    which: npt.NDArray[np.int32],
    scale: Floats,
    table: Floats,
    offsets: Ints,
    low: Ints,
    guide: npt.NDArray[np.int32],
    seeds: npt.NDArray[np.uint64],
    out: Floats,
) -> None:
    """Independent draws: out[b, c] = scale[c] times one from the distribution which[c], or 0 where that is
    negative; the row b from seeds[b]."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    for b in range(len(seeds)):
        state = seeds[b]
        for c in range(len(which)):
            k = which[c]
            if k < 0:
                out[b, c] = 0.0
                continue
            state += golden
            uniform = float(_mixed(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
            at = offsets[k] + guide[k, int(uniform * GUIDE)]
            while table[at] <= uniform:
                at += 1
            out[b, c] = scale[c] * (low[k] + at - offsets[k])


@njit(cache=True, nogil=True)
def refit_logistic(
    first: Ints,
    second: Ints,
    weight: Floats,
    theta: Floats,
    inverse: Floats,
    l2: float,
    tolerance: float,
    iterations: int,
    out: Floats,
    done: npt.NDArray[np.bool_],
) -> None:
    """Bradley-Terry strengths for each row of weights, shape (B, P, 3), by steps with one inverse Hessian.

    Every row begins at `theta`; `out` (B, M) gets the strengths and `done` (B,) whether the largest gradient
    fell below `tolerance` times the largest weight of an item.
    """
    size, pairs = len(theta), len(first)
    fitted = np.empty(pairs)
    for p in range(pairs):
        fitted[p] = 1.0 / (1.0 + np.exp(theta[second[p]] - theta[first[p]]))
    gradient, load = np.empty(size), np.empty(size)
    wins, total = np.empty(pairs), np.empty(pairs)
    for b in range(len(weight)):
        x = out[b]
        x[:] = theta
        load[:] = 0.0
        for p in range(pairs):
            wins[p] = weight[b, p, 0] + 0.5 * weight[b, p, 2]
            total[p] = weight[b, p, 1] + 0.5 * weight[b, p, 2] + wins[p]
            load[first[p]] += total[p]
            load[second[p]] += total[p]
        goal = tolerance * (load.max() + l2)
        done[b] = False
        for step in range(iterations):
            gradient[:] = 0.0
            for p in range(pairs):
                i, j = first[p], second[p]
                probability = fitted[p] if step == 0 else 1.0 / (1.0 + np.exp(x[j] - x[i]))
                residual = wins[p] - total[p] * probability
                gradient[i] += residual
                gradient[j] -= residual
            largest = 0.0
            for i in range(size):
                gradient[i] -= l2 * x[i]
                largest = max(largest, abs(gradient[i]))
            if largest <= goal:
                done[b] = True
                break
            x += inverse @ gradient
