"""A discrete policy brought to a target distribution by importance weights, with and without a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import log_softmax

from palate import losses
from palate.recipes.experiments.parameters import read
from palate.reward.levels import beta_levels
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
LEVELS = 5


class Parameters(BaseModel):
    """Parameters of `run`.

    Attributes:
        responses: how many there are.
        mean, spread: of the predicted rating of a response, on the scale 0 to 4.
        level: the rating that is asked for.
        leak: weight that the proposal leaves to responses of another rounded rating.
        samples: from the proposal, per step.
        steps, learning_rate: of gradient descent on the logits.
    """

    model_config = ConfigDict(extra="forbid")

    responses: int = Field(30, ge=2)
    mean: float = 2.5
    spread: float = Field(1.0, gt=0)
    level: int = Field(4, ge=0, lt=LEVELS)
    leak: float = Field(0.05, gt=0, le=1)
    samples: int = Field(10, ge=2)
    steps: int = Field(400, ge=1)
    learning_rate: float = Field(0.5, gt=0)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """KL(target || policy) in nats of the `proposal`, and after training from it with the weights w' - b'
    (`steerlm2`) and w' alone (`no_baseline`); `half_of_no_baseline` and `zero` are what to compare with.
    """
    plan = read(Parameters, "steered_policy", parameters)
    rng = generator(seed, "steered_policy")
    prior = log_softmax(rng.normal(size=plan.responses))
    predicted = rng.normal(plan.mean, plan.spread, size=plan.responses)
    log_level = np.log(beta_levels(predicted, LEVELS)[:, plan.level])
    target = log_softmax(log_level + prior)
    asked = np.floor(np.clip(predicted, 0, LEVELS - 1) + 0.5) == plan.level
    proposal = log_softmax(prior + np.where(asked, 0.0, np.log(plan.leak)))
    drawn = rng.choice(plan.responses, size=(plan.steps, 1, plan.samples), p=np.exp(proposal))
    log_weights = log_level + prior - proposal

    def divergence(log_q: Floats) -> float:
        return float((np.exp(target) * (target - log_q)).sum())

    without = divergence(trained(proposal, log_weights, drawn, plan.learning_rate, baseline=False))
    return {
        "proposal": divergence(proposal),
        "steerlm2": divergence(trained(proposal, log_weights, drawn, plan.learning_rate, baseline=True)),
        "no_baseline": without,
        "half_of_no_baseline": without / 2,
        "zero": 0.0,
    }


def trained(
    proposal: Floats, log_weights: Floats, drawn: npt.NDArray[np.int64], rate: float, *, baseline: bool
) -> Floats:
    """Log-probabilities of the policy, shape (responses,), after one step per batch of `drawn`.

    Args:
        proposal: log-probabilities of the proposal, from which the policy starts, shape (responses,).
        log_weights: log w of every response, shape (responses,).
        drawn: samples of every step, shape (steps, groups, samples).
        rate: learning rate on the logits.
        baseline: whether the policy's own weights b' are subtracted.
    """
    loss = losses.get("importance_match")
    logits = torch.tensor(proposal, requires_grad=True)
    reference, log_w, index = torch.tensor(proposal), torch.tensor(log_weights), torch.from_numpy(drawn)
    optimiser = torch.optim.SGD([logits], lr=rate)
    for picked in index:
        optimiser.zero_grad()
        log_q = torch.log_softmax(logits, 0)
        if baseline:
            value = loss((log_q - reference)[picked], log_w[picked])
        else:
            value = -(torch.softmax(log_w[picked], 1) * log_q[picked]).sum(1).mean()
        value.backward()
        optimiser.step()
    return torch.log_softmax(logits, 0).detach().numpy()
