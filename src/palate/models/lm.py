"""Causal language models, with or without LoRA, from a packaged name, a folder, a GGUF file or the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from palate.errors import ConfigError, MissingDependency
from palate.models.loading import (
    Source,
    fast_bfloat16,
    loading,
    locate,
    pick_device,
    pick_dtype,
    quiet,
    source_fingerprint,
)
from palate.models.zoo import MODELS


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021): W x + (alpha / rank) B A x, with A and B trained and W frozen.

    Attributes:
        rank: rows of A and columns of B.
        alpha: scale of the update before division by `rank`.
        dropout: of the adapter's input while training.
        targets: names of the linear layers to adapt; "all-linear" is all but the output head.
        seed: of A's first values (B starts at zero).
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | Sequence[str] = "all-linear"
    seed: int = 0


@dataclass
class CausalLM:
    """A causal language model ready for use.

    Attributes:
        model: the transformers model (a PEFT model where there are adapters), in evaluation mode.
        tokenizer: its tokenizer; it has a padding token, and pads on the right.
        name: what was asked for.
        fingerprint: hash of the weights, tokenizer, dtype and adapters as loaded; not followed while
            training.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def save(self, folder: str | Path) -> Path:
        """Write a folder that transformers (or, with adapters, PEFT) and `load_causal_lm` read."""
        folder = Path(folder)
        self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))
        return folder


def load_causal_lm(
    name: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    lora: LoraSettings | None = None,
    attn: str = "sdpa",
) -> CausalLM:
    """Load a causal language model.

    Args:
        name: packaged name, folder (also of a PEFT adapter), GGUF file or folder with one, or hub id.
        dtype: "auto" is bfloat16 where the device computes in it (GPUs, CPUs with AVX512-BF16 or AMX), else
            float32.
        device: "auto", or as torch names it.
        lora: add new adapters and freeze the rest; adapters that `name` brings are merged into the weights
            first. Adapters are float32 whatever `dtype` is, since small updates vanish in bfloat16.
        attn: attention implementation of transformers.

    Raises:
        ConfigError: the model cannot be found or loaded, or an option cannot be used.
    """
    source = locate(name)
    where = pick_device(device)
    kind = pick_dtype(dtype, torch.bfloat16 if fast_bfloat16(where) else torch.float32)
    adapter = adapter_base(source)
    base = locate(adapter) if adapter is not None else source
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingDependency("loading a language model", "train") from error
    with loading(base):
        model: Any = AutoModelForCausalLM.from_pretrained(
            base.location, dtype=kind, attn_implementation=attn, **base.arguments
        )
        own_tokenizer = source.folder is not None and (source.folder / "tokenizer_config.json").exists()
        read = source if own_tokenizer else base
        tokenizer: Any = AutoTokenizer.from_pretrained(read.location, **read.arguments)
    if adapter is not None:
        from peft import PeftModel

        with loading(source):
            model = PeftModel.from_pretrained(model, source.location)
        if lora is not None:
            model = model.merge_and_unload()
    if lora is not None:
        model = _add_lora(model, lora)
    prepare_tokenizer(tokenizer)
    model.to(where)
    model.eval()
    parts: list[object] = [kind, asdict(lora) if lora is not None else None]
    if adapter is not None:
        parts.append(source_fingerprint(base, model.config))
    return CausalLM(model, tokenizer, os.fspath(name), source_fingerprint(source, model.config, *parts))


def prepare_tokenizer(tokenizer: Any) -> None:
    """Give `tokenizer` a padding token and right padding; masks, not the token, say what padding is."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token if tokenizer.eos_token is None else tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            "the tokenizer has neither a padding nor an end-of-sequence token; set tokenizer.pad_token"
        )


def adapter_base(source: Source) -> str | None:
    """The base model of a PEFT adapter folder; None for any other model."""
    if source.folder is None or not (source.folder / "adapter_config.json").exists():
        return None
    config = source.folder / "adapter_config.json"
    try:
        base = Path(json.loads(config.read_text("utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{config} names no base model; save the adapter again with PEFT") from error
    # A packaged model is known by its folder in the cache, which on another machine lies elsewhere.
    return base.name if base.name in MODELS and not base.exists() else str(base)


def _add_lora(model: Any, settings: LoraSettings) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingDependency("LoRA", "train") from error
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(settings.seed)
        try:
            config = LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                lora_dropout=settings.dropout,
                target_modules=targets,
                task_type="CAUSAL_LM",
            )
            return get_peft_model(model, config, autocast_adapter_dtype=True)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"LoRA settings cannot be used with this model: {error}") from error
