"""Ranking metrics made differentiable: NDCG, Spearman's rho and Kendall's tau with soft ranks.

`temperature` is in units of the scores: differences well above it count as decided, and as it goes to 0 each
loss becomes 1 minus the metric. Where scores differ by far more than the temperature gradients vanish, so it
belongs to the scale of the scores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from palate.losses.base import Groups, check_groups, over_lists, require
from palate.losses.lambda_rank import Gain, discounts, gains_of, ideal_dcg


def approx_ndcg(
    scores: Tensor,
    labels: Tensor,
    *,
    gain: Gain = "exponential",
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """ApproxNDCG: 1 minus the NDCG at ranks ``r_i = 1 + sum_{j != i} sigmoid((s_j - s_i) / temperature)``.

    Qin, Liu & Li, "A general approximation framework for direct optimization of information retrieval
    measures", 2010; their alpha is 1 / temperature.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better; NaN drops an item.
        gain: of a label, as in `palate.losses.lambdarank`.
        temperature: above 0, in units of the scores.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean over lists with two distinct labels, each between 0 and 1.

    Raises:
        DataError: a label that has no such gain.
    """
    batch = _checked("approx_ndcg", scores, labels, temperature, mask)
    gains = gains_of("approx_ndcg", batch, gain)
    ahead = torch.sigmoid(_differences(batch) / temperature)
    ranks = _ranks(ahead, batch)
    value = (gains * discounts(ranks.double())).sum(1) / ideal_dcg(gains)
    return over_lists((1 - value).to(batch.scores.dtype), _decided(batch), weight)


def soft_rank(
    scores: Tensor,
    labels: Tensor,
    *,
    gain: Gain = "exponential",
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """SoftRank: 1 minus the expected NDCG if each score had independent normal noise with standard deviation
    `temperature` (Taylor et al., "SoftRank: optimizing non-smooth rank metrics", 2008).

    Item j stands before item i with probability ``Phi((s_j - s_i) / (sqrt(2) temperature))``, and the
    distribution of the rank of i is built up by adding one rival at a time as if the comparisons were
    independent, which takes O(n^3) for a list.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better; NaN drops an item.
        gain: of a label, as in `palate.losses.lambdarank`.
        temperature: above 0, in units of the scores.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean over lists with two distinct labels, each between 0 and 1.

    Raises:
        DataError: a label that has no such gain.
    """
    batch = _checked("soft_rank", scores, labels, temperature, mask)
    gains = gains_of("soft_rank", batch, gain)
    n = scores.shape[1]
    before = _gaussian(batch, temperature).double() * _rivals(batch)
    # chance[b, i, r]: that r of the rivals seen so far stand before i. A rival that is not judged, or i
    # itself, stands before it with probability 0 and changes nothing.
    chance = torch.zeros(len(scores), n, n, dtype=torch.float64, device=scores.device)
    chance[:, :, 0] = 1.0
    for rival in range(n):
        p = before[:, :, rival, None]
        chance = chance * (1 - p) + torch.nn.functional.pad(chance[:, :, :-1], (1, 0)) * p
    places = torch.arange(1, n + 1, device=scores.device, dtype=torch.float64)
    value = (gains * (chance * discounts(places)).sum(2)).sum(1) / ideal_dcg(gains)
    return over_lists((1 - value).to(batch.scores.dtype), _decided(batch), weight)


def soft_spearman(
    scores: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """1 minus Spearman's rho between the labels and the expected ranks of the scores under SoftRank's noise.

    The expected rank of i is ``1 + sum_{j != i} Phi((s_j - s_i) / (sqrt(2) temperature))`` (Taylor et al.,
    2008); equal labels share their mean rank. The covariance of the two is divided by the spread of the
    labels' ranks and that of the ranks 1 to n, not by the spread of the expected ranks: rho is 0 where all
    scores are equal, and changes smoothly from there.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better; NaN drops an item.
        temperature: above 0, in units of the scores.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean over lists with two distinct labels, each between 0 and 2.
    """
    batch = _checked("soft_spearman", scores, labels, temperature, mask)
    ranks = _ranks(_gaussian(batch, temperature), batch)
    gap = batch.targets[:, None, :] - batch.targets[:, :, None]
    wanted = _ranks(0.5 + 0.5 * torch.sign(gap).to(ranks.dtype), batch)
    count = batch.judged.sum(1, keepdim=True).clamp(min=1)
    a = torch.where(batch.judged, ranks - (count + 1) / 2, 0.0)
    b = torch.where(batch.judged, wanted - (count + 1) / 2, 0.0)
    size = count[:, 0].to(ranks.dtype)
    widest = (size**3 - size) / 12
    spread = torch.sqrt((widest * b.square().sum(1)).clamp(min=1e-12))
    return over_lists(1 - (a * b).sum(1) / spread, _decided(batch), weight)


def soft_kendall(
    scores: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """1 minus Kendall's tau with ``tanh((s_i - s_j) / temperature)`` in place of the sign of a difference.

    The mean is over the pairs whose labels differ. As the temperature goes to 0 it is tau where no labels are
    equal, and Somers' D of the scores given the labels where some are.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better; NaN drops an item.
        temperature: above 0, in units of the scores.
        mask: shape (batch, n), False drops an item.
        weight: shape (batch,).

    Returns:
        The weighted mean over lists with two distinct labels, each between 0 and 2.
    """
    batch = _checked("soft_kendall", scores, labels, temperature, mask)
    sign = torch.sign(batch.targets[:, None, :] - batch.targets[:, :, None]).to(batch.scores.dtype)
    sign = sign * _rivals(batch)
    agree = (sign * torch.tanh(_differences(batch) / temperature)).sum((1, 2))
    pairs = sign.abs().sum((1, 2))
    return over_lists(1 - agree / pairs.clamp(min=1), pairs > 0, weight)


def _checked(name: str, scores: Tensor, labels: Tensor, temperature: float, mask: Tensor | None) -> Groups:
    require(temperature > 0, f"temperature must be above 0, got {temperature}")
    return check_groups(name, scores, labels, mask, 2)


def _differences(batch: Groups) -> Tensor:
    """Entry (i, j) is ``s_j - s_i``; shape (batch, n, n)."""
    return batch.scores[:, None, :] - batch.scores[:, :, None]


def _rivals(batch: Groups) -> Tensor:
    """1 where i and j are two judged items; shape (batch, n, n)."""
    both = batch.judged[:, :, None] & batch.judged[:, None, :]
    same = torch.eye(both.shape[1], dtype=torch.bool, device=both.device)
    return (both & ~same).to(batch.scores.dtype)


def _gaussian(batch: Groups, temperature: float) -> Tensor:
    """Probability that j stands before i; shape (batch, n, n)."""
    chance: Tensor = torch.special.ndtr(_differences(batch) / (math.sqrt(2) * temperature))
    return chance


def _ranks(ahead: Tensor, batch: Groups) -> Tensor:
    """Expected ranks from 1, from how surely j stands before i; shape (batch, n)."""
    return 1 + (ahead * _rivals(batch)).sum(2)


def _decided(batch: Groups) -> Tensor:
    """Whether a list has two distinct labels; shape (batch,)."""
    lowest = torch.where(batch.judged, batch.targets, torch.inf).amin(1)
    highest = torch.where(batch.judged, batch.targets, -torch.inf).amax(1)
    return highest > lowest
