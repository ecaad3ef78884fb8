"""Squared distance of a policy's log-ratios to given targets: GPO, SPPO and their kin."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.losses.base import Loss, Reduction, check_groups, mean_of_lists, reduce, require


def squared_target(
    log_ratio: Tensor,
    target: Tensor,
    *,
    lengths: Tensor | None = None,
    length_power: float = 0.0,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``(|y|^-p log_ratio - target)^2`` per sample y (Zhang et al., 2024, arXiv 2410.02197).

    With the log-ratio of a policy to the one that drew the samples, and ``target = mean score / beta``, it is
    general preference optimisation; with ``target = (P(y beats the policy) - 1/2) / beta`` self-play
    preference optimisation. Both leave out the log of the normaliser. Its exact minimiser is multiplicative
    weights: the new policy is proportional to the old one times ``exp(target)``.

    Args:
        log_ratio: log-probability of each sample under the policy less that under the reference, any shape.
        target: same shape.
        lengths: tokens of each sample, same shape; needed with a `length_power` above 0.
        length_power: p, 0 or more; 1 makes log-ratios means over tokens.
        weight, mask, reduction: as in `palate.losses.MarginLoss`.

    Raises:
        ConfigError: `length_power` is negative, or above 0 without lengths, or a length is below 1.
    """
    require(length_power >= 0, f"length_power must be 0 or more, got {length_power}")
    if length_power:
        require(lengths is not None, "length_power above 0 needs the lengths of the samples")
        assert lengths is not None
        require(bool((lengths >= 1).all()), "a sample of no tokens has no length-normalised log-ratio")
        log_ratio = log_ratio / lengths.to(log_ratio.dtype) ** length_power
    if mask is not None:
        log_ratio, target = torch.where(mask, log_ratio, 0.0), torch.where(mask, target, 0.0)
    return reduce((log_ratio - target) ** 2, weight, mask, reduction)


class SquaredTarget(Loss):
    """`squared_target` over groups: scores are log-ratios (per token for the length-normalised form), targets
    are what a sample is worth, a mean preference score or a probability less one half.

    ``(s - y / beta)^2``

    Args:
        beta: above 0; how far a policy moves, the less the larger.
    """

    name = "squared_target"
    anchored = True
    min_items = 1

    def __init__(self, *, beta: float = 1.0) -> None:
        super().__init__()
        require(beta > 0, f"beta must be above 0, got {beta}")
        self.beta = beta

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
        wanted = batch.targets.to(batch.scores.dtype) / self.beta
        values = squared_target(batch.scores, wanted, reduction="none")
        return mean_of_lists(values, batch.judged, weight)
