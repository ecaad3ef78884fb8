"""HelpSteer ratings on five aspects, and HelpSteer2/3 graded preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data.formats import chat, writing
from palate.data.formats.batch import Batch, list_array, pair_list
from palate.data.formats.registry import Format

ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
REASONS = ("preference_statement", "preference_elaboration", "justification")


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    return (
        0.95 if {"prompt", "response"} <= columns.keys() and len(set(ASPECTS) & columns.keys()) >= 3 else 0.0
    )


def detect_preference(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    two = {"response_1", "response_2"} <= columns.keys() or {"response1", "response2"} <= columns.keys()
    return 0.95 if two and columns.keys() & {"preference_strength", "overall_preference"} else 0.0


def read(batch: Batch) -> pa.Table:
    """One judgment per response and aspect, rated 0-4; consecutive rows with one prompt share `prompt_id`."""
    prompt, response = batch.text("prompt"), batch.text("response")
    aspects = [name for name in ASPECTS if batch.has(name)]
    if not aspects:
        raise batch.context.error(
            f"none of the ratings {', '.join(ASPECTS)} is there", "use format='ratings'"
        )
    ratings = []
    for name in aspects:
        values = batch.number(name, null=True, nan=True).fill_null(np.nan)
        batch.fail(
            values.is_not_nan() & ((values < 0) | (values > 4)), name, "{value} is outside the scale 0 to 4",
            "give a rating from 0 to 4",
        )  # fmt: skip
        ratings.append(values.to_numpy())
    table = np.stack(ratings, axis=1)
    batch.fail(
        np.isnan(table).all(axis=1), aspects[0], "every rating is missing", "give a rating or drop the row"
    )
    rows = np.repeat(np.arange(batch.height), len(aspects))
    columns: dict[str, Any] = {
        "prompt": prompt.gather(rows),
        "responses": list_array(np.arange(len(rows) + 1), response.gather(rows).to_arrow()),
        "scores": list_array(np.arange(len(rows) + 1), pa.array(table.ravel())),
        "aspect": pl.Series(aspects * batch.height, dtype=pl.String),
    }
    if not batch.has("prompt_id"):
        columns["prompt_id"] = _runs(batch, prompt).gather(rows)
    return batch.table(columns, rows=rows, protocol="rating", scale="interval")


def _runs(batch: Batch, prompt: pl.Series) -> pl.Series:
    """The number of the run of equal prompts each row is in, counted through the whole file."""
    state = batch.context.state
    last, count = state.get("last_prompt"), state.get("runs", 0)
    new = prompt.ne_missing(prompt.shift(1))
    start = new.to_numpy().copy()
    start[0] = last is None or prompt[0] != last
    runs = count + np.cumsum(start)
    state["last_prompt"], state["runs"] = prompt[-1], int(runs[-1])
    return pl.Series(runs).cast(pl.String)


def read_preference(batch: Batch) -> pa.Table:
    """Pairs with a strength from -3 (response 1 is much better) to 3 (response 2 is), 0 for a tie.

    Scores are [1, 0], [0, 1] or [1, 1]; the strength is `metadata.strength`, and statement, elaboration and
    justification make up the rationale.
    """
    strength = batch.number("strength")
    batch.fail(
        strength == -100,
        "strength",
        "{value} means that the annotator found both answers invalid",
        "drop the row",
    )
    batch.fail(
        (strength.abs() > 3) | (strength != strength.round()), "strength",
        "{value} is not a whole number from -3 to 3",
        "give the strength of preference, negative for response 1",
    )  # fmt: skip
    values = strength.to_numpy()
    code = np.where(values < 0, 0, np.where(values > 0, 1, 2))
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[code]
    columns: dict[str, Any] = {"responses": pair_list(batch.text("response_1"), batch.text("response_2"))}
    if isinstance(batch.raw("prompt").dtype, pl.List):
        columns |= chat.prompt_columns(chat.turns(batch, "prompt"))
    else:
        columns["prompt"] = batch.text("prompt", null=True)
    columns["scores"] = list_array(np.arange(0, 2 * batch.height + 1, 2), pa.array(scores.ravel()))
    columns["tie"] = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(batch.height, np.int32), mask=code != 2), pa.array(["equal"])
    )
    reasons = [batch.text(name, null=True) for name in REASONS if batch.has(name)]
    if reasons and not batch.has("rationale"):
        joined = pl.select(pl.concat_str(reasons, separator="\n\n", ignore_nulls=True)).to_series()
        columns["rationale"] = joined.set(joined == "", None)
    columns["metadata"] = writing.add_number(batch.metadata(), "strength", values)
    return batch.table(columns, protocol="comparison", scale="ordinal")


FORMATS = (
    Format(
        "helpsteer", "HelpSteer and HelpSteer2 ratings: prompt, response, helpfulness ... verbosity",
        {"prompt": ("prompt",), "response": ("response",), **{name: (name,) for name in ASPECTS}},
        detect, read, required=("prompt", "response"),
    ),
    Format(
        "helpsteer-preference",
        "HelpSteer2-Preference and HelpSteer3: two responses and a strength from -3 to 3",
        {
            "prompt": ("prompt", "context"), "response_1": ("response_1", "response1"),
            "response_2": ("response_2", "response2"),
            "strength": ("preference_strength", "overall_preference"),
            **{name: (name,) for name in REASONS},
        },
        detect_preference, read_preference, required=("prompt", "response_1", "response_2", "strength"),
    ),
)  # fmt: skip
