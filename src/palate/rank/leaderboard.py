"""`Leaderboard`: strengths with everything needed to read, compare, save and draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, ndtri

from palate.errors import ConfigError, unknown
from palate.rank.counts import Comparisons
from palate.runs import atomic_write

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POINTS = 400.0 / math.log(10.0)
"""Rating points per natural-log unit of strength: 400 points are odds of 10 to 1."""


@dataclass(frozen=True)
class Scale:
    """How a method's strengths are shown: rating = base + points * strength.

    Attributes:
        unit: what a rating is, as the label of an axis.
        points: rating points per unit of strength.
        base: the mean rating; also that of an anchor whose rating is not given.
    """

    unit: str
    points: float = 1.0
    base: float = 0.0


LOG_ODDS = Scale("rating (400 points = odds of 10 to 1)", POINTS, 1000.0)
"""Natural-log strengths on the scale of Elo ratings, with mean 1000."""

JSON_ITEMS = 30
"""Items of the win matrix that is saved with a board."""

MATRIX_ITEMS = 2000
"""Most items a win matrix is made for at once."""


class Difference(NamedTuple):
    """Strength of one item minus another's, in natural-log units, with its standard error and p value."""

    difference: float
    standard_error: float
    p: float


class Probability(NamedTuple):
    """A probability with its interval."""

    probability: float
    lower: float
    upper: float


@dataclass(frozen=True)
class WinMatrix:
    """How often the row's item beats the column's; ties are half, the diagonal is NaN. Arrays are (M, M).

    Attributes:
        items: names of rows and columns, strongest first.
        observed: share won, NaN where the two never met.
        predicted: probability by the model; NaN where the method predicts none.
        counts: number of comparisons.
    """

    items: list[str]
    observed: Floats
    predicted: Floats
    counts: Ints

    @property
    def average_predicted(self) -> dict[str, float]:
        """Mean probability to win against all others, each opponent counting once."""
        return dict(zip(self.items, np.nanmean(self.predicted, axis=1).tolist(), strict=True))


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """Items by strength, with intervals and rank bounds. `palate.rank` makes one.

    Attributes:
        method: name of the method.
        items: names of the M items in the order of `theta`.
        theta: strengths with mean 0, shape (M,): natural-log for models of comparisons, else on the scale of
            the method (win rates, opinion scores).
        covariance: of `theta`, shape (M, M), or None.
        draws: of the error of `theta`, shape (M, draws), where they stand in for `covariance`.
        comparisons: the aggregated comparisons; None where the method is not based on any.
        fit_diagnostics: what the method says about its fit.
        level: coverage of all intervals.
        anchor: item, or {item: rating}, that fixes the ratings' zero.
        link: probability to win (a tie being half) for a difference of strengths; None where the method
            predicts none.
        scale: how strengths are shown as ratings.
        n: judgments per item, shape (M,); counted from `comparisons` where left out.
        coefficients: effects of covariates, one row each, where the method has any.
        annotators: one row per annotator, where the method models them.
        bounds: lower and upper bound of `theta`, shape (M, 2), where intervals are not symmetric.
        log_odds: of pairs of items by their codes, for a method whose odds are no differences of strengths;
            win probabilities then follow it in place of `link`.
    """

    method: str
    items: list[str]
    theta: Floats
    covariance: Floats | None
    draws: Floats | None
    comparisons: Comparisons | None
    fit_diagnostics: Mapping[str, Any] = field(default_factory=dict)
    level: float = 0.95
    anchor: str | Mapping[str, float] | None = None
    link: Callable[[Any], Any] | None = expit
    scale: Scale = LOG_ODDS
    n: Ints | None = None
    coefficients: pl.DataFrame | None = None
    annotators: pl.DataFrame | None = None
    bounds: Floats | None = None
    log_odds: Callable[[Ints, Ints], Floats] | None = None

    # -- numbers --

    @cached_property
    def strengths(self) -> dict[str, float]:
        """Natural-log strength of each item, with mean 0, strongest first."""
        return {self.items[i]: float(self.theta[i]) for i in self._order}

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row an item, strongest first.

        Columns: item, strength (natural log, mean 0), rating (1000 + 400/ln 10 x strength, or shifted to the
        anchor; for methods with a scale of their own see `scale`), lower, upper (on the rating scale),
        rank_best (1 + items certainly above), rank_worst (1 + items not certainly below), n (comparisons).
        Without uncertainty lower, upper and the rank bounds are null.
        """
        import polars as pl

        order = self._order
        rating = self._rating(self.theta)
        columns: dict[str, Any] = {
            "item": [self.items[i] for i in order],
            "strength": self.theta[order],
            "rating": rating[order],
        }
        if self._bounds is None:
            empty = {"lower": pl.Float64, "upper": pl.Float64, "rank_best": pl.Int64, "rank_worst": pl.Int64}
            columns |= {name: pl.Series([None] * len(order), dtype=kind) for name, kind in empty.items()}
        else:
            lower, upper = self._rating(self._bounds[:, 0]), self._rating(self._bounds[:, 1])
            best, worst = rank_bounds(lower, upper)
            columns |= {
                "lower": lower[order],
                "upper": upper[order],
                "rank_best": best[order],
                "rank_worst": worst[order],
            }
        columns["n"] = self._n[order]
        return pl.DataFrame(columns)

    def interval(self, item: str) -> tuple[float, float]:
        """Lower and upper bound of an item's rating at the board's level."""
        i = self._index(item)
        if self._bounds is None:
            raise ConfigError(f"the method {self.method} gives no intervals")
        lower, upper = self._rating(self._bounds[i]).tolist()
        return lower, upper

    def compare(self, a: str, b: str) -> Difference:
        """Whether a is stronger than b, with the covariance of the two taken into account.

        Two intervals may overlap and the items differ all the same; this is the comparison to quote. The p
        value is two-sided, of the normal approximation; without any error (as where all comparisons are ties)
        equal strengths have p = 1 and others p = 0.
        """
        i, j = self._index(a), self._index(b)
        difference, error = float(self.theta[i] - self.theta[j]), self._error_of_difference(i, j)
        if difference == 0.0 or error == 0.0:
            return Difference(difference, error, float(difference == 0.0))
        return Difference(difference, error, float(2.0 * ndtr(-abs(difference) / error)))

    def win_probability(self, a: str, b: str) -> float:
        """Probability that a beats b, a tie being half a win."""
        return float(self._chance(np.array(self._index(a)), np.array(self._index(b))))

    def win_interval(self, a: str, b: str) -> Probability:
        """Probability that a beats b, with the interval of the difference on the probability scale."""
        difference, error, _ = self.compare(a, b)
        half = self._z * error
        return Probability(*(float(self._link(difference + shift)) for shift in (0.0, -half, half)))

    def win_matrix(self, items: Sequence[str] | None = None) -> WinMatrix:
        """Observed and predicted share of wins of each item against each other.

        Args:
            items: a part of the items, in the wanted order; all of them, strongest first, if left out.

        Raises:
            ConfigError: there are more than `MATRIX_ITEMS` items, one is unknown, or the method compares
                nothing.
        """
        pairs = self.comparisons
        if pairs is None:
            raise ConfigError(f"the method {self.method} compares no items, so there is no win matrix")
        chosen = (
            self._order if items is None else np.array([self._index(item) for item in items], dtype=np.int64)
        )
        size = len(chosen)
        if size > MATRIX_ITEMS:
            raise ConfigError(
                f"a win matrix of {size} items is too large; name at most {MATRIX_ITEMS} with items="
            )
        place = np.full(len(self.items), -1)
        place[chosen] = np.arange(size)
        i, j = place[pairs.first], place[pairs.second]
        inside = (i >= 0) & (j >= 0)
        i, j, n = i[inside], j[inside], pairs.count[inside].sum(axis=1)
        share = pairs.wins[inside] / pairs.total[inside]
        observed = np.full((size, size), np.nan)
        observed[i, j], observed[j, i] = share, 1.0 - share
        counts = np.zeros((size, size), dtype=np.int64)
        counts[i, j] = counts[j, i] = n
        predicted = np.full((size, size), np.nan)
        if self.link is not None:
            predicted = self._chance(chosen[:, None], chosen[None, :])
            np.fill_diagonal(predicted, np.nan)
        return WinMatrix([self.items[c] for c in chosen], observed, predicted, counts)

    @property
    def by_likelihood(self) -> bool:
        """Whether the strengths maximise the likelihood of comparisons whose probabilities are `link`'s."""
        modelled = self.link is not None and self.log_odds is None and self.comparisons is not None
        # A method that says itself how its votes fit has more in its likelihood than the link.
        return modelled and "log_likelihood" in self.fit_diagnostics and "fit" not in self.fit_diagnostics

    @cached_property
    def diagnostics(self) -> dict[str, Any]:
        """What the data can and cannot support.

        Keys: items, pairs, comparisons, judgments_without_comparison, those of the method (for Bradley-Terry
        components, strong_components, ties, iterations, converged, log_likelihood, interval, l2), `fit`
        (observed against predicted shares), `transitivity` (cycles of three, and a test of all pairs
        together) and `advice`, a list of sentences.
        """
        from palate.rank.advice import advise, fit_of_pairs
        from palate.rank.connectivity import met
        from palate.rank.cycles import transitivity

        found: dict[str, Any] = {"items": len(self.items)}
        pairs = self.comparisons
        if pairs is not None:
            found |= {
                "pairs": len(pairs.first),
                "comparisons": pairs.n_comparisons,
                "judgments_without_comparison": pairs.unused,
            }
        found |= self.fit_diagnostics
        if pairs is not None and "components" not in found:
            found["components"] = met(pairs)[0]
        if pairs is not None and self.link is not None:
            predicted = self._chance(pairs.first, pairs.second)
            # A method whose votes are not those of `link` says itself how they fit.
            found.setdefault("fit", fit_of_pairs(pairs, predicted))
            found["transitivity"] = transitivity(pairs, predicted)
            if not self.by_likelihood or found.get("l2"):
                # Pearson's test is for the maximum of the likelihood; other strengths miss it for reasons of
                # their own.
                found["transitivity"]["lack_of_fit_p"] = None
        found["advice"] = advise(self, found)
        return found

    # -- saving and showing --

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON: {"method": ..., "items": [the rows of `table`], "diagnostics": {...}}.

        Also `scale` (unit, points and base of the ratings), `level`, and where the method has them
        `win_matrix` (items and probabilities of the strongest `JSON_ITEMS`), `coefficients`, `annotators`.
        `palate.runs.to_json` turns them into text.
        """
        found: dict[str, Any] = {
            "method": self.method,
            "items": self.table.to_dicts(),
            "diagnostics": self.diagnostics,
            "scale": {"unit": self.scale.unit, "points": self.scale.points, "base": self.scale.base},
            "level": self.level,
        }
        if self.link is not None and self.comparisons is not None:
            matrix = self.win_matrix(self.table["item"].head(JSON_ITEMS).to_list())
            found["win_matrix"] = {"items": matrix.items, "probability": matrix.predicted.tolist()}
        if self.coefficients is not None:
            found["coefficients"] = self.coefficients.to_dicts()
        if self.annotators is not None:
            found["annotators"] = self.annotators.to_dicts()
        return found

    def to_csv(self, path: str | Path) -> None:
        """Write `table` to a file; an existing one is replaced whole."""
        with atomic_write(path) as file:
            file.write(self.table.write_csv())

    def plot(self, top: int | None = 50) -> go.Figure:
        """Ratings with their intervals, strongest at the top; see `palate.rank.plots.intervals`."""
        from palate.rank import plots

        return plots.intervals(self, top)

    def plot_win_matrix(
        self, which: Literal["observed", "predicted"] = "observed", top: int = 50
    ) -> go.Figure:
        """Share of wins as a heat map; see `palate.rank.plots.win_matrix`."""
        from palate.rank import plots

        return plots.win_matrix(self, which, top)

    def __repr__(self) -> str:
        shown = 20
        rows = self.table.head(shown).to_dicts()
        names = [_one_line(row["item"]) for row in rows]
        width = max([4, *(len(name) for name in names)])
        decimals = self._decimals
        lines = [f"{'rank':>9}  {'item':<{width}}  {'rating':>8}  {'interval':>17}  {'n':>9}"]
        for name, row in zip(names, rows, strict=True):
            interval = ranks = ""
            if row["lower"] is not None:
                interval = f"{row['lower']:8.{decimals}f} {row['upper']:8.{decimals}f}"
                ranks = f"{row['rank_best']}-{row['rank_worst']}"
            rating = f"{row['rating']:8.{decimals}f}"
            lines.append(f"{ranks:>9}  {name:<{width}}  {rating}  {interval:>17}  {row['n']:>9,}")
        if len(self.items) > shown:
            lines.append(f"... and {len(self.items) - shown:,} more")
        head = f"Leaderboard({self.method}: {len(self.items):,} items"
        if self.comparisons is not None:
            total = self.fit_diagnostics.get("comparisons", self.comparisons.n_comparisons)
            head += f", {total:,} comparisons"
        return "\n".join([f"{head})", *lines])

    def _repr_html_(self) -> str:
        return str(self.table._repr_html_())

    # -- inside --

    @cached_property
    def _order(self) -> Ints:
        """Positions of the items, strongest first, equal ones by name."""
        return np.asarray(np.lexsort((np.array(self.items, dtype=str), -self.theta)), dtype=np.int64)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {item: i for i, item in enumerate(self.items)}

    @cached_property
    def _n(self) -> Ints:
        if self.n is not None:
            return self.n
        if self.comparisons is None:
            return np.zeros(len(self.items), dtype=np.int64)
        return np.asarray(self.comparisons.per_item(self.comparisons.count.sum(axis=1)), dtype=np.int64)

    @cached_property
    def _errors(self) -> Floats | None:
        if self.covariance is not None:
            return np.asarray(np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0)))
        return None if self.draws is None else np.asarray(np.sqrt(np.mean(self.draws**2, axis=1)))

    @cached_property
    def _bounds(self) -> Floats | None:
        if self.bounds is not None or self._errors is None:
            return self.bounds
        half = self._z * self._errors
        return np.stack([self.theta - half, self.theta + half], axis=1)

    @cached_property
    def _decimals(self) -> int:
        """Decimals of a rating: three digits of the spread of the ratings, or of the widest interval."""
        spread = float(np.ptp(self.theta))
        if self._bounds is not None:
            spread = max(spread, float(np.ptp(self._bounds, axis=1).max()))
        spread *= abs(self.scale.points)
        if not 0.0 < spread < math.inf:
            return 1
        return min(max(2 - math.floor(math.log10(spread)), 1), 9)

    @property
    def _link(self) -> Callable[[Any], Any]:
        if self.link is None:
            raise ConfigError(f"the method {self.method} predicts no probability to win")
        return self.link

    def _chance(self, first: Ints, second: Ints) -> Floats:
        """Probability that the first wins, for codes of any shape."""
        if self.log_odds is not None:
            return np.asarray(expit(self.log_odds(first, second)))
        return np.asarray(self._link(self.theta[first] - self.theta[second]))

    @property
    def _z(self) -> float:
        return float(ndtri(0.5 + self.level / 2))

    def _error_of_difference(self, i: int, j: int) -> float:
        if self.covariance is not None:
            v = self.covariance
            return math.sqrt(max(float(v[i, i] + v[j, j] - 2.0 * v[i, j]), 0.0))
        if self.draws is not None:
            return float(np.sqrt(np.mean((self.draws[i] - self.draws[j]) ** 2)))
        raise ConfigError(f"the method {self.method} gives no standard errors")

    def _index(self, item: str) -> int:
        if item not in self._positions:
            raise unknown("item", item, self.items)
        return self._positions[item]

    def _rating(self, theta: Floats) -> Floats:
        shift, points = self.scale.base, self.scale.points
        if self.anchor is not None:
            item, rating = anchored(self.anchor, self.scale)
            shift = rating - points * float(self.theta[self._index(item)])
        return np.asarray(shift + points * theta)


def anchored(anchor: str | Mapping[str, float], scale: Scale = LOG_ODDS) -> tuple[str, float]:
    """The item and rating of an anchor, which is an item (then the scale's base) or one {item: rating}."""
    if isinstance(anchor, str):
        return anchor, scale.base
    if isinstance(anchor, Mapping) and len(anchor) == 1:
        item, rating = next(iter(anchor.items()))
        if isinstance(rating, int | float) and not isinstance(rating, bool) and math.isfinite(rating):
            return item, float(rating)
    raise ConfigError(
        f"anchor is {anchor!r}; give an item, or one item and its rating such as {{'baseline': 1000}}"
    )


def _one_line(name: str) -> str:
    """A name as a line of a table takes it: without line breaks, and visible if empty."""
    return " ".join(name.split()) or repr(name)


def rank_bounds(lower: Floats, upper: Floats) -> tuple[Ints, Ints]:
    """Best and worst rank of each item, from intervals of shape (M,).

    The best rank is 1 + the number of items whose interval lies wholly above, the worst 1 + the number whose
    interval does not lie wholly below.
    """
    best = 1 + len(lower) - np.searchsorted(np.sort(lower), upper, side="right")
    worst = 1 + len(upper) - np.searchsorted(np.sort(upper), lower, side="right")
    return best.astype(np.int64), (worst - (upper > lower)).astype(np.int64)
