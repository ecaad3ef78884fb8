"""The linear ordering problem: the order of n items against which the least weight of preference stands.

With margins a_ij = -a_ji (weight for i before j less weight for j before i), the cost of an order is the sum
of a_ji over the pairs that it puts in the order i, j although a_ji > 0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

UNIQUE_ITEMS = 20
"""Up to this many items a second programme decides whether the best order is the only one."""

CUTS = 2000
"""Most violated constraints added at once."""

SLACK = 1e-6
"""A constraint is violated, or a variable fractional, by more than this."""


@dataclass(frozen=True)
class Order:
    """An order of n items.

    Attributes:
        order: positions of the items, first to last, shape (n,).
        cost: weight against it.
        bound: no order costs less than this.
        unique: whether every other order costs more; None where that is not known.
    """

    order: Ints
    cost: float
    bound: float
    unique: bool | None

    @property
    def optimal(self) -> bool:
        """Whether the bound proves that no order is better."""
        return self.cost <= self.bound + 1e-9 * max(1.0, self.cost)


def cost_of(margin: Floats, order: Ints) -> float:
    """Weight against an order: the sum over its pairs of what the later one leads the earlier by."""
    return float(np.triu(np.maximum(-margin[np.ix_(order, order)], 0.0), 1).sum())


def improve(margin: Floats, order: Ints) -> Ints:
    """Move single items to their best place until no move helps; shape (n,), time n^2 a pass."""
    order = order.copy()
    moved = True
    while moved:
        moved = False
        for item in order.copy():
            place = int(np.flatnonzero(order == item)[0])
            gain = _gains(margin, order, place)
            best = int(np.argmax(gain))
            if gain[best] > 1e-9:
                order = np.insert(np.delete(order, place), best, item)
                moved = True
    return order


def _gains(margin: Floats, order: Ints, place: int) -> Floats:
    """What the cost falls by if the item at `place` moves to each place, shape (n,)."""
    lead = margin[order[place], order]
    gain = np.zeros(len(order))
    gain[:place] = np.cumsum(lead[:place][::-1])[::-1]
    gain[place + 1 :] = -np.cumsum(lead[place + 1 :])
    return gain


def solve(margin: Floats, start: Ints, exact_items: int, time_limit: float) -> Order:
    """The best order, or the best found.

    A local search from `start` gives an order; linear programmes over x_ij ("i before j"), to which violated
    circle constraints x_ij + x_jk + x_ki <= 2 are added as they turn up, give bounds that rise until they
    prove it or an integer programme gives a better one (Groetschel, Juenger and Reinelt 1984).

    Args:
        margin: antisymmetric, shape (n, n).
        start: an order, shape (n,).
        exact_items: with more items than this only the local search runs.
        time_limit: seconds after which the best order so far is returned.
    """
    size = len(start)
    order = improve(margin, start)
    found = cost_of(margin, order)
    if found == 0.0:
        # Nothing stands against it.
        return Order(order, 0.0, 0.0, unique=_no_equal_move(margin, order) or False)
    other = improve(margin, np.argsort(-margin.sum(axis=1), kind="stable"))
    if cost_of(margin, other) < found:
        order, found = other, cost_of(margin, other)
    if size > exact_items:
        return Order(order, found, 0.0, unique=None if _no_equal_move(margin, order) else False)
    programme = _Programme(margin, time.monotonic() + time_limit)
    exact, bound = programme.run(upper=found)
    if exact is not None and cost_of(margin, exact) < found:
        order, found = exact, cost_of(margin, exact)
    result = Order(order, found, min(bound, found), unique=None)
    return Order(order, found, result.bound, unique=programme.unique(order, result))


def _no_equal_move(margin: Floats, order: Ints) -> bool:
    """Whether no move of a single item leaves the cost as it is."""
    for place in range(len(order)):
        gain = _gains(margin, order, place)
        if (np.abs(np.delete(gain, place)) <= 1e-9).any():
            return False
    return True


class _Programme:
    """Linear and integer programmes of the linear ordering problem, with constraints added as needed.

    Variables are x_p for the pairs p = (i, j), i < j: 1 if i comes before j.
    """

    def __init__(self, margin: Floats, deadline: float) -> None:
        self.margin, self.deadline, self.size = margin, deadline, len(margin)
        self.i, self.j = np.triu_indices(self.size, 1)
        self.number = np.zeros((self.size, self.size), dtype=np.int64)
        self.number[self.i, self.j] = self.number[self.j, self.i] = np.arange(len(self.i))
        lead = margin[self.i, self.j]
        # cost = sum over pairs of max(lead, 0) - lead x
        self.constant, self.objective = float(np.maximum(lead, 0.0).sum()), -lead
        # Whole margins make whole costs, so that a bound within 1 of a cost proves it.
        self.step = 1.0 if (lead == np.rint(lead)).all() else 0.0
        self.rows: list[csr_array] = []
        self.upper: list[Floats] = []

    def run(self, upper: float, avoid: Ints | None = None) -> tuple[Ints | None, float]:
        """The best order (None if `upper` is proven before one turns up, or time is up) and a bound."""
        bound, whole = 0.0, False
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return None, bound
            x, value = self._relaxed(left, whole, avoid)
            bound = max(bound, value)
            if bound > upper - self.step + SLACK or bound >= upper - 1e-9 * upper:
                return None, max(bound, upper)
            if x is None:
                return None, bound
            before = np.zeros((self.size, self.size))
            before[self.i, self.j], before[self.j, self.i] = x, 1.0 - x
            if self._cut(before):
                continue
            if np.abs(x - np.rint(x)).max() <= SLACK:
                return np.argsort(-before.sum(axis=1), kind="stable"), bound
            whole = True

    def _relaxed(self, left: float, whole: bool, avoid: Ints | None) -> tuple[Floats | None, float]:
        """Solve with the constraints so far: the solution (None if time is up) and its lower bound."""
        constraints = []
        if self.rows:
            from scipy.sparse import vstack

            constraints.append(LinearConstraint(vstack(self.rows), ub=np.concatenate(self.upper)))
        if avoid is not None:
            # At least one pair the other way round: sum of agreements <= pairs - 1.
            place = np.argsort(avoid)
            same = np.where(place[self.i] < place[self.j], 1.0, -1.0)
            constraints.append(LinearConstraint(same, ub=len(same) - 1.0 - (same < 0).sum()))
        solved = milp(
            self.objective,
            integrality=np.full(len(self.i), int(whole)),
            bounds=Bounds(0.0, 1.0),
            constraints=constraints,
            options={"time_limit": left},
        )
        if solved.status == 0:
            value = solved.mip_dual_bound if whole else solved.fun
            return solved.x, self.constant + float(value)
        dual = getattr(solved, "mip_dual_bound", None) if whole else None
        return None, self.constant + float(dual) if dual is not None and np.isfinite(dual) else 0.0

    def _cut(self, before: Floats) -> bool:
        """Add the most violated circle constraints; False if none is."""
        over: list[Ints] = []
        for first in range(self.size - 2):
            # Circles first -> a -> b -> first, each counted once, from its smallest member.
            part = before[first + 1 :, first + 1 :]
            total = before[first, first + 1 :, None] + part + before[None, first + 1 :, first] - 2.0
            a, b = np.nonzero(total > SLACK)
            over.append(np.stack([np.full(len(a), first), a + first + 1, b + first + 1], axis=1))
        found = np.concatenate(over) if over else np.zeros((0, 3), dtype=np.int64)
        found = found[found[:, 1] != found[:, 2]]
        if not len(found):
            return False
        a, b, c = found.T
        excess = before[a, b] + before[b, c] + before[c, a]
        a, b, c = found[np.argsort(-excess, kind="stable")[:CUTS]].T
        row = np.arange(len(a))
        cells, right = [], np.full(len(a), 2.0)
        for source, target in ((a, b), (b, c), (c, a)):
            forward = source < target
            cells.append((np.where(forward, 1.0, -1.0), self.number[source, target]))
            right -= ~forward
        values, columns = (np.concatenate(parts) for parts in zip(*cells, strict=True))
        shape = (len(a), len(self.i))
        self.rows.append(csr_array((values, (np.tile(row, 3), columns)), shape=shape))
        self.upper.append(right)
        return True

    def unique(self, order: Ints, result: Order) -> bool | None:
        """Whether every other order costs more than this one, which costs as much as `result` says."""
        if not result.optimal:
            return None
        if not _no_equal_move(self.margin, order):
            return False
        if self.size > UNIQUE_ITEMS:
            return None
        # An order that costs no more than this one would have to be found below the next possible cost.
        other, bound = self.run(upper=result.cost + max(self.step, 1e-9 * result.cost), avoid=order)
        if other is not None:
            return cost_of(self.margin, other) > result.cost * (1 + 1e-9)
        return True if bound > result.cost * (1 + 1e-9) else None
