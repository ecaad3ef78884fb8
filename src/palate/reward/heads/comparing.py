"""What heads that compare share: margins between all responses of a set, and scores within it."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.losses import Scored
from palate.reward.heads.base import Batch, Head


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
