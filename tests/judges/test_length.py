"""The length judge, on worked cases and on people's choices."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from palate.errors import ConfigError
from palate.judges import LengthJudge


def test_characters_or_words_longer_or_shorter():
    texts = ["one two", "incomprehensible"]
    assert LengthJudge().score(["", ""], texts).scores.tolist() == [7, 16]
    assert LengthJudge(unit="words").score(["", ""], texts).scores.tolist() == [2, 1]
    assert LengthJudge(prefer="shorter").score(["", ""], texts).scores.tolist() == [-7, -16]
    assert (
        LengthJudge(unit="words", prefer="shorter").compare([""], *[[text] for text in texts]).probability
        == 0
    )


def test_an_unknown_unit_or_preference_is_refused():
    with pytest.raises(ConfigError, match=r"unknown unit 'word'; did you mean 'words'\?"):
        LengthJudge(unit="word")
    with pytest.raises(ConfigError, match="unknown preference 'long'"):
        LengthJudge(prefer="long")


def test_the_argument_with_more_words_is_the_more_convincing_one_in_76_percent(shared_data):
    """The figure of the set's own description (words, ties half right); characters do a little better."""
    folder = shared_data / "ukp-convarg"
    texts = dict(pl.read_parquet(folder / "arguments.parquet").select("argument_id", "text").iter_rows())
    pairs = pl.read_parquet(folder / "pairs.parquet").filter(pl.col("strict").is_in(["a1", "a2"]))
    assert len(pairs) == 11_650
    first = (pairs["strict"] == "a1").to_numpy()
    for unit, percent in (("words", 76.0), ("characters", 77.3)):
        result = LengthJudge(unit=unit).compare(
            [""] * len(pairs),
            [texts[name] for name in pairs["argument_1"]],
            [texts[name] for name in pairs["argument_2"]],
        )
        right = np.where(first, result.probability, 1 - result.probability)
        assert round(100 * right.mean(), 1) == percent


def test_length_fails_where_the_wrong_answer_was_made_to_look_better(shared_data):
    """LLMBar's adversarial pairs were built against surface preferences, the natural ones were not."""
    pairs = pl.read_parquet(shared_data / "llmbar" / "instances.parquet").filter(pl.col("in_llmbar"))
    assert len(pairs) == 419
    result = LengthJudge().compare(
        pairs["prompt"].to_list(), pairs["response_1"].to_list(), pairs["response_2"].to_list()
    )
    right = np.where((pairs["label"] == 1).to_numpy(), result.probability, 1 - result.probability)
    natural = pairs["subset"].str.contains("Natural").to_numpy()
    assert natural.sum() == 100
    assert right[natural].mean() > 0.5 > right[~natural].mean()
