"""Counting comparisons: every kind of judgment, every kind of bad input."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import count
from palate.rank import counts as counts_module
from palate.rank.battles import battles

NAN = float("nan")


def table(comparisons):
    """Weights as {(winner, loser): w} and {frozenset of tied items: w}."""
    wins, ties = {}, {}
    for i, j, (first, second, tie) in zip(
        comparisons.first, comparisons.second, comparisons.weight, strict=True
    ):
        a, b = comparisons.items[i], comparisons.items[j]
        wins |= {key: value for key, value in (((a, b), first), ((b, a), second)) if value}
        if tie:
            ties[frozenset((a, b))] = tie
    return wins, ties


def rows(*judgments):
    return PreferenceData.from_rows(
        [dict(zip(("items", "scores", "protocol", "tie", "weight"), j, strict=False)) for j in judgments]
    )


def test_a_vote_is_a_win_whichever_side_it_is_on():
    wins, ties = table(count(rows((["a", "b"], [1, 0]), (["b", "a"], [0, 1]), (["b", "a"], [1, 0]))))
    assert wins == {("a", "b"): 2, ("b", "a"): 1}
    assert ties == {}


def test_a_ranking_implies_all_its_pairs():
    wins, _ = table(count(rows((["a", "b", "c"], [-1, -2, -3]))))
    assert wins == {("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 1}


def test_tied_ranks_and_unjudged_items():
    wins, ties = table(count(rows((["a", "b", "c", "d"], [3, 3, NAN, 1]))))
    assert wins == {("a", "d"): 1, ("b", "d"): 1}
    assert ties == {frozenset("ab"): 1}


def test_a_choice_beats_the_others_which_stay_incomparable():
    wins, ties = table(count(rows((["a", "b", "c"], [0, 1, 0], "choice"))))
    assert wins == {("b", "a"): 1, ("b", "c"): 1}
    assert ties == {}


def test_both_bad_is_a_tie_or_nothing():
    data = rows((["a", "b"], [0, 0], "comparison", "both_bad"), (["a", "b"], [1, 1], "comparison", "equal"))
    assert table(count(data))[1] == {frozenset("ab"): 2}
    dropped = count(data, both_bad="drop")
    assert table(dropped)[1] == {frozenset("ab"): 1}
    assert dropped.unused == 1


def test_a_vote_with_a_missing_score_compares_nothing():
    counted = count(rows((["a", "b"], [1, NAN]), (["a", "b"], [1, 0])))
    assert counted.n_comparisons == 1
    assert counted.unused == 1


def test_judgments_of_different_lengths_mix():
    counted = count(rows((["a", "b"], [1, 0]), (["a", "b", "c"], [1, 2, 3]), (["c"], [1])))
    assert table(counted)[0] == {("a", "b"): 1, ("b", "a"): 1, ("c", "a"): 1, ("c", "b"): 1}
    assert counted.unused == 1
    assert counted.clustered is not None
    assert counted.square.sum() == 1
    assert counted.per_item(counted.count.sum(axis=1)).tolist() == [3, 3, 2]


def test_weights_are_summed_and_zero_weights_do_not_count():
    data = rows(
        (["a", "b"], [1, 0], "comparison", None, 2.0),
        (["b", "a"], [0, 1], "comparison", None, 0.5),
        (["a", "b"], [0, 1], "comparison", None, 0.0),
    )
    counted = count(data)
    assert table(counted)[0] == {("a", "b"): 2.5}
    assert counted.square.tolist() == [[4.25, 0.0, 0.0]]
    assert counted.count.tolist() == [[2, 0, 0]]
    assert counted.unused == 1


def test_weights_that_count_stand_for_equal_rows():
    ballots = [(["a", "b", "c"], [3, 2, 1]), (["c", "a", "b"], [2, 2, 1]), (["b", "a"], [1, 0])]
    counted = rows(
        *[(*ballot, "ranking", None, w) for ballot, w in zip(ballots, (3.0, 2.0, 4.0), strict=True)]
    )
    repeated = rows(*[ballot for ballot, w in zip(ballots, (3, 2, 4), strict=True) for _ in range(w)])
    one, other = count(counted, weights="count"), count(repeated)
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.square, other.square)
    np.testing.assert_array_equal(one.count, other.count)
    board, same = palate.rank(counted, weights="count", l2=0.1), palate.rank(repeated, l2=0.1)
    np.testing.assert_allclose(board.covariance, same.covariance, rtol=1e-9)
    as_importance = palate.rank(counted, l2=0.1)
    assert as_importance.compare("a", "b").standard_error > board.compare("a", "b").standard_error
    assert as_importance.diagnostics["advice"][-1].endswith(
        "if they count equal judgments, set weights='count'."
    )


def test_a_fraction_is_not_a_count():
    data = rows((["a", "b"], [1, 0], "comparison", None, 2.0), (["a", "b"], [0, 1], "comparison", None, 0.5))
    with pytest.raises(DataError) as caught:
        count(data, weights="count")
    assert str(caught.value) == (
        "row 2, field 'weight': the weight 0.5 is not a count; "
        "give whole numbers, or set weights='importance'"
    )


votes = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.sampled_from([(1, 0), (0, 1), (1, 1)]),
        st.sampled_from([0.5, 1.0, 2.0]),
    ).filter(lambda vote: vote[0] != vote[1]),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(votes)
def test_sorting_and_the_table_count_the_same_as_a_loop(drawn):
    data = PreferenceData.from_columns(
        {
            "items": [[a, b] for a, b, _, _ in drawn],
            "scores": [list(scores) for _, _, scores, _ in drawn],
            "weight": [weight for *_, weight in drawn],
        }
    )
    expected = Counter()
    for a, b, (left, right), weight in drawn:
        key = (a, b) if left > right else (b, a) if left < right else frozenset((a, b))
        expected[key] += weight
    by_table = count(data)
    rows = battles(data)
    by_sorting = counts_module._by_sorting(
        len(rows.items), rows.first, rows.second, rows.outcome, rows.weight
    )
    wins, ties = table(by_table)
    assert wins | ties == pytest.approx(dict(expected))
    for left, right in zip(
        by_sorting,
        (by_table.first, by_table.second, by_table.weight, by_table.square, by_table.count),
        strict=True,
    ):
        np.testing.assert_allclose(left, right)


def test_many_batches_count_like_one():
    data = rows(*[(["a", "b"], [1, 0])] * 3, *[(["b", "c"], [0, 1])] * 2)
    chunked = pa.concat_tables([data.table.slice(0, 2), data.table.slice(2, 3)])
    split = PreferenceData(chunked)
    assert split.table.column("items").num_chunks == 2
    assert table(count(split)) == table(count(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PreferenceData.from_columns({"items": [], "scores": []}), "no judgments to rank"),
        (
            PreferenceData.from_columns({"responses": [["x", "y"]], "scores": [[1, 0]]}),
            "field 'items': the judgments name no items; "
            "name what is ranked (systems, songs, players) in the column 'items'",
        ),
        (
            rows((["a", "a"], [1, 0])),
            "field 'items': only one item ('a'); a ranking needs two or more",
        ),
        (
            rows((["a"], [3]), (["a"], [4])),
            "field 'items': only one item ('a'); a ranking needs two or more",
        ),
        (
            rows((["a"], [3]), (["b"], [4])),
            "every judgment scores a single item, so nothing is compared; "
            "rank ratings with the method mean_opinion_score, or bring those of a prompt together "
            "with data.group_by_prompt(by=['annotator', 'aspect'])",
        ),
        (
            rows((["a", "b"], [1, 0]), (["a", None], [1, 0]), ([None, "b"], [1, 0])),
            "row 2, field 'items': a missing item (and 1 more); name every item, or drop the row",
        ),
        (
            rows((["a", "b"], [1, 0]), (["b", "b"], [1, 0])),
            "row 2, field 'items': the item 'b' is compared with itself; "
            "drop the row, or name its items apart",
        ),
        (
            rows((["a", "b"], [1, 0]), (["c", "b", "c"], [1, 0, 2])),
            "row 2, field 'items': the item 'c' is compared with itself; "
            "drop the row, or name its items apart",
        ),
        (
            rows((["a", "b"], [1, 0], "comparison", None, 0.0)),
            "field 'weight': every weight is 0; give positive weights",
        ),
    ],
)
def test_bad_input_is_named(data, message):
    with pytest.raises(DataError) as caught:
        count(data)
    assert str(caught.value) == message


def test_only_both_bad_leaves_nothing_when_dropped():
    with pytest.raises(DataError, match=r"^no judgment compares two items; keep ties \(both_bad='tie'\)"):
        count(rows((["a", "b"], [0, 0], "comparison", "both_bad")), both_bad="drop")


def test_a_row_without_items_is_named():
    data = PreferenceData.from_columns(
        {"items": [["a", "b"], None], "responses": [["x", "y"], ["x", "y"]], "scores": [[1, 0], [1, 0]]}
    )
    with pytest.raises(DataError, match=r"^row 2, field 'items': a missing item \(and 1 more\)"):
        count(data)


def test_an_unknown_use_of_both_bad_is_refused():
    with pytest.raises(ConfigError, match=r"^both_bad is 'lose'; use 'tie' or 'drop'$"):
        count(rows((["a", "b"], [1, 0])), both_bad="lose")


def test_options_of_counting_are_refused_for_what_is_counted():
    data = rows((["a", "b"], [1, 0]), (["b", "a"], [1, 0]))
    counted = count(data)
    assert count(counted) is counted
    for options in ({"both_bad": "drop"}, {"weights": "count"}):
        with pytest.raises(ConfigError, match="both_bad and weights say how judgments are counted"):
            palate.rank(counted, **options)
    with pytest.raises(ConfigError, match="these battles do not say which ties were bad"):
        palate.rank(battles(data), both_bad="drop")
