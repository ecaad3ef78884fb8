"""What all ranking methods share: parameters, the learned attributes, and the way to a `Leaderboard`."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import unknown
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import Leaderboard

Floats = npt.NDArray[np.float64]


class Ranker(ABC):
    """A method that learns the strengths of items.

    The constructor stores its parameters and nothing else; `fit` checks them and learns the attributes that
    end in an underscore.

    Attributes:
        items_: names of the M items.
        strengths_: natural-log strengths with mean 0, shape (M,).
        covariance_: their covariance, shape (M, M); None where the method has none or it would not fit in
            memory.
        draws_: draws of the strengths' error, shape (M, draws), where those stand in for the covariance.
        comparisons_: the aggregated comparisons of the fit.
        n_comparisons_: how many there were.
        diagnostics_: what the fit says about itself.
    """

    method: ClassVar[str]
    level: float = 0.95
    anchor: str | Mapping[str, float] | None = None

    items_: list[str]
    strengths_: Floats
    covariance_: Floats | None
    draws_: Floats | None
    comparisons_: Comparisons
    n_comparisons_: int
    diagnostics_: dict[str, Any]

    @abstractmethod
    def fit(self, data: PreferenceData | Comparisons) -> Self:
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
            comparisons=self.comparisons_,
            fit_diagnostics=self.diagnostics_,
            level=self.level,
            anchor=self.anchor,
        )

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"
