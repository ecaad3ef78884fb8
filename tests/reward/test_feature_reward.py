"""A reward model over named features: logistic regression, explained, with names that cannot swap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.judges import FeatureJudge, LengthJudge
from palate.reward import Rescaled, RewardModel

NAMES = ["coverage", "faithfulness", "fluency"]
TRUE = np.array([1.0, 2.0, -0.5])


def votes(n: int = 400, seed: int = 0, level: float = 0.0) -> tuple[np.ndarray, np.ndarray, PreferenceData]:
    """Pairs of aspect scores on the scale 0 to 5, and who won."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 5, size=(n, 2, 3)).astype(np.float32)
    x[..., 0] += level
    first = rng.random(n) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 1]) @ TRUE))
    scores = np.stack([first, ~first], axis=1).astype(float)
    return x, first, PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})


@pytest.mark.parametrize("l2", [0.0, 0.02])
def test_without_hidden_layers_it_is_logistic_regression_on_differences(l2: float) -> None:
    """With the same penalty: ours is on standardised features beside the mean loss, scikit-learn's on the
    sum of losses."""
    x, first, data = votes()
    model = RewardModel("features", l2=l2, feature_names=NAMES, tolerance=1e-9).fit(data)
    spread = x.reshape(-1, 3).astype(float).std(axis=0)
    peer = LogisticRegression(
        C=np.inf if l2 == 0 else 1 / (l2 * len(x)), fit_intercept=False, tol=1e-10, max_iter=1000
    )
    peer.fit((x[:, 0].astype(float) - x[:, 1]) / spread, first)
    explained = model.explain()
    assert explained["feature"].to_list() == NAMES
    assert explained["per_sd"].to_numpy() == pytest.approx(peer.coef_[0], abs=1e-4)
    assert explained["weight"].to_numpy() == pytest.approx(peer.coef_[0] / spread, abs=1e-4)


def test_a_constant_added_to_one_feature_of_both_sides_changes_no_probability() -> None:
    x, _, data = votes(level=0.0)
    model = RewardModel("features", l2=0.01).fit(data)
    moved = x.copy()
    moved[..., 1] += 3.0
    before, after = (np.diff(model.score_features(v), axis=1) for v in (x, moved))
    assert after == pytest.approx(before, abs=1e-5)


def test_a_gap_of_seven_tenths_costs_what_the_logistic_loss_says() -> None:
    value = losses.get("bradley_terry")(torch.tensor([[0.7, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert value.item() == pytest.approx(0.4031860, abs=1e-7)


def test_scores_have_no_activation_unless_they_are_squashed() -> None:
    """With a rectifier on the output both sides could be 0 at once: loss log 2, and no gradient."""
    dead = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    stuck = losses.get("bradley_terry")(torch.relu(dead), torch.tensor([[1.0, 0.0]]))
    stuck.backward()
    assert stuck.item() == pytest.approx(0.6931472, abs=1e-7)
    assert dead.grad is not None
    assert not dead.grad.any()
    x, _, data = votes()
    for hidden in ((), (5, 3)):
        model = RewardModel("features", l2=1e-3, hidden=hidden, activation="relu").fit(data)
        scores = model.score_features(x)
        assert scores.min() < 0
        assert len(np.unique(scores)) > len(x)


def test_the_gradient_of_a_network_is_its_mean_over_the_responses() -> None:
    x, _, data = votes(300)
    model = RewardModel("features", l2=1e-3, hidden=(6,), activation="tanh", feature_names=NAMES).fit(data)
    steps = []
    for number in range(3):
        low, high = x.astype(float), x.astype(float)
        low[..., number] -= 1e-4
        high[..., number] += 1e-4
        steps.append((model.score_features(high) - model.score_features(low)).mean() / 2e-4)
    assert model.explain(data)["weight"].to_numpy() == pytest.approx(np.array(steps), abs=1e-6)
    assert model.explain(data)["weight"].to_numpy() != pytest.approx(
        model.explain()["weight"].to_numpy(), abs=1e-3
    )


def test_features_by_name_are_put_in_the_order_of_the_model() -> None:
    x, _, data = votes(100)
    model = RewardModel("features", feature_names=NAMES).fit(data)
    named = {name: x[:, 0, number] for number, name in enumerate(NAMES)}
    turned = {name: named[name] for name in reversed(NAMES)}
    assert np.array_equal(model.score_features(turned), model.score_features(x[:, 0]))
    with pytest.raises(DataError, match="missing: 'coverage', 'fluency'; give all of: coverage, faithful"):
        model.score_features({"faithfulness": x[:, 0, 1]})
    with pytest.raises(ConfigError, match="unknown feature 'flow'"):
        model.score_features({**named, "flow": x[:, 0, 0]})


def test_a_feature_without_a_value_anywhere_is_refused_and_one_that_never_changes_is_named() -> None:
    x, _, data = votes(50)
    x[..., 1] = np.nan
    missing = data.with_columns(features=x.tolist())
    with pytest.raises(DataError, match="the feature 'faithfulness' has no value in any response"):
        RewardModel("features", feature_names=NAMES).fit(missing)
    x[..., 1] = 3.0
    x[7, 0, 1] = np.nan
    with pytest.raises(DataError, match=r"row 8, .* the feature 'faithfulness' is not finite \(1 of 100"):
        RewardModel("features", feature_names=NAMES).fit(data.with_columns(features=x.tolist()))
    x[..., 1] = 3.0
    with pytest.warns(
        PalateWarning, match="one value in every response, of which nothing is learnt: faithfulness"
    ):
        model = RewardModel("features", feature_names=NAMES).fit(data.with_columns(features=x.tolist()))
    assert model.explain()["weight"][1] == 0
    with pytest.raises(DataError, match="vectors of length 3 for 2 named features"):
        RewardModel("features", feature_names=NAMES[:2]).fit(data)
    with pytest.raises(ConfigError, match="holds a name twice"):
        RewardModel("features", feature_names=["a", "a", "b"]).fit(data)


WORDS = ("good", "bad", "fine", "poor", "great")


def good(prompts: list[str], responses: list[str]) -> list[float]:
    return [float(sum(r.count(w) for w in ("good", "great"))) for r in responses]


def bad(prompts: list[str], responses: list[str]) -> list[float | None]:
    return [None if "?" in r else float(sum(r.count(w) for w in ("bad", "poor"))) for r in responses]


def texts(n: int = 200, seed: int = 0) -> PreferenceData:
    """Two texts each; the one with more good and fewer bad words wins with the odds of a logistic model."""
    rng = np.random.default_rng(seed)
    pairs = [[" ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(2)] for _ in range(n)]
    worth = np.array([[g - 2 * b for g, b in zip(good([], p), bad([], p), strict=True)] for p in pairs])
    first = rng.random(n) < 1 / (1 + np.exp(worth[:, 1] - worth[:, 0]))
    return PreferenceData.from_columns(
        {
            "prompt": ["review"] * n,
            "responses": pairs,
            "scores": np.stack([first, ~first], 1).astype(float).tolist(),
        }
    )


def judge(*names: str, **options: Any) -> FeatureJudge:
    every: dict[str, Any] = {"good": good, "bad": bad, "words": LengthJudge("words")}
    return FeatureJudge({name: every[name] for name in names or every}, **{"scale": (0, 20), **options})


def test_a_judge_of_features_makes_a_reward_model_of_texts() -> None:
    data = texts()
    model = RewardModel(judge(), l2=1e-3).fit(data)
    weight = dict(model.explain().select("feature", "weight").rows())
    assert weight["good"] == pytest.approx(1.0, abs=0.6)
    assert weight["bad"] == pytest.approx(-2.0, abs=0.8)
    stored = judge().add_features(data)
    fixed = RewardModel("features", feature_names=judge().names, l2=1e-3).fit(stored)
    assert fixed.score_data(stored).scores == pytest.approx(model.score_data(data).scores, abs=1e-4)
    assert model.predict_proba(["p"], ["good great"], ["bad"])[0, 0] > 0.9


def test_a_saved_model_takes_its_features_by_name_from_a_judge_in_another_order(tmp_path: Path) -> None:
    model = RewardModel(judge(), l2=1e-3).fit(texts())
    folder = model.save(tmp_path / "reward")
    some = ["good bad", "great", "poor poor fine"]
    expected = model.score([""] * 3, some).scores
    again = RewardModel.load(folder, encoder=judge("words", "bad", "good"))
    assert again.feature_names_ == ("good", "bad", "words")
    assert again.score([""] * 3, some).scores == pytest.approx(expected, abs=1e-12)
    alone = RewardModel.load(folder)
    values = {name: judge(name).score([""] * 3, some).scores[:, 0] for name in ("words", "good", "bad")}
    assert alone.score_features(values) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ConfigError, match=r"reads no text; .*RewardModel.load\(folder, encoder=judge\)"):
        alone.score([""], ["good"])
    with pytest.raises(ConfigError, match="does not score the features of this model; they differ in bad"):
        RewardModel.load(folder, encoder=judge("good", "words"))
    resaved = RewardModel.load(again.save(tmp_path / "again"), encoder=judge())
    assert resaved.score([""] * 3, some).scores == pytest.approx(expected, abs=1e-12)
    nameless = RewardModel("features").fit(votes(30)[2]).save(tmp_path / "nameless")
    with pytest.raises(ConfigError, match="holds no model of named features"):
        RewardModel.load(nameless, encoder=judge())


def test_what_a_judge_could_not_score_is_the_training_mean_or_no_score() -> None:
    data = texts(80)
    filled = RewardModel(judge(on_missing="mean"), l2=1e-3).fit(data)
    bads = judge("bad").add_features(data).flat("features").flatten().to_numpy()
    places = filled.score_features({"good": [1.0], "bad": [bads.mean()], "words": [1.0]})
    assert filled.score([""], ["good?"]).scores == pytest.approx(places, abs=1e-5)
    left = RewardModel(judge(), l2=1e-3).fit(data)
    assert np.isnan(left.score(["", ""], ["good?", "good"]).scores).tolist() == [True, False]
    asked = data.with_columns(responses=[["why?", b] for _, b in data.column("responses").to_pylist()])
    with pytest.raises(DataError, match=r"the feature 'bad' is not finite \(80 of 160"):
        RewardModel(judge()).fit(asked)
    all_asked = data.with_columns(
        responses=[[a + "?", b + "?"] for a, b in data.column("responses").to_pylist()]
    )
    with pytest.raises(DataError, match="the feature 'bad' has no value in any response"):
        RewardModel(judge(on_missing="mean")).fit(all_asked)


def test_a_squashed_reward_lies_between_0_and_1_and_keeps_the_order() -> None:
    data = texts(100)
    model = RewardModel(judge(), l2=1e-3).fit(data)
    some = [text for pair in data.column("responses").to_pylist() for text in pair]
    plain, squashed = (
        model.score([""] * 200, some).scores,
        Rescaled(model, squash=True).score([""] * 200, some).scores,
    )
    assert ((squashed > 0) & (squashed < 1)).all()
    assert np.array_equal(np.argsort(squashed, kind="stable"), np.argsort(plain, kind="stable"))


def test_only_models_of_features_are_explained() -> None:
    with pytest.raises(ConfigError, match="trains a transformer on texts"):
        RewardModel(judge(), mode="finetune").fit(texts(5))
    comparing = RewardModel("features", "gpm").fit(votes(20)[2])
    with pytest.raises(ConfigError, match="the head 'gpm' compares; it has no score to explain"):
        comparing.explain()


def test_few_automatic_judges_predict_which_summary_people_prefer(shared_data: Path) -> None:
    """OpinSummEval: preferences from the mean of four human ratings, features from four LLM judges.

    Businesses are split: 30 to learn from, 70 to test on. A learned head is held against the plain mean of
    the features.
    """
    folder = shared_data / "opinsummeval-scores"
    metrics = pl.read_parquet(folder / "metrics.parquet")
    names = [name for name in metrics.columns if name.startswith("geval_") and "normalized" not in name]
    people = (
        pl.read_parquet(folder / "ratings.parquet")
        .with_columns(
            people=pl.mean_horizontal(
                "aspect_relevance", "self_coherence", "sentiment_consistency", "readability"
            )
        )
        .group_by("item", "system").agg(pl.col("people").mean())
    )  # fmt: skip
    frame = (
        metrics.select("item", "system", *names).join(people, on=["item", "system"]).sort("item", "system")
    )
    x = frame.select(names).to_numpy().reshape(-1, 14, len(names))
    truth = frame["people"].to_numpy().reshape(-1, 14)
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": truth.tolist()})
    model = RewardModel("features", feature_names=names, l2=0.01).fit(data.take(range(30)))
    i, j = np.triu_indices(14, 1)
    gap = truth[30:, i] - truth[30:, j]

    def accuracy(scores: np.ndarray) -> float:
        return float((np.sign(scores[:, i] - scores[:, j]) == np.sign(gap))[gap != 0].mean())

    learned, mean = accuracy(model.score_features(x[30:])), accuracy(x[30:].mean(axis=2))
    assert learned > max(mean, 0.5)
