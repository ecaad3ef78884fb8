"""Models: packaged weights, sentence encoders, causal LMs, token groups, embeddings, log-probabilities."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# torch and transformers load when a part that needs them is used: `palate models list` does not.
_PARTS = {
    "ModelInfo": "zoo",
    "cache_folder": "zoo",
    "get": "zoo",
    "list_models": "zoo",
    "resolve": "zoo",
    "TextEncoder": "encoder",
    "load_encoder": "encoder",
    "embed": "cache",
    "embed_counting": "cache",
    "CausalLM": "lm",
    "LoraSettings": "lm",
    "load_causal_lm": "lm",
    "generate": "generation",
    "TokenBatch": "tokens",
    "TokenGroups": "tokens",
    "tokenize_groups": "tokens",
    "SequenceScores": "log_probs",
    "group_log_probs": "log_probs",
    "sequence_log_probs": "log_probs",
}

if TYPE_CHECKING:
    from palate.models.cache import embed as embed
    from palate.models.cache import embed_counting as embed_counting
    from palate.models.encoder import TextEncoder as TextEncoder
    from palate.models.encoder import load_encoder as load_encoder
    from palate.models.generation import generate as generate
    from palate.models.lm import CausalLM as CausalLM
    from palate.models.lm import LoraSettings as LoraSettings
    from palate.models.lm import load_causal_lm as load_causal_lm
    from palate.models.log_probs import SequenceScores as SequenceScores
    from palate.models.log_probs import group_log_probs as group_log_probs
    from palate.models.log_probs import sequence_log_probs as sequence_log_probs
    from palate.models.tokens import TokenBatch as TokenBatch
    from palate.models.tokens import TokenGroups as TokenGroups
    from palate.models.tokens import tokenize_groups as tokenize_groups
    from palate.models.zoo import ModelInfo as ModelInfo
    from palate.models.zoo import cache_folder as cache_folder
    from palate.models.zoo import get as get
    from palate.models.zoo import list_models as list_models
    from palate.models.zoo import resolve as resolve

__all__ = sorted(_PARTS)


def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module 'palate.models' has no attribute {name!r}")
    return getattr(import_module(f"palate.models.{_PARTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PARTS])
