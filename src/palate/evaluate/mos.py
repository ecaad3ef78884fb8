"""Predicted against mean opinion scores: correlations, and errors after the customary mapping."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError, DataError, PalateWarning, unknown

Floats = npt.NDArray[np.float64]
PARAMETERS = 5
STEEP = (0.1, 50.0)


@dataclass(frozen=True)
class MosCorrelations:
    """How well predictions agree with mean opinion scores.

    Attributes:
        plcc: Pearson's correlation of the mapped predictions; NaN where either side is constant.
        srcc: Spearman's rank correlation, with ties at their mean rank.
        krcc: Kendall's tau-b.
        rmse: root of the mean squared error of the mapped predictions, in units of the opinion scores. The
            mapping is fitted to the very scores it is measured on, so this is optimistic.
        unmapped_plcc, unmapped_rmse: of the predictions as they are.
        mapping: the mapping used: "logistic5", or "none" if that was asked for or no fit was found.
        n: how many predictions count.
        missing: how many were left out for want of either number.
    """

    plcc: float
    srcc: float
    krcc: float
    rmse: float
    unmapped_plcc: float
    unmapped_rmse: float
    mapping: str
    n: int
    missing: int


def mos_correlations(
    predicted: npt.ArrayLike, mos: npt.ArrayLike, *, mapping: Literal["logistic5", "none"] = "logistic5"
) -> MosCorrelations:
    """Correlations and error of predicted opinion scores, after the mapping of the video quality experts::

        f(x) = b0 (1/2 - 1 / (1 + exp(b1 (x - b2)))) + b3 x + b4

    fitted by least squares (Sheikh, Sabir & Bovik, 2006).

    Args:
        predicted: x, shape (n,); NaN is left out.
        mos: mean opinion scores, shape (n,); NaN means not applicable and is left out.
        mapping: "none" leaves the predictions as they are.

    Raises:
        DataError: shapes differ, fewer than two numbers are left, or one is not finite.
        ConfigError: an unknown mapping.

    Warns (`PalateWarning`) and uses no mapping if the fit has too little data or does not converge.
    """
    from scipy import stats  # slow to import

    if mapping not in ("logistic5", "none"):
        raise unknown("mapping", mapping, ("logistic5", "none"))
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(
            f"predictions of shape {x.shape} against opinion scores of shape {y.shape}",
            remedy="give one prediction per opinion score",
        )
    for field, values in (("predicted", x), ("mos", y)):
        if np.isinf(values).any():
            raise DataError("a number that is not finite", row=int(np.flatnonzero(np.isinf(values))[0]) + 1,
                            field=field, remedy="leave it out, as NaN")  # fmt: skip
    kept = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[kept], y[kept]
    if len(x) < 2:
        raise DataError(f"a correlation needs two opinion scores or more; got {len(x)}", field="mos",
                        remedy="give the aspect more responses")  # fmt: skip
    mapped, used = (logistic_mapping(x, y), "logistic5") if mapping == "logistic5" else (None, "none")
    if mapped is None:
        mapped, used = x, "none"
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    return MosCorrelations(
        _pearson(mapped, y),
        np.nan if constant else float(stats.spearmanr(x, y).statistic),
        np.nan if constant else float(stats.kendalltau(x, y).statistic),
        _error(mapped, y),
        _pearson(x, y),
        _error(x, y),
        used,
        len(x),
        int((~kept).sum()),
    )


def logistic_mapping(predicted: Floats, mos: Floats) -> Floats | None:
    """Predictions after the five-parameter logistic fitted to the opinion scores, shape (n,); None, with a
    `PalateWarning`, where no fit is found.

    The fit is over b1 and b2 alone, as the best of the other three follow from them, so its error is never
    above that of the best line. In units of the predictions' standard deviation the middle b2 is kept within
    5 of the mean and the steepness b1 from 0.1 to 50: on scores that are nearly straight, ever flatter and
    taller curves are ever so slightly better.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    if predicted.shape != mos.shape:
        raise ConfigError(f"shapes differ: {predicted.shape} and {mos.shape}")
    spread = float(np.std(predicted))
    problem = ""
    if len(predicted) <= PARAMETERS:
        problem = f"{len(predicted)} opinion scores for {PARAMETERS} parameters"
    elif not spread > 0:
        problem = "all predictions are equal"
    else:
        z = (predicted - predicted.mean()) / spread

        def columns(b: Floats) -> Floats:
            return np.stack([expit(b[0] * (z - b[1])) - 0.5, z, np.ones_like(z)], axis=1)

        def curve(b: Floats) -> Floats:
            made = columns(b)
            return np.asarray(made @ np.linalg.lstsq(made, mos)[0])

        def cost(b: Floats) -> float:
            return float(((curve(b) - mos) ** 2).sum())

        # Without derivatives, as the valleys of near-straight scores are too flat for steps along them.
        bounds, limits = [STEEP, (-5.0, 5.0)], {"xatol": 1e-6, "fatol": 1e-10, "maxiter": 1000}
        fits = [
            minimize(cost, [start, 0.0], method="Nelder-Mead", bounds=bounds, options=limits)
            for start in (1.0, 5.0)
        ]
        done = [fit for fit in fits if fit.success]
        if done:
            return curve(min(done, key=lambda fit: float(fit.fun)).x)
        problem = "the fit does not converge"
    warnings.warn(f"no logistic mapping: {problem}; none is used", PalateWarning, stacklevel=3)
    return None


def _pearson(a: Floats, b: Floats) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])


def _error(a: Floats, b: Floats) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))
