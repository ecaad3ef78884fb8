"""The hinge under a curriculum of pairs, and features in the order of labels, against worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palate import losses
from palate.errors import ConfigError, DataError
from palate.losses import PairCurriculum, Scored, rank_n_contrast
from palate.losses.rank_hinge import pools

NAN = float("nan")
# Three responses, rated on two aspects; the second does not apply to the third response.
SCORES = torch.tensor([[3.0, 2.8, 4.1], [2.0, 3.5, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([[2.0, 4.0, 5.0], [3.0, 3.0, NAN]], dtype=torch.float64)
BATCH = {
    "targets": LABELS,
    "aspect": torch.tensor([0, 1]),
    "ratings": LABELS.T.expand(2, 3, 2),
}


def of(loss, scores=SCORES, batch=BATCH, **time):
    return loss.of(Scored(scores), batch, **time)


def test_only_pairs_that_differ_and_are_both_judged_count():
    assert of(losses.get("rank_hinge")).item() == pytest.approx(0.2333333, abs=1e-7)
    each = [
        losses.get("rank_hinge")(SCORES[:1, pair], LABELS[:1, pair]).item()
        for pair in ([0, 1], [0, 2], [1, 2])
    ]
    assert each == pytest.approx([0.7, 0.0, 0.0])


def test_it_is_the_registered_hinge_in_other_units():
    scores, labels = torch.randn(5, 4, dtype=torch.float64), torch.rand(5, 4)
    hinge = 0.5 * losses.get("hinge", scale=2.0)(scores, labels)
    assert losses.get("rank_hinge")(scores, labels).item() == pytest.approx(hinge.item())


def test_without_a_margin_only_pairs_in_the_wrong_order_cost_their_gap():
    scores, labels = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[1.0, 2.0, 3.0]])
    assert losses.get("rank_hinge", margin=0.0)(scores, labels).item() == pytest.approx(1.0 / 3)


def test_a_curriculum_keeps_the_pair_that_is_far_apart():
    loss = losses.get("rank_hinge", gap_start=2.5, consistency_start=0.5)
    assert of(loss, step=0, total_steps=10).item() == 0.0
    assert loss.watched["pairs_selected"].item() == pytest.approx(1 / 3)


def test_a_pair_whose_aspects_disagree_is_left_out_and_later_taught_on_every_aspect():
    labels = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    batch = {"targets": labels, "aspect": torch.tensor([0, 1]), "ratings": labels.T.expand(2, 2, 2)}
    loss = losses.get("rank_hinge", consistency_start=0.5, epochs=2)
    scores = torch.zeros(2, 2, requires_grad=True)
    early = of(loss, scores, batch, step=0, total_steps=4)
    early.backward()
    assert early.item() == 0.0
    assert (scores.grad == 0).all()
    assert loss.watched["no_pairs"].item() == 1
    loss.curriculum.consistency_start = 0.0
    assert of(loss, scores, batch, step=3, total_steps=4).item() == pytest.approx(0.5)


def test_responses_of_several_prompts_are_compared_where_the_pool_says_so():
    scores = torch.tensor([[1.0, 1.0], [0.0, 0.0], [5.0, 5.0]])
    labels = torch.tensor([[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]])
    batch = {"targets": labels, "aspect": torch.tensor([0, 0, 1])}
    assert of(losses.get("rank_hinge"), scores, batch).item() == 0.0
    for pool in (0, 2):
        assert of(losses.get("rank_hinge", pool=pool), scores, batch).item() == pytest.approx(1.5)


def test_pools_are_filled_evenly_but_for_the_last():
    assert sorted((pools(torch.zeros(8, dtype=torch.long), 3) >= 0).sum(1).tolist()) == [2, 3, 3]


@settings(max_examples=30, deadline=None)
@given(codes=st.lists(st.integers(-1, 3), min_size=1, max_size=12), size=st.integers(0, 5))
def test_every_row_is_in_one_pool_with_rows_of_its_code(codes, size):
    table = pools(torch.tensor(codes), size)
    assert sorted(row for row in table.flatten().tolist() if row >= 0) == list(range(len(codes)))
    for pool in table.tolist():
        assert len({codes[row] for row in pool if row >= 0}) == 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_loss_is_the_mean_over_selected_pairs_written_out(seed):
    made = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 3, generator=made, dtype=torch.float64)
    labels = torch.randint(1, 6, (4, 3), generator=made).double()
    aspect = torch.tensor([0, 1, 0, 1])  # of two prompts
    ratings = torch.stack([labels[[0, 0, 2, 2]], labels[[1, 1, 3, 3]]], -1)
    loss = losses.get("rank_hinge", pool=0, gap_start=2.0, consistency_start=0.6)
    terms = []
    for d in (0, 1):
        rows = [d, d + 2]
        flat = [(r, i) for r in rows for i in range(3)]
        for at, (r, i) in enumerate(flat):
            for p, j in flat[at + 1 :]:
                signs = torch.sign(ratings[r, i] - ratings[p, j])
                eta = (labels[r, i] - labels[p, j]).sign().item()
                agree = signs.sum().abs().item() / max(int((signs != 0).sum()), 1)
                apart = (ratings[r, i] - ratings[p, j]).abs().max().item()
                if eta and agree >= 0.6 and apart >= 2:
                    terms.append(max(0.0, 0.5 - eta * (scores[r, i] - scores[p, j]).item()))
    found = of(loss, scores, {"targets": labels, "aspect": aspect, "ratings": ratings}, step=0, total_steps=9)
    assert found.item() == pytest.approx(sum(terms) / max(len(terms), 1))


# -- the schedule --


def test_kendalls_correlation_counts_pairs_at_least_so_far_apart():
    scores, labels = torch.tensor([[1.0, 2.0, 3.0, 2.5]]), torch.tensor([[1.0, 3.0, 2.0, 5.0]])
    for gap, tau in ((1e-6, 1 / 3), (2.5, 0.0)):
        loss = losses.get("rank_hinge", gap_start=gap)
        loss(scores, labels, step=0, total_steps=10)
        total, n, rho, groups = loss.curriculum.sums.tolist()
        assert total / n == pytest.approx(tau)
        assert rho / groups == pytest.approx(stats.spearmanr(scores[0], labels[0]).statistic)


def test_consistency_falls_by_epochs_and_the_gap_when_the_correlation_settles():
    curriculum = PairCurriculum(epochs=4)
    seen = []
    for step in range(8):
        curriculum.begin(step, 8)
        seen.append((curriculum.consistency, float(curriculum.gap), int(curriculum.pool)))
        curriculum.sums.copy_(torch.tensor([8.0, 10.0, 9.0, 10.0]))
    assert [c for c, _, _ in seen] == [0.5, 0.5, 0.375, 0.375, 0.25, 0.25, 0.125, 0.125]
    # The first epoch has none before it to have settled from; after a step down the pairs are others.
    assert [g for _, g, _ in seen] == [2.5, 2.5, 2.5, 2.5, 1.5, 1.5, 1.5, 1.5]
    assert [p for _, _, p in seen] == [1, 1, 1, 1, 2, 2, 3, 3]


def test_a_gap_that_no_pair_has_falls_at_once_and_ends_at_0():
    curriculum = PairCurriculum(gap_start=1.5)
    curriculum.update(NAN, NAN)
    assert float(curriculum.gap) == 0.5
    curriculum.update(NAN, NAN)
    assert float(curriculum.gap) == 0.0


def test_moving_correlations_change_nothing():
    curriculum = PairCurriculum()
    for value in (0.1, 0.2, 0.3):
        curriculum.update(value, value)
    assert (float(curriculum.gap), int(curriculum.pool)) == (2.5, 1)


def test_the_schedule_goes_on_from_a_saved_state():
    first = losses.get("rank_hinge", gap_start=2.5, pool_step=1, epochs=4)
    for step in range(3):
        of(first, step=step, total_steps=8)
    second = losses.get("rank_hinge", gap_start=2.5, pool_step=1, epochs=4)
    second.load_state_dict(first.state_dict())
    for step in range(3, 8):
        for loss in (first, second):
            of(loss, step=step, total_steps=8)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_a_curriculum_says_that_it_needs_steps():
    loss = losses.get("rank_hinge", gap_start=2.5)
    assert loss.stepwise
    assert not losses.get("rank_hinge").stepwise
    with pytest.raises(ConfigError, match="needs to know the step"):
        loss(SCORES, LABELS)


@pytest.mark.parametrize(
    "bad", [{"margin": -1.0}, {"gap_start": -1.0}, {"consistency_start": 2.0}, {"pool": -1}, {"epochs": 0},
            {"gap_step": 0.0}, {"pool_step": -1}, {"epsilon": -1.0}]
)  # fmt: skip
def test_parameters_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        losses.get("rank_hinge", **bad)


# -- contrast --


def line(*values: float) -> torch.Tensor:
    return torch.tensor([[v, 0.0] for v in values], dtype=torch.float64)


def test_features_in_the_order_of_the_labels_cost_least():
    labels = torch.tensor([1.0, 2.0, 4.0])
    assert rank_n_contrast(line(0, 1, 3), labels).item() == pytest.approx(0.2102359, abs=1e-7)
    assert rank_n_contrast(line(3, 0, 1), labels).item() == pytest.approx(0.4602360, abs=1e-7)
    assert rank_n_contrast(line(0, 1, 3), 7 * labels).item() == pytest.approx(0.2102359, abs=1e-7)


@settings(max_examples=20, deadline=None)
@given(
    labels=st.lists(st.integers(1, 5).map(lambda v: v / 3), min_size=3, max_size=7), seed=st.integers(0, 999)
)
def test_it_is_its_definition_written_out(labels, seed):
    z = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    thirds = [round(3 * v) for v in labels]
    terms = []
    for i in range(len(z)):
        for j in range(len(z)):
            if i == j:
                continue
            near = [
                math.exp(-(z[i] - z[k]).norm().item() / 2)
                for k in range(len(z))
                if k != i and abs(thirds[i] - thirds[k]) >= abs(thirds[i] - thirds[j])
            ]
            terms.append((z[i] - z[j]).norm().item() / 2 + math.log(sum(near)))
    found = rank_n_contrast(z, torch.tensor(labels, dtype=torch.float64))
    assert found.item() == pytest.approx(sum(terms) / len(terms))


def test_its_gradient_agrees_with_finite_differences_and_is_finite_where_features_agree():
    labels = torch.tensor([1.0, 2.0, 2.0, 5.0, NAN])
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: rank_n_contrast(z, labels), (z,))
    same = torch.zeros(4, 3, requires_grad=True)
    rank_n_contrast(same, labels[:4]).backward()
    assert torch.isfinite(same.grad).all()


def test_it_needs_three_judged_responses_of_an_aspect():
    z = line(0, 1, 3).requires_grad_()
    value = rank_n_contrast(z, torch.tensor([1.0, 2.0, NAN]))
    value.backward()
    assert value.item() == 0
    assert (z.grad == 0).all()


def test_aspects_are_set_apart_and_prompts_put_together():
    z = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[1.0, 2.0, 4.0], [1.0, 3.0, NAN], [2.0, 2.0, 5.0]])
    batch = {"targets": labels, "aspect": torch.tensor([0, 1, 0])}
    found = losses.get("rank_n_contrast").of(Scored(labels, features=z), batch)
    pooled = rank_n_contrast(z[[0, 2]].reshape(6, 2), labels[[0, 2]].flatten())
    assert found.item() == pytest.approx(pooled.item())  # two responses of aspect 1 are too few


def test_missing_features_are_one_clear_error():
    with pytest.raises(ConfigError, match="reads features, which this model does not give"):
        losses.get("rank_n_contrast").of(Scored(SCORES), BATCH)
    with pytest.raises(ConfigError, match="reads features, not scores"):
        losses.get("rank_n_contrast")(SCORES, LABELS)
    with pytest.raises(DataError, match="one row of features and one target per response"):
        rank_n_contrast(torch.zeros(3, 2), torch.zeros(4))
    with pytest.raises(ConfigError, match="tau"):
        losses.get("rank_n_contrast", tau=0.0)
