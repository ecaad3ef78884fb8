"""Whether one scale can describe the comparisons: cycles of three items, and the fit of all pairs together.

A model of strengths implies that log-odds add up around a circle: l(a, b) + l(b, c) + l(c, a) = 0. A cycle
(a beats b beats c beats a) breaks it in the worst way: no order of the three is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtr

from palate.rank.counts import Comparisons

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TRIADS_OF = 200
"""Triads are looked for among the so many items that were compared most often."""

LEAST_SPREAD = 1e-12
"""Least variance of an outcome that is expected to be 0 or 1."""

ENOUGH = 10
"""Pairs compared fewer times than this are not used: the normal approximation needs some votes."""


def find_cycles(pairs: Comparisons) -> pl.DataFrame:
    """Triads whose three pairs were all compared, tested for a cycle.

    A cycle is found if each of its three majorities is real, so its p value is the largest of the three
    one-sided ones (an intersection-union test), times the number of triads (Bonferroni). Ties are half wins;
    the variance of a share counts them as such.

    Args:
        pairs: the comparisons; the `TRIADS_OF` most compared items and pairs of at least `ENOUGH`
            comparisons are used.

    Returns:
        One row for each triad whose majorities go in a circle, clearest first: a, b, c (a beats b beats c
        beats a), share_ab, share_bc, share_ca, p, p_adjusted. Empty where there is none.
    """
    import polars as pl

    kept, share, error = _shares(pairs)
    i, j, k = _triads(share)
    forward = np.stack([share[i, j], share[j, k], share[k, i]], axis=1)
    errors = np.stack([error[i, j], error[j, k], error[k, i]], axis=1)
    up, down = (forward > 0.5).all(axis=1), (forward < 0.5).all(axis=1)
    z = (np.abs(forward - 0.5) / errors).min(axis=1)
    circle = np.flatnonzero(np.logical_or(up, down))
    circle = circle[np.argsort(-z[circle], kind="stable")]
    turned = np.asarray(down)[circle]
    a, b, c = kept[i[circle]], kept[j[circle]], kept[k[circle]]
    b, c = np.where(turned, c, b), np.where(turned, b, c)
    along = np.where(turned[:, None], 1.0 - forward[circle][:, [2, 1, 0]], forward[circle])
    p = ndtr(-z[circle])
    names = pairs.items
    return pl.DataFrame(
        {
            "a": [names[x] for x in a],
            "b": [names[x] for x in b],
            "c": [names[x] for x in c],
            "share_ab": along[:, 0],
            "share_bc": along[:, 1],
            "share_ca": along[:, 2],
            "p": p,
            "p_adjusted": np.minimum(1.0, p * max(len(i), 1)),
        },
        schema_overrides={"a": pl.String, "b": pl.String, "c": pl.String},
    )


def transitivity(pairs: Comparisons, predicted: Floats) -> dict[str, Any]:
    """Cycles, and a test of all pairs together against the model.

    The test is Pearson's: the sum of squared standardised deviations of the pairs' shares, chi-squared with
    P' - (M' - 1) degrees of freedom for the P' pairs of at least `ENOUGH` comparisons and the M' items in
    them; the variance of an outcome is estimated from all comparisons, so half ties do not disturb it.

    Args:
        pairs: the comparisons.
        predicted: probability that the first of each pair wins (ties half), shape (P,).

    Returns:
        triads (tested), cycles (majorities in a circle), cycles_significant (at 5 %, for all triads
        together), worst_cycle ([a, b, c] or None), lack_of_fit_p (None without degrees of freedom).
    """
    found = find_cycles(pairs)
    clear = found.filter(found["p_adjusted"] < 0.05)
    n = pairs.count.sum(axis=1)
    used = n >= ENOUGH
    total, share = pairs.total[used], pairs.wins[used] / pairs.total[used]
    items = len(np.unique(np.concatenate([pairs.first[used], pairs.second[used]])))
    freedom = int(used.sum()) - (items - 1)
    p_value = None
    if used.any() and freedom > 0 and pairs.clustered is None:
        expected = predicted[used]
        squares = np.stack([(1.0 - expected) ** 2, expected**2, (0.5 - expected) ** 2], axis=1)
        variance = (pairs.square[used] * squares).sum(axis=1)
        # Rounded to 0 or 1, an expectation would leave no spread at all.
        binomial = total * np.maximum(expected * (1.0 - expected), LEAST_SPREAD)
        scale = max(float(variance.sum() / binomial.sum()), 1e-100)
        z2 = (total * (share - expected)) ** 2 / (scale * binomial)
        p_value = float(chdtrc(freedom, z2.sum()))
    return {
        "triads": _number_of_triads(pairs),
        "cycles": found.height,
        "cycles_significant": clear.height,
        "worst_cycle": list(clear.row(0)[:3]) if clear.height else None,
        "lack_of_fit_p": p_value,
    }


def _shares(pairs: Comparisons) -> tuple[Ints, Floats, Floats]:
    """The items looked at, and among them the share won by the row (NaN where too few) and its error."""
    n = pairs.count.sum(axis=1)
    often = np.argsort(-pairs.per_item(n), kind="stable")[:TRIADS_OF]
    kept = np.sort(often)
    place = np.full(pairs.n_items, -1)
    place[kept] = np.arange(len(kept))
    i, j = place[pairs.first], place[pairs.second]
    used = (i >= 0) & (j >= 0) & (n >= ENOUGH)
    i, j = i[used], j[used]
    total, wins = pairs.total[used], pairs.wins[used]
    # One more of each outcome keeps the error of a unanimous pair away from 0.
    y = (wins + 1.0) / (total + 2.0)
    ties = pairs.weight[used, 2] / total
    spread = np.sqrt(np.maximum(y * (1.0 - y) - ties / 4.0, 1e-3) / pairs.count[used].sum(axis=1))
    share, error = np.full((2, len(kept), len(kept)), np.nan)
    share[i, j], share[j, i] = wins / total, 1.0 - wins / total
    error[i, j] = error[j, i] = spread
    return kept, share, error


def _triads(share: Floats) -> tuple[Ints, Ints, Ints]:
    """All i < j < k whose three pairs were compared."""
    met = ~np.isnan(share)
    i, j = np.nonzero(np.triu(met, 1))
    both = met[i] & met[j] & (np.arange(len(share)) > j[:, None])
    pair, k = np.nonzero(both)
    return i[pair], j[pair], k


def _number_of_triads(pairs: Comparisons) -> int:
    return len(_triads(_shares(pairs)[1])[0])
