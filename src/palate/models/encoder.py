"""Sentence encoders: texts to unit vectors, with any transformer that transformers can load."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from palate.errors import ConfigError, MissingDependency, PalateWarning, unknown
from palate.models.loading import loading, locate, pick_device, pick_dtype, source_fingerprint
from palate.progress import progress

Vectors = npt.NDArray[np.float32]
Pooling = Literal["mean", "last", "cls"]
_POOLINGS = ("mean", "last", "cls")
_LARGEST_WINDOW = 1 << 20


@dataclass
class TextEncoder:
    """A transformer whose final hidden states are pooled into one vector a text.

    Attributes:
        model: the transformers backbone, in evaluation mode.
        tokenizer: its tokenizer.
        name: what was asked for.
        fingerprint: hash of the weights and of everything else the vectors depend on.
        dim: length of a vector.
        max_length: window in tokens; what is longer is cut, counted and warned of.
        pooling: "mean" over the tokens, the "last" token, or the first ("cls").
        normalize: whether vectors have L2 norm 1.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str
    dim: int
    max_length: int
    pooling: Pooling
    normalize: bool

    def encode(self, texts: Sequence[str], batch_size: int = 64, show_progress: bool = False) -> Vectors:
        """Vectors of `texts`, shape (n, dim), float32; warns with counts of texts longer than the window."""
        vectors, lengths = self.encode_counting(texts, batch_size, show_progress)
        self.warn_of_cuts(lengths)
        return vectors

    def encode_counting(
        self, texts: Sequence[str], batch_size: int = 64, show_progress: bool = False
    ) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """As `encode` without the warning, and each text's length in tokens before it is cut, shape (n,)."""
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if not len(texts):
            return vectors, np.zeros(0, dtype=np.int64)
        encoded = self.tokenizer(list(texts), truncation=False, verbose=False, return_attention_mask=False)[
            "input_ids"
        ]
        lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
        if lengths.max() > self.max_length:
            for row in np.flatnonzero(lengths > self.max_length):
                # Cutting again by the tokenizer keeps the special tokens that close a text.
                encoded[row] = self.tokenizer(texts[int(row)], truncation=True, max_length=self.max_length)[
                    "input_ids"
                ]
        order = np.argsort(lengths, kind="stable")[::-1]
        if show_progress:
            with progress("Encoding texts", total=len(texts)) as bar:
                for start in range(0, len(order), batch_size):
                    rows = order[start : start + batch_size]
                    vectors[rows] = self._vectors([encoded[row] for row in rows])
                    bar.advance(len(rows))
        else:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                vectors[rows] = self._vectors([encoded[row] for row in rows])
        return vectors, lengths

    def warn_of_cuts(self, lengths: npt.NDArray[np.int64]) -> None:
        """Warn of texts whose `lengths`, in tokens, exceed the window."""
        cut = int((lengths > self.max_length).sum())
        if cut:
            warnings.warn(
                f"{cut} of {len(lengths)} texts are longer than the {self.max_length} tokens that "
                f"{self.name} reads (the longest has {int(lengths.max())}); only their beginning is encoded",
                PalateWarning,
                stacklevel=3,
            )

    @torch.inference_mode()
    def _vectors(self, batch: list[list[int]]) -> Vectors:
        lengths = torch.tensor([len(ids) for ids in batch])
        longest = max(int(lengths.max()), 1)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in batch])
        mask = (torch.arange(longest) < lengths[:, None]).long()
        device = self.model.device
        ids, mask = ids.to(device), mask.to(device)
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self.pooling == "mean":
            pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        elif self.pooling == "last":
            pooled = states[torch.arange(len(batch), device=device), (mask.sum(1) - 1).clamp(min=0)]
        else:
            pooled = states[:, 0]
        if self.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        out: Vectors = pooled.cpu().numpy()
        return out


def load_encoder(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    max_length: int | None = None,
    pooling: Pooling | None = None,
) -> TextEncoder:
    """Load a text encoder.

    Pooling, normalisation and window are those that a sentence-transformers folder states; other
    transformers, causal language models among them, are pooled by the mean and normalised.

    Args:
        name: packaged name, folder, GGUF file or folder with one, or hub id.
        device: "auto", or as torch names it.
        dtype: "auto" is float32, in which the batch a text is in does not show in its vector.
        max_length: window in tokens; never more than the model has.
        pooling: "mean", "last" or "cls" in place of the stated one.

    Raises:
        ConfigError: the model cannot be found or loaded, or states a step that is not known here.
    """
    source = locate(name)
    where = pick_device(device)
    kind = pick_dtype(dtype, torch.float32)
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingDependency("loading a text encoder", "train") from error
    stated, normalize, window = _stated(source.folder)
    chosen = pooling or stated
    if chosen not in _POOLINGS:
        raise unknown("pooling", chosen, _POOLINGS)
    with loading(source):
        model: Any = AutoModel.from_pretrained(source.location, dtype=kind, **source.arguments)
        tokenizer: Any = AutoTokenizer.from_pretrained(source.location, **source.arguments)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    limits = [
        max_length,
        window,
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", None),
    ]
    known = [int(limit) for limit in limits if limit is not None and limit < _LARGEST_WINDOW]
    length = min(known, default=_LARGEST_WINDOW)
    if length < 3:
        raise ConfigError(f"max_length must be at least 3, not {length}")
    model.to(where)
    model.eval()
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    parts = ("encoder", kind, chosen, normalize, length)
    return TextEncoder(
        model=model,
        tokenizer=tokenizer,
        name=os.fspath(name),
        fingerprint=source_fingerprint(source, model.config, *parts),
        dim=int(model.config.get_text_config().hidden_size),
        max_length=length,
        pooling=chosen,
        normalize=normalize,
    )


def _stated(folder: Path | None) -> tuple[Pooling, bool, int | None]:
    """Pooling, normalisation and window as a sentence-transformers folder states them."""
    if folder is None or not (folder / "modules.json").exists():
        return "mean", True, None
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    pooling: Pooling = "mean"
    normalize = False
    window: int | None = None
    for module in modules:
        kind, path = module["type"].rpartition(".")[2], folder / module["path"]
        if kind == "Transformer":
            settings = path / "sentence_bert_config.json"
            if settings.exists():
                window = json.loads(settings.read_text("utf-8")).get("max_seq_length")
        elif kind == "Pooling":
            pooling = _stated_pooling(path / "config.json")
        elif kind == "Normalize":
            normalize = True
        else:
            raise ConfigError(
                f"{folder}: modules.json has a step {kind!r}, which is not known; known: Pooling, Normalize"
            )
    return pooling, normalize, window


def _stated_pooling(path: Path) -> Pooling:
    names: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    config = json.loads(path.read_text("utf-8"))
    on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(on) != 1 or on[0] not in names:
        raise ConfigError(
            f"{path}: pooling {', '.join(on) or 'missing'} is not known; known: {', '.join(names)}"
        )
    return names[on[0]]
