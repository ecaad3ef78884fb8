"""What the embedding cache saves: the first and the second time that the same texts are embedded.

Distinct English sentences through all-MiniLM-L6-v2. The second pass runs in a process of its own,
as a second `fit` would. Writes results/embedding_cache.json.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "embedding_cache.json"
TEXTS = 10_000


def sentences(count: int) -> list[str]:
    people = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gita", "Hal", "Ida", "Jon")
    verbs = (
        "likes",
        "sells",
        "paints",
        "repairs",
        "describes",
        "remembers",
        "finds",
        "wants",
        "counts",
        "hides",
    )
    sizes = ("small", "large", "old", "new", "green", "broken", "heavy", "quiet", "strange", "plain")
    things = ("boat", "clock", "letter", "garden", "bicycle", "lamp", "violin", "window", "recipe", "map")
    times = ("today", "in the morning", "after the rain", "every week", "near the harbour", "without a word")
    combined = itertools.product(people, verbs, sizes, things, times)
    return [f"{p} {v} the {s} {t} {w}." for p, v, s, t, w in itertools.islice(combined, count)]


def measure(folder: str) -> dict[str, Any]:
    import torch

    from palate.models import embed, load_encoder

    start = time.perf_counter()
    encoder = load_encoder("all-minilm-l6-v2", device="cpu")
    loaded = time.perf_counter()
    vectors = embed(encoder, sentences(TEXTS), cache=folder)
    done = time.perf_counter()
    return {
        "seconds": round(done - loaded, 3),
        "seconds_to_load_the_encoder": round(loaded - start, 3),
        "sum": round(float(abs(vectors).sum()), 2),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        passes = {}
        for name in ("first", "second"):
            command = [sys.executable, __file__, folder]
            passes[name] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout
            )
            print(name, passes[name])
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    assert passes["first"]["sum"] == passes["second"]["sum"]
    result = {
        "what": "embedding the same texts twice through the on-disk cache",
        "encoder": "all-minilm-l6-v2",
        "texts": TEXTS,
        "cache_mb": round(size / 1e6, 1),
        "ratio": round(passes["first"]["seconds"] / passes["second"]["seconds"], 1),
        "machine": {
            "cores": os.cpu_count(),
            "load_before": round(load, 2),
            "processor": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "passes": passes,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
