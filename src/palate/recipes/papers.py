"""The table of papers, made from recorded results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.errors import ConfigError
from palate.recipes.result import RecipeResult, recorded
from palate.recipes.spec import get, names
from palate.runs import atomic_write

BEGIN, END = "<!-- papers:begin -->", "<!-- papers:end -->"
RESULTS = Path("benchmarks/results/recipes")
"""Where results are recorded, from the root of the repository."""


def list_rows(folder: str | Path = RESULTS) -> list[dict[str, Any]]:
    """Every recipe as `name, paper, number, package, claim, status`.

    `status` is "holds" or "does not hold here" as recorded in `folder`, else "not run"; a result of another
    form of the recipe does not count.
    """
    rows = []
    for name in names():
        recipe = get(name)
        result = _current(name, folder)
        status = "not run" if result is None else "holds" if result.holds else "does not hold here"
        facts = recipe.model_dump(include={"name", "paper", "number", "package", "claim"})
        rows.append({**facts, "status": status})
    return rows


def table(folder: str | Path = RESULTS) -> str:
    """The papers as a Markdown table, with effects and intervals from the results in `folder`."""
    head = [
        "#",
        "paper",
        "recipe",
        "package",
        "claim checked",
        "baseline",
        "effect (95% interval)",
        "claimed",
    ]
    lines = ["| " + " | ".join([*head, "verdict"]) + " |", "|--:|---|---|---|---|--:|--:|--:|---|"]
    for row in list_rows(folder):
        result = _current(row["name"], folder)
        cells = [str(row["number"]), row["paper"], f"`{row['name']}`", f"`{row['package']}`", row["claim"]]
        cells += _numbers(result) if result else ["", "", ""]
        cells.append("holds on average" if result and result.holds and not result.firm else row["status"])
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def update_readme(path: str | Path, folder: str | Path = RESULTS) -> bool:
    """Put the table between the markers of the file at `path`; whether that changed the file.

    Raises:
        ConfigError: the file cannot be read, or has not one pair of markers, in order; or there is no such
            folder of results, which would take all verdicts out of the table.
    """
    path = Path(path)
    if not Path(folder).is_dir():
        raise ConfigError(f"there is no folder of results {folder}; give it with --results")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ConfigError(
            f"{path} needs one line {BEGIN!r} and after it one line {END!r} for the table of papers"
        )
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    new = f"{head}{BEGIN}\n{table(folder)}\n{END}{tail}"
    if new == text:
        return False
    with atomic_write(path) as file:
        file.write(new)
    return True


def _current(name: str, folder: str | Path) -> RecipeResult | None:
    result = recorded(name, folder)
    return result if result is not None and result.recipe == get(name).fingerprint() else None


def _numbers(result: RecipeResult) -> list[str]:
    sign = {"at_least": "≥ ", "at_most": "≤ ", "within": "± "}[result.checks[0].direction]
    low, high = result.interval
    return [
        f"{result.baseline:.3f}",
        f"{result.effect:+.3f} ({low:.3f} to {high:.3f})",
        f"{sign}{result.threshold:g}",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
