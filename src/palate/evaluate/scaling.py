"""The law of a test loss against the size of the data, ``L(n) = E + a n^-b``, and whether it is one (Wang et
al. 2025, "WorldPM", with E = 0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from palate.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
Verdict = Literal["falls", "bends", "flat", "rises"]

MEANINGS = {
    "falls": "falls by a power law",
    "bends": "changes, but not by a power law",
    "flat": "follows no law: its slope is not told from 0",
    "rises": "rises",
}
"""What each verdict says of a loss."""
EXACT = 1e-9
"""Points that a curve meets within this (of the log-loss) leave no error to estimate."""


@dataclass(frozen=True)
class PowerLaw:
    """``L(n) = floor + a n^-b``.

    Attributes:
        a: loss above the floor at n = 1.
        b: exponent, above 0 where the loss falls.
        floor: loss that remains.
        r2: share of the variance of ``log(L - floor)`` that the law explains; NaN for constant losses.
        interval: of b.
        bend: coefficient of ``(log n - mean)^2`` in a parabola of ``log(L - floor)`` with its interval; above
            0 where the fall slows down. NaN with fewer than four sizes.
        verdict: "flat" if the interval of b holds 0; "bends" if that of `bend` does not, and so a straight
            line in log-log is rejected; else "falls" or "rises".
        points, sizes: how many losses, and how many different n.
        fitted_floor: whether the floor was fitted.
    """

    a: float
    b: float
    floor: float
    r2: float
    interval: tuple[float, float]
    bend: tuple[float, float, float]
    verdict: Verdict
    points: int
    sizes: int
    fitted_floor: bool

    def predict(self, n: npt.ArrayLike) -> Floats:
        """The loss at n, of its shape."""
        return np.asarray(self.floor + self.a * np.asarray(n, dtype=np.float64) ** -self.b)

    def __str__(self) -> str:
        low, high = self.interval
        floor = f"{self.floor:.4g} + " if self.floor else ""
        return (
            f"L = {floor}{self.a:.4g} n^-{self.b:.4g} (b {low:.3g} to {high:.3g}): {MEANINGS[self.verdict]}"
        )


def fit_power_law(
    n: npt.ArrayLike,
    loss: npt.ArrayLike,
    floor: float | Literal["fit"] = 0.0,
    *,
    seed: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> PowerLaw:
    """Fit ``loss = floor + a n^-b`` by least squares of ``log(loss)``, and say whether it is a law.

    With the floor given, this is a straight line in log-log, the interval of its slope Student's. A floor
    that is fitted lies between 0 and the least loss; the interval is then the delta method's with the
    curvature at the fit. Losses of one seed share their data, so with `seed` the line is fitted to each seed
    and the interval is that of the mean of its slopes (floor given), which needs no independent points.

    Args:
        n: sizes, shape (points,), above 0.
        loss: shape (points,), above the floor.
        floor: loss that remains however large n is, 0 for none; or "fit".
        seed: which points were measured together, shape (points,); two or more groups.
        confidence: coverage of the intervals.

    Raises:
        ConfigError: shapes differ, or a floor below 0.
        DataError: fewer than three different n (four with the floor fitted, and also in each seed), or a
            point that is not finite and above 0, or not above the floor.

    >>> law = fit_power_law([1e3, 1e4, 1e5, 1e6], 2 * np.array([1e3, 1e4, 1e5, 1e6]) ** -0.12)
    >>> round(law.a, 9), round(law.b, 9), law.verdict
    (2.0, 0.12, 'falls')
    """
    x, y = checked_points(n, loss)
    least = 4 if floor == "fit" else 3
    enough(x, least, "n")
    fitted = floor == "fit"
    if not fitted and (isinstance(floor, str) or not floor >= 0):
        raise ConfigError(f"floor is {floor!r}; give a loss of 0 or more, or 'fit'")
    groups = [np.arange(len(x))] if seed is None else _groups(seed, x, least)
    below = 0.0 if fitted else float(floor)
    if not (y > below).all():
        row = int(np.flatnonzero(y <= below)[0])
        raise DataError(f"{y[row]:g} is not above the floor {below:g}", row=row + 1, field="loss",
                        remedy="give a lower floor, or 'fit'")  # fmt: skip
    if fitted:
        below, slope, interval = _with_floor(x, y, confidence)
        if seed is not None:
            interval = _over_seeds(
                [_with_floor(x[rows], y[rows], confidence)[1] for rows in groups], confidence
            )
    else:
        slope, interval = _slope(x, np.log(y - below), groups, confidence)
    log_n, log_l = np.log(x), np.log(y - below)
    intercept = float(log_l.mean() + slope * log_n.mean())
    spread = float(((log_l - log_l.mean()) ** 2).sum())
    error = float(((log_l - intercept + slope * log_n) ** 2).sum())
    if spread <= EXACT**2:
        # The slope of equal losses is what rounding leaves of 0.
        slope, interval = 0.0, (0.0, 0.0)
    bend = _bend(x, log_l, groups, confidence) if len(np.unique(x)) > 3 else (np.nan,) * 3
    verdict: Verdict = "falls" if slope > 0 else "rises"
    if interval[0] <= 0 <= interval[1]:
        verdict = "flat"
    elif bend[1] > EXACT or bend[2] < -EXACT:
        verdict = "bends"
    return PowerLaw(
        float(np.exp(intercept)), slope, below, 1 - error / spread if spread > EXACT**2 else np.nan,
        interval, bend, verdict, len(x), len(np.unique(x)), fitted,
    )  # fmt: skip


def checked_points(n: npt.ArrayLike, loss: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Both as arrays of one shape (points,), finite and above 0."""
    x, y = (np.atleast_1d(np.asarray(part, dtype=np.float64)) for part in (n, loss))
    if x.ndim != 1 or x.shape != y.shape:
        raise ConfigError(f"sizes and losses need one shape (points,); got {x.shape} and {y.shape}")
    for name, part in (("n", x), ("loss", y)):
        bad = ~(np.isfinite(part) & (part > 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{part[row]:g} is not finite and above 0", row=row + 1, field=name,
                            remedy="leave the point out")  # fmt: skip
    return x, y


def enough(x: Floats, least: int, name: str) -> None:
    """Refuse fewer than `least` different sizes."""
    if len(np.unique(x)) < least:
        raise DataError(
            f"{len(np.unique(x))} different sizes do not show a law", field=name,
            remedy=f"measure {least} or more",
        )  # fmt: skip


def _groups(seed: npt.ArrayLike, x: Floats, least: int) -> list[npt.NDArray[np.intp]]:
    labels = np.asarray(seed)
    if labels.shape != x.shape:
        raise ConfigError(f"seed needs the shape of n, {x.shape}; got {labels.shape}")
    groups = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    if len(groups) < 2:
        raise DataError(
            "one seed has no spread", field="seed", remedy="measure two or more, or leave seed out"
        )
    for rows in groups:
        enough(x[rows], least, f"n of seed {labels[rows[0]]}")
    return groups


def _line(design: Floats, y: Floats) -> tuple[Floats, Floats, int]:
    """Least squares coefficients, their standard errors and degrees of freedom."""
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ y
    free = len(y) - design.shape[1]
    error = float(((y - design @ found) ** 2).sum()) / free if free else np.nan
    return found, np.sqrt(error * np.diag(inverse)), free


def _interval(value: float, error: float, free: int, confidence: float) -> tuple[float, float]:
    half = float(special.stdtrit(free, 0.5 + confidence / 2)) * error if free else np.nan
    return value - half, value + half


def _over_seeds(values: list[float], confidence: float) -> tuple[float, float]:
    """Student's interval of the mean."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return _interval(mean, error, len(values) - 1, confidence)


def _coefficient(
    design: Floats, y: Floats, groups: list[npt.NDArray[np.intp]], confidence: float
) -> tuple[float, tuple[float, float]]:
    """The last coefficient with its interval: the line's own, or over the lines of the groups."""
    found, error, free = _line(design, y)
    if len(groups) == 1:
        return float(found[-1]), _interval(float(found[-1]), float(error[-1]), free, confidence)
    each = [float(_line(design[rows], y[rows])[0][-1]) for rows in groups]
    return float(np.mean(each)), _over_seeds(each, confidence)


def _slope(
    x: Floats, log_l: Floats, groups: list[npt.NDArray[np.intp]], confidence: float
) -> tuple[float, tuple[float, float]]:
    log_n = np.log(x)
    design = np.stack([np.ones_like(log_n), log_n - log_n.mean()], axis=1)
    slope, (low, high) = _coefficient(design, log_l, groups, confidence)
    return -slope, (-high, -low)


def _bend(
    x: Floats, log_l: Floats, groups: list[npt.NDArray[np.intp]], confidence: float
) -> tuple[float, float, float]:
    log_n = np.log(x) - np.log(x).mean()
    design = np.stack([np.ones_like(log_n), log_n, log_n**2], axis=1)
    if any(len(np.unique(x[rows])) < 4 for rows in groups):
        return (np.nan,) * 3
    value, (low, high) = _coefficient(design, log_l, groups, confidence)
    return value, low, high


def _with_floor(x: Floats, y: Floats, confidence: float) -> tuple[float, float, tuple[float, float]]:
    """The floor, the exponent and its interval, by least squares of ``log(floor + a n^-b)``."""
    from scipy import optimize  # slow to import

    log_n, target = np.log(x) - np.log(x).mean(), np.log(y)
    top = float(y.min())

    def curve(w: Floats) -> tuple[Floats, Floats]:
        """Residuals and their Jacobian in (floor / least loss, log a, b)."""
        part = np.exp(w[1] - w[2] * log_n)
        total = w[0] * top + part
        jacobian = np.stack([np.full_like(part, top), part, -log_n * part], axis=1) / total[:, None]
        return np.log(total) - target, jacobian

    best = None
    for share in (0.0, 0.5, 0.9, 0.99):
        above = np.log(np.maximum(y - share * top, 1e-12))
        slope = float(np.polyfit(log_n, above, 1)[0])
        found = optimize.least_squares(
            lambda w: curve(w)[0], [share, float(above.mean()), -slope], jac=lambda w: curve(w)[1],
            bounds=([0.0, -np.inf, -np.inf], [1.0 - 1e-12, np.inf, np.inf]),
            xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac",
        )  # fmt: skip
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    # A floor at its bound is no longer free to move.
    inside = best.x[0] > 1e-9
    jacobian = best.jac[:, slice(None) if inside else slice(1, None)]
    free = len(x) - jacobian.shape[1]
    error = np.nan
    if free:
        error = float(np.sqrt(np.linalg.pinv(jacobian.T @ jacobian)[-1, -1] * 2 * best.cost / free))
    floor = float(best.x[0] * top) if inside else 0.0
    return floor, float(best.x[2]), _interval(float(best.x[2]), error, free, confidence)
