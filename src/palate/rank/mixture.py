"""Pair models in which every annotator has parameters of their own, fitted jointly with the strengths.

A vote of annotator k between items i and j is won by i with a probability P(d, phi_k) that depends on the
difference of strengths d = theta_i - theta_j and on the annotator's q parameters phi_k. Given the strengths
the annotators are independent, so the information matrix is an arrow, [[A, B], [B', D]] with D block
diagonal: annotators are eliminated one by one, and nothing grows with the square of their number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.sparse import bsr_array, csr_array
from scipy.special import expit, log_expit

from palate.rank.information import DENSE_ITEMS, threads
from palate.rank.votes import Votes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TOLERANCE = 1e-8
"""The fit ends when no gradient exceeds this share of the largest total weight of an item or annotator."""

NEWTON_STEPS = 200
SETTLING = 5
SETTLED = 0.3
LONGEST = 2.0
"""Rounds of `_settle`, the step at which it leaves the rest to Newton's method, and its longest step."""

LBFGS_STEPS = 5000
TINY = 1e-250
DAMPING = 1e-6
"""Added to the annotators' blocks of the expected information, which are 0 where all strengths are equal."""


class Chance(NamedTuple):
    """Probability that the first wins and that the second wins, and the first's derivatives, by cell.

    `gap` is by d, shape (C,); `own` by the annotator's parameters, shape (q, C).
    """

    first: Floats
    second: Floats
    gap: Floats
    own: Floats


class Bend(NamedTuple):
    """Second derivatives of the first's probability: by d twice (C,), mixed (q, C), own twice (q, q, C)."""

    gap: Floats
    mixed: Floats
    own: Floats


class Spread(NamedTuple):
    """Covariance of the M strengths (mean 0), and variances of the annotators' parameters, shape (K, q).

    `strengths` is None where it does not fit in memory; then `own` takes the strengths for known.
    """

    strengths: Floats | None
    own: Floats


class Mixture(ABC):
    """A model P(d, phi_k), its penalised likelihood, and its fit.

    The objective is sum over cells of won log P + lost log(1 - P), plus virtual * sum_i [log s(theta_0 -
    theta_i) + log s(theta_i - theta_0)], as if every item had met a virtual item that nobody else knows, plus
    the penalties of the annotators' parameters.

    Args:
        votes: the votes.
        virtual: weight of the virtual item's win and of its loss against each item.
        free: which annotators' parameters are estimated, shape (K,); those of the others stay at their start.
    """

    def __init__(self, votes: Votes, virtual: float, free: Bools | None = None) -> None:
        self.votes, self.virtual = votes, virtual
        self.free = np.ones(len(votes.annotators), dtype=bool) if free is None else free

    @abstractmethod
    def chance(self, gap: Floats, own: Floats) -> Chance:
        """Probabilities and their first derivatives at d (C,) and phi (q, C)."""

    @abstractmethod
    def bend(self, gap: Floats, own: Floats) -> Bend:
        """Second derivatives at d (C,) and phi (q, C)."""

    @abstractmethod
    def penalty(self, own: Floats) -> tuple[Floats, Floats, Floats]:
        """Penalty of annotators' phi (q, n): each one's (n,), its gradient and second derivative (q, n)."""

    def log_likelihood(self, theta: Floats, own: Floats) -> float:
        """Without penalties, at theta (M + 1,) and phi (q, K)."""
        at = self.chance(self._gap(theta), own[:, self.votes.annotator])
        first, second = np.log(np.maximum(at.first, TINY)), np.log(np.maximum(at.second, TINY))
        return float(self.votes.won @ first + self.votes.lost @ second)

    def loss(self, theta: Floats, own: Floats) -> tuple[float, Floats, Floats]:
        """Minus the objective and its gradients by theta (M + 1,) and phi (q, K)."""
        cells = self.votes
        at = self.chance(self._gap(theta), own[:, cells.annotator])
        first, second = np.maximum(at.first, TINY), np.maximum(at.second, TINY)
        value = -(cells.won @ np.log(first) + cells.lost @ np.log(second))
        pull = cells.lost / second - cells.won / first
        by_theta = cells.per_item(pull * at.gap)
        by_own = cells.per_annotator(pull * at.own)
        apart = theta[:-1] - theta[-1]
        value -= self.virtual * np.sum(log_expit(apart) + log_expit(-apart))
        towards = self.virtual * np.tanh(apart / 2.0)
        by_theta[:-1] += towards
        by_theta[-1] -= towards.sum()
        by_own[:, ~self.free] = 0.0
        penalty, slope, _ = self.penalty(own[:, self.free])
        by_own[:, self.free] += slope
        return float(value + penalty.sum()), by_theta, by_own

    def fit(self, theta: Floats, own: Floats) -> tuple[Floats, Floats, int, bool]:
        """Minimise the loss.

        Newton's method on the arrow, with the expected information where the observed one is not positive;
        L-BFGS for more than `DENSE_ITEMS` items.

        Args:
            theta: where to start, shape (M + 1,), the virtual item last.
            own: where to start, shape (q, K).

        Returns:
            theta, own, the number of iterations, and whether the gradient reached the tolerance.
        """
        cells = self.votes
        weight = cells.won + cells.lost
        scale = float(max(np.bincount(cells.first, weight).max(), cells.per_annotator(weight).max(), 1.0))
        with threads(len(theta)):
            solve = self._by_newton if len(theta) - 1 <= DENSE_ITEMS else self._by_lbfgs
            theta, own, iterations, steepest = solve(theta, own, TOLERANCE * scale)
        return theta - theta[:-1].mean(), own, iterations, steepest <= TOLERANCE * scale

    def _by_newton(self, theta: Floats, own: Floats, goal: float) -> tuple[Floats, Floats, int, float]:
        value, by_theta, by_own = self.loss(theta, own)
        for iteration in range(NEWTON_STEPS):
            steepest = float(max(np.abs(by_theta).max(), np.abs(by_own).max()))
            if steepest <= goal:
                return theta, own, iteration, steepest
            step = self._newton(theta, own, by_theta, by_own)
            slope = float(step[0] @ by_theta + np.sum(step[1] * by_own))
            size, rounding = 1.0, 1e-13 * abs(value)
            while size > 1e-8:
                trial = theta - size * step[0], own - size * step[1]
                reached = self.loss(*trial)
                if reached[0] <= value - 1e-4 * size * slope + rounding:
                    break
                size /= 2
            else:
                break
            theta, own = trial[0], self._settle(*trial)
            value, by_theta, by_own = self.loss(theta, own)
        return theta, own, iteration, steepest

    def _settle(self, theta: Floats, own: Floats) -> Floats:
        """Improve each annotator's parameters by themselves, after a joint step too short for some of them.

        A line search over all of them would be held up by the one it suits least.
        """
        cells, gap = self.votes, self._gap(theta)

        def losses(own: Floats, at: Chance) -> Floats:
            first, second = np.maximum(at.first, TINY), np.maximum(at.second, TINY)
            lost = -(cells.won * np.log(first) + cells.lost * np.log(second))
            return cells.per_annotator(lost) + self.penalty(own)[0]

        at = self.chance(gap, own[:, cells.annotator])
        value, size = losses(own, at), np.ones(len(cells.annotators))
        for _ in range(SETTLING):
            first, second = np.maximum(at.first, TINY), np.maximum(at.second, TINY)
            slope = cells.per_annotator((cells.lost / second - cells.won / first) * at.own)
            square = (cells.won + cells.lost) / np.maximum(first * second, TINY)
            block = cells.per_annotator(square * at.own[:, None] * at.own[None, :])
            _, pull, stiff = self.penalty(own)
            rows = np.arange(len(own))
            block[rows, rows] += stiff + DAMPING
            step = np.linalg.solve(np.moveaxis(block, -1, 0), (slope + pull).T[..., None])[..., 0].T
            step *= np.minimum(1.0, LONGEST / np.maximum(np.abs(step).max(axis=0), TINY))
            step[:, ~self.free] = 0.0
            if np.abs(step).max() < SETTLED:
                break
            trial = own - size * step
            reached = losses(trial, at_trial := self.chance(gap, trial[:, cells.annotator]))
            better = reached <= value
            size = np.where(better, np.minimum(1.0, 2.0 * size), 0.25 * size)
            own, value = np.where(better, trial, own), np.where(better, reached, value)
            at = at_trial if better.all() else self.chance(gap, own[:, cells.annotator])
        return own

    def _by_lbfgs(self, theta: Floats, own: Floats, goal: float) -> tuple[Floats, Floats, int, float]:
        cells, size, shape = self.votes, len(theta), own[:, self.free].shape
        base = own.copy()
        weight = cells.won + cells.lost
        met = np.bincount(cells.first, weight, size) + np.bincount(cells.second, weight, size)
        # Parameters are in units of their rough standard errors; votes per item and annotator differ widely.
        unit = np.concatenate(
            [
                2.0 / np.sqrt(met + 2.0 * self.virtual),
                np.tile(4.0 / np.sqrt(1.0 + cells.per_annotator(weight)[self.free]), shape[0]),
            ]
        )

        def unpack(x: Floats) -> tuple[Floats, Floats]:
            scaled = x * unit
            base[:, self.free] = scaled[size:].reshape(shape)
            return scaled[:size], base

        def evaluate(x: Floats) -> tuple[float, Floats]:
            value, by_theta, by_own = self.loss(*unpack(x))
            return value, np.concatenate([by_theta, by_own[:, self.free].ravel()]) * unit

        found = minimize(
            evaluate, np.concatenate([theta, own[:, self.free].ravel()]) / unit, jac=True, method="L-BFGS-B",
            options={
                "maxiter": LBFGS_STEPS, "maxfun": 2 * LBFGS_STEPS, "maxcor": 20, "ftol": 0.0,
                "gtol": goal * float(unit.min()),
            },
        )  # fmt: skip
        theta, own = unpack(found.x)
        _, by_theta, by_own = self.loss(theta, own)
        return theta, own, int(found.nit), float(max(np.abs(by_theta).max(), np.abs(by_own).max()))

    def spread(self, theta: Floats, own: Floats, by_annotator: bool) -> Spread | None:
        """Covariances at the minimum; None if it is not one.

        Args:
            theta: shape (M + 1,).
            own: shape (q, K).
            by_annotator: S^-1 G S^-1 with G the sum over annotators of the outer products of their scores,
                instead of S^-1, the inverse of the observed information with the annotators eliminated.
        """
        size = len(theta)
        arrow = self._arrow(theta, own, observed=True)
        if arrow is None:
            return None
        inner = np.einsum("kqq->kq", arrow.inverse)
        if size - 1 > DENSE_ITEMS:
            return Spread(None, inner)
        with threads(size):
            factor = arrow.factor()
            if factor is None:
                return None
            bread = cho_solve(factor, np.eye(size) - 1.0 / size, check_finite=False)
            outer = np.empty(inner.size)
            width = max(1, 10_000_000 // size)
            for begin in range(0, inner.size, width):
                part = arrow.carried[:, begin : begin + width]
                outer[begin : begin + width] = part.multiply(bread @ part.toarray()).sum(axis=0)
            middle = bread
            if by_annotator:
                scores = self._scores(theta, own)
                carried = (scores @ bread).T
                middle = carried @ carried.T
        centre = np.eye(size - 1, size) - np.concatenate(
            [np.full((size - 1, size - 1), 1.0 / (size - 1)), np.zeros((size - 1, 1))], axis=1
        )
        return Spread(centre @ middle @ centre.T, inner + outer.reshape(inner.shape))

    def expected(self, theta: Floats, own: Floats) -> Floats:
        """The probability of each cell that its first item wins, shape (C,)."""
        return self.chance(self._gap(theta), own[:, self.votes.annotator]).first

    # -- inside --

    def _gap(self, theta: Floats) -> Floats:
        return np.asarray(theta[self.votes.first] - theta[self.votes.second])

    def _scores(self, theta: Floats, own: Floats) -> csr_array:
        """Each annotator's gradient of the log-likelihood by theta, sparse of shape (K, M + 1)."""
        cells = self.votes
        at = self.chance(self._gap(theta), own[:, cells.annotator])
        push = at.gap * (cells.won / np.maximum(at.first, TINY) - cells.lost / np.maximum(at.second, TINY))
        return _signed(push, cells.annotator, cells, (len(cells.annotators), len(theta)))

    def _arrow(self, theta: Floats, own: Floats, observed: bool) -> _Arrow | None:
        """The observed or the expected information; None if an annotator's block is not positive."""
        cells, size = self.votes, len(theta)
        gap, local = self._gap(theta), own[:, cells.annotator]
        at = self.chance(gap, local)
        first, second = np.maximum(at.first, TINY), np.maximum(at.second, TINY)
        if observed:
            bend = self.bend(gap, local)
            square = cells.won / first**2 + cells.lost / second**2
            pull = cells.lost / second - cells.won / first
            curve = square * at.gap**2 + pull * bend.gap
            mixed = square * at.gap * at.own + pull * bend.mixed
            block = cells.per_annotator(square * at.own[:, None] * at.own[None, :] + pull * bend.own)
        else:
            square = (cells.won + cells.lost) / np.maximum(first * second, TINY)
            curve, mixed = square * at.gap**2, square * at.gap * at.own
            block = cells.per_annotator(square * at.own[:, None] * at.own[None, :])
        block = np.ascontiguousarray(np.moveaxis(block, -1, 0))
        q = block.shape[1]
        _, _, stiff = self.penalty(own[:, self.free])
        free = np.flatnonzero(self.free)
        for row in range(q):
            block[free, row, row] += stiff[row] + (0.0 if observed else DAMPING)
        inverse = np.zeros_like(block)
        if len(free):
            smallest = block[free, 0, 0] if q == 1 else np.linalg.eigvalsh(block[free])[:, 0]
            if not (smallest > 0).all():
                return None
            inverse[free] = 1.0 / block[free] if q == 1 else np.linalg.inv(block[free])
        apart = expit(theta[:-1] - theta[-1])
        ridge = 2.0 * self.virtual * apart * (1.0 - apart)
        columns = (cells.annotator * q + np.arange(q)[:, None]).ravel()
        across = _signed(mixed, columns, cells, (len(cells.annotators) * q, size)).T.tocsr()
        return _Arrow(cells, curve, ridge, across, inverse)

    def _newton(self, theta: Floats, own: Floats, by_theta: Floats, by_own: Floats) -> tuple[Floats, Floats]:
        """The step to subtract from theta and phi, for their gradients."""
        for observed in (True, False):
            arrow = self._arrow(theta, own, observed)
            factor = None if arrow is None else arrow.factor()
            if arrow is not None and factor is not None:
                break
        else:
            return by_theta, by_own
        flat = by_own.T.ravel()
        right = by_theta - arrow.carried @ flat
        step = cho_solve(factor, right - right.mean(), check_finite=False)
        local = arrow.blocks @ flat - arrow.carried.T @ step
        return step, np.asarray(local).reshape(by_own.shape[::-1]).T


class _Arrow:
    """The information [[A, B], [B', D]] with D already inverted.

    Attributes:
        blocks: D^-1, sparse block diagonal of shape (K q, K q).
        carried: B D^-1, sparse of shape (M + 1, K q).
        inverse: the blocks of D^-1, shape (K, q, q).
    """

    def __init__(self, cells: Votes, curve: Floats, ridge: Floats, across: csr_array, inverse: Floats):
        self.cells, self.curve, self.ridge, self.across, self.inverse = cells, curve, ridge, across, inverse
        count = len(inverse)
        self.blocks = bsr_array((inverse, np.arange(count), np.arange(count + 1))).tocsr()
        self.carried = (across @ self.blocks).tocsc()

    def factor(self) -> tuple[Floats, bool] | None:
        """Cholesky factor of the Schur complement A - B D^-1 B', its null direction filled; None if none."""
        cells, size = self.cells, len(self.ridge) + 1
        flat = np.zeros(size * size)
        for i, j, sign in (
            (cells.first, cells.first, 1), (cells.second, cells.second, 1),
            (cells.first, cells.second, -1), (cells.second, cells.first, -1),
        ):  # fmt: skip
            flat += sign * np.bincount(i * size + j, self.curve, minlength=size * size)
        dense = flat.reshape(size, size)
        real = np.arange(size - 1)
        dense[real, real] += self.ridge
        dense[-1, -1] += self.ridge.sum()
        dense[real, -1] -= self.ridge
        dense[-1, real] -= self.ridge
        dense -= (self.carried @ self.across.T).toarray()
        # All strengths may shift together; the direction gets a curvature of its own.
        dense += float(np.abs(dense.diagonal()).mean()) / size
        try:
            lower: tuple[Floats, bool] = cho_factor(dense, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return lower


def _signed(values: Floats, rows: Ints, cells: Votes, shape: tuple[int, int]) -> csr_array:
    """Values (q, C) as a sparse matrix: in their rows, under the first item and negated under the second."""
    values = values.ravel()
    first, second = (np.tile(codes, len(values) // len(codes)) for codes in (cells.first, cells.second))
    both = (np.concatenate([rows, rows]), np.concatenate([first, second]))
    return csr_array((np.concatenate([values, -values]), both), shape=shape)
