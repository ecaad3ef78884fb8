"""From a prompt and a response to the token ids a sequence classifier scores, and what did not fit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from palate.errors import DataError, PalateWarning
from palate.reward.inputs import Integers, refuse_long

Style = Literal["chat", "plain", "pair"]
TooLong = Literal["cut", "error"]
Booleans = npt.NDArray[np.bool_]
MARK = "palate"
ROWS = 4096


@dataclass(frozen=True)
class TokenSequences:
    """Token ids of n sequences, each a prompt with a response.

    Attributes:
        ids: ids of each sequence.
        types: which of two texts each id belongs to, for tokenizers that say so; else None.
        cut_prompts: shape (n,), whether the prompt lost its beginning.
        cut_responses: shape (n,), whether the response lost its end.
        window: most tokens of a sequence.
    """

    ids: list[list[int]]
    types: list[list[int]] | None
    cut_prompts: Booleans
    cut_responses: Booleans
    window: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts and responses were cut."""
        return {
            "truncated_prompts": int(self.cut_prompts.sum()),
            "truncated_responses": int(self.cut_responses.sum()),
        }

    def warn(self) -> None:
        """Warn of what was cut."""
        if self.cut_prompts.any() or self.cut_responses.any():
            warnings.warn(
                f"{int(self.cut_responses.sum())} responses were cut on the right and "
                f"{int(self.cut_prompts.sum())} prompts on the left to fit {self.window} tokens; raise "
                'max_length in training where the model has room, or refuse them with too_long="error"',
                PalateWarning,
                stacklevel=4,
            )

    def padded(self, tokenizer: Any, rows: Sequence[int], multiple: int) -> dict[str, Tensor]:
        """Right-padded `input_ids`, `attention_mask` and, where there are types, `token_type_ids` of the
        sequences numbered `rows`; each of shape (rows, length)."""
        parts = {"input_ids": [self.ids[row] for row in rows]}
        if self.types is not None:
            parts["token_type_ids"] = [self.types[row] for row in rows]
        return dict(tokenizer.pad(parts, padding=True, pad_to_multiple_of=multiple, return_tensors="pt"))


def style_of(tokenizer: Any, model_type: str) -> Style:
    """How a model reads a prompt and a response, which is what its users give it elsewhere.

    "chat": a language model with a chat template reads the conversation as the template renders it. "plain":
    another language model reads prompt, response and the end-of-sequence token one after the other. "pair":
    any other transformer reads two texts, with the special tokens its tokenizer puts around them.
    """
    from transformers.models.auto import modeling_auto as auto

    causal = model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not causal or model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "pair"
    return "plain" if tokenizer.chat_template is None else "chat"


def encode(
    tokenizer: Any,
    style: Style,
    prompts: Sequence[str],
    responses: Sequence[str],
    window: int,
    too_long: TooLong = "cut",
    rows: Integers | None = None,
) -> TokenSequences:
    """Token ids of prompts with their responses, of at most `window` tokens.

    Prompt and response are tokenised as one text, so that what fits has the ids that
    ``tokenizer.apply_chat_template`` or ``tokenizer(prompt, response)`` give it in any other program. Where
    both do not fit, the prompt loses its beginning; a response that does not fit alone loses its end, but not
    what closes it. `rows` are where the texts come from, for errors; see `palate.reward.inputs.refuse_long`.

    Raises:
        DataError: something does not fit and `too_long` is "error", or the chat template refuses a text.
    """
    ids: list[list[int]] = []
    types: list[list[int]] = []
    typed = style == "pair" and "token_type_ids" in tokenizer.model_input_names
    for start in range(0, len(prompts), ROWS):
        part = slice(start, start + ROWS)
        made = _encoded(tokenizer, style, prompts[part], responses[part], start)
        ids += made["input_ids"]
        types += made["token_type_ids"] if typed else []
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    if too_long == "error":
        refuse_long(lengths, window, rows)
    long = np.flatnonzero(lengths > window)
    cut_prompts, cut_responses = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    cutter = _cut_pair if style == "pair" else _cut_text
    for row in map(int, long):
        whole, cut_prompts[row], cut_responses[row] = cutter(
            tokenizer, style, prompts[row], responses[row], window
        )
        ids[row] = whole["input_ids"]
        if typed:
            types[row] = whole["token_type_ids"]
    return TokenSequences(ids, types if typed else None, cut_prompts, cut_responses, window)


def _encoded(
    tokenizer: Any, style: Style, prompts: Sequence[str], responses: Sequence[str], first: int
) -> dict[str, list[list[int]]]:
    if style == "pair":
        return dict(tokenizer(list(prompts), list(responses), verbose=False))
    if style == "plain":
        end = tokenizer.eos_token or ""
        texts = [prompt + response + end for prompt, response in zip(prompts, responses, strict=True)]
    else:
        pairs = enumerate(zip(prompts, responses, strict=True), start=first + 1)
        texts = [_conversation(tokenizer, prompt, response, row) for row, (prompt, response) in pairs]
    return dict(tokenizer(texts, add_special_tokens=style == "plain", verbose=False))


def _conversation(tokenizer: Any, prompt: str, response: str | None, row: int | None = None) -> str:
    """The turns as the chat template renders them, up to where a response begins if there is none."""
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": prompt}]
    if response is not None:
        turns.append({"role": "assistant", "content": response})
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=response is None)
        )
    except (TemplateError, TypeError) as error:
        raise DataError(
            f"the chat template refuses this prompt and response: {error}", row=row, field="prompt",
            remedy="use a model whose template takes one user and one assistant turn",
        ) from error  # fmt: skip


def _cut_text(
    tokenizer: Any, style: Style, prompt: str, response: str, window: int
) -> tuple[dict[str, list[int]], bool, bool]:
    """One text of prompt and response cut to the window, and whether the prompt and the response lost any."""
    ids = _encoded(tokenizer, style, [prompt], [response], 0)["input_ids"][0]
    if style == "chat":
        before = _conversation(tokenizer, prompt, None)
        after = _conversation(tokenizer, prompt, MARK).rpartition(MARK)[2]
    else:
        before, after = prompt, tokenizer.eos_token or ""
    opening = tokenizer(before, add_special_tokens=style == "plain", verbose=False)["input_ids"]
    closing = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    same = [a == b for a, b in zip(opening, ids, strict=False)]
    start = same.index(False) if False in same else len(same)
    room = window - (len(ids) - start)
    if room >= 0:
        kept = ids[start - room : start]
        # A token that only ever begins a text is kept: models go astray without it.
        if room and ids[0] == tokenizer.bos_token_id and ids.count(ids[0]) == 1:
            kept = [ids[0], *kept[1:]]
        return {"input_ids": [*kept, *ids[start:]]}, True, False
    closing = closing[: window - 1]
    return {"input_ids": [*ids[start : start + window - len(closing)], *closing]}, start > 0, True


def _cut_pair(
    tokenizer: Any, style: Style, prompt: str, response: str, window: int
) -> tuple[dict[str, list[int]], bool, bool]:
    """As `_cut_text`, for two texts with special tokens around them."""
    side = tokenizer.truncation_side
    alone = len(tokenizer("", response, verbose=False)["input_ids"])
    try:
        if alone < window:
            tokenizer.truncation_side = "left"
            made = tokenizer(prompt, response, truncation="only_first", max_length=window)
        else:
            tokenizer.truncation_side = "right"
            made = tokenizer("", response, truncation="only_second", max_length=window)
    finally:
        tokenizer.truncation_side = side
    return dict(made), alone < window or bool(prompt), alone > window
