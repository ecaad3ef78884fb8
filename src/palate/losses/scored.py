"""What a model says of a batch of groups: the scores every loss can read, and what only some models give."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """What a score function says of a batch of groups, each one prompt with k responses.

    Attributes:
        scores: shape (batch, k), with gradient.
        watched: named quantities to log, each of shape (batch,), without gradient; NaN is left out of the
            mean.
        tokens: tokens read, for the speed.
        margins: shape (batch, k, k), skew-symmetric: by how much response i is preferred to j, of a model
            that compares. Pairwise losses read it in place of differences of `scores`.
        outputs: shape (batch, k, width), what the model gives of each response before it is turned into a
            score (logits of levels, mean and log-variance, quantiles, one score per aspect).
        support: shape (width,), what the outputs stand for: the values of the levels, or which quantiles.
        features: shape (batch, k, h), what the last layer reads.
        second: shape (batch, k, h), the features of another pass over the same responses with other dropout.
    """

    scores: Tensor
    watched: dict[str, Tensor] = field(default_factory=dict)
    tokens: int = 0
    margins: Tensor | None = None
    outputs: Tensor | None = None
    support: Tensor | None = None
    features: Tensor | None = None
    second: Tensor | None = None
