"""How many neighbours a verified pair asks for, and which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.curate import error_driven, retrieval_budget
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError


def at(*places: float, name: str = "p") -> PreferenceData:
    """Pairs whose prompt says where they lie."""
    return PreferenceData.from_columns(
        {
            "prompt": [f"{name} {x}" for x in places],
            "responses": [[f"{name}{x}", "worse"] for x in places],
            "scores": [[1, 0]] * len(places),
        }
    )


def embed(texts: Sequence[str]) -> np.ndarray:
    angle = np.array([float(text.split()[1]) for text in texts])
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_the_budget_follows_confidence() -> None:
    assert retrieval_budget([0.31, 0.5, 0.51, 0.8, 0.95, 1.0]).tolist() == [8, 8, 4, 2, 1, 0]
    assert retrieval_budget([0.0, np.nan, 0.75, 0.875]).tolist() == [8, 8, 2, 1]
    for bad, message in ((1.2, "between 0 and 1"), (-0.1, "between 0 and 1")):
        with pytest.raises(ConfigError, match=message):
            retrieval_budget(bad)
    with pytest.raises(ConfigError, match="1 or more"):
        retrieval_budget(0.5, k_max=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_surer_pairs_never_ask_for_more(k_max: int, p: list[float]) -> None:
    budget = retrieval_budget(np.sort(p), k_max)
    assert (np.diff(budget) <= 0).all()
    assert budget.max(initial=0) <= k_max


def test_the_nearest_of_the_pairs_most_wrong_come_first_and_once() -> None:
    gold, pool = at(0.0, 1.0, 2.0, name="gold"), at(*np.linspace(0, 3, 31))
    rows = error_driven([0.9, 0.1, 0.3], gold, pool, embed, k_max=3)
    assert set(rows[:3]) == {9, 10, 11}
    assert set(rows[3:6]) == {19, 20, 21}
    assert rows[6:].tolist() == [0]
    assert not len(error_driven([1.0, 1.0, 1.0], gold, pool, embed))


def test_used_and_verified_pairs_are_never_returned() -> None:
    gold, pool = at(0.0), PreferenceData.concat([at(0.1, 0.2, 0.3), at(0.0)])
    with pytest.raises(DataError, match=r"row 4: 1 of 4 pairs of the pool .*exclude_overlap=True"):
        error_driven([0.0], gold, pool, embed)
    rows = error_driven([0.0], gold, pool, embed, used=[0], exclude_overlap=True)
    assert rows.tolist() == [1, 2]
    assert not len(error_driven([0.0], gold, pool, embed, used=range(4), exclude_overlap=True))


def test_nothing_verified_and_vectors_that_do_not_fit_are_refused() -> None:
    empty = PreferenceData.from_columns({"prompt": ["g"], "responses": [["a", "b"]], "scores": [[1, 1]]})
    with pytest.raises(DataError, match="at least 1 human-verified pairs; got 0"):
        error_driven([0.5], empty, at(0.1), embed)
    sizes = iter((2, 3))
    with pytest.raises(ConfigError, match="3 numbers where the others have 2"):
        error_driven([0.0], at(0.0, name="g"), at(0.1), lambda texts: np.ones((len(texts), next(sizes))))
