"""One loss over several sources of preferences, each with its weight, fixed or solved for at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from palate.errors import ConfigError, DataError, unknown
from palate.losses.base import Loss, require
from palate.losses.min_norm import NORMALIZERS, min_norm_weights, normalized
from palate.losses.scored import Scored

Weighting = Literal["min_norm", "uniform", "size"] | Mapping[str, float]
WEIGHTINGS = ("min_norm", "uniform", "size")


class BySource(Loss):
    """Another loss, taken of each source apart and summed with weights l.

    With S_i the sum of the losses of the n_i groups of source i (their weights counted) among the K sources
    in the batch::

        L = K sum_i l_i S_i / sum_i n_i,    sum_i l_i = 1

    so that equal weights give the mean over the batch. Under "min_norm" l makes ``|sum_i l_i g_i|`` smallest,
    where g_i is the gradient of source i's loss with respect to the last layer, scaled by `normalize`: MORE
    (Zeng et al., 2023, arXiv 2312.07401). Two vectors of the same length weigh the same, so that of two
    sources "l2" leaves equal weights. l carries no gradient itself. The paper's batches hold as many
    groups of each source (`stratify` in `palate.training.TrainingConfig`); in others only the sources
    present share the weight.

    Args:
        loss: the loss, or its name.
        weighting: "min_norm"; "uniform"; "size", by how many groups each source has; or a weight for each
            source by name. The last two are meant for batches with as many groups of each.
        normalize: "l2", "loss", "loss+" or "none", see `palate.losses.normalized`; for solving only.
        momentum: share of the *new* gradient in the running one that is solved for,
            ``m_i = (1 - momentum) m_i + momentum g_i``, which starts at the first.
        require_all: whether a batch must hold every source.
        allow_single: whether one source alone is accepted.
        **params: of the loss, if it is given by name.
    """

    gradients: Tensor
    weights: Tensor

    def __init__(
        self,
        loss: str | Loss = "bradley_terry",
        *,
        weighting: Weighting = "min_norm",
        normalize: str = "l2",
        momentum: float = 0.99,
        require_all: bool = False,
        allow_single: bool = False,
        **params: Any,
    ) -> None:
        super().__init__()
        from palate.losses.registry import get

        if isinstance(weighting, str) and weighting not in WEIGHTINGS:
            raise unknown("weighting", weighting, WEIGHTINGS)
        if normalize not in NORMALIZERS:
            raise unknown("normalizer", normalize, NORMALIZERS)
        require(0 < momentum <= 1, f"momentum must be above 0 and at most 1, got {momentum}")
        require(isinstance(loss, str) or not params, "parameters go with the name of a loss, not a built one")
        if isinstance(weighting, Mapping):
            sound = all(value >= 0 for value in weighting.values()) and sum(weighting.values()) > 0
            require(sound, f"weights of sources must be 0 or more and not all 0, got {dict(weighting)}")
        self.loss = get(loss, **params) if isinstance(loss, str) else loss
        self.name = "more"
        self.weighting, self.normalize, self.momentum = weighting, normalize, momentum
        self.require_all, self.allow_single = require_all, allow_single
        for same in (
            "anchored",
            "min_items",
            "pairwise",
            "graded",
            "supervised",
            "log_odds",
            "heads",
            "views",
            "reads_ratings",
        ):
            setattr(self, same, getattr(self.loss, same))
        solved = weighting == "min_norm"
        self.stepwise = solved or self.loss.stepwise
        self.reads_features = solved or self.loss.reads_features
        self.ties = getattr(self.loss, "ties", "drop")
        self.sources: dict[str, int] = {}
        self.register_buffer("gradients", torch.empty(0, 0))
        self.register_buffer("weights", torch.empty(0))

    def prepare(
        self,
        *,
        width: int | None = None,
        sources: Mapping[str, int] | None = None,
        targets: Tensor | None = None,
    ) -> None:
        """Learn the names of the sources and how many groups each has; see `Loss.prepare`.

        Raises:
            DataError: there is one source only.
            ConfigError: `weighting` does not name every source.
        """
        self.loss.prepare(width=width, sources=sources, targets=targets)
        if sources is None:
            return
        if len(sources) < 2 and not self.allow_single:
            found = ", ".join(map(repr, sources)) or "none"
            raise DataError(
                f"{self.name} weighs sources against each other; found {found}", field="source",
                remedy="name a column with two sources or more in columns={'source': ...}, or set "
                "allow_single",
            )  # fmt: skip
        if isinstance(self.weighting, Mapping):
            lacking = [name for name in sources if name not in self.weighting]
            require(not lacking, f"weighting names no weight for the source {(lacking or [''])[0]!r}")
            extra = [name for name in self.weighting if name not in sources]
            if extra:
                raise unknown("source in weighting", extra[0], sources)
        self.sources = dict(sources)

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
        """The loss of groups of one source, that of `loss`; see `Loss.forward`."""
        value: Tensor = self.loss(
            scores, targets, mask=mask, weight=weight, step=step, total_steps=total_steps
        )
        return value

    def of(
        self,
        scored: Scored,
        batch: Mapping[str, Tensor],
        *,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of what a model says of a batch with `source`; see `Loss.of`.

        Raises:
            ConfigError: the batch holds no `source`, or the model gives no features to solve with.
            DataError: a group is of no source, a gradient is not finite, or a source is absent though
                `require_all`.
        """
        codes, counts = self._present(batch)
        source = batch["source"]
        rows = [(source == code).nonzero()[:, 0] for code in codes]
        stacked = torch.stack(
            [
                self.loss.of(_scored_at(scored, at), _batch_at(batch, at), step=step, total_steps=total_steps)
                for at in rows
            ]
        )
        shares = self._shares(codes, rows, stacked, scored).to(stacked)
        self.watched = {f"weight/{self._name(code)}": s for code, s in zip(codes, shares, strict=True)}
        self.watched |= self.loss.watched
        part_of_all = (counts / counts.sum()).to(stacked)
        return len(codes) * (shares * part_of_all * stacked).sum()

    def _present(self, batch: Mapping[str, Tensor]) -> tuple[list[int], Tensor]:
        """Codes of the sources with something to learn, and the sum of the weights of their groups."""
        source = batch.get("source")
        if source is None:
            raise ConfigError(
                f"{self.name} weighs sources; say where they stand with columns={{'source': ...}}"
            )
        if bool((source < 0).any()):
            raise DataError(
                "a group of no source", row=int((source < 0).nonzero()[0]) + 1, field="source",
                remedy="give every judgment a source",
            )  # fmt: skip
        targets, mask, weight = batch["targets"], batch.get("mask"), batch.get("weight")
        judged = ~torch.isnan(targets) if mask is None else mask.bool() & ~torch.isnan(targets)
        counted = (judged.sum(1) >= self.min_items).double()
        if weight is not None:
            counted = counted * weight.double()
        sums = counted.new_zeros(int(source.max()) + 1).index_add(0, source, counted)
        codes = sums.nonzero()[:, 0].tolist()
        if self.require_all:
            for code, name in enumerate(self.sources):
                if code not in codes:
                    raise DataError(
                        f"a batch holds no group of the source {name!r}", field="source",
                        remedy="set stratify in training, or require_all to False",
                    )  # fmt: skip
        if not codes:  # nothing to learn: the loss says so, or gives 0
            codes = sorted(set(source.tolist()))
            sums = torch.ones_like(sums)
        return codes, sums[codes]

    def _shares(self, codes: list[int], rows: list[Tensor], values: Tensor, scored: Scored) -> Tensor:
        """Weights of the sources present, shape (present,), summing to 1."""
        if self.weighting == "min_norm":
            if not values.requires_grad:  # watched without training: as in the last step
                known = self.weights[codes] if len(self.weights) > max(codes) else values.new_ones(len(codes))
                return _sum_to_one(torch.where(torch.isnan(known), 1 / len(codes), known))
            found = self._solve(codes, rows, values, scored)
            self.weights[codes] = found.to(self.weights)
            return found
        if self.weighting == "uniform":
            return values.new_full((len(codes),), 1 / len(codes))
        require(bool(self.sources), f"weighting={self.weighting!r} needs the names of sources: call prepare")
        chosen = self.sources if self.weighting == "size" else self.weighting
        assert isinstance(chosen, Mapping)
        return _sum_to_one(values.new_tensor([float(chosen[self._name(code)]) for code in codes]))

    def _solve(self, codes: list[int], rows: list[Tensor], values: Tensor, scored: Scored) -> Tensor:
        fresh = _last_layer_gradients(values, rows, scored, self.name)
        bad = ~torch.isfinite(fresh).all(1)
        if bool(bad.any()):
            raise DataError(
                f"the gradient of the source {self._name(codes[int(bad.nonzero()[0])])!r} is not finite",
                field="source", remedy="lower the learning rate, or look at the scores of its judgments",
            )  # fmt: skip
        self._make_room(max(codes) + 1, fresh)
        before = self.gradients[codes]
        running = torch.where(
            torch.isnan(before), fresh, (1 - self.momentum) * before + self.momentum * fresh
        )
        self.gradients[codes] = running
        return min_norm_weights(normalized(running, values, self.normalize))

    def _make_room(self, n: int, like: Tensor) -> None:
        n = max(n, len(self.sources), len(self.gradients))
        old = self.gradients
        if old.shape == (n, like.shape[1]) and old.device == like.device:
            return
        self.gradients = like.new_full((n, like.shape[1]), torch.nan)
        weights = like.new_full((n,), torch.nan)
        if old.shape[1:] == like.shape[1:]:
            self.gradients[: len(old)] = old.to(like)
            weights[: len(old)] = self.weights.to(like)
        self.weights = weights

    def _name(self, code: int) -> str:
        names = list(self.sources)
        return names[code] if code < len(names) else str(code)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # The number of sources and of features is known from the first batch on only.
        for name in ("gradients", "weights"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _last_layer_gradients(values: Tensor, rows: list[Tensor], scored: Scored, name: str) -> Tensor:
    """Gradient of each of `values` with respect to the weights of the last, linear layer; (K, width * h).

    Outputs are features times weights, so that it is the sum over responses of the gradient of a value with
    respect to their outputs times their features: no pass back through the network. Value i depends on the
    groups at `rows[i]` alone, so that the gradient of the sum holds those of all.
    """
    if scored.features is None:
        raise ConfigError(f"{name} reads the features of the last layer, which this model does not give")
    features = scored.features.detach()
    tried = [t for t in (scored.outputs, scored.scores) if t is not None and t.requires_grad]
    found = torch.autograd.grad(values.sum(), tried, retain_graph=True, allow_unused=True) if tried else ()
    given = [gradient for gradient in found if gradient is not None]
    if not given:
        raise ConfigError(f"{name} needs a head that gives scores or outputs its loss depends on")
    per_response = given[0].to(features.dtype).reshape(*features.shape[:2], -1)
    return torch.stack(
        [(per_response[at].flatten(0, 1).T @ features[at].flatten(0, 1)).flatten() for at in rows]
    )


def _scored_at(scored: Scored, rows: Tensor) -> Scored:
    def at(part: Tensor | None) -> Tensor | None:
        return None if part is None else part[rows]

    return Scored(
        scored.scores[rows], {}, 0, at(scored.margins), at(scored.outputs), scored.support,
        at(scored.features), at(scored.second),
    )  # fmt: skip


def _batch_at(batch: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    n = len(batch["targets"])
    return {
        name: part[rows]
        for name, part in batch.items()
        if isinstance(part, Tensor) and part.ndim and len(part) == n
    }


def _sum_to_one(weights: Tensor) -> Tensor:
    total = weights.sum()
    return torch.where(total > 0, weights / total, 1 / len(weights))
