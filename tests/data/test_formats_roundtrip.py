"""Reading what was written gives the same judgments, or writing says what would be lost."""

# ruff: noqa: E501 - a table of cases reads best with one case a line
from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.data import PreferenceData, load, scan, write
from palate.errors import ConfigError, DataError

QUICK = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6)
SCORE = st.floats(allow_infinity=False, allow_nan=True, width=64)
TIME = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=dt.UTC))
METADATA = st.dictionaries(NAME, st.integers(-5, 5) | TEXT, max_size=2).map(json.dumps)
TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXT})


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


COMMON = {
    "prompt_id": maybe(TEXT),
    "annotator": maybe(TEXT),
    "annotator_kind": maybe(st.sampled_from(["human", "model", "rule", "behaviour"])),
    "aspect": maybe(TEXT),
    "weight": maybe(st.floats(0, 1e6)),
    "rationale": maybe(TEXT),
    "time": maybe(TIME),
    "metadata": maybe(METADATA),
}


def with_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"id": f"j{number}"} for number, row in enumerate(rows)]


@st.composite
def any_row(draw: st.DrawFn) -> dict[str, Any]:
    k = draw(st.integers(1, 4))
    each = lambda values: st.lists(values, min_size=k, max_size=k)  # noqa: E731
    row = draw(
        st.fixed_dictionaries(
            {
                "scores": each(SCORE),
                "items": each(TEXT),
                "prompt": maybe(TEXT),
                "messages": maybe(st.lists(TURN, max_size=3)),
                "context": maybe(st.lists(st.fixed_dictionaries({"id": TEXT, "text": TEXT}), max_size=2)),
                "responses": maybe(each(TEXT)),
                "response_messages": maybe(each(st.lists(TURN, max_size=2))),
                "response_context": maybe(each(TEXT)),
                "response_views": maybe(each(st.lists(st.tuples(TEXT, TEXT), max_size=2))),
                "features": maybe(each(st.lists(st.floats(-1e3, 1e3, width=32), max_size=3))),
                "media": maybe(each(TEXT)),
                "scale": maybe(st.sampled_from(["ordinal", "interval"])),
                "protocol": maybe(st.sampled_from(["comparison", "ranking", "choice"])),
                "tie": maybe(st.sampled_from(["equal", "both_bad", "order_inconsistent"])),
                **COMMON,
            }
        )
    )
    return dict(row)


@pytest.mark.parametrize(
    "ending", [".parquet", ".arrow", ".feather", ".jsonl", ".json", ".jsonl.gz", ".arrow.zst"]
)
@given(rows=st.lists(any_row(), min_size=1, max_size=5))
@QUICK
def test_palate_files_hold_any_judgments(tmp_path: Path, ending: str, rows: list[dict[str, Any]]) -> None:
    data = PreferenceData.from_rows(with_ids(rows))
    path = tmp_path / f"data{ending}"
    write(data, path)
    assert load(path) == data
    assert PreferenceData.concat(list(scan(path, batch_rows=2))) == data


PAIR = st.tuples(TEXT, TEXT).map(list)


def battles(rows: list[dict[str, Any]]) -> PreferenceData:
    for row in rows:
        row["scores"], row["tie"] = row.pop("outcome")
    return PreferenceData.from_rows(with_ids(rows))


def rows_of(own: dict[str, st.SearchStrategy[Any]], **fixed: Any) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries({**own, **COMMON}).map(lambda row: fixed | row), min_size=1, max_size=5
    )


WON = st.sampled_from([[1.0, 0.0], [0.0, 1.0]])
CASES: dict[str, st.SearchStrategy[PreferenceData]] = {
    "arena": rows_of(
        {
            "items": st.lists(NAME, min_size=2, max_size=2, unique=True),
            "prompt": maybe(TEXT),
            "responses": PAIR,
            "outcome": st.sampled_from([([1, 0], None), ([0, 1], None), ([1, 1], "equal"), ([0, 0], "both_bad")]),
        },
        protocol="comparison", scale="ordinal",
    ).map(battles),
    "arena, items only": rows_of(
        {
            "items": st.lists(NAME, min_size=2, max_size=2, unique=True),
            "outcome": st.sampled_from([([1, 0], None), ([0, 1], None), ([1, 1], None), ([0, 0], "equal")]),
        },
    ).map(battles),
    "trl": rows_of({"prompt": maybe(TEXT), "responses": PAIR, "scores": WON}, protocol="comparison", scale="ordinal")
    .map(with_ids).map(PreferenceData.from_rows),
    "trl, margins": rows_of(
        {"prompt": TEXT, "responses": PAIR, "scores": st.floats(0.01, 50).map(lambda m: [m, 0.0])},
        protocol="comparison", scale="interval",
    ).map(with_ids).map(PreferenceData.from_rows),
    "trl, ratings of models": rows_of(
        {
            "prompt": TEXT, "responses": PAIR, "items": st.tuples(NAME, NAME).map(list),
            "scores": st.lists(st.floats(1, 10), min_size=2, max_size=2, unique=True),
        },
        protocol="rating", scale="interval",
    ).map(with_ids).map(PreferenceData.from_rows),
    "kto": rows_of(
        {"prompt": maybe(TEXT), "responses": TEXT.map(lambda t: [t]), "scores": st.sampled_from([[0.0], [1.0]])},
        protocol="rating", scale="ordinal",
    ).map(with_ids).map(PreferenceData.from_rows),
    "ranked": rows_of(
        {
            "prompt": maybe(TEXT),
            "list": st.lists(st.tuples(TEXT, NAME, st.sampled_from([-1.0, -2.0, -2.0, float("nan")])), max_size=3),
        },
        protocol="ranking", scale="ordinal",
    ).map(lambda rows: ranked(rows)),
    "ratings": rows_of(
        {"items": NAME.map(lambda t: [t]), "prompt": maybe(TEXT), "scores": st.floats(-1e9, 1e9).map(lambda x: [x])},
        protocol="rating", scale="interval",
    ).map(with_ids).map(PreferenceData.from_rows),
}  # fmt: skip


def ranked(rows: list[dict[str, Any]]) -> PreferenceData:
    for row in rows:
        entries = [("best", "b", -1.0), *row.pop("list")]
        row["responses"], row["items"], row["scores"] = (list(part) for part in zip(*entries, strict=True))
    return PreferenceData.from_rows(with_ids(rows))


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
@pytest.mark.parametrize("case", CASES)
def test_read_write_read_is_the_identity(tmp_path: Path, case: str, ending: str) -> None:
    name = case.split(",")[0]

    @given(data=CASES[case])
    @settings(QUICK, max_examples=8)
    def check(data: PreferenceData) -> None:
        path = tmp_path / f"data{ending}"
        write(data, path, format=name)
        assert load(path, format=name) == data

    check()


@st.composite
def conversation(draw: st.DrawFn) -> dict[str, Any]:
    """A prompt of several turns in the form the readers give it, and two one-turn answers that differ."""
    turns = [
        {"role": role, "content": draw(NAME)}
        for role in ["user", *["assistant", "user"] * draw(st.integers(1, 2))]
    ]
    text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    return {"prompt": text, "messages": turns, "responses": draw(PAIR), "scores": draw(WON)}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
@given(rows=st.lists(conversation(), min_size=1, max_size=4))
@QUICK
def test_conversations_survive_trl(tmp_path: Path, ending: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row |= {"protocol": "comparison", "scale": "ordinal"}
    data = PreferenceData.from_rows(rows)
    path = tmp_path / f"data{ending}"
    write(data, path, format="trl")
    assert load(path) == data


def test_a_text_prompt_can_be_written_as_conversation(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "responses": ["Hello.", "No."], "scores": [1, 0]}
    data = PreferenceData.from_rows([row | {"protocol": "comparison", "scale": "ordinal"}])
    write(data, tmp_path / "d.jsonl", format="trl", conversational=True)
    line = json.loads((tmp_path / "d.jsonl").read_text())
    assert line["prompt"] == [{"role": "user", "content": "Hi"}]
    assert line["rejected"] == [{"role": "assistant", "content": "No."}]
    assert load(tmp_path / "d.jsonl") == data


@st.composite
def profile(draw: st.DrawFn) -> tuple[str, PreferenceData]:
    names = draw(st.lists(NAME, min_size=2, max_size=5, unique=True))
    kind = draw(st.sampled_from(["soc", "soi", "toc", "toi", "cat"]))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        order = draw(st.permutations(names))
        if kind in ("soi", "toi", "cat"):
            order = order[: draw(st.integers(1, len(order)))]
        steps = draw(
            st.lists(st.integers(0 if kind[0] != "s" else 1, 1), min_size=len(order), max_size=len(order))
        )
        if kind == "cat":
            place = sorted((draw(st.integers(0, 2)) for _ in order), reverse=True)
            row = {"scores": place, "protocol": "rating", "metadata": '{"categories": ["a", "b", "c"]}'}
        else:
            places = [-1.0]
            for step in steps[1:]:
                places.append(places[-1] - step)
            row = {"scores": places, "protocol": "ranking"}
        rows.append(
            row | {"items": list(order), "scale": "ordinal", "weight": float(draw(st.integers(2, 9)))}
        )
    return kind, PreferenceData.from_rows(rows)


@given(drawn=profile())
@QUICK
def test_preflib_profiles_survive(tmp_path: Path, drawn: tuple[str, PreferenceData]) -> None:
    kind, data = drawn
    path = tmp_path / f"data.{kind}"
    write(data, path)
    assert load(path) == data


def test_what_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    data = PreferenceData.from_rows(
        [
            {"prompt": "p", "responses": ["a", "b"], "scores": [1, 0], "context": [{"id": "1", "text": "t"}]},
            {"prompt": "p", "responses": ["a", "b"], "scores": [1, 0]},
        ]
    )
    with pytest.raises(
        DataError, match=r"trl cannot hold everything: it would lose or change context \(1 of 2\); write"
    ):
        write(data, tmp_path / "d.jsonl", format="trl")
    assert not list(tmp_path.iterdir())
    write(data, tmp_path / "d.jsonl", format="trl", lossy=True)
    assert load(tmp_path / "d.jsonl").column("responses").to_pylist() == [["a", "b"], ["a", "b"]]


def test_ties_have_no_place_in_trl(tmp_path: Path) -> None:
    rows = [{"responses": ["a", "b"], "scores": [1, 1]}, {"responses": ["a", "b"], "scores": [1, 0]}]
    data = PreferenceData.from_rows(rows)
    with pytest.raises(DataError, match="lose or change 1 judgments without a better of two responses"):
        write(data, tmp_path / "d.jsonl", format="trl")


def test_an_order_of_presentation_has_no_place_in_preflib(tmp_path: Path) -> None:
    data = PreferenceData.from_rows(
        [{"items": ["a", "b"], "scores": [-2, -1], "protocol": "ranking", "scale": "ordinal"}]
    )
    with pytest.raises(DataError, match="lose or change items, scores"):
        write(data, tmp_path / "d.soc")
    write(data, tmp_path / "d.soc", lossy=True)
    assert load(tmp_path / "d.soc").column("items").to_pylist() == [["b", "a"]]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PreferenceData.from_rows([{"items": ["a", "b"], "scores": [1, 0]}])
    path = tmp_path / "d.jsonl"
    write(data, path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="trl"):
        write(data, path, format="trll")
    with pytest.raises(DataError):
        write(data, path, format="kto")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["d.jsonl"]


def test_arrow_files_are_mapped_and_not_copied(tmp_path: Path) -> None:
    rows = [{"items": ["a", "b"], "scores": [1, 0], "prompt": "x" * 1000}] * 2000
    write(PreferenceData.from_rows(rows), tmp_path / "d.arrow")
    before = pa.total_allocated_bytes()
    data = load(tmp_path / "d.arrow")
    assert data.n_rows == 2000
    assert pa.total_allocated_bytes() - before < 100_000
