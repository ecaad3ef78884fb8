"""Training in named stages that keep the model: rank then score, supervised then preferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from palate.errors import ConfigError
from palate.runs import Run
from palate.training.config import TrainingConfig
from palate.training.contracts import Groups, Loss, ScoreFunction
from palate.training.trainer import PreferenceTrainer


@dataclass(frozen=True)
class Stage:
    """One stage: which groups are scored how, under which loss and settings."""

    name: str
    groups: Groups
    score: ScoreFunction
    loss: Loss
    config: TrainingConfig


def train_stages(
    model: nn.Module, stages: Sequence[Stage], run: Run | None = None
) -> dict[str, dict[str, float]]:
    """Run the stages one after the other on the same model; returns the last metrics of each.

    In a run folder a stage that was finished is not trained again: its last checkpoint is loaded.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ConfigError(f"stages need different names; got {', '.join(names)}")
    results = {}
    for stage in stages:
        trainer = PreferenceTrainer(
            model, stage.groups, stage.score, stage.loss, stage.config, run=run, stage=stage.name
        )
        results[stage.name] = trainer.fit()
    return results
