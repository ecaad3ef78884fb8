"""Pairs, rankings, ratings, interactions and groups by prompt."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError

NAN = float("nan")


def judged(*scores, **columns):
    """One judgment per list of scores, over items a, b, c, ..."""
    names = [[chr(ord("a") + i) for i in range(len(row))] for row in scores]
    return PreferenceData.from_columns({"items": names, "scores": list(scores)} | columns)


def beats(frame):
    return set(zip(frame["winner"], frame["loser"], strict=True))


def test_a_vote_is_one_pair_with_every_column():
    data = PreferenceData.from_columns(
        {
            "prompt_id": ["p"],
            "prompt": ["Why?"],
            "items": [["m1", "m2"]],
            "responses": [["because", "so"]],
            "scores": [[0, 1]],
            "annotator": ["u"],
            "aspect": ["helpful"],
            "weight": [2.0],
        }
    )
    assert data.pairs().to_dicts() == [
        {
            "prompt_id": "p",
            "prompt": "Why?",
            "chosen": "so",
            "rejected": "because",
            "winner": "m2",
            "loser": "m1",
            "margin": 1.0,
            "weight": 2.0,
            "annotator": "u",
            "aspect": "helpful",
            "tie": False,
            "judgment": 0,
            "chosen_index": 1,
            "rejected_index": 0,
        }
    ]


def test_text_and_id_columns_come_only_with_responses_and_items():
    assert "chosen" not in judged([1, 0]).pairs().columns
    texts = PreferenceData.from_columns({"responses": [["x", "y"]], "scores": [[1, 0]]})
    assert "winner" not in texts.pairs().columns
    assert texts.pairs()["prompt"].to_list() == [None]


def test_all_pairs_of_a_ranking_have_rank_differences_as_margins():
    frame = judged([-2, -1, -3]).pairs()
    assert dict(zip(zip(frame["winner"], frame["loser"], strict=True), frame["margin"], strict=True)) == {
        ("b", "a"): 1.0,
        ("b", "c"): 2.0,
        ("a", "c"): 1.0,
    }


def test_a_choice_beats_the_others_and_leaves_them_incomparable():
    data = judged([0, 1, 0], protocol=["choice"])
    assert beats(data.pairs(ties="keep")) == {("b", "a"), ("b", "c")}
    assert beats(data.pairs("adjacent", ties="keep")) == {("b", "a"), ("b", "c")}


def test_a_click_among_nan_compares_nothing():
    data = judged([NAN, 1, NAN], protocol=["behaviour"])
    for strategy in ("all", "best_worst", "best_random", "adjacent"):
        assert data.pairs(strategy, ties="keep").height == 0


def test_nan_is_never_compared():
    assert beats(judged([1, NAN, 0, NAN]).pairs(ties="keep")) == {("a", "c")}


def test_ties_are_dropped_or_kept_in_canonical_order():
    data = PreferenceData.from_columns({"items": [["b", "a"], ["a", "b"]], "scores": [[1, 1], [1, 1]]})
    assert data.pairs().height == 0
    kept = data.pairs(ties="keep")
    assert kept["winner"].to_list() == ["a", "a"]
    assert kept["chosen_index"].to_list() == [1, 0]
    assert kept["tie"].to_list() == [True, True]
    assert kept["margin"].to_list() == [0.0, 0.0]


def test_tied_texts_without_items_are_ordered_by_text():
    data = PreferenceData.from_columns({"responses": [["y", "x"]], "scores": [[1, 1]]})
    assert data.pairs(ties="keep")["chosen"].to_list() == ["x"]


def test_both_bad_can_be_left_out_where_other_ties_are_kept():
    data = judged([0, 0], [1, 1], tie=["both_bad", "equal"])
    assert data.pairs(ties="keep")["judgment"].to_list() == [0, 1]
    assert data.pairs(ties="keep", both_bad="drop")["judgment"].to_list() == [1]


def test_best_worst_and_best_random():
    data = judged([3, 1, 2], [1, 5, NAN])
    assert beats(data.pairs("best_worst")) == {("a", "b"), ("b", "a")}
    seen = {pair for seed in range(20) for pair in beats(data.take([0]).pairs("best_random", seed=seed))}
    assert seen == {("a", "b"), ("a", "c")}
    assert data.pairs("best_random", seed=3).equals(data.pairs("best_random", seed=3))


def test_random_choices_do_not_favour_the_place_listed():
    data = judged(*([[1, 1, 0]] * 4000))
    for strategy in ("best_worst", "best_random"):
        share = (data.pairs(strategy, seed=1)["chosen_index"] == 0).mean()
        assert abs(share - 0.5) < 0.04


def test_best_worst_keeps_a_full_tie_as_one_tied_pair_of_two():
    frame = judged([2, 2, 2]).pairs("best_worst", ties="keep")
    assert frame["tie"].to_list() == [True]
    assert frame["winner"][0] < frame["loser"][0]
    assert judged([2, 2, 2]).pairs("best_random", ties="keep").height == 1


def test_adjacent_ranks_meet_each_of_their_neighbours():
    frame = judged([3, 2, 2, 1]).pairs("adjacent", ties="keep")
    assert beats(frame) == {("a", "b"), ("a", "c"), ("b", "c"), ("b", "d"), ("c", "d")}
    assert frame.filter(frame["tie"]).select("winner", "loser").rows() == [("b", "c")]


def test_min_margin_drops_close_pairs_and_no_ties():
    data = judged([1.0, 0.8, 0.0], [1, 1, 1])
    assert beats(data.pairs(min_margin=0.5)) == {("a", "c"), ("b", "c")}
    assert data.pairs(min_margin=0.5, ties="keep").filter(judgment=1).height == 3


def test_pairs_come_in_the_order_of_the_judgments_whatever_their_sizes():
    data = judged([1, 0, 2], [1, 0], [4], [0, 1], [3, 2, 1])
    assert data.pairs()["judgment"].to_list() == [0, 0, 0, 1, 3, 4, 4, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "best"}, "unknown strategy 'best'"),
        ({"ties": "yes"}, "unknown value of ties 'yes'; known: drop, keep"),
        ({"both_bad": "keep"}, "unknown value of both_bad 'keep'"),
    ],
)
def test_unknown_options_of_pairs_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        judged([1, 0]).pairs(**options)


SCORES = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]), min_size=1, max_size=6), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=60)
@given(SCORES)
def test_pairs_equal_their_definition(rows):
    data = judged(*rows)
    expected = []
    for judgment, row in enumerate(rows):
        for i, j in itertools.permutations(range(len(row)), 2):
            if row[i] > row[j] or (row[i] == row[j] and i < j):
                expected.append((judgment, i, j, row[i] - row[j]))
    frame = data.pairs(ties="keep")
    found = list(frame.select("judgment", "chosen_index", "rejected_index", "margin").rows())
    assert sorted(found) == sorted(expected)
    assert frame["tie"].to_list() == [margin == 0 for _, _, _, margin in found]


@settings(deadline=None, max_examples=60)
@given(SCORES)
def test_rankings_equal_their_definition(rows):
    frame = judged(*rows).rankings()
    for row, items, ranks in zip(rows, frame["items"], frame["ranks"], strict=True):
        known = sorted((-score, place) for place, score in enumerate(row) if not math.isnan(score))
        assert items.to_list() == [chr(ord("a") + place) for _, place in known]
        assert ranks.to_list() == [1 + sum(other < score for other, _ in known) for score, _ in known]


@settings(deadline=None, max_examples=40)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_alternatives_does_not_matter(rows, random):
    data = judged(*rows)
    shuffled = []
    for row in rows:
        places = list(range(len(row)))
        random.shuffle(places)
        shuffled.append(places)
    items = [[chr(ord("a") + i) for i in places] for places in shuffled]
    scores = [[row[i] for i in places] for row, places in zip(rows, shuffled, strict=True)]
    other = PreferenceData.from_columns({"items": items, "scores": scores})
    for strategy in ("all", "adjacent"):
        a = data.pairs(strategy, ties="keep").select("judgment", "winner", "loser", "margin", "tie")
        b = other.pairs(strategy, ties="keep").select("judgment", "winner", "loser", "margin", "tie")
        assert a.sort(a.columns).equals(b.sort(b.columns))


def test_rankings_share_ranks_as_in_a_competition():
    row = judged([2, 5, 5, NAN], weight=[3.0], annotator=["u"]).rankings().row(0, named=True)
    assert row["items"] == ["b", "c", "a"]
    assert row["ranks"] == [1, 1, 3]
    assert row["weight"] == 3.0
    assert row["annotator"] == "u"


def test_ratings_have_one_row_a_score():
    data = PreferenceData.from_columns(
        {
            "items": [["a", "b"], ["a", "c"]],
            "responses": [["x", "y"], ["z", "w"]],
            "scores": [[4, NAN], [2, 3]],
            "annotator": ["u", "v"],
            "scale": ["interval", "interval"],
        }
    )
    frame = data.ratings()
    assert frame.select("judgment", "index", "item", "response", "score", "annotator").rows() == [
        (0, 0, "a", "x", 4.0, "u"),
        (1, 0, "a", "z", 2.0, "v"),
        (1, 1, "c", "w", 3.0, "v"),
    ]
    assert set(frame["scale"]) == {"interval"}


def test_interactions_are_users_and_items():
    data = judged([1, NAN], [5], annotator=["u", "v"], weight=[1.0, 0.5])
    assert data.interactions().rows() == [("u", "a", 1.0, None, 1.0), ("v", "a", 5.0, None, 0.5)]


def test_interactions_without_users_are_refused():
    with pytest.raises(DataError, match="field 'annotator': interactions need users"):
        judged([1]).interactions()


def test_grouping_merges_ratings_of_a_prompt():
    data = PreferenceData.from_columns(
        {
            "prompt": ["p", "q", "p", "p"],
            "responses": [["x"], ["x"], ["y"], ["x"]],
            "scores": [[1], [2], [NAN], [4]],
            "weight": [1.0, 1.0, 1.0, 3.0],
            "annotator": ["u", "u", "u", "v"],
            "scale": ["interval"] * 4,
            "protocol": ["rating"] * 4,
        }
    )
    group = data.group_by_prompt()
    assert group.column("prompt").to_pylist() == ["p", "q"]
    assert group.column("responses").to_pylist() == [["x", "y"], ["x"]]
    np.testing.assert_array_equal(group.scores, [3.25, NAN, 2.0])
    assert group.column("annotator").to_pylist() == [None, "u"]
    assert group.column("protocol").to_pylist() == ["rating", "rating"]
    np.testing.assert_allclose(group.weights, [5 / 3, 1.0])


def test_grouping_keeps_aspects_apart_unless_told_otherwise():
    data = PreferenceData.from_columns(
        {"prompt_id": ["p"] * 3, "items": [["a"]] * 3, "scores": [[1], [2], [6]], "aspect": ["f", "g", "f"]}
    )
    group = data.group_by_prompt()
    assert dict(zip(group.column("aspect").to_pylist(), group.scores, strict=True)) == {"f": 3.5, "g": 2.0}
    assert data.group_by_prompt(by=()).scores.tolist() == [3.0]


def test_grouped_votes_are_shares_of_wins():
    group = judged([1, 0], [1, 0], [0, 1], protocol=["comparison"] * 3).group_by_prompt()
    np.testing.assert_allclose(group.scores, [2 / 3, 1 / 3])


def test_grouping_carries_features_along():
    data = PreferenceData.from_columns(
        {
            "prompt": ["p", "p"],
            "items": [["b"], ["a"]],
            "features": [[[1, 2]], [[3, 4]]],
            "scores": [[1], [2]],
        }
    )
    assert data.group_by_prompt().column("features").to_pylist() == [[[1.0, 2.0], [3.0, 4.0]]]


def test_grouping_refuses_what_it_cannot_average():
    with pytest.raises(ConfigError, match="several protocols"):
        judged([1, 0], [5, 3], protocol=["comparison", "rating"]).group_by_prompt()
    with pytest.raises(ConfigError, match="cannot group by 'items'"):
        judged([1, 0]).group_by_prompt(by=("items",))
    features = PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1, 0]]})
    with pytest.raises(ConfigError, match="needs items, responses or media"):
        features.group_by_prompt()


def test_mt_raters_keep_their_published_severity(shared_data):
    import polars as pl

    table = pl.read_parquet(shared_data / "wmt-mqm" / "sxs2023_ratings.parquet").filter(lp="ende")
    data = PreferenceData.from_columns(
        {
            "prompt_id": table["globalSegId"].to_arrow(),
            "items": table.select(pl.concat_list("system")).to_series().to_arrow(),
            "scores": table.select(pl.concat_list("mqm")).to_series().to_arrow(),
            "annotator": table["rater"].to_arrow(),
            "protocol": ["rating"] * len(table),
        }
    )
    means = data.ratings().group_by("annotator").agg(pl.col("score").mean())["score"]
    assert round(means.min(), 1) == 2.6
    assert round(means.max(), 1) == 11.6
    grouped = data.group_by_prompt()
    assert grouped.scores.mean() == pytest.approx(
        table.group_by("globalSegId", "system").agg(pl.col("mqm").mean())["mqm"].mean()
    )


def test_graded_preferences_keep_their_lengths(shared_data):
    import polars as pl

    folder = shared_data / "alpaca-eval"
    table = pl.read_parquet(folder / "annotations.parquet").filter(
        annotator="weighted_alpaca_eval_gpt4_turbo"
    )
    table = table.filter(pl.col("model") != pl.col("baseline"))
    texts = pl.read_parquet(folder / "outputs.parquet")
    for who in ("baseline", "model"):
        names = {"model": who, "output": f"{who}_text"}
        table = table.join(texts.rename(names), on=["prompt_id", who], how="left", maintain_order="left")
    data = PreferenceData.from_columns(
        {
            "prompt_id": table["prompt_id"].cast(pl.String).to_arrow(),
            "items": table.select(pl.concat_list("baseline", "model")).to_series().to_arrow(),
            "responses": table.select(pl.concat_list("baseline_text", "model_text")).to_series().to_arrow(),
            "scores": table.select(pl.concat_list(2 - pl.col("preference"), pl.col("preference") - 1))
            .to_series()
            .to_arrow(),
        }
    )
    pairs = data.pairs(ties="keep")
    row = table[pairs["judgment"]]
    baseline_first = pairs["chosen_index"] == 0
    for text, first, second in (("chosen", "baseline", "model"), ("rejected", "model", "baseline")):
        length = pl.select(
            pl.when(baseline_first).then(row[f"{first}_length"]).otherwise(row[f"{second}_length"])
        ).to_series()
        assert (pairs[text].str.len_chars() == length).all()
    wins = pl.DataFrame({"model": row["model"], "preference": row["preference"]})
    published = pl.read_csv(folder / "leaderboard_v2_weighted_gpt4_turbo.csv")
    name = published.columns[0]
    ours = wins.group_by("model").agg((100 * (pl.col("preference") - 1).mean()).alias("ours"))
    both = ours.join(published, left_on="model", right_on=name)
    assert len(both) >= 50
    np.testing.assert_allclose(both["ours"], both["win_rate"], atol=1e-6)
