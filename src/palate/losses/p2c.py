"""Prefer to Classify: preferences between inputs of one class, learnt beside the class itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.errors import DataError
from palate.losses.base import Loss, Reduction, check_weight, reduce, require
from palate.losses.scored import Scored

NONE = 2
"""The code of "neither is more of the class"; 1 says the first is, 0 the second."""


def order_consistency(
    p1: Tensor,
    p2: Tensor,
    pref: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """By how much the probabilities of a class contradict which input is more of it (Kim et al., 2023).

    With ``d = p1 - p2``: ``max(0, -d)`` where the first is preferred, ``max(0, d)`` where the second is,
    ``|d|`` where neither is.

    Args:
        p1, p2: shape (batch,), the classifier's probabilities of the class both inputs are labelled with.
        pref: shape (batch,), 1 if the first input is more of the class, 0 if the second is, 2 if neither.
        mask: shape (batch,), False leaves a pair out; its `pref` is not read.
        weight: shape (batch,).
        reduction: "mean", "sum" or "none".

    Raises:
        DataError: shapes differ, or a preference is not 0, 1 or 2.
    """
    _same_shape("order_consistency", p1, p2, pref)
    _check_codes(pref, mask)
    d = p1 - p2
    values = torch.where(pref == NONE, d.abs(), torch.where(pref == 1, (-d).clamp(min=0), d.clamp(min=0)))
    return reduce(values, weight, mask, reduction)


def margin_consistency(
    p1: Tensor,
    p2: Tensor,
    s1: Tensor,
    s2: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """By how much probabilities differ less between two inputs than the shares of votes do, over all classes.

    With ``dS = s1 - s2`` and ``dP = p1 - p2``, the sum over classes of ``max(0, dS - dP)`` where
    ``dS >= 0`` and ``max(0, dP - dS)`` elsewhere (Kim et al., 2023).

    Args:
        p1, p2: shape (batch, classes), the classifier's probabilities.
        s1, s2: shape (batch, classes), shares of annotators' votes.
        weight: shape (batch,).
        reduction: "mean", "sum" or "none".

    Raises:
        DataError: shapes differ.
    """
    _same_shape("margin_consistency", p1, p2, s1, s2)
    gap, shown = s1 - s2, p1 - p2
    short = torch.where(gap >= 0, gap - shown, shown - gap).clamp(min=0)
    return reduce(short.sum(-1), weight, None, reduction)


def head_preference(
    difference: Tensor,
    pref: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Mean over heads of the negative log-likelihood of which input is more of the class.

    ``-(q log P_t + (1 - q) log(1 - P_t))`` with ``P_t = sigmoid(h_t(x1) - h_t(x2))`` and q = 1, 0, or 1/2 for
    neither. Scores h_t within [-1, 1] keep it above ``log(1 + exp(-2)) = 0.12693``.

    Args:
        difference: shape (batch, heads), ``h_t(x1) - h_t(x2)``.
        pref: shape (batch,), as in `order_consistency`.
        mask: shape (batch,), False leaves a pair out.
        weight: shape (batch,).
        reduction: "mean", "sum" or "none".

    Raises:
        DataError: shapes differ, or a preference is not 0, 1 or 2.
    """
    _same_shape("head_preference", difference[..., 0], pref)
    _check_codes(pref, mask)
    q = torch.where(pref == NONE, 0.5, pref.to(difference.dtype)).to(difference.dtype)
    if mask is not None:
        q = torch.where(mask, q, 0.5)
    values = functional.binary_cross_entropy_with_logits(
        difference, q[..., None].expand_as(difference), reduction="none"
    )
    return reduce(values.mean(-1), weight, mask, reduction)


def head_diversity(
    P: Tensor,
    *,
    form: Literal["cross_entropy", "kl"] = "cross_entropy",
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """How far preference heads are apart: mean over ordered pairs i != j of ``H(P_i, P_j)``, to be maximised.

    The gradient flows through P_j alone: were P_i moved too, heads would run to sure and opposite answers.
    The form "kl" takes off the entropy of P_i, which then is a constant: both have the same gradient.

    Args:
        P: shape (..., heads), each head's probability that the first input is more of the class.
        form: "cross_entropy" or "kl".
        weight: shape (...).
        reduction: "mean", "sum" or "none".

    Returns:
        0 for a single head.

    Raises:
        DataError: a probability outside [0, 1].
        ConfigError: an unknown form.
    """
    require(form in ("cross_entropy", "kl"), f"form must be 'cross_entropy' or 'kl', got {form!r}")
    if not bool(((P >= 0) & (P <= 1)).all()):
        raise DataError("head_diversity got a probability outside [0, 1]", remedy="give sigmoids of scores")
    heads = P.shape[-1]
    if heads < 2:
        return reduce(0.0 * P.sum(-1), weight, None, reduction)
    shape = (*P.shape, heads)
    held, moved = P.detach()[..., :, None].expand(shape), P[..., None, :].expand(shape)
    distance = functional.binary_cross_entropy(moved, held, reduction="none")
    if form == "kl":
        distance = distance - functional.binary_cross_entropy(held, held, reduction="none")
    apart = ~torch.eye(heads, dtype=torch.bool, device=P.device)
    values = torch.where(apart, distance, 0.0).sum((-2, -1)) / (heads * (heads - 1))
    return reduce(values, weight, None, reduction)


class PreferToClassify(Loss):
    """A classifier and preference heads on pairs of inputs of one class (Kim et al., 2023).

    ``L_task + lambda_pref L_pref + lambda_cons L_cons - lambda_div L_div``, where L_task is the mean of the
    cross-entropies of both inputs, and the others are `head_preference`, `order_consistency` or
    `margin_consistency`, and `head_diversity`. It reads outputs that hold the logits of the classes and then
    one score per preference head, and of a batch `label` (batch,), the class of both inputs, and as far as
    needed `shares` (batch, 2, classes). Targets say which input is more of the class: equal ones that neither
    is, NaN that nobody was asked; such pairs teach the class, the margin of shares and diversity alone.

    Args:
        heads: how many of the last outputs are preference heads, 1 or more.
        lambda_pref, lambda_cons, lambda_div: weights, 0 or more.
        consistency: "order" or "margin"; the latter needs shares.
        soft_targets: learn shares in place of the label.

    Raises:
        ConfigError: a parameter out of range.
    """

    name = "p2c"
    pairwise = True

    def __init__(
        self,
        *,
        heads: int = 3,
        lambda_pref: float = 1.0,
        lambda_cons: float = 1.0,
        lambda_div: float = 0.1,
        consistency: Literal["order", "margin"] = "order",
        soft_targets: bool = False,
    ) -> None:
        super().__init__()
        require(heads >= 1, f"heads must be 1 or more, got {heads}")
        for name, value in (("pref", lambda_pref), ("cons", lambda_cons), ("div", lambda_div)):
            require(value >= 0, f"lambda_{name} must be 0 or more, got {value}")
        known = ("order", "margin")
        require(consistency in known, f"consistency must be 'order' or 'margin', got {consistency!r}")
        self.heads_count = heads
        self.lambda_pref, self.lambda_cons, self.lambda_div = lambda_pref, lambda_cons, lambda_div
        self.consistency, self.soft_targets = consistency, soft_targets
        self.params = {
            "heads": heads, "lambda_pref": lambda_pref, "lambda_cons": lambda_cons,
            "lambda_div": lambda_div, "consistency": consistency, "soft_targets": soft_targets,
        }  # fmt: skip

    @property
    def needs_shares(self) -> bool:
        """Whether it reads shares of votes."""
        return self.soft_targets or (self.consistency == "margin" and self.lambda_cons > 0)

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
        label: Tensor | None = None,
        shares: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`. `scores` and `mask` are not read.

        Args:
            outputs: shape (batch, 2, classes + heads).
            label: shape (batch,), codes of classes.
            shares: shape (batch, 2, classes).

        Raises:
            DataError: outputs, labels or the shares that it needs are missing, or of another shape.
        """
        if outputs is None or label is None or outputs.ndim != 3 or outputs.shape[1] != 2:
            raise DataError(
                "p2c reads outputs of shape (batch, 2, classes + heads) and the label of each pair",
                remedy="train with PreferenceAugmentedClassifier",
            )
        if self.needs_shares and shares is None:
            raise DataError("p2c needs shares of votes for margins and soft targets", field="soft_labels",
                            remedy="give soft labels, or use consistency='order'")  # fmt: skip
        if weight is not None:
            weight = check_weight(weight, outputs[:, 0, 0])
        classes = outputs.shape[2] - self.heads_count
        logits, h = outputs[..., :classes], outputs[..., classes:]
        log_p = logits.log_softmax(-1)
        p = log_p.exp()
        one_hot = functional.one_hot(label, classes).to(log_p.dtype)[:, None, :]
        goal = shares.to(log_p.dtype) if self.soft_targets and shares is not None else one_hot
        parts = {"task": reduce(-(goal * log_p).sum(-1).mean(1), weight, None, "mean")}
        gap = targets[:, 0] - targets[:, 1]
        judged = ~torch.isnan(gap)
        pref = torch.where(gap == 0, NONE, (gap > 0).long())
        if self.lambda_pref:
            parts["pref"] = head_preference(h[:, 0] - h[:, 1], pref, mask=judged, weight=weight)
        if self.lambda_cons and self.consistency == "margin" and shares is not None:
            s = shares.to(p.dtype)
            parts["cons"] = margin_consistency(p[:, 0], p[:, 1], s[:, 0], s[:, 1], weight=weight)
        elif self.lambda_cons:
            own = (p * one_hot).sum(-1)
            parts["cons"] = order_consistency(own[:, 0], own[:, 1], pref, mask=judged, weight=weight)
        if self.lambda_div:
            parts["div"] = head_diversity(torch.sigmoid(h[:, 0] - h[:, 1]), weight=weight)
        self.watched = {f"loss_{name}": value.detach() for name, value in parts.items()}
        sign = {"task": 1.0, "pref": self.lambda_pref, "cons": self.lambda_cons, "div": -self.lambda_div}
        return torch.stack([sign[name] * value for name, value in parts.items()]).sum()

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
            scored.scores, batch["targets"], weight=batch.get("weight"), outputs=scored.outputs,
            label=batch.get("label"), shares=batch.get("shares"), step=step, total_steps=total_steps,
        )  # fmt: skip
        return value


def _same_shape(name: str, first: Tensor, *others: Tensor) -> None:
    for other in others:
        if other.shape != first.shape:
            raise DataError(
                f"{name} got shapes {tuple(first.shape)} and {tuple(other.shape)}",
                remedy="give one entry per pair in each",
            )


def _check_codes(pref: Tensor, mask: Tensor | None) -> None:
    bad = ~torch.isin(pref, torch.tensor([0, 1, NONE], device=pref.device, dtype=pref.dtype))
    if mask is not None:
        bad = bad & mask
    if bool(bad.any()):
        row = int(bad.nonzero()[0][0]) if bad.ndim else 0
        raise DataError(
            f"a preference of {pref[row].item() if pref.ndim else pref.item():g}", row=row + 1,
            field="preference", remedy="give 1 (first), 0 (second) or 2 (neither)",
        )  # fmt: skip
