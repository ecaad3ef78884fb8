"""`palate rank`: leaderboards from judgments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.app import app
from palate.cli.common import (
    ColumnOption,
    ConstantOption,
    FormatOption,
    JsonOption,
    LabelOption,
    ReadOption,
    parameters,
    print_json,
    print_mapping,
    print_table,
    read_options,
)
from palate.cli.common import read as read_input
from palate.errors import ConfigError
from palate.runs import atomic_write

if TYPE_CHECKING:
    from palate.rank import Leaderboard
    from palate.rank.boards import Boards

ROWS = 100
"""Items of a board that are printed for people; all are in the JSON and the CSV file."""

ANNOTATORS = 20
"""Annotators that are printed for people; all are in the JSON."""

REPORTED = ("annotator", "n", "agreement", "expected", "z", "first_share", "change", "item", "flags")
"""Columns of the report on annotators that are printed for people."""

METHODS_HELP = "How items are ranked; 'palate rank --methods' lists all ways."


@app.command()
def rank(
    file: Annotated[
        str | None, typer.Argument(help="A file, a folder, a hub id, or - for standard input.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help=METHODS_HELP)] = "bradley_terry",
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the method: --set ties=drop, --set l2=0.1. Repeatable."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="Covariates for contextual_bt or factor_bt: style, citations, domains, words, ..., or keys "
            "of the metadata, with commas.",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="One board per slice: aspect, time, ..., or a key of the metadata."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", help="Length of a slice of time: year, quarter, month, week, day."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", help="Two items, with a comma: their difference, and how many votes tell."),
    ] = None,
    length_controlled: Annotated[
        str | None,
        typer.Option(
            "--length-controlled",
            help="Win rates against this baseline at equal length, as in AlpacaEval, in place of a board.",
        ),
    ] = None,
    annotators: Annotated[
        bool, typer.Option("--annotators", help="Report on each annotator: agreement, bias, influence.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Count the votes batch by batch: for files larger than memory.")
    ] = False,
    format: FormatOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    constant: ConstantOption = None,
    read: ReadOption = None,
    json: JsonOption = False,
    csv: Annotated[str | None, typer.Option("--csv", help="Write the table to this CSV file.")] = None,
    plot: Annotated[str | None, typer.Option("--plot", help="Write the pictures to this HTML file.")] = None,
    methods: Annotated[bool, typer.Option("--methods", help="List the methods and their options.")] = False,
) -> None:
    """Rank items by strength, with 95 % intervals, rank bounds and advice.

    Example: `palate rank votes.csv --plot board.html`, or `palate rank votes.csv -m davidson --compare a,b`
    """
    from palate.rank.registry import rank as rank_judgments

    if methods:
        _list_methods(json)
        return
    if file is None:
        raise ConfigError("give a file of judgments, or - for standard input")
    options = parameters(option, "--set")
    if stream:
        from palate.rank.streaming import count_file

        if by or features or annotators:
            raise ConfigError(
                "--stream counts votes only; it goes with none of --by, --features, --annotators"
            )
        counting = {name: options.pop(name) for name in ("both_bad", "weights", "cluster") if name in options}
        data: Any = count_file(file, format, **counting, **read_options(column, label, constant, read))
    else:
        data = read_input(file, format, column, label, constant, read)
    if length_controlled:
        if by or features or compare or annotators or stream or plot or options:
            raise ConfigError("--length-controlled is a table of its own: it goes with --json and --csv only")
        _show_length_controlled(data, length_controlled, file, json, csv)
        return
    if features:
        from palate.data.features import battle_features

        if method not in ("contextual_bt", "factor_bt"):
            raise ConfigError(f"the method {method} has no covariates; use contextual_bt or factor_bt")
        options["features"] = battle_features(data, [name.strip() for name in features.split(",")])
    if by:
        if features or compare or annotators:
            raise ConfigError("--by goes with none of --features, --compare, --annotators")
        from palate.rank.boards import rank_by

        _show_boards(rank_by(data, by, method, every=every, **options), file, json, csv, plot)
        return
    if every:
        raise ConfigError("--every says how long a slice of time is; use it with --by time")
    board = rank_judgments(data, method, **options)
    found = board.to_json()
    if compare:
        found["compare"] = _compared(board, compare)
    if annotators:
        from palate.rank.raters import annotator_report, influence

        report = annotator_report(data).join(influence(data).drop("n"), on="annotator", how="left")
        found["annotator_report"] = report.to_dicts()
    _show_board(board, found, file, json, csv, plot)


def _show_board(
    board: Leaderboard, found: dict[str, Any], file: str, json: bool, csv: str | None, plot: str | None
) -> None:
    if csv:
        board.to_csv(csv)
    if plot:
        from palate.report import Page
        from palate.report.run_folder import add_leaderboard

        add_leaderboard(Page(f"Leaderboard of {Path(file).name}"), found, "Ratings").write(plot)
    if json:
        print_json(_fixed_shape(found))
        return
    _print_board(f"{file}: {board.method}", board)
    if board.coefficients is not None:
        print_table("Effects of covariates", board.coefficients.to_dicts())
    if "compare" in found:
        print_mapping("Comparison", found["compare"])
    if "annotator_report" in found:
        _print_annotators(found["annotator_report"])
    elif board.annotators is not None:
        _print_annotators(board.annotators.to_dicts())
    for line in board.diagnostics.get("advice", ()):
        typer.echo(f"- {' '.join(line.split())}")


def _fixed_shape(found: Mapping[str, Any]) -> dict[str, Any]:
    """A board's JSON with three keys, whatever the method: all but the rows is part of the diagnostics."""
    beside = {name: value for name, value in found.items() if name not in ("method", "items", "diagnostics")}
    return {
        "method": found["method"], "items": found["items"], "diagnostics": {**beside, **found["diagnostics"]},
    }  # fmt: skip


def _print_board(title: str, board: Leaderboard) -> None:
    print_table(title, board.table.head(ROWS).to_dicts())
    if len(board.items) > ROWS:
        typer.echo(f"... and {len(board.items) - ROWS:,} more; all are in --json and --csv")


def _print_annotators(rows: list[dict[str, Any]]) -> None:
    """Those that are flagged first, then those that move the board most or voted most."""

    def place(row: Mapping[str, Any]) -> tuple[bool, float, int]:
        flag = row.get("flags", row.get("flag"))
        return flag in (None, "", "too few"), -abs(row.get("change") or 0.0), -int(row["n"])

    first = sorted(rows, key=place)[:ANNOTATORS]
    # A terminal has no room for every column of the report.
    shown = REPORTED if rows and "change" in rows[0] else tuple(rows[0]) if rows else ()
    print_table("Annotators", [{name: row[name] for name in shown} for row in first])
    if len(rows) > ANNOTATORS:
        typer.echo(f"... and {len(rows) - ANNOTATORS:,} more annotators; all are in --json")


def _show_boards(boards: Boards, file: str, json: bool, csv: str | None, plot: str | None) -> None:
    if csv:
        with atomic_write(csv) as out:
            out.write(boards.table.write_csv())
    if plot:
        from palate.report import Page
        from palate.report.run_folder import add_leaderboard

        page = Page(f"Leaderboards of {Path(file).name} by {boards.by}")
        table = boards.table
        page.figure(boards.plot_ranks(), f"Ranks by {boards.by}.", f"Ranks in {len(boards)} slices.", table)
        if len(boards) > 2:
            page.figure(
                boards.plot(), f"Ratings by {boards.by}, less the mean of each.", "A radar picture.", table
            )
        for name, board in boards.boards.items():
            add_leaderboard(page, board.to_json(), name)
        page.write(plot)
    if json:
        found = boards.to_json()
        print_json(found | {"slices": {name: _fixed_shape(one) for name, one in found["slices"].items()}})
        return
    for name, board in boards.boards.items():
        _print_board(f"{file}: {board.method}, {boards.by} {name}", board)
    if len(boards) > 1:
        print_table("Kendall's tau between slices", boards.correlation().to_dicts())
    for name, why in boards.skipped.items():
        typer.echo(f"- {name}: skipped, {why}")


def _show_length_controlled(data: Any, baseline: str, file: str, json: bool, csv: str | None) -> None:
    from palate.evaluate import length_controlled_board

    table = length_controlled_board(data, baseline)
    if csv:
        with atomic_write(csv) as out:
            out.write(table.write_csv())
    if json:
        print_json({"baseline": baseline, "items": table.to_dicts()})
    else:
        shown = table.select("item", "win_rate", "standard_error", "length_controlled", "n", "mean_length")
        print_table(f"{file}: win rates against {baseline}, in percent", shown.to_dicts())


def _compared(board: Leaderboard, pair: str) -> dict[str, Any]:
    """The difference of two items, its test, and the votes that would settle it."""
    from palate.rank.planning import votes_to_separate

    names = [name.strip() for name in pair.split(",")]
    if len(names) != 2 or names[0] == names[1]:
        raise ConfigError(f"--compare {pair!r} is not two items with a comma between them")
    a, b = names
    difference, error, p = board.compare(a, b)
    found: dict[str, Any] = {
        "a": a, "b": b, "difference": difference, "standard_error": error, "p": p,
        "rating_points": difference * board.scale.points,
    }  # fmt: skip
    if board.link is not None:
        probability = board.win_interval(a, b)
        found |= {
            "win_probability": probability.probability,
            "lower": probability.lower,
            "upper": probability.upper,
        }
        if board.by_likelihood and difference:
            needed = votes_to_separate(board, a, b)
            found |= {"more_votes_as_now": needed.more, "or_direct_votes": needed.direct}
    return found


def _list_methods(json: bool) -> None:
    from palate.rank.registry import SUMMARIES, get

    rows = [
        {"method": name, "what": what, "options": ", ".join(sorted(get(name).parameters()))}
        for name, what in SUMMARIES.items()
    ]
    if json:
        print_json(rows)
    else:
        print_table("Ranking methods", rows)
