"""How often a judge is right: pure functions of arrays, whatever the numbers came from.

Two conventions hold everywhere. A judge that calls two responses equal is half right, so that guessing and
abstaining are worth the same. A missing answer (NaN) is never counted as anything: it is left out and its
number is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, unknown
from palate.evaluate.intervals import Rate, share_with_interval

Floats = npt.NDArray[np.float64]
Ties = Literal["half", "wrong", "drop"]


def accuracy(
    preference: npt.ArrayLike,
    target: npt.ArrayLike = 1.0,
    *,
    neutral: float = 0.5,
    weight: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    ties: Ties = "half",
    confidence: float = 0.95,
) -> Rate:
    """Share of pairs on which a judge prefers the side that was preferred.

    Args:
        preference: shape (n,), probability that the first is better, or a margin (then `neutral=0`); NaN is
            missing.
        target: shape (n,) or one number: 1 where the first was preferred, 0 where the second was, 0.5 for a
            gold tie (no right answer: counted in `gold_ties` and left out), NaN counts as a missing pair.
        neutral: the preference that means "equal".
        weight: shape (n,), of each pair.
        cluster: shape (n,), pairs that are not independent of each other (prompt ids), for the interval.
        ties: what a pair called equal by the judge is worth: "half" right, "wrong", or "drop" it.
        confidence: coverage of the interval (see `share_with_interval`).
    """
    if ties not in ("half", "wrong", "drop"):
        raise unknown("treatment of ties", ties, ("half", "wrong", "drop"))
    p, t = np.broadcast_arrays(np.asarray(preference, dtype=np.float64), np.asarray(target, dtype=np.float64))
    p = np.atleast_1d(p)
    t = np.atleast_1d(t)
    missing = np.isnan(p) | np.isnan(t)
    gold_tie = ~missing & (t == 0.5)
    side = np.sign(p - neutral)
    judge_tie = ~missing & ~gold_tie & (side == 0)
    counted = ~missing & ~gold_tie
    if ties == "drop":
        counted &= ~judge_tie
    right = (side == np.sign(t - 0.5)).astype(np.float64)
    right[judge_tie] = 0.5 if ties == "half" else 0.0
    share, lower, upper = share_with_interval(
        right[counted], weight=_pick(weight, counted), cluster=_pick(cluster, counted), confidence=confidence
    )
    return Rate(
        share, lower, upper, int(counted.sum()), int(judge_tie.sum()), int(missing.sum()), int(gold_tie.sum())
    )


def accuracy_by(
    labels: npt.ArrayLike,
    preference: npt.ArrayLike,
    target: npt.ArrayLike = 1.0,
    *,
    weight: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    **options: Any,
) -> pl.DataFrame:
    """`accuracy` for each value of `labels` (shape (n,); None is left out), largest slice first.

    Returns:
        A frame with columns value, accuracy, lower, upper, n, ties, missing, gold_ties.
    """
    names = np.asarray(labels, dtype=object)
    given = np.array([name is not None for name in names], dtype=bool)
    values, codes = np.unique(names[given].astype(str), return_inverse=True)
    rows_of = np.flatnonzero(given)[np.argsort(codes, kind="stable")]
    p = np.asarray(preference, dtype=np.float64)
    t = np.broadcast_to(np.asarray(target, dtype=np.float64), p.shape)
    rows = []
    for value, at in zip(values, np.split(rows_of, np.cumsum(np.bincount(codes))[:-1]), strict=True):
        rate = accuracy(p[at], t[at], weight=_pick(weight, at), cluster=_pick(cluster, at), **options)
        rows.append((str(value), *rate.__dict__.values()))
    names_types = {
        "value": pl.String,
        "accuracy": pl.Float64,
        "lower": pl.Float64,
        "upper": pl.Float64,
    } | dict.fromkeys(("n", "ties", "missing", "gold_ties"), pl.Int64)
    return pl.DataFrame(rows, schema=names_types, orient="row").sort(
        "n", descending=True, maintain_order=True
    )


def win_rate(
    probability: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    graded: bool = True,
    confidence: float = 0.95,
) -> Rate:
    """Share of comparisons that the first side wins; a tie is half a win.

    Args:
        probability: shape (n,), that the first side is better; NaN is missing.
        graded: average the probabilities themselves; otherwise each comparison is a win, a tie or a loss.
    """
    p = np.asarray(probability, dtype=np.float64)
    answered = ~np.isnan(p)
    values = p if graded else 0.5 + 0.5 * np.sign(p - 0.5)
    share, lower, upper = share_with_interval(
        values[answered],
        weight=_pick(weight, answered),
        cluster=_pick(cluster, answered),
        confidence=confidence,
    )
    return Rate(share, lower, upper, int(answered.sum()), int((p == 0.5).sum()), int((~answered).sum()))


def ranking_accuracy(scores: npt.ArrayLike, targets: npt.ArrayLike, *, confidence: float = 0.95) -> Rate:
    """Share of pairs within each group that the scores put in the order of the targets.

    Args:
        scores: shape (n, k), of each response, NaN where missing or padded.
        targets: shape (n, k), gold scores; pairs with equal targets have no right answer.

    Returns:
        A `Rate` over pairs whose interval takes the groups as clusters. `missing` counts pairs with targets
        but without both scores.
    """
    s, t = _groups(scores, targets)
    i, j = np.triu_indices(s.shape[1], 1)
    group = np.repeat(np.arange(len(s))[:, None], len(i), axis=1)
    first, second = t[:, i], t[:, j]
    judged = ~np.isnan(first) & ~np.isnan(second)
    return accuracy(
        (s[:, i] - s[:, j])[judged],
        0.5 + 0.5 * np.sign(first - second)[judged],
        neutral=0.0,
        cluster=group[judged],
        confidence=confidence,
    )


def kendall_tau(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """Kendall's tau-b of each row, shape (n,), for scores and targets of shape (n, k) with NaN where missing.

    NaN where a row has fewer than two complete entries or one side is constant (Kendall 1945).
    """
    s, t = _groups(scores, targets)
    gap = np.isnan(s) | np.isnan(t)
    i, j = np.triu_indices(s.shape[1], 1)
    inside = ~(gap[:, i] | gap[:, j])
    a = np.where(inside, np.sign(s[:, i] - s[:, j]), 0.0)
    b = np.where(inside, np.sign(t[:, i] - t[:, j]), 0.0)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), norm, out=np.full(len(s), np.nan), where=norm > 0))


def spearman(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """Spearman's rank correlation of each row, shape (n,), for shape (n, k) with NaN where missing."""
    from scipy import stats  # slow to import

    s, t = _groups(scores, targets)
    gap = np.isnan(s) | np.isnan(t)
    ranks = [stats.rankdata(np.where(gap, np.nan, x), axis=1, nan_policy="omit") for x in (s, t)]
    count = (~gap).sum(axis=1, keepdims=True)
    a, b = (
        np.where(
            gap,
            0.0,
            r - np.divide(np.nansum(np.where(gap, 0.0, r), axis=1, keepdims=True), np.maximum(count, 1)),
        )
        for r in ranks
    )
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), norm, out=np.full(len(s), np.nan), where=norm > 0))


def length_correlation(margin: npt.ArrayLike, length_difference: npt.ArrayLike) -> float:
    """Spearman correlation of preference for the first side with how much longer it is; NaN where undefined.

    Each pair is counted in both orders, so the number does not depend on which side is called first.
    """
    m, d = np.asarray(margin, dtype=np.float64), np.asarray(length_difference, dtype=np.float64)
    kept = ~np.isnan(m) & ~np.isnan(d)
    both = pl.DataFrame({"m": np.concatenate([m[kept], -m[kept]]), "d": np.concatenate([d[kept], -d[kept]])})
    value = both.select(pl.corr(pl.col("m").rank(), pl.col("d").rank())).item()
    return np.nan if value is None else float(value)


@dataclass(frozen=True)
class OrderEffects:
    """What changing places does to a judge.

    Attributes:
        consistency: share of pairs on which both orders prefer the same side.
        first_preference: share of single verdicts for the response shown first; 0.5 is unbiased (ties count
            half).
        n: pairs with an answer in both orders.
        missing: pairs without.
    """

    consistency: float
    first_preference: float
    n: int
    missing: int


def order_effects(forward: npt.ArrayLike, backward: npt.ArrayLike) -> OrderEffects:
    """How often a judge keeps its verdict when two responses change places.

    Args:
        forward: shape (n,), probability of a as judged with a shown first; NaN is missing.
        backward: shape (n,), probability of a as judged with b shown first.
    """
    f, b = np.asarray(forward, dtype=np.float64), np.asarray(backward, dtype=np.float64)
    both = ~(np.isnan(f) | np.isnan(b))
    f, b = np.sign(f[both] - 0.5), np.sign(b[both] - 0.5)
    if not len(f):
        return OrderEffects(np.nan, np.nan, 0, int((~both).sum()))
    first = (0.5 + 0.5 * f).mean() / 2 + (0.5 - 0.5 * b).mean() / 2
    return OrderEffects(float((f == b).mean()), float(first), len(f), int((~both).sum()))


def _groups(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Floats, Floats]:
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if s.ndim != 2 or s.shape != t.shape:
        raise ConfigError(
            f"scores and targets must have the same shape (groups, k); got {s.shape} and {t.shape}"
        )
    return s, t


def _pick(values: npt.ArrayLike | None, at: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    return None if values is None else np.asarray(values)[at]


def auc(preference: npt.ArrayLike) -> float:
    """Area under the ROC curve over both orders of every pair: how often a verdict in the right order states
    a higher preference than one in the wrong order.

    With d the preference for the chosen side less its neutral value, the chance that ``d_i > -d_j`` for two
    verdicts i and j (each with itself as well), ties half. 1 if all are right, 0.5 for a coin.

    Args:
        preference: shape (n,), margin of the chosen over the rejected, or the probability of the chosen less
            one half; NaN is left out.

    Returns:
        NaN where there is nothing to judge.
    """
    d = np.asarray(preference, dtype=np.float64)
    d = d[~np.isnan(d)]
    if not len(d):
        return float("nan")
    low, high = (np.searchsorted(np.sort(-d), d, side=side) for side in ("left", "right"))
    return float((low + high).mean() / (2 * len(d)))
