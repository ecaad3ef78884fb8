"""How long a million arena battles take to load, and how much memory, beside the bare read of the same file.

Each measurement runs in a process of its own, so that peak memory is that of one reader. The floor is
pyarrow's own
read of the file (columns as they are, no judgments); the peer is `pandas.read_csv`. Writes
results/data_load.json.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "data_load.json"
REPEATS = 3


def make(folder: Path, rows: int) -> dict[str, Path]:
    import polars as pl

    rng = np.random.default_rng(0)
    a = rng.integers(0, 200, rows)
    b = (a + rng.integers(1, 200, rows)) % 200
    names = np.array([f"model-{number:03d}" for number in range(200)])
    labels = np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
    frame = pl.DataFrame(
        {
            "question_id": np.arange(rows),
            "model_a": names[a],
            "model_b": names[b],
            "winner": labels[rng.choice(4, rows, p=[0.35, 0.35, 0.15, 0.15])],
            "judge": [f"user-{number}" for number in rng.integers(0, 50_000, rows)],
            "turn": np.ones(rows, np.int64),
            "language": np.array(["English", "German", "Chinese"])[rng.integers(0, 3, rows)],
            "tstamp": 1.68e9 + rng.integers(0, 10**7, rows),
        }
    )
    files = {kind: folder / f"battles.{kind}" for kind in ("csv", "jsonl", "parquet", "arrow")}
    frame.write_csv(files["csv"])
    frame.write_ndjson(files["jsonl"])
    frame.write_parquet(files["parquet"])
    frame.write_ipc(files["arrow"], compat_level=pl.CompatLevel.oldest())
    return files


def run(reader: str, path: Path) -> tuple[float, int]:
    """Seconds and rows of one read, after the reader's packages are imported."""
    if reader.startswith("palate"):
        from palate.data import load, scan
        from palate.data.formats import formats

        formats()
        start = time.perf_counter()
        rows = sum(part.n_rows for part in (scan(path) if reader == "palate scan" else [load(path)]))
    elif reader == "pandas":
        import pandas

        start = time.perf_counter()
        rows = len(pandas.read_csv(path))
    else:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.json
        import pyarrow.parquet

        start = time.perf_counter()
        if path.suffix == ".arrow":
            rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all().num_rows
        else:
            read = {".csv": pa.csv.read_csv, ".jsonl": pa.json.read_json, ".parquet": pa.parquet.read_table}
            rows = read[path.suffix](path).num_rows
    return time.perf_counter() - start, rows


def measure(reader: str, path: Path) -> dict[str, float]:
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        command = [sys.executable, __file__, "--one", reader, str(path)]
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if not best or done["seconds"] < best["seconds"]:
            best = done
    return best


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    results = []
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "judgments.arrow"
        files = make(Path(folder), rows)
        from palate.data import load, write

        write(load(files["parquet"]), own)
        jobs = [(kind, reader) for kind in files for reader in ("pyarrow", "palate", "palate scan")]
        jobs.insert(1, ("csv", "pandas"))
        for kind, reader in [*jobs, ("judgments", "palate")]:
            path = own if kind == "judgments" else files[kind]
            line = {"file": path.name, "reader": reader, "megabytes": round(path.stat().st_size / 1e6, 1)}
            line |= measure(reader, path)
            results.append(line)
            print(line)
    import pandas
    import polars
    import pyarrow

    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "rows": rows,
                "machine": {"cpu": platform.machine(), "cores": _cores(), "os": platform.system()},
                "versions": {
                    "python": platform.python_version(), "pyarrow": pyarrow.__version__,
                    "polars": polars.__version__,
                    "pandas": pandas.__version__,
                },
                "repeats": REPEATS,
                "results": results,
            },
            indent=2,
        )
        + "\n"
    )  # fmt: skip


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        seconds, count = run(sys.argv[2], Path(sys.argv[3]))
        # ru_maxrss would include the parent's memory from before the process became its own.
        status = Path("/proc/self/status").read_text()
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
        print(json.dumps({"seconds": round(seconds, 3), "peak_mib": round(peak), "rows": count}))
    else:
        main()
