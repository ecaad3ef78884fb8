"""Scores brought to a known level and spread, as policy gradients want them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges.base import Judge, Scores


@dataclass
class Rescaled(Judge):
    """``(score - centre) / spread`` of another judge's scores, and with `squash` the logistic of that.

    The order of responses stays as it was. Squashed scores lie in (0, 1).

    Attributes:
        judge: one that scores.
        centre, spread: in units of its scores; the spread is above 0.
        squash: whether to take the logistic function.
    """

    judge: Judge
    centre: float = 0.0
    spread: float = 1.0
    squash: bool = False
    name: str = field(default="rescaled", kw_only=True)
    native: ClassVar[frozenset[str]] = frozenset({"score"})
    order_matters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if "score" not in self.judge.native or self.judge.aspects:
            raise ConfigError(f"the judge {self.judge.name!r} has no single score to rescale")
        if not (np.isfinite(self.centre) and 0 < self.spread < np.inf):
            raise ConfigError(f"cannot rescale by centre {self.centre} and spread {self.spread}")

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        given = self.judge.score(prompts, responses, **options)
        scaled = (given.scores - self.centre) / self.spread
        return Scores(expit(scaled) if self.squash else scaled, trace=given.trace)


def standardize(judge: Judge, data: PreferenceData, *, squash: bool = False) -> Rescaled:
    """The judge with its scores of the data's responses at mean 0 and standard deviation 1.

    HelpSteer2 gives PPO the goodness of a response this way (Wang et al., 2024). Responses without a score do
    not count.

    Args:
        judge: one that scores texts, such as a reward model.
        data: judgments with responses; what they say of them is not read.
        squash: see `Rescaled`.

    Raises:
        DataError: fewer than two different scores.
    """
    scores = judge.annotate(data).scores
    scores = scores[~np.isnan(scores)]
    spread = float(scores.std()) if len(scores) else 0.0
    if not spread > 0:
        raise DataError(
            f"{len(scores)} scores of {judge.name!r} that do not differ have no spread to standardise by",
            field="responses", file=data.source, remedy="give responses of different quality",
        )  # fmt: skip
    return Rescaled(judge, float(scores.mean()), spread, squash, name=f"{judge.name}_standardized")
