"""Agreement over arrays: Krippendorff's alpha, Cohen, Fleiss, Gwet's AC1 and Kendall's W.

Missing values are NaN, and units with fewer than two values are left out. An undefined coefficient (one value
only, nothing to compare) is NaN. Everything is computed from how often each value occurs in each unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from palate.data.codes import combine
from palate.errors import ConfigError, unknown

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEVELS = ("nominal", "ordinal", "interval", "ratio")


@dataclass(frozen=True)
class Table:
    """How often each value occurs in each unit, without the zeros.

    Attributes:
        unit, category, count: shape (entries,); the unit, the place of the value in `values`, and how often.
        values: shape (categories,), ascending.
        size: shape (units,), number of values m_u of each unit, at least 2.
    """

    unit: Ints
    category: Ints
    count: Ints
    values: Floats
    size: Ints

    @property
    def n_units(self) -> int:
        return len(self.size)

    @classmethod
    def of(cls, unit: Ints, value: Floats) -> Self:
        """From one unit code (0, 1, ...; two values or more each) and one value per judgment, shape (n,)."""
        values, category = np.unique(value, return_inverse=True)
        key, size = combine(unit, category)
        first = np.zeros(size, dtype=np.int64)
        first[key] = np.arange(len(key))
        return cls(unit[first], category[first], np.bincount(key, minlength=size), values, np.bincount(unit))

    @classmethod
    def of_matrix(cls, ratings: npt.ArrayLike) -> Self:
        """From a matrix (units, annotators) with NaN where missing; units with fewer than two values go."""
        matrix = np.asarray(ratings, dtype=np.float64)
        matrix = matrix[(~np.isnan(matrix)).sum(axis=1) >= 2]
        unit, place = np.nonzero(~np.isnan(matrix))
        return cls.of(unit.astype(np.int64), matrix[unit, place])

    @classmethod
    def of_counts(cls, counts: npt.ArrayLike) -> Self:
        """From a matrix (units, categories) of counts; units with fewer than two values go."""
        matrix = np.asarray(counts, dtype=np.int64)
        matrix = matrix[matrix.sum(axis=1) >= 2]
        unit, category = np.nonzero(matrix)
        values = np.arange(matrix.shape[1], dtype=np.float64)
        return cls(unit, category, matrix[unit, category], values, matrix.sum(axis=1))

    def per_unit(self, amounts: Floats) -> Floats:
        """Sums over each unit's entries, shape (units,)."""
        return np.asarray(np.bincount(self.unit, amounts, self.n_units), dtype=np.float64)

    def per_value(self, amounts: Floats) -> Floats:
        """Sums over each value's entries, shape (categories,)."""
        return np.asarray(np.bincount(self.category, amounts, len(self.values)), dtype=np.float64)


def krippendorff_alpha(ratings: npt.ArrayLike, level: str = "nominal") -> float:
    """Krippendorff's alpha of a matrix (units, annotators) with NaN where missing.

    alpha = 1 - D_o / D_e with D_o = sum o_ck d2_ck and D_e = sum e_ck d2_ck over coincidences o and those
    expected by chance e (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    Raises:
        ConfigError: an unknown level, or negative values at level "ratio".
    """
    table = Table.of_matrix(ratings)
    return alpha(table, level, np.ones(table.n_units))


def fleiss_kappa(counts: npt.ArrayLike) -> float:
    """Fleiss' kappa of a matrix (units, categories) of counts (Fleiss 1971).

    Units may have different numbers of annotators; then shares p_k are means of the units' shares.
    """
    table = Table.of_counts(counts)
    return fleiss(table, np.ones(table.n_units))


def gwet_ac1(counts: npt.ArrayLike) -> float:
    """Gwet's AC1 of a matrix (units, categories) of counts (Gwet 2008); an empty category counts as one."""
    table = Table.of_counts(counts)
    return ac1(table, np.ones(table.n_units))


def cohen_kappa(
    a: npt.ArrayLike, b: npt.ArrayLike, *, level: str = "nominal", weight: npt.ArrayLike | None = None
) -> float:
    """Cohen's kappa of two annotators, shape (units,) each; units with a NaN are left out (Cohen 1960, 1968).

    Disagreement counts 1 ("nominal"), the distance of the values in their order ("ordinal", linear
    weights), or the squared distance of the values ("interval", quadratic weights).

    Args:
        weight: how often each unit counts, shape (units,).

    Raises:
        ConfigError: another level.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    mass = np.ones(len(first)) if weight is None else np.asarray(weight, dtype=np.float64)
    known = ~(np.isnan(first) | np.isnan(second))
    first, second, mass = first[known], second[known], mass[known]
    values, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    if not len(values) or mass.sum() == 0:
        return float("nan")
    x, y = codes[: len(first)], codes[len(first) :]
    p = np.bincount(x, mass, len(values)) / mass.sum()
    q = np.bincount(y, mass, len(values)) / mass.sum()
    if level == "nominal":
        observed, expected = mass @ (x != y) / mass.sum(), 1.0 - p @ q
    elif level == "ordinal":
        # E|X - Y| for independent X ~ p and Y ~ q, from their cumulative shares.
        lower_p, lower_q = np.cumsum(p), np.cumsum(q)
        observed = mass @ np.abs(x - y) / mass.sum()
        expected = float((lower_p * (1 - lower_q) + lower_q * (1 - lower_p)).sum())
    elif level == "interval":
        observed = mass @ (first - second) ** 2 / mass.sum()
        expected = p @ values**2 + q @ values**2 - 2 * (p @ values) * (q @ values)
    else:
        raise unknown("level for cohen", level, ("nominal", "ordinal", "interval"))
    return float(1.0 - observed / expected) if expected > 1e-12 else float("nan")


def kendall_w(scores: npt.ArrayLike) -> float:
    """Kendall's coefficient of concordance of a matrix (annotators, items) of scores or ranks, no NaN.

    W = 12 S / (m^2 (n^3 - n) - m T) with S the squared deviations of the rank sums of n items over m
    annotators, and T the sum of t^3 - t over each annotator's groups of t tied items (Kendall and Gibbons
    1990).
    """
    matrix = np.asarray(scores, dtype=np.float64)
    m, n = matrix.shape
    item = np.tile(np.arange(n), m)
    annotator = np.repeat(np.arange(m), n)
    return float(concordance(np.zeros(m * n, dtype=np.int64), annotator, item, matrix.ravel(), 1)[0][0])


def alpha(table: Table, level: str, weights: Floats) -> float:
    """Alpha of units that count `weights` times each, shape (units,); see `krippendorff_alpha`.

    Ordinal distance is interval distance between mid-ranks: sum_{g=c..k} n_g - (n_c + n_k)/2 is the
    difference of the mid-ranks of k and c. So nominal, ordinal and interval need no coincidence matrix.
    """
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    if table.n_units == 0:
        return float("nan")
    count = table.count.astype(np.float64)
    margin = table.per_value(count * weights[table.unit])
    total = float(margin.sum())
    if np.count_nonzero(margin) < 2:
        return float("nan")
    share = weights / (table.size - 1)
    if level == "nominal":
        observed = share @ (table.size.astype(np.float64) ** 2 - table.per_unit(count**2))
        expected = total**2 - margin @ margin
    elif level == "ratio":
        return 1.0 - _ratio(table, share, margin) * (total - 1)
    else:
        x = table.values if level == "interval" else np.cumsum(margin) - margin / 2
        x = x - margin @ x / total
        each = count * x[table.category]
        squares = table.per_unit(each * x[table.category])
        observed = 2 * share @ (table.size * squares - table.per_unit(each) ** 2)
        expected = 2 * total * (margin @ x**2)
    return float(1.0 - float(observed) * (total - 1) / float(expected))


def _ratio(table: Table, share: Floats, margin: Floats) -> float:
    """Observed over expected distance, before the factor of the totals."""
    from scipy.sparse import csr_array

    values = table.values
    if values[0] < 0:
        raise ConfigError(f"the level 'ratio' needs values of 0 or more; found {values[0]:g}")
    sums = np.add.outer(values, values)
    gaps = np.subtract.outer(values, values)
    distance = np.divide(gaps, sums, out=np.zeros_like(sums), where=sums > 0) ** 2
    counts = csr_array((table.count, (table.unit, table.category)), shape=(table.n_units, len(values)))
    coincidences = counts.T @ counts.multiply(share[:, None]).tocsr()
    return float(coincidences.multiply(distance).sum() / (margin @ distance @ margin))


def percent(table: Table, weights: Floats) -> float:
    """Share of pairs of values within a unit that are equal."""
    size = table.size.astype(np.float64)
    pairs = weights @ (size * (size - 1))
    equal = weights @ table.per_unit(table.count * (table.count - 1.0))
    return float(equal / pairs) if pairs else float("nan")


def fleiss(table: Table, weights: Floats) -> float:
    """See `fleiss_kappa`; units count `weights` times each."""
    observed, shares = _shares(table, weights)
    return _beyond(observed, float(shares @ shares))


def ac1(table: Table, weights: Floats) -> float:
    """See `gwet_ac1`; units count `weights` times each."""
    observed, shares = _shares(table, weights)
    categories = len(table.values)
    if categories < 2:
        return float("nan")
    return _beyond(observed, float(shares @ (1 - shares)) / (categories - 1))


def _shares(table: Table, weights: Floats) -> tuple[float, Floats]:
    """Mean over units of their share of equal pairs, and of their share of each value."""
    size = table.size.astype(np.float64)
    equal = table.per_unit(table.count * (table.count - 1.0)) / (size * (size - 1))
    total = weights.sum()
    shares = table.per_value(table.count * (weights / size)[table.unit])
    return float(weights @ equal / total), shares / total


def _beyond(observed: float, expected: float) -> float:
    return (observed - expected) / (1 - expected) if 1 - expected > 1e-12 else float("nan")


def concordance(unit: Ints, annotator: Ints, item: Ints, score: Floats, n_units: int) -> tuple[Floats, Ints]:
    """Kendall's W of each unit, NaN where undefined, and its number of annotators; shape (units,) each.

    Defined where at least two annotators scored each of the unit's two or more items, and not all are tied.
    The four arrays hold one entry per score.
    """
    order = np.lexsort((score, annotator, unit))
    unit, annotator, item, score = unit[order], annotator[order], item[order], score[order]
    ranking, n_rankings = combine(unit, annotator)
    tie_group = np.ones(len(unit), dtype=bool)
    tie_group[1:] = (ranking[1:] != ranking[:-1]) | (score[1:] != score[:-1])
    tie = np.cumsum(tie_group) - 1
    t = np.bincount(tie).astype(np.float64) if len(tie) else np.zeros(0)
    place = np.arange(len(unit), dtype=np.float64)
    middle = (np.bincount(tie, place) / t)[tie] if len(tie) else place
    ties = np.bincount(unit[tie_group], t**3 - t, n_units)

    cell, n_cells = combine(unit, item)
    cell_unit = np.zeros(n_cells, dtype=np.int64)
    cell_unit[cell] = unit
    starts = np.zeros(n_rankings)
    starts[ranking[::-1]] = place[::-1]
    rank_sum = np.bincount(cell, middle - starts[ranking], n_cells)
    m = np.zeros(n_units, dtype=np.int64)
    ranking_unit = np.zeros(n_rankings, dtype=np.int64)
    ranking_unit[ranking] = unit
    m += np.bincount(ranking_unit, minlength=n_units)
    n = np.bincount(cell_unit, minlength=n_units)
    mean = np.bincount(cell_unit, rank_sum, n_units) / np.maximum(n, 1)
    squares = np.bincount(cell_unit, (rank_sum - mean[cell_unit]) ** 2, n_units)
    scale = m.astype(np.float64) ** 2 * (n.astype(np.float64) ** 3 - n) - m * ties
    complete = (np.bincount(unit, minlength=n_units) == m * n) & (m >= 2) & (n >= 2) & (scale > 0)
    return np.divide(12 * squares, scale, out=np.full(n_units, np.nan), where=complete), m
