"""Battles from columns in memory: the same as through the record, for every kind of column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import columns, count
from palate.rank.battles import FIRST_WINS, SECOND_WINS, TIE, Battles, battles

FIRST = ["x", "y", "x", "q"]
SECOND = ["y", "z", "z", "x"]
WINNER = ["model_a", "Tie", "model_b", "tie (bothbad)"]
SCORES = {"model_a": [1, 0], "model_b": [0, 1], "tie": [1, 1], "both_bad": [0, 0]}

KINDS = {
    "list": list,
    "fixed-width NumPy": np.array,
    "object NumPy": lambda values: np.array(values, dtype=object),
    "NumPy strings": lambda values: np.array(values, dtype=np.dtypes.StringDType()),
    "pandas": pd.Series,
    "pandas objects": lambda values: pd.Series(values, dtype=object),
    "pandas categories": lambda values: pd.Series(values, dtype="category"),
    "pandas Arrow": lambda values: pd.Series(values, dtype=pd.ArrowDtype(pa.string())),
    "polars": pl.Series,
    "polars categories": lambda values: pl.Series(values, dtype=pl.Categorical),
    "Arrow": pa.array,
    "Arrow chunks": lambda values: pa.chunked_array([values[:1], [], values[1:]]),
    "Arrow views": lambda values: pa.array(values, pa.string_view()),
    "Arrow dictionary": lambda values: pa.array(values).dictionary_encode(),
    "Arrow dictionary with more names than rows": lambda values: pa.DictionaryArray.from_arrays(
        pa.array(range(1, len(values) + 1)), pa.array(["never", *values])
    ),
}


def record(first, second, winner, weight=None):
    given = {
        "items": [[a, b] for a, b in zip(first, second, strict=True)],
        "scores": [SCORES[label] for label in winner],
        "tie": [{"tie": "equal", "both_bad": "both_bad"}.get(label) for label in winner],
    }
    return PreferenceData.from_columns(given | ({} if weight is None else {"weight": list(weight)}))


def same(one, other):
    assert one.items == other.items
    for name in ("first", "second", "outcome", "weights", "judgment"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.unused, one.shared, one.n_rows) == (other.unused, other.shared, other.n_rows)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_library_give_the_same_battles(kind):
    made = KINDS[kind]
    found = Battles.from_columns(made(FIRST), made(SECOND), made(WINNER))
    assert found.items == ["x", "y", "z", "q"]
    assert found.first.tolist() == [0, 1, 0, 3]
    assert found.second.tolist() == [1, 2, 2, 0]
    assert found.outcome.tolist() == [FIRST_WINS, TIE, SECOND_WINS, TIE]


@pytest.mark.parametrize(
    "winner",
    [
        [1, 0, 0.5, 1],
        np.array([1.0, 0.0, 0.5, 1.0]),
        pl.Series([1.0, 0.0, 0.5, 1.0]),
        pd.Series([1, 0, 0.5, 1]),
    ],
)
def test_shares_of_the_first_item_are_winners_too(winner):
    found = Battles.from_columns(FIRST, SECOND, winner)
    assert found.outcome.tolist() == [FIRST_WINS, SECOND_WINS, TIE, FIRST_WINS]
    assert found.share.tolist() == [1.0, 0.0, 0.5, 1.0]


def test_labels_name_the_outcomes_of_the_column():
    found = Battles.from_columns(FIRST, SECOND, ["L", "R", "both", "none"], labels={
        "L": "model_a", "R": "model_b", "both": "tie", "none": "both_bad",
    }, both_bad="drop")  # fmt: skip
    assert found.outcome.tolist() == [FIRST_WINS, SECOND_WINS, TIE]
    assert found.judgment.tolist() == [0, 1, 2]
    numbered = Battles.from_columns(FIRST, SECOND, [1, 2, 2, 1], labels={1: "model_a", 2: "model_b"})
    assert numbered.outcome.tolist() == [FIRST_WINS, SECOND_WINS, SECOND_WINS, FIRST_WINS]


def test_integers_are_names():
    assert Battles.from_columns([10, 7], [7, 8], [1, 0]).items == ["10", "7", "8"]


votes = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"), st.sampled_from(list(SCORES)),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    ).filter(lambda vote: vote[0] != vote[1]),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(votes, st.integers(1, 7), st.booleans(), st.sampled_from(["tie", "drop"]))
def test_columns_and_the_record_give_the_same_battles_however_they_are_cut(drawn, cut, weighted, both_bad):
    first, second, winner, weight = (list(values) for values in zip(*drawn, strict=True))
    weight = weight if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "RANGE", cut)
        try:
            expected = battles(record(first, second, winner, weight), both_bad)
        except DataError:
            with pytest.raises(DataError):
                Battles.from_columns(first, second, winner, weight=weight, both_bad=both_bad)
            return
        same(Battles.from_columns(first, second, winner, weight=weight, both_bad=both_bad), expected)


def test_battles_rank_like_the_record_they_stand_for():
    rng = np.random.default_rng(3)
    a = rng.integers(0, 20, 2000)
    b = (a + rng.integers(1, 20, 2000)) % 20
    winner = np.array(list(SCORES))[rng.integers(0, 4, 2000)]
    names = np.array([f"model-{i}" for i in range(20)])
    counted = count(Battles.from_columns(names[a], names[b], winner))
    data = record(names[a].tolist(), names[b].tolist(), winner.tolist())
    expected = count(data)
    for name in ("first", "second", "weight", "square", "count"):
        np.testing.assert_array_equal(getattr(counted, name), getattr(expected, name))
    assert palate.rank(Battles.from_columns(names[a], names[b], winner)).table.equals(palate.rank(data).table)


def test_a_hundred_thousand_items_are_counted_by_pair():
    size = 100_000
    names = pa.array([f"item-{i}" for i in range(size)])
    order = np.random.default_rng(0).permutation(size)
    a, b = names.take(pa.array(order)), names.take(pa.array(np.roll(order, 1)))
    counted = count(Battles.from_columns(a, b, np.ones(size)))
    assert counted.n_items == counted.n_comparisons == len(counted.first) == size
    assert counted.items[:2] == [a[0].as_py(), b[0].as_py()]
    # Every item won once and lost once, so each pair is a win of the item that was named first in its row.
    assert counted.per_item(counted.wins, counted.total - counted.wins).tolist() == [1.0] * size


@pytest.mark.parametrize(
    ("first", "second", "winner", "message"),
    [
        (["a"], ["b"], ["c"], "row 1, field 'winner': unknown winner 'c'; use model_a, model_b, tie"),
        (FIRST, SECOND, [1, 0, 0.7, 1], "row 3, field 'winner': unknown winner 0.7; use"),
        (FIRST, SECOND, ["tie", None, None, "tie"], "row 2, field 'winner': a missing winner (and 1 "),
        (FIRST, SECOND, [1, 0, float("nan"), 1], "row 3, field 'winner': a missing winner"),
        (["a", "b"], ["b", "b"], [1, 1], "row 2, field 'second': the item 'b' is compared with itself"),
        (["a", None], ["b", "c"], [1, 1], "row 2, field 'first': a missing item; give one in every row"),
        (["a", "b"], ["", "c"], [1, 1], "row 1, field 'second': an empty name; name every item"),
        ([1.5], ["b"], [1], "field 'first': holds values of type double, not names; give"),
        (["a", 1], ["b", "c"], [1, 1], "field 'first': is no column of one type"),
        ("model_a", ["b"], [1], "field 'first': is no column of one type (a single string)"),
        (["a"], ["b"], [[1]], "field 'winner': holds values of type list<item: int64>, not winners"),
        (["a", "b"], ["b"], [1, 1], "field 'second': has 1 rows, first has 2; give equal columns"),
        ([], [], [], "no judgments to rank"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_used_gives_one_error(first, second, winner, message):
    with pytest.raises(DataError) as caught:
        Battles.from_columns(first, second, winner)
    assert str(caught.value).startswith(message)


def test_errors_name_the_file_and_the_column_as_the_frame_does():
    frame = pd.DataFrame({"model_a": ["a", None], "model_b": ["b", "c"], "winner": [1, 0]})
    with pytest.raises(DataError, match=r"^votes.csv: row 2, field 'model_a': a missing item"):
        Battles.from_columns(frame["model_a"], frame["model_b"], frame["winner"], source="votes.csv")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, -1, 1, 1], "row 2, field 'weight': the weight -1 is negative or not finite"),
        ([1, 1, np.inf, 1], "row 3, field 'weight': the weight inf is negative or not finite"),
        ([1, 1, 1, None], "row 4, field 'weight': a missing weight"),
        ([0, 0, 0, 0], "field 'weight': every weight is 0"),
        (["a"] * 4, "field 'weight': holds values of type string, not weights"),
        ([1], "field 'weight': has 1 rows, first has 4"),
    ],
)
def test_weights_that_cannot_be_used_give_one_error(weight, message):
    with pytest.raises(DataError) as caught:
        Battles.from_columns(FIRST, SECOND, WINNER, weight=weight)
    assert str(caught.value).startswith(message)


def test_options_that_are_unknown():
    with pytest.raises(ConfigError, match="both_bad is 'both'"):
        Battles.from_columns(FIRST, SECOND, WINNER, both_bad="both")
    with pytest.raises(ConfigError, match="labels gives 'left'"):
        Battles.from_columns(FIRST, SECOND, WINNER, labels={"a": "left"})


def test_only_battles_that_both_lost_compare_nothing_when_dropped():
    with pytest.raises(DataError, match="set both_bad='tie'"):
        Battles.from_columns(["a"], ["b"], ["both_bad"], both_bad="drop")
