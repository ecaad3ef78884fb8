"""Recipes of named features and of SteerLM 2.0: what was recorded is what the shipped recipes give."""

from __future__ import annotations

import numpy as np
import pytest

from palate import recipes
from palate.errors import ConfigError
from palate.recipes.experiments import named_features, steered_policy

RESULTS = "benchmarks/results/recipes"


@pytest.mark.parametrize("name", ["domain-knowledge-rm", "helpsteer2"])
def test_the_recorded_result_is_of_the_shipped_recipe(name: str, pytestconfig: pytest.Config) -> None:
    recipe = recipes.get(name)
    result = recipes.recorded(name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    assert result.seeds == list(range(recipe.seeds))


@pytest.mark.parametrize(
    ("name", "module"), [("domain-knowledge-rm", named_features), ("helpsteer2", steered_policy)]
)
def test_a_seed_gives_the_values_that_were_recorded(
    name: str, module: object, pytestconfig: pytest.Config
) -> None:
    result = recipes.recorded(name, pytestconfig.rootpath / RESULTS)
    assert result is not None
    again = module.run(0, recipes.get(name).parameters_at("small"))  # type: ignore[attr-defined]
    numbers = {key: value for key, value in result.values[0].items() if "log2" not in key}
    assert {key: again[key] for key in numbers} == pytest.approx(numbers, abs=0.01)


def test_the_pairs_needed_lie_on_a_line_between_the_numbers_tried() -> None:
    needed = named_features.pairs_needed
    assert needed([20, 80, 320], [0.7, 0.8, 0.9], 0.85) == pytest.approx(np.log2(160))
    assert needed([20, 80], [0.9, 0.95], 0.85) == pytest.approx(np.log2(20))
    assert needed([20, 80], [0.6, 0.7], 0.85) == pytest.approx(np.log2(80))


def test_a_policy_that_starts_at_its_target_stays_there_with_the_baseline_term() -> None:
    """With equal weights the weights w' - b' are 0; w' alone moves with every sample drawn."""
    proposal = np.log(np.array([0.5, 0.3, 0.2]))
    drawn = np.random.default_rng(0).choice(3, size=(50, 1, 4), p=np.exp(proposal))
    kept = steered_policy.trained(proposal, np.zeros(3), drawn, 0.5, baseline=True)
    assert kept == pytest.approx(proposal, abs=1e-12)
    moved = steered_policy.trained(proposal, np.zeros(3), drawn, 0.5, baseline=False)
    assert np.abs(moved - proposal).max() > 0.01


def test_parameters_that_make_no_sense_are_named() -> None:
    with pytest.raises(ConfigError, match=r"parameters of named_features: .*pairs must rise"):
        named_features.run(0, {"pairs": [20, 20]})
    with pytest.raises(ConfigError, match="parameters of steered_policy: field 'samples'"):
        steered_policy.run(0, {"samples": 1})
