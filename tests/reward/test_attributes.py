"""Attributes are regressed where they were rated, weighed into one goodness, and spread over levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges import FeatureJudge, LengthJudge
from palate.reward import Rescaled, RewardModel, beta_levels, heads, standardize

NAMES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]


def rated(
    n: int = 60, *, aspects: tuple[str, ...] = ("clear", "short"), seed: int = 0
) -> tuple[np.ndarray, PreferenceData]:
    """Ratings of n responses on one aspect each, linear in three features, aspect after aspect."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, 3)).astype(np.float32)
    weights = rng.normal(size=(len(aspects), 3))
    which = np.arange(n) % len(aspects)
    scores = np.einsum("nf,nf->n", x[:, 0].astype(float), weights[which])[:, None]
    columns = {
        "features": x.tolist(),
        "scores": scores.tolist(),
        "aspect": [aspects[i] for i in which],
        "scale": ["interval"] * n,
    }
    return x, PreferenceData.from_columns(columns)


def test_the_mean_squared_error_is_over_the_attributes_that_were_rated() -> None:
    """One response, five attributes, one of them not rated: 0.075."""
    predicted, label = [3.1, 2.0, 3.5, 1.0, 2.2], [3.0, 2.0, 4.0, np.nan, 2.0]
    head = heads.get("attributes", names=NAMES).double()
    outputs = torch.tensor([[predicted]] * 5, dtype=torch.float64)
    read = head.read(outputs, {"aspect": torch.arange(5)})
    value = losses.get("mse")(read.scores, torch.tensor(label, dtype=torch.float64)[:, None])
    assert value.item() == pytest.approx(0.075, abs=1e-12)


@pytest.mark.parametrize(
    ("merit", "goodness"),
    [
        ({"helpfulness": 0.65, "correctness": 0.8, "coherence": 0.45}, 6.59),
        (dict(zip(NAMES, [0.65, 0.8, 0.45, 0.55, -0.4], strict=True)), 6.74),
        (dict(zip(NAMES, [0.3, 0.74, 0.46, 0.47, -0.33], strict=True)), 5.365),
        (None, (3.5 + 3.2 + 3.9 + 1.8 + 2.1) / 5),
    ],
)
def test_goodness_is_the_weighted_sum_of_the_attributes(
    merit: dict[str, float] | None, goodness: float
) -> None:
    head = heads.get("attributes", names=NAMES, merit=merit)
    outputs = torch.tensor([3.5, 3.2, 3.9, 1.8, 2.1], dtype=torch.float64)
    assert head.score(outputs).item() == pytest.approx(goodness, abs=1e-9)


def test_a_learned_merit_finds_how_overall_judgments_weigh_the_aspects() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(900, 1, 3)).astype(np.float32)
    weights = np.array([[1.0, 0.0, 0.5], [0.0, -2.0, 0.0]])
    values = x[:, 0].astype(float) @ weights.T
    which = np.arange(900) % 3
    scores = np.where(which == 2, values @ [0.9, -0.3], values[np.arange(900), which.clip(max=1)])
    data = PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": scores[:, None].tolist(),
            "aspect": [("clear", "loud", None)[i] for i in which],
            "scale": ["interval"] * 900,
        }
    )
    learned = RewardModel(
        "features", "attributes", "mse", head_params={"learn_merit": True}, l2=0.0, tolerance=1e-9
    )
    learned.fit(data)
    assert learned.head_.merit.detach().numpy() == pytest.approx([0.9, -0.3], abs=1e-3)  # type: ignore[union-attr]
    given = RewardModel("features", "attributes", "mse", head_params={"merit": {"clear": 1.0}}, l2=0.0).fit(
        data
    )
    assert given.head_.merit.tolist() == [1.0, 0.0]  # type: ignore[union-attr]


def test_an_attribute_that_never_changes_is_predicted_as_it_is() -> None:
    _, data = rated(40)
    scores = data.scores.copy()
    scores[::2] = 2.5
    flat = data.with_columns(scores=scores[:, None].tolist())
    model = RewardModel("features", "attributes", "mse", l2=0.0).fit(flat)
    frame = model.scorer_.features(np.zeros((1, 3)))
    assert frame[0, 0] == pytest.approx(2.5, abs=1e-4)


def test_attributes_that_nothing_teaches_are_refused_by_name() -> None:
    _, data = rated(20)
    with pytest.raises(DataError, match="no judgment to learn 'brief' from"):
        RewardModel("features", "attributes", "mse", head_params={"names": ["clear", "short", "brief"]}).fit(
            data
        )
    pairs = PreferenceData.from_columns(
        {
            "features": [[[0.0], [1.0]], [[1.0], [3.0]]],
            "scores": [[1.0, 0.0], [1.0, 1.0]],
            "aspect": ["clear", "short"],
        }
    )
    with pytest.raises(DataError, match="no judgment to learn 'short' from"):
        RewardModel("features", "attributes").fit(pairs)
    with pytest.raises(DataError, match="row 2, field 'aspect': unknown aspect 'short'"):
        RewardModel("features", "attributes", "mse", head_params={"names": ["clear"]}).fit(data)
    overall = PreferenceData.from_columns({"features": [[[0.0], [1.0]]], "scores": [[1.0, 0.0]]})
    with pytest.raises(DataError, match="learns aspects, and no judgment names one"):
        RewardModel("features", "attributes").fit(overall)


def test_merit_can_be_learned_after_the_attributes_from_overall_judgments_alone() -> None:
    x, data = rated(80)
    first = RewardModel("features", "attributes", "mse", head_params={"learn_merit": True}, l2=0.0).fit(data)
    outputs = first.scorer_.features(x.astype(float))[:, 0]
    overall = PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": (outputs @ [2.0, -1.0])[:, None].tolist(),
            "scale": ["interval"] * 80,
        }
    )
    params = {"names": ["clear", "short"], "learn_merit": True}
    second = RewardModel("features", "attributes", "mse", head_params=params, l2=10.0, pull="start")
    second.fit(overall, init=first)
    assert second.score_features(x[:, 0]) == pytest.approx(outputs @ [2.0, -1.0], abs=1e-2)
    moved = second.scorer_.features(x.astype(float))[:, 0] - outputs
    assert np.ptp(moved, axis=0).max() < 1e-3  # their slopes stay; intercepts are not held


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "needs the names of its aspects"),
        ({"names": ["a", "b", "a"]}, "names the aspect 'a' twice"),
        ({"names": ["a", "overall"]}, "'overall' is the weighted sum"),
        (
            {"names": ["clear"], "merit": {"claer": 1.0}},
            "unknown aspect in merit 'claer'; did you mean 'clear'",
        ),
        ({"names": ["a"], "merit": {"a": float("nan")}}, "the merit of 'a' is nan"),
        ({"nams": ["a"]}, "unknown parameter of the head 'attributes': 'nams'; did you mean 'names'"),
    ],
)
def test_names_and_merits_are_checked_when_the_head_is_built(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        heads.get("attributes", **params)


def written(n: int, seed: int = 0) -> PreferenceData:
    """Texts rated on two aspects: their number of words, and of exclamation marks."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(["word"] * int(w)) + "!" * int(e) for w, e in rng.integers(1, 9, size=(n, 2))]
    values = {"long": [float(len(t.split())) for t in texts], "loud": [float(t.count("!")) for t in texts]}
    return PreferenceData.from_columns(
        {
            "responses": [[t] for t in texts] * 2,
            "scores": [[v] for v in values["long"] + values["loud"]],
            "aspect": ["long"] * n + ["loud"] * n,
            "scale": ["interval"] * 2 * n,
        }
    )


def reader() -> FeatureJudge:
    marks = {"marks": lambda prompts, responses: [r.count("!") for r in responses]}
    return FeatureJudge({"words": LengthJudge("words"), **marks}, (0, 100))


def test_attributes_come_as_a_table_with_their_goodness() -> None:
    merit = {"long": 1.0, "loud": -0.5}
    model = RewardModel(reader(), "attributes", "mse", head_params={"merit": merit}, l2=0.0).fit(written(40))
    frame = model.attributes(["", ""], ["one two!!", "one"])
    assert frame.columns == ["long", "loud", "goodness"]
    assert frame.to_numpy() == pytest.approx(np.array([[2, 2, 1], [1, 0, 1]]), abs=1e-3)
    assert frame["goodness"].to_numpy() == pytest.approx(model.score(["", ""], ["one two!!", "one"]).scores)
    with pytest.raises(ConfigError, match="the head 'scalar' scores no aspects"):
        RewardModel(reader(), loss="mse").fit(written(9).filter(aspect="long")).attributes([""], ["a"])
    with pytest.raises(ConfigError, match="one prompt per response; got 1 and 2"):
        model.attributes([""], ["a", "b"])


def test_standardized_scores_have_mean_zero_and_spread_one_and_keep_the_order() -> None:
    data = written(50)
    model = RewardModel(reader(), "attributes", "mse", l2=0.0).fit(data)
    texts = [group[0] for group in data.column("responses").to_pylist()]
    before = model.score([""] * len(texts), texts).scores
    judge = standardize(model, data)
    after = judge.score([""] * len(texts), texts).scores
    assert (after.mean(), after.std()) == pytest.approx((0.0, 1.0), abs=1e-9)
    assert np.array_equal(np.argsort(after, kind="stable"), np.argsort(before, kind="stable"))
    squashed = standardize(model, data, squash=True).score([""] * len(texts), texts).scores
    assert ((squashed > 0) & (squashed < 1)).all()
    assert squashed == pytest.approx(1 / (1 + np.exp(-after)))
    one = PreferenceData.from_columns({"responses": [["a"]], "scores": [[1.0]]})
    with pytest.raises(DataError, match="1 scores of 'reward_model' that do not differ"):
        standardize(model, one)
    with pytest.raises(ConfigError, match="no single score to rescale"):
        Rescaled(reader())
    with pytest.raises(ConfigError, match="cannot rescale by centre"):
        Rescaled(model, spread=0.0)


def test_levels_have_the_worked_probabilities() -> None:
    assert beta_levels(3.2) == pytest.approx([0, 0.000025, 0.014928, 0.444089, 0.540958], abs=6e-7)
    middle = beta_levels(2.0)
    assert middle == pytest.approx([0.000597, 0.163046, 0.672713, 0.163046, 0.000597], abs=6e-7)
    assert middle == pytest.approx(middle[::-1], abs=1e-15)
    for end, level in ((0.0, 0), (4.0, 4), (-3.0, 0), (9.0, 4)):
        assert beta_levels(end)[level] == pytest.approx(0.999998, abs=5e-7)
        assert (beta_levels(end) > 0).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 5.5), st.integers(2, 9), st.floats(0.5, 100))
def test_levels_are_the_fifths_of_a_beta_distribution_on_any_scale(
    prediction: float, levels: int, concentration: float
) -> None:
    found = beta_levels(prediction, levels, concentration, low=1.0, high=5.0)
    r = np.clip((prediction - 1) / 4, 1e-4, 1 - 1e-4)
    expected = np.diff(beta(concentration * r, concentration * (1 - r)).cdf(np.arange(levels + 1) / levels))
    assert found == pytest.approx(expected, abs=1e-12)
    assert found.sum() == pytest.approx(1.0)
    mirrored = beta_levels(6 - prediction, levels, concentration, low=1.0, high=5.0)
    assert mirrored[::-1] == pytest.approx(found, abs=1e-12)


def test_unlikely_levels_keep_their_logarithm() -> None:
    """A difference of two cumulative probabilities near 1 would be 0 here, and its logarithm infinite."""
    low, high = np.log(beta_levels([0.0, 4.0]))
    assert low[4] == pytest.approx(-47.611, abs=1e-3)
    assert low == pytest.approx(high[::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "a scale needs two levels"),
        ({"concentration": 0.0}, "concentration must be above 0"),
        ({"low": 4.0, "high": 0.0}, "must go up"),
        ({"prediction": [1.0, float("nan")]}, "field 'prediction': a predicted rating that is not finite"),
    ],
)
def test_levels_of_no_scale_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        beta_levels(**{"prediction": 2.0, **options})


def test_human_ratings_of_summaries_are_regressed_better_than_by_their_mean(shared_data: Path) -> None:
    """OpinSummEval: four attributes, two annotators each, from four automatic judges of the same names."""
    folder = shared_data / "opinsummeval-scores"
    names = {
        "aspect_relevance": "geval_Aspect Relevance", "self_coherence": "geval_Self-Coherence",
        "sentiment_consistency": "geval_Sentiment Consistency", "readability": "geval_Readability",
    }  # fmt: skip
    metrics = pl.read_parquet(folder / "metrics.parquet").select("item", "system", *names.values())
    rows = pl.read_parquet(folder / "ratings.parquet").join(metrics, on=["item", "system"])
    long = rows.unpivot(
        list(names), index=["item", *names.values()], variable_name="aspect", value_name="rating"
    )
    data = PreferenceData.from_columns(
        {
            "prompt_id": long["item"].cast(pl.String).to_list(),
            "features": long.select(pl.concat_list(names.values())).to_series().map_elements(
                lambda v: [v.to_list()], return_dtype=pl.List(pl.List(pl.Float64))
            ).to_list(),
            "scores": long["rating"].to_numpy()[:, None].tolist(),
            "aspect": long["aspect"].to_list(),
            "scale": ["interval"] * len(long),
        }
    )  # fmt: skip
    train, test = data.split(0.3, by="prompt", seed=0)
    model = RewardModel("features", "attributes", "mse", feature_names=list(names.values()), l2=1e-3).fit(
        train
    )
    outputs = model.scorer_.data(test)
    codes, found = test.codes("aspect")
    at = np.array([model.head_.aspects.index(name) for name in found])[codes]
    error = (outputs[np.arange(len(at)), at] - test.scores) ** 2
    train_codes, train_names = train.codes("aspect")
    for number, name in enumerate(found):
        constant = train.scores[train_codes == train_names.index(name)].mean()
        some = codes == number
        assert error[some].mean() < ((test.scores[some] - constant) ** 2).mean(), name
