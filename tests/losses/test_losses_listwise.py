"""RankList, ListMLE, ListNet and RankNet over lists."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor

from palate import losses
from palate.errors import ConfigError, DataError, PalateWarning

S = torch.tensor([[2.0, 1.0, 1.5, -0.5]], dtype=torch.float64)
Y = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
LISTWISE = [
    ("ranklist", {}),
    ("ranklist", {"form": "exact"}),
    ("ranknet", {}),
    ("listmle", {}),
    ("listnet", {}),
]


def test_the_worked_list():
    exact, e = losses.ranklist(S, Y, form="exact", weights=1, return_parts=True)
    lse, r = losses.ranklist(S, Y, weights=1, return_parts=True)
    assert e.tolist() == pytest.approx([1.4142667, 0.6754903, 0.0788897], abs=1e-6)
    assert r.tolist() == pytest.approx([1.1480169, 0.6041306, 0.0788897], abs=1e-6)
    assert exact.item() == pytest.approx(2.1686466, abs=1e-6)
    assert lse.item() == pytest.approx(1.8310372, abs=1e-6)
    assert losses.ranklist(S, Y).item() == pytest.approx(1.8310372 / 3, abs=1e-6)
    assert losses.ranklist(S, Y, skips=2, weights=[1.0, 0.5]).item() == pytest.approx(
        1.1480169 + 0.6041306 / 2, abs=1e-6
    )
    assert kendalltau(S[0], Y[0]).statistic == pytest.approx(0.6667, abs=1e-4)


@pytest.mark.parametrize(
    ("skips", "gradient"),
    [
        (1, [-0.116715, -0.406367, 0.480145, 0.042937]),
        (None, [-0.524073, -0.528318, 0.811644, 0.240747]),
    ],
)
def test_the_gradient_of_the_worked_list(skips, gradient):
    scores = S.clone().requires_grad_()
    losses.ranklist(scores, Y, skips=skips, weights=1).backward()
    assert scores.grad[0].tolist() == pytest.approx(gradient, abs=1e-6)
    assert scores.grad.sum().item() == pytest.approx(0, abs=1e-12)


def test_two_items_are_ranknet():
    scores, labels = torch.tensor([[0.7, 0.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0]])
    for value in (
        losses.ranklist(scores, labels),
        losses.get("ranknet")(scores, labels),
        losses.get("listmle")(scores, labels),
    ):
        assert value.item() == pytest.approx(0.4031860, abs=1e-6)


def test_equal_scores():
    _, r = losses.ranklist(torch.zeros(1, 6), torch.arange(6.0)[None], return_parts=True)
    _, e = losses.ranklist(torch.zeros(1, 6), torch.arange(6.0)[None], form="exact", return_parts=True)
    assert r.tolist() == pytest.approx([math.log(1 + 6 - k) for k in range(1, 6)], abs=1e-6)
    assert e.tolist() == pytest.approx([(6 - k) * math.log(2) for k in range(1, 6)], abs=1e-6)


def _twin(s: np.ndarray, y: np.ndarray, form: str, skips: int | None, margin: float) -> float | None:
    """The definition, item by item."""
    keep = ~np.isnan(y)
    s, y = s[keep], y[keep]
    order = sorted(range(len(s)), key=lambda i: (-y[i], -s[i]))
    largest = min(skips or len(s) - 1, len(s) - 1)
    total, compared = 0.0, 0
    for k in range(1, largest + 1):
        e = [
            math.exp(s[b] - s[a])
            for a, b in zip(order, order[k:], strict=False)
            if y[a] > y[b] and y[a] - y[b] >= margin
        ]
        compared += len(e)
        total += (math.log1p(sum(e)) if form == "lse" else sum(map(math.log1p, e))) / largest
    return total if compared else None


an_item = st.tuples(st.floats(-5, 5), st.one_of(st.integers(0, 4), st.just(math.nan)))
lists_of_items = st.lists(st.lists(an_item, min_size=5, max_size=5), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    items=lists_of_items,
    form=st.sampled_from(["lse", "exact"]),
    skips=st.sampled_from([None, 1, 3]),
    margin=st.sampled_from([0.0, 2.0]),
)
def test_batches_with_ties_and_gaps_agree_with_the_definition(items, form, skips, margin):
    array = np.array(items, dtype=float)
    s, y = array[:, :, 0], array[:, :, 1]
    if (~np.isnan(y)).sum(1).max() < 2:
        return
    each = [_twin(*row, form, skips, margin) for row in zip(s, y, strict=True)]
    counted = [value for value in each if value is not None]
    wanted = float(np.mean(counted)) if counted else 0.0
    got = losses.ranklist(torch.tensor(s), torch.tensor(y), form=form, skips=skips, min_margin=margin)
    assert got.item() == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_lse_form_is_never_above_the_exact_form(seed):
    generator = torch.Generator().manual_seed(seed)
    scores, labels = (torch.randn(3, 7, dtype=torch.float64, generator=generator) for _ in range(2))
    _, r = losses.ranklist(scores, labels, return_parts=True)
    _, e = losses.ranklist(scores, labels, form="exact", return_parts=True)
    assert (r <= e + 1e-12).all()
    assert r[-1].item() == pytest.approx(e[-1].item())


def _random(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (4, 6), generator=generator).double()
    labels[1, 2:] = float("nan")
    return scores, labels


def test_exact_ranklist_over_all_skips_is_ranknet_summed_over_all_pairs():
    scores, labels = _random()[0], torch.rand(4, 6)
    total = losses.ranklist(scores, labels, form="exact", weights=1)
    assert total.item() == pytest.approx(losses.get("ranknet")(scores, labels).item() * 15, rel=1e-12)


@pytest.mark.parametrize(("name", "params"), LISTWISE)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_of_items_does_not_matter_even_with_ties(name, params, seed):
    scores, labels = _random(seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    loss = losses.get(name, **params)
    assert loss(scores, labels).item() == pytest.approx(
        loss(scores[:, order], labels[:, order]).item(), rel=1e-12
    )


@pytest.mark.parametrize(("name", "params"), LISTWISE)
def test_padding_changes_nothing(name, params):
    scores, labels = _random()
    loss = losses.get(name, **params)
    padded = torch.nn.functional.pad(scores, (0, 3), value=float("nan"))
    mask = torch.arange(9)[None].expand(4, 9) < 6
    wide = loss(padded, torch.nn.functional.pad(labels, (0, 3), value=7.0), mask=mask)
    assert wide.item() == pytest.approx(loss(scores, labels).item(), rel=1e-12)
    alone = loss(scores[1:2, :2], labels[1:2, :2])
    assert loss(scores[1:2], labels[1:2]).item() == pytest.approx(alone.item(), rel=1e-12)


@pytest.mark.parametrize(("name", "params"), LISTWISE)
def test_gradients_agree_with_finite_differences(name, params):
    scores, labels = _random()
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: losses.get(name, **params)(s, labels), (scores,))


@pytest.mark.parametrize(("name", "params"), LISTWISE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_of_ten_thousand_stay_finite(name, params, dtype):
    scores = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    value = losses.get(name, **params)(scores, torch.tensor([[2.0, 1.0, 0.0]] * 2))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(("name", "params"), LISTWISE)
def test_lists_with_nothing_to_order_are_not_counted(name, params):
    scores, labels = _random()
    loss = losses.get(name, **params)
    tied = torch.cat([labels[:1], torch.ones(1, 6), torch.full((1, 6), float("nan"))])
    assert loss(scores[:3], tied).item() == pytest.approx(loss(scores[:1], labels[:1]).item(), rel=1e-12)
    nothing = scores[:1].clone().requires_grad_()
    value = loss(nothing, torch.ones(1, 6))
    value.backward()
    assert value.item() == 0
    assert (nothing.grad == 0).all()


def test_listmle_is_the_plackett_luce_likelihood():
    theta = torch.tensor([0.968383, -0.278437, -0.689945], dtype=torch.float64)
    rankings = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1), (0, 1, 2)]
    labels = torch.tensor([[-float(r.index(item)) for item in range(3)] for r in rankings])
    value = losses.listmle(theta.expand(5, 3), labels)
    assert 5 * value.item() == pytest.approx(7.221895, abs=1e-6)


def test_a_pick_of_one_is_the_choice_model_and_ties_are_never_ordered():
    picked = losses.listmle(S, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    assert picked.item() == pytest.approx((torch.logsumexp(S[0], 0) - S[0, 1]).item())
    assert losses.listmle(S, Y, top=1).item() == pytest.approx((torch.logsumexp(S[0], 0) - S[0, 0]).item())
    first = losses.listmle(S, torch.tensor([[1.0, math.nan, 0.0, 0.0]]))
    second = losses.listmle(S, torch.tensor([[math.nan, 1.0, 0.0, 0.0]]))
    assert losses.listmle(S, torch.tensor([[1.0, 1.0, 0.0, 0.0]])).item() == pytest.approx(
        (first + second).item()
    )


def test_listnet_is_the_cross_entropy_of_softmaxes():
    wanted = -(torch.softmax(Y.double() / 2, 1) * torch.log_softmax(S, 1)).sum()
    assert losses.listnet(S, Y, temperature=2.0).item() == pytest.approx(wanted.item())


def test_the_minimum_margin_is_in_units_of_the_labels():
    labels = torch.tensor([[4.0, 3.4, 2.0, 1.9]])
    got = losses.ranklist(S, labels, min_margin=1.0, form="exact", weights=1)
    d = S[0]
    wanted = sum(losses.logistic(d[a] - d[b]) for a, b in [(0, 2), (0, 3), (1, 2), (1, 3)])
    assert got.item() == pytest.approx(wanted.item())


def test_progressive_skips_grow_over_the_first_eighty_percent():
    def reached(step: int) -> int:
        options = {"skips": "progressive", "step": step, "total_steps": 200, "return_parts": True}
        return len(losses.ranklist(torch.zeros(1, 8), torch.arange(8.0)[None], **options)[1])

    assert [reached(t) for t in (0, 22, 23, 80, 137, 138, 160, 199)] == [1, 1, 2, 4, 6, 7, 7, 7]
    with pytest.raises(ConfigError, match="skips='progressive' needs step and total_steps"):
        losses.ranklist(S, Y, skips="progressive")


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (DataError, {"skips": 4}, "ranklist: skips=4 needs lists of more than 4 items, got n=4"),
        (ConfigError, {"skips": 0}, "skips must be None, 'progressive' or a whole number from 1, got 0"),
        (ConfigError, {"skips": 1.5}, "skips must be None, 'progressive' or a whole number from 1, got 1.5"),
        (
            ConfigError,
            {"skips": "all"},
            "skips must be None, 'progressive' or a whole number from 1, got 'all'",
        ),
        (ConfigError, {"min_margin": -0.1}, "min_margin must be 0 or more, got -0.1"),
        (ConfigError, {"form": "sum"}, "form must be 'lse' or 'exact', got 'sum'"),
        (ConfigError, {"weights": [1.0]}, "1 weights for 3 skips"),
        (ConfigError, {"weights": -1.0}, "weights must be 0 or more, got -1.0"),
    ],
)
def test_bad_options(error, options, message):
    with pytest.raises(error, match=message):
        losses.ranklist(S, Y, **options)


def test_bad_lists():
    with pytest.raises(
        ValueError, match="ranklist needs lists with at least 2 judged items; got 1 lists with at most 1"
    ):
        losses.ranklist(S, torch.tensor([[1.0, math.nan, math.nan, math.nan]]))
    with pytest.raises(ValueError, match="row 2, field 'scores': ranklist got a value that is not finite"):
        losses.ranklist(torch.tensor([[1.0, 2.0], [math.inf, 0.0]]), torch.tensor([[1.0, 2.0]] * 2))


def test_a_fractional_margin_on_ranks_is_warned_about():
    ranks = torch.tensor([[-1.0, -2.0, -3.0, -4.0]])
    with pytest.warns(PalateWarning, match="min_margin=0.5 is in units of ranks"):
        losses.ranklist(S, ranks, min_margin=0.5)
    losses.ranklist(S, ranks, min_margin=1.0)
