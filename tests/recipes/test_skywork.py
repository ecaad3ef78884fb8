"""The experiment on guided curation, and the verdict that was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.errors import ConfigError
from palate.recipes.experiments.guided_curation import Parameters, run, simulated

RESULTS = "benchmarks/results/recipes"
SMALL = Parameters(wild=2000, pool=2000, gold=300, test=100)


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("skywork-reward-v2")
    result = recipes.recorded(recipe.name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))


def test_a_seed_gives_the_values_that_were_recorded(pytestconfig):
    recipe = recipes.get("skywork-reward-v2")
    result = recipes.recorded(recipe.name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    found = run(1, recipe.parameters_at("small"))
    for name, value in result.values[1].items():
        assert found[name] == pytest.approx(value, rel=0.02, abs=0.005), name


def test_wrong_labels_are_as_many_as_stated_and_the_others_are_right():
    world = simulated(3, SMALL)
    # Half of the labels by the other criterion are right by chance.
    assert world["wild"].right.mean() == pytest.approx(1 - SMALL.wrong / 2, abs=0.04)
    assert world["gold"].right.mean() == pytest.approx(1 - SMALL.gold_noise, abs=0.05)
    assert world["test"].right.all()
    wild = world["wild"].data
    assert np.array_equal(wild.scores.reshape(-1, 2).sum(axis=1), np.ones(wild.n_rows))


def test_without_wrong_labels_the_filter_has_little_to_flip():
    plan = SMALL.model_copy(update={"wrong": 0.0, "gold_noise": 0.0, "test": 1000})
    clean = run(0, plan.model_dump())
    assert clean["wild_right"] == clean["kept_right"] == 1.0
    assert clean["flipped"] < 0.02
    assert clean["uncurated"] > clean["gold_only"]


def test_unknown_parameters_are_refused():
    with pytest.raises(ConfigError, match="guided_curation"):
        run(0, {"wlid": 3})
