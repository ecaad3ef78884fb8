"""`compare_reward_models`: every head with every loss, fitted and judged on the same prompts."""

from __future__ import annotations

import re
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from palate.errors import ConfigError, PalateError, PalateWarning
from palate.evaluate.compare import LEVEL, compare
from palate.judges import LengthJudge
from palate.progress import track
from palate.report import Report
from palate.runs import Run

if TYPE_CHECKING:
    from palate.data import PreferenceData
    from palate.judges.base import Judge
    from palate.reward import RewardModel

REFERENCE = "length"
"""Name of the row of the judge that prefers the longer response."""


def compare_reward_models(
    data: PreferenceData,
    folder: str | Path,
    *,
    heads: Sequence[str] = ("scalar",),
    losses: Sequence[str] = ("bradley_terry",),
    settings: Mapping[str, Any] | None = None,
    test: float = 0.2,
    repeats: int = 1,
    by: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    """Fit a `RewardModel` for every head and loss on the same prompts, and compare them on the others.

    Args:
        data: judgments; split by prompt.
        folder: each model is kept in ``models/HEAD-LOSS`` below it, and a call that was interrupted goes on
            with the first model that is not there.
        heads: names of `palate.reward.heads`; ["all"] for all.
        losses: names or sums of `palate.losses`; ["all"] for all names.
        settings: what else `RewardModel` is given (encoder, mode, hidden, l2, ...).
        test: share of prompts held out.
        repeats: how many splits, with the seeds `seed`, `seed` + 1, ...; tables are of the first, but for
            "splits".
        by: what to break accuracy down by, see `compare`.
        seed: of the split and the models.

    Returns:
        The `Report` of `compare` on the held-out pairs, with head, loss, pairs or lists learnt from and
        seconds of the fit in its table "models", and the judge `REFERENCE` that prefers the longer response
        as a row where there are texts. "skipped" lists combinations that do not fit together or to the data,
        with the reason; "splits" the mean, lowest and highest accuracy over several splits, and how often a
        model was the best.

    Raises:
        ConfigError: an unknown head or loss; `repeats` is not 1 or more.
        PalateError: no combination could be fitted; the error of the first.
    """
    if repeats < 1:
        raise ConfigError(f"repeats must be 1 or more; got {repeats}")
    given = dict(settings or {})
    pairs = combinations(heads, losses, given.get("loss_params"))
    reports: list[Report] = []
    skipped: list[dict[str, str]] = []
    for number in range(repeats):
        place = Path(folder) if number == 0 else Path(folder) / f"split-{seed + number}"
        report, left_out = _one_split(data, place, pairs, given, test, by, seed + number)
        reports.append(report)
        skipped += [row for row in left_out if row["model"] not in {old["model"] for old in skipped}]
    made = reports[0]
    if skipped:
        made.tables["skipped"] = pl.DataFrame(skipped)
        made.notes.append(f"Combinations skipped, with the reasons listed: {len(skipped)}.")
        made.metrics["skipped"] = float(len(skipped))
    if repeats > 1:
        made.tables["splits"] = _over_splits(reports)
        made.notes.append(f"Tables are of the first split; 'splits' sums up all {repeats}.")
    return made


def combinations(
    heads: Sequence[str], losses: Sequence[str], loss_params: Mapping[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Every head with every loss; "all" stands for all names.

    Raises:
        ConfigError: an unknown name, or one given twice.
    """
    from palate import losses as loss_registry
    from palate.reward import heads as head_registry

    chosen = head_registry.names() if list(heads) == ["all"] else list(heads)
    named = loss_registry.names() if list(losses) == ["all"] else list(losses)
    for head in chosen:
        head_registry.kind(head)
    for loss in named:
        # A name may lack parameters that the data gives; a sum is built to see whether it can be read.
        if loss not in loss_registry.names():
            loss_registry.get(loss, **(loss_params or {}))
    for what, names in (("head", chosen), ("loss", named)):
        if twice := [name for place, name in enumerate(names) if name in names[:place]]:
            raise ConfigError(f"the {what} {twice[0]!r} is given twice")
        if not names:
            raise ConfigError(f"no {what} is given")
    return [(head, loss) for head in chosen for loss in named]


def _one_split(
    data: PreferenceData,
    folder: Path,
    pairs: Sequence[tuple[str, str]],
    settings: Mapping[str, Any],
    test: float,
    by: Sequence[str],
    seed: int,
) -> tuple[Report, list[dict[str, str]]]:
    learn, held_out = data.split(test, by="prompt", seed=seed)
    _embed(data, settings)
    models: dict[str, RewardModel] = {}
    facts, skipped, told = [], [], set()
    first_error: Exception | None = None
    for head, loss in track(pairs, "Fitting"):
        name = f"{head} · {loss}"
        config = {**settings, "head": head, "loss": loss, "seed": seed, "name": name}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PalateWarning)
            model, fact = _fitted(config, learn, folder / "models" / slug(head, loss), test)
        for warning in caught:
            if str(warning.message) not in told:
                told.add(str(warning.message))
                warnings.warn(warning.message, warning.category, stacklevel=2)
        if not isinstance(model, Exception):
            models[name] = model
            facts.append({"model": name, "head": head, "loss": loss, **fact})
        else:
            first_error = first_error or model
            reason = " ".join(str(model).split()) or type(model).__name__
            skipped.append({"model": name, "reason": reason})
    if first_error is not None and not models:
        raise first_error
    judges: dict[str, Judge] = dict(models)
    if data.has("responses"):
        judges[REFERENCE] = LengthJudge()
    report = compare(judges, held_out, by=by, seed=seed)
    described = pl.DataFrame(facts)
    report.tables["models"] = report.tables["models"].join(
        described, on="model", how="left", maintain_order="left"
    )
    noun = "model" if len(models) == 1 else "models"
    report.title = f"{len(models)} reward {noun} on {int(report.metrics['pairs']):,} held-out pairs"
    if REFERENCE in judges:
        report.notes.append(_against_length(report))
    else:
        report.notes.append("There are no texts, so no row of the judge that prefers the longer response.")
    unfinished = described.filter(~pl.col("converged"))["model"].to_list()
    if unfinished:
        more = f" and {len(unfinished) - 8} more" if len(unfinished) > 8 else ""
        report.notes.append(f"The fit ended before it converged: {', '.join(unfinished[:8])}{more}.")
    return report, skipped


def _against_length(report: Report) -> str:
    """Whether the best model is certainly better than preferring the longer response."""
    best = next(name for name in report.tables["models"]["model"] if name != REFERENCE)
    sides = {best, REFERENCE}
    row = next(r for r in report.tables["differences"].iter_rows(named=True) if {r["a"], r["b"]} == sides)
    sign = 1 if row["a"] == best else -1
    gap = sign * row["difference"]
    sure = "certain" if row["p_holm"] < LEVEL else "not certain"
    return f"{best} is {gap:+.1%} against preferring the longer response, which is {sure}."


def _fitted(
    config: Mapping[str, Any], learn: PreferenceData, folder: Path, test: float
) -> tuple[RewardModel | Exception, dict[str, Any]]:
    """A model fitted now or before, and facts about its fit; or the error that kept it from being fitted."""
    from palate.reward import RewardModel

    run = Run(folder, {**config, "test": test, "data": learn.fingerprint()})
    if run.done("fit"):
        return RewardModel.load(folder), run.read_json("fit.json")
    begun = time.perf_counter()
    try:
        model = RewardModel(**config).fit(learn, run=run)
    except (PalateError, RuntimeError) as error:
        if [path.name for path in folder.iterdir()] == ["config.json"]:
            shutil.rmtree(folder)
        return error, {}
    fact = {
        "groups": model.n_groups_,
        "fit_seconds": round(time.perf_counter() - begun, 3),
        "converged": bool(model.fit_.get("converged", True)),
    }
    model.save(folder)
    run.write_json("fit.json", fact)
    run.finish("fit")
    return model, fact


def _embed(data: PreferenceData, settings: Mapping[str, Any]) -> None:
    """Fill the cache of embeddings, so that the seconds of a fit are those of the fit."""
    from palate.reward import RewardModel, inputs

    model = RewardModel(**settings)
    encoder = model.encoder
    if not isinstance(encoder, str) or encoder == "features" or model.mode != "frozen":
        return
    if not data.has("responses"):  # the first fit says so
        return
    from palate.models import embed, load_encoder

    prompts, responses, _ = inputs.unique_texts(*inputs.texts_of(data))
    loaded = load_encoder(encoder)
    for block in inputs.encoder_texts(prompts, responses, model.text):
        embed(loaded, block)


def _over_splits(reports: Sequence[Report]) -> pl.DataFrame:
    every = pl.concat(
        [
            report.tables["models"].select(
                "model", "accuracy", best=pl.col("accuracy") == pl.col("accuracy").max()
            )
            for report in reports
        ]
    )
    accuracy = pl.col("accuracy")
    return (
        every.group_by("model", maintain_order=True)
        .agg(
            splits=pl.len(), mean=accuracy.mean(), lowest=accuracy.min(), highest=accuracy.max(),
            times_best=pl.col("best").sum(),
        )
        .sort("mean", descending=True, maintain_order=True)
    )  # fmt: skip


def slug(head: str, loss: str) -> str:
    """The name of a combination's folder."""
    return re.sub(r"[^\w.+*-]+", "", f"{head}-{loss}").replace("*", "x")
