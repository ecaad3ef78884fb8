"""Ratings and graded preferences of the same responses: one, the other, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate.data import PreferenceData
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.reward.merging import search
from palate.reward.stages import RewardStage, fit_stages
from palate.runs import to_json
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Parameters(BaseModel):
    """Parameters of `run`.

    Utility u is linear in standard normal features and has variance 1. A rating is
    ``rating_mean + rating_slope u`` with noise, rounded and cut to 0 to 4; a strength
    ``strength_slope (u1 - u2)`` with noise, rounded and cut to -3 to 3, pairs of strength 0 left out.
    """

    model_config = ConfigDict(extra="forbid")

    features: int = Field(80, ge=2)
    prompts: int = Field(600, ge=20)
    validation: int = Field(300, ge=20)
    test_pairs: int = Field(4000, ge=100)
    rating_mean: float = 2.5
    rating_slope: float = 1.1
    rating_noise: float = Field(0.6, ge=0)
    strength_slope: float = 1.3
    strength_noise: float = Field(0.8, ge=0)
    steps: int = Field(200, ge=2)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(0.01, gt=0)


Params = Mapping[str, Any]
SCALED: Params = {"loss": "scaled_bradley_terry", "columns": {"strength": "strength"}}
MARGIN: Params = {"loss": "margin_bradley_terry", "columns": {"strength": "strength"}}
PLAIN: Params = {"loss": "bradley_terry"}
RATINGS: Params = {"loss": "mse"}


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on the true order of test pairs: one stage (``bt``, ``margin``, ``scaled``, ``regression``) or
    regression and then a pair loss in half the steps each (``then_bt``, ``then_margin``, ``then_scaled``);
    ``expo`` extrapolates the last with the factor (``alpha``) that is best on validation pairs. ``best`` is
    the better of ``scaled`` and ``regression``.
    """
    plan = read(Parameters, "ratings_then_pairs", parameters)
    rng = generator(seed, "ratings then pairs")
    weights = rng.normal(size=plan.features)
    weights /= np.linalg.norm(weights)
    x = rng.normal(size=(plan.prompts, 2, plan.features))
    ratings, pairs = _ratings(rng, x, weights, plan), _pairs(rng, x, weights, plan)
    validation = _pairs(rng, rng.normal(size=(plan.validation, 2, plan.features)), weights, plan)
    test = rng.normal(size=(plan.test_pairs, 2, plan.features))
    worth = test @ weights

    def accuracy(model: RewardModel) -> float:
        scores = model.score_features(test)
        return float(np.mean((scores[:, 0] > scores[:, 1]) == (worth[:, 0] > worth[:, 1])))

    def held_out(model: RewardModel) -> float:
        scores = model.score_data(validation).scores
        return float(np.mean((scores[:, 0] > scores[:, 1]) == (validation.scores[::2] == 1.0)))

    def fit(*stages: tuple[PreferenceData, Params]) -> list[RewardModel]:
        training = {
            "steps": plan.steps // len(stages), "batch_size": plan.batch_size, "warmup": 0.0,
            "learning_rate": plan.learning_rate, "schedule": "constant", "logging_steps": plan.steps,
        }  # fmt: skip
        model = RewardModel("features", training=training, seed=seed)
        return fit_stages(model, [RewardStage(data, params) for data, params in stages])

    kinds = {"bt": PLAIN, "margin": MARGIN, "scaled": SCALED}
    values = {name: accuracy(fit((pairs, loss))[-1]) for name, loss in kinds.items()}
    values["regression"] = accuracy(fit((ratings, RATINGS))[-1])
    for name, loss in kinds.items():
        first, second = fit((ratings, RATINGS), (pairs, loss))
        values[f"then_{name}"] = accuracy(second)
    best, table = search(first, second, held_out)
    values["expo"] = accuracy(best)
    values["alpha"] = float(table["alpha"][int(table["metric"].to_numpy().argmax())])
    return values | {"best": max(values["scaled"], values["regression"])}


def _ratings(rng: np.random.Generator, x: Floats, weights: Floats, plan: Parameters) -> PreferenceData:
    """One rating of each response."""
    flat = x.reshape(-1, x.shape[-1])
    noisy = plan.rating_mean + plan.rating_slope * (flat @ weights)
    rated = np.clip(np.floor(noisy + rng.normal(scale=plan.rating_noise, size=len(flat)) + 0.5), 0, 4)
    return PreferenceData.from_columns(
        {
            "features": flat[:, None].tolist(),
            "scores": rated[:, None].tolist(),
            "scale": ["interval"] * len(flat),
            "protocol": ["rating"] * len(flat),
        }
    )


def _pairs(rng: np.random.Generator, x: Floats, weights: Floats, plan: Parameters) -> PreferenceData:
    """Graded preferences between the two responses of each prompt."""
    utility = x @ weights
    noisy = plan.strength_slope * (utility[:, 0] - utility[:, 1])
    strength = np.round(noisy + rng.normal(scale=plan.strength_noise, size=len(x))).clip(-3, 3)
    told = strength != 0
    scores = np.stack([strength > 0, strength < 0], axis=1).astype(float)[told]
    return PreferenceData.from_columns(
        {"features": x[told].tolist(), "scores": scores.tolist(),
         "metadata": [to_json({"strength": abs(s)}) for s in strength[told]]}
    )  # fmt: skip
