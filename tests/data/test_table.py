"""What `PreferenceData` accepts, refuses and keeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError

VOTE = {"items": [["a", "b"]], "scores": [[1.0, 0.0]]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"item": [["a", "b"]], "scores": [[1, 0]]},
            "unknown column 'item'; did you mean 'items'? known: annotator, annotator_kind, aspect, "
            "context, features, id, items, media, messages, metadata, prompt, prompt_id, protocol, "
            "rationale, response_context, response_messages, response_views, responses, scale, scores, "
            "tie, time, weight",
        ),
        ({"items": [["a", "b"]]}, "the column 'scores' is missing; give k scores for each judgment"),
        (
            {"items": [["a", "b"], ["a", 3]], "scores": [[1, 0], [1, 0]]},
            "row 2, field 'items': not of type list<item: string>: Expected bytes, got a 'int' object",
        ),
        (
            {"items": [["a", "b"]], "scores": [[1, 0], [0, 1]]},
            "field 'items': has 1 rows where other columns have 2; give every column one entry per judgment",
        ),
        (
            {"items": [["a", "b"], ["a"]], "scores": [[1, 0], [1, 0]]},
            "row 2, field 'items': its length differs from that of 'scores'; give one entry per score",
        ),
        (
            {"items": [["a"], ["b"]], "scores": [[1], None]},
            "row 2, field 'scores': no scores; give one score per alternative, NaN for 'not judged'",
        ),
        (
            {"items": [["a"], []], "scores": [[1], []]},
            "row 2, field 'scores': an empty list of scores; drop the row or give its scores",
        ),
        (
            {"prompt": ["q"], "scores": [[1, 0]]},
            "judgments without anything judged; give one of: items, responses, response_messages, "
            "response_context, response_views, features, media",
        ),
        (
            {"items": [["a", "b"]] * 2, "scores": [[1, 0], [0, np.inf]]},
            "row 2, field 'scores': an infinite score; give a finite number or NaN",
        ),
        (
            VOTE | {"tie": ["bothbad"]},
            "row 1, field 'tie': unknown value 'bothbad'; use one of: equal, both_bad, order_inconsistent",
        ),
        (
            VOTE | {"protocol": ["vote"]},
            "row 1, field 'protocol': unknown value 'vote'; use one of: comparison, ranking, rating, choice, "
            "generation, behaviour",
        ),
        (
            VOTE | {"weight": [-1.0]},
            "row 1, field 'weight': a weight that is negative or not finite; "
            "give a finite weight of 0 or more",
        ),
        (
            VOTE | {"weight": [float("nan")]},
            "row 1, field 'weight': a weight that is negative or not finite; "
            "give a finite weight of 0 or more",
        ),
        (
            {"items": [["a", "b"]] * 3, "scores": [[1, 0]] * 3, "id": ["x", None, "x"]},
            "row 3, field 'id': the id 'x' occurs twice; give each judgment an id of its own, or leave the "
            "column out",
        ),
    ],
)
def test_bad_columns_are_refused_with_row_field_and_remedy(columns, message):
    with pytest.raises(DataError) as caught:
        PreferenceData.from_columns(columns)
    assert str(caught.value) == message


def test_several_bad_rows_are_counted_and_the_file_is_named():
    with pytest.raises(DataError) as caught:
        PreferenceData.from_columns(
            {"items": [["a", "b"]] * 3, "scores": [[1, 0]] * 3, "weight": [1.0, -1.0, -2.0]},
            source="votes.csv",
        )
    assert str(caught.value) == (
        "votes.csv: row 2, field 'weight': a weight that is negative or not finite (and 1 more rows); "
        "give a finite weight of 0 or more"
    )


def test_an_arrow_column_of_another_type_is_refused():
    with pytest.raises(DataError, match="field 'items': holds int64 where list<item: string> is wanted"):
        PreferenceData(pa.table({"items": [1, 2], "scores": [[1.0], [0.0]]}))


def test_null_scores_become_nan():
    data = PreferenceData.from_columns({"items": [["a", "b"], ["a", "b"]], "scores": [[1, None], [0, 1]]})
    np.testing.assert_array_equal(data.scores, [1, np.nan, 0, 1])
    assert data.column("scores").flatten().null_count == 0


def test_scores_may_be_a_matrix():
    data = PreferenceData.from_columns(
        {"items": [["a", "b"]] * 2, "scores": np.array([[1.0, 0.0], [0.0, 1.0]])}
    )
    assert data.scores.tolist() == [1, 0, 0, 1]


def test_a_column_of_nulls_is_left_out():
    data = PreferenceData.from_columns(VOTE | {"annotator": [None]})
    assert not data.has("annotator")
    assert data.column("annotator").null_count == 1
    assert data.codes("annotator")[0].tolist() == [-1]


def test_flat_keeps_the_place_of_rows_without_the_column():
    data = PreferenceData.from_columns(
        {
            "items": [["a", "b"], ["c"], ["d", "e"]],
            "responses": [None, ["x"], None],
            "scores": [[1, 0], [1], [0, 1]],
        }
    )
    assert data.flat("responses").to_pylist() == [None, None, "x", None, None]
    assert data.flat("media").to_pylist() == [None] * 5
    assert data.offsets().tolist() == [0, 2, 3, 5]
    with pytest.raises(ValueError, match="no entry per alternative"):
        data.flat("prompt")


def test_flat_of_a_slice_shows_that_slice_only():
    data = PreferenceData.from_columns(
        {
            "items": [["a", "b"], ["c", "d"], ["e", "f"]],
            "scores": [[1, 0]] * 3,
            "responses": [["x", "y"], None, None],
        }
    )
    part = PreferenceData(data.table.slice(1), check=False)
    assert part.flat("items").to_pylist() == ["c", "d", "e", "f"]
    assert part.flat("responses").to_pylist() == [None] * 4


def test_categories_of_any_encoding_are_read_alike():
    names = ["u1", "u2", "u1", None]
    votes = {"items": [["a", "b"]] * 4, "scores": [[1, 0]] * 4}
    plain = PreferenceData.from_columns(votes | {"annotator": names})
    repeated = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, 3], pa.int32()), pa.array(["u1", "u2", "u1", None])
    )
    for column in (repeated, pa.array(names).dictionary_encode(), pa.array(names, pa.large_string())):
        data = PreferenceData.from_columns(votes | {"annotator": column})
        codes, known = data.codes("annotator")
        assert [known[code] if code >= 0 else None for code in codes] == names
        assert sorted(known) == ["u1", "u2"]
        assert data == plain


def test_concat_joins_columns_and_categories():
    first = PreferenceData.from_columns(VOTE | {"annotator": ["u"], "id": ["1"]})
    second = PreferenceData.from_columns(
        {"responses": [["x"]], "scores": [[4]], "annotator": ["v"], "id": ["2"]}
    )
    both = PreferenceData.concat([first, second])
    assert both.column("annotator").to_pylist() == ["u", "v"]
    assert both.flat("items").to_pylist() == ["a", "b", None]
    assert both.flat("responses").to_pylist() == [None, None, "x"]
    with pytest.raises(DataError, match="the id '1' occurs twice"):
        PreferenceData.concat([first, first])
    with pytest.raises(ConfigError, match="at least one part"):
        PreferenceData.concat([])


def test_take_and_mask_select_rows_in_order():
    data = PreferenceData.from_columns({"items": [["a"], ["b"], ["c"]], "scores": [[1], [2], [3]]})
    assert data.take([2, 0]).flat("items").to_pylist() == ["c", "a"]
    assert data.mask([True, False, True]).flat("items").to_pylist() == ["a", "c"]
    assert len(data.mask([False] * 3)) == 0
    assert data.mask([False] * 3).offsets().tolist() == [0]


def test_with_columns_adds_and_replaces_and_leaves_the_original():
    data = PreferenceData.from_columns(VOTE)
    changed = data.with_columns(scores=[[0, 1]], weight=[2.0])
    assert changed.scores.tolist() == [0, 1]
    assert changed.weights.tolist() == [2.0]
    assert data.scores.tolist() == [1, 0]
    assert data.weights.tolist() == [1.0]


def test_prompts_are_told_apart_by_id_else_by_text():
    data = PreferenceData.from_columns(
        {
            "prompt_id": ["p", "q", "p", None, None, None],
            "prompt": ["one", "one", "two", "one", "one", None],
            "items": [["a"]] * 6,
            "scores": [[1]] * 6,
        }
    )
    codes = data.prompt_codes()
    assert codes[0] == codes[2]
    assert codes[3] == codes[4]
    assert codes[5] == -1
    assert len({codes[0], codes[1], codes[3]}) == 3


def test_rows_of_different_keys_make_columns():
    data = PreferenceData.from_rows(
        [{"items": ["a"], "scores": [1]}, {"items": ["b"], "scores": [2], "prompt": "q"}]
    )
    assert data.column("prompt").to_pylist() == [None, "q"]


def test_no_judgments_are_valid_data():
    data = PreferenceData.from_columns({"items": [], "scores": []})
    assert len(data) == 0
    assert data.pairs().height == 0
    assert data.rankings().height == 0
    assert data.ratings().height == 0
    assert data.describe()["rows"] == 0
    assert len(data.group_by_prompt()) == 0
