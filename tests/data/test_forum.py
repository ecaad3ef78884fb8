"""Pairs from forum votes."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import from_votes, load
from palate.errors import ConfigError, DataError


def posts(votes: list[list[int]], **columns: Any) -> pl.DataFrame:
    """One post per list, with replies of these net votes."""
    rows = [(f"post {p}", f"{p}.{r}", net) for p, nets in enumerate(votes) for r, net in enumerate(nets)]
    frame = pl.DataFrame(rows, schema=["title", "reply_id", "net"], orient="row")
    return frame.select(
        "title", "reply_id", post_id="title", reply_body=pl.format("answer {}", "reply_id"),
        up=pl.col("net").clip(lower_bound=0), down=(-pl.col("net")).clip(lower_bound=0),
    ).with_columns(**columns)  # fmt: skip


def drawn(made: Any) -> list[tuple[str, str]]:
    return [tuple(items) for items in made.data.column("items").to_pylist()]


THREE = {
    "post_id": [1, 1, 1], "title": ["Why?"] * 3, "body": ["I ask."] * 3, "reply_id": ["r1", "r2", "r3"],
    "reply_body": ["a", "b", "c"], "up": [5, 3, 3], "down": [1, 0, 0], "accepted": [False, False, True],
}  # fmt: skip


def test_acceptance_is_a_vote_and_only_replies_with_different_nets_make_pairs() -> None:
    made = from_votes(THREE, pairs_per_post=None)
    assert drawn(made) == [("r1", "r2"), ("r3", "r2")]
    assert made.data.scores.tolist() == [4.0, 3.0, 4.0, 3.0]
    first = made.data.table.to_pylist()[0]
    assert first["prompt"] == "Why?\n\nI ask."
    assert first["responses"] == ["a", "b"]
    assert first["metadata"] == '{"vote_gap":1}'
    assert (first["annotator"], first["scale"]) == ("forum", "ordinal")
    assert set(made.dropped.values()) == {0}
    assert drawn(from_votes(THREE, pairs_per_post=None, accept_bonus=0)) == [("r1", "r2"), ("r1", "r3")]


def test_every_legal_pair_is_drawn_as_often() -> None:
    votes = [[3, 1, 1, 0]] * 3000
    made = from_votes(posts(votes), pairs_per_post=2, seed=1)
    duplicate_free = made.data.n_rows
    assert duplicate_free == 6000
    kinds = Counter((a.split(".")[1], b.split(".")[1]) for a, b in drawn(made))
    assert set(kinds) == {("0", "1"), ("0", "2"), ("0", "3"), ("1", "3"), ("2", "3")}
    # Each of 5 pairs is among 2 drawn with probability 0.4: 1200 of 3000, standard deviation 27.
    assert all(abs(count - 1200) < 120 for count in kinds.values())


@given(st.lists(st.lists(st.integers(-4, 6), max_size=6), min_size=1, max_size=8), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_all_pairs_are_those_of_the_definition_and_every_post_is_counted(
    votes: list[list[int]], gap: int
) -> None:
    votes = [nets for nets in votes if nets] or [[0]]
    wanted = {
        (f"{p}.{i}", f"{p}.{j}") if nets[i] > nets[j] else (f"{p}.{j}", f"{p}.{i}")
        for p, nets in enumerate(votes)
        for i, j in combinations(range(len(nets)), 2)
        if abs(nets[i] - nets[j]) >= gap
    }
    if not wanted:
        with pytest.raises(DataError, match=f"of {len(votes)} posts"):
            from_votes(posts(votes), gap=gap)
        return
    made = from_votes(posts(votes), gap=gap, pairs_per_post=None)
    assert sorted(drawn(made)) == sorted(wanted)
    some = from_votes(posts(votes), gap=gap, pairs_per_post=2, seed=3)
    assert len(set(drawn(some))) == some.data.n_rows
    assert set(drawn(some)) <= wanted
    given_pairs = len({a.split(".")[0] for a, _ in wanted})
    for result in (made, some):
        assert result.posts == len(votes)
        assert sum(result.dropped.values()) + given_pairs == len(votes)


def test_dropped_posts_are_counted_by_reason() -> None:
    table = posts([[3, 1], [2, 2], [5], [2, 1, 1], [4, 0], [9, 0], [7, 0]])
    title = pl.when(pl.col("post_id") == "post 4").then(pl.lit("post 0")).otherwise(pl.col("title"))
    title = pl.when(pl.col("post_id") == "post 5").then(pl.lit(" ")).otherwise(title)
    body = pl.when(pl.col("reply_id") == "6.1").then(pl.lit("  ")).otherwise(pl.col("reply_body"))
    made = from_votes(table.with_columns(title=title, reply_body=body), gap=2)
    assert drawn(made) == [("0.0", "0.1")]
    assert made.dropped == {
        "empty_post": 1, "duplicate": 1, "one_reply": 2, "equal_votes": 1, "below_gap": 1
    }  # fmt: skip
    assert made.empty_replies == 1


def test_at_most_so_many_replies_of_a_post_take_part() -> None:
    made = from_votes(posts([list(range(10))] * 5), pairs_per_post=None, max_replies=4)
    assert made.data.n_rows == 5 * 6
    assert len({item for pair in drawn(made) for item in pair}) == 5 * 4


def test_the_seed_decides_and_a_file_gives_what_its_table_gives(tmp_path: Path) -> None:
    table = posts(np.random.default_rng(0).poisson(3, size=(50, 5)).tolist())
    made = from_votes(table, seed=4)
    assert from_votes(table, seed=4).data == made.data
    assert from_votes(table, seed=5).data != made.data
    for name in ("votes.parquet", "votes.csv", "votes.jsonl"):
        writer = {"parquet": table.write_parquet, "csv": table.write_csv, "jsonl": table.write_ndjson}
        writer[name.split(".")[1]](tmp_path / name)
        assert from_votes(tmp_path / name, seed=4).data == made.data
    made.data.save(tmp_path / "pairs.parquet")
    kept = load(tmp_path / "pairs.parquet")
    assert kept == made.data
    assert kept.pairs().height == made.data.n_rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up": [5, None, 3]}, "row 2, field 'up': is no whole number of votes"),
        ({"up": [5, 3, 0.5]}, "row 3, field 'up'"),
        ({"down": [1, -1, 0]}, "row 2, field 'down'"),
        ({"up": ["5", "many", "3"]}, "row 2, field 'up'"),
        ({"up": [5, 1e300, 3]}, "row 2, field 'up': is more than 2,147,483,647 votes"),
        ({"up": [5, 3]}, "these votes are no table"),
        ({"accepted": ["no", "maybe", "yes"]}, "field 'accepted': is neither true nor false"),
        ({"reply_id": ["r1", "r2", "r1"]}, "row 3, field 'reply_id': the reply is given twice"),
        ({"post_id": [1, None, 1]}, "row 2, field 'post_id': is missing"),
        ({"up": [1, 1, 0], "down": [0, 0, 0]}, "of 1 posts 1 has replies of one net vote only"),
    ],
)
def test_bad_votes_are_refused_with_their_row(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match="(?s)" + message):
        from_votes({**THREE, **change})


def test_bad_tables_and_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="field 'up': is missing"):
        from_votes({name: values for name, values in THREE.items() if name != "up"})
    with pytest.raises(DataError, match="neither a title nor a body"):
        from_votes({name: values for name, values in THREE.items() if name not in ("title", "body")})
    for name in ("gap", "pairs_per_post"):
        with pytest.raises(ConfigError, match=f"{name} must be 1 or more"):
            from_votes(THREE, **{name: 0})
    with pytest.raises(ConfigError, match="max_replies must be 2 or more"):
        from_votes(THREE, max_replies=1)
    with pytest.raises(ConfigError, match="cannot read this file of votes"):
        from_votes(tmp_path / "votes.xlsx")
    with pytest.raises(DataError, match="cannot be read"):
        from_votes(tmp_path / "votes.csv")
