"""Pictures of a leaderboard as Plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go

from palate.errors import ConfigError

if TYPE_CHECKING:
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
            y=rows["item"].to_list(),
            error_x=bars,
            mode="markers",
            customdata=np.stack(
                [rows[c].cast(str).fill_null("-") for c in ("rank_best", "rank_worst", "n")], axis=1
            ),
            hovertemplate="%{y}: %{x:.0f}<br>rank %{customdata[0]} to %{customdata[1]}, "
            "%{customdata[2]} comparisons<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"Ratings with {board.level:.0%} intervals",
        xaxis_title=board.scale.unit,
        yaxis={"autorange": "reversed", "type": "category", "automargin": True, "dtick": 1},
        height=140 + 22 * len(rows),
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
    names = matrix.items
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
        xaxis={"type": "category", "side": "top", "automargin": True},
        yaxis={"type": "category", "autorange": "reversed", "automargin": True},
        height=220 + 20 * len(names),
        template="plotly_white",
    )
    return figure
