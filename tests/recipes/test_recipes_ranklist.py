"""The first recipe, and its losses on real ratings."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from palate import recipes
from palate.errors import ConfigError
from palate.recipes.experiments import linear_ranking
from palate.recipes.experiments.linear_ranking import Method, Setting, draw_batches, run, train_linear

RESULTS = "benchmarks/results/recipes"


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("ranklist")
    result = recipes.recorded("ranklist", pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))
    assert {check.method for check in result.checks} == {check.method for check in recipe.checks}


def test_a_seed_gives_the_values_that_were_recorded(pytestconfig):
    result = recipes.recorded("ranklist", pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert run(0, recipes.get("ranklist").parameters_at("small")) == pytest.approx(result.values[0], abs=0.01)


@pytest.mark.parametrize("sampling", ["epochs", "independent"])
def test_every_step_gets_its_lists_and_no_list_repeats_an_item(sampling):
    batches = draw_batches(
        np.arange(30.0), Setting(data="", steps=7, lists_per_step=2, sampling=sampling), seed=0
    )
    assert batches.shape == (7, 2, 8)
    for row in batches.reshape(-1, 8):
        used = row[row >= 0]
        assert len(set(used)) == len(used) >= 2


@pytest.mark.parametrize(
    "method",
    [
        Method(loss="ranknet", group=2), Method(loss="ranknet"), Method(loss="listmle"),
        Method(loss="listnet"), Method(loss="ranklist"),
        Method(loss="ranklist", parameters={"min_margin": 1.0}),
        Method(loss="ranklist", parameters={"skips": "progressive", "form": "exact"}),
    ],
    ids=lambda method: "-".join([method.loss, *map(str, method.parameters.values())]),
)  # fmt: skip
def test_wines_are_ranked_as_well_as_by_linear_regression(method, shared_data):
    wines = pl.read_parquet(shared_data / "wine-quality" / "wine_quality.parquet").filter(
        pl.col("colour") == "red"
    )
    features = wines.drop("colour", "quality").to_numpy().astype(float)
    quality = wines["quality"].to_numpy().astype(float)
    order = np.random.default_rng(0).permutation(len(quality))
    train, test = order[:1000], order[1000:]
    scaled = (features - features[train].mean(0)) / features[train].std(0)
    batches = draw_batches(quality[train], Setting(data="wine", lists_per_step=8), seed=0)
    weights = train_linear(scaled[train], quality[train], batches, method, 0.02)
    regression = np.linalg.lstsq(scaled[train], quality[train] - quality[train].mean(), rcond=None)[0]
    floor = kendalltau(scaled[test] @ regression, quality[test]).statistic
    assert floor > 0.4
    assert kendalltau(scaled[test] @ weights, quality[test]).statistic > floor - 0.03


def test_a_recipe_that_reads_the_users_data_says_which_files_it_misses(tmp_path):
    with pytest.raises(ConfigError, match=r"no data folder was given \(--data\): crema-d/votes.parquet"):
        recipes.run("ranklist-ratings")
    with pytest.raises(ConfigError, match=r"lacks files: crema-d/votes.parquet .*wine_quality.parquet"):
        recipes.run("ranklist-ratings", data=tmp_path)


def test_real_ratings_are_read_from_the_users_folder(shared_data):
    folder = str(shared_data)
    wine = linear_ranking.wine_quality(0, items=100, test_items=50, folder=folder)
    speech = linear_ranking.speech_emotion(0, items=100, test_items=50, folder=folder)
    assert wine.features.shape == (100, 12)
    assert speech.features.shape == (100, 14)
    assert len(wine.test_worth) == len(speech.test_worth) == 50
    assert abs(speech.labels.mean()) < 1e-9
