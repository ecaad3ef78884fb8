"""What judgments tell a loss beside who won: how strongly, at which demanded gap, how surely, from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from palate.data import PreferenceData, metadata, schema
from palate.errors import ConfigError, DataError, unknown

if TYPE_CHECKING:
    from palate.training.groups import TrainingGroups

Floats = npt.NDArray[np.float64]

COLUMNS = {
    "strength": "how strongly the first is preferred, above 0; 0 leaves the pair out",
    "margin": "demanded gap of the scores, of either sign",
    "smoothing": "probability in [0, 1] that the label is wrong",
    "source": "where a judgment comes from, any value",
}
"""What `columns` of a reward model may name, and what it means; all but "source" are for groups of two."""


def told(
    groups: TrainingGroups, data: PreferenceData, columns: Mapping[str, str], aspects: Sequence[str] = ()
) -> TrainingGroups:
    """Groups with what the judgments say beside their scores, for `palate.losses.Loss.of`.

    Args:
        groups: from `pairs_of` or `lists_of`.
        data: the judgments they come from.
        columns: entry of `COLUMNS` -> a plain column of the data, or a key of its metadata; for "strength"
            also "scores", their difference.
        aspects: names that get the codes 0, 1, ...; empty for none.

    Raises:
        ConfigError: an unknown entry, or one that needs groups of two.
        DataError: a value is missing, no number or out of range; an aspect is unknown.
    """
    extra: dict[str, npt.NDArray[Any]] = dict(groups.extra)
    targets, keep = groups.targets, np.ones(len(groups), dtype=bool)
    sources = groups.source_names
    for name, source in columns.items():
        if name not in COLUMNS:
            raise unknown("entry of columns", name, COLUMNS)
        if name == "source":
            codes, sources = _codes(data, source)
            extra["source"] = codes[groups.judgment]
            continue
        if groups.targets.shape[1] != 2:
            raise ConfigError(f"{name} is told of pairs; learn from groups of two (groups='pairs')")
        if name == "strength":
            strength = _strength(groups, data, source)
            keep &= strength > 0
            targets = targets * strength[:, None]
        elif name == "margin":
            extra["offset"] = _numbers(data, source, name)[groups.judgment]
        else:
            wrong = _numbers(data, source, name)
            _refuse(~((wrong >= 0) & (wrong <= 1)), wrong, data, source, "a probability in [0, 1]")
            tied = groups.targets[:, 0] == groups.targets[:, 1]
            extra["soft"] = np.where(tied, 0.5, 1.0 - wrong[groups.judgment])
    if aspects:
        extra["aspect"] = aspect_codes(data, aspects)[groups.judgment]
    if not keep.any():
        raise DataError("every judgment that could teach something has strength 0", file=data.source,
                        field=columns["strength"], remedy="give strengths above 0")  # fmt: skip
    made = replace(groups, targets=targets, extra=extra, source_names=sources)
    return made if keep.all() else made.take(np.flatnonzero(keep))


def aspect_codes(data: PreferenceData, aspects: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place of each judgment's aspect among `aspects`, -1 for none or "overall"; shape (rows,).

    Raises:
        DataError: an aspect that is not among them.
    """
    codes, names = data.codes("aspect")
    place = {name: number for number, name in enumerate(aspects)} | {"overall": -1}
    for number, name in enumerate(names):
        if name not in place and (codes == number).any():
            row = int(data.row_numbers[codes == number][0])
            raise DataError(
                str(unknown("aspect", name, aspects)), row=row, field="aspect", file=data.source,
                remedy="name it among the head's aspects, or leave its judgments out",
            )  # fmt: skip
    return np.array([*(place.get(name, -1) for name in names), -1], dtype=np.int64)[codes]


def _strength(groups: TrainingGroups, data: PreferenceData, source: str) -> Floats:
    if source == "scores":
        scores = data.scores
        return np.abs(scores[groups.position[:, 0]] - scores[groups.position[:, 1]])
    strength = _numbers(data, source, "strength")
    _refuse(strength < 0, strength, data, source, "a strength of 0 or more (its sign is in the scores)")
    return strength[groups.judgment]


def _numbers(data: PreferenceData, source: str, name: str) -> Floats:
    values = _values(data, source)
    if values.dtype.kind not in "fiu":
        given = ((row, value) for row, value in enumerate(values) if isinstance(value, str))
        row, text = next(((row, value) for row, value in given if not _is_number(value)), (None, ""))
        raise DataError(
            f"{name} must be a number" + (f"; got {text[:40]!r}" if row is not None else ""),
            row=None if row is None else int(data.row_numbers[row]), field=source, file=data.source,
            remedy="give another column" if row is None else "correct it, or give another column",
        )  # fmt: skip
    numbers = values.astype(np.float64)
    _refuse(~np.isfinite(numbers), numbers, data, source, f"a finite number as {name}")
    return numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _codes(data: PreferenceData, source: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    values = _values(data, source)
    text = np.array(["" if value is None or value != value else str(value) for value in values])
    if (text == "").any():
        row = int(np.flatnonzero(text == "")[0])
        raise DataError("no source", row=int(data.row_numbers[row]), field=source, file=data.source,
                        remedy="give every judgment a source, or drop the row")  # fmt: skip
    names, codes = np.unique(text, return_inverse=True)
    return codes.astype(np.int64), tuple(names.tolist())


def _values(data: PreferenceData, source: str) -> npt.NDArray[Any]:
    if source in schema.COLUMNS and data.has(source):
        return data.values(source)
    return metadata.values(data, source)


def _refuse(bad: npt.NDArray[np.bool_], values: Floats, data: PreferenceData, field: str, want: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{values[row]:g} where the loss needs {want}", row=int(data.row_numbers[row]),
                        field=field, file=data.source, remedy="correct or drop the row")  # fmt: skip
