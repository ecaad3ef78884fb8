"""Preference embeddings: a response is a vector, and a skew-symmetric product of two says which is better."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.errors import ConfigError
from palate.reward.heads.comparing import ComparingHead


class PreferenceEmbeddingHead(ComparingHead):
    """General preference embedding: ``log-odds(a beats b) = <R v_a, v_b> / tau`` (Zhang et al., 2024, arXiv
    2410.02197).

    The outputs of a response are its vector v. R turns each of the ``dim / 2`` planes of its coordinates by
    90 degrees, so with planes l the score is ``s(a, b) = sum_l g_l (v_a[2l] v_b[2l+1] - v_a[2l+1]
    v_b[2l])``. It is skew-symmetric, s(a, b) = -s(b, a), and needs no transitivity: three vectors at 120
    degrees beat each other in a circle. With a constant second coordinate, one plane is Bradley-Terry; every
    skew-symmetric table of m items is reached with m / 2 planes. A response is encoded once, however many it
    is compared with.

    The source has no intercept, as the states of a transformer are far from mean zero. Standardised inputs
    are not, and their vectors would hold no constant: the head adds ``sqrt(h) c`` to all of them, as if the h
    features had one more that is constant and as long as they are. c starts at zero and is penalised as
    weights are. The penalty acts on a product of two matrices, so that a log-odds of 1 costs about ``l2
    tau``: where pairs are few, an `l2` of 10 and more is in place.

    Args:
        dim: length of the vectors, even.
        gate: weigh the planes by the prompt: ``g = planes * softmax(W h / sqrt(length of h))`` with h the
            frozen embedding of the prompt alone. It needs ``mode="frozen"`` and an encoder of texts;
            fine-tuning has no layer that reads the prompt alone. All g are 1 without it.
        normalize: vectors get length 1, which bounds the score by the largest g. The source found it of
            use with the gate only.
        tau: what scores are divided by to be log-odds, in training and use alike.

    Raises:
        ConfigError: `dim` is odd or below 2, or `tau` is not above 0.
    """

    name = "gpm"

    def __init__(self, dim: int = 6, gate: bool = False, normalize: bool = False, tau: float = 0.1) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 2 or dim % 2:
            raise ConfigError(f"the preference embedding dimension must be even and 2 or more; got {dim!r}")
        if not 0 < tau < float("inf"):
            raise ConfigError(f"tau must be above 0 and finite; got {tau!r}")
        super().__init__(dim)
        self.normalize, self.tau = normalize, float(tau)
        self.constant = nn.Parameter(torch.zeros(1, dim))
        self.length = 1.0
        self.context_width = dim // 2 if gate else 0
        self.params: dict[str, Any] = {"dim": dim, "gate": gate, "normalize": normalize, "tau": float(tau)}

    def sized(self, features: int) -> None:
        self.length = math.sqrt(features)

    def vectors(self, outputs: Tensor) -> Tensor:
        """The vectors of responses, shape (..., dim), from their outputs."""
        moved = outputs + self.length * self.constant[0].to(outputs.dtype)
        return F.normalize(moved, dim=-1) if self.normalize else moved

    def table(self, vectors: Tensor, context: Tensor | None = None) -> Tensor:
        """Scores s of all against all, shape (..., k, k).

        Args:
            vectors: of the responses, shape (..., k, dim); see `vectors`.
            context: shape (..., dim / 2), logits of the gate; needed with ``gate=True`` and read only then.
        """
        first, second = vectors[..., 0::2], vectors[..., 1::2]
        turned = first
        if self.context_width:
            if context is None:
                raise ConfigError("the gate of the head 'gpm' reads the prompt; give its context")
            turned = first * (self.context_width * torch.softmax(context, -1))[..., None, :]
        half = turned @ second.transpose(-1, -2)
        return half - half.transpose(-1, -2)

    def margins(self, outputs: Tensor, context: Tensor | None = None) -> Tensor:
        return self.table(self.vectors(outputs), context) / self.tau
