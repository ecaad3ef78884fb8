"""Crowd-BT: worked numbers, identities, derivatives, the reliability simulation, and what it refuses."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from scipy.stats import kendalltau, spearmanr

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import BradleyTerry, count
from palate.rank.battles import battles
from palate.rank.crowd import CrowdBT, CrowdModel, likelihood_interval
from palate.rank.votes import votes

SHEET = (0.95,) * 14 + (0.5,) * 3 + (0.05,) * 3


def crowd(seed, items=10, n=600, etas=SHEET, ties=0.0):
    """Votes of annotators with these reliabilities on items of standard normal strength."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 1, items)
    k = rng.integers(0, len(etas), n)
    a = rng.integers(0, items, n)
    b = (a + rng.integers(1, items, n)) % items
    eta = np.array(etas)[k]
    p = expit(theta[a] - theta[b])
    won = rng.random(n) < eta * p + (1 - eta) * (1 - p)
    tie = rng.random(n) < ties
    return as_data(a, b, won | tie, ~won | tie, k), theta


def as_data(a, b, left, right, k):
    return PreferenceData.from_columns(
        {
            "items": [[f"m{i:03}", f"m{j:03}"] for i, j in zip(a, b, strict=True)],
            "scores": np.stack([left, right], axis=1).astype(float).tolist(),
            "annotator": [f"w{i:03}" for i in k],
        }
    )


def by_name(fitted):
    return fitted.strengths_[np.argsort(fitted.items_)]


def model_of(data, **options):
    cells = votes(data, battles(data), ties="half", ordered=False)
    return CrowdModel(cells, options.get("virtual", 0.5), options.get("prior", (2.0, 1.1)))


@pytest.mark.parametrize(("eta", "expected"), [(0.9, 0.684847), (0.5, 0.5)])
def test_a_vote_has_the_stated_probability(eta, expected):
    model = model_of(as_data([0], [1], [1], [0], [0]))
    at = model.chance(np.array([1.0]), np.array([[logit(eta)]]))
    assert at.first[0] == pytest.approx(expected, abs=5e-7)
    assert at.second[0] == pytest.approx(1 - expected, abs=5e-7)


def test_derivatives_are_those_of_the_loss():
    model = model_of(crowd(1, n=150, etas=(0.9, 0.5, 0.1, 0.8), ties=0.2)[0])
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.7, 11 + 4)

    def loss(x):
        return model.loss(x[:11], x[11:][None, :])[0]

    def gradient(x):
        _, by_theta, by_own = model.loss(x[:11], x[11:][None, :])
        return np.concatenate([by_theta, by_own.ravel()])

    numeric = [(loss(x + 1e-6 * e) - loss(x - 1e-6 * e)) / 2e-6 for e in np.eye(15)]
    np.testing.assert_allclose(gradient(x), numeric, atol=1e-6)


@pytest.mark.parametrize("by_annotator", [False, True])
def test_the_covariance_is_the_inverse_of_the_whole_information(by_annotator):
    model = model_of(crowd(1, n=300, etas=(0.9, 0.5, 0.1, 0.8), ties=0.2)[0])
    theta, own, _, converged = model.fit(np.zeros(11), np.full((1, 4), 2.0))
    assert converged
    x = np.concatenate([theta, own.ravel()])

    def gradient(x):
        _, by_theta, by_own = model.loss(x[:11], x[11:][None, :])
        return np.concatenate([by_theta, by_own.ravel()])

    information = np.array([(gradient(x + 1e-5 * e) - gradient(x - 1e-5 * e)) / 2e-5 for e in np.eye(15)])
    inverse = np.linalg.pinv(information, rcond=1e-8)
    own_variance = np.diagonal(inverse)[11:]
    if by_annotator:
        cells = model.votes
        scores = np.zeros((4, 15))
        gap = theta[cells.first] - theta[cells.second]
        at = model.chance(gap, own[:, cells.annotator])
        push = at.gap * (cells.won / at.first - cells.lost / at.second)
        np.add.at(scores, (cells.annotator, cells.first), push)
        np.add.at(scores, (cells.annotator, cells.second), -push)
        inverse = inverse @ scores.T @ scores @ inverse
    centre = np.eye(10, 11) - np.pad(np.full((10, 10), 0.1), ((0, 0), (0, 1)))
    spread = model.spread(theta, own, by_annotator)
    np.testing.assert_allclose(spread.strengths, centre @ inverse[:11, :11] @ centre.T, atol=1e-7)
    np.testing.assert_allclose(spread.own[:, 0], own_variance, rtol=1e-5)


def test_fully_reliable_annotators_give_bradley_terry_with_the_virtual_item():
    data, _ = crowd(2, n=200, ties=0.2)
    fitted = CrowdBT(reliability=1.0).fit(data)
    items = sorted(fitted.items_)
    # A tie with the virtual item is half a win and half a loss.
    met = PreferenceData.from_columns({"items": [[i, "virtual"] for i in items], "scores": [[1, 1]] * 10})
    plain = BradleyTerry().fit(PreferenceData.concat([data, met]))
    expected = np.array([plain.strengths_[plain.items_.index(i)] for i in items])
    np.testing.assert_allclose(by_name(fitted), expected - expected.mean(), atol=1e-8)
    assert (fitted.annotators_["reliability"] == 1).all()
    assert (fitted.annotators_["standard_error"] == 0).all()


def test_the_sheets_crowd_is_ranked_better_than_by_bradley_terry():
    plain, modelled, correlations = [], [], []
    for seed in range(20):
        data, theta = crowd(seed)
        fitted = CrowdBT().fit(data)
        plain.append(kendalltau(theta, by_name(BradleyTerry(l2=0.01).fit(data))).statistic)
        modelled.append(kendalltau(theta, by_name(fitted)).statistic)
        found = fitted.annotators_.sort("annotator")
        correlations.append(np.corrcoef(found["reliability"], SHEET)[0, 1])
    assert np.mean(modelled) > np.mean(plain) + 0.05
    # The sheet has 0.95 and 0.93 for its own 20 draws.
    assert np.mean(np.array(modelled) >= plain) >= 0.75
    assert np.mean(correlations) > 0.88


def test_adversaries_and_spammers_are_flagged():
    data, _ = crowd(5, n=3000)
    fitted = CrowdBT().fit(data)
    found = fitted.annotators_.sort("annotator")
    assert found["flag"].to_list()[-3:] == ["adversarial"] * 3
    assert set(found["flag"][14:17]) == {"spammer"}
    assert set(found["flag"][:14]) == {""}
    assert found["n"].sum() == 3000
    assert fitted.diagnostics_["adversarial"] == fitted.diagnostics_["spammers"] == 3


def test_the_likelihood_interval_is_where_the_likelihood_has_fallen_by_half_a_quantile():
    data, _ = crowd(3, n=300, etas=(0.9, 0.5, 0.1))
    model = model_of(data)
    theta, _, _, _ = model.fit(np.zeros(11), np.full((1, 3), 2.0))
    gap = theta[model.votes.first] - theta[model.votes.second]
    lower, upper = likelihood_interval(model.votes, gap, 0.95)
    grid = np.linspace(0, 1, 4001)[1:-1]
    cells, s = model.votes, expit(gap)
    for k in range(3):
        here = cells.annotator == k
        p = grid[:, None] * s[here] + (1 - grid[:, None]) * (1 - s[here])
        value = np.log(p) @ cells.won[here] + np.log(1 - p) @ cells.lost[here]
        inside = grid[value >= value.max() - 1.959964**2 / 2]
        assert abs(lower[k] - inside[0]) < 5e-4
        assert abs(upper[k] - inside[-1]) < 5e-4


def test_turning_every_pair_round_changes_nothing():
    rng = np.random.default_rng(0)
    a, k, won = rng.integers(0, 6, 200), rng.integers(0, 5, 200), rng.random(200) < 0.6
    b = (a + rng.integers(1, 6, 200)) % 6
    one, other = CrowdBT().fit(as_data(a, b, won, ~won, k)), CrowdBT().fit(as_data(b, a, ~won, won, k))
    np.testing.assert_allclose(by_name(one), by_name(other), atol=1e-7)


def test_a_majority_of_adversaries_turns_the_board_round_unless_an_annotator_is_known():
    # Nothing in the votes tells a reliable minority from an adversarial majority; a known annotator does.
    data, theta = crowd(1, n=4000, etas=(0.95,) * 3 + (0.05,) * 7)
    assert kendalltau(theta, by_name(CrowdBT().fit(data))).statistic < 0
    assert kendalltau(theta, by_name(CrowdBT(reliability={"w000": 0.95}).fit(data))).statistic > 0.8


def test_a_tie_is_half_a_vote_for_each_side_or_dropped():
    data, _ = crowd(4, n=300, ties=0.3)
    doubled = []
    for items, scores, who in zip(
        *(data.column(c).to_pylist() for c in ("items", "scores", "annotator")), strict=True
    ):
        halves = [[1.0, 0.0], [0.0, 1.0]] if scores[0] == scores[1] else [scores, scores]
        doubled += [{"items": items, "scores": s, "annotator": who, "weight": 0.5} for s in halves]
    np.testing.assert_allclose(
        by_name(CrowdBT().fit(data)), by_name(CrowdBT().fit(PreferenceData.from_rows(doubled))), atol=1e-7
    )
    dropped = CrowdBT(ties="drop").fit(data)
    assert dropped.n_comparisons_ < 300
    assert dropped.diagnostics_["ties"] == 0
    only = as_data([0, 1], [1, 2], [1, 1], [1, 1], [0, 0])
    with pytest.raises(DataError, match="every comparison is a tie"):
        CrowdBT(ties="drop").fit(only)
    np.testing.assert_allclose(CrowdBT().fit(only).strengths_, 0, atol=1e-9)


def test_the_board_carries_annotators_intervals_and_a_fit_of_the_votes():
    data, _ = crowd(6, n=2000)
    board = CrowdBT().fit(data).leaderboard()
    assert board.annotators.height == 20
    assert board.table["lower"].null_count() == 0
    # Against s(d) alone the votes of spammers and adversaries would look like a misfit.
    assert board.diagnostics["fit"]["share_outside"] < 0.15


def test_items_that_always_win_and_groups_that_never_met_still_get_finite_strengths():
    data = as_data([0, 0, 2], [1, 1, 3], [1, 1, 0], [0, 0, 1], [0, 1, 0])
    with pytest.warns(PalateWarning, match="strengths of different groups cannot be compared"):
        fitted = CrowdBT().fit(data)
    assert np.isfinite(fitted.strengths_).all()
    assert fitted.converged_


def test_more_items_than_fit_a_matrix_are_fitted_all_the_same(monkeypatch):
    data, _ = crowd(7, n=1500)
    dense = CrowdBT().fit(data)
    monkeypatch.setattr("palate.rank.mixture.DENSE_ITEMS", 5)
    sparse = CrowdBT().fit(data)
    np.testing.assert_allclose(by_name(sparse), by_name(dense), atol=1e-5)
    assert sparse.covariance_ is None
    assert sparse.converged_


def test_what_cannot_be_fitted_is_said_once_and_clearly():
    data, _ = crowd(0, n=30)
    nobody = PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]})
    with pytest.raises(DataError, match=r"field 'annotator': the judgments name no annotators; say who"):
        CrowdBT().fit(nobody)
    rows = {"items": [["a", "b"]] * 2, "scores": [[1, 0]] * 2, "annotator": ["w", None]}
    with pytest.raises(DataError, match=r"row 2, field 'annotator': no annotator; name the annotator"):
        CrowdBT().fit(PreferenceData.from_columns(rows))
    with pytest.raises(ConfigError, match="crowd_bt needs to know who cast each vote"):
        CrowdBT().fit(count(data))
    for options, message in [
        ({"virtual": 0}, "virtual is 0"),
        ({"prior": (0.5, 1)}, r"prior is \(0.5, 1\)"),
        ({"ties": "model"}, "ties is 'model'"),
        ({"reliability": 1.5}, "reliability of 'w000' is 1.5|reliability of 'w"),
        ({"reliability": {"nobody": 0.9}}, "unknown annotator in reliability 'nobody'"),
        ({"anchor": "zz"}, "unknown anchor 'zz'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            CrowdBT(**options).fit(data)


def test_the_crowd_board_of_language_models_agrees_with_the_plain_one(model_votes):
    board, plain = palate.rank(model_votes, method="crowd_bt"), palate.rank(model_votes)
    assert board.table["item"][0] == "GPT 4"
    assert board.annotators.height == 124
    found = spearmanr([board.strengths[i] for i in plain.items], [plain.strengths[i] for i in plain.items])
    assert found.statistic > 0.9


def test_reliability_goes_with_the_published_competence(shared_data, argument_votes):
    with pytest.warns(PalateWarning, match="strengths of different groups cannot be compared"):
        fitted = CrowdBT().fit(argument_votes)
    published = pl.read_parquet(shared_data / "ukp-convarg/annotators.parquet")
    both = fitted.annotators_.join(published, on="annotator")
    assert both.height == 3815
    assert both.select(pl.corr("reliability", "competence", method="spearman")).item() > 0.4
