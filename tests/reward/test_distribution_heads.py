"""Reward models that learn distributions of labels, ordered levels, and sums of losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.reward import RewardModel

HEADS = [
    ("bins", "two_hot", {}),
    ("gaussian", "gaussian", {}),
    ("quantiles", "quantile", {"delta": 0.05}),
]


def ratings(n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray, PreferenceData]:
    """Features (x, z) with one rating each: mean 2 x, and a spread of 0.5 or 1.5 by the sign of z."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    x[:, 1] = np.sign(x[:, 1])
    y = 2 * x[:, 0] + np.where(x[:, 1] > 0, 1.5, 0.5) * rng.normal(size=n)
    return x, y, data_of(x, y)


def data_of(x: np.ndarray, y: np.ndarray) -> PreferenceData:
    return PreferenceData.from_columns({"features": x[:, None].tolist(), "scores": y[:, None].tolist()})


@pytest.mark.parametrize(("head", "loss", "params"), HEADS)
def test_a_distribution_knows_its_mean_and_where_it_is_wide(
    head: str, loss: str, params: dict[str, Any]
) -> None:
    x, _, data = ratings()
    # A linear model of logits over bins has no constant width; hidden units give it one.
    hidden = (16,) if head == "bins" else ()
    model = RewardModel("features", head, loss, loss_params=params, l2=1e-4, hidden=hidden).fit(data)
    found = model.score_data(data)
    assert found.scores.shape == (1500, 1)
    assert np.corrcoef(found.scores[:, 0], 2 * x[:, 0])[0, 1] > 0.97
    assert found.spread is not None
    wide = x[:, 1] > 0
    assert found.spread[wide].mean() == pytest.approx(1.5, abs=0.25)
    assert found.spread[~wide].mean() == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize(("head", "loss", "params"), HEADS)
def test_saved_and_loaded_it_has_the_same_scores_and_spread(
    head: str, loss: str, params: dict[str, Any], tmp_path: Path
) -> None:
    data = ratings(200)[2]
    model = RewardModel("features", head, loss, loss_params=params).fit(data)
    again = RewardModel.load(model.save(tmp_path / head))
    first, second = model.score_data(data), again.score_data(data)
    assert np.array_equal(first.scores, second.scores)
    assert np.array_equal(first.spread, second.spread)


@pytest.mark.parametrize("head", ["bins", "gaussian", "quantiles"])
def test_pairs_train_the_mean_of_a_distribution_but_teach_it_no_spread(head: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 2, 3))
    first = rng.random(800) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 1]) @ [1.0, -2.0, 0.0]))
    scores = np.stack([first, ~first], axis=1).astype(float)
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})
    params = {"low": -5.0, "high": 5.0} if head == "bins" else {}
    model = RewardModel("features", head, head_params=params, l2=1e-3).fit(data)
    found = model.score_data(data)
    margin = found.scores[:, 0] - found.scores[:, 1]
    assert np.corrcoef(margin, (x[:, 0] - x[:, 1]) @ [1.0, -2.0, 0.0])[0, 1] > 0.97
    assert found.spread is None
    assert model.calibrated


def test_a_rating_and_a_preference_can_be_learnt_at_once() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3, 2))
    y = x @ [1.0, -1.0] + 0.3 * rng.normal(size=(400, 3))
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": y.tolist()})
    model = RewardModel("features", "gaussian", "gaussian + bradley_terry", l2=1e-4).fit(data)
    assert model.n_groups_ == 400  # whole judgments, as pairs would lose the ratings
    found = model.score_data(data)
    assert found.scores == pytest.approx(x @ [1.0, -1.0], abs=0.3)
    assert found.spread is not None


@pytest.mark.parametrize(
    ("head", "loss", "wanted"),
    [
        ("scalar", "two_hot", "bins"),
        ("bins", "gaussian", "gaussian"),
        ("gaussian", "quantile + 0.1*magnitude", "quantiles"),
    ],
)
def test_a_loss_of_distributions_names_the_head_it_needs(head: str, loss: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"reads a distribution; it needs head='{wanted}', got '{head}'"):
        RewardModel("features", head, loss).fit(ratings(20)[2])


def test_bins_span_the_ratings_unless_they_are_told() -> None:
    x, y, data = ratings(100)
    model = RewardModel("features", "bins", "two_hot", head_params={"bins": 5}).fit(data)
    support = model.head_.support
    assert support[[0, -1]].tolist() == pytest.approx([y.min(), y.max()])
    assert len(support) == 5
    with pytest.raises(
        DataError, match="lies outside the bins from 0 to 1; correct the label, or give the head"
    ):
        RewardModel("features", "bins", "two_hot", head_params={"low": 0, "high": 1}).fit(data)
    with pytest.raises(DataError, match=r"field 'scores': all scores are 1, which spans no bins"):
        RewardModel("features", "bins", "two_hot").fit(data_of(x, np.ones(100)))
    for params, message in (
        ({"low": 1.0, "high": 0.0}, "needs low below high"),
        ({"low": 0.0, "high": 1.0, "bins": 1}, "needs 2 bins or more; got 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            RewardModel("features", "bins", "two_hot", head_params=params).fit(data)
    with pytest.raises(ConfigError, match="needs 2 quantiles or more; got 1"):
        RewardModel("features", "quantiles", "quantile", head_params={"quantiles": 1}).fit(data)


def test_quantiles_hold_the_share_of_ratings_that_they_say() -> None:
    x, y, data = ratings()
    model = RewardModel("features", "quantiles", "quantile", loss_params={"delta": 0.05}, l2=1e-4).fit(data)
    quantiles = model.scorer_.features(x)
    below = (y[:, None] < quantiles).mean(0)
    assert below == pytest.approx(model.head_.support.numpy(), abs=0.04)


def stars(n: int = 1200) -> tuple[np.ndarray, np.ndarray, PreferenceData]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    y = np.digitize(x @ [1.5, -0.5] + rng.logistic(size=n), [-2.0, -1.5, 1.0, 1.2]) + 1.0
    return x, y, data_of(x, y)


def test_an_ordinal_loss_learns_its_cutpoints_and_keeps_them(tmp_path: Path) -> None:
    models = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    x, y, data = stars()
    model = RewardModel("features", loss="ordinal", l2=0.0, tolerance=1e-9).fit(data)
    peer = models.OrderedModel(y, x, distr="logit").fit(method="bfgs", disp=False)
    found = torch.tensor(model.score_data(data).scores[:, 0])
    wanted = peer.model.predict(peer.params, x)
    assert model.loss_.probabilities(found).detach().numpy() == pytest.approx(wanted, abs=1e-3)
    again = RewardModel.load(model.save(tmp_path / "ordinal"))
    assert again.loss_.levels == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert again.loss_.cutpoints.tolist() == model.loss_.cutpoints.tolist()
    assert again.loss_.expected(found).tolist() == pytest.approx(list(wanted @ np.arange(1.0, 6.0)), abs=5e-3)
    assert not model.calibrated


def test_an_ordinal_loss_trains_in_steps_too() -> None:
    x, _, data = stars()
    settings = {"steps": 150, "batch_size": 64, "learning_rate": 0.05}
    model = RewardModel("features", loss="ordinal", training=settings).fit(data)
    assert spearmanr(model.score_data(data).scores[:, 0], x @ [1.5, -0.5]).statistic > 0.97
    start = RewardModel("features", loss="ordinal", training=settings | {"steps": 1}).fit(data)
    assert model.loss_.cutpoints.tolist() != pytest.approx(start.loss_.cutpoints.tolist(), abs=0.05)


def test_centering_takes_the_level_of_scores_to_0_and_leaves_their_order() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2, 3))
    value = np.tanh(2 * x[..., 0]) + x[..., 1] ** 2
    scores = (value == value.max(axis=1, keepdims=True)).astype(float)
    data = PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})

    def level_and_accuracy(loss: str) -> tuple[float, float]:
        model = RewardModel("features", loss=loss, hidden=(8,), l2=1e-3).fit(data)
        found = model.score_data(data).scores
        assert model.calibrated
        won = (found[:, 0] > found[:, 1]) == (scores[:, 0] > scores[:, 1])
        return abs(float(found.mean())), float(won.mean())

    plain, centred = level_and_accuracy("bradley_terry"), level_and_accuracy("bradley_terry + 0.1*centering")
    assert plain[0] > 0.2
    assert centred[0] < 0.02
    assert centred[1] > 0.9


@pytest.mark.parametrize("loss", ["scaled_bradley_terry", "margin_bradley_terry"])
def test_the_strength_of_a_preference_is_the_difference_of_the_scores_or_a_named_column(loss: str) -> None:
    rng = np.random.default_rng(0)
    x, strength = rng.normal(size=(300, 2, 3)), rng.integers(1, 4, 300).astype(float)
    chosen = np.stack([np.ones(300), np.zeros(300)], axis=1)
    graded = PreferenceData.from_columns(
        {"features": x.tolist(), "scores": (chosen * strength[:, None]).tolist()}
    )
    told = PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": chosen.tolist(),
            "metadata": [json.dumps({"m": m}) for m in strength],
        }
    )
    by_scores = RewardModel("features", loss=loss).fit(graded).score_data(graded).scores
    by_column = (
        RewardModel("features", loss=loss, columns={"strength": "m"}).fit(told).score_data(told).scores
    )
    plain = RewardModel("features", loss=loss).fit(told).score_data(told).scores
    assert by_scores == pytest.approx(by_column, abs=1e-9)
    assert np.abs(by_scores - plain).max() > 0.01


def test_levels_of_real_wines_are_as_likely_as_predicted(shared_data: Path) -> None:
    frame = pl.read_parquet(shared_data / "wine-quality" / "wine_quality.parquet")
    frame = frame.filter(pl.col("colour") == "red").unique(maintain_order=True)
    y = frame["quality"].to_numpy().astype(float)
    x = frame.drop("quality", "colour").to_numpy().astype(float)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[: len(y) * 2 // 3], order[len(y) * 2 // 3 :]
    model = RewardModel("features", loss="ordinal", loss_params={"levels": sorted(set(y))}, l2=0.01)
    model.fit(data_of(x[train], y[train]))
    scores = model.score_features(x[test])
    predicted = model.loss_.probabilities(torch.tensor(scores)).detach().numpy().mean(0)
    happened = np.array([(y[test] == level).mean() for level in model.loss_.levels])
    assert predicted == pytest.approx(happened, abs=0.04)
    assert spearmanr(scores, y[test]).statistic > 0.5
