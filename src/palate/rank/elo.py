"""Elo ratings, in the order given or averaged over orders."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError
from palate.rank.base import Floats, Ints
from palate.rank.battles import Battles
from palate.rank.leaderboard import Scale
from palate.rank.online import Batch, Online
from palate.seeding import generator

MOST_AHEAD = 1e6
"""Rating points that an advantage may be worth; more would overflow."""


@dataclass(kw_only=True, repr=False, eq=False)
class Elo(Online):
    """E = 1 / (1 + base^((R_b - R_a) / scale)); R_a += k (y - E), R_b -= k (y - E) (Elo 1978).

    Each comparison changes two ratings by what its outcome y (1, 0, a tie 0.5) differs from the expected; one
    of weight w changes them w times as much. A judgment of more than two items gives all comparisons it
    implies, one after another. The mean of all ratings stays `initial`.

    With order="given" ratings are those after the last judgment: they follow recent outcomes, and reordering
    the judgments changes them. They have no intervals.

    With order="average" a rating is the median over `permutations` random orders of the judgments (the mean
    of all is then moved back to `initial`). Its error is drawn by as many runs over judgments sampled with
    replacement in random order, the bootstrap of leaderboards of language models. So intervals hold both the
    sampling of judgments and the noise of one order; the median has less of the latter, and they are
    somewhat wider than its own.

    With an `advantage` E = 1 / (1 + base^((R_b - R_a - advantage) / scale)), a being the alternative shown
    first (the home side): outcomes that the advantage explains move no rating.

    Args:
        k: most points that one comparison moves a rating; 4 is used for leaderboards of language models, 32
            and 16 in chess.
        initial: rating of a new item.
        base, scale: `scale` points are odds of `base` to 1.
        order: "given" (by time where all judgments have one, else by row) or "average".
        permutations: number of random orders for order="average".
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        seed: for order="average".
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating.
        level: coverage of the intervals.
        advantage: rating points that being shown first is worth; a number, or one for each judgment, shape
            (rows,), such as 0 on neutral ground. Boards say nothing of it: win probabilities are those
            without an advantage.

    Further attributes after `fit` (see `Online` for the rest):
        expected_: what the first of each judgment was expected to win before the judgment changed any
            rating, shape (rows,), NaN where nothing is compared: forecasts that knew only the past. Of the
            last batch after `partial_fit`; None with order="average" and for judgments of more than two.
    """

    method = "elo"

    expected_: Floats | None = field(init=False)
    _theta: Floats = field(init=False)

    k: float = 4.0
    initial: float = 1000.0
    base: float = 10.0
    scale: float = 400.0
    order: Literal["given", "average"] = "given"
    permutations: int = 100
    both_bad: Literal["tie", "drop"] = "tie"
    seed: int = 0
    anchor: str | Mapping[str, float] | None = None
    level: float = 0.95
    advantage: float | npt.ArrayLike = 0.0

    def _check(self) -> None:
        self._number("k", 0.0, open=True)
        self._number("initial", -np.inf)
        self._number("base", 1.0, open=True)
        self._number("scale", 0.0, open=True)
        self._number("level", 0.0, 1.0, open=True)
        self._choice("order", ("given", "average"))
        self._number("permutations", 2, whole=True)

    def _forget(self) -> None:
        self._theta = np.zeros(0)
        self.draws_ = self.expected_ = None

    def _update(self, batch: Batch, size: int) -> None:
        from palate.rank._online_kernels import elo

        if self.order == "average" and len(self._theta):
            raise ConfigError(
                "order='average' needs all judgments at once; use fit, or order='given' to go on with more"
            )
        rows, code, points = batch.rows, batch.code, self._points
        ahead = self._ahead(rows) / points
        nothing = np.zeros(0)
        packed = code[rows.first] << 33 | code[rows.second] << 2 | rows.outcome

        def run(order: npt.NDArray[np.integer[Any]], expected: Floats = nothing) -> Floats:
            theta = np.zeros(size)
            theta[: len(self._theta)] = self._theta
            weight = nothing if rows.weight is None else rows.weight[order]
            first = ahead[order] if len(ahead) else nothing
            elo(packed[order], weight, first, self.k / points, theta, expected)
            return theta

        if self.order == "given" and rows.shared:
            theta = run(batch.order)
            self.expected_ = None
        elif self.order == "given":
            expected = np.empty(len(rows))
            theta = run(batch.order, expected)
            self.expected_ = np.full(rows.n_rows, np.nan)
            self.expected_[rows.judgment[batch.order]] = expected
        else:
            shuffled, sampled = self._in_random_orders(batch, run)
            theta = np.median(shuffled, axis=0)
            theta -= theta.mean()
            self.draws_ = (sampled - sampled.mean(axis=0)).T
        self._theta = theta

    def _ahead(self, rows: Battles) -> Floats:
        """Points by which the first item of each battle is ahead, shape (N,); empty where nobody is."""
        given = np.asarray(self.advantage)
        if given.dtype.kind not in "iuf" or given.shape not in ((), (rows.n_rows,)):
            raise ConfigError(
                f"advantage has shape {given.shape} and holds {given.dtype}; give one number, or one for "
                f"each of {rows.n_rows} judgments"
            )
        bad = np.flatnonzero(~(np.abs(given) <= MOST_AHEAD))
        if len(bad):
            raise ConfigError(
                f"advantage holds {given.ravel()[bad[0]]:g}; use rating points to {MOST_AHEAD:g}"
            )
        if not given.any():
            return np.zeros(0)
        if rows.shared:
            raise ConfigError("advantage is that of the first of two; a judgment of more items has none")
        points = np.broadcast_to(given, rows.n_rows).astype(np.float64)
        return np.asarray(rows.of(points))

    def _in_random_orders(self, batch: Batch, run: Any) -> tuple[Floats, Floats]:
        """Strengths after each permutation and after each sample of the judgments, (permutations, M) each."""
        rows = batch.rows
        judgment = rows.judgment
        # Where each judgment's battles start; those of one judgment stay together.
        start = np.flatnonzero(np.diff(judgment, prepend=-1)).astype(np.int32) if rows.shared else None
        total = len(rows) if start is None else len(start)

        def one(task: int) -> Floats:
            rng = generator(self.seed, "elo", task)
            if task % 2:
                chosen = rng.integers(0, total, total, dtype=np.int32)
            else:
                chosen = rng.permutation(np.arange(total, dtype=np.int32))
            found: Floats = run(chosen if start is None else _spread(chosen, start, len(rows)))
            return found

        with ThreadPoolExecutor(_threads()) as pool:
            found = np.array(list(pool.map(one, range(2 * self.permutations))))
        return found[::2], found[1::2]

    def _finish(self) -> dict[str, Any]:
        points = self._points
        self.mu_ = self.initial + points * self._theta
        self.strengths_ = self._theta - self._theta.mean()
        self.scale_ = Scale(
            f"rating ({self.scale:g} points = odds of {self.base:g} to 1)", points, float(self.mu_.mean())
        )
        found: dict[str, Any] = {"k": self.k}
        advantage = np.asarray(self.advantage, dtype=np.float64)
        if advantage.any():
            found["mean_advantage"] = float(advantage.mean())
        if self.order == "average":
            found["order"] = "average"
            found["note"] = f"Ratings are medians over {self.permutations} random orders of the judgments."
            found["interval"] = "bootstrap in random order: sampling of judgments and noise of the order"
        return found

    @property
    def _points(self) -> float:
        """Rating points per natural-log unit."""
        return self.scale / math.log(self.base)


def _spread(chosen: npt.NDArray[np.int32], start: npt.NDArray[np.int32], total: int) -> Ints:
    """Battles of the chosen judgments, in their order."""
    lengths = np.diff(start, append=total)[chosen]
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(int(ends[-1])) + np.repeat(start[chosen] - (ends - lengths), lengths))


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
