"""`sweep`: reward models of several sizes on more and more data; `scaling_report`: laws of their losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, DataError, unknown
from palate.evaluate.joint_scaling import Axis, ScalingLaw, fit_scaling_law
from palate.evaluate.scaling import MEANINGS, PowerLaw, fit_power_law
from palate.evaluate.slices import slice_labels
from palate.evaluate.verdicts import ask
from palate.progress import track
from palate.report import Report
from palate.runs import Run
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.data import PreferenceData
    from palate.reward import RewardModel

Groups = Mapping[str, Sequence[str]]

ALL = "all"
"""Name of the group of all test pairs."""
COLUMNS = ("model", "parameters", "n", "seed", "group", "loss")
"""What `scaling_report` reads of a table of runs."""


def sweep(
    data: PreferenceData,
    folder: str | Path,
    *,
    models: Sequence[Mapping[str, Any]] = ({},),
    sizes: Sequence[int] | None = None,
    points: int = 6,
    seeds: int = 3,
    test: float | PreferenceData = 0.2,
    by: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Train reward models on nested samples of the data, and record their test loss.

    A seed draws an order of the judgments, of which a sample is the beginning, and the first weights. The
    test pairs are the same for all. Each model and size is a cell, kept in the folder: a call that was
    interrupted goes on with the cells that are not there.

    Args:
        data: judgments.
        folder: run folder; the table is ``losses.csv``, and cells are in ``cells``.
        models: what tells one `RewardModel` from another: ``[{"hidden": [8]}, {"hidden": [64]}]``, or
            encoders. Their size is the number of weights that are trained.
        sizes: numbers of judgments to learn from; `points` from a sixty-fourth of all to all, evenly spaced
            in their logarithm, where None.
        points: how many sizes.
        seeds: how many, from `seed` on.
        test: share of the prompts held out, or judgments to test on.
        by: a column or metadata key that names the group of each test pair.
        settings: what all models are given (encoder, loss, l2, ...).
        seed: of the split and the first order.

    Returns:
        One row for each cell, seed and group, "all" being one: model, parameters, n, seed, group, pairs,
        loss (the mean of ``-log sigmoid(score difference)`` in nats), accuracy (a tied score counts half)
        and whether the fit converged. Test pairs that are tied are left out.

    Raises:
        ConfigError: a size is out of range or given twice, no model, `seeds` or `points` below 1, unknown
            settings, a loss whose scores are no log-odds, or an unknown group.
        DataError: nothing to learn from or to test on.
    """
    from palate.reward import RewardModel

    if seeds < 1 or points < 1:
        raise ConfigError(f"seeds and points must be 1 or more; got {seeds} and {points}")
    learn, held_out = data.split(test, by="prompt", seed=seed) if isinstance(test, float) else (data, test)
    chosen = _sizes(learn.n_rows, sizes, points)
    names = [_name(each) for each in models]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"give one or more models that differ; got {', '.join(names) or 'none'}")
    given = [{**(settings or {}), **each} for each in models]
    for each in given:
        if not RewardModel().set_params(**each).calibrated:
            raise ConfigError(
                f"scores under the loss {each.get('loss')!r} are no log-odds, so a test loss means nothing; "
                "sweep a likelihood such as bradley_terry"
            )
    run = Run(
        folder,
        {
            "command": "train sweep", "data": data.fingerprint(), "test": test if isinstance(test, float)
            else test.fingerprint(), "models": given, "sizes": chosen, "seeds": seeds, "seed": seed, "by": by,
        },
    )  # fmt: skip
    run.write_json("data.json", {"fingerprint": data.fingerprint(), **data.describe()})
    cells = [(s, m, n) for s in range(seed, seed + seeds) for m in range(len(given)) for n in chosen]
    rows: list[dict[str, Any]] = []
    for number, place, n in track(cells, "Sweep"):
        file = f"cells/{place}-{n}-{number}.json"
        if not run.path(file).exists():
            order = generator(number, "sweep").permutation(learn.n_rows)
            sample = learn.take(np.sort(order[:n]))
            model = RewardModel().set_params(**{**given[place], "seed": number}).fit(sample)
            facts = {
                "model": names[place], "parameters": trained_parameters(model), "n": n, "seed": number,
                "converged": bool(model.fit_.get("converged", True)),
            }  # fmt: skip
            run.write_json(file, [{**facts, **row} for row in _losses(model, held_out, by)])
        rows += run.read_json(file)
    table = pl.DataFrame(rows).select(
        "model", "parameters", "n", "seed", "group", "pairs", "loss", "accuracy", "converged"
    )
    table.write_csv(run.path("losses.csv"))
    return table


def trained_parameters(model: RewardModel) -> int:
    """How many weights of a fitted reward model were learnt, those of a frozen encoder not among them."""
    scorer: Any = model.scorer_
    module = scorer.network if hasattr(scorer, "network") else scorer.model
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def scaling_report(runs: pl.DataFrame, groups: Groups | None = None, *, seed: int = 0) -> Report:
    """Fit the laws of test losses, a class of test groups at a time, and say where none holds.

    The loss of a class is the mean over its groups. For every model a power law in the data is fitted, its
    interval over seeds where there are two or more; with three or more model sizes also the law in both.

    Args:
        runs: of `sweep`, or with its columns model, parameters, n, seed, group and loss.
        groups: class -> groups, such as ``{"adversarial": ["decoys", "errors"]}``; each group is a class of
            its own where None.
        seed: of the intervals of the law in both.

    Returns:
        Tables "scaling" (mean loss over seeds by class, model and n), "laws" (of each class and model; where
        a straight line is rejected, also the floor and exponent of a law with a floor) and "joint" where
        there are three or more model sizes. Metrics: "b/CLASS" of the largest model, with "b_lower/CLASS" and
        "b_upper/CLASS".

    Raises:
        ConfigError: an unknown group.
        DataError: a column is missing, or there are fewer than three sizes.
    """
    for name in COLUMNS:
        if name not in runs.columns:
            raise DataError(
                "is missing from the table of runs", field=name, remedy=f"give {', '.join(COLUMNS)}"
            )
    known = runs["group"].unique(maintain_order=True).to_list()
    classes = {name: [name] for name in known} if groups is None else {k: list(v) for k, v in groups.items()}
    for each in classes.values():
        for name in each:
            if name not in known:
                raise unknown("group", name, known)
    curves, laws, joint, notes = [], [], [], []
    numbers: dict[str, float] = {}
    for name, members in classes.items():
        keys = ["model", "parameters", "n", "seed"]
        losses = (
            runs.filter(pl.col("group").is_in(members)).group_by(keys, maintain_order=True)
            .agg(pl.col("loss").mean()).sort("parameters", "n", "seed", maintain_order=True)
        )  # fmt: skip
        curves.append(
            losses.group_by("model", "parameters", "n", maintain_order=True)
            .agg(pl.col("loss").mean(), seeds=pl.len())
            .select(pl.lit(name).alias("class"), pl.all())
        )
        for (model,), part in losses.group_by(["model"], maintain_order=True):
            law = _law(part)
            laws.append(_law_row(name, str(model), part, law))
            notes.append(f"{name}, {model}: {law}.")
            numbers |= {
                f"b/{name}": law.b,
                f"b_lower/{name}": law.interval[0],
                f"b_upper/{name}": law.interval[1],
            }
        if losses["parameters"].n_unique() > 2:
            both = fit_scaling_law(losses["parameters"], losses["n"], losses["loss"], seed=seed)
            joint.append(_joint_row(name, both))
            notes.append(_joint_note(name, both))
    tables = {"scaling": pl.concat(curves), "laws": pl.DataFrame(laws)}
    if joint:
        tables["joint"] = pl.DataFrame(joint)
    models, sizes = runs["model"].n_unique(), runs["n"].n_unique()
    return Report(
        title=f"Test loss of {models} reward {'model' if models == 1 else 'models'} at {sizes} sizes of data",
        metrics={key: value for key, value in numbers.items() if not np.isnan(value)},
        tables=tables, notes=notes, config={"groups": classes},
    )  # fmt: skip


def _law(losses: pl.DataFrame, floor: float | Literal["fit"] = 0.0) -> PowerLaw:
    several = losses["seed"].n_unique() > 1
    return fit_power_law(
        losses["n"].to_numpy(),
        losses["loss"].to_numpy(),
        floor,
        seed=losses["seed"].to_numpy() if several else None,
    )


def _law_row(name: str, model: str, losses: pl.DataFrame, law: PowerLaw) -> dict[str, Any]:
    floored = _law(losses, "fit") if law.verdict == "bends" else None
    return {
        "class": name, "model": model, "parameters": int(losses["parameters"][0]), "a": law.a, "b": law.b,
        "lower": law.interval[0], "upper": law.interval[1], "r2": law.r2, "bend": law.bend[0],
        "verdict": MEANINGS[law.verdict], "floor": floored.floor if floored else None,
        "b_above_floor": floored.b if floored else None,
    }  # fmt: skip


def _joint_row(name: str, law: ScalingLaw) -> dict[str, Any]:
    row: dict[str, Any] = {"class": name}
    for key, (low, high) in law.interval.items():
        row |= {key: getattr(law, key), f"{key}_lower": low, f"{key}_upper": high}
    return row | {"p_N": law.p["N"], "p_D": law.p["D"], "r2": law.r2}


def _joint_note(name: str, law: ScalingLaw) -> str:
    axes: tuple[tuple[Axis, str], ...] = (("N", "model size"), ("D", "data"))
    said = [
        f"{'a law' if law.holds(axis) else 'no law'} in {what} (p = {law.p[axis]:.2g})" for axis, what in axes
    ]
    return f"{name}: {law}; {' and '.join(said)}."


def _sizes(n: int, sizes: Sequence[int] | None, points: int) -> list[int]:
    if sizes is None:
        return sorted({round(size) for size in np.geomspace(min(max(n / 64, 10), n), n, points).tolist()})
    chosen = sorted(int(size) for size in sizes)
    if not chosen or chosen[0] < 1 or chosen[-1] > n or len(set(chosen)) < len(chosen):
        raise ConfigError(f"sizes must be different numbers from 1 to the {n:,} judgments; got {list(sizes)}")
    return chosen


def _name(model: Mapping[str, Any]) -> str:
    """What tells a model from the others, as a person reads it."""
    parts = [f"{key} {_shown(value)}" for key, value in model.items()]
    return ", ".join(parts) or "model"


def _shown(value: Any) -> str:
    return "×".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _losses(model: RewardModel, held_out: PreferenceData, by: str | None) -> list[dict[str, Any]]:
    verdicts = ask(model, held_out)
    decided = ~verdicts.tie
    if not decided.any():
        raise DataError("every test pair is tied", field="scores", file=held_out.source)
    margin = np.where(verdicts.chosen_first, verdicts.margin, -verdicts.margin)
    labels: dict[str, npt.NDArray[np.bool_]] = {ALL: decided}
    if by is not None:
        found = slice_labels(by, verdicts.pairs, held_out, required=True)
        assert found is not None
        for value in sorted({str(label) for label in found[decided] if label is not None}):
            labels[value] = decided & (found.astype(str) == value)
    return [
        {
            "group": name, "pairs": int(rows.sum()), "loss": float(np.logaddexp(0.0, -margin[rows]).mean()),
            "accuracy": float(((margin[rows] > 0) + 0.5 * (margin[rows] == 0)).mean()),
        }
        for name, rows in labels.items()
    ]  # fmt: skip
