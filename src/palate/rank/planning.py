"""How many votes it takes to tell items apart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from palate.errors import ConfigError
from palate.rank.leaderboard import POINTS, Leaderboard


class VotesNeeded(NamedTuple):
    """Votes until a two-sided test finds the difference of two items with the wanted power.

    Attributes:
        total: comparisons in all, if pairs go on being drawn as they were.
        more: how many of them are still to come.
        direct: further comparisons if all of them were between the two items.
    """

    total: int
    more: int
    direct: int


def votes_to_separate(
    board: Leaderboard, a: str, b: str, *, power: float = 0.8, level: float | None = None
) -> VotesNeeded:
    """How many more votes until a and b can be told apart, if they differ by as much as they do now.

    The standard error of their difference falls with the square root of the number of comparisons; direct
    comparisons each add the information of one outcome at the present strengths.

    Args:
        board: a leaderboard of comparisons with uncertainty.
        a, b: the two items.
        power: probability that the test then finds the difference.
        level: confidence level of the test; that of the board if left out.

    Raises:
        ConfigError: an item is unknown, the board has no uncertainty or no model of an outcome, `power` or
            `level` is not between 0 and 1, or the two strengths are equal.
    """
    z = _distance(power, board.level if level is None else level)
    difference, error, _ = board.compare(a, b)
    pairs = board.comparisons
    if difference == 0.0:
        raise ConfigError(f"'{a}' and '{b}' have equal strengths: no number of votes tells them apart")
    if board.link is None or pairs is None:
        raise ConfigError(f"the method {board.method} has no model of an outcome to plan with")
    goal = (difference / z) ** 2
    total = math.ceil(pairs.n_comparisons * error**2 / goal)
    per_vote = _information(board.link, difference, pairs.ties)
    direct = max(0, math.ceil((1.0 / goal - 1.0 / error**2) / per_vote))
    return VotesNeeded(total, max(0, total - pairs.n_comparisons), direct)


def votes_needed(
    points: float, items: int = 2, *, power: float = 0.8, level: float = 0.95, ties: float = 0.0
) -> int:
    """Comparisons in all until two of `items` items that are `points` rating points apart separate.

    For Bradley-Terry strengths that are close to each other, and pairs drawn evenly: the variance of a
    difference is 2 (items - 1) / (items c) over the comparisons per pair and item, c being the information
    of one outcome, so that items - 1 times as many are needed as for two items alone.

    Args:
        points: difference on the rating scale (400 points are odds of 10 to 1).
        items: number of items that are compared.
        power: probability that a two-sided test finds the difference.
        level: confidence level of the test.
        ties: share of ties among the outcomes, each half a win; ties narrow the outcomes' spread.

    Raises:
        ConfigError: `points` is 0 or not finite, there are fewer than 2 items, `power` or `level` is not
            between 0 and 1, or `ties` not in [0, 1).
    """
    if not (math.isfinite(points) and points != 0.0):
        raise ConfigError(f"points is {points!r}; give a difference other than 0")
    if items < 2:
        raise ConfigError(f"items is {items!r}; a comparison needs 2 or more")
    if not 0.0 <= ties < 1.0:
        raise ConfigError(f"ties is {ties!r}; use a share from 0 to below 1")
    difference = points / POINTS
    per_vote = _information(lambda d: 1.0 / (1.0 + np.exp(-d)), difference, ties)
    return math.ceil((items - 1) * _distance(power, level) ** 2 / (per_vote * difference**2))


def _distance(power: float, level: float) -> float:
    """How many standard errors a difference must measure to be found with this power."""
    for name, value in {"power": power, "level": level}.items():
        if not 0.0 < value < 1.0:
            raise ConfigError(f"{name} is {value!r}; use a number between 0 and 1")
    return float(ndtri(0.5 + level / 2.0) + ndtri(power))


def _information(link: Any, difference: float, ties: float) -> float:
    """Squared slope of the expected share over the variance of an outcome, ties being half wins."""
    step = 1e-4
    share = float(link(difference))
    slope = float(link(difference + step) - link(difference - step)) / (2.0 * step)
    # Ties can be no more than the shares leave room for.
    variance = share * (1.0 - share) - min(ties, 2.0 * min(share, 1.0 - share)) / 4.0
    return slope * slope / max(variance, 1e-12)
