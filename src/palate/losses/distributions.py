"""Losses of a whole distribution of labels: over bins, normal, or by quantiles. The score is its mean.

They read what a head of the same kind gives of each response (`Scored.outputs`), not scores.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.errors import ConfigError, DataError
from palate.losses.base import Loss, check_groups, mean_of_lists, require
from palate.losses.scored import Scored

WIDEST = 20.0
"""Log-variances are kept within plus and minus this."""


class DistributionLoss(Loss):
    """A loss of the outputs of each response against its label."""

    anchored = True
    min_items = 1

    @abstractmethod
    def values(self, outputs: Tensor, targets: Tensor, support: Tensor | None) -> Tensor:
        """The loss of each response, shape (batch, k).

        Args:
            outputs: shape (batch, k, width), finite.
            targets: shape (batch, k), finite, in double precision; NaN where not judged.
            support: shape (width,), what the outputs stand for; None if they need none.
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
        outputs: Tensor | None = None,
        support: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`.

        Args:
            outputs: shape (batch, k, width), what the head gives of each response.
            support: shape (width,), what the outputs stand for.

        Raises:
            ConfigError: there are no outputs.
        """
        if outputs is None:
            raise ConfigError(
                f"the loss {self.name!r} reads a distribution, which only the head {self.heads[0]!r} gives"
            )
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        kept = torch.where(batch.judged[:, :, None], outputs, 0.0)
        values = self.values(kept, torch.where(batch.judged, targets.double(), torch.nan), support)
        return mean_of_lists(values.to(batch.scores.dtype), batch.judged, weight)

    def of(
        self,
        scored: Scored,
        batch: Mapping[str, Tensor],
        *,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of what a model says of a batch; see `Loss.of`."""
        value: Tensor = self(
            scored.scores, batch["targets"], mask=batch.get("mask"), weight=batch.get("weight"),
            outputs=scored.outputs, support=scored.support,
        )  # fmt: skip
        return value


class TwoHot(DistributionLoss):
    """Cross-entropy of bins to a label shared by its two neighbours (two-hot; Hafner et al., 2023).

    A label y between the bins ``v_j <= y <= v_{j+1}`` puts ``(v_{j+1} - y) / (v_{j+1} - v_j)`` on the lower
    and the rest on the upper, so that the mean of the target is y. `support` holds the bins, rising.

    Raises:
        DataError: a label below the lowest or above the highest bin.
    """

    name = "two_hot"
    heads = ("bins",)

    def values(self, outputs: Tensor, targets: Tensor, support: Tensor | None) -> Tensor:
        """See `DistributionLoss.values`."""
        bins = _support(self.name, outputs, support).double()
        bad = (targets < bins[0]) | (targets > bins[-1])
        if bool(bad.any()):
            raise DataError(
                f"the label {float(targets[bad][0]):g} lies outside the bins from {float(bins[0]):g} to "
                f"{float(bins[-1]):g}",
                row=int(bad.any(1).nonzero()[0]) + 1, field="targets",
                remedy="correct the label, or give the head low and high that hold all labels",
            )  # fmt: skip
        labels = targets.nan_to_num(float(bins[0])).contiguous()
        lower = (torch.searchsorted(bins, labels, right=True) - 1).clamp(0, len(bins) - 2)
        share = ((labels - bins[lower]) / (bins[lower + 1] - bins[lower])).to(outputs.dtype)
        logs = torch.log_softmax(outputs, -1)
        below = logs.gather(2, lower[:, :, None])[:, :, 0]
        above = logs.gather(2, lower[:, :, None] + 1)[:, :, 0]
        return -(1 - share) * below - share * above


class Gaussian(DistributionLoss):
    """Minus the log-density of a normal distribution whose mean and log-variance the model gives, in nats.

    ``(log v + (y - m)^2 / v + log 2 pi) / 2`` (Nix & Weigend, 1994). Where the variance is large the mean
    learns slowly; `beta` weighs each response by ``v^beta``, without gradient (Seitzer et al., 2022): 1 gives
    the mean the gradient of half the squared error.

    Args:
        beta: in [0, 1].
    """

    name = "gaussian"
    heads = ("gaussian",)

    def __init__(self, *, beta: float = 0.0) -> None:
        super().__init__()
        require(0 <= beta <= 1, f"beta must be in [0, 1], got {beta}")
        self.beta = beta

    def values(self, outputs: Tensor, targets: Tensor, support: Tensor | None) -> Tensor:
        """See `DistributionLoss.values`."""
        if outputs.shape[2] != 2:
            raise ConfigError(f"gaussian reads a mean and a log-variance, got {outputs.shape[2]} outputs")
        log_variance = log_variance_of(outputs)
        error = outputs[..., 0] - targets.nan_to_num().to(outputs.dtype)
        nll = 0.5 * (log_variance + error**2 * torch.exp(-log_variance) + math.log(2 * math.pi))
        return nll * torch.exp(self.beta * log_variance).detach() if self.beta else nll


def log_variance_of(outputs: Tensor) -> Tensor:
    """The log-variance, shape (...), in outputs of shape (..., 2); kept within -20 and 20."""
    return outputs[..., 1].clamp(-WIDEST, WIDEST)


class Quantile(DistributionLoss):
    """Mean pinball loss of predicted quantiles: ``tau (y - q)`` where y is above, else ``(1 - tau) (q - y)``.

    Koenker & Bassett (1978). `support` holds the probabilities tau. With `delta` the corner at 0 is rounded
    within `delta` (units of the labels) as in Huber's loss (Dabney et al., 2018), which a full-batch fit
    needs.

    Args:
        delta: 0 or more.
    """

    name = "quantile"
    heads = ("quantiles",)

    def __init__(self, *, delta: float = 0.0) -> None:
        super().__init__()
        require(delta >= 0, f"delta must be 0 or more, got {delta}")
        self.delta = delta

    def values(self, outputs: Tensor, targets: Tensor, support: Tensor | None) -> Tensor:
        """See `DistributionLoss.values`."""
        tau = _support(self.name, outputs, support).to(outputs)
        error = targets.nan_to_num().to(outputs.dtype)[:, :, None] - outputs
        size = error.abs()
        if self.delta:
            size = (
                F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta) / self.delta
            )
        return (torch.where(error >= 0, tau, 1 - tau) * size).mean(2)


def _support(name: str, outputs: Tensor, support: Tensor | None) -> Tensor:
    if support is None or support.shape != outputs.shape[2:]:
        given = "none" if support is None else f"{tuple(support.shape)}"
        raise ConfigError(f"{name} wants a support of shape ({outputs.shape[2]},), got {given}")
    return support
