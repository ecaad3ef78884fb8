"""Matching a policy to a target known up to a constant, by self-normalised importance weights."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.errors import DataError
from palate.losses.base import Loss, check_groups, over_lists


def importance_match(
    log_q: Tensor,
    log_q0: Tensor,
    log_weights: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """``KL(w' || b')`` of each prompt's n samples, SteerLM 2.0 (Wang et al., 2024).

    The samples y_i come from a proposal Q'. With ``w' = softmax_i log w_i`` and ``b' = softmax_i (log Q(y_i)
    - log Q'(y_i))`` the gradient is ``-sum_i (w'_i - b'_i) grad log Q(y_i)``, an estimate of the gradient of
    KL(P || Q) for a target P known up to a constant: ``log w_i = log P(y_i) - log Q'(y_i) + const``. Both
    softmaxes run within a prompt's group alone, so a constant added to a group's log-probabilities changes
    nothing.

    Args:
        log_q: log Q of whole responses (sums over tokens: means would change the target), shape (batch, n),
            with gradient.
        log_q0: log Q', shape (batch, n).
        log_weights: log w, shape (batch, n); for ``P(a | x, y) P(y | x)`` the sum of both logarithms, less
            `log_q0`. NaN drops a sample.
        mask: shape (batch, n), False drops a sample: groups may differ in size.
        weight: shape (batch,).

    Returns:
        The weighted mean over groups of two samples or more, in nats.

    Raises:
        DataError: shapes differ, a value is not finite, or no group has two samples.
    """
    if log_q.shape != log_q0.shape:
        raise DataError(
            f"importance_match got log_q of shape {tuple(log_q.shape)} but log_q0 of shape "
            f"{tuple(log_q0.shape)}",
            remedy="give both one entry per sample, and mask what a group lacks",
        )  # fmt: skip
    batch = check_groups("importance_match", log_q - log_q0, log_weights, mask, 2)
    log_b = _log_share(batch.scores, batch.judged)
    log_w = _log_share(batch.targets.to(batch.scores.dtype), batch.judged)
    terms = torch.where(batch.judged, log_w.exp() * (log_w - log_b), 0.0)
    return over_lists(terms.sum(1), batch.judged.sum(1) >= 2, weight)


def effective_size(log_weights: Tensor, mask: Tensor | None = None) -> Tensor:
    """How many samples of each group the weights amount to, ``1 / sum w'^2``: from 1 to n; shape (batch,).

    Near 1 a single sample decides, as happens where log-weights are sums over long responses.

    Args:
        log_weights: shape (batch, n); NaN drops a sample.
        mask: shape (batch, n), False drops a sample.
    """
    batch = check_groups("effective_size", torch.zeros_like(log_weights), log_weights, mask, 1)
    share = torch.where(batch.judged, _log_share(batch.targets, batch.judged).exp(), 0.0)
    return 1 / (share**2).sum(1)


def _log_share(values: Tensor, judged: Tensor) -> Tensor:
    """Log-softmax over the judged entries of each row; 0 where not judged."""
    usable = judged | ~judged.any(1, keepdim=True)
    return torch.where(judged, torch.log_softmax(values.masked_fill(~usable, -torch.inf), 1), 0.0)


class ImportanceMatch(Loss):
    """`importance_match` on the contract of losses.

    Scores are the policy's log-ratios to the proposal (the parametrisation "log_ratio" with beta 1, the
    proposal as reference), targets the log-weights. A group whose weights are all equal asks the policy to
    stay with the proposal; where groups are made of judgments, it counts as a tie and is left out.
    """

    name = "importance_match"

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`."""
        return importance_match(scores, torch.zeros_like(scores), targets, mask=mask, weight=weight)
