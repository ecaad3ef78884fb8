"""`palate recipe`: papers' claims, run and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.app import app
from palate.cli.common import JsonOption, print_json, print_mapping, print_table
from palate.errors import CheckFailed
from palate.recipes.papers import RESULTS

recipe = typer.Typer(help="Papers' claims, run at a size that fits here and checked.", no_args_is_help=True)
app.add_typer(recipe, name="recipe")

NameArgument = Annotated[str, typer.Argument(help="A name of `palate recipe list`.")]
ResultsOption = Annotated[str, typer.Option("--results", help="Folder of recorded results.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", envvar="PALATE_DATA", help="Folder of data that recipes read but cannot ship."),
]


@recipe.command("list")
def list_(results: ResultsOption = str(RESULTS), json: JsonOption = False) -> None:
    """List the recipes with their claims and recorded verdicts.

    Example: `palate recipe list`
    """
    from palate import recipes

    rows = recipes.list_rows(results)
    if json:
        print_json(rows)
    else:
        print_table(
            "Recipes",
            [{name: row[name] for name in ("name", "number", "package", "claim", "status")} for row in rows],
        )


@recipe.command()
def show(name: NameArgument) -> None:
    """Print what a recipe is made of.

    Example: `palate recipe show ranklist`
    """
    from palate import recipes

    print_json(recipes.get(name).model_dump(mode="json"))


@recipe.command()
def run(
    name: NameArgument,
    size: Annotated[str, typer.Option("--size", help="small (two cores), gpu or paper.")] = "small",
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="How many seeds; the recipe says without it.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Run folder; runs/recipes/NAME-SIZE.")
    ] = None,
    data: DataOption = None,
    results: ResultsOption = str(RESULTS),
    record: Annotated[
        bool | None,
        typer.Option(
            "--record/--no-record", help="Record the result; by default where the results folder exists."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a recipe and say whether its claim holds. Exit code 1 if it does not.

    Example: `palate recipe run ranklist`
    """
    from palate import recipes

    result = recipes.run(name, size, seeds, out or Path("runs", "recipes", f"{name}-{size}"), data)
    if record or (record is None and Path(results).is_dir() and seeds is None):
        recipes.record(result, results)
    if json:
        keys = ("name", "size", "seeds", "baseline", "effect", "interval", "threshold", "holds", "seconds")
        print_json(result.model_dump(mode="json", include=set(keys)))
    else:
        _print(result)
    if not result.holds:
        raise typer.Exit(1)


@recipe.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Recipes to check; all recorded ones if left out.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only those marked as fast.")] = False,
    data: DataOption = None,
    results: ResultsOption = str(RESULTS),
) -> None:
    """Run recipes again and fail if a recorded verdict changes.

    Example: `palate recipe check --fast`
    """
    from palate import recipes

    failed = []
    for name in names or recipes.names(fast=fast):
        if not names and data is None and recipes.get(name).files:
            typer.echo(f"{name}: left out, for it reads data that cannot be shipped (--data)")
            continue
        try:
            result = recipes.check(name, results, data=data)
        except CheckFailed as error:
            failed.append(str(error))
            typer.echo(f"{name}: {error}", err=True)
        else:
            typer.echo(f"{name}: {'holds' if result.holds else 'does not hold here'}, as recorded")
    if failed:
        raise CheckFailed(f"{len(failed)} recorded verdicts changed")


@recipe.command()
def report(
    readme: Annotated[
        str, typer.Argument(help="A Markdown file with the markers of the table of papers.")
    ] = "README.md",
    results: ResultsOption = str(RESULTS),
) -> None:
    """Write the table of papers from the recorded results into a Markdown file.

    Example: `palate recipe report README.md`
    """
    from palate import recipes

    changed = recipes.update_readme(readme, results)
    typer.echo(f"{readme}: {'updated' if changed else 'already up to date'}")


def _print(result: object) -> None:
    from palate.recipes import RecipeResult

    assert isinstance(result, RecipeResult)
    low, high = result.interval
    print_mapping(
        f"{result.name}: {result.paper}",
        {
            "claim": result.claim,
            "metric": result.metric,
            "baseline": result.baseline,
            "effect": f"{result.effect:+.4f} (95 %: {low:.4f} to {high:.4f}, {len(result.seeds)} seeds)",
            "needed": result.threshold,
            "seconds": result.seconds,
            "verdict": "holds" if result.holds else "does not hold here",
        },
    )
    print_table(
        "\nChecks",
        [
            {
                "method": c.method,
                "against": c.baseline,
                "effect": c.effect,
                "needed": f"{c.direction} {c.threshold:g}",
                "holds": c.holds,
            }
            for c in result.checks
        ],
    )
    print_table(
        "\nMeans over seeds",
        [{"value": k, "mean": v, "s.e.": result.errors[k]} for k, v in result.means.items()],
    )
    for note in result.notes:
        typer.echo(f"- {note}")
