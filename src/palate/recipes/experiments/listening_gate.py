"""Leaderboards from votes that had to be listened for, against votes that anyone could cast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import kendalltau

from palate.data import PreferenceData
from palate.data.simulate import simulate_battles, true_strengths
from palate.rank import BradleyTerry
from palate.rank.leaderboard import POINTS
from palate.recipes.experiments.parameters import read
from palate.seeding import generator


class Parameters(BaseModel):
    """Parameters of `run`.

    Attributes:
        systems: with strengths evenly spaced from `spread` to -`spread`.
        votes: collected with the gate, and as many without it.
        careless: share of voters who choose a side at random.
        leave: share of these who leave when they have to listen before they vote.
        repeats: simulations averaged in one seed.
        l2: ridge of the leaderboard.
        replicates: of the bootstrap.
    """

    model_config = ConfigDict(extra="forbid")

    systems: int = Field(6, ge=2)
    spread: float = Field(0.8, gt=0)
    votes: int = Field(400, ge=10)
    careless: float = Field(0.25, ge=0, lt=1)
    leave: float = Field(0.7, ge=0, le=1)
    repeats: int = Field(10, ge=1)
    l2: float = Field(1.0, ge=0)
    replicates: int = Field(1000, ge=2)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Kendall's tau with the true order, RMSE of strengths, and coverage of bootstrap intervals (of each
    system's rating), as ``"open/tau"``, ``"gate/tau"`` and so on; means over `repeats` simulations.
    """
    plan = read(Parameters, "listening_gate", parameters)
    spaced = np.linspace(plan.spread, -plan.spread, plan.systems)
    truth = true_strengths({f"system-{i + 1}": float(value) for i, value in enumerate(spaced)})
    outcomes = [_once(seed * plan.repeats + repeat, truth, plan) for repeat in range(plan.repeats)]
    found = {key: float(np.mean([outcome[key] for outcome in outcomes])) for key in outcomes[0]}
    return found | {"nominal/coverage": 0.94}


def _once(seed: int, truth: Mapping[str, float], plan: Parameters) -> dict[str, float]:
    arrivals = simulate_battles(
        3 * plan.votes, truth, annotators=plan.votes, spammers=plan.careless, seed=seed
    )
    careless = np.array([name.startswith("spammer") for name in arrivals.values("annotator")])
    leaves = careless & (generator(seed, "listening gate").random(len(careless)) < plan.leave)
    collected = {"open": np.arange(plan.votes), "gate": np.flatnonzero(~leaves)[: plan.votes]}
    found: dict[str, float] = {}
    for name, rows in collected.items():
        found |= {
            f"{name}/{key}": value for key, value in _board(arrivals.take(rows), truth, plan, seed).items()
        }
    return found


def _board(
    votes: PreferenceData, truth: Mapping[str, float], plan: Parameters, seed: int
) -> dict[str, float]:
    board = (
        BradleyTerry(l2=plan.l2, interval="bootstrap", replicates=plan.replicates, seed=seed)
        .fit(votes)
        .leaderboard()
    )
    table = board.table
    true = np.array([truth[item] for item in table["item"]])
    found, lower, upper = (table[name].to_numpy() for name in ("strength", "lower", "upper"))
    rating = 1000.0 + POINTS * true
    return {
        "tau": float(kendalltau(found, true).statistic),
        "rmse": float(np.sqrt(np.mean((found - true) ** 2))),
        "coverage": float(np.mean((lower <= rating) & (rating <= upper))),
    }
