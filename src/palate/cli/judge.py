"""`palate judge`: annotate prompts and responses with any judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.app import app
from palate.cli.common import (
    ColumnOption,
    ConstantOption,
    FileArgument,
    FormatOption,
    LabelOption,
    ReadOption,
)
from palate.cli.common import read as read_input
from palate.errors import ConfigError

if TYPE_CHECKING:
    from palate.data import PreferenceData
    from palate.judges import Judge

JudgeArgument = Annotated[
    str,
    typer.Argument(
        help="A folder that `palate train` or `palate align` wrote; length; constraints; or llm:MODEL "
        "(a packaged name, folder or hub id), with a rubric as llm:MODEL:RUBRIC."
    ),
]


@app.command()
def judge(
    judge: JudgeArgument,
    file: FileArgument,
    output: Annotated[str, typer.Argument(help="The file to write the judgments to.")],
    to: Annotated[
        str | None, typer.Option("--to", "-t", help="Format to write; follows from the name.")
    ] = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
) -> None:
    """Score the responses of a file with a judge and write its judgments.

    Example: `palate judge runs/reward pairs.jsonl judged.parquet`
    """
    data = read_input(file, format, column, label, constant, read)
    judged = judge_of(judge, data).annotate(data)
    judged.save(output, format=to)
    typer.echo(f"{output}: {judged.n_rows:,} judgments by {judge}", err=True)


def judge_of(spec: str, data: PreferenceData) -> Judge:
    """The judge a user names on the command line."""
    from palate import judges

    kind, _, rest = spec.partition(":")
    if Path(spec).is_dir():
        return _from_folder(Path(spec))
    if kind == "length":
        return judges.LengthJudge()
    if kind == "constraints":
        return judges.ConstraintJudge.from_data(data)
    if kind == "llm":
        model, _, rubric = rest.partition(":")
        if not model:
            raise ConfigError("llm needs a model, as in llm:smollm2-135m-instruct")
        return judges.LLMJudge(model, rubric=rubric or "instruction-following")
    raise ConfigError(
        f"{spec!r} is no judge; give the folder of a reward model or policy, length, constraints or llm:MODEL"
    )


def _from_folder(folder: Path) -> Judge:
    """A reward model or the implicit reward of a policy, wherever in a run folder it lies."""
    from palate.align import Policy
    from palate.reward import RewardModel

    for place in (folder, folder / "model"):
        if (place / "reward.json").exists():
            return RewardModel.load(place)
        if (place / "palate.json").exists():
            return Policy.load(place).judge()
    raise ConfigError(f"{folder} holds neither a reward model nor a policy; give what train or align wrote")
