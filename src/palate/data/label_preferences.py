"""Which of two inputs of one class is more of it, and how votes on labels say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SECOND, FIRST, NONE = 0, 1, 2
"""Codes of a preference: the second input is more of the class, the first is, neither is."""


@dataclass(frozen=True)
class LabelPreferences:
    """Comparisons of inputs that have the same label.

    Attributes:
        pairs: shape (m, 2), places of both inputs in the classification set.
        preference: shape (m,), 1 if the first is more of their class, 0 if the second is, 2 if neither.
    """

    pairs: Ints
    preference: Ints

    def __post_init__(self) -> None:
        """Check what can be checked without the classification set.

        Raises:
            DataError: shapes do not fit, an input is compared with itself, or a code is not 0, 1 or 2.
        """
        pairs, codes = np.asarray(self.pairs), np.asarray(self.preference)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or codes.shape != pairs.shape[:1]:
            raise DataError(
                f"pairs of shape {pairs.shape} with preferences of shape {codes.shape}", field="pairs",
                remedy="give (m, 2) places and m preferences",
            )  # fmt: skip
        if not np.issubdtype(pairs.dtype, np.integer) and len(pairs):
            raise DataError("places of inputs that are no whole numbers", field="pairs")
        wrong = ~np.isin(codes, (SECOND, FIRST, NONE))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(f"a preference of {codes[row]}", row=row + 1, field="preference",
                            remedy="give 1 (first), 0 (second) or 2 (neither)")  # fmt: skip
        same = pairs[:, 0] == pairs[:, 1]
        if same.any():
            row = int(np.flatnonzero(same)[0])
            raise DataError(f"input {pairs[row, 0]} is compared with itself", row=row + 1, field="pairs",
                            remedy="drop the pair")  # fmt: skip
        object.__setattr__(self, "pairs", pairs.astype(np.int64))
        object.__setattr__(self, "preference", codes.astype(np.int64))

    def __len__(self) -> int:
        return len(self.preference)

    def check(self, labels: npt.ArrayLike) -> None:
        """Hold the pairs against the labels of the classification set, shape (n,).

        Raises:
            DataError: a place is not in the set, or the two inputs of a pair have different labels.
        """
        given = np.asarray(labels)
        outside = ((self.pairs < 0) | (self.pairs >= len(given))).any(axis=1)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"inputs {self.pairs[row, 0]} and {self.pairs[row, 1]} of a set of {len(given)}",
                row=row + 1, field="pairs", remedy=f"give places from 0 to {len(given) - 1}",
            )  # fmt: skip
        first, second = self.pairs.T
        crossing = given[first] != given[second]
        if crossing.any():
            row = int(np.flatnonzero(crossing)[0])
            a, b = int(first[row]), int(second[row])
            raise DataError(
                f"inputs {a} and {b} have different labels, {given[a]} and {given[b]} "
                f"({int(crossing.sum())} of {len(self)} pairs do)",
                row=row + 1, field="pairs", remedy="compare inputs of the same class",
            )  # fmt: skip

    def judgments(
        self, texts: Sequence[str], labels: npt.ArrayLike, *, annotator: str = "record"
    ) -> PreferenceData:
        """The comparisons as judgments: the prompt is the class, the responses are the two inputs.

        Args:
            texts: the inputs of the classification set, n of them.
            labels: shape (n,).
            annotator: who compared.

        Raises:
            DataError: as `check`.
        """
        self.check(labels)
        names = np.asarray(labels)[self.pairs[:, 0]].astype(str)
        scores = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])[self.preference]
        columns = {
            "prompt": names.tolist(),
            "responses": [[texts[a], texts[b]] for a, b in self.pairs],
            "scores": scores.tolist(),
            "annotator": [annotator] * len(self),
        }
        return PreferenceData.from_columns(columns)


def vote_shares(votes: npt.ArrayLike) -> Floats:
    """Share of the votes that each class has, shape (n, classes), from counts of that shape.

    A vote for two classes at once counts half for each.

    Raises:
        DataError: a count that is negative or not finite, or an input without votes.

    >>> vote_shares([[4, 1], [2.5, 2.5]])
    array([[0.8, 0.2],
           [0.5, 0.5]])
    """
    counts = np.asarray(votes, dtype=np.float64)
    if counts.ndim != 2:
        raise DataError(f"votes of shape {counts.shape}", field="votes", remedy="give (inputs, classes)")
    bad = ~(np.isfinite(counts) & (counts >= 0)).all(axis=1)
    if bad.any():
        raise DataError(
            "a count of votes that is negative or not finite", row=int(np.flatnonzero(bad)[0]) + 1,
            field="votes", remedy="give how many annotators chose each class, 0 for none",
        )  # fmt: skip
    total = counts.sum(axis=1, keepdims=True)
    if (total == 0).any():
        raise DataError(
            f"an input nobody voted on ({int((total == 0).sum())} of {len(counts)})",
            row=int(np.flatnonzero(total == 0)[0]) + 1, field="votes", remedy="drop it",
        )  # fmt: skip
    return np.asarray(counts / total)


def preferences_from_votes(
    votes: npt.ArrayLike,
    labels: npt.ArrayLike,
    tie: Literal["none", "drop"] = "none",
    *,
    partners: int | None = None,
    seed: int = 0,
) -> LabelPreferences:
    """Of two inputs of one class, the one with the larger share of votes for it is more of it
    (Kim et al., 2023).

    Args:
        votes: shape (n, classes), how many annotators chose each class.
        labels: shape (n,), the column of each input's class.
        tie: what equal shares are: a preference for "none" of the two, or "drop".
        partners: how many random partners of each input are compared; None compares all pairs of a class.
        seed: of the partners.

    Raises:
        DataError: as `vote_shares`, or a label that is no column of the votes.
        ConfigError: an unknown `tie`, or `partners` below 1.

    >>> preferences_from_votes([[5, 0], [3, 2], [3, 2]], [0, 0, 0]).preference
    array([1, 1, 2])
    """
    if tie not in ("none", "drop"):
        raise ConfigError(f"tie must be 'none' or 'drop'; got {tie!r}")
    shares, label = vote_shares(votes), np.asarray(labels)
    if label.shape != shares.shape[:1]:
        raise DataError(f"{len(shares)} rows of votes for labels of shape {label.shape}", field="labels")
    wrong = ~np.isin(label, np.arange(shares.shape[1]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"the label {label[row]} is no column of votes for {shares.shape[1]} classes", row=row + 1,
            field="labels", remedy=f"give numbers from 0 to {shares.shape[1] - 1}",
        )  # fmt: skip
    label = label.astype(np.int64)
    pairs = _all_pairs(label) if partners is None else random_partners(label, partners, seed)
    preference = compared(shares[np.arange(len(label)), label], pairs)
    kept = preference != NONE if tie == "drop" else np.ones(len(pairs), dtype=bool)
    return LabelPreferences(pairs[kept], preference[kept])


def compared(share: Floats, pairs: Ints) -> Ints:
    """Codes of pairs (m, 2) by the share (n,) of votes for their class: 1, 0, or 2 for equal shares."""
    first, second = share[pairs[:, 0]], share[pairs[:, 1]]
    return np.where(first == second, NONE, np.where(first > second, FIRST, SECOND)).astype(np.int64)


def random_partners(label: npt.NDArray[np.generic], partners: int, seed: int | np.random.Generator) -> Ints:
    """Pairs (m, 2) of each input with `partners` others of its label, drawn with replacement, in order of the
    first; inputs alone in their class have none.

    Raises:
        ConfigError: `partners` below 1.
    """
    if partners < 1:
        raise ConfigError(f"partners must be 1 or more; got {partners}")
    rng = generator(seed, "partners of one label")
    _, code, count = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(code, kind="stable")
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = np.empty(len(code), dtype=np.int64)
    place[order] = np.arange(len(code))
    first = np.repeat(np.flatnonzero(count[code] > 1), partners)
    own = place[first] - start[code[first]]
    other = rng.integers(0, count[code[first]] - 1) if len(first) else own
    other = other + (other >= own)
    return np.stack([first, order[start[code[first]] + other]], axis=1).astype(np.int64)


def _all_pairs(label: Ints) -> Ints:
    """All pairs i < j of one label."""
    parts = [np.empty((0, 2), dtype=np.int64)]
    for code in np.unique(label):
        rows = np.flatnonzero(label == code)
        i, j = np.triu_indices(len(rows), 1)
        parts.append(np.stack([rows[i], rows[j]], axis=1))
    return np.concatenate(parts)
