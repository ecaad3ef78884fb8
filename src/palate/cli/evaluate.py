"""`palate evaluate`: how good a judge is on preferences somebody gave."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.app import app
from palate.cli.common import (
    ColumnOption,
    ConstantOption,
    FileArgument,
    FormatOption,
    JsonOption,
    LabelOption,
    ReadOption,
    SeedOption,
    print_json,
)
from palate.cli.common import read as read_input
from palate.cli.judge import JudgeArgument, judge_of


@app.command()
def evaluate(
    judge: JudgeArgument,
    file: FileArgument,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder for evaluation.json and report.html.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", help="Use this many judgments, drawn at random.")
    ] = None,
    seed: SeedOption = 0,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a judge's preferences with those in a file: accuracy with intervals, calibration, biases.

    Example: `palate evaluate runs/reward pairs.jsonl --out runs/evaluation`
    """
    from palate.evaluate import evaluate as evaluate_judge
    from palate.report.run_folder import from_run
    from palate.runs import Run

    data = read_input(file, format, column, label, constant, read)
    if sample is not None and sample < data.n_rows:
        data = data.sample(sample, seed=seed)
    report = evaluate_judge(judge_of(judge, data), data, seed=seed)
    if out is not None:
        run = Run(out, {"command": "evaluate", "judge": judge, "file": file, "sample": sample, "seed": seed})
        run.write_json("data.json", {"fingerprint": data.fingerprint(), **data.describe()})
        report.to_json(run.path("evaluation.json"))
        from_run(run.folder).write(run.path("report.html"))
    if json:
        print_json(report.metrics)
    else:
        typer.echo(str(report))
        if out is not None:
            typer.echo(f"{out}/report.html shows more.")
