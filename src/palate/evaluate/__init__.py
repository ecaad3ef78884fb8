"""How well judges and policies agree with preferences. Calling the package is `evaluate`."""

from __future__ import annotations

from palate._callable import make_callable
from palate.evaluate.best_of_n import (
    best_of_n,
    best_of_n_kl,
    best_of_n_report,
    selection_weights,
)
from palate.evaluate.calibration import (
    average_calibration_error,
    brier,
    expected_calibration_error,
    log_loss,
    maximum_calibration_error,
    reliability,
)
from palate.evaluate.compare import compare
from palate.evaluate.evaluate import evaluate
from palate.evaluate.intervals import Rate, mean_with_interval, share_with_interval, wilson
from palate.evaluate.joint_scaling import ScalingLaw, fit_scaling_law
from palate.evaluate.length_controlled import (
    instruction_difficulty,
    length_controlled_board,
    length_controlled_win_rate,
)
from palate.evaluate.metrics import (
    OrderEffects,
    accuracy,
    accuracy_by,
    auc,
    kendall_tau,
    length_correlation,
    order_effects,
    ranking_accuracy,
    spearman,
    win_rate,
)
from palate.evaluate.mos import MosCorrelations, mos_correlations
from palate.evaluate.overoptimisation import GoldLaw, gold_law, over_optimisation, tilted
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
from palate.evaluate.probes import PROBES, hacking_probes
from palate.evaluate.reward_benchmarks import best_of_credit, reward_bench, reward_bench_of, ties_score
from palate.evaluate.reward_models import compare_reward_models
from palate.evaluate.scaling import PowerLaw, fit_power_law
from palate.evaluate.strength import strength_report
from palate.evaluate.style import (
    StyleControl,
    phi,
    split_by_length,
    style_control,
    style_difference,
    style_report,
)
from palate.evaluate.sweep import scaling_report, sweep
from palate.report import Report

__all__ = [
    "PROBES",
    "GoldLaw",
    "MosCorrelations",
    "OrderEffects",
    "PowerLaw",
    "Rate",
    "Report",
    "ScalingLaw",
    "StyleControl",
    "accuracy",
    "accuracy_by",
    "answer_win_rate",
    "auc",
    "average_calibration_error",
    "best_of_credit",
    "best_of_n",
    "best_of_n_kl",
    "best_of_n_report",
    "brier",
    "compare",
    "compare_reward_models",
    "evaluate",
    "evaluate_policy",
    "expected_calibration_error",
    "fit_power_law",
    "fit_scaling_law",
    "gold_law",
    "hacking_probes",
    "implicit_margins",
    "instruction_difficulty",
    "kendall_tau",
    "length_controlled_board",
    "length_controlled_win_rate",
    "length_correlation",
    "log_loss",
    "maximum_calibration_error",
    "mcnemar",
    "mean_with_interval",
    "mos_correlations",
    "order_effects",
    "over_optimisation",
    "paired_accuracy",
    "paired_setting_test",
    "pairwise_alignment",
    "phi",
    "policy_ranking_accuracy",
    "ranking_accuracy",
    "reliability",
    "reward_bench",
    "reward_bench_of",
    "scaling_report",
    "selection_weights",
    "share_with_interval",
    "spearman",
    "split_by_length",
    "strength_report",
    "style_control",
    "style_difference",
    "style_report",
    "sweep",
    "ties_score",
    "tilted",
    "training_curves",
    "wilson",
    "win_rate",
]

make_callable(__name__, evaluate)
