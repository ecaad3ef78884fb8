"""A predicted rating as a distribution over the levels of its scale: the probability that one would give
each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincc

from palate.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
EDGE = 1e-4
"""How far a prediction is kept from the ends of the unit interval, where a Beta distribution is a point."""


def beta_levels(
    prediction: npt.ArrayLike,
    levels: int = 5,
    concentration: float = 24.0,
    low: float = 0.0,
    high: float | None = None,
) -> Floats:
    """Probabilities of the levels of a rating scale, for predicted ratings (SteerLM 2.0; Wang et al., 2024).

    With ``r = (prediction - low) / (high - low)``, kept within [1e-4, 1 - 1e-4], and F the distribution
    function of ``Beta(c r, c (1 - r))``, level i = 0 ... L-1 gets ``F((i + 1) / L) - F(i / L)``. Tails are
    taken from the side on which they are small, so that a logarithm of an unlikely level keeps its digits.

    Args:
        prediction: any shape, in units of the scale; values beyond its ends count as the ends.
        levels: L, at least 2.
        concentration: c, above 0: the larger, the surer.
        low, high: ends of the scale; `high` is ``low + levels - 1`` if None.

    Returns:
        Shape (..., levels), sums to 1.

    Raises:
        ConfigError: a parameter out of range.
        DataError: a prediction that is not finite.

    >>> beta_levels(2.0).round(3)
    array([0.001, 0.163, 0.673, 0.163, 0.001])
    """
    high = low + levels - 1 if high is None else high
    if levels < 2:
        raise ConfigError(f"a scale needs two levels or more; got {levels}")
    if not 0 < concentration < np.inf:
        raise ConfigError(f"concentration must be above 0 and finite; got {concentration}")
    if not low < high:
        raise ConfigError(f"the scale must go up from low to high; got {low:g} to {high:g}")
    given = np.asarray(prediction, dtype=np.float64)
    if not np.isfinite(given).all():
        raise DataError("a predicted rating that is not finite", field="prediction",
                        remedy="leave the response out")  # fmt: skip
    r = np.clip((given - low) / (high - low), EDGE, 1.0 - EDGE)[..., None]
    a, b = concentration * r, concentration * (1.0 - r)
    edges = np.arange(levels + 1) / levels
    from_below, from_above = np.diff(betainc(a, b, edges)), -np.diff(betaincc(a, b, edges))
    upper = (np.arange(levels) + 0.5) / levels > r
    return np.asarray(np.where(upper, from_above, from_below))
