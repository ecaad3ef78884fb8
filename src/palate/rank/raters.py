"""What the votes say about those who cast them, and what each of them does to the board."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import ndtr
from scipy.stats import binom, false_discovery_control

from palate.data.table import PreferenceData
from palate.errors import ConfigError, PalateWarning, unknown
from palate.rank import connectivity
from palate.rank.base import Ranker
from palate.rank.battles import FIRST_WINS, SECOND_WINS, TIE, Battles, battles
from palate.rank.bradley_terry import BradleyTerry
from palate.rank.counts import Comparisons, count
from palate.rank.information import DENSE_ITEMS, Information, threads
from palate.rank.leaderboard import POINTS, Leaderboard
from palate.rank.votes import annotator_codes, rows_of

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RIDGE = 0.1
"""Ridge of the consensus that is fitted where no board is given; it makes one exist for any votes."""

SHIFTS = 10_000_000
"""Entries of the annotators' shifts of the strengths that are held at once."""

SOLVED = 256
"""Beyond `DENSE_ITEMS` items, this many annotators' shifts are solved for; of more, by the diagonal of H."""


def annotator_report(
    data: PreferenceData,
    board: Leaderboard | Ranker | None = None,
    *,
    alpha: float = 0.05,
    min_votes: int = 10,
) -> pl.DataFrame:
    """How each annotator votes, measured against the consensus of the others.

    An annotator's own votes are taken out of the consensus by one Newton step (see `influence`) and not by a
    refit. With p the consensus' probability of the winner-to-be of a pair (the item it holds for the
    stronger), an annotator agrees where the vote goes to it; a tie is half.

    - agreement: mean share of the stronger items; expected: mean of p; z = (sum of shares - sum of p) / sqrt(
      sum of p (1 - p) - t / 4), t the share of ties among all votes, so that half ties have their variance.
    - p_chance: one-sided binomial test of the decided votes against 1/2 (better than chance), p_against the
      other side.
    - first_share: share of the decided votes for the item shown first; first_z: sum of r / sqrt(sum of r^2),
      r = share of the first - the consensus' probability of it, which is right for annotators of any
      reliability where the order was random; null where the judgments do not say who was first (more than two
      items, or the second never wins).
    - repeats: pairs of votes by the annotator on the same items, prompt and aspect; contradicted: share of
      them with opposite winners.

    Args:
        data: judgments with `items` and `annotator`.
        board: the consensus, a fitted method or its leaderboard, of a model that predicts probabilities;
            Bradley-Terry with a small ridge of the same data if left out.
        alpha: false discovery rate of each kind of flag over all annotators (Benjamini and Hochberg 1995).
        min_votes: annotators with fewer decided votes are "too few" and not tested.

    Returns:
        One row per annotator with the columns above, n (votes) and flags, joined by commas: "spammer" (votes
        agree less than the consensus expects and not more than chance), "adversarial" (less than chance),
        "position" (votes go to the first, or the second, more than the items explain), "too few".

    Raises:
        DataError: nothing is compared, or a judgment names no annotator.
        ConfigError: the board lacks an item of the data or predicts no probability, or alpha is no share.
    """
    import polars as pl

    if not (isinstance(alpha, float) and 0 < alpha < 1):
        raise ConfigError(f"alpha is {alpha!r}; use a number between 0 and 1, such as 0.05")
    crowd = _crowd(data, board)
    total, outcome = crowd.per_annotator, crowd.outcome
    gap = crowd.theta[crowd.first] - crowd.theta[crowd.second] - crowd.own_gap()
    p = np.asarray(crowd.link(gap))
    votes, ties = outcome.sum(axis=1), outcome[:, TIE]
    half_ties = ties.sum() / votes.sum() / 4.0
    spread = np.maximum(p * (1.0 - p) - half_ties, 1e-12)
    won = outcome[:, FIRST_WINS] + 0.5 * ties
    up = gap >= 0
    favoured, likely = np.where(up, won, votes - won), np.where(up, p, 1.0 - p)
    n, decided = total(votes), total(votes - ties)
    right = total(np.where(up, outcome[:, FIRST_WINS], outcome[:, SECOND_WINS]))
    z = (total(favoured) - total(votes * likely)) / np.sqrt(total(votes * spread))
    better, worse = binom.sf(right - 1, decided, 0.5), binom.cdf(right, decided, 0.5)
    first_share, first_z = crowd.first_picks(p)
    repeats, contradicted = crowd.repeats(data)
    columns: dict[str, Any] = {
        "annotator": crowd.annotators,
        "n": n.astype(np.int64),
        "agreement": total(favoured) / n,
        "expected": total(votes * likely) / n,
        "z": z,
        "p_chance": better,
        "p_against": worse,
        "ties": total(ties) / n,
        "first_share": pl.Series(first_share, nan_to_null=True),
        "first_z": pl.Series(first_z, nan_to_null=True),
        "repeats": repeats,
        "contradicted": pl.Series(_ratio(contradicted, repeats), nan_to_null=True),
    }
    enough = decided >= min_votes
    below = _discoveries(ndtr(z), enough, alpha)
    above = _discoveries(better, enough, alpha)
    against = _discoveries(worse, enough, alpha)
    known = ~np.isnan(first_z)
    leaning = _discoveries(2.0 * ndtr(-np.abs(np.where(known, first_z, 0.0))), enough & known, alpha)
    named = {
        "too few": ~enough,
        "adversarial": against,
        "spammer": below & ~above & ~against,
        "position": leaning,
    }
    flags = pl.DataFrame(named).select(
        pl.concat_str(
            [pl.when(pl.col(name)).then(pl.lit(name)) for name in named], separator=",", ignore_nulls=True
        ).alias("flags")
    )
    return pl.DataFrame(columns).with_columns(flags.to_series())


def influence(data: PreferenceData, board: Leaderboard | Ranker | None = None) -> pl.DataFrame:
    """How the board would change without each annotator.

    One Newton step from the fitted strengths: without annotator k they change by -H^-1 s_k, with H the
    information of the whole fit and s_k the annotator's summed score, sum of w (y - P)(e_i - e_j). It is
    right to first order in the annotator's share of the votes and understates the change for a large share.
    With more than `DENSE_ITEMS` items and `SOLVED` annotators only the diagonal of H is used.

    Args:
        data: judgments with `items` and `annotator`.
        board: the board, of a model that predicts probabilities; strictly its own only for Bradley-Terry
            (half ties), whose scores these are. Fitted with a small ridge if left out.

    Returns:
        One row per annotator, largest change first: annotator, n, change (largest change of a rating in
        points when the annotator is left out, with its sign), item (whose rating it is), rank_changes (items
        whose rank changes) and first_changes (whether the item on top does).

    Raises:
        DataError, ConfigError: as `annotator_report`.
    """
    import polars as pl

    crowd = _crowd(data, board)
    theta, total = crowd.theta, len(crowd.annotators)
    order = np.argsort(-theta, kind="stable")
    change, item = np.zeros(total), np.zeros(total, dtype=np.int64)
    moved, dethroned = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=bool)
    for begin, shift in crowd.shifts():
        part = slice(begin, begin + len(shift))
        item[part] = np.abs(shift).argmax(axis=1)
        change[part] = -np.take_along_axis(shift, item[part, None], axis=1)[:, 0]
        without = np.argsort(shift - theta, axis=1, kind="stable")
        moved[part] = (without != order).sum(axis=1)
        dethroned[part] = without[:, 0] != order[0]
    return pl.DataFrame(
        {
            "annotator": crowd.annotators,
            "n": crowd.per_annotator(crowd.outcome.sum(axis=1)).astype(np.int64),
            "change": POINTS * change,
            "item": [crowd.rows.items[i] for i in item],
            "rank_changes": moved,
            "first_changes": dethroned,
        }
    ).sort(pl.col("change").abs(), descending=True, maintain_order=True)


@dataclass(frozen=True)
class _Crowd:
    """N battles of K annotators, summed to C cells of annotator and pair (first < second), and a board.

    Attributes:
        rows, who: the battles and the annotator of each, shape (N,).
        cell: the cell of each battle, shape (N,).
        annotator, first, second: of each cell, shape (C,), sorted by annotator.
        outcome: votes by outcome, shape (C, 3).
        score: sum of w (y - P) over the votes of each cell, shape (C,).
        theta: the board's strengths in the order of `rows.items`.
        information: of the whole fit.
    """

    rows: Battles
    who: Ints
    annotators: list[str]
    cell: Ints
    annotator: Ints
    first: Ints
    second: Ints
    outcome: Floats
    score: Floats
    theta: Floats
    link: Callable[[Any], Any]
    information: Information

    def per_annotator(self, values: npt.NDArray[Any]) -> Floats:
        """Sum a value of each cell (C,) over the cells of each annotator, shape (K,)."""
        return np.asarray(
            np.bincount(self.annotator, values, minlength=len(self.annotators)), dtype=np.float64
        )

    def shifts(self) -> Iterator[tuple[int, Floats]]:
        """H^-1 s_k of annotators begin, begin + 1, ..., shape (some, M), with `begin`."""
        size, total = len(self.theta), len(self.annotators)
        both = (np.tile(self.annotator, 2), np.concatenate([self.first, self.second]))
        scores = csr_array((np.concatenate([self.score, -self.score]), both), shape=(total, size))
        inverse = self.information.inverse() if size <= DENSE_ITEMS else None
        width = max(1, SHIFTS // size)
        for begin in range(0, total, width):
            part = scores[begin : begin + width]
            if inverse is not None:
                yield begin, np.asarray(part @ inverse)
            elif total <= SOLVED:
                yield begin, self.information.solve(part.toarray().T, tolerance=1e-6).T
            else:
                yield begin, part.toarray() / self.information.diagonal

    def own_gap(self) -> Floats:
        """What each annotator's votes add to the difference of strengths of each own cell, shape (C,)."""
        found = np.empty(len(self.annotator))
        for begin, shift in self.shifts():
            part = slice(*np.searchsorted(self.annotator, [begin, begin + len(shift)]))
            k = self.annotator[part] - begin
            found[part] = shift[k, self.first[part]] - shift[k, self.second[part]]
        return found

    def first_picks(self, p: Floats) -> tuple[Floats, Floats]:
        """Share of the decided votes for the item shown first, and its z; NaN where none is first."""
        rows, size = self.rows, len(self.annotators)
        if rows.shared or not (rows.outcome == SECOND_WINS).any():
            return np.full(size, np.nan), np.full(size, np.nan)

        def total(values: npt.NDArray[Any]) -> Floats:
            return np.asarray(np.bincount(self.who, values, minlength=size), dtype=np.float64)

        expected = np.where(rows.first < rows.second, p[self.cell], 1.0 - p[self.cell])
        residual = rows.share - expected
        z = total(residual) / np.sqrt(np.maximum(total(residual**2), 1e-12))
        return _ratio(total(rows.outcome == FIRST_WINS), total(rows.outcome != TIE)), z

    def repeats(self, data: PreferenceData) -> tuple[Ints, Ints]:
        """Pairs of votes by the same annotator on the same comparison, and those with opposite winners."""
        rows = self.rows
        turned = rows.first > rows.second
        won = np.where(rows.outcome == TIE, TIE, np.where(turned, 1 - rows.outcome, rows.outcome))
        same = np.stack([self.cell, rows.of(data.prompt_codes()), rows.of(data.codes("aspect")[0])])
        order = np.lexsort(same)
        new = np.concatenate([[True], (np.diff(same[:, order], axis=1) != 0).any(axis=0)])
        group = np.cumsum(new) - 1
        counts = np.bincount(group * 3 + won[order], minlength=3 * (group[-1] + 1)).reshape(-1, 3)
        size, owner = counts.sum(axis=1), self.who[order[new]]
        pairs = np.bincount(owner, size * (size - 1) / 2, minlength=len(self.annotators))
        opposite = counts[:, FIRST_WINS] * counts[:, SECOND_WINS]
        against = np.bincount(owner, opposite, minlength=len(self.annotators))
        return pairs.astype(np.int64), against.astype(np.int64)


def _crowd(data: PreferenceData, board: Leaderboard | Ranker | None) -> _Crowd:
    rows = battles(rows_of(data, "a report on annotators"))
    who, annotators = annotator_codes(data, rows)
    counted = count(rows)
    board = _consensus(counted) if board is None else board
    board = board.leaderboard() if isinstance(board, Ranker) else board
    if board.link is None:
        raise ConfigError(f"the method {board.method} predicts no probability; give a Bradley-Terry board")
    known = {name: i for i, name in enumerate(board.items)}
    for name in rows.items:
        if name not in known:
            raise unknown("item of the judgments on this board", name, board.items)
    theta = board.theta[[known[name] for name in rows.items]]
    size = len(rows.items)
    low, high = np.minimum(rows.first, rows.second), np.maximum(rows.first, rows.second)
    key, cell = np.unique((who * size + low) * size + high, return_inverse=True)
    annotator, first, second = key // size**2, key // size % size, key % size
    turned = (rows.first > rows.second) & (rows.outcome != TIE)
    won = np.where(turned, 1 - rows.outcome, rows.outcome)
    outcome = np.bincount(cell * 3 + won, minlength=3 * len(key)).reshape(-1, 3).astype(np.float64)
    weights = np.bincount(cell * 3 + won, rows.weights, minlength=3 * len(key)).reshape(-1, 3)
    if board.comparisons is not None and board.comparisons.ties == 0:
        # A board without ties has learned nothing from them.
        weights[:, TIE] = 0.0
        counted = counted.without_ties() if counted.ties < 1 else counted
    p = np.asarray(board.link(theta[first] - theta[second]))
    score = weights[:, FIRST_WINS] + 0.5 * weights[:, TIE] - weights.sum(axis=1) * p
    l2 = float(board.fit_diagnostics.get("l2", 0.0))
    if l2 == 0.0 and connectivity.met(counted)[0] > 1:
        l2 = RIDGE
    gap = theta[counted.first] - theta[counted.second]
    likely = np.asarray(board.link(gap))
    with threads(size):
        information = Information(counted, counted.total * likely * (1.0 - likely), l2)
    return _Crowd(
        rows, who, annotators, cell, annotator, first, second, outcome, score, theta, board.link, information
    )


def _consensus(counted: Comparisons) -> Leaderboard:
    with warnings.catch_warnings():
        # Items of groups that never met are never compared here either.
        warnings.simplefilter("ignore", PalateWarning)
        return BradleyTerry(l2=RIDGE).fit(counted).leaderboard()


def _discoveries(p: Floats, tested: npt.NDArray[np.bool_], alpha: float) -> npt.NDArray[np.bool_]:
    """Which of the tested p values Benjamini and Hochberg's procedure rejects at the rate alpha."""
    found = np.zeros(len(p), dtype=bool)
    if tested.any():
        found[tested] = false_discovery_control(np.clip(p[tested], 0.0, 1.0)) <= alpha
    return found


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))
