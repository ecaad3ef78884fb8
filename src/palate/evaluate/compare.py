"""`compare`: several judges on the same pairs, and which of them can be told apart."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, DataError
from palate.evaluate import calibration, metrics
from palate.evaluate.paired import paired_accuracy
from palate.evaluate.slices import slice_labels
from palate.evaluate.verdicts import Verdicts, ask, clusters
from palate.judges.base import Judge
from palate.progress import track
from palate.report import Report

if TYPE_CHECKING:
    from palate.data import PreferenceData

Floats = npt.NDArray[np.float64]

LEVEL = 0.05
"""Two judges are told apart if the p value of their difference, after Holm's adjustment, is below this."""


def compare(
    judges: Mapping[str, Judge],
    data: PreferenceData,
    *,
    by: Sequence[str] = (),
    options: Mapping[str, Sequence[Any]] | None = None,
    bins: int = 10,
    resamples: int = 2000,
    seed: int = 0,
) -> Report:
    """Run several judges on every pair of `data` and test which differences between them are real.

    All numbers are of the pairs that have a preference and that every judge answered, so that rows can be
    compared; the others are counted.

    Args:
        judges: name -> judge, for instance fitted reward models.
        data: judgments nobody learnt from, with responses or whatever else the judges read.
        by: what to break accuracy down by, as `slices` of `palate.evaluate.evaluate`.
        options: what judges are told besides, one entry per judgment; see there.
        bins: of the calibration error.
        resamples: bootstrap resamples of prompts, for differences.
        seed: of the bootstrap.

    Returns:
        A `Report` with the tables

        - "models", best first: `model`, `accuracy` with `lower` and `upper` (95 %, prompts as clusters; a
          tie of the judge is half right), `log_loss`, `brier` and `calibration_error` where the judge states
          probabilities, `ties` and `missing` (shares), `p` against the best (Holm over all pairs of judges)
          and `tied_with_best` (whether that is `LEVEL` or more);
        - "differences", one row for each two judges; see `palate.evaluate.paired.paired_accuracy`;
        - "categories" for `by`: model, slice, value, accuracy, lower, upper, n.

        Metrics: `pairs`, `gold_ties`, `unanswered` (pairs left out because a judge gave no answer),
        `models`, `tied_with_best` (how many, with the best itself) and `accuracy/NAME` of each.

    Raises:
        ConfigError: no judge is given, a judge cannot read the data, or a slice is unknown.
        DataError: no pair has a preference, or none was answered by all judges.
    """
    if not judges:
        raise ConfigError("there is no judge to compare; give a name and a judge for each")
    asked = {name: ask(judge, data, options) for name, judge in track(list(judges.items()), "Judging")}
    first = next(iter(asked.values()))
    decided = np.asarray(~first.tie)
    right = np.stack([0.5 + 0.5 * np.sign(v.of_chosen - 0.5) for v in asked.values()], axis=1)
    answered = np.asarray(~np.isnan(right).any(axis=1))
    common = decided & answered
    _refuse_nothing(data, asked, decided, right, common)
    rows = np.flatnonzero(common)
    weight, cluster = first.pairs["weight"].to_numpy()[rows], clusters(first.pairs)[rows]
    differences = paired_accuracy(
        list(judges), right[rows], cluster=cluster, weight=weight, resamples=resamples, seed=seed
    )
    models = pl.DataFrame(
        [
            _row(name, judges[name], verdicts, decided, rows, weight, cluster, bins)
            for name, verdicts in asked.items()
        ]
    ).sort("accuracy", "model", descending=[True, False])
    models = _against_best(models, differences)
    tables = {"models": models, "differences": differences}
    if by:
        tables["categories"] = _categories(asked, first, data, by, rows, weight, cluster)
    tied = int(models["tied_with_best"].sum())
    return Report(
        title=f"{len(judges)} judges on {len(rows):,} pairs",
        metrics={
            "pairs": float(len(rows)),
            "gold_ties": float((~decided).sum()),
            "unanswered": float((decided & ~answered).sum()),
            "models": float(len(judges)),
            "tied_with_best": float(tied),
            **{f"accuracy/{row['model']}": row["accuracy"] for row in models.iter_rows(named=True)},
        },
        tables=tables,
        notes=_notes(models, len(rows), decided, answered),
        config=_config(judges, data, seed),
    )


def _refuse_nothing(
    data: PreferenceData,
    asked: Mapping[str, Verdicts],
    decided: npt.NDArray[np.bool_],
    right: Floats,
    common: npt.NDArray[np.bool_],
) -> None:
    if not decided.any():
        raise DataError(
            f"none of {len(decided)} pairs has a preference: all are ties", field="scores", file=data.source,
            remedy="compare on judgments with different scores",
        )  # fmt: skip
    if not common.any():
        missing = np.isnan(right[decided]).mean(axis=0)
        silent = [
            f"{name} ({share:.0%} missing)" for name, share in zip(asked, missing, strict=True) if share
        ]
        raise DataError(
            "no pair was answered by every judge", file=data.source,
            remedy=f"leave out those with the most missing: {', '.join(silent)}",
        )  # fmt: skip


def _row(
    name: str,
    judge: Judge,
    verdicts: Verdicts,
    decided: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.intp],
    weight: Floats,
    cluster: npt.NDArray[Any],
    bins: int,
) -> dict[str, Any]:
    of_chosen = verdicts.of_chosen[rows]
    rate = metrics.accuracy(of_chosen, weight=weight, cluster=cluster)
    row: dict[str, Any] = {
        "model": name,
        "accuracy": rate.value,
        "lower": rate.lower,
        "upper": rate.upper,
        "log_loss": None,
        "brier": None,
        "calibration_error": None,
        "ties": float((of_chosen == 0.5).mean()),
        "missing": float(np.isnan(verdicts.of_chosen[decided]).mean()),
    }
    if judge.calibrated or not np.isin(of_chosen, (0.0, 0.5, 1.0)).all():
        confidence, correct = np.maximum(of_chosen, 1 - of_chosen), 0.5 + 0.5 * np.sign(of_chosen - 0.5)
        row["log_loss"] = calibration.log_loss(of_chosen, 1.0)
        row["brier"] = calibration.brier(of_chosen, 1.0)
        row["calibration_error"] = calibration.expected_calibration_error(confidence, correct, bins, low=0.5)
    return row


def _against_best(models: pl.DataFrame, differences: pl.DataFrame) -> pl.DataFrame:
    best = models["model"][0]
    against = {
        row["a"] if row["b"] == best else row["b"]: row["p_holm"]
        for row in differences.filter((pl.col("a") == best) | (pl.col("b") == best)).iter_rows(named=True)
    }
    p = [against.get(name) for name in models["model"]]
    return models.with_columns(
        pl.Series("p", p, dtype=pl.Float64),
        pl.Series("tied_with_best", [x is None or x >= LEVEL for x in p], dtype=pl.Boolean),
    )


def _categories(
    asked: Mapping[str, Verdicts],
    first: Verdicts,
    data: PreferenceData,
    by: Sequence[str],
    rows: npt.NDArray[np.intp],
    weight: Floats,
    cluster: npt.NDArray[Any],
) -> pl.DataFrame:
    parts = []
    for name in by:
        labels = slice_labels(name, first.pairs, data, required=True)
        assert labels is not None
        for model, verdicts in asked.items():
            of_chosen = verdicts.of_chosen[rows]
            found = metrics.accuracy_by(labels[rows], of_chosen, weight=weight, cluster=cluster)
            shown = found.select("value", "accuracy", "lower", "upper", "n")
            parts.append(shown.select(pl.lit(model).alias("model"), pl.lit(name).alias("slice"), pl.all()))
    return pl.concat(parts)


def _notes(
    models: pl.DataFrame, pairs: int, decided: npt.NDArray[np.bool_], answered: npt.NDArray[np.bool_]
) -> list[str]:
    best = models.row(0, named=True)
    notes = [
        f"{best['model']} is right most often, on {best['accuracy']:.1%} "
        f"({best['lower']:.1%} to {best['upper']:.1%}) of {pairs:,} pairs."
    ]
    others = models.filter(pl.col("tied_with_best"))["model"].to_list()[1:]
    if others:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        notes.append(
            f"Not told apart from it on these pairs: {', '.join(others[:8])}{more} "
            f"(randomisation test by prompt, Holm over all pairs of judges, {LEVEL:.0%})."
        )
    elif models.height > 1:
        notes.append("All others are worse on these pairs (Holm over all pairs of judges).")
    if best["lower"] <= 0.5:
        notes.append("Even the best cannot be told from guessing.")
    if unanswered := int((decided & ~answered).sum()):
        notes.append(f"{unanswered:,} pairs that a judge did not answer are left out for all.")
    if ties := int((~decided).sum()):
        notes.append(f"{ties:,} gold ties have no right answer and are left out.")
    return notes


def _config(judges: Mapping[str, Judge], data: PreferenceData, seed: int) -> dict[str, Any]:
    from palate import __version__

    return {
        "judges": list(judges),
        "judgments": data.n_rows,
        "source": str(data.source) if data.source is not None else None,
        "data_fingerprint": data.fingerprint(),
        "seed": seed,
        "palate": __version__,
        "python": platform.python_version(),
    }
