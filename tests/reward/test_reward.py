"""Reward models learn what is preferred, keep scikit-learn's habits, and are judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateError
from palate.reward import RewardModel

TRUE = np.array([1.0, -2.0, 0.5, 0.0])


def feature_pairs(n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, PreferenceData]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2, 4)).astype(np.float32)
    first = rng.random(n) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 1]) @ TRUE))
    scores = np.stack([first, ~first], axis=1).astype(float)
    return x, first, PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})


def weights(model: RewardModel) -> np.ndarray:
    network = model.scorer_.network  # type: ignore[attr-defined]
    return (network.last.weight.detach()[0] / network.scale).numpy()


def test_without_penalty_it_is_logistic_regression_on_differences() -> None:
    x, first, data = feature_pairs()
    ours = RewardModel("features", l2=0.0, tolerance=1e-9).fit(data)
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    peer.fit(x[:, 0].astype(float) - x[:, 1], first)
    assert weights(ours) == pytest.approx(peer.coef_[0], abs=1e-4)
    assert weights(ours) == pytest.approx(TRUE, abs=0.25)
    assert ours.fit_["converged"]
    assert ours.n_groups_ == 2000


def test_a_list_of_features_gives_the_conditional_logit() -> None:
    """Utilities with Gumbel noise order four things as Plackett and Luce's model does."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 4, 4)).astype(np.float32)
    order = np.argsort(-(x @ TRUE + rng.gumbel(size=(3000, 4))), axis=1)
    scores = -np.argsort(order, axis=1).astype(float)
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})
    model = RewardModel("features", loss="listmle", l2=0.0).fit(data)
    assert weights(model) == pytest.approx(TRUE, abs=0.1)


def test_a_hidden_layer_learns_what_a_line_cannot() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 2, 2))
    value = -np.abs(x[..., 0])
    scores = (value == value.max(axis=1, keepdims=True)).astype(float)
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})
    train, test = data.take(range(1000)), data.take(range(1000, 1500))

    def accuracy(*hidden: int) -> float:
        made = RewardModel("features", l2=1e-4, hidden=hidden).fit(train).score_data(test).scores
        return float(((made[:, 0] > made[:, 1]) == (scores[1000:, 0] > scores[1000:, 1])).mean())

    assert accuracy() < 0.6
    assert accuracy(16) > 0.9


def test_weights_count_as_repetitions() -> None:
    x, first, _ = feature_pairs(60)
    scores = np.stack([first, ~first], axis=1).astype(float)
    times = np.arange(60) % 3 + 1
    weighted = PreferenceData.from_columns(
        {"features": x.tolist(), "scores": scores.tolist(), "weight": times.astype(float)}
    )
    repeated = PreferenceData.from_columns(
        {"features": x.repeat(times, axis=0).tolist(), "scores": scores.repeat(times, axis=0).tolist()}
    )
    a, b = (RewardModel("features", l2=0.0, tolerance=1e-9).fit(data) for data in (weighted, repeated))
    assert weights(a) == pytest.approx(weights(b), abs=1e-3)


def test_ties_are_left_out_and_counted_unless_the_loss_uses_them() -> None:
    x, first, _ = feature_pairs(300)
    scores = np.stack([first, ~first], axis=1).astype(float)
    scores[:100] = 1.0
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})
    dropped = RewardModel("features").fit(data)
    kept = RewardModel("features", loss_params={"ties": "half"}).fit(data)
    assert (dropped.n_groups_, dropped.n_ties_) == (200, 100)
    assert (kept.n_groups_, kept.n_ties_) == (300, 0)
    assert np.linalg.norm(weights(kept)) < np.linalg.norm(weights(dropped))


def test_parameters_round_trip_as_in_scikit_learn() -> None:
    model = RewardModel("features", l2=0.5, loss="hinge")
    assert RewardModel(**model.get_params()).get_params() == model.get_params()
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(l2=0.1) is model
    assert model.l2 == 0.1
    with pytest.raises(ConfigError, match=r"unknown parameter of RewardModel 'los'; did you mean 'loss'"):
        model.set_params(los=1)
    with pytest.raises(PalateError, match="has not been fitted"):
        model.score_features([[1.0]])


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path) -> None:
    x, _, data = feature_pairs(100)
    for hidden in ([], [8]):
        model = RewardModel("features", hidden=hidden).fit(data)
        again = RewardModel.load(model.save(tmp_path / str(len(hidden))))
        assert np.array_equal(again.score_features(x), model.score_features(x))
        assert again.get_params() == model.get_params()
        assert again.data_fingerprint_ == data.fingerprint()


def test_a_folder_that_is_no_sound_reward_model_is_refused(tmp_path: Path) -> None:
    folder = RewardModel("features").fit(feature_pairs(50)[2]).save(tmp_path / "m")
    with pytest.raises(ConfigError, match=r"reward.json is missing"):
        RewardModel.load(tmp_path)
    whole = (folder / "reward.json").read_text()
    (folder / "reward.json").write_text(json.dumps(json.loads(whole) | {"version": 99}))
    with pytest.raises(ConfigError, match="of version 99; this Palate reads version 2"):
        RewardModel.load(folder)
    (folder / "reward.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="is damaged"):
        RewardModel.load(folder)
    (folder / "reward.json").write_text(whole)
    tensors = folder / "weights.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"weights\.safetensors cannot be read"):
        RewardModel.load(folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"features": [[[1.0], [2.0]]], "scores": [[1.0, 1.0]]}, "1 of 1 are ties"),
        (
            {"features": [[[1.0]], [[2.0]]], "scores": [[1.0], [0.0]]},
            r"none of 2 judgments has two .*group_by_prompt",
        ),
        (
            {"features": [[[1.0], [float("nan")]]], "scores": [[1.0, 0.0]]},
            "row 1, field 'features': .* not finite",
        ),
        (
            {"features": [[[1.0], [1.0, 2.0]]], "scores": [[1.0, 0.0]]},
            "row 1, field 'features': .* length is not 1",
        ),
        ({"items": [["a", "b"]], "scores": [[1.0, 0.0]]}, "reads features; the data has none"),
        ({"responses": [["a", "b"]], "scores": [[1.0, 0.0]]}, "reads features; the data has none"),
    ],
)
def test_data_it_cannot_learn_from_is_one_clear_error(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        RewardModel("features").fit(PreferenceData.from_columns(columns))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "bradley_tery"}, "did you mean 'bradley_terry'"),
        ({"head": "linear"}, "unknown head 'linear'; known"),
        ({"l2": -1.0}, "l2 must be 0 or more"),
        ({"mode": "finetune"}, "trains a transformer on texts"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named_when_fitting(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardModel("features", **params).fit(feature_pairs(20)[2])


def test_a_features_model_reads_no_text_and_no_other_width() -> None:
    model = RewardModel("features").fit(feature_pairs(50)[2])
    with pytest.raises(ConfigError, match="reads no text"):
        model.score(["p"], ["r"])
    with pytest.raises(DataError, match="vectors of length 3 where the model was fitted on 4"):
        model.score_features(np.ones((2, 3)))


def test_scores_without_odds_give_no_probabilities() -> None:
    data = feature_pairs(50)[2]
    model = RewardModel("features", loss="hinge").fit(data)
    assert not model.calibrated
    assert RewardModel("features").calibrated
    assert not RewardModel("features", loss_params={"scale": 2.0}).calibrated
    with pytest.raises(ConfigError, match="are no log-odds"):
        model.predict_proba(["p"], ["a"], ["b"])


def test_wine_quality_is_ranked_better_than_chance_from_lab_measurements(shared_data: Path) -> None:
    frame = pl.read_parquet(shared_data / "wine-quality" / "wine_quality.parquet").filter(
        pl.col("colour") == "red"
    )
    frame = frame.unique(maintain_order=True)
    x = frame.drop("colour", "quality").to_numpy().astype(float)
    quality = frame["quality"].to_numpy().astype(float)
    k, order = 5, np.random.default_rng(0).permutation(len(x))[: len(x) // 5 * 5].reshape(-1, 5)
    data = PreferenceData.from_columns({"features": x[order].tolist(), "scores": quality[order].tolist()})
    half = len(order) // 2
    model = RewardModel("features", l2=1e-3).fit(data.take(range(half)))
    scores, truth = model.score_data(data.take(range(half, len(order)))).scores, quality[order[half:]]
    i, j = np.triu_indices(k, 1)
    gap = truth[:, i] - truth[:, j]
    right = np.sign(scores[:, i] - scores[:, j]) == np.sign(gap)
    assert right[gap != 0].mean() > 0.72


@pytest.mark.models
def test_minilm_scores_real_arguments_above_chance_on_an_unseen_topic(
    minilm: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "ukp-convarg"
    arguments = pl.read_parquet(folder / "arguments.parquet").select("argument_id", "text")
    pairs = pl.read_parquet(folder / "pairs.parquet").filter(pl.col("strict").is_in(["a1", "a2"]))
    for side in ("1", "2"):
        named = arguments.rename({"argument_id": f"argument_{side}", "text": f"text_{side}"})
        pairs = pairs.join(named, on=f"argument_{side}", how="left", maintain_order="left")
    topics = pairs["topic"].unique(maintain_order=True).to_list()[:8]

    def made(part: list[str]) -> PreferenceData:
        some = pairs.filter(pl.col("topic").is_in(part))
        first = (some["strict"] == "a1").to_numpy().astype(float)
        return PreferenceData.from_columns(
            {
                "prompt": some["topic"].to_list(),
                "responses": some.select(pl.concat_list("text_1", "text_2")).to_series().to_list(),
                "scores": np.stack([first, 1 - first], axis=1).tolist(),
            }
        )

    train, test = made(topics[:6]), made(topics[6:])
    model = RewardModel("all-minilm-l6-v2").fit(train)
    scores = model.score_data(test).scores
    truth = test.scores.reshape(-1, 2)
    accuracy = ((scores[:, 0] > scores[:, 1]) == (truth[:, 0] > truth[:, 1])).mean()
    assert accuracy > 0.75
    frame = test.pairs()
    some = [frame[name].to_list()[:20] for name in ("prompt", "chosen", "rejected")]
    both = model.predict_proba(*some)
    assert both.shape == (20, 2)
    assert both.sum(axis=1) == pytest.approx(np.ones(20))
    again = RewardModel.load(model.save(tmp_path / "model"))
    assert again.predict_proba(*some) == pytest.approx(both, abs=1e-9)


@pytest.mark.models
def test_a_tuned_minilm_learns_a_word_and_is_saved_as_a_peft_folder(minilm: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["tea", "cup", "house", "runs", "red", "seven", "quickly", "maybe", "answer", "list"]

    def text(word: str) -> str:
        return " ".join([*rng.choice(words, 5), word])

    data = PreferenceData.from_rows(
        [
            {"prompt": "Describe", "responses": [text("excellent"), text("terrible")], "scores": [1.0, 0.0]}
            for _ in range(40)
        ]
    )  # fmt: skip
    settings = {
        "steps": 20,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "lora": 8,
        "dtype": "float32",
        "pad_to_multiple_of": 8,
    }
    model = RewardModel("all-minilm-l6-v2", mode="finetune", training=settings).fit(data.take(range(30)))
    assert model.fit_["loss"] < 0.5
    scores = model.score_data(data.take(range(30, 40))).scores
    assert (scores[:, 0] > scores[:, 1]).mean() >= 0.9
    folder = model.save(tmp_path / "tuned")
    assert (folder / "model" / "adapter_config.json").exists()
    again = RewardModel.load(folder).score_data(data.take(range(30, 40))).scores
    assert np.abs(again - scores).max() < 1e-5


def test_judgments_of_an_aspect_train_its_output_and_overall_ones_the_weighted_sum() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 1, 3))
    truth = {"clear": np.array([1.0, 0.0, 0.5]), "kind": np.array([0.0, -2.0, 0.0])}
    aspects = np.array(["clear", "kind"], dtype=object)[np.arange(600) % 2]
    scores = [[float(row[0] @ truth[aspect])] for row, aspect in zip(x, aspects, strict=True)]
    data = PreferenceData.from_columns(
        {"features": x.tolist(), "scores": scores, "aspect": aspects.tolist(), "scale": ["interval"] * 600}
    )
    merit = {"clear": 0.7, "kind": 0.3}
    model = RewardModel("features", "attributes", "mse", head_params={"merit": merit}, l2=0.0).fit(data)
    assert model.head_.aspects == ("clear", "kind")
    expected = x[:, 0] @ (0.7 * truth["clear"] + 0.3 * truth["kind"])
    assert model.score_features(x[:, 0]) == pytest.approx(expected, abs=1e-4)
    assert model.score_data(data).scores == pytest.approx(np.array(scores), abs=1e-4)
    others = data.with_columns(aspect=["clear", "other", "overall", None] * 150)
    held = model.score_data(others).scores[:, 0]
    assert held[::4] == pytest.approx(x[::4, 0] @ truth["clear"], abs=1e-4)
    assert held[1::4] == pytest.approx(expected[1::4], abs=1e-4)
    assert held[3::4] == pytest.approx(expected[3::4], abs=1e-4)


def test_strengths_count_as_repetitions_under_the_scaled_loss() -> None:
    """Scaled Bradley-Terry is a pair repeated as often as its strength says (HelpSteer2-Preference)."""
    x, first, _ = feature_pairs(200)
    scores = np.stack([first, ~first], axis=1).astype(float)
    strength = np.arange(200) % 4
    told = PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": scores.tolist(),
            "metadata": [json.dumps({"strength": int(s)}) for s in strength],
        }
    )
    repeated = PreferenceData.from_columns(
        {"features": x.repeat(strength, axis=0).tolist(), "scores": scores.repeat(strength, axis=0).tolist()}
    )
    scaled = RewardModel(
        "features", l2=0.0, columns={"strength": "strength"}, loss_params={"label_weight": True}
    ).fit(told)
    plain = RewardModel("features", l2=0.0).fit(repeated)
    assert scaled.n_groups_ == 150
    assert weights(scaled) == pytest.approx(weights(plain), abs=2e-2 * np.abs(weights(plain)).max())


def test_training_in_steps_comes_near_the_full_fit_and_goes_on_from_another_model() -> None:
    _, _, data = feature_pairs(500)
    full = RewardModel("features", l2=0.0).fit(data)
    steps = {"steps": 300, "batch_size": 100, "learning_rate": 0.05, "logging_steps": 100}
    stepped = RewardModel("features", training=steps).fit(data)
    assert weights(stepped) == pytest.approx(weights(full), abs=0.15)
    still = RewardModel("features", l2=1e6, pull="start").fit(data, init=full)
    assert weights(still) == pytest.approx(weights(full), abs=1e-3)
