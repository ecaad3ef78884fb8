"""Methods give the numbers of the reference table; sums and means are kept apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palate.align import METHODS, LogRatio, MeanLogProb, MeanLogRatio, SumLogProb
from palate.align.methods import get
from palate.align.parametrisation import get as parametrisation
from palate.errors import ConfigError
from palate.models import SequenceScores

POLICY = SequenceScores(
    sum=torch.tensor([[-20.0, -24.0]], dtype=torch.float64), count=torch.tensor([[10, 8]])
)
REFERENCE = torch.tensor([[-22.0, -21.0]], dtype=torch.float64)
TARGETS = torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("method", "options", "value"),
    [
        ("dpo", {}, 0.474077),
        ("cdpo", {}, 0.524077),
        ("robust_dpo", {}, 0.411577),
        ("ipo", {}, 0.0),
        ("ipo_mean", {}, 19.580625),
        ("hinge", {}, 0.5),
        ("exo", {}, 1.945734),
        ("nca", {"beta": 0.1}, 1.274386),
        ("sppo", {"beta": 0.1}, 13.0),
        ("apo_zero", {}, 0.875723),
        ("apo_down", {}, 0.927375),
        ("discopop", {}, 0.777443),
        ("simpo", {}, 0.313262),
        ("logistic_log_prob", {}, 0.513015),
        ("dpo_lists", {}, 0.474077),
    ],
)
def test_methods_give_the_worked_numbers(method: str, options: dict[str, Any], value: float) -> None:
    score, loss = get(method).build(**options)
    found = loss(score(POLICY, REFERENCE if score.needs_reference else None), TARGETS)
    assert float(found) == pytest.approx(value, abs=1e-6)


def test_only_ratios_need_a_reference() -> None:
    assert LogRatio().needs_reference
    assert MeanLogRatio().needs_reference
    assert not MeanLogProb().needs_reference
    assert not SumLogProb().needs_reference
    for kind in (LogRatio, MeanLogRatio):
        with pytest.raises(ConfigError, match="there are no reference log-probabilities"):
            kind()(POLICY, None)


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan"), float("inf")])
def test_beta_must_be_above_zero_everywhere(beta: float) -> None:
    for name in ("log_ratio", "mean_log_ratio", "mean_log_prob", "sum_log_prob"):
        with pytest.raises(ConfigError, match="beta must be above 0"):
            parametrisation(name, beta)
    for method in METHODS.values():
        with pytest.raises(ConfigError, match="beta must be above 0"):
            method.build(beta)
