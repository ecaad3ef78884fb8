"""Importance weights bring a policy to its target, with the gradient the paper states."""

from __future__ import annotations

import pytest
import torch

from palate import losses
from palate.errors import DataError
from palate.losses import effective_size, importance_match


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


LOG_A, LOG_Y = row(-1, -2, -0.5), row(-10, -9, -12)
LOG_Q0, LOG_Q = row(-9.5, -9.2, -11), row(-9, -9.5, -11.2)
LOG_W = LOG_A + LOG_Y - LOG_Q0


def gradient(**options: torch.Tensor) -> torch.Tensor:
    log_q = LOG_Q.clone().requires_grad_()
    importance_match(log_q, LOG_Q0, LOG_W, **options).backward()
    assert log_q.grad is not None
    return log_q.grad


def test_the_worked_weights_and_divergence() -> None:
    assert importance_match(LOG_Q, LOG_Q0, LOG_W).item() == pytest.approx(0.0480191, abs=1e-7)
    wanted = row(0.364855, 0.270291, 0.364855) - row(0.513897, 0.230909, 0.255194)
    assert -gradient()[0].numpy() == pytest.approx(wanted[0].numpy(), abs=2e-6)
    assert effective_size(LOG_W).item() == pytest.approx(1 / (2 * 0.364855**2 + 0.270291**2), abs=1e-4)


def test_the_gradient_is_that_of_the_weighted_log_likelihood_with_the_weights_held_fixed() -> None:
    generator = torch.Generator().manual_seed(0)
    log_q, log_q0, log_w = (torch.randn(4, 10, generator=generator, dtype=torch.float64) for _ in range(3))
    difference = torch.softmax(log_w, 1) - torch.softmax(log_q - log_q0, 1)
    assert difference.sum(1).abs().max() < 1e-12
    stated = log_q.clone().requires_grad_()
    (-(difference * stated).sum(1)).mean().backward()
    ours = log_q.clone().requires_grad_()
    importance_match(ours, log_q0, log_w).backward()
    assert stated.grad is not None
    assert ours.grad is not None
    assert (stated.grad - ours.grad).abs().max() < 1e-15


def test_a_constant_added_to_a_group_changes_nothing_and_a_policy_at_its_proposal_weighs_all_alike() -> None:
    base = importance_match(LOG_Q, LOG_Q0, LOG_W)
    assert importance_match(LOG_Q + 7, LOG_Q0 - 3, LOG_W + 100).item() == pytest.approx(
        base.item(), abs=1e-12
    )
    start = LOG_Q0.clone().requires_grad_()
    importance_match(start, LOG_Q0, LOG_W).backward()
    assert start.grad is not None
    share = torch.softmax(LOG_W, 1) - start.grad.neg()
    assert share[0].numpy() == pytest.approx([1 / 3] * 3, abs=1e-12)


def test_groups_may_differ_in_size_and_each_is_normalised_by_itself() -> None:
    nan = float("nan")
    padded = importance_match(
        torch.cat([torch.cat([LOG_Q, row(0.0)], 1), row(-1, -2, nan, nan)]),
        torch.cat([torch.cat([LOG_Q0, row(0.0)], 1), row(-1, -1, nan, nan)]),
        torch.cat([torch.cat([LOG_W, row(nan)], 1), row(0, 1, nan, nan)]),
    )
    alone = importance_match(row(-1, -2), row(-1, -1), row(0, 1))
    both = (importance_match(LOG_Q, LOG_Q0, LOG_W) + alone) / 2
    assert padded.item() == pytest.approx(both.item(), abs=1e-12)


def test_as_a_registered_loss_it_reads_log_ratios_and_log_weights() -> None:
    loss = losses.get("importance_match")
    assert loss(LOG_Q - LOG_Q0, LOG_W).item() == pytest.approx(0.0480191, abs=1e-7)
    assert not loss.anchored


def test_a_single_weight_that_decides_shows_in_the_effective_size() -> None:
    sizes = effective_size(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -50.0, -50.0, -50.0]]))
    assert sizes.tolist() == pytest.approx([4.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("log_q", "log_q0", "log_w", "message"),
    [
        (row(0, 1), row(0, 1, 2), row(0, 1), r"log_q of shape \(1, 2\) but log_q0 of shape \(1, 3\)"),
        (row(0, 1), row(0, 1), row(0, 1, 2), r"but targets of shape \(1, 3\)"),
        (row(0, 1), row(0, 1), row(0, -torch.inf), "row 1, field 'targets': .* not finite"),
        (row(0, torch.nan), row(0, 1), row(0, 1), "row 1, field 'scores': .* not finite"),
        (row(0.0), row(0.0), row(0.0), "needs lists with at least 2 judged items"),
    ],
)
def test_what_cannot_be_weighed_is_refused(
    log_q: torch.Tensor, log_q0: torch.Tensor, log_w: torch.Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        importance_match(log_q, log_q0, log_w)
