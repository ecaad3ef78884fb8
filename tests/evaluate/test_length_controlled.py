"""Length-controlled win rates: worked numbers, the fit against scikit-learn, AlpacaEval's leaderboards."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.evaluate import length_controlled as lc
from palate.evaluate.lasso import l1_logistic


def simulated(n=400, theta=0.5, phi=-2.0, psi=0.8, longer=1.5, seed=0):
    """Soft preferences that are those of the model exactly."""
    rng = np.random.default_rng(seed)
    baseline = rng.uniform(500, 1500, n)
    model = baseline * rng.uniform(0.5, longer, n)
    gap = baseline - model
    gamma = rng.normal(size=n)
    preference = expit(theta + phi * np.tanh(gap / gap.std(ddof=1)) + psi * gamma)
    return preference, model, baseline, gamma


def test_the_win_rate_at_equal_length_is_the_mean_over_instructions():
    assert lc.predicted_win_rate(0.4, 0.3, [-1, 0, 1])[0] == pytest.approx(59.728487, abs=1e-6)
    assert lc.predicted_win_rate(0.0, 0.0, [-1, 2, 5]) == (50.0, 0.0)


def test_a_model_that_is_the_baseline_has_exactly_50():
    same = np.arange(100.0, 120.0)
    found = lc.length_controlled_win_rate(np.full(20, 0.5), same, same, np.linspace(-1, 1, 20))
    assert (found.win_rate, found.length_controlled, found.theta, found.phi) == (50.0, 50.0, 0.0, 0.0)


def test_known_effects_are_found():
    preference, model, baseline, gamma = simulated()
    found = lc.length_controlled_win_rate(preference, model, baseline, gamma)
    assert (found.theta, found.phi, found.psi) == pytest.approx((0.5, -2.0, 0.8), abs=0.02)
    assert found.length_controlled == pytest.approx(lc.predicted_win_rate(0.5, 0.8, gamma)[0], abs=0.2)


def test_longer_answers_win_less_once_their_length_is_controlled():
    preference, model, baseline, gamma = simulated(theta=0.0, longer=4.0)
    found = lc.length_controlled_win_rate(preference, model, baseline, gamma)
    assert found.win_rate > 65
    assert found.length_controlled == pytest.approx(50, abs=1.5)


def test_win_rates_and_standard_errors_leave_missing_preferences_out():
    preference, model, baseline, _ = simulated(50)
    preference[:3] = np.nan
    found = lc.length_controlled_win_rate(preference, model, baseline)
    given = preference[3:]
    assert (found.n, found.missing, found.psi) == (47, 3, 0.0)
    assert found.win_rate == pytest.approx(100 * given.mean())
    assert found.standard_error == pytest.approx(100 * given.std(ddof=1) / np.sqrt(47))


def test_gamed_baselines_pull_phi_to_what_length_alone_does():
    """The model's length and quality go together, so its judgments alone say too much of length."""
    rng = np.random.default_rng(1)
    baseline = np.full(200, 1000.0)
    model = np.where(rng.random(200) < 0.5, 800.0, 1200.0)
    preference = expit(4.0 * np.sign(model - baseline))
    gamed_model = rng.uniform(500, 1500, 200)
    gap = baseline - gamed_model
    gamed = lc.Judged(expit(-0.5 * np.tanh(gap / gap.std(ddof=1))), gamed_model, baseline)
    alone = lc.length_controlled_win_rate(preference, model, baseline)
    held = lc.length_controlled_win_rate(preference, model, baseline, gamed=[gamed, gamed])
    assert alone.phi < held.phi < 0


@pytest.mark.parametrize("c", [1e-3, 0.05, 1.0, 1e4])
def test_the_penalised_fit_is_that_of_scikit_learn(c):
    linear_model = pytest.importorskip("sklearn.linear_model")
    preference, model, baseline, gamma = simulated(200, theta=-1.0, seed=3)
    features = np.stack([np.tanh((baseline - model) / 300), gamma, np.ones(200)], axis=1)
    weight = np.random.default_rng(0).uniform(0.2, 1, 200)
    ours = l1_logistic(features, preference, weight[None], np.array([c]))[0]
    twice = np.concatenate([features, features])
    label, both = np.repeat([1, 0], 200), np.concatenate([weight * preference, weight * (1 - preference)])
    theirs = linear_model.LogisticRegression(
        C=c, l1_ratio=1.0, solver="saga", fit_intercept=False, tol=1e-10, max_iter=20000, random_state=0
    ).fit(twice, label, sample_weight=both)
    np.testing.assert_allclose(ours, theirs.coef_[0], atol=1e-5)


def test_difficulties_are_recovered_and_have_mean_0():
    rng = np.random.default_rng(0)
    gamma = rng.normal(size=150)
    prompt, model = np.tile(np.arange(150), 40), np.repeat(np.arange(40), 150)
    gap = rng.normal(size=6000)
    logit = rng.normal(size=40)[model] - 1.5 * np.tanh(gap) + gamma[prompt]
    found = lc.instruction_difficulty(expit(logit), prompt, model, gap, l2=0.01)
    assert found.mean() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found, gamma - gamma.mean(), atol=0.02)


def test_a_board_of_pairs_controls_length_from_the_texts():
    rng = np.random.default_rng(0)
    rows = []
    for name, most in (("plain", 1.5), ("wordy", 4.0)):
        base = rng.integers(300, 900, 150)
        answer = (base * rng.uniform(0.5, most, 150)).astype(int)
        share = expit(2.0 * np.tanh((answer - base) / (answer - base).std(ddof=1)))
        rows += [
            {
                "items": [name, "base"],
                "responses": ["x" * n, "x" * m],
                "scores": [p, 1 - p],
                "prompt_id": str(i),
            }
            for i, (n, m, p) in enumerate(zip(answer.tolist(), base.tolist(), share.tolist(), strict=True))
        ]
    board = lc.length_controlled_board(PreferenceData.from_rows(rows), "base")
    found = dict(board.select("item", "length_controlled").rows())
    raw = dict(board.select("item", "win_rate").rows())
    assert raw["wordy"] > 70
    assert found["base"] == raw["base"] == 50.0
    assert (found["plain"], found["wordy"]) == pytest.approx((50, 50), abs=2)


def test_votes_and_ties_count_as_one_half_and_nothing_else():
    items = [["a", "base"], ["base", "a"], ["a", "base"], ["a", "base"], ["a", "base"], ["base", "a"]]
    scores = [[1, 0], [1, 0], [1, 1], [0, 0], [4, 2], [0.3, 0.7]]
    lengths = np.tile([[10.0, 12.0]], (6, 1))
    data = PreferenceData.from_columns({"items": items, "scores": scores})
    board = lc.length_controlled_board(data, "base", lengths=lengths, folds=2)
    assert dict(board.select("item", "win_rate").rows())["a"] == pytest.approx(
        100 * (1 + 0 + 0.5 + 0.5 + 1 + 0.7) / 6
    )


def test_bad_input():
    good = simulated(20)
    with pytest.raises(
        DataError, match=r"row 1, field 'preference': 1.5 is not between 0 and 1; .*alpaca_preference"
    ):
        lc.length_controlled_win_rate(good[0] + 1.5 - good[0][0], *good[1:])
    with pytest.raises(DataError, match="field 'model_length': has shape"):
        lc.length_controlled_win_rate(good[0], good[1][:-1], good[2])
    with pytest.raises(DataError, match="row 1, field 'baseline_length': nan is not usable"):
        lc.length_controlled_win_rate(good[0], good[1], good[2] * np.nan)
    with pytest.raises(DataError, match="no preference is given"):
        lc.length_controlled_win_rate(good[0] * np.nan, good[1], good[2])
    with pytest.raises(ConfigError, match="folds is 21; use a whole number from 2 to the 20 preferences"):
        lc.length_controlled_win_rate(*good, folds=21)
    with pytest.raises(DataError, match="the preference 3 is not between 1 and 2"):
        lc.alpaca_preference([1.0, 3.0])
    with pytest.raises(ConfigError, match="need a ridge above 0"):
        lc.instruction_difficulty([0.5], [0], [0], [0.0], l2=0)
    votes = PreferenceData.from_columns({"items": [["a", "b"], ["a", "c"]], "scores": [[1, 0]] * 2})
    with pytest.raises(DataError, match="row 2: compares 'a' with 'c'; keep the judgments of 'b'"):
        lc.length_controlled_board(votes, "b")
    with pytest.raises(ConfigError, match="unknown baseline 'd'"):
        lc.length_controlled_board(votes, "d")
    with pytest.raises(DataError, match="no responses to count"):
        lc.length_controlled_board(votes, "a")


def alpaca(shared_data, annotator):
    frame = pl.read_parquet(shared_data / "alpaca-eval" / "annotations.parquet")
    return frame.filter((pl.col("annotator") == annotator) & (pl.col("model") != pl.col("baseline")))


@pytest.mark.parametrize(
    ("annotator", "board", "models"),
    [
        ("weighted_alpaca_eval_gpt4_turbo", "leaderboard_v2_weighted_gpt4_turbo.csv", 56),
        ("alpaca_eval_gpt4", "leaderboard_v1_gpt4.csv", 51),
    ],
)
def test_published_win_rates_are_reproduced(annotator, board, models, shared_data):
    frame = alpaca(shared_data, annotator)
    published = pl.read_csv(shared_data / "alpaca-eval" / board).rename({"": "model"})
    compared = 0
    for (model,), rows in frame.group_by("model"):
        wanted = published.filter(pl.col("model") == model)
        if not len(wanted):
            continue
        compared += 1
        preference = lc.alpaca_preference(rows["preference"].to_numpy())
        found = lc.length_controlled_win_rate(preference, rows["model_length"], rows["baseline_length"])
        assert found.win_rate == pytest.approx(wanted["win_rate"][0], abs=1e-6)
        assert found.standard_error == pytest.approx(wanted["standard_error"][0], abs=1e-6)
    assert compared == models


def test_published_length_controlled_win_rates_are_approached(shared_data):
    """The published ones were fitted with difficulties from other models and with two gamed baselines, which
    the set does not hold. Without them the 56 models are off by 1.5 points on average, and most is the one
    that was made to game length (gpt4_gamed: 31.1 for 12.2), which is what the gamed baselines are for."""
    frame = alpaca(shared_data, "weighted_alpaca_eval_gpt4_turbo")
    share = lc.alpaca_preference(frame["preference"].to_numpy())
    data = PreferenceData.from_columns({
        "items": frame.select(pl.concat_list("baseline", "model")).to_series().to_list(),
        "scores": np.stack([1 - share, share], axis=1),
        "prompt_id": frame["prompt_id"].cast(pl.String).to_list(),
    })  # fmt: skip
    lengths = frame.select("baseline_length", "model_length").to_numpy()
    board = lc.length_controlled_board(data, "gpt4_1106_preview", lengths=lengths)
    published = pl.read_csv(shared_data / "alpaca-eval" / "leaderboard_v2_weighted_gpt4_turbo.csv")
    both = board.join(published.rename({"": "item"}), on="item", suffix="_published")
    both = both.filter(pl.col("item") != "gpt4_1106_preview")
    off = (both["length_controlled"] - both["length_controlled_winrate"]).abs()
    assert len(both) == 56
    assert off.median() < 0.7
    assert off.mean() < 1.6
    assert both["item"][off.arg_max()] == "gpt4_gamed"
    ranks = both["length_controlled_winrate"]
    assert spearmanr(both["length_controlled"], ranks).statistic > 0.97
    assert (
        spearmanr(both["length_controlled"], ranks).statistic > spearmanr(both["win_rate"], ranks).statistic
    )
    assert both["phi"].max() < 0
