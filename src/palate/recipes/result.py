"""The outcome of a recipe: effects over seeds, their intervals, and the verdict."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.special import stdtrit

import palate
from palate.errors import ConfigError, unknown
from palate.recipes.spec import Check, Recipe
from palate.runs import atomic_write, to_json

LEVEL = 0.95


class CheckResult(BaseModel):
    """One check of a recipe; means over seeds, `effect` the mean of `method - baseline`."""

    model_config = ConfigDict(frozen=True)

    method: str
    baseline: str
    direction: str
    threshold: float
    method_mean: float
    baseline_mean: float
    effect: float
    interval: tuple[float, float]
    holds: bool
    firm: bool


class RecipeResult(BaseModel):
    """What a recipe showed; the first five numbers are those of its first check.

    Attributes:
        baseline: mean of the baseline over seeds.
        effect: mean paired difference to it.
        interval: 95% t-interval of the effect over seeds.
        threshold: what the interval is held against (see `palate.recipes.spec.Check`).
        holds: whether all checks hold.
        firm: whether all hold with their whole interval.
        seconds: of all seeds, also those a resumed run found done.
        checks: every check.
        means: mean of each value of the experiment over seeds.
        errors: standard error of each mean.
        values: the values of each seed, in the order of `seeds`.
        versions: of Python and of the packages the numbers depend on.
        recipe: fingerprint of the recipe that was run.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    paper: str
    number: int
    claim: str
    metric: str
    size: str
    seeds: list[int]
    baseline: float
    effect: float
    interval: tuple[float, float]
    threshold: float
    holds: bool
    firm: bool
    seconds: float
    checks: list[CheckResult]
    means: dict[str, float]
    errors: dict[str, float]
    values: list[dict[str, float]]
    notes: list[str]
    versions: dict[str, str]
    recipe: str


def judge(check: Check, values: Sequence[Mapping[str, float]]) -> CheckResult:
    """Hold one check against the values of every seed, shape (seeds,) of mappings."""
    for key in (check.method, check.baseline):
        if key not in values[0]:
            raise unknown("value of the experiment", key, values[0])
    method = np.array([value[check.method] for value in values])
    baseline = np.array([value[check.baseline] for value in values])
    difference = method - baseline
    effect = float(difference.mean())
    n = len(difference)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * difference.std(ddof=1) / math.sqrt(n))
    lower, upper = effect - half, effect + half
    holds, firm = {
        "at_least": (
            effect >= check.threshold and lower > min(0.0, check.threshold),
            lower >= check.threshold,
        ),
        "at_most": (
            effect <= check.threshold and upper < max(0.0, check.threshold),
            upper <= check.threshold,
        ),
        "within": (inside := -check.threshold <= lower and upper <= check.threshold, inside),
    }[check.direction]
    return CheckResult(
        **check.model_dump(), method_mean=float(method.mean()), baseline_mean=float(baseline.mean()),
        effect=effect, interval=(lower, upper), holds=holds, firm=holds and firm,
    )  # fmt: skip


def conclude(
    recipe: Recipe, size: str, seeds: Sequence[int], values: Sequence[Mapping[str, float]], seconds: float
) -> RecipeResult:
    """Put the values of all seeds together."""
    checks = [judge(check, values) for check in recipe.checks]
    table = {key: np.array([value[key] for value in values]) for key in values[0]}
    head = checks[0]
    return RecipeResult(
        name=recipe.name, paper=recipe.paper, number=recipe.number, claim=recipe.claim, metric=recipe.metric,
        size=size, seeds=list(seeds), baseline=head.baseline_mean, effect=head.effect, interval=head.interval,
        threshold=head.threshold, holds=all(check.holds for check in checks),
        firm=all(check.firm for check in checks), seconds=round(seconds, 1),
        checks=checks, means={key: float(column.mean()) for key, column in table.items()},
        errors={key: float(column.std(ddof=1) / math.sqrt(len(column))) for key, column in table.items()},
        values=[dict(value) for value in values], notes=list(recipe.notes), versions=versions(),
        recipe=recipe.fingerprint(),
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, and the kind of machine."""
    found = {"palate": palate.__version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in ("numpy", "scipy", "torch", "transformers", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def record(result: RecipeResult, folder: str | Path) -> Path:
    """Write the result to ``folder/NAME.json``, whole or not at all, and say where."""
    path = Path(folder) / f"{result.name}.json"
    with atomic_write(path) as file:
        file.write(to_json(result.model_dump(mode="json")) + "\n")
    return path


def recorded(name: str, folder: str | Path) -> RecipeResult | None:
    """The result recorded in `folder`, None if there is none; ConfigError if the file is something else."""
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        return None
    try:
        return RecipeResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise ConfigError(
            f"{path}: field '{field}': {first['msg']}; run `palate recipe run {name}` to make it anew"
        ) from None
