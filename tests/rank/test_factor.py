"""Factor BT: worked numbers, derivatives, recovery of pulls, the peer's gradient, and what it refuses."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from scipy.stats import spearmanr

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank import BradleyTerry, count
from palate.rank.battles import battles
from palate.rank.factor import FactorBT, FactorModel
from palate.rank.votes import votes


def simulated(seed, items=8, n=4000, reliability=(0.95, 0.8, 0.3, 0.9), pull=(0.0, 1.0, 2.0, -1.0), x=None):
    """Judgments with pulls on x, +1 (the first shown) unless given."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 1, items)
    k = rng.integers(0, len(reliability), n)
    a = rng.integers(0, items, n)
    b = (a + rng.integers(1, items, n)) % items
    g = np.array(reliability)[k]
    t = expit(np.array(pull)[k] * (1.0 if x is None else x))
    won = rng.random(n) < g * expit(theta[a] - theta[b]) + (1 - g) * t
    return (a, b, won, k), theta


def as_data(a, b, won, k):
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i:03}", f"m{j:03}"] for i, j in zip(a, b, strict=True)],
            "scores": np.stack([won, ~won], axis=1).astype(float).tolist(),
            "annotator": [f"w{i:03}" for i in k],
        }
    )


def by_name(fitted):
    return fitted.strengths_[np.argsort(fitted.items_)]


def test_a_vote_has_the_stated_probability():
    cells = votes(*_two(), ties="half", ordered=True)
    model = FactorModel(cells, np.array([[1.0, -1.0]]), 0.5, (2.0, 1.1), 0.1)
    own = np.array([[logit(0.8)] * 2, [2.0] * 2])
    # The same item, stronger by 1, shown left and shown right.
    at = model.chance(np.array([1.0, 1.0]), own)
    np.testing.assert_allclose(at.first, [0.761006, 0.608688], atol=5e-7)
    np.testing.assert_allclose(at.first + at.second, 1)


def _two():
    data = as_data([0, 1], [1, 0], np.array([True, False]), [0, 0])
    return data, battles(data)


def test_derivatives_and_information_are_those_of_the_loss():
    (a, b, won, k), _ = simulated(0, n=600)
    data = as_data(a, b, won, k)
    x = np.random.default_rng(1).normal(size=(2, 600))
    cells = votes(data, battles(data), ties="half", ordered=True, features=x)
    model = FactorModel(cells, cells.features, 0.5, (2.0, 1.1), 0.1)

    def loss(v):
        return model.loss(v[:9], v[9:].reshape(3, 4))[0]

    def gradient(v):
        _, by_theta, by_own = model.loss(v[:9], v[9:].reshape(3, 4))
        return np.concatenate([by_theta, by_own.ravel()])

    point = np.random.default_rng(2).normal(0, 0.5, 21)
    numeric = [(loss(point + 1e-6 * e) - loss(point - 1e-6 * e)) / 2e-6 for e in np.eye(21)]
    np.testing.assert_allclose(gradient(point), numeric, atol=1e-6)
    theta, own, _, converged = model.fit(np.zeros(9), np.full((3, 4), 0.5))
    assert converged
    best = np.concatenate([theta, own.ravel()])
    hessian = np.array([(gradient(best + 1e-5 * e) - gradient(best - 1e-5 * e)) / 2e-5 for e in np.eye(21)])
    inverse = np.linalg.pinv(hessian, rcond=1e-9)
    spread = model.spread(theta, own, False)
    centre = np.eye(8, 9) - np.pad(np.full((8, 8), 0.125), ((0, 0), (0, 1)))
    np.testing.assert_allclose(spread.strengths, centre @ inverse[:9, :9] @ centre.T, atol=1e-7)
    np.testing.assert_allclose(spread.own, np.diagonal(inverse)[9:].reshape(3, 4).T, rtol=1e-5)


def test_reliability_and_position_pull_are_recovered():
    (a, b, won, k), theta = simulated(3, n=20_000)
    fitted = FactorBT().fit(as_data(a, b, won, k))
    found = fitted.annotators_.sort("annotator")
    # Three standard errors; the reliabilities share the scale of the strengths and are less sure of it.
    for truth, name in (((0.95, 0.8, 0.3, 0.9), "reliability"), ((0.0, 1.0, 2.0, -1.0), "pull_position")):
        error = found["standard_error" if name == "reliability" else "pull_position_error"].to_numpy()
        assert (np.abs(found[name].to_numpy() - truth) < 3 * error).all()
    assert spearmanr(by_name(fitted), theta).statistic > 0.95


def test_a_feature_pulls_in_its_own_units_and_signs():
    rng = np.random.default_rng(0)
    length = rng.normal(0, 100, 20_000)
    (a, b, won, k), _ = simulated(4, n=20_000, pull=(0.0, 0.01, 0.02, -0.01), x=length)
    data = as_data(a, b, won, k)
    fitted = FactorBT(features={"length": length, "position": np.ones(20_000)}).fit(data)
    found = fitted.annotators_.sort("annotator")
    assert found["pull_length"].to_numpy()[2] == pytest.approx(0.02, abs=3 * found["pull_length_error"][2])
    assert found["pull_length"][3] < 0 < found["pull_length"][1]
    assert abs(found["pull_position"][2]) < 3 * found["pull_position_error"][2]
    # The other side's view of the same battles: features change sign and nothing else does.
    turned = as_data(b, a, ~won, k)
    mirrored = FactorBT(features={"length": -length, "position": -np.ones(20_000)}).fit(turned)
    np.testing.assert_allclose(by_name(mirrored), by_name(fitted), atol=1e-6)


def test_position_as_a_feature_is_the_default():
    (a, b, won, k), _ = simulated(5, n=500)
    data = as_data(a, b, won, k)
    summed, by_row = FactorBT().fit(data), FactorBT(features={"position": [1] * 500}).fit(data)
    np.testing.assert_allclose(by_name(summed), by_name(by_row), atol=1e-6)
    assert summed.annotators_.columns[-2:] == ["pull_position", "pull_position_error"]


def test_who_always_picks_the_first_does_not_move_the_board():
    # Strong items are shown second, so the picks of the first contradict the strengths.
    rng = np.random.default_rng(1)
    theta = np.linspace(-1.5, 1.5, 8)
    a, b = rng.integers(0, 8, 3000), rng.integers(0, 8, 3000)
    a, b = np.minimum(a, b)[a != b], np.maximum(a, b)[a != b]
    flip = rng.random(len(a)) < 0.1
    a, b = np.where(flip, b, a), np.where(flip, a, b)
    k = rng.integers(0, 10, len(a))
    won = (rng.random(len(a)) < expit(theta[a] - theta[b])) | (k < 5)
    data = as_data(a, b, won, k)
    assert spearmanr(by_name(BradleyTerry(l2=0.1).fit(data)), theta).statistic < 0.5
    fitted = FactorBT().fit(data)
    assert spearmanr(by_name(fitted), theta).statistic > 0.95
    assert (fitted.annotators_.sort("annotator")["reliability"][:5] < 0.2).all()


def test_the_gradient_of_the_public_crowd_library_is_not_that_of_its_likelihood():
    """Why its scores are no oracle: the stated gradient overwrites the annotators' entries, one slot off."""
    crowdkit = pytest.importorskip("crowdkit.aggregation")
    peer = crowdkit.NoisyBradleyTerry
    (a, b, won, k), _ = simulated(6, items=4, n=60)
    rows, who = np.stack([a, b, np.where(won, a, b)], axis=1) + 1, k
    x = np.random.default_rng(0).normal(size=1 + 4 + 8)

    def value(x):
        return peer._compute_log_likelihood(x, rows, who, 4, 4, 0.0)

    numeric = np.array([(value(x + 1e-6 * e) - value(x - 1e-6 * e)) / 2e-6 for e in np.eye(13)])
    stated = peer._compute_gradient(x, rows, who, 4, 4, 0.0)
    np.testing.assert_allclose(stated[1:4], numeric[1:4], atol=1e-6)
    assert np.abs(stated[4:] - numeric[4:]).max() > 0.5
    assert stated[-1] == 0 != numeric[-1]
    # Ours of the same likelihood is right.
    data = as_data(a, b, won, k)
    cells = votes(data, battles(data), ties="half", ordered=True)
    model = FactorModel(cells, np.ones((1, len(cells.won))), 0.0, (1.0, 1.0), 0.0)
    place = [int(name[1:]) + 1 for name in cells.items]
    seat = [int(name[1:]) for name in cells.annotators]
    theta = np.append(x[place], 0.0)
    own = np.stack([x[9:][seat], x[5:9][seat]])
    reached, by_theta, by_own = model.loss(theta, own)
    assert reached == pytest.approx(value(x))
    np.testing.assert_allclose(by_theta[:-1], numeric[place], atol=1e-6)
    np.testing.assert_allclose(by_own, np.stack([numeric[9:][seat], numeric[5:9][seat]]), atol=1e-6)


def test_what_cannot_be_fitted_is_said_once_and_clearly():
    (a, b, won, k), _ = simulated(0, n=30)
    data = as_data(a, b, won, k)
    with pytest.raises(ConfigError, match="factor_bt needs to know who cast each vote"):
        FactorBT().fit(count(data))
    with pytest.raises(DataError, match=r"the second item never wins, so the order .* use crowd_bt"):
        FactorBT().fit(as_data(np.where(won, a, b), np.where(won, b, a), won | True, k))
    three = PreferenceData.from_rows([{"items": ["a", "b", "c"], "scores": [1, 2, 3], "annotator": "w"}])
    with pytest.raises(DataError, match="more than two items, of which none is first"):
        FactorBT().fit(three)
    values = np.ones(30)
    values[4] = np.nan
    with pytest.raises(DataError, match=r"row 5, field 'length': is nan; give a finite number"):
        FactorBT(features={"length": values}).fit(data)
    with pytest.raises(DataError, match="the feature 'length' is 0 in every comparison; leave it out"):
        FactorBT(features={"length": np.zeros(30)}).fit(data)
    with pytest.raises(ConfigError, match=r"'length' has shape .3,.; give one number for each of the 30"):
        FactorBT(features={"length": [1, 2, 3]}).fit(data)
    with pytest.raises(ConfigError, match="'length' is not numeric"):
        FactorBT(features={"length": ["long"] * 30}).fit(data)
    with pytest.raises(ConfigError, match="l2 is 0"):
        FactorBT(l2=0).fit(data)


def test_the_crowd_of_language_models_leans_left_a_little(shared_data, model_votes):
    board = palate.rank(model_votes, method="factor_bt")
    assert board.table["item"][0] == "GPT 4"
    pull = np.average(board.annotators["pull_position"], weights=board.annotators["n"])
    assert pull > 0
    crowdkit = pytest.importorskip("crowdkit.aggregation")
    frame = pl.read_csv(shared_data / "llmfao" / "crowd-comparisons.csv.gz")
    decided = frame.filter(pl.col("winner") != "tie")
    votes = decided.select(
        "worker", "left", "right", label=pl.when(pl.col("winner") == "left").then("left").otherwise("right")
    )
    peer = crowdkit.NoisyBradleyTerry(n_iter=10).fit(votes.to_pandas()).scores_
    kept = palate.rank(model_votes, method="factor_bt", ties="drop")
    found = spearmanr([kept.strengths[i] for i in kept.items], peer[kept.items])
    assert found.statistic > 0.8


def test_a_value_of_each_side_becomes_a_difference():
    rng = np.random.default_rng(0)
    n = 300
    length = rng.integers(1, 50, (n, 2)).astype(float)
    won = rng.random(n) < 0.6
    data = PreferenceData.from_columns(
        {
            "items": [["a", "b"]] * n,
            "scores": list(np.stack([won, ~won], axis=1).astype(float)),
            "annotator": [f"u{i % 5}" for i in range(n)],
        }
    )
    share = (length[:, 0] - length[:, 1]) / (length.sum(axis=1) + 1)
    two, one = FactorBT(features={"length": length}).fit(data), FactorBT(features={"length": share}).fit(data)
    np.testing.assert_allclose(two.strengths_, one.strengths_, atol=1e-12)
