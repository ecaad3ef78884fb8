"""Pictures as Plotly figures, without colours or fonts of their own: the page gives them its own, in light
and dark.

Names that come from data are escaped and cut here, because Plotly reads markup in its texts. Categories are
placed by number, so that two long names cut to the same beginning stay two.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import polars as pl

from palate.report.markup import clean, number

DIVERGING = [[0.0, "#c8651b"], [0.5, "#f1ede4"], [1.0, "#2f5fa8"]]


def label(text: object, limit: int = 32) -> str:
    """A name fit for an axis or a legend: one line, escaped, cut with an ellipsis."""
    line = " ".join(clean(text).split())
    return html.escape(line if len(line) <= limit else line[: limit - 1] + "…", quote=False)


def intervals(
    names: Sequence[object],
    value: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    *,
    axis: str,
    reference: float | None = None,
    name_length: int = 32,
) -> go.Figure:
    """Values with their intervals, one below the other in the order given.

    Args:
        names: n names.
        value, lower, upper: shape (n,); NaN bounds draw a value without an interval.
        axis: what is measured, with its unit.
        reference: where to draw a thin line (chance, the baseline), if anywhere.
        name_length: characters of a name that are shown.
    """
    v, lo, hi = (np.asarray(part, dtype=np.float64) for part in (value, lower, upper))
    places = np.arange(len(v))
    hover = [
        f"<b>{label(name, 80)}</b><br>{number(x)} ({number(a)} to {number(b)})"
        for name, x, a, b in zip(names, v, lo, hi, strict=True)
    ]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(hi - v),
        "arrayminus": np.nan_to_num(v - lo),
        "thickness": 1.6,
        "width": 0,
    }
    figure = go.Figure(
        go.Scatter(
            x=v,
            y=places,
            mode="markers",
            error_x=bars,
            marker={"size": 9},
            hovertext=hover,
            hoverinfo="text",
            showlegend=False,
        )
    )
    if reference is not None:
        figure.add_vline(x=reference, line={"width": 1, "dash": "dot", "color": "#8b8f97"})
    figure.update_layout(
        height=max(150, 27 * len(v) + 84),
        xaxis={"title": {"text": axis}, "zeroline": False},
        yaxis=_named(names, name_length)
        | {"autorange": False, "range": [len(v) - 0.4, -0.6], "showgrid": False, "zeroline": False},
        margin={"t": 10, "b": 56, "l": 20, "r": 20},
    )
    return figure


def matrix(names: Sequence[object], share: npt.ArrayLike, *, axis: str = "chance to win") -> go.Figure:
    """Shape (n, n) of chances that the row beats the column, 0 to 1, NaN where unknown."""
    table = np.asarray(share, dtype=np.float64)
    n = len(table)
    texts = [["" if np.isnan(x) else f"{100 * x:.0f}" for x in row] for row in table]
    hover = [
        [
            f"{label(names[i], 60)}<br>against {label(names[j], 60)}: {100 * x:.1f} %"
            if not np.isnan(x)
            else ""
            for j, x in enumerate(row)
        ]
        for i, row in enumerate(table)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=table,
            zmin=0,
            zmax=1,
            colorscale=DIVERGING,
            hovertext=hover,
            hoverinfo="text",
            xgap=1,
            ygap=1,
            text=texts if n <= 20 else None,
            texttemplate="%{text}" if n <= 20 else None,
            colorbar={
                "title": {"text": axis, "side": "right"},
                "tickformat": ".0%",
                "thickness": 12,
                "outlinewidth": 0,
            },
        )
    )
    figure.update_layout(
        height=min(900, 26 * n + 190),
        xaxis=_named(names, 20) | {"tickangle": -40 if n > 4 else 0, "showgrid": False, "zeroline": False},
        yaxis=_named(names) | {"autorange": "reversed", "showgrid": False, "zeroline": False},
        margin={"t": 10, "b": 40, "l": 20, "r": 20},
    )
    return figure


def reliability(table: pl.DataFrame, *, axis: str = "stated probability") -> go.Figure:
    """Observed against stated frequency, from a table of `palate.evaluate.reliability`."""
    observed, predicted = table["observed"].to_numpy(), table["predicted"].to_numpy()
    low = min(float(table["lower"].min() or 0.0), 1.0)  # type: ignore[arg-type]
    bars = {
        "type": "data",
        "symmetric": False,
        "thickness": 1.4,
        "width": 0,
        "array": table["observed_upper"].to_numpy() - observed,
        "arrayminus": observed - table["observed_lower"].to_numpy(),
    }
    count = table["n"].to_numpy()
    figure = go.Figure(
        [
            go.Scatter(
                x=[low, 1],
                y=[low, 1],
                mode="lines",
                line={"width": 1, "dash": "dot", "color": "#8b8f97"},
                hoverinfo="skip",
                name="perfectly calibrated",
            ),
            go.Scatter(
                x=predicted,
                y=observed,
                error_y=bars,
                mode="lines+markers",
                name="observed",
                marker={"size": 6 + 12 * np.sqrt(count / max(count.max(initial=1), 1))},
                line={"width": 1},
                customdata=count,
                hovertemplate="stated %{x:.1%}, observed %{y:.1%}<br>n = %{customdata}<extra></extra>",
            ),
        ]
    )
    figure.update_layout(
        height=380,
        xaxis={"title": {"text": axis}, "tickformat": ".0%", "range": [low - 0.02, 1.02], "zeroline": False},
        yaxis={"title": {"text": "how often it was right"}, "tickformat": ".0%", "rangemode": "tozero"},
    )
    return figure


def scatter(
    groups: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], *, x_axis: str, y_axis: str, trend: bool = True
) -> go.Figure:
    """Points in named groups, each (x, y) of shape (n,), with one least-squares line through all of them."""
    figure = go.Figure()
    for name, (x, y) in groups.items():
        figure.add_scatter(
            x=np.asarray(x),
            y=np.asarray(y),
            mode="markers",
            name=label(name),
            marker={"size": 5, "opacity": 0.5},
            hovertemplate="%{x:,}, %{y:.3g}<extra></extra>",
        )
    xs = np.concatenate([np.asarray(x, dtype=np.float64) for x, _ in groups.values()] or [np.empty(0)])
    ys = np.concatenate([np.asarray(y, dtype=np.float64) for _, y in groups.values()] or [np.empty(0)])
    if trend and len(xs) > 2 and np.ptp(xs) > 0:
        slope, intercept = np.polyfit(xs, ys, 1)
        ends = np.array([xs.min(), xs.max()])
        figure.add_scatter(
            x=ends,
            y=intercept + slope * ends,
            mode="lines",
            name="trend",
            line={"width": 2},
            hoverinfo="skip",
        )
    figure.update_layout(height=380, xaxis={"title": {"text": x_axis}}, yaxis={"title": {"text": y_axis}})
    return figure


def curves(frame: pl.DataFrame, x: str, columns: Mapping[str, str], *, y_axis: str) -> go.Figure:
    """Lines over a common x.

    Args:
        frame: holds the column `x` and the others; nulls and NaN are left out.
        x: name of the column along the horizontal axis.
        columns: column to the name it has in the legend.
        y_axis: what is measured, with its unit.
    """
    figure = go.Figure()
    for column, name in columns.items():
        seen = frame.select(x, column).drop_nulls().drop_nans()
        figure.add_scatter(
            x=seen[x].to_numpy(),
            y=seen[column].to_numpy(),
            mode="lines+markers" if seen.height <= 60 else "lines",
            name=label(name, 60),
            marker={"size": 4},
            line={"width": 1.8},
            showlegend=len(columns) > 1,
        )
    figure.update_layout(
        margin={"t": 36 if len(columns) > 1 else 10, "b": 48, "l": 60, "r": 20},
        height=320,
        hovermode="x unified",
        xaxis={"title": {"text": x}},
        yaxis={"title": {"text": y_axis}},
    )
    return figure


def _named(names: Sequence[object], limit: int = 32) -> dict[str, Any]:
    return {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [label(name, limit) for name in names],
    }
