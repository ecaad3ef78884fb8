"""Whatever the bytes, a reader gives judgments or one `DataError`."""

# ruff: noqa: E501 - a table of cases reads best with one case a line
from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.data import PreferenceData, load, write
from palate.errors import DataError, PalateWarning

FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
OTHER = [TURNS[0], {"role": "assistant", "content": "b"}]
RATING = {"help": {"Rating": "4", "Rationale": "x"}}
SEEDS: dict[str, tuple[str, bytes]] = {
    "arena": ("f.csv", b"model_a,model_b,winner,judge,tstamp,extra\na,b,model_a,j,1683000000.5,7\nb,c,tie,j,2024-01-01,8\n"),
    "trl": ("f.jsonl", lines({"chosen": TURNS, "rejected": OTHER, "margin": 2}, {"chosen": TURNS, "rejected": OTHER, "margin": 1})),
    "kto": ("f.jsonl", lines({"prompt": "p", "completion": "c", "label": True}, {"prompt": "p", "completion": "d", "label": False})),
    "hh-rlhf": ("f.jsonl", lines(*[{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}] * 2)),
    "ultrafeedback": (
        "f.json",
        json.dumps([{"instruction": "i", "completions": [{"model": "m", "response": "r", "annotations": RATING, "overall_score": 7}]}]).encode(),
    ),
    "helpsteer": ("f.csv", b"prompt,response,helpfulness,correctness,coherence\np,r,1,2,3\np,s,0,,4\n"),
    "helpsteer-preference": ("f.csv", b"prompt,response_1,response_2,preference_strength\np,r,s,-2\np,r,s,0\n"),
    "ranked": ("f.jsonl", lines({"prompt": "p", "responses": ["a", "b"], "rank": [1, 2]}, {"prompt": "p", "responses": ["a"], "rank": [1]})),
    "ratings": ("f.tsv", b"user\titem\trating\ttimestamp\nu\ti\t4.5\t881250949\nv\ti\t3\t881250950\n"),
    "interactions": ("f.csv", b"user_id,item_id\n1,2\n3,4\n"),
    "reward-bench": ("f.jsonl", lines({"prompt": "p", "chosen": "c", "rejected": "r", "chosen_model": "a", "rejected_model": "b", "subset": "s"})),
    "preflib": ("f.toi", b"# DATA TYPE: toi\n# NUMBER ALTERNATIVES: 3\n# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: b\n# ALTERNATIVE NAME 3: c\n2: 1,{2,3}\n1: 2\n"),
    "palate": ("f.jsonl", lines({"items": ["a", "b"], "scores": [1, None], "weight": 2.0}, {"items": ["a"], "scores": [0.5]})),
}  # fmt: skip


def outcome(path: Path, format: str | None, **options: object) -> PreferenceData | DataError:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PalateWarning)
        try:
            return load(path, format=format, **options)  # type: ignore[arg-type]
        except DataError as error:
            refused = error
    assert "\n" not in str(refused)
    return refused


@pytest.mark.parametrize("format", SEEDS)
def test_the_unharmed_file_is_read_and_recognised(tmp_path: Path, format: str) -> None:
    name, content = SEEDS[format]
    (tmp_path / name).write_bytes(content)
    assert isinstance(outcome(tmp_path / name, format), PreferenceData)
    assert outcome(tmp_path / name, None) == outcome(tmp_path / name, format)


@pytest.mark.parametrize("format", SEEDS)
def test_a_mutated_file_is_read_or_refused(tmp_path: Path, format: str) -> None:
    name, content = SEEDS[format]
    path = tmp_path / name

    @given(
        cuts=st.lists(
            st.tuples(st.integers(0, len(content)), st.integers(0, 8), st.sampled_from(
                [b"", b'"', b"{", b"]", b",", b"\n", b"null", b"-1", b"1e999", b"\xff", b"\x00", b"NaN", b"[]", b"{}", b":", b"\\u0000"]
            ) | st.binary(max_size=4)),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    @FUZZ
    def check(cuts: list[tuple[int, int, bytes]]) -> None:
        mutated = content
        for at, size, piece in cuts:
            mutated = mutated[:at] + piece + mutated[at + size :]
        path.write_bytes(mutated)
        outcome(path, format)
        outcome(path, None)

    check()


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "Rating", "response", "annotations", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "format", [name for name, (file, _) in SEEDS.items() if file.endswith(("jsonl", "json"))]
)
def test_fields_of_the_wrong_kind_are_read_or_refused(tmp_path: Path, format: str) -> None:
    name, content = SEEDS[format]
    rows = (
        json.loads(content) if name.endswith(".json") else [json.loads(line) for line in content.splitlines()]
    )
    path = tmp_path / "f.jsonl"

    @given(row=st.integers(0, len(rows) - 1), key=st.sampled_from(sorted(rows[0])), value=JUNK)
    @FUZZ
    def check(row: int, key: str, value: object) -> None:
        changed = [dict(each) for each in rows]
        changed[row][key] = value
        path.write_bytes(lines(*changed))
        outcome(path, format)

    check()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".soc", ".arrow", ".csv.gz", ".unknown"])
@given(content=st.binary(max_size=200))
@FUZZ
def test_random_bytes_are_read_or_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"f{ending}"
    path.write_bytes(content)
    outcome(path, None)


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
@given(end=st.floats(0.01, 1))
@FUZZ
def test_cut_binary_files_are_refused(tmp_path: Path, ending: str, end: float) -> None:
    path = tmp_path / f"f{ending}"
    write(PreferenceData.from_rows([{"items": ["a", "b"], "scores": [1, 0], "prompt": "p"}] * 20), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * end)])
    if end < 1:
        outcome(path, None)


@given(content=st.text(st.characters(codec="utf-8"), max_size=60))
@FUZZ
def test_wide_tables_are_read_or_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text("item,x,y\na,1,2\n" + content, encoding="utf-8", newline="")
    outcome(path, "ratings-wide", columns_are="item")
    outcome(path, "ratings-wide", columns_are="aspect")
