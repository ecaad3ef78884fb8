"""Ratings on principles become pairs where the weighted mean leaves no doubt."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from palate.curate.pairs import pairs_from_ratings
from palate.data import PreferenceData, metadata
from palate.errors import ConfigError, DataError

PRINCIPLES = ["empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging"]
RATINGS = {"a": [5, 5, 4, 5, 4, 4, 3], "b": [4, 3, 4, 5, 2, 3, 2], "c": [4, 4, 4, 5, 3, 4, 2]}


def rated(ratings: dict[str, list[float]], aspects: list[str] = PRINCIPLES, **more: Any) -> PreferenceData:
    """One judgment per response and aspect."""
    rows = [(text, a, v) for text, row in ratings.items() for a, v in zip(aspects, row, strict=True)]
    return PreferenceData.from_columns(
        {
            "prompt": ["p"] * len(rows),
            "responses": [[text] for text, _, _ in rows],
            "scores": [[float(v)] for _, _, v in rows],
            "aspect": [a for _, a, _ in rows],
            "scale": ["interval"] * len(rows),
            "protocol": ["rating"] * len(rows),
        }
        | more
    )


def chosen(data: PreferenceData) -> list[tuple[str, str]]:
    return [tuple(texts) for texts in data.column("responses").to_pylist()]


def test_a_gap_of_exactly_one_is_kept_though_floats_fall_short_of_it() -> None:
    made = pairs_from_ratings(rated(RATINGS), gap=1.0, scale=(1, 5))
    assert chosen(made.data) == [("a", "b")]
    assert made.considered == 3
    assert made.dropped["below_gap"] == 2
    told = json.loads(made.data.column("metadata").to_pylist()[0])
    assert told["gap"] == pytest.approx(30 / 7 - 23 / 7)
    assert told["aspect_deltas"]["exploration"] == 2.0
    assert chosen(pairs_from_ratings(rated(RATINGS), gap=0.5).data) == [("a", "b"), ("a", "c")]


def test_no_gap_keeps_all_but_ties_and_larger_gaps_nest() -> None:
    rng = np.random.default_rng(0)
    ratings = {f"r{i}": rng.integers(1, 6, size=7).tolist() for i in range(6)}
    means = {name: np.mean(values) for name, values in ratings.items()}
    ties = sum(abs(means[x] - means[y]) < 1e-9 for x, y in combinations(ratings, 2))
    kept = [set(chosen(pairs_from_ratings(rated(ratings), gap=g).data)) for g in (0.0, 0.25, 0.5)]
    assert len(kept[0]) == 15 - ties
    assert kept[0] >= kept[1] >= kept[2]
    assert all(means[x] > means[y] for x, y in kept[0])


def test_equal_weights_are_the_mean_and_a_weight_of_nothing_removes_an_aspect() -> None:
    data = rated(RATINGS)
    same = pairs_from_ratings(data, gap=0.5, weights=dict.fromkeys(PRINCIPLES, 2.0))
    assert chosen(same.data) == chosen(pairs_from_ratings(data, gap=0.5).data)
    only = pairs_from_ratings(data, gap=0.0, weights={"relevance": 1.0})
    assert chosen(only.data) == [("a", "b"), ("a", "c"), ("c", "b")]


def test_a_veto_removes_exactly_the_pairs_whose_chosen_response_is_rated_lower_on_it() -> None:
    ratings = {"bold": [5, 5, 1], "safe": [2, 2, 3], "dull": [1, 1, 1]}
    data = rated(ratings, ["empathy", "clarity", "safety"])
    free = pairs_from_ratings(data, gap=0.0)
    held = pairs_from_ratings(data, gap=0.0, veto=["safety"])
    lost = set(chosen(free.data)) - set(chosen(held.data))
    assert lost == {("bold", "safe")}
    assert held.dropped["veto"] == 1


def test_raters_are_averaged_and_lists_read_like_single_ratings() -> None:
    data = PreferenceData.from_columns(
        {
            "prompt": ["p"] * 3,
            "responses": [["x", "y"]] * 3,
            "scores": [[5.0, 3.0], [3.0, 3.0], [4.0, 4.0]],
            "aspect": ["empathy", "empathy", "clarity"],
            "annotator": ["1", "2", "1"],
        }
    )
    made = pairs_from_ratings(data, gap=0.0)
    assert chosen(made.data) == [("x", "y")]
    assert metadata.values(made.data, "gap").tolist() == [0.5]


def test_the_number_of_pairs_per_prompt_can_be_limited_by_lot() -> None:
    ratings = {f"r{i}": [float(i)] for i in range(5)}
    made = pairs_from_ratings(rated(ratings, ["clarity"]), gap=1.0, max_pairs_per_prompt=3, seed=1)
    assert made.data.n_rows == 3
    assert made.dropped["over_limit"] == 7
    again = pairs_from_ratings(rated(ratings, ["clarity"]), gap=1.0, max_pairs_per_prompt=3, seed=1)
    assert chosen(again.data) == chosen(made.data)


def test_a_missing_aspect_is_an_error_or_skipped_where_both_lack_it() -> None:
    ratings = {"a": [5.0, np.nan], "b": [3.0, np.nan], "c": [1.0, 4.0]}
    data = rated(ratings, ["empathy", "safety"])
    with pytest.raises(
        DataError, match=r"2 of 3 responses lack a rating on an aspect, first this one: safety"
    ):
        pairs_from_ratings(data)
    made = pairs_from_ratings(data, missing="skip_aspect")
    assert chosen(made.data) == [("a", "b")]
    assert made.dropped["different_aspects"] == 2


TWO = PreferenceData.from_columns({"prompt": ["p"], "responses": [["a", "b"]], "scores": [[1.0, 0.0]]})


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (rated({"a": [6], "b": [2]}, ["clarity"]), {"scale": (1, 5)}, "row 1.* outside the scale 1 to 5"),
        (rated({"a": [4]}, ["clarity"]), {}, "no prompt has two rated responses"),
        (rated({"a": [4], "b": [4]}, ["clarity"]), {}, r"no pair is left .*tie 1.*0-0.25: 1"),
        (rated(RATINGS), {"gap": 9.0}, "no pair is left at a gap of 9"),
        (rated(RATINGS), {"veto": ["saftey"]}, "did you mean 'safety'"),
        (rated(RATINGS), {"weights": {"empathy": -1.0}}, "weight of 'empathy' must be 0 or more"),
        (rated(RATINGS), {"gap": -1.0}, "gap must be 0 or more"),
        (TWO, {}, "name no aspect"),
    ],
)
def test_what_cannot_become_pairs_is_one_clear_error(data: Any, arguments: Any, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        pairs_from_ratings(data, **arguments)
