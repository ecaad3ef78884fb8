"""The contract of a loss: a scalar from scores, targets and weights, blind to where the scores came from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from palate.errors import ConfigError, DataError
from palate.losses.scored import Scored

Reduction = Literal["mean", "sum", "none"]


class Loss(nn.Module):
    """A loss over a batch of groups, each one prompt with k responses.

    A pair is k = 2, an unpaired label k = 1. Call it as ``loss(scores, targets, mask=..., weight=...,
    step=..., total_steps=...)``. The value is the mean per group, then the weighted mean over the groups that
    hold something to learn, so long groups do not dominate; a batch in which no group does gives 0 with zero
    gradient. What a loss learns or keeps (tie width, running mean) are its parameters and buffers: give
    `parameters()` to the optimiser and save `state_dict()` with the checkpoint.

    Attributes:
        name: its name in the registry.
        params: the parameters it was built with.
        anchored: whether the level of the scores counts. A loss that is not anchored is shift-invariant:
            adding a constant to all scores of a group changes nothing.
        min_items: how many judged items a group needs to count.
        pairwise: whether it is made for groups of two rather than whole lists.
        graded: whether it reads by how much the two targets of a pair differ.
        supervised: whether it reads the order or the values of the targets. A penalty does not: it goes along
            with the groups that the losses it is added to are made for.
        log_odds: whether the scores that minimise it are such that their differences are log-odds of
            preference.
        heads: names of the heads whose outputs it reads; empty if it reads what every head gives.
        views: how many passes over the same responses it needs, each with its own dropout (1 or 2).
        reads_features: whether it reads what the last layer reads (`Scored.features`).
        reads_ratings: whether it reads what each response got on every aspect (`ratings` in a batch).
        stepwise: whether it changes from step to step, so that it has no minimum over a whole training set.
        watched: named quantities of the last batch to log, without gradient.
    """

    name: str = "loss"
    params: dict[str, Any]
    anchored: bool = False
    min_items: int = 2
    pairwise: bool = False
    graded: bool = False
    supervised: bool = True
    log_odds: bool = False
    heads: tuple[str, ...] = ()
    views: int = 1
    reads_features: bool = False
    reads_ratings: bool = False
    stepwise: bool = False
    watched: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.params = {}
        self.watched = {}

    def prepare(
        self,
        *,
        width: int | None = None,
        sources: Mapping[str, int] | None = None,
        targets: Tensor | None = None,
    ) -> None:
        """Learn, before training, what only the model and the data can say. Most losses need none of it.

        Args:
            width: h, how many features the last layer reads, for a loss with parameters of that size.
            sources: how many groups come from each source, in order of the codes in a batch's `source`.
            targets: every judged target of the training set, shape (m,), for a loss with a scale of labels.
        """

    @abstractmethod
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
        """The loss of a batch.

        Args:
            scores: shape (batch, k), higher is better.
            targets: shape (batch, k), labels of any scale; NaN means not judged.
            mask: shape (batch, k), False drops an item (padding).
            weight: shape (batch,), 0 or more; all groups weigh the same without it.
            step: which training step this is, from 0; needed by losses with a schedule.
            total_steps: how many steps the training has.

        Raises:
            DataError: shapes differ, a judged item has a score that is not finite, or no group has
            `min_items`.
        """

    def of(
        self,
        scored: Scored,
        batch: Mapping[str, Tensor],
        *,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of what a model says of a batch; a loss that reads more than scores overrides it.

        Args:
            scored: scores, and margins, outputs or features where the model gives them.
            batch: `targets` (batch, k), and as far as there `mask` (batch, k) and, of shape (batch,),
                `weight`, `offset` and `soft` (a demanded gap, and the probability that the first is
                preferred; groups of two), `aspect` and `source` (codes from 0, -1 for none); `ratings`
                (batch, k, aspects), what each response got on every aspect, for a loss that reads them.
            step, total_steps: as in `forward`.
        """
        value: Tensor = self(
            scored.scores, batch["targets"], mask=batch.get("mask"), weight=batch.get("weight"),
            step=step, total_steps=total_steps,
        )  # fmt: skip
        return value

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.params.items())


class Groups(NamedTuple):
    """Checked input: `scores` and `targets` are finite everywhere (0 where not judged)."""

    scores: Tensor  # (batch, k), at least float32
    targets: Tensor  # (batch, k)
    judged: Tensor  # (batch, k), bool


def check_groups(name: str, scores: Tensor, targets: Tensor, mask: Tensor | None, min_items: int) -> Groups:
    """Check a batch at the door; dropped items become zeros, so that no NaN reaches a gradient."""
    if scores.ndim != 2:
        raise DataError(
            f"{name} wants scores of shape (batch, k), got {tuple(scores.shape)}",
            remedy="give one row of k scores per prompt",
        )
    for what, other in (("targets", targets), ("mask", mask)):
        if other is not None and other.shape != scores.shape:
            raise DataError(
                f"{name} got scores of shape {tuple(scores.shape)} but {what} of shape {tuple(other.shape)}",
                remedy="give both one entry per response",
            )
    if not scores.is_floating_point() or scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if not targets.is_floating_point():
        targets = targets.double()
    judged = ~torch.isnan(targets) if mask is None else mask.bool() & ~torch.isnan(targets)
    for what, values in (("scores", scores), ("targets", targets)):
        bad = judged & ~torch.isfinite(values)
        if bool(bad.any()):
            row = int(bad.any(1).nonzero()[0]) + 1
            raise DataError(
                f"{name} got a value that is not finite", row=row, field=what,
                remedy="mask the item, or lower the learning rate if training diverged",
            )  # fmt: skip
    most = int(judged.sum(1).max()) if judged.numel() else 0
    if most < min_items:
        things = "items" if min_items != 1 else "item"
        raise DataError(
            f"{name} needs lists with at least {min_items} judged {things}; "
            f"got {len(scores)} lists with at most {most}"
        )
    return Groups(torch.where(judged, scores, 0.0), torch.where(judged, targets, 0.0), judged)


def mean_of_lists(values: Tensor, valid: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of `values` (batch, m) over `valid` (batch, m) per row, then over rows with any."""
    counts = valid.sum(1)
    per_list = torch.where(valid, values, 0.0).sum(1) / counts.clamp(min=1)
    return over_lists(per_list, counts > 0, weight)


def over_lists(per_list: Tensor, counted: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted mean of `per_list` (batch,) over the lists `counted` (batch,); 0 where there are none."""
    share = counted.to(per_list.dtype)
    if weight is not None:
        share = share * check_weight(weight, per_list)
    total = share.sum()
    return (torch.where(counted, per_list, 0.0) * share).sum() / torch.where(total > 0, total, 1.0)


def check_weight(weight: Tensor, like: Tensor) -> Tensor:
    if weight.shape != like.shape:
        raise DataError(
            f"weight has shape {tuple(weight.shape)}, not {tuple(like.shape)}",
            remedy="give one weight per group",
        )
    bad = ~torch.isfinite(weight) | (weight < 0)
    if bool(bad.any()):
        raise DataError(
            "a weight that is negative or not finite", row=int(bad.nonzero()[0][0]) + 1, field="weight",
            remedy="give a finite weight of 0 or more",
        )  # fmt: skip
    return weight.to(like.dtype)


def reduce(values: Tensor, weight: Tensor | None, mask: Tensor | None, reduction: Reduction) -> Tensor:
    """Weighted losses of any shape: each ("none"), their sum, or their mean (sum over sum of weights)."""
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"unknown reduction {reduction!r}; use mean, sum or none")
    share = torch.ones_like(values) if weight is None else weight.to(values.dtype).expand_as(values)
    if mask is not None:
        values = torch.where(mask, values, 0.0)
        share = torch.where(mask, share, 0.0)
    if reduction == "none":
        return values * share
    total = (values * share).sum()
    return total if reduction == "sum" else total / torch.where(share.sum() > 0, share.sum(), 1.0)


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless `condition`."""
    if not condition:
        raise ConfigError(message)
