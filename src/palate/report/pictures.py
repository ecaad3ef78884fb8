"""The tables of a report that have a picture, and how each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Picture:
    """How a table is drawn: section, caption, what a reader who cannot see it should know, and the figure."""

    section: str
    caption: str
    alt: Callable[[pl.DataFrame], str]
    draw: Callable[[pl.DataFrame], Any]


def _slices(table: pl.DataFrame) -> Any:
    from palate.report import plots

    shown = table.filter(pl.col("n") >= 10).head(40)
    names = [
        f"{slice_}: {value} ({n:,})" for slice_, value, n in shown.select("slice", "value", "n").iter_rows()
    ]
    bounds = [shown[name].to_numpy() for name in ("accuracy", "lower", "upper")]
    return plots.intervals(names, *bounds, axis="agreement with the gold preference", reference=0.5)


def _reliability(table: pl.DataFrame) -> Any:
    from palate.report import plots

    return plots.reliability(table, axis="how sure the judge was of the side it preferred")


def _lengths(table: pl.DataFrame) -> Any:
    from palate.report import plots

    groups = {}
    for name in ("right", "wrong", "equal"):
        part = table.filter(pl.col("verdict") == name)
        if part.height:
            groups[name] = (part["length_difference"].to_numpy(), part["preference"].to_numpy())
    return plots.scatter(
        groups, x_axis="first response longer by (characters)", y_axis="preference for the first response"
    )


PICTURES = {
    "slices": Picture(
        "Where it is right",
        "Agreement with the gold preference per slice, with 95 % intervals; the dotted line is chance. "
        "Only slices of ten or more pairs are drawn, at most forty.",
        lambda table: f"Agreement for {table.height} slices of the data, as in the table below.",
        _slices,
    ),
    "reliability": Picture(
        "Is its confidence earned?",
        "How often the preferred side was the right one, against how sure the judge was. On the dotted line "
        "a judge that says 80 % is right 80 % of the time; below it, it is too sure. "
        "Larger points hold more pairs.",
        lambda table: f"Reliability diagram with {table.height} bins, as in the table below.",
        _reliability,
    ),
    "lengths": Picture(
        "Does length decide?",
        "Each point is a pair: how much longer its first response is, and how much the judge prefers it. A "
        "rising line means that longer answers win.",
        lambda table: f"Scatter of length difference and preference for {table.height} pairs.",
        _lengths,
    ),
}
"""Table name to picture, in the order in which a page shows them."""
