"""The recipe on rated responses: what was recorded is what the shipped recipe gives."""

from __future__ import annotations

import pytest

from palate import recipes
from palate.recipes.experiments import rating_gaps


def test_the_recorded_result_is_of_the_shipped_recipe(pytestconfig: pytest.Config) -> None:
    recipe = recipes.get("psychocounsel")
    result = recipes.recorded("psychocounsel", pytestconfig.rootpath / "benchmarks/results/recipes")
    assert result is not None
    assert result.recipe == recipe.fingerprint()
    again = rating_gaps.run(0, {"settings": {"independent": {"common": 0.0}}})
    expected = {name: value for name, value in result.values[0].items() if name.startswith("independent/")}
    assert again == pytest.approx(expected, abs=0.01, rel=0.02)


def test_larger_gaps_leave_fewer_pairs() -> None:
    small = {"prompts": 60, "test_pairs": 500, "equal_pairs": 20, "policy": {"steps": 20, "candidates": 10}}
    found = rating_gaps.run(1, {"settings": {"s": small}})
    counts = [found[f"s/pairs/{gap}"] for gap in ("0", "0.5", "1", "1.5")]
    assert counts == sorted(counts, reverse=True)
    assert 0.5 < found["s/all/0"] < 1
