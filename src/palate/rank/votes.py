"""Votes by annotator and pair: what the models with parameters of each annotator are fitted from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.battles import TIE, Battles

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """C cells of votes by one annotator on one pair. Arrays have shape (C,), cells are sorted by annotator.

    Attributes:
        items, annotators: the M and K names; codes are positions in these lists.
        annotator, first, second: codes.
        won, lost: weight of the votes for the first and for the second; a tie is half a vote for each.
        n: votes per annotator, shape (K,).
        features: of the presentation, signed for the first item, shape (F, C); F is 0 where there are none.
    """

    items: list[str]
    annotators: list[str]
    annotator: Ints
    first: Ints
    second: Ints
    won: Floats
    lost: Floats
    n: Ints
    features: Floats

    def per_item(self, values: Floats) -> Floats:
        """Sum a value of each cell, to the first item and with minus sign to the second; shape (M + 1,)."""
        size = len(self.items) + 1
        up = np.bincount(self.first, values, minlength=size)
        return np.asarray(up - np.bincount(self.second, values, minlength=size))

    def per_annotator(self, values: Floats) -> Floats:
        """Sum a value of each cell over the cells of each annotator; shape (..., K)."""
        return np.asarray(np.add.reduceat(values, self._starts, axis=-1))

    @cached_property
    def _starts(self) -> Ints:
        return np.asarray(np.searchsorted(self.annotator, np.arange(len(self.annotators))))


def annotator_codes(data: PreferenceData, rows: Battles) -> tuple[Ints, list[str]]:
    """The annotator of each battle, and their names.

    Raises:
        DataError: the data name no annotators, or not for every judgment that is compared.
    """
    if not data.has("annotator"):
        raise DataError(
            "the judgments name no annotators", field="annotator", file=data.source,
            remedy="say who judged in the column 'annotator', or use a method without annotators "
            "(bradley_terry)",
        )  # fmt: skip
    codes, names = data.codes("annotator")
    found = rows.of(codes).astype(np.int64)
    missing = np.flatnonzero(found < 0)
    if len(missing):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            "no annotator" + more, row=int(rows.judgment[missing[0]]) + 1, field="annotator",
            file=data.source, remedy="name the annotator of every judgment, or drop the row",
        )  # fmt: skip
    used, found = np.unique(found, return_inverse=True)
    return found, [names[code] for code in used]


def rows_of(data: Any, method: str) -> PreferenceData:
    """`data`, if it is judgments: battles and counts do not say who voted."""
    if not isinstance(data, PreferenceData):
        raise ConfigError(
            f"{method} needs to know who cast each vote, which battles and counts do not say; "
            "give the judgments themselves"
        )
    return data


def votes(
    data: PreferenceData, rows: Battles, *, ties: str, ordered: bool, features: Floats | None = None
) -> Votes:
    """Sum battles over equal annotator and pair.

    Args:
        data: the judgments.
        rows: their battles.
        ties: "half" counts a tie as half a vote for each side, "drop" leaves ties out.
        ordered: whether (i, j) and (j, i) are apart, as where it matters which was shown first.
        features: values of each battle, shape (F, N); then nothing is summed.
    """
    who, annotators = annotator_codes(data, rows)
    first, second = rows.first.astype(np.int64), rows.second.astype(np.int64)
    weight = rows.weights
    won = weight * np.array([1.0, 0.0, 0.5])[rows.outcome]
    lost = weight * np.array([0.0, 1.0, 0.5])[rows.outcome]
    if ties == "drop":
        keep = rows.outcome != TIE
        if not keep.any():
            raise DataError(
                "every comparison is a tie", file=data.source, remedy="count them with ties='half'"
            )
        used, who = np.unique(who[keep], return_inverse=True)
        annotators = [annotators[code] for code in used]
        first, second, won, lost = first[keep], second[keep], won[keep], lost[keep]
        features = None if features is None else features[:, keep]
    n = np.bincount(who, minlength=len(annotators))
    if not ordered:
        turn = first > second
        first, second = np.where(turn, second, first), np.where(turn, first, second)
        won, lost = np.where(turn, lost, won), np.where(turn, won, lost)
    size = len(rows.items)
    key = (who * size + first) * size + second
    order = np.argsort(key, kind="stable")
    if features is None:
        key = key[order]
        starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        at = order[starts]
        won, lost = np.add.reduceat(won[order], starts), np.add.reduceat(lost[order], starts)
        none = np.zeros((0, len(at)))
        return Votes(rows.items, annotators, who[at], first[at], second[at], won, lost, n, none)
    return Votes(
        rows.items, annotators, who[order], first[order], second[order], won[order], lost[order], n,
        np.ascontiguousarray(features[:, order]),
    )  # fmt: skip
