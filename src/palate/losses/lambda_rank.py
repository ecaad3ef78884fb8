"""LambdaRank: pairs of a list weigh as much as their exchange would change the NDCG of the list."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.errors import DataError
from palate.losses.base import Groups, check_groups, over_lists, require

Gain = Literal["exponential", "linear", "rank"]
HIGHEST = 60.0
"""Labels above it have gains 2^y beyond any use."""


def lambdarank(
    scores: Tensor,
    labels: Tensor,
    *,
    gain: Gain = "exponential",
    scheme: Literal["lambdarank", "ndcg2"] = "lambdarank",
    scale: float = 1.0,
    top: int | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """LambdaRank's gradient as a loss: ``sum over y_i > y_j of d_ij |G_i - G_j| / N * log(1 + exp(-z))`` with
    ``z = scale (s_i - s_j)`` (Burges et al., 2006; as a loss: Wang et al., "The LambdaLoss framework", 2018).

    G is the gain of a label, N the largest possible DCG of the list, r the rank of an item by its score. With
    ``D(r) = 1 / log2(1 + r)``, "lambdarank" has ``d_ij = |D(r_i) - D(r_j)|``, so that a pair weighs what
    exchanging the two would change the NDCG; "ndcg2" has ``d_ij = D(m) - D(m + 1)`` with ``m = |r_i - r_j|``,
    LambdaLoss's NDCG-Loss2, a tighter bound of the NDCG. Weights carry no gradient. Equal labels are never
    compared. Of equal scores the lower label stands first, so that a scorer which has learnt nothing is
    taken at its worst and no order of the input matters.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better; NaN drops an item.
        gain: "exponential" is ``2^y - 1`` and "linear" y, for grades of 0 or more; "rank" is how many of its
            list an item beats, for labels that are only an order (a ranking as minus the rank).
        scheme: which d_ij.
        scale: above 0, what differences of scores are multiplied by.
        top: with "lambdarank", D is 0 for ranks beyond it, in N too (NDCG at `top`); None for all.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean over lists with two distinct labels, in nats.

    Raises:
        DataError: a label below 0, or above 60 under the exponential gain.
    """
    require(scheme in ("lambdarank", "ndcg2"), f"scheme must be 'lambdarank' or 'ndcg2', got {scheme!r}")
    require(scale > 0, f"scale must be above 0, got {scale}")
    require(top is None or top >= 1, f"top must be at least 1, got {top}")
    require(top is None or scheme == "lambdarank", "top goes with scheme='lambdarank'")
    batch = check_groups("lambdarank", scores, labels, mask, 2)
    gains = gains_of("lambdarank", batch, gain)
    ranks = worst_ranks(batch)
    if scheme == "lambdarank":
        discount = discounts(ranks, top)
        exchanged = (discount[:, :, None] - discount[:, None, :]).abs()
    else:
        apart = (ranks[:, :, None] - ranks[:, None, :]).abs()
        exchanged = discounts(apart.clamp(min=1)) - discounts(apart.clamp(min=1) + 1)
    better = batch.targets[:, :, None] > batch.targets[:, None, :]
    better = better & batch.judged[:, :, None] & batch.judged[:, None, :]
    share = exchanged * (gains[:, :, None] - gains[:, None, :]).abs() / ideal_dcg(gains, top)[:, None, None]
    z = scale * (batch.scores[:, :, None] - batch.scores[:, None, :])
    terms = torch.where(better, share.to(z.dtype) * F.softplus(-z), 0.0)
    return over_lists(terms.sum((1, 2)), better.any(2).any(1), weight)


def gains_of(name: str, batch: Groups, gain: Gain) -> Tensor:
    """Gains of the labels in double precision, 0 where not judged; shape (batch, n)."""
    require(
        gain in ("exponential", "linear", "rank"),
        f"gain must be 'exponential', 'linear' or 'rank', got {gain!r}",
    )
    labels = batch.targets.double()
    if gain == "rank":
        beaten = (labels[:, :, None] > labels[:, None, :]) & batch.judged[:, None, :]
        return torch.where(batch.judged, beaten.sum(2).double(), 0.0)
    highest = HIGHEST if gain == "exponential" else torch.inf
    bad = batch.judged & ~((labels >= 0) & (labels <= highest))
    if bool(bad.any()):
        upper = f" and at most {HIGHEST:g}" if gain == "exponential" else ""
        raise DataError(
            f"{name} wants grades of 0 or more{upper} for gain={gain!r}, got {float(labels[bad][0]):g}",
            row=int(bad.any(1).nonzero()[0]) + 1, field="targets",
            remedy="use gain='rank', or grades from 0",
        )  # fmt: skip
    return torch.where(batch.judged, labels if gain == "linear" else torch.exp2(labels) - 1, 0.0)


def worst_ranks(batch: Groups) -> Tensor:
    """Ranks by score from 1, of equal scores the lower label first, what is not judged last; (batch, n)."""
    order = torch.argsort(batch.targets, dim=1, stable=True)
    by_score = torch.where(batch.judged, batch.scores.detach(), -torch.inf).gather(1, order)
    order = order.gather(1, torch.argsort(by_score, dim=1, descending=True, stable=True))
    return torch.argsort(order, dim=1).double() + 1


def discounts(ranks: Tensor, top: int | None = None) -> Tensor:
    """``1 / log2(1 + r)``, 0 beyond `top`."""
    values = 1 / torch.log2(1 + ranks)
    return values if top is None else torch.where(ranks <= top, values, 0.0)


def ideal_dcg(gains: Tensor, top: int | None = None) -> Tensor:
    """The DCG of the best order, shape (batch,); 1 where nothing has a gain."""
    best = gains.sort(dim=1, descending=True).values
    places = torch.arange(1, gains.shape[1] + 1, device=gains.device, dtype=gains.dtype)
    total = (best * discounts(places, top)).sum(1)
    return torch.where(total > 0, total, 1.0)
