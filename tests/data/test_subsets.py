"""Filters, samples, splits and folds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.simulate import simulate_battles, simulate_ratings
from palate.data.table import PreferenceData
from palate.errors import ConfigError, PalateWarning


@pytest.fixture(scope="module")
def battles():
    data = simulate_battles(2000, 12, ties=0.4, annotators=30, prompts=150, seed=1)
    n = len(data)
    rng = np.random.default_rng(0)
    return data.with_columns(
        id=[str(i) for i in range(n)],
        aspect=rng.choice(["style", "facts", "tone"], n, p=[0.6, 0.3, 0.1]).tolist(),
        time=(rng.integers(0, 500, n) * 10**6).astype("datetime64[us]").tolist(),
    )


def ids(data):
    return set(data.column("id").to_pylist())


def test_filter_takes_values_collections_none_and_functions(battles):
    aspects = np.array(battles.column("aspect").to_pylist())
    assert len(battles.filter(aspect="style")) == (aspects == "style").sum()
    assert len(battles.filter(aspect=["style", "tone"])) == (aspects != "facts").sum()
    assert len(battles.filter(tie=None)) == battles.column("tie").null_count
    assert len(battles.filter(aspect=lambda column: column.str.starts_with("t"))) == (aspects == "tone").sum()
    both = battles.filter(aspect="tone", tie="equal")
    assert ids(both) == ids(battles.filter(aspect="tone")) & ids(battles.filter(tie="equal"))


def test_filter_by_item_keeps_judgments_it_takes_part_in(battles):
    kept = battles.filter(items="item-03")
    assert 0 < len(kept) < len(battles)
    assert all("item-03" in row for row in kept.column("items").to_pylist())
    assert len(battles.filter(items="nobody")) == 0


def test_filter_refuses_what_it_cannot_do(battles):
    with pytest.raises(ConfigError, match="unknown column 'aspects'; did you mean 'aspect'"):
        battles.filter(aspects="style")
    with pytest.raises(ConfigError, match="must return 2000 booleans, one per judgment; it returned bool"):
        battles.filter(aspect=lambda column: np.zeros(3, dtype=bool))
    with pytest.raises(ConfigError, match="cannot be compared with the column 'aspect'"):
        battles.filter(aspect=3)
    with pytest.raises(
        ConfigError, match="the column 'messages' holds structures; filter it with a function"
    ):
        battles.filter(messages="hello")


def test_sample_is_seeded_ordered_and_without_repeats(battles):
    part = battles.sample(100, seed=4)
    assert len(ids(part)) == 100
    assert part == battles.sample(100, seed=4)
    assert part != battles.sample(100, seed=5)
    numbers = [int(i) for i in part.column("id").to_pylist()]
    assert numbers == sorted(numbers)
    assert len(battles.sample(0.25)) == 500
    with pytest.raises(ConfigError, match="cannot sample 3000 of 2000 judgments"):
        battles.sample(3000)


@pytest.mark.parametrize(("by", "column"), [("prompt", "prompt_id"), ("annotator", "annotator")])
def test_no_group_is_on_both_sides_and_no_judgment_is_lost(battles, by, column):
    train, test = battles.split(0.2, by=by, seed=3)
    assert not set(train.column(column).to_pylist()) & set(test.column(column).to_pylist())
    assert ids(train) | ids(test) == ids(battles)
    assert len(train) + len(test) == len(battles)
    assert abs(len(test) / len(battles) - 0.2) < 0.03


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["p", "q", "r", "s", None]), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_a_split_by_prompt_never_leaks(prompts, share, seed):
    data = PreferenceData.from_columns(
        {"prompt": prompts, "items": [["a"]] * len(prompts), "scores": [[1]] * len(prompts)}
    )
    if not data.has("prompt") or len(set(prompts)) < 2:
        with pytest.raises(ConfigError):
            data.split(share, seed=seed)
        return
    train, test = data.split(share, seed=seed)
    sides = [set(part.column("prompt").to_pylist()) for part in (train, test)]
    assert not sides[0] & sides[1]
    assert len(train) + len(test) == len(prompts)
    assert min(len(train), len(test)) > 0


def test_a_split_by_prompt_text_when_there_is_no_id():
    data = PreferenceData.from_columns(
        {"prompt": ["p", "q", "p", "q"], "responses": [["x"]] * 4, "scores": [[1]] * 4}
    )
    train, test = data.split(0.5)
    assert sorted([train.column("prompt").to_pylist(), test.column("prompt").to_pylist()]) == [
        ["p"] * 2,
        ["q"] * 2,
    ]


def test_splits_follow_the_seed(battles):
    assert battles.split(seed=1)[1] == battles.split(seed=1)[1]
    assert battles.split(seed=1)[1] != battles.split(seed=2)[1]


def test_all_of_train_comes_before_all_of_test(battles):
    train, test = battles.split(0.3, by="time")
    assert max(train.column("time").to_pylist()) < min(test.column("time").to_pylist())
    assert len(train) + len(test) == len(battles)
    assert abs(len(test) / len(battles) - 0.3) < 0.01


def test_a_split_by_item_says_how_many_judgments_belong_to_neither(battles):
    with pytest.warns(PalateWarning) as caught:
        train, test = battles.split(0.3, by="item", seed=2)
    left_out = len(battles) - len(train) - len(test)
    assert left_out > 0
    assert str(caught[0].message).startswith(f"{left_out} of 2000 judgments are of items of both parts")
    sides = [set(part.flat("items").to_pylist()) for part in (train, test)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 4


def test_a_split_of_single_items_loses_nothing_and_does_not_warn():
    data = simulate_ratings(20, annotators=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = data.split(0.25, by="item")
    assert (len(train), len(test)) == (45, 15)


def test_strata_keep_their_shares(battles):
    train, test = battles.split(0.25, by="row", stratify="aspect")
    for aspect in ("style", "facts", "tone"):
        whole = len(battles.filter(aspect=aspect))
        assert abs(len(test.filter(aspect=aspect)) - 0.25 * whole) <= 1
    assert ids(train).isdisjoint(ids(test))
    by_prompt = battles.with_columns(
        aspect=[
            "even" if int(p.split("-")[1]) % 2 else "odd" for p in battles.column("prompt_id").to_pylist()
        ]
    )
    train, test = by_prompt.split(0.2, by="prompt", stratify="aspect")
    for aspect in ("even", "odd"):
        share = len(test.filter(aspect=aspect)) / len(by_prompt.filter(aspect=aspect))
        assert abs(share - 0.2) < 0.03
    assert not set(train.column("prompt_id").to_pylist()) & set(test.column("prompt_id").to_pylist())


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"test": 1.0}, "the test share must lie between 0 and 1; got 1.0"),
        ({}, {}, "a split by prompt needs a column 'prompt_id' or 'prompt'; the data has none"),
        ({}, {"by": "annotator"}, "a split by annotator needs a column 'annotator'"),
        ({}, {"by": "time"}, "a split by time needs a column 'time'"),
        ({}, {"by": "user"}, "unknown way to split 'user'; known: annotator, item, prompt, row, time"),
        ({"prompt": ["p", "p"]}, {}, "a split by prompt of 2 judgments would leave the test part empty"),
        ({}, {"by": "item", "stratify": "aspect"}, "a split by item cannot be stratified"),
        (
            {},
            {"by": "row", "stratify": "aspect"},
            "cannot stratify by 'aspect'; give a column with one value",
        ),
    ],
)
def test_splits_that_cannot_be_made_say_why(columns, options, message):
    data = PreferenceData.from_columns({"items": [["a", "b"]] * 2, "scores": [[1, 0]] * 2} | columns)
    with pytest.raises(ConfigError, match=message):
        data.split(**options)


def test_a_missing_time_is_named_by_its_row():
    import datetime

    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    data = PreferenceData.from_columns(
        {"items": [["a"]] * 3, "scores": [[1]] * 3, "time": [moment, None, moment]}
    )
    with pytest.raises(ConfigError, match=r"row 2 has none \(1 in all\)"):
        data.split(by="time")


@pytest.mark.parametrize("by", ["prompt", "annotator", "row"])
def test_each_judgment_is_tested_once_and_folds_share_nothing(battles, by):
    seen = []
    for train, test in battles.kfold(5, by=by, seed=1):
        assert abs(len(test) - 400) < 80
        assert ids(train).isdisjoint(ids(test))
        assert len(train) + len(test) == len(battles)
        if by != "row":
            column = "prompt_id" if by == "prompt" else "annotator"
            assert not set(train.column(column).to_pylist()) & set(test.column(column).to_pylist())
        seen += test.column("id").to_pylist()
    assert sorted(seen) == sorted(ids(battles))
    assert len(seen) == len(battles)


def test_more_folds_than_groups_are_refused(battles):
    with pytest.raises(ConfigError, match="cannot make 31 folds by annotator of 30; give 2 to 30"):
        battles.kfold(31, by="annotator")
    with pytest.raises(ConfigError, match="unknown way to make folds 'time'"):
        battles.kfold(3, by="time")
