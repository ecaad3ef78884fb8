"""`palate report`: a page from a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.app import app


@app.command()
def report(
    folder: Annotated[str, typer.Argument(help="A run folder of train, align, evaluate or demo.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="The file to write; FOLDER/report.html.")
    ] = None,
) -> None:
    """Write a self-contained HTML report of a run folder.

    Example: `palate report runs/reward`
    """
    from palate.report.run_folder import from_run

    path = from_run(folder).write(out or Path(folder) / "report.html")
    typer.echo(str(path))
