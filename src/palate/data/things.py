"""Which judgments are about the same thing, and what value each of them gives it.

A thing is a prompt, an aspect and a set of alternatives, judged in one way. What a judgment says about it is
a value: of two alternatives compared +1, 0 or -1 (the first wins, a tie, the second wins), of a choice the
place of the chosen, of ratings the rating of each alternative.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from palate.data.codes import combine, first_places, scramble
from palate.data.table import PreferenceData
from palate.errors import ConfigError, PalateWarning

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RATING, PAIR, CHOICE, LIST = 0, 1, 2, 3
"""Ways to judge: alternatives rated one by one, two compared, one chosen of more, more than two compared."""


@dataclass(frozen=True)
class Things:
    """G things judged, each with the alternatives ("places") of its first judgment.

    Attributes:
        of_row: thing of each judgment, shape (rows,).
        place: place of each alternative of each judgment, in `flat` order; a thing's places are consecutive.
        first: row of the first judgment of each thing, shape (G,).
        start: first place of each thing, shape (G + 1,).
        kind: RATING, PAIR, CHOICE or LIST, shape (G,).
        counts: whether a judgment is the annotator's last about its thing and has a weight, shape (rows,).
    """

    of_row: Ints
    place: Ints
    first: Ints
    start: Ints
    kind: Ints
    counts: Bools

    @property
    def n_places(self) -> int:
        return int(self.start[-1])

    @property
    def of_place(self) -> Ints:
        """The thing of each place."""
        return np.repeat(np.arange(len(self.first)), np.diff(self.start))

    @classmethod
    def of(cls, data: PreferenceData) -> Self:
        """The things of `data` in the order in which they first appear.

        Raises:
            ConfigError: there are no items, responses or media to tell alternatives apart.
        """
        from palate.data.agreement import is_rating

        offsets = data.offsets()
        lengths = np.diff(offsets)
        row = np.repeat(np.arange(data.n_rows), lengths)
        alternative = _alternatives(data, row)
        # Sums of well-mixed words are the same in whichever order the alternatives come.
        total = np.add.reduceat(scramble(alternative), offsets[:-1])
        content = np.unique(total, return_inverse=True)[1].astype(np.int64)
        rating = is_rating(data)
        meaning = [data.codes(name)[0] for name in ("aspect", "protocol", "scale")]
        of_row, size = combine(data.prompt_codes(), content, lengths, rating.astype(np.int64), *meaning)
        first = first_places(of_row, size)
        start = np.concatenate([[0], np.cumsum(lengths[first])])

        owner = of_row[row]
        cell, n_cells = combine(owner, alternative)
        # A place first occurs in the first judgment of its thing, which holds all of them.
        seen = first_places(cell, n_cells)
        place = (start[owner[seen]] + seen - offsets[first[owner[seen]]])[cell]
        choice, of_two = _is_choice(data), lengths == 2
        kind = np.where(rating, RATING, np.where(of_two, PAIR, np.where(choice, CHOICE, LIST)))
        counts = _last_of_annotator(data, of_row) & (data.weights > 0)
        return cls(of_row, place, first, start, kind[first], counts)


@dataclass(frozen=True)
class Values:
    """V values given. A unit is a place: of a rating its own, else the first of the thing.

    Attributes:
        unit, row, value, weight: place, judgment, value and weight of each, shape (V,).
        stratum: what the value means: which aspect and way of judging, shape (V,).
    """

    unit: Ints
    row: Ints
    value: Floats
    weight: Floats
    stratum: Ints

    @classmethod
    def of(cls, data: PreferenceData, things: Things) -> Self:
        """The values of all judgments that count; a LIST has none."""
        scores, offsets = data.scores, data.offsets()
        row = np.repeat(np.arange(data.n_rows), np.diff(offsets))
        kind = np.where(things.counts, things.kind[things.of_row], -1)
        rated = np.flatnonzero(kind[row] == RATING)
        twos = np.flatnonzero(kind == PAIR)
        left, right = offsets[twos], offsets[twos] + 1
        sign = np.sign(scores[left] - scores[right])
        sign = np.where(things.place[left] > things.place[right], -sign, sign)
        sign[(sign == 0) & _is_choice(data)[twos]] = np.nan  # a choice that chose nothing is no tie
        chosen = _chosen(row, scores, kind == CHOICE)
        start = things.start[things.of_row]
        unit = np.concatenate([things.place[rated], start[twos], start[row[chosen]]])
        judgment = np.concatenate([row[rated], twos, row[chosen]])
        value = np.concatenate([scores[rated], sign, things.place[chosen] - start[row[chosen]]])
        known = ~np.isnan(value)
        unit, judgment, value = unit[known], judgment[known], value[known]
        meaning = [data.codes(name)[0][judgment] for name in ("aspect", "protocol", "scale")]
        stratum = combine(kind[judgment], *meaning)[0]
        return cls(unit, judgment, value, data.weights[judgment], stratum)


def _alternatives(data: PreferenceData, row: Ints) -> Ints:
    """What each alternative is; equal ones within a judgment are told apart by their turn."""
    names = [name for name in ("items", "responses", "media") if data.has(name)]
    if not names:
        raise ConfigError(
            "aggregation needs items, responses or media to tell what was judged; the data has none"
        )
    code = combine(*(data.flat_codes(name)[0] for name in names))[0]
    key = row * (int(code.max(initial=0)) + 1) + code
    order = np.argsort(key, kind="stable")  # fast: rows are in order already
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.diff(key[order]) != 0
    if new.all():
        return code
    step = np.arange(len(order))
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = step - np.maximum.accumulate(np.where(new, step, 0))
    return combine(code, turn)[0]


def _is_choice(data: PreferenceData) -> Bools:
    codes, names = data.codes("protocol")
    if "choice" not in names:
        return np.zeros(data.n_rows, dtype=bool)
    return np.asarray(codes == names.index("choice"))


def _last_of_annotator(data: PreferenceData, of_row: Ints) -> Bools:
    codes, names = data.codes("annotator")
    rows = np.arange(data.n_rows)
    key, size = combine(of_row, np.where(codes >= 0, codes, len(names) + rows))
    last = np.zeros(size, dtype=np.int64)
    last[key] = rows
    if size < data.n_rows:
        warnings.warn(
            f"{data.n_rows - size} judgments repeat an annotator's earlier one of the same thing; "
            "the last counts",
            PalateWarning,
            stacklevel=4,
        )
    keep = np.zeros(data.n_rows, dtype=bool)
    keep[last] = True
    return keep


def _chosen(row: Ints, scores: Floats, is_choice: Bools) -> Ints:
    """Places, in `flat` order, of the single best alternative of each choice; equal bests choose nothing."""
    known = np.flatnonzero(is_choice[row] & ~np.isnan(scores))
    best = np.full(len(is_choice), -np.inf)
    np.maximum.at(best, row[known], scores[known])
    top = known[scores[known] == best[row[known]]]
    return np.asarray(top[np.bincount(row[top], minlength=len(best))[row[top]] == 1])
