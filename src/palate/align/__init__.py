"""Policies from preferences. The package is callable: ``palate.align(model, data, method="dpo")``."""

from palate._callable import make_callable
from palate.align.align import align
from palate.align.methods import METHODS, Method
from palate.align.parametrisation import LogRatio, MeanLogProb, MeanLogRatio, SumLogProb
from palate.align.policy import ImplicitRewardJudge, Policy
from palate.align.reference import Reference, reference_log_probs

__all__ = [
    "METHODS",
    "ImplicitRewardJudge",
    "LogRatio",
    "MeanLogProb",
    "MeanLogRatio",
    "Method",
    "Policy",
    "Reference",
    "SumLogProb",
    "align",
    "reference_log_probs",
]

make_callable(__name__, align)
