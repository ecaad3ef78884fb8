"""The recipe on voted labels, and its simulation."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.recipes.experiments.voted_labels import Labels, run, simulated

RESULTS = "benchmarks/results/recipes"


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("secrets-rlhf-2")
    result = recipes.recorded(recipe.name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))
    assert result.notes == list(recipe.notes)


def test_a_seed_gives_the_values_that_were_recorded_for_full_fits(pytestconfig):
    parameters = recipes.get("secrets-rlhf-2").parameters_at("small")
    full = {
        "full": {**parameters["settings"]["full"], "treatments": ["flip", "soft_margin"], "groups": False}
    }
    found = run(0, {**parameters, "settings": full})
    recorded = recipes.recorded("secrets-rlhf-2", pytestconfig.rootpath / RESULTS).values[0]
    assert found == pytest.approx({name: recorded[name] for name in found}, abs=0.01)


def test_noisy_voters_find_wrong_labels_at_a_small_size():
    parameters = recipes.get("secrets-rlhf-2").parameters_at("small")
    noisy = {"noisy": {**parameters["settings"]["noisy"], "treatments": ["flip"], "groups": False}}
    labels = {**parameters["labels"], "features": 20, "pairs": 500, "test": 500}
    found = run(0, {**parameters, "labels": labels, "members": 2, "settings": noisy})
    assert found["noisy/wrong_in_lowest"] > 0.7
    assert found["noisy/flip"] > found["noisy/untreated"]


def test_labels_are_votes_of_which_a_share_is_turned_round_and_test_labels_are_true():
    clean, test, chance = simulated(0, Labels(flips=0.0, pairs=4000))
    flipped, _, wrong = simulated(0, Labels(flips=0.22, pairs=4000))
    assert wrong.mean() == pytest.approx(chance.mean() + 0.22 * (1 - 2 * chance.mean()), abs=0.02)
    assert clean.n_rows == flipped.n_rows == 4000
    assert test.n_rows == 2000
    assert set(np.unique(test.scores)) == {0.0, 1.0}
