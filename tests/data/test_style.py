"""Metadata by key, and style counts of texts, conversations and LMArena's own records."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate.data import PreferenceData, metadata, style
from palate.errors import ConfigError, DataError

TEXT = """# Title
Some **bold** and __strong__ words. Is it so? See https://example.org/a?b=c.

- one
  * two
1. three
```python
# not a header
- not an item **nor bold**
```
## Part
"""


def votes(*responses: list[str | None], **columns: object) -> PreferenceData:
    return PreferenceData.from_columns(
        {"responses": list(responses), "scores": [[1.0] + [0.0] * (len(r) - 1) for r in responses], **columns}
    )


def test_markdown_is_counted_outside_fenced_code():
    found = {
        name: values[0, 0] for name, values in style.style_features(votes([TEXT, ""]), style.NAMES).items()
    }
    assert found == {
        "characters": len(TEXT), "words": len(TEXT.split()), "tokens": found["tokens"], "code_blocks": 1,
        "urls": 1, "headers": 2, "h1": 1, "h2": 1, "h3": 0, "h4": 0, "h5": 0, "h6": 0, "lists": 3,
        "ordered_lists": 1, "unordered_lists": 2, "bold": 2, "sentences": 3, "questions": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("don't stop", 4),
        ("3.14", 3),
        ("今天 hello天气。", 6),
        ("naïve café_1", 2),
        ("🙂🙂", 2),
        (" \n\t", 0),
    ],
)
def test_tokens_are_words_marks_and_characters_of_unspaced_scripts(text, tokens):
    assert style.count(pl.Series([text]), ["tokens"])["tokens"].tolist() == [tokens]


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("#no space", "headers", 0),
        ("####### seven", "headers", 0),
        ("####\tfour", "h4", 1),
        ("a # b", "headers", 0),
        ("-no space\n+ yes\n12. yes", "lists", 2),
        ("**not\nclosed** on its line", "bold", 0),
        ("```\nopen to the end\n- item", "lists", 0),
        ("```\nopen to the end", "code_blocks", 1),
        ("code with `ticks` in ```x = `1`\n- y``` - z", "lists", 0),
        ("Really?! (Is it?) yes. No", "questions", 2),
        ("v1.2 is out. See e.g. here", "sentences", 2),
        ("終わり。はい？", "questions", 1),
    ],
)
def test_edges_of_markdown_and_sentences(text, name, count):
    assert style.count(pl.Series([text]), [name])[name].tolist() == [count]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="#-*_+ \n`.1?!ab", max_size=60))
def test_counts_are_those_of_a_plain_reading(text):
    prose = re.sub(r"```.*?(?:```|\Z)", "", text, flags=re.DOTALL)
    wanted = {
        "headers": len(re.findall(r"^#{1,6}\s", prose, re.M)),
        "lists": len(re.findall(r"^[ \t]*(?:[-*+]|\d+\.)\s", prose, re.M)),
        "bold": len(re.findall(r"\*\*[^*\n]+\*\*|__[^_\n]+__", prose)),
        "words": len(text.split()),
        "tokens": len(re.findall(r"\w+|[^\w\s]", text)),
    }
    assert {k: v[0] for k, v in style.count(pl.Series([text]), list(wanted)).items()} == wanted


def test_judgments_of_several_sizes_come_flat_and_a_missing_response_is_nan():
    mixed = style.style_features(votes(["a b", "c"], ["d", "e f g", "h"]), ["words"])["words"]
    assert mixed.tolist() == [2, 1, 1, 3, 1]
    three = style.style_features(votes(["a", "b c", "d"], ["a", "", None]), ["words"])["words"]
    np.testing.assert_array_equal(three, [[1, 2, 1], [1, 0, np.nan]])


def test_only_the_assistants_turns_of_a_conversation_count(tmp_path):
    def talk(*contents):
        return [
            {"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)
        ]

    path = tmp_path / "battles.jsonl"
    rows = [
        {"model_a": "x", "model_b": "y", "winner": "model_a", "conversation_a": talk("q", "one two"),
         "conversation_b": talk("q", "three")},
        {"model_a": "x", "model_b": "y", "winner": "tie",
         "conversation_a": talk("q", "a b c", "and now a long question?", "d"),
         "conversation_b": talk("q", "e", "and now a long question?", "f g")},
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    assert style.style_features(palate.load(path), ["words"])["words"].tolist() == [[2, 1], [4, 3]]


def lmarena(a: dict[str, object], b: dict[str, object]) -> str:
    sides = {"a": a, "b": b}
    stored: dict[str, object] = {f"sum_assistant_{s}_tokens": sides[s]["tokens"] for s in "ab"}
    for name in ("header_count", "list_count", "bold_count"):
        stored |= {f"{name}_{s}": sides[s][name] for s in "ab"}
    return json.dumps({"conv_metadata": stored, "language": "English"})


LONG = {
    "tokens": 300,
    "header_count": {"h1": 1, "h2": 2, "h3": 0, "h4": 0, "h5": 0, "h6": 1},
    "list_count": {"ordered": 2, "unordered": 3},
    "bold_count": {"**": 4, "__": 1},
}
SHORT = {
    "tokens": 20,
    "header_count": {"h1": 0},
    "list_count": {"ordered": 0, "unordered": 0},
    "bold_count": {"**": 0, "__": 0},
}


def test_lmarenas_own_counts_are_read_where_every_judgment_has_them():
    data = votes(["x", "y"], ["x", "y"], metadata=[lmarena(LONG, SHORT), lmarena(SHORT, LONG)])
    found = style.style_features(data)
    assert {name: values.tolist() for name, values in found.items()} == {
        "tokens": [[300, 20], [20, 300]], "headers": [[4, 0], [0, 4]], "lists": [[5, 0], [0, 5]],
        "bold": [[5, 0], [0, 5]],
    }  # fmt: skip
    assert style.style_features(data, source="text")["tokens"].tolist() == [[1, 1], [1, 1]]
    assert style.style_features(data, ["tokens", "words"])["words"].tolist() == [[1, 1], [1, 1]]


def test_counts_of_some_judgments_only_are_not_mixed_with_counted_texts():
    part = votes(["x", "y"], ["x", "y"], metadata=[lmarena(LONG, SHORT), "{}"])
    assert style.style_features(part)["tokens"].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(DataError, match="tokens, headers, lists, bold cannot be read from the metadata"):
        style.style_features(part, source="metadata")


def test_bad_input_of_style():
    with pytest.raises(ConfigError, match="unknown style feature 'header'; did you mean 'headers'"):
        style.style_features(votes(["x", "y"]), ["header"])
    with pytest.raises(ConfigError, match="source is 'file'"):
        style.style_features(votes(["x", "y"]), source="file")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no responses to count"):
        style.style_features(PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]}))


def test_metadata_comes_by_key_as_numbers_or_strings():
    data = votes(
        ["x", "y"], ["x", "y"], ["x", "y"],
        metadata=[
            '{"a": {"n": 3, "t": "x", "**": 1}, "ok": true, "a.b": 7}',
            '{"a": {"n": "4.5"}, "ok": false}', None,
        ],
    )  # fmt: skip
    np.testing.assert_array_equal(metadata.values(data, "a.n"), [3.0, 4.5, np.nan])
    np.testing.assert_array_equal(metadata.values(data, "ok"), [1.0, 0.0, np.nan])
    assert metadata.values(data, "a.t").tolist() == ["x", None, None]
    assert metadata.values(data, ["a.b"])[0] == 7
    assert metadata.values(data, ["a", "**"])[0] == 1


def test_a_key_that_occurs_nowhere_names_those_that_do():
    data = votes(["x", "y"], metadata=['{"language": "en", "turns": {"a": 1}}'])
    with pytest.raises(
        DataError, match=r"unknown key 'langage'; did you mean 'language'.* known: language, turns.a"
    ):
        metadata.values(data, "langage")
    with pytest.raises(DataError, match="no judgment has metadata to read 'x' from"):
        metadata.values(votes(["x", "y"]), "x")


def test_style_of_real_answers(shared_data):
    """Plain `str` methods as the reference; a bold span and a list item need their marks."""
    texts = pl.read_parquet(shared_data / "alpaca-eval" / "outputs.parquet")["output"].head(2000)
    found = style.count(texts, style.NAMES)
    listed = texts.to_list()
    np.testing.assert_array_equal(found["words"], [len(re.findall(r"\S+", text)) for text in listed])
    np.testing.assert_array_equal(found["characters"], [len(text) for text in listed])
    np.testing.assert_array_equal(found["lists"], found["ordered_lists"] + found["unordered_lists"])
    np.testing.assert_array_equal(found["headers"], sum(found[f"h{level}"] for level in range(1, 7)))
    assert (found["tokens"] >= found["words"]).all()
