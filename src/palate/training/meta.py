"""MetaRM: gradients taken where a reward model tells the responses of a new policy apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from palate.errors import ConfigError, DataError
from palate.training.sampling import order_of

if TYPE_CHECKING:
    from palate.training.contracts import Groups, ScoreFunction


def separation(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """How far a model tells the k responses to a prompt apart; shape (batch,).

    ``J = 2 / k^2 sum_{i<j} sigmoid(|r_i - r_j|)``, from (k - 1) / (2 k) where all scores are equal to its
    upper limit (k - 1) / k (Dou et al., 2024, arXiv 2405.00438). Adding a constant to the scores changes
    nothing. No label is read.

    Args:
        scores: shape (batch, k).
        mask: shape (batch, k), False drops a response (padding).

    Raises:
        DataError: a prompt has fewer than two responses.
    """
    inside = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.bool()
    k = inside.sum(1)
    if bool((k < 2).any()):
        row = int((k < 2).nonzero()[0]) + 1
        raise DataError(
            "one response where there is nothing to tell it apart from", row=row, field="responses",
            remedy="sample two or more responses to each prompt",
        )  # fmt: skip
    i, j = torch.triu_indices(scores.shape[1], scores.shape[1], 1, device=scores.device)
    gap = torch.where(inside, scores, 0.0)
    told = torch.sigmoid((gap[:, i] - gap[:, j]).abs())
    both = inside[:, i] & inside[:, j]
    return 2 * torch.where(both, told, 0.0).sum(1) / k.to(scores.dtype) ** 2


@dataclass
class MetaStep:
    """Before each gradient, a step of the weights up `separation` on responses of the current policy.

    With J the mean separation of a batch and L the loss::

        theta' = theta + eta grad J(theta),    the optimiser gets grad L(theta') at theta

    To first order that is ``grad L + eta H grad J`` with H the second derivative of L, a part of the gradient
    of ``L + eta grad J . grad L``: pairs whose fit also separates the new responses weigh more. J alone grows
    with the scale of the scores, so keep `eta` small; at 0 this is plain training. With several processes,
    each climbs on batches of its own.

    Args:
        groups: responses without labels, two or more to a prompt; what `score` needs.
        score: gives a `Scored` for a batch.
        eta: the step.
        batch_size: prompts a step.
        seed: of their order.

    Raises:
        ConfigError: eta is negative or there are no groups.
    """

    groups: Groups
    score: ScoreFunction
    eta: float
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ConfigError(f"the step of MetaRM must be 0 or more; got {self.eta}")
        if not len(self.groups):
            raise ConfigError("MetaRM needs responses to climb on; the set given is empty")

    def rows(self, number: int) -> Sequence[int]:
        """The groups of batch `number`, counted from 0: shuffled passes over all."""
        size = min(self.batch_size, len(self.groups))
        per_pass = len(self.groups) // size
        passed, place = divmod(number, per_pass)
        shuffled = order_of(len(self.groups), len(self.groups), self.seed, "meta", passed)
        return [int(row) for row in shuffled[place * size : (place + 1) * size]]

    @contextmanager
    def ascended(self, model: nn.Module, batch: dict[str, Any]) -> Iterator[Tensor]:
        """The model at theta' inside the block, back at theta after it; gives J at theta.

        Gradients that the block leaves on the parameters are those at theta'.
        """
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        value = separation(self.score(model, batch).scores, batch["mask"]).mean()
        slopes = torch.autograd.grad(value, learned, allow_unused=True)
        before = [parameter.detach().clone() for parameter in learned]
        try:
            with torch.no_grad():
                for parameter, slope in zip(learned, slopes, strict=True):
                    if slope is not None:
                        parameter.add_(slope, alpha=self.eta)
            yield value.detach()
        finally:
            with torch.no_grad():
                for parameter, old in zip(learned, before, strict=True):
                    parameter.copy_(old)
