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
from palate.errors import unknown


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
    probes: Annotated[
        bool, typer.Option("--probes", help="Also try changes that add nothing and should not pay.")
    ] = False,
    style: Annotated[
        bool, typer.Option("--style", help="Also set length and markdown aside and see what is left.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option("--suite", help="Also score a benchmark whose pairs the file holds: reward-bench."),
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
    from palate.evaluate import Report, hacking_probes, reward_bench_of, style_report
    from palate.evaluate import evaluate as evaluate_judge
    from palate.report.run_folder import from_run
    from palate.runs import Run

    if suite not in (None, "reward-bench"):
        raise unknown("suite", suite, ("reward-bench",))
    data = read_input(file, format, column, label, constant, read)
    if sample is not None and sample < data.n_rows:
        data = data.sample(sample, seed=seed)
    chosen = judge_of(judge, data)
    reports = {"evaluation": evaluate_judge(chosen, data, seed=seed)}
    if probes:
        reports["probes"] = hacking_probes(chosen, data, seed=seed)
    if style:
        reports["style"] = style_report(chosen, data)
    if suite is not None:
        scores = reward_bench_of(chosen, data)
        reports["suite"] = Report(
            "RewardBench",
            metrics=scores,
            notes=[f"{name}: {value:.1%}" for name, value in scores.items()],
        )
    if out is not None:
        config = {"command": "evaluate", "judge": judge, "file": file, "sample": sample, "seed": seed}
        extra = {"probes": probes, "style": style, "suite": suite}
        run = Run(out, config | {name: value for name, value in extra.items() if value})
        run.write_json("data.json", {"fingerprint": data.fingerprint(), **data.describe()})
        for name, report in reports.items():
            report.to_json(run.path(f"{name}.json"))
        from_run(run.folder).write(run.path("report.html"))
    if json:
        more = {name: report.metrics for name, report in reports.items() if name != "evaluation"}
        print_json({**reports["evaluation"].metrics, **more})
    else:
        for report in reports.values():
            typer.echo(str(report))
        if out is not None:
            typer.echo(f"{out}/report.html shows more.")
