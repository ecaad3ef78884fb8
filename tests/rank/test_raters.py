"""Reports on annotators: agreement, chance, position, repeats, and influence on the board."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import binom

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import BradleyTerry
from palate.rank.raters import annotator_report, influence

POINTS = 400 / np.log(10)


def crowd(seed, n=6000, honest=24, spammers=3, adversaries=3, left=2, ties=0.0, items=8):
    """Votes of honest annotators, of those who toss coins, vote against, and always pick the first."""
    rng = np.random.default_rng(seed)
    total = honest + spammers + adversaries + left
    theta = rng.normal(0, 1.2, items)
    k = rng.integers(0, total, n)
    a = rng.integers(0, items, n)
    b = (a + rng.integers(1, items, n)) % items
    p = expit(theta[a] - theta[b])
    p = np.where(k >= honest, 0.5, p)
    p = np.where(k >= honest + spammers, expit(theta[b] - theta[a]), p)
    p = np.where(k >= honest + spammers + adversaries, 1.0, p)
    won = rng.random(n) < p
    tie = rng.random(n) < ties
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": np.stack([won | tie, ~won | tie], axis=1).astype(float).tolist(),
            "annotator": [f"w{i:03}" for i in k],
        }
    )


def test_spammers_adversaries_and_those_who_pick_the_first_are_flagged():
    found = annotator_report(crowd(0)).sort("annotator")
    flags = found["flags"].to_list()
    assert sum(flag == "" for flag in flags[:24]) >= 23
    assert flags[24:27] == ["spammer"] * 3
    assert flags[27:30] == ["adversarial"] * 3
    assert flags[30:] == ["spammer,position"] * 2
    assert found["first_share"][30] == 1.0
    assert found["n"].sum() == 6000


def test_honest_crowds_are_rarely_flagged_with_ties_or_without():
    for ties in (0.0, 0.3):
        flagged = [
            (
                annotator_report(crowd(s, n=3000, spammers=0, adversaries=0, left=0, ties=ties))["flags"]
                != ""
            ).any()
            for s in range(20)
        ]
        # Three kinds of flags at 5 % each.
        assert binom.sf(sum(flagged) - 1, 20, 0.15) > 0.01


def test_agreement_is_with_the_board_of_the_others():
    data = crowd(1, n=1500)
    report = annotator_report(data, BradleyTerry().fit(data))
    for who in ("w000", "w028"):
        mask = data.values("annotator") == who
        others = BradleyTerry().fit(data.mask(~mask)).leaderboard()
        agreed, expected = [], []
        for (a, b), (left, _) in zip(
            data.mask(mask).column("items").to_pylist(),
            data.mask(mask).column("scores").to_pylist(),
            strict=True,
        ):
            p = others.win_probability(a, b)
            agreed.append(left if p >= 0.5 else 1 - left)
            expected.append(max(p, 1 - p))
        row = report.row(by_predicate=pl.col("annotator") == who, named=True)
        assert row["agreement"] == pytest.approx(np.mean(agreed), abs=0.03)
        assert row["expected"] == pytest.approx(np.mean(expected), abs=0.01)


def test_z_is_standard_normal_for_honest_annotators():
    z = np.concatenate(
        [annotator_report(crowd(s, spammers=0, adversaries=0, left=0))["z"] for s in range(10)]
    )
    assert abs(z.mean()) < 0.15
    assert 0.85 < z.std() < 1.15


def test_one_step_is_close_to_a_refit_without_the_annotator():
    data = crowd(2, n=4000)
    whole = BradleyTerry().fit(data)
    steps = influence(data, whole).sort("annotator")
    changes, refits = [], []
    for row in steps.to_dicts():
        mask = data.values("annotator") != row["annotator"]
        refit = BradleyTerry().fit(data.mask(mask))
        before, after = whole.leaderboard().strengths, refit.leaderboard().strengths
        changes.append(row["change"])
        refits.append(POINTS * (after[row["item"]] - before[row["item"]]))
    assert np.corrcoef(changes, refits)[0, 1] > 0.99
    # An annotator has 3 % of the votes, and so much is neglected of the change.
    np.testing.assert_allclose(changes, refits, rtol=0.15, atol=0.3)
    assert steps["n"].sum() == 4000
    ordered = influence(data, whole)["change"].abs().to_list()
    assert ordered == sorted(ordered, reverse=True)


def test_leaving_out_the_one_who_decides_changes_the_first_rank():
    rows = [{"items": ["a", "b"], "scores": [1, 0], "annotator": w} for w in "xyz" for _ in range(5)]
    rows += [{"items": ["a", "b"], "scores": [0, 1], "annotator": w} for w in "xyz" for _ in range(5)]
    rows += [{"items": ["a", "b"], "scores": [1, 0], "annotator": "q"}] * 2
    found = influence(PreferenceData.from_rows(rows)).row(0, named=True)
    assert (found["annotator"], found["item"] in "ab") == ("q", True)
    rows += [{"items": ["a", "b"], "scores": [0, 1], "annotator": "r"}]
    found = influence(PreferenceData.from_rows(rows))
    assert found.filter(annotator="q")["first_changes"].to_list() == [True]
    assert found.filter(annotator="q")["rank_changes"].to_list() == [2]
    assert found.filter(annotator="x")["first_changes"].to_list() == [False]


def test_a_vote_repeated_with_the_other_winner_is_a_contradiction():
    rows = [
        {"items": ["a", "b"], "scores": [1, 0], "annotator": "w", "prompt": "p"},
        {"items": ["b", "a"], "scores": [1, 0], "annotator": "w", "prompt": "p"},
        {"items": ["b", "a"], "scores": [0, 1], "annotator": "w", "prompt": "p"},
        {"items": ["b", "a"], "scores": [1, 0], "annotator": "w", "prompt": "other"},
        {"items": ["b", "a"], "scores": [1, 0], "annotator": "v", "prompt": "p"},
    ]
    found = annotator_report(PreferenceData.from_rows(rows)).sort("annotator", descending=True)
    assert found["repeats"].to_list() == [3, 0]
    assert found["contradicted"].to_list() == [pytest.approx(2 / 3), None]
    assert found["flags"].to_list() == ["too few", "too few"]


def test_without_an_order_of_showing_there_is_no_position():
    rows = [{"items": ["a", "b", "c"], "scores": [3, 2, 1], "annotator": "w"}] * 2
    assert annotator_report(PreferenceData.from_rows(rows))["first_share"].to_list() == [None]
    rows = [{"items": ["a", "b"], "scores": [1, 0], "annotator": "w"}] * 20
    found = annotator_report(PreferenceData.from_rows(rows))
    assert found["first_z"].to_list() == [None]


def test_more_items_than_fit_a_matrix_are_solved_for(monkeypatch):
    data = crowd(3, n=2000)
    dense = influence(data).sort("annotator")
    for module in ("raters", "information", "likelihood"):
        monkeypatch.setattr(f"palate.rank.{module}.DENSE_ITEMS", 5)
    np.testing.assert_allclose(influence(data).sort("annotator")["change"], dense["change"], rtol=1e-3)
    monkeypatch.setattr("palate.rank.raters.SOLVED", 1)
    rough = influence(data).sort("annotator")["change"].to_numpy()
    assert np.corrcoef(np.abs(rough), np.abs(dense["change"]))[0, 1] > 0.8


def test_what_cannot_be_reported_is_said_once_and_clearly():
    data = crowd(4, n=200)
    with pytest.raises(DataError, match="the judgments name no annotators"):
        annotator_report(PreferenceData.from_rows([{"items": ["a", "b"], "scores": [1, 0]}]))
    with pytest.raises(ConfigError, match="alpha is 5"):
        annotator_report(data, alpha=5)
    other = PreferenceData.from_rows([{"items": ["x", "y"], "scores": [1, 1]}])
    with pytest.raises(ConfigError, match="unknown item of the judgments on this board 'm"):
        annotator_report(data, BradleyTerry().fit(other))


def test_workers_of_the_argument_corpus_agree_as_far_as_they_are_competent(shared_data, argument_votes):
    report = annotator_report(argument_votes).join(
        pl.read_parquet(shared_data / "ukp-convarg/annotators.parquet"), on="annotator"
    )
    assert report.height == 3815
    assert report["n"].sum() == 84445
    many = report.filter(pl.col("n") >= 20)
    assert many.select(pl.corr("agreement", "competence", method="spearman")).item() > 0.4
    # Honest by far the most: a consensus of five votes on a pair is loose, but not that loose.
    assert (report["flags"].str.contains("spammer|adversarial")).mean() < 0.1
