"""Judgments as batches of tokens: prompts, responses, targets and reference log-probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn import functional as F

from palate.data import PreferenceData
from palate.errors import DataError, PalateWarning
from palate.models import TokenBatch, TokenGroups, tokenize_groups
from palate.training import TrainingGroups

Floats = npt.NDArray[np.float64]


@dataclass
class PolicyGroups:
    """Tokenised groups with targets; what the trainer takes batches from.

    Attributes:
        tokens: the groups' token ids.
        targets: shape (n, k), NaN where padded.
        weight: shape (n,).
        pad_to_multiple_of: see `TrainingConfig`.
        reference: sums of log-probabilities under the reference, shape (n, k), NaN where not known; or None.
        left_out: counts of what could not be used, by reason.
    """

    tokens: TokenGroups
    targets: Floats
    weight: Floats
    pad_to_multiple_of: int
    reference: npt.NDArray[np.float32] | None = None
    left_out: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """See `palate.training.Groups`; adds `tokens` and `reference` (batch, k), NaN where not known."""
        index = np.asarray(rows)
        tokens = pad(self.tokens.collate(index), self.pad_to_multiple_of, self.tokens.pad_id)
        k = int(tokens.slot.max()) + 1
        targets = torch.from_numpy(self.targets[index, :k])
        known = (
            np.full(targets.shape, np.nan, np.float32)
            if self.reference is None
            else self.reference[index, :k]
        )
        return {
            "tokens": tokens,
            "targets": targets.nan_to_num(0.0),
            "mask": ~targets.isnan(),
            "weight": torch.from_numpy(self.weight[index]),
            "reference": torch.from_numpy(known),
        }


def pad(batch: TokenBatch, multiple: int, pad_id: int) -> TokenBatch:
    """The batch with its rows padded on the right to a multiple of so many tokens."""
    extra = -batch.input_ids.shape[1] % multiple
    return TokenBatch(
        input_ids=F.pad(batch.input_ids, (0, extra), value=pad_id),
        attention_mask=F.pad(batch.attention_mask, (0, extra)),
        response_mask=F.pad(batch.response_mask, (0, extra)),
        group=batch.group,
        slot=batch.slot,
        index=batch.index,
    )


def policy_groups(
    data: PreferenceData,
    groups: TrainingGroups,
    tokenizer: Any,
    *,
    max_length: int,
    too_long: str,
    pad_to_multiple_of: int,
) -> PolicyGroups:
    """Tokenise the groups a loss learns from.

    Groups in which no two responses differ teach a policy nothing; they are left out, counted and warned of.

    Raises:
        DataError: the data has no response texts, one is missing, or nothing is left.
    """
    if not data.has("responses"):
        raise DataError(
            "a policy learns from texts; the data has no responses", field="responses", file=data.source,
            remedy="load data with response texts",
        )  # fmt: skip
    flat = data.flat("responses")
    missing = pc.is_null(flat).to_numpy(zero_copy_only=False)
    if missing[groups.position[groups.mask]].any():
        first = int(groups.position[groups.mask][missing[groups.position[groups.mask]]].min())
        row = int(np.searchsorted(data.offsets(), first, side="right"))
        raise DataError(
            "a response is missing", row=row, field="responses", file=data.source, remedy="drop the row"
        )
    codes = flat.dictionary_encode().indices.to_numpy(zero_copy_only=False)[groups.position]
    first_code = np.take_along_axis(codes, groups.mask.argmax(axis=1)[:, None], axis=1)
    same = ((codes == first_code) | ~groups.mask).all(axis=1) & (groups.mask.sum(axis=1) > 1)
    if same.any():
        warnings.warn(
            f"{int(same.sum())} of {len(groups)} groups prefer a response to an equal one and were left out",
            PalateWarning,
            stacklevel=3,
        )
    keep = np.flatnonzero(~same)
    if not len(keep):
        raise DataError(
            "in every group the chosen response equals the rejected one", field="responses", file=data.source,
            remedy="give responses that differ",
        )  # fmt: skip
    mask, position = groups.mask[keep], groups.position[keep]
    texts = pc.take(flat, pa.array(position[mask])).to_pylist()
    ends = np.cumsum(mask.sum(axis=1)).tolist()
    responses = [texts[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    tokens = tokenize_groups(
        tokenizer,
        _prompts(data, groups.judgment[keep]),
        responses,
        max_length=max_length,
        too_long=too_long,  # type: ignore[arg-type]
    )
    if not len(tokens):
        raise DataError(
            f"no group fits into {max_length} tokens", field="responses", file=data.source,
            remedy="raise max_length, or shorten the responses",
        )  # fmt: skip
    # Alternatives that were not judged are not read, so the judged ones of a row move to its left.
    order = np.argsort(~mask, axis=1, kind="stable")
    targets = np.take_along_axis(np.where(mask, groups.targets[keep], np.nan), order, axis=1)
    left_out = {
        "ties": groups.ties,
        "equal_responses": int(same.sum()),
        "too_long": tokens.dropped_groups,
        "truncated_prompts": tokens.truncated_prompts,
        "cut_responses": tokens.cut_responses,
    }
    return PolicyGroups(
        tokens, targets[tokens.kept], groups.weight[keep][tokens.kept], pad_to_multiple_of, None, left_out
    )


def _prompts(data: PreferenceData, rows: npt.NDArray[np.int64]) -> list[Any]:
    """The turns of the prompt where there are several, else its text."""
    take = pa.array(rows)
    texts = pc.fill_null(data.column("prompt"), "").take(take).to_pylist()
    if not data.has("messages"):
        return list(texts)
    turns = data.column("messages").take(take).to_pylist()
    return [turn or text for turn, text in zip(turns, texts, strict=True)]
