"""Losses of unpaired labels and ratings."""

from __future__ import annotations

import pytest
import torch

from palate import losses
from palate.errors import DataError

SCORES = torch.tensor([[2.0], [-3.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0], [0.0]])


@pytest.mark.parametrize(("z0", "good", "bad"), [(0.0, 0.450166, 0.425557), (0.5, 0.462570, 0.413382)])
def test_kto_values(z0, good, bad):
    kto = losses.get("kto", beta=0.1)
    assert kto(SCORES[:1], LABELS[:1], reference_point=z0).item() == pytest.approx(good, abs=1e-6)
    assert kto(SCORES[1:], LABELS[1:], reference_point=z0).item() == pytest.approx(bad, abs=1e-6)
    weighted = losses.get("kto", beta=0.1, desirable=2.0)(SCORES, LABELS, reference_point=z0)
    assert weighted.item() == pytest.approx((2 * good + bad) / 2, abs=1e-6)


def test_the_reference_point_of_kto_carries_no_gradient_and_is_not_below_zero():
    kto = losses.get("kto", beta=0.1)
    z0 = torch.tensor(0.5, requires_grad=True)
    scores = SCORES.clone().requires_grad_()
    kto(scores, LABELS, reference_point=z0).backward()
    assert z0.grad is None
    assert kto(SCORES, LABELS, reference_point=-1.0) == kto(SCORES, LABELS, reference_point=0.0)


def test_bco_values_and_its_running_mean():
    bco = losses.get("bco", beta=0.1)
    assert 2 * bco.eval()(SCORES, LABELS).item() == pytest.approx(1.152494, abs=1e-6)
    assert bco.delta.item() == 0
    assert 2 * bco.train()(SCORES, LABELS).item() == pytest.approx(1.151879, abs=1e-6)
    assert bco.delta.item() == pytest.approx(-0.05)
    bco(torch.tensor([[4.0]]), torch.tensor([[1.0]]))
    assert bco.delta.item() == pytest.approx((0.2 - 0.3 + 0.4) / 3)


def test_the_state_of_bco_goes_on_from_a_checkpoint():
    whole, first, second = (losses.get("bco", beta=0.1) for _ in range(3))
    whole(SCORES, LABELS)
    first(SCORES, LABELS)
    second.load_state_dict(first.state_dict())
    more = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    assert second(more, LABELS).item() == whole(more, LABELS).item()
    assert second.delta == whole.delta


@pytest.mark.parametrize(
    ("name", "params"), [("kto", {}), ("bco", {}), ("mse", {}), ("huber", {"delta": 0.5})]
)
def test_gradients_agree_with_finite_differences(name, params):
    loss = losses.get(name, **params).eval()
    scores = torch.tensor([[0.2, -1.0], [3.0, 0.4]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0], [0.0, float("nan")]])
    assert torch.autograd.gradcheck(lambda s: loss(s, labels), (scores,))


def test_regression_values():
    scores, targets = torch.tensor([[1.0, 5.0]]), torch.tensor([[1.5, 2.0]])
    assert losses.get("mse")(scores, targets).item() == pytest.approx((0.25 + 9) / 2)
    assert losses.get("huber", delta=1.0)(scores, targets).item() == pytest.approx((0.125 + 2.5) / 2)


def test_ratings_are_no_labels():
    with pytest.raises(
        DataError, match=r"row 2, field 'targets': kto wants labels 1 \(desirable\) and 0, got 3; turn"
    ):
        losses.get("kto")(SCORES, torch.tensor([[1.0], [3.0]]))
