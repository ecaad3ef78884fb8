"""Named features are scored by whatever can score, checked against their scale, and counted where missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges import FeatureJudge, LengthJudge, LLMJudge, LLMRater

PROMPTS = ["Say hi", "Say hi", "Count"]
RESPONSES = ["hi there", "hello", "1 2 3"]


def digits(prompts: list[str], responses: list[str]) -> list[float | None]:
    """Share of digits; a text without letters or digits has none."""
    return [sum(c.isdigit() for c in r) / max(1, len(r)) if r.strip() else None for r in responses]


def overlap(prompts: list[str], responses: list[str]) -> list[float]:
    return [
        float(len(set(p.lower().split()) & set(r.split()))) for p, r in zip(prompts, responses, strict=True)
    ]


def judge(**options: Any) -> FeatureJudge:
    features = {"words": LengthJudge("words"), "overlap": overlap, "digits": digits}
    return FeatureJudge(features, **{"scale": (0, 10), **options})


def test_features_come_as_a_matrix_in_the_order_of_their_names() -> None:
    scores = judge().score(PROMPTS, RESPONSES).scores
    assert judge().names == judge().aspects == ("words", "overlap", "digits")
    assert scores == pytest.approx(np.array([[2, 1, 0], [1, 0, 0], [3, 0, 0.6]]))
    grouped = judge().score(["Say hi"], [["hi there", "hello"]]).scores
    assert grouped.shape == (1, 2, 3)
    assert grouped[0] == pytest.approx(scores[:2])


def test_the_plain_mean_weighs_every_feature_alike() -> None:
    mean = judge().mean()
    assert mean.score(PROMPTS, RESPONSES).scores == pytest.approx(
        judge().score(PROMPTS, RESPONSES).scores.mean(1)
    )
    assert mean.compare(["Say hi"], ["hi there"], ["hello"]).probability.tolist() == [1.0]
    weighted = judge(weights={"digits": -1.0})
    assert weighted.score(PROMPTS, RESPONSES).scores.tolist() == pytest.approx([0, 0, -0.6])
    assert weighted.score(PROMPTS, RESPONSES).trace[2] == {"words": 3.0, "overlap": 0.0, "digits": 0.6}


def test_missing_values_are_counted_and_left_filled_or_refused() -> None:
    texts = ["12", " ", "a1"]
    left = judge()
    assert np.isnan(left.score([""] * 3, texts).scores[:, 2]).tolist() == [False, True, False]
    assert left.failures == {"words": 0, "overlap": 0, "digits": 1}
    left.score([""], [" "])
    assert left.failures["digits"] == 2
    filled = judge(on_missing="mean")
    assert filled.score([""] * 3, texts).scores[:, 2] == pytest.approx([1.0, 0.75, 0.5])
    assert filled.failures["digits"] == 1
    with pytest.raises(
        DataError, match=r"1 of 3 values of the feature 'digits' are missing, first of response 2"
    ):
        judge(on_missing="raise").score([""] * 3, texts)
    with pytest.raises(
        DataError, match="the feature 'digits' is missing of every response, so it has no mean"
    ):
        judge(on_missing="mean").score([""], [" "])


def test_a_value_outside_the_scale_names_its_feature() -> None:
    with pytest.raises(DataError, match=r"3 as 'words' of response 3 lies outside the scale 0 to 2"):
        judge(scale=(0, 2)).score(PROMPTS, RESPONSES)
    infinite = FeatureJudge({"odds": lambda prompts, responses: [np.inf] * len(responses)}, None)
    with pytest.raises(DataError, match="inf as 'odds' of response 1 is not finite"):
        infinite.score(["p"], ["r"])
    short = FeatureJudge({"one": lambda prompts, responses: [1.0]})
    with pytest.raises(DataError, match="1 values of the feature 'one' for 3 responses"):
        short.score(PROMPTS, RESPONSES)


def test_features_become_a_column_of_the_data() -> None:
    data = PreferenceData.from_columns(
        {
            "prompt": ["Say hi", "Count"],
            "responses": [["hi there", "hello"], ["1 2 3"]],
            "scores": [[1, 0], [1]],
        }
    )
    made = judge().add_features(data)
    expected = [[[2, 1, 0], [1, 0, 0]], [[3, 0, pytest.approx(0.6)]]]
    assert made.column("features").to_pylist() == expected
    assert made.column("responses").equals(data.column("responses"))
    empty = PreferenceData.from_columns({"responses": [["a", " "]], "scores": [[1, 0]]})
    with pytest.raises(
        DataError, match=r"row 1, field 'features': the feature 'digits' has no value \(1 of 2"
    ):
        judge().add_features(empty)
    with pytest.raises(DataError, match="the data has no responses"):
        judge().add_features(PreferenceData.from_columns({"items": [["a"]], "scores": [[1.0]]}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": {}}, "name at least one feature"),
        ({"features": {"x": 3}}, "the feature 'x' is 3; give a judge or a function"),
        (
            {"features": {"x": LLMJudge("some-model")}},
            "the feature 'x' needs a judge with one absolute score",
        ),
        ({"features": {"x": judge()}}, "'features' has several aspects"),
        ({"on_missing": "zero"}, "unknown on_missing 'zero'"),
        ({"scale": (5, 0)}, "scale goes from the least to the greatest"),
        ({"weights": {"wrods": 1.0}}, "unknown feature in weights 'wrods'; did you mean 'words'"),
    ],
)
def test_what_is_no_feature_is_refused_when_the_judge_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureJudge(**{"features": {"words": LengthJudge("words")}, **options})


@pytest.mark.models
def test_a_language_model_scores_two_rubrics_and_what_it_cannot_read_is_missing(smollm2: Any) -> None:
    from palate.models import load_causal_lm

    lm = load_causal_lm(smollm2)
    rubrics = {"clear": "Rate how clear the summary is.", "short": "Rate how short the summary is."}
    features = {name: LLMRater(lm, text, max_tokens=200) for name, text in rubrics.items()}
    scorer = FeatureJudge(features, (1, 5))
    with pytest.warns(UserWarning, match="longer than 200 tokens"):
        scores = scorer.score(["Summarise."] * 2, ["All is well.", "word " * 300]).scores
    assert scores.shape == (2, 2)
    assert ((scores[0] >= 1) & (scores[0] <= 5)).all()
    assert np.isnan(scores[1]).all()
    assert scorer.failures == {"clear": 1, "short": 1}
