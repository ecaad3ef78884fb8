"""The hinge on pairs of rated responses, of one prompt or of several, under a curriculum of pairs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from palate.losses.base import Groups, Loss, check_groups, check_weight, require
from palate.losses.curriculum import PairCurriculum
from palate.losses.pairwise import hinge
from palate.losses.scored import Scored


class RankHinge(Loss):
    """``max(0, m - sign(y_i - y_j) (s_i - s_j))``, mean over all selected pairs (Rank2Score, arXiv
    2509.23841).

    The rows of a batch that share an `aspect` are compared with each other, `pool` prompts at a time, so
    ratings must mean the same across prompts if `pool` is not 1. A pair is selected by its ratings on *all*
    aspects (`ratings` in the batch), and then teaches every aspect on which it differs, also those that
    disagree with the others. Without them its own aspect decides. With defaults no pair is left out.

    The mean is over pairs, not over groups first; a pair of two groups weighs the geometric mean of their
    weights. A batch in which no pair is selected gives 0 with zero gradient, and is counted: `no_pairs`.

    Args:
        margin: m, in units of the scores, 0 or more; at 0 only pairs in the wrong order count.
        pool: of how many prompts the responses to one aspect are compared; 0 takes all of a batch.
        gap_start, gap_step, consistency_start, pool_step, epsilon, epochs: see `PairCurriculum`.
    """

    name = "rank_hinge"
    reads_ratings = True

    def __init__(
        self,
        *,
        margin: float = 0.5,
        pool: int = 1,
        gap_start: float = 0.0,
        gap_step: float = 1.0,
        consistency_start: float = 0.0,
        pool_step: int = 0,
        epsilon: float = 1e-2,
        epochs: int = 10,
    ) -> None:
        super().__init__()
        require(margin >= 0, f"margin must be 0 or more, got {margin}")
        self.margin = margin
        self.curriculum = PairCurriculum(
            gap_start=gap_start, gap_step=gap_step, consistency_start=consistency_start, pool=pool,
            pool_step=pool_step, epsilon=epsilon, epochs=epochs,
        )  # fmt: skip
        self.stepwise = self.curriculum.moving

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        aspect: Tensor | None = None,
        ratings: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`.

        Args:
            aspect: shape (batch,), which rows may be compared with each other; all without it.
            ratings: shape (batch, k, aspects), what each response got on every aspect, NaN for none.
        """
        groups = check_groups(self.name, scores, targets, mask, self.min_items)
        if self.stepwise:
            require(
                step is not None and bool(total_steps),
                "a curriculum of pairs needs to know the step and total_steps",
            )
            assert step is not None
            assert total_steps is not None
            if self.training:
                self.curriculum.begin(step, total_steps)
        same = torch.zeros(len(scores), dtype=torch.long) if aspect is None else aspect
        table = pools(same.to(scores.device), int(self.curriculum.pool))
        inside = (table >= 0)[:, :, None] & groups.judged[table]
        s, y, judged = (part.flatten(1) for part in (groups.scores[table], groups.targets[table], inside))
        share = torch.ones_like(s)
        if weight is not None:
            share = check_weight(weight, groups.scores[:, 0])[table][:, :, None].expand(inside.shape)
            share = share.flatten(1)
        i, j = torch.triu_indices(s.shape[1], s.shape[1], 1, device=s.device)
        gap, apart = y[:, i] - y[:, j], s[:, i] - s[:, j]
        valid = judged[:, i] & judged[:, j] & (gap != 0)
        if self.stepwise:
            if self.training:
                self.curriculum.observe(gap[valid], apart.detach()[valid], _spearman(groups))
            every = y[:, :, None] if ratings is None else ratings[table].flatten(1, 2)
            selected = valid & self.curriculum.mask(every[:, i], every[:, j])
            self.watched = {
                "pairs_selected": selected.sum() / valid.sum().clamp(min=1),
                "no_pairs": (~selected.any()).float(),
            }
            valid = selected
        sign = torch.where(gap < 0, -1.0, 1.0).to(apart.dtype)
        both = (share[:, i] * share[:, j]).sqrt()
        value: Tensor = hinge(apart * sign, offset=self.margin - 1, weight=both, mask=valid)
        return value

    def of(
        self,
        scored: Scored,
        batch: Mapping[str, Tensor],
        *,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of what a model says of a batch; see `Loss.of`."""
        value: Tensor = self(
            scored.scores, batch["targets"], mask=batch.get("mask"), weight=batch.get("weight"),
            step=step, total_steps=total_steps, aspect=batch.get("aspect"), ratings=batch.get("ratings"),
        )  # fmt: skip
        return value


def pools(codes: Tensor, size: int) -> Tensor:
    """Rows with equal codes, at most `size` together: shape (pools, size), -1 where a pool is not full.

    Args:
        codes: shape (n,).
        size: 0 puts all rows of a code into one pool.

    >>> pools(torch.tensor([0, 1, 0, 0]), 2).tolist()
    [[0, 2], [3, -1], [1, -1]]
    """
    order = torch.argsort(codes, stable=True)
    _, counts = torch.unique_consecutive(codes[order], return_counts=True)
    most = int(counts.max()) if len(counts) else 1
    size = min(size or most, most)
    number = torch.arange(len(codes), device=codes.device) - (counts.cumsum(0) - counts).repeat_interleave(
        counts
    )
    blocks = (counts + size - 1) // size
    block = (blocks.cumsum(0) - blocks).repeat_interleave(counts) + number // size
    table = torch.full((int(blocks.sum()), size), -1, device=codes.device)
    table[block, number % size] = order
    return table


def _spearman(groups: Groups) -> Tensor:
    """Spearman's rank correlation of scores and targets in each row, shape (batch,); NaN if constant."""
    both = groups.judged[:, :, None] & groups.judged[:, None, :]

    def ranks(values: Tensor) -> Tensor:
        above = torch.sign(values[:, :, None] - values[:, None, :])
        return torch.where(both, above, 0.0).sum(2)  # of mean 0

    a, b = ranks(groups.scores.detach().double()), ranks(groups.targets.double())
    return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)).sqrt()
