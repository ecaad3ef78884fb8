"""UltraFeedback: completions of several models, each rated on several aspects, in nested columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data.formats.batch import Batch, encode_json
from palate.data.formats.registry import Format

OVERALL = {"overall_score": "overall", "fine-grained_score": "fine-grained"}


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    kind = columns.get("completions")
    if "instruction" not in columns or not isinstance(kind, pl.List) or not isinstance(kind.inner, pl.Struct):
        return 0.0
    return 0.95 if {"response"} <= {part.name for part in kind.inner.fields} else 0.0


def read(batch: Batch) -> pa.Table:
    """One judgment per prompt and aspect over its k completions, and one for each of the two overall scores.

    Ratings are numbers as text; "N/A" is NaN. Rationales and critiques, one a completion, are in the metadata
    (`rationales`), as are the other columns and the completions' other fields. A prompt without
    completions cannot
    be judged and is an error.
    """
    prompts = batch.text("instruction")
    completions = batch.raw("completions")
    kind = completions.dtype
    if not isinstance(kind, pl.List) or not isinstance(kind.inner, pl.Struct):
        batch.fail(
            np.ones(batch.height, dtype=bool),
            "completions",
            "is not a list of objects",
            "give {model, response, ...}",
        )
    batch.fail(
        completions.is_null() | (completions.list.len() == 0),
        "completions",
        "has no completions",
        "drop the row",
    )
    counts = completions.list.len().to_numpy().astype(np.int64)
    row_of = np.repeat(np.arange(batch.height), counts)
    flat = completions.explode()
    parts = {part.name: part.dtype for part in kind.inner.fields}  # type: ignore[attr-defined]
    reader = _Reader(batch, counts, row_of)
    if "response" not in parts:
        batch.fail(counts > 0, "completions", "has no response", "give {model, response, ...}")
    responses = reader.texts(flat.struct.field("response"), "response")
    models = reader.texts(flat.struct.field("model"), "model") if "model" in parts else None
    known = {"model", "response", "annotations", "critique", *OVERALL}
    other = [name for name in parts if name not in known]
    rest = (
        reader.lists(encode_json(flat.struct.unnest().select(pl.struct(other)).to_series()))
        if other
        else None
    )
    judged: list[tuple[str, np.ndarray[Any, Any], pl.Series | None]] = []
    if isinstance(parts.get("annotations"), pl.Struct):
        annotations = flat.struct.field("annotations")
        for aspect in (part.name for part in annotations.dtype.fields):  # type: ignore[attr-defined]
            entry = annotations.struct.field(aspect)
            names = (
                {part.name for part in entry.dtype.fields} if isinstance(entry.dtype, pl.Struct) else set()
            )
            if "Rating" in names:
                words = (
                    entry.struct.unnest().select(pl.struct(sorted(names - {"Rating"}))).to_series()
                    if len(names) > 1
                    else None
                )
                judged.append((aspect, reader.ratings(entry.struct.field("Rating"), aspect), words))
    for name, aspect in OVERALL.items():
        if name in parts:
            words = (
                flat.struct.unnest().select(pl.struct("critique")).to_series()
                if "critique" in parts and aspect == "overall"
                else None
            )
            judged.append((aspect, reader.ratings(flat.struct.field(name), name), words))
    if not judged:
        raise batch.context.error(
            "has neither annotations nor an overall score", "use another format", field="completions"
        )
    return _assemble(batch, reader, prompts, responses, models, rest, judged)


class _Reader:
    """Checks of flattened completions that name the row they came from."""

    def __init__(self, batch: Batch, counts: np.ndarray[Any, Any], row_of: np.ndarray[Any, Any]) -> None:
        self.batch, self.counts, self.row_of = batch, counts, row_of
        self.offsets = np.concatenate([[0], np.cumsum(counts)])

    def fail(self, bad: pl.Series, problem: str, remedy: str) -> None:
        rows = np.zeros(self.batch.height, dtype=bool)
        rows[self.row_of[bad.fill_null(False).to_numpy()]] = True
        self.batch.fail(rows, "completions", problem, remedy)

    def texts(self, values: pl.Series, what: str) -> pl.Series:
        if values.dtype != pl.String:
            self.fail(values.is_not_null(), f"a {what} is not text", "give text")
            values = values.cast(pl.String)
        self.fail(values.is_null(), f"a {what} is missing", "give it or drop the row")
        return values

    def ratings(self, values: pl.Series, what: str) -> np.ndarray[Any, Any]:
        if isinstance(values.dtype, pl.List | pl.Struct):
            self.fail(values.is_not_null(), f"a rating of {what} is not a number", "give a number or N/A")
        if values.dtype.is_numeric():
            numbers = values.cast(pl.Float64)
        else:
            text = values.cast(pl.String).str.strip_chars()
            text = text.set(text.is_in(["N/A", "NA", "n/a", "None", ""]), None)
            numbers = text.cast(pl.Float64, strict=False)
            bad = text.is_not_null() & numbers.is_null()
            if bad.any():
                self.fail(
                    bad,
                    f"a rating of {what} is {text.filter(bad)[0]!r}, not a number",
                    "give a number or N/A",
                )
        self.fail(numbers.is_infinite(), f"a rating of {what} is infinite", "give a finite number or N/A")
        return numbers.fill_null(np.nan).to_numpy()

    def lists(self, texts: pl.Series) -> pl.Series:
        """JSON texts of each row's completions as one JSON list."""
        joined = pl.DataFrame({"row": self.row_of, "text": texts.fill_null("null")})
        grouped = joined.group_by("row", maintain_order=True).agg(pl.col("text").str.join(","))
        return pl.select(pl.format("[{}]", grouped["text"])).to_series()


def _assemble(
    batch: Batch, reader: _Reader, prompts: pl.Series, responses: pl.Series, models: pl.Series | None,
    rest: pl.Series | None, judged: list[tuple[str, np.ndarray[Any, Any], pl.Series | None]],
) -> pa.Table:  # fmt: skip
    n, aspects = batch.height, len(judged)
    rows = np.repeat(np.arange(n), aspects)
    counts = reader.counts[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    take = np.arange(offsets[-1]) + np.repeat(reader.offsets[rows] - offsets[:-1], counts)
    aspect_of = np.repeat(np.tile(np.arange(aspects), n), counts)
    scores = np.stack([values for _, values, _ in judged])[aspect_of, take]
    base = batch.metadata()
    texts = []
    for _, _, words in judged:
        fields = [] if words is None else [pl.lit('"rationales":'), reader.lists(encode_json(words))]
        if rest is not None:
            fields += [*([pl.lit(",")] if fields else []), pl.lit('"completions":'), rest]
        inner = base.str.strip_prefix("{").str.strip_suffix("}") if base is not None else None
        if inner is not None:
            fields += [*([pl.lit(",")] if fields else []), inner]
        texts.append(
            pl.select(pl.concat_str([pl.lit("{"), *fields, pl.lit("}")])).to_series() if fields else None
        )
    columns: dict[str, Any] = {
        "prompt": prompts.gather(rows),
        "responses": pa.ListArray.from_arrays(
            pa.array(offsets.astype(np.int32)), responses.to_arrow().take(pa.array(take))
        ),
        "scores": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(scores)),
        "aspect": pl.Series(
            np.tile(np.array([name for name, _, _ in judged], dtype=object), n), dtype=pl.String
        ),
    }
    if not batch.has("prompt_id"):
        columns["prompt_id"] = pl.Series(batch.first_row + rows + 1).cast(pl.String)
    if models is not None:
        columns["items"] = pa.ListArray.from_arrays(
            pa.array(offsets.astype(np.int32)), models.to_arrow().cast(pa.string()).take(pa.array(take))
        )
    if any(text is not None for text in texts):
        filled = [pl.Series([None] * n, dtype=pl.String) if text is None else text for text in texts]
        columns["metadata"] = pl.concat(filled).gather(np.tile(np.arange(aspects) * n, n) + rows)
    return batch.table(columns, rows=rows, protocol="rating", scale="ordinal", annotator_kind="model")


FORMATS = (
    Format(
        "ultrafeedback", "UltraFeedback: instruction, completions with ratings per aspect",
        {"instruction": ("instruction", "prompt"), "completions": ("completions",)},
        detect, read, required=("instruction", "completions"),
    ),
)  # fmt: skip
