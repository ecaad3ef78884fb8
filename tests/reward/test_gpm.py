"""Reward models that compare: preference embeddings, whose orders may go in circles, and pair models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import schur
from scipy.special import expit

from palate import evaluate, losses
from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.reward import RewardModel, heads
from palate.reward.network import Network

CIRCLE = np.radians([0.0, 120.0, 240.0])


def gpm(**params: Any) -> Any:
    return heads.get("gpm", **params).double()


def cycle(n: int) -> PreferenceData:
    """n responses of which each is preferred to the next, the last to the first."""
    eye = np.eye(n).tolist()
    return PreferenceData.from_columns(
        {"features": [[eye[i], eye[(i + 1) % n]] for i in range(n)], "scores": [[1.0, 0.0]] * n}
    )


def linear_lists(n: int = 300, k: int = 4, seed: int = 0) -> tuple[np.ndarray, PreferenceData]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, k, 3))
    worth = x @ np.array([1.0, -2.0, 0.5]) + rng.gumbel(size=(n, k))
    return x, PreferenceData.from_columns({"features": x.tolist(), "scores": worth.tolist()})


# -- the operator --


def test_vectors_at_120_degrees_beat_each_other_in_a_circle() -> None:
    v = torch.tensor(np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1))
    s = gpm(dim=2).table(v)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        assert float(s[a, b]) == pytest.approx(0.8660254, abs=1e-7)
    wide, sharp = (float(gpm(dim=2, tau=tau).margins(v[None])[0, 0, 1].detach()) for tau in (1.0, 0.1))
    assert expit(wide) == pytest.approx(0.7039180, abs=1e-7)
    assert expit(sharp) == pytest.approx(0.9998267, abs=1e-7)
    loss = losses.logistic(torch.tensor([sharp], dtype=torch.float64))
    assert float(loss) == pytest.approx(0.000173325, abs=1e-9)


def test_planes_add_up_and_the_gate_weighs_them_by_the_prompt() -> None:
    v = torch.tensor([[1.0, 2.0, 0.5, -1.0], [0.3, -0.2, 1.0, 0.4]], dtype=torch.float64)
    planes = [float(gpm(dim=2).table(v[:, part])[0, 1]) for part in (slice(0, 2), slice(2, 4))]
    assert planes == pytest.approx([-0.8, 1.2])
    assert float(gpm(dim=4).table(v)[0, 1]) == pytest.approx(0.4)
    gated = gpm(dim=4, gate=True, tau=1.0)
    network = Network(3, gated, context_dim=16)
    prompts = torch.eye(2, 16, dtype=torch.float64)
    with torch.no_grad():
        network.prompt.weight.zero_()
        network.prompt.weight[:, 0] = torch.tensor([0.2, -0.4])
    context = network.context(prompts)
    gate = 2 * torch.softmax(context, -1)
    assert gate[0].tolist() == pytest.approx([1.07486, 0.92514], abs=1e-5)
    margins = gated.margins(v.expand(2, 2, 4), context)
    assert float(margins[0, 0, 1].detach()) == pytest.approx(0.2502806, abs=1e-7)
    assert float(margins[1, 0, 1].detach()) == pytest.approx(0.4)  # equal logits weigh planes as no gate does


def test_with_a_constant_coordinate_it_is_bradley_terry() -> None:
    s = gpm(dim=2).table(torch.tensor([[1.2, 1.0], [0.4, 1.0]], dtype=torch.float64))
    assert float(s[0, 1]) == pytest.approx(0.8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([{"normalize": True}, {}, {"gate": True}]), st.integers(1, 6))
def test_swapping_two_responses_turns_the_sign(seed: int, params: dict[str, Any], k: int) -> None:
    torch.manual_seed(seed)
    context = torch.randn(2, 3).double() if params.get("gate") else None
    for head, outputs in (
        (gpm(dim=6, **params), torch.randn(2, k, 6).double()),
        (heads.get("pair", width=5).double(), torch.randn(2, k, 5).double()),
    ):
        table = head.margins(outputs, context if head.name == "gpm" else None)
        assert torch.equal(table, -table.transpose(1, 2))
        assert (table.diagonal(dim1=1, dim2=2) == 0).all()
        assert table.shape == (2, k, k)


def test_vectors_of_length_one_bound_the_score() -> None:
    head = gpm(dim=6, normalize=True)
    s = head.table(head.vectors(100 * torch.randn(20, 6, dtype=torch.float64))).detach()
    assert float(s.abs().max()) <= 1.0 + 1e-12


def test_half_as_many_planes_as_items_hold_any_skew_symmetric_table() -> None:
    """Coordinates from the real Schur form: sqrt(eigenvalue) times the two vectors of a block."""
    a = np.random.default_rng(0).normal(size=(6, 6))
    target = a - a.T
    form, basis = schur(target, output="real")
    found = []
    for at in (0, 2, 4):
        value = form[at, at + 1]
        x, y = basis[:, at], basis[:, at + 1]
        found.append((abs(value), np.sqrt(abs(value)) * np.stack([x, np.sign(value) * y], axis=1)))
    found.sort(key=lambda block: -block[0])
    errors = []
    for planes in (1, 2, 3):
        v = torch.tensor(np.concatenate([block for _, block in found[:planes]], axis=1))
        s = gpm(dim=2 * planes).table(v).numpy()
        errors.append(np.linalg.norm(s - target) / np.linalg.norm(target))
    assert errors[:2] == pytest.approx([0.51686, 0.016366], abs=1e-5)
    assert errors[2] < 1e-12


# -- learning --


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize(
    "params",
    [
        {"head": "gpm", "head_params": {"dim": 2}}, {"head": "pair", "l2": 1e-4},
        {"head": "pair", "hidden": (8,), "l2": 1e-4},
    ],
    ids=["gpm", "pair", "pair on a hidden layer"],
)  # fmt: skip
def test_a_circle_is_learnt(n: int, params: dict[str, Any]) -> None:
    model = RewardModel("features", **params).fit(cycle(n))
    margin = model.margins_data(cycle(n))[:, 0, 1]
    assert float(np.mean(np.log1p(np.exp(-margin)))) < 0.01
    assert (margin > 0).all()


@pytest.mark.parametrize("n", [3, 4])
def test_bradley_terry_stays_at_chance_on_a_circle(n: int) -> None:
    model = RewardModel("features", l2=0.0).fit(cycle(n))
    assert model.fit_["objective"] == pytest.approx(np.log(2), abs=1e-12)
    assert np.ptp(model.score_data(cycle(n)).scores) < 1e-12


def test_in_steps_a_circle_is_learnt_too() -> None:
    training = {"steps": 200, "batch_size": 3, "learning_rate": 0.02, "schedule": "constant"}
    model = RewardModel("features", head="gpm", head_params={"dim": 2}, training=training).fit(cycle(3))
    assert (model.margins_data(cycle(3))[:, 0, 1] > 4.0).all()


def test_any_pairwise_loss_reads_the_margins() -> None:
    for loss in ("hinge", "exponential", "davidson", "bradley_terry + 0.01 * centering"):
        model = RewardModel("features", head="gpm", loss=loss).fit(cycle(3))
        assert (model.margins_data(cycle(3))[:, 0, 1] > 0.5).all(), loss


def test_on_a_scale_it_agrees_with_bradley_terry() -> None:
    data = linear_lists()[1]
    found = {
        head: evaluate(RewardModel("features", head=head).fit(data), linear_lists(seed=1)[1]).metrics
        for head in ("scalar", "gpm", "pair")
    }
    for head in ("gpm", "pair"):
        assert found[head]["accuracy"] == pytest.approx(found["scalar"]["accuracy"], abs=0.01)
        assert found[head]["log_loss"] < found["scalar"]["log_loss"] + 0.02


def test_the_seed_decides_the_first_weights_of_the_head() -> None:
    data = linear_lists(50)[1]

    def margins(seed: int) -> Any:
        return RewardModel("features", head="pair", max_iter=3, seed=seed).fit(data).margins_data(data)

    torch.manual_seed(5)
    first = margins(0)
    torch.manual_seed(6)
    assert np.array_equal(first, margins(0))
    assert not np.array_equal(first, margins(1))


# -- as a judge --


def test_scores_are_mean_margins_within_the_set() -> None:
    x, data = linear_lists(40)
    model = RewardModel("features", head="gpm", head_params={"dim": 4}).fit(data)
    table = model.margins_data(data)
    assert table.shape == (40, 4, 4)
    assert model.score_data(data).scores == pytest.approx(table.mean(axis=2))
    assert model.score_features(x) == pytest.approx(table.mean(axis=2))
    two = model.score_features(x[:, :2])
    assert two[:, 0] - two[:, 1] == pytest.approx(table[:, 0, 1])
    assert model.score_features(x[:, :3]) != pytest.approx(table.mean(axis=2)[:, :3], abs=1e-3)


def test_evaluation_compares_pair_by_pair_not_by_mean_margins() -> None:
    """In a set of four, a response may lose to another and have the higher mean."""
    eye = np.eye(4).tolist()
    beats = [(0, 1), (1, 2), (2, 0), (0, 3), (3, 1), (3, 2)]
    data = PreferenceData.from_columns(
        {"features": [[eye[i], eye[j]] for i, j in beats], "scores": [[1.0, 0.0]] * 6}
    )
    model = RewardModel("features", head="gpm", l2=1e-3).fit(data)
    whole = PreferenceData.from_columns({"features": [eye], "scores": [[3.0, 2.0, 1.0, 0.0]]})
    table = model.margins_data(whole)[0]
    upper = np.triu_indices(4, 1)
    assert evaluate(model, whole).metrics["accuracy"] == np.mean(table[upper] > 0)
    means = model.score_data(whole).scores[0]
    assert ((means[:, None] > means)[upper] != (table[upper] > 0)).any()


def test_groups_of_different_sizes_are_padded() -> None:
    rng = np.random.default_rng(0)
    data = PreferenceData.from_columns(
        {
            "features": [rng.normal(size=(k, 3)).tolist() for k in (2, 4, 1, 3)],
            "scores": [list(range(k)) for k in (2, 4, 1, 3)],
        }
    )
    model = RewardModel("features", head="pair").fit(data)
    assert model.n_groups_ == 1 + 6 + 3
    table, scores = model.margins_data(data), model.score_data(data).scores
    assert np.isnan(table[0, 2]).all()
    assert np.isnan(table[0, :, 2]).all()
    assert scores[0, :2] == pytest.approx(table[0, :2, :2].mean(axis=1))
    assert np.isnan(scores[2]).all()  # alone, with nothing to compare


def test_saved_and_loaded_it_compares_the_same(tmp_path: Path) -> None:
    data = linear_lists(30)[1]
    for head, params in (("gpm", {"dim": 4, "normalize": True, "tau": 0.5}), ("pair", {"width": 3})):
        model = RewardModel("features", head=head, head_params=params).fit(data)
        again = RewardModel.load(model.save(tmp_path / head))
        assert np.array_equal(again.margins_data(data), model.margins_data(data))
        assert again.head_.params == model.head_.params


def test_texts_are_encoded_once_and_compared_in_circles(minilm: Path) -> None:
    circle = ["stone", "scissors", "paper"]
    prompts = ["What shall I play?"] * 3
    data = PreferenceData.from_columns(
        {"prompt": prompts, "responses": [[circle[i], circle[(i + 1) % 3]] for i in range(3)],
         "scores": [[1.0, 0.0]] * 3}
    )  # fmt: skip
    model = RewardModel(str(minilm), head="gpm", l2=1e-3).fit(data)
    assert model.native == {"compare"}
    assert model.calibrated
    asked: list[int] = []
    texts = model.scorer_.texts
    model.scorer_.texts = lambda p, r: (asked.append(len(r)), texts(p, r))[1]  # type: ignore[method-assign]
    table = model.compare_table(prompts[:1], [circle])
    assert asked == [3]
    assert table[0, [0, 1, 2], [1, 2, 0]].min() > 0.9
    assert table[0] + table[0].T == pytest.approx(np.ones((3, 3)))
    assert model.compare(prompts, circle, [*circle[1:], circle[0]]).probability.min() > 0.9
    assert model.predict_proba(prompts[:1], circle[:1], circle[1:2])[0].sum() == pytest.approx(1.0)
    assert np.ptp(model.score(prompts[:1], [circle]).scores) < 0.5
    assert evaluate(model, data).metrics["accuracy"] == 1.0
    annotated = model.annotate(data)
    assert (np.diff(annotated.scores.reshape(3, 2), axis=1) < 0).all()
    assert model.margins([], []).shape == (0, 0, 0)


def test_the_gate_lets_the_prompt_choose_the_scale(minilm: Path, tmp_path: Path) -> None:
    """One prompt asks for the long answer, the other for the short one; vectors alone see one response."""
    answers = ["Yes.", "Yes, and here is at length why I think that this is so, with every detail of it."]
    prompts = ["Explain everything in depth.", "Answer in one word."]
    data = PreferenceData.from_columns(
        {"prompt": prompts, "responses": [answers, answers], "scores": [[0.0, 1.0], [1.0, 0.0]]}
    )
    settings_ = {"text": "response", "l2": 1e-4}
    plain = RewardModel(str(minilm), head="gpm", **settings_).fit(data)
    assert plain.fit_["objective"] == pytest.approx(np.log(2), abs=1e-3)
    gated = RewardModel(str(minilm), head="gpm", head_params={"gate": True}, **settings_).fit(data)
    assert evaluate(gated, data).metrics["accuracy"] == 1.0
    table = gated.margins(prompts, [answers, answers])
    assert table[0, 1, 0] > 0 > table[1, 1, 0]
    assert table == pytest.approx(gated.margins_data(data))
    again = RewardModel.load(gated.save(tmp_path / "gated"))
    assert np.array_equal(again.margins(prompts, [answers, answers]), table)


# -- what it refuses --


@pytest.mark.parametrize(
    ("head", "params", "message"),
    [
        ("gpm", {"dim": 3}, "preference embedding dimension must be even"),
        ("gpm", {"dim": 0}, "preference embedding dimension must be even"),
        ("gpm", {"tau": 0.0}, "tau must be above 0 and finite; got 0.0"),
        ("gpm", {"gate": True}, 'reads the prompt alone, which needs mode="frozen" and an encoder of texts'),
        ("gpm", {"dims": 4}, "did you mean 'dim'"),
        ("pair", {"width": 0}, "width and hidden must be 1 or more"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(head: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardModel("features", head=head, head_params=params).fit(cycle(3))


def test_one_response_alone_has_no_score() -> None:
    model = RewardModel("features", head="gpm").fit(cycle(3))
    with pytest.raises(ConfigError, match="no absolute score of one alone; give groups of two or more"):
        model.score(["p"], ["a single response"])
    for single in (np.ones(3), np.ones((5, 1, 3))):
        with pytest.raises(ConfigError, match="no absolute score of one response; give groups"):
            model.score_features(single)


# -- targets of policies --


def test_mean_scores_are_the_targets_of_a_policy() -> None:
    table = torch.tensor([[0, 1.2, -0.4], [-1.2, 0, 0.6], [0.4, -0.6, 0]], dtype=torch.float64)
    mean = table.mean(1)
    assert mean.tolist() == pytest.approx([0.266667, -0.2, -0.066667], abs=1e-6)
    log_ratio, beta = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), 0.5
    plain = losses.squared_target(log_ratio, mean / beta)
    assert float(plain) == pytest.approx(0.0496296, abs=1e-7)
    made = losses.get("squared_target", beta=beta)(log_ratio[None], mean[None])
    assert float(made) == pytest.approx(0.0496296, abs=1e-7)
    lengths = torch.tensor([10, 20, 5])
    normalized = losses.squared_target(log_ratio, mean / beta, lengths=lengths, length_power=1.0)
    assert float(normalized) == pytest.approx(0.1429852, abs=1e-7)
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    updated = torch.softmax(policy.log() + mean / beta, 0)
    assert updated.tolist() == pytest.approx([0.693813, 0.163701, 0.142486], abs=1e-6)


def test_the_minimum_of_the_squared_loss_is_the_update_of_multiplicative_weights() -> None:
    """Up to the log of the normaliser, which the loss leaves out."""
    mean, beta = torch.tensor([0.27, -0.2, -0.07], dtype=torch.float64), 0.5
    log_ratio = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    losses.squared_target(log_ratio, mean / beta).backward()
    assert log_ratio.grad is not None
    step = (log_ratio - 1.5 * log_ratio.grad).detach()  # the loss is (1 / 3) |r - t|^2
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert torch.allclose(torch.softmax(policy.log() + step, 0), torch.softmax(policy.log() + mean / beta, 0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: losses.squared_target(t, t, length_power=-1.0), "length_power must be 0 or more"),
        (lambda t: losses.squared_target(t, t, length_power=1.0), "needs the lengths"),
        (lambda t: losses.squared_target(t, t, lengths=t, length_power=1.0), "a sample of no tokens"),
        (lambda t: losses.get("squared_target", beta=0.0), "beta must be above 0, got 0.0"),
    ],
)
def test_a_squared_loss_that_cannot_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(torch.zeros(3))
