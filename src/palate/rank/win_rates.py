"""Plain and average win rates, with intervals that know that a battle's two items share it.

Both describe the battles that took place: another schedule, with weaker or stronger opponents, would give an
item another rate. Models of strength (Bradley-Terry and its kin) take the opponents out.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import ndtri

from palate.data.table import PreferenceData
from palate.errors import ConfigError
from palate.rank.base import Ranker
from palate.rank.battles import FIRST_WINS, SECOND_WINS, TIE, Battles
from palate.rank.clusters import cluster_codes
from palate.rank.connectivity import met
from palate.rank.consensus import refuse_unmet, won
from palate.rank.counts import Comparisons, count
from palate.rank.information import DENSE_ITEMS
from palate.rank.leaderboard import Scale
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

DRAWS = 64
"""Draws in place of the covariance beyond `DENSE_ITEMS`."""

FIRST_SHARE = np.array([1.0, 0.0, 0.5])
"""What the first item of a pair won, by outcome."""


class _Scores(NamedTuple):
    """How a rate moves with one comparison: by weight * scale * (share won - centre) on each side.

    Attributes:
        scale, centre: of each pair's first and second item, shape (P, 2).
        pair: sum of squared weights of one more win and one more loss for each pair, shape (P,).
        item: variance to add for each item, shape (M,).
    """

    scale: Floats
    centre: Floats
    pair: Floats
    item: Floats


@dataclass(kw_only=True, repr=False, eq=False)
class Rates(Ranker):
    """What the two rates share.

    Args:
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        weights: "importance", a judgment of weight w matters w times as much; "count", it stands for w equal
            judgments.
        cluster: "annotator" or "prompt": judgments of one annotator (about one prompt) are not independent.
            Also one label per judgment.
        level: coverage of the intervals.
    """

    link = None  # type: ignore[assignment]

    unit: ClassVar[str]

    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"
    cluster: str | npt.ArrayLike | None = None
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Compute the rates.

        Raises:
            DataError: nothing is compared, or an item is in no comparison (it is named).
            ConfigError: a parameter has a value that cannot be used.
        """
        self._check()
        counted = self._counted(data)
        ties = counted.ties
        if self.ties == "drop":
            counted = counted.without_ties()
        refuse_unmet(counted, counted.per_item(counted.total))
        rate, scores = self._rates(counted)
        mean = float(rate.mean())
        self.items_, self.comparisons_ = counted.items, counted
        self.n_comparisons_ = counted.n_comparisons
        self.strengths_, self.scale_ = rate - mean, Scale(self.unit, 1.0, mean)
        self.covariance_, self.draws_, variance = _spread(counted, scores)
        lower, upper = self._interval(counted, rate, scores, variance)
        self.bounds_ = np.stack([lower, upper], axis=1) - mean
        self.diagnostics_ = {"components": met(counted)[0], "ties": ties, "schedule": _schedule(counted)}
        return self

    def _check(self) -> None:
        self._choice("ties", ("half", "drop"))
        self._number("level", 0, 1, open=True)

    def _counted(self, data: PreferenceData | Battles | Comparisons) -> Comparisons:
        if self.cluster is not None:
            if not isinstance(data, PreferenceData):
                raise ConfigError(
                    "cluster is known for judgments only; give it to `count`, or fit PreferenceData"
                )
            return count(data, self.both_bad, self.weights, cluster_codes(data, self.cluster))
        return count(data, self.both_bad, self.weights)

    @abstractmethod
    def _rates(self, counted: Comparisons) -> tuple[Floats, _Scores]:
        """Each item's rate, shape (M,), and how comparisons move it."""

    def _interval(
        self, counted: Comparisons, rate: Floats, scores: _Scores, variance: Floats
    ) -> tuple[Floats, Floats]:
        """Lower and upper bounds of the rates, each of shape (M,): of the normal approximation, in [0, 1]."""
        half = float(ndtri(0.5 + self.level / 2)) * np.sqrt(variance)
        return np.maximum(rate - half, 0.0), np.minimum(rate + half, 1.0)


@dataclass(kw_only=True, repr=False, eq=False)
class WinRate(Rates):
    """Share of its comparisons that an item won, a tie being half a win: (wins + ties / 2) / comparisons.

    Each comparison counts by its weight. MT-Bench's adjusted win rate is the same quantity.

    The covariance is the sandwich, the sum over judgments of g g' with g_i = w (y_i - rate_i) / weight_i for
    the items in it, so that it knows that what one item of a battle wins the other loses. It takes battles
    for draws from a schedule: the intervals are for the rate over that schedule, and a little too wide if the
    number of meetings was fixed. Rates of 0 and 1 have a standard error too: scores are taken around the rate
    with one more win and one more loss.

    Args:
        interval: "wilson" is Wilson's score interval, which stays within [0, 1] and holds its level for rates
            near the ends; it takes ties for as uncertain as wins, and weighted or clustered comparisons for
            as many independent ones as vary as much. "sandwich" is the normal approximation.

    Further attributes after `fit`:
        effective_n_: the number of comparisons in Wilson's interval, shape (M,).

    The other parameters are those of `Rates`.
    """

    method = "win_rate"
    unit = "win rate (ties half)"

    interval: Literal["wilson", "sandwich"] = "wilson"

    def _check(self) -> None:
        super()._check()
        self._choice("interval", ("wilson", "sandwich"))

    def _rates(self, counted: Comparisons) -> tuple[Floats, _Scores]:
        total = counted.per_item(counted.total)
        rate = won(counted) / total
        squares = counted.per_item(_squares(counted).sum(axis=1))
        n = total**2 / squares
        near = (n * rate + 1.0) / (n + 2.0)
        # Without ties the variance is near (1 - near) / n.
        factor = np.sqrt(n / (n + 2.0)) / total
        added = factor**2 * (squares / total) ** 2 * ((1.0 - near) ** 2 + near**2)
        both = np.stack([counted.first, counted.second], axis=1)
        return rate, _Scores(factor[both], near[both], np.zeros(len(both)), added)

    def _interval(
        self, counted: Comparisons, rate: Floats, scores: _Scores, variance: Floats
    ) -> tuple[Floats, Floats]:
        total = counted.per_item(counted.total)
        squares = _squares(counted)
        n = total**2 / counted.per_item(squares.sum(axis=1))
        if counted.clustered is not None:
            # Comparisons of a cluster are worth between one comparison and as many as they are.
            alone = _variance(counted, scores, squares)
            n = n / np.clip(
                variance / alone, 1.0, _by_cluster(counted) / counted.per_item(squares.sum(axis=1))
            )
        self.effective_n_ = n
        if self.interval == "wilson":
            return wilson(rate, n, self.level)
        return super()._interval(counted, rate, scores, variance)


@dataclass(kw_only=True, repr=False, eq=False)
class AverageWinRate(Rates):
    """Mean over the opponents met of the share of comparisons won against each, a tie being half a win.

    Each opponent counts once, however often it was met, so that the rate does not move when a pair is sampled
    more; it still depends on who was met at all. Its covariance is the sandwich with one more win and one
    more loss in each pair, without which pairs that met once would count as known.

    Parameters are those of `Rates`.
    """

    method = "average_win_rate"
    unit = "average win rate (each opponent once, ties half)"

    def _rates(self, counted: Comparisons) -> tuple[Floats, _Scores]:
        total = counted.total
        share = counted.wins / total
        opponents = counted.per_item(np.ones(len(total)))
        rate = counted.per_item(share, 1.0 - share) / opponents
        squares = _squares(counted).sum(axis=1)
        n = total**2 / squares
        near = (n * share + 1.0) / (n + 2.0)
        factor = np.sqrt(n / (n + 2.0)) / total
        scale = factor[:, None] / np.stack([opponents[counted.first], opponents[counted.second]], axis=1)
        centre = np.stack([near, 1.0 - near], axis=1)
        return rate, _Scores(scale, centre, (squares / total) ** 2, np.zeros(counted.n_items))


def wilson(rate: Floats, n: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's (1927) score interval of proportions.

    Args:
        rate: shares in [0, 1], any shape.
        n: number of independent trials of each.
        level: coverage.
    """
    z = float(ndtri(0.5 + level / 2))
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def _squares(counted: Comparisons) -> Floats:
    """Sums of squared weights of all comparisons, those that share a judgment too, shape (P, 3)."""
    clustered = counted.clustered
    if clustered is None:
        return counted.square
    pair = counted.pair_of(clustered.winner, clustered.loser)
    outcome = np.where(clustered.winner == counted.first[pair], FIRST_WINS, SECOND_WINS)
    cell = pair * 3 + np.where(clustered.tie, TIE, outcome)
    shared = np.bincount(cell, clustered.weight**2, minlength=counted.square.size)
    return np.asarray(counted.square + shared.reshape(-1, 3))


def _by_cluster(counted: Comparisons) -> Floats:
    """Sums of squares as if all outcomes of a cluster were the same, shape (M,)."""
    clustered = counted.clustered
    assert clustered is not None
    item = np.concatenate([clustered.winner, clustered.loser])
    shape = (clustered.n_clusters, counted.n_items)
    weight = csr_array((np.tile(clustered.weight, 2), (np.tile(clustered.cluster, 2), item)), shape=shape)
    alone = counted.per_item(counted.square.sum(axis=1))
    return np.asarray(alone + np.asarray((weight**2).sum(axis=0)).ravel())


def _moves(scores: _Scores) -> tuple[Floats, Floats]:
    """What one comparison of weight 1 moves the rates of a pair's two items by, by outcome, each (P, 3)."""
    first = scores.scale[:, [0]] * (FIRST_SHARE - scores.centre[:, [0]])
    return first, scores.scale[:, [1]] * (1.0 - FIRST_SHARE - scores.centre[:, [1]])


def _variance(counted: Comparisons, scores: _Scores, square: Floats) -> Floats:
    """Variance of each rate, shape (M,), from comparisons with these sums of squares, shape (P, 3)."""
    first, second = _moves(scores)
    return counted.per_item((square * first**2).sum(axis=1), (square * second**2).sum(axis=1)) + scores.item


def _spread(counted: Comparisons, scores: _Scores) -> tuple[Floats | None, Floats | None, Floats]:
    """The covariance of the rates, or draws from their error where it would not fit, and the variances."""
    size = counted.n_items
    square = counted.square.copy()
    square[:, [FIRST_WINS, SECOND_WINS]] += scores.pair[:, None]
    first, second = _moves(scores)
    by_judgment = _judgments(counted, scores)
    variance = _variance(counted, scores, square)
    if by_judgment is not None:
        variance = variance + np.asarray((by_judgment**2).sum(axis=0)).ravel()
    if size <= DENSE_ITEMS:
        covariance = np.zeros((size, size))
        if by_judgment is not None:
            covariance += (by_judgment.T @ by_judgment).toarray()
        together = (square * first * second).sum(axis=1)
        covariance[counted.first, counted.second] += together
        covariance[counted.second, counted.first] += together
        covariance.flat[:: size + 1] = variance
        return covariance, None, variance
    normal = generator(0, "win_rates").standard_normal
    draws = np.sqrt(scores.item)[:, None] * normal((size, DRAWS))
    # A pair moves its two items together: `shared` of the first's noise, and `own` noise of the second.
    deviation = np.sqrt((square * first**2).sum(axis=1))
    shared = np.zeros_like(deviation)
    np.divide((square * first * second).sum(axis=1), deviation, out=shared, where=deviation > 0)
    own = np.sqrt(np.maximum((square * second**2).sum(axis=1) - shared**2, 0.0))
    for column in range(DRAWS):
        noise, rest = normal((2, len(own)))
        draws[:, column] += counted.per_item(deviation * noise, shared * noise + own * rest)
    if by_judgment is not None:
        draws += by_judgment.T @ normal((by_judgment.shape[0], DRAWS))
    # The variances are known; only the correlations have to be drawn.
    draws *= np.sqrt(variance / np.mean(draws**2, axis=1))[:, None]
    return None, draws, variance


def _judgments(counted: Comparisons, scores: _Scores) -> csr_array | None:
    """Score of each cluster of comparisons, summed over them, sparse of shape (clusters, M)."""
    clustered = counted.clustered
    if clustered is None:
        return None
    pair = counted.pair_of(clustered.winner, clustered.loser)
    side = (clustered.winner != counted.first[pair]).astype(np.int64)
    won_by = np.where(clustered.tie, 0.5, 1.0)
    gain = clustered.weight * scores.scale[pair, side] * (won_by - scores.centre[pair, side])
    loss = clustered.weight * scores.scale[pair, 1 - side] * (1.0 - won_by - scores.centre[pair, 1 - side])
    rows = np.concatenate([clustered.cluster, clustered.cluster])
    columns = np.concatenate([clustered.winner, clustered.loser])
    shape = (clustered.n_clusters, counted.n_items)
    return csr_array((np.concatenate([gain, loss]), (rows, columns)), shape=shape)


def _schedule(counted: Comparisons) -> dict[str, Any]:
    """How unlike the opponents were that the items met.

    Keys: complete (everybody met everybody, equally often), opponents (fewest and most different ones of an
    item), opponents_win_rate (mean win rate of the opponents faced, of the items with the weakest and the
    strongest schedule), note.
    """
    total = counted.per_item(counted.total)
    rate = won(counted) / total
    faced = (
        counted.per_item(counted.total * rate[counted.second], counted.total * rate[counted.first]) / total
    )
    opponents = counted.per_item(np.ones(len(counted.first)))
    complete = bool(opponents.min() == counted.n_items - 1 and np.ptp(counted.total) == 0.0)
    note = (
        "Everybody met everybody equally often, so the rates compare like with like."
        if complete
        else "Rates depend on who met whom: items with weaker opponents have higher ones. "
        "Bradley-Terry strengths take the opponents out."
    )
    return {
        "complete": complete,
        "opponents": [int(opponents.min()), int(opponents.max())],
        "opponents_win_rate": [float(faced.min()), float(faced.max())],
        "note": note,
    }
