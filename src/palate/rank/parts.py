"""Some of the battles: those that are decided, of one aspect, between items that meet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from palate.rank.battles import Battles

Bools = npt.NDArray[np.bool_]


def part(rows: Battles, keep: Bools) -> Battles:
    """Some of the battles."""
    if keep.all():
        return rows
    weight = None if rows.weight is None else rows.weight[keep]
    return replace(
        rows, first=rows.first[keep], second=rows.second[keep], outcome=rows.outcome[keep], weight=weight,
        kept=rows.judgment[keep],
    )  # fmt: skip


def compact(rows: Battles) -> tuple[Battles, Bools]:
    """The battles with only those items that meet, and which these are."""
    present = np.zeros(len(rows.items), dtype=bool)
    present[rows.first] = present[rows.second] = True
    place = np.cumsum(present) - 1
    items = [item for item, there in zip(rows.items, present, strict=True) if there]
    return replace(rows, items=items, first=place[rows.first], second=place[rows.second]), present
