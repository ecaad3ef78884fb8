"""Pairwise losses of two scores rather than of their difference: they also say where the level should be.

Scores are log-ratios of a policy to its reference, 0 where the two agree. All are *anchored*: adding a
constant to both scores of a pair changes the loss. All fall as `chosen` rises alone, except `apo_down`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.losses.base import Reduction, reduce, require


class AnchoredLoss:
    """A pairwise loss of two scores.

    Calling it: ``loss(chosen, rejected, *, weight=None, mask=None, reduction="mean", **params)`` with tensors
    of one shape; `weight`, `mask` and `reduction` as in `palate.losses.pairwise.MarginLoss`.
    """

    anchored = True

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.name = function.__name__
        self.params = tuple(inspect.signature(function).parameters)[2:]
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"palate.losses.{self.name}"

    def __call__(
        self,
        chosen: Tensor,
        rejected: Tensor,
        *,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
        reduction: Reduction = "mean",
        **params: Any,
    ) -> Tensor:
        if mask is not None:
            chosen, rejected = torch.where(mask, chosen, 0.0), torch.where(mask, rejected, 0.0)
        return reduce(self.function(chosen, rejected, **params), weight, mask, reduction)


@AnchoredLoss
def nca(chosen: Tensor, rejected: Tensor, *, beta: float = 0.01) -> Tensor:
    """Noise-contrastive alignment of a pair: ``-log s(w) - [log s(-w) + log s(-l)] / 2``.

    w and l are beta times the scores, s the logistic function.
    """
    _positive(beta=beta)
    w, losing = beta * chosen, beta * rejected
    return F.softplus(-w) + (F.softplus(w) + F.softplus(losing)) / 2


@AnchoredLoss
def sppo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.001) -> Tensor:
    """Self-play preference optimisation, hard form: ``(w - 1 / (2 beta))^2 + (l + 1 / (2 beta))^2``."""
    _positive(beta=beta)
    return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2


@AnchoredLoss
def apo_zero(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    """Anchored preference optimisation, chosen up and rejected down: ``1 - s(beta w) + s(beta l)``."""
    _positive(beta=beta)
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


@AnchoredLoss
def apo_down(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    """Both down, the rejected further: ``s(beta w) + 1 - s(beta (w - l))``.

    For data whose chosen answers are worse than the policy's own.
    """
    _positive(beta=beta)
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


def _positive(**values: float) -> None:
    for name, value in values.items():
        require(value > 0, f"{name} must be above 0, got {value}")
