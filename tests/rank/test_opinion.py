"""Mean opinion scores: worked numbers, identities, oracles, simulated annotators and what is refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.optimize import minimize

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import opinion, subjects
from palate.rank.counts import count
from palate.rank.opinion import MeanOpinionScore
from palate.rank.screening import bt500

NAN = float("nan")
ERRATIC = np.tile([4.0, -4.0], 20)
CORRECTIONS = ("none", "zscore", "bias", "bias_variance")


def rated(item, annotator, score, **columns):
    """One judgment per rating; items and annotators by number."""
    data = {
        "items": [[f"i{k:03d}"] for k in item],
        "scores": [[float(x)] for x in score],
        "protocol": ["rating"] * len(item),
    }
    if annotator is not None:
        data["annotator"] = [None if a is None else f"a{a:03d}" for a in annotator]
    return PreferenceData.from_columns(data | columns)


def table(matrix):
    """Ratings of a matrix (annotators, items), NaN where missing."""
    matrix = np.asarray(matrix, dtype=float)
    who, what = np.nonzero(~np.isnan(matrix))
    return rated(what, who, matrix[who, what])


def simulated(seed, annotators=30, items=40, per=None, steady=False):
    """Ratings with biases and unequal noise: (true scores, annotators' noise, data)."""
    rng = np.random.default_rng(seed)
    psi, bias = rng.normal(3, 0.7, items), rng.normal(0, 0.5, annotators)
    noise = 0.5 * np.exp(rng.normal(0, 0.0 if steady else 0.6, annotators))
    who = np.repeat(np.arange(annotators), per or items)
    what = np.concatenate([rng.permutation(items)[: per or items] for _ in range(annotators)])
    score = psi[what] + (bias - bias.mean())[who] + noise[who] * rng.normal(size=len(who))
    return psi, noise, rated(what, who, score)


def scores(fitted):
    """Scores in the order of the items' names."""
    return (fitted.strengths_ + fitted.scale_.base)[np.argsort(fitted.items_)]


def bounds(fitted):
    return (fitted.bounds_ + fitted.scale_.base)[np.argsort(fitted.items_)]


def columns(data):
    """(item, annotator, score) of ratings of one item each, as numbers."""
    item = np.array([int(name[0][1:]) for name in data.column("items").to_pylist()])
    who = np.array([int(name[1:]) for name in data.values("annotator")])
    return item, who, data.scores


def test_the_plain_score_is_the_mean_with_students_interval():
    fitted = MeanOpinionScore().fit(rated([0] * 4 + [1] * 3, None, [4, 5, 3, 5, 2, 2, 5]))
    board = fitted.leaderboard()
    rows = {row["item"]: row for row in board.table.to_dicts()}
    assert rows["i000"]["rating"] == pytest.approx(4.25)
    assert rows["i001"]["rating"] == pytest.approx(3.0)
    assert board.scale.base == pytest.approx(3.625)
    for item, given in (("i000", [4, 5, 3, 5]), ("i001", [2, 2, 5])):
        expected = stats.t.interval(0.95, len(given) - 1, np.mean(given), stats.sem(given))
        assert (rows[item]["lower"], rows[item]["upper"]) == pytest.approx(expected)
    assert [rows[i]["n"] for i in ("i000", "i001")] == [4, 3]
    assert board.compare("i000", "i001").standard_error == pytest.approx(
        np.hypot(stats.sem([4, 5, 3, 5]), 1.0)
    )
    assert sum(board.strengths.values()) == pytest.approx(0)
    assert board.annotators is None


def test_items_with_one_rating_or_equal_ones_borrow_the_pooled_variance():
    fitted = MeanOpinionScore().fit(rated([0, 0, 0, 1, 1, 2], None, [1, 2, 6, 3, 3, 4]))
    pooled = 14 / 3
    np.testing.assert_allclose(np.diagonal(fitted.covariance_), [7 / 3, pooled / 2, pooled])
    half = (bounds(fitted)[:, 1] - bounds(fitted)[:, 0]) / 2
    np.testing.assert_allclose(half[2], stats.t.ppf(0.975, 3) * np.sqrt(pooled))
    assert fitted.diagnostics_["items_with_pooled_variance"] == 2


def test_without_any_spread_within_items_there_are_no_intervals():
    fitted = MeanOpinionScore().fit(rated([0, 0, 1], None, [1, 1, 2]))
    assert fitted.leaderboard().table["lower"].null_count() == 2
    assert fitted.diagnostics_["no_intervals"] == "no item has two different ratings"


def test_a_complete_design_gives_the_means_and_the_biases_of_p913():
    matrix = np.array([[5, 4, 2, 3], [4, 4, 1, 1], [3, 2, 1, 2.0]])
    fitted = MeanOpinionScore(correction="bias").fit(table(matrix))
    np.testing.assert_allclose(scores(fitted), matrix.mean(axis=0), rtol=1e-10)
    by_name = fitted.annotators_.sort("annotator")
    np.testing.assert_allclose(by_name["bias"], (matrix - matrix.mean(axis=0)).mean(axis=1), atol=1e-10)
    residual = matrix - matrix.mean(axis=0) - by_name["bias"].to_numpy()[:, None]
    variance = (residual**2).sum() / ((3 - 1) * (4 - 1))
    np.testing.assert_allclose(np.diagonal(fitted.covariance_), variance / 3, rtol=1e-9)


def test_bias_removal_is_least_squares_with_its_covariance():
    sm = pytest.importorskip("statsmodels.api")
    _, _, data = simulated(0, annotators=7, items=9, per=5)
    item, who, score = columns(data)
    # Biases have mean 0: the last annotator's is minus the sum of the others'.
    design = np.zeros((len(score), 9 + 6))
    design[np.arange(len(score)), item] = 1
    design[np.arange(len(score))[who < 6], 9 + who[who < 6]] = 1
    design[who == 6, 9:] = -1
    peer = sm.OLS(score, design).fit()
    fitted = MeanOpinionScore(correction="bias").fit(data)
    order = np.argsort(fitted.items_)
    np.testing.assert_allclose(scores(fitted), peer.params[:9], atol=1e-9)
    np.testing.assert_allclose(fitted.annotators_.sort("annotator")["bias"][:6], peer.params[9:], atol=1e-9)
    np.testing.assert_allclose(fitted.covariance_[np.ix_(order, order)], peer.cov_params()[:9, :9], atol=1e-9)


def test_the_model_of_biases_and_inconsistencies_is_the_maximum_of_its_likelihood():
    _, _, data = simulated(3, annotators=6, items=12)
    item, who, score = columns(data)
    shrinkage = 4.0
    least = MeanOpinionScore(correction="bias").fit(data)
    residual = score - scores(least)[item] - least.annotators_.sort("annotator")["bias"].to_numpy()[who]
    pooled = (residual**2).sum() / (len(score) - 12 - 6 + 1)

    def loss(x):
        psi, bias, log_nu = x[:12], np.append(x[12:17], -x[12:17].sum()), x[17:]
        gap = (score - psi[item] - bias[who]) / np.exp(log_nu)[who]
        prior = shrinkage * (log_nu + 0.5 * pooled * np.exp(-2 * log_nu))
        return (log_nu[who] + 0.5 * gap**2).sum() + prior.sum()

    fitted = MeanOpinionScore(correction="bias_variance", shrinkage=shrinkage).fit(data)
    frame = fitted.annotators_.sort("annotator")
    found = np.concatenate([scores(fitted), frame["bias"][:5], np.log(frame["inconsistency"].to_numpy())])
    best = minimize(loss, found + 0.01, method="BFGS", options={"gtol": 1e-8})
    assert loss(found) <= best.fun + 1e-8
    np.testing.assert_allclose(found, best.x, atol=1e-5)


def test_the_intervals_of_the_model_are_those_of_its_information():
    _, _, data = simulated(1, annotators=8, items=6, per=4)
    item, who, _ = columns(data)
    variance = np.linspace(0.2, 2.0, 8)
    weight = np.ones(len(item))
    cells = subjects.Cells.of(who, item, data.scores, weight, 8, 6)
    design = np.zeros((len(item), 6 + 7))
    design[np.arange(len(item)), item] = 1
    design[np.arange(len(item))[who < 7], 6 + who[who < 7]] = 1
    design[who == 7, 6:] = -1
    information = design.T @ (design / variance[who][:, None])
    np.testing.assert_allclose(
        subjects.covariance(cells, variance), np.linalg.inv(information)[:6, :6], atol=1e-10
    )


def test_equal_annotators_make_zscores_change_nothing():
    rng = np.random.default_rng(0)
    matrix = np.stack([rng.permutation([1.0, 2, 3, 4, 5]) for _ in range(6)])
    plain, z = MeanOpinionScore().fit(table(matrix)), MeanOpinionScore(correction="zscore").fit(table(matrix))
    np.testing.assert_allclose(scores(plain), scores(z), rtol=1e-12)


def test_zscores_take_out_any_scale_of_an_annotators_own():
    _, _, data = simulated(2, annotators=6, items=10)
    item, who, score = columns(data)
    shift, stretch = np.arange(6)[who], 1.0 + np.arange(6)[who]
    before = MeanOpinionScore(correction="zscore").fit(data)
    after = MeanOpinionScore(correction="zscore").fit(rated(item, who, shift + stretch * score))
    first, second = scores(before), scores(after)
    np.testing.assert_allclose(
        (first - first.mean()) / first.std(), (second - second.mean()) / second.std(), atol=1e-10
    )


def test_raters_without_zscores_are_left_out_and_named():
    matrix = np.array([[1, 2, 3], [2, 3, 5], [4, 4, 4], [5, NAN, NAN]])
    fitted = MeanOpinionScore(correction="zscore").fit(table(matrix))
    assert fitted.diagnostics_["annotators_without_zscore"] == ["a002", "a003"]
    assert fitted.n_.tolist() == [2, 2, 2]
    flags = dict(zip(fitted.annotators_["annotator"], fitted.annotators_["flag"], strict=True))
    assert flags == {"a000": None, "a001": None, "a002": "constant", "a003": "one rating"}


@pytest.mark.parametrize(("correction", "moves"), [("none", True), ("bias", False), ("bias_variance", False)])
def test_bias_models_do_not_mind_who_rated_what(correction, moves):
    _, _, data = simulated(4, annotators=8, items=12, per=6)
    item, who, score = columns(data)
    lenient = score + 3.0 * (who == 2)
    before, after = (
        MeanOpinionScore(correction=correction).fit(rated(item, who, x)) for x in (score, lenient)
    )
    change = scores(after) - scores(before)
    assert (np.ptp(change) > 0.1) == moves


def rmse_and_coverage(correction, seeds, **design):
    error, inside = [], []
    for seed in seeds:
        psi, _, data = simulated(seed, **design)
        fitted = MeanOpinionScore(correction=correction).fit(data)
        off = scores(fitted) - psi
        error.append(np.sqrt(np.mean((off - off.mean()) ** 2)))
        low, high = bounds(fitted).T
        inside.append(np.mean((low <= psi) & (psi <= high)))
    return np.array(error), float(np.mean(inside))


def test_modelling_annotators_recovers_scores_better_where_each_rates_a_part():
    found = {c: rmse_and_coverage(c, range(25), per=10) for c in ("none", "bias", "bias_variance")}
    error = {c: e.mean() for c, (e, _) in found.items()}
    assert error["bias_variance"] < error["bias"] < error["none"]
    assert (found["bias_variance"][0] < found["bias"][0]).mean() > 0.9
    # 1,000 intervals in 25 independent sets.
    assert 0.92 < found["bias"][1] < 0.97
    assert 0.92 < found["bias_variance"][1] < 0.97


def test_in_a_complete_design_bias_removal_narrows_intervals_and_weights_sharpen_scores():
    plain, bias, both = (rmse_and_coverage(c, range(25)) for c in ("none", "bias", "bias_variance"))
    np.testing.assert_allclose(plain[0], bias[0], rtol=1e-8)
    assert (both[0] < bias[0]).all()
    assert plain[1] > 0.97
    assert 0.92 < bias[1] < 0.97
    assert 0.92 < both[1] < 0.97


def test_the_inconsistency_of_each_annotator_is_found():
    _, noise, data = simulated(0)
    fitted = MeanOpinionScore(correction="bias_variance").fit(data)
    found = fitted.annotators_.sort("annotator")["inconsistency"].to_numpy()
    assert np.corrcoef(np.log(found), np.log(noise))[0, 1] > 0.9


def test_an_annotator_with_one_rating_is_drawn_to_the_pooled_inconsistency():
    _, _, data = simulated(0, annotators=10, items=8)
    item, who, score = columns(data)
    more = rated(np.append(item, 0), np.append(who, 10), np.append(score, 9.0))
    without, with_one = (MeanOpinionScore(correction="bias_variance").fit(x) for x in (data, more))
    # One rating pays for the annotator's own bias and says nothing else.
    np.testing.assert_allclose(np.ptp(scores(with_one) - scores(without)), 0, atol=5e-3)
    last = with_one.annotators_.filter(annotator="a010")
    assert last["flag"].item() == "one rating"
    assert 0.1 < last["inconsistency"].item() < 5


def test_annotators_against_the_others_are_seen():
    matrix = np.array([[1, 2, 3, 4, 5], [2, 2, 3, 4, 4], [1, 3, 3, 4, 5], [5, 4, 3, 2, 1.0]])
    frame = MeanOpinionScore().fit(table(matrix)).annotators_.sort("annotator")
    others = matrix[:3].mean(axis=0)
    assert frame["correlation"][3] == pytest.approx(np.corrcoef(matrix[3], others)[0, 1])
    assert frame["correlation"][3] < -0.9
    assert frame["mean"].to_list() == pytest.approx(matrix.mean(axis=1))


def slow_bt500(matrix):
    """The procedure of the recommendation, observer by observer."""
    mean, deviation = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0, ddof=1)
    kurtosis = np.nanmean((matrix - mean) ** 4, axis=0) / np.nanmean((matrix - mean) ** 2, axis=0) ** 2
    rejected = []
    for row in matrix:
        above = below = 0
        for j, x in enumerate(row):
            width = 2.0 if 2 <= kurtosis[j] <= 4 else np.sqrt(20)
            above += x >= mean[j] + width * deviation[j]
            below += x <= mean[j] - width * deviation[j]
        often = (above + below) / np.sum(~np.isnan(row)) > 0.05
        rejected.append(bool(often and abs(above - below) / (above + below) < 0.3))
    return rejected


def observed(seed, shift):
    """30 observers of 40 items, a tenth missing; `shift` is added to the fifth's ratings."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(3, 1, 40) + rng.normal(0, 0.4, (30, 40))
    matrix[4] += shift
    matrix[rng.random(matrix.shape) < 0.1] = NAN
    return matrix


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shift", "rejected"),
    [(ERRATIC, True), (4.0, False), (0.0, False)],
    ids=["erratic", "biased", "fine"],
)
def test_screening_follows_bt500_and_spares_the_biased(seed, shift, rejected):
    matrix = observed(seed, shift)
    who, what = np.nonzero(~np.isnan(matrix))
    found = bt500(who, what, matrix[who, what])
    assert found.tolist() == slow_bt500(matrix)
    assert found[4] == rejected


def test_stimuli_without_spread_have_no_outside():
    who, what = np.tile(np.arange(6), 10), np.repeat(np.arange(10), 6)
    assert not bt500(who, what, np.full(60, 4.0)).any()


def test_the_rejected_are_named_and_do_not_count():
    matrix = observed(0, ERRATIC)
    fitted = MeanOpinionScore(screening="bt500").fit(table(matrix))
    assert "a004" in fitted.diagnostics_["rejected"]
    frame = fitted.annotators_.filter(annotator="a004")
    assert (frame["rejected"].item(), frame["flag"].item()) == (True, "rejected")
    rejected = [int(name[1:]) for name in fitted.diagnostics_["rejected"]]
    without = MeanOpinionScore().fit(table(np.delete(matrix, rejected, axis=0)))
    np.testing.assert_allclose(scores(fitted), scores(without))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_an_items_name_and_the_order_of_rows_do_not_matter(correction):
    _, _, data = simulated(5, annotators=6, items=7, per=5)
    shuffled = data.take(np.random.default_rng(0).permutation(len(data)))
    first, second = (MeanOpinionScore(correction=correction).fit(x) for x in (data, shuffled))
    np.testing.assert_allclose(scores(first), scores(second), atol=1e-8)
    np.testing.assert_allclose(bounds(first), bounds(second), atol=1e-7)


@pytest.mark.parametrize("correction", ["none", "bias", "bias_variance"])
def test_shifting_and_stretching_all_ratings_does_the_same_to_scores(correction):
    _, _, data = simulated(6, annotators=6, items=7, per=5)
    item, who, score = columns(data)
    first = MeanOpinionScore(correction=correction).fit(data)
    second = MeanOpinionScore(correction=correction).fit(rated(item, who, 10 * score - 200))
    np.testing.assert_allclose(scores(second), 10 * scores(first) - 200, atol=1e-6)
    np.testing.assert_allclose(bounds(second), 10 * bounds(first) - 200, atol=1e-5)


def test_several_items_of_one_judgment_are_rated_each():
    together = PreferenceData.from_columns(
        {"items": [["x", "y"], ["y", "x"]], "scores": [[1, 4], [5, NAN]], "protocol": ["rating"] * 2,
         "annotator": ["v", "w"]}
    )  # fmt: skip
    fitted = MeanOpinionScore().fit(together)
    assert dict(zip(fitted.items_, fitted.n_.tolist(), strict=True)) == {"x": 1, "y": 2}
    assert fitted.leaderboard().table["rating"].to_list() == [4.5, 1.0]
    assert fitted.diagnostics_["scores_not_given"] == 1


def test_boards_of_very_many_items_have_the_same_intervals_without_a_matrix(monkeypatch):
    _, _, data = simulated(7, annotators=30, items=12, per=8)
    for correction, close in (("none", 1e-9), ("bias_variance", 0.3)):
        small = MeanOpinionScore(correction=correction).fit(data)
        with monkeypatch.context() as patch:
            patch.setattr(opinion, "DENSE_ITEMS", 5)
            large = MeanOpinionScore(correction=correction).fit(data)
        assert large.covariance_ is None
        errors = np.sqrt(np.diagonal(small.covariance_))
        np.testing.assert_allclose(np.sqrt(np.mean(large.draws_**2, axis=1)), errors, rtol=close)


def test_items_nobody_scored_are_left_off_and_named():
    fitted = MeanOpinionScore().fit(
        rated([0, 0, 1, 1, 2, 3], None, [1, 2, 3, 4, NAN, 5], weight=[1, 1, 1, 1, 1, 0])
    )
    assert fitted.items_ == ["i000", "i001"]
    assert fitted.diagnostics_["items_without_ratings"] == ["i002", "i003"]
    assert fitted.diagnostics_["scores_without_weight"] == 1


def test_weights_are_counts_of_the_mean():
    fitted = MeanOpinionScore().fit(rated([0, 0, 1], None, [1, 4, 2], weight=[1, 3, 1]))
    assert scores(fitted).tolist() == [3.25, 2]


def test_aspects_are_ranked_one_at_a_time_or_averaged():
    data = rated(
        [0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1], [1, 3, 4, 4, 5, 2],
        aspect=["fun", "fact", "fun", "fact", "fun", "fun"],
    )  # fmt: skip
    with pytest.raises(DataError, match=r"several aspects: fun, fact; .*data.filter\(aspect='fact'\)"):
        MeanOpinionScore().fit(data)
    assert scores(MeanOpinionScore().fit(data.filter(aspect="fact"))).tolist() == [3, 4]
    mean = MeanOpinionScore(aspects="mean").fit(data)
    assert scores(mean).tolist() == [3.5, 3]
    assert mean.n_.tolist() == [2, 2]
    assert mean.diagnostics_["ratings_without_some_aspect"] == 2


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (rated([0, 1], [0, None], [1, 2]), {"correction": "bias"}, "row 2, field 'annotator': 1 of 2"),
        (rated([0, 1], None, [1, 2]), {"screening": "bt500"}, "2 of 2 ratings have no annotator"),
        (rated([0, 1, 0], [0, 1, 2], [3, 3, 3]), {}, "every rating is 3"),
        (rated([0, 0], [0, 1], [1, 2]), {}, "only one item"),
        (rated([0, 1], [0, 1], [NAN, NAN]), {}, "no score is given"),
        (rated([0, 1], [0, 1], [2, NAN]), {}, "every rating is 2"),
        (rated([0, 1], [0, 1], [1, 2]), {"correction": "zscore"}, "so there are no z-scores"),
        (rated([0, 1], None, [1, 2], scale=["ordinal", "interval"]), {}, "row 2, field 'scale': .*scales"),
        (rated([0, 1], [0, 1], [1, 2], aspect=["x", None]), {}, r"several aspects: \(none\), x"),
        (
            rated([0, 1, 0, 1, 2, 3, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3], [1, 2, 2, 3, 4, 5, 5, 4]),
            {"correction": "bias_variance"},
            r"biases cannot be told from scores: .*2 groups.*\(i000, i001\), \(i002, i003\)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_refused(data, options, message):
    with pytest.raises(DataError, match=message):
        MeanOpinionScore(**options).fit(data)


def test_comparisons_and_bad_options_are_refused():
    votes = PreferenceData.from_columns(
        {"items": [["a"], ["a", "b"]], "scores": [[1], [1, 0]], "protocol": ["rating", "comparison"]}
    )
    with pytest.raises(DataError, match="row 2, field 'protocol': a comparison, not a rating"):
        MeanOpinionScore().fit(votes)
    with pytest.raises(ConfigError, match="counted comparisons hold none"):
        MeanOpinionScore().fit(count(votes))
    good = rated([0, 1], [0, 1], [1, 2])
    for options, message in (
        ({"correction": "biases"}, "correction is 'biases'"),
        ({"screening": "all"}, "use 'bt500' or None"),
        ({"aspects": "all"}, "aspects is 'all'"),
        ({"shrinkage": -1}, "shrinkage is -1"),
        ({"level": 1.0}, "level is 1.0"),
        ({"anchor": "zzz"}, "unknown anchor 'zzz'"),
    ):
        with pytest.raises(ConfigError, match=message):
            MeanOpinionScore(**options).fit(good)


def test_ratings_that_fit_exactly_give_no_intervals():
    exact = rated([0, 1, 0, 1, 2], [0, 0, 1, 1, 1], [1, 2, 2, 3, 4])
    for correction in ("bias", "bias_variance"):
        fitted = MeanOpinionScore(correction=correction).fit(exact)
        np.testing.assert_allclose(scores(fitted), [1.5, 2.5, 3.5])
        assert fitted.covariance_ is None
        assert "no residuals" in fitted.diagnostics_["no_intervals"]


def test_a_likelihood_that_runs_away_to_one_annotator_says_so():
    _, _, data = simulated(0, annotators=4)
    with pytest.warns(PalateWarning, match=r"the scores repeat the ratings of a00\d: .*set shrinkage=1"):
        MeanOpinionScore(correction="bias_variance", shrinkage=0).fit(data)


def test_the_board_is_reached_by_name_and_is_plain_json():
    board = palate.rank(simulated(0, per=10)[2], method="mean_opinion_score", correction="bias_variance")
    text = json.loads(json.dumps(board.to_json()))
    assert text["method"] == "mean_opinion_score"
    assert text["diagnostics"]["annotators"] == 30
    assert board.annotators.height == 30
    with pytest.raises(ConfigError, match="predicts no probability"):
        board.win_probability("i000", "i001")


def test_an_anchor_shifts_the_board():
    board = MeanOpinionScore(anchor={"i000": 0.0}).fit(rated([0, 0, 1, 1], None, [1, 2, 3, 5])).leaderboard()
    assert board.table["rating"].to_list() == [2.5, 0.0]


def test_a_fit_that_does_not_settle_says_so(monkeypatch):
    monkeypatch.setattr(opinion.subjects, "MAX_ITERATIONS", 1)
    with pytest.warns(PalateWarning, match="did not settle within 1 steps"):
        fitted = MeanOpinionScore(correction="bias_variance").fit(simulated(0)[2])
    assert fitted.diagnostics_["settled"] is False


def mqm(frame, segment):
    return PreferenceData.from_columns(
        {
            "prompt_id": frame[segment].cast(pl.String).to_arrow(),
            "items": frame["system"].to_numpy()[:, None].tolist(),
            "scores": -frame["mqm"].to_numpy()[:, None],
            "annotator": frame["rater"].to_arrow(),
            "protocol": ["rating"] * len(frame),
        }
    )


def test_systems_of_the_talks_have_the_published_penalties(shared_data):
    frame = pl.read_parquet(shared_data / "wmt-mqm" / "ted_segments.parquet")
    published = {
        "ende": {"ref": 0.91, "Facebook-AI": 1.06, "Online-W": 1.12, "VolcTrans-AT": 1.24},
        "zhen": {"refB": 0.42, "DIDI-NLP": 1.65, "ref": 5.52},
    }
    for pair, table in published.items():
        board = MeanOpinionScore().fit(mqm(frame.filter(lp=pair), "seg_id")).leaderboard()
        found = dict(zip(board.table["item"], board.table["rating"], strict=True))
        assert {system: round(-found[system], 2) for system in table} == table


def test_severe_raters_are_seen_and_their_severity_taken_out(shared_data):
    frame = pl.read_parquet(shared_data / "wmt-mqm" / "sxs2023_ratings.parquet").filter(lp="ende")
    whole = MeanOpinionScore(correction="bias").fit(mqm(frame, "globalSegId"))
    means = -whole.annotators_["mean"]
    assert (round(means.min(), 1), round(means.max(), 1)) == (2.6, 11.6)
    # One of the three raters of each translation: the biases no longer cancel in the means.
    truth = dict(zip(whole.items_, whole.strengths_, strict=True))
    error = {"none": [], "bias": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        part = frame.with_columns(luck=rng.random(len(frame))).sort("luck")
        part = part.unique(["system", "globalSegId"], keep="first", maintain_order=True)
        for correction, errors in error.items():
            fitted = MeanOpinionScore(correction=correction).fit(mqm(part, "globalSegId"))
            off = fitted.strengths_ - np.array([truth[item] for item in fitted.items_])
            errors.append(np.sqrt(np.mean(off**2)))
    assert np.mean(error["bias"]) < np.mean(error["none"])


def test_streets_have_four_boards_and_one_of_their_mean(shared_data):
    frame = pl.read_parquet(shared_data / "street-review" / "individual_ratings.parquet")
    aspects = ["practicality", "inclusivity", "aesthetics", "accessibility"]
    long = frame.unpivot(aspects, index=["evaluator", "street"], variable_name="aspect", value_name="score")
    data = PreferenceData.from_columns(
        {
            "items": long["street"].to_numpy()[:, None].tolist(),
            "scores": long["score"].cast(pl.Float64).to_numpy()[:, None],
            "annotator": long["evaluator"].to_arrow(),
            "aspect": long["aspect"].to_arrow(),
            "protocol": ["rating"] * len(long),
        }
    )
    with pytest.raises(DataError, match="several aspects: practicality, inclusivity"):
        MeanOpinionScore().fit(data)
    parts = [MeanOpinionScore().fit(data.filter(aspect=aspect)) for aspect in aspects]
    whole = MeanOpinionScore(aspects="mean").fit(data)
    np.testing.assert_allclose(scores(whole), np.mean([scores(part) for part in parts], axis=0))
    assert whole.diagnostics_["ratings_without_some_aspect"] == 0
    assert whole.n_.tolist() == [12] * 20
