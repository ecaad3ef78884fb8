"""`palate train sweep`: how the test loss of reward models falls with data and size."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from palate.cli.common import (
    ColumnOption,
    ConstantOption,
    FileArgument,
    FormatOption,
    JsonOption,
    LabelOption,
    ReadOption,
    SeedOption,
    assignments,
    parameters,
    print_json,
    print_table,
)
from palate.cli.common import read as read_input
from palate.cli.train import train
from palate.errors import ConfigError

LEAST_SIZES = 3
"""Through fewer points goes a line whatever the loss does."""


@train.command()
def sweep(
    file: FileArgument,
    out: Annotated[
        str, typer.Option("--out", "-o", help="Run folder; the same command resumes it cell by cell.")
    ] = "runs/sweep",
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", help="Sentence encoder, or 'features'. Repeatable: each is a model."),
    ] = None,
    hidden: Annotated[
        list[str] | None,
        typer.Option(
            "--hidden", help="Widths of hidden layers, 64,32 or 0 for none. Repeatable: each is a model."
        ),
    ] = None,
    sizes: Annotated[
        str | None, typer.Option("--sizes", help="Numbers of judgments to learn from: 100,300,1000.")
    ] = None,
    points: Annotated[int, typer.Option("--points", help="How many sizes, where they are not given.")] = 6,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds, from --seed on.")] = 3,
    test: Annotated[float, typer.Option("--test", help="Share of prompts held out.")] = 0.2,
    test_file: Annotated[
        str | None, typer.Option("--test-file", help="Judgments to test on, in place of held-out prompts.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Column or metadata key that names the group of a test pair.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--class", help="A class of groups: --class adversarial=decoys,errors. Repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another parameter of RewardModel: --set l2=0.1. Repeatable."),
    ] = None,
    seed: SeedOption = 0,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Train on more and more data, in several sizes, and fit the law of the test loss of each class of pairs.

    Example: `palate train sweep pairs.jsonl --by category --out runs/sweep`

    Example: `palate train sweep pairs.parquet --encoder features --hidden 0 --hidden 8 --hidden 64`
    """
    from palate.evaluate import scaling_report
    from palate.evaluate import sweep as run_sweep
    from palate.report.run_folder import from_run

    few = points if sizes is None else len(set(_numbers(sizes, "--sizes")))
    if few < LEAST_SIZES:
        option_name = "--points" if sizes is None else "--sizes"
        raise ConfigError(
            f"{option_name}: {few} different sizes do not show a law; give {LEAST_SIZES} or more"
        )
    if group and by is None:
        raise ConfigError("--class names classes of groups; say with --by what the groups are")
    data = read_input(file, format, column, label, constant, read)
    held_out = None if test_file is None else read_input(test_file, format, column, label, constant, read)
    encoders = encoder or ["all-minilm-l6-v2"]
    widths = [[] if text.strip() == "0" else _numbers(text, "--hidden") for text in hidden or ["0"]]
    models: list[dict[str, Any]] = [
        ({"encoder": name} if len(encoders) > 1 else {}) | ({"hidden": layers} if len(widths) > 1 else {})
        for name in encoders
        for layers in widths
    ]
    settings = {"encoder": encoders[0], "hidden": widths[0], **parameters(option, "--set")}
    classes = {
        name: [part.strip() for part in names.split(",")]
        for name, names in assignments(group, "--class").items()
    }
    runs = run_sweep(
        data, out, models=models, sizes=None if sizes is None else _numbers(sizes, "--sizes"), points=points,
        seeds=seeds, test=test if held_out is None else held_out, by=by, settings=settings, seed=seed,
    )  # fmt: skip
    report = scaling_report(runs, classes or None, seed=seed)
    report.to_json(f"{out}/evaluation.json")
    from_run(out).write(f"{out}/report.html")
    tables = {name: table.to_dicts() for name, table in report.tables.items()}
    if json:
        print_json({"out": out, **report.metrics, **tables})
        return
    print_table(report.title, [_line(row) for row in tables["laws"]])
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"{out}/report.html shows more; every cell is in {out}/losses.csv.")


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text!r} is not a list of whole numbers such as 64,32") from None


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of laws as it is printed."""
    return {
        "class": row["class"],
        "model": row["model"],
        "weights": row["parameters"],
        "b": row["b"],
        "95 %": f"{row['lower']:.3f} to {row['upper']:.3f}",
        "R2": row["r2"],
        "the loss": row["verdict"],
    }
