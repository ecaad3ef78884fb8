"""`palate align`: a language model from preferences."""

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
    parameters,
    print_json,
    print_mapping,
)
from palate.cli.common import read as read_input


@app.command()
def align(
    model: Annotated[str, typer.Argument(help="Packaged name, folder or hub id of a causal language model.")],
    file: FileArgument,
    method: Annotated[str, typer.Option("--method", "-m", help="dpo, simpo, ipo, cdpo, ...")] = "dpo",
    out: Annotated[
        str, typer.Option("--out", "-o", help="Run folder; the same command resumes it.")
    ] = "runs/policy",
    beta: Annotated[float | None, typer.Option("--beta", help="Strength; the method has a default.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A training setting: --set steps=60, --set learning_rate=1e-4. Repeatable."
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Save a plain model with the adapters merged in.")
    ] = False,
    seed: SeedOption = 0,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Train a language model on preferences; writes a transformers or peft folder to OUT/model.

    Example: `palate align smollm2-135m-instruct pairs.jsonl --method dpo --set steps=60`
    """
    from palate.align import align as align_policy
    from palate.report.run_folder import from_run

    data = read_input(file, format, column, label, constant, read)
    policy = align_policy(
        model, data, method, out=out, beta=beta, merge=merge, seed=seed, **parameters(option, "--set")
    )
    from_run(out).write(f"{out}/report.html")
    if json:
        print_json({"out": out, "model": f"{out}/model", **policy.summary})
    else:
        print_mapping(f"Policy in {out}/model (report.html shows the curves)", policy.summary)
