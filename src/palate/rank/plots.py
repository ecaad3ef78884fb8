"""Pictures of a leaderboard as Plotly figures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go

from palate.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from palate.rank.leaderboard import Leaderboard


def intervals(board: Leaderboard, top: int | None = 50) -> go.Figure:
    """Ratings as dots with their intervals, strongest at the top.

    Args:
        board: the leaderboard.
        top: how many of the strongest items to show; None shows all.
    """
    rows = board.table if top is None else board.table.head(top)
    rating = rows["rating"].to_numpy()
    bars = None
    if rows["lower"].null_count() == 0:
        upper, lower = rows["upper"].to_numpy(), rows["lower"].to_numpy()
        bars = {"type": "data", "symmetric": False, "array": upper - rating, "arrayminus": rating - lower}
    figure = go.Figure(
        go.Scatter(
            x=rating,
            y=[shown(item) for item in rows["item"]],
            error_x=bars,
            mode="markers",
            customdata=np.stack(
                [rows[c].cast(str).fill_null("-") for c in ("rank_best", "rank_worst", "n")], axis=1
            ),
            hovertemplate="%{y}: %{x:.5~g}<br>rank %{customdata[0]} to %{customdata[1]}, "
            "%{customdata[2]} comparisons<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"Ratings with {board.level:.0%} intervals",
        xaxis_title=board.scale.unit,
        yaxis={"autorange": "reversed", "type": "category", "automargin": True, "dtick": 1},
        height=150 + 22 * len(rows),
        margin={"t": 60, "b": 60},
        template="plotly_white",
    )
    return figure


def win_matrix(
    board: Leaderboard, which: Literal["observed", "predicted"] = "observed", top: int = 50
) -> go.Figure:
    """Share of wins of the row's item against the column's as a heat map.

    Args:
        board: the leaderboard.
        which: shares as counted, or as the model predicts.
        top: how many of the strongest items to show.

    Raises:
        ConfigError: `which` is neither.
    """
    if which not in ("observed", "predicted"):
        raise ConfigError(f"which is {which!r}; use 'observed' or 'predicted'")
    matrix = board.win_matrix(board.table["item"].head(top).to_list())
    shares = matrix.observed if which == "observed" else matrix.predicted
    names = [shown(item) for item in matrix.items]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=names,
            y=names,
            customdata=matrix.counts,
            zmin=0,
            zmax=1,
            colorscale="RdBu",
            colorbar={"title": "wins", "tickformat": ".0%"},
            hovertemplate="%{y} against %{x}: %{z:.1%} of %{customdata}<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"Share of wins of the row against the column ({which})",
        # Long names above would run into the title.
        xaxis={"type": "category", "side": "bottom", "automargin": True, "dtick": 1},
        yaxis={"type": "category", "autorange": "reversed", "automargin": True, "dtick": 1},
        height=260 + 20 * len(names),
        margin={"t": 60, "b": 60},
        template="plotly_white",
    )
    return figure


def bump(table: pl.DataFrame, top: int = 15) -> go.Figure:
    """Ranks of items from slice to slice, as lines that cross where items change places.

    Args:
        table: one row per slice and item, in the order of the slices: `slice` (or `period`), `item`, `rank`
            and `rating`, as `Boards.table` and `DynamicBradleyTerry.table_over_time` give it.
        top: items shown: those with the best mean rank.
    """
    import polars as pl

    slices, rows = _slices(table)
    figure = go.Figure()
    best = _best(rows, top)
    lowest = int(rows.filter(pl.col("item").is_in(best))["rank"].max() or 1)  # type: ignore[arg-type]
    for item in best:
        own = rows.filter(item=item)
        figure.add_scatter(
            x=own["slice"].to_list(),
            y=own["rank"].to_list(),
            name=shown(item),
            mode="lines+markers",
            customdata=own["rating"].to_list(),
            hovertemplate="%{fullData.name}<br>%{x}: rank %{y}, %{customdata:.5~g}<extra></extra>",
        )
    figure.update_layout(
        title="Ranks from slice to slice",
        xaxis={"type": "category", "categoryorder": "array", "categoryarray": slices},
        yaxis={"autorange": "reversed", "title": "rank", "dtick": 1 if lowest <= 25 else None},
        height=200 + 24 * len(best),
        template="plotly_white",
    )
    return figure


def radar(table: pl.DataFrame, top: int = 8) -> go.Figure:
    """Ratings of items by slice, slices around a circle.

    Args:
        table: as for `bump`. Ratings are shown less the mean of their slice, as slices have no common zero.
        top: items shown: those with the best mean rank.
    """
    import polars as pl

    slices, rows = _slices(table)
    rows = rows.with_columns((pl.col("rating") - pl.col("rating").mean().over("slice")).alias("above"))
    figure = go.Figure()
    for item in _best(rows, top):
        above = dict(rows.filter(item=item).select("slice", "above").iter_rows())
        figure.add_scatterpolar(
            r=[above.get(name) for name in [*slices, slices[0]]],
            theta=[shown(name) for name in [*slices, slices[0]]],
            name=shown(item),
            connectgaps=False,
        )
    figure.update_layout(
        title="Rating by slice, less the slice's mean",
        polar={"angularaxis": {"type": "category"}},
        height=560,
        template="plotly_white",
    )
    return figure


def shown(name: str) -> str:
    """A name as Plotly shows it letter by letter; it takes tags such as <b> and <a> for markup."""
    return escape(" ".join(name.split()), quote=False) or "(no name)"


def _slices(table: pl.DataFrame) -> tuple[list[str], pl.DataFrame]:
    """The names of the slices in order, and the table with them as text in the column `slice`."""
    import polars as pl

    name = "slice" if "slice" in table.columns else "period"
    rows = table.with_columns(pl.col(name).cast(pl.String).alias("slice"))
    return rows["slice"].unique(maintain_order=True).to_list(), rows


def _best(rows: pl.DataFrame, top: int) -> list[str]:
    """Items with the best mean rank over the slices, best first."""
    ranks = (
        rows.select("item", "rank")
        .group_by("item", maintain_order=True)
        .mean()
        .sort("rank", maintain_order=True)
    )
    return [str(item) for item in ranks["item"].head(top)]
