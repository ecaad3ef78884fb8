"""OpinPref: preferences between two summaries of a product's reviews, with seven aspect scores of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data.formats import writing
from palate.data.formats.batch import Batch, list_array, pair_list
from palate.data.formats.registry import Format

FEATURES = (
    "aspect-coverage", "opinion-faithfulness", "opinion-coverage", "conciseness", "relevance",
    "hallucination", "language-correctness",
)  # fmt: skip
"""The seven aspects in order of the feature vectors (Nath et al., 2024); 5 for hallucination is none."""

LOWEST, HIGHEST = 0.0, 5.0
SIDES = ("summary-one", "summary-two")


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    return 0.95 if {"summary-pairs", "preference-data"} <= columns.keys() else 0.0


def read(batch: Batch) -> pa.Table:
    """One comparison per row: the reviews as prompt, two summaries, and their scores as `features`.

    `features` are in order of `FEATURES`, from 0 to 5. The number of each summary, of which the prompt it was
    generated from is a third, is `metadata.index_a` and `metadata.index_b`.
    """
    votes = batch.number("preference-data")
    _refuse(batch, ~votes.is_in([1.0, 2.0]), "preference-data", "{value} is neither 1 nor 2",
            "say which of the two summaries is preferred")  # fmt: skip
    sides = [_field(batch, batch.raw("summary-pairs"), side, "summary-pairs") for side in SIDES]
    texts = [_field(batch, side, "summary-text", "summary-pairs").cast(pl.String) for side in sides]
    for text in texts:
        _refuse(batch, text.is_null(), "summary-pairs", "a summary is missing", "give it or drop the row")
    vectors = np.stack([_scores(batch, side) for side in sides], axis=1)
    n = batch.height
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), len(FEATURES))
    first = (votes == 1.0).to_numpy()
    metadata = batch.metadata()
    for side, name in zip(sides, ("index_a", "index_b"), strict=True):
        if "index" in _names(side):
            number = side.struct.field("index").cast(pl.Float64, strict=False)
            _refuse(batch, number.is_null() | number.is_nan(), "summary-pairs", "an index is no number",
                    "give the summary's number, or leave index out")  # fmt: skip
            metadata = writing.add_number(metadata, name, number.to_numpy())
    reviews = batch.raw("reviews")
    prompt = reviews.list.join("\n\n") if isinstance(reviews.dtype, pl.List) else batch.text("reviews")
    columns = {
        "prompt": prompt,
        "responses": pair_list(*texts),
        "features": list_array(np.arange(0, 2 * n + 1, 2), flat.cast(pa.list_(pa.float32()))),
        "scores": list_array(
            np.arange(0, 2 * n + 1, 2), pa.array(np.stack([first, ~first], axis=1).astype(float).ravel())
        ),
    }
    if metadata is not None:
        columns["metadata"] = metadata
    return batch.table(columns, protocol="comparison", scale="ordinal", annotator_kind="human")


def _scores(batch: Batch, side: pl.Series) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The seven scores of one side, shape (rows, 7)."""
    scores = _field(batch, side, "summary-score", "summary-pairs")
    missing = [name for name in FEATURES if name not in _names(scores)]
    if missing:
        raise batch.context.error(
            f"the scores lack {', '.join(map(repr, missing))}",
            f"give all of: {', '.join(FEATURES)}", field="summary-score",
        )  # fmt: skip
    columns = []
    for name in FEATURES:
        values = scores.struct.field(name).cast(pl.Float64, strict=False)
        _refuse(batch, values.is_null() | values.is_nan(), "summary-pairs", f"the score {name!r} is missing",
                "give it or drop the row")  # fmt: skip
        outside = ~values.is_between(LOWEST, HIGHEST)
        _refuse(batch, outside, "summary-pairs", f"a score {name!r} outside {LOWEST:g} to {HIGHEST:g}",
                "correct the score")  # fmt: skip
        columns.append(values.to_numpy())
    return np.stack(columns, axis=1)


def _field(batch: Batch, values: pl.Series, name: str, where: str) -> pl.Series:
    if name not in _names(values):
        raise batch.context.error(f"has no {name!r}", f"give objects with {name!r}", field=where)
    return values.struct.field(name)


def _names(values: pl.Series) -> list[str]:
    return [part.name for part in values.dtype.fields] if isinstance(values.dtype, pl.Struct) else []


def _refuse(batch: Batch, bad: pl.Series, name: str, problem: str, remedy: str) -> None:
    """As `Batch.fail`, and says the pair's `unique-id`."""
    rows = bad.fill_null(True)
    if rows.any() and batch.has("id"):
        first = int(np.flatnonzero(rows.to_numpy())[0])
        problem = f"{problem} (unique-id {batch.text('id', null=True)[first]!r})"
    batch.fail(rows, name, problem, remedy)


FORMATS = (
    Format(
        "opinpref", "OpinPref: two summaries of reviews, seven scores of each, preference-data 1 or 2",
        {
            "reviews": ("reviews",), "summary-pairs": ("summary-pairs",),
            "preference-data": ("preference-data",),
        },
        detect, read, required=("reviews", "summary-pairs", "preference-data"),
        common={"id": ("unique-id",), "annotator": ("source",)},
    ),
)  # fmt: skip
