"""Crowd-BT: strengths of items and reliabilities of annotators from their comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtri

from palate.data.table import PreferenceData
from palate.errors import ConfigError, unknown
from palate.rank.base import Ranker
from palate.rank.battles import Battles, battles
from palate.rank.counts import Comparisons
from palate.rank.mixture import Bend, Chance, Mixture
from palate.rank.voters import beta_penalty, check_prior, learn
from palate.rank.votes import Votes, rows_of, votes

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BISECTIONS = 25
NEWTON_STEPS = 50


@dataclass(kw_only=True, repr=False, eq=False)
class CrowdBT(Ranker):
    """P_k(i beats j) = eta_k s(d) + (1 - eta_k) s(-d), d = theta_i - theta_j (Chen et al., WSDM 2013).

    eta_k is the reliability of annotator k: 1 follows the strengths as Bradley-Terry says, 0.5 tosses a coin,
    0 votes against them. Strengths and reliabilities maximise the log-likelihood plus
    `virtual` * sum_i [log s(theta_0 - theta_i) + log s(theta_i - theta_0)], as if each item had met a virtual
    item of strength theta_0, plus the log density of a Beta prior on each eta_k. The prior also tells the
    solution from its mirror image (all strengths and reliabilities turned round), which has the same
    likelihood; both are tried.

    Strengths are those a fully reliable annotator would show, so `link` is s(d) and they spread further than
    the votes; `annotators_` says how far each annotator is from that.

    Args:
        ties: "half", a tie is half a vote for each side: its log-likelihood is half of log P + log(1 - P). A
            tie between items of different strength then counts against the annotator's reliability.
            "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        virtual: weight of the virtual item; positive, so that finite strengths exist for any data.
        prior: Beta prior of a reliability. (2.0, 1.1) is worth one vote; (10.0, 1.0) is stronger and hides
            adversaries who cast few votes.
        reliability: known reliabilities, {annotator: eta} or one number for all; the others are estimated.
            1.0 for all is Bradley-Terry with the virtual item.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating.
        interval: "hessian" inverts the observed information with the reliabilities eliminated, so that their
            uncertainty is part of the intervals; "sandwich" lets votes of one annotator depend on each other
            beyond the model (too narrow for fewer than about 30 annotators).
        level: coverage of the intervals.

    Further attributes after `fit` (see `Ranker` for the rest):
        annotators_: annotator, n (votes), reliability, standard_error (from the observed information), lower,
            upper (likelihood interval, see `likelihood_interval`) and flag: "adversarial" where the interval
            lies below 0.5, "spammer" where it has 0.5 in it but not the median reliability, "too few" where
            it has both, "" else.
        log_likelihood_: without the penalties.
        n_iter_, converged_: of the optimiser.
    """

    method = "crowd_bt"

    log_likelihood_: float = field(init=False)
    n_iter_: int = field(init=False)
    converged_: bool = field(init=False)

    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    virtual: float = 0.5
    prior: tuple[float, float] = (2.0, 1.1)
    reliability: float | Mapping[str, float] | None = None
    anchor: str | Mapping[str, float] | None = None
    interval: Literal["hessian", "sandwich"] = "hessian"
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate strengths and reliabilities.

        Raises:
            DataError: nothing is compared, or a judgment names no annotator.
            ConfigError: a parameter has a value that cannot be used, or `data` are not judgments.
        """
        self._choice("ties", ("half", "drop"))
        self._choice("interval", ("hessian", "sandwich"))
        self._number("virtual", 0, open=True)
        self._number("level", 0, 1, open=True)
        check_prior(self.prior)
        judgments = rows_of(data, self.method)
        rows = battles(judgments, self.both_bad)
        self._anchor(rows.items)
        cells = votes(judgments, rows, ties=self.ties, ordered=False)
        known = self._known(cells.annotators)
        model = CrowdModel(cells, self.virtual, (self.prior[0], self.prior[1]), np.isnan(known))
        start = np.where(np.isnan(known), 0.9, known)
        found = learn(self, model, rows, logit(start)[None, :], mirror=True)
        self.annotators_ = _report(
            cells,
            self.strengths_[cells.first] - self.strengths_[cells.second],
            expit(found.own[0]),
            found.own_errors[:, 0],
            model.free,
            self.level,
        )
        flags = self.annotators_["flag"]
        self.diagnostics_ |= {
            "prior": list(self.prior),
            "adversarial": int((flags == "adversarial").sum()),
            "spammers": int((flags == "spammer").sum()),
        }
        return self

    def _known(self, annotators: list[str]) -> Floats:
        """The known reliability of each annotator, NaN where it is to be estimated; shape (K,)."""
        given = self.reliability
        if given is None:
            return np.full(len(annotators), np.nan)
        if isinstance(given, Mapping):
            for name in given:
                if name not in annotators:
                    raise unknown("annotator in reliability", name, annotators)
            known = [given.get(name, np.nan) for name in annotators]
        else:
            known = [given] * len(annotators)
        for name, value in zip(annotators, known, strict=True):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            # NaN stands for the annotators that a mapping leaves out; nobody may give it.
            left_out = isinstance(given, Mapping) and name not in given
            if not left_out and not (number and 0 <= value <= 1):
                raise ConfigError(f"reliability of {name!r} is {value!r}; use a number between 0 and 1")
        return np.array(known, dtype=np.float64)


class CrowdModel(Mixture):
    """P = eta s(d) + (1 - eta) s(-d); the annotator's parameter is logit(eta), so q = 1."""

    def __init__(
        self, votes: Votes, virtual: float, prior: tuple[float, float], free: Bools | None = None
    ) -> None:
        super().__init__(votes, virtual, free)
        self.prior = prior

    def chance(self, gap: Floats, own: Floats) -> Chance:
        s, not_s = expit(gap), expit(-gap)
        eta, not_eta = expit(own[0]), expit(-own[0])
        return Chance(
            eta * s + not_eta * not_s,
            eta * not_s + not_eta * s,
            (eta - not_eta) * s * not_s,
            (eta * not_eta * (s - not_s))[None, :],
        )

    def bend(self, gap: Floats, own: Floats) -> Bend:
        s, not_s = expit(gap), expit(-gap)
        eta, not_eta = expit(own[0]), expit(-own[0])
        slope, change = s * not_s, eta * not_eta
        return Bend(
            (eta - not_eta) * slope * (not_s - s),
            (2.0 * change * slope)[None, :],
            (change * (not_eta - eta) * (s - not_s))[None, None, :],
        )

    def penalty(self, own: Floats) -> tuple[Floats, Floats, Floats]:
        value, slope, stiff = beta_penalty(own[0], self.prior)
        return value, slope[None, :], stiff[None, :]


def _report(
    cells: Votes, gap: Floats, reliability: Floats, errors: Floats, free: Bools, level: float
) -> pl.DataFrame:
    import polars as pl

    lower, upper = likelihood_interval(cells, gap, level)
    lower, upper = np.where(free, lower, reliability), np.where(free, upper, reliability)
    within = (lower < 0.5) & (upper >= 0.5)
    typical = float(np.median(reliability))
    flag = np.select(
        [upper < 0.5, within & (upper < typical), within], ["adversarial", "spammer", "too few"], ""
    )
    return pl.DataFrame(
        {
            "annotator": cells.annotators,
            "n": cells.n,
            "reliability": reliability,
            "standard_error": reliability * (1.0 - reliability) * errors,
            "lower": lower,
            "upper": upper,
            "flag": flag,
        }
    )


def likelihood_interval(cells: Votes, gap: Floats, level: float) -> tuple[Floats, Floats]:
    """The reliabilities that the votes of each annotator do not rule out, given the strengths; two of (K,).

    They are those whose log-likelihood, without the prior, is within chi2(level) / 2 of the largest. It is
    concave in eta, so the maximum and both ends are found for all annotators at once.

    Strengths are not known, and a wider scale of theirs looks like less reliable annotators: about 85 % of
    the 95 % intervals hold the truth with 30 votes each on 10 items.

    Args:
        cells: the votes.
        gap: difference of strengths of each cell, shape (C,).
        level: coverage, were the strengths known.
    """
    s = expit(gap)
    lean = 2.0 * s - 1.0

    def slope(eta: Floats) -> Floats:
        first = np.clip(1.0 - s + eta[cells.annotator] * lean, 1e-12, None)
        second = np.clip(s - eta[cells.annotator] * lean, 1e-12, None)
        return cells.per_annotator(lean * (cells.won / first - cells.lost / second))

    def value(eta: Floats) -> Floats:
        first = np.clip(1.0 - s + eta[cells.annotator] * lean, 1e-12, None)
        second = np.clip(s - eta[cells.annotator] * lean, 1e-12, None)
        return cells.per_annotator(cells.won * np.log(first) + cells.lost * np.log(second))

    zero, one = np.zeros(len(cells.annotators)), np.ones(len(cells.annotators))
    low, high = zero, one
    for _ in range(BISECTIONS):
        best = 0.5 * (low + high)
        rising = slope(best) > 0
        low, high = np.where(rising, best, low), np.where(rising, high, best)
    floor = value(best) - 0.5 * float(ndtri(0.5 + level / 2)) ** 2

    def end(at: Floats) -> Floats:
        # A tangent of a concave function lies above it, so Newton's steps never pass the root.
        inside = value(at) >= floor
        for _ in range(NEWTON_STEPS):
            rise = slope(at)
            step = np.divide(value(at) - floor, rise, out=np.zeros_like(at), where=rise != 0)
            moved = np.where(inside, at, np.clip(at - step, 0.0, 1.0))
            if np.abs(moved - at).max() < 1e-7:
                break
            at = moved
        return at

    return end(zero), end(one)
