"""What a leaderboard says about itself: whether the model fits the pairs, and advice in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from palate.rank.connectivity import listed
from palate.rank.counts import Comparisons
from palate.rank.cycles import LEAST_SPREAD
from palate.rank.planning import votes_to_separate

if TYPE_CHECKING:
    from palate.rank.leaderboard import Leaderboard

Floats = npt.NDArray[np.float64]

ENOUGH = 10
"""A pair compared fewer times than this says nothing about the fit."""

MOST = 10
"""At most so many pairs that do not fit are named."""

FEW = 30
"""Items with fewer comparisons than this are named."""

TIE_MODELS = ("nu", "eta", "threshold", "rankings")
"""Diagnostics of methods that do not count a tie of two as half a win."""


def fit_of_pairs(pairs: Comparisons, predicted: Floats) -> dict[str, Any]:
    """Observed against predicted shares of wins, pair by pair.

    The deviation of a pair is z = sum w (y - p) / sqrt(phi sum w^2 p (1 - p)), with phi the ratio of the
    variance of outcomes to the binomial one over all comparisons (half ties make it smaller than 1). If the
    model holds, about 5 % of the pairs have |z| > 1.96.

    Args:
        pairs: P pairs.
        predicted: probability that the first wins, shape (P,).

    Returns:
        mean_absolute_error (over comparisons), pairs_tested (those with at least `ENOUGH` comparisons),
        share_outside (of them, with |z| > 1.96), and outliers: pairs whose z is beyond the bound that holds
        for all tested pairs together (Bonferroni, 5 %), worst first, at most `MOST`.
    """
    total = pairs.total
    observed = pairs.wins / total
    n = pairs.count.sum(axis=1)
    squares = np.stack([(1.0 - predicted) ** 2, predicted**2, (0.5 - predicted) ** 2], axis=1)
    # Rounded to 0 or 1, a prediction would leave no spread at all.
    binomial = total * np.maximum(predicted * (1.0 - predicted), LEAST_SPREAD)
    phi = float((pairs.weight * squares).sum() / binomial.sum())
    # Comparisons that share a judgment are not in `square`; their share of weight is close enough for a
    # check.
    ratio = np.divide(
        pairs.square.sum(axis=1), total, out=np.ones_like(total), where=pairs.square.any(axis=1)
    )
    z = total * (observed - predicted) / np.sqrt(np.maximum(phi, 1e-100) * ratio * binomial)
    tested = np.flatnonzero(n >= ENOUGH)
    far = np.abs(z[tested])
    bound = float(ndtri(1.0 - 0.025 / max(len(tested), 1)))
    worst = tested[np.argsort(-far)][:MOST]
    return {
        "mean_absolute_error": float(np.average(np.abs(observed - predicted), weights=n)),
        "pairs_tested": len(tested),
        "share_outside": float((far > 1.96).mean()) if len(tested) else None,
        "outliers": [
            {
                "a": pairs.items[pairs.first[p]],
                "b": pairs.items[pairs.second[p]],
                "n": int(n[p]),
                "observed": float(observed[p]),
                "predicted": float(predicted[p]),
                "z": float(z[p]),
            }
            for p in worst
            if abs(z[p]) > bound
        ],
    }


def advise(board: Leaderboard, found: Mapping[str, Any]) -> list[str]:
    """Advice in plain sentences, the most important first."""
    advice = []
    if found.get("components", 1) > 1:
        advice.append(
            f"The items fall into {found['components']} groups that never met; compare within a group only."
        )
    if not found.get("converged", True):
        advice.append("The fit did not converge" + ("; set l2 > 0." if "l2" in found else "."))
    prior = next((name for name in ("l2", "alpha") if found.get(name)), None)
    if prior and found.get("strong_components", 1) > found.get("components", 1):
        advice.append(
            f"Some items never won or never lost against the rest: only {prior} keeps their strengths finite."
        )
    advice += _about_the_top(board)
    advice += _about_the_method(found)
    if board.covariance is not None and len(board.items) > 1 and not np.diagonal(board.covariance).any():
        advice.append(
            "All comparisons came out alike, so their spread is 0 and so is the width of every interval; "
            "interval='hessian' goes by the model instead."
        )
    few = (
        [row["item"] for row in board.table.to_dicts() if row["n"] < FEW]
        if len(board.items) <= 10_000
        else []
    )
    if few:
        what = "ratings" if board.comparisons is None else "comparisons"
        advice.append(f"Fewer than {FEW} {what}: {listed(few, 5)}; their ranks may still move.")
    ties = board.comparisons.ties if board.comparisons is not None and board.by_likelihood else 0.0
    if 0.25 < ties < 1.0 and not any(name in found for name in TIE_MODELS):
        advice.append(
            f"{ties:.0%} of the comparisons are ties; as half wins they pull strengths together. "
            "The methods davidson and rao_kupper give ties a probability of their own."
        )
    if found.get("fit", {}).get("outliers"):
        outliers = found["fit"]["outliers"]
        worst = outliers[0]
        advice.append(
            f"{len(outliers)}{'+' if len(outliers) == MOST else ''} pairs do not fit the strengths; worst: "
            f"{worst['a']} took {worst['observed']:.0%} of {worst['n']} against {worst['b']}, "
            f"{worst['predicted']:.0%} expected."
        )
    advice += _about_transitivity(found.get("transitivity", {}))
    weight = board.comparisons.weight if board.comparisons is not None else np.zeros(0)
    if (
        board.by_likelihood
        and weight.sum() > found.get("comparisons", 0)
        and (weight == np.rint(weight)).all()
    ):
        advice.append("The weights are whole numbers; if they count equal judgments, set weights='count'.")
    unused = found.get("judgments_without_comparison")
    if unused:
        advice.append(
            "1 judgment compares nothing and was not used."
            if unused == 1
            else f"{unused:,} judgments compare nothing and were not used."
        )
    if found.get("degenerate_replicates"):
        advice.append(
            f"{found['degenerate_replicates']:,} of {found['replicates']:,} bootstrap replicates had "
            "no finite estimate: bounds that rest on them are wide; set l2 > 0."
        )
    if board.draws is not None and board.bounds is None:
        error = 1.0 / np.sqrt(2.0 * board.draws.shape[1])
        advice.append(f"Intervals are drawn, not computed: their widths are good to about {error:.0%}.")
    return advice


def _about_the_top(board: Leaderboard) -> list[str]:
    """Whether the first place is decided."""
    if board.covariance is None and board.draws is None:
        return []
    names = board.table["item"].head(6).to_list()
    leader = names[0]
    rivals = [name for name in names[1:] if board.compare(leader, name).p > 1.0 - board.level]
    if not rivals:
        return []
    said = (
        f"First place is not decided: {leader} cannot be told from {listed(rivals, 5)} at {board.level:.0%}."
    )
    nearest = rivals[0]
    if board.by_likelihood and board.compare(leader, nearest).difference:
        direct = votes_to_separate(board, leader, nearest).direct
        said += f" If {leader} and {nearest} differ as they do now, about {direct:,} more votes between them "
        said += "would show it (80 % power)."
    return [said]


def _about_the_method(found: Mapping[str, Any]) -> list[str]:
    """What a method that is no model of comparisons says about its answer."""
    said = []
    cycle = found.get("majority_cycle", [])
    if cycle:
        shown = [f"{a} beats {b}" for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
        said.append(f"Majorities go in a circle: {', '.join(shown)}; every order is against one of them.")
    if not found.get("optimal", True):
        said.append(
            f"The order is the best that was found, with {found['disagreements']:g} disagreements; none has "
            f"fewer than {found['lower_bound']:g}. Raise time_limit or exact_items to search on."
        )
    elif found.get("unique") is False:
        said.append("Another order has as few disagreements.")
    schedule = found.get("schedule", {})
    if schedule and not schedule["complete"]:
        said.append(schedule["note"])
    if found.get("constant_features"):
        same = listed(found["constant_features"], 5)
        said.append(f"The same in all battles, and left out: {same}.")
    if found.get("note"):
        said.append(found["note"])
    if found.get("no_intervals"):
        said.append(f"There are no intervals: {found['no_intervals']}.")
    return said


def _about_transitivity(found: Mapping[str, Any]) -> list[str]:
    """Whether one order describes the comparisons."""
    if found.get("worst_cycle"):
        a, b, c = found["worst_cycle"]
        n = found["cycles_significant"]
        more = f" ({n - 1:,} more such cycles)" if n > 1 else ""
        return [f"{a} beats {b}, {b} beats {c}, and {c} beats {a}{more}: no order of these is right."]
    p = found.get("lack_of_fit_p")
    if p is not None and p < 0.01:
        return [
            f"The pairs together do not lie on one scale (p = {p:.1g}); read the win matrix beside the board."
        ]
    return []
