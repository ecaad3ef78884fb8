"""Judges: whatever expresses a preference, behind one protocol."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palate.judges.base import Comparison, Judge, Scores
from palate.judges.constraint_judge import ConstraintJudge, constraints_of
from palate.judges.constraints import Constraint, check, describe, parse_constraints
from palate.judges.feature_judge import FeatureJudge
from palate.judges.length import LengthJudge
from palate.judges.vote import Vote

# Language models load only when a judge needs one.
_LAZY = dict.fromkeys(("LLMJudge", "LLMRater", "RUBRICS"), "palate.judges.llm") | {
    "FewShotJudge": "palate.judges.few_shot",
    "Rubric": "palate.judges.rubric",
}

if TYPE_CHECKING:
    from palate.judges.few_shot import FewShotJudge
    from palate.judges.llm import RUBRICS, LLMJudge, LLMRater
    from palate.judges.rubric import Rubric

__all__ = [
    "RUBRICS", "Comparison", "Constraint", "ConstraintJudge", "FeatureJudge", "FewShotJudge", "Judge",
    "LLMJudge", "LLMRater", "LengthJudge", "Rubric", "Scores", "Vote", "check", "constraints_of",
    "describe", "parse_constraints",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'palate.judges' has no attribute {name!r}")
