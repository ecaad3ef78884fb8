"""Bradley-Terry over time: its limits, a plain twin, periods, drift that is found again, and real matches."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.special import expit

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import BradleyTerry, count
from palate.rank import dynamic as dynamic_module
from palate.rank.battles import battles
from palate.rank.dynamic import DRIFTS, DynamicBradleyTerry

START = datetime(2024, 1, 1, tzinfo=UTC)


def games(theta, per_period=60, seed=0, ties=0.15, days=7):
    """Judgments between items with strengths theta (T, M), one period every `days` days."""
    rng = np.random.default_rng(seed)
    size = theta.shape[1]
    items, scores, time = [], [], []
    for t, strengths in enumerate(theta):
        for n in range(per_period):
            i = rng.integers(0, size)
            j = (i + rng.integers(1, size)) % size
            won = rng.random() < expit(strengths[i] - strengths[j])
            items.append([f"m{i}", f"m{j}"])
            scores.append([1, 1] if rng.random() < ties else [float(won), float(not won)])
            time.append(START + timedelta(days=days * t, minutes=n))
    order = rng.permutation(len(items))
    return PreferenceData.from_columns(
        {
            "items": [items[i] for i in order],
            "scores": [scores[i] for i in order],
            "time": [time[i] for i in order],
        }
    )


def walk(periods, size, drift, seed=0):
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, drift, (periods, size))
    steps[0] = rng.normal(0, 0.7, size)
    return np.cumsum(steps, axis=0)


@pytest.fixture(scope="module")
def data():
    return games(walk(6, 5, 0.4))


def by_name(values, fitted, other):
    """Columns of `values` in the order of another fit's items."""
    return values[..., [fitted.items_.index(item) for item in other.items_]]


def penalised_loss(flat, fitted, data, drift, l2, weight):
    """The objective, written down judgment by judgment; periods are weeks without gaps."""
    theta = flat.reshape(len(fitted.periods_), -1)
    rows = battles(data)
    days = (data.values("time") - np.datetime64(START.replace(tzinfo=None))) / np.timedelta64(1, "D")
    t = (days // 7).astype(int)
    gap = theta[t, rows.first] - theta[t, rows.second]
    loss = np.sum(weight * (np.logaddexp(0, gap) - rows.share * gap)) + 0.5 * l2 * np.sum(theta[0] ** 2)
    return loss + 0.5 * np.sum(np.diff(theta, axis=0) ** 2) / drift**2


def numeric_hessian(function, x, h=1e-3):
    size = len(x)
    eye = np.eye(size) * h
    out = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            four = (function(x + a * eye[i] + b * eye[j]) * a * b for a in (1, -1) for b in (1, -1))
            out[i, j] = out[j, i] = sum(four) / (4 * h * h)
    return out


@pytest.mark.parametrize("weighted", [False, True])
def test_the_path_maximises_the_posterior_and_its_errors_are_the_inverse_hessian(weighted):
    plain = games(walk(3, 3, 0.4), per_period=25)
    weight = np.random.default_rng(1).uniform(0.5, 2, plain.n_rows) if weighted else np.ones(plain.n_rows)
    table = plain.table.append_column("weight", [weight]) if weighted else plain.table
    data = PreferenceData(table)
    fitted = DynamicBradleyTerry(periods="week", drift=0.3, l2=0.5).fit(data)

    def loss(flat):
        return penalised_loss(flat, fitted, data, 0.3, 0.5, weight)

    best = minimize(loss, np.zeros(9), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(fitted.strengths_over_time_.ravel(), best.x, atol=1e-5)
    hessian = numeric_hessian(loss, fitted.strengths_over_time_.ravel())
    covariance = np.linalg.inv(hessian)
    centre = np.kron(np.eye(3), np.eye(3) - 1 / 3)
    errors = np.sqrt(np.diag(centre @ covariance @ centre)).reshape(3, 3)
    np.testing.assert_allclose(fitted.errors_over_time_, errors, rtol=1e-4)
    np.testing.assert_allclose(fitted.covariance_, (centre @ covariance @ centre)[6:, 6:], atol=1e-5)


@pytest.mark.parametrize("drift", [1e-3, 1e-6, 1e-9])
def test_without_drift_it_is_bradley_terry_with_the_same_ridge(data, drift):
    fitted = DynamicBradleyTerry(periods="week", drift=drift, l2=0.7).fit(data)
    static = BradleyTerry(l2=0.7, interval="hessian").fit(data)
    near = 20 * drift
    for strengths in fitted.strengths_over_time_:
        np.testing.assert_allclose(by_name(strengths, fitted, static), static.strengths_, atol=near + 1e-7)
    np.testing.assert_allclose(fitted.covariance_, static.covariance_, atol=near + 1e-7)


@pytest.mark.parametrize("drift", [1e3, 1e5])
def test_with_huge_drift_each_period_is_fitted_by_itself(data, drift):
    fitted = DynamicBradleyTerry(periods="week", drift=drift, l2=0.7).fit(data)
    week = (data.values("time") - np.datetime64(START.replace(tzinfo=None))) // np.timedelta64(7, "D")
    for t in range(6):
        alone = BradleyTerry(l2=0.7 if t == 0 else 0.0, interval="hessian").fit(
            PreferenceData(data.table.filter(week == t))
        )
        strengths = by_name(fitted.strengths_over_time_[t], fitted, alone)
        np.testing.assert_allclose(strengths, alone.strengths_, atol=1e-3)
        errors = by_name(fitted.errors_over_time_[t], fitted, alone)
        np.testing.assert_allclose(errors, np.sqrt(np.diag(alone.covariance_)), rtol=1e-3)


def test_one_period_is_bradley_terry(data):
    fitted = DynamicBradleyTerry(periods=1, l2=2.0).fit(data)
    static = BradleyTerry(l2=2.0, interval="hessian").fit(data)
    np.testing.assert_allclose(fitted.strengths_, static.strengths_, atol=1e-9)
    np.testing.assert_allclose(fitted.covariance_, static.covariance_, atol=1e-9)
    assert len(fitted.periods_) == 1


def test_it_follows_items_that_change_places():
    truth = np.linspace([1.5, 0, -1.5], [-1.5, 0, 1.5], 12)
    data = games(truth, per_period=150)
    fitted = DynamicBradleyTerry(periods="week", drift="auto").fit(data)
    path = fitted.strengths_over_time_[:, [fitted.items_.index(f"m{i}") for i in range(3)]]
    assert np.corrcoef(path.ravel(), truth.ravel())[0, 1] > 0.97
    ranks = fitted.table_over_time().filter(item="m0")["rank"].to_list()
    assert (ranks[0], ranks[-1]) == (1, 3)
    assert palate.rank(data).strengths["m0"] == pytest.approx(0, abs=0.2)
    assert fitted.leaderboard().table["item"].to_list() == ["m2", "m1", "m0"]


def test_auto_finds_the_drift_of_the_data_again():
    for drift in (0.02, 0.2):
        chosen = []
        for seed in range(5):
            data = games(walk(20, 6, drift, seed), per_period=150, seed=seed, ties=0)
            fitted = DynamicBradleyTerry(periods="week", drift="auto").fit(data)
            chosen.append(fitted.drift_)
            tried = fitted.diagnostics_["loss_one_period_ahead"]
            assert tried[f"{fitted.drift_:g}"] == min(tried.values())
        place = [DRIFTS.index(one) for one in chosen]
        assert abs(np.median(place) - DRIFTS.index(drift)) <= 1


def test_the_loss_one_period_ahead_is_that_of_predictions_from_the_past(data):
    fitted = DynamicBradleyTerry(periods="week", drift="auto").fit(data)
    week = (data.values("time") - np.datetime64(START.replace(tzinfo=None))) // np.timedelta64(7, "D")
    for drift in (0.1, fitted.drift_):
        losses = []
        for t in range(1, 6):
            past = PreferenceData(data.table.filter(week < t))
            before = DynamicBradleyTerry(periods="week", drift=drift).fit(past)
            rows = battles(PreferenceData(data.table.filter(week == t)))
            code = [before.items_.index(item) for item in rows.items]
            i, j = np.array(code)[rows.first], np.array(code)[rows.second]
            v = before.covariance_
            variance = v[i, i] + v[j, j] - 2 * v[i, j] + 2 * drift**2
            gap = (before.strengths_[i] - before.strengths_[j]) / np.sqrt(1 + np.pi / 8 * variance)
            losses += list(np.logaddexp(0, gap) - rows.share * gap)
        # The past is smoothed here and filtered there, which differ where the model is not linear.
        reported = fitted.diagnostics_["loss_one_period_ahead"][f"{drift:g}"]
        assert reported == pytest.approx(np.mean(losses), abs=2e-3)


def test_intervals_cover_the_true_paths():
    inside = []
    for seed in range(12):
        truth = walk(10, 6, 0.2, seed)
        fitted = DynamicBradleyTerry(periods="week", drift=0.2, l2=2.0).fit(games(truth, seed=seed, ties=0))
        truth = truth[:, [int(item[1:]) for item in fitted.items_]]
        truth = truth - truth.mean(axis=1, keepdims=True)
        z = (fitted.strengths_over_time_ - truth) / fitted.errors_over_time_
        inside.append(np.mean(np.abs(z) < 1.96))
    assert 0.92 < np.mean(inside) < 0.98


# -- periods --


def at(*times):
    n = len(times)
    return PreferenceData.from_columns(
        {"items": [["a", "b"]] * n, "scores": [[1, 0]] * n, "time": [t.replace(tzinfo=UTC) for t in times]}
    )


@pytest.mark.parametrize(
    ("periods", "starts"),
    [
        ("day", ["1969-12-31", "1970-01-04", "1970-01-05", "1971-03-02"]),
        ("week", ["1969-12-29", "1970-01-05", "1971-03-01"]),
        ("month", ["1969-12-01", "1970-01-01", "1971-03-01"]),
        ("year", ["1969-01-01", "1970-01-01", "1971-01-01"]),
    ],
)
def test_periods_are_those_of_the_calendar(periods, starts):
    times = [
        datetime(1971, 3, 2, 5), datetime(1969, 12, 31, 23, 59), datetime(1970, 1, 4), datetime(1970, 1, 5),
    ]  # fmt: skip
    fitted = DynamicBradleyTerry(periods=periods).fit(at(*times))
    assert fitted.periods_.dt.strftime("%Y-%m-%d").to_list() == starts
    truncated = pl.Series(times).dt.truncate(f"1{'mo' if periods == 'month' else periods[0]}").unique().sort()
    assert fitted.periods_.dt.replace_time_zone(None).to_list() == truncated.to_list()


def test_a_number_of_periods_have_equal_length():
    day = timedelta(days=1)
    fitted = DynamicBradleyTerry(periods=4).fit(
        at(*(datetime(2024, 1, 1) + n * day for n in (0, 1, 2.5, 6, 8)))
    )
    assert fitted.periods_.dt.strftime("%d").to_list() == ["01", "03", "07"]
    assert fitted.counts_over_time_.tolist() == [[2, 2], [1, 1], [2, 2]]
    same_moment = DynamicBradleyTerry(periods=4).fit(at(datetime(2024, 1, 1), datetime(2024, 1, 1)))
    assert len(same_moment.periods_) == 1


def test_a_gap_lets_strengths_move_as_far_as_the_periods_it_spans():
    near, far = datetime(2024, 2, 1), datetime(2025, 1, 1)
    errors = [
        DynamicBradleyTerry(periods="month", drift=0.3)
        .fit(at(datetime(2024, 1, 1), later))
        .errors_over_time_[-1]
        for later in (near, far)
    ]
    assert (errors[1] > 1.3 * errors[0]).all()
    single = DynamicBradleyTerry(periods="month", drift=0.3 * np.sqrt(12)).fit(at(datetime(2024, 1, 1), near))
    np.testing.assert_allclose(errors[1], single.errors_over_time_[-1])


# -- the table and the board --


def test_the_table_over_time_has_a_row_for_each_item_that_is_around(data):
    late = games(walk(2, 2, 0.1), per_period=10).table
    shifted = pl.from_arrow(late).with_columns(
        pl.col("time") + pl.duration(days=14), items=pl.col("items").list.eval(pl.element() + "x")
    )
    both = pl.concat([pl.from_arrow(data.table), shifted], how="diagonal")
    fitted = DynamicBradleyTerry(periods="week", anchor={"m0": 1200}).fit(PreferenceData(both.to_arrow()))
    table = fitted.table_over_time()
    assert table.columns == ["period", "item", "strength", "rating", "lower", "upper", "rank", "n"]
    weeks = table.filter(item="m0x")["period"].to_list()
    assert weeks == fitted.periods_[2:4].to_list()
    assert fitted.table_over_time(active=False).height == 6 * 7
    assert table.filter(item="m0")["rating"].to_list() == pytest.approx([1200] * 6)
    for _, part in table.group_by("period"):
        assert part["rank"].to_list() == list(range(1, part.height + 1))
        assert part["strength"].is_sorted(descending=True)
    assert (table["lower"] < table["rating"]).all()
    assert table["n"].sum() == 2 * fitted.n_comparisons_


def test_the_board_is_that_of_the_last_period(data):
    fitted = DynamicBradleyTerry(periods="week").fit(data)
    board = fitted.leaderboard()
    last = fitted.table_over_time().filter(pl.col("period") == fitted.periods_[-1]).sort("rank")
    for column in ("item", "strength", "rating", "lower", "upper"):
        assert board.table[column].to_list() == pytest.approx(last[column].to_list())
    assert board.table["n"].sum() == 2 * data.n_rows
    assert np.nansum(board.win_matrix().counts) == 2 * 60
    assert board.diagnostics["comparisons"] == data.n_rows
    assert board.diagnostics["comparisons_in_last_period"] == 60
    assert palate.rank(data, method="dynamic_bt", periods="week").strengths == board.strengths


def test_ties_and_both_bad_can_be_left_out(data):
    dropped = DynamicBradleyTerry(periods="week", ties="drop").fit(data)
    scores = np.array(data.column("scores").to_pylist())
    decided = PreferenceData(data.table.filter(scores[:, 0] != scores[:, 1]))
    kept = DynamicBradleyTerry(periods="week").fit(decided)
    np.testing.assert_allclose(by_name(dropped.strengths_, dropped, kept), kept.strengths_, atol=1e-9)
    assert dropped.n_comparisons_ == decided.n_rows


def test_a_ranking_counts_as_its_pairs_and_items_that_never_lose_stay_finite():
    ranking = PreferenceData.from_columns(
        {
            "items": [["a", "b", "c"]] * 2,
            "scores": [[3, 2, 1]] * 2,
            "time": [START, START + timedelta(days=40)],
        }
    )
    fitted = DynamicBradleyTerry().fit(ranking)
    assert fitted.n_comparisons_ == 6
    assert fitted.leaderboard().table["item"].to_list() == ["a", "b", "c"]
    assert np.isfinite(fitted.errors_over_time_).all()


# -- what it refuses --


def test_a_judgment_without_time_is_named():
    data = PreferenceData.from_columns(
        {"items": [["a", "b"]] * 3, "scores": [[1, 0]] * 3, "time": [START, None, None]}
    )
    with pytest.raises(DataError, match=r"row 2, field 'time': a judgment without a time \(and 1 more\)"):
        DynamicBradleyTerry().fit(data)
    with pytest.raises(DataError, match=r"row 1, field 'time'"):
        DynamicBradleyTerry().fit(PreferenceData(data.table.drop_columns("time")))


def test_a_missing_time_does_not_matter_where_nothing_is_compared():
    data = PreferenceData.from_columns(
        {"items": [["a", "b"]] * 2, "scores": [[1, 0]] * 2, "time": [START, None], "weight": [1, 0]}
    )
    assert DynamicBradleyTerry().fit(data).n_comparisons_ == 1


def test_counts_and_battles_have_no_times(data):
    for counted in (count(data), battles(data)):
        with pytest.raises(ConfigError, match="needs the time of each judgment"):
            DynamicBradleyTerry().fit(counted)


@pytest.mark.parametrize(
    "options",
    [
        {"periods": "hour"}, {"periods": 0}, {"periods": True}, {"periods": 2.5}, {"drift": 0},
        {"drift": "some"}, {"l2": 0}, {"ties": "model"}, {"level": 1}, {"anchor": "nobody"},
        {"both_bad": "keep"},
    ],
)  # fmt: skip
def test_unusable_parameters_are_refused(data, options):
    with pytest.raises(ConfigError):
        DynamicBradleyTerry(**options).fit(data)


def test_more_periods_than_memory_holds_are_refused(data, monkeypatch):
    monkeypatch.setattr(dynamic_module, "LARGEST", 100)
    with pytest.raises(ConfigError, match=r"6 periods of 5 items.*longer periods"):
        DynamicBradleyTerry(periods="week").fit(data)


def test_only_ties_cannot_be_left_out():
    data = PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 1]], "time": [START]})
    with pytest.raises(DataError, match="every comparison is a tie"):
        DynamicBradleyTerry(ties="drop").fit(data)


# -- real matches --


def matches(frame):
    def both(columns):
        return frame.select(pl.concat_list(columns).alias("both"))["both"].to_arrow()

    return PreferenceData.from_columns(
        {
            "items": both(["home_team", "away_team"]),
            "scores": both([pl.col("home_score").cast(pl.Float64), pl.col("away_score").cast(pl.Float64)]),
            "time": frame["date"].str.to_datetime(time_unit="us", time_zone="UTC").to_arrow(),
        }
    )


def held_out_loss(fitted, frame):
    code = {item: i for i, item in enumerate(fitted.items_)}
    known = frame.filter(pl.all_horizontal(pl.col("home_team", "away_team").is_in(list(code))))
    home, away = ([code[name] for name in known[column]] for column in ("home_team", "away_team"))
    share = (1 + np.sign((known["home_score"] - known["away_score"]).to_numpy())) / 2
    gap = fitted.strengths_[home] - fitted.strengths_[away]
    return np.mean(np.logaddexp(0, gap) - share * gap), known.height


@pytest.fixture(scope="module")
def football(shared_data):
    frame = pl.read_parquet(shared_data / "football-international" / "matches.parquet")
    return frame.drop_nulls(["home_score", "away_score"])


def around(football, year):
    """The ten years before a year, and that year."""
    when = football["date"].str.slice(0, 4).cast(pl.Int32)
    return football.filter(when.is_between(year - 10, year - 1)), football.filter(when == year)


def test_drift_predicts_ten_held_out_years_of_football_better_than_no_drift(football):
    static = moving = matches_seen = 0.0
    for year in range(1980, 2026, 5):
        past, future = around(football, year)
        data = matches(past)
        with warnings.catch_warnings():
            # In some decades a few teams met nobody else.
            warnings.simplefilter("ignore", PalateWarning)
            still, n = held_out_loss(BradleyTerry(l2=1.0).fit(data), future)
        static += n * still
        moving += n * held_out_loss(DynamicBradleyTerry(periods="year").fit(data), future)[0]
        matches_seen += n
    assert matches_seen > 7000
    assert moving < static
    assert (moving / matches_seen, static / matches_seen) == pytest.approx((0.58815, 0.58945), abs=1e-4)


def test_the_drift_of_football_is_chosen_by_prediction(football):
    past, _ = around(football, 2015)
    fitted = DynamicBradleyTerry(periods="year", drift="auto").fit(matches(past))
    losses = fitted.diagnostics_["loss_one_period_ahead"]
    assert 0.03 < fitted.drift_ < 0.5
    assert losses[f"{fitted.drift_:g}"] < min(losses["0.1"], np.log(2))
    assert not fitted.diagnostics_["drift_at_the_edge"]
