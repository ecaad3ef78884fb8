"""Judgments of k alternatives as judgments of two, which pairwise formats and methods take."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema
from palate.data.table import PreferenceData
from palate.data.views import pair_index


def as_pairs(
    data: PreferenceData,
    strategy: Literal["all", "best_worst", "best_random", "adjacent"] = "best_worst",
    *,
    ties: Literal["drop", "keep"] = "drop",
    min_margin: float = 0.0,
    seed: int = 0,
) -> PreferenceData:
    """Each pair of `PreferenceData.pairs` as a judgment of its own, better alternative first.

    Args:
        data: judgments of any k.
        strategy, ties, min_margin, seed: which pairs; see `palate.data.views.pairs`.

    Returns:
        Judgments of two alternatives with their scores and all columns of the judgment they come from. An id
        becomes ``ID:i-j`` with the places of both alternatives; a cause of a tie stays on ties only.
    """
    index = pair_index(data, strategy, ties=ties, min_margin=min_margin, seed=seed)
    rows = pa.array(index.judgment)
    start = data.offsets()[index.judgment]
    places = np.stack([start + index.chosen, start + index.rejected], axis=1).ravel()
    columns: dict[str, Any] = {}
    for name in data.table.column_names:
        if name == "scores" or name in schema.ALTERNATIVES:
            columns[name] = _twos(data.flat(name), places)
        else:
            columns[name] = data.column(name).take(rows)
    if "id" in columns:
        numbers = [pc.cast(pa.array(part), pa.string()) for part in (index.chosen, index.rejected)]
        pair = pc.binary_join_element_wise(*numbers, "-")
        columns["id"] = pc.binary_join_element_wise(columns["id"], pair, ":")
    if "tie" in columns:
        columns["tie"] = pc.if_else(pa.array(index.tie), columns["tie"], pa.scalar(None, columns["tie"].type))
    return PreferenceData.from_columns(columns, source=data.source)


def _twos(flat: pa.Array, places: npt.NDArray[np.int64]) -> pa.ListArray:
    offsets = pa.array(np.arange(0, len(places) + 1, 2), pa.int32())
    return pa.ListArray.from_arrays(offsets, flat.take(pa.array(places)))
