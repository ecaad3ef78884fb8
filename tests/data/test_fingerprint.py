"""The fingerprint depends on content alone."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.fingerprint import fingerprint
from palate.data.simulate import simulate_battles
from palate.data.table import PreferenceData

RICH = {
    "id": ["1", None, "3", "4"],
    "prompt": ["p", "", None, "q"],
    "messages": [[{"role": "user", "content": "hi"}], None, [], [{"role": "user", "content": None}]],
    "context": [None, [{"id": "d", "text": "x"}], None, None],
    "items": [["a", "b"], ["a"], None, ["c", None]],
    "responses": [["x", ""], [None], ["y", "z"], None],
    "response_views": [[[("k", "v")], None], None, [[], [("k", None)]], None],
    "features": [[[1.0, 2.0], [3.0]], None, [[], [0.5]], None],
    "scores": [[1, 0], [float("nan")], [2.5, -1], [0, 0]],
    "tie": [None, None, None, "equal"],
    "annotator": ["u", "v", "u", None],
    "weight": [1.0, None, 0.5, 2.0],
    "time": [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), None, None, None],
}


def rich():
    return PreferenceData.from_columns(RICH)


def test_chunks_slices_and_storage_do_not_change_it(tmp_path):
    data = rich()
    expected = data.fingerprint()
    assert len(expected) == 64
    table = data.table
    assert fingerprint(pa.concat_tables([table.slice(i, 1) for i in range(4)])) == expected
    padded = pa.concat_tables([table, table, table]).slice(4, 4)
    assert fingerprint(padded) == expected
    assert fingerprint(padded.combine_chunks()) == expected
    pq.write_table(table, tmp_path / "data.parquet")
    assert PreferenceData(pq.read_table(tmp_path / "data.parquet")).fingerprint() == expected
    assert fingerprint(table.select(list(reversed(table.column_names)))) == expected


def test_the_order_and_use_of_a_dictionary_do_not_change_it():
    base = {"items": [["a"]] * 3, "scores": [[1]] * 3}
    expected = PreferenceData.from_columns(base | {"annotator": ["u", "v", "u"]}).fingerprint()
    for codes, names in (
        ([1, 0, 1], ["v", "u"]),
        ([2, 1, 2], ["unused", "v", "u"]),
        ([0, 1, 2], ["u", "v", "u"]),
    ):
        column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names))
        table = PreferenceData.from_columns(base).table.append_column("annotator", column)
        assert fingerprint(table) == expected


def test_absent_columns_equal_columns_of_nulls():
    data = simulate_battles(50, 5, ties=0.5)
    decided = data.filter(tie=None)
    assert decided.has("tie")
    assert decided == PreferenceData(decided.table)


def test_all_nan_are_one_and_minus_zero_is_zero():
    payload = np.array([0x7FF8000000000001, 0xFFF8000000000000], dtype=np.uint64).view(np.float64)
    one = PreferenceData.from_columns({"items": [["a", "b", "c"]], "scores": [[*payload, -0.0]]})
    other = PreferenceData.from_columns({"items": [["a", "b", "c"]], "scores": [[np.nan, np.nan, 0.0]]})
    assert one == other


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", ["1", "2", "3", "4"]),
        ("prompt", ["p", None, None, "q"]),
        ("messages", [[{"role": "user", "content": "hi"}], [], [], [{"role": "user", "content": None}]]),
        ("items", [["a", "b"], ["a"], None, [None, "c"]]),
        ("responses", [["x", ""], [""], ["y", "z"], None]),
        ("response_views", [[[("k", "v")], []], None, [[], [("k", None)]], None]),
        ("features", [[[1.0], [2.0, 3.0]], None, [[], [0.5]], None]),
        ("scores", [[1, 0], [0], [2.5, -1], [0, 0]]),
        ("tie", [None, None, None, "both_bad"]),
        ("annotator", ["u", "v", None, "u"]),
        ("weight", [1.0, 1.0, 0.5, 2.0]),
    ],
)
def test_any_change_of_content_changes_it(name, values):
    assert PreferenceData.from_columns(RICH | {name: values}) != rich()


def test_the_order_of_rows_counts():
    assert rich().take([1, 0, 2, 3]) != rich()


def test_texts_cannot_be_moved_between_neighbours():
    def of(*rows):
        return PreferenceData.from_columns(
            {"responses": list(rows), "scores": [[1.0] * len(r) for r in rows]}
        )

    different = [of(["ab", "c"]), of(["a", "bc"]), of(["ab"], ["c"]), of(["abc", ""]), of(["", "abc"])]
    assert len({data.fingerprint() for data in different}) == 5


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=3), max_size=6),
    st.lists(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=3), max_size=6),
)
def test_fingerprints_are_equal_exactly_where_contents_are(one, other):
    tables = [pa.table({"column": pa.array(rows, pa.list_(pa.large_string()))}) for rows in (one, other)]
    assert (fingerprint(tables[0]) == fingerprint(tables[1])) == (one == other)


def test_a_long_table_is_hashed_alike_in_any_slices():
    data = simulate_battles(200_000, 50, ties=0.3)
    cut = pa.concat_tables([data.table.slice(0, 77_777), data.table.slice(77_777)])
    assert fingerprint(cut) == data.fingerprint()
