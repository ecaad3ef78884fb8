"""A leaderboard for each slice of the judgments: each aspect, language, kind of annotator, or month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from palate.data.metadata import values
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.leaderboard import Leaderboard
from palate.rank.registry import rank

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl

COLUMNS = ("aspect", "annotator", "annotator_kind", "protocol", "prompt_id")
"""Columns that judgments can be sliced by; other names are looked for in the metadata."""


@dataclass(frozen=True, repr=False)
class Boards:
    """Leaderboards of the slices of one set of judgments. `palate.rank.rank_by` makes one.

    Attributes:
        by: what the slices are of.
        boards: slice to leaderboard, in order of time or of size.
        skipped: slices without a leaderboard, and why.
    """

    by: str
    boards: Mapping[str, Leaderboard]
    skipped: Mapping[str, str]

    def __getitem__(self, name: str) -> Leaderboard:
        return self.boards[name]

    def __len__(self) -> int:
        return len(self.boards)

    @property
    def table(self) -> pl.DataFrame:
        """The rows of all tables: slice, rank, then the columns of `Leaderboard.table`."""
        import polars as pl

        frames = []
        for name, board in self.boards.items():
            frame = board.table
            place = pl.Series("rank", np.arange(1, frame.height + 1))
            frames.append(frame.select(pl.lit(name).alias("slice"), place, pl.all()))
        return pl.concat(frames)

    def correlation(self) -> pl.DataFrame:
        """Kendall's tau-b of each two slices' strengths over their common items; a square table.

        Low values say that one leaderboard for all slices would hide something; NaN where fewer than two
        items are in common.
        """
        import polars as pl
        from scipy.stats import kendalltau

        names = list(self.boards)
        square = np.eye(len(names))
        for i, one in enumerate(names):
            for j in range(i):
                a, b = self.boards[one].strengths, self.boards[names[j]].strengths
                common = [item for item in a if item in b]
                tau = np.nan
                if len(common) > 1:
                    tau = kendalltau([a[item] for item in common], [b[item] for item in common]).statistic
                square[i, j] = square[j, i] = tau
        return pl.DataFrame({"slice": names} | {name: square[:, i] for i, name in enumerate(names)})

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON: {"by": ..., "slices": {name: the board's JSON}, "skipped": {name: why}}."""
        slices = {name: board.to_json() for name, board in self.boards.items()}
        return {"by": self.by, "slices": slices, "skipped": dict(self.skipped)}

    def plot(self, top: int = 8) -> go.Figure:
        """A radar picture, slices around the circle; see `palate.rank.plots.radar`."""
        from palate.rank import plots

        return plots.radar(self.table, top)

    def plot_ranks(self, top: int = 15) -> go.Figure:
        """A bump chart, slices from left to right; see `palate.rank.plots.bump`."""
        from palate.rank import plots

        return plots.bump(self.table, top)

    def __repr__(self) -> str:
        lines = [f"Boards by {self.by}: {len(self.boards)} slices"]
        for name, board in self.boards.items():
            first = board.table["item"].head(3).to_list()
            lines.append(f"  {name}: {', '.join(first)}{', ...' if len(board.items) > 3 else ''}")
        lines += [f"  {name}: skipped, {why}" for name, why in self.skipped.items()]
        return "\n".join(lines)


def rank_by(
    data: PreferenceData,
    by: str | npt.ArrayLike,
    method: str = "bradley_terry",
    *,
    every: str | None = None,
    min_judgments: int = 30,
    **options: Any,
) -> Boards:
    """A leaderboard for each slice of the judgments.

    Args:
        data: judgments about named items.
        by: a column ("aspect", "annotator_kind", ...), "time" (then `every` says how long a slice is), a key
            of the metadata ("language", "conv_metadata.turn"), or one label per judgment.
        method: as of `palate.rank.rank`.
        every: length of a slice of time, in UTC: "year", "quarter", "month", "week" or "day".
        min_judgments: slices with fewer judgments are skipped.
        **options: of the method; an anchor keeps the ratings of different slices on one zero.

    Returns:
        `Boards`. A slice whose data do not determine a leaderboard is in `skipped`, with the reason.

    Raises:
        DataError: the judgments do not say what to slice by, or no slice has a leaderboard.
        ConfigError: `by` or `every` cannot be used, or an option is wrong.
    """
    label, name = _labels(data, by, every)
    boards: dict[str, Leaderboard] = {}
    skipped: dict[str, str] = {}
    slices, sizes = np.unique(label[label != ""], return_counts=True)
    in_order = slices if every else slices[np.argsort(-sizes, kind="stable")]
    for key in in_order.tolist():
        inside = label == key
        if inside.sum() < min_judgments:
            skipped[key] = f"only {inside.sum()} judgments (min_judgments={min_judgments})"
            continue
        try:
            boards[key] = rank(data.mask(inside), method, **options)
        except DataError as error:
            skipped[key] = str(error)
    missing = int((label == "").sum())
    if missing:
        skipped["(none)"] = f"{missing:,} judgments without a value"
    if not boards:
        raise DataError(
            f"no slice by {name} has a leaderboard: " + "; ".join(f"{k}: {v}" for k, v in skipped.items()),
            file=data.source,
            remedy="lower min_judgments, set l2 > 0, or slice by something coarser",
        )
    return Boards(name, boards, skipped)


def _labels(
    data: PreferenceData, by: str | npt.ArrayLike, every: str | None
) -> tuple[npt.NDArray[np.str_], str]:
    """The slice of each judgment, "" where it has none, and what the slices are of."""
    if (every is not None) != (isinstance(by, str) and by == "time"):
        raise ConfigError("slices of time need both by='time' and every, such as every='month'")
    if not isinstance(by, str):
        given = np.asarray(by)
        if given.shape != (data.n_rows,):
            raise ConfigError(
                f"by has shape {given.shape}; give one label for each of {data.n_rows} judgments"
            )
        return _as_text(given), "the given labels"
    if by == "time":
        return _periods(data, str(every)), f"{every} of time"
    if by in COLUMNS:
        if not data.has(by):
            raise DataError(
                f"the judgments have no {by}", field=by, file=data.source,
                remedy="add the column, or slice by another",
            )  # fmt: skip
        return _as_text(data.values(by)), by
    return _as_text(values(data, by)), by


def _periods(data: PreferenceData, every: str) -> npt.NDArray[np.str_]:
    import polars as pl

    formats = {
        "year": ("1y", "%Y"), "quarter": ("1q", "%Y-%m"), "month": ("1mo", "%Y-%m"),
        "week": ("1w", "%Y-%m-%d"), "day": ("1d", "%Y-%m-%d"),
    }  # fmt: skip
    if every not in formats:
        raise ConfigError(f"every is {every!r}; use {' or '.join(map(repr, formats))}")
    if not data.has("time"):
        raise DataError(
            "the judgments have no time", field="time", file=data.source, remedy="add the column 'time'"
        )
    length, shown = formats[every]
    time = pl.Series("time", pl.from_arrow(data.column("time")))
    return _as_text(time.dt.truncate(length).dt.strftime(shown).to_numpy())


def _as_text(labels: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    """Labels as strings, missing ones as "", whole numbers without a point."""
    if labels.dtype.kind == "f":
        return np.array(["" if np.isnan(x) else f"{x:g}" for x in labels.tolist()], dtype=str)
    return np.array(["" if x is None or x != x else str(x) for x in labels.tolist()], dtype=str)
