"""Views, fingerprint, agreement and description of a million votes, beside peers and floors.

Peers: a plain loop over rows for the pairs, and the package `krippendorff` for alpha (on the same 100,000
votes as a matrix, with the same answer). Floor of the fingerprint: SHA-256 of as many bytes. Best of
several runs, all in this process. Writes results/data_views.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import polars
import pyarrow

from palate.data.agreement import votes as values_of
from palate.data.chance import krippendorff_alpha
from palate.data.simulate import simulate_battles

RESULT = Path(__file__).parent / "results" / "data_views.json"
REPEATS = 5


def best(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def loop_over_rows(items: list[list[str]], scores: list[list[float]]) -> list[tuple[str, str, float]]:
    found = []
    for (a, b), (x, y) in zip(items, scores, strict=True):
        if x > y:
            found.append((a, b, x - y))
        elif y > x:
            found.append((b, a, y - x))
    return found


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    data = simulate_battles(rows, 200, ties=0.5, annotators=5000, prompts=2000, seed=1)
    seconds = {
        "pairs": best(data.pairs),
        "pairs with ties": best(lambda: data.pairs(ties="keep")),
        "pairs best_random": best(lambda: data.pairs("best_random")),
        "rankings": best(data.rankings),
        "ratings": best(data.ratings),
        "split by prompt": best(data.split),
        "group_by_prompt": best(data.group_by_prompt),
        "fingerprint": best(data.fingerprint),
        "describe": best(data.describe),
    }
    items, scores = data.column("items").to_pylist(), data.column("scores").to_pylist()
    seconds["pairs by a loop over lists already in memory"] = best(lambda: loop_over_rows(items, scores))
    content = bytes(data.table.nbytes)
    seconds["SHA-256 of as many bytes"] = best(lambda: hashlib.sha256(content).digest())

    votes = simulate_battles(100_000, 20, ties=0.5, annotators=50, prompts=100, seed=2)
    seconds["alpha, 100,000 votes"] = best(votes.agreement)
    given = values_of(votes).last_ones()
    matrix = np.full((given.annotator.max() + 1, given.unit.max() + 1), np.nan)
    matrix[given.annotator, given.unit] = given.value
    seconds["alpha, matrix given"] = best(lambda: krippendorff_alpha(matrix.T))
    peer = partial(krippendorff.alpha, matrix, level_of_measurement="nominal")
    seconds["alpha by krippendorff, matrix given"] = best(peer)
    difference = abs(votes.agreement().value - peer())

    result = {
        "rows": rows,
        "machine": {
            "cpu": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "os": platform.system(),
            "load average": round(os.getloadavg()[0], 1),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "polars": polars.__version__,
            "pyarrow": pyarrow.__version__,
        },
        "repeats": REPEATS,
        "megabytes": round(data.table.nbytes / 1e6, 1),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "difference of alpha to krippendorff": float(difference),
    }
    for name, value in result["seconds"].items():
        print(f"{name:45s} {value:8.3f} s")
    print(f"difference of alpha to krippendorff: {difference:.2g}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
