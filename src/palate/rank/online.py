"""What the sequential ratings share: the order of the judgments, and going on where the last batch ended."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from palate.data.table import PreferenceData
from palate.errors import ConfigError, PalateWarning
from palate.rank.base import Floats, Ints, Ranker
from palate.rank.battles import FIRST_WINS, SECOND_WINS, Battles, battles
from palate.rank.counts import Comparisons, count


@dataclass(frozen=True)
class Batch:
    """Judgments to rate one after another.

    Attributes:
        data: the judgments; None where they came as battles.
        rows: the comparisons they imply.
        code: position in `items_` of each of the battles' items, shape (items of the batch,).
        order: battles in the order in which they are rated, shape (N,); those of a judgment stay together.
    """

    data: PreferenceData | None
    rows: Battles
    code: Ints
    order: Ints


class Online(Ranker):
    """A rating that is changed by one judgment after another and so depends on their order.

    Judgments come in the order of `time` where all of a batch have one, else in the order of the rows.

    Further attributes after `fit` (see `Ranker` for the rest):
        mu_: the ratings, shape (M,), in the order of `items_`.
    """

    both_bad: Literal["tie", "drop"]
    mu_: Floats
    _last: int | None

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Rate all items from the start.

        Raises:
            DataError: the judgments compare nothing, or hold something the method cannot rate.
            ConfigError: a parameter has a value that cannot be used, or `data` are counts.
        """
        self._check()
        rows = self._battles(data)
        self.items_, self.n_comparisons_, self._last = [], 0, None
        self.comparisons_ = None
        self._forget()
        return self._continue(data, rows)

    def partial_fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Go on with further judgments: the same as one `fit` of all of them in this order.

        Items that are new start where all started. Batches have to follow each other in time: one that starts
        before the end of the last is rated all the same, with a `PalateWarning`. A batch without rows changes
        nothing.

        Raises:
            DataError, ConfigError: as `fit`; what was learned before stays.
        """
        if not hasattr(self, "items_"):
            return self.fit(data)
        self._check()
        if isinstance(data, PreferenceData) and data.n_rows == 0:
            return self
        return self._continue(data, self._battles(data))

    @abstractmethod
    def _check(self) -> None:
        """Refuse parameters that cannot be used."""

    @abstractmethod
    def _forget(self) -> None:
        """Set the ratings of no items."""

    @abstractmethod
    def _update(self, batch: Batch, size: int) -> None:
        """Rate the judgments of a batch, for `size` items of which the last may be new."""

    @abstractmethod
    def _finish(self) -> dict[str, Any]:
        """Set strengths and their spread from the ratings; what the method says about the fit."""

    def _battles(self, data: PreferenceData | Battles | Comparisons) -> Battles:
        if isinstance(data, Comparisons):
            raise ConfigError(
                f"{self.method} rates judgments one by one in their order, which counts do not keep; "
                "give the judgments themselves"
            )
        return battles(data, self.both_bad)

    def _continue(self, data: PreferenceData | Battles | Comparisons, rows: Battles) -> Self:
        judgments = data if isinstance(data, PreferenceData) else None
        known = {item: i for i, item in enumerate(self.items_)}
        new = [item for item in rows.items if item not in known]
        items = self.items_ + new
        known |= {item: len(self.items_) + i for i, item in enumerate(new)}
        code = np.array([known[item] for item in rows.items], dtype=np.int64)
        self._anchor(items)
        order, times = chronological(judgments, rows)
        self._update(Batch(judgments, rows, code, order), len(items))
        if times is not None:
            self._follow(int(times[order[0]]))
            self._last = int(times[order[-1]])
        self.items_ = items
        self.comparisons_ = _added(self.comparisons_, count(rows), code, items)
        self.n_comparisons_ = self.comparisons_.n_comparisons
        self.diagnostics_ = {
            "order": "rows" if times is None else "time",
            "note": "The ratings depend on the order of the judgments.",
            "ties": self.comparisons_.ties,
            **self._finish(),
        }
        return self

    def _follow(self, start: int) -> None:
        if self._last is not None and start < self._last:
            gap = (self._last - start) / 1e6
            warnings.warn(
                f"a batch starts {gap:g} seconds before the end of the last one; {self.method} rated it "
                "after that, give batches in the order of time",
                PalateWarning,
                stacklevel=4,
            )


def chronological(data: PreferenceData | None, rows: Battles) -> tuple[Ints, npt.NDArray[np.int64] | None]:
    """The order of the battles by the time of their judgments, and that time in microseconds, shapes (N,).

    Judgments of one time keep the order of their rows. Without a time for every judgment it is the order of
    all rows, and the time is None.
    """
    order = np.arange(len(rows))
    if data is None or not data.has("time") or data.column("time").null_count:
        return order, None
    stamps = data.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    times = rows.of(stamps)
    if (times[1:] < times[:-1]).any():
        order = np.argsort(times, kind="stable")
    return order, times


def _added(before: Comparisons | None, more: Comparisons, code: Ints, items: list[str]) -> Comparisons:
    """The counts of all batches; `code` places the items of `more` among `items`."""
    first, second = code[more.first], code[more.second]
    turned = first > second
    first, second = np.minimum(first, second), np.maximum(first, second)
    swap = [SECOND_WINS, FIRST_WINS, 2]
    cells = {
        name: np.where(turned[:, None], getattr(more, name)[:, swap], getattr(more, name))
        for name in ("weight", "square", "count")
    }
    clustered = more.clustered
    if clustered is not None:
        one, other = code[clustered.winner], code[clustered.loser]
        swap_tie = clustered.tie & (one > other)
        winner, loser = np.where(swap_tie, other, one), np.where(swap_tie, one, other)
        clustered = replace(clustered, winner=winner, loser=loser)
    unused = more.unused
    if before is not None:
        first, second = np.concatenate([before.first, first]), np.concatenate([before.second, second])
        cells = {name: np.concatenate([getattr(before, name), new]) for name, new in cells.items()}
        unused += before.unused
        if clustered is None or before.clustered is None:
            clustered = clustered or before.clustered
        else:
            after = replace(clustered, cluster=clustered.cluster + before.clustered.n_clusters)
            names = ("cluster", "winner", "loser", "tie", "weight")
            both = {x: np.concatenate([getattr(before.clustered, x), getattr(after, x)]) for x in names}
            clustered = replace(after, **both)
    keys, pair = np.unique(first * len(items) + second, return_inverse=True)
    cell = pair[:, None] * 3 + np.arange(3)
    weight, square, counts = (
        np.bincount(cell.ravel(), cells[name].ravel(), minlength=3 * len(keys)).reshape(-1, 3)
        for name in ("weight", "square", "count")
    )
    first, second = np.divmod(keys, len(items))
    return Comparisons(
        items, first, second, weight.astype(np.float64), square.astype(np.float64),
        np.rint(counts).astype(np.int64), clustered, unused, more.source,
    )  # fmt: skip
