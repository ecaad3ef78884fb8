"""Laws of test losses against data and model size."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palate.errors import ConfigError, DataError
from palate.evaluate import fit_power_law, fit_scaling_law, scaling_report
from palate.report import Report

SIZES = np.array([1e3, 1e4, 1e5, 1e6])


def test_points_of_a_law_give_it_back_to_nine_digits() -> None:
    loss = 2 * SIZES**-0.12
    assert loss == pytest.approx([0.873032, 0.662262, 0.502377, 0.381092], abs=1e-6)
    law = fit_power_law(SIZES, loss)
    assert law.a == pytest.approx(2.0, abs=1e-9)
    assert law.b == pytest.approx(0.12, abs=1e-9)
    assert law.r2 == pytest.approx(1.0)
    assert law.verdict == "falls"
    assert law.predict(1e7) == pytest.approx(2 * 1e7**-0.12)
    assert "falls by a power law" in str(law)


@given(
    st.floats(0.05, 20), st.floats(-0.5, 1.5).filter(lambda b: abs(b) > 1e-3), st.floats(0, 1),
    st.integers(3, 8),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_exact_law_with_its_floor_given_is_given_back(a: float, b: float, floor: float, k: int) -> None:
    n = np.geomspace(10, 1e4, k)
    above = a * n**-b
    law = fit_power_law(n, floor + above, floor if above.min() > 1e-3 else 0.0)
    if above.min() > 1e-3:
        assert (law.a, law.b) == pytest.approx((a, b), rel=1e-6, abs=1e-9)


def test_a_fitted_floor_is_found_and_makes_a_law_of_what_bends() -> None:
    n = np.geomspace(1e2, 1e6, 7)
    loss = 0.3 + 2 * n**-0.4
    straight, floored = fit_power_law(n, loss), fit_power_law(n, loss, "fit")
    assert straight.verdict == "bends"
    assert straight.bend[0] > 0
    assert (floored.floor, floored.a, floored.b) == pytest.approx((0.3, 2.0, 0.4), rel=1e-6)
    assert floored.verdict == "falls"


def test_interval_and_slope_are_those_of_ordinary_least_squares() -> None:
    rng = np.random.default_rng(0)
    n = np.geomspace(100, 1e5, 9)
    loss = 3 * n**-0.2 * np.exp(rng.normal(scale=0.05, size=9))
    law, line = fit_power_law(n, loss), stats.linregress(np.log(n), np.log(loss))
    half = stats.t.ppf(0.975, 7) * line.stderr
    assert law.b == pytest.approx(-line.slope)
    assert law.r2 == pytest.approx(line.rvalue**2)
    assert law.interval == pytest.approx((-line.slope - half, -line.slope + half))


def test_with_seeds_the_interval_is_that_of_the_mean_of_their_slopes() -> None:
    rng = np.random.default_rng(1)
    n, seed = np.tile(np.geomspace(100, 1e4, 5), 4), np.repeat(np.arange(4), 5)
    loss = n**-0.3 * np.exp(rng.normal(scale=0.03, size=20))
    slopes = [-stats.linregress(np.log(n[seed == s]), np.log(loss[seed == s])).slope for s in range(4)]
    wanted = stats.t.interval(0.95, 3, np.mean(slopes), stats.sem(slopes))
    assert fit_power_law(n, loss, seed=seed).interval == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        ([0.7, 0.7, 0.7, 0.7], "flat"),
        ([0.3, 0.3, 0.3, 0.3], "flat"),
        ([0.70, 0.69, 0.71, 0.70], "flat"),
        ([0.60, 0.63, 0.655, 0.685], "rises"),
        ([0.9, 0.8, 0.7, 0.62], "falls"),
    ],
)
def test_where_no_law_holds_it_is_said(loss: list[float], verdict: str) -> None:
    assert fit_power_law(SIZES, loss).verdict == verdict


def test_equal_losses_at_any_sizes_are_flat() -> None:
    law = fit_power_law([10, 100, 1000, 2000], [0.5] * 4)
    assert (law.verdict, law.b, law.interval) == ("flat", 0.0, (0.0, 0.0))
    assert law.a == pytest.approx(0.5)


def test_the_interval_of_the_exponent_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    n = np.geomspace(100, 1e5, 6)
    hits = [
        low <= 0.2 <= high
        for _ in range(400)
        for low, high in [fit_power_law(n, n**-0.2 * np.exp(rng.normal(scale=0.05, size=6))).interval]
    ]
    # 0.95 with a standard deviation of 0.011.
    assert 0.91 < np.mean(hits) < 0.985


def test_bad_points_are_refused() -> None:
    with pytest.raises(DataError, match="2 different sizes do not show a law"):
        fit_power_law([10, 100, 100], [1.0, 0.5, 0.6])
    with pytest.raises(DataError, match="measure 4 or more"):
        fit_power_law([10, 100, 1000], [1.0, 0.5, 0.4], "fit")
    with pytest.raises(DataError, match="row 3, field 'loss': 0 is not finite and above 0"):
        fit_power_law([10, 100, 1000], [1.0, 0.5, 0.0])
    with pytest.raises(DataError, match="row 2, field 'n'"):
        fit_power_law([10, np.nan, 1000], [1.0, 0.5, 0.2])
    with pytest.raises(DataError, match=r"0\.2 is not above the floor 0\.3"):
        fit_power_law([10, 100, 1000], [1.0, 0.5, 0.2], 0.3)
    with pytest.raises(ConfigError, match="need one shape"):
        fit_power_law([10, 100], [1.0])
    with pytest.raises(ConfigError, match="floor is 'fitted'"):
        fit_power_law([10, 100, 1000], [1.0, 0.5, 0.2], "fitted")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one seed has no spread"):
        fit_power_law([10, 100, 1000], [1.0, 0.5, 0.2], seed=[1, 1, 1])


def grid(models: int = 4, sizes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    n, d = np.meshgrid(np.geomspace(1e2, 1e5, models), np.geomspace(1e2, 1e6, sizes))
    return n.ravel(), d.ravel()


def test_the_law_in_model_and_data_size_is_given_back() -> None:
    n, d = grid()
    law = fit_scaling_law(n, d, 0.4 + 3 * n**-0.35 + 5 * d**-0.3, resamples=5)
    assert (law.E, law.A, law.alpha) == pytest.approx((0.4, 3.0, 0.35), rel=1e-5)
    assert (law.B, law.beta) == pytest.approx((5.0, 0.3), rel=1e-5)
    assert law.holds("N")
    assert law.holds("D")
    assert law.predict(1e4, 1e5) == pytest.approx(0.4 + 3 * 1e4**-0.35 + 5 * 1e5**-0.3)


def test_an_axis_that_changes_nothing_has_no_law() -> None:
    rng = np.random.default_rng(0)
    n, d = (np.tile(part, 3) for part in grid())
    law = fit_scaling_law(
        n, d, (0.4 + 5 * d**-0.3) * np.exp(rng.normal(scale=0.01, size=len(n))), resamples=30
    )
    assert not law.holds("N")
    assert law.holds("D")
    low, high = law.interval["beta"]
    assert low < 0.3 < high
    assert low < law.beta < high


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(DataError, match="field 'N': 2 different sizes"):
        fit_scaling_law([1, 2, 1, 2], [1, 1, 2, 3], [1.0] * 4)
    with pytest.raises(DataError, match="6 cells of model and data size"):
        fit_scaling_law([1, 2, 3, 1, 2, 3], [1, 2, 3, 2, 3, 1], [1.0] * 6)


def runs(groups: dict[str, float], seeds: int = 3) -> pl.DataFrame:
    """Losses ``2 n^-b`` of each group, with a little noise of each seed."""
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        [
            {
                "model": "small", "parameters": 10, "n": n, "seed": s, "group": name,
                "loss": 2 * n**-b * float(np.exp(rng.normal(scale=0.01))),
            }
            for s in range(seeds) for name, b in groups.items() for n in (100, 1000, 10_000, 100_000)
        ]
    )  # fmt: skip


def test_the_report_says_class_by_class_whether_there_is_a_law(tmp_path) -> None:
    table = runs({"decoys": 0.2, "errors": 0.1, "taste": 0.0, "worse": -0.1})
    report = scaling_report(
        table, {"adversarial": ["decoys", "errors"], "subjective": ["taste"], "odd": ["worse"]}
    )
    verdicts = dict(report.tables["laws"].select("class", "verdict").iter_rows())
    assert "follows no law" in verdicts["subjective"]
    assert verdicts["odd"] == "rises"
    assert 0.1 < report.metrics["b/adversarial"] < 0.2
    assert scaling_report(table).metrics["b/decoys"] == pytest.approx(0.2, abs=0.01)
    both = report.tables["scaling"].filter(pl.col("class") == "adversarial", pl.col("n") == 100)
    mean = table.filter(pl.col("group").is_in(["decoys", "errors"]), pl.col("n") == 100)["loss"].mean()
    assert both["loss"][0] == pytest.approx(mean)
    axes = report.figures["scaling"].layout
    assert (axes.xaxis.type, axes.yaxis.type) == ("log", "log")
    report.to_json(tmp_path / "scaling.json")
    assert "What more data is worth" in Report.from_json(tmp_path / "scaling.json").to_html()


def test_tables_that_hold_no_runs_are_refused() -> None:
    table = runs({"a": 0.1})
    with pytest.raises(ConfigError, match="unknown group 'aa'; did you mean 'a'"):
        scaling_report(table, {"class": ["aa"]})
    with pytest.raises(DataError, match="field 'loss': is missing from the table of runs"):
        scaling_report(table.drop("loss"))
    with pytest.raises(DataError, match="2 different sizes do not show a law"):
        scaling_report(table.filter(pl.col("n") < 2000))
