"""`Report`: what an evaluation found, as numbers, tables, pictures and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from palate.errors import DataError
from palate.report.page import Page
from palate.report.pictures import PICTURES
from palate.runs import atomic_write, to_json

KIND = "palate-report"


@dataclass
class Report:
    """What an evaluation found.

    Attributes:
        title: what was evaluated.
        metrics: flat names to numbers; a quantity that could not be measured is absent, never a default.
        tables: named frames (slices, reliability, confusion, ...).
        examples: comparisons worth reading, as `Page.examples` takes them.
        notes: the findings as sentences.
        config: what was evaluated on what: judge, data fingerprint, options, versions.
    """

    title: str
    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Any]:
        """Plotly figures of those tables that have a picture, drawn when asked for."""
        return {name: PICTURES[name].draw(self.tables[name]) for name in self._drawn()}

    def _drawn(self) -> list[str]:
        return [name for name in PICTURES if name in self.tables and self.tables[name].height]

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {note}" for note in self.notes)])

    def to_json(self, path: str | Path | None = None) -> str:
        """The whole report as JSON text, also written to `path` if given; `from_json` reads it back."""
        text = to_json(
            {
                "kind": KIND,
                "version": 1,
                "title": self.title,
                "metrics": self.metrics,
                "tables": {name: _plain(table) for name, table in self.tables.items()},
                "examples": self.examples,
                "notes": self.notes,
                "config": self.config,
            }
        )
        if path is not None:
            with atomic_write(path) as file:
                file.write(text)
        return text

    @classmethod
    def from_json(cls, source: str | Path | Mapping[str, Any]) -> Self:
        """A report from a file that `to_json` wrote, or from what it holds.

        Raises:
            DataError: the file is no report.
        """
        if isinstance(source, Mapping):
            value: Any = source
        else:
            try:
                value = json.loads(Path(source).read_text("utf-8"))
            except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
                raise DataError(f"cannot be read as a report: {error}", file=source) from None
        if not isinstance(value, Mapping) or value.get("kind") != KIND:
            file = None if isinstance(source, Mapping) else source
            raise DataError("is not a report", file=file, remedy="give a file that `Report.to_json` wrote")
        return cls(
            title=value["title"],
            metrics=dict(value["metrics"]),
            tables={name: _frame(columns) for name, columns in value["tables"].items()},
            examples=list(value["examples"]),
            notes=list(value["notes"]),
            config=dict(value["config"]),
        )

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one HTML page, also written to `path` if given."""
        page = Page(self.title, str(self.config.get("subtitle", "")))
        self.add_to(page)
        if self.config:
            page.heading("How it was made").facts(self.config)
        if path is not None:
            page.write(path)
        return page.html()

    def add_to(self, page: Page, *, nested: bool = False) -> Page:
        """Add findings, pictures, tables and examples to a page, under headings (`nested`: smaller ones)."""
        section = page.subheading if nested else page.heading
        if self.metrics:
            section("In short")
            if figures := _key_figures(self.metrics):
                page.numbers(figures)
        page.notes(self.notes)
        drawn = self._drawn()
        for name in drawn:
            picture, table = PICTURES[name], self.tables[name]
            section(picture.section)
            page.figure(picture.draw(table), picture.caption, picture.alt(table), table)
        if self.examples:
            section("Examples")
            page.examples(self.examples)
        if self.metrics or len(self.tables) > len(drawn):
            section("All numbers")
        for name in self.tables:
            if name not in drawn:
                page.table(self.tables[name], name.replace("_", " "))
        return page.facts(self.metrics, "Every metric") if self.metrics else page


def _plain(table: pl.DataFrame) -> dict[str, Any]:
    return {"columns": table.columns, "values": [column.to_list() for column in table]}


def _frame(table: Mapping[str, Any]) -> pl.DataFrame:
    columns = zip(table["columns"], table["values"], strict=True)
    return pl.DataFrame([pl.Series(name, values, strict=False) for name, values in columns])


_KEY = {
    "accuracy": "agreement with the gold preference",
    "win_rate": "win rate",
    "policy_accuracy": "pairs ranked right by the policy",
    "reference_accuracy": "pairs ranked right by the reference",
    "reward_accuracy": "pairs ranked right by the implicit reward",
    "expected_calibration_error": "expected calibration error",
    "order_consistency": "same verdict in both orders",
    "kendall_tau": "mean rank correlation in a group (tau-b)",
    "length_correlation": "correlation of preference with length",
    "missing": "without an answer",
    "pairs": "pairs judged",
}
_AS_COUNT_OR_NUMBER = ("pairs", "kendall_tau", "length_correlation", "expected_calibration_error")


def _key_figures(metrics: Mapping[str, float]) -> dict[str, str]:
    shown = {}
    for name, text in _KEY.items():
        value = metrics.get(name)
        if value is None:
            continue
        if name in _AS_COUNT_OR_NUMBER:
            shown[text] = f"{value:,.0f}" if name == "pairs" else f"{value:.3f}".replace("-", "−")
        else:
            shown[text] = f"{value:.1%}"
    return shown
