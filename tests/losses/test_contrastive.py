"""Contrastive terms read features of two passes, whoever won."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from palate import losses
from palate.errors import ConfigError, DataError
from palate.losses import Scored, SimCSE, SwAV, info_nce, sinkhorn, swav

FIRST = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
SECOND = torch.tensor([[0.9, 0.1], [0.6, 0.8], [0.1, 1.0]], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_worked_values_of_simcse():
    assert info_nce(FIRST, SECOND, 0.05).item() == pytest.approx(0.0512193, abs=1e-7)
    for n in (1, 4):
        eye = torch.eye(n, dtype=torch.float64)
        assert info_nce(eye, eye, 0.3).item() == pytest.approx(math.log(1 + (n - 1) * math.exp(-1 / 0.3)))


def test_it_is_cross_entropy_of_scikit_learns_cosines():
    peer = pytest.importorskip("sklearn.metrics.pairwise")
    scipy = pytest.importorskip("scipy.special")
    a, b = random(7, 5), random(7, 5, seed=1)
    cosines = peer.cosine_similarity(a.numpy(), b.numpy()) / 0.2
    one, other = (-scipy.log_softmax(cosines, axis=axis).diagonal() for axis in (1, 0))
    assert info_nce(a, b, 0.2).item() == pytest.approx(one.mean())
    assert info_nce(a, b, 0.2, symmetric=True).item() == pytest.approx((one + other).mean() / 2)
    weight = torch.tensor([1.0, 0, 0, 0, 0, 0, 3.0], dtype=torch.float64)
    assert info_nce(a, b, 0.2, weight=weight).item() == pytest.approx((one[0] + 3 * one[6]) / 4)


def test_lengths_of_features_do_not_count():
    scaled = FIRST * torch.tensor([[0.1], [3.0], [20.0]])
    assert info_nce(scaled, SECOND).item() == pytest.approx(info_nce(FIRST, SECOND).item())


def test_assignments_share_the_rows_out_evenly():
    scores = random(12, 4)
    q = sinkhorn(scores, epsilon=0.5, iterations=200)
    assert q.sum(1).tolist() == pytest.approx([1.0] * 12)
    assert q.sum(0).tolist() == pytest.approx([3.0] * 4, abs=1e-6)
    # The optimum under both sums is u_i exp(s_ij / epsilon) v_j: u and v drop out of the double
    # differences of its logarithm.
    left = q.log() - scores / 0.5
    left = left - left.mean(0) - left.mean(1, keepdim=True) + left.mean()
    assert left.abs().max().item() < 1e-6


def test_swav_foretells_the_code_of_the_other_view():
    """Written out from the definition."""
    a, b, centres = random(6, 3), random(6, 3, seed=1), random(4, 3, seed=2)
    z, other, c = (F.normalize(part, dim=1) for part in (a, b, centres))
    q, q_other = sinkhorn(z @ c.T), sinkhorn(other @ c.T)
    total = 0.0
    for i in range(6):
        p = torch.softmax(z[i] @ c.T / 0.1, 0)
        p_other = torch.softmax(other[i] @ c.T / 0.1, 0)
        total -= float((q_other[i] * p.log()).sum() + (q[i] * p_other.log()).sum())
    assert swav(a, b, centres).item() == pytest.approx(total / 12)


def test_views_that_agree_on_their_clusters_cost_less():
    centres = torch.eye(4, dtype=torch.float64)
    rows = centres.repeat(3, 1)
    assert swav(rows, rows, centres).item() < 0.01
    assert swav(rows, rows.roll(1, 0), centres).item() > 5


def grouped(seed: int = 0) -> tuple[Scored, dict[str, torch.Tensor]]:
    """Three groups of three responses: the last is padding, in one group two responses are tied."""
    features = random(3, 3, 5, seed=seed).requires_grad_()
    second = (features + 0.1 * random(3, 3, 5, seed=9)).clone()
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, True], [True, True, False]])
    return Scored(features.sum(-1), features=features, second=second), {"targets": targets, "mask": mask}


@pytest.mark.parametrize("name", ["simcse", "swav"])
def test_all_takes_every_judged_response_and_diff_both_orders_of_every_pair_that_differs(name):
    scored, batch = grouped()
    assert scored.features is not None
    assert scored.second is not None
    pairs = torch.tensor([[0, 0, 1], [1, 0, 2], [1, 1, 2], [2, 1, 0]])
    for on in ("all", "diff"):
        if on == "all":
            a, b = (part[batch["mask"]] for part in (scored.features, scored.second))
        else:
            g, i, j = pairs.T
            d, e = (part[g, i] - part[g, j] for part in (scored.features, scored.second))
            a, b = torch.cat([d, -d]), torch.cat([e, -e])
        loss = losses.get(name, on=on)
        loss.prepare(width=5)
        wanted = loss.between(a, b, torch.ones(len(a)))
        loss = losses.get(name, on=on)
        loss.prepare(width=5)
        assert loss.of(scored, batch).item() == pytest.approx(wanted.item())


def test_padding_gets_no_gradient_and_no_pair_costs_nothing():
    scored, batch = grouped()
    losses.get("simcse", on="diff").of(scored, batch).backward()
    assert scored.features is not None
    assert scored.features.grad is not None
    assert scored.features.grad[0, 2].abs().sum() == 0
    assert scored.features.grad[0, 0].abs().sum() > 0
    batch["targets"] = torch.zeros(3, 3)
    assert losses.get("simcse", on="diff").of(scored, batch).item() == 0


def test_the_prototypes_are_learnt_and_kept():
    scored, batch = grouped()
    loss, again = SwAV(prototypes=6, seed=1), SwAV(prototypes=6)
    loss.prepare(width=5)
    assert loss.prototypes.shape == (6, 5)
    loss.of(scored, batch).backward()
    assert loss.prototypes.grad is not None
    assert loss.prototypes.grad.abs().sum() > 0
    again.load_state_dict(loss.state_dict())
    assert again.prototypes.equal(loss.prototypes)
    with pytest.raises(ConfigError, match=r"prototypes of swav are 0 wide and the features 5"):
        SwAV().of(scored, batch)


def test_a_term_joins_a_sum_and_leaves_the_probabilities_alone():
    total = losses.get("bradley_terry + 0.1 * simcse", simcse={"on": "diff"})
    assert (total.views, total.reads_features, total.pairwise, total.log_odds) == (2, True, True, True)
    scored, batch = grouped()
    parts = losses.get("bradley_terry").of(scored, batch) + 0.1 * SimCSE(on="diff").of(scored, batch)
    assert total.of(scored, batch).item() == pytest.approx(parts.item())


def test_bad_input_is_named():
    with pytest.raises(DataError, match=r"shapes \(3, 2\) and \(2, 2\)"):
        info_nce(FIRST, SECOND[:2])
    for make in (lambda: SimCSE(temperature=0.0), lambda: info_nce(FIRST, SECOND, -1.0)):
        with pytest.raises(ConfigError, match="temperature must be above 0"):
            make()
    with pytest.raises(ConfigError, match="on must be 'all' or 'diff'"):
        losses.get("simcse", on="both")
    with pytest.raises(ConfigError, match="prototypes must be 2 or more"):
        SwAV(prototypes=1)
    with pytest.raises(ConfigError, match="epsilon must be above 0"):
        SwAV(epsilon=0.0)
    scored, batch = grouped()
    with pytest.raises(ConfigError, match="features of two passes"):
        SimCSE().of(Scored(scored.scores, features=scored.features), batch)
    with pytest.raises(ConfigError, match="reads features, not scores"):
        SimCSE()(scored.scores, batch["targets"])
