"""Pairs made of noisy ratings: how large a gap of the means is worth the pairs it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from palate import losses
from palate.curate.pairs import pairs_from_ratings
from palate.data import PreferenceData
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Policy(BaseModel):
    """A softmax policy over `candidates` responses per prompt, linear in their features."""

    model_config = ConfigDict(extra="forbid")

    candidates: int = Field(50, ge=4)
    beta: float = Field(0.1, gt=0)
    samples: int = Field(8, ge=2)
    rounds: int = Field(4, ge=2)
    steps: int = Field(800, ge=4)
    learning_rate: float = Field(0.05, gt=0)


class Plan(BaseModel):
    """Who is rated, how, and what is made of it.

    True quality of an aspect is linear in the features, with variance 1, of which the share `common`
    belongs to all aspects. A rating is 3 + quality + an error of the response that all its ratings share
    (standard deviation `shared_error`) + one of its own (`own_error`), rounded and cut to 1 to 5.
    """

    model_config = ConfigDict(extra="forbid")

    prompts: int = Field(400, ge=10)
    responses: int = Field(4, ge=2)
    features: int = Field(24, ge=2)
    aspects: int = Field(7, ge=1)
    common: float = Field(0.0, ge=0, le=1)
    shared_error: float = Field(0.9, ge=0)
    own_error: float = Field(0.4, ge=0)
    gaps: list[float] = Field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5])
    equal_pairs: int = Field(250, ge=10)
    test_pairs: int = Field(9000, ge=100)
    l2: float = Field(0.01, ge=0)
    policy: Policy = Policy()


class Parameters(BaseModel):
    """Parameters of `run`."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Plan]


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy of a linear Bradley-Terry model on the true order of unfiltered test pairs, trained on as many
    pairs at every gap (``equal/G``), and on all that pass (``all/G``, of them ``pairs/G``); of ``all/G`` on
    test pairs whose own ratings lie that far apart (``filtered/G``); win rates over the first policy after
    direct and after iterated DPO (``policy/dpo``, ``policy/iterated``); each after its setting's name.
    """
    settings = read(Parameters, "rating_gaps", parameters).settings
    return {f"{name}/{key}": v for name, plan in settings.items() for key, v in _run(seed, plan).items()}


def _run(seed: int, plan: Plan) -> dict[str, float]:
    rng = generator(seed, "rating gaps")
    quality = _directions(rng, plan)
    x = rng.normal(size=(plan.prompts, plan.responses, plan.features))
    data, features = _rated(x, _ratings(rng, x @ quality.T, plan))
    test = rng.normal(size=(plan.test_pairs, 2, plan.features))
    worth = (test @ quality.T).mean(2)
    seen = _ratings(rng, test @ quality.T, plan).mean(2)
    values, models = {}, {}
    for gap in plan.gaps:
        pairs = _with_features(pairs_from_ratings(data, gap=gap).data, features)
        some = rng.permutation(pairs.n_rows)[: plan.equal_pairs]
        models[gap] = _fit(pairs, plan)
        apart = np.abs(seen[:, 0] - seen[:, 1]) >= gap - 1e-9
        values[f"equal/{gap:g}"] = _accuracy(_fit(pairs.take(np.sort(some)), plan), test, worth)
        values[f"all/{gap:g}"] = _accuracy(models[gap], test, worth)
        values[f"filtered/{gap:g}"] = _accuracy(models[gap], test[apart], worth[apart])
        values[f"pairs/{gap:g}"] = float(pairs.n_rows)
    return values | _policies(seed, plan, quality, models[plan.gaps[0]])


def _directions(rng: np.random.Generator, plan: Plan) -> Floats:
    """Weights of the features in each aspect's quality, shape (aspects, features), each of length 1."""
    basis = np.linalg.qr(rng.normal(size=(plan.features, plan.aspects + 1)))[0].T
    made: Floats = np.sqrt(plan.common) * basis[:1] + np.sqrt(1 - plan.common) * basis[1:]
    return made


def _ratings(rng: np.random.Generator, quality: Floats, plan: Plan) -> Floats:
    """Ratings for quality of shape (..., aspects)."""
    shared = rng.normal(scale=plan.shared_error, size=(*quality.shape[:-1], 1))
    own = rng.normal(scale=plan.own_error, size=quality.shape)
    return np.clip(np.floor(3.0 + quality + shared + own + 0.5), 1.0, 5.0)


def _rated(x: Floats, ratings: Floats) -> tuple[PreferenceData, Floats]:
    """One judgment per prompt and aspect over its responses, whose texts are their row of the features."""
    prompts, k, aspects = ratings.shape
    names = np.arange(prompts * k).astype(str).reshape(prompts, k)
    data = PreferenceData.from_columns(
        {
            "prompt": np.repeat([f"prompt {i}" for i in range(prompts)], aspects).tolist(),
            "responses": np.repeat(names, aspects, axis=0).tolist(),
            "scores": ratings.transpose(0, 2, 1).reshape(-1, k).tolist(),
            "aspect": [f"aspect {a}" for a in range(aspects)] * prompts,
        }
    )
    return data, x.reshape(prompts * k, -1)


def _with_features(pairs: PreferenceData, features: Floats) -> PreferenceData:
    place = np.array(pairs.column("responses").to_pylist(), dtype=np.int64)
    return PreferenceData.from_columns(
        {"features": features[place].tolist(), "scores": [[1.0, 0.0]] * len(place)}
    )


def _fit(pairs: PreferenceData, plan: Plan) -> RewardModel:
    return RewardModel("features", l2=plan.l2).fit(pairs)


def _accuracy(model: RewardModel, test: Floats, worth: Floats) -> float:
    scores = model.score_features(test)
    return float(np.mean((scores[:, 0] > scores[:, 1]) == (worth[:, 0] > worth[:, 1])))


def _policies(seed: int, plan: Plan, quality: Floats, judge: RewardModel) -> dict[str, float]:
    """Win rates over the first (uniform) policy by true quality, for as many steps of either method."""
    p, rng = plan.policy, generator(seed, "policies")
    x = rng.normal(size=(plan.prompts, p.candidates, plan.features))
    reward, worth = judge.score_features(x), (x @ quality.T).mean(2)
    inputs = torch.from_numpy(x)
    values = {}
    for name, rounds in (("dpo", 1), ("iterated", p.rounds)):
        weights = torch.zeros(plan.features, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([weights], lr=p.learning_rate)
        loss = losses.get("bradley_terry", scale=p.beta)
        for _ in range(rounds):
            best, worst = _extremes(
                rng, torch.softmax(inputs @ weights.detach(), 1).numpy(), reward, p.samples
            )
            rows = torch.arange(plan.prompts)
            for _ in range(p.steps // rounds):
                optimiser.zero_grad()
                # The log-ratio to the uniform first policy is the log-probability up to a constant.
                log_policy = torch.log_softmax(inputs @ weights, 1)
                scores = torch.stack([log_policy[rows, best], log_policy[rows, worst]], 1)
                loss(scores, torch.tensor([[1.0, 0.0]]).expand_as(scores)).backward()
                optimiser.step()
        policy = torch.softmax(inputs @ weights.detach(), 1).numpy()
        higher = (worth[:, :, None] > worth[:, None, :]) + 0.5 * (worth[:, :, None] == worth[:, None, :])
        values[f"policy/{name}"] = float(np.mean(np.einsum("ni,nij->n", policy, higher) / p.candidates))
    return values


def _extremes(
    rng: np.random.Generator, policy: Floats, reward: Floats, samples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best and the worst by reward of `samples` responses drawn from the policy for each prompt."""
    edges = policy.cumsum(1)
    drawn = (rng.random((len(policy), samples, 1)) > edges[:, None, :-1]).sum(2)
    of_drawn = np.take_along_axis(reward, drawn, 1)
    rows = np.arange(len(policy))
    best, worst = drawn[rows, of_drawn.argmax(1)], drawn[rows, of_drawn.argmin(1)]
    return torch.from_numpy(best), torch.from_numpy(worst)
