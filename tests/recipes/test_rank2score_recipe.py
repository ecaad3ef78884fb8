"""The experiment on opinion scores, and the verdict that was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.recipes.experiments.rank_then_score import Benchmark, run, simulate


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("rank2score")
    result = recipes.recorded("rank2score", pytestconfig.rootpath / "benchmarks/results/recipes")
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))
    parameters = recipe.parameters_at("small")
    again = run(0, parameters | {"methods": {"mse": parameters["methods"]["mse"]}})
    for name in ("mse/srcc", "mse/rmse", "mse/rmse_mapped"):
        assert again[name] == pytest.approx(result.values[0][name], abs=0.02)


def test_prompts_are_held_out_whole_and_opinion_scores_are_means_of_three_ratings():
    train, test = simulate(1, Benchmark(prompts=20, held_out=5))
    prompts = [set(data.values("prompt_id").tolist()) for data in (train, test)]
    assert len(prompts[0]) == 15
    assert len(prompts[1]) == 5
    assert not prompts[0] & prompts[1]
    assert np.round(3 * train.scores) == pytest.approx(3 * train.scores)
    assert train.scores.min() >= 1
    assert train.scores.max() <= 5
    assert 0.75 < (train.n_rows + test.n_rows) / 120 < 1
