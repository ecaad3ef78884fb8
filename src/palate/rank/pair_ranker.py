"""What Bradley-Terry, Rao-Kupper, Davidson and Thurstone share: everything but the link."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import connectivity
from palate.rank.battles import TIE, Battles
from palate.rank.bootstrap import bootstrap
from palate.rank.clusters import cluster_codes
from palate.rank.counts import Comparisons, count
from palate.rank.incremental import Incremental
from palate.rank.information import threads
from palate.rank.leaderboard import anchored
from palate.rank.likelihood import Maximum, Spread, maximise, spread
from palate.rank.links import Link

Floats = npt.NDArray[np.float64]

PAIR_ENOUGH = 50
"""`reweight="pair"` gives pairs compared at least this often equal weight; rarer ones stay lighter."""


@dataclass(kw_only=True, repr=False, eq=False)
class PairRanker(Incremental):
    """A model in which the outcome of a comparison depends on the difference of two strengths.

    Args:
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        weights: "importance", a judgment of weight w matters w times as much; "count", it stands for w equal
            judgments, as the ballots of an election profile do.
        reweight: "pair" weighs each comparison by 1 / max(n, 50), n being how often its pair was compared,
            scaled to mean 1, so that pairs the schedule favours do not dominate.
        l2: ridge; adds l2/2 * sum(theta^2) to the negative log-likelihood, in units of the strengths.
            Positive values give finite strengths for any data.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating (1000 if none
            is given). Without an anchor the mean of all ratings is 1000. Intervals keep their widths.
        interval: "sandwich" is H^-1 G H^-1, right also under half ties and a misspecified model, with
            comparisons that come from one judgment summed before they are squared; "hessian" is H^-1, the
            model's own; "bootstrap" takes quantiles of refits to resampled judgments.
        cluster: "annotator" or "prompt": judgments of one annotator (about one prompt) are not independent,
            and the sandwich sums their scores before it squares them, the bootstrap resamples them together.
            Also one label per judgment.
        level: coverage of the intervals.
        replicates: number of bootstrap replicates; 1000 give stable 95 % bounds.
        seed: of the bootstrap.

    Further attributes after `fit` (see `Ranker` for the rest):
        log_likelihood_: without the ridge.
        n_iter_: Newton steps taken.
        converged_: whether the gradient reached the tolerance.
    """

    both_bad: Literal["tie", "drop"] = "tie"
    weights: Literal["importance", "count"] = "importance"
    reweight: Literal["pair"] | None = None
    l2: float = 0.0
    anchor: str | Mapping[str, float] | None = None
    interval: Literal["sandwich", "hessian", "bootstrap"] = "sandwich"
    cluster: str | npt.ArrayLike | None = None
    level: float = 0.95
    replicates: int = 1000
    seed: int = 0

    @abstractmethod
    def _model(self) -> Link:
        """The link that the parameters name."""

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate the strengths.

        Raises:
            DataError: nothing is compared, or no finite estimate exists and l2 is 0 (the items are named).
            ConfigError: a parameter has a value that cannot be used.
        """
        self._check()
        return self._fit(self._counted(data))

    def _check(self) -> None:
        self._choice("interval", ("sandwich", "hessian", "bootstrap"))
        self._number("replicates", 2, whole=True)
        if self.reweight is not None:
            self._choice("reweight", ("pair",))
        self._number("l2", 0.0)
        self._number("level", 0.0, 1.0, open=True)
        if self.anchor is not None:
            anchored(self.anchor)
        if self.cluster is not None and self.interval == "hessian":
            raise ConfigError("cluster needs interval='sandwich' or 'bootstrap', not the Hessian")

    def _counted(self, data: PreferenceData | Battles | Comparisons) -> Comparisons:
        if self.cluster is None:
            return count(data, self.both_bad, self.weights)
        if isinstance(data, Comparisons):
            raise ConfigError("cluster is not known for counted comparisons; give it to `count`")
        if isinstance(data, Battles):
            raise ConfigError("cluster is not known for battles; give it to `count`, or fit judgments")
        return count(data, self.both_bad, self.weights, cluster_codes(data, self.cluster))

    def _fit(self, counted: Comparisons, start: tuple[Floats, float] | None = None) -> Self:
        """Learn from counts, beginning at the strengths and tie parameter of an earlier fit if given."""
        self._anchor(counted.items)
        link, ties = self._model(), counted.ties
        used = self._prepared(counted, link)
        self.comparisons_, self.n_comparisons_ = used, used.n_comparisons
        if link.tie_start is not None and not used.weight[:, TIE].any():
            link = self._without_ties()
        with threads(used.n_items):
            fitted = maximise(used, link, self.l2, start)
            found, degenerate = self._uncertainty(used, link, fitted)
        if not fitted.converged:
            warnings.warn(
                f"the fit stopped after {fitted.iterations} steps with a relative gradient of "
                f"{fitted.relative_gradient:.2g}; the data are close to having no finite estimate, "
                "set l2 > 0",
                PalateWarning,
                stacklevel=3,
            )
        self.items_, self.strengths_, self.tie_ = used.items, fitted.theta, fitted.tie
        self.counted_ = counted
        self.covariance_, self.draws_, self.tie_error_ = found.covariance, found.draws, found.tie_error
        self.log_likelihood_, self.n_iter_ = fitted.log_likelihood, fitted.iterations
        self.converged_, self.link_ = fitted.converged, link
        self.bounds_ = None
        self.diagnostics_ = self._diagnose(used, ties)
        if self.interval == "bootstrap" and found.draws is not None:
            outside = (1.0 - self.level) / 2.0
            bounds = np.quantile(found.draws, [outside, 1.0 - outside], axis=1).T
            self.bounds_ = fitted.theta[:, None] + bounds
            self.diagnostics_ |= {"replicates": self.replicates, "degenerate_replicates": degenerate}
        return self

    def _start(self, counted: Comparisons) -> tuple[Floats, float]:
        """The last strengths, new items being average, and the last tie parameter if there was one."""
        theta = np.zeros(counted.n_items)
        theta[: len(self.strengths_)] = self.strengths_
        if self.link_.tie_start is None:
            return theta, self._model().tie_start or 0.0
        return theta, self.tie_

    def _uncertainty(self, used: Comparisons, link: Link, fitted: Maximum) -> tuple[Spread, int]:
        """The uncertainty, and how many bootstrap replicates had no finite estimate."""
        if self.interval != "bootstrap":
            return spread(used, link, fitted, self.l2, sandwich=self.interval == "sandwich"), 0
        drawn = bootstrap(used, link, fitted, self.l2, int(self.replicates), self.seed)
        tie_error = float(drawn.tie.std()) if link.tie_start is not None else None
        return Spread(None, drawn.theta - fitted.theta[:, None], tie_error), drawn.degenerate

    def _prepared(self, counted: Comparisons, link: Link) -> Comparisons:
        """The comparisons as the model uses them; refuse those that have no finite estimate."""
        if self.reweight == "pair":
            n = counted.count.sum(axis=1)
            factor = 1.0 / np.maximum(n, PAIR_ENOUGH)
            counted = counted.scaled(factor * n.sum() / (n @ factor))
        if link.tie_start is not None and not counted.weight[:, :TIE].any():
            raise DataError(
                "every comparison is a tie", file=counted.source,
                remedy="the method 'bradley_terry' counts them as half wins",
            )  # fmt: skip
        if self.l2 == 0:
            connectivity.refuse_separated(counted)
            if link.tie_start is not None:
                connectivity.refuse_separated_by_ties(counted)
            return counted
        connectivity.warn_apart(counted, stacklevel=4)
        return counted

    def _without_ties(self) -> Link:
        """The model that is left where no comparison is a tie; another one for models of ties."""
        return self._model()

    def link(self, difference: Any) -> Any:
        """Expected share of wins, a tie being half, for a difference of strengths."""
        return self.link_.share(np.asarray(difference, dtype=np.float64), self.tie_)

    def _diagnose(self, used: Comparisons, ties: float) -> dict[str, Any]:
        # Without a ridge the fit has refused anything but one component.
        return {
            "components": connectivity.met(used)[0] if self.l2 else 1,
            "strong_components": connectivity.beaten(used)[0] if self.l2 else 1,
            "ties": ties,
            "iterations": self.n_iter_,
            "converged": self.converged_,
            "log_likelihood": self.log_likelihood_,
            "interval": self.interval,
            "l2": self.l2,
        }
