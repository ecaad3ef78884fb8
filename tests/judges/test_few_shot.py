"""A language model that is shown verified neighbours, by functions that answer as a model might."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.judges import FewShotJudge
from palate.judges.few_shot import parsed
from palate.judges.neighbours import attribute_texts, described, embedded, nearest

WORDS = ("cats", "dogs", "tax", "law")
GOLD = PreferenceData.from_columns(
    {
        "prompt": ["cats purr?", "dogs bark?", "tax due?", "law old?", "nobody chose"],
        "responses": [["good cats", "bad cats"], ["bad dogs", "good dogs"], ["good tax", "bad tax"],
                      ["good law", "bad law"], ["x", "y"]],
        "scores": [[1, 0], [0, 1], [1, 0], [1, 0], [1, 1]],
        "metadata": ['{"category": "other", "guideline": "look at cats"}', None, None, None, None],
    }
)  # fmt: skip


def embed(texts: Sequence[str]) -> np.ndarray:
    return np.array([[text.count(word) + 0.01 for word in WORDS] for text in texts])


def first_one(questions: Sequence[str]) -> list[str]:
    return ["Candidate 1"] * len(questions)


def likes_good(questions: Sequence[str]) -> list[str]:
    """Reads the last pair of candidates and names the one with "good" in it."""
    return [f"I prefer [[{1 if 'good' in asked(q)[0] else 2}]]" for q in questions]


def asked(question: str) -> tuple[str, str]:
    found = re.findall(r"Candidate ([12]):\n=+\n(.*?)\n=+", question, re.S)
    return found[-2][1], found[-1][1]


def pairs(n: int) -> tuple[list[str], list[str], list[str]]:
    return (
        [f"new {WORDS[i % 4]} {i}" for i in range(n)],
        [f"good {i}" for i in range(n)],
        [f"bad {i}" for i in range(n)],
    )


def test_a_sensible_model_labels_every_pair_whatever_the_order() -> None:
    judge = FewShotJudge(likes_good, GOLD, embed)
    prompts, good, bad = pairs(20)
    found = judge.compare(prompts, good, bad)
    assert found.probability.tolist() == [1.0] * 20
    assert judge.compare(prompts, bad, good).probability.tolist() == [0.0] * 20
    shown = [trace["shown_first"] for trace in found.trace or ()]
    assert 0 < sum(shown) < 100
    assert judge.counts["asked"] == judge.counts["answered"] == 200


def test_a_model_that_always_names_the_first_is_reported_and_labels_nothing() -> None:
    judge = FewShotJudge(first_one, GOLD, embed, samples=1)
    prompts, good, bad = pairs(400)
    with pytest.warns(PalateWarning, match="400 of 400 answers .* name the first candidate"):
        found = judge.compare(prompts, good, bad)
    assert np.isnan(found.probability).all()
    # Its answers, had they counted, would have been right half of the time.
    share = np.mean([trace["shown_first"] for trace in found.trace or ()])
    assert share == pytest.approx(0.5, abs=0.08)


def test_with_both_orders_a_model_that_names_the_first_says_nothing_of_a_pair() -> None:
    judge = FewShotJudge(first_one, GOLD, embed, samples=4, swap="both", place_limit=1.0)
    assert judge.compare(*pairs(30)).probability.tolist() == [0.5] * 30


def test_few_answers_prove_no_bias() -> None:
    found = FewShotJudge(first_one, GOLD, embed, samples=1).compare(*pairs(5))
    assert not np.isnan(found.probability).any()


def test_an_answer_that_names_no_candidate_is_none_and_counted() -> None:
    answers = iter(["[[1]] or [[2]]", None, "both are fine", "[[1]]"] * 5)
    judge = FewShotJudge(lambda questions: [next(answers) for _ in questions], GOLD, embed, samples=2)
    found = judge.compare(*pairs(2))
    assert np.isnan(found.probability[0])
    assert not np.isnan(found.probability[1])
    assert (judge.counts["asked"], judge.counts["answered"]) == (4, 1)
    texts = ("[[Candidate 2]]", "1", "Candidate 2.", "Candidate 1 is worse", "")
    assert [parsed(text) for text in texts] == [2, 1, 2, None, None]


def test_examples_are_neighbours_but_never_the_pair_itself_nor_its_prompt() -> None:
    seen: list[str] = []

    def spy(questions: Sequence[str]) -> list[str]:
        seen.extend(questions)
        return ["[[1]]"] * len(questions)

    judge = FewShotJudge(spy, GOLD, embed, shots=1, samples=1)
    judge.compare(["more cats", "CATS  purr?", "of cats"], ["u", "u", "Bad Cats"], ["v", "v", "v"])
    assert "cats purr?" in seen[0]
    assert "guideline: look at cats" in seen[0]
    for question in seen[1:]:
        assert "good cats" not in question
        assert sum(prompt in question for prompt in ("dogs bark?", "tax due?", "law old?")) == 1
    assert not any("nobody chose" in question for question in seen)
    verdict = re.search(r"Better candidate: \[\[([12])\]\]", seen[0])
    example = re.findall(r"Candidate ([12]):\n=+\n(.*?)\n=+", seen[0], re.S)
    assert verdict is not None
    assert dict(example[:2])[verdict[1]] == "good cats"


def test_a_pair_gets_one_verdict_whatever_it_is_asked_with() -> None:
    def by_length(questions: Sequence[str]) -> list[str]:
        return [f"[[{len(question) % 2 + 1}]]" for question in questions]

    judge = FewShotJudge(by_length, GOLD, embed, place_limit=1.0)
    prompts, good, bad = pairs(12)
    together = judge.compare(prompts, good, bad).probability
    alone = [judge.compare([p], [a], [b]).probability[0] for p, a, b in zip(prompts, good, bad, strict=True)]
    assert together.tolist() == alone


def test_nothing_verified_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="at least 1 human-verified pair; got 0"):
        FewShotJudge(likes_good, GOLD.take([4]), embed).compare(*pairs(2))
    assert FewShotJudge(likes_good, GOLD.take([4]), embed, shots=0).compare(*pairs(2)).probability.all()


def test_settings_that_cannot_be_used_are_refused() -> None:
    for options, message in (
        ({"swap": "randm"}, "did you mean 'random'"),
        ({"samples": 0}, "1 sample or more"),
        ({"samples": 3, "swap": "both"}, "an even number"),
        ({"place_limit": 0.2}, "place_limit"),
    ):
        with pytest.raises(ConfigError, match=message):
            FewShotJudge(likes_good, GOLD, embed, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gave 1 answers to 10 questions"):
        FewShotJudge(lambda questions: ["[[1]]"], GOLD, embed).compare(*pairs(2))
    with pytest.raises(ConfigError, match="a function of questions"):
        FewShotJudge(7, GOLD, embed).compare(*pairs(2))  # type: ignore[arg-type]


def test_vectors_of_another_length_or_not_finite_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 numbers where the others have 4"):
        embedded(lambda texts: np.ones((len(texts), 3)), ["a"], 4)
    with pytest.raises(ConfigError, match="not finite, for text 2"):
        embedded(lambda texts: np.array([[1.0], [np.nan]]), ["a", "b"])
    with pytest.raises(ConfigError, match="shape"):
        embedded(lambda texts: np.ones(3), ["a"])


def test_nearest_are_those_a_sort_finds() -> None:
    rng = np.random.default_rng(0)
    queries, targets = rng.normal(size=(7, 3)), rng.normal(size=(30, 3))
    counts = np.array([0, 1, 2, 3, 30, 40, 5])
    found = nearest(queries, targets, counts)
    for row, k in enumerate(counts):
        order = np.argsort(-(queries[row] @ targets.T), kind="stable")[:k]
        assert found[row][found[row] >= 0].tolist() == order.tolist()
    equal = nearest(np.ones((1, 2)), np.ones((5, 2)), 3)
    assert equal.tolist() == [[0, 1, 2]]


def test_attributes_stand_below_the_prompt() -> None:
    assert attribute_texts(GOLD)[:2] == ["category: other; guideline: look at cats", ""]
    assert described(GOLD)[:2] == ["cats purr?\ncategory: other; guideline: look at cats", "dogs bark?"]


@pytest.mark.models
def test_a_small_model_labels_pairs_after_examples(smollm2) -> None:
    judge = FewShotJudge(str(smollm2), GOLD, embed, shots=1, samples=2, swap="both")
    prompts, good, bad = ["Which animal purrs?"], ["A cat."], ["Seven seven seven."]
    found = judge.compare(prompts, good, bad)
    again = judge.compare(prompts, bad, good)
    assert found.probability[0] in (0.0, 0.5, 1.0)
    assert found.probability[0] == 1 - again.probability[0]
    assert judge.counts["answered"] == judge.counts["asked"] == 4
