"""The recipe on classifying with preferences, and its simulated votes."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.errors import ConfigError
from palate.recipes.experiments.prefer_to_classify import Setting, run, simulate

RESULTS = "benchmarks/results/recipes"


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("p2c")
    result = recipes.recorded(recipe.name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))
    assert result.notes == list(recipe.notes)


def test_a_seed_gives_the_values_that_were_recorded(pytestconfig):
    parameters = recipes.get("p2c").parameters_at("small")
    one = {**parameters, "settings": {"latent": parameters["settings"]["latent"]}}
    found = run(0, {**one, "methods": {"p2c_margin": parameters["methods"]["p2c_margin"]}})
    recorded = recipes.recorded("p2c", pytestconfig.rootpath / RESULTS).values[0]
    assert found == pytest.approx({name: recorded[name] for name in found}, abs=0.015)


def test_votes_go_along_with_the_latent_score_and_labels_are_the_majority():
    votes = simulate(0, Setting(data="latent", points=4000, sharpness=3.0))[1]
    assert (votes.sum(axis=1) == 5).all()
    unanimous = (votes.max(axis=1) == 5).mean()
    assert 0.3 < unanimous < 0.6
    coins = simulate(0, Setting(data="latent", points=4000, sharpness=0.0))[1]
    assert (coins.max(axis=1) == 5).mean() == pytest.approx(2 / 32, abs=0.02)


def test_digits_are_large_where_most_votes_say_so():
    x, votes = simulate(1, Setting(data="digits", sharpness=50.0))
    assert x.shape == (1797, 64)
    sklearn = pytest.importorskip("sklearn.datasets")
    large = sklearn.load_digits().target > 4
    assert votes.argmax(axis=1).sum() == large.sum()
    assert not np.array_equal(x, simulate(2, Setting(data="digits"))[0])


def test_every_method_is_measured_and_unknown_parameters_are_refused():
    plan = {
        "settings": {"latent": {"data": "latent", "points": 120, "features": 4, "train": 40}},
        "methods": {"hard": {"lambda_pref": 0.0, "lambda_cons": 0.0, "lambda_div": 0.0}},
        "model": {"training": {"steps": 2}, "hidden": [4]},
    }
    found = run(0, plan)
    assert set(found) == {"latent/hard/accuracy", "latent/hard/ece", "latent/hard/ece_x0.5"}
    assert found["latent/hard/ece_x0.5"] == 0.5 * found["latent/hard/ece"]
    with pytest.raises(ConfigError, match="parameters of prefer_to_classify"):
        run(0, {**plan, "bin": 3})
    chosen = {"latent": {**plan["settings"]["latent"], "methods": ["easy"]}}
    with pytest.raises(ConfigError, match="unknown method of the setting 'latent' 'easy'"):
        run(0, {**plan, "settings": chosen})
