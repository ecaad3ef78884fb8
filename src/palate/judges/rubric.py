"""Rubrics of named principles: what a rater looks at one by one, and how the ratings weigh."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate.errors import ConfigError, unknown

if TYPE_CHECKING:
    from palate.judges.answers import Answerer
    from palate.judges.feature_judge import FeatureJudge
    from palate.models import CausalLM


class Principle(BaseModel):
    """One principle a response is rated on.

    Attributes:
        name: of the aspect its ratings carry.
        text: what a rater is told to look at.
        weight: in the mean over principles, 0 or more.
        veto: whether a response that is worse on it may never be chosen over another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    text: str = Field(min_length=1)
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    veto: bool = False


class Rubric(BaseModel):
    """Principles for one kind of response, rated from 1 to 5 each.

    Attributes:
        name: of the rubric.
        about: what it is for.
        principles: in order.

    >>> Rubric.load("helpsteer").names
    ('helpfulness', 'correctness', 'coherence', 'complexity', 'verbosity')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str = ""
    principles: tuple[Principle, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Rubric:
        if len(set(self.names)) != len(self.names):
            raise ValueError("two principles have one name")
        return self

    @classmethod
    def load(cls, name: str | Path) -> Rubric:
        """A rubric that comes with the library (`shipped`), or one from a TOML file.

        Raises:
            ConfigError: there is none of this name, or the file is no rubric; one line naming the field.
        """
        if str(name) in shipped():
            text, place = _folder().joinpath(f"{name}.toml").read_text("utf-8"), f"{name}.toml"
        elif Path(name).suffix == ".toml":
            place = str(name)
            try:
                text = Path(name).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{place} cannot be read: {error}") from None
        else:
            raise unknown("rubric", str(name), (*shipped(), "a .toml file"))
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{place}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "rubric"
            raise ConfigError(f"{place}: field {field!r}: {first['msg']}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the principles."""
        return tuple(principle.name for principle in self.principles)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each principle."""
        return {principle.name: principle.weight for principle in self.principles}

    @property
    def veto(self) -> tuple[str, ...]:
        """Principles with a veto."""
        return tuple(principle.name for principle in self.principles if principle.veto)

    def judge(self, lm: str | CausalLM | Answerer = "smollm2-135m-instruct", **options: Any) -> FeatureJudge:
        """A judge that asks a language model about one principle at a time and gives one rating per aspect.

        Args:
            lm: what answers; a model given by name is loaded once for all principles.
            **options: of `palate.judges.LLMRater`.
        """
        from palate.judges.feature_judge import FeatureJudge
        from palate.judges.llm import LLMRater

        if isinstance(lm, str):
            from palate.models import load_causal_lm

            lm = load_causal_lm(lm)
        raters = {p.name: LLMRater(lm, f"{p.name}: {p.text}", **options) for p in self.principles}
        return FeatureJudge(raters, (1.0, 5.0), name=self.name)


def shipped() -> list[str]:
    """Names of the rubrics that come with the library."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")
    )


def _folder() -> Any:
    return files("palate.judges").joinpath("rubrics")
