"""Losses of a whole list: ListMLE (Plackett-Luce) and ListNet. See `palate.losses.ranklist` for RankList."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.losses.base import check_groups, over_lists, require


def listmle(
    scores: Tensor,
    labels: Tensor,
    *,
    top: int | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """ListMLE: minus the Plackett-Luce log-likelihood of the list's order (Xia et al., 2008; Plackett, 1975).

    ``sum_i [logsumexp(s_i, s_j for all j with y_j < y_i) - s_i]``: each item is drawn against those strictly
    worse. Items with equal labels never compete, so ties need no order and a pick of one among k (labels 1,
    0, 0, ...) is the choice model's single factor. Items with the lowest label add nothing.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better (a ranking: minus the rank); NaN drops an item.
        top: only items among the `top` best of their list count as drawn (a partial ranking); None for all.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean of the lists' negative log-likelihoods in nats, over lists with two distinct labels.
    """
    require(top is None or top >= 1, f"top must be at least 1, got {top}")
    batch = check_groups("listmle", scores, labels, mask, 2)
    higher = batch.targets[:, :, None] > batch.targets[:, None, :]
    beats = higher & batch.judged[:, :, None] & batch.judged[:, None, :]
    rival = beats | torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    against = torch.where(rival, batch.scores[:, None, :], -torch.inf)
    drawn = beats.any(2)
    if top is not None:
        drawn = drawn & (beats.sum(1) < top)
    # An item without rivals has logsumexp(s_i) - s_i = 0 and needs no exception.
    terms = torch.where(drawn, torch.logsumexp(against, 2) - batch.scores, 0.0)
    return over_lists(terms.sum(1), drawn.any(1), weight)


def listnet(
    scores: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """ListNet, top-one form: cross-entropy of softmax(scores) to softmax(labels / temperature) (Cao et al.,
    2007).

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), interval-scaled: their differences set how sharp the target is. NaN drops an
            item.
        temperature: in units of the labels; small values put all weight on the best.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean over lists with two distinct labels, in nats.
    """
    require(temperature > 0, f"temperature must be above 0, got {temperature}")
    batch = check_groups("listnet", scores, labels, mask, 2)
    lowest = torch.where(batch.judged, batch.targets, torch.inf).amin(1)
    highest = torch.where(batch.judged, batch.targets, -torch.inf).amax(1)
    log_probs = _log_softmax(batch.scores, batch.judged)
    wanted = _log_softmax((batch.targets / temperature).to(batch.scores.dtype), batch.judged).exp()
    terms = torch.where(batch.judged, -wanted * log_probs, 0.0)
    return over_lists(terms.sum(1), highest > lowest, weight)


def _log_softmax(values: Tensor, judged: Tensor) -> Tensor:
    # A list with nothing judged would be a softmax over -inf alone; any finite row will do, as it is not
    # counted.
    usable = judged | ~judged.any(1, keepdim=True)
    kept = torch.where(usable, values, -torch.inf)
    return torch.where(usable, torch.log_softmax(kept, 1), 0.0) - torch.where(usable, 0.0, torch.inf)
