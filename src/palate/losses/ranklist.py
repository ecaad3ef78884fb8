"""RankList: a list is compared at every skip, from neighbours to its ends (Naini, Diaz & Busso, arXiv
2508.09826).

The printed equations were not at hand; the definition is ours and follows the paper's abstract. With items
sorted best first and ``e_{i,k} = exp(-(s_i - s_{i+k}))``, skip k has ``E_k = sum_i log(1 + e_{i,k})``
("exact") or its log-sum-exp form ``R_k = log(1 + sum_i e_{i,k})`` ("lse"), and the loss of the list is
``sum_{k <= K} w_k R_k``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.errors import ConfigError, DataError, PalateWarning
from palate.losses.base import Groups, Loss, check_groups, over_lists, require

Skips = int | Literal["progressive"] | None
Form = Literal["lse", "exact"]

RAMP = 0.8
"""Share of the training after which the progressive schedule has reached every skip."""


@overload
def ranklist(
    scores: Tensor,
    labels: Tensor,
    *,
    skips: Skips = None,
    form: Form = "lse",
    min_margin: float = 0.0,
    weights: Sequence[float] | float | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    step: int | None = None,
    total_steps: int | None = None,
    return_parts: Literal[False] = False,
) -> Tensor: ...


@overload
def ranklist(
    scores: Tensor,
    labels: Tensor,
    *,
    skips: Skips = None,
    form: Form = "lse",
    min_margin: float = 0.0,
    weights: Sequence[float] | float | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    step: int | None = None,
    total_steps: int | None = None,
    return_parts: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def ranklist(
    scores: Tensor,
    labels: Tensor,
    *,
    skips: Skips = None,
    form: Form = "lse",
    min_margin: float = 0.0,
    weights: Sequence[float] | float | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    step: int | None = None,
    total_steps: int | None = None,
    return_parts: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The RankList loss of a batch of lists, in any order: the function sorts.

    Args:
        scores: shape (batch, n).
        labels: shape (batch, n), higher is better; NaN drops an item.
        skips: the largest skip K, 1 to n - 1; None is n - 1; "progressive" grows it from 1 over the first 80%
            of training, ``K(t) = min(n - 1, 1 + floor((n - 1) t / (0.8 total_steps)))``. A list with m < n
            items has skips up to m - 1 only, as if it were alone.
        form: "lse" puts nearly all gradient on the worst comparison of a skip, "exact" weighs all: with all
            skips and ``weights=1`` it is RankNet summed over all pairs. Never above it: ``R_k <= E_k``.
        min_margin: W, in units of the labels: compare only items whose labels differ by at least this. Equal
            labels are never compared; among them the higher score stands first, so that no order of the input
            matters.
        weights: w_k, one number for all skips or one per skip; None is 1 / K.
        mask: shape (batch, n), False drops an item.
        weight: weight of each list, shape (batch,).
        step: training step from 0, for "progressive".
        total_steps: number of training steps, for "progressive".
        return_parts: also give the unweighted loss of every skip, for logging, shape (K,), without gradient.

    Returns:
        The weighted mean over the lists in which anything is compared (0 if there are none).

    Raises:
        DataError: no list has two judged items, shapes differ, or a score is not finite.
        ConfigError: `skips`, `form`, `weights` or `min_margin` out of range, or "progressive" without steps.
    """
    _check(skips, form, min_margin, weights)
    batch = check_groups("ranklist", scores, labels, mask, 2)
    n = scores.shape[1]
    largest = _largest_skip(skips, n, step, total_steps)
    if min_margin % 1 and _are_ranks(batch):
        warnings.warn(
            f"labels look like a ranking (minus the rank), so min_margin={min_margin} is in units of ranks",
            PalateWarning,
            stacklevel=2,
        )

    order = torch.argsort(batch.scores.detach(), dim=1, descending=True, stable=True)
    key = torch.where(batch.judged, batch.targets, -torch.inf).gather(1, order)
    order = order.gather(1, torch.argsort(key, dim=1, descending=True, stable=True))
    s, y, judged = (part.gather(1, order) for part in batch)

    # All skips at once: comparison [k - 1, i] is of places i and i + k, of which those past the end are left
    # out.
    skip = torch.arange(1, largest + 1, device=scores.device)[:, None]
    place = torch.arange(n - 1, device=scores.device)[None, :]
    other = place + skip
    inside, other = other < n, other.clamp(max=n - 1)
    gap = y[:, place] - y[:, other]
    compared = inside & judged[:, other] & (gap > 0) & (gap >= min_margin)
    violation = s[:, other] - s[:, place]
    per_skip = _exact(violation, compared) if form == "exact" else _log_sum_exp(violation, compared)

    lengths = batch.judged.sum(1)
    reached = ((lengths[:, None] - 1) >= skip.T).to(per_skip.dtype)
    if weights is None:
        share = reached / reached.sum(1, keepdim=True).clamp(min=1)
    else:
        share = reached * _skip_weights(weights, largest).to(reached)
    counted = compared.any(2).any(1)
    loss = over_lists((per_skip * share).sum(1), counted, weight)
    if not return_parts:
        return loss
    parts = [over_lists(per_skip[:, k].detach(), counted, weight) for k in range(largest)]
    return loss, torch.stack(parts)


class RankList(Loss):
    """`ranklist` as a loss with fixed options; see there."""

    name = "ranklist"

    def __init__(
        self,
        *,
        skips: Skips = None,
        form: Form = "lse",
        min_margin: float = 0.0,
        weights: Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        _check(skips, form, min_margin, weights)
        self.options: dict[str, Any] = {
            "skips": skips, "form": form, "min_margin": min_margin, "weights": weights,
        }  # fmt: skip

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`."""
        loss: Tensor = ranklist(
            scores, targets, mask=mask, weight=weight, step=step, total_steps=total_steps, **self.options
        )
        return loss


def _exact(violation: Tensor, compared: Tensor) -> Tensor:
    return torch.where(compared, F.softplus(violation), 0.0).sum(2)


def _log_sum_exp(violation: Tensor, compared: Tensor) -> Tensor:
    kept = torch.where(compared, violation, -torch.inf)
    top = kept.detach().amax(2, keepdim=True).clamp(min=0)
    total = torch.exp(kept - top).sum(2) + torch.exp(-top[:, :, 0])  # the last is the 1 of log(1 + sum)
    return torch.log(total) + top[:, :, 0]


def _check(skips: Skips, form: str, min_margin: float, weights: Sequence[float] | float | None) -> None:
    require(form in ("lse", "exact"), f"ranklist: form must be 'lse' or 'exact', got {form!r}")
    require(min_margin >= 0, f"ranklist: min_margin must be 0 or more, got {min_margin}")
    whole = isinstance(skips, int) and not isinstance(skips, bool) and skips >= 1
    require(
        skips is None or skips == "progressive" or whole,
        f"ranklist: skips must be None, 'progressive' or a whole number from 1, got {skips!r}",
    )
    if weights is not None:
        given = [weights] if isinstance(weights, int | float) else list(weights)
        require(
            all(math.isfinite(w) and w >= 0 for w in given),
            f"ranklist: weights must be 0 or more, got {weights}",
        )


def _largest_skip(skips: Skips, n: int, step: int | None, total_steps: int | None) -> int:
    if skips is None:
        return n - 1
    if skips == "progressive":
        if step is None or total_steps is None or total_steps < 1:
            raise ConfigError("ranklist: skips='progressive' needs step and total_steps")
        return min(n - 1, 1 + math.floor((n - 1) * step / (RAMP * total_steps)))
    if int(skips) >= n:
        raise DataError(f"ranklist: skips={skips} needs lists of more than {skips} items, got n={n}")
    return int(skips)


def _skip_weights(weights: Sequence[float] | float, largest: int) -> Tensor:
    if isinstance(weights, int | float):
        return torch.full((largest,), float(weights), dtype=torch.float64)
    require(
        len(weights) >= largest,
        f"ranklist: {len(weights)} weights for {largest} skips; give one per skip or a number",
    )
    return torch.tensor(list(weights)[:largest], dtype=torch.float64)


def _are_ranks(batch: Groups) -> bool:
    whole = (batch.targets == batch.targets.round()) & (batch.targets < 0)
    return bool((whole | ~batch.judged).all())
