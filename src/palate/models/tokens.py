"""Groups of token ids: one prompt and k responses, tokenised the way a model would have produced them.

Prompt and response are tokenised apart and their ids put together, because that is what generation does: the
model is given the prompt's ids and adds the response's. A boundary can then never fall inside a token, and
all responses of a prompt share the same prompt ids.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from palate.errors import ConfigError, DataError, PalateWarning

Prompt = str | Sequence[Mapping[str, Any]]
Ids = npt.NDArray[np.int32]
TooLong = Literal["error", "drop-count", "cut-and-report"]


@dataclass(frozen=True)
class TokenBatch:
    """Groups as padded tensors, one row per response, the rows of a group one after the other.

    Attributes:
        input_ids: (rows, length), right-padded.
        attention_mask: (rows, length), 1 on prompt and response.
        response_mask: (rows, length), 1 on the response and its end of turn.
        group: (rows,), number of the row's group in the batch.
        slot: (rows,), number of the response in its group.
        index: (batch,), number of each group in the `TokenGroups`.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    response_mask: torch.Tensor
    group: torch.Tensor
    slot: torch.Tensor
    index: torch.Tensor

    def to(self, device: str | torch.device) -> TokenBatch:
        return TokenBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    def by_group(self, values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """Shape (rows,) -> (batch, k) for the largest k in the batch; missing responses hold `fill`."""
        shape = (len(self.index), int(self.slot.max()) + 1)
        return values.new_full(shape, fill).index_put((self.group, self.slot), values)

    @property
    def mask(self) -> torch.Tensor:
        """(batch, k), true where there is a response."""
        return self.by_group(torch.ones_like(self.slot)).bool()


@dataclass(frozen=True)
class TokenGroups:
    """Token ids of n groups.

    Attributes:
        prompts: ids of each prompt.
        responses: ids of each group's responses, end of turn included.
        kept: (n,), number of each group in the input; shorter than the input where groups were dropped.
        truncated_prompts: groups whose prompt was cut on the left.
        cut_responses: responses that were cut on the right ("cut-and-report").
        dropped_groups: groups left out because a response did not fit ("drop-count").
        max_length: most tokens a row may have.
        pad_id: id that padding holds.
    """

    prompts: list[Ids]
    responses: list[list[Ids]]
    kept: npt.NDArray[np.int64]
    truncated_prompts: int
    cut_responses: int
    dropped_groups: int
    max_length: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(n,), responses per group."""
        return np.array([len(group) for group in self.responses], dtype=np.int64)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,), tokens of the longest row of each group."""
        longest = [max(map(len, group), default=0) for group in self.responses]
        return np.array(longest, dtype=np.int64) + np.array(
            [len(ids) for ids in self.prompts], dtype=np.int64
        )

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all ids and of how they are grouped."""
        digest = hashlib.sha256()
        for prompt, group in zip(self.prompts, self.responses, strict=True):
            for ids in (prompt, *group):
                digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
            digest.update(b"\xff\xff\xff\xff")
        return digest.hexdigest()[:32]

    def report(self) -> str:
        """One line: how many groups and tokens there are, and what did not fit."""
        rows = int(self.sizes.sum())
        tokens = sum(
            len(p) * len(g) + sum(map(len, g)) for p, g in zip(self.prompts, self.responses, strict=True)
        )
        parts = [f"{len(self)} groups, {rows} responses, {tokens} tokens (at most {self.max_length} a row)"]
        for count, what in (
            (self.truncated_prompts, "prompts cut on the left"),
            (self.cut_responses, "responses cut on the right"),
            (self.dropped_groups, "groups dropped because a response is too long"),
        ):
            if count:
                parts.append(f"{count} {what}")
        return "; ".join(parts)

    def collate(self, index: Sequence[int] | npt.NDArray[np.integer[Any]]) -> TokenBatch:
        """The groups numbered `index` as padded tensors."""
        rows, starts, group, slot = [], [], [], []
        for place, number in enumerate(index):
            prompt = self.prompts[int(number)]
            for k, response in enumerate(self.responses[int(number)]):
                rows.append(np.concatenate([prompt, response]))
                starts.append(len(prompt))
                group.append(place)
                slot.append(k)
        lengths = np.array([len(row) for row in rows])
        positions = np.arange(lengths.max(initial=0))
        attended = positions < lengths[:, None]
        ids = np.full(attended.shape, self.pad_id, dtype=np.int64)
        ids[attended] = np.concatenate(rows) if rows else []
        responses = attended & (positions >= np.array(starts)[:, None])
        return TokenBatch(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(attended.astype(np.int64)),
            response_mask=torch.from_numpy(responses.astype(np.int64)),
            group=torch.tensor(group, dtype=torch.long),
            slot=torch.tensor(slot, dtype=torch.long),
            index=torch.tensor([int(number) for number in index], dtype=torch.long),
        )

    def batches(self, max_tokens: int) -> list[list[int]]:
        """Group numbers in batches of similar length, longest first, of at most `max_tokens` padded tokens.

        A group larger than that is a batch of its own.
        """
        out: list[list[int]] = []
        rows, longest = 0, 0
        for number in np.argsort(-self.lengths, kind="stable").tolist():
            rows += int(self.sizes[number])
            longest = max(longest, int(self.lengths[number]))
            if not out or rows * longest > max_tokens:
                out.append([])
                rows, longest = int(self.sizes[number]), int(self.lengths[number])
            out[-1].append(number)
        return out


def tokenize_groups(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    *,
    max_length: int,
    max_prompt_length: int | None = None,
    too_long: TooLong = "error",
) -> TokenGroups:
    """Tokenise prompts and their responses into groups.

    A prompt is a text (one user message, where the tokenizer has a chat template) or a list of messages. Each
    response ends with the template's end-of-turn token, or the end-of-sequence token. Where prompt and the
    longest response of its group do not fit into `max_length`, the prompt loses tokens on its left, the same
    for every response of the group, so that they stay comparable; at least one prompt token stays.

    Args:
        max_length: most tokens of a prompt and response together.
        max_prompt_length: most tokens of a prompt.
        too_long: what to do where a response alone does not fit: "error"; "drop-count" leaves out its group;
            "cut-and-report" cuts it on the right. The last two are counted and warned of.

    Raises:
        DataError: a response does not fit and `too_long` is "error", or the lists differ in length.
        ConfigError: `max_length` is too small, or prompts are messages and there is no chat template.
    """
    if len(prompts) != len(responses):
        raise DataError(
            f"{len(prompts)} prompts but {len(responses)} groups of responses; give one group a prompt"
        )
    if max_length < 2 or (max_prompt_length is not None and max_prompt_length < 1):
        raise ConfigError("max_length must be at least 2 and max_prompt_length at least 1")
    if too_long not in ("error", "drop-count", "cut-and-report"):
        raise ConfigError(f"unknown too_long {too_long!r}; known: error, drop-count, cut-and-report")
    prompt_ids = encode_prompts(tokenizer, prompts)
    flat = encode_responses(tokenizer, [text for group in responses for text in group])
    ends = np.cumsum([len(group) for group in responses], dtype=np.int64).tolist()
    starts = [0, *ends][:-1]
    kept, kept_prompts, kept_responses = [], [], []
    truncated = cut = dropped = 0
    for row, (prompt, start, end) in enumerate(zip(prompt_ids, starts, ends, strict=True)):
        group = flat[start:end]
        longest = max(map(len, group), default=0)
        if longest >= max_length:
            if too_long == "error":
                raise DataError(
                    f"a response has {longest} tokens, and only {max_length - 1} fit after a prompt",
                    row=row + 1,
                    field="responses",
                    remedy='raise max_length, or choose too_long="drop-count" or "cut-and-report"',
                )
            if too_long == "drop-count":
                dropped += 1
                continue
            cut += sum(len(ids) >= max_length for ids in group)
            group = [ids[: max_length - 1] for ids in group]
            longest = max_length - 1
        room = min(max_length - longest, max_prompt_length or max_length)
        if len(prompt) > room:
            truncated += 1
            prompt = _cut_left(prompt, room, tokenizer.bos_token_id)
        kept.append(row)
        kept_prompts.append(prompt)
        kept_responses.append(group)
    if cut or dropped:
        what = f"{cut} responses were cut on the right" if cut else f"{dropped} groups were left out"
        warnings.warn(
            f"{what}, because a response has more than {max_length - 1} tokens; "
            "raise max_length to keep them whole",
            PalateWarning,
            stacklevel=2,
        )
    return TokenGroups(
        prompts=kept_prompts,
        responses=kept_responses,
        kept=np.array(kept, dtype=np.int64),
        truncated_prompts=truncated,
        cut_responses=cut,
        dropped_groups=dropped,
        max_length=max_length,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
    )


def encode_prompts(tokenizer: Any, prompts: Sequence[Prompt], *, system: str | None = None) -> list[Ids]:
    """Ids of each prompt up to its response; `system` goes before prompts without a system message."""
    templated = tokenizer.chat_template is not None
    texts = []
    for row, prompt in enumerate(prompts):
        if templated:
            texts.append(_render(tokenizer, prompt, system, row))
        elif isinstance(prompt, str):
            texts.append(prompt if system is None else f"{system}\n\n{prompt}")
        else:
            raise ConfigError(
                "prompts are lists of messages, but the tokenizer has no chat template; "
                "give texts, or set tokenizer.chat_template"
            )
    encoded = tokenizer(texts, add_special_tokens=not templated, verbose=False)["input_ids"] if texts else []
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    out = []
    for ids in encoded:
        # Some tokenizers close a text with the end-of-sequence token; a prompt goes on.
        while not templated and ids and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        # The first response token is predicted from something, so an empty prompt still has one token.
        out.append(np.array(ids or [begin], dtype=np.int32))
    return out


def encode_responses(tokenizer: Any, responses: Sequence[str]) -> list[Ids]:
    """Ids of each response as they follow a prompt, with the end-of-turn token."""
    if not responses:
        return []
    anchor, skip = _anchor(tokenizer)
    encoded = tokenizer([anchor + text for text in responses], add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    end = end_of_turn(tokenizer)
    return [np.array([*ids[skip:], end], dtype=np.int32) for ids in encoded]


def end_of_turn(tokenizer: Any) -> int:
    """Id of the token that closes a response: the chat template's where special, else end of sequence."""
    if tokenizer.chat_template is not None:
        marker = "palate"
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": marker}], tokenize=False
        )
        after = tokenizer(text.rpartition(marker)[2], add_special_tokens=False)["input_ids"]
        if after and after[0] in tokenizer.all_special_ids:
            return int(after[0])
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no end-of-sequence token; set tokenizer.eos_token")
    return int(tokenizer.eos_token_id)


def _render(tokenizer: Any, prompt: Prompt, system: str | None, row: int) -> str:
    from jinja2 import TemplateError

    messages = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(part) for part in prompt]
    )
    if system is not None and not any(message.get("role") == "system" for message in messages):
        messages = [{"role": "system", "content": system}, *messages]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, TypeError) as error:
        raise DataError(
            f"the chat template refuses these messages: {error}",
            row=row + 1,
            field="prompt",
            remedy="each message needs a role and a content, with user and assistant in turn",
        ) from error


def _anchor(tokenizer: Any) -> tuple[str, int]:
    """Text to put before a response, and its number of ids to take off again.

    Some tokenizers add a space to the start of every text, which a response in the middle of a text does not
    have.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    first = ids("a")
    if tokenizer.decode(first + first) == "aa":
        return "", 0
    for anchor in ("\n", "."):
        head, both = ids(anchor), ids(anchor + "a")
        if both[: len(head)] == head and tokenizer.decode(first + both[len(head) :]) == "aa":
            return anchor, len(head)
    return "", 0


def _cut_left(prompt: Ids, room: int, bos: int | None) -> Ids:
    # A token that only ever begins a text is kept: models go astray without it.
    if bos is not None and room > 1 and prompt[0] == bos and np.count_nonzero(prompt == bos) == 1:
        return np.concatenate([prompt[:1], prompt[len(prompt) - room + 1 :]])
    return prompt[len(prompt) - room :]
