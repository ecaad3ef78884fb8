"""Bradley-Terry leaderboards: Palate beside evalica and choix on the same battles, in one run.

All start from the same columns in memory, two of item names and one of winners, as Arrow strings. Timed are

- `floor`: one pass that turns the names into integers, which nobody who starts from strings can avoid;
- `palate`: from the record (`PreferenceData`) to the leaderboard's table, sandwich intervals included;
- `palate_columns`: the same from the columns, with making and checking the record;
- `evalica`: its Bradley-Terry at its default tolerance, without intervals (it has none), from lists of names
  and a list of its own winner values, both made before the clock starts;
- `choix`: the floor, counting with NumPy, and its dense I-LSR, without intervals.

Agreement is the largest difference of a natural-log strength from Palate's; for it the peers run to a
tolerance of 1e-12. On a busy machine compare the CPU seconds; the load at the end is in the result.

Run: python benchmarks/rank_bradley_terry.py [--sizes 100000 1000000] [--items 200] [--repeats 7]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import choix
import evalica
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import palate
from palate.data import PreferenceData

RESULT = Path(__file__).parent / "results" / "rank_bradley_terry.json"
PACKAGES = ("palate", "evalica", "choix", "numpy", "scipy", "pyarrow")
WINNERS = ("model_a", "model_b", "tie")


def battles(n: int, size: int, seed: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Columns of n battles between `size` items of normal strengths, 15 % ties."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0.0, 0.8, size)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < 1.0 / (1.0 + np.exp(theta[b] - theta[a]))
    winner = np.where(rng.random(n) < 0.15, 2, np.where(won, 0, 1))
    names = pa.array([f"organisation-{i % 37}/model-{i:04d}-chat" for i in range(size)])
    return names.take(pa.array(a)), names.take(pa.array(b)), pa.array(WINNERS).take(pa.array(winner))


def record(a: pa.Array, b: pa.Array, winner: pa.Array) -> PreferenceData:
    """The columns as judgments."""
    n = len(a)
    places = np.arange(2 * n).reshape(2, n).T.ravel()
    offsets = pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32))
    code = pc.index_in(winner, pa.array(WINNERS)).to_numpy()
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[code].ravel()
    return PreferenceData.from_columns(
        {
            "items": pa.ListArray.from_arrays(offsets, pa.concat_arrays([a, b]).take(pa.array(places))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores)),
        }
    )


def encode(a: pa.Array, b: pa.Array) -> pa.ChunkedArray:
    return pa.chunked_array([a, b]).dictionary_encode().unify_dictionaries()


def choix_strengths(a: pa.Array, b: pa.Array, winner: pa.Array, tolerance: float) -> dict[str, float]:
    first, second = encode(a, b).chunks
    names = first.dictionary.to_pylist()
    size = len(names)
    i, j = first.indices.to_numpy(), second.indices.to_numpy()
    code = pc.index_in(winner, pa.array(WINNERS)).to_numpy()
    cell = i.astype(np.int64) * size + j
    counts = [np.bincount(cell[code == k], minlength=size * size).reshape(size, size) for k in range(3)]
    wins = counts[0] + counts[1].T + 0.5 * (counts[2] + counts[2].T)
    strengths = choix.ilsr_pairwise_dense(wins, tol=tolerance, max_iter=1000)
    return dict(zip(names, (strengths - strengths.mean()).tolist(), strict=True))


def evalica_strengths(xs: list[str], ys: list[str], winners: list[Any], tolerance: float) -> dict[str, float]:
    scores = evalica.bradley_terry(xs, ys, winners, tolerance=tolerance, limit=10_000).scores
    logs = np.log(scores.to_numpy())
    return dict(zip(scores.index, (logs - logs.mean()).tolist(), strict=True))


def timed(work: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds and CPU seconds of each piece of work; they take turns, to meet the same machine."""
    wall: dict[str, list[float]] = {name: [] for name in work}
    cpu: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, function in work.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            function()
            if turn:  # the first turn warms up
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
    medians = [{name: statistics.median(values) for name, values in taken.items()} for taken in (wall, cpu)]
    return medians[0], medians[1]


def largest_difference(one: dict[str, float], other: dict[str, float]) -> float:
    return max(abs(value - other[name]) for name, value in one.items())


def measure(n: int, items: int, repeats: int) -> dict[str, Any]:
    a, b, winner = battles(n, items, seed=0)
    data = record(a, b, winner)
    xs, ys = a.to_pylist(), b.to_pylist()
    value = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    winners = [value[name] for name in winner.to_pylist()]
    took, cpu = timed(
        {
            "floor": lambda: encode(a, b),
            "palate": lambda: palate.rank(data).table,
            "palate_columns": lambda: palate.rank(record(a, b, winner)).table,
            "evalica": lambda: evalica.bradley_terry(xs, ys, winners),
            "choix": lambda: choix_strengths(a, b, winner, 1e-8),
        },
        repeats,
    )
    ours = palate.rank(data).strengths
    return {
        "battles": n,
        "items": items,
        "seconds": took,
        "cpu_seconds": cpu,
        "floor_ratio": took["palate"] / took["floor"],
        "times_faster": {
            f"{mine} than {peer}": took[peer] / took[mine]
            for peer in ("evalica", "choix")
            for mine in ("palate", "palate_columns")
        },
        "largest_difference": {
            "evalica": largest_difference(ours, evalica_strengths(xs, ys, winners, 1e-12)),
            "choix": largest_difference(ours, choix_strengths(a, b, winner, 1e-12)),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = []
    for n in arguments.sizes:
        row = measure(n, arguments.items, arguments.repeats)
        rows.append(row)
        print(f"\n{n:,} battles, {arguments.items} items (median of {arguments.repeats})")
        for name, took in row["seconds"].items():
            used, over = row["cpu_seconds"][name] * 1e3, took / row["seconds"]["floor"]
            print(f"  {name:<15} {took * 1e3:9.1f} ms   {used:9.1f} ms of CPU   {over:6.1f} x floor")
        for name, ratio in row["times_faster"].items():
            print(f"  {name}: {ratio:.1f} times faster")
        for name, difference in row["largest_difference"].items():
            print(f"  largest difference from {name}: {difference:.1e}")
    machine = {"cpu": processor(), "cores": os.cpu_count(), "system": platform.system()}
    result = {
        "machine": machine | {"python": platform.python_version()},
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: version(name) for name in PACKAGES},
        "repeats": arguments.repeats,
        "results": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.out}")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor()


if __name__ == "__main__":
    main()
