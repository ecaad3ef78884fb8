"""A score per aspect read off its levels: how near a response's vector is to that of each level."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.losses import Scored
from palate.reward.heads.attributes import OVERALL, check_taught
from palate.reward.heads.base import Batch, Head

if TYPE_CHECKING:
    from palate.training import TrainingGroups


class LevelHead(Head):
    """A vector per aspect, held against a vector for each level of its scale, as CLIP holds an image against
    texts (Rank2Score, arXiv 2509.23841)::

        score_d = sum_l v_l softmax_l(cos(z_d, L_dl) / T)

    with z_d the response's vector of aspect d (a part of the outputs), L_dl that of level l (learnt here, not
    read from the level's name) and v_l the level's value. The overall score is the mean over aspects.

    A cosine is at most 1, so scores reach the ends of the scale only as T goes to 0; see `reach`.

    Args:
        names: aspects in order; None takes those the judgments name. Without any there is one score.
        low, high: values of the first and the last level; the others are evenly spaced.
        levels: how many levels.
        temperature: T above 0.
        dim: length of the vectors.
        learn: whether vectors of levels are learnt; False keeps them as they are, as in the paper's second
            stage.

    Raises:
        ConfigError: a parameter out of range, or an aspect twice.
    """

    name = "levels"
    support: Tensor
    prompts: Tensor

    def __init__(
        self,
        names: list[str] | None = None,
        low: float = 1.0,
        high: float = 5.0,
        levels: int = 5,
        temperature: float = 1.0,
        dim: int = 32,
        learn: bool = True,
    ) -> None:
        names = list(names or [])
        if len(set(names)) < len(names) or OVERALL in names:
            raise ConfigError("aspects of the head 'levels' need different names, other than 'overall'")
        if levels < 2 or not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ConfigError(
                f"a scale needs two levels or more that go up; got {levels} from {low} to {high}"
            )
        if not 0 < temperature < math.inf:
            raise ConfigError(f"temperature must be above 0 and finite; got {temperature}")
        if dim < 1:
            raise ConfigError(f"dim must be 1 or more; got {dim}")
        self.count, self.dim = max(len(names), 1), dim
        super().__init__(self.count * dim)
        self.aspects, self.temperature = tuple(names), float(temperature)
        self.register_buffer("support", torch.linspace(low, high, levels, dtype=torch.float64))
        start = torch.randn(self.count, levels, dim, dtype=torch.float64)
        if learn:
            self.prompts = nn.Parameter(start)
        else:
            self.register_buffer("prompts", start)
        self.params = {
            "names": names, "low": float(low), "high": float(high), "levels": levels,
            "temperature": float(temperature), "dim": dim, "learn": learn,
        }  # fmt: skip

    @classmethod
    def for_data(cls, data: PreferenceData, **params: Any) -> Self:
        """A head for the aspects that the judgments name, unless `names` says which.

        Warns (`PalateWarning`) of scores that lie beyond the reach of the temperature by more than 1 % of the
        scale.

        Raises:
            DataError: a score outside the levels.
        """
        if params.get("names") is None:
            codes, names = data.codes("aspect")
            found = [name for i, name in enumerate(names) if name != OVERALL and (codes == i).any()]
            params["names"] = found
        head = cls(**params)
        scores = data.scores
        low, high = float(head.support[0]), float(head.support[-1])
        outside = (scores < low) | (scores > high)  # not so for NaN
        if outside.any():
            place = int(np.flatnonzero(outside)[0])
            row = int(data.row_numbers[np.searchsorted(data.offsets(), place, side="right") - 1])
            raise DataError(
                f"a score of {scores[place]:g} on levels from {low:g} to {high:g}", row=row, field="scores",
                file=data.source,
                remedy="give the head low and high, or NaN where an aspect does not apply",
            )  # fmt: skip
        least, most = head.reach
        slack = 0.01 * (high - low)
        beyond = (scores < least - slack) | (scores > most + slack)
        if beyond.any():
            warnings.warn(
                f"{int(beyond.sum())} of {int((~np.isnan(scores)).sum())} scores lie outside {least:.3g} to "
                f"{most:.3g}, which is as far as the head 'levels' reaches at temperature "
                f"{head.temperature:g}; lower it to reach them",
                PalateWarning,
                stacklevel=2,
            )
        return head

    @property
    def reach(self) -> tuple[float, float]:
        """The lowest and the highest score that any cosines could give, in units of the scale."""
        # The upper levels have cosine 1, the others -1; how many there are decides.
        k = torch.arange(len(self.support))
        weights = torch.where(k[None, :] >= k[:, None], 1.0, math.exp(-2 / self.temperature)).double()
        most = float((weights @ self.support / weights.sum(1)).max())
        return float(self.support[0] + self.support[-1]) - most, most

    def check(self, groups: TrainingGroups) -> None:
        """Refuse aspects that nothing teaches, or whose labels are all equal; see `Head.check`."""
        if not self.aspects:
            return
        check_taught(self.aspects, groups)
        aspect = groups.extra["aspect"]
        for code, name in enumerate(self.aspects):
            rows = aspect == code
            labels = groups.targets[rows][groups.mask[rows]]
            if labels.min() == labels.max():
                raise DataError(
                    f"all labels of the aspect {name!r} are {labels[0]:g}, which teaches nothing of it",
                    field="scores", remedy="leave the aspect out, or give judgments that differ",
                )  # fmt: skip

    def vectors(self, outputs: Tensor) -> Tensor:
        """z: shape (..., aspects, dim) from outputs of shape (..., width)."""
        return outputs.reshape(*outputs.shape[:-1], self.count, self.dim)

    def by_aspect(self, outputs: Tensor) -> Tensor:
        near = F.normalize(self.prompts.to(outputs.dtype), dim=-1)
        cosine = torch.einsum("...ad,ald->...al", F.normalize(self.vectors(outputs), dim=-1), near)
        return torch.softmax(cosine / self.temperature, -1) @ self.support.to(outputs)

    def score(self, outputs: Tensor) -> Tensor:
        return self.by_aspect(outputs).mean(-1)

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        """Scores of the judgment's aspect, and as `outputs` the vectors they come from, shape (batch, k,
        dim)."""
        scores, vectors = self.by_aspect(outputs), self.vectors(outputs)
        overall, middle = scores.mean(-1), vectors.mean(-2)
        aspect = batch.get("aspect")
        if aspect is None:
            return Scored(overall, outputs=middle)
        rows, own = torch.arange(len(outputs), device=outputs.device), aspect.clamp(min=0)
        none = aspect[:, None] < 0
        return Scored(
            torch.where(none, overall, scores[rows, :, own]),
            outputs=torch.where(none[:, :, None], middle, vectors[rows, :, own]),
        )
