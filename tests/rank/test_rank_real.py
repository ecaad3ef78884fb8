"""Leaderboards of real votes, matches and rankings."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

import palate
from palate.data.table import PreferenceData
from palate.errors import DataError, PalateWarning


def pairs(frame, first, second, left, right):
    """Judgments between two columns of names, with the two columns of scores."""
    items = frame.select(pl.concat_list(pl.col(first), pl.col(second)).alias("items"))["items"]
    return PreferenceData.from_columns(
        {"items": items.to_arrow(), "scores": np.stack([left, right], axis=1).astype(float).tolist()}
    )


def llmfao(folder, name):
    frame = pl.read_csv(folder / "llmfao" / name)
    return pairs(
        frame,
        "left",
        "right",
        (frame["winner"] != "right").to_numpy(),
        (frame["winner"] != "left").to_numpy(),
    )


def matches(frame, home, away, home_goals, away_goals):
    frame = frame.drop_nulls([home_goals, away_goals])
    return pairs(frame, home, away, frame[home_goals].to_numpy(), frame[away_goals].to_numpy())


@pytest.fixture(scope="module")
def crowd(shared_data):
    return palate.rank(llmfao(shared_data, "crowd-comparisons.csv.gz"))


def test_the_crowd_puts_gpt4_first_by_a_wide_margin(crowd):
    (first, strength), (_, second) = list(crowd.strengths.items())[:2]
    assert first == "GPT 4"
    assert (round(strength, 2), round(second, 2)) == (0.99, 0.65)
    assert crowd.table.height == 59
    assert crowd.diagnostics["comparisons"] == 8931
    assert round(crowd.diagnostics["ties"], 2) == 0.39


@pytest.mark.parametrize(
    ("file", "expected"), [("gpt4-crowd-comparisons.csv.gz", 0.73), ("gpt3-crowd-comparisons.csv.gz", 0.72)]
)
def test_model_judges_rank_like_the_crowd_to_the_stated_degree(shared_data, crowd, file, expected):
    board = palate.rank(llmfao(shared_data, file))
    found = spearmanr([crowd.strengths[i] for i in crowd.items], [board.strengths[i] for i in crowd.items])
    assert round(found.statistic, 2) == expected


def test_football_names_the_teams_that_never_met_the_others(shared_data):
    frame = pl.read_parquet(shared_data / "football-international" / "matches.parquet")
    data = matches(frame, "home_team", "away_team", "home_score", "away_score")
    with pytest.raises(
        DataError, match=r"2 groups that never met: \(.* more\), \(Mapuche, Maule Sur, Aymara\)"
    ):
        palate.rank(data)
    apart = {"Mapuche", "Maule Sur", "Aymara"}
    connected = [not apart & set(items) for items in data.column("items").to_pylist()]
    with pytest.raises(DataError, match=r"^no finite estimate: .* never won"):
        palate.rank(data.mask(connected))
    with pytest.warns(PalateWarning, match="strengths of different groups cannot be compared"):
        board = palate.rank(data, l2=0.1)
    assert board.table["item"].head(6).to_list() == [
        "Brazil",
        "Spain",
        "Argentina",
        "Germany",
        "England",
        "Italy",
    ]
    # 49,520 rows of the file less those without a score.
    assert board.diagnostics["comparisons"] == data.n_rows
    assert round(board.diagnostics["ties"], 3) == 0.227


def test_the_bundesliga_is_led_by_munich(shared_data):
    frame = pl.read_parquet(shared_data / "r-datasets" / "bundesliga.parquet")
    board = palate.rank(matches(frame, "HomeTeam", "AwayTeam", "HomeGoals", "AwayGoals"))
    assert board.table.height == 52
    assert board.diagnostics["comparisons"] == 14018
    assert round(board.diagnostics["ties"], 3) == 0.259
    assert board.table["item"][0] == "Bayern Muenchen"
    assert board.compare("Bayern Muenchen", "Werder Bremen").p < 1e-6
    # 34 matches are too few to say whether the second place is deserved.
    assert board.compare("Bayern Muenchen", "1899 Hoffenheim").p > 0.05
    matrix = board.win_matrix(["Bayern Muenchen", "Hamburger SV"])
    assert abs(matrix.observed[0, 1] - matrix.predicted[0, 1]) < 0.1


@pytest.mark.parametrize(
    "file",
    [f"dots/00024-0000000{i}.soc" for i in range(1, 5)]
    + [f"puzzle/00025-0000000{i}.soc" for i in range(1, 5)],
)
def test_rankings_recover_the_true_order(shared_data, file):
    data = palate.load(shared_data / "preflib" / file)
    board = palate.rank(data, weights="count")
    order = board.table["item"].to_list()
    assert order == sorted(order, key=int)
    voters = sum(data.weights)
    assert board.diagnostics["comparisons"] == voters * 6
    assert board.table["n"].to_list() == [voters * 3] * 4


def test_a_course_that_always_wins_is_named(shared_data):
    data = palate.load(shared_data / "preflib" / "agh" / "00009-00000001.soc")
    with pytest.raises(DataError, match=r"no finite estimate: Course 9 never lost; set l2 > 0 or drop it$"):
        palate.rank(data)
    assert next(iter(palate.rank(data, weights="count", l2=0.01).strengths)) == "Course 9"


def test_thousands_of_sparsely_compared_videos_get_a_board(shared_data):
    frame = pl.read_parquet(shared_data / "tournesol" / "comparisons.parquet")
    frame = frame.filter(pl.col("criteria") == "largely_recommended")
    # A negative score says that the first video is better.
    score = frame["score"].to_numpy()
    board = palate.rank(pairs(frame, "video_a", "video_b", -score, score), l2=0.1)
    assert board.covariance is None
    assert board.diagnostics["converged"]
    published = pl.read_parquet(shared_data / "tournesol" / "collective_scores.parquet")
    published = published.filter(pl.col("criteria") == "largely_recommended")
    both = published.join(board.table, left_on="video", right_on="item")
    assert both.height > 6000
    # The published scores come from another model (graded, per user); a swapped sign would show as negative.
    assert both.select(pl.corr("score", "strength", method="spearman")).item() > 0.5
