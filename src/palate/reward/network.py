"""The network on fixed inputs: standardise, hidden layers if any, and the outputs a head reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from palate.errors import ConfigError, unknown
from palate.losses import Scored
from palate.reward.heads.base import Batch, Head
from palate.reward.linear import Array, mean_and_spread
from palate.training import seeded

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
MOST_WEIGHTS = 1 << 26
"""A fit holds ten vectors and more of a network's weights, as double numbers: 5 GiB for so many."""


class Network(nn.Module):
    """Inputs of length `dim` to the `head.width` outputs per response that a head reads.

    Inputs are standardised with the training set's mean and spread (`standardise_on`). Without hidden layers
    the outputs are linear, which makes the fit under a convex loss a convex problem; linear weights start at
    zero, those before a head that compares at normal values of spread 1 / (h + 1), as it would not learn from
    zero.

    Args:
        dim: length d of an input.
        head: what the outputs mean.
        hidden: widths of the hidden layers.
        activation: after each hidden layer.
        dropout: share of the last layer's inputs set to zero in training.
        seed: of the first weights.
        context_dim: length of the embedding of a prompt, for a head that reads prompts.
    """

    mean: Tensor
    scale: Tensor
    context_mean: Tensor
    context_scale: Tensor

    def __init__(
        self,
        dim: int,
        head: Head,
        hidden: Sequence[int] = (),
        activation: str = "gelu",
        dropout: float = 0.0,
        seed: int = 0,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if any(width < 1 for width in hidden):
            raise ConfigError(f"hidden layers need widths of 1 or more; got {list(hidden)}")
        count = sum(before * after for before, after in pairwise([dim, *hidden, head.width]))
        if count > MOST_WEIGHTS:
            raise ConfigError(
                f"hidden layers of {list(hidden)} on {dim} inputs have {count:,} weights; "
                f"at most {MOST_WEIGHTS:,} are fitted: give narrower layers"
            )
        self.dim, self.context_dim = dim, context_dim
        self.head = head
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(dim, dtype=torch.float64))
        widths = [dim, *hidden]
        with seeded(seed):
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
            self.layers = nn.Sequential(*layers)
            self.dropout = nn.Dropout(dropout)
            self.last = nn.Linear(widths[-1], head.width, bias=head.bias)
            head.sized(widths[-1])
            if head.native == "compare":
                nn.init.normal_(self.last.weight, std=1 / (widths[-1] + 1))
            elif not hidden:
                nn.init.zeros_(self.last.weight)
            if head.context_width:
                self.register_buffer("context_mean", torch.zeros(context_dim, dtype=torch.float64))
                self.register_buffer("context_scale", torch.ones(context_dim, dtype=torch.float64))
                self.prompt = nn.Linear(context_dim, head.context_width, bias=False)
                nn.init.normal_(self.prompt.weight, std=1 / (context_dim + 1))
        self.double()

    def standardise_on(self, inputs: Array) -> None:
        """Take mean and spread of the columns of `inputs` (m, d); a constant column has nothing to say."""
        _standard(inputs, self.mean, self.scale)

    def standardise_prompts_on(self, embeddings: Array) -> None:
        """As `standardise_on`, for the embeddings of prompts, shape (m, context_dim)."""
        _standard(embeddings, self.context_mean, self.context_scale)

    def context(self, embeddings: Tensor) -> Tensor:
        """What a head reads of prompts, shape (..., context_width): ``W h / sqrt(length of h)`` with h the
        standardised embeddings of shape (..., context_dim)."""
        standard = (embeddings - self.context_mean) / self.context_scale
        logits: Tensor = self.prompt(standard) / math.sqrt(standard.shape[-1])
        return logits

    def standardise(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.scale

    def features(self, inputs: Tensor) -> Tensor:
        """What the last layer reads: shape (..., h) from standardised inputs of shape (..., d)."""
        return self.layers(inputs)  # type: ignore[no-any-return]

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of shape (..., width) for inputs of shape (..., d)."""
        outputs: Tensor = self.last(self.dropout(self.features(self.standardise(inputs))))
        return outputs

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        """What the head makes of outputs of shape (batch, k, width); `context` in the batch holds the
        embeddings of the prompts, for a head that reads them."""
        if self.head.context_width:
            batch = {**batch, "context": self.context(batch["context"])}
        return self.head.read(outputs, batch)

    def scored(self, inputs: Tensor, batch: Batch, views: int = 1) -> Scored:
        """What a loss is given for standardised inputs of shape (batch, k, d)."""
        features = self.dropout(self.features(inputs))
        read = self.read(self.last(features), batch)
        second = self.dropout(self.features(inputs)) if views == 2 else None
        return Scored(
            read.scores, read.watched, read.tokens, read.margins, read.outputs, read.support, features, second
        )


def _standard(values: Array, mean: Tensor, scale: Tensor) -> None:
    centre, spread = mean_and_spread(values)
    mean.copy_(torch.from_numpy(centre))
    scale.copy_(torch.from_numpy(np.where(spread > 1e-12, spread, 1.0)))
