"""Vote hygiene: limits, duplicates, outliers with their error rate, and the choice of the next pair."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import binom

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import BradleyTerry
from palate.rank.hygiene import clean, next_pair_weights, outlier_evidence

DAY = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def vote(a="a", b="b", left=1, right=0, who="w", hours=0.0, **more):
    time = DAY + dt.timedelta(hours=hours)
    return {"items": [a, b], "scores": [left, right], "annotator": who, "time": time} | more


def simulated(seed, kind, users=100, n=8000, items=8, ties=0.25):
    """Annotator, pair and vote (0 to 2); the first 10 annotators are honest, random or adversarial."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 1.2, items)
    k = rng.integers(0, users, n)
    a = rng.integers(0, items, n)
    b = (a + rng.integers(1, items, n)) % items
    a, b = np.minimum(a, b), np.maximum(a, b)
    p = expit(theta[a] - theta[b])
    tie = ties * np.sqrt(4 * p * (1 - p))
    p = np.where(k < 10, {"honest": p, "random": 0.5, "adversarial": 1 - p}[kind], p)
    return k, a * items + b, np.where(rng.random(n) < tie, 1, np.where(rng.random(n) < p, 2, 0))


@pytest.mark.parametrize("ties", [0.0, 0.25, 0.9])
def test_honest_annotators_are_dropped_at_most_as_often_as_alpha_says(ties):
    evidence = np.concatenate([outlier_evidence(*simulated(s, "honest", ties=ties)) for s in range(10)])
    # The count would exceed this bound once in 1000 times were the rate exactly 5 %.
    assert (evidence > 20).sum() <= binom.isf(0.001, len(evidence), 0.05)


def test_few_votes_on_few_others_keep_the_error_rate():
    found = [outlier_evidence(*simulated(s, "honest", users=20, n=400, items=12)) for s in range(60)]
    evidence = np.concatenate(found)
    assert (evidence > 20).sum() <= binom.isf(0.001, len(evidence), 0.05)
    assert (evidence > 2).sum() <= binom.isf(0.001, len(evidence), 0.5)


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_random_and_adversarial_annotators_are_found(kind):
    evidence = np.stack([outlier_evidence(*simulated(s, kind)) for s in range(5)])
    assert (evidence[:, :10] > 20).mean() > 0.8
    assert (evidence[:, 10:] > 20).mean() < 0.05


def test_the_bet_has_mean_one_for_any_outcomes_and_the_plain_one_has_not():
    shares = np.array([0.1, 0.3, 0.6])
    below = np.cumsum(shares)
    assert shares @ (1 / (2 * below)) == pytest.approx(1.175)
    assert shares @ ((1 / below) / (shares @ (1 / below))) == pytest.approx(1)
    # Two outcomes: never above 1.
    for low in np.linspace(0.01, 0.99, 20):
        assert low / (2 * low) + (1 - low) / 2 <= 1


def test_evidence_is_the_running_product_of_the_stated_bets():
    k, pair, votes = simulated(3, "honest", users=6, n=150, items=4)
    found = outlier_evidence(k, pair, votes, min_votes=3, max_votes=10)
    for user in range(6):
        products, best = np.ones(2), 0.0
        rows = np.flatnonzero(k == user)[:10]
        for nth, row in enumerate(rows):
            bag = votes[(pair == pair[row]) & ((k != user) | (np.arange(150) <= row))]
            v = votes[row]
            if (bag == 0).sum() > (bag == 2).sum():
                bag, v = 2 - bag, 2 - v
            for tail, (b, x) in enumerate([(bag, v), (2 - bag, 2 - v)]):
                p = np.array([(b <= y).mean() for y in b])
                products[tail] *= (1 / (b <= x).mean()) / (1 / p).mean()
            if nth >= 2:
                best = max(best, products.mean())
        assert found[user] == pytest.approx(best)


def test_every_dropped_vote_has_a_row_and_a_reason():
    rows = [vote(hours=h) for h in range(3)] + [vote(who="v", left=0, right=1), vote(b="a", who="v")]
    rows += [vote(who="v", hours=13), vote(who="v", hours=14, left=0, right=1)]
    data = PreferenceData.from_rows(rows)
    left, report = clean(data, per_user_per_day=2, outliers=False)
    assert report.to_dicts() == [
        {"row": 3, "annotator": "w", "reason": "limit", "evidence": None},
        {"row": 5, "annotator": "v", "reason": "itself", "evidence": None},
    ]
    assert left.n_rows == 5
    left, report = clean(data, duplicates="first", outliers=False)
    assert report.filter(reason="duplicate")["row"].to_list() == [2, 3, 6, 7]
    assert left == data.take([0, 3])


def test_the_first_votes_of_a_day_are_those_cast_first():
    rows = [vote(hours=5), vote(hours=1), vote(hours=3), vote(hours=12.5), vote(hours=11.9)]
    _, report = clean(PreferenceData.from_rows(rows), per_user_per_day=2, outliers=False)
    assert report["row"].to_list() == [1, 5]


def test_other_prompts_and_aspects_are_no_duplicates():
    rows = [vote(prompt="p"), vote("b", "a", prompt="p"), vote(prompt="q"), vote(prompt="p", aspect="style")]
    _, report = clean(PreferenceData.from_rows(rows), duplicates="first", outliers=False)
    assert report["row"].to_list() == [2]


def test_all_votes_of_an_outlier_go_and_no_others():
    k, pair, votes = simulated(0, "adversarial", users=60, n=5000)
    names = [[f"m{p // 8}", f"m{p % 8}"] for p in pair]
    scores = np.stack([votes >= 1, votes <= 1], axis=1).astype(float).tolist()
    data = PreferenceData.from_columns(
        {"items": names, "scores": scores, "annotator": [f"w{i:02}" for i in k]}
    )
    left, report = clean(data)
    assert set(report["reason"]) == {"outlier"}
    assert (report["evidence"] > 20).all()
    dropped = set(report["annotator"])
    assert {f"w{i:02}" for i in range(10)} <= dropped
    assert not dropped & set(left.values("annotator"))
    assert left.n_rows + report.height == 5000
    evidence = outlier_evidence(k, pair, votes)
    assert dropped == {f"w{i:02}" for i in np.flatnonzero(evidence > 20)}


def test_clean_data_come_back_as_they_are():
    data = PreferenceData.from_rows([vote(), vote(who="v")])
    left, report = clean(data)
    assert left is data
    assert report.height == 0
    assert report.columns == ["row", "annotator", "reason", "evidence"]


def test_what_cannot_be_cleaned_is_said_once_and_clearly():
    data = PreferenceData.from_rows([vote(), vote() | {"annotator": None}])
    with pytest.raises(DataError, match=r"row 2, field 'annotator': no annotator; .* leave out outliers"):
        clean(data)
    no_time = PreferenceData.from_rows([{"items": ["a", "b"], "scores": [1, 0], "annotator": "w"}] * 2)
    with pytest.raises(DataError, match=r"row 1, field 'time': no time \(and 1 more\)"):
        clean(no_time, per_user_per_day=1)
    with pytest.raises(DataError, match="no judgment is left after the step 'itself'"):
        clean(PreferenceData.from_rows([vote("a", "a"), vote("b", "b")]))
    for options, message in [
        ({"per_user_per_day": 0}, "per_user_per_day is 0"),
        ({"alpha": 2.0}, "alpha is 2.0"),
        ({"duplicates": "last"}, "duplicates is 'last'"),
        ({"min_votes": 10, "max_votes": 5}, "max_votes is 5"),
    ]:
        with pytest.raises(ConfigError, match=message):
            clean(no_time, **options)


def test_the_next_pair_is_the_one_whose_error_falls_most():
    rows = [vote(), vote(left=0, right=1)] * 8 + [vote("b", "c"), vote("c", "b")]
    board = BradleyTerry().fit(PreferenceData.from_rows(rows)).leaderboard()
    found = next_pair_weights(board)
    assert found.select("a", "b", "n").rows() == [("a", "c", 0), ("b", "c", 2), ("a", "b", 16)]
    assert found["weight"].sum() == pytest.approx(1)
    # All three are level, so V = 1/4 for each.
    np.testing.assert_allclose(found["variance"], 0.25)
    fall = [np.sqrt(0.25 / n) - np.sqrt(0.25 / (n + 1)) for n in (0.5, 2, 16)]
    np.testing.assert_allclose(found["weight"], np.array(fall) / sum(fall))


def test_few_workers_of_the_argument_corpus_are_outliers(shared_data, argument_votes):
    left, report = clean(argument_votes)
    assert left.n_rows + report.height == 84445
    dropped = pl.read_parquet(shared_data / "ukp-convarg/annotators.parquet").with_columns(
        dropped=pl.col("annotator").is_in(report["annotator"].unique().to_list())
    )
    assert 0 < dropped["dropped"].mean() < 0.1
    competence = dict(dropped.group_by("dropped").agg(pl.col("competence").mean()).rows())
    assert competence[True] < competence[False]
