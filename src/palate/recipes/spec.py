"""What a recipe file says: one paper's claim as a composition of parts, and what would show it."""

from __future__ import annotations

import hashlib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate.errors import ConfigError, unknown
from palate.runs import to_json

Size = Literal["small", "gpu", "paper"]
SIZES: tuple[Size, ...] = ("small", "gpu", "paper")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Components(Strict):
    """Which part stands on which axis; "none" where the paper leaves one out."""

    data: str
    judge: str
    curation: str
    parametrisation: str
    loss: str
    training: str
    evaluation: str


class Check(Strict):
    """A comparison of two values of the experiment, paired by seed.

    The effect is the mean of `method - baseline` over seeds, with its 95% t-interval. The check holds if

    - at_least: the effect is at least `threshold`, and the interval above 0 (above a negative `threshold`,
    which
      says "not worse by more than");
    - at_most: the effect is at most `threshold`, and the interval below 0 (or below a positive `threshold`);
    - within: the whole interval lies in [-threshold, threshold] (a negative control: no gap is expected).

    It is *firm* if the whole interval is on the right side of the threshold, so that other seeds would hardly
    say otherwise. Where it is not, the table of papers says "holds on average".
    """

    method: str
    baseline: str
    direction: Literal["at_least", "at_most", "within"] = "at_least"
    threshold: float

    @model_validator(mode="after")
    def _band(self) -> Check:
        if self.direction == "within" and self.threshold <= 0:
            raise ValueError("a threshold of direction 'within' is half a band and must be above 0")
        return self


class DataFile(Strict):
    """A file the project may not ship: where it lies in the user's data folder, and where it comes from."""

    path: str
    source: str


class SizeSpec(Strict):
    """What a size changes."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    seeds: int | None = Field(None, ge=3)


class Recipe(Strict):
    """A paper's claim and the experiment that checks it.

    Attributes:
        name: how it is run, the name of its file.
        number: of the paper among those the project covers.
        package: where the paper's part lives.
        claim: what is checked, in a sentence.
        metric: what the experiment's values are.
        experiment: a name of `palate.recipes.experiments.EXPERIMENTS`.
        checks: the first is the headline; the recipe holds if all do.
        seeds: how many.
        fast: whether every change of the project reruns it.
        parameters: of the experiment, at every size; a size changes some.
        files: data that the experiment reads from the user's folder; it gets that folder as `folder`.
        notes: what a reader must know to read the verdict.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    number: int = Field(ge=1)
    paper: str
    package: str
    claim: str
    metric: str
    experiment: str
    components: Components
    checks: tuple[Check, ...] = Field(min_length=1)
    seeds: int = Field(ge=3)
    fast: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)
    files: tuple[DataFile, ...] = ()
    sizes: dict[Size, SizeSpec]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_small(self) -> Recipe:
        if "small" not in self.sizes:
            raise ValueError("sizes must hold 'small', which fits two CPU cores")
        return self

    def size(self, size: str) -> SizeSpec:
        """What `size` changes; ConfigError if the recipe cannot be run at it."""
        for name, spec in self.sizes.items():
            if name == size:
                return spec
        known = ", ".join(self.sizes)
        raise ConfigError(f"the recipe {self.name!r} has no size {size!r}; it has: {known}")

    def parameters_at(self, size: str) -> dict[str, Any]:
        """The experiment's parameters at `size`."""
        return _merge(self.parameters, self.size(size).parameters)

    def folder(self, given: str | Path | None) -> dict[str, str]:
        """What the experiment is told of the user's data: `folder`, or nothing if it needs none.

        Raises:
            ConfigError: a file is not there; the message names all that are missing and their sources.
        """
        if not self.files:
            return {}
        missing = [f for f in self.files if given is None or not Path(given, f.path).is_file()]
        if missing:
            where = "no data folder was given (--data)" if given is None else f"{given} lacks files"
            wanted = "; ".join(f"{f.path} (from {f.source})" for f in missing)
            raise ConfigError(
                f"the recipe {self.name!r} reads data that cannot be shipped; {where}: {wanted}"
            )
        return {"folder": str(given)}

    def fingerprint(self) -> str:
        """A hash of what decides the outcome: a result of another form of the recipe does not count."""
        decides = self.model_dump(include={"experiment", "checks", "parameters", "sizes"}, mode="json")
        return hashlib.sha256(to_json(decides).encode()).hexdigest()[:16]


def parse(text: str, source: str) -> Recipe:
    """Read a recipe; ConfigError names the file, the field and the problem."""
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise ConfigError(f"{source}: field '{field}': {first['msg']}") from None


def names(*, fast: bool = False) -> list[str]:
    """Names of all recipes in the order of their papers, or of those marked fast."""
    recipes = sorted((get(name) for name in _files()), key=lambda recipe: (recipe.number, recipe.name))
    return [recipe.name for recipe in recipes if recipe.fast or not fast]


def get(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        ConfigError: there is none, or its file is not a recipe.
    """
    known = _files()
    if name not in known:
        raise unknown("recipe", name, known)
    recipe = parse(files("palate.recipes").joinpath(f"{name}.toml").read_text("utf-8"), f"{name}.toml")
    if recipe.name != name:
        raise ConfigError(f"{name}.toml: field 'name': {recipe.name!r} is not the name of the file")
    return recipe


def _files() -> list[str]:
    found = (entry.name for entry in files("palate.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
