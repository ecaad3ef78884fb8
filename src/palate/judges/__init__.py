"""Judges: whatever expresses a preference, behind one protocol."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palate.judges.base import Comparison, Judge, Scores
from palate.judges.constraint_judge import ConstraintJudge, constraints_of
from palate.judges.constraints import Constraint, check, describe, parse_constraints
from palate.judges.feature_judge import FeatureJudge
from palate.judges.length import LengthJudge

# Language models load only when a judge needs one.
_LAZY = dict.fromkeys(("LLMJudge", "LLMRater", "RUBRICS"), "palate.judges.llm") | {
    "Rubric": "palate.judges.rubric"
}

if TYPE_CHECKING:
    from palate.judges.llm import RUBRICS, LLMJudge, LLMRater
    from palate.judges.rubric import Rubric

__all__ = [
    "RUBRICS", "Comparison", "Constraint", "ConstraintJudge", "FeatureJudge", "Judge", "LLMJudge", "LLMRater",
    "LengthJudge", "Rubric", "Scores", "check", "constraints_of", "describe", "parse_constraints",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'palate.judges' has no attribute {name!r}")
