"""The experiment on preferences that go in circles, and the verdict that was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.recipes.experiments.circular_preferences import (
    Simulated,
    Texts,
    game,
    pure_circle,
    run,
    simulated,
    written,
)

RESULTS = "benchmarks/results/recipes"


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("gpm")
    result = recipes.recorded("gpm", pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))


def test_a_seed_gives_the_values_that_were_recorded(pytestconfig, minilm):
    """All but the real set, whose answers take a minute to embed."""
    result = recipes.recorded("gpm", pytestconfig.rootpath / RESULTS)
    assert result is not None
    parameters = recipes.get("gpm").parameters_at("small")
    found = run(0, parameters | {"encoder": str(minilm), "instructions": None, "ridges": [0.1]})
    for name in ("texts/circle/gpm", "texts/circle/bradley_terry", "simulated/circle/gpm"):
        assert found[name] == pytest.approx(result.values[0][name], abs=0.02)


@pytest.mark.parametrize(
    ("rounds", "exploitability"), [(10, 0.2407), (100, 0.0405), (1000, 0.0157), (10000, 0.0035)]
)
def test_the_average_policy_of_the_game_is_hard_to_exploit(rounds, exploitability):
    found = game(rounds)
    assert found["game/average"] == pytest.approx(exploitability, abs=5e-5)
    assert found["game/pure"] == 1.0


def test_the_last_policy_of_the_game_does_not_converge():
    assert game(1000)["game/last"] == pytest.approx(0.26, abs=0.005)


def test_bradley_terry_calls_all_of_a_circle_equal():
    for n in (3, 4):
        found = pure_circle(n, seed=0)
        assert found[f"circle_of_{n}/bradley_terry_loss"] == pytest.approx(np.log(2), abs=1e-9)
        assert found[f"circle_of_{n}/bradley_terry"] == 0.5
        assert found[f"circle_of_{n}/gpm_loss"] < 0.01
        assert found[f"circle_of_{n}/gpm"] == 1.0


def test_each_kind_of_sentence_beats_the_next_and_none_is_seen_twice():
    train, test = written("circle", Texts(held_out=5), seed=1)
    assert (len(train), len(test)) == (3 * 15 * 15, 3 * 5 * 5)
    seen, new = (set(data.flat("responses").to_pylist()) for data in (train, test))
    assert len(seen) == 45
    assert not seen & new
    scores = train.scores.reshape(-1, 2)
    assert (scores[:, 0] > scores[:, 1]).all()
    by_length = written("scale", Texts(held_out=5), seed=1)[0].scores.reshape(-1, 2)
    longer, tied = by_length[:, 0] > by_length[:, 1], by_length[:, 0] == by_length[:, 1]
    assert longer[:225].all()
    assert 0 < tied[225:450].mean() < 1
    assert not longer[450:].any()


def test_a_simulated_circle_has_no_better_half():
    data = simulated("circle", Simulated(train=4000), seed=0)
    x = np.asarray(data.flat("features").to_pylist()).reshape(-1, 2, 10)
    won = data.scores.reshape(-1, 2)[:, 0] == 1
    difference = np.where(won[:, None], x[:, 0] - x[:, 1], x[:, 1] - x[:, 0])
    assert np.abs(difference.mean(axis=0)).max() < 0.1
