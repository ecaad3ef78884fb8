"""Write docs/benchmarks.md from the result files, so that no figure there comes from anywhere else.

Run: python benchmarks/summary.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return [*lines, *(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows), ""]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def section(title: str, name: str, text: str) -> list[str]:
    return [
        f"## {title}",
        "",
        text,
        "",
        f"`benchmarks/{name}.py` wrote `benchmarks/results/{name}.json`.",
        "",
    ]


def rank(r: dict[str, Any]) -> list[str]:
    lines = section(
        "Leaderboards",
        "rank",
        "Seconds from columns of strings in memory to the board's table, intervals included where the method has any; "
        "median of several runs, slow peers run once. A ratio is the peer's time over Palate's. The floor is one pass "
        "that turns the names into integers on one core. Differences are the largest of any strength or score from the "
        "peer's at a tight tolerance. evalica and choix give no intervals.",
    )
    rows = [row for part in r["sections"].values() for row in part["rows"]]
    lines += table(
        ("", "votes", "seconds", "peer", "its seconds", "ratio", "times the floor", "difference", "target"),
        (
            (
                row["method"], row["case"] + (f" ({row['note']})" if "note" in row else ""), row["seconds"],
                row.get("peer", ""), row.get("peer_seconds", ""), row.get("ratio", ""), row.get("floor_ratio", ""),
                f"{row['difference']:.1e}" if "difference" in row else "", _target(row),
            )
            for row in rows
        ),
    )  # fmt: skip
    missed = [f"{row['method']}, {row['case']}" for row in rows if row.get("met") is False]
    aimed = sum("met" in row for row in rows)
    said = f"{aimed - len(missed)} of {aimed} targets are met." if aimed else "No row has a target."
    return [*lines, said + (f" Not met: {'; '.join(missed)}." if missed else ""), ""]


def _target(row: dict[str, Any]) -> str:
    return f"{row['target']}: {'met' if row['met'] else 'not met'}" if "target" in row else ""


def load(r: dict[str, Any]) -> list[str]:
    lines = section(
        "Loading a million battles",
        "data_load",
        "Best time and peak memory of the process. pyarrow's own read of the file is the floor; Palate also checks every "
        "row and makes judgments of them.",
    )
    rows = [(row["file"], row["reader"], row["seconds"], row["peak_mib"]) for row in r["results"]]
    return lines + table(("file", "reader", "seconds", "peak MiB"), rows)


def views(r: dict[str, Any]) -> list[str]:
    lines = section("Views of a million judgments", "data_views", "Seconds, best of several.")
    return lines + table(("operation", "seconds"), r["seconds"].items())


def cache(r: dict[str, Any]) -> list[str]:
    passes = r["passes"]
    return section(
        "The embedding cache",
        "embedding_cache",
        f"{r['texts']:,} texts through {r['encoder']}: {passes['first']['seconds']:.1f} s the first time, "
        f"{passes['second']['seconds']:.2f} s the second.",
    )


def reward(r: dict[str, Any]) -> list[str]:
    lines = section(
        "Reward models",
        "reward",
        "A fit on frozen embeddings beside its peers, the same penalised objective for all. Palate starts from the "
        "embeddings and pairs; peers start from differences in memory, and making those is the third column. A ratio is "
        "the peer's time over Palate's.",
    )
    for part in (r["frozen"], r["frozen"].get("minilm")):
        if part is None:
            continue
        rows = [
            (
                row["way"], row["seconds"], row.get("seconds_to_make_differences", ""), row.get("ratio", ""),
                row.get("ratio_with_differences", ""), f"{row['held_out_loss']:.6f}", row["iterations"],
            )
            for row in part["rows"]
        ]  # fmt: skip
        what = "drawn embeddings" if part is r["frozen"] else "embeddings by MiniLM"
        lines += [f"{part['pairs']:,} pairs of {what}, {part['held_out_pairs']:,} held out:", ""]
        head = ("", "seconds", "differences", "ratio", "with differences", "held-out loss", "iterations")
        lines += table(head, rows)
    ours = r["frozen"]["rows"][0]
    lines += [
        f"Reading once what the fit reads, {ours['gib_moved']:.1f} GiB, takes {ours['seconds_to_read_as_much']:.2f} s: "
        f"the fit takes {ours['times_the_floor']:.1f} times that. `fit_arrays`, which also checks every number and "
        f"takes a fingerprint, took {ours['seconds_of_fit_arrays_with_checks_and_fingerprint']:.1f} s.",
        "",
        f"Forward and backward of {r['ranklist']['batch']} lists of n on one thread, in seconds; the ratio is that of all pairs by "
        "definition to one skip:",
        "",
    ]
    lists = r["ranklist"]["seconds"]
    lines += table(tuple(lists[0]), [tuple(row.values()) for row in lists])
    lines += [
        "Margins between all pairs of n responses, each encoded once, and by a model that reads pairs:",
        "",
    ]
    margins = r["gpm"]["rows"]
    head = ("n", "encodes", "seconds", "encodes of pairs", "their seconds", "ratio")
    return lines + table(head, [tuple(row.values()) for row in margins])


def log_probs(r: dict[str, Any]) -> list[str]:
    lines = section(
        "Log-probabilities in chunks",
        "log_probs",
        f"{r['rows']} x {r['length']} tokens of {r['model']}, beside the form that holds all logits.",
    )
    rows = [
        (
            f"{name}, {way}",
            result["speed"]["tokens_per_second"][way],
            result["memory"][way]["peak_memory_above_loaded_model_mb"],
        )
        for name, result in r["results"].items()
        for way in ("naive", "chunked")
    ]
    return lines + table(("", "tokens/s", "peak MB above the loaded model"), rows)


def demo(r: dict[str, Any]) -> list[str]:
    lines = section(
        "The demo",
        "demo",
        f"{r['seconds']['demo']:.0f} s and {r['peak_memory_gib']:.1f} GiB at the peak on {r['machine']['cores']} cores, "
        f"after {r['seconds']['fetch and convert the models']:.0f} s to fetch and convert the models once.",
    )
    return lines + table(("step", "seconds"), r["steps"].items())


PARTS = {
    "demo": demo, "rank": rank, "data_load": load, "data_views": views, "embedding_cache": cache,
    "reward": reward, "log_probs": log_probs,
}  # fmt: skip


def main() -> None:
    lines = [
        "# Benchmarks",
        "",
        "Measured on two cores of a shared virtual machine without a GPU; the result files have versions, sizes and the "
        "load at the time. `make bench` runs all of them. This page is written by `benchmarks/summary.py`.",
        "",
    ]
    for name, part in PARTS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            lines += part(json.loads(path.read_text("utf-8")))
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
