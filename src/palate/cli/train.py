"""`palate train`: reward models from preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

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
    print_table,
)
from palate.cli.common import read as read_input
from palate.errors import ConfigError, PalateError

if TYPE_CHECKING:
    from palate.data import PreferenceData
    from palate.report import Report
    from palate.reward import RewardModel

train = typer.Typer(help="Train what scores responses.", no_args_is_help=True)
app.add_typer(train, name="train")

SHOWN = 30
"""Rows of a table that are printed; the report has them all."""


@train.command()
def reward(
    file: FileArgument,
    out: Annotated[
        str, typer.Option("--out", "-o", help="Run folder; the same command resumes it.")
    ] = "runs/reward",
    encoder: Annotated[
        str, typer.Option("--encoder", help="Sentence encoder, or 'features' for the data's feature vectors.")
    ] = "all-minilm-l6-v2",
    head: Annotated[
        str,
        typer.Option(
            "--head", help="What the outputs mean: scalar, attributes, ...; several with commas, or all."
        ),
    ] = "scalar",
    loss: Annotated[
        str,
        typer.Option("--loss", help="A loss of `palate.losses` or a sum; several with commas, or all."),
    ] = "bradley_terry",
    hidden: Annotated[
        str | None, typer.Option("--hidden", help="Widths of hidden layers: --hidden 64 or 64,32.")
    ] = None,
    loss_set: Annotated[
        list[str] | None,
        typer.Option("--loss-set", help="A parameter of the loss: --loss-set smoothing=0.1."),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="frozen (fit a head) or finetune (train adapters).")
    ] = "frozen",
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another parameter of RewardModel: --set l2=0.1. Repeatable."),
    ] = None,
    training: Annotated[
        list[str] | None,
        typer.Option("--training", help="A setting of fine-tuning: --training steps=100. Repeatable."),
    ] = None,
    test: Annotated[float, typer.Option("--test", help="Share of prompts held out for evaluation.")] = 0.2,
    validation: Annotated[
        float,
        typer.Option(
            "--validation",
            help="Share of the training prompts to measure on while training; --training select=best keeps "
            "the weights that are best there.",
        ),
    ] = 0.0,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="Break accuracy down by a column or metadata key. Repeatable."),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Compare on this many splits, with the seeds from --seed on.")
    ] = 1,
    seed: SeedOption = 0,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Train a reward model and evaluate it on held-out prompts; of several heads or losses, compare all.

    Example: `palate train reward pairs.jsonl --out runs/reward`

    Example: `palate train reward pairs.jsonl --loss bradley_terry,hinge --head scalar,gpm --out runs/which`
    """
    import numpy as np

    from palate.evaluate import evaluate
    from palate.report.run_folder import from_run
    from palate.reward import RewardModel
    from palate.runs import Run

    heads, losses = _listed(head), _listed(loss)
    several = len(heads) * len(losses) != 1 or "all" in (head, loss) or repeats != 1

    data = read_input(file, format, column, label, constant, read)
    settings: dict[str, Any] = {
        "encoder": encoder, "head": head, "loss": loss, "loss_params": parameters(loss_set, "--loss-set"),
        "mode": mode, "seed": seed, "training": parameters(training, "--training") or None,
        **({} if hidden is None else {"hidden": _widths(hidden)}), **parameters(option, "--set"),
    }  # fmt: skip
    if several:
        if validation:
            raise ConfigError("--validation goes with one model; leave it out of a comparison")
        _compare(data, file, out, heads, losses, settings, test, repeats, by or [], json)
        return
    config = {"command": "train reward", "file": file, "test": test, "data": data.fingerprint(), **settings,
              **({"validation": validation} if validation else {})}  # fmt: skip
    run = Run(out, config)
    run.write_json("data.json", {"fingerprint": data.fingerprint(), **data.describe()})
    learn, held_out = data.split(test, by="prompt", seed=seed)
    if run.done("fit"):
        model = RewardModel.load(run.path("model"))
    else:
        check = None
        if validation:
            learn, check = learn.split(validation, by="prompt", seed=seed)
        model = RewardModel().set_params(**settings).fit(learn, run=run, validation=check)
        model.save(run.path("model"))
        run.finish("fit")
    if (np.diff(held_out.offsets()) < 2).all() and "score" in model.native:
        report = _on_ratings(model, held_out)
    else:
        report = evaluate(model, held_out, slices=by, seed=seed)
    report.to_json(run.path("evaluation.json"))
    from_run(run.folder).write(run.path("report.html"))
    shown = {"out": out, "groups": model.n_groups_, "held_out": held_out.n_rows, **report.metrics}
    if json:
        print_json(shown)
    else:
        print_mapping(f"Reward model in {out} (report.html shows more)", shown)
    if "pairs" in report.metrics and "accuracy" not in report.metrics:
        raise PalateError(
            f"the held-out part has no pair to evaluate on; the model is in {run.path('model')}"
        )


def _on_ratings(model: RewardModel, data: PreferenceData) -> Report:
    """How the scores of single responses agree with their ratings, which hold no pair to compare."""
    import numpy as np

    from palate.evaluate import mos_correlations
    from palate.report import Report

    lengths = np.diff(data.offsets())
    scores = model.score_data(data).scores
    found = mos_correlations(scores[:, 0][lengths > 0], data.scores, mapping="none")
    values = {"ratings": found.n, "pearson": found.plcc, "spearman": found.srcc, "kendall_tau": found.krcc,
              "rmse": found.rmse}  # fmt: skip
    return Report(
        title=f"{model.name} on {found.n:,} rated responses",
        metrics={name: float(value) for name, value in values.items() if value == value},
        notes=["Every judgment rates one response, so there is no pair; scores are held against the ratings. "
               "The error (rmse) is in units of the ratings, and says something after a loss that predicts "
               "them."],
    )  # fmt: skip


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in _listed(text)]
    except ValueError:
        raise ConfigError(f"--hidden {text!r} is not a list of whole numbers such as 64,32") from None


def _compare(
    data: PreferenceData,
    file: str,
    out: str,
    heads: list[str],
    losses: list[str],
    settings: dict[str, Any],
    test: float,
    repeats: int,
    by: list[str],
    json: bool,
) -> None:
    """Fit every head with every loss, and print and keep the comparison."""
    from palate.evaluate import compare_reward_models
    from palate.report.run_folder import from_run
    from palate.runs import Run

    common = {name: value for name, value in settings.items() if name not in ("head", "loss", "seed")}
    config = {"command": "train reward", "file": file, "test": test, "data": data.fingerprint(), **common,
              "heads": heads, "losses": losses, "seed": settings["seed"], "repeats": repeats}  # fmt: skip
    run = Run(out, config)
    run.write_json("data.json", {"fingerprint": data.fingerprint(), **data.describe()})
    report = compare_reward_models(
        data, run.folder, heads=heads, losses=losses, settings=common, test=test, repeats=repeats, by=by,
        seed=settings["seed"],
    )  # fmt: skip
    report.to_json(run.path("evaluation.json"))
    from_run(run.folder).write(run.path("report.html"))
    tables = {name: table.to_dicts() for name, table in report.tables.items()}
    if json:
        print_json({"out": out, **report.metrics, **tables})
        return
    print_table(report.title, [_line(row) for row in tables["models"][:SHOWN]])
    for name in ("categories", "splits"):
        if name in tables:
            print_table(f"\n{name.capitalize()}", tables[name][:SHOWN])
    if "skipped" in tables:
        print_table("\nSkipped", _by_reason(tables["skipped"]))
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"{out}/report.html shows more; the models are in {out}/models.")


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of models as it is printed."""
    return {
        "model": row["model"],
        "accuracy": row["accuracy"],
        "95 %": f"{row['lower']:.3f} to {row['upper']:.3f}",
        "log-loss": row["log_loss"],
        "ECE": row["calibration_error"],
        "p": row["p"],
        "tied": row["tied_with_best"],
        "fit s": row["fit_seconds"],
    }


def _by_reason(skipped: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Reasons for which combinations were skipped, with their number and the first of them."""
    rows: dict[str, dict[str, Any]] = {}
    for row in skipped:
        found = rows.setdefault(row["reason"], {"reason": row["reason"], "n": 0, "first": row["model"]})
        found["n"] += 1
    return list(rows.values())
