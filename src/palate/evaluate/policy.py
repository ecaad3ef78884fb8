"""What training did to a policy: log-probabilities in, numbers and a `Report` out; no model needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError
from palate.evaluate import metrics
from palate.evaluate.intervals import Rate
from palate.judges.base import Judge
from palate.report import Report
from palate.report.run_folder import read_metrics

Floats = npt.NDArray[np.float64]


class LogProbs(Protocol):
    """Log-probabilities of n texts, as `palate.models.sequence_log_probs` gives them; arrays or tensors."""

    @property
    def sum(self) -> Any: ...

    @property
    def count(self) -> Any: ...


def policy_ranking_accuracy(
    chosen: LogProbs, rejected: LogProbs, *, mean: bool = False, cluster: npt.ArrayLike | None = None
) -> Rate:
    """Share of pairs to whose chosen response a model gives the higher log-probability (Chen et al. 2024).

    Args:
        chosen, rejected: of n pairs.
        mean: compare log-probabilities per token, which does not favour short responses, instead of their
            sums.
        cluster: shape (n,), prompt of each pair, for the interval.
    """
    a, b = _log_probs(chosen, mean), _log_probs(rejected, mean)
    if a.shape != b.shape:
        raise ConfigError(f"chosen and rejected must be of equally many responses; got {len(a)} and {len(b)}")
    return metrics.accuracy(a - b, neutral=0.0, cluster=cluster)


def implicit_margins(
    policy_chosen: LogProbs,
    policy_rejected: LogProbs,
    reference_chosen: LogProbs,
    reference_rejected: LogProbs,
    *,
    beta: float = 1.0,
) -> Floats:
    """Shape (n,): the DPO implicit reward of the chosen response less that of the rejected one, in nats times
    beta.

    ``beta * [(log pi(c) - log ref(c)) - (log pi(r) - log ref(r))]``, Rafailov et al. (2023), equation 7.
    """
    policy = _log_probs(policy_chosen) - _log_probs(policy_rejected)
    reference = _log_probs(reference_chosen) - _log_probs(reference_rejected)
    return beta * (policy - reference)


def evaluate_policy(
    policy: tuple[LogProbs, LogProbs],
    reference: tuple[LogProbs, LogProbs] | None = None,
    *,
    beta: float = 1.0,
    prompt: npt.ArrayLike | None = None,
    wins: Rate | None = None,
    metrics_file: str | Path | None = None,
    title: str = "Policy",
) -> Report:
    """What a policy prefers, against its reference.

    Args:
        policy: log-probabilities of the n chosen and of the n rejected responses under the policy.
        reference: the same under the model it started from.
        beta: scale of the implicit reward.
        prompt: shape (n,), prompt of each pair, the clusters of the intervals.
        wins: how often the policy's answers beat the reference's (`answer_win_rate`).
        metrics_file: ``metrics.jsonl`` of its training, for the table `training`.
        title: of the report.

    Returns:
        A `Report` with the metrics `policy_accuracy` (sums) and `policy_accuracy_mean` (per token), the same
        for `reference_`, `reward_accuracy`, `reward_margin` (mean), `chosen_log_ratio` and
        `rejected_log_ratio` (mean of policy less reference, in nats: both below 0 is likelihood
        displacement), `flipped_right` and `flipped_wrong` (shares of pairs whose order changed), and
        `win_rate` with its bounds.
    """
    chosen, rejected = policy
    rates = {
        "policy_accuracy": policy_ranking_accuracy(chosen, rejected, cluster=prompt),
        "policy_accuracy_mean": policy_ranking_accuracy(chosen, rejected, mean=True, cluster=prompt),
    }
    numbers: dict[str, float] = {"pairs": float(len(_log_probs(chosen)))}
    if reference is not None:
        rates["reference_accuracy"] = policy_ranking_accuracy(*reference, cluster=prompt)
        rates["reference_accuracy_mean"] = policy_ranking_accuracy(*reference, mean=True, cluster=prompt)
        margins = implicit_margins(chosen, rejected, *reference, beta=beta)
        rates["reward_accuracy"] = metrics.accuracy(margins, neutral=0.0, cluster=prompt)
        before = np.sign(_log_probs(reference[0]) - _log_probs(reference[1]))
        after = np.sign(_log_probs(chosen) - _log_probs(rejected))
        both = ~(np.isnan(before) | np.isnan(after))
        numbers["reward_margin"] = _mean(margins)
        numbers["chosen_log_ratio"] = _mean(_log_probs(chosen) - _log_probs(reference[0]))
        numbers["rejected_log_ratio"] = _mean(_log_probs(rejected) - _log_probs(reference[1]))
        numbers["flipped_right"] = _mean(((before < 0) & (after > 0))[both])
        numbers["flipped_wrong"] = _mean(((before > 0) & (after < 0))[both])
    if wins is not None:
        rates["win_rate"] = wins
    for name, rate in rates.items():
        numbers |= {name: rate.value, f"{name}_lower": rate.lower, f"{name}_upper": rate.upper}
        if rate.missing:
            numbers[f"{name}_missing"] = float(rate.missing)
    numbers = {name: float(value) for name, value in numbers.items() if not np.isnan(value)}
    tables = {"rates": _rates_table(rates)}
    if metrics_file is not None:
        tables["training"] = training_curves(metrics_file)
    return Report(
        title=title, metrics=numbers, tables=tables, notes=_notes(rates, numbers), config={"beta": beta}
    )


def training_curves(metrics_file: str | Path) -> pl.DataFrame:
    """What training logged, one row a logged step: step, stage and its numbers (`chosen_log_prob`, ...)."""
    rows = [row for row in read_metrics(metrics_file) if "step" in row]
    names = dict.fromkeys(name for row in rows for name in row if name != "time")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pl.DataFrame({name: pl.Series(name, values, strict=False) for name, values in columns.items()})


def answer_win_rate(
    judge: Judge,
    prompts: Sequence[str],
    answers: Sequence[str],
    baseline: Sequence[str],
    *,
    cluster: Iterable[Any] | None = None,
    graded: bool = True,
    **options: Any,
) -> Rate:
    """How often a judge prefers `answers` to `baseline` on n prompts; ties count half.

    Args:
        judge: any judge; one to which order matters is asked in both.
        prompts, answers, baseline: n texts each.
        cluster: n labels of prompts, if several answers share one.
        graded: average the judge's probabilities; otherwise count wins, ties and losses.
        **options: passed to the judge, one entry per prompt.
    """
    result = judge.compare(prompts, answers, baseline, **options)
    labels = None if cluster is None else np.asarray(list(cluster))
    return metrics.win_rate(result.probability, cluster=labels, graded=graded)


def _log_probs(values: LogProbs, mean: bool = False) -> Floats:
    total = _array(values.sum)
    if not mean:
        return total
    count = _array(values.count)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _array(values: Any) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _mean(values: npt.NDArray[Any]) -> float:
    seen = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(seen.mean()) if len(seen) else np.nan


def _rates_table(rates: Mapping[str, Rate]) -> pl.DataFrame:
    rows = [
        (name, rate.value, rate.lower, rate.upper, rate.n, rate.ties, rate.missing)
        for name, rate in rates.items()
    ]
    return pl.DataFrame(
        rows, schema=["measure", "share", "lower", "upper", "n", "ties", "missing"], orient="row"
    )


def _notes(rates: Mapping[str, Rate], numbers: Mapping[str, float]) -> list[str]:
    notes = [
        f"The policy gives the chosen response the higher log-probability on {rates['policy_accuracy']}."
    ]
    if "reference_accuracy" in rates:
        notes.append(f"The reference does so on {rates['reference_accuracy']}.")
        notes.append(f"Its implicit reward ranks {rates['reward_accuracy']} of the pairs right.")
        chosen, rejected = numbers.get("chosen_log_ratio", np.nan), numbers.get("rejected_log_ratio", np.nan)
        notes.append(
            f"Log-probability changed by {chosen:+.2f} nats for chosen, {rejected:+.2f} for rejected ones."
        )
        if chosen < 0:
            notes.append("The chosen responses became less likely (likelihood displacement).")
    if "win_rate" in rates:
        wins = rates["win_rate"]
        notes.append(
            f"Its answers beat the reference's in {wins}; "
            f"{wins.ties:,} ties count half, {wins.missing:,} are missing."
        )
    return notes
