"""Labels kept, flipped and discarded by two models and a judge."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from palate.curate import consistency
from palate.data import PreferenceData, metadata
from palate.errors import ConfigError


def pairs(n: int, scores: list[list[float]] | None = None) -> PreferenceData:
    return PreferenceData.from_columns(
        {
            "id": [f"j{i}" for i in range(n)],
            "prompt": [f"p{i}" for i in range(n)],
            "responses": [["a", "b"]] * n,
            "scores": [[1, 0]] * n if scores is None else scores,
        }
    )


EIGHT = np.array(list(product([0.9, 0.1], repeat=3))).T


def test_of_eight_ways_to_agree_three_keep_one_flips_and_four_discard() -> None:
    found = consistency(pairs(8), *EIGHT)
    assert found.keep.tolist() == [0, 1, 2]
    assert found.flip.tolist() == [7]
    assert found.discard.tolist() == [3, 4, 5, 6]
    gold, best, llm = EIGHT > 0.5
    np.testing.assert_array_equal(np.isin(range(8), found.keep), gold & (best | llm))
    np.testing.assert_array_equal(np.isin(range(8), found.flip), ~gold & ~best & ~llm)
    assert dict(found.table.select("id", "reason").iter_rows())["j3"] == "gold agrees alone"


def test_every_judgment_gets_one_decision() -> None:
    rng = np.random.default_rng(0)
    p = rng.choice([0.1, 0.5, 0.9, np.nan], size=(3, 500))
    found = consistency(pairs(500), *p)
    parts = np.concatenate([found.keep, found.flip, found.discard, found.needs_llm])
    assert sorted(parts.tolist()) == list(range(500))
    assert sum(found.counts.values()) == found.reasons["n"].sum() == 500
    assert found.table["reason"].null_count() == 0


def test_the_judge_is_asked_only_where_its_answer_counts() -> None:
    seen: list[str] = []

    def label(part: PreferenceData) -> list[float]:
        seen.extend(part.values("id"))
        return [0.9] * part.n_rows

    found = consistency(pairs(8), EIGHT[0], EIGHT[1], label)
    assert seen == ["j2", "j3", "j6", "j7"]
    assert found.keep.tolist() == [0, 1, 2, 3]
    without = consistency(pairs(8), EIGHT[0], EIGHT[1])
    assert without.needs_llm.tolist() == [2, 3, 6, 7]
    assert without.keep.tolist() == [0, 1]


def test_perfect_judges_keep_what_is_right_and_flip_what_is_wrong() -> None:
    right = np.random.default_rng(1).random(200) < 0.6
    p = np.where(right, 0.8, 0.2)
    found = consistency(pairs(200), p, p, p)
    np.testing.assert_array_equal(found.keep, np.flatnonzero(right))
    np.testing.assert_array_equal(found.flip, np.flatnonzero(~right))
    assert not len(found.discard)


def test_flipping_twice_gives_the_labels_back() -> None:
    data = pairs(4, [[1, 0], [0, 1], [3, 2], [0.5, 2]])
    objecting = np.full(4, 0.1)
    once = consistency(data, objecting, objecting, objecting).flipped
    assert once.scores.tolist() == [0, 1, 1, 0, 2, 3, 2, 0.5]
    assert set(once.values("annotator")) == {"curate:flip"}
    twice = consistency(once, objecting, objecting, objecting).flipped
    np.testing.assert_array_equal(twice.scores, data.scores)
    assert twice.column("responses") == data.column("responses")


def test_flips_join_the_data_only_if_asked() -> None:
    assert consistency(pairs(8), *EIGHT).data.n_rows == 3
    both = consistency(pairs(8), *EIGHT, recycle=True).data
    assert both.values("id").tolist() == ["j0", "j1", "j2", "j7:flip"]
    assert metadata.values(both, "reason").tolist()[-1] == "all object"
    assert metadata.values(both, "p_gold").tolist() == [0.9, 0.9, 0.9, 0.1]


def test_silence_decides_nothing() -> None:
    nan = np.full(1, np.nan)
    no, yes, half = np.full(1, 0.1), np.full(1, 0.9), np.full(1, 0.5)
    for gold, best, llm, reason in (
        (nan, nan, nan, "gold undecided"),
        (half, yes, yes, "gold undecided"),
        (no, no, nan, "llm abstains"),
        (yes, no, half, "llm abstains"),
        (no, half, no, "gold objects, best undecided"),
    ):
        found = consistency(pairs(1), gold, best, llm)
        assert found.table["decision"].to_list() == ["discard"], reason
        assert found.table["reason"].to_list() == [reason]
    # An even vote of the best model is no agreement: the judge is asked.
    assert consistency(pairs(1), yes, half, yes).table["reason"].to_list() == ["gold and llm agree"]
    tie = consistency(pairs(1, [[1, 1]]), yes, yes, yes)
    assert tie.table["reason"].to_list() == ["tie"]


def test_a_higher_threshold_keeps_and_flips_less() -> None:
    p = np.random.default_rng(2).random((3, 400))
    counts = [consistency(pairs(400), *p, threshold=t).counts for t in (0.5, 0.6, 0.9)]
    assert counts[0]["keep"] > counts[1]["keep"] > counts[2]["keep"]
    assert counts[0]["flip"] > counts[1]["flip"] > counts[2]["flip"]


def test_what_cannot_be_filtered_is_refused() -> None:
    p = np.full(2, 0.9)
    with pytest.raises(ConfigError, match=r"0\.5 to below 1; got 0\.4"):
        consistency(pairs(2), p, p, threshold=0.4)
    with pytest.raises(ConfigError, match="2 judgments; give one for each"):
        consistency(pairs(2), p[:1], p)
    with pytest.raises(ConfigError, match="judgment 1 lies outside 0 to 1"):
        consistency(pairs(2), p * 2, p)
    lists = PreferenceData.from_columns({"responses": [["a", "b", "c"]], "scores": [[1, 2, 3]]})
    with pytest.raises(ConfigError, match="row 1 has 3: take pairs"):
        consistency(lists, p, p)
