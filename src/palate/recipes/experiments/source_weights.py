"""One reward from sources that share a preference and drift from it, weighed in one way after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from palate.data import PreferenceData
from palate.evaluate import expected_calibration_error, pairwise_alignment
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Sources(BaseModel):
    """Pairs of feature vectors, voted on by Bradley and Terry's model.

    Source i prefers by weights ``shared + drift_i``, of lengths `shared` and `drift`, and multiplies its
    features by `scales`. Test pairs have features of scale 1 and votes by the shared weights alone.
    """

    model_config = ConfigDict(extra="forbid")

    sizes: list[int] = Field(min_length=2)
    scales: list[float]
    features: int = Field(20, ge=1)
    shared: float = Field(1.0, ge=0)
    drift: float = Field(1.0, ge=0)
    test: int = Field(4000, ge=10)


class Method(BaseModel):
    """Which batches, and how the losses of the sources in them are weighed (None: as one)."""

    model_config = ConfigDict(extra="forbid")

    stratify: bool = True
    more: dict[str, Any] | None = None


class Parameters(BaseModel):
    """Parameters of `run`; `training` goes to every method."""

    model_config = ConfigDict(extra="forbid")

    sources: Sources
    methods: dict[str, Method]
    training: dict[str, Any]
    bins: int = Field(10, ge=2)


@dataclass(frozen=True)
class Votes:
    """Feature vectors of the winner and the loser, shape (n, 2, d), and the source of each vote."""

    features: Floats
    source: npt.NDArray[np.str_]

    def data(self) -> PreferenceData:
        won = np.tile([1.0, 0.0], (len(self.features), 1))
        return PreferenceData.from_columns(
            {
                "features": self.features.astype(np.float32).tolist(),
                "scores": won.tolist(),
                "annotator": self.source.tolist(),
            }
        )


def simulate(seed: int, plan: Sources) -> tuple[Votes, Votes]:
    """Votes to learn from, and votes by the shared preference to test on."""
    rng = generator(seed, "sources that drift")
    shared = _direction(rng, plan.features, plan.shared)
    parts, names = [], []
    for i, (size, scale) in enumerate(zip(plan.sizes, plan.scales, strict=True)):
        own = shared + _direction(rng, plan.features, plan.drift)
        parts.append(_votes(rng, size, scale, own))
        names += [f"source-{i + 1}"] * size
    test = _votes(rng, plan.test, 1.0, shared)
    return Votes(np.concatenate(parts), np.array(names)), Votes(test, np.array(["shared"] * plan.test))


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy and expected calibration error (both orders of a pair) of every method on the shared
    preference, as ``"method/accuracy"`` and ``"method/ece"``; ``"method/ece_x0.7"`` is 0.7 times the latter.
    """
    plan = read(Parameters, "source_weights", parameters)
    train, test = simulate(seed, plan.sources)
    data = train.data()
    values = {}
    for name, method in plan.methods.items():
        model = RewardModel(
            "features",
            loss="bradley_terry" if method.more is None else "more",
            loss_params=method.more,
            columns={"source": "annotator"},
            training={**plan.training, "stratify": method.stratify},
            seed=seed,
        ).fit(data)
        scores = model.score_features(test.features)
        stated = expit(scores[:, 0] - scores[:, 1])
        ece = expected_calibration_error(stated, np.ones(len(stated)), plan.bins, symmetric=True)
        values[f"{name}/accuracy"] = pairwise_alignment(stated, np.ones(len(stated)))
        values[f"{name}/ece"] = ece
        values[f"{name}/ece_x0.7"] = 0.7 * ece
    return values


def _direction(rng: np.random.Generator, d: int, length: float) -> Floats:
    drawn = rng.normal(size=d)
    return np.asarray(length * drawn / np.linalg.norm(drawn))


def _votes(rng: np.random.Generator, n: int, scale: float, weights: Floats) -> Floats:
    """Pairs of vectors, the winner first, shape (n, 2, d)."""
    x = scale * rng.normal(size=(n, 2, len(weights)))
    first = rng.random(n) < expit((x[:, 0] - x[:, 1]) @ weights)
    x[~first] = x[~first, ::-1]
    return x
