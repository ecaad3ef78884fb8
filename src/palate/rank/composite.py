"""One leaderboard over several aspects, each counting as much as its weight says."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from palate.data.codes import combine
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning, unknown
from palate.rank.base import Ranker
from palate.rank.battles import TIE, Battles, battles, encode
from palate.rank.bradley_terry import BradleyTerry
from palate.rank.clusters import cluster_codes
from palate.rank.counts import Comparisons, count
from palate.rank.parts import compact, part

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(kw_only=True, repr=False, eq=False)
class CompositeBradleyTerry(Ranker):
    """Bradley-Terry strengths that serve several aspects at once.

    Minimises sum_k w_k mean_k(NLL) + l2/2 |theta|^2, where mean_k is over the comparisons on aspect k: an
    aspect counts as much as its weight w_k, however many judgments it has. This is Bradley-Terry with
    comparisons of weight w_k / n_k.

    Args:
        aspect_weights: weight of every aspect of the data, 0 to leave one out; None for 1 each. Only their
            ratios matter where l2 is 0.
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        l2: ridge, in units of the mean loss. That of `BradleyTerry` is per comparison: with one aspect of
            weight 1 and n comparisons, l2 here is n * l2 there.
        anchor, level: as in `BradleyTerry`.
        cluster: which judgments are not independent: "comparison", those of one annotator about one prompt
            (the aspects of one comparison), "annotator", "prompt", or one label per judgment; None for
            independent judgments. Intervals are always those of the sandwich, whose scores are summed within
            a cluster: a mean loss has no scale that a Hessian alone could give.

    Further attributes after `fit` (see `Ranker` for the rest):
        aspects_: strengths of the items on each aspect alone, with mean 0: a row an item, a column an aspect;
            null where an aspect does not have the item, or has no finite estimate.
        log_likelihood_: minus the composite loss, without the ridge.
    """

    method = "composite_bt"

    aspect_weights: Mapping[str, float] | None = None
    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    l2: float = 0.0
    anchor: str | Mapping[str, float] | None = None
    cluster: str | npt.ArrayLike | None = "comparison"
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate the strengths.

        Raises:
            DataError: nothing is compared, a judgment names no aspect, or no finite estimate exists.
            ConfigError: a parameter has a value that cannot be used, or `data` are counts or battles, which
                do not say their aspects.
        """
        if not isinstance(data, PreferenceData):
            raise ConfigError("composite_bt needs judgments, because counts do not say their aspects")
        self._choice("ties", ("half", "drop"))
        aspect, names = _aspects(data)
        weights = self._weights(names)
        rows = battles(data, self.both_bad)
        rows = part(rows, ~((rows.outcome == TIE) & (self.ties == "drop")))
        of_row = aspect[rows.judgment]
        totals = np.bincount(of_row, rows.weights, minlength=len(names))
        used = [k for k in range(len(names)) if weights[k] > 0]
        for k in used:
            if totals[k] == 0:
                raise DataError(
                    f"the aspect '{names[k]}' compares nothing", field="aspect", file=data.source,
                    remedy="give it the weight 0 in aspect_weights",
                )  # fmt: skip
        share = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
        composite = replace(rows, weight=rows.weights * share[of_row])
        composite = compact(part(composite, weights[of_row] > 0))[0]
        counted = count(composite, cluster=self._clusters(data))
        inner = BradleyTerry(l2=self.l2, anchor=self.anchor, level=self.level).fit(counted)
        for name in ("items_", "strengths_", "covariance_", "draws_", "comparisons_", "n_comparisons_"):
            setattr(self, name, getattr(inner, name))
        self.log_likelihood_ = inner.log_likelihood_
        self.aspects_, problems = self._alone(rows, of_row, names, used, weights)
        self.diagnostics_ = inner.diagnostics_ | {
            "ties": float(rows.weights[rows.outcome == TIE] @ share[of_row][rows.outcome == TIE])
            / float(weights[used].sum()),
            "aspects": {names[k]: int((of_row == k).sum()) for k in used},
            "aspect_weights": {name: float(weight) for name, weight in zip(names, weights, strict=True)},
            "aspect_correlation": _correlation(self.aspects_),
            "aspects_without_estimate": problems,
        }
        return self

    def _weights(self, names: list[str]) -> Floats:
        """Weight of each aspect."""
        given = self.aspect_weights
        if given is None:
            return np.ones(len(names))
        if not isinstance(given, Mapping):
            raise ConfigError(f"aspect_weights is {given!r}; give each aspect its weight, {{aspect: weight}}")
        for name, weight in given.items():
            if name not in names:
                raise unknown("aspect", name, names)
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 <= weight < math.inf:
                raise ConfigError(
                    f"the weight of the aspect {name!r} is {weight!r}; use a number of 0 or more"
                )
        missing = [name for name in names if name not in given]
        if missing:
            raise ConfigError(f"aspect_weights has no {missing[0]!r}; give every aspect a weight, 0 for none")
        found = np.array([float(given[name]) for name in names])
        if not found.any():
            raise ConfigError("every weight in aspect_weights is 0; give one that is positive")
        return found

    def _clusters(self, data: PreferenceData) -> Ints | None:
        if self.cluster is None:
            return None
        if not (isinstance(self.cluster, str) and self.cluster == "comparison"):
            return cluster_codes(data, self.cluster)
        annotator, prompt = data.codes("annotator")[0], data.prompt_codes()
        # The smallest and largest code of its items say which pair a judgment is about.
        codes, starts = encode(data)[0], data.offsets()[:-1]
        low, high = np.minimum.reduceat(codes, starts), np.maximum.reduceat(codes, starts)
        return np.where((annotator < 0) & (prompt < 0), -1, combine(annotator, prompt, low, high)[0])

    def _alone(
        self, rows: Battles, of_row: Ints, names: list[str], used: list[int], weights: Floats
    ) -> tuple[pl.DataFrame, dict[str, str]]:
        """Strengths by each aspect of its own, and why those without have none."""
        import polars as pl

        columns: dict[str, Any] = {"item": rows.items}
        problems = {}
        for k in used:
            strengths = np.full(len(rows.items), np.nan)
            alone, present = compact(part(rows, of_row == k))
            ridge = self.l2 * float(alone.weights.sum()) / weights[k]
            try:
                strengths[present] = _quiet(count(alone), ridge)
            except DataError as error:
                problems[names[k]] = error.problem
            columns[names[k]] = strengths
        return pl.DataFrame(columns).with_columns(pl.exclude("item").fill_nan(None)), problems


def _aspects(data: PreferenceData) -> tuple[Ints, list[str]]:
    """The aspect of each judgment as a code, shape (rows,), and the names of those that occur."""
    codes, names = data.codes("aspect")
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        every = len(missing) == data.n_rows
        raise DataError(
            "no judgment names an aspect" if every else "a missing aspect",
            row=None if every else int(missing[0]) + 1, field="aspect", file=data.source,
            remedy="use method='bradley_terry'" if every else "fill it in, or drop the row",
        )  # fmt: skip
    found, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64), [names[k] for k in found]


def _quiet(counted: Comparisons, l2: float) -> Floats:
    """Strengths of one aspect; groups that never met on it may well have met on another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PalateWarning)
        return BradleyTerry(l2=l2).fit(counted).strengths_


def _correlation(aspects: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """Pearson correlation of the strengths on two aspects, over the items that both have."""
    columns = {name: aspects[name].fill_null(np.nan).to_numpy() for name in aspects.columns[1:]}
    return {a: {b: _pearson(x, y) for b, y in columns.items()} for a, x in columns.items()}


def _pearson(x: Floats, y: Floats) -> float | None:
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
