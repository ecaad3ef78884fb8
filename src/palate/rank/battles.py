"""From judgments to battles: the comparisons one by one, in the order of the judgments.

Methods that need more of a comparison than who beat whom (its order, its annotator, its features) start here;
all others start from the sums of `palate.rank.counts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.table import PreferenceData
from palate.data.views import pair_index
from palate.errors import ConfigError, DataError

if TYPE_CHECKING:
    from palate.rank.columns import Column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]

FIRST_WINS, SECOND_WINS, TIE = 0, 1, 2
"""Outcomes of a battle, and columns of `Comparisons.weight` and `Comparisons.square`."""

WEIGHTS = (1e-60, 1e15)
"""Weights other than 0 lie within these: beyond, sums of them and of their squares lose what is small."""


@dataclass(frozen=True)
class Battles:
    """N comparisons of two items each, in the order of the judgments. Arrays have shape (N,).

    Attributes:
        items: the M names; a code is a position in this list.
        first, second: codes of the two items. Where all judgments are of two items, `first` is the one that
            was shown first; of a longer judgment it is the better one.
        outcome: FIRST_WINS, SECOND_WINS or TIE.
        weight: weight of each, or None where all are 1.
        kept: which judgments (rows of the data) the battles are, or None where they are all of them in order.
        shared: whether a judgment may have several battles (some judgment has more than two items).
        n_rows: number of judgments in the data.
        source: the file the judgments came from, for messages.
    """

    items: list[str]
    first: Codes
    second: Codes
    outcome: npt.NDArray[np.int8]
    weight: Floats | None
    kept: Ints | None
    shared: bool
    n_rows: int
    source: str | Path | None = None

    @staticmethod
    def from_columns(
        first: Any,
        second: Any,
        winner: Any,
        *,
        weight: Any = None,
        labels: Mapping[Any, str] | None = None,
        both_bad: Literal["tie", "drop"] = "tie",
        source: str | Path | None = None,
    ) -> Battles:
        """Battles from columns in memory, without making judgments of them: the fast way from a data frame.

        A column is an Arrow array, a polars or pandas series, a NumPy array or a list, of shape (N,). Items
        are numbered as in the record of the same battles (`PreferenceData`), and give the same counts.

        Args:
            first, second: names of the item that was shown first and of the other.
            winner: "model_a", "model_b", "tie", "tie (bothbad)" or "both_bad"; or what the first item won:
                1, 0 or 0.5.
            weight: weights of 0 or more; a battle of weight 0 does not count.
            labels: labels of the column `winner` and what they mean: ``{"left": "model_a"}``.
            both_bad: whether battles that both lost are ties or left out.
            source: where the columns came from, for messages.

        Raises:
            DataError: a name, label or weight is missing or unusable, an item meets itself, or nothing is
                compared; names row and field.
            ConfigError: `both_bad` or `labels` has another value.

        >>> votes = Battles.from_columns(["x", "y", "x"], ["y", "z", "z"], ["model_a", "tie", "model_b"])
        >>> votes.items, votes.outcome.tolist()
        (['x', 'y', 'z'], [0, 2, 1])
        """
        from palate.rank.columns import Column

        _check_both_bad(both_bad)
        named = ((first, "first"), (second, "second"), (winner, "winner"))
        given = [Column(values, name, source) for values, name in named]
        if weight is not None:
            given.append(Column(weight, "weight", source))
        found = of_columns(*given, labels=labels, both_bad=both_bad)
        if len(found) == 0:
            problem = "every battle was lost by both or has weight 0"
            raise DataError(problem, file=source, remedy="set both_bad='tie', or add battles")
        return found

    def __len__(self) -> int:
        return len(self.first)

    @property
    def judgment(self) -> Ints:
        """The row of the data that each battle comes from."""
        return np.arange(self.n_rows) if self.kept is None else self.kept

    @property
    def share(self) -> Floats:
        """What the first item won: 1, 0 or 0.5."""
        return np.array([1.0, 0.0, 0.5])[self.outcome]

    @property
    def weights(self) -> Floats:
        """Weight of each battle, 1 where none is given."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def unused(self) -> int:
        """Number of judgments that compare nothing (one judged item, weight 0, a dropped tie)."""
        if self.kept is None:
            return 0
        return self.n_rows - (len(np.unique(self.kept)) if self.shared else len(self.kept))

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A value of each judgment, shape (rows, ...), as one of each battle."""
        return values if self.kept is None else values[self.kept]


def battles(data: PreferenceData | Battles, both_bad: Literal["tie", "drop"] = "tie") -> Battles:
    """The comparisons that the judgments about named items imply.

    A judgment of k items gives all comparisons it implies: higher score beats lower, equal scores tie, NaN
    ("not judged") compares with nothing. A `choice` compares the chosen with each of the others and those not
    at all. Judgments of weight 0 give none.

    Args:
        data: judgments with `items`, any k, mixed freely; battles are returned as they are.
        both_bad: whether equal scores marked "both_bad" are ties or left out.

    Raises:
        DataError: there are no judgments, no items, a missing item, an item twice in one judgment, or no
            comparison.
        ConfigError: `both_bad` has another value, or battles are given that were made without it.
    """
    _check_both_bad(both_bad)
    if isinstance(data, Battles):
        if both_bad == "drop":
            raise ConfigError("these battles do not say which ties were bad; drop those when making them")
        return data
    codes, items = encode(data)
    found = _found(data, codes, items, both_bad)
    if len(found) == 0:
        raise nothing_compared(data, data.offsets())
    return found


def of_columns(
    first: Column,
    second: Column,
    winner: Column,
    weight: Column | None = None,
    *,
    labels: Mapping[Any, str] | None = None,
    both_bad: str = "tie",
) -> Battles:
    """As `Battles.from_columns`, of columns that may compare nothing."""
    from palate.rank import columns

    rows = columns.same_length(first, second, winner, *([] if weight is None else [weight]))
    outcome = columns.label_codes(winner, labels)
    a, b, items = columns.item_codes(first, second)
    importance = None if weight is None else columns.weights(weight)
    both = outcome > TIE
    drop = None if importance is None or importance.all() else importance == 0
    if both.any():
        if both_bad == "drop":
            drop = both if drop is None else drop | both
        outcome[both] = TIE
    if drop is None:
        return Battles(items, a, b, outcome, importance, None, False, rows, winner.source)
    kept = np.flatnonzero(~drop)
    importance = None if importance is None else importance[kept]
    return Battles(items, a[kept], b[kept], outcome[kept], importance, kept, False, rows, winner.source)


def some_battles(data: PreferenceData, both_bad: str) -> Battles:
    """As `battles`, of a part of the data that may compare nothing or name only one item."""
    return _found(data, *_encode(data), both_bad)


def _found(data: PreferenceData, codes: npt.NDArray[np.int32], items: list[str], both_bad: str) -> Battles:
    offsets = data.offsets()
    if (np.diff(offsets) == 2).all():
        return _of_two(data, items, codes.reshape(-1, 2), both_bad)
    return _of_many(data, items, codes, offsets, both_bad)


def _check_both_bad(both_bad: str) -> None:
    if both_bad not in ("tie", "drop"):
        raise ConfigError(f"both_bad is {both_bad!r}; use 'tie' or 'drop'")


def encode(data: PreferenceData) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Codes of all alternatives in row order, flat, and the names in order of first appearance.

    Raises:
        DataError: there are no judgments, no items, a missing item, one item only, or a weight out of range.
    """
    codes, items = _encode(data)
    if len(items) < 2:
        raise DataError(
            f"only one item ('{items[0]}')", field="items", file=data.source,
            remedy="a ranking needs two or more",
        )  # fmt: skip
    return codes, items


def beyond(weights: Floats) -> Ints:
    """Where weights, shape (N,), are neither 0 nor within `WEIGHTS`."""
    return np.flatnonzero((weights > WEIGHTS[1]) | ((weights < WEIGHTS[0]) & (weights > 0)))


def _encode(data: PreferenceData) -> tuple[npt.NDArray[np.int32], list[str]]:
    if data.n_rows == 0:
        raise DataError("no judgments to rank", file=data.source)
    if not data.has("items"):
        raise DataError(
            "the judgments name no items", field="items", file=data.source,
            remedy="name what is ranked (systems, songs, players) in the column 'items'",
        )  # fmt: skip
    if data.has("weight") and len(bad := beyond(data.weights)):
        raise DataError(
            f"the weight {data.weights[bad[0]]:g} is not within {WEIGHTS[0]:g} and {WEIGHTS[1]:g}",
            row=int(bad[0]) + 1, field="weight", file=data.source, remedy="scale the weights",
        )  # fmt: skip
    column = data.table.column("items")
    # Chunk by chunk where possible: joining the strings of many batches costs as much as encoding them.
    flat = pa.chunked_array([data.flat("items")]) if column.null_count else pc.list_flatten(column)
    if flat.null_count:
        missing = np.flatnonzero(flat.is_null().to_numpy())
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            "a missing item" + more, row=int(np.searchsorted(data.offsets(), missing[0], side="right")),
            field="items", file=data.source, remedy="name every item, or drop the row",
        )  # fmt: skip
    chunks = flat.dictionary_encode().unify_dictionaries().chunks
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks])
    return codes, chunks[0].dictionary.to_pylist()


def _of_two(data: PreferenceData, items: list[str], codes: npt.NDArray[np.int32], both_bad: str) -> Battles:
    """Rows of two items: every row is at most one comparison."""
    scores = data.scores.reshape(-1, 2)
    left, right = scores[:, 0], scores[:, 1]
    lost = left < right
    outcome = (TIE - TIE * (left > right).view(np.int8) - lost.view(np.int8)).astype(np.int8, copy=False)
    first, second = codes[:, 0], codes[:, 1]
    weight = data.weights if data.has("weight") else None
    drop = np.zeros(0, dtype=bool)
    if np.isnan(scores.sum()):
        drop = np.isnan(left) | np.isnan(right)
    if (data.has("protocol") or (data.has("tie") and both_bad == "drop")) and (outcome == TIE).any():
        void = _is(data, "protocol", "choice")
        if both_bad == "drop":
            void |= _is(data, "tie", "both_bad")
        void &= outcome == TIE
        drop = drop | void if len(drop) else void
    if weight is not None and not weight.all():
        drop = drop | (weight == 0) if len(drop) else weight == 0
    _refuse_twice(data, first, second, None)
    kept = None
    if drop.any():
        kept = np.flatnonzero(~drop)
        first, second, outcome = first[kept], second[kept], outcome[kept]
        weight = weight[kept] if weight is not None else None
    return Battles(items, first, second, outcome, weight, kept, False, data.n_rows, data.source)


def _of_many(
    data: PreferenceData, items: list[str], codes: npt.NDArray[np.int32], offsets: Ints, both_bad: str
) -> Battles:
    """Rows of any length, through the pairs they imply."""
    read = [name for name in ("scores", "protocol", "tie") if data.has(name)]
    index = pair_index(PreferenceData(data.table.select(read), check=False), ties="keep", both_bad=both_bad)
    judgment = index.judgment
    first = codes[offsets[judgment] + index.chosen]
    second = codes[offsets[judgment] + index.rejected]
    outcome = np.where(index.tie, TIE, FIRST_WINS).astype(np.int8)
    weight = data.weights[judgment] if data.has("weight") else None
    _refuse_twice(data, first, second, judgment)
    if weight is not None and not weight.all():
        keep = weight > 0
        first, second, outcome, weight = first[keep], second[keep], outcome[keep], weight[keep]
        judgment = judgment[keep]
    return Battles(items, first, second, outcome, weight, judgment, True, data.n_rows, data.source)


def _is(data: PreferenceData, column: str, value: str) -> npt.NDArray[np.bool_]:
    codes, names = data.codes(column)
    if value not in names:
        return np.zeros(data.n_rows, dtype=bool)
    return np.asarray(codes == names.index(value))


def _refuse_twice(data: PreferenceData, first: Codes, second: Codes, judgment: Ints | None) -> None:
    same = first == second
    if same.any():
        at = int(np.flatnonzero(same)[0])
        row = at if judgment is None else int(judgment[at])
        name = data.column("items")[row].as_py()
        twice = next(item for item in name if name.count(item) > 1)
        raise DataError(
            f"the item '{twice}' is compared with itself", row=row + 1, field="items", file=data.source,
            remedy="drop the row, or name its items apart",
        )  # fmt: skip


def nothing_compared(data: PreferenceData, offsets: Ints) -> DataError:
    """Why judgments compare nothing."""
    judged = np.add.reduceat(~np.isnan(data.scores), offsets[:-1])
    if (judged < 2).all():
        return DataError(
            "every judgment scores a single item, so nothing is compared", file=data.source,
            remedy="rank ratings with the method mean_opinion_score, or bring those of a prompt together "
            "with data.group_by_prompt(by=['annotator', 'aspect'])",
        )  # fmt: skip
    if data.has("weight") and not data.weights.any():
        return DataError(
            "every weight is 0", field="weight", file=data.source, remedy="give positive weights"
        )
    return DataError(
        "no judgment compares two items",
        file=data.source,
        remedy="keep ties (both_bad='tie'), or add comparisons",
    )
