"""One trunk, a layer for classes, and small networks that say how much of a class an input is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from palate.errors import ConfigError
from palate.losses import Scored
from palate.reward.heads import Head
from palate.reward.network import Network
from palate.seeding import generator
from palate.training import seeded

LabelInput = Literal["embedding", "repeat"]


class LabelNetwork(nn.Module):
    """Logits of classes and preference scores of inputs, given the class they are compared by.

    A preference head reads the trunk's features with the label beside them, has two hidden layers of their
    width h with ReLU, and ends in a tanh, which bounds the preference of one input to another to
    [0.1192, 0.8808] (Kim et al., 2023).

    Args:
        dim: length d of an input.
        classes: how many.
        heads: how many preference heads.
        label_input: how heads are told the label: "embedding" learns a vector of length h for each class;
            "repeat" gives the code of the class h times, of which class 0 shows nothing.
        hidden, activation, dropout, seed: of the trunk, see `palate.reward.network.Network`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        heads: int,
        label_input: LabelInput,
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        seed: int,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ConfigError(f"heads must be 1 or more; got {heads}")
        if label_input not in ("embedding", "repeat"):
            raise ConfigError(f"label_input must be 'embedding' or 'repeat'; got {label_input!r}")
        self.classes = classes
        self.trunk = Network(dim, Head(classes), hidden, activation, dropout, seed)
        width = self.trunk.last.in_features
        with seeded(int(generator(seed, "preference heads").integers(2**32))):
            self.label = nn.Embedding(classes, width) if label_input == "embedding" else None
            self.heads = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                    nn.Linear(width, 1), nn.Tanh(),
                )
                for _ in range(heads)
            )  # fmt: skip
        self.double()

    def forward(self, inputs: Tensor, label: Tensor) -> Tensor:
        """Logits of classes and scores of heads side by side, shape (..., classes + heads).

        Args:
            inputs: shape (..., d), standardised.
            label: shape (...), codes of the classes to compare by.
        """
        features = self.trunk.features(inputs)
        logits = self.trunk.last(self.trunk.dropout(features))
        if self.label is not None:
            told = self.label(label)
        else:
            told = label[..., None].to(features.dtype).expand_as(features)
        read = torch.cat([features, told], -1)
        return torch.cat([logits, *(head(read) for head in self.heads)], -1)

    def score(self, model: nn.Module, batch: dict[str, Any]) -> Scored:
        """Outputs of pairs of inputs of one label, both in one pass; the score is the mean over heads."""
        outputs = model(batch["inputs"], batch["label"][:, None].expand(-1, 2))
        return Scored(outputs[..., self.classes :].mean(-1), outputs=outputs)
