"""What every loss of the registry does with levels, missing items, order, weights, ties and huge scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from palate import losses
from palate.errors import DataError

# What these learn is not in scores and targets: they read features of two passes, or of several sources.
BY_FEATURES = {"simcse", "swav", "rank_n_contrast", "more"}
NAMES = [name for name in losses.names() if name not in BY_FEATURES]
LEVELS = [0.0, 1.0, 2.0, 3.0]
# Their targets are no order: equal values teach something.
TIES_TEACH = {"davidson", "rao_kupper", "importance_match"}
# Labels 0 and 1 alone.
LABELS = {"kto", "bco", "squared_target"}


def build(name: str, **params: Any) -> losses.Loss:
    return losses.get(name, **({"levels": LEVELS} if name == "ordinal" else {}), **params).eval()


def value(loss: losses.Loss, scores: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """The loss of scores, or of a distribution made from them for a loss that reads one."""
    if loss.name == "gaussian":
        options["outputs"] = torch.stack([scores, 0.3 * scores], -1)
    elif loss.name == "two_hot":
        options |= {
            "outputs": scores[..., None] * torch.arange(4.0).to(scores),
            "support": torch.tensor(LEVELS),
        }
    elif loss.name == "quantile":
        options |= {"outputs": scores[..., None] + torch.tensor([-1.0, 1.0]).to(scores),
                    "support": torch.tensor([0.2, 0.7])}  # fmt: skip
    found: Tensor = loss(scores, targets, **options)
    return found


def some(name: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three lists of four, one label missing."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    targets = torch.tensor([[3.0, 1.0, 0.0, 2.0], [1.0, 0.0, 1.0, 0.0], [0.0, 2.0, 3.0, float("nan")]])
    return scores, targets.clamp(max=1.0) if name in LABELS else targets


@pytest.mark.parametrize("name", [name for name in NAMES if not losses.get(name).heads])
def test_only_anchored_losses_depend_on_the_level_of_the_scores(name):
    scores, targets = some(name)
    loss = build(name)
    shifted = value(loss, scores + 3, targets).item()
    assert (value(loss, scores, targets).item() == pytest.approx(shifted, rel=1e-9)) is not loss.anchored


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_masked_items_are_as_if_they_were_not_there(name):
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, float("nan")]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    scores = torch.tensor([[0.4, -0.3, float("nan")], [0.2, 0.5, float("inf")]], requires_grad=True)
    # With its own margin the pair of the first list costs nothing.
    loss = build(name, **({"margin": 1.0} if name == "rank_hinge" else {}))
    found = value(loss, scores, targets, mask=mask)
    clean = value(loss, torch.tensor([[0.4, -0.3], [0.2, 0.5]]), targets[:, :2])
    assert found.shape == ()
    assert found.item() == pytest.approx(clean.item(), rel=1e-6)
    found.backward()
    assert (scores.grad[:, 2] == 0).all()
    assert (scores.grad[:, :2] != 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_items_and_groups_does_not_matter(name):
    scores, targets = some(name)
    items, rows = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    loss = build(name)
    turned = value(loss, scores[rows][:, items], targets[rows][:, items])
    assert turned.item() == pytest.approx(value(loss, scores, targets).item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_counts_as_repetition(name):
    scores, targets = some(name)
    loss, times = build(name), torch.tensor([2, 1, 3])
    weighted = value(loss, scores, targets, weight=times.double())
    repeated = value(loss, scores.repeat_interleave(times, 0), targets.repeat_interleave(times, 0))
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-12)
    nothing = value(loss, scores, targets, weight=torch.zeros(3))
    assert nothing.item() == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_of_ten_thousand_stay_finite(name, dtype):
    scores = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    found = value(build(name), scores, torch.tensor([[1.0, 0.0, 1.0]] * 2))
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name):
    scores, targets = some(name)
    loss = build(name)
    assert torch.autograd.gradcheck(lambda s: value(loss, s, targets), (scores.requires_grad_(),))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if build(name).min_items == 2 and name not in TIES_TEACH]
)
def test_a_batch_of_ties_is_0_with_a_gradient_of_0(name):
    scores = some(name)[0].requires_grad_()
    found = value(build(name), scores, torch.ones(3, 4))
    found.backward()
    assert found.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_too_few_judged_items_are_refused(name):
    loss = build(name)
    targets = torch.full((2, 3), float("nan"))
    targets[:, : loss.min_items - 1] = 1.0
    with pytest.raises(DataError, match=f"{name} needs lists with at least {loss.min_items} judged item"):
        value(loss, torch.zeros(2, 3), targets)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_scores_are_computed_in_single(name):
    scores = torch.tensor([[0.4, -0.3]], dtype=torch.bfloat16)
    assert value(build(name), scores, torch.tensor([[1, 0]])).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_what_a_loss_keeps_goes_on_from_its_saved_state(name):
    first, second = build(name), losses.get(name).eval()
    if name == "ordinal":
        first.prepare(targets=torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0]))
    second.load_state_dict(first.state_dict())
    scores, targets = some(name)
    assert value(second, scores, targets).item() == value(first, scores, targets).item()
