"""Predictions against mean opinion scores, with SciPy as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from palate.errors import ConfigError, DataError, PalateWarning
from palate.evaluate import mos_correlations


def curved(n: int = 200, noise: float = 0.1, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return 100 + 20 * x, 1 + 4 / (1 + np.exp(-3 * (x - 0.3))) + noise * rng.normal(size=n)


def test_correlations_are_scipys():
    x, y = curved()
    x[3] = x[7]
    found = mos_correlations(x, y, mapping="none")
    assert found.plcc == found.unmapped_plcc == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.srcc == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.krcc == pytest.approx(stats.kendalltau(x, y).statistic)
    assert found.rmse == found.unmapped_rmse == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))


@pytest.mark.parametrize("noise", [0.05, 0.5])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_mapping_is_the_best_logistic(noise, sign):
    x, y = curved(noise=noise)
    found = mos_correlations(sign * x, y)

    def curve(x, b0, b1, b2, b3, b4):
        return b0 * (0.5 - 1 / (1 + np.exp(b1 * (x - b2)))) + b3 * x + b4

    z = stats.zscore(sign * x)
    best, _ = optimize.curve_fit(curve, z, y, [4.0, sign * 3.0, sign * 0.3, 0.0, 3.0], maxfev=20_000)
    mapped = curve(z, *best)
    assert found.mapping == "logistic5"
    assert found.rmse == pytest.approx(np.sqrt(np.mean((mapped - y) ** 2)), rel=1e-3)
    assert found.plcc == pytest.approx(np.corrcoef(mapped, y)[0, 1], abs=1e-3)
    assert found.rmse < found.unmapped_rmse


def test_a_mapping_is_never_worse_than_the_best_line():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 30))
        line = np.polyval(np.polyfit(x, y, 1), x)
        assert mos_correlations(x, y).rmse <= np.sqrt(np.mean((line - y) ** 2)) + 1e-9


def test_entries_without_either_number_are_counted_and_left_out():
    x, y = curved(50)
    whole = mos_correlations(x, y)
    found = mos_correlations([*x, 1.0, np.nan], [*y, np.nan, 2.0])
    assert (found.n, found.missing) == (50, 2)
    assert found.plcc == pytest.approx(whole.plcc)


def test_too_little_for_the_mapping_falls_back_with_a_warning():
    with pytest.warns(PalateWarning, match="5 opinion scores for 5 parameters"):
        found = mos_correlations([1, 2, 3, 4, 5], [1, 2, 2, 4, 5])
    assert found.mapping == "none"
    assert found.rmse == found.unmapped_rmse
    with pytest.warns(PalateWarning, match="all predictions are equal"):
        found = mos_correlations([2.0] * 9, range(9))
    assert np.isnan([found.plcc, found.srcc, found.krcc]).all()


def test_a_fit_that_does_not_converge_falls_back_with_a_warning(monkeypatch):
    real = optimize.minimize

    def impatient(*args, options, **rest):
        return real(*args, options={**options, "maxiter": 1}, **rest)

    monkeypatch.setattr(optimize, "minimize", impatient)
    x, y = curved()
    with pytest.warns(PalateWarning, match="does not converge"):
        assert mos_correlations(x, y).mapping == "none"


def test_bad_input_is_one_clear_error():
    with pytest.raises(DataError, match="one prediction per opinion score"):
        mos_correlations([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="two opinion scores or more; got 1"):
        mos_correlations([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(DataError, match="row 2, field 'predicted'"):
        mos_correlations([1.0, np.inf], [1.0, 2.0])
    with pytest.raises(ConfigError, match="unknown mapping"):
        mos_correlations([1.0, 2.0], [1.0, 2.0], mapping="cubic")
