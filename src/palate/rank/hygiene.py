"""Which votes to leave out before ranking, and which pair to ask about next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.battles import battles, encode
from palate.rank.leaderboard import MATRIX_ITEMS, Leaderboard
from palate.rank.votes import annotator_codes, rows_of

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HALF = 0.5
"""Votes that a pair which never met counts for in `next_pair_weights`; with none its weight is infinite."""


def clean(
    data: PreferenceData,
    per_user_per_day: int | None = None,
    *,
    duplicates: Literal["keep", "first"] = "keep",
    outliers: bool = True,
    alpha: float = 0.05,
    min_votes: int = 5,
    max_votes: int = 100,
) -> tuple[PreferenceData, pl.DataFrame]:
    """Leave out votes that should not count, and say which and why.

    In this order, each step on what the one before left:

    1. "itself": a judgment that holds an item against itself.
    2. "limit": all but the first `per_user_per_day` judgments of an annotator on a day (UTC).
    3. "duplicate": with duplicates="first", all but the first judgment by an annotator of the same items,
       prompt and aspect (where prompts are not given, of the same items and aspect).
    4. "outlier": all judgments of an annotator whose votes `outlier_evidence` finds unlike those of the
       others.

    Args:
        data: judgments with `items`; steps 2 to 4 need `annotator`, step 2 `time`. Judgments are in order of
            time, or of the data where there is none.
        per_user_per_day: the limit; no step 2 if left out.
        duplicates: whether repeated judgments stay.
        outliers: whether step 4 is taken.
        alpha: an honest annotator is taken for an outlier with at most this probability.
        min_votes, max_votes: an annotator is judged from this many votes on, by the first so many.

    Returns:
        The judgments that are left, and a table of those that are not: row (from 1, in `data`), annotator
        (null where unknown), reason, and evidence, the e-value of outliers and null else.

    Raises:
        DataError: a step that is asked for lacks the annotator or time of a judgment, or nothing is left.
        ConfigError: an option has a value that cannot be used.
    """
    import polars as pl

    _check(per_user_per_day, duplicates, alpha, min_votes, max_votes)
    rows_of(data, "cleaning votes")
    reasons: list[tuple[str, Ints, Floats | None]] = []
    left = np.arange(data.n_rows)

    def drop(reason: str, bad: Bools, evidence: Floats | None = None) -> None:
        nonlocal left
        if bad.any():
            reasons.append((reason, left[bad], None if evidence is None else evidence[bad]))
            left = left[~bad]
        if len(left) == 0:
            raise DataError(
                f"no judgment is left after the step '{reason}'", file=data.source,
                remedy="check the data, or leave the step out",
            )  # fmt: skip

    drop("itself", _against_itself(data))
    if per_user_per_day is not None:
        drop("limit", _beyond(data.take(left), left, per_user_per_day))
    if duplicates == "first":
        drop("duplicate", _repeated(data.take(left), left))
    if outliers:
        part = data.take(left)
        evidence = _outliers(part, left, min_votes, max_votes)
        drop("outlier", evidence > 1.0 / alpha, evidence)
    who = pa.array([], pa.string())
    if data.has("annotator"):
        who = pc.cast(data.column("annotator"), pa.string())
    frames = [
        pl.DataFrame(
            {
                "row": rows + 1,
                "annotator": pl.Series(
                    [who[int(r)].as_py() for r in rows] if len(who) else [None] * len(rows), dtype=pl.String
                ),
                "reason": [reason] * len(rows),
                "evidence": pl.Series(values if values is not None else [None] * len(rows), dtype=pl.Float64),
            }
        )
        for reason, rows, values in reasons
    ]
    kinds = {"row": pl.Int64, "annotator": pl.String, "reason": pl.String, "evidence": pl.Float64}
    report = pl.concat([pl.DataFrame(schema=kinds), *frames])
    return (data if len(left) == data.n_rows else data.take(left)), report.sort("row")


def outlier_evidence(
    annotator: npt.NDArray[np.integer[Any]],
    pair: npt.NDArray[np.integer[Any]],
    vote: npt.NDArray[np.integer[Any]],
    min_votes: int = 5,
    max_votes: int = 100,
) -> Floats:
    """The largest e-value that each annotator's votes reach against being drawn like those of the others.

    A vote v (0 < 1 < 2) on a pair is compared with the bag of the votes of all other annotators, the
    annotator's earlier ones, and itself, oriented so that high is what most of the bag voted. With p the
    share of the bag at or below v, the low tail bets e = (1 / p) / (mean of 1 / p over the bag), the high
    tail likewise. Were v a random draw from the bag, e would have mean 1 whatever the bag is, so that
    products of it are martingales, and so is the mean of the two tails' products; it exceeds 1 / alpha at any
    time with a probability of at most alpha (Ville 1939). Votes on a pair have to be alike but for the
    annotator, which different prompts can break.

    The plain bet 1 / (2 p) has a mean of at most 1 where there are two outcomes, but not where there are ties
    (1.175 for shares of .1, .3, .6); divided by its mean it is right for any, and stronger.

    Args:
        annotator, pair, vote: codes of N votes in order of time, shape (N,); vote is 0, 1 (tie) or 2.
        min_votes, max_votes: an annotator is judged from this many votes on, by the first so many.

    Returns:
        The largest e-value of each annotator, shape (largest code + 1,); 0 with fewer than `min_votes`.
    """
    n, size = len(pair), int(annotator.max(initial=-1)) + 1
    table = np.bincount(pair * 3 + vote, minlength=3 * (int(pair.max(initial=-1)) + 1)).reshape(-1, 3)
    one = np.eye(3, dtype=np.int64)[vote]
    # The annotator's own later votes on the pair are taken out of the bag.
    order = np.lexsort((np.arange(n), pair, annotator))
    a, b = annotator[order], pair[order]
    last = np.flatnonzero(np.concatenate([(a[1:] != a[:-1]) | (b[1:] != b[:-1]), [True]]))
    run = np.cumsum(one[order], axis=0)
    group = np.searchsorted(last, np.arange(n))
    later = np.empty_like(run)
    later[order] = run[last][group] - run
    bag = (table[pair] - later).astype(np.float64)
    turned = bag[:, 0] > bag[:, 2]
    bag = np.where(turned[:, None], bag[:, ::-1], bag)
    low = np.where(turned, 2 - vote, vote)
    total = np.zeros(size)
    of_time = np.argsort(annotator, kind="stable")
    starts = np.searchsorted(annotator[of_time], np.arange(size))
    rank = np.arange(n) - starts[annotator[of_time]]
    products = []
    for counts, v in ((bag, low), (bag[:, ::-1], 2 - low)):
        below = np.cumsum(counts, axis=1)
        mean = np.divide(counts, below, out=np.zeros_like(counts), where=below > 0).sum(axis=1)
        bet = np.log(below[:, 2] / below[np.arange(n), v] / mean)[of_time]
        run_of_bets = np.cumsum(bet)
        before = run_of_bets[starts[annotator[of_time]]] - bet[starts[annotator[of_time]]]
        products.append(run_of_bets - before)
    both = np.logaddexp(*products) - math.log(2.0)
    judged = (rank >= min_votes - 1) & (rank < max_votes)
    np.maximum.at(total, annotator[of_time][judged], np.exp(np.minimum(both[judged], 700.0)))
    return total


def next_pair_weights(board: Leaderboard) -> pl.DataFrame:
    """How useful one more vote on each pair is: sqrt(V/n) - sqrt(V/(n + 1)), the fall of its standard error.

    V is the variance of a vote on the pair, p (1 - p) - t / 4, with p the board's probability and t the share
    of ties on the board (the observed variance of a pair is 0 after two equal votes, and the pair would never
    be asked again); n counts its votes, with `HALF` a vote for pairs that never met. Draw pairs with these
    weights (Chiang et al. 2024).

    Args:
        board: of a model that predicts probabilities.

    Returns:
        One row per pair of items, largest weight first: a, b, n, variance, weight (they sum to 1).

    Raises:
        ConfigError: the board predicts no probability, compares nothing, or has more than `MATRIX_ITEMS`
            items.
    """
    import polars as pl

    pairs, size = board.comparisons, len(board.items)
    if board.link is None or pairs is None:
        raise ConfigError(f"the method {board.method} predicts no votes, so no pair is more useful to ask")
    if size > MATRIX_ITEMS:
        raise ConfigError(f"pairs of {size} items are too many to list; rank at most {MATRIX_ITEMS}")
    i, j = np.triu_indices(size, 1)
    n = np.zeros((size, size), dtype=np.int64)
    n[pairs.first, pairs.second] = pairs.count.sum(axis=1)
    p = np.asarray(board.link(board.theta[i] - board.theta[j]))
    variance = np.maximum(p * (1.0 - p) - pairs.ties / 4.0, 1e-6)
    met = np.maximum(n[i, j], HALF)
    weight = np.sqrt(variance / met) - np.sqrt(variance / (met + 1.0))
    names = np.array(board.items, dtype=object)
    return pl.DataFrame(
        {
            "a": names[i].tolist(),
            "b": names[j].tolist(),
            "n": n[i, j],
            "variance": variance,
            "weight": weight / weight.sum(),
        }
    ).sort("weight", descending=True, maintain_order=True)


def _check(limit: Any, duplicates: str, alpha: Any, min_votes: Any, max_votes: Any) -> None:
    if duplicates not in ("keep", "first"):
        raise ConfigError(f"duplicates is {duplicates!r}; use 'keep' or 'first'")
    if not (isinstance(alpha, float) and 0 < alpha < 1):
        raise ConfigError(f"alpha is {alpha!r}; use a number between 0 and 1, such as 0.05")
    for name, value in (("per_user_per_day", limit), ("min_votes", min_votes), ("max_votes", max_votes)):
        if not (name == "per_user_per_day" and value is None) and not (isinstance(value, int) and value >= 1):
            raise ConfigError(f"{name} is {value!r}; use a whole number of 1 or more")
    if max_votes < min_votes:
        raise ConfigError(f"max_votes is {max_votes}; use at least min_votes ({min_votes})")


def _against_itself(data: PreferenceData) -> Bools:
    """Which judgments hold an item twice."""
    codes, offsets = _encoded(data), data.offsets()
    row = np.repeat(np.arange(data.n_rows), np.diff(offsets))
    order = np.lexsort((codes, row))
    twice = (np.diff(row[order]) == 0) & (np.diff(codes[order]) == 0)
    found = np.zeros(data.n_rows, dtype=bool)
    found[row[order][1:][twice]] = True
    return found


def _encoded(data: PreferenceData) -> Ints:
    return np.asarray(encode(data)[0], dtype=np.int64)


def _required(data: PreferenceData, left: Ints, column: str, step: str) -> None:
    """Refuse judgments that lack what a step needs, with the row they have in the data given."""
    null = data.column(column).is_null().to_numpy(zero_copy_only=False)
    if null.any():
        missing = np.flatnonzero(null)
        raise DataError(
            f"no {column}" + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""),
            row=int(left[missing[0]]) + 1, field=column, file=data.source,
            remedy=f"give the {column} of every judgment, drop the row, or leave out {step}",
        )  # fmt: skip


def _beyond(data: PreferenceData, left: Ints, limit: int) -> Bools:
    for column in ("annotator", "time"):
        _required(data, left, column, "per_user_per_day")
    who = data.codes("annotator")[0].astype(np.int64)
    time = data.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    day = time // 86_400_000_000
    order = np.lexsort((time, day, who))
    new = np.concatenate([[True], (np.diff(who[order]) != 0) | (np.diff(day[order]) != 0)])
    position = np.arange(len(order))
    nth = position - np.maximum.accumulate(np.where(new, position, 0))
    found = np.zeros(len(order), dtype=bool)
    found[order[nth >= limit]] = True
    return found


def _ordered(data: PreferenceData) -> Ints:
    """Row numbers in order of time, rows without a time last, and in the order of the data within."""
    if not data.has("time"):
        return np.arange(data.n_rows)
    last = pc.fill_null(data.column("time").cast(pa.int64()), np.iinfo(np.int64).max)
    return np.argsort(last.to_numpy(zero_copy_only=False), kind="stable")


def _repeated(data: PreferenceData, left: Ints) -> Bools:
    import polars as pl

    _required(data, left, "annotator", "duplicates")
    order = _ordered(data)
    codes, offsets = _encoded(data), data.offsets()
    row = np.repeat(np.arange(data.n_rows), np.diff(offsets))
    numbers = pl.Series(codes[np.lexsort((codes, row))]).cast(pl.String).to_arrow()
    sets = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), numbers)
    frame = pl.DataFrame(
        {
            "row": np.arange(data.n_rows),
            "who": data.codes("annotator")[0],
            "prompt": data.prompt_codes(),
            "aspect": data.codes("aspect")[0],
            "items": pl.Series(sets).list.join(" "),
        }
    )[order]
    kept = frame.unique(["who", "prompt", "aspect", "items"], keep="first")["row"].to_numpy()
    found = np.ones(data.n_rows, dtype=bool)
    found[kept] = False
    return found


def _outliers(data: PreferenceData, left: Ints, min_votes: int, max_votes: int) -> Floats:
    """The e-value of the annotator of each judgment, shape (rows,)."""
    _required(data, left, "annotator", "outliers")
    rows = battles(data)
    who, _ = annotator_codes(data, rows)
    first, second = rows.first.astype(np.int64), rows.second.astype(np.int64)
    won = np.array([2, 0, 1])[rows.outcome]
    vote = np.where(first > second, 2 - won, won)
    aspect = rows.of(data.codes("aspect")[0].astype(np.int64)) + 1
    size = len(rows.items)
    key = (aspect * size + np.minimum(first, second)) * size + np.maximum(first, second)
    pair = np.unique(key, return_inverse=True)[1]
    place = np.empty(data.n_rows, dtype=np.int64)
    place[_ordered(data)] = np.arange(data.n_rows)
    order = np.argsort(place[rows.judgment], kind="stable")
    evidence = outlier_evidence(who[order], pair[order], vote[order], min_votes, max_votes)
    found = np.zeros(data.n_rows)
    found[rows.judgment] = evidence[who]
    # Judgments that compare nothing go with the others of their annotator.
    codes = data.codes("annotator")[0]
    largest = np.zeros(int(codes.max()) + 1)
    np.maximum.at(largest, codes, found)
    return np.asarray(largest[codes])
