"""Scores of several named aspects, and a merit vector that weighs them into one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, unknown
from palate.losses import Scored
from palate.reward.heads.base import Batch, Head

if TYPE_CHECKING:
    from palate.training import TrainingGroups

OVERALL = "overall"
"""The aspect that stands for the weighted sum, as no aspect does."""


class AttributesHead(Head):
    """One output per aspect, and a merit vector m that weighs them into one score: ``sum_a m_a output_a``.

    Judgments of an aspect train the output of that aspect, judgments without aspect (or of "overall") the
    weighted sum, under whichever loss. With the loss "mse" and ratings it is the attribute regression of
    HelpSteer2 (Wang et al., 2024), where a rating that is missing counts for nothing; the weighted sum is
    what they call goodness. The merit of an aspect may be negative (verbosity).

    Args:
        names: aspects in order of the outputs; None takes those the judgments name, in their order.
        merit: weight of each aspect in the overall score, by name; an aspect left out weighs 0. None weighs
            all the same, 1 / number of aspects.
        learn_merit: whether overall judgments train the merit vector too, from `merit` on.

    Raises:
        ConfigError: no aspect, one twice, one named "overall", a merit of an aspect that is not there, or
            one that is not finite.
    """

    name = "attributes"
    merit: Tensor

    def __init__(
        self,
        names: list[str] | None = None,
        merit: Mapping[str, float] | None = None,
        learn_merit: bool = False,
    ) -> None:
        if isinstance(names, str):
            raise ConfigError(f"names of the head 'attributes' must be a list; got {names!r}")
        if merit is not None and not isinstance(merit, Mapping):
            raise ConfigError(f"merit must be a mapping of aspects to weights; got {merit!r}")
        if not names:
            raise ConfigError("the head 'attributes' needs the names of its aspects, at least one")
        for name in names:
            if list(names).count(name) > 1:
                raise ConfigError(f"the head 'attributes' names the aspect {name!r} twice")
        if OVERALL in names:
            raise ConfigError("'overall' is the weighted sum of the aspects; give an aspect another name")
        for name, weight in (merit or {}).items():
            if name not in names:
                raise unknown("aspect in merit", name, names)
            if not math.isfinite(weight):
                raise ConfigError(f"the merit of {name!r} is {weight}; give a finite number")
        super().__init__(len(names))
        self.aspects = tuple(names)
        weights = [1 / len(names)] * len(names) if merit is None else [merit.get(name, 0.0) for name in names]
        start = torch.tensor(weights, dtype=torch.float64)
        if learn_merit:
            self.merit = nn.Parameter(start)
        else:
            self.register_buffer("merit", start)
        self.params = {
            "names": list(names), "merit": None if merit is None else dict(merit), "learn_merit": learn_merit,
        }  # fmt: skip

    @classmethod
    def for_data(cls, data: PreferenceData, **params: Any) -> Self:
        """A head for the aspects that the judgments name, unless `names` says which.

        Raises:
            DataError: the judgments name no aspect, and `names` none either.
        """
        if params.get("names") is None:
            codes, names = data.codes("aspect")
            found = [name for i, name in enumerate(names) if name != OVERALL and (codes == i).any()]
            if not found:
                raise DataError(
                    "the head 'attributes' learns aspects, and no judgment names one", field="aspect",
                    file=data.source, remedy="give judgments their aspect, or use head='scalar'",
                )  # fmt: skip
            params["names"] = found
        return cls(**params)

    def check(self, groups: TrainingGroups) -> None:
        """Refuse to score aspects that nothing teaches; see `Head.check`."""
        check_taught(self.aspects, groups)

    def by_aspect(self, outputs: Tensor) -> Tensor:
        return outputs

    def score(self, outputs: Tensor) -> Tensor:
        return outputs @ self.merit.to(outputs.dtype)

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        overall = self.score(outputs)
        aspect = batch.get("aspect")
        if aspect is None:
            return Scored(overall, outputs=outputs)
        rows = torch.arange(len(outputs), device=outputs.device)
        of_aspect = outputs[rows, :, aspect.clamp(min=0)]
        return Scored(torch.where(aspect[:, None] < 0, overall, of_aspect), outputs=outputs)


def check_taught(aspects: Sequence[str], groups: TrainingGroups) -> None:
    """Refuse aspects that no group is of.

    Raises:
        DataError: which ones.
    """
    taught = np.unique(groups.extra["aspect"])
    missing = [name for code, name in enumerate(aspects) if code not in taught]
    if missing:
        raise DataError(
            f"no judgment to learn {', '.join(map(repr, missing))} from (ties do not count where the "
            "loss leaves them out)",
            field="aspect", remedy="leave the aspect out of the head's names, or give judgments of it",
        )  # fmt: skip
