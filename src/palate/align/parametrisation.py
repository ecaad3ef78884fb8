"""What number stands for a response: parametrisations of the score by a policy's log-probabilities.

Sums and means over tokens are different parametrisations: the beta that fits one is off by the length of a
response for the other, so which one is used is always said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from palate.errors import ConfigError, unknown
from palate.models import SequenceScores


class Parametrisation(Protocol):
    """Scores of responses from log-probabilities."""

    @property
    def beta(self) -> float: ...

    @property
    def needs_reference(self) -> bool: ...

    def __call__(self, policy: SequenceScores, reference: Tensor | None) -> Tensor:
        """Scores of the shape of `policy.sum`.

        Args:
            policy: log-probabilities of the response tokens under the policy, any shape.
            reference: their sums under the reference, the same shape; None where it is not needed.
        """
        ...


@dataclass(frozen=True)
class _Scaled:
    beta: float
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ConfigError(f"beta must be above 0 and finite; got {self.beta}")


@dataclass(frozen=True)
class LogRatio(_Scaled):
    """``beta (log pi(y|x) - log ref(y|x))``, on sums: DPO's implicit reward (Rafailov et al., eq. 5)."""

    beta: float = 0.1
    needs_reference: ClassVar[bool] = True

    def __call__(self, policy: SequenceScores, reference: Tensor | None) -> Tensor:
        return self.beta * (policy.sum - _given(reference))


@dataclass(frozen=True)
class MeanLogRatio(_Scaled):
    """``beta (log pi(y|x) - log ref(y|x)) / |y|``: the per-token form IPO's authors advise for text."""

    beta: float = 1.0
    needs_reference: ClassVar[bool] = True

    def __call__(self, policy: SequenceScores, reference: Tensor | None) -> Tensor:
        return self.beta * (policy.sum - _given(reference)) / policy.count.clamp(min=1)


@dataclass(frozen=True)
class MeanLogProb(_Scaled):
    """``beta log pi(y|x) / |y|``, no reference: SimPO's reward (Meng et al., 2024, eq. 4)."""

    beta: float = 2.0

    def __call__(self, policy: SequenceScores, reference: Tensor | None) -> Tensor:
        return self.beta * policy.mean


@dataclass(frozen=True)
class SumLogProb(_Scaled):
    """``beta log pi(y|x)``, no reference: the preference part of CPO (Xu et al., 2024, eq. 3)."""

    beta: float = 0.1

    def __call__(self, policy: SequenceScores, reference: Tensor | None) -> Tensor:
        return self.beta * policy.sum


def _given(reference: Tensor | None) -> Tensor:
    if reference is None:
        raise ConfigError(
            "this parametrisation compares with a reference, and there are no reference log-probabilities"
        )
    return reference


PARAMETRISATIONS: dict[str, Callable[..., Parametrisation]] = {
    "log_ratio": LogRatio,
    "mean_log_ratio": MeanLogRatio,
    "mean_log_prob": MeanLogProb,
    "sum_log_prob": SumLogProb,
}


def get(name: str, beta: float | None = None) -> Parametrisation:
    """Build a parametrisation by name, with its default beta if none is given.

    Raises:
        ConfigError: no parametrisation has this name, or beta is not above 0.
    """
    if name not in PARAMETRISATIONS:
        raise unknown("parametrisation", name, PARAMETRISATIONS)
    return PARAMETRISATIONS[name]() if beta is None else PARAMETRISATIONS[name](beta)
