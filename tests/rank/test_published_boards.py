"""Boards of real judgments beside the figures that were published about them."""

from __future__ import annotations

import re
import warnings

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

import palate
from palate.data.table import PreferenceData
from palate.errors import PalateWarning
from palate.rank.battles import Battles
from palate.rank.elo import Elo

# -- 59 language models, by a crowd and by two models --

LLMFAO = {
    "format": "arena",
    "columns": {"model_a": "left", "model_b": "right"},
    "labels": {"left": "model_a", "right": "model_b"},
}


def llmfao(folder, name):
    return palate.load(folder / "llmfao" / f"{name}-comparisons.csv.gz", **LLMFAO)


def test_the_crowd_puts_gpt4_first_by_a_wide_margin(shared_data):
    board = palate.rank(llmfao(shared_data, "crowd"))
    (first, strength), (_, second) = list(board.strengths.items())[:2]
    assert (first, round(strength, 2), round(second, 2)) == ("GPT 4", 0.99, 0.65)
    # The published board is of half ties; other models, and ratings one by one, agree on the winner.
    for method in ("davidson", "rao_kupper", "plackett_luce", "win_rate", "borda", "elo", "trueskill"):
        assert palate.rank(llmfao(shared_data, "crowd"), method).table["item"][0] == "GPT 4", method


def test_pagerank_puts_first_what_was_shown_most_and_says_so(shared_data):
    board = palate.rank(llmfao(shared_data, "crowd"), "pagerank")
    assert board.table["item"][0] == board.table.sort("n", descending=True)["item"][0] == "Weaver 12k"
    assert any("depend on who met whom and how often" in line for line in board.diagnostics["advice"])


@pytest.mark.parametrize(("judge", "published"), [("gpt4-crowd", 0.73), ("gpt3-crowd", 0.72)])
def test_boards_of_model_judges_correlate_with_the_crowds_as_published(shared_data, judge, published):
    crowd, model = (palate.rank(llmfao(shared_data, name)).strengths for name in ("crowd", judge))
    found = spearmanr([crowd[item] for item in crowd], [model[item] for item in crowd]).statistic
    assert round(found, 2) == published


# -- AlpacaEval: graded preferences against a baseline --


def graded(frame):
    """Battles of graded preferences p in [0, 1]: a win of weight p and a loss of weight 1 - p."""
    model, baseline = frame["model"].to_list(), frame["baseline"].to_list()
    p = frame["p"].to_numpy()
    weight = np.concatenate([p, 1.0 - p])
    kept = weight > 0
    rows = np.flatnonzero(kept)
    first, second = np.array(model * 2)[rows], np.array(baseline * 2)[rows]
    winner = np.repeat(["model_a", "model_b"], len(p))[rows]
    return Battles.from_columns(first, second, winner, weight=weight[rows])


@pytest.mark.parametrize(
    ("annotator", "board", "models"),
    [
        ("weighted_alpaca_eval_gpt4_turbo", "leaderboard_v2_weighted_gpt4_turbo.csv", 57),
        ("alpaca_eval_gpt4", "leaderboard_v1_gpt4.csv", 51),
    ],
)
def test_win_rates_are_those_of_the_alpaca_eval_leaderboards(shared_data, annotator, board, models):
    folder = shared_data / "alpaca-eval"
    rows = pl.read_parquet(folder / "annotations.parquet").filter(
        (pl.col("annotator") == annotator) & pl.col("preference").is_not_null()
    )
    # 1 is the baseline and 2 the model; draws are written as 0 or 1.5.
    draw = pl.col("preference") == 0
    rows = rows.with_columns(pl.when(draw).then(0.5).otherwise(pl.col("preference") - 1.0).alias("p"))
    rates = palate.rank(graded(rows.filter(pl.col("model") != pl.col("baseline"))), "win_rate").table
    published = pl.read_csv(folder / board)
    published = published.rename({published.columns[0]: "item"})
    both = published.select("item", "win_rate").join(rates, on="item")
    judged = both.filter(pl.col("item").is_in(rows["model"].unique().implode()))
    baselines = set(rows["baseline"])
    judged = judged.filter(~pl.col("item").is_in(list(baselines)))
    assert judged.height == models - len(baselines & set(rows["model"]) & set(published["item"]))
    np.testing.assert_allclose(100 * judged["rating"].to_numpy(), judged["win_rate"].to_numpy(), atol=1e-6)


# -- elections and true orders --


@pytest.mark.parametrize("rule", ["copeland", "schulze", "kemeny"])
@pytest.mark.parametrize(
    ("file", "winner"), [("00005-00000001", "Bob Kiss"), ("00005-00000002", "Andy Montroll")]
)
def test_burlington_had_a_condorcet_winner_both_times(shared_data, file, winner, rule):
    ballots = palate.load(shared_data / "preflib" / "burlington" / f"{file}.toi")
    board = palate.rank(ballots, rule, weights="count")
    assert board.table["item"][0] == winner
    assert board.diagnostics["condorcet_winner"] == winner


@pytest.mark.parametrize(
    "file",
    [f"dots/00024-0000000{i}.soc" for i in range(1, 5)]
    + [f"puzzle/00025-0000000{i}.soc" for i in range(1, 5)],
)
def test_borda_recovers_the_true_order(shared_data, file):
    board = palate.rank(palate.load(shared_data / "preflib" / file), "borda", weights="count")
    order = board.table["item"].to_list()
    assert order == sorted(order, key=int)


def completed(profile):
    """The ballots with the alternatives they leave out below those they rank, tied."""
    ballots = list(zip(*(profile.column(name).to_pylist() for name in ("items", "scores")), strict=True))
    names = sorted({item for items, _ in ballots for item in items})
    rest = [[name for name in names if name not in set(items)] for items, _ in ballots]
    return PreferenceData.from_columns(
        {
            "items": [items + more for (items, _), more in zip(ballots, rest, strict=True)],
            "scores": [s + [min(s) - 1.0] * len(more) for (_, s), more in zip(ballots, rest, strict=True)],
            "weight": profile.weights.tolist(),
        }
    )


def test_majorities_go_in_circles_in_half_of_the_profiles(shared_data):
    folder = shared_data / "preflib"
    index = pl.read_csv(folder / "index.csv").filter(pl.col("alternatives").is_between(3, 40))
    index = index.filter(pl.col("file").str.contains(r"\.(soc|soi|toc)$"))
    circles = {"as ranked": 0, "completed": 0}
    for name, file in index.select("set", "file").iter_rows():
        profile = palate.load(folder / name / file)
        for how, ballots in (("as ranked", profile), ("completed", completed(profile))):
            found = palate.rank(ballots, "copeland", weights="count").diagnostics
            # Where pairs tie or never met, a circle may be of four and hold no triple.
            assert found["majority_cycle"] or not found["circular_triples"]
            circles[how] += found["circular_triples"] > 0
    # Published are 60 of 120, which puts what a ballot leaves out below what it ranks; the files are 119.
    # Here a ballot says nothing of what it leaves out.
    assert (circles, index.height) == ({"as ranked": 68, "completed": 60}, 119)


# -- football: forecasts that knew only the past --


def test_a_dated_rating_predicts_matches_as_well_as_published(shared_data):
    frame = pl.read_parquet(shared_data / "football-international" / "matches.parquet")
    frame = frame.drop_nulls(["home_score", "away_score"])
    home, away = (frame[f"{side}_score"].to_numpy() for side in ("home", "away"))
    won = np.where(home > away, 1.0, np.where(home < away, 0.0, 0.5))
    matches = Battles.from_columns(frame["home_team"], frame["away_team"], won)
    # Nobody is at home on neutral ground.
    advantage = np.where(frame["neutral"].to_numpy(), 0.0, 100.0)
    expected = Elo(k=30, initial=1500, advantage=advantage).fit(matches).expected_
    decided = (frame["date"] >= "2000").to_numpy() & (won != 0.5)
    p, y = expected[decided], won[decided]
    assert decided.sum() == 19_530
    assert round(100 * np.mean((p > 0.5) == (y == 1)), 1) == 76.4
    assert round(-np.mean(np.log(np.where(y == 1, p, 1 - p))), 3) == 0.491
    everywhere = Elo(k=30, initial=1500).fit(matches).expected_[decided]
    assert np.mean((everywhere > 0.5) == (y == 1)) < np.mean((p > 0.5) == (y == 1))


# -- videos, graded by five contributors --


def test_boards_of_each_contributor_follow_the_published_scores(shared_data):
    folder = shared_data / "tournesol"
    criterion = pl.col("criteria") == "largely_recommended"
    frame = pl.read_parquet(folder / "comparisons.parquet").filter(criterion)
    published = pl.read_parquet(folder / "individual_scores.parquet").filter(criterion)
    scores = {
        (user, video): score for user, video, score in published.select("user", "video", "score").iter_rows()
    }
    decided = frame.filter(pl.col("score") != 0)
    known = [
        (scores.get((user, a)), scores.get((user, b)), score)
        for user, a, b, score in decided.select("user", "video_a", "video_b", "score").iter_rows()
    ]
    # A negative score says that the first video is better.
    right = [(b > a) == (score > 0) for a, b, score in known if a is not None and b is not None]
    assert (decided.height, round(100 * np.mean(right), 1)) == (16_361, 90.3)
    for user in ("u1", "u2", "u3", "u4", "u5"):
        own = frame.filter(pl.col("user") == user)
        votes = PreferenceData.from_columns(
            {
                "items": own.select(pl.concat_list("video_a", "video_b").alias("items"))["items"].to_arrow(),
                "scores": [[-score, score] for score in own["score"].to_list()],
            }
        )
        with warnings.catch_warnings():
            # Some of a contributor's videos were compared with each other only.
            warnings.simplefilter("ignore", PalateWarning)
            board = palate.rank(votes, l2=0.1)
        pairs = [
            (board.strengths[video], scores[user, video]) for video in board.items if (user, video) in scores
        ]
        assert spearmanr(*zip(*pairs, strict=True)).statistic > 0.7, user


# -- music: intervals that narrow with votes --


def test_published_intervals_narrow_with_votes_as_ours_do(shared_data):
    board = pl.read_csv(shared_data / "music-arena-leaderboards" / "leaderboards.csv")
    width = [np.mean([float(x) for x in re.findall(r"[\d.]+", text)]) for text in board["95pct_ci"]]
    published = np.polyfit(np.log(board["n_votes"].to_numpy()), np.log(width), 1)[0]
    rng = np.random.default_rng(0)
    theta = np.linspace(-0.7, 0.7, 10)
    ours, n = [], []
    for votes in (300, 600, 1200, 2400, 4800):
        a = rng.integers(0, 10, votes)
        b = (a + rng.integers(1, 10, votes)) % 10
        won = rng.random(votes) < 1 / (1 + np.exp(theta[b] - theta[a]))
        names = np.array([f"system {i}" for i in range(10)])
        table = palate.rank(Battles.from_columns(names[a], names[b], won.astype(float))).table
        ours += ((table["upper"] - table["lower"]) / 2).to_list()
        n += table["n"].to_list()
    fitted = np.polyfit(np.log(n), np.log(ours), 1)[0]
    assert fitted == pytest.approx(-0.5, abs=0.05)
    # Systems that are far from the rest have wide intervals whatever their votes, so it is not exactly 1/2.
    assert published == pytest.approx(fitted, abs=0.15)
