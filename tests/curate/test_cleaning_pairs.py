"""Equal pairs, empty pairs, and pairs with a question of a benchmark."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from palate.curate import decontaminate, dedup
from palate.curate.hygiene import overlap
from palate.data import PreferenceData, load
from palate.errors import ConfigError, DataError

WORDS = [f"w{i}" for i in range(40)]


def pairs(*rows: tuple[str, str, str]) -> PreferenceData:
    return PreferenceData.from_columns(
        {
            "prompt": [row[0] for row in rows],
            "responses": [list(row[1:]) for row in rows],
            "scores": [[1, 0]] * len(rows),
        }
    )


def prompts(*texts: str) -> PreferenceData:
    return pairs(*((text, f"a{i}", "b") for i, text in enumerate(texts)))


def test_pairs_that_differ_in_the_rejected_response_alone_stay() -> None:
    found = dedup(pairs(("p", "a", "b"), ("p", "a", "c"), ("p", "a", "b"), ("q", "a", "b"), ("p", "b", "a")))
    assert found.counts == {"read": 5, "kept": 4, "empty": 0, "duplicate": 1}
    assert found.dropped.rows() == [(2, "duplicate", 0)]


def test_the_place_of_the_chosen_side_makes_no_difference() -> None:
    data = PreferenceData.from_columns(
        {
            "responses": [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]],
            "scores": [[1, 0], [0, 2], [1, 1], [1, 1]],
        }
    )
    assert dedup(data).dropped["judgment"].to_list() == [1, 3]


def test_pairs_without_content_are_left_out() -> None:
    found = dedup(pairs(("p", "a", " \n"), (" ", "a", "b"), ("p", "a", "b"), ("p", "a", " \n")))
    assert found.counts == {"read": 4, "kept": 1, "empty": 3, "duplicate": 0}


def test_features_tell_pairs_apart_where_there_are_no_texts() -> None:
    x = [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 5.0]]]
    data = PreferenceData.from_columns({"features": x, "scores": [[1, 0]] * 3})
    assert dedup(data).dropped["judgment"].to_list() == [1]
    with pytest.raises(DataError, match="cannot be told apart"):
        overlap(data, pairs(("p", "a", "b")))
    with pytest.raises(ConfigError, match="row 1 has 3"):
        dedup(PreferenceData.from_columns({"items": [["a", "b", "c"]], "scores": [[1, 2, 3]]}))


def test_verified_pairs_are_found_whoever_won() -> None:
    a, b = pairs(("p", "a", "b"), ("p", "a", "c")), pairs(("p", "b", "a"), ("q", "a", "c"))
    assert overlap(a, b).tolist() == [True, False]


def test_thirteen_words_in_a_row_are_a_copy_and_twelve_are_not() -> None:
    data = prompts(
        " ".join([*WORDS[:12], "x", *WORDS[13:25]]),
        "well, " + ", ".join(word.upper() for word in WORDS[:13]) + "!",
        "nothing",
    )
    found = decontaminate(data, {"other": ["z"], "bench": ["short one", " ".join(WORDS)]})
    assert found.dropped.rows() == [(1, "contaminated", "bench", 1, " ".join(WORDS[:13]))]
    assert found.counts == {"read": 3, "kept": 2, "contaminated": 1, "texts": 3, "too_short": 2}
    assert decontaminate(data, [" ".join(WORDS)], n=12).counts["contaminated"] == 2


def test_a_run_does_not_go_on_in_the_next_text() -> None:
    assert (
        decontaminate(prompts("a b c", "d e f"), ["x b c", "d e y", "c d"], n=2).counts["contaminated"] == 2
    )
    assert decontaminate(prompts("a b c", "d e f"), ["c d e f"], n=4).counts["contaminated"] == 0


def test_of_a_conversation_the_first_question_counts() -> None:
    turns = [[{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "d e f"}]]
    bench = PreferenceData.from_columns(
        {"prompt": ["a b c d e f"], "messages": turns, "responses": [["x", "y"]], "scores": [[1, 0]]}
    )
    assert decontaminate(prompts("a b c", "d e f"), bench, n=3).dropped["judgment"].to_list() == [0]


def test_responses_are_looked_at_if_asked() -> None:
    data = pairs(("p", "a b c d", "x"), ("q", "x", "y"))
    assert decontaminate(data, ["a b c d"], n=4).counts["contaminated"] == 0
    assert decontaminate(data, ["a b c d"], n=4, where="all").dropped["judgment"].to_list() == [0]


def test_runs_found_by_hash_are_those_found_by_comparing_words() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcd"), size=size)) for size in rng.integers(0, 12, size=80)]
    bench = [" ".join(rng.choice(list("abcd"), size=6)) for _ in range(6)]

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    held = set().union(*map(grams, bench))
    wanted = [row for row, text in enumerate(texts) if grams(text) & held]
    assert decontaminate(prompts(*texts), bench, n=4).dropped["judgment"].to_list() == wanted


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more; got 0"):
        decontaminate(prompts("a"), ["a"], n=0)
    with pytest.raises(ConfigError, match="no text in the benchmarks"):
        decontaminate(prompts("a"), [])
    with pytest.raises(DataError, match="field 'prompt'"):
        decontaminate(PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]}), ["a"])


@pytest.mark.filterwarnings("ignore::palate.errors.PalateWarning")
def test_real_pairs_are_cleaned_as_polars_would(shared_data) -> None:
    data = load(shared_data / "hh-rlhf-harmless/harmless-base-test.jsonl.gz", format="hh-rlhf")
    data = (
        PreferenceData.concat([data.take(range(500)), data.take(range(100))]) if not data.has("id") else data
    )
    found = dedup(data)
    frame = data.pairs(ties="keep").select("prompt", "chosen", "rejected")
    full = frame.filter(pl.all_horizontal(pl.all().fill_null("").str.strip_chars() != ""))
    assert found.counts["kept"] == full.unique().height
    own = decontaminate(found.data, found.data.take([0]), n=5)
    assert own.counts["contaminated"] >= 1
