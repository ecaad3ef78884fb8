"""What each format means in the judgment record, on small examples."""

# ruff: noqa: E501 - a row of an example reads best on one line
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palate.data import PreferenceData, load


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def first(data: PreferenceData, row: int = 0) -> dict[str, Any]:
    return dict(data.table.slice(row, 1).to_pylist()[0])


USER = {"role": "user", "content": "q"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_arena_labels_tell_good_ties_from_bad_ones(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    labels = ["model_a", "model_b", "tie", "tie (bothbad)", "both_bad", "bothbad"]
    path.write_text("model_a,model_b,winner\n" + "".join(f"x,y,{label}\n" for label in labels))
    data = load(path)
    assert data.column("scores").to_pylist() == [[1, 0], [0, 1], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert data.column("tie").to_pylist() == [None, None, "equal", "both_bad", "both_bad", "both_bad"]


def test_arena_conversations_share_what_they_share(tmp_path: Path) -> None:
    more = {"role": "user", "content": "and?"}
    row = {
        "model_a": "x", "model_b": "y", "winner": "tie", "judge": "u", "tstamp": 1683000000.25, "language": "en",
        "conversation_a": [USER, answer("a"), more, answer("aa")],
        "conversation_b": json.loads(json.dumps([USER, answer("b"), more, answer("bb")])),
    }  # fmt: skip
    got = first(load(lines(tmp_path / "f.jsonl", row)))
    assert got["prompt"] == "q"
    assert got["response_messages"][0] == [answer("a"), more, answer("aa")]
    assert got["time"].isoformat() == "2023-05-02T04:00:00.250000+00:00"
    assert json.loads(got["metadata"]) == {"language": "en"}


def test_a_quoted_line_break_stays_in_its_field(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text('prompt,chosen,rejected\n"two\nlines","a ""quote""",b\n')
    got = first(load(path))
    assert got["prompt"] == "two\nlines"
    assert got["responses"] == ['a "quote"', "b"]


def test_implicit_prompts_are_what_both_share(tmp_path: Path) -> None:
    text = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    got = first(load(lines(tmp_path / "t.jsonl", text)))
    assert (got["prompt"], got["responses"]) == ("The sky is ", ["blue.", "black."])
    chat = {"chosen": [USER, answer("a")], "rejected": [USER, answer("b")]}
    got = first(load(lines(tmp_path / "c.jsonl", chat)))
    assert (got["prompt"], got["responses"]) == ("q", ["a", "b"])


def test_binarised_pairs_keep_their_scores(tmp_path: Path) -> None:
    row = {
        "prompt": "q", "chosen": [USER, answer("a")], "rejected": [USER, answer("b")],
        "score_chosen": 8.5, "score_rejected": 6,
    }  # fmt: skip
    got = first(load(lines(tmp_path / "f.jsonl", row)))
    assert (got["prompt"], got["responses"], got["scores"]) == ("q", ["a", "b"], [8.5, 6.0])


def test_ultrafeedback_has_a_judgment_per_aspect(tmp_path: Path) -> None:
    def completion(model: str, honest: str, overall: float) -> dict[str, Any]:
        return {
            "model": model, "response": f"by {model}", "overall_score": overall, "critique": "fine",
            "annotations": {"honesty": {"Rating": honest, "Rationale": "why"}, "help": {"Rating": "3", "Rationale": "so"}},
        }  # fmt: skip

    row = {
        "instruction": "do",
        "source": "web",
        "completions": [completion("x", "5", 7), completion("y", "N/A", 4.5)],
    }
    data = load(lines(tmp_path / "f.jsonl", row))
    assert data.column("aspect").to_pylist() == ["honesty", "help", "overall"]
    got = first(data)
    assert got["scores"][0] == 5
    assert math.isnan(got["scores"][1])
    assert got["items"] == ["x", "y"]
    metadata = json.loads(got["metadata"])
    assert metadata["source"] == "web"
    assert metadata["rationales"] == [{"Rationale": "why"}, {"Rationale": "why"}]
    assert first(data, 2)["scores"] == [7.0, 4.5]


def test_helpsteer_rows_of_one_prompt_share_an_id(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("prompt,response,helpfulness,correctness,coherence\np,a,1,2,3\np,b,0,4,4\nq,c,2,2,2\n")
    data = load(path)
    assert data.n_rows == 9
    assert data.column("prompt_id").to_pylist() == ["1"] * 6 + ["2"] * 3
    assert data.column("aspect").to_pylist()[:3] == ["helpfulness", "correctness", "coherence"]


def test_a_negative_strength_prefers_the_first_response(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("prompt,response_1,response_2,preference_strength\np,a,b,-2\np,a,b,3\np,a,b,0\n")
    data = load(path)
    assert data.column("scores").to_pylist() == [[1, 0], [0, 1], [1, 1]]
    assert [json.loads(m)["strength"] for m in data.column("metadata").to_pylist()] == [-2, 3, 0]


@pytest.mark.parametrize(
    ("kind", "judgments", "who"), [("annotator", 3, "annotator"), ("aspect", 3, "aspect"), ("item", 2, None)]
)
def test_wide_tables_say_what_their_columns_are(
    tmp_path: Path, kind: str, judgments: int, who: str | None
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("name,x,y,note\na,1,2,n\nb,3,,m\n")
    data = load(path, format="ratings-wide", columns_are=kind)
    assert data.n_rows == judgments
    if who:
        assert data.column(who).to_pylist() == ["x", "y", "x"]
        assert data.column("items").to_pylist() == [["a"], ["a"], ["b"]]
    else:
        assert data.column("annotator").to_pylist() == ["a", "b"]
        assert math.isnan(data.scores[3])
    assert json.loads(first(data)["metadata"]) == {"note": "n"}


def test_movielens_files_have_no_header(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    data = load(path, format="interactions", names=["user", "item", "value", "time"], separator="\t")
    got = first(data)
    assert (got["annotator"], got["items"], got["scores"]) == ("196", ["242"], [3.0])
    assert got["protocol"] == got["annotator_kind"] == "behaviour"


def test_tied_alternatives_share_a_place(tmp_path: Path) -> None:
    path = tmp_path / "f.toi"
    names = "".join(f"# ALTERNATIVE NAME {n}: {name}\n" for n, name in enumerate("abc", start=1))
    path.write_text(f"# TITLE: tea\n# DATA TYPE: toi\n{names}5: 3,{{1,2}}\n1: 2\n")
    data = load(path)
    assert data.column("items").to_pylist() == [["c", "a", "b"], ["b"]]
    assert data.column("scores").to_pylist() == [[-1, -2, -2], [-1]]
    assert data.column("weight").to_pylist() == [5, 1]
    assert json.loads(first(data)["metadata"]) == {"title": "tea"}
    assert load(path, expand=True).n_rows == 6
