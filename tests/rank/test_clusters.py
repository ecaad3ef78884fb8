"""The cluster sandwich: votes of one user or about one prompt are not independent."""

from __future__ import annotations

import numpy as np
import pytest

import palate
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import count
from palate.rank.clusters import cluster_codes

SIZE = 6


@pytest.fixture(scope="module")
def votes():
    rng = np.random.default_rng(3)
    n, users = 900, 40
    user = rng.integers(0, users, n)
    taste = rng.normal(0, 1, (users, SIZE))
    a = rng.integers(0, SIZE, n)
    b = (a + rng.integers(1, SIZE, n)) % SIZE
    gap = 0.3 * (a - b) + taste[user, a] - taste[user, b] + rng.logistic(0, 1, n)
    left = np.where(gap > -0.4, 1.0, 0.0)
    right = np.where(gap < 0.4, 1.0, 0.0)
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)],
            "scores": list(np.stack([left, right], axis=1)),
            "annotator": [f"u{u}" for u in user],
            "prompt_id": [f"p{k}" for k in rng.integers(0, 100, n)],
            "weight": rng.uniform(0.5, 2.0, n),
        }
    )


def by_hand(data, model, groups):
    """H^-1 G H^-1 from the rows, with the null direction removed."""
    items = model.items_
    scores = data.scores.reshape(-1, 2)
    y = np.where(scores[:, 0] > scores[:, 1], 1.0, np.where(scores[:, 0] < scores[:, 1], 0.0, 0.5))
    x = np.zeros((data.n_rows, len(items)))
    for row, (a, b) in enumerate(data.column("items").to_pylist()):
        x[row, items.index(a)], x[row, items.index(b)] = 1, -1
    p = 1 / (1 + np.exp(-(x @ model.strengths_)))
    w = data.weights
    hessian = (x * (w * p * (1 - p))[:, None]).T @ x
    score = x * (w * (y - p))[:, None]
    summed = np.array([score[groups == g].sum(axis=0) for g in np.unique(groups)])
    inverse = np.linalg.pinv(hessian)
    return inverse @ summed.T @ summed @ inverse


@pytest.mark.parametrize("cluster", ["annotator", "prompt"])
def test_scores_are_summed_within_a_cluster_before_they_are_squared(votes, cluster):
    model = palate.rank.BradleyTerry(cluster=cluster).fit(votes)
    labels = votes.values("annotator" if cluster == "annotator" else "prompt_id")
    np.testing.assert_allclose(model.covariance_, by_hand(votes, model, labels), atol=1e-10)


def test_one_cluster_per_judgment_is_the_plain_sandwich(votes):
    plain = palate.rank.BradleyTerry().fit(votes)
    own = palate.rank.BradleyTerry(cluster=np.arange(votes.n_rows)).fit(votes)
    np.testing.assert_allclose(own.covariance_, plain.covariance_, atol=1e-12)
    nobody = votes.with_columns(annotator=[None] * (votes.n_rows - 1) + ["one"])
    np.testing.assert_allclose(
        palate.rank.BradleyTerry(cluster="annotator").fit(nobody).covariance_, plain.covariance_, atol=1e-12
    )


def test_shared_taste_makes_intervals_wider(votes):
    plain, clustered = palate.rank(votes), palate.rank(votes, cluster="annotator")
    assert plain.strengths == pytest.approx(clustered.strengths)
    assert clustered.compare("m5", "m0").standard_error > 1.2 * plain.compare("m5", "m0").standard_error


@pytest.mark.parametrize("method", ["davidson", "rao_kupper", "thurstone"])
def test_the_other_models_have_it_too(votes, method):
    options = {"ties": "threshold"} if method == "thurstone" else {}
    plain = palate.rank(votes, method, **options)
    own = palate.rank(votes, method, cluster=np.arange(votes.n_rows), **options)
    np.testing.assert_allclose(own.covariance, plain.covariance, atol=1e-12)
    wide = palate.rank(votes, method, cluster="annotator", **options)
    assert wide.compare("m5", "m0").standard_error > 1.2 * plain.compare("m5", "m0").standard_error


def test_clusters_survive_dropping_ties(votes):
    decided = votes.mask(np.ptp(votes.scores.reshape(-1, 2), axis=1) > 0)
    one = palate.rank(votes, ties="drop", cluster="annotator")
    other = palate.rank(decided, cluster="annotator")
    np.testing.assert_allclose(
        [one.compare("m0", f"m{i}").standard_error for i in range(1, SIZE)],
        [other.compare("m0", f"m{i}").standard_error for i in range(1, SIZE)],
    )


def test_reweighted_pairs_have_equal_influence_once_they_are_common():
    often = [["a", "b"]] * 4000 + [["b", "c"]] * 200 + [["a", "c"]] * 200
    wins = [1.0] * 2400 + [0.0] * 1600 + ([1.0] * 150 + [0.0] * 50) * 2
    data = PreferenceData.from_columns({"items": often, "scores": [[y, 1 - y] for y in wins]})
    plain, even = count(data), palate.rank.BradleyTerry(reweight="pair").fit(data).comparisons_
    assert plain.total.sum() == pytest.approx(even.total.sum())
    np.testing.assert_allclose(even.total, even.total[0])
    np.testing.assert_allclose(even.wins / even.total, plain.wins / plain.total)


def test_what_cannot_be_a_cluster_is_refused(votes):
    with pytest.raises(ConfigError, match="cluster is 'user'; use 'annotator', 'prompt', or an array"):
        palate.rank(votes, cluster="user")
    with pytest.raises(ConfigError, match=r"cluster has shape \(3,\); give one label for each of 900"):
        palate.rank(votes, cluster=[1, 2, 3])
    with pytest.raises(ConfigError, match="cluster needs interval='sandwich' or 'bootstrap'"):
        palate.rank(votes, cluster="prompt", interval="hessian")
    with pytest.raises(ConfigError, match="cluster is not known for counted comparisons"):
        palate.rank(count(votes), cluster="prompt")
    with pytest.raises(DataError, match="the judgments name no annotator"):
        palate.rank(
            PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]}), cluster="annotator"
        )


def test_labels_of_clusters_may_be_missing(votes):
    small = votes.take(range(5))
    assert cluster_codes(small, ["x", None, "y", "x", ""])[[1, 4]].tolist() == [-1, -1]
    assert cluster_codes(small, [1.0, float("nan"), 2.0, 1.0, 2.0]).tolist()[1] == -1
