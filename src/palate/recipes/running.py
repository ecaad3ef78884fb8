"""Running recipes: seed by seed, so that an interrupted run goes on with the seeds left."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from palate.errors import CheckFailed, ConfigError, PalateError
from palate.progress import track
from palate.recipes import experiments
from palate.recipes.result import RecipeResult, conclude, recorded
from palate.recipes.spec import Recipe, get
from palate.runs import Run

LEAST_SEEDS = 3


def run(
    recipe: str | Recipe,
    size: str = "small",
    seeds: int | Sequence[int] | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
) -> RecipeResult:
    """Run a recipe and hold its claim against the outcome.

    Args:
        recipe: its name, or a `Recipe`.
        size: "small", "gpu" or "paper".
        seeds: how many (from 0), or which; the recipe says without it.
        out: a run folder. Each seed is written there when it is done; the same call on the folder of an
            interrupted run does the seeds left. The result is ``result.json``.
        data: folder of the files a recipe names in `files`.

    Raises:
        ConfigError: unknown recipe or size, fewer than 3 seeds, a seed twice, `out` holds another run, or a
            file of the user's is not in `data`.
    """
    recipe = get(recipe) if isinstance(recipe, str) else recipe
    chosen = _seeds(recipe, size, seeds)
    parameters = recipe.parameters_at(size) | recipe.folder(data)
    experiment = experiments.resolve(recipe.experiment)
    config = {"recipe": recipe.name, "fingerprint": recipe.fingerprint(), "size": size, "seeds": chosen}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="palate-"))) if out is None else Path(out)
        run_folder = Run(folder, config)
        values, seconds = [], 0.0
        for seed in track(chosen, f"recipe {recipe.name}"):
            file = f"seeds/{seed}.json"
            if not run_folder.path(file).exists():
                start = time.perf_counter()
                outcome = experiment(seed, parameters)
                for key, value in outcome.items():
                    if not math.isfinite(value):
                        raise PalateError(f"recipe {recipe.name!r}, seed {seed}: {key!r} came out as {value}")
                run_folder.write_json(file, {"values": outcome, "seconds": time.perf_counter() - start})
            done = run_folder.read_json(file)
            values.append(done["values"])
            seconds += done["seconds"]
        result = conclude(recipe, size, chosen, values, seconds)
        run_folder.write_json("result.json", result.model_dump(mode="json"))
    return result


def check(
    name: str, folder: str | Path, out: str | Path | None = None, data: str | Path | None = None
) -> RecipeResult:
    """Run a recipe again as it was recorded in `folder` and compare the verdicts.

    Raises:
        CheckFailed: a verdict changed.
        ConfigError: nothing is recorded, or the recipe has changed since.
    """
    before = recorded(name, folder)
    recipe = get(name)
    if before is None:
        raise ConfigError(f"no result of {name!r} in {folder}; run `palate recipe run {name}` first")
    if before.recipe != recipe.fingerprint():
        raise ConfigError(
            f"the recipe {name!r} has changed since its result; run `palate recipe run {name}` again"
        )
    after = run(recipe, before.size, before.seeds, out, data)
    for old, new in zip(before.checks, after.checks, strict=True):
        if old.holds != new.holds:
            raise CheckFailed(
                f"recipe {name!r}: {new.method} against {new.baseline} {_verdict(old.holds)} before and "
                f"{_verdict(new.holds)} now (effect {old.effect:.4f} then, {new.effect:.4f} now)"
            )
    return after


def _verdict(holds: bool) -> str:
    return "held" if holds else "did not hold"


def _seeds(recipe: Recipe, size: str, seeds: int | Sequence[int] | None) -> list[int]:
    if seeds is None:
        seeds = recipe.size(size).seeds or recipe.seeds
    chosen = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if len(set(chosen)) != len(chosen):
        raise ConfigError("a seed is given twice; each can count once only")
    if len(chosen) < LEAST_SEEDS:
        raise ConfigError(f"a verdict needs at least {LEAST_SEEDS} seeds, got {len(chosen)}")
    if any(seed < 0 for seed in chosen):
        raise ConfigError("seeds must be 0 or more")
    return chosen
