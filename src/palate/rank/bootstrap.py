"""Bootstrap of a pair model from aggregated counts: no replicate goes back to the judgments.

Resampling N independent judgments gives each distinct outcome of each pair a random count, which is drawn
directly: Poisson with the observed count as mean (the Poisson bootstrap; given their sum such counts are the
multinomial ones). Clusters (users, prompts, rankings) are resampled as a whole. Each replicate is refitted
with the inverse Hessian of the estimate, which converges in a few steps that cost one pass over the pairs.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from palate.errors import ConfigError
from palate.rank import connectivity
from palate.rank.battles import TIE
from palate.rank.counts import Comparisons
from palate.rank.information import DENSE_ITEMS
from palate.rank.likelihood import Bordered, Maximum, maximise
from palate.rank.links import Link, Logistic
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

STEPS = 30
"""Steps with the common Hessian before a replicate gets Newton steps of its own."""

CLOSE = 1e-7
"""A replicate is fitted when no gradient exceeds this share of the largest weight of an item."""

RIDGE = 0.01
"""Ridge of a replicate that has no finite maximum of its own (some item lost all its defeats)."""

_BLOCK = 1 << 19  # weights drawn together, so that they stay in the processor's cache


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates of the estimate.

    Attributes:
        theta: strengths of each replicate, shape (M, B).
        tie: tie parameter of each, shape (B,).
        degenerate: how many had no finite maximum and were fitted with a ridge of `RIDGE`.
    """

    theta: Floats
    tie: Floats
    degenerate: int


def bootstrap(
    counted: Comparisons, link: Link, fitted: Maximum, l2: float, replicates: int, seed: int
) -> Replicates:
    """Refit the model to resampled comparisons.

    Raises:
        ConfigError: there are more than `DENSE_ITEMS` items.
    """
    if counted.n_items > DENSE_ITEMS:
        raise ConfigError(
            f"bootstrap intervals need at most {DENSE_ITEMS} items; use interval='sandwich' for "
            f"{counted.n_items:,}"
        )
    draw = _Resampler(counted, replicates, seed)
    block = max(1, min(-(-replicates // 8), _BLOCK // (3 * len(counted.first))))
    theta, tie = np.empty((replicates, counted.n_items)), np.full(replicates, fitted.tie)
    done = np.zeros(replicates, dtype=bool)
    gap = fitted.theta[counted.first] - fitted.theta[counted.second]
    system = Bordered(counted, link.at(link.prepare(counted.weight), gap, fitted.tie), l2)
    inverse = system.inverse()[0]

    def run(begin: int) -> int:
        part = slice(begin, min(begin + block, replicates))
        weight = draw(begin, part.stop - begin)
        if isinstance(link, Logistic):
            _refit_logistic(counted, weight, fitted, inverse, l2, theta[part], done[part])
        else:
            _refit(counted, link, weight, fitted, system, l2, theta[part], tie[part], done[part])
        lost = 0
        for b in np.flatnonzero(~done[part]):
            alone, finite = _refit_alone(counted, link, weight[b], fitted, l2)
            theta[begin + b], tie[begin + b] = alone.theta, alone.tie
            lost += not finite
        return lost

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        degenerate = sum(pool.map(run, range(0, replicates, block)))
    theta -= theta.mean(axis=1, keepdims=True)
    return Replicates(np.ascontiguousarray(theta.T), tie, degenerate)


class _Resampler:
    """Weights of replicates, shape (B, P, 3). The same replicate comes out however many are drawn at once."""

    def __init__(self, counted: Comparisons, replicates: int, seed: int) -> None:
        from palate.rank import _bootstrap_kernels as kernels

        self.kernels = kernels
        clustered = counted.clustered
        alone = counted.weight if clustered is None else _unclustered(counted)
        self.shape = (len(counted.first), 3)
        weight, square = alone.ravel(), counted.square.ravel()
        cells = weight > 0
        # Weights that differ within a cell: a scaled Poisson with the same mean and variance.
        self.scale = np.divide(square, weight, out=np.ones_like(weight), where=cells)
        means, which = np.unique(weight[cells] / self.scale[cells], return_inverse=True)
        self.which = np.full(len(weight), -1, dtype=np.int32)
        self.which[cells] = which
        self.tables = kernels.poisson_tables(means)
        self.matrix: csr_array | None = None
        if clustered is not None:
            pair = counted.pair_of(clustered.winner, clustered.loser)
            first = clustered.winner == counted.first[pair]
            cell = 3 * pair + np.where(clustered.tie, TIE, np.where(first, 0, 1))
            shape = (3 * len(counted.first), clustered.n_clusters)
            self.matrix = csr_array((clustered.weight, (cell, clustered.cluster)), shape=shape)
        self.seed = seed
        self.seeds = generator(seed, "bootstrap").integers(0, 2**63, replicates, dtype=np.uint64)

    def __call__(self, begin: int, n: int) -> Floats:
        weight = np.empty((n, self.shape[0] * 3))
        self.kernels.draw_cells(self.which, self.scale, *self.tables, self.seeds[begin : begin + n], weight)
        if self.matrix is not None:
            clusters = self.matrix.shape[1]
            times = np.empty((clusters, n))
            for b in range(n):
                rng = generator(self.seed, "bootstrap clusters", begin + b)
                times[:, b] = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
            weight += (self.matrix @ times).T
        return weight.reshape(n, *self.shape)


def _unclustered(counted: Comparisons) -> Floats:
    """Weight of the comparisons that are in no cluster, shape (P, 3)."""
    clustered = counted.clustered
    assert clustered is not None
    pair = counted.pair_of(clustered.winner, clustered.loser)
    first = clustered.winner == counted.first[pair]
    cell = 3 * pair + np.where(clustered.tie, TIE, np.where(first, 0, 1))
    inside = np.bincount(cell, clustered.weight, minlength=counted.weight.size)
    alone = counted.weight - inside.reshape(counted.weight.shape)
    # What is left after a subtraction of equal sums is rounding; those cells have no squares of their own.
    return np.where(counted.square > 0, alone, 0.0)


def _refit_logistic(
    counted: Comparisons,
    weight: Floats,
    fitted: Maximum,
    inverse: Floats,
    l2: float,
    theta: Floats,
    done: npt.NDArray[np.bool_],
) -> None:
    from palate.rank import _bootstrap_kernels as kernels

    kernels.refit_logistic(
        counted.first,
        counted.second,
        weight,
        fitted.theta,
        inverse,
        l2,
        CLOSE,
        STEPS,
        theta,
        done,
    )


def _refit(
    counted: Comparisons,
    link: Link,
    weight: Floats,
    fitted: Maximum,
    system: Bordered,
    l2: float,
    theta: Floats,
    tie: Floats,
    done: npt.NDArray[np.bool_],
) -> None:
    """As `_refit_logistic` for any link, all replicates at once."""
    theta[:] = fitted.theta
    n, pairs = weight.shape[:2]
    incidence = csr_array(
        (
            np.repeat([1.0, -1.0], pairs),
            (np.concatenate([counted.first, counted.second]), np.tile(np.arange(pairs), 2)),
        ),
        shape=(counted.n_items, pairs),
    )
    goal = CLOSE * ((abs(incidence) @ weight.sum(axis=2).T).max(axis=0) + l2)
    for _ in range(STEPS):
        gap = theta[:, counted.first] - theta[:, counted.second]
        slope, tie_slope = np.empty((n, pairs)), np.zeros(n)
        for b in range(n):
            sums = link.at(link.prepare(weight[b]), gap[b], float(tie[b]))
            slope[b] = sums.slope
            tie_slope[b] = 0.0 if sums.tie_slope is None else sums.tie_slope.sum()
        ascent = incidence @ slope.T - l2 * theta.T
        done[:] = np.maximum(np.abs(ascent).max(axis=0), np.abs(tie_slope)) <= goal
        if done.all():
            return
        step, tie_step = system.solve(ascent - ascent.mean(axis=0), tie_slope)
        moved = tie + tie_step
        if link.tie_start is not None and not all(link.allows(float(t)) for t in moved):
            moved = np.where([link.allows(float(t)) for t in moved], moved, tie / 2)
        theta[~done] += step.T[~done]
        tie[~done] = moved[~done]


def _refit_alone(
    counted: Comparisons, link: Link, weight: Floats, fitted: Maximum, l2: float
) -> tuple[Maximum, bool]:
    """Newton's method on one replicate, and whether it had a finite maximum."""
    resampled = replace(counted, weight=weight, clustered=None)
    finite = l2 > 0 or (
        connectivity.beaten(resampled)[0] == 1
        and (link.tie_start is None or connectivity.ties_bound(resampled))
    )
    return maximise(resampled, link, l2 if finite else RIDGE, (fitted.theta, fitted.tie)), finite
