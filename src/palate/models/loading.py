"""What every loader of a transformer needs: place, device, dtype, fingerprint, and one clear error."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from palate.errors import ConfigError, unknown
from palate.models.zoo import MODELS, resolve

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WHOLE = 1 << 30
_BLOCK = 1 << 16
_BLOCKS = 256


@dataclass(frozen=True)
class Source:
    """Where a model comes from, as arguments of ``from_pretrained``."""

    name: str
    location: str
    gguf_file: str | None = None

    @property
    def folder(self) -> Path | None:
        path = Path(self.location)
        return path if path.is_dir() else None

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.gguf_file is None else {"gguf_file": self.gguf_file}


def locate(name: str | os.PathLike[str]) -> Source:
    """Find model `name`: a packaged name, a folder (safetensors or one GGUF file), a GGUF file, a hub id."""
    location = resolve(name)
    path = Path(location)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ConfigError(f"{path} is a file; give the folder of the model, or a GGUF file")
        return Source(os.fspath(name), str(path.parent), path.name)
    if path.is_dir() and not any(
        (path / config).exists() for config in ("config.json", "adapter_config.json")
    ):
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) != 1:
            found = ", ".join(gguf.name for gguf in ggufs) or "neither config.json nor a GGUF file"
            raise ConfigError(
                f"{path} is not one model: it holds {found}; give the file or folder of one model"
            )
        return Source(os.fspath(name), location, ggufs[0].name)
    return Source(os.fspath(name), location)


def pick_device(device: str | torch.device) -> torch.device:
    """The device for "auto" (CUDA, then Apple's MPS, then CPU) or the one that is named."""
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}; give auto, cpu, cuda, cuda:0, mps") from error


def fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes in bfloat16 in hardware; elsewhere it is slower than float32 or not there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, flag, lambda: False)() for flag in flags)


def pick_dtype(dtype: str | torch.dtype, default: torch.dtype) -> torch.dtype:
    """The dtype that is named, or `default` for "auto"."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return default
    if dtype not in _DTYPES:
        raise unknown("dtype", dtype, ["auto", *_DTYPES])
    return _DTYPES[dtype]


def fingerprint(folder: str | Path, *parts: object) -> str:
    """A short hash of the model files in `folder` and of `parts` (dtype, pooling, ...), to key caches by.

    Weights of up to 1 GiB a file are read whole; larger files by 256 blocks spread over them, their size and
    their time of change.
    """
    digest = hashlib.sha256()
    names = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.is_file()
        and path.suffix in {".json", ".safetensors", ".gguf", ".jinja", ".model", ".txt", ".bin"}
    )
    for path in names:
        if path.name in {"palate.json", "generation_config.json"} or path.name.startswith("."):
            continue
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0".encode())
        _hash_file(path, digest)
    for part in parts:
        digest.update(f"\1{part}".encode())
    return digest.hexdigest()[:32]


def _hash_file(path: Path, digest: Any) -> None:
    stat = path.stat()
    with open(path, "rb") as file:
        if stat.st_size <= _WHOLE:
            digest.update(hashlib.file_digest(file, "sha256").digest())
            return
        digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        for block in range(_BLOCKS):
            file.seek(block * (stat.st_size - _BLOCK) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))


def source_fingerprint(source: Source, config: Any, *parts: object) -> str:
    """`fingerprint` of a located model; a hub model is known by its name and commit."""
    if source.folder is not None:
        return fingerprint(source.folder, source.gguf_file, *parts)
    words = [source.location, getattr(config, "_commit_hash", None), *parts]
    return hashlib.sha256("\1".join(map(str, words)).encode()).hexdigest()[:32]


@contextmanager
def loading(source: Source) -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be loaded into one line."""
    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"cannot load model {source.name!r}: {reason}; "
            f"packaged models that need no hub: {', '.join(sorted(MODELS))}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from logging and from drawing bars of its own while a model is read or written."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        # Some of the bars ask no setting: they are drawn on stderr whatever is configured.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(before)
        if shown:
            transformers_logging.enable_progress_bar()
