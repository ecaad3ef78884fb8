"""Batches with as many groups of each source, and gradients taken where new responses are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.reward import RewardModel
from palate.runs import Run
from palate.training import (
    MetaStep,
    PreferenceTrainer,
    Scored,
    TrainingConfig,
    configure,
    order_of,
    separation,
    stratified_order,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 30))
def test_every_batch_holds_as_many_of_each_source(sizes: list[int], each: int, batches: int) -> None:
    source = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = stratified_order(source, each * len(sizes), batches, seed=1)
    assert order.shape == (batches * each * len(sizes),)
    for batch in source[order].reshape(batches, -1):
        assert np.bincount(batch, minlength=len(sizes)).tolist() == [each] * len(sizes)
    for code, size in enumerate(sizes):  # its own passes: none comes again before all have come
        own = order[source[order] == code]
        for start in range(0, len(own), size):
            assert len(set(own[start : start + size])) == len(own[start : start + size])


def test_the_order_is_that_of_the_seed_and_a_new_shuffle_each_pass() -> None:
    source = np.array([0] * 4 + [1] * 40)
    order = stratified_order(source, 8, 10, seed=0)
    assert np.array_equal(order, stratified_order(source, 8, 10, seed=0))
    assert not np.array_equal(order, stratified_order(source, 8, 10, seed=1))
    small = order[source[order] == 0].reshape(10, 4)
    assert len({tuple(row) for row in small}) > 5
    assert np.array_equal(order_of(7, 20, 3), order_of(7, 20, 3))
    assert not np.array_equal(order_of(7, 20, 3), order_of(7, 20, 3, "other"))


def test_batches_that_cannot_be_even_are_refused() -> None:
    source = np.repeat([0, 1, 2], 5)
    with pytest.raises(ConfigError, match=r"batches of 8 .* 3 sources; use a batch_size of 6 or 9"):
        stratified_order(source, 8, 2, seed=0)
    with pytest.raises(ConfigError, match=r"batches of 2 .* use a batch_size of 3$"):
        stratified_order(source, 2, 2, seed=0)
    with pytest.raises(DataError, match=r"row 2.*no source"):
        stratified_order(np.array([0, -1, 1]), 2, 1, seed=0)


def test_worked_separations() -> None:
    value = separation(torch.tensor([[0.2, 1.0, -0.5], [2.0, 2.0, 2.0], [0.0, 200.0, -200.0]]))
    assert value.tolist() == pytest.approx([0.4834971, 1 / 3, 2 / 3], abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(-50, 50))
def test_separation_ignores_the_level_and_lies_within_its_limits(scores: list[float], shift: float) -> None:
    row = torch.tensor([scores], dtype=torch.float64)
    k = len(scores)
    value = separation(row).item()
    assert value == pytest.approx(separation(row + shift).item(), abs=1e-9)
    assert (k - 1) / (2 * k) - 1e-12 <= value <= (k - 1) / k + 1e-12
    padded = torch.cat([row, torch.full((1, 2), torch.nan, dtype=torch.float64)], 1)
    assert separation(padded, ~padded.isnan()).item() == pytest.approx(value)


class Linear(torch.nn.Module):
    """Scores linear in features."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float64))


class Vectors:
    """Groups of feature vectors, shape (n, k, d); the first of a group is the best."""

    def __init__(self, x: Any) -> None:
        self.x = torch.as_tensor(x, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Any) -> dict[str, Any]:
        x = self.x[list(rows)]
        targets = torch.zeros(x.shape[:2])
        targets[:, 0] = 1.0
        return {"x": x, "targets": targets, "mask": torch.ones(x.shape[:2], dtype=torch.bool),
                "weight": torch.ones(len(x))}  # fmt: skip


def linear(model: Linear, batch: dict[str, Any]) -> Scored:
    return Scored(batch["x"] @ model.w, features=batch["x"])


def test_the_worked_step_takes_the_gradient_above_and_applies_it_below() -> None:
    model = Linear([0.5, -0.2])
    meta = MetaStep(Vectors([[[1.0, 0.0], [0.0, 1.0]]]), linear, eta=0.1, batch_size=1)
    pair = Vectors([[[1.0, 1.0], [0.0, 2.0]]]).batch([0])
    for eta, wanted in ((0.1, [0.516346, -0.216346]), (0.0, None)):
        meta.eta = eta
        model.zero_grad()
        with meta.ascended(model, meta.groups.batch([0])) as told_apart:
            if eta:
                assert model.w.tolist() == pytest.approx([0.511086, -0.211086], abs=1e-6)
            losses.get("bradley_terry").of(linear(model, pair), pair).backward()
        assert told_apart.item() == pytest.approx(0.5 * torch.sigmoid(torch.tensor(0.7)).item())
        assert model.w.tolist() == [0.5, -0.2]
        assert model.w.grad is not None
        new = (model.w - 0.05 * model.w.grad).tolist()
        if wanted is None:  # plain gradient descent
            slope = 0.05 * torch.sigmoid(torch.tensor(-0.7, dtype=torch.float64)).item()
            wanted = [0.5 + slope, -0.2 - slope]
        assert new == pytest.approx(wanted, abs=1e-6)


def test_the_weights_come_back_when_the_gradient_fails() -> None:
    model = Linear([0.5, -0.2])
    meta = MetaStep(Vectors([[[1.0, 0.0], [0.0, 1.0]]]), linear, eta=0.1)
    with pytest.raises(KeyError), meta.ascended(model, meta.groups.batch([0])):
        raise KeyError
    assert model.w.tolist() == [0.5, -0.2]


CONFIG = TrainingConfig(
    steps=10, batch_size=4, learning_rate=0.05, save_steps=4, logging_steps=2, gradient_accumulation=2
)


class Interrupted(Exception):
    pass


def trained(
    folder: Path | None, eta: float | None, *, stop_at: int | None = None, dropout: float = 0.0
) -> PreferenceTrainer:
    rng = np.random.default_rng(0)
    model, seen = Linear([0.1] * 3), 0

    def score(model: Linear, batch: dict[str, Any]) -> Scored:
        nonlocal seen
        seen += 1
        if stop_at is not None and seen > stop_at:
            raise Interrupted
        x = torch.nn.functional.dropout(batch["x"], dropout, model.training)
        return Scored(x @ model.w, features=x)

    meta = None
    if eta is not None:
        meta = MetaStep(Vectors(rng.normal(size=(7, 4, 3))), linear, eta=eta, batch_size=3, seed=2)
    run = Run(folder, {}) if folder else None
    groups = Vectors(np.random.default_rng(1).normal(size=(20, 2, 3)))
    made = PreferenceTrainer(model, groups, score, losses.get("bradley_terry"), CONFIG, run=run, meta=meta)
    made.fit()
    return made


def test_without_a_step_up_training_is_plain() -> None:
    plain, still, moved = (trained(None, eta).model.w for eta in (None, 0.0, 0.5))
    assert plain.equal(still)
    assert not plain.equal(moved)


def test_the_separation_is_logged() -> None:
    history = trained(None, 0.1).history
    assert all(3 / 8 <= line["separation"] <= 3 / 4 for line in history)
    assert "separation" not in trained(None, None).history[0]


def test_an_interrupted_run_climbs_on_where_it_was(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 0.3, dropout=0.3)
    with pytest.raises(Interrupted):
        trained(tmp_path / "cut", 0.3, dropout=0.3, stop_at=11)
    resumed = trained(tmp_path / "cut", 0.3, dropout=0.3)
    assert whole.model.w.equal(resumed.model.w)
    assert [line["separation"] for line in whole.run.metrics()] == [  # type: ignore[union-attr]
        line["separation"]
        for line in resumed.run.metrics()  # type: ignore[union-attr]
    ]


def test_every_response_comes_once_a_pass() -> None:
    meta = MetaStep(Vectors(np.zeros((6, 2, 1))), linear, eta=0.1, batch_size=2)
    first, second = ([meta.rows(3 * n + i) for i in range(3)] for n in range(2))
    for passed in first, second:
        assert sorted(row for batch in passed for row in batch) == list(range(6))
    assert first != second
    assert len(MetaStep(Vectors(np.zeros((3, 2, 1))), linear, eta=0.1, batch_size=8).rows(5)) == 3


def test_what_cannot_be_climbed_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 2.*one response"):
        separation(torch.zeros(2, 2), torch.tensor([[True, True], [True, False]]))
    with pytest.raises(ConfigError, match=r"0 or more; got -0\.1"):
        MetaStep(Vectors(np.zeros((1, 2, 1))), linear, eta=-0.1)
    with pytest.raises(ConfigError, match="empty"):
        MetaStep(Vectors(np.zeros((0, 2, 1))), linear, eta=0.1)


# -- through a reward model --


def sources(sizes: tuple[int, ...] = (60, 15), seed: int = 0) -> PreferenceData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sum(sizes), 2, 3)).astype(np.float32)
    name = np.repeat([f"source-{i}" for i in range(len(sizes))], sizes)
    score = (x * np.where(name == "source-0", 1.0, -0.5)[:, None, None]).sum(-1)
    first = score[:, 0] > score[:, 1]
    return PreferenceData.from_columns(
        {"features": x.tolist(), "scores": np.stack([first, ~first], 1).astype(float).tolist(),
         "annotator": name.tolist()}
    )  # fmt: skip


def even(**training: Any) -> dict[str, Any]:
    return {"steps": 30, "batch_size": 10, "learning_rate": 0.05, "stratify": True, **training}


def test_a_reward_model_weighs_its_sources_at_every_step(tmp_path: Path) -> None:
    model = RewardModel("features", loss="more", columns={"source": "annotator"}, training=even())
    run = Run(tmp_path / "run", {})
    model.fit(sources(), run=run)
    for line in run.metrics():
        weights = [line["weight/source-0"], line["weight/source-1"]]
        assert sum(weights) == pytest.approx(1.0)
        assert min(weights) >= 0.001 - 1e-9
    assert model.calibrated
    loaded = RewardModel.load(model.save(tmp_path / "model"))
    probe = np.ones((1, 3))
    assert loaded.score_features(probe).tolist() == model.score_features(probe).tolist()
    assert loaded.loss_.gradients.shape == (2, 3)


def test_the_same_weights_on_even_batches_are_plain_training_on_them() -> None:
    common: dict[str, Any] = {"columns": {"source": "annotator"}, "training": even()}
    plain = RewardModel("features", **common).fit(sources())
    uniform = RewardModel("features", loss="more", loss_params={"weighting": "uniform"}, **common)
    uniform.fit(sources())
    probe = np.eye(3)
    assert uniform.score_features(probe) == pytest.approx(plain.score_features(probe), abs=1e-9)


def test_a_reward_model_learns_from_two_passes_with_dropout() -> None:
    data = sources((80, 0)[:1])
    model = RewardModel(
        "features", loss="bradley_terry + 0.1 * simcse + 0.1 * swav", hidden=(8,), dropout=0.2,
        loss_params={"simcse": {"on": "diff"}, "swav": {"prototypes": 4}},
        training={"steps": 60, "batch_size": 16, "learning_rate": 0.02},
    ).fit(data)  # fmt: skip
    assert model.score_features([[1.0, 1, 1]]) > model.score_features([[-1.0, -1, -1]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"loss": "more", "columns": {"source": "annotator"}},
            "'more' changes from step to step; give training",
        ),
        ({"training": even()}, r"as many groups of each source.*columns=\{'source'"),
        ({"loss": "more", "training": even(stratify=False)}, r"columns=\{'source'"),
        ({"training": even(batch_size=7), "columns": {"source": "annotator"}}, "batch_size of 6 or 8"),
        (
            {"loss": "bradley_terry + simcse", "training": even(stratify=False)},
            "two passes with dropout; set dropout above 0",
        ),
    ],
)
def test_a_reward_model_says_what_is_missing(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardModel("features", **params).fit(sources())


def test_a_judgment_without_source_and_a_single_source_are_refused() -> None:
    data = sources()
    names = data.values("annotator").astype(object)
    names[3] = None
    with pytest.raises(DataError, match=r"row 4.*annotator.*no source"):
        RewardModel("features", columns={"source": "annotator"}).fit(
            data.with_columns(annotator=names.tolist())
        )
    with pytest.raises(DataError, match="found 'source-0'"):
        RewardModel("features", loss="more", columns={"source": "annotator"}, training=even()).fit(
            sources((20,))
        )


def test_settings_of_the_trainer_are_checked() -> None:
    assert configure(TrainingConfig, None, stratify=True).stratify
    with pytest.raises(ConfigError, match="'meta_rate' cannot be -1"):
        configure(TrainingConfig, None, meta_rate=-1.0)


def unlabelled(n: int = 12, k: int = 3) -> PreferenceData:
    x = np.random.default_rng(5).normal(size=(n, k, 3)).astype(np.float32)
    return PreferenceData.from_columns({"features": x.tolist(), "scores": [[float("nan")] * k] * n})


def test_a_reward_model_climbs_on_responses_without_labels() -> None:
    training = {"steps": 30, "batch_size": 8, "learning_rate": 0.05}
    probe = np.eye(3)

    def fitted(rate: float, meta: PreferenceData | None) -> RewardModel:
        return RewardModel("features", training={**training, "meta_rate": rate}).fit(sources(), meta=meta)

    plain = fitted(0.5, None).score_features(probe)
    assert fitted(0.0, unlabelled()).score_features(probe) == pytest.approx(plain, abs=1e-12)
    climbed = fitted(0.5, unlabelled())
    assert np.abs(climbed.score_features(probe) - plain).max() > 1e-4
    assert 1 / 3 <= climbed.fit_["separation"] <= 2 / 3


def test_a_tuned_model_climbs_too(minilm: Path) -> None:
    data = PreferenceData.from_columns(
        {"prompt": ["a"] * 4, "responses": [["good answer", "bad"], ["bad one", "good"]] * 2,
         "scores": [[1.0, 0.0], [0.0, 1.0]] * 2}
    )  # fmt: skip
    policy = PreferenceData.from_columns(
        {"prompt": ["b", "c"], "responses": [["one", "two", "three"], ["four", "five", "six"]],
         "scores": [[0.0] * 3] * 2}
    )  # fmt: skip
    model = RewardModel(str(minilm), mode="finetune", training={"steps": 2, "batch_size": 2, "lora": 2})
    model.fit(data, meta=policy)
    assert 1 / 3 <= model.fit_["separation"] <= 2 / 3


def test_what_a_reward_model_cannot_climb_on_is_refused() -> None:
    training = {"steps": 3, "batch_size": 2}
    with pytest.raises(ConfigError, match=r"meta.*needs training="):
        RewardModel("features").fit(sources(), meta=unlabelled())
    with pytest.raises(DataError, match=r"row 1.*two or more responses"):
        RewardModel("features", training=training).fit(sources(), meta=unlabelled(k=1))
