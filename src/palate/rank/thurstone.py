"""Thurstone's case V: the probit sister of Bradley-Terry, with or without a threshold for ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from palate.rank.bradley_terry import decided
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import Scale
from palate.rank.links import GlennDavidTies, Link, Probit
from palate.rank.pair_ranker import PairRanker

DISCRIMINAL = Scale("discriminal deviations")


@dataclass(kw_only=True, repr=False, eq=False)
class Thurstone(PairRanker):
    """P(i beats j) = Phi((theta_i - theta_j) / sqrt 2): case V, discriminal processes of unit variance
    (Thurstone 1927).

    Strengths, and so ratings, are in standard deviations of an item's discriminal process, with mean 0.

    Args:
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out, "threshold" gives them
            a probability: a difference within the threshold t is a tie (Glenn and David 1960).

    The other parameters are those of `PairRanker`. Further attributes after `fit`:
        threshold_: t, 0 where nothing was a tie or ties have no model.
        threshold_error_: its standard error, None where it was not fitted.
    """

    method = "thurstone"

    ties: Literal["half", "drop", "threshold"] = "half"

    scale_ = DISCRIMINAL

    def _check(self) -> None:
        self._choice("ties", ("half", "drop", "threshold"))
        super()._check()

    def _model(self) -> Link:
        return GlennDavidTies() if self.ties == "threshold" else Probit()

    def _without_ties(self) -> Link:
        return Probit()

    def _prepared(self, counted: Comparisons, link: Link) -> Comparisons:
        return super()._prepared(decided(counted) if self.ties == "drop" else counted, link)

    def _diagnose(self, used: Comparisons, ties: float) -> dict[str, Any]:
        found = super()._diagnose(used, ties)
        fitted = self.link_.tie_start is not None
        self.threshold_ = self.tie_ if fitted else 0.0
        self.threshold_error_ = self.tie_error_ if fitted else None
        if self.ties == "threshold":
            found |= {"threshold": self.threshold_, "threshold_error": self.threshold_error_}
        return found
