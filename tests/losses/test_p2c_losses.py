"""What preferences between inputs of one class cost: worked numbers, symmetry, and which way gradients go."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from palate import losses
from palate.errors import ConfigError, DataError

H1 = torch.tensor([[0.6, 0.2, -0.1]], dtype=torch.float64)
H2 = torch.tensor([[-0.3, 0.1, 0.4]], dtype=torch.float64)
P = torch.sigmoid(H1 - H2)


def tensor(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(("code", "value"), [(1, 0.6532092), (0, 0.8198758), (2, 0.7365425)])
def test_the_likelihood_of_a_preference_is_averaged_over_heads(code, value):
    assert P[0].tolist() == pytest.approx([0.7109495, 0.5249792, 0.3775407], abs=1e-7)
    found = losses.head_preference(H1 - H2, torch.tensor([code]))
    assert found.item() == pytest.approx(value, abs=1e-7)


def test_diversity_is_a_cross_entropy_or_less_the_entropy_a_divergence():
    cross, kl = losses.head_diversity(P), losses.head_diversity(P, form="kl")
    assert cross.item() == pytest.approx(0.7693504, abs=1e-7)
    assert kl.item() == pytest.approx(0.1173353, abs=1e-7)
    entropy = -(P * P.log() + (1 - P) * (1 - P).log()).mean()
    assert (cross - kl).item() == pytest.approx(entropy.item(), abs=1e-12)


def test_both_forms_of_diversity_move_only_the_second_head_of_each_pair():
    gradients = []
    for form in ("cross_entropy", "kl"):
        h = H1.clone().requires_grad_()
        losses.head_diversity(torch.sigmoid(h - H2), form=form).backward()
        gradients.append(h.grad)
    assert torch.allclose(*gradients, atol=1e-15)
    # d H(P_i, P_j) / d h_j is P_j - P_i; each head is second to the two others.
    expected = (P - (P.sum() - P) / 2) / 3
    assert torch.allclose(gradients[0], expected, atol=1e-12)


def test_one_head_has_no_diversity():
    assert losses.head_diversity(torch.tensor([0.3, 0.9])[:, None]).item() == 0.0


@pytest.mark.parametrize(("code", "value"), [(1, 0.08), (0, 0.0), (2, 0.08)])
def test_probabilities_are_held_to_the_order(code, value):
    p1, p2 = torch.tensor([0.62]), torch.tensor([0.70])
    assert losses.order_consistency(p1, p2, torch.tensor([code])).item() == pytest.approx(value, abs=1e-6)


def test_probabilities_are_held_to_the_margin_of_votes_in_every_class():
    found = losses.margin_consistency(
        tensor(0.62, 0.38), tensor(0.7, 0.3), tensor(0.8, 0.2), tensor(0.6, 0.4)
    )
    assert found.item() == pytest.approx(0.56, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 5), min_size=6, max_size=6))
def test_equal_votes_cost_half_the_distance_of_the_two_distributions(values):
    p1, p2 = tensor(*values[:3]), tensor(*values[3:])
    p1, p2 = p1 / p1.sum(), p2 / p2.sum()
    s = tensor(0.5, 0.3, 0.2)
    found = losses.margin_consistency(p1, p2, s, s)
    assert found.item() == pytest.approx(0.5 * (p1 - p2).abs().sum().item(), abs=1e-12)


def test_bounded_scores_bound_the_preference_loss():
    difference = tensor(2.0, 2.0, 2.0)
    assert torch.sigmoid(difference)[0, 0].item() == pytest.approx(0.8807971, abs=1e-7)
    assert torch.sigmoid(-difference)[0, 0].item() == pytest.approx(0.1192029, abs=1e-7)
    found = losses.head_preference(difference, torch.tensor([1]))
    assert found.item() == pytest.approx(math.log1p(math.exp(-2)), abs=1e-12)
    assert found.item() == pytest.approx(0.1269280, abs=1e-7)


def batch(seed: int = 0, n: int = 7, classes: int = 3, heads: int = 3) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    draw = {"generator": rng, "dtype": torch.float64}
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    return {
        "outputs": torch.randn(n, 2, classes + heads, **draw),
        "label": torch.randint(classes, (n,), generator=rng),
        "targets": targets[torch.arange(n) % 3],
        "shares": torch.randn(n, 2, classes, **draw).softmax(-1),
    }


def value(loss: losses.Loss, given: dict[str, Tensor], **options: Any) -> Tensor:
    scored = losses.Scored(given["outputs"].mean(-1), outputs=given["outputs"])
    found: Tensor = loss.of(scored, {**given, **options})
    return found


@pytest.mark.parametrize("consistency", ["order", "margin"])
@pytest.mark.parametrize("soft_targets", [False, True])
def test_turning_every_pair_round_changes_nothing(consistency, soft_targets):
    loss = losses.PreferToClassify(consistency=consistency, soft_targets=soft_targets, lambda_div=0.3)
    straight = batch()
    turned = {name: part.flip(1) if part.ndim > 1 else part for name, part in straight.items()}
    assert value(loss, turned).item() == pytest.approx(value(loss, straight).item(), rel=1e-12)


def test_without_weights_it_is_the_cross_entropy_of_both_inputs():
    loss = losses.PreferToClassify(lambda_pref=0, lambda_cons=0, lambda_div=0)
    data = batch()
    logits, label = data["outputs"][..., :3], data["label"]
    plain = torch.nn.functional.cross_entropy(logits.reshape(-1, 3), label.repeat_interleave(2))
    assert value(loss, data).item() == pytest.approx(plain.item(), rel=1e-12)


@pytest.mark.parametrize("consistency", ["order", "margin"])
def test_the_total_is_the_weighted_sum_of_its_parts_and_takes_diversity_off(consistency):
    data = batch()
    loss = losses.PreferToClassify(lambda_pref=0.7, lambda_cons=0.2, lambda_div=0.3, consistency=consistency)
    total = value(loss, data)
    logits, h = data["outputs"][..., :3], data["outputs"][..., 3:]
    p = logits.softmax(-1)
    code = torch.tensor([1, 0, 2])[torch.arange(7) % 3]
    own = p.gather(2, data["label"][:, None, None].expand(-1, 2, 1))[..., 0]
    if consistency == "order":
        cons = losses.order_consistency(own[:, 0], own[:, 1], code)
    else:
        cons = losses.margin_consistency(p[:, 0], p[:, 1], data["shares"][:, 0], data["shares"][:, 1])
    parts = [
        -own.log().mean(),
        0.7 * losses.head_preference(h[:, 0] - h[:, 1], code),
        0.2 * cons,
        -0.3 * losses.head_diversity(torch.sigmoid(h[:, 0] - h[:, 1])),
    ]
    assert total.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-12)
    assert set(loss.watched) == {"loss_task", "loss_pref", "loss_cons", "loss_div"}


def test_a_pair_nobody_compared_teaches_its_class_alone():
    loss = losses.PreferToClassify(lambda_div=0)
    data = batch()
    data["targets"][3:] = torch.nan
    data["outputs"].requires_grad_()
    value(loss, data).backward()
    unjudged = data["outputs"].grad[3:]
    assert (unjudged[..., 3:] == 0).all()
    assert (data["outputs"].grad[:3, :, 3:] != 0).all()
    logits = data["outputs"][3:, :, :3]
    one_hot = torch.nn.functional.one_hot(data["label"][3:], 3)[:, None]
    assert torch.allclose(unjudged[..., :3], (logits.softmax(-1) - one_hot) / 14, atol=1e-12)


def test_a_weight_counts_as_repetition():
    loss = losses.PreferToClassify(consistency="margin")
    data, times = batch(), torch.tensor([1, 2, 3, 1, 1, 2, 1])
    repeated = {name: part.repeat_interleave(times, 0) for name, part in data.items()}
    weighted = value(loss, data, weight=times.double())
    assert weighted.item() == pytest.approx(value(loss, repeated).item(), rel=1e-12)


def test_soft_targets_are_a_cross_entropy_with_the_shares():
    loss = losses.PreferToClassify(soft_targets=True, lambda_pref=0, lambda_cons=0, lambda_div=0)
    data = batch()
    log_p = data["outputs"][..., :3].log_softmax(-1)
    assert value(loss, data).item() == pytest.approx(-(data["shares"] * log_p).sum(-1).mean().item())


def test_what_cannot_be_used_is_said_in_one_line():
    half = torch.tensor([0.5])
    with pytest.raises(DataError, match=r"row 1, field 'preference': a preference of 3; give 1"):
        losses.order_consistency(half, half, torch.tensor([3]))
    with pytest.raises(DataError, match="shapes"):
        losses.order_consistency(half, torch.tensor([0.5, 0.5]), torch.tensor([1]))
    with pytest.raises(DataError, match="outside"):
        losses.head_diversity(torch.tensor([0.5, 1.5]))
    with pytest.raises(ConfigError, match="form"):
        losses.head_diversity(torch.tensor([0.5, 0.5]), form="js")
    with pytest.raises(ConfigError, match="lambda_cons"):
        losses.PreferToClassify(lambda_cons=-1)
    with pytest.raises(ConfigError, match="consistency"):
        losses.PreferToClassify(consistency="gap")
    data = batch()
    del data["shares"]
    with pytest.raises(DataError, match="soft_labels"):
        value(losses.PreferToClassify(consistency="margin"), data)
