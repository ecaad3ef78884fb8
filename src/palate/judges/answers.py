"""How likely a language model is to give each of a few answers, read from its next-token probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError
from palate.progress import progress

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What a model would answer to n questions.

    Attributes:
        probability: shape (n, answers), the model's probability of each allowed answer; a row sums to at most
            1, the rest is what the model would rather say. NaN where the question was too long.
        tokens: shape (n,), length of each question in tokens.
        limit: the most tokens a question may have.
    """

    probability: Floats
    tokens: npt.NDArray[np.int64]
    limit: int


@runtime_checkable
class Answerer(Protocol):
    """Anything that gives the probabilities of short answers; a local model here, a remote service
    elsewhere."""

    def answer(self, questions: Sequence[str], answers: Sequence[str], *, opening: str) -> Answers: ...


@dataclass
class LocalAnswers:
    """Answer probabilities of a local causal language model.

    A question is put as one user turn of the tokenizer's chat template (or plainly, where it has none), then
    the model's own turn is begun with the `opening`; the next token is the answer. Control tokens that occur
    inside a question are read as plain text, so a judged text cannot close its turn or open another one.

    Attributes:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        batch_tokens: padded tokens in one forward pass.
        max_tokens: the most tokens a question may have; the model's own window if None.
    """

    model: Any
    tokenizer: Any
    batch_tokens: int = 8192
    max_tokens: int | None = None

    def answer(self, questions: Sequence[str], answers: Sequence[str], *, opening: str) -> Answers:
        """Probabilities of `answers` (single tokens, with or without a space before them) as the next token.

        Raises:
            ConfigError: an answer is not a single token of this model.
        """
        answer_ids = [self._answer_ids(answer) for answer in answers]
        encoded = self._encode(questions, opening)
        tokens = np.array([len(ids) for ids in encoded], dtype=np.int64)
        limit = self._limit()
        found = np.full((len(questions), len(answers)), np.nan)
        # Stable order by length: neighbours pad little, and equal calls make equal batches.
        order = np.argsort(tokens, kind="stable")
        order = order[tokens[order] <= limit]
        with progress("judging", len(order)) as bar:
            start = 0
            while start < len(order):
                end = self._batch_end(tokens[order], start)
                rows = order[start:end]
                found[rows] = self._next_token([encoded[row] for row in rows], answer_ids)
                bar.advance(len(rows))
                start = end
        return Answers(found, tokens, limit)

    def _limit(self) -> int:
        window = int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)
        return min(window, self.max_tokens or window)

    def _batch_end(self, lengths: npt.NDArray[np.int64], start: int) -> int:
        sizes = lengths[start:] * np.arange(1, len(lengths) - start + 1)
        return start + max(1, int(np.searchsorted(sizes, self.batch_tokens, side="right")))

    def _answer_ids(self, answer: str) -> list[int]:
        """Ids of the answer as one token, bare and after a space."""
        coded = [
            self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (answer, f" {answer}")
        ]
        ids = sorted({ids[0] for ids in coded if len(ids) == 1})
        if not ids:
            raise ConfigError(
                f"the answer {answer!r} is not a single token of this model; use shorter answers"
            )
        return ids

    def _encode(self, questions: Sequence[str], opening: str) -> list[list[int]]:
        if not questions:
            return []
        before, after = self._frame(opening)
        # `split_special_tokens` reads control tokens in the question letter by letter, as text.
        coded = self.tokenizer(list(questions), add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return [before + list(ids) + after for ids in coded]

    def _frame(self, opening: str) -> tuple[list[int], list[int]]:
        """Token ids of what stands before and after the question."""
        mark = "\u2047question\u2047"
        if getattr(self.tokenizer, "chat_template", None):
            framed = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
            )
            before, after = framed.split(mark)
        else:
            before, after = self.tokenizer.bos_token or "", "\n"
        before_ids, after_ids = self.tokenizer([before, after + opening], add_special_tokens=False)[
            "input_ids"
        ]
        return list(before_ids), list(after_ids)

    def _next_token(self, batch: list[list[int]], answer_ids: list[list[int]]) -> Floats:
        import torch

        longest = max(map(len, batch))
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in batch], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in batch], device=device)
        training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=False, logits_to_keep=1,
            ).logits[:, -1]  # fmt: skip
            probability = logits.float().softmax(-1)
            found = torch.stack([probability[:, columns].sum(1) for columns in answer_ids], dim=1)
        self.model.train(training)
        return np.asarray(found.cpu().numpy(), dtype=np.float64)
