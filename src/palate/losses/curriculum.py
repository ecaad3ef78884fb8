"""Which pairs a ranking loss learns from while training goes on: easy and undisputed ones first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.losses.base import require


class PairCurriculum(nn.Module):
    """Selects pairs of responses by how far apart they are rated and by how well their aspects agree.

    With y_id the rating of response i on aspect d, a pair is selected if

    - ``|sum_d sign(y_id - y_jd)| / #{d: y_id != y_jd} >= tau_c``, how consistent its aspects are, and
    - ``max_d |y_id - y_jd| >= tau_s``, how far apart it is, as long as tau_s is above 0.

    tau_c falls from `consistency_start` to 0 as epochs go by; tau_s falls from `gap_start` by `gap_step`, not
    below 0, whenever Kendall's correlation of the scores with pairs that far apart has moved by less than
    `epsilon` in an epoch; and the responses of `pool_step` more prompts are compared with each other whenever
    Spearman's correlation within the prompts has (Rank2Score, arXiv 2509.23841). Correlations are those of
    the scores seen in the course of an epoch. Its state is in buffers, saved with the loss.

    Args:
        gap_start: first tau_s, in units of the ratings, 0 or more; half the top level in the paper.
        gap_step: what tau_s falls by, above 0.
        consistency_start: first tau_c, in [0, 1].
        pool: of how many prompts the responses are compared with each other at first; 0 takes all of a
            batch.
        pool_step: by how many prompts that grows.
        epsilon: a correlation that moves by less has settled.
        epochs: into how many parts training is divided.

    Attributes:
        gap: tau_s now, shape ().
        pool: of how many prompts the responses are compared now, shape (); 0 for all.
    """

    gap: Tensor
    pool: Tensor
    epoch: Tensor
    sums: Tensor
    before: Tensor

    def __init__(
        self,
        *,
        gap_start: float = 2.5,
        gap_step: float = 1.0,
        consistency_start: float = 0.5,
        pool: int = 1,
        pool_step: int = 1,
        epsilon: float = 1e-2,
        epochs: int = 10,
    ) -> None:
        super().__init__()
        require(gap_start >= 0, f"gap_start must be 0 or more, got {gap_start}")
        require(gap_step > 0, f"gap_step must be above 0, got {gap_step}")
        require(0 <= consistency_start <= 1, f"consistency_start must be in [0, 1], got {consistency_start}")
        require(pool >= 0, f"pool must be 1 or more, or 0 for all, got {pool}")
        require(pool_step >= 0, f"pool_step must be 0 or more, got {pool_step}")
        require(epsilon >= 0, f"epsilon must be 0 or more, got {epsilon}")
        require(epochs >= 1, f"epochs must be 1 or more, got {epochs}")
        self.gap_step, self.consistency_start, self.pool_step = gap_step, consistency_start, pool_step
        self.epsilon, self.epochs = epsilon, epochs
        self.register_buffer("gap", torch.tensor(gap_start, dtype=torch.float64))
        self.register_buffer("pool", torch.tensor(pool))
        self.register_buffer("epoch", torch.tensor(0))
        # Sum and number of pairs for Kendall's correlation, then of prompts for Spearman's.
        self.register_buffer("sums", torch.zeros(4, dtype=torch.float64))
        self.register_buffer("before", torch.full((2,), torch.nan, dtype=torch.float64))

    @property
    def moving(self) -> bool:
        """Whether the selection changes, or ever leaves a pair out."""
        grows = self.pool_step > 0 and int(self.pool) > 0
        return float(self.gap) > 0 or self.consistency_start > 0 or grows

    @property
    def consistency(self) -> float:
        """tau_c now."""
        return max(0.0, self.consistency_start * (1 - int(self.epoch) / self.epochs))

    def mask(self, first: Tensor, second: Tensor) -> Tensor:
        """Whether a pair is selected, shape (...).

        Args:
            first, second: ratings of either response on every aspect, shape (..., aspects), NaN where an
                aspect does not apply.
        """
        apart = torch.nan_to_num(first - second)
        differ = (apart != 0).sum(-1)
        agree = torch.sign(apart).sum(-1).abs() / differ.clamp(min=1)
        # A ratio like 2 / 4 is met exactly; a sum of tenths is not.
        kept = (differ > 0) & (agree >= self.consistency - 1e-9)
        if float(self.gap) > 0:
            kept &= apart.abs().amax(-1) >= self.gap.to(apart) - 1e-9
        return kept

    def begin(self, step: int, total_steps: int) -> None:
        """Hear that a step begins; the first of an epoch draws the conclusions of the one before."""
        now = step * self.epochs // max(total_steps, 1)
        if now > int(self.epoch):
            tau, rho = (float(s / n) if n else float("nan") for s, n in self.sums.reshape(2, 2).tolist())
            self.update(tau, rho)
            self.sums.zero_()
            self.epoch.fill_(now)

    def observe(self, gap: Tensor, margin: Tensor, within: Tensor) -> None:
        """Count a batch towards the correlations of its epoch.

        Args:
            gap: differences of the ratings of pairs that are not tied, shape (m,).
            margin: differences of their scores, shape (m,).
            within: Spearman's correlation within prompts, shape (n,), NaN where there is none.
        """
        far = gap.abs() >= self.gap.to(gap) - 1e-9
        there = ~torch.isnan(within)
        concordant = (torch.sign(gap) * torch.sign(margin))[far]
        seen = torch.stack([concordant.sum(), far.sum(), torch.where(there, within, 0.0).sum(), there.sum()])
        self.sums += seen.to(self.sums)

    def update(self, tau: float, rho: float) -> None:
        """Conclude an epoch.

        Args:
            tau: Kendall's correlation over pairs at least `gap` apart; NaN if no pair is, which counts as
                settled.
            rho: Spearman's correlation within prompts.
        """
        before_tau, before_rho = self.before.tolist()
        settled = tau != tau or abs(tau - before_tau) < self.epsilon
        if settled and float(self.gap) > 0:
            self.gap.sub_(self.gap_step).clamp_(min=0.0)
            tau = float("nan")  # of other pairs from now on
        if abs(rho - before_rho) < self.epsilon and int(self.pool) > 0:
            self.pool.add_(self.pool_step)
        self.before.copy_(torch.tensor([tau, rho], dtype=torch.float64))
