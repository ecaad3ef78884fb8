"""Which differences between items are real: pairwise tests and rank confidence sets, all items at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import false_discovery_control

from palate.errors import ConfigError
from palate.rank.leaderboard import MATRIX_ITEMS, Leaderboard
from palate.seeding import generator

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]

DRAWS = 4000
"""Draws from which the distribution of the largest of many statistics is read."""

_TOGETHER = 1 << 23  # statistics that are held at once

ADJUSTMENTS = ("holm", "bonferroni", "max_t", "bh", "none")


def pairwise_tests(
    board: Leaderboard,
    adjust: Literal["holm", "bonferroni", "max_t", "bh", "none"] = "holm",
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Test every pair of items for a difference in strength, with control of the multiplicity.

    Args:
        board: a leaderboard with uncertainty, of at most `MATRIX_ITEMS` items.
        adjust: "holm" and "bonferroni" bound the probability of any false difference; "max_t" does so with
            the joint distribution of all statistics, stepping down (Romano and Wolf 2005), which finds more;
            "bh" bounds the expected share of false ones among those found (Benjamini and Hochberg 1995);
            "none".
        seed: for "max_t".

    Returns:
        One row a pair, the stronger item first, smallest p first: a, b, difference (strengths),
        standard_error, p (two-sided, normal approximation), p_adjusted, significant (at the board's level).

    Raises:
        ConfigError: the board has no uncertainty or too many items, or `adjust` has another value.
    """
    import polars as pl

    if adjust not in ADJUSTMENTS:
        raise ConfigError(f"adjust is {adjust!r}; use {' or '.join(map(repr, ADJUSTMENTS))}")
    covariance = _covariance(board)
    order = np.lexsort((np.array(board.items, dtype=str), -board.theta))
    i, j = (order[side] for side in np.triu_indices(len(order), 1))
    difference = board.theta[i] - board.theta[j]
    error = _errors(covariance, i, j)
    z = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    p = 2.0 * ndtr(-np.abs(z))
    if adjust == "max_t":
        adjusted_p = _by_largest(covariance, np.abs(z), i, j, error, seed)
    else:
        adjusted_p = adjusted(p, adjust)
    return pl.DataFrame(
        {
            "a": [board.items[k] for k in i],
            "b": [board.items[k] for k in j],
            "difference": difference,
            "standard_error": error,
            "p": p,
            "p_adjusted": adjusted_p,
            "significant": adjusted_p <= 1.0 - board.level,
        }
    ).sort("p", maintain_order=True)


def rank_sets(
    board: Leaderboard, method: Literal["simultaneous", "marginal"] = "simultaneous", *, seed: int = 0
) -> pl.DataFrame:
    """Confidence sets of ranks (Mogstad, Romano, Shaikh and Wilhelm 2024).

    An item is certainly above another if their difference exceeds a critical value times its standard error;
    the value is the quantile of the largest such statistic over all comparisons concerned, found by stepping
    down. "simultaneous" sets contain all true ranks at once with the board's level, "marginal" ones each
    item's. The rank bounds of `Leaderboard.table`, from overlapping intervals, have neither guarantee.

    Args:
        board: a leaderboard with uncertainty, of at most `MATRIX_ITEMS` items.
        method: which guarantee.
        seed: of the draws from the estimates' normal distribution.

    Returns:
        One row an item, strongest first: item, rank, rank_best, rank_worst.

    Raises:
        ConfigError: the board has no uncertainty or too many items, or `method` has another value.
    """
    import polars as pl

    if method not in ("simultaneous", "marginal"):
        raise ConfigError(f"method is {method!r}; use 'simultaneous' or 'marginal'")
    covariance = _covariance(board)
    every = np.arange(len(board.items))
    error = _errors(covariance, every[:, None], every[None, :])
    difference = board.theta[:, None] - board.theta[None, :]
    z = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    draws = _draws(covariance, seed)
    apart = error > 0
    if method == "simultaneous":
        found = _step_down(np.abs(z), error, np.triu(apart), draws, board.level)
        found |= found.T
    else:
        found = np.zeros_like(apart)
        for i in every:
            own = np.zeros_like(apart)
            own[i] = apart[i]
            found[i] = _step_down(np.abs(z), error, own, draws, board.level)[i]
    order = np.lexsort((np.array(board.items, dtype=str), -board.theta))
    best = 1 + (found & (z < 0)).sum(axis=1)
    worst = len(every) - (found & (z > 0)).sum(axis=1)
    return pl.DataFrame(
        {
            "item": [board.items[k] for k in order],
            "rank": np.arange(1, len(order) + 1),
            "rank_best": best[order],
            "rank_worst": worst[order],
        }
    )


def _covariance(board: Leaderboard) -> Floats:
    """The covariance of all strengths, from draws where the board has those instead."""
    if board.covariance is None and board.draws is None:
        raise ConfigError(f"the method {board.method} gives no standard errors, so nothing can be tested")
    if len(board.items) > MATRIX_ITEMS:
        raise ConfigError(
            f"{len(board.items):,} items are too many to test every pair; at most {MATRIX_ITEMS}"
        )
    if board.covariance is not None:
        return board.covariance
    assert board.draws is not None
    return np.asarray(board.draws @ board.draws.T / board.draws.shape[1])


def _errors(covariance: Floats, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]) -> Floats:
    variance = np.diagonal(covariance)
    return np.asarray(np.sqrt(np.maximum(variance[i] + variance[j] - 2.0 * covariance[i, j], 0.0)))


def _draws(covariance: Floats, seed: int) -> Floats:
    """Normal vectors with this covariance, shape (M, DRAWS)."""
    values, vectors = np.linalg.eigh(covariance)
    normal = generator(seed, "rank", "significance").standard_normal((len(values), DRAWS))
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ normal)


def _largest(draws: Floats, error: Floats, among: npt.NDArray[np.bool_]) -> Floats:
    """In each draw, the largest difference over its standard error among the pairs marked, shape (DRAWS,)."""
    largest = np.zeros(draws.shape[1])
    for i in np.flatnonzero(among.any(axis=1)):
        j = np.flatnonzero(among[i])
        gaps = np.abs(draws[i] - draws[j]) / error[i, j][:, None]
        np.maximum(largest, gaps.max(axis=0), out=largest)
    return largest


def _step_down(
    z: Floats, error: Floats, among: npt.NDArray[np.bool_], draws: Floats, level: float
) -> npt.NDArray[np.bool_]:
    """Pairs whose |z| exceeds the critical value, which falls as pairs found are taken out of the maximum."""
    found = np.zeros_like(among)
    while True:
        left = among & ~found
        if not left.any():
            return found
        new = left & (z > np.quantile(_largest(draws, error, left), level))
        if not new.any():
            return found
        found |= new


def _by_largest(
    covariance: Floats,
    z: Floats,
    i: npt.NDArray[np.int64],
    j: npt.NDArray[np.int64],
    error: Floats,
    seed: int,
) -> Floats:
    """Probability that the largest statistic reaches |z|, of all pairs whose own |z| is no larger; a pair
    gets no less than one with a larger |z|."""
    order = np.argsort(-z, kind="stable")
    i, j, z = i[order], j[order], z[order]
    scale = np.where(error > 0, error, np.inf)[order][:, None]
    draws = _draws(covariance, seed)
    beyond = np.zeros(len(z))
    step = max(1, _TOGETHER // max(len(z), 1))
    for start in range(0, DRAWS, step):
        part = draws[:, start : start + step]
        statistic = np.abs(part[i] - part[j]) / scale
        largest = np.maximum.accumulate(statistic[::-1], axis=0)[::-1]
        beyond += (largest >= z[:, None]).sum(axis=1)
    adjusted = np.empty_like(z)
    adjusted[order] = np.maximum.accumulate((1.0 + beyond) / (1.0 + DRAWS))
    return adjusted


def adjusted(p: Floats, adjust: str) -> Floats:
    """p values of any shape (n,) adjusted for being n: "holm" (1979), "bonferroni", "bh" (Benjamini and
    Hochberg 1995) or "none"; see `pairwise_tests`."""
    if adjust == "none" or len(p) == 0:
        return p
    if adjust == "bonferroni":
        return np.minimum(1.0, p * len(p))
    if adjust == "bh":
        return np.asarray(false_discovery_control(p, method="bh"))
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(1.0, stepped)
    return result
