"""Chosen and rejected answers: TRL / Hugging Face pairs, KTO's unpaired labels, RewardBench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.formats import chat, prefixes, writing
from palate.data.formats.batch import Batch, list_array, pair_list
from palate.data.formats.registry import Format

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

TRL = {
    "prompt": ("prompt",), "chosen": ("chosen",), "rejected": ("rejected",),
    "score_chosen": ("score_chosen", "chosen_score", "chosen_rating"),
    "score_rejected": ("score_rejected", "rejected_score", "rejected_rating"),
    "margin": ("margin",),
    "chosen_model": ("chosen_model",), "rejected_model": ("rejected_model",),
    "chosen_index": ("chosen_index",),
}  # fmt: skip
KTO = {"prompt": ("prompt",), "completion": ("completion",), "label": ("label",), "model": ("model",)}
LABELS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


def detect_trl(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    return 0.8 if {"chosen", "rejected"} <= columns.keys() else 0.0


def detect_kto(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    return 0.9 if {"prompt", "completion", "label"} <= columns.keys() else 0.0


def detect_reward_bench(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    wanted = {"prompt", "chosen", "rejected", "chosen_model", "rejected_model", "subset"}
    return 0.95 if wanted <= columns.keys() else 0.0


def read_trl(batch: Batch) -> pa.Table:
    """Pairs, chosen first (`chosen_index` says where it was shown, if it is known).

    Without a prompt column the prompt is what chosen and rejected share: whole turns of conversations; of
    texts the
    common beginning up to the last white space. `score_chosen` and `score_rejected` become the scores; a
    `margin`
    alone becomes the scores [margin, 0], so that the difference of scores is the margin.
    """
    columns = _conversations(batch) if _is_chat(batch, "chosen") else _texts(batch)
    scores, defaults = _scores(batch)
    if batch.has("chosen_model", "rejected_model"):
        columns["items"] = pair_list(batch.text("chosen_model"), batch.text("rejected_model"))
    if batch.has("chosen_index"):
        index = batch.number("chosen_index", null=True).fill_null(0.0)
        batch.fail(~index.is_in([0.0, 1.0]), "chosen_index", "{value} is neither 0 nor 1", "give 0 or 1")
        swapped = index.to_numpy() == 1.0
        flip = pa.array(
            (np.arange(2 * batch.height).reshape(-1, 2) ^ swapped[:, None].astype(np.int64)).ravel()
        )
        scores = scores.ravel()[flip.to_numpy()].reshape(-1, 2)
        for name in columns.keys() & {"responses", "response_messages", "items"}:
            columns[name] = _flip(columns[name], flip)
    columns["scores"] = list_array(np.arange(0, 2 * batch.height + 1, 2), pa.array(scores.ravel()))
    return batch.table(columns, protocol=defaults["protocol"], scale=defaults["scale"])


def _flip(column: pl.Series | pa.Array, flip: pa.Array) -> pa.Array:
    array = column.to_arrow() if isinstance(column, pl.Series) else column
    if array.null_count == 0:
        offsets = np.arange(0, len(flip) + 1, 2)
        return list_array(offsets, array.flatten().take(flip))
    valid = array.is_valid()
    firsts, seconds = (
        pc.list_element(pc.if_else(valid, array, pa.scalar([None, None], array.type)), i) for i in (0, 1)
    )
    both = pa.concat_arrays([firsts, seconds])
    n = len(array)
    order = flip.to_numpy()
    taken = both.take(pa.array(order // 2 + (order % 2) * n))
    return pc.if_else(
        valid, list_array(np.arange(0, 2 * n + 1, 2), taken), pa.scalar(None, pa.list_(taken.type))
    )


def _is_chat(batch: Batch, name: str) -> bool:
    kind = batch.raw(name).dtype
    if isinstance(kind, pl.List | pl.Struct):
        return True
    if kind != pl.String:
        return False
    texts = batch.raw(name).drop_nulls().head(20).str.strip_chars_start()
    return bool(len(texts)) and bool(texts.str.contains(r'^\[\s*\{\s*"(role|content)"').all())


def _conversations(batch: Batch) -> dict[str, Any]:
    chosen, rejected = chat.turns(batch, "chosen"), chat.turns(batch, "rejected")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        batch.fail(
            side.counts == 0,
            name,
            "has no turns",
            'give a list such as [{"role": "assistant", "content": ""}]',
        )
    if not batch.has("prompt"):
        prompt, chosen, rejected = chat.split_pair(chosen, rejected)
        return chat.prompt_columns(prompt) | chat.response_columns(chosen, rejected)
    if _is_chat(batch, "prompt"):
        columns: dict[str, Any] = chat.prompt_columns(chat.turns(batch, "prompt"))
        return columns | chat.response_columns(chosen, rejected)
    # Binarised sets give the prompt as text and again as the first turn of both conversations.
    first = chosen.role_at(np.zeros(batch.height, np.int64), "user")
    if not first.any():
        return {"prompt": batch.text("prompt", null=True)} | chat.response_columns(chosen, rejected)
    prompt, chosen, rejected = chat.split_pair(chosen, rejected)
    return chat.prompt_columns(prompt) | chat.response_columns(chosen, rejected)


def _texts(batch: Batch) -> dict[str, Any]:
    chosen, rejected = batch.text("chosen"), batch.text("rejected")
    if batch.has("prompt"):
        prompt = batch.raw("prompt")
        if isinstance(prompt.dtype, pl.List):
            return chat.prompt_columns(chat.turns(batch, "prompt")) | {
                "responses": pair_list(chosen, rejected)
            }
        return {"prompt": batch.text("prompt", null=True), "responses": pair_list(chosen, rejected)}
    batch.fail(
        chosen == rejected, "rejected", "equals chosen, so the prompt cannot be told from the answer",
        "drop the row, or give a prompt column",
    )  # fmt: skip
    prompt, chosen, rejected = prefixes.split(chosen, rejected)
    return {"prompt": prompt, "responses": pair_list(chosen, rejected)}


def _scores(batch: Batch) -> tuple[np.ndarray[Any, np.dtype[np.float64]], dict[str, str]]:
    if batch.has("score_chosen", "score_rejected"):
        pair = [
            batch.number(name, null=True, nan=True).fill_null(np.nan)
            for name in ("score_chosen", "score_rejected")
        ]
        batch.fail(
            pair[0] < pair[1], "score_chosen", "{value} is below the score of the rejected answer",
            "swap the answers, or leave the score columns out with ignore=[...]",
        )  # fmt: skip
        return np.stack([s.to_numpy() for s in pair], axis=1), {"protocol": "rating", "scale": "interval"}
    if batch.has("margin"):
        margin = batch.number("margin")
        batch.fail(
            margin <= 0, "margin", "{value} is not above 0", "give by how much the chosen answer is better"
        )
        return np.stack([margin.to_numpy(), np.zeros(batch.height)], axis=1), {
            "protocol": "comparison", "scale": "interval",
        }  # fmt: skip
    return np.tile([1.0, 0.0], (batch.height, 1)), {"protocol": "comparison", "scale": "ordinal"}


def write_trl(data: PreferenceData, *, conversational: bool = False) -> writing.Rows:
    """Rows of prompt, chosen, rejected; lists of messages where `conversational` or a prompt or response
    needs it."""
    pairs = (writing.lengths(data) == 2) & writing.given(data, "responses")
    scores = data.mask(pairs).scores.reshape(-1, 2)
    decided = (scores[:, 0] > scores[:, 1]) | (scores[:, 0] < scores[:, 1])
    kept = pairs.copy()
    kept[pairs] = decided
    data, scores = data.mask(kept), scores[decided]
    chosen = (scores[:, 1] > scores[:, 0]).astype(np.int64)
    sides = {"chosen": chosen, "rejected": 1 - chosen}
    columns: dict[str, Any] = {}
    if conversational or writing.is_chat(data):
        columns["prompt"] = writing.prompt_turns(data).to_arrow()
        columns |= {name: writing.response_turns(data, index).to_arrow() for name, index in sides.items()}
    else:
        columns["prompt"] = data.column("prompt")
        columns |= {name: writing.alternative(data, "responses", index) for name, index in sides.items()}
    if chosen.any():
        columns["chosen_index"] = pa.array(chosen)
    if data.has("items"):
        columns |= {
            f"{name}_model": writing.alternative(data, "items", index) for name, index in sides.items()
        }
    high, low = scores.max(axis=1, initial=-np.inf), scores.min(axis=1, initial=np.inf)
    defaults = {"protocol": "comparison", "scale": "ordinal"}
    if not ((high == 1) & (low == 0)).all():
        if (low == 0).all():
            columns["margin"] = pa.array(high)
            defaults = {"protocol": "comparison", "scale": "interval"}
        else:
            columns |= {"score_chosen": pa.array(high), "score_rejected": pa.array(low)}
            defaults = {"protocol": "rating", "scale": "interval"}
    columns |= writing.common(data, protocol=defaults["protocol"], scale=defaults["scale"])
    return writing.Rows(pa.table(columns), kept, "without a better of two responses")


def read_kto(batch: Batch) -> pa.Table:
    """Answers with a label: one response a row, scores [1] for a good one and [0] for a bad one."""
    columns: dict[str, Any] = {}
    if _is_chat(batch, "prompt"):
        columns |= chat.prompt_columns(chat.turns(batch, "prompt"))
    else:
        columns["prompt"] = batch.text("prompt", null=True)
    if _is_chat(batch, "completion"):
        columns |= chat.response_columns(chat.turns(batch, "completion"))
    else:
        columns["responses"] = list_array(np.arange(batch.height + 1), batch.text("completion").to_arrow())
    labels = batch.verdict("label").str.to_lowercase()
    values = labels.replace_strict(LABELS, default=None, return_dtype=pl.Float64)
    batch.fail(
        values.is_null(),
        "label",
        "unknown label {value}",
        "use true or false, or name yours with labels={...}",
    )
    columns["scores"] = list_array(np.arange(batch.height + 1), values.to_arrow())
    if batch.has("model"):
        columns["items"] = list_array(np.arange(batch.height + 1), batch.text("model").to_arrow())
    return batch.table(columns, protocol="rating", scale="ordinal")


def write_kto(data: PreferenceData, *, conversational: bool = False) -> writing.Rows:
    """Rows of prompt, completion, label (a boolean), from judgments of one response with score 1 or 0."""
    kept = (writing.lengths(data) == 1) & writing.given(data, "responses")
    first = data.scores[data.offsets()[:-1]]
    kept &= (first == 0) | (first == 1)
    data, first = data.mask(kept), first[kept]
    columns: dict[str, Any] = {}
    if conversational or writing.is_chat(data):
        columns["prompt"] = writing.prompt_turns(data).to_arrow()
        columns["completion"] = writing.response_turns(data, 0).to_arrow()
    else:
        columns |= {"prompt": data.column("prompt"), "completion": writing.alternative(data, "responses", 0)}
    columns["label"] = pa.array(first == 1)
    if data.has("items"):
        columns["model"] = writing.alternative(data, "items", 0)
    columns |= writing.common(data, protocol="rating", scale="ordinal")
    return writing.Rows(pa.table(columns), kept, "that are not one response with score 0 or 1")


CHAT_OPTION = frozenset({"conversational"})

FORMATS = (
    Format(
        "trl",
        "TRL / Hugging Face pairs: prompt, chosen, rejected (text or messages)", TRL, detect_trl, read_trl,
        required=("chosen", "rejected"), write=write_trl, write_options=CHAT_OPTION,
    ),
    Format(
        "kto", "unpaired labels: prompt, completion, label", KTO, detect_kto, read_kto,
        required=("prompt", "completion", "label"), write=write_kto, write_options=CHAT_OPTION,
    ),
    Format(
        "reward-bench", "RewardBench: prompt, chosen, rejected, chosen_model, rejected_model, subset", TRL,
        detect_reward_bench, read_trl, required=("prompt", "chosen", "rejected"),
    ),
)  # fmt: skip
