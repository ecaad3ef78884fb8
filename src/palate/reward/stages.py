"""Training in stages: each reward model starts from the one before, on its own data under its own loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.reward.model import RewardModel
from palate.runs import Run

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class RewardStage:
    """One stage: which judgments are learnt, and what differs from the model given to `fit_stages`.

    Attributes:
        data: the judgments.
        params: parameters of `RewardModel` that this stage sets, such as ``{"loss": "mse"}``.
        name: of its folder in a run; its number without one.
    """

    data: PreferenceData
    params: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def fit_stages(
    model: RewardModel, stages: Sequence[RewardStage], run: str | Path | None = None
) -> list[RewardModel]:
    """Fit a model stage by stage; network, head and standardisation of the inputs are carried along.

    Regression on ratings and then scaled Bradley-Terry on preferences is the recipe of HelpSteer2-Preference
    (Wang et al., 2024); order and then scores that of Rank2Score. A full-batch fit of a convex loss forgets
    where it started: give such a stage ``pull="start"`` or `training` in steps.

    Args:
        model: parameters common to all stages; it is not fitted itself.
        stages: in order.
        run: a run folder: stages finished there are loaded, not fitted again.

    Returns:
        The fitted model of each stage; the last is the result.

    Raises:
        ConfigError: no stages, two of one name, or a run folder of other stages.
    """
    if not stages:
        raise ConfigError("name at least one stage")
    names = [stage.name or f"{number}" for number, stage in enumerate(stages, 1)]
    if len(set(names)) != len(names):
        raise ConfigError(f"stages need different names; got {', '.join(names)}")
    plans = [{**model.get_params(), **stage.params} for stage in stages]
    folder = None
    if run is not None:
        told = [
            {"name": name, "data": stage.data.fingerprint(), "params": _told(plan)}
            for name, stage, plan in zip(names, stages, plans, strict=True)
        ]
        folder = Run(run, {"command": "reward stages", "stages": told})
    fitted: list[RewardModel] = []
    for name, stage, plan in zip(names, stages, plans, strict=True):
        before = fitted[-1] if fitted else None
        if folder is not None and folder.done(name):
            fitted.append(RewardModel.load(folder.path(name, "model")))
            continue
        own = None if folder is None else Run(folder.path(name), {"stage": name, "params": _told(plan)})
        made = RewardModel().set_params(**plan).fit(stage.data, run=own, init=before)
        if folder is not None:
            made.save(folder.path(name, "model"))
            folder.finish(name)
        fitted.append(made)
    return fitted


def _told(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in params.items()
    }
