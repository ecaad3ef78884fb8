"""A fit on fixed inputs reaches the optimum of its objective, however the inputs are scaled and stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.reward import RewardModel, heads, linear
from palate.reward.arrays import fit_arrays
from palate.reward.fitting import fit_network
from palate.reward.inputs import all_finite, features_of, used
from palate.reward.network import Network
from palate.training import TrainingGroups


def pairs(n: int = 1500, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (2 n, d) in single precision, of unlike spread and correlated, and which of each two won."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.arange(1, d + 1)[:, None] ** -1.5
    x = (rng.normal(size=(2 * n, d)) @ mix + rng.normal(size=d)).astype(np.float32)
    margin = (x[0::2] - x[1::2]).astype(float) @ rng.normal(size=d)
    return x, rng.random(n) < 1 / (1 + np.exp(-1.5 * margin / margin.std()))


def groups_of(first: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, TrainingGroups]:
    n = len(first)
    position = np.arange(2 * n).reshape(n, 2)
    position = np.where(first[:, None], position, position[:, ::-1])
    targets, mask = np.tile([1.0, 0.0], (n, 1)), np.ones((n, 2), dtype=bool)
    given = np.ones(n) if weight is None else weight
    return position, TrainingGroups(position, targets, mask, given, np.arange(n), 0)


def fitted(
    x: np.ndarray,
    first: np.ndarray,
    loss: str = "bradley_terry",
    weight: np.ndarray | None = None,
    **options: Any,
) -> tuple[Network, dict[str, Any]]:
    network = Network(x.shape[1], heads.get("scalar").double())
    network.standardise_on(x)
    position, groups = groups_of(first, weight)
    settings = {"l2": 0.01, "max_iter": 500, "tolerance": 1e-6} | options
    return network, fit_network(network, x, position, groups, losses.get(loss), **settings)


def weights(network: Network) -> np.ndarray:
    return network.last.weight.detach().numpy()[0]


def peer(network: Network, x: np.ndarray, first: np.ndarray, l2: float) -> np.ndarray:
    differences = (x[0::2].astype(float) - x[1::2]) / network.scale.numpy()
    model = LogisticRegression(
        C=1 / (l2 * len(first)) if l2 else np.inf, fit_intercept=False, tol=1e-10, max_iter=5000
    )
    return model.fit(differences, first).coef_[0]


def objective(network: Network, x: np.ndarray, first: np.ndarray, w: np.ndarray, l2: float) -> float:
    """Of the standardised weights `w`, in double precision."""
    margin = ((x[0::2].astype(float) - x[1::2]) / network.scale.numpy()) @ w
    return float(np.logaddexp(0.0, -np.where(first, margin, -margin)).mean() + l2 / 2 * w @ w)


@pytest.mark.parametrize("l2", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("single", [False, True])
def test_it_is_logistic_regression_on_standardised_differences(
    l2: float, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if single:
        monkeypatch.setattr(linear, "SINGLE", 0)
    x, first = pairs()
    network, ended = fitted(x, first, l2=l2, tolerance=1e-7 if single else 1e-9)
    expected = peer(network, x, first, l2)
    # The flattest direction of these inputs has a curvature of about 1e-4: rounding to single precision moves
    # the weights along it, and what they are good for by next to nothing.
    flat = single and l2 < 0.1
    assert weights(network) == pytest.approx(expected, abs=2e-3 if flat else 1e-4)
    standard = (x - network.mean.numpy()) / network.scale.numpy()
    assert np.abs(standard @ (weights(network) - expected)).max() < (2e-3 if flat else 5e-4)
    assert objective(network, x, first, weights(network), l2) == pytest.approx(
        objective(network, x, first, expected, l2), abs=1e-9
    )
    assert ended["converged"]
    assert ended["evaluations"] <= 15


def test_single_precision_loses_nothing_to_a_mean_far_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    x, first = pairs()
    x += np.float32(4000.0) * x.std(axis=0)
    double = weights(fitted(x, first)[0])
    monkeypatch.setattr(linear, "SINGLE", 0)
    assert weights(fitted(x, first)[0]) == pytest.approx(double, abs=1e-4)


def test_weighted_pairs_are_fitted_to_their_own_optimum() -> None:
    x, first = pairs()
    weight = np.random.default_rng(1).choice([0.5, 1.0, 30.0], len(first))
    network, _ = fitted(x, first, weight=weight)
    differences = (x[0::2].astype(float) - x[1::2]) / network.scale.numpy()
    model = LogisticRegression(C=1 / (0.01 * weight.sum()), fit_intercept=False, tol=1e-10, max_iter=5000)
    assert weights(network) == pytest.approx(
        model.fit(differences, first, sample_weight=weight).coef_[0], abs=1e-4
    )


def test_a_column_given_twice_or_without_variation_is_no_obstacle_even_without_penalty() -> None:
    x, first = pairs(d=4)
    network, ended = fitted(x, first, l2=0.0)
    doubled = np.concatenate([x, x[:, :1], np.full((len(x), 1), 7.3, np.float32)], axis=1)
    again, also = fitted(doubled, first, l2=0.0)
    made = weights(again)
    assert ended["converged"]
    assert also["converged"]
    assert also["objective"] == pytest.approx(ended["objective"], abs=1e-8)
    assert made[0] + made[4] == pytest.approx(weights(network)[0], abs=2e-3)
    assert made[5] == pytest.approx(0.0, abs=1e-12)


def test_separable_data_without_penalty_stays_finite_and_orders_every_pair() -> None:
    x, _ = pairs(200, 3)
    first = x[0::2, 0] > x[1::2, 0]
    network, ended = fitted(x, first, l2=0.0)
    scores = network(torch.from_numpy(x.astype(float))).detach().numpy()[:, 0]
    assert np.array_equal(scores[0::2] > scores[1::2], first)
    assert 0 <= ended["objective"] < 1e-3
    assert np.isfinite(weights(network)).all()


def test_more_columns_than_pairs_are_fitted_under_a_penalty() -> None:
    x, first = pairs(40, 100)
    network, ended = fitted(x, first, l2=0.05)
    assert ended["converged"]
    assert weights(network) == pytest.approx(peer(network, x, first, 0.05), abs=1e-4)


def test_it_says_when_it_stopped_short() -> None:
    x, first = pairs()
    assert not fitted(x, first, max_iter=1)[1]["converged"]


def without_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit in the weights themselves."""
    monkeypatch.setattr("palate.reward.fitting._Objective.change_of_variables", lambda self: None)


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        ("scalar", "listmle"), ("scalar", "mse"), ("scalar", "ranklist"), ("scalar", "exponential"),
        ("scalar", "ipo"), ("attributes", "bradley_terry"), ("attributes", "mse"),
    ],
)  # fmt: skip
def test_the_change_of_variables_leaves_the_optimum_of_every_loss(
    head: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 3, 5)) @ (rng.normal(size=(5, 5)) * [1.0, 0.3, 0.1, 1.0, 1.0])
    scores = x @ rng.normal(size=5) + rng.gumbel(size=(300, 3))
    columns = {"features": x.tolist(), "scores": scores.tolist()}
    if head == "attributes":
        columns["aspect"] = ["clear", "kind", "overall"] * 100
    data = PreferenceData.from_columns(columns)

    def fit() -> RewardModel:
        return RewardModel("features", head, loss, l2=0.01, tolerance=1e-8, max_iter=5000).fit(data)

    made = fit()
    without_change(monkeypatch)
    plain = fit()
    assert made.fit_["converged"]
    assert made.fit_["objective"] == pytest.approx(plain.fit_["objective"], abs=1e-9)
    assert made.score_features(x) == pytest.approx(plain.score_features(x), abs=1e-3)
    assert made.fit_["evaluations"] < plain.fit_["evaluations"]


def test_a_hinge_ends_no_worse_than_in_the_weights_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    x, first = pairs()
    made = fitted(x, first, "hinge")[1]["objective"]
    without_change(monkeypatch)
    assert made <= fitted(x, first, "hinge")[1]["objective"] + 1e-5


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
def test_the_unit_and_the_origin_of_a_feature_change_no_score(scale: float, shift: float) -> None:
    x, first = pairs(200, 3)
    moved = x.astype(float)
    moved[:, 1] = moved[:, 1] * scale + shift * scale
    a, b = (fitted(values, first, tolerance=1e-9)[0] for values in (x, moved))
    scores = (m(torch.from_numpy(v.astype(float))).detach().numpy() for m, v in ((a, x), (b, moved)))
    assert next(scores) == pytest.approx(next(scores), abs=1e-5)


def test_large_products_equal_plain_ones_in_both_precisions() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(40_000, 9)) * 3 + np.arange(9) * 40).astype(np.float32)
    mean, spread = linear.mean_and_spread(values)
    exact = values.astype(float)
    assert mean == pytest.approx(exact.mean(axis=0), rel=1e-6)
    assert spread == pytest.approx(exact.std(axis=0), rel=1e-5)
    standard = (exact - mean) / spread
    weight, gradient = rng.normal(size=(2, 9)), rng.normal(size=(40_000, 2))
    with pytest.MonkeyPatch.context() as patch:
        for least in (0, 10**9):
            patch.setattr(linear, "SINGLE", least)
            made = linear.LinearInputs(values, mean, spread)
            assert made.outputs(weight) == pytest.approx(standard @ weight.T, abs=1e-4)
            assert made.gradient(gradient) == pytest.approx(gradient.T @ standard, abs=2e-2)
            assert made.rows(np.array([[3, 5]])) == pytest.approx(standard[[[3, 5]]], abs=1e-5)


def test_the_curvature_of_bradley_and_terry_at_equal_scores_is_a_half() -> None:
    loss = losses.get("bradley_terry")
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)

    def of(outputs: torch.Tensor) -> torch.Tensor:
        return loss(outputs[..., 0], targets)

    assert linear.curvature(of, torch.zeros(2, 2, 1, dtype=torch.float64)) == pytest.approx(0.5, abs=1e-6)


def test_features_of_one_piece_are_not_copied_and_single_bad_ones_are_found() -> None:
    data = PreferenceData.from_columns({"features": [[[1.0], [2.0]]] * 3, "scores": [[1.0, 0.0]] * 3})
    values = features_of(data)
    assert values.dtype == np.float32
    assert not values.flags.owndata
    assert all_finite(np.full((2, 400), 3e38, np.float32))
    assert not all_finite(np.array([[np.inf, -np.inf]]))
    bad = PreferenceData.from_columns(
        {"features": [[[1.0], [2.0]], [[1.0], [float("inf")]]], "scores": [[1.0, 0.0]] * 2}
    )
    with pytest.raises(DataError, match="row 2, field 'features'"):
        features_of(bad)


def test_inputs_that_no_group_points_at_are_left_out() -> None:
    values, position = used(np.arange(5.0)[:, None], np.array([[4, 1], [1, 2]]))
    assert values[:, 0].tolist() == [1.0, 2.0, 4.0]
    assert position.tolist() == [[2, 0], [0, 1]]


def test_arrays_give_the_model_that_judgments_of_them_give() -> None:
    x, first = pairs(300, 4)
    position, _ = groups_of(first)
    data = PreferenceData.from_columns(
        {
            "features": x.reshape(300, 2, 4).tolist(),
            "scores": np.stack([first, ~first], 1).astype(float).tolist(),
        }
    )
    made, judged = fit_arrays(RewardModel("features"), x, position), RewardModel("features").fit(data)
    assert made.score_features(x) == pytest.approx(judged.score_features(x), abs=1e-6)
    assert made.n_groups_ == 300
    twice = fit_arrays(RewardModel("features"), x, position, weight=np.full(300, 2.0))
    assert twice.score_features(x) == pytest.approx(made.score_features(x), abs=1e-6)
    assert twice.data_fingerprint_ != made.data_fingerprint_
    strong = RewardModel("features", loss_params={"label_margin": 1.0})
    strength = np.random.default_rng(0).choice([0.1, 3.0], 300)
    gaps = fit_arrays(strong, x, position, strength=strength).score_features(x)
    assert np.ptp(gaps) > np.ptp(made.score_features(x))


def test_a_response_of_many_pairs_is_given_once_and_kept_with_the_model(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    better = [[i, j] for i in range(8) for j in range(8) if x[i, 0] > x[j, 0]]
    model = fit_arrays(RewardModel("features", l2=0.001), x, better)
    assert np.array_equal(np.argsort(model.score_features(x[:8])), np.argsort(x[:8, 0]))
    again = RewardModel.load(model.save(tmp_path / "m"))
    assert np.array_equal(again.score_features(x), model.score_features(x))


@pytest.mark.parametrize(
    ("pairs_given", "options", "message"),
    [
        ([], {}, r"pairs of shape \(0,\)"),
        ([[0, 3]], {}, "row 1, field 'pairs': .* rows of 3 features"),
        ([[0, 1], [1, 1]], {}, "row 2, field 'pairs': .* two different rows"),
        ([[0.0, 1.0]], {}, "pairs must be whole numbers"),
        ([[0, 1]], {"weight": [0.0]}, "row 1, field 'weight': .* above 0"),
        ([[0, 1]], {"strength": [1.0, 2.0]}, r"strength has shape \(2,\), not \(1,\)"),
    ],
)
def test_arrays_that_cannot_be_used_are_one_clear_error(
    pairs_given: list[list[float]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fit_arrays(RewardModel("features"), np.eye(3), pairs_given, **options)


def test_arrays_are_checked_for_values_that_are_not_finite_and_for_the_model() -> None:
    x = np.eye(3)
    x[1, 2] = np.nan
    with pytest.raises(DataError, match="row 2, field 'features'"):
        fit_arrays(RewardModel("features"), x, [[0, 1]])
    with pytest.raises(ConfigError, match="arrays are for RewardModel"):
        fit_arrays(RewardModel("all-minilm-l6-v2"), np.eye(3), [[0, 1]])
