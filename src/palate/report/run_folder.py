"""A page from a run folder: whatever the run left there, in the order a reader wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from palate.errors import DataError
from palate.report.markup import flatten
from palate.report.page import Page
from palate.report.result import KIND, Report

_AXES = {
    "loss": "loss",
    "accuracy": "pairs ranked right",
    "margin": "margin",
    "log_prob": "log-probability (nats)",
    "kl": "divergence from the reference (nats)",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
}
# A model folder inside a run has a config.json too, but none of these.
_RUN_FILES = ("metrics.jsonl", "data.json", "state.json")
_NOT_RESULTS = {
    "config.json", "state.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "generation_config.json", "adapter_config.json", "added_tokens.json", "vocab.json",
}  # fmt: skip
_BESIDE = ("win_matrix", "scale", "level", "coefficients", "annotators", "annotator_report")
"""What a board's diagnostics may hold that is no fact of a line."""
_NOT_CURVES = {"time", "step", "epoch", "stage", "tokens_per_second"}


def from_run(folder: str | Path) -> Page:
    """A page on a run folder and the run folders inside it.

    What it shows follows from what is there: `config.json` and `data.json`, curves from `metrics.jsonl`, and
        every
    JSON file that holds a leaderboard (as printed by ``palate rank --json``), an evaluation
    (`Report.to_json`) or a flat mapping of results. Write the page with ``page.write(folder /
    "report.html")``.

    Raises:
        DataError: the folder is no run folder, or a file in it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder, remedy="give the folder of a run")
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and _has(path, *_RUN_FILES)]
    runs = [folder, *inside] if _has(folder, "config.json", *_RUN_FILES) else inside
    if not runs:
        known = ", ".join(("config.json", *_RUN_FILES))
        raise DataError(
            f"is no run folder: it has none of {known}", file=folder, remedy="give another folder"
        )
    config = _config(folder)
    command = str(config.get("command", "run")).capitalize()
    page = Page(
        str(config.get("title") or f"{command}: {folder.resolve().name}"), str(config.get("subtitle", ""))
    )
    for run in runs:
        _add_run(page, run, "" if run == folder else f"{run.name}: ")
    return page


def _has(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    config = _read(path) if path.exists() else {}
    if not isinstance(config, Mapping):
        raise DataError(
            "holds no settings: it is not a JSON object", file=path, remedy="run the command again"
        )
    return config


def _add_run(page: Page, folder: Path, prefix: str) -> None:
    found = {path: _read(path) for path in sorted(folder.glob("*.json")) if path.name not in _NOT_RESULTS}
    data = found.pop(folder / "data.json", None)
    config = _config(folder)
    if notes := config.get("notes"):
        page.heading(f"{prefix}In short").notes([str(note) for note in notes])
    for path, value in found.items():
        _add_result(page, path, value, prefix)
    if (folder / "metrics.jsonl").exists():
        add_curves(page, folder / "metrics.jsonl", f"{prefix}Training")
    if data:
        add_data(page, data, f"{prefix}Data")
    if config:
        page.heading(f"{prefix}How it was made").facts({k: v for k, v in config.items() if k != "notes"})


def _is_board(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("items"), list) and "method" in value


def _add_result(page: Page, path: Path, value: Any, prefix: str) -> None:
    if isinstance(value, Mapping) and value.get("kind") == KIND:
        _add_report(page, Report.from_json(value), prefix)
        return
    # A number at the front of a file's name is its place in the page, not part of its title.
    heading = prefix + path.stem.lstrip("0123456789_").replace("_", " ").capitalize()
    if _is_board(value):
        add_leaderboard(page, value, heading)
    else:
        page.heading(heading).facts(value if isinstance(value, Mapping) else {"values": value})


def _add_report(page: Page, report: Report, prefix: str) -> None:
    page.heading(f"{prefix}{report.title}")
    report.add_to(page, nested=True)
    if report.config:
        page.facts(report.config, "How it was evaluated")


def add_leaderboard(page: Page, board: Mapping[str, Any], heading: str = "Leaderboard") -> Page:
    """Ratings with intervals, the win matrix, and the table.

    Args:
        page: what to add to.
        board: `method`, `items` (rows with item, strength, rating, lower, upper and more) and optionally
            `win_matrix` (`items` and `probability`), `scale`, `level` and `diagnostics`, in which the others
            may be as well.
        heading: of the section.
    """
    from palate.report import plots

    notes = dict(board.get("diagnostics") or {})
    beside = {name: notes.pop(name) for name in _BESIDE if name in notes}
    board = beside | {name: value for name, value in board.items() if name != "diagnostics"}

    table = pl.DataFrame(board["items"], infer_schema_length=None)
    method = str(board["method"]).replace("_", "-").title()
    scale = board.get("scale", {})
    unit = str(scale.get("unit", "rating (400 points = odds of 10 to 1)"))
    page.heading(heading).text(f"Method: {method}. Scale: {unit}.")
    if not table.height:
        return page.text("No items.")
    shown = table.head(60)
    if {"rating", "lower", "upper"} <= set(table.columns):
        bounds = [
            shown[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("rating", "lower", "upper")
        ]
        cut = "" if table.height <= 60 else f" The first 60 of {table.height:,} are drawn."
        page.figure(
            plots.intervals(shown["item"].to_list(), *bounds, axis=unit),
            f"Ratings with {board.get('level', 0.95):.0%} intervals: where they overlap, items may change "
            f"places with more data.{cut}",
            f"Ratings of {table.height} items; {shown['item'][0]} is first with {shown['rating'][0]:.4g}.",
            table,
        )
    names, chances = _win_matrix(board, shown.head(30))
    if len(names) > 1:
        page.figure(
            plots.matrix(names, chances),
            "How often the row is expected to beat the column, in percent.",
            f"Matrix of the chances of {len(names)} items to win against each other.",
            pl.DataFrame({"row": [str(name) for name in names]}).hstack(
                pl.DataFrame(np.round(chances, 4), schema=[f"{i}: {name}" for i, name in enumerate(names, 1)])
            ),
        )
    if notes:
        page.facts(notes, "Diagnostics of the fit")
    return page


def _win_matrix(board: Mapping[str, Any], shown: pl.DataFrame) -> tuple[list[Any], Any]:
    given = board.get("win_matrix")
    if isinstance(given, Mapping) and given.get("items"):
        chances = np.array(
            [[np.nan if x is None else x for x in row] for row in given["probability"]], dtype=np.float64
        )
        return list(given["items"])[:30], chances[:30, :30]
    if board["method"] != "bradley_terry" or "strength" not in shown.columns:
        return [], None
    strength = shown["strength"].cast(pl.Float64).to_numpy()
    chances = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    np.fill_diagonal(chances, np.nan)
    return shown["item"].to_list(), chances


def add_curves(page: Page, path: str | Path, heading: str = "Training") -> Page:
    """Curves of what a trainer logged: quantities of one kind share a picture, stages follow one another.

    Lines hold `step`, optionally `stage`, and numbers; a name that ends in loss, accuracy, margin, log_prob,
    kl and the like is drawn with its kind.
    """
    rows = list(read_metrics(path))
    steps = [row for row in rows if "step" in row]
    results = [row for row in rows if "step" not in row]
    if not rows:
        return page
    page.heading(heading)
    for stage in dict.fromkeys(row.get("stage", "") for row in steps):
        frame = _numbers([row for row in steps if row.get("stage", "") == stage])
        for kind, columns in _families(frame).items():
            _add_curve(page, frame, kind, columns, str(stage))
    for row in results[-20:]:
        page.facts(
            flatten({k: v for k, v in row.items() if k != "time"}), str(row.get("name", "Logged result"))
        )
    return page


def read_metrics(path: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; one cut off by an interruption is left out."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict):
                yield row


def _numbers(rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(
        name
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    columns = {name: [_number(row.get(name)) for row in rows] for name in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.Float64)).with_columns(
        pl.col("step").cast(pl.Int64)
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _families(frame: pl.DataFrame) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {kind: [] for kind in _AXES}
    for name in frame.columns:
        if name in _NOT_CURVES or frame[name].drop_nulls().len() < 2:
            continue
        kind = next(
            (kind for kind in _AXES if name == kind or name.endswith((f"_{kind}", f"_{kind}s", f"{kind}s"))),
            name,
        )
        families.setdefault(kind, []).append(name)
    return {kind: names for kind, names in families.items() if names}


def _add_curve(page: Page, frame: pl.DataFrame, kind: str, columns: list[str], stage: str) -> None:
    from palate.report import plots

    axis = _AXES.get(kind, kind.replace("_", " "))
    names = {name: name.replace("_", " ") for name in columns}
    where = f" in stage {stage}" if stage else ""
    first, last = frame[columns[0]].drop_nulls()[0], frame[columns[0]].drop_nulls()[-1]
    page.figure(
        plots.curves(frame, "step", names, y_axis=axis),
        f"{', '.join(names.values()).capitalize()} by step{where}.",
        f"{axis} over {frame.height} steps{where}: {names[columns[0]]} goes from {first:.4g} to {last:.4g}.",
        frame.select("step", *columns),
    )


def add_data(page: Page, data: Mapping[str, Any], heading: str = "Data") -> Page:
    """What `PreferenceData.describe` says of the data: figures, problems found, and the rest folded away."""
    given = {name: value for name, value in data.items() if value is not None}
    simple = {name: value for name, value in given.items() if not isinstance(value, Mapping | list)}
    page.heading(heading).facts(simple)
    problems = data.get("problems")
    if isinstance(problems, list) and problems:
        page.subheading("Problems found").notes([_problem(problem) for problem in problems])
    rest = {name: value for name, value in given.items() if name not in simple and name != "problems"}
    return page.facts(rest, "More about the data") if rest else page


def _problem(problem: Any) -> str:
    if isinstance(problem, Mapping) and "message" in problem:
        return "; ".join(str(problem[name]) for name in ("message", "remedy") if problem.get(name))
    return problem if isinstance(problem, str) else json.dumps(problem, ensure_ascii=False)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"cannot be read: {error}", file=path, remedy="remove the file or run the command again"
        ) from None
