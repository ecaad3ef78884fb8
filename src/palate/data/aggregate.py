"""Several annotators' judgments of the same thing become one gold judgment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from palate.data import schema
from palate.data.codes import combine
from palate.data.table import PreferenceData
from palate.data.things import CHOICE, LIST, PAIR, RATING, Things, Values
from palate.errors import ConfigError, DataError, unknown
from palate.seeding import generator

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

METHODS = ("majority", "median", "mean", "dawid_skene")
TIE_RULES = ("middle", "drop", "random", "tie")

MAX_LABELS = 100
"""Dawid-Skene takes ratings of at most so many different values."""

_OF_PROMPT = ("prompt_id", "prompt", "messages", "context", "aspect", "protocol", "scale")


def aggregate(
    data: PreferenceData,
    method: Literal["majority", "median", "mean", "dawid_skene"] = "majority",
    *,
    tie: Literal["middle", "drop", "random", "tie"] = "middle",
    seed: int = 0,
    smoothing: float = 1.0,
) -> PreferenceData:
    """One gold judgment for all judgments of the same thing.

    Judgments are of the same thing if they have the same prompt (`prompt_id`, else its text), aspect,
    protocol and scale, and the same alternatives (item, response and medium) in whichever order. Of an
    annotator's several judgments of one thing the last counts, and a `PalateWarning` says how many did not; a
    judgment without an annotator is one of its own. Votes count as their `weight` says.

    Args:
        data: judgments of any protocol, mixed freely.
        method: "majority" takes the value that most votes give: the winner of a comparison of two (or the
            tie), the chosen of a choice, the rating of each alternative. "dawid_skene" takes the value that
            is most probable when each annotator's confusions are estimated along, for each aspect and way of
            judging by itself (see `palate.data.dawid_skene`); a choice must then be among two. "median" is
            that of the ratings, or of +1, 0 and -1 for the outcomes of a comparison of two. "mean" is the
            mean score of each alternative: of votes the share of wins, a tie counting as its scores say.
            Rankings of more than two have a mean and a median of each alternative only.
        tie: what becomes of a first place that several values share. "middle" takes, of all values that
            occur, the one nearest to the median of those that share it, then the one nearer to the middle of
            the scale, then the lower: a tie where two alternatives are compared. In a choice all
            alternatives that share it stay chosen. "tie" does the same, and refuses ratings. "random" takes
            one of those that share it. "drop" leaves the judgment out.
        seed: for tie="random".
        smoothing: for "dawid_skene".

    Returns:
        Judgments in the order in which their things first appear, with the alternatives in the order of the
        first judgment. `metadata` holds `n_votes`; `agreement`, the share of the votes for the value that
        most of them give; `contested`, whether several values share that place; and of "dawid_skene" the
        `probability` of the gold value. For alternatives rated together these are the mean agreement,
        whether any is contested, and the least probability. A thing nobody judged (scores NaN or weights 0)
        keeps NaN scores. `annotator_kind` stays where all agree and `weight` is the mean; ids, annotators,
        times, rationales and former metadata belong to single judgments and are not carried over.

    Raises:
        ConfigError: an unknown method or rule, nothing that tells alternatives apart, tie="tie" for ratings,
            or a method that judgments of more than two alternatives do not allow.
        DataError: "dawid_skene" and a judgment without an annotator, or with more than `MAX_LABELS` ratings.

    >>> votes = PreferenceData.from_columns(
    ...     {"items": [["a", "b"], ["b", "a"], ["a", "b"]], "scores": [[1, 0], [0, 1], [0, 1]]}
    ... )
    >>> aggregate(votes).column("scores").to_pylist()
    [[1.0, 0.0]]
    """
    if method not in METHODS:
        raise unknown("aggregation method", method, METHODS)
    if tie not in TIE_RULES:
        raise unknown("rule for ties", tie, TIE_RULES)
    if data.n_rows == 0:
        return data
    things = Things.of(data)
    _refuse(data, things, method, tie)
    values = Values.of(data, things)
    counted = _Tally.of(*_counts(values), things.n_places)
    chosen, probability = counted, None
    if method == "dawid_skene":
        chosen = _Tally.of(*_probable(data, values, smoothing), things.n_places)
        probability = chosen.share
    keep = np.ones(len(things.first), dtype=bool)
    if method in ("majority", "dawid_skene"):
        if tie == "drop":
            keep = ~np.logical_or.reduceat(chosen.contested, things.start[:-1])
        scores = _scores(data, things, values, chosen, chosen.settled(values, things, tie, seed), tie)
    else:
        scores = _averages(data, things, values, method)
    return _gold(data, things, scores, counted, probability, keep)


def _refuse(data: PreferenceData, things: Things, method: str, tie: str) -> None:
    """Refuse what a method cannot do, with the first judgment concerned."""

    def any_of(kind: int) -> str:
        rows = things.first[things.kind == kind]
        place = f"{data.source}: " if data.source is not None else ""
        return f"{place}row {int(rows[0]) + 1}" if len(rows) else ""

    labels = method in ("majority", "dawid_skene")
    if labels and (where := any_of(LIST)):
        raise ConfigError(
            f"{where} compares more than two alternatives, for which {method} is not defined; "
            "use method='mean', or data.as_pairs('all', ties='keep')"
        )
    if method == "dawid_skene" and (where := any_of(CHOICE)):
        raise ConfigError(
            f"{where} is a choice among more than two, whose places mean something else in each judgment; "
            "use method='majority' or 'mean'"
        )
    if labels and tie == "tie" and (where := any_of(RATING)):
        raise ConfigError(f"{where} is a rating, and ratings have no ties; use tie='middle'")


def _counts(values: Values) -> tuple[Ints, Floats, Floats]:
    """Weight of each value of each unit: (unit, value, mass), sorted by unit and value."""
    order = np.lexsort((values.value, values.unit))
    unit, value = values.unit[order], values.value[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (unit[1:] != unit[:-1]) | (value[1:] != value[:-1])
    at = np.flatnonzero(new)
    mass = np.add.reduceat(values.weight[order], at) if len(at) else np.zeros(0)
    return unit[at], value[at], mass


def _probable(data: PreferenceData, values: Values, smoothing: float) -> tuple[Ints, Floats, Floats]:
    """As `_counts`, with the probabilities of Dawid-Skene."""
    from palate.data.dawid_skene import dawid_skene

    who = data.codes("annotator")[0][values.row]
    if (who < 0).any():
        raise DataError(
            "no annotator, whose confusions could be estimated", row=int(values.row[who < 0].min()) + 1,
            field="annotator", file=data.source, remedy="name the annotators, or use method='majority'",
        )  # fmt: skip
    parts = [(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))]
    for stratum in np.unique(values.stratum):
        inside = np.flatnonzero(values.stratum == stratum)
        labels, label = np.unique(values.value[inside], return_inverse=True)
        if len(labels) > MAX_LABELS:
            raise DataError(
                f"ratings of {len(labels)} different values, more than the {MAX_LABELS} that can be confused",
                row=int(values.row[inside].min()) + 1, field="scores", file=data.source,
                remedy="use method='median' or 'mean'",
            )  # fmt: skip
        units, task = np.unique(values.unit[inside], return_inverse=True)
        annotator = combine(who[inside])[0]
        fitted = dawid_skene(task, annotator, label, weight=values.weight[inside], smoothing=smoothing)
        parts.append((np.repeat(units, len(labels)), np.tile(labels, len(units)), fitted.posterior.ravel()))
    unit, value, mass = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(unit, kind="stable")
    return unit[order], value[order], mass[order]


@dataclass(frozen=True)
class _Tally:
    """The values in first place. `share` and `contested` have one entry per place.

    Attributes:
        share: of all mass, that of a value in first place; NaN where a place has no value.
        contested: whether several values share the first place.
        unit, value: the values that are in a first place, sorted by unit and value.
    """

    share: Floats
    contested: Bools
    unit: Ints
    value: Floats

    @classmethod
    def of(cls, unit: Ints, value: Floats, mass: Floats, n_places: int) -> _Tally:
        share, contested = np.full(n_places, np.nan), np.zeros(n_places, dtype=bool)
        if len(unit) == 0:
            return cls(share, contested, unit, value)
        units, start, place = np.unique(unit, return_index=True, return_inverse=True)
        top = np.maximum.reduceat(mass, start)
        share[units] = top / np.add.reduceat(mass, start)
        # Equal sums of weights, or equal probabilities, may differ by rounding.
        first = mass >= top[place] * (1.0 - 1e-9)
        contested[units] = np.bincount(place[first]) > 1
        return cls(share, contested, unit[first], value[first])

    def settled(self, values: Values, things: Things, rule: str, seed: int) -> Floats:
        """One value for each place, NaN where it has none; see `aggregate` for the rule."""
        settled = np.full(len(self.share), np.nan)
        if len(self.unit) == 0:
            return settled
        units, start, count = np.unique(self.unit, return_index=True, return_counts=True)
        if rule == "random":
            draw = generator(seed, "aggregate").integers(0, count)
            settled[units] = self.value[start + draw]
            return settled
        low, high = self.value[start + (count - 1) // 2], self.value[start + count // 2]
        settled[units] = low
        even = low != high
        settled[units[even]] = _nearest(values, things, units[even], ((low + high) / 2)[even])
        return settled


def _nearest(values: Values, things: Things, unit: Ints, target: Floats) -> Floats:
    """The value of each unit's scale nearest to a target, then to the scale's middle, then the lower."""
    stratum_of = np.zeros(things.n_places, dtype=np.int64)
    stratum_of[values.unit] = values.stratum
    compares = things.kind[things.of_place[unit]] == PAIR
    found = np.sign(target) * (np.abs(target) > 0.5)  # between a win and a tie is nearer to a tie
    for stratum in np.unique(stratum_of[unit[~compares]]):
        scale = np.unique(values.value[values.stratum == stratum])
        inside = (stratum_of[unit] == stratum) & ~compares
        goal, middle = target[inside], (scale[0] + scale[-1]) / 2
        above = np.clip(np.searchsorted(scale, goal), 1, len(scale) - 1)
        low, high = scale[above - 1], scale[above]
        down, up = goal - low, high - goal
        equal = np.isclose(down, up, rtol=1e-9, atol=0.0)
        inner = np.abs(high - middle) < np.abs(low - middle)
        found[inside] = np.where(np.where(equal, inner, up < down), high, low)
    return found


def _scores(
    data: PreferenceData, things: Things, values: Values, chosen: _Tally, value: Floats, rule: str
) -> Floats:
    """Scores of all places that say the value of each unit."""
    of_place = things.of_place
    scores = np.where(things.kind[of_place] == RATING, value, np.nan)
    _set_outcomes(scores, data, things, values, value)
    judged = things.start[:-1][(things.kind == CHOICE)]
    judged = judged[~np.isnan(value[judged])]
    scores[np.isin(of_place, of_place[judged])] = 0.0
    if rule == "random":
        scores[judged + value[judged].astype(np.int64)] = 1.0
    else:
        of_choice = things.kind[of_place[chosen.unit]] == CHOICE
        scores[chosen.unit[of_choice] + chosen.value[of_choice].astype(np.int64)] = 1.0
    return scores


def _set_outcomes(
    scores: Floats, data: PreferenceData, things: Things, values: Values, outcome: Floats
) -> None:
    """Scores of two alternatives compared: 1 for the better, the other less by the outcome; a bad tie 0."""
    pair = things.start[:-1][things.kind == PAIR]
    said = outcome[pair]
    scores[pair], scores[pair + 1] = 1.0 + np.minimum(said, 0.0), 1.0 - np.maximum(said, 0.0)
    both = pair[(said == 0) & _mostly_bad(data, things, values)[things.of_place[pair]]]
    scores[both] = scores[both + 1] = 0.0


def _mostly_bad(data: PreferenceData, things: Things, values: Values) -> Bools:
    """Whether most of the ties of a thing say that both are bad; shape (things,)."""
    codes, names = data.codes("tie")
    bad = codes == (names.index("both_bad") if "both_bad" in names else -2)
    tied = np.flatnonzero(values.value == 0)
    row = values.row[tied]
    weight = np.where(bad[row], 1.0, -1.0) * values.weight[tied]
    return np.asarray(np.bincount(things.of_row[row], weight, len(things.first)) > 0)


def _averages(data: PreferenceData, things: Things, values: Values, method: str) -> Floats:
    """Mean or median score of each place; the median outcome where two are compared."""
    row = np.repeat(np.arange(data.n_rows), np.diff(data.offsets()))
    scores = data.scores
    at = np.flatnonzero(things.counts[row] & ~np.isnan(scores))
    place, score, weight = things.place[at], scores[at], data.weights[row[at]]
    if method == "mean":
        mass = np.bincount(place, weight, things.n_places)
        total = np.bincount(place, weight * score, things.n_places)
        return np.asarray(np.divide(total, mass, out=np.full(things.n_places, np.nan), where=mass > 0))
    result = _medians(place, score, weight, things.n_places)
    outcome = _medians(values.unit, values.value, values.weight, things.n_places)
    _set_outcomes(result, data, things, values, outcome)
    return result


def _medians(unit: Ints, value: Floats, weight: Floats, size: int) -> Floats:
    """Weighted median of each unit; the mean of two values where half the weight is on either side."""
    order = np.lexsort((value, unit))
    unit, value, weight = unit[order], value[order], weight[order]
    before = np.concatenate([[0.0], np.cumsum(weight)])
    start, end = np.searchsorted(unit, np.arange(size)), np.searchsorted(unit, np.arange(size), "right")
    half = (before[start] + before[end]) / 2
    slack = 1e-12 * before[-1]
    low = np.searchsorted(before[1:], half - slack)
    high = np.searchsorted(before[1:], half + slack, side="right")
    given = end > start
    low, high = low[given], np.minimum(high, end - 1)[given]
    result = np.full(size, np.nan)
    result[given] = (value[low] + value[high]) / 2
    return result


def _gold(
    data: PreferenceData,
    things: Things,
    scores: Floats,
    counted: _Tally,
    probability: Floats | None,
    keep: Bools,
) -> PreferenceData:
    """The judgments, without those that are not kept."""
    lengths = np.diff(things.start)
    first = pa.array(things.first)
    columns: dict[str, Any] = {}
    for name in _OF_PROMPT:
        if data.has(name):
            columns[name] = data.column(name).take(first)
    offsets = pa.array(things.start.astype(np.int32))
    places = np.repeat(data.offsets()[things.first] - things.start[:-1], lengths) + np.arange(len(scores))
    for name in schema.ALTERNATIVES:
        if data.has(name):
            columns[name] = pa.ListArray.from_arrays(offsets, data.flat(name).take(pa.array(places)))
    columns["scores"] = pa.ListArray.from_arrays(offsets, pa.array(scores))
    columns["tie"] = _ties(things, scores)
    if data.has("annotator_kind"):
        codes = data.codes("annotator_kind")[0]
        other = things.of_row[codes != codes[things.first][things.of_row]]
        mixed = np.bincount(other, minlength=len(lengths)) > 0
        columns["annotator_kind"] = data.column("annotator_kind").take(pa.array(things.first, mask=mixed))
    if data.has("weight"):
        columns["weight"] = np.bincount(things.of_row, data.weights) / np.bincount(things.of_row)
    columns["metadata"] = _metadata(data, things, counted, probability)
    return PreferenceData.from_columns(columns, source=data.source).mask(keep)


def _ties(things: Things, scores: Floats) -> list[str | None]:
    start = things.start[:-1]
    pair = np.flatnonzero(things.kind == PAIR)
    tied = pair[scores[start[pair]] == scores[start[pair] + 1]]
    causes = np.full(len(start), None, dtype=object)
    causes[tied] = np.where(scores[start[tied]] == 0, "both_bad", "equal")
    return list(causes)


def _metadata(data: PreferenceData, things: Things, counted: _Tally, probability: Floats | None) -> list[str]:
    """JSON of each thing: votes, agreement, whether contested, probability."""
    start, of_place = things.start[:-1], things.of_place
    row = np.repeat(np.arange(data.n_rows), np.diff(data.offsets()))
    judged = np.bincount(row[~np.isnan(data.scores)], minlength=data.n_rows) > 0
    votes = np.bincount(things.of_row[judged & things.counts], minlength=len(start))
    known = ~np.isnan(counted.share)
    number = np.bincount(of_place[known], minlength=len(start))
    total = np.bincount(of_place[known], counted.share[known], len(start))
    agreement = np.divide(total, number, out=np.full(len(start), np.nan), where=number > 0)
    contested = np.logical_or.reduceat(counted.contested, start)
    columns = [votes.tolist(), _json(agreement), np.where(contested, "true", "false").tolist()]
    template = '{{"n_votes": {}, "agreement": {}, "contested": {}'
    if probability is not None:
        least = np.fmin.reduceat(probability, start)
        columns.append(_json(least))
        template += ', "probability": {}'
    return list(map((template + "}}").format, *columns))


def _json(values: Floats) -> list[str]:
    return ["null" if value != value else repr(value) for value in values.tolist()]
