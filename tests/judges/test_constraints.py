"""Each kind of constraint: what satisfies it, what does not, and how it says itself."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges import Constraint, ConstraintJudge, check, constraints_of, describe, parse_constraints

EXACTLY_TWO = {"relation": "exactly", "n": 2}

# kind and fields, the sentence, responses that satisfy it, responses that do not
CASES = [
    (
        {"kind": "sentence_count", **EXACTLY_TWO},
        "Answer in exactly 2 sentences.",
        ["It rains. We stay in.", "One. And then", "Dr. Lee came. She left!"],
        ["Only one.", "One. Two. Three.", "..."],
    ),
    (
        {"kind": "sentence_count", "relation": "at_most", "n": 1},
        "Answer in at most 1 sentence.",
        ["One, e.g. this.", "No stop"],
        ["One. Two."],
    ),
    (
        {"kind": "word_count", "relation": "at_least", "n": 3},
        "Answer in at least 3 words.",
        ["one two three", "l'été est là", "a-b c d"],
        ["one two", "a-b c", "one - two"],
    ),
    (
        {"kind": "word_count", "relation": "at_most", "n": 1},
        "Answer in at most 1 word.",
        ["well-known"],
        ["two words"],
    ),
    (
        {"kind": "paragraph_count", **EXACTLY_TWO},
        "Write exactly 2 paragraphs, separated by a blank line.",
        ["a\n\nb", "a\nb\n \n\nc", "a\r\n\r\nb"],
        ["a\nb", "a\n\nb\n\nc"],
    ),
    (
        {"kind": "paragraph_count", "relation": "exactly", "n": 1},
        "Write exactly 1 paragraph.",
        ["a\nb"],
        ["a\n\nb"],
    ),
    (
        {"kind": "character_limit", "n": 5},
        "Keep the whole answer within 5 characters, counting spaces.",
        ["hello", " hi yo ", "cafe\u0301s", "日本語です"],
        ["hello!", "a    b"],
    ),
    (
        {"kind": "include_words", "words": ["sun", "in fact"]},
        'Include the phrases "sun" and "in fact".',
        ["In fact, the SUN shines.", "in\nfact sun", "(sun) in fact."],
        ["in fact sunny", "sun", "infact sun"],
    ),
    (
        {"kind": "include_words", "words": ["été"]},
        'Include the word "été".',
        ["L'E\u0301TE\u0301!"],
        ["ete", "étés"],
    ),
    ({"kind": "include_words", "words": ["C++"]}, 'Include the word "C++".', ["I like C++."], ["I like C+"]),
    (
        {"kind": "exclude_words", "words": ["very", "can", "it"]},
        'Do not use the words "very", "can" or "it".',
        ["every candle fits", "nothing"],
        ["Very nice", "I can.", "Is it?"],
    ),
    (
        {"kind": "word_frequency", "word": "time", "relation": "at_least", "n": 2},
        'Use the word "time" at least 2 times.',
        ["Time after time", "time, time, time"],
        ["time sometimes", "times times"],
    ),
    (
        {"kind": "word_frequency", "word": "time", "relation": "exactly", "n": 1},
        'Use the word "time" exactly 1 time.',
        ["time"],
        ["time time", "no"],
    ),
    (
        {"kind": "letter_case", "case": "lower"},
        "Write only in lowercase letters.",
        ["all low, 1st", "été"],
        ["Not low", "1234", "日本"],
    ),
    (
        {"kind": "letter_case", "case": "upper"},
        "Write only in capital letters.",
        ["ALL HIGH, 1", "ÉTÉ"],
        ["ALL HIGh", "123"],
    ),
    (
        {"kind": "letter_case", "case": "title"},
        "Start every word with a capital letter.",
        ["The Old-fashioned Way Of 3 Men", "Élan Vital", "Don't Go"],
        ["The old Way", "123", "a"],
    ),
    (
        {"kind": "starts_with", "text": "In short"},
        'Begin your answer with "In short".',
        ["In short, yes.", "  in SHORT", "In\nshort: no"],
        ["In shorter words", "Well, in short", '"In short" is fine'],
    ),
    (
        {"kind": "ends_with", "text": "Thank you."},
        'End your answer with "Thank you." and write nothing after it.',
        ["All good. Thank you.", "thank you.\n"],
        ["Thank you", "Thank you. Bye", "Thank you.."],
    ),
    (
        {"kind": "ends_with", "text": "end"},
        'End your answer with "end" and write nothing after it.',
        ["the end"],
        ["my friend", "the end."],
    ),
    (
        {"kind": "bullet_list", "n": 2},
        'Use exactly 2 bullet points, each on its own line and starting with "- ".',
        ["- a\n- b", "Here:\n* a\n  • b\nDone"],
        ["- a", "- a\n- b\n- c", "-a\n-b", "- \n- "],
    ),
    (
        {"kind": "numbered_list", "n": 2},
        "Give a list of exactly 2 items, each on its own line, numbered 1. to 2.",
        ["1. a\n2. b", "List:\n1) a\n\n 2) b\nEnd"],
        ["1. a", "1. a\n3. b", "2. a\n1. b", "1. a\n2. b\n3. c", "1.a\n2.b", "¹. a\n². b"],
    ),
    (
        {"kind": "numbered_list", "n": 1},
        "Give a list of exactly 1 item, each on its own line, numbered 1.",
        ["1. a"],
        ["a", "2. a"],
    ),
    (
        {"kind": "json_object", "keys": ["title", "text"]},
        'Answer only with a valid JSON object that has the keys "title" and "text".',
        ['{"title": 1, "text": null, "more": []}', '```json\n{"title": "a", "text": "b"}\n```'],
        [
            '{"title": 1}',
            '[{"title": 1, "text": 2}]',
            "{'title': 1, 'text': 2}",
            'Here: {"title": 1, "text": 2}',
            '{"title": NaN, "text": 1}',
            '"title text"',
            "[" * 100_000,
        ],
    ),
    (
        {"kind": "no_commas"},
        "Do not use any commas.",
        ["no comma; none"],
        ["a, b", "甲，乙", "甲、乙", "ا، ب"],
    ),
    ({"kind": "digits", "present": True}, "Use at least one digit.", ["3 cats", "x²", "٣"], ["three cats"]),
    ({"kind": "digits", "present": False}, "Do not use any digits.", ["three cats", "Ⅳ"], ["3 cats", "a1b"]),
    (
        {"kind": "quoted"},
        "Put your whole answer in double quotation marks.",
        ['"Yes."', " “Yes.” "],
        ['"Yes." he said', "'Yes.'", '"', '""', '" "', '“Yes."'],
    ),
    (
        {"kind": "language", "language": "spanish"},
        "Answer in Spanish.",
        ["El perro no está en la casa.", "Me gusta mucho leer por la noche."],
        ["The dog is not in the house.", "perro gato casa mesa silla", "sí"],
    ),
]
IDS = [json.dumps(fields, ensure_ascii=False) for fields, *_ in CASES]


@pytest.mark.parametrize(("fields", "sentence", "good", "bad"), CASES, ids=IDS)
def test_a_constraint_is_checked_exactly(fields, sentence, good, bad):
    constraints = parse_constraints([fields])
    assert describe(constraints) == [sentence]
    assert [text for text in good if not check(constraints, text)[0]] == []
    assert [text for text in bad if check(constraints, text)[0]] == []


def test_every_kind_has_a_case():
    union = get_args(Constraint)[0]
    kinds = {part.model_fields["kind"].default for part in get_args(union)}
    assert kinds == {fields["kind"] for fields, *_ in CASES}
    assert len(kinds) == 17


@pytest.mark.parametrize("fields", [fields for fields, *_ in CASES], ids=IDS)
def test_an_empty_response_satisfies_nothing(fields):
    constraints = parse_constraints([fields])
    for empty in ("", " ", "\n\t\u00a0"):
        assert not check(constraints, empty).any()


@given(st.text(), st.sampled_from([fields for fields, *_ in CASES]))
def test_any_text_is_answered_and_outer_space_does_not_matter(text, fields):
    constraints = parse_constraints([fields])
    assert check(constraints, text).tolist() == check(constraints, f"\n {text}\t").tolist()


@given(st.integers(1, 30), st.integers(1, 30))
def test_relations_mean_what_the_sentence_says(n, given_words):
    text = " ".join(["word"] * given_words)
    one_of_each = [{"kind": "word_count", "relation": r, "n": n} for r in ("exactly", "at_least", "at_most")]
    constraints = parse_constraints(one_of_each)
    assert check(constraints, text).tolist() == [given_words == n, given_words >= n, given_words <= n]
    assert [int(re.findall(r"\d+", sentence)[0]) for sentence in describe(constraints)] == [n] * 3


def test_constraints_survive_json():
    constraints = parse_constraints([fields for fields, *_ in CASES])
    text = json.dumps([constraint.model_dump(mode="json") for constraint in constraints])
    assert parse_constraints(text) == constraints


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"kind": "rhyme"}], "field 'constraints': 0: Input tag 'rhyme'"),
        ([{"kind": "bullet_list"}], "0.bullet_list.n: Field required"),
        ([{"kind": "bullet_list", "n": 0}], "0.bullet_list.n: Input should be greater than or equal to 1"),
        ([{"kind": "quoted", "n": 1}], "0.quoted.n: Extra inputs are not permitted"),
        ([{"kind": "include_words", "words": []}], "0.include_words.words: "),
        ([{"kind": "starts_with", "text": " "}], "0.starts_with.text: "),
        ("[{", "field 'constraints': Invalid JSON"),
        ({"kind": "quoted"}, "field 'constraints': Input should be a valid list"),
        (7, "field 'constraints': Input should be a valid list"),
    ],
)
def test_constraints_that_cannot_be_read_give_one_clear_error(value, message):
    with pytest.raises(DataError) as caught:
        parse_constraints(value, row=3)
    assert message.removeprefix("field 'constraints': ") in str(caught.value)
    assert str(caught.value).startswith("row 3, field 'constraints': ")
    assert "\n" not in str(caught.value)


def _data(**columns):
    return PreferenceData.from_columns(
        {
            "prompt": ["p", "q"],
            "responses": [["one two", "ONE, TWO"], ["1", "one. two.", ""]],
            "scores": [[0, 0], [0, 0, 0]],
            "metadata": [
                '{"constraints": [{"kind": "no_commas"}, {"kind": "letter_case", "case": "lower"}]}',
                '{"constraints": [{"kind": "sentence_count", "relation": "exactly", "n": 2}]}',
            ],
        }
        | columns
    )


def test_the_judge_scores_the_share_of_constraints_satisfied():
    data = _data()
    for judge in (ConstraintJudge(), ConstraintJudge.from_data(data)):
        judged = judge.annotate(data)
        assert judged.scores.tolist() == [1, 0, 0, 1, 0]
        assert set(judged.values("annotator")) == {"constraint-checker"}
        assert set(judged.values("annotator_kind")) == {"rule"}
    half = parse_constraints([{"kind": "no_commas"}, {"kind": "quoted"}])
    assert ConstraintJudge().score(["p"], [["a b", "a, b"]], constraints=[half]).scores.tolist() == [[0.5, 0]]


def test_a_judge_that_knows_its_prompts_compares_without_options():
    judge = ConstraintJudge.from_data(_data())
    result = judge.compare(["p", "q", "q"], ["low", "one", "Hi. Yo."], ["Up", "two", "Hi."])
    assert result.probability.tolist() == [1, 0.5, 1]


def test_the_trace_says_what_was_violated():
    scores = ConstraintJudge().score(
        ["p"], ["a, b"], constraints=['[{"kind": "no_commas"}, {"kind": "digits", "present": false}]']
    )
    assert scores.trace == [{"satisfied": ["Do not use any digits."], "violated": ["Do not use any commas."]}]


def test_a_prompt_without_constraints_is_missing():
    scores = ConstraintJudge.from_data(_data()).score(["p", "unknown"], ["low", "low"]).scores
    assert scores[0] == 1
    assert scores[1] != scores[1]


def test_the_judge_says_when_it_has_no_constraints():
    with pytest.raises(ConfigError, match="needs constraints"):
        ConstraintJudge().score(["p"], ["a"])
    with pytest.raises(DataError, match="no row has constraints"):
        ConstraintJudge.from_data(_data(metadata=[None, None]))


def test_constraints_of_reads_metadata_and_names_a_bad_row():
    assert [len(found) for found in constraints_of(_data())] == [2, 1]
    assert constraints_of(_data(metadata=[None, '{"other": 1}'])) == [[], []]
    for bad in ("[1]", "{", '"text"'):
        with pytest.raises(DataError, match="row 2, field 'metadata': is not a JSON object"):
            constraints_of(_data(metadata=[None, bad]))
    with pytest.raises(DataError, match="row 2, field 'constraints'"):
        constraints_of(_data(metadata=[None, '{"constraints": [{"kind": "rhyme"}]}']))


def test_one_prompt_with_two_lists_of_constraints_is_refused():
    with pytest.raises(DataError, match="row 2, field 'metadata': this prompt has other constraints"):
        ConstraintJudge.from_data(_data(prompt=["p", "p"]))
