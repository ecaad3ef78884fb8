"""Sampling responses from a causal language model, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from palate.errors import ConfigError
from palate.models.loading import quiet
from palate.models.tokens import Ids, Prompt, encode_prompts, end_of_turn
from palate.progress import progress
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.models.lm import CausalLM


def generate(
    lm: CausalLM,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    n: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    system: str | None = None,
) -> list[list[str]]:
    """Sample `n` responses to each prompt.

    Prompts are texts or lists of messages, as in `tokenize_groups`; prompts of similar length share a batch.
    The same arguments give the same responses; another `batch_size` draws others.

    Args:
        max_new_tokens: most tokens of a response.
        temperature: 0 takes the most likely token each time.
        top_p: sample from the smallest set of tokens of at least this probability.
        n: responses a prompt.
        batch_size: responses generated at once.
        system: system message for prompts that have none.

    Returns:
        For each prompt its `n` texts, without special tokens.

    Raises:
        ConfigError: an option is out of range, or a prompt and `max_new_tokens` exceed the model's window.
    """
    _check(max_new_tokens, temperature, top_p, n, batch_size)
    ids = encode_prompts(lm.tokenizer, prompts, system=system)
    window = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, ids), default=0)
    if window is not None and longest + max_new_tokens > window:
        raise ConfigError(
            f"a prompt of {longest} tokens and max_new_tokens={max_new_tokens} "
            f"exceed the model's window of {window} tokens"
        )
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    per_batch = max(1, batch_size // n)
    batches = [order[start : start + per_batch] for start in range(0, len(order), per_batch)]
    settings = _settings(lm, max_new_tokens, temperature, top_p, n)
    seeds = generator(seed, "generate").integers(0, 2**63 - 1, size=len(batches))
    out: list[list[str]] = [[] for _ in ids]
    training = lm.model.training
    lm.model.eval()
    try:
        with progress("Generating responses", total=len(ids)) as bar, torch.random.fork_rng():
            for rows, batch_seed in zip(batches, seeds.tolist(), strict=True):
                torch.manual_seed(batch_seed)
                texts = _batch(lm, [ids[row] for row in rows], settings)
                for place, row in enumerate(rows):
                    out[row] = texts[place * n : (place + 1) * n]
                bar.advance(len(rows))
    finally:
        lm.model.train(training)
    return out


@torch.inference_mode()
def _batch(lm: CausalLM, prompts: list[Ids], settings: Any) -> list[str]:
    longest = max(map(len, prompts))
    ids = np.full((len(prompts), longest), lm.tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    with quiet():
        made = lm.model.generate(
            input_ids=torch.from_numpy(ids).to(lm.device),
            attention_mask=torch.from_numpy(mask).to(lm.device),
            generation_config=settings,
        )
    texts: list[str] = lm.tokenizer.batch_decode(made[:, longest:], skip_special_tokens=True)
    return texts


def _settings(lm: CausalLM, max_new_tokens: int, temperature: float, top_p: float, n: int) -> Any:
    """Settings that leave nothing to the defaults a model folder brings."""
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    ends = {end_of_turn(lm.tokenizer), lm.tokenizer.eos_token_id} - {None}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_return_sequences=n,
        eos_token_id=sorted(ends),
        pad_token_id=lm.tokenizer.pad_token_id,
        **sampling,
    )


def _check(max_new_tokens: int, temperature: float, top_p: float, n: int, batch_size: int) -> None:
    if min(max_new_tokens, n, batch_size) < 1:
        raise ConfigError("max_new_tokens, n and batch_size must be at least 1")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"temperature must not be negative and top_p in (0, 1], not {temperature} and {top_p}"
        )
    if temperature == 0 and n > 1:
        raise ConfigError(f"temperature 0 gives {n} times the same response; raise it, or ask for n=1")
