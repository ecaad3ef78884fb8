"""`palate inspect` and `palate convert`."""

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
    parameters,
    print_json,
    print_mapping,
    print_table,
)
from palate.cli.common import read as read_input


@app.command()
def inspect(
    file: FileArgument,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a file of judgments holds: counts, ties, agreement, biases, connectivity, problems.

    Example: `palate inspect votes.csv`
    """
    found = read_input(file, format, column, label, constant, read).describe()
    if json:
        print_json(found)
        return
    problems = found.pop("problems")
    print_mapping(file, found)
    if problems:
        print_table(
            "\nProblems",
            [{"problem": p["message"], "count": p["count"], "what to do": p["remedy"]} for p in problems],
        )
    else:
        typer.echo("\nNo problems found.")


@app.command()
def convert(
    file: FileArgument,
    output: Annotated[
        str, typer.Argument(help="The file to write; its format follows from its name or --to.")
    ],
    to: Annotated[str | None, typer.Option("--to", "-t", help="Format to write.")] = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="Turn lists into pairs: all, best_worst, best_random or adjacent."),
    ] = None,
    write: Annotated[
        list[str] | None,
        typer.Option("--write", help="An option of the writer: --write lossy=true. Repeatable."),
    ] = None,
) -> None:
    """Read judgments in one format and write them in another.

    Example: `palate convert battles.jsonl pairs.jsonl --to trl`
    """
    data = read_input(file, format, column, label, constant, read)
    if pairs is not None:
        data = data.as_pairs(pairs)  # type: ignore[arg-type]
    data.save(output, format=to, **parameters(write, "--write"))
    typer.echo(f"{output}: {data.n_rows:,} judgments", err=True)
