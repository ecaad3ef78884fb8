"""The law of a test loss against model size N and data size D, ``L(N, D) = E + A N^-alpha + B D^-beta``
(Hoffmann et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from palate.errors import DataError
from palate.evaluate.scaling import EXACT, checked_points, enough
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Axis = Literal["N", "D"]


@dataclass(frozen=True)
class ScalingLaw:
    """``L(N, D) = E + A N^-alpha + B D^-beta``.

    Attributes:
        E, A, alpha, B, beta: the coefficients.
        interval: of each, by name.
        p: of the F tests that a term is there at all, "N" and "D": the law against the one without it.
        r2: share of the variance of the log-loss that the law explains.
        points: how many losses.
    """

    E: float
    A: float
    alpha: float
    B: float
    beta: float
    interval: dict[str, tuple[float, float]]
    p: dict[str, float]
    r2: float
    points: int

    def predict(self, n: npt.ArrayLike, d: npt.ArrayLike) -> Floats:
        """The loss at model sizes n and data sizes d."""
        size, data = np.asarray(n, dtype=np.float64), np.asarray(d, dtype=np.float64)
        return np.asarray(self.E + self.A * size**-self.alpha + self.B * data**-self.beta)

    def holds(self, axis: Axis, level: float = 0.05) -> bool:
        """Whether the loss falls with model size ("N") or data ("D") for certain."""
        return self.p[axis] < level

    def __str__(self) -> str:
        return f"L = {self.E:.3g} + {self.A:.3g} N^-{self.alpha:.3g} + {self.B:.3g} D^-{self.beta:.3g}"


def fit_scaling_law(
    n: npt.ArrayLike,
    d: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 100,
    seed: int = 0,
) -> ScalingLaw:
    """Fit ``L(N, D) = E + A N^-alpha + B D^-beta`` (Hoffmann et al. 2022, approach 3).

    Least squares of the log-loss from a grid of starts, with coefficients of 0 or more: a term that would
    rise is at 0. Intervals are percentiles over resamples of the cells (all losses at one N and D).

    Args:
        n: model sizes, shape (points,), above 0.
        d: data sizes, shape (points,), above 0.
        loss: shape (points,), above 0.
        confidence: coverage of the intervals.
        resamples: for the intervals.
        seed: of the resamples.

    Raises:
        ConfigError: shapes differ.
        DataError: fewer than three different N or D, fewer than seven cells, or a value that is not finite
            and above 0.
    """
    size, y = checked_points(n, loss)
    data, _ = checked_points(d, loss)
    enough(size, 3, "N")
    enough(data, 3, "D")
    cells, of = np.unique(np.stack([size, data], axis=1), axis=0, return_inverse=True)
    of = of.ravel()
    if len(cells) < 7:
        raise DataError(f"{len(cells)} cells of model and data size for a law of five coefficients",
                        remedy="measure seven or more")  # fmt: skip
    # In units of their geometric means the starts are the same for all, and the terms of like size.
    unit_n, unit_d = float(np.exp(np.log(size).mean())), float(np.exp(np.log(data).mean()))
    u, v, target = np.log(size / unit_n), np.log(data / unit_d), np.log(y)
    best = _fit_joint(u, v, target, None)
    full = _error(best, u, v, target)
    p: dict[str, float] = {}
    free = max(len(y) - 5, 1)
    axes: tuple[tuple[Axis, Axis], ...] = (("N", "D"), ("D", "N"))
    for axis, left in axes:
        error = _error(_fit_joint(u, v, target, None, only=left), u, v, target)
        gain = max(error - full, 0.0)
        noise = full / free
        sure = noise <= EXACT**2
        p[axis] = float(gain <= EXACT) if sure else float(special.fdtrc(2, free, gain / 2 / noise))
    rng = generator(seed, "scaling")
    members = [np.flatnonzero(of == cell) for cell in range(len(cells))]
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([members[cell] for cell in rng.integers(0, len(cells), len(cells))])
        drawn.append(_raw(_fit_joint(u[rows], v[rows], target[rows], best), unit_n, unit_d))
    tail = (1 - confidence) / 2
    bounds = np.quantile(np.array(drawn), [tail, 1 - tail], axis=0)
    names = ("E", "A", "alpha", "B", "beta")
    spread = float(((target - target.mean()) ** 2).sum())
    return ScalingLaw(
        *_raw(best, unit_n, unit_d),
        {name: (float(low), float(high)) for name, low, high in zip(names, *bounds, strict=True)},
        p, 1 - full / spread if spread > 0 else np.nan, len(y),
    )  # fmt: skip


def _fit_joint(
    u: Floats, v: Floats, target: Floats, start: Floats | None, only: Axis | None = None
) -> Floats:
    """(E, A, alpha, B, beta) in units of the geometric means; `only` leaves one of the terms in."""
    from scipy import optimize  # slow to import

    left_out = {"N": (3, 4), "D": (1, 2), None: ()}[only]
    live = np.array([place not in left_out for place in range(5)])

    def expand(w: Floats) -> Floats:
        full = np.zeros(5)
        full[live] = w
        return full

    def residual(w: Floats) -> Floats:
        return np.asarray(np.log(_terms(expand(w), u, v).sum(axis=0)) - target)

    def jacobian(w: Floats) -> Floats:
        full = expand(w)
        _, a, b = parts = _terms(full, u, v)
        grad = np.stack([np.ones_like(u), np.exp(-full[2] * u), -u * a, np.exp(-full[4] * v), -v * b], axis=1)
        return np.asarray((grad / parts.sum(axis=0)[:, None])[:, live])

    top = float(np.exp(target.mean()))
    if start is None:
        starts = [
            np.array([share * top, (1 - share) / 2 * top, alpha, (1 - share) / 2 * top, beta])
            for share in (0.1, 0.6, 0.95) for alpha in (0.2, 1.0) for beta in (0.2, 1.0)
        ]  # fmt: skip
    else:
        starts = [np.maximum(start, [1e-9, 1e-9, 1e-3, 1e-9, 1e-3])]
    tight = 1e-12 if start is None else 1e-8
    low = np.array([1e-12, 0.0, 0.0, 0.0, 0.0])[live]
    found = [
        optimize.least_squares(
            residual, begin[live], jac=jacobian, bounds=(low, np.full(live.sum(), np.inf)), x_scale="jac",
            xtol=tight, ftol=tight, gtol=tight, max_nfev=500 if start is None else 50,
        )
        for begin in starts
    ]  # fmt: skip
    return expand(min(found, key=lambda each: float(each.cost)).x)


def _terms(w: Floats, u: Floats, v: Floats) -> Floats:
    """E, A N^-alpha and B D^-beta, shape (3, points)."""
    return np.stack([np.full_like(u, w[0]), w[1] * np.exp(-w[2] * u), w[3] * np.exp(-w[4] * v)])


def _error(w: Floats, u: Floats, v: Floats, target: Floats) -> float:
    return float(((np.log(_terms(w, u, v).sum(axis=0)) - target) ** 2).sum())


def _raw(w: Floats, unit_n: float, unit_d: float) -> tuple[float, float, float, float, float]:
    """Coefficients in units of one parameter and one judgment."""
    floor, a, alpha, b, beta = (float(x) for x in w)
    # A power of 0 is a part of the floor.
    if alpha < EXACT:
        floor, a, alpha = floor + a, 0.0, 0.0
    if beta < EXACT:
        floor, b, beta = floor + b, 0.0, 0.0
    return floor, a * unit_n**alpha, alpha, b * unit_d**beta, beta
