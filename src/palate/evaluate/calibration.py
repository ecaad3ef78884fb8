"""Whether a stated probability is right as often as it says."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, unknown
from palate.evaluate.intervals import share_with_interval

Floats = npt.NDArray[np.float64]
Strategy = Literal["uniform", "quantile"]


def reliability(
    probability: npt.ArrayLike,
    outcome: npt.ArrayLike,
    bins: int = 10,
    strategy: Strategy = "uniform",
    *,
    low: float = 0.0,
    symmetric: bool = False,
) -> pl.DataFrame:
    """Stated against observed frequency in bins of the stated probability.

    Args:
        probability: shape (n,), stated; NaN is left out.
        outcome: shape (n,), 1 where it happened, 0 where not, 0.5 for a tie.
        bins: how many bins there are at most.
        strategy: "uniform" gives bins of equal width over [low, 1], "quantile" of equal counts. A bin holds
            its upper edge and not its lower one, but the first bin holds both.
        low: the least probability that can be stated (0.5 for the confidence in the side preferred).
        symmetric: count every pair in both orders, ``(p, y)`` and ``(1 - p, 1 - y)``. Where the chosen side
            always comes first, its outcome is constantly 1, and calibration else says nothing but how sure
            the judge is.

    Returns:
        One row for each bin that is not empty: lower, upper (its edges), n, predicted, observed,
            observed_lower,
        observed_upper (95 %).
    """
    p, y = _answered(probability, outcome)
    if symmetric:
        p, y = np.concatenate([p, 1.0 - p]), np.concatenate([y, 1.0 - y])
    edges = _edges(p, bins, strategy, low)
    code = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, len(edges) - 2)
    rows = []
    for index in np.unique(code):
        inside = code == index
        observed, lower, upper = share_with_interval(y[inside])
        rows.append(
            (
                edges[index],
                edges[index + 1],
                int(inside.sum()),
                float(p[inside].mean()),
                observed,
                lower,
                upper,
            )
        )
    names = ("lower", "upper", "n", "predicted", "observed", "observed_lower", "observed_upper")
    return pl.DataFrame(
        rows, schema={name: pl.Int64 if name == "n" else pl.Float64 for name in names}, orient="row"
    )


def expected_calibration_error(
    probability: npt.ArrayLike,
    outcome: npt.ArrayLike,
    bins: int = 10,
    strategy: Strategy = "uniform",
    *,
    low: float = 0.0,
    symmetric: bool = False,
) -> float:
    """Mean distance of stated from observed frequency over bins, weighted by count (Naeini et al. 2015).

    Arguments as in `reliability`; NaN where nothing was answered.
    """
    gap, n = _gaps(reliability(probability, outcome, bins, strategy, low=low, symmetric=symmetric))
    return float(np.average(gap, weights=n)) if len(gap) else np.nan


def average_calibration_error(
    probability: npt.ArrayLike,
    outcome: npt.ArrayLike,
    bins: int = 10,
    strategy: Strategy = "uniform",
    *,
    low: float = 0.0,
    symmetric: bool = False,
) -> float:
    """Mean distance of stated from observed frequency over bins that are not empty, each counting the same.

    Arguments as in `reliability`; NaN where nothing was answered.
    """
    gap, _ = _gaps(reliability(probability, outcome, bins, strategy, low=low, symmetric=symmetric))
    return float(gap.mean()) if len(gap) else np.nan


def maximum_calibration_error(
    probability: npt.ArrayLike,
    outcome: npt.ArrayLike,
    bins: int = 10,
    strategy: Strategy = "uniform",
    *,
    low: float = 0.0,
    symmetric: bool = False,
) -> float:
    """Largest distance of stated from observed frequency over bins (Naeini et al. 2015).

    Arguments as in `reliability`; NaN where nothing was answered.
    """
    gap, _ = _gaps(reliability(probability, outcome, bins, strategy, low=low, symmetric=symmetric))
    return float(gap.max()) if len(gap) else np.nan


def _gaps(table: pl.DataFrame) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Distance of stated from observed frequency in each bin, and how many answers it holds."""
    gap = np.abs(table["predicted"].to_numpy() - table["observed"].to_numpy())
    return gap, table["n"].to_numpy()


def brier(probability: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Mean squared distance of the probability from the outcome; always saying one half gives 0.25."""
    p, y = _answered(probability, outcome)
    return float(((p - y) ** 2).mean()) if len(p) else np.nan


def log_loss(probability: npt.ArrayLike, outcome: npt.ArrayLike, *, epsilon: float = 1e-15) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept `epsilon` away from 0 and 1."""
    p, y = _answered(probability, outcome)
    p = np.clip(p, epsilon, 1 - epsilon)
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean()) if len(p) else np.nan


def _answered(probability: npt.ArrayLike, outcome: npt.ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.broadcast_arrays(
        np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    )
    kept = ~(np.isnan(p) | np.isnan(y))
    p, y = p[kept], y[kept]
    if len(p) and not (p.min() >= 0 and p.max() <= 1):
        raise ConfigError("probabilities must lie between 0 and 1")
    return p, y


def _edges(p: Floats, bins: int, strategy: str, low: float) -> Floats:
    if bins < 1:
        raise ConfigError(f"bins must be 1 or more; got {bins}")
    if strategy == "uniform":
        return np.linspace(low, 1.0, bins + 1)
    if strategy == "quantile":
        edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1))) if len(p) else np.array([low, 1.0])
        return edges if len(edges) > 1 else np.array([edges[0], edges[0]])
    raise unknown("binning strategy", strategy, ("uniform", "quantile"))
