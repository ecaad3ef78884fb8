"""Lifting a loss of pairs, or a function of whole lists, to the contract of `palate.losses.base.Loss`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from palate.errors import DataError, unknown
from palate.losses.anchored import AnchoredLoss
from palate.losses.base import Loss, check_groups, mean_of_lists, require
from palate.losses.listwise import listmle
from palate.losses.pairwise import MarginLoss, davidson, logistic, robust
from palate.losses.scored import Scored

LOGISTIC = (logistic, robust, davidson)
"""Under these P(a beats b), given that one does, is the logistic of the margin."""


class Pairwise(Loss):
    """A loss of margins over all pairs of a group whose targets differ; with k = 2 over the pair itself.

    Args:
        function: a `MarginLoss`, such as `palate.losses.logistic`.
        ties: what pairs with equal targets do: "drop", or "half": a target of one half.
        scale: what margins are multiplied by (DPO's beta).
        smoothing: label smoothing; None is the function's own default.
        min_margin: pairs whose targets differ by less than this (in units of the targets) are left out.
        label_margin: demand a gap of this times the difference of the targets (margin Bradley-Terry at 1).
        label_weight: multiply the loss of a pair by the difference of its targets (scaled Bradley-Terry).
        **params: parameters of `function`.
    """

    pairwise = True

    def __init__(
        self,
        function: MarginLoss,
        *,
        ties: Literal["drop", "half"] = "drop",
        scale: float = 1.0,
        smoothing: float | None = None,
        min_margin: float = 0.0,
        label_margin: float = 0.0,
        label_weight: bool = False,
        **params: Any,
    ) -> None:
        super().__init__()
        self.function, self.ties, self.scale, self.smoothing = function, ties, scale, smoothing
        self.min_margin, self.label_margin, self.label_weight = min_margin, label_margin, label_weight
        self.options = params
        self.name = function.name
        known = (*function.params, "ties", "scale", "smoothing", "min_margin", "label_margin", "label_weight")
        self.graded = label_weight or label_margin > 0 or min_margin > 0
        # Strengths that go along with the outcome, as weights, make scores surer than the votes are.
        plain = scale == 1.0 and not label_margin and not label_weight and not smoothing
        self.log_odds = function in LOGISTIC and plain
        _check_names(self.name, params, known)
        require(ties in ("drop", "half"), f"ties must be 'drop' or 'half', got {ties!r}")
        require(scale > 0, f"scale must be above 0, got {scale}")
        require(min_margin >= 0, f"min_margin must be 0 or more, got {min_margin}")
        function(
            torch.zeros(1), smoothing=smoothing, **params
        )  # a parameter out of range shows here, not in training

    def extra(self) -> dict[str, Any]:
        """Parameters for `function` at this call."""
        return self.options

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        margins: Tensor | None = None,
        pair_target: Tensor | None = None,
        pair_offset: Tensor | None = None,
        pair_scale: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`.

        Args:
            margins: shape (batch, k, k), entry (i, j) by how much i is preferred to j; takes the place of the
                differences of `scores` (a model that compares).
            pair_target: P(i preferred to j), shape (batch,) for k = 2 (i the first, j the second) or (batch,
                k, k); NaN drops a pair. It takes the place of the order of `targets`, which then only say
                what is judged.
            pair_offset: demanded gap of the scaled score of i over that of j, shapes as above.
            pair_scale: scale of each pair, times `scale`, shapes as above.
        """
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        k = scores.shape[1]
        i, j = torch.triu_indices(k, k, 1, device=scores.device)
        gap = batch.targets[:, i] - batch.targets[:, j]
        if margins is None:
            margin = batch.scores[:, i] - batch.scores[:, j]
        else:
            margin = _of_pairs("margins", margins, k, i, j).to(batch.scores.dtype)
        strength = gap.abs().to(margin.dtype)
        valid = batch.judged[:, i] & batch.judged[:, j]
        offset: float | Tensor = 0.0
        if pair_offset is not None:
            offset = _of_pairs("pair_offset", pair_offset, k, i, j)
        target: float | Tensor = 1.0
        if pair_target is not None:
            given = _of_pairs("pair_target", pair_target, k, i, j)
            valid = valid & ~torch.isnan(given)
            target = torch.where(valid, given, 1.0).to(margin.dtype)
            offset = offset + self.label_margin * gap.to(margin.dtype)
        else:
            # Turned so that the better comes first, a vote needs the link on one side only.
            sign = torch.where(gap < 0, -1.0, 1.0).to(margin.dtype)
            tied = gap == 0
            keep = torch.where(tied, self.ties == "half", gap.abs() >= self.min_margin)
            valid = valid & keep
            if self.ties == "half":
                target = torch.where(tied, 0.5, 1.0).to(margin.dtype)
            margin = margin * sign
            offset = offset * sign + self.label_margin * strength
        scale: float | Tensor = self.scale
        if pair_scale is not None:
            scale = scale * _of_pairs("pair_scale", pair_scale, k, i, j)
        values = self.function(
            margin, target, offset=offset, scale=scale, smoothing=self.smoothing,
            weight=strength if self.label_weight else None, mask=valid, reduction="none", **self.extra(),
        )  # fmt: skip
        return mean_of_lists(values, valid, weight)

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
            margins=scored.margins, pair_target=batch.get("soft"), pair_offset=batch.get("offset"),
        )  # fmt: skip
        return value


class TiedPairwise(Pairwise):
    """Pairs with three outcomes, win, tie and loss: equal targets are ties, and the model says how likely
    they are.

    The width of ties (Davidson's nu, Rao and Kupper's eta) is fixed, or with ``learn=True`` a parameter of
    the loss, which the optimiser trains with the model: give it `loss.parameters()`.
    """

    def __init__(
        self, function: MarginLoss, width: str, least: float, *, learn: bool = False, **params: Any
    ) -> None:
        start = params.pop(width, inspect.signature(function.function).parameters[width].default)
        super().__init__(function, ties="half", **params)
        require(start > least, f"{width} must be above {least:g}, got {start}")
        self.width_name, self.least = width, least
        raw = torch.log(torch.tensor(float(start) - least))
        if learn:
            self.raw_width = nn.Parameter(raw)
        else:
            self.register_buffer("raw_width", raw)

    @property
    def width(self) -> Tensor:
        """The width of ties, nu or eta; shape ()."""
        return self.raw_width.exp() + self.least

    def extra(self) -> dict[str, Any]:
        return {**self.options, self.width_name: self.width}


class AnchoredPairwise(Loss):
    """A loss of two scores over all pairs of a group whose targets differ; ties are dropped."""

    anchored = True
    pairwise = True

    def __init__(self, function: AnchoredLoss, **params: Any) -> None:
        super().__init__()
        self.function, self.options, self.name = function, params, function.name
        _check_names(self.name, params, function.params)
        function(torch.zeros(1), torch.zeros(1), **params)

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
        k = scores.shape[1]
        i, j = torch.triu_indices(k, k, 1, device=scores.device)
        gap = batch.targets[:, i] - batch.targets[:, j]
        valid = batch.judged[:, i] & batch.judged[:, j] & (gap != 0)
        first, second = batch.scores[:, i], batch.scores[:, j]
        chosen, rejected = torch.where(gap > 0, first, second), torch.where(gap > 0, second, first)
        values = self.function(chosen, rejected, mask=valid, reduction="none", **self.options)
        return mean_of_lists(values, valid, weight)


class FunctionLoss(Loss):
    """A loss given as a function ``f(scores, targets, *, mask, weight, **params)`` of whole groups."""

    def __init__(self, function: Callable[..., Tensor], **params: Any) -> None:
        super().__init__()
        self.function, self.options, self.name = function, params, function.__name__
        self.log_odds = function is listmle  # Luce's rule for two is Bradley and Terry's
        known = tuple(
            name for name in inspect.signature(function).parameters if name not in ("mask", "weight")
        )[2:]
        _check_names(self.name, params, known)
        function(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), **params)

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
        return self.function(scores, targets, mask=mask, weight=weight, **self.options)


def _check_names(name: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    for parameter in given:
        if parameter not in known:
            raise unknown(f"parameter of the loss {name!r}:", parameter, known or ("none",))


def _of_pairs(name: str, value: Tensor, k: int, i: Tensor, j: Tensor) -> Tensor:
    if value.ndim == 3 and value.shape[1:] == (k, k):
        return value[:, i, j]
    if value.ndim == 1 and k == 2:
        return value[:, None]
    raise DataError(
        f"{name} has shape {tuple(value.shape)}, not (batch,) for pairs or (batch, {k}, {k})",
        remedy="give one value per pair of responses",
    )
