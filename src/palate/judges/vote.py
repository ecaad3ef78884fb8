"""Several judges in place of one: each has a vote, and most votes decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from palate.errors import ConfigError, unknown
from palate.judges.base import Comparison, Judge


@dataclass
class Vote(Judge):
    """Compares by the votes of several judges (majority across models, Liu et al., 2025).

    With p_m the probability that judge m gives a, and v_m = 1, 1/2 or 0 as p_m is above, at or below 1/2
    (``within="majority"``; p_m itself with "mean"), the probability is the mean of v_m over the judges that
    answered. It exceeds 1/2 exactly if most votes are for a.

    Attributes:
        judges: two or more, with different names.
        within: what one judge has: a "majority" vote (of its own repeated samples, say), or its "mean"
            probability.
        across: "majority": the share of votes; "unanimous": 1 or 0 where all that answered agree, else as
            for a tie.
        tie: a draw is an answer withheld ("abstain", NaN), or "half".

    The trace holds each judge's probability. A judge's missing answer is no vote; where none answers the
    verdict is missing.
    """

    judges: Sequence[Judge]
    within: Literal["majority", "mean"] = "majority"
    across: Literal["majority", "unanimous"] = "majority"
    tie: Literal["abstain", "half"] = "abstain"
    name: str = field(default="vote", kw_only=True)
    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("value of within", self.within, ("majority", "mean")),
            ("value of across", self.across, ("majority", "unanimous")),
            ("value of tie", self.tie, ("abstain", "half")),
        ):
            if value not in known:
                raise unknown(what, value, known)
        names = [judge.name for judge in self.judges]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"a vote needs two judges or more with different names; got {', '.join(names) or 'none'}"
            )

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        asked = np.stack([judge.compare(prompts, a, b, **options).probability for judge in self.judges])
        answered = ~np.isnan(asked)
        votes = asked if self.within == "mean" else np.heaviside(asked - 0.5, 0.5)
        votes = np.where(answered, votes, 0.0)
        count = answered.sum(axis=0)
        share = np.divide(votes.sum(axis=0), count, out=np.full(len(prompts), np.nan), where=count > 0)
        if self.across == "unanimous":
            against = ((votes < 0.5) & answered).sum(axis=0)
            same = np.maximum((votes > 0.5).sum(axis=0), against) == count
            share = np.where(count > 0, np.where(same, np.heaviside(share - 0.5, 0.5), 0.5), np.nan)
        even = np.abs(share - 0.5) < 1e-12
        probability = np.where(even, np.nan if self.tie == "abstain" else 0.5, share)
        names = [judge.name for judge in self.judges]
        trace = [dict(zip(names, row, strict=True)) for row in asked.T.tolist()]
        return Comparison(probability, trace=trace)
