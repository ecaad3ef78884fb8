"""Ensembles are steadier than their members, say where they are unsure, and keep scikit-learn's habits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import palate.models
from palate.data import PreferenceData
from palate.errors import ConfigError, PalateError, PalateWarning
from palate.judges.base import Scores
from palate.reward import RewardEnsemble, RewardModel
from palate.runs import Run


def feature_pairs(n: int = 200, seed: int = 0, d: int = 3) -> PreferenceData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2, d))
    first = rng.random(n) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 1]) @ np.linspace(-1, 1, d)))
    return PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": np.stack([first, ~first], axis=1).astype(float).tolist(),
            "prompt_id": [str(i // 4) for i in range(n)],
        }
    )


@pytest.fixture(scope="module")
def fitted() -> RewardEnsemble:
    return RewardEnsemble(RewardModel("features"), 4, bootstrap="pairs").fit(feature_pairs())


def test_score_and_spread_are_mean_and_deviation_of_the_members(fitted: RewardEnsemble) -> None:
    made = fitted.score_features(np.random.default_rng(1).normal(size=(5, 2, 3)))
    assert made.samples is not None
    assert made.spread is not None
    assert made.scores.shape == made.spread.shape == (5, 2)
    assert made.samples.shape == (5, 2, 4)
    assert made.scores == pytest.approx(made.samples.mean(-1))
    assert made.spread == pytest.approx(made.samples.std(-1))


def test_members_are_brought_to_one_scale_unless_told_otherwise(fitted: RewardEnsemble) -> None:
    data = feature_pairs()
    samples = fitted.score_data(data).samples
    assert samples is not None
    assert samples.reshape(-1, 4).mean(0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert samples.reshape(-1, 4).std(0) == pytest.approx(np.full(4, fitted.scale_.mean()))
    raw = clone(fitted).set_params(standardize=False).fit(data).score_data(data).samples
    assert raw is not None
    for number, member in enumerate(fitted.members_):
        assert raw[..., number] == pytest.approx(member.score_data(data).scores)


def test_cautious_scores_are_the_worst_member_or_the_mean_less_spreads(fitted: RewardEnsemble) -> None:
    probe = np.random.default_rng(2).normal(size=(6, 3))
    mean = fitted.score_features(probe)
    assert mean.samples is not None
    assert mean.spread is not None
    try:
        fitted.set_params(aggregate="min")
        assert fitted.score_features(probe).scores == pytest.approx(mean.samples.min(-1))
        fitted.set_params(aggregate="lower", caution=2.0)
        assert fitted.score_features(probe).scores == pytest.approx(mean.scores - 2.0 * mean.spread)
    finally:
        fitted.set_params(aggregate="mean", caution=1.0)


@pytest.mark.parametrize(
    "model", [RewardModel("features"), RewardModel("features", hidden=(8,), l2=1e-3)], ids=["linear", "deep"]
)
def test_members_differ_most_where_they_have_not_learnt(model: RewardModel) -> None:
    ensemble = RewardEnsemble(model, 3, bootstrap="pairs").fit(feature_pairs())
    rng = np.random.default_rng(3)
    near, far = rng.normal(size=(200, 3)), 6.0 * rng.normal(size=(200, 3))
    inside, outside = (ensemble.score_features(x) for x in (near, far))
    assert np.median(outside.spread) > 2 * np.median(inside.spread)
    assert np.median(outside.confidence) < np.median(inside.confidence)
    assert ((inside.confidence > 0) & (inside.confidence <= 1)).all()


def test_what_a_member_is_unsure_of_adds_to_what_they_differ_by(fitted: RewardEnsemble) -> None:
    scores = [Scores(np.array([float(m)]), spread=np.array([2.0])) for m in range(4)]
    plain = clone(fitted).set_params(standardize=False)
    plain.scale_, plain.center_ = np.ones(4), np.zeros(4)
    assert plain._together(scores).spread == pytest.approx([np.sqrt(1.25 + 4.0)])


def test_a_mean_of_noisy_members_beats_a_member() -> None:
    noisy = {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.1,
        "schedule": "constant",
        "logging_steps": 10**6,
    }
    train, test = feature_pairs(200, d=20), feature_pairs(1000, seed=5, d=20)
    ensemble = RewardEnsemble(RewardModel("features", training=noisy), 4).fit(train)
    truth = np.linspace(-1, 1, 20)
    x = np.asarray(test.column("features").to_pylist())
    right = np.sign((x[:, 0] - x[:, 1]) @ truth)

    def accuracy(scores: np.ndarray) -> float:
        return float((np.sign(scores[:, 0] - scores[:, 1]) == right).mean())

    alone = [accuracy(member.score_data(test).scores) for member in ensemble.members_]
    assert len(set(alone)) > 1
    assert accuracy(ensemble.score_data(test).scores) > np.mean(alone)


def test_members_that_agree_exactly_are_warned_of() -> None:
    with pytest.warns(PalateWarning, match="share seed or data order: they all give the same scores"):
        RewardEnsemble(RewardModel("features"), 2).fit(feature_pairs(40))


def test_a_bootstrap_draws_as_many_as_there_are_and_prompts_stay_whole() -> None:
    data = feature_pairs(80)
    for way in ("pairs", "prompts"):
        ensemble = RewardEnsemble(RewardModel("features"), bootstrap=way)
        drawn = [ensemble.sample(data, number) for number in range(2)]
        assert [part.weights.sum() for part in drawn] == [80, 80]
        assert drawn[0] != drawn[1]
        assert ensemble.sample(data, 0) == drawn[0]
        if way == "prompts":
            counts = drawn[0].table.group_by("prompt_id").aggregate([("weight", "count")])
            assert set(counts["weight_count"].to_pylist()) == {4}
    no_prompts = PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1.0, 0.0]]})
    with pytest.raises(ConfigError, match="needs a prompt or prompt_id in every judgment"):
        RewardEnsemble(RewardModel("features"), bootstrap="prompts").fit(no_prompts)


def test_seeds_of_members_follow_from_the_ensembles_whatever_the_model_names() -> None:
    for training in ({"steps": 2, "seed": 7}, palate.training.TrainingConfig(steps=2, seed=7)):
        ensemble = RewardEnsemble(RewardModel("features", training=training), 3, seed=1)
        seeds = [ensemble.member(number).seed for number in range(3)]
        assert len(set(seeds)) == 3
        settings = [ensemble.member(number).training for number in range(3)]
        assert [s["seed"] if isinstance(s, dict) else s.seed for s in settings] == seeds


def test_parameters_round_trip_as_in_scikit_learn() -> None:
    ensemble = RewardEnsemble(RewardModel("features", l2=0.5), 3, aggregate="min")
    assert RewardEnsemble(**ensemble.get_params(deep=False)).get_params() == ensemble.get_params()
    assert clone(ensemble).get_params()["model__l2"] == 0.5
    assert ensemble.set_params(model__l2=0.1, members=4).model.l2 == 0.1
    with pytest.raises(ConfigError, match="unknown parameter of RewardEnsemble 'member'; did you mean"):
        ensemble.set_params(member=1)
    with pytest.raises(PalateError, match="has not been fitted"):
        ensemble.score_features([[1.0]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"members": 1}, "needs 2 members or more; got members=1"),
        ({"aggregate": "max"}, "unknown aggregate 'max'"),
        ({"bootstrap": "rows"}, "unknown bootstrap 'rows'"),
        ({"caution": -1.0}, "caution must be 0 or more"),
    ],
)
def test_parameters_that_cannot_be_used_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardEnsemble(RewardModel("features"), **params).fit(feature_pairs(20))


def test_saved_and_loaded_it_scores_the_same(fitted: RewardEnsemble, tmp_path: Path) -> None:
    again = RewardEnsemble.load(fitted.save(tmp_path / "ensemble"))
    probe = np.random.default_rng(4).normal(size=(5, 3))
    first, second = fitted.score_features(probe), again.score_features(probe)
    assert np.array_equal(first.scores, second.scores)
    assert np.array_equal(first.spread, second.spread)
    (tmp_path / "ensemble" / "ensemble.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        RewardEnsemble.load(tmp_path / "ensemble")
    with pytest.raises(ConfigError, match=r"ensemble.json is missing"):
        RewardEnsemble.load(tmp_path)


def test_an_interrupted_fit_goes_on_with_the_members_left(tmp_path: Path) -> None:
    data, run = feature_pairs(60), Run(tmp_path / "run", {"what": "ensemble"})
    ensemble = RewardEnsemble(RewardModel("features"), 3, bootstrap="pairs").fit(data, run=run)
    (tmp_path / "run" / "members" / "2" / "model" / "reward.json").unlink()
    kept = tmp_path / "run" / "members" / "0" / "model" / "reward.json"
    before = kept.stat().st_mtime_ns
    again = clone(ensemble).fit(data, run=run)
    assert kept.stat().st_mtime_ns == before
    probe = np.ones((1, 3))
    assert np.array_equal(again.score_features(probe).scores, ensemble.score_features(probe).scores)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        clone(ensemble).set_params(model__l2=9.0).fit(data, run=run)


def texts(n: int = 24) -> PreferenceData:
    rng = np.random.default_rng(0)
    words = ["tea", "cup", "house", "runs", "red", "seven", "quickly", "maybe"]
    return PreferenceData.from_rows(
        [
            {
                "prompt": "Describe",
                "responses": [" ".join([*rng.choice(words, 4), end]) for end in ("excellent", "terrible")],
                "scores": [1.0, 0.0],
            }
            for _ in range(n)
        ]
    )


@pytest.mark.models
def test_members_on_a_frozen_encoder_share_it_and_read_each_text_once(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    loaded, read = [], []
    load = palate.models.load_encoder

    def counting(name: str, **options: Any) -> Any:
        encoder = load(name, **options)
        loaded.append(encoder)
        encode = encoder.encode_counting

        def count(given: Sequence[str], *rest: Any, **more: Any) -> Any:
            read.extend(given)
            return encode(given, *rest, **more)

        monkeypatch.setattr(type(encoder), "encode_counting", lambda self, *a, **k: count(*a, **k))
        return encoder

    monkeypatch.setattr(palate.models, "load_encoder", counting)
    data = texts()
    ensemble = RewardEnsemble(RewardModel(str(minilm)), 3, bootstrap="pairs").fit(data)
    assert len(loaded) == 1
    assert len(read) == len(set(read)) > 0
    frame = data.pairs()
    some = [frame[name].to_list()[:4] for name in ("prompt", "chosen", "rejected")]
    both = ensemble.predict_proba(*some)
    members = np.mean([member.predict_proba(*some) for member in ensemble.members_], axis=0)
    assert both == pytest.approx(members)
    assert ensemble.compare(*some).probability == pytest.approx(members[:, 0])
    assert len(read) == len(set(read))


@pytest.mark.models
def test_adapters_of_an_ensemble_hold_their_base_weights_once(minilm: Path, tmp_path: Path) -> None:
    settings = {
        "steps": 3, "batch_size": 4, "learning_rate": 2e-3, "lora": 4, "dtype": "float32",
        "pad_to_multiple_of": 8,
    }  # fmt: skip
    data = texts()
    ensemble = RewardEnsemble(RewardModel(str(minilm), mode="finetune", training=settings), 2).fit(data)
    models = [dict(member.scorer_.model.named_parameters()) for member in ensemble.members_]
    shared = {n for n in models[0] if models[0][n].data_ptr() == models[1][n].data_ptr()}
    assert sum(models[0][n].numel() for n in shared) > 0.9 * sum(p.numel() for p in models[0].values())
    assert not any("lora_B" in name for name in shared)
    made = ensemble.score(["Describe"], ["red tea excellent"])
    assert made.spread[0] > 0
    again = RewardEnsemble.load(ensemble.save(tmp_path / "adapters"))
    assert again.score(["Describe"], ["red tea excellent"]).scores == pytest.approx(made.scores, abs=1e-5)
    loaded = [dict(member.scorer_.model.named_parameters()) for member in again.members_]
    assert all(loaded[0][name].data_ptr() == loaded[1][name].data_ptr() for name in shared)
