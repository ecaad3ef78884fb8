"""Few named features against an embedding: how many preferences a linear reward model needs on either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import expit

from palate.data import PreferenceData
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Parameters(BaseModel):
    """Parameters of `run`.

    Attributes:
        pairs: how many preferences are learnt from, one value after another.
        l2, l2_per_pair: a head fitted to n pairs has the penalty ``l2 + l2_per_pair / n``.
        aspects: how many latent aspects make the utility.
        noise: standard deviation of an aspect's score around the aspect, which has 1.
        nuisance: how many numbers the embedding mixes in that the utility does not depend on.
        width: of the embedding.
        sharpness: log-odds of a vote per unit of utility, which has standard deviation 1.
        test: pairs to test on.
        wanted: share of test pairs that should be right.
    """

    model_config = ConfigDict(extra="forbid")

    pairs: list[int] = Field(min_length=1)
    l2: float = Field(0.01, ge=0)
    l2_per_pair: float = Field(0.0, ge=0)
    aspects: int = Field(7, ge=1)
    noise: float = Field(0.3, ge=0)
    nuisance: int = Field(40, ge=0)
    width: int = Field(384, ge=1)
    sharpness: float = Field(4.0, gt=0)
    test: int = Field(4000, ge=1)
    wanted: float = Field(0.85, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _rising(self) -> Parameters:
        if self.pairs[0] < 2 or any(b <= a for a, b in zip(self.pairs, self.pairs[1:], strict=False)):
            raise ValueError("pairs must rise, from 2 or more")
        return self


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Share of test pairs in their true order, as ``"input/pairs"``, and the base-2 logarithm of the pairs
    needed for the share `wanted`, as ``"input/log2_pairs"``; ``"mean_of_features"`` learns nothing.
    """
    plan = read(Parameters, "named_features", parameters)
    rng = generator(seed, "named_features")
    weights = np.abs(rng.normal(size=plan.aspects))
    weights /= np.linalg.norm(weights)
    mixed = plan.aspects + plan.nuisance
    mixing = rng.normal(size=(mixed, plan.width)) / np.sqrt(mixed)

    def responses(n: int) -> tuple[Floats, dict[str, Floats]]:
        z = rng.normal(size=(n, 2, plan.aspects))
        rest = rng.normal(size=(n, 2, plan.nuisance))
        features = z + plan.noise * rng.normal(size=z.shape)
        embedding = np.tanh(np.concatenate([z, rest], axis=2) @ mixing)
        return z @ weights, {"features": features, "embedding": embedding}

    utility, inputs = responses(plan.pairs[-1])
    first = rng.random(len(utility)) < expit(plan.sharpness * (utility[:, 0] - utility[:, 1]))
    test_utility, test_inputs = responses(plan.test)
    truth = test_utility[:, 0] > test_utility[:, 1]

    def accuracy(scores: Floats) -> float:
        return float(((scores[:, 0] > scores[:, 1]) == truth).mean())

    values = {"mean_of_features": accuracy(test_inputs["features"].mean(axis=2))}
    for name, vectors in inputs.items():
        data, reached = _votes(vectors, first), []
        for n in plan.pairs:
            l2 = plan.l2 + plan.l2_per_pair / n
            model = RewardModel("features", l2=l2).fit(data.take(np.arange(n)))
            reached.append(accuracy(model.score_features(test_inputs[name])))
            values[f"{name}/{n}"] = reached[-1]
        values[f"{name}/log2_pairs"] = pairs_needed(plan.pairs, reached, plan.wanted)
    return values


def pairs_needed(pairs: list[int], accuracy: list[float], wanted: float) -> float:
    """Base-2 logarithm of the pairs at which `accuracy` first reaches `wanted`, between the numbers tried by
    a straight line; at most the greatest number tried, which counts where it is not reached."""
    steps = np.log2(pairs)
    above = np.flatnonzero(np.asarray(accuracy) >= wanted)
    if not len(above):
        return float(steps[-1])
    at = int(above[0])
    if at == 0:
        return float(steps[0])
    share = (wanted - accuracy[at - 1]) / (accuracy[at] - accuracy[at - 1])
    return float(steps[at - 1] + share * (steps[at] - steps[at - 1]))


def _votes(vectors: Floats, first: npt.NDArray[np.bool_]) -> PreferenceData:
    """Judgments of two responses each, with their vectors of shape (n, 2, d) as features."""
    n, k, d = vectors.shape
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), d)
    features = pa.ListArray.from_arrays(
        pa.array(np.arange(0, n * k + 1, k), pa.int32()), flat.cast(pa.list_(pa.float32()))
    )
    scores = np.stack([first, ~first], axis=1).astype(np.float64)
    return PreferenceData.from_columns({"features": features, "scores": list(scores)})
