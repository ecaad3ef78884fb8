"""Log-probabilities under the reference policy: computed once, kept on disk, reused by every later run.

A DPO run with another beta, loss, learning rate or seed needs the same numbers again. They are kept under a
key made of everything they depend on: the token ids (data, tokenizer, template and length limits all end in
those), the model's weights and dtype, and the padding.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from
from safetensors.numpy import save as bytes_of

from palate.errors import ConfigError
from palate.models import cache_folder, group_log_probs
from palate.progress import progress
from palate.runs import atomic_write, to_json

if TYPE_CHECKING:
    from palate.align.groups import PolicyGroups
    from palate.models import CausalLM

VERSION = 1
SAVE_EVERY = 20.0  # seconds of work that an interruption may cost


@dataclass(frozen=True)
class Reference:
    """Sums of log-probabilities of responses under a reference.

    Attributes:
        sums: shape (n, k), NaN where padded or not asked for.
        computed: how many groups had to be computed; the others came from disk.
        folder: where they are kept.
    """

    sums: npt.NDArray[np.float32]
    computed: int
    folder: Path


def reference_log_probs(
    lm: CausalLM,
    groups: PolicyGroups,
    rows: npt.NDArray[np.int64] | None = None,
    *,
    max_tokens: int = 4096,
    cache: Path | None = None,
) -> Reference:
    """Log-probabilities of the groups' responses under `lm`, from disk where they are known.

    What is computed is written every few seconds, so an interrupted computation goes on where it was.

    Args:
        lm: the reference, in evaluation mode and in the dtype it is trained in: another dtype rounds
            otherwise, and the policy would not start at its reference.
        groups: what to score.
        rows: numbers of the groups needed; None needs all.
        max_tokens: padded tokens per forward pass.
        cache: folder to keep them in; None is ``references`` in the user's cache.

    Raises:
        ConfigError: the folder holds log-probabilities of something else, or is damaged.
    """
    key = key_of(lm, groups)
    name = hashlib.sha256(to_json(key).encode()).hexdigest()[:32]
    folder = (cache or cache_folder() / "references") / name
    sums = _read(folder, key, groups.targets.shape)
    if sums is None:
        sums = np.full(groups.targets.shape, np.nan, np.float32)
    needed = np.arange(len(groups)) if rows is None else np.unique(rows)
    there = ~np.isnan(groups.targets)
    todo = needed[(np.isnan(sums) & there)[needed].any(axis=1)]
    written = time.monotonic()
    with progress("reference log-probabilities", len(todo)) as bar, torch.inference_mode():
        for batch in _batches(groups, todo, max_tokens):
            found = group_log_probs(lm, groups.batch(batch.tolist())["tokens"]).sum.float().cpu().numpy()
            k = found.shape[1]
            sums[batch, :k] = np.where(there[batch, :k], found, np.nan)
            bar.advance(len(batch))
            if time.monotonic() - written > SAVE_EVERY:
                _write(folder, key, sums)
                written = time.monotonic()
    if len(todo):
        _write(folder, key, sums)
    wanted = np.full_like(sums, np.nan)
    wanted[needed] = sums[needed]
    return Reference(wanted, len(todo), folder)


def key_of(lm: CausalLM, groups: PolicyGroups) -> dict[str, object]:
    """Everything the log-probabilities depend on."""
    return {
        "version": VERSION,
        "model": lm.fingerprint,
        "tokens": groups.tokens.fingerprint,
        "max_length": groups.tokens.max_length,
        "pad_to_multiple_of": groups.pad_to_multiple_of,
        "dtype": str(next(lm.model.parameters()).dtype),
    }


def _batches(
    groups: PolicyGroups, rows: npt.NDArray[np.int64], max_tokens: int
) -> list[npt.NDArray[np.int64]]:
    """Numbers of groups of similar length, longest first, so that little padding is computed."""
    rows = rows[np.argsort(-groups.tokens.lengths[rows], kind="stable")]
    batches, start, used, width = [], 0, 0, 0
    for place, row in enumerate(rows):
        size, length = int(groups.tokens.sizes[row]), int(groups.tokens.lengths[row])
        width = max(width, length)
        if place > start and (used + size) * width > max_tokens:
            batches.append(rows[start:place])
            start, used, width = place, 0, length
        used += size
    if len(rows):
        batches.append(rows[start:])
    return batches


def _read(folder: Path, key: dict[str, object], shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    if not (folder / "key.json").exists():
        return None
    remedy = f"remove the folder {folder}"
    try:
        if json.loads((folder / "key.json").read_text("utf-8")) != key:
            raise ConfigError(
                f"{folder} holds reference log-probabilities of another model or other data; {remedy}"
            )
        sums = arrays_from((folder / "log_probs.safetensors").read_bytes())["sum"]
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ConfigError(f"the reference log-probabilities are damaged ({error}); {remedy}") from None
    if sums.shape != shape:
        raise ConfigError(f"{folder} holds reference log-probabilities of another shape; {remedy}")
    return sums.copy()


def _write(folder: Path, key: dict[str, object], sums: npt.NDArray[np.float32]) -> None:
    with atomic_write(folder / "log_probs.safetensors", "wb") as file:
        file.write(bytes_of({"sum": sums}))
    with atomic_write(folder / "key.json") as file:
        file.write(to_json(key))
