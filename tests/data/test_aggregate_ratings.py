"""Ratings of several annotators become one label; HelpSteer2's files and OpinPref's are read whole."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import load
from palate.data import aggregate_ratings
from palate.data.chance import cohen_kappa
from palate.data.formats.opinpref import FEATURES
from palate.errors import ConfigError, DataError

NAN = float("nan")


def test_the_three_ratings_that_agree_most_make_the_label() -> None:
    made = aggregate_ratings([[0, 3, 4, 4, 2], [3, 3, 4, NAN, NAN]])
    assert made.kept[0].tolist() == [False, True, True, True, False]
    assert made.mean[0] == pytest.approx(3.667, abs=5e-4)
    assert made.label.tolist() == [4.0, 3.0]
    assert made.spread.tolist() == [1.0, 1.0]


def test_halves_are_rounded_up_and_not_to_the_even_number() -> None:
    assert aggregate_ratings([2, 3], keep=2).label.tolist() == [3.0]
    assert aggregate_ratings([3, 4], keep=2).label.tolist() == [4.0]


def test_ratings_too_far_apart_have_no_label_and_nobodys_rating_none_either() -> None:
    made = aggregate_ratings([[0, 0, 4, 4], [1, 3, NAN, NAN], [NAN] * 4])
    assert np.isnan(made.label).tolist() == [True, False, True]
    assert made.spread.tolist()[:2] == [4.0, 2.0]
    assert np.isnan(made.spread[2])
    assert not made.kept[2].any()


def test_of_equally_close_choices_the_middle_one_counts() -> None:
    assert aggregate_ratings([0, 1, 2, 3, 4]).label.tolist() == [2.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 4), st.randoms())
def test_no_other_choice_agrees_more_and_the_order_of_annotators_does_not_matter(
    ratings: list[int], keep: int, random: Any
) -> None:
    made = aggregate_ratings(ratings, keep=keep)
    size = min(keep, len(ratings))
    assert made.kept.sum() == size
    closest = min(max(some) - min(some) for some in itertools.combinations(ratings, size))
    assert made.spread[0] == closest
    shuffled = random.sample(ratings, len(ratings))
    other = aggregate_ratings([*shuffled, NAN], keep=keep)
    assert other.mean[0] == pytest.approx(made.mean[0])


def test_infinite_ratings_and_impossible_parameters_are_refused() -> None:
    with pytest.raises(DataError, match="row 2, field 'ratings': an infinite rating"):
        aggregate_ratings([[1.0, 2.0], [1.0, np.inf]])
    with pytest.raises(ConfigError, match="keep must be 1 or more"):
        aggregate_ratings([1, 2], keep=0)
    with pytest.raises(DataError, match="not \\(things, annotators\\)"):
        aggregate_ratings(np.zeros((1, 1, 1)))


def test_quadratic_kappa_has_the_worked_value_and_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = [0, 1, 2, 3, 4, 4], [0, 2, 2, 3, 3, 4]
    value = cohen_kappa(a, b, level="interval")
    assert value == pytest.approx(0.9117647, abs=1e-7)
    assert value == pytest.approx(metrics.cohen_kappa_score(a, b, weights="quadratic"), abs=1e-12)


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


HELP = {"prompt": "p", "response": "r", "helpfulness": 3, "correctness": 2, "coherence": 4}


def test_turns_in_a_helpsteer_prompt_become_messages(tmp_path: Path) -> None:
    several = HELP | {"prompt": "Hi\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nTell me\nmore"}
    data = load(written(tmp_path / "f.jsonl", several, HELP))
    assert data.n_rows == 6
    assert data.column("messages").to_pylist()[2] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Tell me\nmore"},
    ]
    assert data.column("messages").to_pylist()[3] is None
    assert data.column("prompt").to_pylist()[3] == "p"


def test_lists_of_ratings_are_one_judgment_per_annotator(tmp_path: Path) -> None:
    lists = HELP | {"helpfulness": [3, 4, 4], "correctness": [2, None], "coherence": []}
    data = load(
        written(
            tmp_path / "f.jsonl", lists, HELP | {k: [1] for k in ("helpfulness", "correctness", "coherence")}
        )
    )
    first = data.filter(aspect="helpfulness").scores
    assert first.tolist() == [3, 4, 4, 1]
    assert aggregate_ratings(first[:3]).label.tolist() == [4.0]
    assert np.isnan(data.filter(aspect="correctness").scores).tolist() == [False, True, False]
    with pytest.raises(DataError, match=r"row 1, field 'correctness': .* is outside the scale 0 to 4"):
        load(written(tmp_path / "g.jsonl", lists | {"correctness": [2, 7]}))
    with pytest.raises(DataError, match="every rating is missing"):
        load(
            written(
                tmp_path / "h.jsonl", HELP | {k: [None] for k in ("helpfulness", "correctness", "coherence")}
            )
        )


def opinpref(**changes: Any) -> dict[str, Any]:
    scores = {name: 4.0 - 0.5 * number for number, name in enumerate(FEATURES)}
    one = {"index": "1", "summary-text": "good", "summary-score": scores}
    two = {"index": "7", "summary-text": "bad", "summary-score": dict.fromkeys(FEATURES, 1.5)}
    row = {
        "unique-id": "u-1", "reviews": ["nice", "works"], "preference-data": 1, "source": "ann",
        "summary-pairs": {"summary-one": one, "summary-two": two},
    }  # fmt: skip
    return row | changes


def test_opinpref_pairs_carry_seven_features_in_a_fixed_order(tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", opinpref(), opinpref(**{"unique-id": "u-2", "preference-data": 2}))
    data = load(path)
    assert data.column("responses").to_pylist()[0] == ["good", "bad"]
    assert data.column("features").to_pylist()[0] == [[4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0], [1.5] * 7]
    assert data.column("scores").to_pylist() == [[1, 0], [0, 1]]
    assert data.column("prompt").to_pylist()[0] == "nice\n\nworks"
    assert json.loads(data.column("metadata").to_pylist()[0]) == {"index_a": 1.0, "index_b": 7.0}
    assert data.column("annotator").to_pylist() == ["ann", "ann"]


def test_opinpref_rows_that_cannot_be_read_are_named_by_their_id(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"row 2, field 'preference-data': 3 is neither 1 nor 2 \(unique-id 'u-2'\)"
    ):
        load(
            written(tmp_path / "a.jsonl", opinpref(), opinpref(**{"unique-id": "u-2", "preference-data": 3}))
        )
    short = opinpref()
    for side in short["summary-pairs"].values():
        side["summary-score"] = {"conciseness": 3.0, "relevance": 2.0}
    with pytest.raises(
        DataError, match="the scores lack 'aspect-coverage', 'opinion-faithfulness', 'opinion-cov"
    ):
        load(written(tmp_path / "b.jsonl", short))
    beyond = opinpref()
    beyond["summary-pairs"]["summary-two"]["summary-score"] = dict.fromkeys(FEATURES, 6.0)
    with pytest.raises(DataError, match=r"a score 'aspect-coverage' outside 0 to 5 \(unique-id 'u-1'\)"):
        load(written(tmp_path / "c.jsonl", beyond))
