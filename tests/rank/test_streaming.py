"""Counts of parts, of files larger than memory, and fits that go on: the same as everything at once."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import BradleyTerry, count, streaming
from palate.rank.battles import Battles, some_battles
from palate.rank.merging import merge
from palate.rank.registry import get
from palate.rank.streaming import VOTE, count_file

LABELS = np.array(["model_a", "model_b", "tie", "tie (bothbad)"])


def summed(comparisons):
    """Weights, squares and counts by the names of the pair, whatever the codes."""
    found = {}
    for p, (i, j) in enumerate(zip(comparisons.first, comparisons.second, strict=True)):
        a, b = comparisons.items[i], comparisons.items[j]
        order = [0, 1, 2] if a < b else [1, 0, 2]
        rows = (comparisons.weight[p], comparisons.square[p], comparisons.count[p])
        found[min(a, b), max(a, b)] = [tuple(row[order]) for row in rows]
    return found


def by_cluster(comparisons):
    """What each cluster holds, by the names of the items; clusters in no order."""
    clustered = comparisons.clustered
    if clustered is None:
        return []
    held = [[] for _ in range(clustered.n_clusters)]
    names = comparisons.items
    for c, i, j, tie, weight in zip(
        clustered.cluster, clustered.winner, clustered.loser, clustered.tie, clustered.weight, strict=True
    ):
        pair = tuple(sorted((names[i], names[j]))) if tie else (names[i], names[j])
        held[c].append((pair, bool(tie), float(weight)))
    return sorted(sorted(each) for each in held)


def same(one, other):
    assert one.items == other.items
    assert summed(one) == summed(other)
    assert by_cluster(one) == by_cluster(other)
    assert one.unused == other.unused
    assert (np.diff(one.first * one.n_items + one.second) > 0).all()


def votes_table(n, items, seed, **more):
    """Votes in which an item wins the more often the higher its number."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, items, n)
    b = (a + rng.integers(1, items, n)) % items
    names = np.array([f"model-{i}" for i in range(items)])
    won = rng.random(n) < 1.0 / (1.0 + np.exp(3.0 * (b - a) / items))
    winner = np.where(rng.random(n) < 0.2, rng.integers(2, 4, n), np.where(won, 0, 1))
    return pa.table({"model_a": names[a], "model_b": names[b], "winner": LABELS[winner]} | more)


judgments = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4, unique=True),
        st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), min_size=4, max_size=4),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        st.integers(0, 3),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


def record(drawn):
    return PreferenceData.from_columns(
        {
            "items": [items for items, *_ in drawn],
            "scores": [scores[: len(items)] for items, scores, *_ in drawn],
            "weight": [weight for _, _, weight, _ in drawn],
            "annotator": [f"user-{user}" for *_, user in drawn],
        }
    )


def parts_of(drawn, cuts):
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(drawn)}), len(drawn)]
    return [drawn[start:stop] for start, stop in pairwise(edges)]


def counted(drawn, **options):
    return count(some_battles(record(drawn), "tie"), **options)


@settings(max_examples=80, deadline=None)
@given(judgments, st.lists(st.integers(1, 24), max_size=3))
def test_counts_of_parts_merge_to_the_counts_of_the_whole(drawn, cuts):
    parts = [counted(part) for part in parts_of(drawn, cuts)]
    same(merge(parts), counted(drawn))
    together = parts[0]
    for part in parts[1:]:
        together = together + part
    same(together, counted(drawn))


@settings(max_examples=80, deadline=None)
@given(judgments, st.lists(st.integers(1, 24), max_size=3))
def test_clusters_that_are_named_go_on_in_the_next_part(drawn, cuts):
    def users(part):
        return np.array([user for *_, user in part])

    parts = parts_of(drawn, cuts)
    found = [counted(part, cluster=users(part)) for part in parts]
    codes = [np.unique(some_battles(record(part), "tie").of(users(part))) for part in parts]
    same(merge(found, codes), counted(drawn, cluster=users(drawn)))


def test_merged_counts_give_the_same_board():
    table = votes_table(900, 12, 1)
    columns = [table.column(name) for name in ("model_a", "model_b", "winner")]
    whole = palate.rank(Battles.from_columns(*columns))
    parts = [count(Battles.from_columns(*(c.slice(start, 300) for c in columns))) for start in (600, 0, 300)]
    merged = palate.rank(merge(parts))
    assert merged.strengths == pytest.approx(whole.strengths, abs=1e-9)
    assert merged.compare("model-0", "model-1") == pytest.approx(
        whole.compare("model-0", "model-1"), abs=1e-9
    )


def test_merging_nothing_or_clusters_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match="nothing to merge"):
        merge([])
    ranking = PreferenceData.from_columns({"items": [["a", "b", "c"]], "scores": [[3, 2, 1]]})
    with pytest.raises(ConfigError, match=r"clusters\[0\] has shape \(2,\); give one code for each of 1"):
        merge([count(ranking)], [[0, 1]])
    with pytest.raises(ConfigError, match="codes for 2 parts, there are 1"):
        merge([count(ranking)], [[0], [1]])


FILES = {
    "votes.parquet": lambda table, path: pq.write_table(table, path, row_group_size=170),
    "votes.arrow": lambda table, path: _write_arrow(table, path),
    "votes.csv": lambda table, path: table.to_pandas().to_csv(path, index=False),
    "judgments.parquet": lambda table, path: _load(table).save(path),
    "judgments.jsonl": lambda table, path: _load(table).save(path),
}


def _write_arrow(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=170)


def _load(table):
    rows = table.to_pylist()
    scores = dict(zip(LABELS, ([1, 0], [0, 1], [1, 1], [0, 0]), strict=True))
    return PreferenceData.from_columns(
        {
            "items": [[row["model_a"], row["model_b"]] for row in rows],
            "scores": [scores[row["winner"]] for row in rows],
            "tie": [{"tie": "equal", "tie (bothbad)": "both_bad"}.get(row["winner"]) for row in rows],
        }
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("both_bad", ["tie", "drop"])
def test_a_file_is_counted_as_if_it_were_loaded(tmp_path, name, both_bad, monkeypatch):
    monkeypatch.setattr(streaming, "MERGE_ENTRIES", 50)
    path = tmp_path / name
    FILES[name](votes_table(1000, 9, 2), path)
    found = count_file(path, both_bad=both_bad, batch_rows=150)
    same(found, count(palate.load(path), both_bad=both_bad))
    assert found.n_comparisons + found.unused == 1000
    assert str(found.source) == str(path)


def test_columns_and_labels_of_the_file_are_named(tmp_path):
    table = votes_table(300, 5, 3).rename_columns(["left", "right", "better"])
    named = {"model_a": "left", "model_b": "right", "winner": "better"}
    worded = table.set_column(
        2, "better", pa.array(["L" if x == "model_a" else "R" for x in table["better"].to_pylist()])
    )
    labels = {"L": "model_a", "R": "model_b"}
    pq.write_table(worded, tmp_path / "votes.parquet")
    worded.to_pandas().to_csv(tmp_path / "votes.csv", index=False)
    for path in (tmp_path / "votes.parquet", tmp_path / "votes.csv"):
        same(
            count_file(path, columns=named, labels=labels, batch_rows=64),
            count(palate.load(path, columns=named, labels=labels)),
        )


def test_weights_and_other_columns_are_read_where_there_are_any(tmp_path):
    weight = np.random.default_rng(0).choice([0.0, 0.5, 2.0], 400)
    pq.write_table(votes_table(400, 6, 4, weight=weight), tmp_path / "votes.parquet")
    same(
        count_file(tmp_path / "votes.parquet", batch_rows=90), count(palate.load(tmp_path / "votes.parquet"))
    )


def test_annotators_are_followed_from_batch_to_batch(tmp_path):
    judge = np.random.default_rng(1).choice(["u1", "u2", "u3", None], 400)
    pq.write_table(votes_table(400, 5, 5, judge=judge), tmp_path / "votes.parquet")
    data = palate.load(tmp_path / "votes.parquet")
    found = count_file(tmp_path / "votes.parquet", batch_rows=70, cluster="annotator")
    same(found, count(data, cluster=data.codes("annotator")[0]))
    assert len(by_cluster(found)) == 3 + (judge == None).sum()  # noqa: E711


def test_a_folder_of_files_is_one_set(tmp_path):
    table = votes_table(600, 7, 6)
    pq.write_table(table.slice(0, 250), tmp_path / "a.parquet")
    pq.write_table(table.slice(250), tmp_path / "b.parquet")
    same(count_file(tmp_path, batch_rows=100), count(palate.load(tmp_path)))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_errors_name_the_row_of_the_file(tmp_path, kind):
    table = votes_table(500, 5, 7).to_pandas()
    path = tmp_path / f"votes.{kind}"

    def message(row, column, value):
        broken = table.copy()
        broken.loc[row, column] = value
        broken.to_parquet(path) if kind == "parquet" else broken.to_csv(path, index=False)
        with pytest.raises(DataError) as caught:
            count_file(path, batch_rows=100)
        return str(caught.value)

    assert message(321, "winner", "draw").startswith(
        f"{path}: row 322, field 'winner': unknown winner 'draw'"
    )
    assert message(433, "model_b", table.loc[433, "model_a"]).startswith(f"{path}: row 434, field 'model_b'")


def test_a_batch_that_compares_nothing_is_no_error_but_a_file_is(tmp_path):
    data = PreferenceData.from_columns(
        {"items": [["a"], ["a"], ["a", "b"], ["c"]], "scores": [[1.0], [2.0], [1.0, 0.0], [3.0]]}
    )
    data.save(tmp_path / "some.parquet")
    same(count_file(tmp_path / "some.parquet", batch_rows=1), count(data))
    data.mask([True, True, False, True]).save(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no judgment compares two items"):
        count_file(tmp_path / "none.parquet", batch_rows=1)
    data.mask([True, True, False, False]).save(tmp_path / "one.parquet")
    with pytest.raises(DataError, match=r"only one item \('a'\)"):
        count_file(tmp_path / "one.parquet", batch_rows=1)


def test_options_that_are_unknown(tmp_path):
    path = tmp_path / "votes.parquet"
    pq.write_table(votes_table(10, 3, 0), path)
    for options in ({"both_bad": "both"}, {"cluster": "prompt"}, {"batch_rows": 0}, {"weights": "x"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            count_file(path, **options)


def test_memory_does_not_grow_with_the_votes(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "MERGE_ENTRIES", 1000)

    def peak(n):
        path = tmp_path / f"{n}.parquet"
        part = votes_table(5000, 30, n)
        with pq.ParquetWriter(path, part.schema) as writer:
            for _ in range(n // 5000):
                writer.write_table(part)
        count_file(path, batch_rows=5000)
        arrow = pa.total_allocated_bytes()
        tracemalloc.start()
        assert count_file(path, batch_rows=5000).n_comparisons == n
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - arrow < 1 << 20
        return taken

    few, many = peak(20_000), peak(400_000)
    assert many < 1.5 * few


def columns_of(table, start, stop):
    return Battles.from_columns(*(table.column(name).slice(start, stop - start) for name in VOTE))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("bradley_terry", {}),
        ("bradley_terry", {"ties": "drop"}),
        ("bradley_terry", {"reweight": "pair", "l2": 0.1}),
        ("bradley_terry", {"both_bad": "drop", "interval": "hessian"}),
        ("davidson", {}),
        ("rao_kupper", {}),
        ("thurstone", {}),
    ],
)
def test_a_fit_that_goes_on_ends_where_one_fit_to_all_would(method, options):
    table = votes_table(3000, 10, 8)
    scores = _load(table)
    going = get(method)(**options)
    for start, stop in ((0, 1000), (1000, 1040), (1040, 3000)):
        going.partial_fit(scores.take(np.arange(start, stop)))
    once = get(method)(**options).fit(scores)
    assert going.items_ == once.items_
    np.testing.assert_allclose(going.strengths_, once.strengths_, atol=1e-9)
    np.testing.assert_allclose(going.covariance_, once.covariance_, atol=1e-9)
    assert going.n_comparisons_ == once.n_comparisons_


def test_a_fit_begins_where_the_last_one_ended():
    table = votes_table(20_000, 10, 9)
    going = BradleyTerry().partial_fit(columns_of(table, 0, 19_990))
    from_nothing = going.n_iter_
    assert going.partial_fit(columns_of(table, 19_990, 20_000)).n_iter_ < from_nothing


def test_items_may_come_later():
    going = BradleyTerry(l2=0.1).partial_fit(Battles.from_columns(["a", "b"], ["b", "a"], [1, 1]))
    going.partial_fit(Battles.from_columns(["c", "a"], ["a", "b"], [1, 0.5]))
    once = BradleyTerry(l2=0.1).fit(Battles.from_columns(list("abca"), list("baab"), [1, 1, 1, 0.5]))
    assert going.items_ == ["a", "b", "c"]
    np.testing.assert_allclose(going.strengths_, once.strengths_, atol=1e-9)


def test_a_tie_model_may_meet_its_first_tie_later():
    first = Battles.from_columns(list("abca"), list("bcab"), [1, 1, 1, 0])
    going = get("davidson")().partial_fit(first)
    going.partial_fit(Battles.from_columns(["a", "b"], ["c", "a"], [0.5, 0.5]))
    once = get("davidson")().fit(Battles.from_columns(list("abcaab"), list("bcabca"), [1, 1, 1, 0, 0.5, 0.5]))
    np.testing.assert_allclose(going.strengths_, once.strengths_, atol=1e-8)


def test_votes_that_cannot_be_fitted_change_nothing():
    going = BradleyTerry().partial_fit(Battles.from_columns(["a", "b"], ["b", "a"], [1, 1]))
    with pytest.raises(DataError, match="c never lost"):
        going.partial_fit(Battles.from_columns(["c"], ["a"], [1]))
    assert going.leaderboard().strengths == {"a": 0.0, "b": 0.0}
    going.partial_fit(Battles.from_columns(["c", "a"], ["a", "c"], [1, 1]))
    assert going.n_comparisons_ == 4


def test_a_fit_starts_anew():
    votes = Battles.from_columns(["a", "b"], ["b", "a"], [1, 1])
    going = BradleyTerry().partial_fit(votes).fit(votes).partial_fit(votes)
    assert going.n_comparisons_ == 4


def test_clusters_cannot_be_followed():
    with pytest.raises(ConfigError, match="merge"):
        BradleyTerry(cluster="annotator").partial_fit(Battles.from_columns(["a"], ["b"], [1]))
