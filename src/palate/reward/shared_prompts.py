"""One encoding of a prompt for all of its responses: a decoder reads them behind one copy of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.errors import ConfigError


def packed(groups: Sequence[Sequence[Sequence[int]]], pad: int, multiple: int = 1) -> dict[str, Tensor]:
    """Groups of sequences with a common beginning as one row each: the beginning once, then what follows it
    in each sequence.

    Every token sees the tokens of its own sequence up to itself, at the positions it has there, so that a
    decoder with full attention gives it the states it would have alone.

    Args:
        groups: token ids of the sequences of each group.
        pad: id that padding holds.
        multiple: rows are padded to a multiple of this.

    Returns:
        `input_ids` and `position_ids` (rows, length), `attention_mask` (rows, 1, length, length), true where
        the first sees the second, and `ends` (sequences, 2), row and column of the last token of each
        sequence that is no padding.
    """
    rows, places, spans, ends = [], [], [], []
    for number, group in enumerate(groups):
        shared = _common(group)
        row, place, span = list(group[0][:shared]), list(range(shared)), []
        for ids in group:
            start, last = len(row), max(i for i, token in enumerate(ids) if token != pad or not i)
            row += ids[shared:]
            place += range(shared, len(ids))
            span.append((start, len(row)))
            ends.append((number, last if last < shared else start + last - shared))
        rows.append(row)
        places.append(place)
        spans.append((shared, span))
    length = -(-max(map(len, rows)) // multiple) * multiple
    visible = np.zeros((len(rows), length, length), dtype=bool)
    for number, (shared, span) in enumerate(spans):
        visible[number, :shared, :shared] = np.tri(shared, dtype=bool)
        for start, end in span:
            visible[number, start:end, :shared] = True
            visible[number, start:end, start:end] = np.tri(end - start, dtype=bool)
        padding = np.arange(len(rows[number]), length)
        visible[number, padding, padding] = True  # attention to nothing would be no number
    return {
        "input_ids": torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows]),
        "position_ids": torch.tensor([[*place, *[0] * (length - len(place))] for place in places]),
        "attention_mask": torch.from_numpy(visible)[:, None],
        "ends": torch.tensor(ends),
    }


def states(model: Any, tokens: dict[str, Tensor]) -> Tensor:
    """The last hidden states of a sequence classifier at the `ends` that `packed` gave, (sequences, h)."""
    classifier = model.get_base_model() if hasattr(model, "peft_config") else model
    ends = tokens["ends"]
    found = classifier.base_model(
        input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"],
        position_ids=tokens["position_ids"],
    ).last_hidden_state  # fmt: skip
    return found[ends[:, 0], ends[:, 1]]  # type: ignore[no-any-return]


def check_same(shared: Tensor, alone: Tensor) -> None:
    """Refuse an architecture whose outputs depend on what else is in the row.

    Raises:
        ConfigError: outputs (n, width) of packed sequences are not those of the sequences alone, up to
            rounding.
    """
    rounding = 1e-3 if shared.dtype == torch.float32 and alone.dtype == torch.float32 else 0.05
    if not torch.allclose(shared.float(), alone.float(), rtol=rounding, atol=rounding):
        raise ConfigError(
            "share_prompts changes the scores of this architecture, which does not read tokens by their "
            "positions and a mask alone; train without it"
        )


def _common(group: Sequence[Sequence[int]]) -> int:
    """Length of the common beginning, which leaves every sequence a token of its own."""
    shortest = min(map(len, group))
    first = np.array([ids[:shortest] for ids in group])
    differ = np.flatnonzero((first != first[0]).any(axis=0))
    return int(min(differ[0] if len(differ) else shortest, shortest - 1))
