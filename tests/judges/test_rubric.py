"""Rubrics name what a rater looks at, and what each part weighs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.judges import Rubric
from palate.judges.answers import Answers
from palate.judges.rubric import shipped


class Counter:
    """Answers by how long the question is: an answerer without a model."""

    def answer(self, questions: Sequence[str], answers: Sequence[str], *, opening: str) -> Answers:
        sure = np.zeros((len(questions), len(answers)))
        for row, question in enumerate(questions):
            sure[row, 4 if "empathy" in question else 1] = 1.0
        return Answers(sure, np.ones(len(questions), dtype=np.int64), 100)


def test_the_shipped_rubrics_can_be_read_and_name_their_principles() -> None:
    assert shipped() == ["helpsteer", "psychocounsel"]
    counsel = Rubric.load("psychocounsel")
    assert counsel.names == (
        "empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging",
    )  # fmt: skip
    assert counsel.veto == ("safety",)
    assert set(counsel.weights.values()) == {1.0}
    assert Rubric.load("helpsteer").weights["verbosity"] == 0.0


def test_a_judge_of_a_rubric_rates_every_principle_apart() -> None:
    judge = Rubric.load("psychocounsel").judge(Counter())
    assert judge.aspects == Rubric.load("psychocounsel").names
    scores = judge.score(["I cannot sleep"], ["That sounds hard"]).scores
    assert scores.tolist() == [[5.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]]


def test_a_rubric_of_ones_own_is_a_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[[principles]]\nname = "brief"\ntext = "Short."\nweight = 2.0\n')
    assert Rubric.load(file).weights == {"brief": 2.0}
    file.write_text('name = "mine"\nprinciples = []\n')
    with pytest.raises(ConfigError, match=r"mine.toml: field 'principles': .* at least 1"):
        Rubric.load(file)
    file.write_text('name = "mine"\n[[principles]]\nname = "brief"\ntext = "Short."\nweight = -1\n')
    with pytest.raises(ConfigError, match=r"field 'principles.0.weight'"):
        Rubric.load(file)
    file.write_text("name = ")
    with pytest.raises(ConfigError, match=r"mine.toml: "):
        Rubric.load(file)
    with pytest.raises(ConfigError, match="did you mean 'helpsteer'"):
        Rubric.load("helpster")
    with pytest.raises(ConfigError, match="cannot be read"):
        Rubric.load(tmp_path / "none.toml")
