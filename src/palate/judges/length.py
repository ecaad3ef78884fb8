"""The simplest judge: the longer (or the shorter) response is better. A baseline every other judge has to
beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from palate.errors import unknown
from palate.judges.base import Judge, Scores

Unit = Literal["characters", "words"]
Preference = Literal["longer", "shorter"]


@dataclass
class LengthJudge(Judge):
    """Prefers the longer response, or the shorter one.

    Attributes:
        unit: what is counted: "characters" (Unicode code points, as the text stands) or "words" (what
            white space separates).
        prefer: "longer" or "shorter".

    The score is the count, negative where shorter is preferred; only its order means something.

    >>> LengthJudge().compare(["Hi"], ["Hello there"], ["Hello"]).probability.tolist()
    [1.0]
    """

    unit: Unit = "characters"
    prefer: Preference = "longer"
    name: str = field(default="length", kw_only=True)
    kind: ClassVar[str] = "rule"
    native: ClassVar[frozenset[str]] = frozenset({"score"})
    order_matters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise unknown("unit", self.unit, get_args(Unit))
        if self.prefer not in get_args(Preference):
            raise unknown("preference", self.prefer, get_args(Preference))

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        count = len if self.unit == "characters" else _count_words
        counts = np.fromiter((count(response) for response in responses), np.float64, len(responses))
        return Scores(counts if self.prefer == "longer" else -counts)


def _count_words(text: str) -> int:
    return len(text.split())
