"""What all ranking methods share: parameters, the learned attributes, and the way to a `Leaderboard`."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from palate.data.table import PreferenceData
from palate.errors import ConfigError, unknown
from palate.rank.battles import Battles
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import LOG_ODDS, Leaderboard, Scale, anchored

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Ranker(ABC):
    """A method that learns the strengths of items.

    The constructor stores its parameters and nothing else; `fit` checks them and learns the attributes that
    end in an underscore.

    Attributes:
        items_: names of the M items.
        strengths_: strengths with mean 0, shape (M,); natural-log where the method is a model of comparisons.
        covariance_: their covariance, shape (M, M); None where the method has none or it would not fit in
            memory.
        draws_: draws of the strengths' error, shape (M, draws), where those stand in for the covariance.
        bounds_: lower and upper bound of each strength, shape (M, 2), where intervals are not symmetric.
        comparisons_: the aggregated comparisons of the fit; None where the method is not based on any.
        n_comparisons_: how many there were.
        diagnostics_: what the fit says about itself, for `Leaderboard.diagnostics`.
        scale_: how strengths are shown as ratings.
        n_: judgments per item, shape (M,), where comparisons do not say it.
        log_odds_: of the first against the second item of pairs, given by their codes, where they are no
            differences of strengths.
        coefficients_: effects of covariates, one row each (feature, coefficient, standard_error, lower,
            upper, p), where the method has any.
        annotators_: one row per annotator (annotator, n, ...), where the method models them.
    """

    method: ClassVar[str]
    level: float = 0.95
    anchor: str | Mapping[str, float] | None = None

    items_: list[str]
    strengths_: Floats
    covariance_: Floats | None = None
    draws_: Floats | None = None
    bounds_: Floats | None = None
    comparisons_: Comparisons | None = None
    n_comparisons_: int = 0
    diagnostics_: dict[str, Any]
    scale_: Scale = LOG_ODDS
    n_: Ints | None = None
    log_odds_: Callable[[Ints, Ints], Floats] | None = None
    coefficients_: pl.DataFrame | None = None
    annotators_: pl.DataFrame | None = None

    def link(self, difference: Any) -> Any:
        """Probability to win (a tie being half) for a difference of strengths, of any shape.

        A method that predicts none sets `link = None`.
        """
        return expit(difference)

    @abstractmethod
    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Learn strengths from judgments, or from comparisons that were counted before."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters and their values."""
        return {name: getattr(self, name) for name in self.parameters()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; what was learned stays until the next `fit`."""
        for name, value in params.items():
            if name not in self.parameters():
                raise unknown(f"option of {self.method}", name, self.parameters())
            setattr(self, name, value)
        return self

    @classmethod
    def parameters(cls) -> list[str]:
        """Names of the constructor's parameters."""
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def leaderboard(self) -> Leaderboard:
        """The fitted strengths as a `Leaderboard`."""
        return Leaderboard(
            method=self.method,
            items=self.items_,
            theta=self.strengths_,
            covariance=self.covariance_,
            draws=self.draws_,
            bounds=self.bounds_,
            comparisons=self.comparisons_,
            fit_diagnostics=self.diagnostics_,
            level=self.level,
            anchor=self.anchor,
            link=self.link,
            scale=self.scale_,
            n=self.n_,
            log_odds=self.log_odds_,
            coefficients=self.coefficients_,
            annotators=self.annotators_,
        )

    # -- checks that several methods make --

    def _choice(self, name: str, known: Sequence[str]) -> None:
        """Refuse a parameter whose value is not one of `known`."""
        if getattr(self, name) not in known:
            raise ConfigError(f"{name} is {getattr(self, name)!r}; use {' or '.join(map(repr, known))}")

    def _number(
        self, name: str, low: float, high: float = np.inf, *, open: bool = False, whole: bool = False
    ) -> None:
        """Refuse a parameter that is no number in [low, high], or in (low, high) if `open`."""
        value = getattr(self, name)
        kind = int | np.integer if whole else int | float | np.number
        number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not (low < value < high if open else low <= value <= high):
            if high < np.inf:
                within = f"number between {low:g} and {high:g}{', ends excluded' if open else ''}"
            elif low == -np.inf:
                within = "finite number"
            else:
                within = f"number {'above' if open else 'of'} {low:g}{'' if open else ' or more'}"
            raise ConfigError(f"{name} is {value!r}; use a {'whole ' if whole else ''}{within}")

    def _anchor(self, items: Sequence[str]) -> None:
        """Refuse an anchor that is not among the items."""
        if self.anchor is not None and anchored(self.anchor)[0] not in items:
            raise unknown("anchor", anchored(self.anchor)[0], items)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"
