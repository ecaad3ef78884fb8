"""Penalties on scores, to be added to a loss: they say where the level is, not who is preferred."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from palate.losses.base import Loss, check_groups, over_lists


class Penalty(Loss):
    """A function of the judged scores of a group; targets only say what is judged."""

    anchored = True
    supervised = False
    min_items = 1

    @abstractmethod
    def of_group(self, scores: Tensor, count: Tensor) -> Tensor:
        """The penalty of each group, shape (batch,).

        Args:
            scores: shape (batch, k), 0 where not judged.
            count: shape (batch,), how many are judged, at least 1.
        """

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
        """The penalty of a batch; see `Loss.forward`."""
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        count = batch.judged.sum(1)
        return over_lists(self.of_group(batch.scores, count.clamp(min=1)), count > 0, weight)


class Centering(Penalty):
    """``(2 / k * sum of the k scores)^2``: scores of a prompt's responses have mean 0.

    Of a pair it is ``(r_chosen + r_rejected)^2``, the auxiliary loss of Eisenstein et al. (2023, arXiv
    2312.09244) and TRL's `center_rewards_coefficient`. Differences of scores are
    left alone: a model with an intercept for each prompt would reach 0 at no cost to a loss of differences.
    """

    name = "centering"

    def of_group(self, scores: Tensor, count: Tensor) -> Tensor:
        return (2 * scores.sum(1) / count) ** 2


class Magnitude(Penalty):
    """Mean of the squared scores of a group: the level goes to 0 and differences shrink."""

    name = "magnitude"

    def of_group(self, scores: Tensor, count: Tensor) -> Tensor:
        squares: Tensor = torch.square(scores).sum(1)
        return squares / count
