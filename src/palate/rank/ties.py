"""Bradley-Terry models that give a tie a probability of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from palate.rank.counts import Comparisons
from palate.rank.links import DavidsonTies, Link, Logistic, RaoKupperTies
from palate.rank.pair_ranker import PairRanker


@dataclass(kw_only=True, repr=False, eq=False)
class Davidson(PairRanker):
    """P(i beats j) : P(j beats i) : P(tie) = p_i : p_j : nu sqrt(p_i p_j), p = exp(theta) (Davidson 1970).

    Strengths and nu are fitted together. Newman's iteration, as some libraries name it, has the same maximum
    with its tie parameter v = nu / 2. Parameters are those of `PairRanker`.

    Further attributes after `fit`:
        nu_: the tie parameter, 0 where nothing was a tie; two equal items tie with probability nu / (2 + nu).
        nu_error_: its standard error, None where nothing was a tie.
    """

    method = "davidson"

    def _model(self) -> Link:
        return DavidsonTies()

    def _without_ties(self) -> Link:
        return Logistic()

    def _diagnose(self, used: Comparisons, ties: float) -> dict[str, Any]:
        tied = self.link_.tie_start is not None
        self.nu_ = math.exp(self.tie_) if tied else 0.0
        self.nu_error_ = self.nu_ * self.tie_error_ if tied and self.tie_error_ is not None else None
        return super()._diagnose(used, ties) | {"nu": self.nu_, "nu_error": self.nu_error_}


@dataclass(kw_only=True, repr=False, eq=False)
class RaoKupper(PairRanker):
    """P(i beats j) = p_i / (p_i + eta p_j), P(tie) = what is left, p = exp(theta) (Rao and Kupper 1967).

    A difference of latent utilities below log eta is a tie. Strengths and eta are fitted together. Parameters
    are those of `PairRanker`.

    Further attributes after `fit`:
        eta_: the tie parameter, at least 1, and 1 where nothing was a tie.
        eta_error_: its standard error, None where nothing was a tie.
    """

    method = "rao_kupper"

    def _model(self) -> Link:
        return RaoKupperTies()

    def _without_ties(self) -> Link:
        return Logistic()

    def _diagnose(self, used: Comparisons, ties: float) -> dict[str, Any]:
        tied = self.link_.tie_start is not None
        self.eta_ = math.exp(self.tie_) if tied else 1.0
        self.eta_error_ = self.eta_ * self.tie_error_ if tied and self.tie_error_ is not None else None
        return super()._diagnose(used, ties) | {"eta": self.eta_, "eta_error": self.eta_error_}
