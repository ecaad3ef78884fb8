"""What the outputs of a reward model mean: a head reads them as scores, margins or distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

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

    def sized(self, features: int) -> None:
        """Hear, before training and use, how many standardised features the layer before it reads."""

    def score(self, outputs: Tensor) -> Tensor:
        """Overall scores of shape (...) from outputs of shape (..., width); higher is better."""
        raise NotImplementedError

    def by_aspect(self, outputs: Tensor) -> Tensor:
        """Scores of every aspect, shape (..., aspects), from outputs of shape (..., width), of a head with
        `aspects`."""
        raise NotImplementedError

    def spread(self, outputs: Tensor) -> Tensor | None:
        """Standard deviation of the label around the score, shape (...), in units of the scores, from outputs
        of shape (..., width); None for a head that says nothing of it."""
        return None

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


class ScalarHead(Head):
    """One number, the score."""

    name = "scalar"

    def score(self, outputs: Tensor) -> Tensor:
        return outputs[..., 0]
