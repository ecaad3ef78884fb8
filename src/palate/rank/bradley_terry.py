"""Bradley-Terry strengths by maximum likelihood, from aggregated counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palate.errors import DataError
from palate.rank.counts import Comparisons
from palate.rank.links import Link, Logistic
from palate.rank.pair_ranker import PairRanker


@dataclass(kw_only=True, repr=False, eq=False)
class BradleyTerry(PairRanker):
    """P(i beats j) = 1 / (1 + exp(theta_j - theta_i)), fitted by Newton's method (Bradley and Terry 1952).

    Args:
        ties: "half" counts a tie as half a win for each side, "drop" leaves ties out. Models of ties are
            `RaoKupper` and `Davidson`.

    The other parameters, and what is learned, are those of `PairRanker`.
    """

    method = "bradley_terry"

    ties: Literal["half", "drop"] = "half"

    def _check(self) -> None:
        self._choice("ties", ("half", "drop"))
        super()._check()

    def _model(self) -> Link:
        return Logistic()

    def _prepared(self, counted: Comparisons, link: Link) -> Comparisons:
        return super()._prepared(decided(counted) if self.ties == "drop" else counted, link)


def decided(counted: Comparisons) -> Comparisons:
    """The comparisons without their ties.

    Raises:
        DataError: every comparison is a tie.
    """
    kept = counted.without_ties()
    if len(kept.first) == 0:
        raise DataError(
            "every comparison is a tie", file=counted.source, remedy="count them with ties='half'"
        )
    return kept
