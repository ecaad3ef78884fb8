"""Contrastive terms: two passes over the same responses, with other dropout, should agree and others not.

They read what the last layer reads and say nothing of who won; add them to a loss that does:
``bradley_terry + 0.1 * simcse``. Responses to one prompt, chosen and rejected, otherwise get features too
alike to be told apart (Wang et al., "Secrets of RLHF in large language models part II", 2024).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.errors import ConfigError, DataError
from palate.losses.base import Loss, require
from palate.losses.scored import Scored

On = Literal["all", "diff"]


def info_nce(
    anchors: Tensor,
    positives: Tensor,
    temperature: float = 0.05,
    *,
    symmetric: bool = False,
    weight: Tensor | None = None,
) -> Tensor:
    """How well each row of one view is found among the rows of another, by its cosine::

        L = - sum_i w_i log [ exp(cos(h_i, h'_i) / t) / sum_j exp(cos(h_i, h'_j) / t) ] / sum_i w_i

    InfoNCE (van den Oord, Li & Vinyals, 2018); with two dropout passes as views, SimCSE (Gao, Yao & Chen,
    2021).

    Args:
        anchors: h, shape (n, d).
        positives: h', shape (n, d), row for row.
        temperature: t above 0, in units of a cosine.
        symmetric: whether rows of h' are looked for among those of h as well; the mean of both.
        weight: w, shape (n,), 0 or more; all alike without it.

    Raises:
        DataError: the shapes are not (n, d) twice.
        ConfigError: the temperature is not above 0.
    """
    require(temperature > 0, f"temperature must be above 0, got {temperature}")
    first, second = _unit_rows(anchors, positives)
    alike = first @ second.T / temperature
    own = torch.arange(len(alike), device=alike.device)
    per_row = F.cross_entropy(alike, own, reduction="none")
    if symmetric:
        per_row = 0.5 * (per_row + F.cross_entropy(alike.T, own, reduction="none"))
    return _mean(per_row, weight)


def swav(
    first: Tensor,
    second: Tensor,
    prototypes: Tensor,
    temperature: float = 0.1,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    weight: Tensor | None = None,
) -> Tensor:
    """How well the cluster of one view is foretold from the other (swapped prediction)::

        L = - 1/2 mean_i [ q'_i . log softmax(z_i C / t) + q_i . log softmax(z'_i C / t) ]

    with z rows and C prototypes of length 1, and codes q, q' by `sinkhorn`, without gradient (SwAV: Caron et
    al., 2020).

    Args:
        first, second: views of the same rows, shape (n, d).
        prototypes: shape (p, d).
        temperature: t above 0, in units of a cosine.
        epsilon, iterations: of `sinkhorn`.
        weight: shape (n,), 0 or more.

    Raises:
        DataError: shapes do not fit.
        ConfigError: the temperature is not above 0.
    """
    require(temperature > 0, f"temperature must be above 0, got {temperature}")
    z, other = _unit_rows(first, second)
    centres = F.normalize(prototypes.to(z.dtype), dim=1)
    near, near_other = z @ centres.T, other @ centres.T
    with torch.no_grad():
        code, code_other = (sinkhorn(s, epsilon, iterations) for s in (near, near_other))
    per_row = (code_other * F.log_softmax(near / temperature, 1)).sum(1)
    per_row = per_row + (code * F.log_softmax(near_other / temperature, 1)).sum(1)
    return _mean(-0.5 * per_row, weight)


def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments of n rows to p clusters with about n / p rows in each; shape (n, p), rows sum to 1.

    They come near the q that maximises ``sum q * scores + epsilon * entropy(q)`` under both sums (Cuturi,
    2013); the more iterations, the closer the clusters' sums are to n / p.
    """
    require(epsilon > 0, f"epsilon must be above 0, got {epsilon}")
    require(iterations >= 1, f"iterations must be 1 or more, got {iterations}")
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = F.log_softmax(log_q, 0)
        log_q = F.log_softmax(log_q, 1)
    return log_q.exp()


def views_of(scored: Scored, batch: Mapping[str, Tensor], on: On) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of two passes over a batch to set against each other, with the weights of their groups.

    Args:
        scored: with `features` and `second`, shape (batch, k, h).
        batch: see `Loss.of`.
        on: "all" takes every judged response; "diff" the difference of every two responses of a group whose
            targets differ, in both orders.

    Returns:
        first (n, h), second (n, h), weight (n,).

    Raises:
        ConfigError: the model gives no features, or one pass only.
    """
    if scored.features is None or scored.second is None:
        raise ConfigError("a contrastive term reads features of two passes, which this model does not give")
    targets, mask, weight = batch["targets"], batch.get("mask"), batch.get("weight")
    judged = ~torch.isnan(targets) if mask is None else mask.bool() & ~torch.isnan(targets)
    share = torch.ones(len(targets), device=targets.device) if weight is None else weight
    share = share[:, None].to(scored.features.dtype)
    if on == "all":
        return scored.features[judged], scored.second[judged], share.expand_as(judged)[judged]
    i, j = torch.triu_indices(targets.shape[1], targets.shape[1], 1, device=targets.device)
    valid = judged[:, i] & judged[:, j] & (targets[:, i] != targets[:, j])
    first, second = ((part[:, i] - part[:, j])[valid] for part in (scored.features, scored.second))
    once = share.expand_as(valid)[valid]
    return torch.cat([first, -first]), torch.cat([second, -second]), torch.cat([once, once])


class Contrastive(Loss):
    """A term of two views of the same responses. It is averaged over rows, not over groups first, and the
    rows of all prompts of a batch stand against each other: larger batches make it harder."""

    supervised = False
    min_items = 1
    views = 2
    reads_features = True

    def __init__(self, on: On = "all") -> None:
        super().__init__()
        require(on in ("all", "diff"), f"on must be 'all' or 'diff', got {on!r}")
        self.on: On = on
        self.min_items = 1 if on == "all" else 2

    @abstractmethod
    def between(self, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        """The loss of two views of the same rows, shape (n, h) each, with weights (n,)."""

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
        """The loss of what a model says of a batch in two passes; see `Loss.of`."""
        first, second, weight = views_of(scored, batch, self.on)
        if not len(first):
            return first.sum()  # 0, with zero gradient
        return self.between(first, second, weight)


class SimCSE(Contrastive):
    """`info_nce` of two dropout passes.

    Args:
        on: "all" responses, or "diff": differences of responses to the same prompt, in both orders.
        temperature: in units of a cosine.
        symmetric: whether either pass is looked for in the other.
    """

    name = "simcse"

    def __init__(self, *, on: On = "all", temperature: float = 0.05, symmetric: bool = False) -> None:
        super().__init__(on)
        require(temperature > 0, f"temperature must be above 0, got {temperature}")
        self.temperature, self.symmetric = temperature, symmetric

    def between(self, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        return info_nce(first, second, self.temperature, symmetric=self.symmetric, weight=weight)


class SwAV(Contrastive):
    """`swav` of two dropout passes, with prototypes that are learnt along.

    Args:
        on: as in `SimCSE`.
        prototypes: how many clusters there are.
        temperature: in units of a cosine.
        epsilon: how soft the assignments are, in units of a cosine.
        iterations: rounds of `sinkhorn`.
        seed: of the first prototypes.
    """

    name = "swav"
    prototypes: Tensor

    def __init__(
        self,
        *,
        on: On = "all",
        prototypes: int = 16,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(on)
        require(prototypes >= 2, f"prototypes must be 2 or more, got {prototypes}")
        require(temperature > 0, f"temperature must be above 0, got {temperature}")
        sinkhorn(torch.zeros(1, 1), epsilon, iterations)
        self.count, self.temperature, self.epsilon = prototypes, temperature, epsilon
        self.iterations, self.seed = iterations, seed
        self.prototypes = nn.Parameter(torch.empty(0, 0))

    def prepare(
        self,
        *,
        width: int | None = None,
        sources: Mapping[str, int] | None = None,
        targets: Tensor | None = None,
    ) -> None:
        """Draw prototypes of the width of the features; see `Loss.prepare`."""
        if width is not None:
            made = torch.Generator().manual_seed(self.seed)
            start = F.normalize(torch.randn(self.count, width, generator=made), dim=1)
            self.prototypes = nn.Parameter(start.to(self.prototypes))

    def between(self, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        if self.prototypes.shape[1] != first.shape[1]:
            raise ConfigError(
                f"the prototypes of swav are {self.prototypes.shape[1]} wide and the features "
                f"{first.shape[1]}; call prepare(width={first.shape[1]}) before training"
            )
        return swav(
            first, second, self.prototypes, self.temperature,
            epsilon=self.epsilon, iterations=self.iterations, weight=weight,
        )  # fmt: skip

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "prototypes")
        if saved is not None and saved.shape != self.prototypes.shape:
            self.prototypes = nn.Parameter(torch.empty_like(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _unit_rows(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or first.shape != second.shape:
        raise DataError(
            f"two views of shapes {tuple(first.shape)} and {tuple(second.shape)}",
            remedy="give both as (n, d), row for row",
        )
    if not first.is_floating_point() or first.dtype in (torch.float16, torch.bfloat16):
        first, second = first.float(), second.float()
    return F.normalize(first, dim=1), F.normalize(second, dim=1)


def _mean(per_row: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return per_row.mean()
    total = weight.sum()
    return (per_row * weight).sum() / torch.where(total > 0, total, 1.0)
