"""HelpSteer ratings on five aspects, and HelpSteer2/3 graded preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.data.formats import chat, writing
from palate.data.formats.batch import Batch, list_array, pair_list
from palate.data.formats.registry import Format
from palate.data.formats.transcripts import MARKS

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
    """One judgment per response, aspect and annotator, rated 0-4; consecutive rows with one prompt share
    `prompt_id`.

    A rating may be a list, one of each annotator (the folder `disagreements` of HelpSteer2); who they are is
    not told. Prompts of several turns, marked with ``<extra_id_1>User`` and ``<extra_id_1>Assistant`` lines,
    become `messages`.
    """
    prompt, response = batch.text("prompt"), batch.text("response")
    aspects = [name for name in ASPECTS if batch.has(name)]
    if not aspects:
        raise batch.context.error(
            f"none of the ratings {', '.join(ASPECTS)} is there", "use format='ratings'"
        )
    parts = [_ratings(batch, name) for name in aspects]
    given = np.zeros(batch.height, dtype=bool)
    for row, rating in parts:
        given[row[~np.isnan(rating)]] = True
    batch.fail(~given, aspects[0], "every rating is missing", "give a rating or drop the row")
    row = np.concatenate([row for row, _ in parts])
    aspect = np.repeat(np.arange(len(aspects)), [len(row) for row, _ in parts])
    order = np.argsort(row, kind="stable")
    rows, rating = row[order], np.concatenate([rating for _, rating in parts])[order]
    columns: dict[str, Any] = {
        **{name: column.take(pa.array(rows)) for name, column in _prompt(batch, prompt).items()},
        "responses": list_array(np.arange(len(rows) + 1), response.gather(rows).to_arrow()),
        "scores": list_array(np.arange(len(rows) + 1), pa.array(rating)),
        "aspect": pl.Series(aspects, dtype=pl.String).gather(aspect[order]),
    }
    if not batch.has("prompt_id"):
        columns["prompt_id"] = _runs(batch, prompt).gather(rows)
    return batch.table(columns, rows=rows, protocol="rating", scale="interval")


def _ratings(batch: Batch, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The row of each rating of an aspect, and the rating, NaN where it is missing."""
    raw = batch.raw(name)
    rows = np.arange(batch.height)
    if isinstance(raw.dtype, pl.List):
        rows = np.repeat(rows, raw.list.len().fill_null(1).clip(lower_bound=1).to_numpy())
        flat = raw.explode(empty_as_null=True)
        values = flat.cast(pl.Float64, strict=False)
        wrong = np.zeros(batch.height, dtype=bool)
        wrong[rows[(flat.is_not_null() & values.is_null()).to_numpy()]] = True
        batch.fail(wrong, name, "{value} holds what is not a number", "give numbers")
    else:
        values = batch.number(name, null=True, nan=True)
    rating = values.fill_null(np.nan).to_numpy()
    outside = np.zeros(batch.height, dtype=bool)
    outside[rows[(rating < 0) | (rating > 4)]] = True
    batch.fail(outside, name, "{value} is outside the scale 0 to 4", "give a rating from 0 to 4")
    return rows, rating


def _prompt(batch: Batch, prompt: pl.Series) -> dict[str, pa.Array]:
    """The prompt as text, and as messages where it has several turns."""
    if not prompt.str.contains("<extra_id_1>", literal=True).any():
        return {"prompt": prompt.to_arrow()}
    mark = next((mark for mark in MARKS if not prompt.str.contains(mark, literal=True).any()), None)
    if mark is None:
        raise batch.context.error("holds every control character used to split it", "remove them",
                                  field=batch.shown("prompt"))  # fmt: skip
    turns = pl.select("U" + prompt.str.replace(r"\n*<extra_id_1>Assistant\n?$", "")).to_series()
    for role in ("User", "Assistant"):
        turns = turns.str.replace_all(rf"\n*<extra_id_1>{role}\n", mark + role[0])
    lists = turns.str.split(mark)
    flat = lists.explode()
    user = flat.str.starts_with("U")
    roles = pl.select(pl.when(user).then(pl.lit("user")).otherwise(pl.lit("assistant"))).to_series()
    ends = np.cumsum(lists.list.len().to_numpy().astype(np.int64))
    starts = np.concatenate([[0], ends[:-1]])
    return chat.prompt_columns(chat.Turns(roles.to_arrow(), flat.str.slice(1).to_arrow(), starts, ends))


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
