"""`palate demo`: the whole way on real data."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.app import app
from palate.cli.common import SeedOption


@app.command()
def demo(
    out: Annotated[
        str, typer.Option("--out", "-o", help="Run folder; the same command resumes it.")
    ] = "runs/demo",
    data: Annotated[
        str | None, typer.Option("--data", help="A file of your own in place of the shipped sets.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the alignment.")] = 32,
    seed: SeedOption = 0,
) -> None:
    """Inspect, rank, train a reward model, align SmolLM2-135M, evaluate before and after, write a report.

    Example: `palate demo --data pairs.jsonl`
    """
    from palate.demo import run_demo

    run_demo(out, data=data, steps=steps, seed=seed, say=typer.echo)
