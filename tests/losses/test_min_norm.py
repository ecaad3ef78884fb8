"""Gradients weighed so that no source loses, and one loss taken of each source apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from palate import losses
from palate.errors import ConfigError, DataError
from palate.losses import BySource, Scored, min_norm_weights, normalized


@pytest.mark.parametrize(
    ("gradients", "weights"),
    [
        ([[1.0, 0.0], [0.0, 2.0]], [0.8, 0.2]),
        ([[1.0, 0.0], [-0.5, 0.0]], [1 / 3, 2 / 3]),
        ([[1.0, 0.0], [3.0, 0.0]], [0.999, 0.001]),
        ([[3.0, 0.0], [1.0, 0.0]], [0.001, 0.999]),
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.5, 0.5, 0.0]),
        ([[2.0, -1.0]], [1.0]),
        ([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], None),
    ],
)
def test_worked_weights_of_the_shortest_vector(gradients, weights):
    found = min_norm_weights(torch.tensor(gradients))
    assert found.sum().item() == pytest.approx(1.0)
    if weights is not None:
        assert found.tolist() == pytest.approx(weights, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 10_000), st.floats(1e-3, 1e3))
@example(2, 1, 1, 1.0)
def test_no_vertex_offers_a_way_down(k, d, seed, scale):
    rows = scale * torch.from_numpy(np.random.default_rng(seed).normal(size=(k, d)))
    weights = min_norm_weights(rows)
    assert weights.shape == (k,)
    assert bool((weights >= 0).all())
    assert weights.sum().item() == pytest.approx(1.0)
    shortest = weights @ rows
    length = (shortest @ shortest).item()
    longest = rows.square().sum(1).max().item()
    slack = 1e-3 if k == 2 else 1e-8  # of two, the rule for corners keeps 0.001 on each
    assert length <= rows.square().sum(1).min().item() + slack * 2 * longest
    assert bool((rows @ shortest >= length - slack * 2 * longest).all())


@pytest.mark.parametrize(("k", "d"), [(3, 2), (5, 40), (12, 4), (20, 30)])
def test_it_is_as_short_as_quadratic_programming_finds(k, d):
    rows = np.random.default_rng(k).normal(size=(k, d)) + 0.5
    gram = rows @ rows.T
    peer = minimize(
        lambda w: w @ gram @ w, np.full(k, 1 / k), jac=lambda w: 2 * gram @ w, method="SLSQP",
        bounds=[(0, 1)] * k, constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )  # fmt: skip
    found = min_norm_weights(torch.from_numpy(rows)).numpy()
    assert found @ gram @ found == pytest.approx(peer.fun, abs=1e-6 * gram.max())


def test_gradients_that_cannot_be_weighed_are_refused():
    with pytest.raises(DataError, match=r"row 2.*not finite"):
        min_norm_weights(torch.tensor([[1.0], [torch.nan]]))
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        min_norm_weights(torch.ones(3))
    with pytest.raises(ConfigError, match=r"unknown normalizer 'l3'.*l2"):
        normalized(torch.ones(2, 2), torch.ones(2), "l3")


def test_normalizers_divide_by_length_by_loss_or_by_both_and_leave_zero_alone():
    rows, values = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([1.0, 2.0])
    assert normalized(rows, values, "l2").tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]
    assert normalized(rows, values, "loss")[0].tolist() == pytest.approx([7.5, 10.0])  # (1 + 1) / (2 + 3)
    assert normalized(rows, 2 * values, "loss+")[0].tolist() == pytest.approx([0.3, 0.4])
    assert normalized(rows, values, "none").equal(rows)


class Linear:
    """A linear score of pairs from two sources, as a reward model gives it."""

    def __init__(self, sizes: tuple[int, ...] = (6, 2), seed: int = 0, d: int = 3) -> None:
        made = torch.Generator().manual_seed(seed)
        n = sum(sizes)
        self.x = torch.randn(n, 2, d, generator=made, dtype=torch.float64)
        self.w = torch.randn(d, generator=made, dtype=torch.float64).requires_grad_()
        self.batch = {
            "targets": torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(n, 1),
            "mask": torch.ones(n, 2, dtype=torch.bool),
            "weight": torch.ones(n, dtype=torch.float64),
            "source": torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        }

    def scored(self) -> Scored:
        return Scored(self.x @ self.w, features=self.x)

    def gradient_of(self, source: int) -> torch.Tensor:
        rows = self.batch["source"] == source
        loss = losses.get("bradley_terry")(self.x[rows] @ self.w, self.batch["targets"][rows])
        return torch.autograd.grad(loss, self.w)[0]


def test_equal_weights_are_the_plain_mean():
    model = Linear((6, 2, 1))
    model.batch["weight"] = torch.linspace(0.5, 2.0, 9, dtype=torch.float64)
    plain = losses.get("bradley_terry").of(model.scored(), model.batch)
    apart = BySource("bradley_terry", weighting="uniform").of(model.scored(), model.batch)
    assert apart.item() == pytest.approx(plain.item(), rel=1e-12)


def test_equal_gradients_make_any_weights_the_plain_mean():
    model = Linear((4, 4))
    model.x[4:] = model.x[:4]
    plain = losses.get("bradley_terry").of(model.scored(), model.batch)
    loss = BySource(normalize="none")
    assert loss.of(model.scored(), model.batch, step=0).item() == pytest.approx(plain.item(), rel=1e-12)


@pytest.mark.parametrize("normalize", ["l2", "loss", "loss+", "none"])
def test_the_weights_are_those_of_the_gradients_of_the_last_layer_and_carry_none(normalize):
    model = Linear()
    gradients = torch.stack([model.gradient_of(0), model.gradient_of(1)])
    loss = BySource(normalize=normalize)
    value = loss.of(model.scored(), model.batch, step=0)
    values = torch.stack(
        [losses.get("bradley_terry")((model.x @ model.w)[r], model.batch["targets"][r])
         for r in (slice(0, 6), slice(6, 8))]
    )  # fmt: skip
    weights = min_norm_weights(normalized(gradients, values, normalize))
    assert [w.item() for w in loss.watched.values()] == pytest.approx(weights.tolist())
    assert value.item() == pytest.approx(
        2 * (weights[0] * 6 * values[0] + weights[1] * 2 * values[1]).item() / 8
    )
    value.backward()
    wanted = 2 * (weights[0] * 6 * gradients[0] + weights[1] * 2 * gradients[1]) / 8
    assert model.w.grad is not None
    assert model.w.grad.tolist() == pytest.approx(wanted.tolist())


def test_two_gradients_of_the_same_length_weigh_the_same():
    """With two sources, normalising by length leaves nothing to solve for: it is uniform weighting."""
    for seed in range(5):
        model = Linear((3, 5), seed)
        loss = BySource(normalize="l2")
        value = loss.of(model.scored(), model.batch, step=0)
        assert [w.item() for w in loss.watched.values()] == pytest.approx([0.5, 0.5])
        plain = losses.get("bradley_terry").of(model.scored(), model.batch)
        assert value.item() == pytest.approx(plain.item())


def test_with_outputs_of_several_aspects_the_gradient_is_that_of_the_whole_last_layer():
    made = torch.Generator().manual_seed(1)
    x = torch.randn(5, 2, 3, generator=made, dtype=torch.float64)
    layer = torch.randn(2, 3, generator=made, dtype=torch.float64, requires_grad=True)
    source, targets = (
        torch.tensor([0, 0, 1, 1, 1]),
        torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(5, 1),
    )
    merit = torch.tensor([0.3, 0.7], dtype=torch.float64)
    outputs = x @ layer.T
    loss = BySource()
    loss.of(
        Scored(outputs @ merit, outputs=outputs, features=x), {"targets": targets, "source": source}, step=0
    )
    plain = losses.get("bradley_terry")
    for code in (0, 1):
        rows = source == code
        value = plain((x[rows] @ layer.T) @ merit, targets[rows])
        wanted = torch.autograd.grad(value, layer)[0].flatten()
        assert loss.gradients[code].tolist() == pytest.approx(wanted.tolist())


def test_momentum_is_the_share_of_the_new_gradient_and_starts_at_the_first():
    model = Linear()
    loss = BySource(momentum=0.25)
    first = torch.stack([model.gradient_of(0), model.gradient_of(1)])
    loss.of(model.scored(), model.batch, step=0)
    assert loss.gradients.flatten().tolist() == pytest.approx(first.flatten().tolist())
    with torch.no_grad():
        model.w.mul_(-1)
    second = torch.stack([model.gradient_of(0), model.gradient_of(1)])
    loss.of(model.scored(), model.batch, step=1)
    assert loss.gradients.flatten().tolist() == pytest.approx(
        (0.75 * first + 0.25 * second).flatten().tolist()
    )


def test_its_state_is_saved_and_brought_back_whatever_its_size():
    model = Linear()
    loss, again = BySource(), BySource()
    loss.of(model.scored(), model.batch, step=0)
    again.load_state_dict(loss.state_dict())
    assert again.gradients.equal(loss.gradients)
    with torch.no_grad():  # what is watched without training has the weights of the last step
        assert again.of(model.scored(), model.batch).item() == pytest.approx(
            loss.of(model.scored(), model.batch).item()
        )
        even = BySource().of(model.scored(), model.batch)
    assert even.item() == pytest.approx(losses.get("bradley_terry").of(model.scored(), model.batch).item())


def test_only_the_sources_present_share_the_weight_and_one_alone_takes_it_all():
    model = Linear((3, 3, 2))
    loss = BySource()
    loss.prepare(sources={"web": 30, "books": 20, "forum": 10})
    loss.of(model.scored(), model.batch, step=0)
    part = {name: value[:3] for name, value in model.batch.items()}
    scores = model.scored()
    one = Scored(scores.scores[:3], features=model.x[:3])
    value = loss.of(one, part, step=1)
    assert {name: w.item() for name, w in loss.watched.items()} == {"weight/web": 1.0}
    assert value.item() == pytest.approx(losses.get("bradley_terry").of(one, part).item())
    strict = BySource(require_all=True)
    strict.prepare(sources={"web": 30, "books": 20, "forum": 10})
    with pytest.raises(DataError, match=r"no group of the source 'books'.*stratify"):
        strict.of(one, part, step=0)


def test_a_source_of_weight_zero_takes_no_share():
    model = Linear((3, 3))
    model.batch["weight"][3:] = 0.0
    loss = BySource()
    value = loss.of(model.scored(), model.batch, step=0)
    assert list(loss.watched) == ["weight/0"]
    assert value.item() == pytest.approx(losses.get("bradley_terry").of(model.scored(), model.batch).item())


def test_fixed_weights_go_by_name_and_by_size():
    model = Linear((4, 4))
    for weighting, wanted in ({"a": 3.0, "b": 1.0}, [0.75, 0.25]), ("size", [0.9, 0.1]):
        loss = BySource(weighting=weighting)
        loss.prepare(sources={"a": 90, "b": 10})
        loss.of(model.scored(), model.batch)
        assert [w.item() for w in loss.watched.values()] == pytest.approx(wanted)


def test_what_it_wraps_decides_what_it_is_made_for():
    assert losses.get("more").pairwise
    assert losses.get("more").log_odds
    assert losses.get("more", loss="mse").anchored
    assert not losses.get("more", loss="listnet").pairwise
    assert losses.get("more", loss="bradley_terry", smoothing=0.1).loss.smoothing == 0.1
    assert losses.get("more", loss="bradley_terry + 0.1 * simcse").views == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weighting": "min-norm"}, "unknown weighting 'min-norm'; did you mean 'min_norm'"),
        ({"normalize": "l1"}, "unknown normalizer 'l1'"),
        ({"momentum": 0.0}, "momentum must be above 0"),
        ({"smothing": 0.1}, "unknown parameter of the loss .*: 'smothing'"),
        ({"weighting": {"a": -1.0}}, "0 or more"),
    ],
)
def test_parameters_out_of_range_are_named(params, message):
    with pytest.raises(ConfigError, match=message):
        losses.get("more", **params)


def test_what_is_missing_is_said():
    model = Linear()
    with pytest.raises(DataError, match=r"against each other; found 'web'"):
        BySource().prepare(sources={"web": 10})
    BySource(allow_single=True).prepare(sources={"web": 10})
    with pytest.raises(ConfigError, match="no weight for the source 'b'"):
        BySource(weighting={"a": 1.0}).prepare(sources={"a": 1, "b": 1})
    with pytest.raises(ConfigError, match=r"columns=\{'source'"):
        BySource().of(model.scored(), {k: v for k, v in model.batch.items() if k != "source"}, step=0)
    with pytest.raises(ConfigError, match="reads the features of the last layer"):
        BySource().of(Scored(model.x @ model.w), model.batch, step=0)
    broken = Scored(model.x @ model.w, features=model.x * torch.tensor([1.0, torch.nan, 1.0]))
    loss = BySource()
    loss.prepare(sources={"web": 6, "books": 2})
    with pytest.raises(DataError, match="gradient of the source 'web' is not finite"):
        loss.of(broken, model.batch, step=0)
