"""What is watched while scores are trained: sums over a window of batches, and the means logged from them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palate.losses import Scored as Scored


@dataclass
class Window:
    """Sums over the batches since the last logged line. Its state goes into checkpoints."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, values: dict[str, Tensor], tokens: int = 0) -> None:
        """Add named values of any shape; NaN entries are left out."""
        for name, value in values.items():
            seen = value.detach().double().flatten()
            seen = seen[~torch.isnan(seen)]
            self.sums[name] = self.sums.get(name, 0.0) + float(seen.sum())
            self.counts[name] = self.counts.get(name, 0.0) + seen.numel()
        self.tokens += tokens

    def means(self) -> dict[str, float]:
        """Mean of each quantity; one that was never there is left out."""
        return {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}

    def speed(self) -> float:
        """Tokens per second since the window was opened."""
        return self.tokens / max(time.perf_counter() - self.started, 1e-9)

    def reset(self) -> None:
        self.sums, self.counts, self.tokens, self.started = {}, {}, 0, time.perf_counter()


def extremes(targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the best and of the worst alternative of each group, and whether they differ.

    Args:
        targets: shape (batch, k), higher is better.
        mask: shape (batch, k), true where there is a judged alternative.

    Returns:
        best (batch,), worst (batch,), differ (batch,): ties go to the first alternative.
    """
    best = targets.masked_fill(~mask, -torch.inf).argmax(1)
    worst = targets.masked_fill(~mask, torch.inf).argmin(1)
    rows = torch.arange(len(targets), device=targets.device)
    return best, worst, targets[rows, best] > targets[rows, worst]


def comparisons(scores: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """`accuracy` and `margin` of scores against targets.

    `accuracy`: over all pairs of a group with different targets, 1 where the scores order them alike, 0.5
    where the scores are equal. `margin`: score of the best less score of the worst alternative.

    Args:
        scores, targets, mask: shape (batch, k).

    Returns:
        accuracy (batch, k, k) and margin (batch,), NaN where there is nothing to compare.
    """
    scores = scores.detach().double()
    better = (targets[:, :, None] > targets[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    hits = 0.5 + 0.5 * torch.sign(scores[:, :, None] - scores[:, None, :])
    best, worst, differ = extremes(targets, mask)
    rows = torch.arange(len(scores), device=scores.device)
    return {
        "accuracy": hits.masked_fill(~better, torch.nan),
        "margin": (scores[rows, best] - scores[rows, worst]).masked_fill(~differ, torch.nan),
    }
