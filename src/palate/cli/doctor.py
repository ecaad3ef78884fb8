"""`palate doctor`: what is installed and available, and the exact command for what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from palate.cli.app import app
from palate.cli.common import JsonOption, print_json, print_table


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Say what is installed, which models and devices are there, and how to get what is missing.

    Example: `palate doctor`
    """
    findings = [*_system(), *_extras(), *_models(), *_devices()]
    if json:
        print_json({"findings": findings, "missing": sum(not finding["ok"] for finding in findings)})
        return
    for title in dict.fromkeys(str(finding["part"]) for finding in findings):
        rows = [
            {"": "ok" if f["ok"] else "--", "what": f["what"], "found": f["found"], "to get it": f["command"]}
            for f in findings
            if f["part"] == title
        ]
        print_table(title, rows)


def _finding(part: str, what: str, found: str, command: str = "", ok: bool = True) -> dict[str, Any]:
    return {"part": part, "what": what, "found": found, "command": command, "ok": ok}


def _system() -> list[dict[str, Any]]:
    from palate import __version__
    from palate.models.zoo import cache_folder

    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    return [
        _finding("system", "palate", __version__),
        _finding(
            "system", "python", platform.python_version(), "install Python 3.11", sys.version_info >= (3, 11)
        ),
        _finding("system", "cores and memory", f"{os.cpu_count()} cores, {_memory():.0f} GiB"),
        _finding("system", "user cache", f"{cache} ({free:.0f} GiB free)", "set PALATE_CACHE", free > 2),
    ]


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _extras() -> list[dict[str, Any]]:
    """One finding per extra of the installed package, from its own metadata."""
    wanted: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("palate") or ():
        match = re.match(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z]+)['\"]", requirement)
        if match and match[1] != "palate":
            wanted.setdefault(match[2], []).append(match[1])
    findings = []
    for extra, packages in wanted.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        found = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        command = f'pip install "palate[{extra}]"' if missing else ""
        findings.append(
            _finding("extras", extra, found or "nothing" if not missing else f"missing {', '.join(missing)}",
                     command, not missing)
        )  # fmt: skip
    return findings


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _models() -> list[dict[str, Any]]:
    from palate.models.zoo import list_models

    findings = []
    for model in list_models():
        here = model.fetched
        command = "" if here else f"palate models get {model.name}"
        findings.append(
            _finding("models", model.name, str(model.path) if here else "not fetched", command, here)
        )
    return findings


def _devices() -> list[dict[str, Any]]:
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        words = set(re.findall(r"^flags\s*:(.*)$", info.read_text("utf-8"), re.M)[:1] or [""])
        flags = ", ".join(flag for flag in known if flag in " ".join(words).split())
    findings = [_finding("devices", "cpu", f"{platform.machine()} {flags}".strip())]
    if importlib.util.find_spec("torch") is None:
        findings.append(
            _finding("devices", "accelerator", "unknown without torch", 'pip install "palate[train]"', False)
        )
        return findings
    import torch

    if torch.cuda.is_available():
        findings += [
            _finding("devices", f"cuda:{index}", torch.cuda.get_device_name(index))
            for index in range(torch.cuda.device_count())
        ]
    elif torch.backends.mps.is_available():
        findings.append(_finding("devices", "mps", "Apple GPU"))
    else:
        findings.append(_finding("devices", "accelerator", "none; training runs on the CPU"))
    return findings
