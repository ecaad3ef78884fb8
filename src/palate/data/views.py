"""Views: the same judgments as pairs, rankings, ratings or interactions.

Everything is computed by columns: rows are grouped by their number of alternatives k, so that the scores of
one group are a matrix (rows, k), and texts are gathered once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.errors import DataError, unknown
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STRATEGIES = ("all", "best_worst", "best_random", "adjacent")
_BLOCK = 1 << 22  # comparisons looked at together, so that wide rankings need bounded memory

_Picks = tuple[Ints, Ints, Ints]  # row in the matrix, column of the better (or tied) one, column of the other


@dataclass(frozen=True)
class PairIndex:
    """Pairs by position: which judgment, and the places of chosen and rejected within it; each of shape
    (pairs,).

    `margin` is the difference of their scores, 0 for a tie.
    """

    judgment: Ints
    chosen: Ints
    rejected: Ints
    margin: Floats

    @property
    def tie(self) -> Bools:
        return np.asarray(self.margin == 0)


def pairs(
    data: PreferenceData,
    strategy: Literal["all", "best_worst", "best_random", "adjacent"] = "all",
    *,
    ties: Literal["drop", "keep"] = "drop",
    both_bad: Literal["tie", "drop"] = "tie",
    min_margin: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """Chosen against rejected, one row a pair, in the order of the judgments.

    Args:
        data: judgments of any protocol. A NaN score is never compared; where the protocol is `choice`, the
            chosen alternative beats each other and the others are not compared among themselves.
        strategy: "all" pairs of a judgment; "best_worst" its best against its worst; "best_random" its best
            against a random strictly worse one; "adjacent" the pairs next to each other in the order (with
            tied ranks: each of one rank against each of the next). Where several alternatives share the
            best (worst) score, `seed` decides among them.
        ties: pairs of equal score are left out ("drop"), or come with `tie` true and margin 0, in canonical
            order (by item id, else response text, else place), so that the side shown does not show.
        both_bad: whether a tie whose cause is "both_bad" counts as a tie or is left out in any case.
        min_margin: decided pairs with a smaller difference of scores are left out; ties are not affected.
        seed: for the random choices.

    Returns:
        Columns `prompt_id, prompt`; `chosen, rejected` (texts) if there are responses; `winner, loser`
        (ids) if there are items; `margin` (difference of scores); `weight` (that of the judgment,
        undivided), `annotator, aspect, tie`; `judgment, chosen_index, rejected_index` (row, and the places
        of both within it).

    Raises:
        ConfigError: an unknown strategy or value of `ties` or `both_bad`.
    """
    index = pair_index(data, strategy, ties=ties, both_bad=both_bad, min_margin=min_margin, seed=seed)
    rows = index.judgment
    start = data.offsets()[rows]
    columns = _prompt_columns(data, rows)
    for name, better, worse in (("responses", "chosen", "rejected"), ("items", "winner", "loser")):
        if data.has(name):
            texts = _texts(data.flat(name))
            columns[better] = texts.gather(start + index.chosen)
            columns[worse] = texts.gather(start + index.rejected)
    columns["margin"] = pl.Series(index.margin)
    columns["weight"] = pl.Series(data.weights[rows])
    columns["annotator"] = _category(data, "annotator").gather(rows)
    columns["aspect"] = _category(data, "aspect").gather(rows)
    columns["tie"] = pl.Series(index.tie)
    columns["judgment"] = pl.Series(rows)
    columns["chosen_index"] = pl.Series(index.chosen)
    columns["rejected_index"] = pl.Series(index.rejected)
    return pl.DataFrame(columns)


def pair_index(
    data: PreferenceData,
    strategy: str = "all",
    *,
    ties: str = "drop",
    both_bad: str = "tie",
    min_margin: float = 0.0,
    seed: int = 0,
) -> PairIndex:
    """The pairs of `pairs` as positions, for work that needs no texts; see there for the arguments."""
    for what, given, known in (
        ("strategy", strategy, STRATEGIES),
        ("value of ties", ties, ("drop", "keep")),
        ("value of both_bad", both_bad, ("tie", "drop")),
    ):
        if given not in known:
            raise unknown(what, given, known)
    rng = generator(seed, "pairs")
    select = _SELECT[strategy]
    choice = _equals(data, "protocol", "choice")
    no_tie = choice | (_equals(data, "tie", "both_bad") if both_bad == "drop" else False)
    parts = []
    for rows, scores in _matrices(data):
        k = scores.shape[1]
        step = max(1, _BLOCK // max(1, k * (k - 1) // 2))
        for start in range(0, len(rows), step):
            block, group = scores[start : start + step], rows[start : start + step]
            row, i, j = select(block, rng)
            margin = block[row, i] - block[row, j]
            keep = margin >= min_margin if min_margin > 0 else margin > 0
            if ties == "keep":
                keep |= (margin == 0) & ~no_tie[group[row]]
            parts.append((group[row[keep]], i[keep], j[keep], margin[keep]))
    if not parts:
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    judgment, chosen, rejected, margin = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(parts) > 1:
        order = np.argsort(judgment, kind="stable")
        judgment, chosen, rejected, margin = (x[order] for x in (judgment, chosen, rejected, margin))
    if ties == "keep":
        chosen, rejected = _canonical(data, judgment, chosen, rejected, margin == 0)
    return PairIndex(judgment, chosen, rejected, margin)


def _matrices(data: PreferenceData) -> Iterator[tuple[Ints, Floats]]:
    """Rows of equal k together: row numbers (n,) and their scores (n, k), for each k of 2 or more."""
    offsets, scores = data.offsets(), data.scores
    lengths = np.diff(offsets)
    for k in np.unique(lengths):
        if k < 2:
            continue
        rows = np.flatnonzero(lengths == k)
        if len(rows) == len(lengths):
            yield rows, scores.reshape(-1, k)
        else:
            yield rows, scores[offsets[rows][:, None] + np.arange(k)]


def _ordered(scores: Floats, row: Ints, i: Ints, j: Ints) -> _Picks:
    """The same pairs with the better one first; pairs with a NaN are left out."""
    difference = scores[row, i] - scores[row, j]
    known = ~np.isnan(difference)
    if not known.all():
        row, i, j, difference = row[known], i[known], j[known], difference[known]
    swap = difference < 0
    return row, np.where(swap, j, i), np.where(swap, i, j)


def _all(scores: Floats, rng: np.random.Generator) -> _Picks:
    n, k = scores.shape
    i, j = np.triu_indices(k, 1)
    return _ordered(scores, np.repeat(np.arange(n), len(i)), np.tile(i, n), np.tile(j, n))


def _best_worst(scores: Floats, rng: np.random.Generator) -> _Picks:
    luck = rng.random(scores.shape)
    best, worst = _first(scores, luck), _first(-scores, 1.0 - luck)
    rows = np.flatnonzero((~np.isnan(scores)).sum(axis=1) >= 2)
    return rows, best[rows], worst[rows]


def _best_random(scores: Floats, rng: np.random.Generator) -> _Picks:
    best = _first(scores, rng.random(scores.shape))
    top = np.take_along_axis(scores, best[:, None], axis=1)
    worse = scores < top
    # Where nothing is worse than the best, all are tied with it, and any other of them will do.
    others = ~np.isnan(scores) & (np.arange(scores.shape[1]) != best[:, None])
    among = np.where(worse.any(axis=1, keepdims=True), worse, others)
    other = np.where(among, rng.random(scores.shape), -1.0).argmax(axis=1)
    rows = np.flatnonzero(among.any(axis=1))
    return rows, best[rows], other[rows]


def _adjacent(scores: Floats, rng: np.random.Generator) -> _Picks:
    if scores.shape[1] == 2:
        return _all(scores, rng)
    order, new = _sorted(scores)
    rank = np.empty(scores.shape, dtype=np.int64)
    np.put_along_axis(rank, order, np.cumsum(new, axis=1), axis=1)
    row, i, j = _all(scores, rng)
    near = rank[row, j] - rank[row, i] <= 1
    return row[near], i[near], j[near]


_SELECT: dict[str, Callable[[Floats, np.random.Generator], _Picks]] = {
    "all": _all,
    "best_worst": _best_worst,
    "best_random": _best_random,
    "adjacent": _adjacent,
}


def _first(scores: Floats, luck: Floats) -> Ints:
    """Place of the highest score of each row, of several the one with most luck; rows of NaN give any
    place."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    top = known == known.max(axis=1, keepdims=True)
    return np.asarray(np.where(top, luck, -1.0).argmax(axis=1))


def _sorted(scores: Floats) -> tuple[Ints, Bools]:
    """Places best first (NaN last, equal scores in the order given), and whether a new rank starts there."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    new = np.ones(scores.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return order, new


def _canonical(data: PreferenceData, row: Ints, i: Ints, j: Ints, tie: Bools) -> tuple[Ints, Ints]:
    """The same pairs, the tied ones with their canonical first alternative first."""
    at = np.flatnonzero(tie)
    first, second = np.minimum(i[at], j[at]), np.maximum(i[at], j[at])
    start = data.offsets()[row[at]]
    swap = out_of_order(data, start + first, start + second)
    i, j = i.copy(), j.copy()
    i[at], j[at] = np.where(swap, second, first), np.where(swap, first, second)
    return i, j


def out_of_order(data: PreferenceData, first: Ints, second: Ints) -> Bools:
    """Whether the second of two alternatives comes first by item id, else by response, else by medium.

    Args:
        data: judgments.
        first, second: places in the `flat` columns, shape (pairs,) each.
    """
    swap = np.zeros(len(first), dtype=bool)
    undecided = np.arange(len(first))
    for name in ("items", "responses", "media"):
        if data.has(name) and len(undecided):
            texts = _texts(data.flat(name))
            a, b = texts.gather(first[undecided]), texts.gather(second[undecided])
            swap[undecided] = (a > b).fill_null(False).to_numpy()
            undecided = undecided[(a == b).fill_null(True).to_numpy()]
    return swap


def rankings(data: PreferenceData) -> pl.DataFrame:
    """One row a judgment, its alternatives best first.

    Returns:
        Columns `prompt_id, prompt`; lists `items` and `responses` (those there are), best first; the list
        `ranks` (1 is best; equal scores share a rank and the next rank is left free, as in a competition:
        1, 1, 3); `weight, annotator, aspect, judgment`. Alternatives with a NaN score are left out of the
        lists, and a judgment without any score has empty lists. Of a `choice`, the alternatives not chosen
        share a rank although they were not compared.
    """
    offsets, scores = data.offsets(), data.scores
    flat = np.empty(len(scores), dtype=np.int64)
    ranks = np.ones(len(scores), dtype=np.int64)
    single = np.flatnonzero(np.diff(offsets) == 1)
    flat[offsets[single]] = offsets[single]
    for rows, matrix in _matrices(data):
        place = offsets[rows][:, None] + np.arange(matrix.shape[1])
        order, new = _sorted(matrix)
        flat[place] = offsets[rows][:, None] + order
        ranks[place] = np.maximum.accumulate(np.where(new, np.arange(1, matrix.shape[1] + 1), 0), axis=1)
    judged = ~np.isnan(scores[flat])
    ends = np.concatenate([[0], np.cumsum(judged)])[offsets].astype(np.int32)
    rows = np.arange(data.n_rows)
    columns = _prompt_columns(data, rows)
    for name in ("items", "responses"):
        if data.has(name):
            columns[name] = _lists(ends, data.flat(name).take(pa.array(flat[judged])))
    columns["ranks"] = _lists(ends, pa.array(ranks[judged]))
    columns["weight"] = pl.Series(data.weights)
    columns["annotator"] = _category(data, "annotator")
    columns["aspect"] = _category(data, "aspect")
    columns["judgment"] = pl.Series(rows)
    return pl.DataFrame(columns)


def ratings(data: PreferenceData) -> pl.DataFrame:
    """One row a score; alternatives with a NaN score ("not judged") are left out.

    Returns:
        Columns `judgment, index` (row, and the place within it), `prompt_id, prompt`; `item` if there are
        items, `response` if there are responses; `score, annotator, aspect, weight, scale`.
    """
    offsets, scores = data.offsets(), data.scores
    at = np.flatnonzero(~np.isnan(scores))
    rows = np.repeat(np.arange(data.n_rows), np.diff(offsets))[at]
    columns = {"judgment": pl.Series(rows), "index": pl.Series(at - offsets[rows])}
    columns |= _prompt_columns(data, rows)
    for name, single in (("items", "item"), ("responses", "response")):
        if data.has(name):
            columns[single] = _texts(data.flat(name)).gather(at)
    columns["score"] = pl.Series(scores[at])
    columns["annotator"] = _category(data, "annotator").gather(rows)
    columns["aspect"] = _category(data, "aspect").gather(rows)
    columns["weight"] = pl.Series(data.weights[rows])
    columns["scale"] = _category(data, "scale").gather(rows)
    return pl.DataFrame(columns)


def interactions(data: PreferenceData) -> pl.DataFrame:
    """One row per user, item and value, for recommenders; items with a NaN score are left out.

    Returns:
        Columns `user` (the annotator), `item, value` (the score), `time, weight`.

    Raises:
        DataError: the data has no items or no annotators.
    """
    for name, wanted in (("items", "item ids"), ("annotator", "users")):
        if not data.has(name):
            raise DataError(
                f"interactions need {wanted}",
                field=name,
                file=data.source,
                remedy=f"give the column '{name}'",
            )
    offsets, scores = data.offsets(), data.scores
    at = np.flatnonzero(~np.isnan(scores))
    rows = np.repeat(np.arange(data.n_rows), np.diff(offsets))[at]
    return pl.DataFrame(
        {
            "user": _category(data, "annotator").gather(rows),
            "item": _texts(data.flat("items")).gather(at),
            "value": scores[at],
            "time": pl.Series(pl.from_arrow(data.column("time"))).gather(rows),
            "weight": data.weights[rows],
        }
    )


def _equals(data: PreferenceData, name: str, value: str) -> Bools:
    codes, names = data.codes(name)
    return np.asarray(codes == names.index(value) if value in names else np.zeros(data.n_rows, dtype=bool))


def _texts(array: pa.Array) -> pl.Series:
    return pl.Series(pl.from_arrow(array), dtype=pl.String)


def _category(data: PreferenceData, name: str) -> pl.Series:
    codes, names = data.codes(name)
    # The last entry stands for null: a code of -1 becomes its place.
    return pl.Series([*names, None], dtype=pl.String).gather(np.where(codes < 0, len(names), codes))


def _prompt_columns(data: PreferenceData, rows: Ints) -> dict[str, pl.Series]:
    return {name: _texts(data.column(name)).gather(rows) for name in ("prompt_id", "prompt")}


def _lists(offsets: npt.NDArray[np.int32], values: pa.Array) -> pl.Series:
    return pl.Series(pl.from_arrow(pa.ListArray.from_arrays(pa.array(offsets), values)))
