"""Composite Bradley-Terry: its objective, its sandwich, and what it refuses."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import BradleyTerry, count
from palate.rank.composite import CompositeBradleyTerry

EFFECTS = {"style": [0.6, 0.0, -0.6, 0.1], "truth": [-0.4, 0.5, 0.2, 0.0]}
WEIGHTS = {"style": 1.0, "truth": 3.0}


def judged(n=None, seed=0):
    """Votes on two aspects of the same comparisons, style more often than truth, with ties and weights."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, times in (n or {"style": 500, "truth": 200}).items():
        theta = np.array(EFFECTS[name])
        a = rng.integers(0, 4, times)
        b = (a + rng.integers(1, 4, times)) % 4
        y = (rng.random(times) < expit(theta[a] - theta[b])).astype(float)
        y[rng.random(times) < 0.15] = 0.5
        weight = rng.uniform(0.5, 2.0, times)
        rows += [(i, j, won, w, name) for i, j, won, w in zip(a, b, y, weight, strict=True)]
    return rows


def as_data(rows, **columns):
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j, *_ in rows],
            "scores": [[1.0, 1.0] if won == 0.5 else [won, 1 - won] for _, _, won, *_ in rows],
            "weight": [w for *_, w, _ in rows],
            "aspect": [name for *_, name in rows],
            **columns,
        }
    )


def in_order(fitted, size=4):
    place = [fitted.items_.index(f"m{i}") for i in range(size)]
    return fitted.strengths_[place], fitted.covariance_[np.ix_(place, place)]


def columns(rows):
    a, b, y, w = (np.array(values) for values in list(zip(*rows, strict=True))[:4])
    name = np.array([row[4] for row in rows])
    share = np.zeros(len(rows))
    for aspect, weight in WEIGHTS.items():
        share[name == aspect] = weight * w[name == aspect] / w[name == aspect].sum()
    x = np.zeros((len(rows), 4))
    x[np.arange(len(rows)), a] = 1.0
    x[np.arange(len(rows)), b] = -1.0
    return x, y, share


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_it_minimises_the_weighted_sum_of_mean_losses(l2):
    rows = judged()
    x, y, share = columns(rows)

    def loss(theta):
        d = x @ theta
        return share @ (np.logaddexp(0.0, d) - y * d) + 0.5 * l2 * theta @ theta

    def gradient(theta):
        return x.T @ (share * (expit(x @ theta) - y)) + l2 * theta

    expected = minimize(loss, np.zeros(4), jac=gradient, method="BFGS", options={"gtol": 1e-12}).x
    fitted = CompositeBradleyTerry(aspect_weights=WEIGHTS, l2=l2).fit(as_data(rows))
    np.testing.assert_allclose(in_order(fitted)[0], expected - expected.mean(), atol=1e-7)
    assert fitted.log_likelihood_ == pytest.approx(
        -loss(in_order(fitted)[0]) + 0.5 * l2 * expected @ expected
    )


@pytest.mark.parametrize("clustered", [False, True])
def test_its_covariance_is_the_sandwich_of_the_weighted_scores(clustered):
    rows = judged({"style": 300, "truth": 300})
    x, y, share = columns(rows)
    prompt = np.arange(len(rows)) % 100 if clustered else np.arange(len(rows))
    data = as_data(rows, prompt_id=[f"p{p}" for p in prompt])
    fitted = CompositeBradleyTerry(aspect_weights=WEIGHTS, cluster="prompt").fit(data)
    theta, covariance = in_order(fitted)
    p = expit(x @ theta)
    inverse = np.linalg.pinv(x.T @ (x * (share * p * (1 - p))[:, None]))
    scores = np.zeros((prompt.max() + 1, 4))
    np.add.at(scores, prompt, x * (share * (y - p))[:, None])
    np.testing.assert_allclose(covariance, inverse @ scores.T @ scores @ inverse, atol=1e-10)


def test_one_aspect_is_bradley_terry_with_a_ridge_per_comparison():
    rows = judged({"style": 400})
    data, total = as_data(rows), sum(row[3] for row in rows)
    plain = BradleyTerry(l2=2.0).fit(data)
    fitted = CompositeBradleyTerry(l2=2.0 / total).fit(data)
    np.testing.assert_allclose(fitted.strengths_, plain.strengths_, atol=1e-9)
    np.testing.assert_allclose(fitted.covariance_, plain.covariance_, atol=1e-9)


def test_more_judgments_of_an_aspect_do_not_give_it_more_influence():
    rows = judged()
    repeated = rows + 4 * [row for row in rows if row[4] == "style"]
    once, often = (CompositeBradleyTerry().fit(as_data(r)) for r in (rows, repeated))
    np.testing.assert_allclose(in_order(often)[0], in_order(once)[0], atol=1e-9)
    pooled = [BradleyTerry().fit(as_data(r)) for r in (rows, repeated)]
    assert np.abs(in_order(pooled[0])[0] - in_order(pooled[1])[0]).max() > 0.05


def test_an_aspect_of_weight_0_does_not_count():
    rows = judged()
    alone = [row for row in rows if row[4] == "truth"]
    fitted = CompositeBradleyTerry(aspect_weights={"style": 0, "truth": 2}).fit(as_data(rows))
    plain = BradleyTerry().fit(as_data(alone))
    np.testing.assert_allclose(in_order(fitted)[0], in_order(plain)[0], atol=1e-9)
    np.testing.assert_allclose(in_order(fitted)[1], in_order(plain)[1], atol=1e-9)
    assert fitted.n_comparisons_ == len(alone)
    assert list(fitted.diagnostics_["aspects"]) == ["truth"]


def test_aspects_of_one_comparison_are_not_independent():
    """Two aspects that always agree say no more than one; only clusters know."""
    rows = judged({"style": 300})
    twice = rows + [(*row[:4], "truth") for row in rows]
    prompts = [f"p{k}" for k in range(300)]
    data = as_data(twice, prompt_id=prompts * 2)
    together = CompositeBradleyTerry().fit(data)
    np.testing.assert_allclose(together.covariance_, BradleyTerry().fit(as_data(rows)).covariance_, atol=1e-9)
    apart = CompositeBradleyTerry(cluster=None).fit(data)
    np.testing.assert_allclose(apart.covariance_, together.covariance_ / 2, atol=1e-9)


def test_it_says_how_the_aspects_agree():
    rows = judged({"style": 3000, "truth": 3000})
    board = palate.rank(as_data(rows), "composite_bt")
    correlation = board.diagnostics["aspect_correlation"]
    assert correlation["style"]["style"] == pytest.approx(1.0)
    expected = np.corrcoef(EFFECTS["style"], EFFECTS["truth"])[0, 1]
    assert correlation["style"]["truth"] == pytest.approx(expected, abs=0.2)
    assert board.diagnostics["aspects"] == {"style": 3000, "truth": 3000}


def test_an_aspect_without_an_estimate_of_its_own_is_named_and_still_counts():
    rows = [*judged({"truth": 400}), (0, 1, 1.0, 1.0, "style"), (1, 2, 1.0, 1.0, "style")]
    fitted = CompositeBradleyTerry().fit(as_data(rows))
    assert "m0 never lost" in fitted.diagnostics_["aspects_without_estimate"]["style"]
    assert fitted.aspects_["style"].is_null().all()
    assert not fitted.aspects_["truth"].is_null().any()
    assert fitted.diagnostics_["aspect_correlation"]["style"]["truth"] is None
    held = CompositeBradleyTerry(l2=0.1).fit(as_data(rows))
    missing = held.aspects_.filter(pl.col("style").is_null())["item"].to_list()
    assert missing == ["m3"]


def test_dropped_ties_do_not_count_in_an_aspect_s_mean():
    rows = judged()
    fitted = CompositeBradleyTerry(ties="drop").fit(as_data(rows))
    same = CompositeBradleyTerry().fit(as_data([row for row in rows if row[2] != 0.5]))
    np.testing.assert_allclose(in_order(fitted)[0], in_order(same)[0], atol=1e-9)
    np.testing.assert_allclose(in_order(fitted)[1], in_order(same)[1], atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aspect_weights": {"style": 1}}, "no 'truth'"),
        ({"aspect_weights": {"style": 1, "truth": 1, "speed": 1}}, "unknown aspect 'speed'"),
        ({"aspect_weights": {"style": 1, "truth": -1}}, "weight of the aspect 'truth' is -1"),
        ({"aspect_weights": {"style": 0, "truth": 0}}, "every weight in aspect_weights is 0"),
        ({"ties": "half win"}, "ties is 'half win'"),
        ({"cluster": "country"}, "cluster is 'country'"),
        ({"anchor": "m9"}, "unknown anchor 'm9'"),
        ({"level": 2}, "level is 2"),
        ({"l2": -1}, "l2 is -1"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        CompositeBradleyTerry(**options).fit(as_data(judged()))


def test_judgments_without_an_aspect_are_refused():
    rows = judged()
    names = [row[4] for row in rows]
    with pytest.raises(DataError, match="row 3, field 'aspect': a missing aspect"):
        CompositeBradleyTerry().fit(as_data(rows, aspect=[*names[:2], None, *names[3:]]))
    with pytest.raises(DataError, match="no judgment names an aspect"):
        CompositeBradleyTerry().fit(as_data(rows, aspect=[None] * len(rows)))
    tied = as_data([(*row[:2], 0.5, *row[3:]) if row[4] == "style" else row for row in rows])
    with pytest.raises(DataError, match="'style' compares nothing"):
        CompositeBradleyTerry(ties="drop").fit(tied)
    with pytest.raises(ConfigError, match="aspects"):
        CompositeBradleyTerry().fit(count(as_data(rows)))


def test_the_crowd_and_two_models_count_the_same_however_many_votes_they_gave(shared_data):
    frames = []
    for name in ("crowd", "gpt4-crowd", "gpt3-crowd"):
        frame = pl.read_csv(shared_data / "llmfao" / f"{name}-comparisons.csv.gz")
        frames.append(frame.select("left", "right", "winner", "prompt", aspect=pl.lit(name)))
    votes = pl.concat(frames)
    left, right = (votes["winner"] != "right").to_list(), (votes["winner"] != "left").to_list()
    data = PreferenceData.from_columns(
        {
            "items": [list(pair) for pair in votes.select("left", "right").iter_rows()],
            "scores": [[float(x), float(y)] for x, y in zip(left, right, strict=True)],
            "prompt_id": [str(p) for p in votes["prompt"]],
            "aspect": votes["aspect"].to_list(),
        }
    )
    fitted = CompositeBradleyTerry().fit(data)
    assert fitted.diagnostics_["aspects"] == {"crowd": 8931, "gpt4-crowd": 2139, "gpt3-crowd": 2139}
    alone = {name: fitted.aspects_[name].to_numpy() for name in fitted.aspects_.columns[1:]}
    # The rank correlations that the set's README states.
    assert round(spearmanr(alone["crowd"], alone["gpt4-crowd"]).statistic, 2) == 0.73
    assert round(spearmanr(alone["crowd"], alone["gpt3-crowd"]).statistic, 2) == 0.72
    pooled = BradleyTerry().fit(data)
    assert pooled.items_ == fitted.items_
    to_crowd, to_pooled = (
        np.corrcoef(alone["crowd"], strengths)[0, 1] for strengths in (fitted.strengths_, pooled.strengths_)
    )
    assert to_crowd < to_pooled
