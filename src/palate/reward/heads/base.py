"""What the outputs of a reward model mean: a head reads them as scores, margins or distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from palate.data import PreferenceData
from palate.losses import Scored

Batch = Mapping[str, Tensor]


class Head(nn.Module):
    """Reads what a network gives of each response: `width` numbers, from a linear layer or a small network.

    A head is told nothing of texts and trains nothing but what it declares as its own parameters. A head that
    scores implements `score`; one that compares sets `native` to "compare" and implements `margins`.

    Attributes:
        name: its name in the registry.
        native: "score" or "compare".
        bias: whether the linear layer before it has an intercept.
        params: the parameters it was built with; JSON values.
        aspects: names of the aspects it scores, in order of its outputs; empty for one overall score.
    """

    name: ClassVar[str] = "head"
    native: ClassVar[str] = "score"
    bias: ClassVar[bool] = True
    params: dict[str, Any]
    aspects: tuple[str, ...] = ()

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.width = width
        self.params = {}

    @classmethod
    def for_data(cls, data: PreferenceData, **params: Any) -> Self:
        """A head for these judgments: what `params` leaves open (which aspects, which levels) comes from
        them."""
        return cls(**params)

    def score(self, outputs: Tensor) -> Tensor:
        """Overall scores of shape (...) from outputs of shape (..., width); higher is better."""
        raise NotImplementedError

    def margins(self, outputs: Tensor, context: Tensor | None = None) -> Tensor:
        """By how much i is preferred to j: shape (batch, k, k) from outputs of shape (batch, k, width).

        Args:
            outputs: of the k responses to each prompt.
            context: shape (batch, h), the prompt's own features, for heads with `reads_context`.
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


class AttributesHead(Head):
    """One score per aspect, and a merit vector that weighs them into one.

    Judgments of an aspect train the output of that aspect, judgments without aspect (or of "overall") the
    weighted sum, under whichever loss.

    Args:
        names: aspects in order of the outputs.
        merit: weight of each aspect in the overall score, by name; 1 / number of aspects each if None.
            Learnt along with ``learn_merit=True``.
        learn_merit: whether overall judgments train the merit vector too.
    """

    name = "attributes"
    merit: Tensor

    def __init__(
        self, names: list[str], merit: Mapping[str, float] | None = None, learn_merit: bool = False
    ) -> None:
        super().__init__(len(names))
        self.aspects = tuple(names)
        start = torch.tensor([(merit or {}).get(name, 0.0 if merit else 1 / len(names)) for name in names])
        if learn_merit:
            self.merit = nn.Parameter(start.double())
        else:
            self.register_buffer("merit", start.double())
        self.params = {"names": list(names), "merit": dict(merit) if merit else None,
                       "learn_merit": learn_merit}  # fmt: skip

    @classmethod
    def for_data(cls, data: PreferenceData, **params: Any) -> Self:
        if "names" not in params:
            codes, names = data.codes("aspect")
            params["names"] = [n for i, n in enumerate(names) if n != "overall" and (codes == i).any()]
        return cls(**params)

    def score(self, outputs: Tensor) -> Tensor:
        return outputs @ self.merit.to(outputs.dtype)

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        overall = self.score(outputs)
        aspect = batch.get("aspect")
        if aspect is None:
            return Scored(overall, outputs=outputs)
        rows = torch.arange(len(outputs), device=outputs.device)
        of_aspect = outputs[rows, :, aspect.clamp(min=0)]
        return Scored(torch.where(aspect[:, None] < 0, overall, of_aspect), outputs=outputs)
