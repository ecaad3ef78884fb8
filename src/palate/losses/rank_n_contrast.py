"""Features in the order of their labels: Rank-N-Contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from palate.errors import ConfigError, DataError
from palate.losses.base import Loss, require
from palate.losses.scored import Scored


def rank_n_contrast(
    features: Tensor, targets: Tensor, tau: float = 2.0, *, mask: Tensor | None = None
) -> Tensor:
    """Responses whose labels are closer should have features that are closer::

        l_ij = |z_i - z_j| / t + log sum_{k in C_ij} exp(-|z_i - z_k| / t),
        C_ij = {k != i: |y_i - y_k| >= |y_i - y_j|}

    and the mean over all ordered pairs i != j (Zha et al., 2023; in Rank2Score, arXiv 2509.23841, over the
    responses rated on one aspect). Only the order of the gaps of the labels counts, not their size.

    Args:
        features: z, shape (n, h).
        targets: y, shape (n,), NaN means not judged.
        tau: t above 0, in units of the distance.
        mask: shape (n,), False drops a response.

    Returns:
        Shape (); 0 with zero gradient if fewer than three responses are judged.

    Raises:
        DataError: shapes do not fit.
        ConfigError: `tau` is not above 0.
    """
    require(tau > 0, f"tau must be above 0, got {tau}")
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise DataError(
            f"rank_n_contrast got features of shape {tuple(features.shape)} and targets of shape "
            f"{tuple(targets.shape)}",
            remedy="give one row of features and one target per response",
        )
    if not features.is_floating_point() or features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    judged = ~torch.isnan(targets) if mask is None else mask.bool() & ~torch.isnan(targets)
    z, y = features[judged], targets[judged].double()
    n = len(z)
    if n < 3:
        return 0.0 * z.sum()
    others = ~torch.eye(n, dtype=torch.bool, device=z.device)
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    alike = -distance[others].reshape(n, n - 1) / tau
    # Labels are often means of a few ratings: 2 - 5/3 and 7/3 - 2 are one gap, whatever their last bits.
    gap = (y[:, None] - y[None, :]).abs()[others].reshape(n, n - 1).round(decimals=9)
    falling, order = torch.sort(gap, dim=1, descending=True)
    sums = torch.logcumsumexp(alike.gather(1, order), 1)
    # The candidates of a response are those up to the last one with the same gap.
    last = torch.searchsorted(-falling, -falling, right=True) - 1
    return (sums.gather(1, last) - alike.gather(1, order)).mean()


class RankNContrast(Loss):
    """`rank_n_contrast` over the responses of a batch to all prompts, one aspect at a time; mean over the
    aspects with three or more. Add it to a loss of the scores: ``rank_hinge + rank_n_contrast``.

    The ratings of an aspect must mean the same for all prompts, and batches must hold several judgments of
    it. Weights of judgments do not enter.

    Args:
        tau: in units of the distance.
        on: "features", what the last layer reads, which all aspects share; or "outputs", what a head reads of
            the judgment's aspect (the head "levels" has a vector for each).
    """

    name = "rank_n_contrast"
    min_items = 1

    def __init__(self, *, tau: float = 2.0, on: Literal["features", "outputs"] = "features") -> None:
        super().__init__()
        require(tau > 0, f"tau must be above 0, got {tau}")
        require(on in ("features", "outputs"), f"on must be 'features' or 'outputs', got {on!r}")
        self.tau, self.on = tau, on
        self.reads_features = on == "features"

    def forward(self, scores: Tensor, targets: Tensor, **_: Any) -> Tensor:
        """Raises ConfigError: there is nothing to learn from scores alone."""
        raise ConfigError(f"the loss {self.name!r} reads features, not scores; call its method of")

    def of(
        self,
        scored: Scored,
        batch: Mapping[str, Tensor],
        *,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of what a model says of a batch; see `Loss.of`.

        Raises:
            ConfigError: the model does not give what it reads.
        """
        z = scored.features if self.on == "features" else scored.outputs
        if z is None:
            raise ConfigError(f"{self.name} reads {self.on}, which this model does not give")
        targets, mask, aspect = batch["targets"], batch.get("mask"), batch.get("aspect")
        judged = ~torch.isnan(targets) if mask is None else mask.bool() & ~torch.isnan(targets)
        if aspect is None:
            aspect = torch.zeros(len(targets), dtype=torch.long, device=targets.device)
        codes = aspect[:, None].expand_as(judged)[judged]
        values, labels = z[judged], targets[judged]
        terms = [
            rank_n_contrast(values[codes == code], labels[codes == code], self.tau)
            for code, count in zip(*torch.unique(codes, return_counts=True), strict=True)
            if count >= 3
        ]
        return torch.stack(terms).mean() if terms else 0.0 * values.sum()
