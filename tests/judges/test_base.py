"""The protocol: either form follows from the other, both orders are asked, missing stays missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.judges import Comparison, Judge, LengthJudge, Scores


@dataclass
class Calibrated(Judge):
    """Scores a response by the number it spells; "?" is not answered."""

    native: ClassVar[frozenset[str]] = frozenset({"score"})
    calibrated: ClassVar[bool] = True

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        values = np.array([np.nan if text == "?" else float(text) for text in responses])
        return Scores(
            values + np.array(options.get("bonus", [0.0] * len(values))), confidence=np.ones(len(values))
        )


@dataclass
class Comparing(Judge):
    """Compares the numbers spelt, and favours the first shown by `bias`."""

    bias: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)
    native: ClassVar[frozenset[str]] = frozenset({"compare"})

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        self.asked += list(zip(a, b, strict=True))
        wins = [
            np.nan if "?" in (x, y) else float(np.clip(float(x) - float(y), 0, 1))
            for x, y in zip(a, b, strict=True)
        ]
        probability = np.clip(np.array(wins, dtype=float) + self.bias, 0, 1)
        return Comparison(probability, trace=[{"a": x} for x in a])


def test_texts_give_a_flat_array_and_groups_a_padded_one():
    judge = Calibrated()
    assert judge.score(["p", "q"], ["1", "2"]).scores.tolist() == [1, 2]
    grouped = judge.score(["p", "q"], [["1"], ["2", "3"]])
    np.testing.assert_array_equal(grouped.scores, [[1, np.nan], [2, 3]])
    np.testing.assert_array_equal(grouped.confidence, [[1, np.nan], [1, 1]])


def test_a_calibrated_score_compares_by_the_logistic_of_the_difference():
    result = Calibrated().compare(["p"] * 3, ["1", "2", "5"], ["1", "1", "?"])
    np.testing.assert_allclose(result.probability, [0.5, 1 / (1 + np.exp(-1)), np.nan])
    assert result.agree.tolist() == [True, True, False]


def test_an_uncalibrated_score_compares_by_sign_alone():
    result = LengthJudge().compare(["p"] * 3, ["long", "a", "ab"], ["a", "long", "cd"])
    assert result.probability.tolist() == [1, 0, 0.5]


def test_a_comparing_judge_scores_by_mean_probability_to_win():
    scores = Comparing().score(["p", "q"], [["3", "2", "1"], ["1", "2"]]).scores
    np.testing.assert_array_equal(scores, [[1, 0.5, 0], [0, 1, np.nan]])


def test_a_comparing_judge_cannot_score_one_text():
    with pytest.raises(ConfigError, match="only compares; give groups"):
        Comparing().score(["p"], ["1"])


def test_a_scoring_judge_without_scores_says_so():
    with pytest.raises(ConfigError, match="has no absolute scores"):
        Judge(name="empty")._score([], [])


def test_both_orders_are_asked_and_a_position_bias_cancels():
    judge = Comparing(bias=0.25)
    result = judge.compare(["p", "p"], ["1", "0"], ["1", "1"])
    assert judge.asked == [("1", "1"), ("0", "1"), ("1", "1"), ("1", "0")]
    np.testing.assert_allclose(result.forward, [0.25, 0.25])
    np.testing.assert_allclose(result.backward, [0.75, 0.0])
    np.testing.assert_allclose(result.probability, [0.5, 0.125])
    assert result.agree.tolist() == [False, True]
    assert result.trace == [
        {"forward": {"a": "1"}, "backward": {"a": "1"}},
        {"forward": {"a": "0"}, "backward": {"a": "1"}},
    ]


def test_a_missing_verdict_stays_missing():
    result = Comparing().compare(["p"], ["?"], ["1"])
    assert np.isnan(result.probability[0])
    assert not result.agree[0]
    table = Comparing().compare_table(["p"], [["3", "?", "1"]])
    np.testing.assert_array_equal(table[0], [[0.5, np.nan, 1], [np.nan, 0.5, np.nan], [0, np.nan, 0.5]])
    np.testing.assert_array_equal(Comparing().score(["p"], [["3", "?", "1"]]).scores, [[1, np.nan, 0]])


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=6))
def test_a_table_holds_both_sides_of_every_pair(groups):
    texts = [[str(value) for value in group] for group in groups]
    for judge in (Comparing(), Calibrated(), LengthJudge()):
        table = judge.compare_table([""] * len(texts), texts)
        longest = max(map(len, texts))
        assert table.shape == (len(texts), longest, longest)
        for square, group in zip(table, texts, strict=True):
            k = len(group)
            assert np.isnan(square[k:]).all()
            assert np.isnan(square[:, k:]).all()
            np.testing.assert_allclose(square[:k, :k] + square[:k, :k].T, 1.0)
            assert (np.diag(square)[:k] == 0.5).all()


def test_nothing_in_gives_nothing_out():
    for judge in (Calibrated(), Comparing(), LengthJudge()):
        assert judge.score([], []).scores.size == 0
        assert judge.compare([], [], []).probability.shape == (0,)
        assert judge.compare_table([], []).shape == (0, 0, 0)


def test_options_come_one_per_prompt_and_reach_every_response():
    scores = Calibrated().score(["p", "q"], [["1", "2"], ["3"]], bonus=[10.0, 20.0]).scores
    np.testing.assert_array_equal(scores, [[11, 12], [23, np.nan]])
    with pytest.raises(ConfigError, match="'bonus' needs one entry per prompt; got 1 for 2 prompts"):
        Calibrated().score(["p", "q"], ["1", "2"], bonus=[1.0])


def test_an_option_that_is_no_list_is_passed_as_it_is():
    table = Comparing().compare_table(["p"], [["1", "2"]], annotator="ann")
    assert table[0, 1, 0] == 1


def test_texts_and_groups_may_not_be_mixed():
    with pytest.raises(ConfigError, match="a text for some prompts and a group for others"):
        Calibrated().score(["p", "q"], ["12", ["1", "2"]])


def test_lengths_that_differ_are_named():
    with pytest.raises(ConfigError, match="got 2 and 1"):
        Calibrated().score(["p", "q"], ["1"])
    with pytest.raises(ConfigError, match="got 1, 2, 1"):
        Calibrated().compare(["p"], ["1", "2"], ["1"])


def test_annotate_signs_the_scores_and_keeps_what_was_judged():
    data = PreferenceData.from_columns(
        {
            "id": ["x", "y"],
            "prompt": ["p", None],
            "responses": [["1", "22"], ["333"]],
            "items": [["a", "b"], ["a"]],
            "scores": [[1, 1], [1]],
            "tie": ["equal", None],
            "annotator": ["ann", "bob"],
            "annotator_kind": ["human", "human"],
        }
    )
    judged = LengthJudge().annotate(data)
    assert judged.scores.tolist() == [1, 2, 3]
    assert judged.values("annotator").tolist() == ["length", "length"]
    assert judged.values("annotator_kind").tolist() == ["rule", "rule"]
    assert judged.values("protocol").tolist() == ["rating", "rating"]
    assert judged.column("items").to_pylist() == [["a", "b"], ["a"]]
    assert judged.column("id").to_pylist() == ["x", "y"]
    assert not judged.has("tie")


def test_annotate_leaves_responses_that_are_not_there_missing():
    data = PreferenceData.from_columns(
        {
            "items": [["a", "b"], ["a", "b", "c"]], "responses": [None, ["1", None, "333"]],
            "scores": [[1, 0], [1, 2, 3]],
        }
    )  # fmt: skip
    np.testing.assert_array_equal(LengthJudge().annotate(data).scores, [np.nan, np.nan, 1, np.nan, 3])


def test_annotate_needs_texts():
    data = PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]})
    with pytest.raises(ConfigError, match="reads responses; the data has none"):
        LengthJudge().annotate(data)


def test_several_aspects_must_be_composed_before_comparing():
    @dataclass
    class Aspects(Judge):
        native: ClassVar[frozenset[str]] = frozenset({"score"})

        def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
            return Scores(np.zeros((len(responses), 2)))

    judge = Aspects(aspects=("clear", "true"))
    assert judge.score(["p"], [["a", "b"]]).scores.shape == (1, 2, 2)
    with pytest.raises(ConfigError, match="2 aspects"):
        judge.compare(["p"], ["a"], ["b"])
    with pytest.raises(ConfigError, match="several aspects"):
        judge.compare_table(["p"], [["a", "b"]])
