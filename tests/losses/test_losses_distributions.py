"""Ordered levels, bins, normal distributions and quantiles against scipy, scikit-learn and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss

from palate import losses
from palate.errors import ConfigError, DataError

SCORES = torch.tensor([[0.4, -1.0], [2.0, 0.1]], dtype=torch.float64)
LABELS = torch.tensor([[2.0, 0.5], [3.0, 0.0]])


def ordinal(link: str = "logit") -> losses.Ordinal:
    """Levels 1 to 4 with cutpoints -1, 0.5 and 2."""
    loss = losses.get("ordinal", levels=[1, 2, 3, 4], link=link).double()
    with torch.no_grad():
        loss.first.copy_(torch.tensor(-1.0))
        loss.gaps.copy_(torch.tensor([1.5, 1.5], dtype=torch.float64).log())
    return loss


@pytest.mark.parametrize(("link", "cdf"), [("logit", lambda z: 1 / (1 + np.exp(-z))), ("probit", norm.cdf)])
def test_a_level_has_the_probability_between_its_cutpoints(link, cdf):
    loss = ordinal(link)
    assert loss.cutpoints.tolist() == pytest.approx([-1.0, 0.5, 2.0])
    s = np.array([-2.0, 0.0, 0.7, 3.0])
    wanted = np.diff(cdf(np.array([-np.inf, -1.0, 0.5, 2.0, np.inf]) - s[:, None]), axis=1)
    assert loss.probabilities(torch.tensor(s)).detach().numpy() == pytest.approx(wanted, abs=1e-12)
    assert loss.expected(torch.tensor(s)).tolist() == pytest.approx((wanted @ [1, 2, 3, 4]).tolist())
    labels = torch.tensor([[1.0, 3.0, 2.0, 4.0]])
    nll = -np.log(wanted[range(4), [0, 2, 1, 3]]).mean()
    assert loss(torch.tensor(s[None]), labels).item() == pytest.approx(nll)


@pytest.mark.parametrize("link", ["logit", "probit"])
@settings(max_examples=30, deadline=None)
@given(score=st.floats(-1e4, 1e4))
def test_probabilities_of_levels_sum_to_1_and_never_underflow_in_logs(link, score):
    scores = torch.tensor([score], dtype=torch.float64, requires_grad=True)
    logs = ordinal(link).log_probabilities(scores)
    assert logs.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    assert torch.isfinite(logs).all()
    logs.sum().backward()
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(("link", "distribution"), [("logit", "logit"), ("probit", "probit")])
def test_slope_and_cutpoints_are_those_of_statsmodels(link, distribution):
    models = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = np.digitize(1.3 * x + rng.logistic(size=400), [-1.0, 0.5, 2.0]).astype(float)
    peer = models.OrderedModel(y, x[:, None], distr=distribution).fit(method="bfgs", disp=False)
    loss = losses.get("ordinal", link=link).double()
    loss.prepare(targets=torch.tensor(y))
    assert loss.levels == (0.0, 1.0, 2.0, 3.0)
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [slope, *loss.parameters()], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(slope * torch.tensor(x)[:, None], torch.tensor(y)[:, None])
        value.backward()
        return value

    optimiser.step(step)
    assert slope.item() == pytest.approx(peer.params[0], abs=1e-4)
    wanted = peer.model.transform_threshold_params(peer.params)[1:-1]
    assert loss.cutpoints.tolist() == pytest.approx(wanted.tolist(), abs=1e-4)


def test_cutpoints_start_at_the_shares_of_the_levels():
    loss = losses.get("ordinal").double()
    loss.prepare(targets=torch.tensor([1.0] * 20 + [2.0] * 60 + [5.0] * 20))
    assert loss.probabilities(torch.tensor(0.0)).tolist() == pytest.approx([0.2, 0.6, 0.2], abs=5e-3)
    assert losses.get("ordinal + magnitude").terms[0].levels == ()


def test_labels_off_the_scale_are_refused_with_the_scale():
    loss = losses.get("ordinal", levels=[0, 1, 2])
    with pytest.raises(
        DataError, match=r"row 2, field 'targets': the label 1.5 is none of the levels 0, 1, 2"
    ):
        loss(torch.zeros(2, 1), torch.tensor([[1.0], [1.5]]))
    with pytest.raises(DataError, match="the label 7 is none of the levels 0, 1, 2; correct the label"):
        loss.prepare(targets=torch.tensor([0.0, 7.0]))
    with pytest.raises(ConfigError, match="knows no levels yet"):
        losses.get("ordinal")(torch.zeros(1, 1), torch.ones(1, 1))
    for targets, count in ((torch.ones(5), 1), (torch.arange(300.0), 300)):
        with pytest.raises(
            DataError, match=f"ordinal found {count} different labels; it wants a scale of 2 to 100"
        ):
            losses.get("ordinal").prepare(targets=targets)
    with pytest.raises(ConfigError, match="ordinal wants 2 to 100 different levels, got 1"):
        losses.get("ordinal", levels=[1])
    with pytest.raises(ConfigError, match="link must be 'logit' or 'probit', got 'log'"):
        losses.get("ordinal", link="log")


def test_two_hot_is_the_cross_entropy_to_the_two_neighbours_of_a_label():
    bins = torch.tensor([0.0, 1.0, 3.0])
    logits = torch.tensor([[[0.2, -0.4, 1.0], [0.0, 0.5, 0.1]]], dtype=torch.float64)
    logs = torch.log_softmax(logits, -1)[0]
    loss = losses.get("two_hot")
    labels = torch.tensor([[1.5, 3.0]])
    wanted = (-(0.75 * logs[0, 1] + 0.25 * logs[0, 2]) - logs[1, 2]) / 2
    found = loss(torch.zeros(1, 2), labels, outputs=logits, support=bins)
    assert found.item() == pytest.approx(wanted.item())
    with pytest.raises(
        DataError, match=r"the label 3.5 lies outside the bins from 0 to 3; correct the label, or"
    ):
        loss(torch.zeros(1, 2), torch.tensor([[1.5, 3.5]]), outputs=logits, support=bins)


@settings(max_examples=20, deadline=None)
@given(label=st.floats(0, 3))
def test_the_best_bins_for_a_label_have_it_as_their_mean(label):
    bins = torch.tensor([0.0, 0.5, 2.0, 3.0], dtype=torch.float64)
    logits = torch.zeros(1, 1, 4, dtype=torch.float64, requires_grad=True)
    loss = losses.get("two_hot")
    (gradient,) = torch.autograd.grad(
        loss(torch.zeros(1, 1), torch.tensor([[label]]), outputs=logits, support=bins), logits
    )
    target = 0.25 - gradient[0, 0]  # the gradient of a cross-entropy is softmax less target
    assert (target @ bins).item() == pytest.approx(label, abs=1e-6)
    assert target.sum().item() == pytest.approx(1.0)


def test_gaussian_is_the_density_of_scipy():
    outputs = torch.tensor([[[0.4, -1.0], [-1.0, 2.0]], [[2.0, 0.0], [0.1, 5.0]]], dtype=torch.float64)
    wanted = -norm.logpdf(LABELS.numpy(), outputs[..., 0], np.exp(outputs[..., 1].numpy() / 2))
    found = losses.get("gaussian")(SCORES, LABELS, outputs=outputs)
    assert found.item() == pytest.approx(wanted.mean())


def test_with_beta_1_the_mean_of_a_normal_has_the_gradient_of_half_the_squared_error():
    outputs = torch.tensor([[[0.4, 3.0], [-1.0, -2.0]]], dtype=torch.float64, requires_grad=True)
    losses.get("gaussian", beta=1.0)(SCORES[:1], LABELS[:1], outputs=outputs).backward()
    error = outputs.detach()[..., 0] - LABELS[:1]
    assert outputs.grad[0, :, 0].tolist() == pytest.approx((error[0] / 2).tolist())


def test_quantile_is_the_pinball_loss_of_scikit_learn():
    tau = torch.tensor([0.1, 0.5, 0.9])
    outputs = SCORES[..., None] + torch.tensor([-1.0, 0.2, 1.5])
    wanted = np.mean(
        [
            mean_pinball_loss(LABELS.flatten(), outputs[..., i].flatten(), alpha=float(t))
            for i, t in enumerate(tau)
        ]
    )
    loss = losses.get("quantile")
    assert loss(SCORES, LABELS, outputs=outputs, support=tau).item() == pytest.approx(wanted, rel=1e-6)
    rounded = losses.get("quantile", delta=1e-6)(SCORES, LABELS, outputs=outputs, support=tau)
    assert rounded.item() == pytest.approx(wanted, abs=1e-5)


def test_a_normal_sample_has_its_quantiles():
    labels = torch.tensor(np.random.default_rng(0).normal(2.0, 3.0, 5000))[:, None]
    tau = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    q = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        outputs = q.expand(5000, 1, 3)
        value = losses.get("quantile", delta=0.05)(labels, labels, outputs=outputs, support=tau)
        value.backward()
        return value

    optimiser.step(step)
    assert q.tolist() == pytest.approx(norm(2, 3).ppf([0.1, 0.5, 0.9]).tolist(), abs=0.2)


@pytest.mark.parametrize(
    ("name", "outputs", "support", "message"),
    [
        ("two_hot", None, None, "reads a distribution, which only the head 'bins' gives"),
        ("gaussian", None, None, "reads a distribution, which only the head 'gaussian' gives"),
        ("gaussian", torch.zeros(2, 2, 3), None, "a mean and a log-variance, got 3 outputs"),
        ("quantile", torch.zeros(2, 2, 3), None, r"quantile wants a support of shape \(3,\), got none"),
        ("two_hot", torch.zeros(2, 2, 3), torch.zeros(4), r"support of shape \(3,\), got \(4,\)"),
    ],
)
def test_what_is_no_distribution_is_refused(name, outputs, support, message):
    with pytest.raises(ConfigError, match=message):
        losses.get(name)(SCORES, LABELS, outputs=outputs, support=support)


def test_a_normal_distribution_can_be_no_narrower_than_can_be_computed():
    outputs = torch.tensor([[[1.0, -1e4]]], requires_grad=True)
    value = losses.get("gaussian")(torch.zeros(1, 1), torch.ones(1, 1), outputs=outputs)
    assert value.item() == pytest.approx(-10 + math.log(2 * math.pi) / 2)
