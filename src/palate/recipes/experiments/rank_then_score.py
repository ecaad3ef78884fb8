"""Order first, scores second: two-stage training of a rater of several aspects, on simulated ratings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from palate.data import PreferenceData
from palate.errors import PalateWarning
from palate.evaluate import mos_correlations
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel, RewardStage, fit_stages
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Benchmark(BaseModel):
    """Responses of `models` to `prompts`, rated on `aspects` by `raters`.

    The quality of a response on an aspect is, with variance 1, the share `common` the same on all aspects.
    A rating is ``3 + quality + error``, rounded and cut to 1 to 5; an opinion score the mean over raters.
    Features are ``tanh`` of random mixtures of the qualities, with noise. A prompt is not rated on an aspect
    with probability `not_applicable`.
    """

    model_config = ConfigDict(extra="forbid")

    prompts: int = Field(60, ge=4)
    held_out: int = Field(12, ge=2)
    models: int = Field(10, ge=3)
    aspects: int = Field(6, ge=1)
    raters: int = Field(3, ge=1)
    common: float = Field(0.4, ge=0, le=1)
    error: float = Field(0.7, ge=0)
    features: int = Field(32, ge=1)
    noise: float = Field(0.5, ge=0)
    not_applicable: float = Field(0.1, ge=0, lt=1)


class Stage(BaseModel):
    """Parameters of a reward model that a stage sets."""

    model_config = ConfigDict(extra="forbid")

    loss: str
    loss_params: dict[str, Any] = Field(default_factory=dict)
    epochs: float = Field(gt=0)
    head: dict[str, Any] = Field(default_factory=dict)


class Parameters(BaseModel):
    """Parameters of `run`: methods are lists of stages; `head` and `training` go to all of them, and the
    `head` of a stage on top."""

    model_config = ConfigDict(extra="forbid")

    benchmark: Benchmark = Benchmark()
    methods: dict[str, list[Stage]]
    hidden: list[int] = Field(default=[64])
    head: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """On held-out prompts, means over aspects for every method: Spearman's correlation with the opinion
    scores (``"method/srcc"``), root mean squared error of the scores as they are (``"method/rmse"``) and
    after the logistic mapping (``"method/rmse_mapped"``).
    """
    plan = read(Parameters, "rank_then_score", parameters)
    train, test = simulate(seed, plan.benchmark)
    found: dict[str, float] = {}
    for name, stages in plan.methods.items():
        model = RewardModel("features", head="levels", hidden=plan.hidden, groups="lists", seed=seed)
        with warnings.catch_warnings():
            # At the paper's temperature of 1 the ends of the scale are out of reach, for every method.
            warnings.filterwarnings("ignore", ".*as far as the head", PalateWarning)
            fitted = fit_stages(model, [_stage(train, stage, plan) for stage in stages])[-1]
        found |= {f"{name}/{key}": value for key, value in quality(fitted, test).items()}
    return found


def simulate(seed: int, plan: Benchmark) -> tuple[PreferenceData, PreferenceData]:
    """Opinion scores to learn from and of held-out prompts: a judgment per prompt and aspect."""
    rng = generator(seed, "rank then score")
    shape = (plan.prompts, plan.models)
    general = np.sqrt(plan.common) * rng.normal(size=(*shape, 1))
    quality = general + np.sqrt(1 - plan.common) * rng.normal(size=(*shape, plan.aspects))
    mixing = rng.normal(size=(plan.aspects, plan.features)) / np.sqrt(plan.aspects)
    x = np.tanh(2.0 * quality @ mixing) + plan.noise * rng.normal(size=(*shape, plan.features))
    error = plan.error * rng.normal(size=(*shape, plan.aspects, plan.raters))
    mos = np.clip(np.floor(3.5 + quality[..., None] + error), 1.0, 5.0).mean(3)
    applies = rng.random((plan.prompts, plan.aspects)) >= plan.not_applicable
    learn, held = np.arange(plan.held_out, plan.prompts), np.arange(plan.held_out)
    return _judgments(x, mos, applies, learn), _judgments(x, mos, applies, held)


def _judgments(
    x: Floats, mos: Floats, applies: npt.NDArray[np.bool_], prompts: npt.NDArray[np.int64]
) -> PreferenceData:
    prompt, aspect = np.nonzero(applies[prompts])
    prompt = prompts[prompt]
    models = [f"model-{i + 1}" for i in range(x.shape[1])]
    return PreferenceData.from_columns(
        {
            "prompt_id": [f"prompt-{i + 1}" for i in prompt],
            "items": [models] * len(prompt),
            "features": x[prompt].astype(np.float32).tolist(),
            "scores": mos[prompt, :, aspect].tolist(),
            "aspect": [f"aspect-{i + 1}" for i in aspect],
        }
    )


def _stage(data: PreferenceData, stage: Stage, plan: Parameters) -> RewardStage:
    return RewardStage(
        data,
        {
            "loss": stage.loss,
            "loss_params": stage.loss_params,
            "head_params": {**plan.head, **stage.head},
            "training": {**plan.training, "epochs": stage.epochs},
        },
    )


def quality(model: RewardModel, test: PreferenceData) -> dict[str, float]:
    """Correlation and errors of a fitted model's scores of each aspect, means over aspects."""
    codes, names = test.codes("aspect")
    with torch.no_grad():
        outputs = torch.from_numpy(model.scorer_.data(test))
        scores = model.head_.by_aspect(outputs).numpy()
    aspect = np.repeat(codes, np.diff(test.offsets()))
    place = np.array([model.head_.aspects.index(name) for name in names])
    own = scores[np.arange(len(aspect)), place[aspect]]
    each = [mos_correlations(own[aspect == a], test.scores[aspect == a]) for a in range(len(names))]
    return {
        "srcc": float(np.mean([found.srcc for found in each])),
        "rmse": float(np.mean([found.unmapped_rmse for found in each])),
        "rmse_mapped": float(np.mean([found.rmse for found in each])),
    }
