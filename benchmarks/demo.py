"""How long `palate demo` takes and how much memory it holds, with no cache but the fetched models.

Run: python benchmarks/demo.py
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "demo.json"
MODELS = ("smollm2-135m-instruct", "all-minilm-l6-v2")
PACKAGES = ("palate", "torch", "transformers", "numpy", "polars")


def timed(*arguments: str, cache: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "palate", *arguments], check=True, env={**os.environ, "PALATE_CACHE": cache}
    )
    return round(time.perf_counter() - start, 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache, out = f"{folder}/cache", f"{folder}/demo"
        fetch = timed("models", "get", *MODELS, cache=cache)
        before = os.getloadavg()[0]
        demo = timed("demo", "--out", out, cache=cache)
        lines = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text("utf-8").splitlines()]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )
    result = {
        "what": "palate demo on the shipped sets, embeddings and reference log-probabilities not cached",
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "load_before": round(before, 2),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "seconds": {"fetch and convert the models": fetch, "demo": demo},
        "steps": {line["name"]: line["seconds"] for line in lines},
        "peak_memory_gib": round(peak, 2),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
