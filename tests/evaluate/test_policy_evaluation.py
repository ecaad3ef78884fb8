"""What training did to a policy, from log-probabilities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from palate import evaluate
from palate.errors import ConfigError
from palate.judges.length import LengthJudge


@dataclass
class Scored:
    sum: object
    count: object


CHOSEN = Scored(np.array([-10.0, -20.0, -30.0]), np.array([10, 10, 10]))
REJECTED = Scored(np.array([-12.0, -18.0, -30.0]), np.array([4, 20, 10]))
BEFORE = Scored(np.array([-13.0, -19.0, -29.0]), np.array([10, 10, 10]))
BEFORE_REJECTED = Scored(np.array([-12.0, -20.0, -28.0]), np.array([4, 20, 10]))


def test_ranking_accuracy_compares_sums_or_means() -> None:
    # Sums: right, wrong, tie. Means: -1 > -3, -2 < -0.9, tie.
    assert evaluate.policy_ranking_accuracy(CHOSEN, REJECTED).value == pytest.approx(0.5)
    short = Scored(np.array([-5.0]), np.array([2]))
    long = Scored(np.array([-6.0]), np.array([12]))
    assert evaluate.policy_ranking_accuracy(short, long).value == 1.0
    assert evaluate.policy_ranking_accuracy(short, long, mean=True).value == 0.0


def test_tensors_are_read_like_arrays() -> None:
    torch = pytest.importorskip("torch")
    chosen = Scored(torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([1, 1]))
    rejected = Scored(torch.tensor([-2.0, -1.0], dtype=torch.bfloat16), torch.tensor([1, 1]))
    assert evaluate.policy_ranking_accuracy(chosen, rejected).value == 0.5


def test_implicit_margins_are_differences_of_log_ratios() -> None:
    margins = evaluate.implicit_margins(CHOSEN, REJECTED, BEFORE, BEFORE_REJECTED, beta=0.1)
    # chosen ratios 3, -1, -1; rejected ratios 0, 2, -2.
    assert margins == pytest.approx([0.3, -0.3, 0.1])


def test_a_policy_report_holds_accuracies_ratios_and_flips() -> None:
    report = evaluate.evaluate_policy((CHOSEN, REJECTED), (BEFORE, BEFORE_REJECTED), beta=0.1)
    assert report.metrics["policy_accuracy"] == pytest.approx(0.5)
    assert report.metrics["reference_accuracy"] == pytest.approx(1 / 3)
    assert report.metrics["reward_accuracy"] == pytest.approx(2 / 3)
    assert report.metrics["chosen_log_ratio"] == pytest.approx(1 / 3)
    assert report.metrics["rejected_log_ratio"] == pytest.approx(0.0)
    assert report.metrics["flipped_right"] == pytest.approx(1 / 3)
    assert report.metrics["flipped_wrong"] == pytest.approx(1 / 3)


def test_a_policy_equal_to_its_reference_has_margins_of_zero_and_half_the_pairs() -> None:
    report = evaluate.evaluate_policy((CHOSEN, REJECTED), (CHOSEN, REJECTED))
    assert report.metrics["reward_margin"] == 0.0
    assert report.metrics["reward_accuracy"] == 0.5
    assert report.metrics["flipped_right"] == report.metrics["flipped_wrong"] == 0.0


def test_missing_log_probs_are_counted() -> None:
    chosen = Scored(np.array([-1.0, np.nan]), np.array([1, 1]))
    rejected = Scored(np.array([-2.0, -1.0]), np.array([1, 0]))
    report = evaluate.evaluate_policy((chosen, rejected))
    assert report.metrics["policy_accuracy"] == 1.0
    assert report.metrics["policy_accuracy_missing"] == 1.0


def test_unequal_numbers_of_chosen_and_rejected_are_refused() -> None:
    with pytest.raises(ConfigError, match="equally many"):
        evaluate.policy_ranking_accuracy(CHOSEN, Scored(np.zeros(2), np.ones(2)))


def test_displacement_is_said_in_words() -> None:
    lower = Scored(np.array([-20.0]), np.array([5]))
    start = Scored(np.array([-10.0]), np.array([5]))
    report = evaluate.evaluate_policy((lower, lower), (start, start))
    assert any("became less likely" in note for note in report.notes)


def test_training_curves_are_read_from_a_run(tmp_path: Path) -> None:
    lines = [
        {"stage": "dpo", "step": s, "chosen_log_prob": -10.0 - s, "rejected_log_prob": -11.0 - 2 * s}
        for s in (1, 2)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "dpo", "st'
    (tmp_path / "metrics.jsonl").write_text(text, "utf-8")
    report = evaluate.evaluate_policy((CHOSEN, REJECTED), metrics_file=tmp_path / "metrics.jsonl")
    assert report.tables["training"]["chosen_log_prob"].to_list() == [-11.0, -12.0]


def test_win_rate_of_answers_by_a_real_judge() -> None:
    prompts = ["p"] * 4
    wins = evaluate.answer_win_rate(
        LengthJudge(), prompts, ["longer", "same", "a", "much longer"], ["long", "size", "bb", "b"]
    )
    assert (wins.value, wins.n, wins.ties, wins.missing) == (pytest.approx(2.5 / 4), 4, 1, 0)
    assert wins.lower < wins.value < wins.upper
