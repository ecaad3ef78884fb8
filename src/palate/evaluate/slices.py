"""Labels by which accuracy is broken down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import unknown

if TYPE_CHECKING:
    from palate.data import PreferenceData

DEFAULT = (
    "aspect",
    "annotator_kind",
    "protocol",
    "source",
    "subset",
    "dataset",
    "category",
    "n_responses",
    "length_difference",
)
"""Slices looked for when none are named; `source` to `category` are usual metadata keys of a prompt."""

_COMPUTED = ("n_responses", "length_difference")
_TEXTS = ("prompt_id", "prompt", "scale", "protocol", "tie", "annotator", "annotator_kind", "aspect")


def slice_labels(
    name: str, pairs: pl.DataFrame, data: PreferenceData, *, required: bool
) -> npt.NDArray[Any] | None:
    """The label of each pair, shape (n,), None where it has none; None for all if the data knows no such
    slice.

    Raises:
        ConfigError: `required`, and the data knows no such slice.
    """
    rows = pairs["judgment"].to_numpy()
    if name == "length_difference" and data.has("responses"):
        return _terciles(
            (pairs["chosen"].str.len_chars().cast(pl.Int64) - pairs["rejected"].str.len_chars()).to_numpy()
        )
    if name == "n_responses":
        return _objects(np.diff(data.offsets()).astype(str), rows)
    if name in _TEXTS and data.has(name):
        return _objects(data.values(name), rows)
    from_metadata = _metadata(name, data) if data.has("metadata") else None
    if from_metadata is not None:
        return _objects(from_metadata, rows)
    if required:
        known = [*_COMPUTED, *(column for column in _TEXTS if data.has(column)), *_metadata_keys(data)]
        raise unknown("slice", name, known)
    return None


def _objects(values: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    labels: npt.NDArray[Any] = np.asarray(values, dtype=object)[rows]
    return labels


def _metadata(key: str, data: PreferenceData) -> npt.NDArray[Any] | None:
    column = pl.Series(pl.from_arrow(data.column("metadata")), dtype=pl.String)
    escaped = key.replace("\\", "\\\\").replace("'", "\\'")
    values = column.str.json_path_match(f"$['{escaped}']")
    return None if values.null_count() == len(values) else values.to_numpy()


def _metadata_keys(data: PreferenceData) -> list[str]:
    if not data.has("metadata"):
        return []
    first = pl.Series(pl.from_arrow(data.column("metadata"))).drop_nulls().head(1)
    dtype = first.str.json_decode(infer_schema_length=1).dtype if len(first) else None
    return [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []


def _terciles(difference: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """By how many characters the chosen response is longer, in three parts of about equal size."""
    low, high = np.quantile(difference, [1 / 3, 2 / 3], method="inverted_cdf")
    names = [f"up to {low:,}", f"{low:,} to {high:,}", f"over {high:,}"]
    labels: npt.NDArray[Any] = np.array(names, dtype=object)[
        (difference > low).astype(int) + (difference > high)
    ]
    return labels
