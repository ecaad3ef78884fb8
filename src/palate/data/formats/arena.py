"""Arena battles: two models, one winner (FastChat and LMArena columns)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.formats import chat, writing
from palate.data.formats.batch import Batch, list_array, pair_list
from palate.data.formats.registry import Format

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

LABELS = {
    "model_a": 0, "a": 0, "model_b": 1, "b": 1, "tie": 2,
    "tie (bothbad)": 3, "tie (both bad)": 3, "both_bad": 3, "bothbad": 3, "both bad": 3,
}  # fmt: skip
SCORES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
TIES = pa.array(["equal", "both_bad"])
WINNERS = ["model_a", "model_b", "tie", "tie (bothbad)"]

FIELDS = {
    "model_a": ("model_a",), "model_b": ("model_b",), "winner": ("winner",), "strength": (),
    "prompt": ("prompt",), "response_a": ("response_a",), "response_b": ("response_b",),
    "conversation_a": ("conversation_a", "messages_a"), "conversation_b": ("conversation_b", "messages_b"),
}  # fmt: skip
COMMON = {
    "prompt_id": ("prompt_id", "question_id"),
    "annotator": ("annotator", "judge", "user", "annotator_id", "user_id", "judge_hash"),
    "time": ("tstamp", "time", "timestamp"),
}


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    if not {"model_a", "model_b"} <= columns.keys():
        return 0.0
    return 0.9 if columns.keys() & {"winner", "strength"} else 0.0


def read(batch: Batch) -> pa.Table:
    """Battles as comparisons of `items` (and of `responses`, where the rows hold texts or conversations)."""
    a, b = batch.text("model_a", empty=False), batch.text("model_b", empty=False)
    columns: dict[str, Any] = {"items": pair_list(a, b)}
    if batch.has("conversation_a", "conversation_b"):
        columns |= _conversations(batch)
    elif batch.has("response_a", "response_b"):
        columns["responses"] = pair_list(batch.text("response_a"), batch.text("response_b"))
    else:
        batch.fail(
            a == b, "model_b", "{value} is judged against itself", "drop the row, or give both responses"
        )
    if batch.has("prompt") and "prompt" not in columns:
        columns["prompt"] = batch.text("prompt", null=True)
    outcome = _strengths(batch, columns) if batch.has("strength") else _winners(batch)
    offsets = np.arange(0, 2 * batch.height + 1, 2)
    columns["scores"] = list_array(offsets, pa.array(SCORES[outcome].ravel()))
    if not batch.has("tie"):
        tied = outcome >= 2
        columns["tie"] = pa.DictionaryArray.from_arrays(
            pa.array(np.where(tied, outcome - 2, 0).astype(np.int32), mask=~tied), TIES
        )
    return batch.table(columns, protocol="comparison", scale="ordinal")


def _winners(batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]]:
    labels = batch.verdict("winner").str.to_lowercase()
    codes = labels.replace_strict(LABELS, default=None, return_dtype=pl.Int64)
    batch.fail(
        codes.is_null(), "winner", "unknown winner {value}",
        "use model_a, model_b, tie or both_bad, or name your labels with labels={...}",
    )  # fmt: skip
    return codes.to_numpy()


def _strengths(batch: Batch, columns: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    values = batch.number("strength").to_numpy()
    columns["metadata"] = writing.add_number(batch.metadata(), "strength", values)
    return np.where(values < 0, 0, np.where(values > 0, 1, 2))


def _conversations(batch: Batch) -> dict[str, Any]:
    a, b = chat.turns(batch, "conversation_a"), chat.turns(batch, "conversation_b")
    for name, side in (("conversation_a", a), ("conversation_b", b)):
        batch.fail(side.last("assistant") < 0, name, "has no assistant turn", "drop the row")
    prompt, left, right = chat.split_pair(a, b)
    return chat.prompt_columns(prompt) | chat.response_columns(left, right)


def write(data: PreferenceData) -> writing.Rows:
    """Battles: model_a, model_b, winner; with texts also prompt, response_a, response_b, or whole
    conversations."""
    pairs = (writing.lengths(data) == 2) & writing.given(data, "items")
    kept = pairs.copy()
    scores = data.mask(pairs).scores.reshape(-1, 2)
    outcome = np.full(len(scores), -1)
    for code, (x, y) in enumerate(SCORES):
        outcome[(scores[:, 0] == x) & (scores[:, 1] == y)] = code
    kept[pairs] = outcome >= 0
    data, outcome = data.mask(kept), outcome[outcome >= 0]
    columns: dict[str, Any] = {
        "model_a": writing.alternative(data, "items", 0),
        "model_b": writing.alternative(data, "items", 1),
        "winner": pa.array(WINNERS).take(pa.array(outcome)),
    }
    if data.has("responses") and writing.is_chat(data):
        prompt = writing.prompt_turns(data)
        for side, name in enumerate(("conversation_a", "conversation_b")):
            columns[name] = writing.joined(prompt, writing.response_turns(data, side)).to_arrow()
    elif data.has("responses"):
        columns["response_a"] = writing.alternative(data, "responses", 0)
        columns["response_b"] = writing.alternative(data, "responses", 1)
    if data.has("prompt") and "conversation_a" not in columns:
        columns["prompt"] = data.column("prompt")
    implied = pa.array(["", "", "equal", "both_bad"]).take(pa.array(outcome)).to_numpy(zero_copy_only=False)
    usual = (
        pc.fill_null(data.column("tie").cast(pa.string()), "").to_numpy(zero_copy_only=False) == implied
    ).all()
    columns |= writing.common(
        data, names={"annotator": "judge", "time": "tstamp"}, skip=("tie",) if usual else (),
        scale="ordinal", protocol="comparison",
    )  # fmt: skip
    if not usual and "tie" not in columns:
        columns["tie"] = pa.nulls(data.n_rows, pa.string())
    return writing.Rows(pa.table(columns), kept, "that are not a win, loss or tie of two items")


FORMATS = (
    Format(
        "arena", "arena battles: model_a, model_b, winner", FIELDS, detect, read,
        required=("model_a", "model_b"), common=COMMON, write=write,
    ),
)  # fmt: skip
