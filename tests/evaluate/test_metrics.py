"""Metrics against hand numbers, scikit-learn, statsmodels and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss
from statsmodels.stats.proportion import proportion_confint

from palate import evaluate
from palate.errors import ConfigError

NAN = float("nan")


@given(hits=st.integers(0, 200), n=st.integers(1, 200))
def test_plain_intervals_are_wilsons(hits: int, n: int) -> None:
    hits = min(hits, n)
    share, lower, upper = evaluate.share_with_interval([1.0] * hits + [0.0] * (n - hits))
    expected = proportion_confint(hits, n, method="wilson")
    assert share == pytest.approx(hits / n)
    assert (lower, upper) == pytest.approx(expected, abs=1e-12)


def test_equal_weights_change_nothing() -> None:
    values = [1.0, 0.0, 1.0, 1.0]
    plain = evaluate.share_with_interval(values)
    assert evaluate.share_with_interval(values, weight=[3.0] * 4) == pytest.approx(plain)


def test_weight_zero_is_left_out() -> None:
    assert evaluate.share_with_interval([1.0, 1.0, 0.0], weight=[1, 1, 0]) == evaluate.share_with_interval(
        [1.0, 1.0]
    )


def test_copies_in_a_cluster_do_not_make_it_surer() -> None:
    rng = np.random.default_rng(0)
    values = (rng.random(300) < 0.7).astype(float)
    _, lower, upper = evaluate.share_with_interval(values)
    _, low, high = evaluate.share_with_interval(np.repeat(values, 5), cluster=np.repeat(np.arange(300), 5))
    assert high - low == pytest.approx(upper - lower, rel=0.01)


def test_clustered_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(60), 6)
    hits = naive = 0
    for _ in range(400):
        chance = np.repeat(rng.beta(1.4, 0.6, 60), 6)
        values = (rng.random(360) < chance).astype(float)
        _, lower, upper = evaluate.share_with_interval(values, cluster=cluster)
        hits += lower <= 0.7 <= upper
        _, lower, upper = evaluate.share_with_interval(values)
        naive += lower <= 0.7 <= upper
    assert 0.92 <= hits / 400 <= 0.98
    assert naive / 400 < 0.85


def test_a_perfect_share_still_has_a_lower_bound() -> None:
    share, lower, upper = evaluate.share_with_interval([1.0] * 40, cluster=np.repeat(np.arange(8), 5))
    assert (share, upper) == (1.0, pytest.approx(1.0))
    assert 0.5 < lower < 0.7  # eight prompts, not forty pairs


def test_graded_values_have_the_interval_of_their_spread() -> None:
    values = np.random.default_rng(2).beta(20, 20, 500)
    share, lower, upper = evaluate.share_with_interval(values)
    error = values.std(ddof=1) / np.sqrt(500)
    assert upper - lower == pytest.approx(2 * 1.96 * error, rel=0.02)
    assert lower < share < upper


def test_nothing_to_count_gives_nan_and_not_a_share() -> None:
    rate = evaluate.accuracy(np.array([NAN, NAN]))
    assert np.isnan(rate.value)
    assert (rate.n, rate.missing) == (0, 2)


def test_values_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluate.share_with_interval([0.5, 1.2])


def test_ties_of_the_judge_count_half_and_are_counted() -> None:
    rate = evaluate.accuracy([0.9, 0.5, 0.2, 0.5], [1, 1, 1, 0])
    assert rate.value == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert rate.ties == 2
    assert evaluate.accuracy([0.9, 0.5, 0.2, 0.5], [1, 1, 1, 0], ties="wrong").value == 0.25
    dropped = evaluate.accuracy([0.9, 0.5, 0.2, 0.5], [1, 1, 1, 0], ties="drop")
    assert (dropped.value, dropped.n, dropped.ties) == (0.5, 2, 2)


def test_missing_answers_and_gold_ties_are_reported_apart() -> None:
    rate = evaluate.accuracy([0.9, NAN, 0.7, NAN], [1, 1, 0.5, 0.5])
    assert (rate.value, rate.n, rate.missing, rate.gold_ties) == (1.0, 1, 2, 1)


def test_margins_are_read_with_neutral_zero() -> None:
    assert evaluate.accuracy([2.0, -0.1, 0.0], 1.0, neutral=0.0).value == pytest.approx(0.5)


def test_unknown_treatment_of_ties_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'half'"):
        evaluate.accuracy([0.5], ties="halve")  # type: ignore[arg-type]


def test_weights_make_a_weighted_share() -> None:
    assert evaluate.accuracy([0.9, 0.1], [1, 1], weight=[3, 1]).value == pytest.approx(0.75)


def test_slices_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(3)
    p, t = rng.random(500), rng.integers(0, 2, 500)
    labels = rng.choice(np.array(["a", "b", None], dtype=object), 500)
    table = evaluate.accuracy_by(labels, p, t)
    for value, share, n in table.select("value", "accuracy", "n").iter_rows():
        inside = labels == value
        assert n == inside.sum()
        assert share == pytest.approx(evaluate.accuracy(p[inside], t[inside]).value)
    assert table["n"].is_sorted(descending=True)
    assert set(table["value"]) == {"a", "b"}


def test_win_rate_counts_a_tie_as_half_a_win() -> None:
    rate = evaluate.win_rate([1.0, 0.5, 0.0, 0.0, NAN])
    assert (rate.value, rate.n, rate.ties, rate.missing) == (0.375, 4, 1, 1)
    assert evaluate.win_rate([0.9, 0.6, 0.2], graded=False).value == pytest.approx(2 / 3)
    assert evaluate.win_rate([0.9, 0.6, 0.2]).value == pytest.approx(1.7 / 3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_win_rates_of_both_sides_add_up_to_one(probabilities: list[float]) -> None:
    p = np.array(probabilities)
    assert evaluate.win_rate(p).value + evaluate.win_rate(1 - p).value == pytest.approx(1.0)


rows = st.lists(
    st.tuples(*[st.one_of(st.just(NAN), st.integers(-3, 3).map(float))] * 10), min_size=1, max_size=8
)  # fmt: skip


@settings(max_examples=60)
@given(rows)
def test_rank_correlations_agree_with_scipy(table: list[tuple[float, ...]]) -> None:
    both = np.array(table)
    scores, targets = both[:, :5], both[:, 5:]
    tau, rho = evaluate.kendall_tau(scores, targets), evaluate.spearman(scores, targets)
    for row in range(len(both)):
        kept = ~np.isnan(scores[row]) & ~np.isnan(targets[row])
        a, b = scores[row][kept], targets[row][kept]
        if len(a) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
            assert np.isnan(tau[row])
            assert np.isnan(rho[row])
            continue
        assert tau[row] == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-9)
        assert rho[row] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_ranking_accuracy_counts_pairs_of_different_targets() -> None:
    scores = [[3.0, 1.0, 2.0], [1.0, 1.0, NAN]]
    targets = [[3.0, 2.0, 1.0], [1.0, 0.0, 5.0]]
    rate = evaluate.ranking_accuracy(scores, targets)
    assert rate.n == 4  # three of the first group, one complete one of the second
    assert rate.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert (rate.ties, rate.missing) == (1, 2)


def test_ranking_accuracy_needs_equal_shapes() -> None:
    with pytest.raises(ConfigError, match="same shape"):
        evaluate.ranking_accuracy([[1.0, 2.0]], [[1.0, 2.0, 3.0]])


def test_length_correlation_does_not_depend_on_which_side_is_first() -> None:
    rng = np.random.default_rng(4)
    margin, difference = rng.normal(size=200), rng.integers(-50, 50, 200)
    turned = np.where(rng.random(200) < 0.5, -1, 1)
    there = evaluate.length_correlation(margin, difference)
    assert there == pytest.approx(evaluate.length_correlation(margin * turned, difference * turned))
    assert evaluate.length_correlation(difference, difference) == pytest.approx(1.0)
    assert np.isnan(evaluate.length_correlation(np.zeros(5), difference[:5]))
    both = np.concatenate([margin, -margin]), np.concatenate([difference, -difference])
    assert there == pytest.approx(stats.spearmanr(*both).statistic)


def test_order_effects_of_a_judge_that_always_takes_the_first() -> None:
    effects = evaluate.order_effects([1.0, 1.0, NAN], [0.0, 0.0, 1.0])
    assert (effects.consistency, effects.first_preference, effects.n, effects.missing) == (0.0, 1.0, 2, 1)
    fair = evaluate.order_effects([1.0, 0.0], [1.0, 0.0])
    assert (fair.consistency, fair.first_preference) == (1.0, 0.5)


def test_brier_and_log_loss_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    p, y = rng.random(300), rng.integers(0, 2, 300)
    assert evaluate.brier(p, y) == pytest.approx(brier_score_loss(y, p))
    assert evaluate.log_loss(p, y) == pytest.approx(sklearn_log_loss(y, p))


def test_calibration_error_of_two_bins_by_hand() -> None:
    p, y = [0.2, 0.4, 0.9, 0.9], [0, 1, 1, 1]
    # [0, .5] holds .2 and .4: stated .3, observed .5; (.5, 1] holds .9 twice: stated .9, observed 1.
    assert evaluate.expected_calibration_error(p, y, bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.1)
    table = evaluate.reliability(p, y, bins=2)
    assert table["n"].to_list() == [2, 2]
    assert table["predicted"].to_list() == pytest.approx([0.3, 0.9])
    assert table["observed"].to_list() == pytest.approx([0.5, 1.0])


def test_quantile_bins_hold_equal_counts_and_survive_ties() -> None:
    p = np.random.default_rng(6).random(1000)
    assert evaluate.reliability(p, p > 0.5, bins=10, strategy="quantile")["n"].to_list() == [100] * 10
    constant = evaluate.reliability([0.7] * 5, [1, 1, 0, 1, 1], strategy="quantile")
    assert (constant.height, constant["n"][0]) == (1, 5)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60), st.integers(1, 15))
def test_bins_hold_every_probability_once(pairs: list[tuple[float, int]], bins: int) -> None:
    p, y = np.array(pairs).T
    for strategy in ("uniform", "quantile"):
        table = evaluate.reliability(p, y, bins, strategy)  # type: ignore[arg-type]
        assert table["n"].sum() == len(p)
        assert (
            (table["predicted"] >= table["lower"] - 1e-9) & (table["predicted"] <= table["upper"] + 1e-9)
        ).all()
        assert (table["observed"] * table["n"]).sum() == pytest.approx(y.sum())


def test_a_calibrated_judge_has_little_error_and_an_overconfident_one_much() -> None:
    rng = np.random.default_rng(7)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    assert evaluate.expected_calibration_error(p, y) < 0.02
    assert evaluate.expected_calibration_error(np.where(p > 0.5, 0.99, 0.01), y) > 0.2


def test_probabilities_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluate.brier([1.2], [1])
