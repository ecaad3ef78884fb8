"""Each malformed input gives one error that names file, row and field, and says what to do."""

# ruff: noqa: E501 - a table of cases reads best with one case a line
from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.data import PreferenceData, load, scan, write
from palate.data.formats import detect, formats
from palate.errors import ConfigError, DataError


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
HH = "\n\nHuman: q\n\nAssistant: "
SOC = "# DATA TYPE: {kind}\n# NUMBER ALTERNATIVES: 2\n# NUMBER VOTERS: 3\n# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: b\n{ballots}\n"


def profile(ballots: str, kind: str = "toc") -> bytes:
    return SOC.format(kind=kind, ballots=ballots).encode()


def uf(**completion: Any) -> bytes:
    return lines({"instruction": "i", "completions": [{"response": "r", "overall_score": 1, **completion}]})


BAD: list[tuple[str, str | None, dict[str, Any], bytes, str]] = [
    # arena
    ("f.csv", "arena", {}, b"model_a,winner\na,tie\n",
     "f.csv: the field 'model_b' of format arena is missing; name a column 'model_b', or say which it is with "
     "columns={'model_b': ...}; the columns are: model_a, winner"),
    ("f.csv", None, {}, b"model_a,model_b,winner\na,b,model_a\na,b,left\n",
     "f.csv: row 2, field 'winner': unknown winner 'left'; use model_a, model_b, tie or both_bad, or name your labels "
     "with labels={...}"),
    ("f.csv", None, {}, b"model_a,model_b,winner\na,b,\n", "f.csv: row 1, field 'winner': is missing; give a value or drop the row"),
    ("f.csv", None, {}, b'model_a,model_b,winner\n"",b,tie\n', "f.csv: row 1, field 'model_a': is empty; give a value or drop the row"),
    ("f.csv", None, {}, b"model_a,model_b,winner\na,b,tie\nx,x,tie\n",
     "f.csv: row 2, field 'model_b': 'x' is judged against itself; drop the row, or give both responses"),
    ("f.csv", None, {}, b"model_a,model_b,winner,tstamp\na,b,tie,soon\n",
     "f.csv: row 1, field 'tstamp': 'soon' is not a time; give ISO 8601 (2024-05-01T12:00:00Z) or seconds since 1970"),
    ("f.csv", None, {}, b"model_a,model_b,winner,weight\na,b,tie,-1\n",
     "f.csv: row 1, field 'weight': '-1' is negative; give a weight of 0 or more"),
    ("f.csv", None, {"columns": {"winner": "wins"}}, b"model_a,model_b,winner\na,b,tie\n",
     "f.csv: there is no column 'wins' to take as 'winner'; the columns are: model_a, model_b, winner"),
    ("f.jsonl", None, {}, lines({"model_a": "a", "model_b": "b", "winner": "tie", "conversation_a": [USER], "conversation_b": [USER]}),
     "f.jsonl: row 1, field 'conversation_a': has no assistant turn; drop the row"),
    ("f.jsonl", None, {}, lines({"model_a": ["a"], "model_b": "b", "winner": "tie"}),
     "f.jsonl: row 1, field 'model_a': holds a list where text is wanted; give text"),
    ("f.csv", "arena", {"columns": {"strength": "s"}}, b"model_a,model_b,s\na,b,much\n",
     "f.csv: row 1, field 's': 'much' is not a number; give a number"),
    # trl, kto
    ("f.jsonl", "trl", {}, lines({"prompt": "p", "chosen": "c"}), "f.jsonl: the field 'rejected' of format trl is missing"),
    ("f.jsonl", None, {}, lines({"prompt": "p", "chosen": "c", "rejected": None}),
     "f.jsonl: row 1, field 'rejected': is missing; give a value or drop the row"),
    ("f.jsonl", "trl", {}, lines({"chosen": "same", "rejected": "same"}),
     "f.jsonl: row 1, field 'rejected': equals chosen, so the prompt cannot be told from the answer; drop the row, or "
     "give a prompt column"),
    ("f.jsonl", None, {}, lines({"prompt": "p", "chosen": "c", "rejected": "r", "score_chosen": 1, "score_rejected": 2}),
     "f.jsonl: row 1, field 'score_chosen': 1 is below the score of the rejected answer; swap the answers, or leave the "
     "score columns out with ignore=[...]"),
    ("f.jsonl", None, {}, lines({"prompt": "p", "chosen": "c", "rejected": "r", "margin": 0}),
     "f.jsonl: row 1, field 'margin': 0 is not above 0; give by how much the chosen answer is better"),
    ("f.jsonl", None, {}, lines({"prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": None}]}),
     "f.jsonl: row 1, field 'rejected': has a turn without role or content"),
    ("f.jsonl", None, {}, lines({"prompt": "p", "completion": "c", "label": "good"}),
     "f.jsonl: row 1, field 'label': unknown label 'good'; use true or false, or name yours with labels={...}"),
    # hh-rlhf
    ("f.jsonl", "hh-rlhf", {}, lines({"chosen": "hello", "rejected": HH}),
     "f.jsonl: row 1, field 'chosen': does not begin with a Human or Assistant turn"),
    ("f.jsonl", None, {}, lines({"chosen": "\n\nHuman: hi", "rejected": HH}), "f.jsonl: row 1, field 'chosen': has no Assistant turn; drop the row"),
    ("f.jsonl", None, {"differing_prompts": "error"}, lines({"chosen": HH, "rejected": HH.replace("q", "other")}),
     "f.jsonl: row 1, field 'rejected': its prompt differs from that of chosen"),
    # ultrafeedback
    ("f.jsonl", None, {}, uf(overall_score="great"),
     "f.jsonl: row 1, field 'completions': a rating of overall_score is 'great', not a number; give a number or N/A"),
    ("f.jsonl", "ultrafeedback", {}, lines({"instruction": "i", "completions": []}),
     "f.jsonl: row 1, field 'completions': is not a list of objects"),
    ("f.jsonl", None, {}, uf(response=None), "f.jsonl: row 1, field 'completions': a response is missing; give it or drop the row"),
    # helpsteer
    ("f.csv", "helpsteer", {}, b"prompt,response,helpfulness\np,r,5\n",
     "f.csv: row 1, field 'helpfulness': '5' is outside the scale 0 to 4; give a rating from 0 to 4"),
    ("f.csv", "helpsteer", {}, b"prompt,response,helpfulness\np,r,\n",
     "f.csv: row 1, field 'helpfulness': every rating is missing; give a rating or drop the row"),
    ("f.csv", None, {}, b"prompt,response_1,response_2,preference_strength\np,a,b,4\n",
     "f.csv: row 1, field 'preference_strength': '4' is not a whole number from -3 to 3"),
    ("f.csv", None, {}, b"prompt,response_1,response_2,preference_strength\np,a,b,-100\n",
     "f.csv: row 1, field 'preference_strength': '-100' means that the annotator found both answers invalid; drop the row"),
    # ranked
    ("f.jsonl", None, {}, lines({"responses": ["a", "b"], "rank": [2, 3]}),
     "f.jsonl: row 1, field 'rank': [2, 3] does not start at 1; rank from 1, the best, upwards, or read with renumber=True"),
    ("f.jsonl", None, {}, lines({"responses": ["a", "b"], "rank": [0, 1]}),
     "f.jsonl: row 1, field 'rank': [0, 1] holds a rank that is not a whole number from 1 on; rank from 1, the best, upwards"),
    ("f.jsonl", None, {}, lines({"responses": ["a", "b"], "rank": [1]}),
     "f.jsonl: row 1, field 'responses': its length differs from that of the ranks; give one rank for each"),
    ("f.jsonl", None, {}, lines({"responses": ["a"], "rank": ["first"]}),
     "f.jsonl: row 1, field 'rank': ['first'] has entries of the wrong type; give a list of ranks such as [1, 2, 2]"),
    # ratings
    ("f.csv", None, {}, b"user,item,rating\nu,i,good\n", "f.csv: row 1, field 'rating': 'good' is not a number; give a number"),
    ("f.csv", None, {}, b"user,item,rating\nu,i,nan\n", "f.csv: row 1, field 'rating': is NaN; give a number or drop the row"),
    ("f.csv", None, {"range": (1, 5)}, b"user,item,rating\nu,i,5\nu,j,6\n",
     "f.csv: row 2, field 'rating': '6' is outside the scale 1 to 5; correct it, drop the row, or give another "
     "range=(low, high)"),
    ("f.csv", "ratings-wide", {"columns_are": "annotator"}, b"item,ann,bob\nx,1,\ny,2,bad\nz,3,4\n",
     "f.csv: row 2, field 'bob': 'bad' is not a number; give a number"),
    ("f.csv", "ratings-wide", {"columns_are": "annotator"}, b"item,ann\nx,1\ny,\n",
     "f.csv: row 2, field 'ann': every rating of this row is empty; drop the row"),
    ("f.csv", None, {}, b"user,item\n,i\n", "f.csv: row 1, field 'user': is missing; give a value or drop the row"),
    # preflib
    ("f.soc", None, {}, profile("3: 1,{2}", "soc"), "f.soc: row 1, field 'ballot': '3: 1,{2}' has ties, which soc cannot have"),
    ("f.toc", None, {}, profile("2: 1,2\n1: 1"), "f.toc: row 2, field 'ballot': '1: 1' does not list all 2 alternatives, as toc must"),
    ("f.toc", None, {}, profile("3: 1,7"), "f.toc: row 1, field 'ballot': '3: 1,7' lists an alternative that has no name"),
    ("f.toc", None, {}, profile("3: 1,1"), "f.toc: row 1, field 'ballot': '3: 1,1' lists an alternative twice; list it once"),
    ("f.toc", None, {}, profile("2: 1,2"), "f.toc: field 'NUMBER VOTERS': the counts of the ballots sum to 2, not to 3"),
    ("f.toc", None, {}, profile("three: 1,2"), "f.toc: row 1, field 'ballot': 'three: 1,2' is not a ballot; write count: 1,2,{3,4}"),
    ("f.toc", None, {}, b"2: 1,2\n", "f.toc: field 'ALTERNATIVE NAME': names no alternatives"),
    # palate
    ("f.jsonl", None, {}, lines({"items": ["a", "b"], "scores": [1]}),
     "f.jsonl: row 1, field 'items': its length differs from that of 'scores'; give one entry per score"),
    ("f.jsonl", None, {}, lines({"items": ["a"], "scores": ["x"]}), "f.jsonl: row 1, field 'scores': ['x'] is of the wrong type"),
    ("f.jsonl", None, {}, lines({"items": ["a"], "scores": [1], "protocol": "guess"}),
     "f.jsonl: row 1, field 'protocol': unknown value 'guess'; use one of: comparison, ranking, rating, choice, generation, behaviour"),
    # files
    ("f.csv", None, {}, b"", "f.csv: is empty; give a file with at least one judgment"),
    ("f.csv", None, {}, b"model_a,model_b,winner\n", "f.csv: has a header and no rows; give a file with at least one judgment"),
    ("f.csv", None, {}, b"model_a,model_b,winner\na,b\n", "f.csv: row 1: has 2 fields where the header has 3"),
    ("f.csv", None, {}, b'model_a,model_b,winner\na,b,tie\na,b,"tie\n', "f.csv: row 2: a quote is opened and never closed"),
    ("f.csv", None, {}, b"model_a,model_a,winner\na,b,tie\n", "f.csv: the column 'model_a' occurs twice in the header; rename one of them"),
    ("f.csv", None, {}, b"model_a,model_b,winner\na,b\xe9,tie\n", "f.csv: line 2 is not UTF-8 text (byte 0xe9); convert it, for example: iconv -f LATIN1 -t UTF-8"),
    ("f.csv", None, {}, "model_a,model_b,winner\na,b,tie\n".encode("utf-16"), "f.csv: is not UTF-8 text (it looks like UTF-16 or a binary file)"),
    ("f.csv.gz", None, {}, b"model_a,model_b\n", "f.csv.gz: is not gzip data though its name ends in .gz"),
    ("f.csv.gz", None, {}, gzip.compress(b"model_a,model_b,winner\n" + b"a,b,tie\n" * 9999)[:-20],
     "f.csv.gz: ends in the middle of its compressed data; the file is cut off or damaged"),
    ("f.csv", None, {}, b"colour,size\nred,1\n", "f.csv: no format has these columns: colour, size; say which with format="),
    ("f.csv", None, {}, b"user,item,score,kind\nu,i,1,x\n", "f.csv: its columns fit the formats interactions and ratings; say which with format='interactions' or another"),
    ("f.jsonl", None, {}, b'{"prompt": "p"}\n[1]\n', "f.jsonl: row 2: is a list, not an object; write {...}"),
    ("f.jsonl", None, {}, b'{"items": ["a"], "scores": [1]}\n{"items": ["a', "f.jsonl: row 2: is not JSON (Unterminated string"),
    ("f.jsonl", None, {}, b'{"items": ["a"], "scores": [NaN]}\n', "f.jsonl: row 1: NaN is not JSON; write null"),
    ("f.jsonl", None, {}, b'{"prompt": "p\xff"}\n', "f.jsonl: row 1: is not UTF-8 text (byte 0xff)"),
    ("f.jsonl", None, {}, b'{"x": 1}\n{"x": [1]}\n', "f.jsonl: row 2, field 'x': holds a list where row 1 holds a number"),
    ("f.jsonl", None, {}, b'{"x": "\\ud800"}\n', "f.jsonl: row 1, field 'x': holds half of a surrogate pair"),
    ("f.jsonl", None, {}, b'{"x":' * 1000 + b"1" + b"}" * 1000, "f.jsonl: row 1: is nested more than 64 deep; flatten it"),
    ("f.json", None, {}, b"[" * 100_000, "f.json: is nested more than 64 deep; flatten it"),
    ("f.json", None, {}, b"[1, 2]", "f.json: row 1: is a number, not an object; write {...}"),
    ("f.json", None, {}, b"[]", "f.json: holds no rows; give a file with at least one judgment"),
    ("f.json", None, {}, b'[{"a": 1}', "f.json: is not JSON (Expecting ',' delimiter"),
    ("f.parquet", None, {}, b"PAR1 and nothing more", "f.parquet: cannot be read"),
    ("f.arrow", None, {}, b"ARROW1\x00\x00 cut", "f.arrow: cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "format", "options", "content", "message"), BAD, ids=[b[4][:70] for b in BAD]
)
def test_malformed_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, format: str | None, options: dict[str, Any],
    content: bytes, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(name, format=format, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_rows_are_counted_through_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("user,item,rating\n" + "u,i,1\n" * 25 + "u,i,x\n")
    with pytest.raises(DataError, match="row 26, field 'rating'"):
        list(scan(path, batch_rows=10))
    write(PreferenceData.from_rows([{"items": ["a"], "scores": [1]}] * 25), tmp_path / "f.jsonl")
    with open(tmp_path / "f.jsonl", "a") as file:
        file.write('{"items": ["a"], "scores": []}\n')
    with pytest.raises(DataError, match="row 26, field 'scores'"):
        list(scan(tmp_path / "f.jsonl", batch_rows=10))


def test_a_truncated_parquet_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write(PreferenceData.from_rows([{"items": ["a"], "scores": [1]}] * 1000), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        load(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"scores": [[1.0]]}, metadata={b"palate.judgments": b"99"})
    with pa.ipc.new_file(tmp_path / "f.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="judgments of version '99'"):
        load(tmp_path / "f.arrow")


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress(b"model_a,model_b,winner\na,b," + b"x" * 80_000_000))
    with pytest.raises(DataError, match="has a line of more than 32 MB"):
        load(path)


def test_a_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.data.formats.source.MAX_PLAIN", 1 << 20)
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"user": "u", "item": "i", "rating": 1}\n' * 400_000, 9)[:])
    monkeypatch.setattr("palate.data.formats.source.MAX_RATIO", 100)
    with pytest.raises(DataError, match="grows to more than 100 times its size"):
        load(path)


def test_unknown_names_are_config_errors(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("user,item,rating\nu,i,1\n")
    with pytest.raises(ConfigError, match="unknown format 'rating'; did you mean 'ratings'"):
        load(path, format="rating")
    with pytest.raises(ConfigError, match="unknown option of format ratings 'rnge'"):
        load(path, rnge=(1, 2))
    with pytest.raises(ConfigError, match="unknown field of format ratings 'itm'"):
        load(path, columns={"itm": "item"}, format="ratings")
    with pytest.raises(ConfigError, match="ratings-wide needs columns_are="):
        load(path, format="ratings-wide")
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        load(tmp_path / "missing.csv")


def test_the_hub_without_network_is_one_error() -> None:
    with pytest.raises(DataError, match="cannot be fetched from the Hugging Face hub") as caught:
        load("palate-tests/no-such-set", split="train")
    assert "\n" not in str(caught.value)


def test_standard_input_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"model_a,model_b,winner\na,b,tie\n"
    for given in (content, gzip.compress(content), lines({"items": ["a"], "scores": [1]})):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert load("-").n_rows == 1


def test_every_format_has_a_summary_and_detects_nothing_in_an_unrelated_table() -> None:
    frame = pl.DataFrame({"a": [1], "b": ["x"]})
    for format in formats().values():
        assert format.summary
        assert format.detect(dict(frame.schema), frame) == 0.0


def test_detect_names_the_format(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(lines({"prompt": "p", "chosen": "c", "rejected": "r"}))
    assert detect(path) == "trl"
