"""Sources that drift from a shared preference, weighed in one way after another."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from palate import recipes
from palate.errors import ConfigError
from palate.recipes.experiments.source_weights import Sources, run, simulate

RESULTS = "benchmarks/results/recipes"
SHORT = {
    "sources": {"sizes": [60, 20, 20], "scales": [3.0, 1.0, 1.0], "features": 4, "test": 500},
    "training": {"steps": 20, "batch_size": 9, "learning_rate": 0.05},
    "methods": {
        "pooled": {"stratify": False},
        "even": {},
        "uniform": {"more": {"weighting": "uniform"}},
        "more_l2": {"more": {"normalize": "l2"}},
    },
}


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig):
    recipe = recipes.get("more")
    result = recipes.recorded("more", pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))


def test_votes_follow_the_shared_preference_and_the_drift_of_their_source():
    plan = Sources(sizes=[4000, 4000], scales=[3.0, 1.0], features=5, shared=1.0, drift=0.0, test=4000)
    train, test = simulate(0, plan)
    assert train.source.tolist() == ["source-1"] * 4000 + ["source-2"] * 4000
    spread = [train.features[part].std() for part in (slice(4000), slice(4000, None))]
    assert spread == pytest.approx([3.0, 1.0], rel=0.02)
    # Without drift all share one direction, along which the mean difference of winner and loser points; on it
    # the votes are right as often as its length of 1 says.
    gaps = [votes.features[:, 0] - votes.features[:, 1] for votes in (train, test)]
    means = [gaps[0][:4000].mean(0), gaps[0][4000:].mean(0), gaps[1].mean(0)]
    for one in means:
        assert one @ means[2] / np.linalg.norm(one) / np.linalg.norm(means[2]) > 0.99
    shared = means[2] / np.linalg.norm(means[2])
    won = expit(np.abs(gaps[1] @ shared))
    assert ((gaps[1] @ shared) > 0).mean() == pytest.approx(won.mean(), abs=0.03)


def test_equal_weights_are_even_batches_and_solved_ones_are_not():
    values = run(0, SHORT)
    assert values["uniform/ece"] == pytest.approx(values["even/ece"], abs=1e-9)
    assert values["uniform/accuracy"] == values["even/accuracy"]
    assert values["more_l2/ece"] != values["even/ece"]
    assert values["pooled/ece_x0.7"] == pytest.approx(0.7 * values["pooled/ece"])


def test_a_parameter_out_of_range_is_named():
    with pytest.raises(ConfigError, match=r"source_weights: field 'sources.sizes'"):
        run(0, {**SHORT, "sources": {"sizes": [3], "scales": [1.0]}})
