"""Cumulative link models: a label of an ordered scale says between which cutpoints a noisy score fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.errors import DataError
from palate.losses.base import Loss, check_groups, mean_of_lists, require

MOST_LEVELS = 100
UNKNOWN = "ordinal knows no levels yet; give levels=[...] or train it on labels"


class Ordinal(Loss):
    """Minus the log-likelihood of labels on an ordered scale: ``P(y <= level_l) = F(c_l - s)``.

    McCullagh (1980). Only the order of the levels counts, not the distances between them: the cutpoints
    ``c_1 < ... < c_{K-1}``, in units of the scores, are learnt along and belong to the loss.

    Args:
        levels: the K values a label can take; None takes those that occur in the training set.
        link: F is the logistic ("logit", proportional odds) or the normal distribution function ("probit").

    Raises:
        ConfigError: fewer than two levels, or more than 100, or an unknown link.
        DataError: a label is none of the levels.
    """

    name = "ordinal"
    anchored = True
    min_items = 1
    first: nn.Parameter
    gaps: nn.Parameter
    values: Tensor

    def __init__(
        self, *, levels: Sequence[float] | None = None, link: Literal["logit", "probit"] = "logit"
    ) -> None:
        super().__init__()
        require(link in ("logit", "probit"), f"link must be 'logit' or 'probit', got {link!r}")
        self.link = link
        self.first, self.gaps = nn.Parameter(torch.empty(())), nn.Parameter(torch.empty(0))
        self.register_buffer("values", torch.empty(0, dtype=torch.float64))
        if levels is not None:
            self._set_levels(torch.as_tensor([float(level) for level in levels], dtype=torch.float64))

    def prepare(
        self,
        *,
        width: int | None = None,
        sources: Mapping[str, int] | None = None,
        targets: Tensor | None = None,
    ) -> None:
        """Find the levels if they were left open, and start the cutpoints at the shares of the levels."""
        if targets is None:
            return
        targets = targets.double()
        if not len(self.values):
            found = torch.unique(targets)
            if not 2 <= len(found) <= MOST_LEVELS:
                raise DataError(
                    f"ordinal found {len(found)} different labels", field="targets",
                    remedy=f"it wants a scale of 2 to {MOST_LEVELS} levels; use mse or two_hot for others",
                )  # fmt: skip
            self._set_levels(found)
        counts = torch.bincount(self._level(targets[:, None])[:, 0], minlength=len(self.values)) + 0.5
        below = (counts.cumsum(0) / counts.sum())[:-1]
        cutpoints = torch.logit(below) if self.link == "logit" else torch.special.ndtri(below)
        with torch.no_grad():
            self.first.copy_(cutpoints[0])
            self.gaps.copy_(cutpoints.diff().log())

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`."""
        batch = check_groups(self.name, scores, targets, mask, self.min_items)
        level = self._level(torch.where(batch.judged, targets.double(), torch.nan))
        values = -self.log_probabilities(batch.scores).gather(2, level[:, :, None])[:, :, 0]
        return mean_of_lists(values, batch.judged, weight)

    @property
    def levels(self) -> tuple[float, ...]:
        """The values a label can take, rising; empty before they are known."""
        return tuple(self.values.tolist())

    @property
    def cutpoints(self) -> Tensor:
        """The cutpoints c, rising, shape (K - 1,).

        Raises:
            ConfigError: the levels are not known yet.
        """
        require(len(self.values) > 0, UNKNOWN)
        return torch.cat([self.first[None], self.first + self.gaps.exp().cumsum(0)])

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Log-probability of each level, shape (..., K), at scores of shape (...)."""
        z = self.cutpoints.to(scores) - scores[..., None]
        if self.link == "logit":
            below, above = F.logsigmoid(z), F.logsigmoid(-z)
            # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), which never cancels.
            width = torch.log(-torch.expm1(-self.gaps.exp())).to(scores)
            middle = below[..., 1:] + above[..., :-1] + width
            return torch.cat([below[..., :1], middle, above[..., -1:]], -1)
        z = z.double()
        below, above = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
        lower, upper = z[..., :-1], z[..., 1:]
        # Differences are taken on the side where both are small, as 1 - 1 has no digits left.
        right = lower + upper > 0
        small = torch.special.log_ndtr(torch.where(right, -upper, lower))
        large = torch.special.log_ndtr(torch.where(right, -lower, upper))
        middle = large + torch.log(-torch.expm1((small - large).clamp(max=-1e-300)))
        return torch.cat([below[..., :1], middle, above[..., -1:]], -1).to(scores.dtype)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Probability of each level, shape (..., K), at scores of shape (...)."""
        return self.log_probabilities(scores).exp()

    def expected(self, scores: Tensor) -> Tensor:
        """Expected label, shape (...), in units of the labels, at scores of shape (...)."""
        return self.probabilities(scores) @ self.values.to(scores)

    def _set_levels(self, levels: Tensor) -> None:
        rising = torch.unique(levels)
        require(
            2 <= len(rising) <= MOST_LEVELS and bool(torch.isfinite(rising).all()),
            f"ordinal wants 2 to {MOST_LEVELS} different levels, got {len(rising)}",
        )
        self.values = rising
        self.first = nn.Parameter(torch.tensor(1 - len(rising) / 2).to(self.first))
        self.gaps = nn.Parameter(torch.zeros(len(rising) - 2).to(self.gaps))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}values")
        if saved is not None and len(saved):
            self._set_levels(saved.double())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _level(self, targets: Tensor) -> Tensor:
        """Which level each label is, 0 for NaN; shape of `targets` (batch, k)."""
        require(len(self.values) > 0, UNKNOWN)
        levels = self.values.to(targets.device)
        place = torch.searchsorted(levels, targets.nan_to_num(float(levels[0])).contiguous())
        place = place.clamp(max=len(levels) - 1)
        bad = ~torch.isnan(targets) & (levels[place] != targets)
        if bool(bad.any()):
            scale = ", ".join(f"{level:g}" for level in self.levels)
            raise DataError(
                f"the label {float(targets[bad][0]):g} is none of the levels {scale}",
                row=int(bad.any(1).nonzero()[0]) + 1, field="targets",
                remedy="correct the label, or name all levels in the loss's parameters",
            )  # fmt: skip
        return place
