"""Leaderboards by slice: which slices there are, what is skipped, and their pictures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

import palate
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.boards import rank_by
from palate.rank.plots import bump


def votes(theta, n, seed, **columns):
    rng = np.random.default_rng(seed)
    size = len(theta)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < 1 / (1 + np.exp(np.asarray(theta)[b] - np.asarray(theta)[a]))
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": list(np.stack([won, ~won], axis=1).astype(float)),
            **{name: [value] * n if isinstance(value, str) else value for name, value in columns.items()},
        }
    )


@pytest.fixture(scope="module")
def aspects():
    return PreferenceData.concat(
        [
            votes([1.5, 0, -1.5], 500, 0, aspect="geometry"),
            votes([-1.5, 0, 1.5], 400, 1, aspect="texture"),
            votes([0, 0, 0], 10, 2, aspect="rare"),
        ]
    )


def test_each_slice_has_the_board_of_its_judgments(aspects):
    boards = rank_by(aspects, "aspect")
    assert list(boards.boards) == ["geometry", "texture"]
    assert boards["geometry"].strengths == palate.rank(aspects.filter(aspect="geometry")).strengths
    assert boards.skipped == {"rare": "only 10 judgments (min_judgments=30)"}
    table = boards.table
    assert table.columns[:3] == ["slice", "rank", "item"]
    assert table.filter(slice="texture")["item"].to_list() == ["m2", "m1", "m0"]
    assert table.filter(slice="texture")["rank"].to_list() == [1, 2, 3]
    assert boards.correlation()["texture"].to_list() == pytest.approx([-1.0, 1.0])
    assert repr(boards).splitlines()[0] == "Boards by aspect: 2 slices"


def test_options_go_to_the_method(aspects):
    boards = rank_by(aspects, "aspect", "win_rate", min_judgments=1)
    assert boards["rare"].method == "win_rate"
    anchored = rank_by(aspects, "aspect", anchor={"m1": 1000.0})
    assert anchored.table.filter(item="m1")["rating"].to_list() == [1000.0, 1000.0]


def test_slices_by_metadata_labels_and_time():
    start = datetime(2025, 1, 1, tzinfo=UTC)
    n = 600
    data = votes(
        [0.5, 0, -0.5],
        n,
        3,
        metadata=[json.dumps({"language": "en" if i % 3 else "de", "turn": i % 2}) for i in range(n)],
        time=[start + timedelta(hours=4 * i) for i in range(n)],
    )
    assert list(rank_by(data, "language").boards) == ["en", "de"]
    assert set(rank_by(data, "turn").boards) == {"0", "1"}
    assert list(rank_by(data, "time", every="month").boards) == ["2025-01", "2025-02", "2025-03", "2025-04"]
    halves = rank_by(data, np.where(np.arange(n) < 300, "first", None))
    assert list(halves.boards) == ["first"]
    assert halves.skipped == {"(none)": "300 judgments without a value"}


def test_a_slice_that_determines_nothing_is_skipped_with_its_reason(aspects):
    apart = votes([0, 0], 40, 0, aspect="apart").with_columns(items=[["x", "y"]] * 20 + [["z", "w"]] * 20)
    boards = rank_by(PreferenceData.concat([aspects, apart]), "aspect")
    assert "disconnected" in boards.skipped["apart"]
    with pytest.raises(DataError, match=r"no slice by aspect has a leaderboard: apart: .*disconnected"):
        rank_by(apart, "aspect")


def test_what_cannot_be_sliced_by_is_refused(aspects):
    with pytest.raises(DataError, match="the judgments have no annotator_kind"):
        rank_by(aspects, "annotator_kind")
    with pytest.raises(DataError):
        rank_by(aspects, "language")
    with pytest.raises(ConfigError, match="slices of time need both"):
        rank_by(aspects, "time")
    with pytest.raises(ConfigError, match="slices of time need both"):
        rank_by(aspects, "aspect", every="month")
    with pytest.raises(DataError, match="the judgments have no time"):
        rank_by(aspects, "time", every="month")
    with pytest.raises(ConfigError, match=r"by has shape \(2,\); give one label"):
        rank_by(aspects, ["a", "b"])
    with pytest.raises(ConfigError, match="unknown option"):
        rank_by(aspects, "aspect", l3=1)


def test_pictures_show_every_slice_and_the_best_items(aspects):
    boards = rank_by(aspects, "aspect")
    radar, ranks = boards.plot(top=2), boards.plot_ranks()
    assert len(radar.data) == 2
    assert list(radar.data[0].theta) == ["geometry", "texture", "geometry"]
    assert {trace.name for trace in ranks.data} == {"m0", "m1", "m2"}
    first = next(trace for trace in ranks.data if trace.name == "m0")
    assert list(first.y) == [1, 3]
    # Less the mean of the slice, the three values of a slice sum to zero.
    full = boards.plot(top=3)
    assert sum(trace.r[0] for trace in full.data) == pytest.approx(0.0, abs=1e-9)


def test_a_bump_chart_takes_periods_too():
    frame = pl.DataFrame(
        {"period": [1, 1, 2, 2], "item": ["a", "b", "a", "b"], "rank": [1, 2, 2, 1], "rating": [1.0, 0, 0, 1]}
    )
    figure = bump(frame)
    assert {trace.name: list(trace.y) for trace in figure.data} == {"a": [1, 2], "b": [2, 1]}


def test_json_and_csv_hold_the_table(aspects, tmp_path):
    boards = rank_by(aspects, "aspect")
    found = json.loads(palate.runs.to_json(boards.to_json()))
    assert found["by"] == "aspect"
    assert set(found["slices"]) == {"geometry", "texture"}
    board = boards["geometry"]
    board.to_csv(tmp_path / "board.csv")
    read = pl.read_csv(tmp_path / "board.csv")
    assert read.columns == board.table.columns
    assert read["rating"].to_list() == pytest.approx(board.table["rating"].to_list())
    assert found["slices"]["geometry"]["win_matrix"]["items"] == board.table["item"].to_list()
    assert found["slices"]["geometry"]["scale"]["base"] == 1000.0
