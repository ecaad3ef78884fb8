"""How well judges and policies agree with preferences. Calling the package is `evaluate`."""

from __future__ import annotations

from palate._callable import make_callable
from palate.evaluate.calibration import brier, expected_calibration_error, log_loss, reliability
from palate.evaluate.compare import compare
from palate.evaluate.evaluate import evaluate
from palate.evaluate.intervals import Rate, mean_with_interval, share_with_interval, wilson
from palate.evaluate.length_controlled import (
    instruction_difficulty,
    length_controlled_board,
    length_controlled_win_rate,
)
from palate.evaluate.metrics import (
    OrderEffects,
    accuracy,
    accuracy_by,
    kendall_tau,
    length_correlation,
    order_effects,
    ranking_accuracy,
    spearman,
    win_rate,
)
from palate.evaluate.paired import mcnemar, paired_accuracy
from palate.evaluate.paired_setting import paired_setting_test
from palate.evaluate.pairwise_alignment import pairwise_alignment
from palate.evaluate.policy import (
    answer_win_rate,
    evaluate_policy,
    implicit_margins,
    policy_ranking_accuracy,
    training_curves,
)
from palate.evaluate.reward_benchmarks import best_of_credit, reward_bench, ties_score
from palate.evaluate.reward_models import compare_reward_models
from palate.evaluate.style import (
    StyleControl,
    phi,
    split_by_length,
    style_control,
    style_difference,
    style_report,
)
from palate.report import Report

__all__ = [
    "OrderEffects",
    "Rate",
    "Report",
    "StyleControl",
    "accuracy",
    "accuracy_by",
    "answer_win_rate",
    "best_of_credit",
    "brier",
    "compare",
    "compare_reward_models",
    "evaluate",
    "evaluate_policy",
    "expected_calibration_error",
    "implicit_margins",
    "instruction_difficulty",
    "kendall_tau",
    "length_controlled_board",
    "length_controlled_win_rate",
    "length_correlation",
    "log_loss",
    "mcnemar",
    "mean_with_interval",
    "order_effects",
    "paired_accuracy",
    "paired_setting_test",
    "pairwise_alignment",
    "phi",
    "policy_ranking_accuracy",
    "ranking_accuracy",
    "reliability",
    "reward_bench",
    "share_with_interval",
    "spearman",
    "split_by_length",
    "style_control",
    "style_difference",
    "style_report",
    "ties_score",
    "training_curves",
    "wilson",
    "win_rate",
]

make_callable(__name__, evaluate)
