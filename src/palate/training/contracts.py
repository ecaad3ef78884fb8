"""What the trainer is given: groups, a function that scores them, and a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from palate import losses
from palate.losses import Scored

Batch = dict[str, Any]


class Groups(Protocol):
    """Groups of alternatives, ready to be scored."""

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int]) -> Batch:
        """`targets` (batch, k), `mask` (batch, k), `weight` (batch,) and what the score needs."""
        ...


ScoreFunction = Callable[[nn.Module, Batch], Scored]


class Loss(Protocol):
    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor: ...


def loss_of(
    loss: Loss, scored: Scored, batch: Batch, step: int | None = None, total_steps: int | None = None
) -> Tensor:
    """The loss of what a model says of a batch; a plain function of scores serves as well as a module."""
    if isinstance(loss, losses.Loss):
        return loss.of(scored, batch, step=step, total_steps=total_steps)
    return loss(
        scored.scores, batch["targets"], mask=batch["mask"], weight=batch["weight"],
        step=step, total_steps=total_steps,
    )  # fmt: skip
