"""The list sampler."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.lists import lists
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    size=st.integers(2, 9),
    seed=st.integers(0, 5),
    unjudged=st.booleans(),
)
def test_an_epoch_holds_every_judged_item_once_within_its_context(counts, size, seed, unjudged):
    context = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(seed).normal(size=len(context))
    if unjudged:
        labels[:: len(labels)] = np.nan
    judged = np.bincount(context[~np.isnan(labels)], minlength=len(counts))
    if judged.max() < 2:
        return
    drawn = lists(labels, size, seed=seed, context=context)
    used = drawn[drawn >= 0]
    assert len(np.unique(used)) == len(used)
    assert not np.isnan(labels[used]).any()
    # Only a last item that would stand alone is left out.
    left_out = judged - np.bincount(context[used], minlength=len(counts))
    assert (left_out == (judged % size == 1)).all()
    for row in drawn:
        assert len(set(context[row[row >= 0]])) == 1
        assert (np.diff((row >= 0).astype(int)) <= 0).all()


def test_seed_and_epoch_say_which_lists_are_drawn():
    labels = np.arange(40.0)
    first = lists(labels, seed=1, by="all")
    assert first.shape == (5, 8)
    assert (first == lists(labels, seed=1, by="all")).all()
    assert (first != lists(labels, seed=1, by="all", epoch=1)).any()
    assert (first != lists(labels, seed=2, by="all")).any()


def test_lists_within_too_narrow_a_spread_are_left_out():
    labels = np.repeat([1.0, 5.0], 4)
    assert len(lists(labels, 4, seed=0, context=np.repeat([0, 1], 4), min_spread=0.1)) == 0
    assert len(lists(labels, 8, seed=0, by="all", min_spread=4.0)) == 1
    assert len(lists(labels, 8, seed=0, by="all", min_spread=4.1)) == 0


def test_the_alternatives_of_judgments_with_one_prompt_share_lists():
    data = PreferenceData.from_rows(
        [
            {"prompt_id": "p", "items": ["a", "b"], "scores": [1, 2]},
            {"prompt_id": "q", "items": ["c", "d"], "scores": [1, 2]},
            {"prompt_id": "p", "items": ["e", "f"], "scores": [3, float("nan")]},
        ]
    )
    drawn = lists(data, 4, seed=0)
    assert {frozenset(row[row >= 0].tolist()) for row in drawn} == {frozenset({0, 1, 4}), frozenset({2, 3})}
    assert len(lists(data, 5, seed=0, by="all")) == 1


@pytest.mark.parametrize(
    ("error", "labels", "options", "message"),
    [
        (ConfigError, [1, 2], {"size": 1, "by": "all"}, "size must be at least 2, got 1"),
        (ConfigError, [1, 2], {"by": "prompt"}, "by must be 'context' or 'all', got 'prompt'"),
        (ConfigError, [1, 2], {}, "needs the context of each item"),
        (ConfigError, [1, 2], {"by": "all", "min_spread": -1}, "min_spread must be 0 or more, got -1"),
        (DataError, [1, 2], {"context": [0]}, "1 contexts for 2 labels; give one context per item"),
        (DataError, [1, 2], {"context": [0, 1]}, "no context has two judged items"),
        (DataError, [np.nan], {"by": "all"}, "no item is judged"),
    ],
)
def test_bad_input(error, labels, options, message):
    with pytest.raises(error, match=message):
        lists(labels, seed=0, **options)
