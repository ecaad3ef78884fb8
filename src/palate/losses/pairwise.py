"""Losses of a margin: how well the difference of two scores agrees with who was preferred.

A link f falls as ``z = scale * margin - offset`` rises. With p the probability that the first of a pair is
preferred, the loss of the pair is ``p f(z) + (1 - p) f(-z)``. None depends on the level of the scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.errors import DataError
from palate.losses.base import Reduction, reduce, require

Number = float | Tensor


class MarginLoss:
    """A pairwise loss as a function of ``margin = score of the first - score of the second``.

    Calling it::

        loss(margin, target=1.0, *, offset=0.0, scale=1.0, smoothing=0.0, weight=None, mask=None,
        reduction="mean")

    Args:
        margin: any shape.
        target: p, the probability in [0, 1] that the first is preferred: 1 and 0 are votes, between them a
            soft label, 0.5 a tie. A number, or a tensor of the shape of `margin`; so are `offset` and
            `scale`.
        offset: a demanded gap in units of z (margin Bradley-Terry; ODPO; SimPO's gamma). It belongs to the
            order of the pair: swapping negates margin and offset, turns p into 1 - p, and changes no loss.
        scale: what the margin is multiplied by, as DPO's beta.
        smoothing: label smoothing e in [0, 0.5): p becomes (1 - e) p + e (1 - p).
        weight: weight of each pair; "mean" divides by their sum.
        mask: False leaves a pair out, whatever it holds.
        reduction: "mean", "sum" or "none" (each loss times its weight).
        **params: what the loss itself takes (`tau`, `flip`, `nu`, ...).

    Raises:
        DataError: a target outside [0, 1].
        ConfigError: a parameter out of its range.
    """

    anchored = False

    def __init__(self, function: Callable[..., Tensor], smoothing: float = 0.0) -> None:
        """`function(z, p, **params)` gives the loss of each pair; `smoothing` is the default."""
        self.function, self.smoothing = function, smoothing
        self.name = function.__name__
        self.params = tuple(inspect.signature(function).parameters)[2:]
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"palate.losses.{self.name}"

    def __call__(
        self,
        margin: Tensor,
        target: Number = 1.0,
        *,
        offset: Number = 0.0,
        scale: Number = 1.0,
        smoothing: float | None = None,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
        reduction: Reduction = "mean",
        **params: Any,
    ) -> Tensor:
        z = scale * margin - offset
        if mask is not None:
            # A masked pair must not reach a gradient, and NaN times 0 is NaN.
            z = torch.where(mask, z, 0.0)
            target = torch.where(mask, target, 1.0) if isinstance(target, Tensor) else target
        p = soft_target(target, self.smoothing if smoothing is None else smoothing)
        return reduce(self.function(z, p, **params), weight, mask, reduction)


def soft_target(target: Number, smoothing: float = 0.0) -> Number:
    """The probability that the first is preferred, after label smoothing."""
    require(0.0 <= smoothing < 0.5, f"smoothing must be in [0, 0.5), got {smoothing}")
    values = torch.as_tensor(target)
    bad = ~((values >= 0) & (values <= 1))
    if bool(bad.any()):
        raise DataError(
            f"{float(values[bad][0])} is no probability", field="target",
            remedy="give the probability in [0, 1] that the first response is preferred",
        )  # fmt: skip
    return target if smoothing == 0.0 else (1 - smoothing) * target + smoothing * (1 - target)


def mixture(link: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss ``p f(z) + (1 - p) f(-z)`` of a link f; a plain vote costs one evaluation of f."""

    @wraps(link)
    def loss(z: Tensor, p: Number, **params: Any) -> Tensor:
        if not isinstance(p, Tensor) and p == 1:
            return link(z, **params)
        return p * link(z, **params) + (1 - p) * link(-z, **params)

    signature = inspect.signature(link)
    p_parameter = inspect.Parameter("p", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first, *rest = signature.parameters.values()
    loss.__signature__ = signature.replace(parameters=[first, p_parameter, *rest])  # type: ignore[attr-defined]
    return loss


@MarginLoss
@mixture
def logistic(z: Tensor) -> Tensor:
    """Bradley-Terry: ``f(z) = -log sigmoid(z)``, minus the log-likelihood of a vote (Bradley & Terry, 1952).

    With `scale` = beta it is DPO (eq. 7), with `smoothing` conservative DPO, with `offset` margin
    Bradley-Terry.
    """
    return F.softplus(-z)


@MarginLoss
@mixture
def thurstone(z: Tensor) -> Tensor:
    """Thurstone's case V: ``f(z) = -log Phi(z)``, Phi the normal distribution function (Thurstone, 1927).

    A margin of 1 is one standard deviation of the difference of two perceived qualities; slopes are about
    1.7 times smaller than those of `logistic`. Beyond z = -6 the loss grows like ``z^2 / 2``.
    """
    # In single precision the logarithm's slope is off by a factor far out in the tail.
    loss: Tensor = -torch.special.log_ndtr(z.double())
    return loss.to(z.dtype)


@MarginLoss
@mixture
def robust(z: Tensor, *, flip: float = 0.1) -> Tensor:
    """Logistic loss, unbiased where a share `flip` of the labels is wrong (robust DPO); it can be negative.

    ``f(z) = [(1 - e) l(z) - e l(-z)] / (1 - 2e)`` with l the logistic loss and e in [0, 0.5).
    """
    require(0.0 <= flip < 0.5, f"flip must be in [0, 0.5), got {flip}")
    return ((1 - flip) * F.softplus(-z) - flip * F.softplus(z)) / (1 - 2 * flip)


@MarginLoss
@mixture
def hinge(z: Tensor) -> Tensor:
    """``f(z) = max(0, 1 - z)`` (SLiC on log-ratios; RSO)."""
    return F.relu(1 - z)


@MarginLoss
@mixture
def ipo(z: Tensor, *, tau: float = 0.1) -> Tensor:
    """Identity preference optimisation: ``f(z) = (z - 1 / (2 tau))^2`` (Azar et al., eq. 17).

    The paper's margin is of summed log-ratios, its authors' advice for language models is per-token means;
    which it is decides what `tau` means, and is the caller's choice.
    """
    require(tau > 0, f"tau must be above 0, got {tau}")
    return (z - 1 / (2 * tau)) ** 2


@MarginLoss
@mixture
def exponential(z: Tensor) -> Tensor:
    """``f(z) = exp(-z)`` (RankBoost). Beyond z = -80 it is constant, so that float32 stays finite."""
    return torch.exp(-z.clamp(min=-80.0))


@MarginLoss
@mixture
def discopop(z: Tensor, *, tau: float = 0.05) -> Tensor:
    """DiscoPOP: logistic where z is negative, exponential where positive.

    ``f(z) = (1 - m) l(z) + m exp(-z)`` with ``m = sigmoid(z / tau)`` and l the logistic loss.
    """
    require(tau > 0, f"tau must be above 0, got {tau}")
    share = torch.sigmoid(z / tau)
    return (1 - share) * F.softplus(-z) + share * torch.exp(-z.clamp(min=-80.0))


def _exo(z: Tensor, p: Number) -> Tensor:
    """Exact preference optimisation of a pair: ``KL(q || t)``, ``q = (sigmoid(z), sigmoid(-z))``, ``t = (p, 1
    - p)``.

    A hard label has infinite divergence, so `smoothing` (default 0.001) must be above 0. The gradient
    vanishes on pairs that the scores confidently contradict, so a wrong label hurts little.
    """
    t = torch.as_tensor(p, dtype=z.dtype, device=z.device)
    require(
        bool(((t > 0) & (t < 1)).all()), "exo needs smoothing above 0: a hard label has infinite divergence"
    )
    first = torch.sigmoid(z) * (F.logsigmoid(z) - torch.log(t))
    return first + torch.sigmoid(-z) * (F.logsigmoid(-z) - torch.log1p(-t))


_exo.__name__ = "exo"
exo = MarginLoss(_exo, smoothing=1e-3)


@MarginLoss
def davidson(z: Tensor, p: Number, *, nu: Number = 1.0) -> Tensor:
    """Davidson's model of win, tie and loss; `target` is 1, 0.5 (a tie) or 0.

    With strengths p_i: ``P(i > j) = p_i / D`` and ``P(tie) = nu sqrt(p_i p_j) / D``, where
    ``D = p_i + p_j + nu sqrt(p_i p_j)`` (Davidson, 1970). `nu` above 0 sets how wide ties are.
    """
    width = _width(z, nu, 0.0, "nu")
    total = torch.logsumexp(torch.stack([z / 2, -z / 2, width.log().expand_as(z)]), 0)
    return torch.where(_tie("davidson", z, p), total - width.log(), total - _side(z, p) / 2)


@MarginLoss
def rao_kupper(z: Tensor, p: Number, *, eta: Number = 2.0) -> Tensor:
    """Rao and Kupper's model of win, tie and loss; `target` is 1, 0.5 (a tie) or 0.

    ``P(i > j) = sigmoid(z - log eta)``, ``P(tie) = (eta^2 - 1) sigmoid(z - log eta) sigmoid(-z - log eta)``
    (Rao & Kupper, 1967). `eta` above 1 sets how wide ties are.
    """
    width = _width(z, eta, 1.0, "eta")
    shift = width.log()
    win = F.softplus(shift - _side(z, p))
    tie = F.softplus(shift - z) + F.softplus(shift + z) - torch.log(width**2 - 1)
    return torch.where(_tie("rao_kupper", z, p), tie, win)


def _width(z: Tensor, value: Number, least: float, name: str) -> Tensor:
    width = torch.as_tensor(value, dtype=z.dtype, device=z.device)
    require(
        bool((width.detach() > least).all()),
        f"{name} must be above {least:g}, got {float(width.detach().min()):g}",
    )
    return width


def _tie(name: str, z: Tensor, p: Number) -> Tensor:
    outcome = torch.as_tensor(p, device=z.device)
    tie = outcome == 0.5
    if not bool((tie | (outcome == 0) | (outcome == 1)).all()):
        raise DataError(
            f"{name} models win, tie and loss, not soft labels", field="target",
            remedy="give targets 1, 0.5 and 0 without smoothing, or use bradley_terry",
        )  # fmt: skip
    return tie.expand_as(z)


def _side(z: Tensor, p: Number) -> Tensor:
    return torch.where(torch.as_tensor(p, device=z.device) >= 0.5, z, -z)
