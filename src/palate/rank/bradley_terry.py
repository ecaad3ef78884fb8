"""Bradley-Terry strengths by maximum likelihood, from aggregated counts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning, unknown
from palate.rank import connectivity
from palate.rank.base import Ranker
from palate.rank.battles import FIRST_WINS, SECOND_WINS, TIE
from palate.rank.counts import Comparisons, count
from palate.rank.information import DENSE_ITEMS, Information, laplacian, score_matrix, threads
from palate.rank.leaderboard import anchored
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-10
"""The fit ends when no item's gradient exceeds this share of the largest total weight of an item."""

MAX_ITERATIONS = 100
DRAWS = 64
"""Draws in place of the covariance beyond `DENSE_ITEMS`; a standard error from them is good to about 9 %."""


class BradleyTerry(Ranker):
    """P(i beats j) = 1 / (1 + exp(theta_j - theta_i)), fitted by Newton's method (Bradley and Terry 1952).

    Args:
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        weights: "importance", a judgment of weight w matters w times as much; "count", it stands for w equal
            judgments, as the ballots of an election profile do.
        l2: ridge; adds l2/2 * sum(theta^2) to the negative log-likelihood, in natural-log units. Positive
            values give finite strengths for any data.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating (1000 if none
            is given). Without an anchor the mean of all ratings is 1000. Intervals keep their widths.
        interval: "sandwich" is H^-1 G H^-1, right also under half ties and a misspecified model, with
            comparisons that come from one judgment summed before they are squared; "hessian" is H^-1, the
            model's own.
        level: coverage of the intervals.

    Further attributes after `fit` (see `Ranker` for the rest):
        log_likelihood_: without the ridge.
        n_iter_: Newton steps taken.
        converged_: whether the gradient reached the tolerance.
    """

    method = "bradley_terry"

    log_likelihood_: float
    n_iter_: int
    converged_: bool

    def __init__(
        self,
        ties: Literal["half", "drop"] = "half",
        both_bad: Literal["tie", "drop"] = "tie",
        weights: Literal["importance", "count"] = "importance",
        l2: float = 0.0,
        anchor: str | Mapping[str, float] | None = None,
        interval: Literal["sandwich", "hessian"] = "sandwich",
        level: float = 0.95,
    ) -> None:
        self.ties = ties
        self.both_bad = both_bad
        self.weights = weights
        self.l2 = l2
        self.anchor = anchor
        self.interval = interval
        self.level = level

    def fit(self, data: PreferenceData | Comparisons) -> Self:
        """Estimate the strengths.

        Raises:
            DataError: nothing is compared, or no finite estimate exists and l2 is 0 (the items are named).
            ConfigError: a parameter has a value that cannot be used.
        """
        self._check()
        counted = data if isinstance(data, Comparisons) else count(data, self.both_bad, self.weights)
        if self.anchor is not None and anchored(self.anchor)[0] not in counted.items:
            raise unknown("anchor", anchored(self.anchor)[0], counted.items)
        ties = counted.ties
        if self.ties == "drop":
            counted = counted.without_ties()
            if len(counted.first) == 0:
                raise DataError(
                    "every comparison is a tie", file=counted.source, remedy="count them with ties='half'"
                )
        with threads(counted.n_items):
            theta, self.n_iter_, self.converged_ = self._newton(counted)
            self.items_, self.strengths_, self.comparisons_ = counted.items, theta, counted
            self.n_comparisons_ = counted.n_comparisons
            self.log_likelihood_ = -_loss(counted, theta, 0.0)
            self._spread(counted)
        self.diagnostics_ = self._diagnose(counted, ties)
        return self

    def _check(self) -> None:
        for name, known in {"ties": ("half", "drop"), "interval": ("sandwich", "hessian")}.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; use {known[0]!r} or {known[1]!r}")
        if not (isinstance(self.l2, int | float) and 0 <= self.l2 < np.inf):
            raise ConfigError(f"l2 is {self.l2!r}; use a number of 0 or more")
        if not (isinstance(self.level, int | float) and 0 < self.level < 1):
            raise ConfigError(f"level is {self.level!r}; use a number between 0 and 1, such as 0.95")
        if self.anchor is not None:
            anchored(self.anchor)

    def _newton(self, counted: Comparisons) -> tuple[Floats, int, bool]:
        total, wins = counted.total, counted.wins
        if self.l2 == 0:
            connectivity.refuse_separated(counted)
        else:
            self._warn_apart(counted)
        scale = float(counted.per_item(total).max() + self.l2)
        theta = np.zeros(counted.n_items)
        loss = _loss(counted, theta, self.l2)
        for step_number in range(MAX_ITERATIONS + 1):
            probability = expit(theta[counted.first] - theta[counted.second])
            residual = wins - total * probability
            ascent = counted.per_item(residual, -residual) - self.l2 * theta
            steepest = float(np.abs(ascent).max())
            if steepest <= TOLERANCE * scale:
                return theta - theta.mean(), step_number, True
            if step_number == MAX_ITERATIONS:
                break
            information = Information(counted, total * probability * (1.0 - probability), self.l2)
            step = information.solve(ascent, tolerance=max(1e-12, min(0.1, steepest / scale)))
            theta, loss, moved = _search(counted, theta, step, float(ascent @ step), loss, self.l2)
            if not moved:
                break
        warnings.warn(
            f"the fit stopped after {step_number} steps with a relative gradient of {steepest / scale:.2g}; "
            "the data are close to having no finite estimate, set l2 > 0",
            PalateWarning,
            stacklevel=3,
        )
        return theta - theta.mean(), step_number, False

    def _warn_apart(self, counted: Comparisons) -> None:
        groups, labels = connectivity.met(counted)
        if groups > 1:
            warnings.warn(
                f"{connectivity.describe_groups(counted.items, groups, labels)}; "
                "strengths of different groups cannot be compared",
                PalateWarning,
                stacklevel=4,
            )

    def _spread(self, counted: Comparisons) -> None:
        """The covariance of the strengths, or draws from their error where the covariance would not fit."""
        probability = expit(self.strengths_[counted.first] - self.strengths_[counted.second])
        curvature = counted.total * probability * (1.0 - probability)
        information = Information(counted, curvature, self.l2)
        meat, scores = curvature, None
        if self.interval == "sandwich":
            meat, scores = _squared_scores(counted, probability), _clustered_scores(counted, self.strengths_)
        if counted.n_items <= DENSE_ITEMS:
            inverse = information.inverse()
            self.draws_ = None
            self.covariance_ = inverse
            if self.interval == "sandwich":
                middle = laplacian(counted, meat)
                if scores is not None:
                    middle += (scores.T @ scores).toarray()
                self.covariance_ = inverse @ middle @ inverse
            return
        normal = generator(0, "bradley_terry").standard_normal
        deviation = np.sqrt(meat)
        right = np.empty((counted.n_items, DRAWS))
        for column in range(DRAWS):
            noise = deviation * normal(len(deviation))
            right[:, column] = counted.per_item(noise, -noise)
        if scores is not None:
            right += scores.T @ normal((scores.shape[0], DRAWS))
        if self.interval == "hessian" and self.l2 > 0:
            right += np.sqrt(self.l2) * normal(right.shape)
        self.covariance_ = None
        self.draws_ = information.solve(right - right.mean(axis=0), tolerance=1e-3)

    def _diagnose(self, counted: Comparisons, ties: float) -> dict[str, Any]:
        # Without a ridge the fit has refused anything but one component.
        return {
            "components": connectivity.met(counted)[0] if self.l2 else 1,
            "strong_components": connectivity.beaten(counted)[0] if self.l2 else 1,
            "ties": ties,
            "iterations": self.n_iter_,
            "converged": self.converged_,
            "log_likelihood": self.log_likelihood_,
            "interval": self.interval,
            "l2": self.l2,
        }


def _loss(counted: Comparisons, theta: Floats, l2: float) -> float:
    """Penalised NLL: sum of w [log(1 + e^d) - y d] + l2/2 |theta|^2, with d = theta_i - theta_j."""
    gap = theta[counted.first] - theta[counted.second]
    data = np.sum(counted.total * np.logaddexp(0.0, gap) - counted.wins * gap)
    return float(data + 0.5 * l2 * theta @ theta)


def _search(
    counted: Comparisons, theta: Floats, step: Floats, slope: float, loss: float, l2: float
) -> tuple[Floats, float, bool]:
    """Halve a Newton step until the loss falls; rounding may not stop a step that is right at the minimum."""
    rounding = 1e-13 * abs(loss)
    size = 1.0
    while size > 1e-6:
        trial = theta + size * step
        reached = _loss(counted, trial, l2)
        if reached <= loss - 1e-4 * size * slope + rounding:
            return trial, reached, True
        size /= 2
    return theta, loss, False


def _squared_scores(counted: Comparisons, probability: Floats) -> Floats:
    """Sum of w^2 (y - p)^2 over the comparisons of each pair, shape (P,): the sandwich's middle by pair."""
    square = counted.square
    return np.asarray(
        square[:, FIRST_WINS] * (1.0 - probability) ** 2
        + square[:, SECOND_WINS] * probability**2
        + square[:, TIE] * (0.5 - probability) ** 2
    )


def _clustered_scores(counted: Comparisons, theta: Floats) -> csr_array | None:
    clustered = counted.clustered
    if clustered is None:
        return None
    expected = expit(theta[clustered.winner] - theta[clustered.loser])
    residual = clustered.weight * (np.where(clustered.tie, 0.5, 1.0) - expected)
    return score_matrix(clustered, residual, counted.n_items)
