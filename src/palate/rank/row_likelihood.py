"""The logistic likelihood of battles one by one: strengths of M items and coefficients of F features.

d_r = theta_a - theta_b + <f_r, beta>, and the loss is sum_r w_r [log(1 + e^d_r) - y_r d_r] plus ridges. The
Hessian is [[A, C], [C', B]] with A the Laplacian of the items that met, so a Newton step needs, of the N
battles, only sums over pairs: for A (P,), for C (P, F), for B (F, F).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.rank.counts import Comparisons
from palate.rank.information import Information

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

BLOCK = 1 << 14
"""Battles that are worked on at a time, so that what is computed of them stays in the processor's cache."""

TOLERANCE = 1e-6
"""The fit ends with a step that moves no log-odds by more; the next one would move them by its square."""

MAX_ITERATIONS = 60
SUSPECT = 12
"""From this step on a fit that has not ended is tested for data that have no finite estimate."""

SAMPLED = 200_000
"""From so many battles on, the fit begins at the estimate from one battle in `EVERY`."""
EVERY = 16


@dataclass(frozen=True)
class Gram:
    """sum_r v_r z_r z_r' for z = (x, f): by pair (P,), mixed (M, F) and of the features (F, F)."""

    pair: Floats
    mixed: Floats
    features: Floats


@dataclass(frozen=True)
class Slopes:
    """The loss, its derivatives and Hessian at one point."""

    loss: float
    pair: Floats
    features: Floats
    hessian: Gram


@dataclass(frozen=True)
class Estimate:
    """Where the penalised loss is least.

    Attributes:
        theta: strengths with mean 0 (exactly so where they have no ridge), shape (M,).
        beta: coefficients, shape (F,).
        log_likelihood: without the ridges.
        system: the Hessian at the estimate; None where it could not be factored.
        steps: Newton steps over all battles.
        converged: whether the last step was below `TOLERANCE`.
        direction: of strengths and coefficients, along which the likelihood grows without end; None if it
            has a maximum.
        dependent: a feature that the items and the features before it determine, and those of them that do.
    """

    theta: Floats
    beta: Floats
    log_likelihood: float
    system: System | None
    steps: int
    converged: bool
    direction: tuple[Floats, Floats] | None = None
    dependent: tuple[int, list[int]] | None = None


class Rows:
    """N battles, each turned so that its pair's first item is its first.

    Args:
        pairs: the P pairs that met.
        pair: of each battle, shape (N,).
        features: shape (F, N).
        won: what the pair's first item won: 1, 0.5 or 0, shape (N,).
        weight: shape (N,), or None where all are 1.
    """

    def __init__(
        self, pairs: Comparisons, pair: Codes, features: Floats, won: Floats, weight: Floats | None
    ) -> None:
        self.pairs, self.pair, self.features = pairs, pair, features
        self.won, self.weight = won, weight

    def __len__(self) -> int:
        return len(self.pair)

    def sample(self) -> Rows:
        """One battle in `EVERY`."""
        step = slice(None, None, EVERY)
        features = np.ascontiguousarray(self.features[:, step])
        weight = None if self.weight is None else self.weight[step]
        return Rows(self.pairs, self.pair[step], features, self.won[step], weight)

    def blocks(self) -> Iterator[slice]:
        """Parts of the battles; no fewer than there are pairs, whose sums each part adds to."""
        size = max(BLOCK, 4 * len(self.pairs.first))
        for start in range(0, len(self), size):
            yield slice(start, start + size)

    def log_odds(self, gap: Floats, beta: Floats, part: slice = slice(None)) -> Floats:
        """d for gaps of strengths of the pairs, shape (P,)."""
        found: Floats = gap[self.pair[part]]
        if len(beta):
            found += beta @ self.features[:, part]
        return found

    def slopes(self, theta: Floats, beta: Floats) -> Slopes:
        """Loss (without ridges), its negative gradient summed by pair and feature, and its Hessian."""
        gap = self.gap(theta)
        total, count = 0.0, len(gap)
        by_pair, by_feature = np.zeros(count), np.zeros(len(beta))
        gram = _Sum(self)
        for part in self.blocks():
            d = self.log_odds(gap, beta, part)
            small = np.exp(-np.abs(d))
            above = 1.0 / (1.0 + small)
            residual = self.won[part] - np.where(d >= 0, above, small * above)
            curvature = small * above * above
            loss = np.maximum(d, 0.0) - np.log(above) - self.won[part] * d
            if self.weight is not None:
                weight = self.weight[part]
                residual *= weight
                curvature *= weight
                loss *= weight
            total += float(loss.sum())
            by_pair += np.bincount(self.pair[part], residual, minlength=count)
            by_feature += self.features[:, part] @ residual
            gram.add(part, curvature)
        return Slopes(total, by_pair, by_feature, gram.result())

    def probabilities(self, theta: Floats, beta: Floats) -> Floats:
        """Probability that the pair's first item wins, shape (N,)."""
        d = self.log_odds(self.gap(theta), beta)
        small = np.exp(-np.abs(d))
        return np.asarray(np.where(d >= 0, 1.0, small) / (1.0 + small))

    def gram(self, values: Floats) -> Gram:
        """sum_r v_r z_r z_r' for values of the battles, shape (N,)."""
        gram = _Sum(self)
        for part in self.blocks():
            gram.add(part, values[part])
        return gram.result()

    def gap(self, theta: Floats) -> Floats:
        """Difference of the strengths of each pair, shape (P,)."""
        return np.asarray(theta[self.pairs.first] - theta[self.pairs.second])

    def separates(self, direction: tuple[Floats, Floats]) -> bool:
        """Whether no battle becomes less likely along a direction, and some become more so."""
        d = self.log_odds(self.gap(direction[0]), direction[1])
        gain = np.where(self.won == 0.5, -np.abs(d), (2.0 * self.won - 1.0) * d)
        return bool(gain.max() > 0 and gain.min() >= -1e-4 * gain.max())


class _Sum:
    """A `Gram` that grows block by block."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        size = len(rows.features)
        self.pair = np.zeros(len(rows.pairs.first))
        self.mixed = np.zeros((size, len(self.pair)))
        self.features = np.zeros((size, size))

    def add(self, part: slice, values: Floats) -> None:
        pair, features = self.rows.pair[part], self.rows.features[:, part]
        self.pair += np.bincount(pair, values, minlength=len(self.pair))
        weighted = features * values
        for mixed, column in zip(self.mixed, weighted, strict=True):
            mixed += np.bincount(pair, column, minlength=len(mixed))
        self.features += weighted @ features.T

    def result(self) -> Gram:
        pairs = self.rows.pairs
        mixed = np.array([pairs.per_item(row, -row) for row in self.mixed])
        return Gram(self.pair, mixed.reshape(len(self.mixed), pairs.n_items).T, self.features)


class System:
    """The Hessian with its ridges, ready to solve: A is factored once, B by its Schur complement.

    Attributes:
        through: A^-1 C, shape (M, F).
        complement: B - C' A^-1 C, shape (F, F).
    """

    def __init__(self, pairs: Comparisons, hessian: Gram, l2: float, l2_features: float) -> None:
        self.information = Information(pairs, hessian.pair, l2)
        size = hessian.mixed.shape[1]
        self.mixed = hessian.mixed
        self.through = self.information.solve(hessian.mixed) if size else hessian.mixed
        self.diagonal = np.diagonal(hessian.features) + l2_features
        self.complement = hessian.features + l2_features * np.eye(size) - hessian.mixed.T @ self.through

    def solve(self, items: Floats, features: Floats, tolerance: float = 1e-12) -> tuple[Floats, Floats]:
        """Solve for right sides (M,) or (M, B), whose columns sum to zero, and (F,) or (F, B)."""
        x = self.information.solve(items, tolerance)
        beta = np.linalg.solve(self.complement, features - self.mixed.T @ x)
        return np.asarray(x - self.through @ beta), np.asarray(beta, dtype=np.float64)

    def inverse(self) -> Floats:
        """Of strengths and coefficients, shape (M + F, M + F); only up to `DENSE_ITEMS` items."""
        corner = np.linalg.inv(self.complement)
        border = -self.through @ corner
        return np.block([[self.information.inverse() - border @ self.through.T, border], [border.T, corner]])

    def dependent(self) -> tuple[int, list[int]] | None:
        """The first feature that items and the features before it determine, and which of those do so."""
        for k in range(len(self.diagonal)):
            before = self.complement[:k, :k]
            explained = np.linalg.solve(before, self.complement[:k, k]) if k else np.zeros(0)
            left = self.complement[k, k] - self.complement[k, :k] @ explained
            if left <= 1e-9 * self.diagonal[k]:
                scaled = np.abs(explained) * np.sqrt(self.diagonal[:k] / self.diagonal[k])
                return k, [int(j) for j in np.flatnonzero(scaled > 1e-6)]
        return None


def maximise(
    rows: Rows, l2: float, l2_features: float, start: tuple[Floats, Floats] | None = None
) -> Estimate:
    """Newton's method with a halving line search.

    Args:
        rows: the battles.
        l2, l2_features: adds l2/2 |theta|^2 + l2_features/2 |beta|^2 to the loss.
        start: strengths and coefficients to begin at; None for zeros, or what a sample says.
    """
    size = rows.pairs.n_items
    reach = np.maximum(rows.features.max(axis=1, initial=0.0), -rows.features.min(axis=1, initial=0.0))
    if start is None:
        start = np.zeros(size), np.zeros(len(rows.features))
        if len(rows) >= max(SAMPLED, 100 * EVERY * size):
            # Its ridges of one battle keep a sample finite that has no estimate of its own.
            sampled = maximise(rows.sample(), l2 / EVERY + 1.0, l2_features / EVERY + 1.0, start)
            start = sampled.theta, sampled.beta
    theta, beta = start
    ridge = _ridge(theta, beta, l2, l2_features)
    here = rows.slopes(theta, beta)
    system, step = None, start
    for steps in range(1, MAX_ITERATIONS + 1):
        ascent = rows.pairs.per_item(here.pair, -here.pair) - l2 * theta
        feature_ascent = here.features - l2_features * beta
        try:
            system = System(rows.pairs, here.hessian, l2, l2_features)
            if steps == 1 and l2_features == 0 and (dependent := system.dependent()):
                return Estimate(theta, beta, -here.loss, system, 0, False, dependent=dependent)
            step = system.solve(ascent, feature_ascent)
        except np.linalg.LinAlgError:
            away = step if rows.separates(step) else None
            return Estimate(theta, beta, -here.loss, None, steps, False, away)
        moved = 2.0 * np.abs(step[0]).max() + float(reach @ np.abs(step[1]))
        if moved <= TOLERANCE:
            return Estimate(theta + step[0], beta + step[1], -here.loss, system, steps, True)
        if steps >= SUSPECT and rows.separates(step):
            return Estimate(theta, beta, -here.loss, system, steps, False, step)
        slope = float(ascent @ step[0] + feature_ascent @ step[1])
        loss, part = here.loss + ridge, 1.0
        while part > 1e-6:
            trial = theta + part * step[0], beta + part * step[1]
            there, ridge = rows.slopes(*trial), _ridge(*trial, l2, l2_features)
            # Rounding may not stop a step that is right at the minimum.
            if there.loss + ridge <= loss - 1e-4 * part * slope + 1e-13 * abs(loss):
                break
            part /= 2
        else:
            break
        (theta, beta), here = trial, there
    return Estimate(theta, beta, -here.loss, system, steps, False)


def _ridge(theta: Floats, beta: Floats, l2: float, l2_features: float) -> float:
    return 0.5 * (l2 * float(theta @ theta) + l2_features * float(beta @ beta))
