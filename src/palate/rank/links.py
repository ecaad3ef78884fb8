"""Probabilities of an outcome as a function of the difference of two strengths, and of a tie parameter.

A link gives log-probabilities of "first wins", "second wins" and "tie" for differences d, with their first
and second derivatives in d and in the tie parameter t. All five are concave in (d, t), so their likelihood
has one maximum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_ndtr, ndtr

from palate.rank.battles import FIRST_WINS, TIE

Floats = npt.NDArray[np.float64]

# Matrix products are many times faster than sums over three columns.
_ALL, _WON = np.ones(3), np.array([1.0, 0.0, 0.5])

_ROOT_TWO = float(np.sqrt(2.0))
_LOG_ROOT_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of the log-probabilities of each outcome; all of shape (P, 3).

    `slope` and `tie_slope` are the first ones in d and t; `curvature`, `cross` and `tie_curvature` are minus
    the second ones in dd, dt and tt.
    """

    slope: Floats
    curvature: Floats
    tie_slope: Floats
    cross: Floats
    tie_curvature: Floats


@dataclass(frozen=True)
class Sums:
    """The negative log-likelihood, and `Derivatives` summed over the outcomes of each pair, shape (P,)."""

    loss: float
    slope: Floats
    curvature: Floats
    tie_slope: Floats | None = None
    cross: Floats | None = None
    tie_curvature: Floats | None = None


class Link(ABC):
    """One model of an outcome. `tie_start` is where the search for the tie parameter begins; None: it has
    none, and a tie is half a win for each side."""

    tie_start: float | None = None

    @abstractmethod
    def log_probabilities(self, d: Floats, t: float) -> Floats:
        """Log-probability of each outcome, shape (P, 3); where ties are half wins, their log-likelihood."""

    @abstractmethod
    def derivatives(self, d: Floats, t: float) -> Derivatives:
        """Derivatives of `log_probabilities`."""

    @abstractmethod
    def share(self, d: Floats, t: float) -> Floats:
        """Expected share of the first: probability to win plus half that of a tie."""

    def allows(self, t: float) -> bool:
        """Whether the tie parameter is inside its range."""
        return True

    def prepare(self, weight: Floats) -> Any:
        """What `at` needs of the weights of outcomes, shape (P, 3), computed once for many points."""
        return weight

    def at(self, prepared: Any, d: Floats, t: float) -> Sums:
        """Loss and derivatives at one point, summed over the outcomes of each pair."""
        weight = prepared
        loss = -float(np.sum(np.where(weight > 0, weight * self.log_probabilities(d, t), 0.0)))
        found = self.derivatives(d, t)
        slope, curvature = _over(weight, found.slope), _over(weight, found.curvature)
        if self.tie_start is None:
            return Sums(loss, slope, curvature)
        return Sums(
            loss,
            slope,
            curvature,
            _over(weight, found.tie_slope),
            _over(weight, found.cross),
            _over(weight, found.tie_curvature),
        )


def _over(weight: Floats, values: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", weight, values))


class HalfTies(Link):
    """P(first) = F(d), and a tie counts as half a win and half a loss."""

    @abstractmethod
    def log_cdf(self, d: Floats) -> Floats:
        """log F(d)."""

    @abstractmethod
    def rates(self, d: Floats) -> tuple[Floats, Floats]:
        """First derivative and minus the second of log F."""

    def log_probabilities(self, d: Floats, t: float) -> Floats:
        up, down = self.log_cdf(d), self.log_cdf(-d)
        return np.stack([up, down, 0.5 * (up + down)], axis=1)

    def derivatives(self, d: Floats, t: float) -> Derivatives:
        (up, bend_up), (down, bend_down) = self.rates(d), self.rates(-d)
        slope = np.stack([up, -down, 0.5 * (up - down)], axis=1)
        curvature = np.stack([bend_up, bend_down, 0.5 * (bend_up + bend_down)], axis=1)
        none = np.broadcast_to(0.0, slope.shape)
        return Derivatives(slope, curvature, none, none, none)

    def share(self, d: Floats, t: float) -> Floats:
        return np.asarray(np.exp(self.log_cdf(np.asarray(d))))


class Logistic(HalfTies):
    """Bradley-Terry: F(d) = 1 / (1 + exp(-d))."""

    def log_cdf(self, d: Floats) -> Floats:
        return np.asarray(-np.logaddexp(0.0, -d))

    def rates(self, d: Floats) -> tuple[Floats, Floats]:
        p = expit(d)
        return 1.0 - p, p * (1.0 - p)

    def share(self, d: Floats, t: float) -> Floats:
        return np.asarray(expit(d))

    def derivatives(self, d: Floats, t: float) -> Derivatives:
        p = expit(d)
        none = np.broadcast_to(0.0, (len(d), 3))
        return Derivatives(np.stack([1.0 - p, -p, 0.5 - p], axis=1), _thrice(p * (1.0 - p)), none, none, none)

    # Half ties make the sums functions of the share won alone, which saves most of the work.
    def prepare(self, weight: Floats) -> tuple[Floats, Floats]:
        return weight @ _ALL, weight @ _WON

    def at(self, prepared: tuple[Floats, Floats], d: Floats, t: float) -> Sums:
        total, wins = prepared
        small = np.exp(-np.abs(d))
        above = 1.0 / (1.0 + small)
        p = np.where(d >= 0, above, small * above)
        loss = float(total @ (np.maximum(d, 0.0) - np.log(above)) - wins @ d)
        return Sums(loss, wins - total * p, total * small * above * above)


class Probit(HalfTies):
    """Thurstone's case V: F(d) = Phi(d / sqrt 2), unit variance of each item's discriminal process."""

    def log_cdf(self, d: Floats) -> Floats:
        return np.asarray(log_ndtr(d / _ROOT_TWO))

    def rates(self, d: Floats) -> tuple[Floats, Floats]:
        return _normal_rates(d)

    def share(self, d: Floats, t: float) -> Floats:
        return np.asarray(ndtr(np.asarray(d) / _ROOT_TWO))


class DavidsonTies(Link):
    """P(first) : P(second) : P(tie) = exp(d/2) : exp(-d/2) : nu, with t = log nu (Davidson 1970)."""

    tie_start = 0.0

    def log_probabilities(self, d: Floats, t: float) -> Floats:
        logits = np.stack([0.5 * d, -0.5 * d, np.full_like(d, t)], axis=1)
        top = logits.max(axis=1, keepdims=True)
        return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))

    def derivatives(self, d: Floats, t: float) -> Derivatives:
        up, down, tie = np.exp(self.log_probabilities(d, t)).T
        mean = 0.5 * (up - down)
        spread = 0.25 * (up + down) - mean * mean
        slope = np.stack([0.5 - mean, -0.5 - mean, -mean], axis=1)
        tie_slope = np.stack([-tie, -tie, 1.0 - tie], axis=1)
        return Derivatives(
            slope, _thrice(spread), tie_slope, _thrice(-mean * tie), _thrice(tie * (1.0 - tie))
        )

    def share(self, d: Floats, t: float) -> Floats:
        d = np.asarray(d, dtype=np.float64)
        p = np.exp(self.log_probabilities(d.ravel(), t))
        return np.asarray((p[:, FIRST_WINS] + 0.5 * p[:, TIE]).reshape(d.shape))


class RaoKupperTies(Link):
    """P(first) = p / (p + eta q), P(tie) = (eta^2 - 1) P(first) P(second), with t = log eta > 0 (Rao and
    Kupper 1967): a cumulative logit in which a difference within the threshold t is a tie."""

    tie_start = 0.5

    def allows(self, t: float) -> bool:
        return t > 0

    def log_probabilities(self, d: Floats, t: float) -> Floats:
        up, down = -np.logaddexp(0.0, t - d), -np.logaddexp(0.0, t + d)
        return np.stack([up, down, np.log(np.expm1(2.0 * t)) + up + down], axis=1)

    def derivatives(self, d: Floats, t: float) -> Derivatives:
        p, q = expit(d - t), expit(-d - t)
        up, down, bend_up, bend_down = 1.0 - p, 1.0 - q, p * (1.0 - p), q * (1.0 - q)
        rate = 2.0 / -np.expm1(-2.0 * t)
        bend = rate * rate * np.exp(-2.0 * t)
        return Derivatives(
            slope=np.stack([up, -down, up - down], axis=1),
            curvature=np.stack([bend_up, bend_down, bend_up + bend_down], axis=1),
            tie_slope=np.stack([-up, -down, rate - up - down], axis=1),
            cross=np.stack([-bend_up, bend_down, bend_down - bend_up], axis=1),
            tie_curvature=np.stack([bend_up, bend_down, bend + bend_up + bend_down], axis=1),
        )

    def share(self, d: Floats, t: float) -> Floats:
        return np.asarray(0.5 * (expit(d - t) + expit(d + t)))


class GlennDavidTies(Link):
    """P(first) = Phi((d - t) / sqrt 2), P(tie) = Phi((d + t) / sqrt 2) - P(first), t > 0 (Glenn and David
    1960): Thurstone's case V in which a difference within the threshold t is a tie."""

    tie_start = 0.5

    def allows(self, t: float) -> bool:
        return t > 0

    def log_probabilities(self, d: Floats, t: float) -> Floats:
        return np.stack(
            [log_ndtr((d - t) / _ROOT_TWO), log_ndtr((-d - t) / _ROOT_TWO), self._log_tie(d, t)], axis=1
        )

    def _log_tie(self, d: Floats, t: float) -> Floats:
        # In the lower tail, where a difference of two small probabilities keeps its relative precision.
        wide, narrow = log_ndtr((t - np.abs(d)) / _ROOT_TWO), log_ndtr((-t - np.abs(d)) / _ROOT_TWO)
        return np.asarray(wide + np.log(-np.expm1(narrow - wide)))

    def derivatives(self, d: Floats, t: float) -> Derivatives:
        (up, bend_up), (down, bend_down) = _normal_rates(d - t), _normal_rates(-d - t)
        log_tie = self._log_tie(d, t)
        above = np.exp(_log_density(d + t) - log_tie)
        below = np.exp(_log_density(d - t) - log_tie)
        # The density's derivative is -x/2 times the density, as the variance is 2.
        bend_above, bend_below = -0.5 * (d + t) * above, -0.5 * (d - t) * below
        shift, widen = above - below, above + below
        same = bend_above - bend_below
        return Derivatives(
            slope=np.stack([up, -down, shift], axis=1),
            curvature=np.stack([bend_up, bend_down, shift * shift - same], axis=1),
            tie_slope=np.stack([-up, -down, widen], axis=1),
            cross=np.stack([-bend_up, bend_down, shift * widen - (bend_above + bend_below)], axis=1),
            tie_curvature=np.stack([bend_up, bend_down, widen * widen - same], axis=1),
        )

    def share(self, d: Floats, t: float) -> Floats:
        d = np.asarray(d)
        return np.asarray(0.5 * (ndtr((d - t) / _ROOT_TWO) + ndtr((d + t) / _ROOT_TWO)))


def _thrice(values: Floats) -> Floats:
    return np.broadcast_to(values[:, None], (len(values), 3))


def _log_density(d: Floats) -> Floats:
    """Log-density of a normal variable with variance 2."""
    return np.asarray(-0.25 * d * d - _LOG_ROOT_TWO_PI - np.log(_ROOT_TWO))


def _normal_rates(d: Floats) -> tuple[Floats, Floats]:
    """First derivative and minus the second of log Phi(d / sqrt 2)."""
    rate = np.exp(_log_density(d) - log_ndtr(d / _ROOT_TWO))
    return rate, rate * (rate + 0.5 * d)
