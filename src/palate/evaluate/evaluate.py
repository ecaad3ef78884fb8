"""`evaluate`: how well any judge agrees with a set of preferences, and what its errors follow."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.evaluate import calibration, metrics
from palate.evaluate.intervals import Rate
from palate.evaluate.slices import DEFAULT, slice_labels
from palate.evaluate.verdicts import Verdicts, ask, clusters
from palate.judges.base import Judge
from palate.report import Report
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.data import PreferenceData

SHOWN_TEXT = 6000
SHOWN_POINTS = 2000


def evaluate(
    judge: Judge,
    data: PreferenceData,
    *,
    slices: Sequence[str] | None = None,
    options: Mapping[str, Sequence[Any]] | None = None,
    bins: int = 10,
    examples: int = 3,
    seed: int = 0,
) -> Report:
    """Run a judge on every pair of `data` and compare it with the preferences there.

    Args:
        judge: a reward model, an LLM judge, a rule, a policy's implicit reward: anything with the judge
            protocol.
        data: judgments with responses (or what the judge's `score_data` reads); groups of more than two give
            all their pairs.
        slices: what to break accuracy down by: columns ("aspect", "annotator_kind", "annotator", "protocol",
            ...), "n_responses", "length_difference" (its terciles) or keys of the metadata. Those of the
            default that the data lacks are left out.
        options: what the judge is told besides (`context`, `annotator`, `references`), one entry per
            judgment.
        bins: of the calibration.
        examples: how many of the most confident right and wrong verdicts to show.
        seed: which pairs the length picture shows, if there are too many.

    Returns:
        A `Report`. Its metrics: `pairs`, `missing` (share without an answer), `gold_ties`, `judge_ties`
        (share of the answered), `accuracy` with `accuracy_lower` and `accuracy_upper` (95 %, prompts as
        clusters; a tie of the judge is half right, missing and gold ties are left out), `accuracy_of_all`
        (missing count as wrong); for judges that state probabilities `expected_calibration_error`, `brier`,
        `log_loss`; `auc` (see `metrics.auc`) of margins or stated probabilities; for judges asked in both
        orders `order_consistency`, `first_position_preference`, `accuracy_given_order`,
        `accuracy_swapped_order`, `accuracy_both_orders`; `longer_preferred`,
        `longer_preferred_gold`, `accuracy_chosen_longer`, `accuracy_chosen_shorter`, `length_correlation`;
        for groups of three or more `kendall_tau`. A metric that cannot be measured is absent.

    Raises:
        ConfigError: there is nothing to compare, or a slice is unknown.
    """
    verdicts = ask(judge, data, options)
    pairs = verdicts.pairs
    weight = pairs["weight"].to_numpy()
    cluster = clusters(pairs)
    overall = metrics.accuracy(verdicts.probability, verdicts.target, weight=weight, cluster=cluster)
    numbers: dict[str, float] = {
        "pairs": float(pairs.height),
        "missing": overall.missing / pairs.height,
        "gold_ties": float(verdicts.tie.sum()),
        "judge_ties": _mean(verdicts.probability[~np.isnan(verdicts.probability)] == 0.5),
        "accuracy": overall.value,
        "accuracy_lower": overall.lower,
        "accuracy_upper": overall.upper,
        "accuracy_of_all": _of_all(verdicts, weight),
    }
    tables: dict[str, pl.DataFrame] = {}
    _add_slices(tables, verdicts, data, slices, weight, cluster)
    _add_calibration(numbers, tables, judge, verdicts, bins)
    _add_order(numbers, verdicts)
    if data.has("responses"):
        _add_length(numbers, tables, verdicts, seed)
    _add_ranking(numbers, verdicts)
    tables["confusion"] = _confusion(verdicts)
    numbers = {name: float(value) for name, value in numbers.items() if not np.isnan(value)}
    return Report(
        title=f"{judge.name} on {pairs.height:,} pairs",
        metrics=numbers,
        tables=tables,
        examples=_examples(verdicts, data, examples) if data.has("responses") else [],
        notes=_notes(judge, overall, numbers),
        config=_config(judge, data, seed),
    )


def _of_all(verdicts: Verdicts, weight: npt.NDArray[np.float64]) -> float:
    judged = ~verdicts.tie
    right = 0.5 + 0.5 * np.sign(np.nan_to_num(verdicts.of_chosen[judged], nan=-np.inf) - 0.5)
    total = weight[judged].sum()
    return float((right * weight[judged]).sum() / total) if total > 0 else np.nan


def _add_slices(
    tables: dict[str, pl.DataFrame],
    verdicts: Verdicts,
    data: PreferenceData,
    slices: Sequence[str] | None,
    weight: npt.NDArray[np.float64],
    cluster: npt.NDArray[Any],
) -> None:
    parts = []
    for name in DEFAULT if slices is None else slices:
        labels = slice_labels(name, verdicts.pairs, data, required=slices is not None)
        if labels is None or (slices is None and len(set(labels)) < 2):
            continue
        by = metrics.accuracy_by(
            labels, verdicts.probability, verdicts.target, weight=weight, cluster=cluster
        )
        parts.append(by.select(pl.lit(name).alias("slice"), pl.all()))
    if parts:
        tables["slices"] = pl.concat(parts)


def _add_calibration(
    numbers: dict[str, float], tables: dict[str, pl.DataFrame], judge: Judge, verdicts: Verdicts, bins: int
) -> None:
    of_chosen = verdicts.of_chosen[~verdicts.tie]
    of_chosen = of_chosen[~np.isnan(of_chosen)]
    graded = not np.isin(of_chosen, (0.0, 0.5, 1.0)).all()
    margin = np.where(verdicts.chosen_first, verdicts.margin, -verdicts.margin)[~verdicts.tie]
    if not np.isnan(margin).all():
        numbers["auc"] = metrics.auc(margin)
    elif graded:
        numbers["auc"] = metrics.auc(of_chosen - 0.5)
    if not len(of_chosen) or not (judge.calibrated or graded):
        return
    # Which side is called first is arbitrary, so calibration is that of the side the judge prefers.
    confidence = np.maximum(of_chosen, 1.0 - of_chosen)
    right = 0.5 + 0.5 * np.sign(of_chosen - 0.5)
    numbers["expected_calibration_error"] = calibration.expected_calibration_error(
        confidence, right, bins, low=0.5
    )
    numbers["mean_confidence"] = float(confidence.mean())
    numbers["brier"] = calibration.brier(of_chosen, 1.0)
    numbers["log_loss"] = calibration.log_loss(of_chosen, 1.0)
    tables["reliability"] = calibration.reliability(confidence, right, bins, low=0.5)


def _add_order(numbers: dict[str, float], verdicts: Verdicts) -> None:
    if verdicts.forward is None or verdicts.backward is None:
        return
    effects = metrics.order_effects(verdicts.forward, verdicts.backward)
    numbers["order_consistency"] = effects.consistency
    numbers["first_position_preference"] = effects.first_preference
    judged = ~verdicts.tie
    sign = np.where(verdicts.chosen_first, 1.0, -1.0)[judged]
    forward, backward = (sign * (part[judged] - 0.5) for part in (verdicts.forward, verdicts.backward))
    numbers["accuracy_given_order"] = metrics.accuracy(forward, neutral=0.0).value
    numbers["accuracy_swapped_order"] = metrics.accuracy(backward, neutral=0.0).value
    answered = ~(np.isnan(forward) | np.isnan(backward))
    numbers["accuracy_both_orders"] = _mean((forward > 0)[answered] & (backward > 0)[answered])


def _add_length(
    numbers: dict[str, float], tables: dict[str, pl.DataFrame], verdicts: Verdicts, seed: int
) -> None:
    chosen, rejected = (
        verdicts.pairs[name].str.len_chars().cast(pl.Int64).to_numpy() for name in ("chosen", "rejected")
    )
    first_longer = np.where(verdicts.chosen_first, chosen - rejected, rejected - chosen).astype(np.int64)
    p, target, differ = verdicts.probability, verdicts.target, chosen != rejected
    answered = ~np.isnan(p)
    longer = np.where(first_longer > 0, p, 1.0 - p)
    numbers["longer_preferred"] = _mean(0.5 + 0.5 * np.sign(longer[answered & differ] - 0.5))
    numbers["longer_preferred_gold"] = _mean(np.where(first_longer > 0, target, 1.0 - target)[differ])
    of_chosen, judged = verdicts.of_chosen, ~verdicts.tie
    numbers["accuracy_chosen_longer"] = metrics.accuracy(of_chosen[judged & (chosen > rejected)]).value
    numbers["accuracy_chosen_shorter"] = metrics.accuracy(of_chosen[judged & (chosen < rejected)]).value
    graded = verdicts.margin if not np.isnan(verdicts.margin).all() else p - 0.5
    numbers["length_correlation"] = metrics.length_correlation(graded, first_longer)
    rows = np.flatnonzero(answered & judged)
    if len(rows) > SHOWN_POINTS:
        rows = np.sort(generator(seed, "length picture").choice(rows, SHOWN_POINTS, replace=False))
    side = np.sign(of_chosen[rows] - 0.5).astype(np.int64)
    tables["lengths"] = pl.DataFrame(
        {
            "length_difference": first_longer[rows],
            "preference": graded[rows],
            "verdict": np.array(["wrong", "equal", "right"], dtype=object)[side + 1].tolist(),
        }
    )


def _add_ranking(numbers: dict[str, float], verdicts: Verdicts) -> None:
    """Mean tau-b over judgments with three or more responses, from the signs of their pairs."""
    signs = pl.DataFrame(
        {
            "judgment": verdicts.pairs["judgment"],
            "judge": np.sign(verdicts.probability - 0.5),
            "gold": np.sign(verdicts.target - 0.5),
        }
    ).filter(pl.col("judge").is_not_nan())
    judge, gold = pl.col("judge"), pl.col("gold")
    groups = signs.group_by("judgment").agg(
        n=pl.len(), concordance=(judge * gold).sum(), norm=((judge**2).sum() * (gold**2).sum()).sqrt()
    )
    groups = groups.filter((pl.col("n") >= 3) & (pl.col("norm") > 0))
    if groups.height:
        numbers["kendall_tau"] = float((groups["concordance"] / groups["norm"]).mean())  # type: ignore[arg-type]
        numbers["ranked_groups"] = float(groups.height)


def _confusion(verdicts: Verdicts) -> pl.DataFrame:
    names = {1.0: "first", 0.5: "tie", 0.0: "second"}
    said = 0.5 + 0.5 * np.sign(verdicts.probability - 0.5)
    rows = []
    for target, name in names.items():
        of = said[verdicts.target == target]
        rows.append(
            {"gold": name}
            | {f"judge_{names[x]}": int((of == x).sum()) for x in names}
            | {"missing": int(np.isnan(of).sum())}
        )
    return pl.DataFrame(rows)


def _examples(verdicts: Verdicts, data: PreferenceData, count: int) -> list[dict[str, Any]]:
    margin = verdicts.margin if not np.isnan(verdicts.margin).all() else verdicts.probability - 0.5
    of_chosen = np.where(verdicts.chosen_first, margin, -margin)
    of_chosen = np.where(verdicts.tie, np.nan, of_chosen)
    order = np.argsort(of_chosen, kind="stable")
    order = order[~np.isnan(of_chosen[order])]
    wrong = _one_per_prompt(verdicts.pairs, order[of_chosen[order] < 0], count)
    right = _one_per_prompt(verdicts.pairs, order[::-1][of_chosen[order[::-1]] > 0], count)
    prompts = data.column("prompt")
    shown = []
    for title, rows in (("Most confident and wrong", wrong), ("Most confident and right", right)):
        for row in rows:
            pair = verdicts.pairs.row(int(row), named=True)
            score = verdicts.margin[row] * (1 if verdicts.chosen_first[row] else -1)
            said = f"The judge gives the chosen one a probability of {_percent(verdicts.of_chosen[row])}"
            said += "." if np.isnan(score) else f" (score difference {score:.3g})."
            if verdicts.rationale is not None and verdicts.rationale[row]:
                said += f" Its reason: {verdicts.rationale[row]}"
            shown.append(
                {
                    "title": title + (f" · {pair['aspect']}" if pair.get("aspect") else ""),
                    "prompt": (prompts[pair["judgment"]].as_py() or "")[:SHOWN_TEXT],
                    "sides": [
                        {"label": "chosen", "text": pair["chosen"][:SHOWN_TEXT]},
                        {"label": "rejected", "text": pair["rejected"][:SHOWN_TEXT]},
                    ],
                    "note": said[:SHOWN_TEXT],
                }
            )
    return shown


def _one_per_prompt(pairs: pl.DataFrame, rows: npt.NDArray[np.intp], count: int) -> list[int]:
    """The first rows of different prompts, filled up with further ones where there are too few prompts."""
    first = pl.Series(clusters(pairs)[rows]).is_first_distinct().to_numpy()
    return [int(row) for row in np.concatenate([rows[first], rows[~first]])[:count]]


def _percent(share: float) -> str:
    return "under 1%" if share < 0.01 else "over 99%" if share > 0.99 else f"{share:.0%}"


def _notes(judge: Judge, overall: Rate, numbers: Mapping[str, float]) -> list[str]:
    notes = []
    if overall.n:
        notes.append(f"It agrees with the gold preference on {overall}.")
        if overall.lower <= 0.5 <= overall.upper:
            notes.append("That cannot be told from guessing.")
    if overall.ties:
        notes.append(f"It calls {overall.ties:,} of these pairs equal; each counts as half right.")
    if overall.missing:
        notes.append(f"{overall.missing:,} pairs got no usable answer; they are left out, not guessed.")
    if overall.gold_ties:
        notes.append(f"{overall.gold_ties:,} gold ties have no right answer and are left out of accuracy.")
    if "order_consistency" in numbers:
        notes.append(
            f"It keeps its verdict in {numbers['order_consistency']:.0%} of pairs when the two swap, and "
            f"prefers the response shown first {numbers['first_position_preference']:.0%} of the time."
        )
    if {"longer_preferred", "longer_preferred_gold"} <= numbers.keys():
        notes.append(
            f"It prefers the longer response {numbers['longer_preferred']:.0%} of the time; the gold "
            f"preference does so {numbers['longer_preferred_gold']:.0%} of the time."
        )
    if "expected_calibration_error" in numbers:
        ece, sure = numbers["expected_calibration_error"], numbers["mean_confidence"]
        notes.append(
            f"It is {sure:.0%} sure on average; stated and observed frequency differ by {ece:.1%} on average."
        )
    return notes


def _config(judge: Judge, data: PreferenceData, seed: int) -> dict[str, Any]:
    from palate import __version__

    return {
        "judge": judge.name,
        "judge_kind": judge.kind,
        "judgments": data.n_rows,
        "source": str(data.source) if data.source is not None else None,
        "data_fingerprint": data.fingerprint(),
        "seed": seed,
        "palate": __version__,
        "python": platform.python_version(),
    }


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else np.nan
