"""From judgments to ratings: who gave which item which score, in columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate.data.agreement import is_rating
from palate.data.codes import combine, first_places
from palate.data.table import PreferenceData
from palate.errors import DataError
from palate.rank.battles import encode
from palate.rank.connectivity import listed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LARGEST = 1e100
"""Ratings are no larger than this, so that sums of their squares stay finite."""


@dataclass(frozen=True)
class Ratings:
    """N ratings of M items. Arrays have shape (N,).

    Attributes:
        items: names of the items, each rated at least once.
        annotators: names of those who rated; empty if the data names none.
        item, annotator: codes; -1 for an annotator who is not named.
        stimulus: which prompt and item each rating is of.
        score, weight: the rating, and how much it counts.
        source: the file, for messages.
    """

    items: list[str]
    annotators: list[str]
    item: Ints
    annotator: Ints
    stimulus: Ints
    score: Floats
    weight: Floats
    source: str | Path | None = None

    def __len__(self) -> int:
        return len(self.score)

    def kept(self, keep: Bools) -> tuple[Ratings, list[str]]:
        """The ratings where `keep` is true, and the names of the items that lose all of theirs by it.

        Raises:
            DataError: fewer than two items keep any.
        """
        columns = {
            name: getattr(self, name)[keep] for name in ("item", "annotator", "stimulus", "score", "weight")
        }
        rated = np.bincount(columns["item"], minlength=len(self.items)) > 0
        if rated.sum() < 2:
            raise DataError(
                f"{int(rated.sum())} items keep a rating", field="scores", file=self.source,
                remedy="give ratings of two items or more, and check correction and screening",
            )  # fmt: skip
        columns["item"] = (np.cumsum(rated) - 1)[columns["item"]]
        names = [name for name, has in zip(self.items, rated, strict=True) if has]
        lost = [name for name, has in zip(self.items, rated, strict=True) if not has]
        return replace(self, items=names, **columns), lost


def read(data: PreferenceData, aspects: Literal["one", "mean"] = "one") -> tuple[Ratings, dict[str, Any]]:
    """The ratings of `data`, and what was not used of it.

    Args:
        data: judgments that rate items one by one (see `palate.data.agreement.is_rating`).
        aspects: "one" refuses several aspects; "mean" takes the mean of an annotator's ratings of an item for
            a prompt, over all aspects, as one rating.

    Raises:
        DataError: no ratings, a judgment that is none, several scales or aspects, fewer than two items, or
            all scores are equal.
    """
    codes, items = encode(data)
    _refuse(data, aspects)
    offsets, scores = data.offsets(), data.scores
    row = np.repeat(np.arange(data.n_rows), np.diff(offsets))
    weight = data.weights[row]
    used = ~np.isnan(scores) & (weight > 0)
    notes: dict[str, Any] = {
        "scores_not_given": int(np.isnan(scores).sum()),
        "scores_without_weight": int((weight == 0).sum()),
    }
    who, names = data.codes("annotator")
    if not used.any():
        raise DataError(
            "no score is given, or every weight is 0", field="scores", file=data.source,
            remedy="give ratings with positive weights",
        )  # fmt: skip
    huge = np.flatnonzero(used & (np.abs(scores) > LARGEST))
    if len(huge):
        raise DataError(
            f"the rating {scores[huge[0]]:g} is beyond {LARGEST:g}, whose square is no number",
            row=int(row[huge[0]]) + 1, field="scores", file=data.source, remedy="scale the ratings",
        )  # fmt: skip
    row = row[used]
    annotator, item = who[row].astype(np.int64), codes[used].astype(np.int64)
    stimulus = combine(data.prompt_codes()[row], item)[0]
    ratings = Ratings(items, names, item, annotator, stimulus, scores[used], weight[used], data.source)
    if aspects == "mean":
        aspect = data.codes("aspect")[0][row]
        ratings, notes["ratings_without_some_aspect"] = _over_aspects(ratings, aspect)
    if ratings.score.min() == ratings.score.max():
        raise DataError(
            f"every rating is {ratings.score[0]:g}, which tells no item from another", field="scores",
            file=data.source, remedy="give ratings that differ",
        )  # fmt: skip
    ratings, notes["items_without_ratings"] = ratings.kept(np.ones(len(ratings), dtype=bool))
    return ratings, notes


def _refuse(data: PreferenceData, aspects: str) -> None:
    compared = np.flatnonzero(~is_rating(data))
    if len(compared):
        more = f" (and {len(compared) - 1} more)" if len(compared) > 1 else ""
        raise DataError(
            f"a comparison, not a rating{more}", row=int(compared[0]) + 1, field="protocol",
            file=data.source,
            remedy="keep data.filter(protocol='rating'), or rank comparisons with 'bradley_terry'",
        )  # fmt: skip
    for field, what in (("scale", "scales"), ("aspect", "aspects")):
        if not data.has(field) or (field == "aspect" and aspects == "mean"):
            continue
        codes, names = data.codes(field)
        present = np.unique(codes)
        if len(present) > 1:
            shown = listed(["(none)" if code < 0 else names[code] for code in present], 8)
            example = names[int(present[-1])]
            mean = ", or set aspects='mean'" if field == "aspect" else ""
            raise DataError(
                f"ratings of several {what}: {shown}", row=int(np.flatnonzero(codes != codes[0])[0]) + 1,
                field=field, file=data.source,
                remedy=f"rank one at a time with data.filter({field}={example!r}){mean}",
            )  # fmt: skip


def _over_aspects(ratings: Ratings, aspect: npt.NDArray[np.int32]) -> tuple[Ratings, int]:
    """One rating per annotator and stimulus; and how many lack some aspect."""
    key, size = combine(ratings.annotator, ratings.stimulus)
    first = first_places(key, size)
    mass = np.bincount(key, ratings.weight)
    n_aspects = len(np.unique(aspect))
    pair, n_pairs = combine(key, aspect)
    given = np.bincount(key[first_places(pair, n_pairs)], minlength=size)
    merged = replace(
        ratings,
        item=ratings.item[first],
        annotator=ratings.annotator[first],
        stimulus=ratings.stimulus[first],
        score=np.bincount(key, ratings.weight * ratings.score) / mass,
        weight=mass / np.bincount(key),
    )
    return merged, int((given < n_aspects).sum())
