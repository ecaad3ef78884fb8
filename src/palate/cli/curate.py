"""`palate curate`: clean preference pairs, and filter their labels."""

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
    JsonOption,
    LabelOption,
    ReadOption,
    print_json,
    print_mapping,
    print_table,
)
from palate.cli.common import read as read_input
from palate.cli.judge import judge_of
from palate.errors import ConfigError

if TYPE_CHECKING:
    from palate.curate import Cleaned

curate = typer.Typer(no_args_is_help=True, help="Clean preference pairs, and filter their labels.")
app.add_typer(curate, name="curate")

OutputArgument = Annotated[
    str, typer.Argument(help="The file to write; its format follows from its name or --to.")
]
ToOption = Annotated[str | None, typer.Option("--to", "-t", help="Format to write.")]
DroppedOption = Annotated[
    str | None, typer.Option("--dropped", help="Write what was left out, and why, to this JSONL file.")
]
JUDGE = "the folder of a reward model, length, constraints or llm:MODEL"


@curate.command()
def dedup(
    file: FileArgument,
    output: OutputArgument,
    to: ToOption = None,
    dropped: DroppedOption = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Leave out pairs with an empty text, and all but the first of equal pairs.

    Example: `palate curate dedup pairs.jsonl clean.parquet`
    """
    from palate.curate import dedup as clean

    _written(clean(read_input(file, format, column, label, constant, read)), output, to, dropped, json)


@curate.command()
def decontaminate(
    file: FileArgument,
    output: OutputArgument,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", help="A file of judgments or a .txt file of one prompt a line."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Words in a row that count as a copy.")] = 13,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Look in the responses too, not only in the prompts.")
    ] = False,
    to: ToOption = None,
    dropped: DroppedOption = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Leave out pairs that share 13 words in a row with a prompt of a benchmark.

    Example: `palate curate decontaminate pairs.jsonl clean.parquet --benchmark rewardbench.parquet`
    """
    from palate.curate import decontaminate as clean
    from palate.data import load

    if not benchmark:
        raise ConfigError("give the files to keep apart from with --benchmark")
    held = {name: _lines(name) if name.endswith(".txt") else load(name) for name in benchmark}
    data = read_input(file, format, column, label, constant, read)
    _written(clean(data, held, n=n, where="all" if everywhere else "prompt"), output, to, dropped, json)


@curate.command()
def consistency(
    file: FileArgument,
    output: OutputArgument,
    gold: Annotated[str, typer.Option("--gold", help=f"Judge learnt from verified pairs alone: {JUDGE}.")],
    best: Annotated[str, typer.Option("--best", help=f"The best judge at hand: {JUDGE}.")],
    llm: Annotated[
        str | None, typer.Option("--llm", help=f"Who decides where they leave it open: {JUDGE}.")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Probability above which a judge agrees with a label.")
    ] = 0.5,
    recycle: Annotated[bool, typer.Option("--recycle", help="Write the flipped pairs too.")] = False,
    to: ToOption = None,
    decisions: Annotated[
        str | None, typer.Option("--decisions", help="Write every decision and reason to this JSONL file.")
    ] = None,
    undecided: Annotated[
        str | None, typer.Option("--undecided", help="Write the pairs that need an answer of --llm here.")
    ] = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
) -> None:
    """Keep, flip or discard labels by two judges, and a third where they leave it open.

    Example: `palate curate consistency wild.parquet kept.parquet --gold runs/gold --best runs/best --llm
    llm:smollm2-135m-instruct`
    """
    from palate.curate import consistency as check
    from palate.data.formats.output import check_output

    # Judges may take hours; a name that cannot be written is said before they are asked.
    check_output(output, to)
    if undecided is not None:
        check_output(undecided)
    data = read_input(file, format, column, label, constant, read)
    found = check(
        data, judge_of(gold, data), judge_of(best, data), None if llm is None else judge_of(llm, data),
        threshold=threshold, recycle=recycle,
    )  # fmt: skip
    kept = found.data
    # What judges said comes first: where nothing is kept, the output cannot be written.
    if decisions is not None:
        _jsonl(found.table.write_ndjson(), decisions)
    if undecided is not None:
        data.take(found.needs_llm).save(undecided)
    kept.save(output, format=to)
    if json:
        print_json({**found.counts, "written": kept.n_rows, "reasons": found.reasons.to_dicts()})
        return
    print_table(f"{output}: {kept.n_rows:,} of {data.n_rows:,} judgments", found.reasons.to_dicts())


def _written(found: Cleaned, output: str, to: str | None, dropped: str | None, json: bool) -> None:
    found.data.save(output, format=to)
    if dropped is not None:
        _jsonl(found.dropped.write_ndjson(), dropped)
    if json:
        print_json(found.counts)
    else:
        print_mapping(output, found.counts)


def _jsonl(text: str, path: str) -> None:
    from palate.runs import atomic_write

    with atomic_write(path) as file:
        file.write(text)


def _lines(name: str) -> list[str]:
    try:
        return [line for line in Path(name).read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} cannot be read: {error}") from None
