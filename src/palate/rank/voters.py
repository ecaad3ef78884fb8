"""The fit that Crowd-BT and factor BT share: from a `Mixture` to a ranker's learned attributes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from palate.errors import ConfigError, PalateWarning
from palate.rank import connectivity
from palate.rank.advice import fit_of_pairs
from palate.rank.battles import Battles
from palate.rank.counts import Comparisons, count
from palate.rank.mixture import Mixture

if TYPE_CHECKING:
    from palate.rank.crowd import CrowdBT
    from palate.rank.factor import FactorBT

Floats = npt.NDArray[np.float64]


class Learned(NamedTuple):
    """The annotators' parameters (q, K) and their standard errors (K, q)."""

    own: Floats
    own_errors: Floats


def learn(
    ranker: CrowdBT | FactorBT, model: Mixture, rows: Battles, start: Floats, mirror: bool = False
) -> Learned:
    """Fit `model` and set the attributes of `ranker` that do not depend on which model it is.

    Args:
        ranker: whose attributes are set.
        model: with its votes.
        rows: the battles that the votes are.
        start: of the annotators' parameters, shape (q, K).
        mirror: whether turning all strengths and parameters round gives the same likelihood; then both are
            tried and the better is kept.
    """
    counted = count(rows)
    if ranker.ties == "drop":
        counted = counted.without_ties()
    connectivity.warn_apart(counted, stacklevel=3)
    theta, own, iterations, converged = model.fit(np.zeros(len(rows.items) + 1), start)
    mirrored = False
    if mirror and model.free.any():
        value = model.loss(theta, own)[0]
        turned = np.where(model.free, -own, own)
        # Known annotators do not turn with the others, so what the mirror image is worth shows in its fit.
        if not model.free.all() or model.loss(-theta, turned)[0] < value:
            other = model.fit(-theta, turned)
            iterations += other[2]
            if model.loss(other[0], other[1])[0] < value:
                theta, own, converged, mirrored = other[0], other[1], other[3], True
    ranker.n_iter_, ranker.converged_ = iterations, converged
    if not converged:
        warnings.warn(
            f"the fit stopped after {iterations} iterations short of the optimum; "
            "use a stronger prior or a larger virtual",
            PalateWarning,
            stacklevel=3,
        )
    ranker.items_, ranker.strengths_, ranker.comparisons_ = rows.items, theta[:-1], counted
    ranker.n_comparisons_ = counted.n_comparisons
    ranker.log_likelihood_ = model.log_likelihood(theta, own)
    spread = model.spread(theta, own, ranker.interval == "sandwich")
    ranker.covariance_ = None if spread is None else spread.strengths
    variances = np.full(own.T.shape, np.nan) if spread is None else spread.own
    if spread is None:
        warnings.warn(
            "the information matrix is not positive, so there are no intervals; "
            "use a stronger prior or a larger virtual",
            PalateWarning,
            stacklevel=3,
        )
    ranker.diagnostics_ = {
        "components": connectivity.met(counted)[0],
        "annotators": len(model.votes.annotators),
        "ties": counted.ties,
        "iterations": iterations,
        "converged": converged,
        "mirrored": mirrored,
        "log_likelihood": ranker.log_likelihood_,
        "interval": ranker.interval if ranker.covariance_ is not None else None,
        "virtual": ranker.virtual,
        "fit": fit_of_pairs(counted, _shares(model, counted, model.expected(theta, own))),
    }
    return Learned(own, np.sqrt(np.maximum(variances, 0.0)))


def _shares(model: Mixture, counted: Comparisons, expected: Floats) -> Floats:
    """What the model expects the first item of each pair to have won from the annotators who met it."""
    cells = model.votes
    pair = counted.pair_of(cells.first, cells.second)
    weight = cells.won + cells.lost
    won = np.where(cells.first < cells.second, expected, 1.0 - expected) * weight
    size = len(counted.first)
    return np.asarray(np.bincount(pair, won, minlength=size) / np.bincount(pair, weight, minlength=size))


def beta_penalty(logit: Floats, prior: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """Minus the log density of a Beta prior, up to a constant, and its derivatives by the logit; all (n,).

    The density is that of the share itself, so the penalised optimum is the posterior mode of the share.
    """
    up, down = prior[0] - 1.0, prior[1] - 1.0
    share = expit(logit)
    value = -(up * log_expit(logit) + down * log_expit(-logit))
    return value, down * share - up * (1.0 - share), (up + down) * share * (1.0 - share)


def check_prior(prior: Any) -> None:
    """Refuse a Beta prior that is not two numbers of 1 or more."""
    fine = isinstance(prior, tuple | list) and len(prior) == 2
    if not fine or not all(isinstance(v, int | float) and 1 <= v < np.inf for v in prior):
        raise ConfigError(
            f"prior is {prior!r}; use two numbers of 1 or more, such as (2.0, 1.1) for Beta(2, 1.1)"
        )
