"""Losses of single responses: unpaired labels (groups with k = 1) and ratings. All are anchored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.errors import DataError
from palate.losses.base import Groups, Loss, check_groups, mean_of_lists, require


class Regression(Loss):
    """Squared (`mse`) or Huber error of the scores to the targets.

    Args:
        delta: where Huber's loss turns from quadratic to linear, in units of the targets; None is the squared
            error ``(s - y)^2``, otherwise ``(s - y)^2 / 2`` within `delta` and ``delta (|s - y| - delta /
            2)`` beyond.
    """

    anchored = True
    min_items = 1

    def __init__(self, *, delta: float | None = None) -> None:
        super().__init__()
        require(delta is None or delta > 0, f"delta must be above 0, got {delta}")
        self.delta = delta

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
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        wanted = batch.targets.to(batch.scores.dtype)
        if self.delta is None:
            values = (batch.scores - wanted) ** 2
        else:
            values = F.huber_loss(batch.scores, wanted, reduction="none", delta=self.delta)
        return mean_of_lists(values, batch.judged, weight)


class KTO(Loss):
    """Kahneman-Tversky optimisation: labels 1 (desirable) and 0 of single responses (Ethayarajh et al.,
    2024).

    A desirable response costs ``desirable * (1 - sigmoid(beta (s - z0)))``, another
    ``undesirable * (1 - sigmoid(beta (z0 - s)))``. Scores are log-ratios of policy to reference.

    Args:
        beta: above 0.
        desirable: lambda_D. With unequal counts keep ``desirable * n_desirable / (undesirable *
            n_undesirable)`` between 1 and 4/3.
        undesirable: lambda_U.
    """

    name = "kto"
    anchored = True
    min_items = 1

    def __init__(self, *, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0) -> None:
        super().__init__()
        require(beta > 0, f"beta must be above 0, got {beta}")
        require(desirable >= 0 and undesirable >= 0, "desirable and undesirable must be 0 or more")
        self.beta, self.desirable, self.undesirable = beta, desirable, undesirable

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        reference_point: Tensor | float = 0.0,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`.

        Args:
            reference_point: z0, the mean log-ratio of prompts with responses of other prompts. It is the
                caller's to estimate (over matched pairs it would be wrong), is kept at 0 or above, and
                carries no gradient.
        """
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        good = _labels(self.name, batch)
        z0 = (
            torch.as_tensor(reference_point, dtype=batch.scores.dtype, device=scores.device)
            .detach()
            .clamp(min=0)
        )
        gain = self.beta * (batch.scores - z0)
        values = torch.where(
            good, self.desirable * torch.sigmoid(-gain), self.undesirable * torch.sigmoid(gain)
        )
        return mean_of_lists(values, batch.judged, weight)


class BCO(Loss):
    """Binary classifier optimisation: the logistic loss of labels 1 and 0, shifted by a running mean (Jung et
    al.).

    ``-log sigmoid(beta s - delta)`` for a desirable response, ``-log sigmoid(-(beta s - delta))`` for
    another, with delta the mean of all implicit rewards ``beta s`` seen in training so far, this batch
    included. It is state: saved by `state_dict`, updated in training mode only.
    """

    name = "bco"
    anchored = True
    min_items = 1
    delta: Tensor
    seen: Tensor

    def __init__(self, *, beta: float = 0.01) -> None:
        super().__init__()
        require(beta > 0, f"beta must be above 0, got {beta}")
        self.beta = beta
        self.register_buffer("delta", torch.zeros((), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

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
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        good = _labels(self.name, batch)
        reward = self.beta * batch.scores
        if self.training:
            count = int(batch.judged.sum())
            total = torch.where(batch.judged, reward, 0.0).detach().double().sum()
            self.seen += count
            self.delta += (total - count * self.delta) / self.seen
        shifted = reward - self.delta.to(reward.dtype)
        return mean_of_lists(F.softplus(torch.where(good, -shifted, shifted)), batch.judged, weight)


def _labels(name: str, batch: Groups) -> Tensor:
    bad = batch.judged & (batch.targets != 0) & (batch.targets != 1)
    if bool(bad.any()):
        raise DataError(
            f"{name} wants labels 1 (desirable) and 0, got {float(batch.targets[bad][0]):g}",
            row=int(bad.any(1).nonzero()[0]) + 1, field="targets",
            remedy="turn ratings into labels with a threshold",
        )  # fmt: skip
    return batch.targets == 1
