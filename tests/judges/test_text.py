"""Words, sentences, paragraphs and languages are counted as a reader would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.judges.language import language
from palate.judges.text import normal, paragraphs, sentences, words


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("", 0),
        ("One sentence without a stop", 1),
        ("One. Two! Three? Four", 4),
        ("Really?! Yes...", 2),
        ("Wait... there is more.", 2),
        ('He said "Stop." Then he left.', 2),
        ("Pi is 3.14 and e is 2.72.", 1),
        ("Dr. Smith met Mrs. Jones.", 1),
        ("Use a tool, e.g. a hammer.", 1),
        ("J. R. Miller wrote it.", 1),
        ("The U.S. is large.", 1),
        ("See example.com for more.", 1),
        ("A line\n\nanother line", 2),
        ("A line\nthat goes on.", 1),
        ("- milk\n- bread\n- eggs", 3),
        ("1. Wash.\n2. Dry.", 2),
        ("これは本です。あれはペンです。", 2),
        ("(It rained.) We left.", 2),
        ("*** --- !!!", 0),
        ("Hello!!! Bye.", 2),
        ("**Bold.** Next.", 2),
    ],
)
def test_sentences_are_counted(text, n):
    assert len(sentences(text)) == n


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't stop", ["Don't", "stop"]),
        ("it’s well-known", ["it’s", "well-known"]),
        ("a - b — c", ["a", "b", "c"]),
        ("snake_case", ["snake", "case"]),
        ("naïve cafe\u0301", ["naïve", "café"]),
        ("3 apples, 12%", ["3", "apples", "12"]),
        ("¿Qué tal?", ["Qué", "tal"]),
        ("🙂 ok", ["ok"]),
    ],
)
def test_words_are_found(text, found):
    assert words(text) == found


def test_paragraphs_stand_between_blank_lines():
    assert paragraphs("a\nb\n\n \n\nc\r\n\r\nd\n") == ["a\nb", "c", "d"]
    assert paragraphs(" \n\n ") == []


@given(st.text())
def test_counting_takes_any_text_and_ignores_outer_space(text):
    assert len(sentences(text)) <= max(1, len(text))
    assert words(f"\n {text} \t") == words(text)
    assert normal(normal(text)) == normal(text)
    assert bool(sentences(text)) == bool(words(text))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The cat sat on the mat and looked at me.", "english"),
        ("El gato se sienta en la mesa y no quiere bajar.", "spanish"),
        ("Le chat est sur la table et ne veut pas descendre.", "french"),
        ("Die Katze sitzt auf dem Tisch und will nicht herunter.", "german"),
        ("Il gatto è sul tavolo e non vuole scendere.", "italian"),
        ("Paris London Madrid Rome", None),
        ("the and", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_its_function_words(text, name):
    assert language(text) == name


def test_languages_of_real_posts_are_told_apart(shared_data):
    """Of MultiPICo's posts in the five languages, fewer than 3 % are taken for another of the five."""
    import polars as pl

    names = {"en": "english", "es": "spanish", "fr": "french", "de": "german", "it": "italian"}
    posts = pl.read_parquet(shared_data / "multipico" / "items.parquet").filter(
        pl.col("lang").is_in(list(names))
    )
    right = wrong = 0
    for code, post, reply in posts.select("lang", "post", "reply").iter_rows():
        found = language(f"{post} {reply}")
        right += found == names[code]
        wrong += found not in (None, names[code])
    assert wrong / (wrong + right) < 0.03
    assert right / len(posts) > 0.88
