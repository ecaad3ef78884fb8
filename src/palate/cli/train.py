"""`palate train`: reward models from preferences."""

from __future__ import annotations

from typing import Annotated, Any

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
from palate.errors import PalateError

train = typer.Typer(help="Train what scores responses.", no_args_is_help=True)
app.add_typer(train, name="train")


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
        str, typer.Option("--head", help="What the outputs mean: scalar, attributes, ...")
    ] = "scalar",
    loss: Annotated[str, typer.Option("--loss", help="A loss of `palate.losses`.")] = "bradley_terry",
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
    seed: SeedOption = 0,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Train a reward model and evaluate it on held-out prompts.

    Example: `palate train reward pairs.jsonl --out runs/reward`
    """
    from palate.evaluate import evaluate
    from palate.report.run_folder import from_run
    from palate.reward import RewardModel
    from palate.runs import Run

    data = read_input(file, format, column, label, constant, read)
    settings: dict[str, Any] = {
        "encoder": encoder, "head": head, "loss": loss, "loss_params": parameters(loss_set, "--loss-set"),
        "mode": mode, "seed": seed, "training": parameters(training, "--training") or None,
        **parameters(option, "--set"),
    }  # fmt: skip
    config = {"command": "train reward", "file": file, "test": test, "data": data.fingerprint(), **settings}
    run = Run(out, config)
    run.write_json("data.json", {"fingerprint": data.fingerprint(), **data.describe()})
    learn, held_out = data.split(test, by="prompt", seed=seed)
    if run.done("fit"):
        model = RewardModel.load(run.path("model"))
    else:
        model = RewardModel().set_params(**settings).fit(learn, run=run)
        model.save(run.path("model"))
        run.finish("fit")
    report = evaluate(model, held_out, seed=seed)
    report.to_json(run.path("evaluation.json"))
    from_run(run.folder).write(run.path("report.html"))
    shown = {"out": out, "groups": model.n_groups_, "held_out": held_out.n_rows, **report.metrics}
    if json:
        print_json(shown)
    else:
        print_mapping(f"Reward model in {out} (report.html shows more)", shown)
    if "accuracy" not in report.metrics:
        raise PalateError(
            f"the held-out part has no pair to evaluate on; the model is in {run.path('model')}"
        )
