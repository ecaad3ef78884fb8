"""The recipe on votes that follow content and style."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.recipes.experiments.vote_scaling import Parameters, Votes, run

RESULTS = "benchmarks/results/recipes"
SMALL = {"votes": [100, 300, 1000, 3000], "test": 1000, "human": [50], "penalties": [1.0, 16.0]}


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("worldpm")
    result = recipes.recorded(recipe.name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))
    assert result.notes == list(recipe.notes)


def test_the_recorded_loss_halves_and_falls_to_ten_thousand_votes(pytestconfig):
    checks = recipes.recorded("worldpm", pytestconfig.rootpath / RESULTS).checks
    held = {(check.method, check.baseline): check.holds for check in checks}
    assert held[("adversarial/loss_30000", "adversarial/half_loss_100")]
    assert held[("tuned_50", "scratch_50")]
    assert not held[("tuned_200", "scratch_200")]
    assert held[("tuned_5000", "scratch_5000")]


def test_a_small_run_shows_the_fall_and_the_better_start():
    found = run(0, SMALL)
    losses = [found[f"adversarial/loss_{n}"] for n in SMALL["votes"]]
    assert losses[0] > losses[1] > losses[3]
    assert found["adversarial/half_loss_100"] == pytest.approx(losses[0] / 2)
    assert found["fair/accuracy_3000"] > found["adversarial/accuracy_3000"] > 0.5
    assert found["fixed_tuned_50"] > found["fixed_scratch_50"]
    assert run(0, SMALL) == found


def test_adversarial_pairs_have_the_worse_content_in_the_better_style():
    world = Votes(0, Parameters(votes=[1, 2, 3, 4], human=[1]))
    x, first = world.pairs(500, adversarial=True)
    worth = x[..., :-1] @ world.taste
    assert ((worth[:, 0] > worth[:, 1]) == first).all()
    assert ((x[:, 0, -1] > x[:, 1, -1]) == ~first).all()
    assert float(world.people @ world.taste) == pytest.approx(0.8)
    assert np.linalg.norm(world.people) == pytest.approx(1.0)
