"""HH-RLHF transcripts: ``\\n\\nHuman: ...\\n\\nAssistant: ...`` as one text, chosen and rejected."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.formats import chat
from palate.data.formats.batch import Batch, list_array
from palate.data.formats.chat import Turns
from palate.data.formats.registry import Format
from palate.errors import ConfigError

MARKS = ("\x1e", "\x1d", "\x1c", "\x1f", "\ue000", "\uf8ff")


def detect(columns: Mapping[str, pl.DataType], sample: pl.DataFrame) -> float:
    if not {"chosen", "rejected"} <= columns.keys() or "prompt" in columns or columns["chosen"] != pl.String:
        return 0.0
    texts = sample["chosen"].drop_nulls()
    return 0.9 if len(texts) and bool(texts.str.starts_with("\n\nHuman:").mean() == 1.0) else 0.0


def read(batch: Batch) -> pa.Table:
    """Pairs of transcripts, split at the last Assistant turn.

    Where the two prompts differ, the pair is kept: the prompt is the turns both begin with, and each
    response is
    the rest of its transcript (`response_messages`); ``differing_prompts="error"`` refuses such rows
    instead. Empty
    answers are kept. Both are counted and reported.
    """
    differing = batch.option("differing_prompts", "keep")
    if differing not in ("keep", "error"):
        raise ConfigError(f"differing_prompts is 'keep' or 'error', not {differing!r}")
    a, b = _turns(batch, "chosen"), _turns(batch, "rejected")
    prompt, chosen, rejected = chat.split_pair(a, b)
    apart = (prompt.counts < a.last("assistant")) | (prompt.counts < b.last("assistant"))
    if differing == "error":
        batch.fail(
            apart, "rejected", "its prompt differs from that of chosen",
            "drop the row, or read with differing_prompts='keep'",
        )  # fmt: skip
    batch.context.notes["pairs whose prompts differ (kept: the prompt is the turns they share)"] += int(
        apart.sum()
    )
    empty = np.zeros(batch.height, dtype=bool)
    for side in (chosen, rejected):
        empty |= np.asarray(pc.equal(side.text(), "").to_numpy(zero_copy_only=False))
    batch.context.notes["pairs with an empty answer (kept)"] += int(empty.sum())
    columns = chat.prompt_columns(prompt) | chat.response_columns(chosen, rejected)
    columns["scores"] = list_array(
        np.arange(0, 2 * batch.height + 1, 2), pa.array(np.tile([1.0, 0.0], batch.height))
    )
    return batch.table(columns, protocol="comparison", scale="ordinal")


def _turns(batch: Batch, name: str) -> Turns:
    texts = batch.text(name)
    batch.fail(
        ~texts.str.starts_with("\n\nHuman:") & ~texts.str.starts_with("\n\nAssistant:"), name,
        "does not begin with a Human or Assistant turn",
        "give a transcript such as '\\n\\nHuman: ...\\n\\nAssistant: ...'",
    )  # fmt: skip
    batch.fail(
        ~texts.str.contains("\n\nAssistant:", literal=True), name, "has no Assistant turn", "drop the row"
    )
    mark = next((mark for mark in MARKS if not texts.str.contains(mark, literal=True).any()), None)
    if mark is None:
        raise batch.context.error("holds every control character used to split it", "remove them", field=name)
    marked = texts.str.replace_all("\n\nHuman:", mark + "H", literal=True)
    marked = marked.str.replace_all("\n\nAssistant:", mark + "A", literal=True)
    lists = marked.str.strip_prefix(mark).str.split(mark)
    counts = lists.list.len().to_numpy().astype(np.int64)
    flat = lists.explode()
    human = flat.str.starts_with("H")
    roles = pl.select(pl.when(human).then(pl.lit("user")).otherwise(pl.lit("assistant"))).to_series()
    contents = flat.str.slice(1).str.strip_prefix(" ")
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Turns(roles.to_arrow(), contents.to_arrow(), offsets[:-1], offsets[1:])


FORMATS = (
    Format(
        "hh-rlhf", "HH-RLHF transcripts: chosen, rejected",
        {"chosen": ("chosen",), "rejected": ("rejected",)},
        detect, read, required=("chosen", "rejected"), options=frozenset({"differing_prompts"}),
    ),
)  # fmt: skip
