"""Plackett-Luce strengths by maximum likelihood, from rankings of any length."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import connectivity
from palate.rank.base import Ranker
from palate.rank.battles import Battles
from palate.rank.clusters import cluster_codes
from palate.rank.counts import Comparisons, count
from palate.rank.information import DENSE_ITEMS, Information, laplacian, score_matrix, threads
from palate.rank.leaderboard import anchored
from palate.rank.luce import TIES, Luce, Point, Ties
from palate.rank.orderings import Orderings, orderings
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOLERANCE = 1e-10
"""The fit ends when no item's gradient exceeds this share of the largest total weight of an item."""

MAX_ITERATIONS = 100
DRAWS = 64
"""Draws in place of the covariance beyond `DENSE_ITEMS`; a standard error from them is good to about 9 %."""


@dataclass(kw_only=True, repr=False, eq=False)
class PlackettLuce(Ranker):
    """P(r_1 > r_2 > ... > r_K) = prod_k exp(theta_{r_k}) / sum_{l >= k} exp(theta_{r_l}), fitted by Newton's
    method (Luce 1959, Plackett 1975).

    Rankings may be of any of the items, and may end early: a `choice` is the first factor alone, an item
    with a NaN score was not judged and is no part of the ranking. Of rankings of two it is Bradley-Terry.
    A profile that puts all items a voter did not list at the end, tied, is one of top-k rankings with
    ties="drop". Up to `information.DENSE_ITEMS` items the covariance is computed; beyond, Newton's systems
    are solved by conjugate gradients and the covariance is stood for by draws.

    Args:
        ties: how tied ranks enter (`palate.rank.luce.TIES`): "efron", m tied items are chosen one after the
            other from the mean of what is left of them; "breslow", each from all of them; "drop", tied
            items are not compared with each other. With the first two a tie of two is half a win for each;
            the first is the more accurate where many are tied.
        both_bad: whether equal scores marked "both_bad" are ties or not compared.
        weights: "importance", a judgment of weight w matters w times as much; "count", it stands for w equal
            judgments, as the ballots of an election profile do.
        l2: ridge; adds l2/2 * sum(theta^2) to the negative log-likelihood. Positive values give finite
            strengths for any data.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating (1000 if none
            is given).
        interval: "sandwich" is H^-1 G H^-1 with G the sum of the squared scores of the rankings, each a unit
            of its own; "hessian" is H^-1, the model's own.
        cluster: "annotator" or "prompt": rankings by one annotator (about one prompt) are not independent,
            and the sandwich sums their scores before it squares them. Also one label per judgment.
        level: coverage of the intervals.

    Further attributes after `fit` (see `Ranker` for the rest):
        log_likelihood_: without the ridge; tied ranks as `ties` has them.
        n_iter_: Newton steps taken.
        converged_: whether the gradient reached the tolerance.
    """

    method = "plackett_luce"

    log_likelihood_: float = field(init=False)
    n_iter_: int = field(init=False)
    converged_: bool = field(init=False)

    ties: Ties = "efron"
    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"
    l2: float = 0.0
    anchor: str | Mapping[str, float] | None = None
    interval: Literal["sandwich", "hessian"] = "sandwich"
    cluster: str | npt.ArrayLike | None = None
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons | Orderings) -> Self:
        """Estimate the strengths.

        Raises:
            DataError: nothing is compared, or no finite estimate exists and l2 is 0 (the items are named).
            ConfigError: a parameter has a value that cannot be used, or comparisons were counted from
                longer rankings.
        """
        self._check()
        rankings, clusters = self._rankings(data)
        self._anchor(rankings.items)
        counted = compared(rankings, self.ties)
        if self.l2 == 0:
            connectivity.refuse_separated(counted)
        else:
            connectivity.warn_apart(counted, stacklevel=3)
        with threads(rankings.n_items):
            model = Luce(rankings, self.ties)
            fitted = maximise(model, self.l2, _guess(counted))
            self.covariance_, self.draws_ = spread(
                model, fitted, self.l2, sandwich=self.interval == "sandwich", clusters=clusters
            )
        if not fitted.converged:
            warnings.warn(
                f"the fit stopped after {fitted.iterations} steps with a relative gradient of "
                f"{fitted.relative_gradient:.2g}; the data are close to having no finite estimate, "
                "set l2 > 0",
                PalateWarning,
                stacklevel=2,
            )
        self.items_, self.strengths_, self.n_ = rankings.items, fitted.theta, rankings.per_item()
        self.comparisons_, self.n_comparisons_ = counted, counted.n_comparisons
        self.log_likelihood_ = fitted.log_likelihood
        self.n_iter_, self.converged_ = fitted.iterations, fitted.converged
        self.diagnostics_ = {
            **described(rankings, counted),
            "components": connectivity.met(counted)[0] if self.l2 else 1,
            "strong_components": connectivity.beaten(counted)[0] if self.l2 else 1,
            "iterations": fitted.iterations,
            "converged": fitted.converged,
            "log_likelihood": fitted.log_likelihood,
            "interval": self.interval,
            "l2": self.l2,
        }
        return self

    def _check(self) -> None:
        self._choice("ties", TIES)
        self._choice("interval", ("sandwich", "hessian"))
        self._number("l2", 0.0)
        self._number("level", 0.0, 1.0, open=True)
        if self.anchor is not None:
            anchored(self.anchor)
        if self.cluster is not None and self.interval == "hessian":
            raise ConfigError("cluster needs interval='sandwich': the model's own Hessian knows no clusters")

    def _rankings(
        self, data: PreferenceData | Battles | Comparisons | Orderings
    ) -> tuple[Orderings, Ints | None]:
        """The rankings, and the cluster of each row of the data where they do not carry it themselves."""
        if self.cluster is None:
            return as_orderings(data, self.both_bad, self.weights, self.method), None
        if not isinstance(data, PreferenceData):
            raise ConfigError("cluster is known for judgments only; fit those")
        codes = cluster_codes(data, self.cluster)
        if of_two(data):
            return Orderings.from_comparisons(count(data, self.both_bad, self.weights, codes)), None
        return orderings(data, self.both_bad, self.weights), codes


def as_orderings(
    data: PreferenceData | Battles | Comparisons | Orderings,
    both_bad: Literal["tie", "drop"],
    weights: Literal["importance", "count"],
    method: str,
) -> Orderings:
    """Rankings from anything that has them; judgments of two items are counted, which is faster.

    Raises:
        DataError: see `palate.rank.orderings.orderings`.
        ConfigError: comparisons come from rankings of more than two, which they do not tell any more.
    """
    if isinstance(data, Orderings):
        return data
    if isinstance(data, PreferenceData):
        if not of_two(data):
            return orderings(data, both_bad, weights)
        return Orderings.from_comparisons(count(data, both_bad, weights))
    counted = count(data, both_bad, weights)
    if counted.clustered is not None and not (isinstance(data, Battles) and not data.shared):
        raise ConfigError(
            f"{method} needs whole rankings, and these comparisons were counted from judgments that imply "
            "several, or by cluster; fit the judgments themselves"
        )
    return Orderings.from_comparisons(counted)


def of_two(data: PreferenceData) -> bool:
    """Whether all judgments are of two alternatives."""
    return data.n_rows > 0 and bool((np.diff(data.offsets()) == 2).all())


def compared(rankings: Orderings, ties: Ties) -> Comparisons:
    """The comparisons that rankings imply, those of tied items as `ties` has them.

    Raises:
        DataError: every comparison is a tie, and ties are dropped.
    """
    counted = rankings.comparisons()
    if ties != "drop":
        return counted
    decided = counted.without_ties()
    if len(decided.first) == 0:
        raise DataError(
            "every comparison is a tie", file=counted.source, remedy="count them with ties='efron'"
        )
    return decided


def described(rankings: Orderings, counted: Comparisons) -> dict[str, Any]:
    """What there is to say about rankings, whatever is fitted to them."""
    lengths = np.diff(rankings.offsets)
    return {
        "rankings": rankings.n_judgments,
        "distinct_rankings": len(rankings),
        "longest_ranking": int(lengths.max()),
        "ties": counted.ties,
    }


@dataclass(frozen=True)
class Fit:
    """Strengths with mean 0, shape (M,), what rankings say at them, and how they were found."""

    theta: Floats
    point: Point
    log_likelihood: float
    iterations: int
    relative_gradient: float

    @property
    def converged(self) -> bool:
        return self.relative_gradient <= TOLERANCE


def maximise(model: Luce, l2: float, start: Floats | None = None, steps: int = MAX_ITERATIONS) -> Fit:
    """Strengths of highest (ridge-penalised) likelihood, by Newton's method with step halving.

    Args:
        model: rankings whose graph of wins is strongly connected, or l2 > 0.
        l2: ridge.
        start: strengths to begin at, shape (M,); 0 if left out.
        steps: most Newton steps; with 0 it is judged at `start`.
    """
    theta = np.zeros(model.rankings.n_items) if start is None else start - start.mean()
    point = model.at(theta, l2)
    step_number = 0
    while True:
        steepest = float(np.abs(point.gradient).max()) / model.largest
        if steepest <= TOLERANCE or step_number == steps:
            break
        step_number += 1
        step = -Information(model.graph, point.curvature, l2).solve(point.gradient, tolerance=1e-6)
        found = _search(model, theta, step, point, l2)
        if found is None:
            break
        theta, point = found
    likelihood = 0.5 * l2 * float(theta @ theta) - point.loss
    return Fit(theta - theta.mean(), point, likelihood, step_number, steepest)


def _guess(counted: Comparisons) -> Floats:
    """Log odds of each item against all it met: near enough to save Newton's method a step or two."""
    won = counted.per_item(counted.wins, counted.total - counted.wins)
    met = counted.per_item(counted.total)
    return np.asarray(np.log((won + 0.5) / (met - won + 0.5)))


def _search(model: Luce, theta: Floats, step: Floats, point: Point, l2: float) -> tuple[Floats, Point] | None:
    """Halve a Newton step until the loss falls; rounding may not stop a step that is right at the minimum."""
    slope, rounding = float(step @ point.gradient), 1e-13 * abs(point.loss)
    size = 1.0
    while size > 1e-6:
        trial = theta + size * step
        reached = model.at(trial, l2)
        if reached.loss <= point.loss + 1e-4 * size * slope + rounding:
            return trial, reached
        size /= 2
    return None


def spread(
    model: Luce, fitted: Fit, l2: float, *, sandwich: bool, clusters: Ints | None = None
) -> tuple[Floats | None, Floats | None]:
    """The covariance of the strengths, (M, M), or draws of their error, (M, DRAWS), where that is too large.

    Args:
        model: the rankings of the fit.
        fitted: the fit.
        l2: its ridge.
        sandwich: H^-1 G H^-1, else H^-1.
        clusters: cluster of each row of the data, -1 for one of its own; rankings are independent if left
            out.
    """
    rankings, curvature, score = model.rankings, fitted.point.curvature, fitted.point.score
    information = Information(model.graph, curvature, l2)
    summed = _cluster_scores(model, fitted, clusters) if sandwich else None
    if rankings.n_items <= DENSE_ITEMS:
        inverse = information.inverse()
        if not sandwich:
            return inverse, None
        middle = laplacian(
            model.graph, model.squares(score) if clusters is None else np.zeros_like(curvature)
        )
        if summed is not None:
            middle += (summed.T @ summed).toarray()
        return inverse @ middle @ inverse, None
    normal = generator(0, "plackett_luce").standard_normal
    right = np.zeros((rankings.n_items, DRAWS))
    if not sandwich:
        deviation = np.sqrt(curvature)
        for column in range(DRAWS):
            noise = deviation * normal(len(deviation))
            right[:, column] = model.graph.per_item(noise, -noise)
        right += np.sqrt(l2) * normal(right.shape)
    elif clusters is None:
        root = np.sqrt(rankings.square)
        right += model.scores(score).T @ (root[:, None] * normal((len(rankings), DRAWS)))
    if summed is not None:
        right += summed.T @ normal((summed.shape[0], DRAWS))
    return None, information.solve(right - right.mean(axis=0), tolerance=1e-3)


def _cluster_scores(model: Luce, fitted: Fit, clusters: Ints | None) -> csr_array | None:
    """The score of each cluster, sparse of shape (clusters, M); None where there are none."""
    rankings = model.rankings
    if clusters is not None:
        group = clusters[rankings.judgment]
        group = np.where(group < 0, group.max(initial=-1) + 1 + np.arange(len(group)), group)
        group = np.unique(group, return_inverse=True)[1]
        times = csr_array(
            (rankings.importance, (group, rankings.ordering)), shape=(int(group.max()) + 1, len(rankings))
        )
        return (times @ model.scores(fitted.point.score)).tocsr()
    clustered = rankings.clustered
    if clustered is None:
        return None
    expected = expit(fitted.theta[clustered.winner] - fitted.theta[clustered.loser])
    won = np.where(clustered.tie, expected if model.ties == "drop" else 0.5, 1.0)
    residual = clustered.weight * (won - expected)
    return score_matrix(clustered, residual, rankings.n_items)
