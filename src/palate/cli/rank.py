"""`palate rank`: a leaderboard from judgments."""

from __future__ import annotations

from pathlib import Path
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
    print_table,
)
from palate.cli.common import read as read_input


@app.command()
def rank(
    file: FileArgument,
    method: Annotated[
        str, typer.Option("--method", "-m", help="How strengths are estimated.")
    ] = "bradley_terry",
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the method: --set ties=drop, --set l2=0.1. Repeatable."),
    ] = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
    plot: Annotated[str | None, typer.Option("--plot", help="Write the picture to this HTML file.")] = None,
) -> None:
    """Rank items by Bradley-Terry strength, with 95 % intervals and rank bounds.

    Example: `palate rank votes.csv --plot board.html`
    """
    from palate.rank import rank as rank_judgments
    from palate.report import Page
    from palate.report.run_folder import add_leaderboard

    board = rank_judgments(
        read_input(file, format, column, label, constant, read), method, **parameters(option, "--set")
    )
    if plot:
        page = Page(f"Leaderboard of {Path(file).name}")
        add_leaderboard(page, board.to_json(), "Ratings").write(plot)
    if json:
        print_json(board.to_json())
        return
    print_table(f"{file}: {method}", board.table.to_dicts())
    for line in board.diagnostics.get("advice", ()):
        typer.echo(f"- {line}")
