"""Lists as judgments of two."""

from __future__ import annotations

import numpy as np
import pytest

from palate.data import PreferenceData
from palate.data.resources import verifiable_instructions

LISTS = PreferenceData.from_rows(
    [
        {
            "id": "x",
            "prompt": "p",
            "responses": ["a", "b", "c"],
            "scores": [1.0, 3.0, np.nan],
            "aspect": "tone",
        },
        {"id": "y", "prompt": "q", "responses": ["d", "e", "f"], "scores": [2.0, 2.0, 1.0], "weight": 0.5},
    ]
)


def test_the_better_alternative_comes_first_with_its_score_and_the_columns_of_its_judgment() -> None:
    pairs = LISTS.as_pairs("all")
    assert pairs.column("responses").to_pylist() == [["b", "a"], ["d", "f"], ["e", "f"]]
    assert pairs.column("scores").to_pylist() == [[3.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    assert pairs.column("id").to_pylist() == ["x:1-0", "y:0-2", "y:1-2"]
    assert pairs.column("aspect").to_pylist() == ["tone", None, None]
    assert pairs.weights.tolist() == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("strategy", ["all", "best_worst", "adjacent"])
def test_pairs_of_pairs_are_the_pairs(strategy: str) -> None:
    data = verifiable_instructions()
    once = data.as_pairs(strategy)  # type: ignore[arg-type]
    assert (
        once.pairs("all")
        .drop("judgment", "chosen_index", "rejected_index")
        .equals(
            data.pairs(strategy).drop("judgment", "chosen_index", "rejected_index")  # type: ignore[arg-type]
        )
    )


def test_kept_ties_keep_their_cause_and_others_have_none() -> None:
    data = PreferenceData.from_rows(
        [{"items": ["a", "b", "c"], "scores": [0.0, 0.0, 1.0], "tie": "both_bad", "protocol": "rating"}]
    )
    pairs = data.as_pairs("all", ties="keep")
    causes = dict(
        zip(map(tuple, pairs.column("items").to_pylist()), pairs.column("tie").to_pylist(), strict=True)
    )
    assert causes == {("a", "b"): "both_bad", ("c", "a"): None, ("c", "b"): None}


def test_lists_written_for_trl_name_the_way_to_pairs(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from palate.errors import DataError

    with pytest.raises(DataError, match="as_pairs"):
        LISTS.save(tmp_path / "pairs.jsonl", format="trl")
    assert not (tmp_path / "pairs.jsonl").exists()
