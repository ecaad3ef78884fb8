"""Bradley-Terry strengths that drift over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import ndtri

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import connectivity
from palate.rank.base import Floats, Ints, Ranker
from palate.rank.battles import TIE, Battles, battles
from palate.rank.counts import Comparisons, count
from palate.rank.information import threads
from palate.rank.leaderboard import LOG_ODDS, anchored
from palate.rank.random_walk import Path, Walk, covariances, most_probable, one_ahead_loss

if TYPE_CHECKING:
    import polars as pl

DRIFTS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
"""What drift="auto" chooses from."""

LARGEST = 150_000_000
"""Most numbers (periods x items x items) that a fit keeps: 1.2 GB."""

_CALENDAR = {"year": "M8[Y]", "month": "M8[M]", "week": "M8[D]", "day": "M8[D]"}
_MONDAY = 3
"""1970-01-01, day 0, is the fourth day of a week that starts on Monday."""


@dataclass(kw_only=True, repr=False, eq=False)
class DynamicBradleyTerry(Ranker):
    """Bradley-Terry with a strength per item and period that follows a random walk (Glickman 1993).

    P(i beats j in period t) = 1 / (1 + exp(theta_tj - theta_ti)), theta_0i ~ N(0, 1/l2) and
    theta_ti - theta_(t-1)i ~ N(0, drift^2 x time between the periods). The strengths are the most probable
    ones given all judgments, so those of a period use what came later too (smoothing). The leaderboard is
    that of the last period. Standard errors are those of the posterior (normal at its mode, ties half),
    centred to mean 0 in each period.

    As drift goes to 0 this is Bradley-Terry with the ridge l2; as it grows, each period is fitted by itself.

    Each Newton step inverts two M x M matrices per period. Memory is periods x M^2 numbers, at most
    `LARGEST`; for more, use longer periods or rank fewer items.

    Args:
        periods: "day", "week" (from Monday), "month" or "year" (UTC), or a number of periods of equal length.
            Periods without a comparison are left out; the walk goes on over them.
        drift: standard deviation of what a strength changes within one period, in natural-log units (0.1 is
            17 rating points); or "auto": of `DRIFTS` the one with which each period is predicted best from
            those before, searched from 0.1 in the direction of improvement (the losses are in the
            diagnostics; with a single period it is 0.1, which changes nothing).
        l2: precision of the strengths in the first period, in natural-log units; positive.
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        anchor: an item, or {item: rating}; the ratings of each period are shifted so that it has this rating.
        level: coverage of the intervals.

    Further attributes after `fit` (see `Ranker` for the rest; `comparisons_` are those of the last period,
    `n_` counts all):
        periods_: start of each of the T periods, a polars series of times in UTC.
        strengths_over_time_: shape (T, M), mean 0 in each period.
        errors_over_time_: their standard errors, shape (T, M).
        counts_over_time_: comparisons of each item in each period, shape (T, M).
        drift_: the drift used.
        log_likelihood_: of the comparisons.
    """

    method = "dynamic_bt"

    periods_: pl.Series = field(init=False)
    strengths_over_time_: Floats = field(init=False)
    errors_over_time_: Floats = field(init=False)
    counts_over_time_: Ints = field(init=False)
    drift_: float = field(init=False)
    log_likelihood_: float = field(init=False)

    periods: Literal["day", "week", "month", "year"] | int = "month"
    drift: float | Literal["auto"] = 0.1
    l2: float = 1.0
    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    anchor: str | Mapping[str, float] | None = None
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate the strengths of all periods.

        Raises:
            DataError: nothing is compared, a judgment has no time, or every comparison is a tie that is left
                out.
            ConfigError: a parameter has a value that cannot be used, there are too many periods, or `data`
                has no times.
        """
        self._check()
        if not isinstance(data, PreferenceData):
            raise ConfigError(
                "dynamic_bt needs the time of each judgment, which battles and counts do not keep; "
                "give the judgments themselves"
            )
        rows = battles(data, self.both_bad)
        self._anchor(rows.items)
        times, used = _times(data, rows), np.ones(len(rows), dtype=bool)
        if self.ties == "drop":
            used = rows.outcome != TIE
            if not used.any():
                raise DataError(
                    "every comparison is a tie", file=data.source, remedy="count them with ties='half'"
                )
        period, starts, gaps = _periods(times[used], self.periods)
        size = len(rows.items)
        if (len(starts) - 1) * size**2 > LARGEST:
            raise ConfigError(
                f"{len(starts):,} periods of {size:,} items are too many to keep their covariances; "
                "use longer periods, or rank fewer items"
            )
        walk = _walk(rows, used, period, gaps, float(self.l2))
        with threads(size):
            losses: dict[float, float] = {}
            if self.drift == "auto" and walk.n_periods > 1:
                losses = self._choose(walk)
            drift = min(losses, key=losses.__getitem__, default=0.1)
            path = most_probable(walk, drift if self.drift == "auto" else float(self.drift))
            self._learn(walk, path)
        self.items_, self.periods_ = rows.items, _series(starts)
        self.counts_over_time_ = _counts(rows, used, period, len(starts))
        self._set_board(rows, used, period == len(starts) - 1)
        self.diagnostics_ |= self._diagnose(path, losses)
        return self

    def table_over_time(self, active: bool = True) -> pl.DataFrame:
        """One row per period and item, by period and rank: what a bump chart draws.

        Args:
            active: whether to leave out an item before its first and after its last comparison.

        Returns:
            Columns period (its start, UTC), item, strength (natural log), rating, lower, upper (at `level`),
            rank (1 is best, among the items shown for the period) and n (comparisons in the period).
        """
        import polars as pl

        counts, strengths = self.counts_over_time_, self.strengths_over_time_
        shown = np.ones(counts.shape, dtype=bool)
        if active:
            seen = counts > 0
            shown = np.logical_or.accumulate(seen) & np.logical_or.accumulate(seen[::-1])[::-1]
        t, i = np.nonzero(shown)
        order = np.lexsort((np.array(self.items_, dtype=str)[i], -strengths[t, i], t))
        t, i = t[order], i[order]
        rank = 1 + np.arange(len(t)) - np.searchsorted(t, t)
        shift = np.full(len(strengths), self.scale_.base)
        if self.anchor is not None:
            name, given = anchored(self.anchor)
            shift = given - self.scale_.points * strengths[:, self.items_.index(name)]
        rating = shift[t] + self.scale_.points * strengths[t, i]
        half = float(ndtri(0.5 + self.level / 2)) * self.scale_.points * self.errors_over_time_[t, i]
        return pl.DataFrame(
            {
                "period": self.periods_.gather(t),
                "item": np.array(self.items_, dtype=object)[i].tolist(),
                "strength": strengths[t, i],
                "rating": rating,
                "lower": rating - half,
                "upper": rating + half,
                "rank": rank,
                "n": counts[t, i],
            }
        )

    # -- inside --

    def _check(self) -> None:
        self._choice("ties", ("half", "drop"))
        self._number("l2", 0.0, open=True)
        self._number("level", 0.0, 1.0, open=True)
        if self.drift != "auto":
            self._number("drift", 0.0, open=True)
        whole = isinstance(self.periods, int) and not isinstance(self.periods, bool) and self.periods >= 1
        if not whole and self.periods not in _CALENDAR:
            raise ConfigError(
                f"periods is {self.periods!r}; use 'day', 'week', 'month', 'year' or a number of periods"
            )

    def _choose(self, walk: Walk) -> dict[float, float]:
        """The loss one period ahead for the drifts tried: from 0.1 in either direction while it falls."""
        at = DRIFTS.index(0.1)
        tried = {DRIFTS[at]: one_ahead_loss(walk, DRIFTS[at])}
        for direction in (1, -1):
            place = at + direction
            while 0 <= place < len(DRIFTS):
                tried[DRIFTS[place]] = one_ahead_loss(walk, DRIFTS[place])
                if tried[DRIFTS[place]] >= tried[DRIFTS[place - direction]]:
                    break
                place += direction
            if tried[DRIFTS[at + 1]] < tried[DRIFTS[at]]:
                break
        return tried

    def _learn(self, walk: Walk, path: Path) -> None:
        self.strengths_over_time_ = path.theta - path.theta.mean(axis=1, keepdims=True)
        self.errors_over_time_ = np.empty_like(path.theta)
        self.covariance_ = None
        for t, covariance in covariances(walk, path):
            if self.covariance_ is None:
                mean = covariance.mean(axis=0)
                self.covariance_ = covariance - mean - mean[:, None] + mean.mean()
            # The variance of what is left when the mean of all strengths is taken away.
            variance = np.diagonal(covariance) - 2.0 * covariance.mean(axis=0) + covariance.mean()
            self.errors_over_time_[t] = np.sqrt(np.maximum(variance, 0.0))
        self.drift_, self.log_likelihood_ = path.drift, path.log_likelihood

    def _set_board(self, rows: Battles, used: npt.NDArray[np.bool_], last: npt.NDArray[np.bool_]) -> None:
        self.strengths_ = self.strengths_over_time_[-1]
        self.scale_ = LOG_ODDS
        of_last = np.flatnonzero(used)[last]
        whole = count(rows)
        self.comparisons_ = count(_part(rows, of_last))
        self.n_comparisons_ = int(used.sum())
        self.n_ = self.counts_over_time_.sum(axis=0)
        self.diagnostics_ = {
            "comparisons": self.n_comparisons_,
            "comparisons_in_last_period": len(of_last),
            "judgments_without_comparison": rows.unused,
            "components": connectivity.met(whole)[0],
            "ties": whole.ties,
        }

    def _diagnose(self, path: Path, losses: dict[float, float]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "periods": len(self.periods_),
            "first_period": self.periods_[0].isoformat(),
            "last_period": self.periods_[-1].isoformat(),
            "drift": path.drift,
            "drift_in_rating_points": path.drift * LOG_ODDS.points,
            "log_likelihood": path.log_likelihood,
            "iterations": path.iterations,
            "converged": path.converged,
            "interval": "posterior",
            "l2": self.l2,
        }
        if losses:
            found["loss_one_period_ahead"] = {f"{drift:g}": losses[drift] for drift in sorted(losses)}
            found["drift_at_the_edge"] = path.drift in (DRIFTS[0], DRIFTS[-1])
        return found


def _times(data: PreferenceData, rows: Battles) -> Ints:
    """Time of each battle in microseconds since 1970, UTC, shape (N,)."""
    column = data.column("time")
    if column.null_count:
        missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False))
        bad = np.flatnonzero(rows.of(missing))
        if len(bad):
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise DataError(
                "a judgment without a time" + more, row=int(rows.judgment[bad[0]]) + 1, field="time",
                file=data.source, remedy="give every judgment a time, drop the row, or use 'bradley_terry'",
            )  # fmt: skip
    return np.asarray(rows.of(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)))


def _periods(times: Ints, periods: str | int) -> tuple[Ints, npt.NDArray[np.datetime64], Floats]:
    """Period of each battle (N,), start of each period that has any (T,), periods from each to the next."""
    moments = times.astype("M8[us]")
    if isinstance(periods, int):
        low, width = int(times.min()), int(times.max() - times.min())
        index = np.minimum((times - low) * periods // max(width, 1), periods - 1)
        found, period = np.unique(index, return_inverse=True)
        starts = (low + found * width // periods).astype("M8[us]")
    elif periods == "week":
        found, period = np.unique(
            (moments.astype("M8[D]").astype(np.int64) + _MONDAY) // 7, return_inverse=True
        )
        starts = (found * 7 - _MONDAY).astype("M8[D]").astype("M8[us]")
    else:
        unit = _CALENDAR[periods]
        found, period = np.unique(moments.astype(unit).astype(np.int64), return_inverse=True)
        starts = found.astype(unit).astype("M8[us]")
    return period, starts, np.diff(found).astype(np.float64)


def _walk(rows: Battles, used: npt.NDArray[np.bool_], period: Ints, gaps: Floats, l2: float) -> Walk:
    """Sum the battles over equal pairs of a period."""
    size = len(rows.items)
    first, second = rows.first[used].astype(np.int64), rows.second[used].astype(np.int64)
    turned = first > second
    low, high = np.minimum(first, second), np.maximum(first, second)
    share, weight = rows.share[used], rows.weights[used]
    key, cell = np.unique((period * size + low) * size + high, return_inverse=True)
    total: Floats = np.bincount(cell, weight).astype(np.float64)
    wins: Floats = np.bincount(cell, weight * np.where(turned, 1.0 - share, share)).astype(np.float64)
    before, j = np.divmod(key, size)
    t, i = np.divmod(before, size)
    return Walk(size, t, i, j, total, wins, gaps, l2)


def _counts(rows: Battles, used: npt.NDArray[np.bool_], period: Ints, periods: int) -> Ints:
    size = len(rows.items)
    cells = [
        np.bincount(period * size + codes[used], minlength=periods * size)
        for codes in (rows.first, rows.second)
    ]
    return np.asarray((cells[0] + cells[1]).reshape(periods, size))


def _part(rows: Battles, chosen: Ints) -> Battles:
    """Some of the battles."""
    weight = None if rows.weight is None else rows.weight[chosen]
    return Battles(
        rows.items, rows.first[chosen], rows.second[chosen], rows.outcome[chosen], weight,
        rows.judgment[chosen], rows.shared, rows.n_rows, rows.source,
    )  # fmt: skip


def _series(starts: npt.NDArray[np.datetime64]) -> pl.Series:
    import polars as pl

    return pl.Series("period", starts).dt.replace_time_zone("UTC")
