"""Run folders: what was run, on which data, with which result, in files a person can read.

A run folder holds ``config.json``, ``data.json`` (fingerprint and counts), ``metrics.jsonl``, ``state.json``
(which steps are done), whatever the steps wrote (``model/``), and ``report.html``. Files are written whole or
not at all, so an interrupted run leaves a folder from which the same command goes on.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from palate.errors import ConfigError


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` and move it into place only if the block ends without an error.

    Folders that are missing are made.

    Raises:
        ConfigError: the file cannot be written there.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; give another place") from error
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def to_json(value: Any) -> str:
    """JSON with sorted keys in which NaN and infinity become null, so that any reader takes it."""
    return json.dumps(_plain(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


class Run:
    """A run folder opened for writing.

    Opening a folder again with the same `config` resumes it; with another `config` it is refused, because a
    mixed folder would say what never happened.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.config: dict[str, Any] = json.loads(to_json(dict(config)))
        existing = self.folder / "config.json"
        if existing.exists():
            before = json.loads(existing.read_text("utf-8"))
            # A run that stopped before it made anything has nothing to protect: a corrected command goes on.
            if before != self.config and not self._has_work():
                existing.unlink()
            elif before != self.config:
                names = before.keys() | self.config.keys()
                changed = sorted(k for k in names if before.get(k) != self.config.get(k))
                raise ConfigError(
                    f"{self.folder} holds a run with other settings ({', '.join(changed)}); "
                    "give another folder with --out, or remove this one"
                )
        if not existing.exists():
            if self.folder.exists() and not self.folder.is_dir():
                raise ConfigError(f"{self.folder} is a file; give a folder with --out")
            with atomic_write(existing) as file:
                file.write(to_json(self.config))

    def _has_work(self) -> bool:
        return any(entry.name not in ("config.json", "data.json") for entry in self.folder.iterdir())

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    def write_json(self, name: str, value: Any) -> Path:
        with atomic_write(self.path(name)) as file:
            file.write(to_json(value))
        return self.path(name)

    def read_json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text("utf-8"))

    def log(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``."""
        line = json.dumps(_plain({"time": round(time.time(), 3), **values}), ensure_ascii=False)
        with open(self.path("metrics.jsonl"), "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line cut off by an interruption is left out."""
        path = self.path("metrics.jsonl")
        if not path.exists():
            return []
        rows = []
        for line in path.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def done(self, step: str) -> bool:
        """Whether `step` was finished by this run or the one it resumes."""
        state = self.path("state.json")
        return state.exists() and step in json.loads(state.read_text("utf-8"))["done"]

    def finish(self, step: str) -> None:
        state = self.path("state.json")
        done: list[str] = json.loads(state.read_text("utf-8"))["done"] if state.exists() else []
        if step not in done:
            self.write_json("state.json", {"done": [*done, step]})
