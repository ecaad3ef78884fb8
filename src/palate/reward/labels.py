"""Labels, soft labels and comparisons of a classification set, checked at the door."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.label_preferences import LabelPreferences
from palate.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def checked_labels(y: npt.ArrayLike, n: int) -> npt.NDArray[Any]:
    """The labels of n inputs, shape (n,).

    Raises:
        DataError: there are not n, one is missing, or they are of several kinds.
    """
    labels = np.asarray(y)
    if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)  # pandas gives texts as objects
    if labels.shape != (n,):
        raise DataError(f"labels of shape {labels.shape} for {n} inputs", field="y", remedy=f"give {n}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int(np.flatnonzero(~np.isfinite(labels))[0])
        raise DataError("a label is missing", row=row + 1, field="y", remedy="drop the input")
    if labels.dtype == object:
        raise DataError("labels of several kinds", field="y", remedy="give all numbers or all texts")
    return labels


def checked_shares(soft_labels: npt.ArrayLike, n: int, classes: int) -> Floats:
    """The soft labels of n inputs, shape (n, classes).

    Raises:
        DataError: another shape, or numbers that are no shares.
    """
    shares = np.asarray(soft_labels, dtype=np.float64)
    if shares.shape != (n, classes):
        raise DataError(
            f"soft labels of shape {shares.shape} for {n} inputs of {classes} classes", field="soft_labels",
            remedy="give a share per class; name classes without inputs in `classes`",
        )  # fmt: skip
    bad = ~((shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) < 1e-6))
    if bad.any():
        raise DataError(
            "soft labels that are no shares", row=int(np.flatnonzero(bad)[0]) + 1, field="soft_labels",
            remedy="give numbers of 0 or more that add up to 1, such as vote_shares(votes)",
        )  # fmt: skip
    return shares


def checked_preferences(
    preferences: LabelPreferences | npt.ArrayLike | None, labels: npt.NDArray[Any]
) -> LabelPreferences | None:
    """Comparisons of inputs with these labels, from themselves or from rows (first, second, code).

    Raises:
        DataError: another shape, a code or a place that is not there, or inputs with different labels.
    """
    if preferences is None:
        return None
    if not isinstance(preferences, LabelPreferences):
        rows = np.asarray(preferences)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise DataError(f"preferences of shape {rows.shape}", field="preferences",
                            remedy="give rows (first, second, code)")  # fmt: skip
        preferences = LabelPreferences(rows[:, :2], rows[:, 2])
    preferences.check(labels)
    return preferences


def class_codes(labels: npt.NDArray[Any], classes: npt.NDArray[Any], field: str = "y") -> Ints:
    """Place of each label, shape (n,), among the classes.

    Raises:
        DataError: a label that is no class.
    """
    if (labels.dtype.kind in "US") != (classes.dtype.kind in "US"):
        raise DataError(
            f"labels like {labels[:1].tolist()} where classes are like {classes[:1].tolist()}", field=field,
            remedy="give both as numbers or both as texts",
        )  # fmt: skip
    order = np.argsort(classes)
    place = np.searchsorted(classes, labels, sorter=order).clip(max=len(order) - 1)
    code = order[place]
    wrong = classes[code] != labels
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"the class {labels[row]!s} is unknown", row=row + 1, field=field,
            remedy=f"known: {', '.join(str(name) for name in classes.tolist()[:20])}",
        )  # fmt: skip
    return np.asarray(code, dtype=np.int64)
