"""Validation: what a model and a loss come to on groups that it does not learn, and the weights that are best
there."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palate.errors import ConfigError, PalateError
from palate.training.contracts import Batch, Groups, Loss, ScoreFunction, loss_of
from palate.training.metrics import Window, comparisons

Measured = dict[str, Any]


def measured(
    model: nn.Module,
    groups: Groups,
    score: ScoreFunction,
    loss: Loss,
    *,
    batch_size: int,
    rows: Sequence[int] | None = None,
    step: int | None = None,
    total_steps: int | None = None,
    place: Callable[[Batch], Batch] = lambda batch: batch,
) -> dict[str, float]:
    """Mean loss and watched quantities on the groups at `rows` (all of them), without learning.

    Dropout is off, and the loss keeps its state and what it watched. The loss is the mean of those of the
    batches, each with the total weight of its groups; `accuracy` is the share of pairs that the scores order
    as the targets do. A quantity that no group has is left out.

    Args:
        model, groups, score, loss: as in `PreferenceTrainer`.
        batch_size: groups at once.
        rows: which groups.
        step, total_steps: where a loss with a schedule stands.
        place: brings a batch to the model's device.
    """
    rows = range(len(groups)) if rows is None else rows
    modules = [module for module in (model, loss) if isinstance(module, nn.Module)]
    modes = [module.training for module in modules]
    kept = copy.deepcopy(loss.state_dict()) if isinstance(loss, nn.Module) else None
    watched = getattr(loss, "watched", None)
    window, total, weight = Window(), 0.0, 0.0
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            for start in range(0, len(rows), batch_size):
                batch = place(groups.batch(rows[start : start + batch_size]))
                scored = score(model, batch)
                value = float(loss_of(loss, scored, batch, step, total_steps))
                share = float(batch["weight"].sum())
                total, weight = total + share * value, weight + share
                seen = comparisons(scored.scores, batch["targets"], batch["mask"])
                window.add({**seen, **scored.watched}, scored.tokens)
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
        if isinstance(loss, nn.Module) and kept is not None:
            loss.load_state_dict(kept)
        if watched is not None:
            loss.watched = watched  # type: ignore[attr-defined]
    return {"loss": total / weight if weight else math.nan, **window.means()}


class Selection:
    """Measurements on validation groups in the course of a training, and the weights of the best of them.

    Best is the least loss, or the highest accuracy, the first of equals. Weights are those of the model that
    learn, its buffers, and all that is trained beside it. With a folder they lie in
    ``best-STEP.safetensors``, written whole or not at all; those that the newest checkpoint names stay until
    the next checkpoint, so that a training that goes on from it has them.

    Args:
        model: what is trained.
        beside: what is trained along.
        keep: whether the best weights are kept; without it only their measurements are.
        by: what is best.
        folder: where weights are kept; in memory if None.
        writes: whether this process writes them.
    """

    def __init__(
        self,
        model: nn.Module,
        beside: nn.Module,
        *,
        keep: bool,
        by: Literal["loss", "accuracy"] = "loss",
        folder: Path | None = None,
        writes: bool = True,
    ) -> None:
        self.model, self.beside = model, beside
        self.keep, self.by, self.folder, self.writes = keep, by, folder, writes
        self.last: Measured | None = None
        self.best: Measured | None = None
        self._named: Measured | None = None  # the best of the newest checkpoint
        self._weights: dict[str, Tensor] = {}

    def add(self, step: int, means: dict[str, float]) -> Measured:
        """Take what `measured` gave after `step`; returns it as it is logged.

        Raises:
            PalateError: the loss is not finite.
            ConfigError: accuracy chooses, and no validation group has a pair to order.
        """
        made = {"step": step, **{f"validation_{k}": means[k] for k in ("loss", "accuracy") if k in means}}
        if not math.isfinite(made["validation_loss"]):
            raise PalateError(
                f"the validation loss became {made['validation_loss']} at step {step}; lower the learning "
                "rate, or look at the validation data"
            )
        if f"validation_{self.by}" not in made:
            raise ConfigError(
                'select_by="accuracy" needs validation data with responses to compare; use select_by="loss"'
            )
        self.last = made
        if self.best is None or self._value(made) < self._value(self.best):
            self.best = made
            if self.keep:
                self._store(step)
        return made

    @property
    def chosen(self) -> Measured:
        """The measurement of the weights that are kept, and `best_step`; empty before the first."""
        row = self.best if self.keep else self.last
        if row is None or self.best is None:
            return {}
        return {**{k: v for k, v in row.items() if k != "step"}, "best_step": self.best["step"]}

    def state(self) -> dict[str, Any]:
        """What a checkpoint says of it, JSON values."""
        return {"last": self.last, "best": self.best}

    def saved(self) -> None:
        """A checkpoint with this state was written to its end."""
        self._named = self.best
        self._drop()

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on from a checkpoint's state."""
        self.last, self.best = (state or {}).get("last"), (state or {}).get("best")
        self.saved()

    def restore(self) -> None:
        """Put the best weights into the model and what is beside it.

        Raises:
            PalateError: their file is gone.
        """
        if self.best is None:
            return
        weights = self._weights
        if self.folder is not None:
            path = self._path(self.best)
            if not path.is_file():
                raise PalateError(f"{path} with the best weights is missing; train again in another folder")
            weights = load_file(path)
        with torch.no_grad():
            for name, tensor in self._of_model().items():
                tensor.copy_(weights[f"model.{name}"])
        self.beside.load_state_dict({name: weights[f"beside.{name}"] for name in self.beside.state_dict()})

    def _value(self, row: Measured) -> float:
        return float(row["validation_loss"] if self.by == "loss" else -row["validation_accuracy"])

    def _of_model(self) -> dict[str, Tensor]:
        learned = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return {**learned, **dict(self.model.named_buffers())}

    def _store(self, step: int) -> None:
        parts = {"model": self._of_model(), "beside": self.beside.state_dict()}
        weights = {
            f"{part}.{name}": value.detach().to("cpu", copy=True).contiguous()
            for part, tensors in parts.items()
            for name, value in tensors.items()
        }
        if self.folder is None:
            self._weights = weights
        elif self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self._path({"step": step})
            partial = path.with_suffix(".partial")
            save_file(weights, partial)
            os.replace(partial, path)
            self._drop()

    def _path(self, row: Measured) -> Path:
        assert self.folder is not None
        return self.folder / f"best-{row['step']}.safetensors"

    def _drop(self) -> None:
        """Remove weights that neither this training nor its newest checkpoint names."""
        if self.folder is None or not self.writes:
            return
        needed = {self._path(row) for row in (self.best, self._named) if row is not None}
        for path in self.folder.glob("best-*"):
            if path not in needed:
                path.unlink()
