"""What the outputs of a reward model mean: a head reads them as scores, margins or distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from palate.data import PreferenceData
from palate.losses import Scored

if TYPE_CHECKING:
    from palate.training import TrainingGroups

Batch = Mapping[str, Tensor]


class Head(nn.Module):
    """Reads what a network gives of each response: `width` numbers, from a linear layer or a small network.

    A head is told nothing of texts and trains nothing but what it declares as its own parameters. A head that
    scores implements `score`; one that compares sets `native` to "compare" and implements `margins`.

    Attributes:
        name: its name in the registry.
        native: "score" or "compare".
        bias: whether the linear layer before it has an intercept.
        width: how many numbers it reads of each response.
        context_width: how many numbers it reads of each prompt, from a linear layer on the prompt's own
            embedding; 0 for a head that reads responses only.
        params: the parameters it was built with; JSON values.
        aspects: names of the aspects it scores, in order of its outputs; empty for one overall score.
    """

    name: ClassVar[str] = "head"
    native: ClassVar[str] = "score"
    bias: ClassVar[bool] = True
    params: dict[str, Any]
    aspects: tuple[str, ...] = ()
    context_width: int = 0

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.width = width
        self.params = {}

    @classmethod
    def for_data(cls, data: PreferenceData, **params: Any) -> Self:
        """A head for these judgments: what `params` leaves open (which aspects, which levels) comes from
        them."""
        return cls(**params)

    def check(self, groups: TrainingGroups) -> None:
        """Refuse groups that leave part of the head untaught; not asked of a fit that starts from another
        model.

        Raises:
            DataError: which part it is.
        """

    def score(self, outputs: Tensor) -> Tensor:
        """Overall scores of shape (...) from outputs of shape (..., width); higher is better."""
        raise NotImplementedError

    def margins(self, outputs: Tensor, context: Tensor | None = None) -> Tensor:
        """By how much i is preferred to j: shape (batch, k, k) from outputs of shape (batch, k, width).

        Args:
            outputs: of the k responses to each prompt.
            context: shape (batch, context_width), what the network gives of each prompt.
        """
        scores = self.score(outputs)
        return scores[:, :, None] - scores[:, None, :]

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        """What a loss is given, from outputs of shape (batch, k, width); see `palate.losses.Loss.of` for
        `batch`."""
        return Scored(self.score(outputs))


class ComparingHead(Head):
    """A head that compares: it implements `margins`, and the score of a response is its mean margin over the
    set it stands in, ``s_i = (1 / k) sum_j margin(i, j)`` with the response itself (margin 0) among the k.

    Such a score means nothing outside its set. In a set of two, the difference of the scores is the margin.
    """

    native = "compare"
    bias = False

    def margins(self, outputs: Tensor, context: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def score(self, outputs: Tensor) -> Tensor:
        """Scores of shape (..., k) from outputs of shape (..., k, width), each within its set of k."""
        return self.margins(outputs).mean(-1)

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        margins = self.margins(outputs, batch.get("context"))
        return Scored(mean_margins(margins, batch.get("mask")), margins=margins, outputs=outputs)


def mean_margins(margins: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of each row over the judged responses, itself among them: (batch, k) from (batch, k, k)."""
    if mask is None:
        return margins.mean(-1)
    inside = mask[:, None, :]
    return torch.where(inside, margins, 0.0).sum(-1) / inside.sum(-1).clamp(min=1)


class ScalarHead(Head):
    """One number, the score."""

    name = "scalar"

    def score(self, outputs: Tensor) -> Tensor:
        return outputs[..., 0]
