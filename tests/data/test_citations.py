"""Citations: groups of hosts, traces, and the features they give."""

from __future__ import annotations

import json

import numpy as np
import pytest

import palate
from palate.data import PreferenceData
from palate.data.citations import GROUPS, citation_features, citations, domain_group
from palate.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("url", "group"),
    [
        ("https://en.wikipedia.org/wiki/Taste", "wiki"),
        ("https://x.com/someone", "social_media"),
        ("https://netflix.com/title", "other"),
        ("https://time.com/a", "us_news"),
        ("https://longtime.com/a", "other"),
        ("https://blog.github.com/a", "community_blog"),
        ("https://docs.github.com/a", "tech_coding"),
        ("https://www.nasa.gov", "gov_edu"),
        ("https://service.gov.uk/a", "gov_edu"),
        ("https://gov.example.com", "other"),
        ("https://www.amazon.co.uk/dp/1", "retail"),
        ("https://notamazon.com", "other"),
        ("HTTPS://User:pw@WWW.YouTube.com:443/watch?v=x.com", "youtube"),
        ("http://arxiv.org./abs/1", "academic_journal"),
        ("https://example.org/?u=https://x.com", "other"),
    ],
)
def test_a_host_belongs_to_the_first_group_it_ends_as(url, group):
    assert domain_group(url) == group


@pytest.mark.parametrize("url", ["en.wikipedia.org/wiki/A", "https://", "", "//x.com/a"])
def test_an_address_without_scheme_or_host_is_refused(url):
    with pytest.raises(DataError, match="has no scheme and host; give whole addresses"):
        domain_group(url)


def test_groups_may_be_ones_own():
    assert domain_group("https://a.b.c", {"mine": ["b.c"]}) == "mine"
    assert domain_group("https://a.b.c", {}) == "other"
    for pattern in ("", ".", "a b", "*.com", "(", "https://x.com"):
        with pytest.raises(ConfigError, match="a domain group has the pattern"):
            domain_group("https://a.b.c", {"mine": [pattern]})


PAIR = {"items": [["m", "n"]] * 2, "scores": [[1.0, 0.0], [0.0, 1.0]]}
W, X, G = "https://en.wikipedia.org/a", "https://x.com/b", "https://github.com/c"


def test_features_are_the_mean_per_turn_and_presence_per_group():
    data = PreferenceData.from_columns(PAIR)
    traces = [[[[W, W, X], []], [[["[1]", G]], []]], [[[]], None]]
    found = citation_features(data, traces=traces)
    assert list(found) == ["citations", *GROUPS, "other"]
    assert found["citations"].tolist() == [[1.5, 0.5], [0.0, 0.0]]
    present = {name: v.tolist() for name, v in found.items() if name != "citations" and v.any()}
    assert present == {
        "wiki": [[1, 0], [0, 0]], "social_media": [[1, 0], [0, 0]], "tech_coding": [[0, 1], [0, 0]],
    }  # fmt: skip
    frame = citations(data, traces=traces).frame
    assert frame.select("side", "turn", "host").rows()[-1] == (1, 0, "github.com")
    assert frame["turn"].to_list() == [0, 0, 0, 0]


def search_arena(trace_a, trace_b, turns=2):
    def talk(word):
        return [{"role": r, "content": word + str(i)} for i in range(turns) for r in ("user", "assistant")]

    return {
        "model_a": "m", "model_b": "n", "winner": "model_a",
        "messages_a": talk("x"), "messages_b": [talk("x")[0], *talk("y")[1:]],
        "system_a_metadata": {"web_search_trace": trace_a, "llm": "m"},
        "system_b_metadata": {"web_search_trace": trace_b, "llm": "n"},
    }  # fmt: skip


def load(tmp_path, *rows):
    path = tmp_path / "search.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return palate.load(path)


def test_search_arenas_traces_are_read_from_the_file(tmp_path):
    data = load(
        tmp_path,
        search_arena([[["[1]", W], ["[2]", X]], [["[1]", G]]], [[], [["[1]", W]]]),
        search_arena([[], []], None),
    )
    found = citation_features(data)
    assert found["citations"].tolist() == [[1.5, 0.5], [0.0, 0.0]]
    assert found["wiki"].tolist() == [[1, 1], [0, 0]]
    assert citations(data).frame["turn"].to_list() == [0, 0, 1, 1]


def test_a_trace_of_another_length_than_the_conversation_is_refused(tmp_path):
    data = load(tmp_path, search_arena([[], []], [[], []]), search_arena([[], []], [[["[1]", W]]]))
    with pytest.raises(DataError, match="row 2: the trace of side b has 1 turns where it has 2 answers"):
        citation_features(data)


def test_bad_traces(tmp_path):
    data = PreferenceData.from_columns(PAIR)
    with pytest.raises(DataError, match="no judgment has web search traces"):
        citation_features(data)
    with pytest.raises(DataError, match="there are 1 traces for 2 judgments"):
        citation_features(data, traces=[[[], []]])
    with pytest.raises(DataError, match="row 2: has traces of 1 sides"):
        citation_features(data, traces=[[[], []], [[]]])
    with pytest.raises(DataError, match=r"row 2: the address 'x.com/a' has no scheme"):
        citation_features(data, traces=[[[], []], [[[]], [["x.com/a"]]]])
    broken = load(tmp_path, search_arena([[], []], [[], []]), search_arena("none", [[], []]))
    with pytest.raises(
        DataError, match=r"row 2, field 'metadata': system_a_metadata.web_search_trace is no trace"
    ):
        citation_features(broken)
    three = PreferenceData.from_columns({"items": [["a", "b", "c"]], "scores": [[1, 0, 0]]})
    with pytest.raises(DataError, match="row 1: 3 answers are judged"):
        citation_features(three, traces=[[[], [], []]])
    with pytest.raises(ConfigError, match="cannot be called 'other'"):
        citation_features(data, {"other": ["x.com"]}, [[[], []]] * 2)


def test_no_citation_at_all_gives_zeros():
    found = citation_features(PreferenceData.from_columns(PAIR), traces=[[[], []], [[[]], [[]]]])
    assert all(np.array_equal(v, np.zeros((2, 2))) for v in found.values())
