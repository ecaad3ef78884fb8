"""What several commands share: reading the input and printing results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from palate.data import PreferenceData, load
from palate.errors import ConfigError
from palate.runs import to_json

FileArgument = Annotated[str, typer.Argument(help="A file, a folder, a hub id, or - for standard input.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", "-f", help="Format of the input; detected where left out.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", help="Read a field from a column of another name: --column model_a=left. Repeatable."
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", help="Read a value as another: --label left=model_a. Repeatable."),
]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--constant", help="One value for the whole file: --constant aspect=helpfulness. Repeatable."
    ),
]
ReadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--read", help="An option of the format's reader: --read columns_are=annotator. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
OutOption = Annotated[str | None, typer.Option("--out", "-o", help="Folder or file to write to.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def read(
    file: str,
    format: str | None,
    column: list[str] | None,
    label: list[str] | None,
    constant: list[str] | None,
    read: list[str] | None,
) -> PreferenceData:
    """Load the input of a command with the options every reading command has."""
    return load(file, format=format, **read_options(column, label, constant, read))


def read_options(
    column: list[str] | None, label: list[str] | None, constant: list[str] | None, read: list[str] | None
) -> dict[str, Any]:
    """Those options as the arguments of `palate.load`."""
    options: dict[str, Any] = {name: _value(text) for name, text in assignments(read, "--read").items()}
    if column:
        options["columns"] = assignments(column, "--column")
    if label:
        options["labels"] = assignments(label, "--label")
    if constant:
        options["constants"] = assignments(constant, "--constant")
    return options


def assignments(values: Iterable[str] | None, option: str) -> dict[str, str]:
    """`["a=b", ...]` as a dict."""
    pairs: dict[str, str] = {}
    for text in values or ():
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"{option} {text!r} is not of the form NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _value(text: str) -> Any:
    """Numbers, true, false and null as such; everything else as text."""
    value = _parsed(text)
    return text if isinstance(value, list | dict) else value


def _parsed(text: str) -> Any:
    """JSON as what it says, everything else as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def parameters(values: Iterable[str] | None, option: str) -> dict[str, Any]:
    """`["beta=0.1", 'anchor={"a": 1000}', ...]` as a dict: JSON as what it says, everything else as text."""
    return {name: _parsed(text) for name, text in assignments(values, option).items()}


def print_json(value: Any) -> None:
    typer.echo(to_json(value))


def print_mapping(title: str, values: Mapping[str, Any]) -> None:
    """A two-column table of names and values."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left", box=None, pad_edge=False)
    for name, value in values.items():
        table.add_row(str(name), show(value))
    Console().print(table)


def print_table(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """A table with one column per key of the first row."""
    from rich.console import Console
    from rich.table import Table

    rows = list(rows)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(str(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(show(value) for value in row.values()))
    Console().print(table)


def show(value: Any) -> str:
    """A value as a person reads it."""
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {show(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        between = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return between.join(show(item) for item in value)
    return escape(str(value))
