"""How far annotators agree: percent agreement, and agreement beyond chance.

The functions over arrays are in `palate.data.chance`; here judgments become units and values. For
comparisons a unit is a prompt with an unordered pair of alternatives, and the value says which of the two
was preferred, in an order of the alternatives that does not depend on the sides shown (codes by side would
measure side bias).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palate.data import chance
from palate.data.codes import combine
from palate.data.views import out_of_order, pair_index
from palate.errors import ConfigError, PalateWarning, unknown
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MEASURES = ("alpha", "percent", "cohen", "fleiss", "ac1", "kendall_w")


@dataclass(frozen=True)
class AgreementResult:
    """Agreement on the units that two or more annotators judged.

    Attributes:
        value: the measure; NaN where it is undefined.
        percent: share of pairs of values on one unit that are equal, to be read beside every other measure.
        n_units: units with at least two values.
        n_annotators: annotators with a value among them (a judgment without an annotator is one of its own).
        n_values: values on these units.
        n_pairs: pairs of values on one unit.
        interval: 95% percentile interval of a bootstrap over units, or None.
        note: what the reader should know, such as repeated judgments; "" if nothing.
    """

    value: float
    percent: float
    n_units: int
    n_annotators: int
    n_values: int
    n_pairs: int
    interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Votes:
    """Who said what about which unit; arrays of shape (values,).

    Attributes:
        unit: code of the unit.
        annotator: code of the annotator; judgments without one have a code each.
        value: +1, 0, -1 for pairs (or a signed margin), the score for ratings.
        judgment: row of the data.
    """

    unit: Ints
    annotator: Ints
    value: Floats
    judgment: Ints

    def last_ones(self) -> Votes:
        """Only the last value of each annotator on each unit."""
        key, size = combine(self.unit, self.annotator)
        last = np.zeros(size, dtype=np.int64)
        last[key] = np.arange(len(key))
        keep = np.sort(last)
        return Votes(self.unit[keep], self.annotator[keep], self.value[keep], self.judgment[keep])

    def shared(self) -> Votes:
        """Only units with at least two values, renumbered from 0."""
        keep = np.bincount(self.unit)[self.unit] >= 2 if len(self.unit) else np.zeros(0, dtype=bool)
        unit = combine(self.unit[keep])[0]
        return Votes(unit, self.annotator[keep], self.value[keep], self.judgment[keep])


def agreement(
    data: PreferenceData,
    measure: str = "alpha",
    *,
    level: str = "nominal",
    aspect: str | None = None,
    ci: bool = False,
    n_boot: int = 1000,
    seed: int = 0,
) -> AgreementResult:
    """How far annotators agree who judged the same thing.

    A unit is a prompt and aspect with, for comparisons, rankings and choices, an unordered pair of
    alternatives, or, for ratings, one alternative. Of an annotator's several judgments of a unit the last
    counts, and `note` says how many were left out.

    Args:
        data: judgments, all of them ratings or none.
        measure: "alpha" (Krippendorff), "percent", "cohen" (two annotators), "fleiss", "ac1" (Gwet), or
            "kendall_w" (concordance of whole rankings, mean over prompts that every one of their annotators
            ranked in full).
        level: how values differ: "nominal", "ordinal", "interval" or "ratio" (alpha); for "cohen" the
            weights: none, linear in the order of the values, or quadratic in the values. For pairs,
            "interval" takes the difference of scores where the other levels take its sign.
        aspect: judgments of one aspect only.
        ci: whether to bootstrap an interval, over units, with `n_boot` replicates drawn from `seed`.

    Returns:
        An `AgreementResult`; where the measure is undefined (no shared unit, one value only) its value is
        NaN and a `PalateWarning` says why.

    Raises:
        ConfigError: an unknown measure or level, ratings among other protocols, more or less than two
            annotators for "cohen", or negative values for the level "ratio".
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    if level not in chance.LEVELS:
        raise unknown("level", level, chance.LEVELS)
    if aspect is not None:
        data = data.filter(aspect=aspect)
    if measure == "kendall_w":
        return _concordance(data, ci, n_boot, seed)
    given = votes(data, level)
    last = given.last_ones()
    shared = last.shared()
    repeated = len(given.unit) - len(last.unit)
    note = f"{repeated} values repeat an annotator's earlier one; the last counts" if repeated else ""

    table = chance.Table.of(shared.unit, shared.value)
    weights = np.ones(table.n_units)
    annotators = len(np.unique(shared.annotator))
    statistic = _cohen(shared, level) if measure == "cohen" else _statistic(table, measure, level)
    value = statistic(weights) if table.n_units else np.nan
    if np.isnan(value):
        why = "only one value occurs" if table.n_units else "no two annotators judged the same unit"
        warnings.warn(f"{measure} is undefined: {why}", PalateWarning, stacklevel=2)
    interval = _bootstrap(statistic, table.n_units, n_boot, seed) if ci and not np.isnan(value) else None
    return AgreementResult(
        value=float(value),
        percent=float(chance.percent(table, weights)) if table.n_units else float("nan"),
        n_units=table.n_units,
        n_annotators=annotators,
        n_values=len(shared.unit),
        n_pairs=int((table.size * (table.size - 1) // 2).sum()),
        interval=interval,
        note=note,
    )


def is_rating(data: PreferenceData) -> npt.NDArray[np.bool_]:
    """Which judgments rate each alternative by itself, shape (rows,).

    Those of protocol `rating`, `generation` and `behaviour`; without a protocol, those of a single
    alternative or on an interval scale.
    """
    codes, names = data.codes("protocol")
    rating = np.isin(codes, [names.index(p) for p in ("rating", "generation", "behaviour") if p in names])
    scale, scales = data.codes("scale")
    interval = (
        scale == scales.index("interval") if "interval" in scales else np.zeros(data.n_rows, dtype=bool)
    )
    alone = np.diff(data.offsets()) == 1
    return np.asarray(rating | alone | ((codes < 0) & interval))


def votes(
    data: PreferenceData,
    level: str = "nominal",
    *,
    prompt: Ints | None = None,
    alternative: Ints | None = None,
) -> Votes:
    """Every value given, in the order of the judgments; see `agreement` for units and values.

    Args:
        prompt, alternative: codes of each row's prompt and of each alternative, where they are known already.

    Raises:
        ConfigError: ratings and other protocols are mixed, or nothing tells alternatives apart.
    """
    rating = is_rating(data)
    if rating.any() and not rating.all():
        raise ConfigError(
            "ratings and comparisons cannot be compared with each other; filter to one protocol"
        )
    alternative = alternatives(data) if alternative is None else alternative
    prompt = data.prompt_codes() if prompt is None else prompt
    aspect, offsets = data.codes("aspect")[0], data.offsets()
    if rating.any():
        scores = data.scores
        at = np.flatnonzero(~np.isnan(scores))
        judgment = np.repeat(np.arange(data.n_rows), np.diff(offsets))[at]
        unit = combine(prompt[judgment], aspect[judgment], alternative[at])[0]
        value = scores[at]
    else:
        index = pair_index(data, ties="keep")
        judgment = index.judgment
        chosen, rejected = offsets[judgment] + index.chosen, offsets[judgment] + index.rejected
        a, b = alternative[chosen], alternative[rejected]
        unit = combine(prompt[judgment], aspect[judgment], np.minimum(a, b), np.maximum(a, b))[0]
        size = index.margin if level in ("interval", "ratio") else np.sign(index.margin)
        value = np.where(out_of_order(data, chosen, rejected), -size, size)
    return Votes(unit, _annotators(data)[judgment], value, judgment)


def alternatives(data: PreferenceData) -> Ints:
    """What each alternative is, by its item, response and medium: codes in `flat` order.

    Raises:
        ConfigError: the data has none of the three.
    """
    identity = [data.flat_codes(name)[0] for name in ("items", "responses", "media") if data.has(name)]
    if not identity:
        raise ConfigError(
            "agreement needs items, responses or media to tell what was judged; the data has none"
        )
    return combine(*identity)[0]


def _annotators(data: PreferenceData) -> Ints:
    codes, names = data.codes("annotator")
    return np.where(codes >= 0, codes, len(names) + np.arange(data.n_rows)).astype(np.int64)


def _statistic(table: chance.Table, measure: str, level: str) -> Callable[[Floats], float]:
    if measure == "alpha":
        return lambda weights: chance.alpha(table, level, weights)
    function = {"percent": chance.percent, "fleiss": chance.fleiss, "ac1": chance.ac1}[measure]
    return lambda weights: function(table, weights)


def _cohen(shared: Votes, level: str) -> Callable[[Floats], float]:
    names = np.unique(shared.annotator)
    if len(names) not in (0, 2):
        raise ConfigError(
            f"cohen compares two annotators and {len(names)} share units here; "
            "filter to two, or use alpha, fleiss or ac1"
        )
    order = np.argsort(shared.unit, kind="stable")
    first = shared.annotator[order] == names[0] if len(names) else np.zeros(0, dtype=bool)
    a, b = shared.value[order][first], shared.value[order][~first]
    return lambda weights: chance.cohen_kappa(a, b, level=level, weight=weights)


def _concordance(data: PreferenceData, ci: bool, n_boot: int, seed: int) -> AgreementResult:
    long = data.ratings()
    judgment = long["judgment"].to_numpy()
    score = long["score"].to_numpy()
    alternative = alternatives(data)[data.offsets()[judgment] + long["index"].to_numpy()]
    unit, n_units = combine(data.prompt_codes()[judgment], data.codes("aspect")[0][judgment])
    annotator = _annotators(data)[judgment]
    last = Votes(combine(unit, alternative)[0], annotator, score, np.arange(len(unit))).last_ones().judgment
    w, raters = chance.concordance(unit[last], annotator[last], alternative[last], score[last], n_units)
    complete = ~np.isnan(w)
    used = complete[unit[last]]
    note = ""
    if not complete.all():
        note = (
            f"{int((~complete).sum())} of {n_units} prompts were not ranked in full by two annotators or more"
        )
    if not complete.any():
        warnings.warn(f"kendall_w is undefined: {note or 'nothing is ranked'}", PalateWarning, stacklevel=3)
    kept = w[complete]

    def mean(weights: Floats) -> float:
        return float(np.average(kept, weights=weights)) if weights.sum() else float("nan")

    n_pairs = int((raters[complete] * (raters[complete] - 1) // 2).sum())
    return AgreementResult(
        value=float(kept.mean()) if len(kept) else float("nan"),
        percent=float("nan"),
        n_units=len(kept),
        n_annotators=len(np.unique(annotator[last][used])),
        n_values=int(used.sum()),
        n_pairs=n_pairs,
        interval=_bootstrap(mean, len(kept), n_boot, seed) if ci and len(kept) > 1 else None,
        note=note,
    )


def _bootstrap(
    statistic: Callable[[Floats], float], n_units: int, n_boot: int, seed: int
) -> tuple[float, float] | None:
    rng = generator(seed, "agreement")
    values = np.empty(n_boot)
    for i in range(n_boot):
        values[i] = statistic(np.bincount(rng.integers(0, n_units, n_units), minlength=n_units).astype(float))
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)
