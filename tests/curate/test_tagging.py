"""Attributes of judgments, as a language model says them."""

from __future__ import annotations

import pytest

from palate.curate import attributes
from palate.curate.tagging import CATEGORIES, parsed
from palate.data import PreferenceData, metadata
from palate.errors import ConfigError, DataError, PalateWarning
from palate.judges.neighbours import attribute_texts

DATA = PreferenceData.from_columns(
    {
        "prompt": ["2 + 2?", "Best colour?", "2 + 2?"],
        "responses": [["4", "5"], ["Blue", "Red"], ["5", "4"]],
        "scores": [[1, 0], [1, 0], [0, 1]],
        "metadata": ['{"source": "test"}', None, None],
    }
)
SUMS = """category: Math
- **objective**: objective
controversy: low
desired: The right number.
guideline: Prefer the right sum."""


def test_an_answer_is_read_line_by_line_and_held_to_the_values_known() -> None:
    assert len(CATEGORIES) == 12
    assert parsed(SUMS) == {
        "category": "math", "objective": "objective", "controversy": "low", "desired": "The right number",
        "guideline": "Prefer the right sum",
    }  # fmt: skip
    assert parsed("category: cooking\nobjective: maybe\ncontroversy:\ndesired: Taste") == {
        "category": None, "objective": None, "controversy": None, "desired": "Taste", "guideline": None,
    }  # fmt: skip
    assert set(parsed(None).values()) == {None}


def test_equal_pairs_are_asked_about_once_and_the_winner_is_not_shown() -> None:
    seen: list[str] = []

    def write(questions):
        seen.extend(questions)
        return [SUMS] * len(questions)

    found = attributes(DATA, write)
    assert len(seen) == 2
    assert metadata.values(found, "category").tolist() == ["math"] * 3
    assert metadata.texts(found, "source").to_list() == ["test", None, None]
    assert attribute_texts(found)[2].startswith("category: math; objective: objective; controversy: low")


def test_what_the_model_does_not_say_is_missing_and_counted() -> None:
    with pytest.warns(PalateWarning, match="category of 1, objective of 1, .* of 3 judgments"):
        found = attributes(DATA, lambda questions: [SUMS, "I cannot say."])
    assert metadata.texts(found, "category").to_list() == ["math", None, "math"]


def test_what_cannot_be_described_is_refused() -> None:
    with pytest.raises(DataError, match="responses"):
        attributes(PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]}), lambda q: [])
    one = PreferenceData.from_columns({"prompt": ["p"], "responses": [["a"]], "scores": [[1]]})
    with pytest.raises(ConfigError, match="row 1 has 1"):
        attributes(one, lambda q: [])
    with pytest.raises(ConfigError, match="0 answers to 2 questions"):
        attributes(DATA, lambda q: [])
