"""Aspects of one object judged apart: a head each against one score, ties kept against dropped, boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit
from scipy.stats import kendalltau

from palate.data import PreferenceData
from palate.data.simulate import simulate_battles
from palate.evaluate import pairwise_alignment
from palate.losses.pairwise import logistic
from palate.rank.composite import CompositeBradleyTerry
from palate.recipes.experiments.parameters import read
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

VIEWS = ("normal", "rgb")


class Heads(BaseModel):
    """Pairs of objects with features of two views; `aspects` says which views each aspect looks at."""

    model_config = ConfigDict(extra="forbid")

    features: int = Field(12, ge=1)
    aspects: dict[str, list[str]]
    train: int = Field(1500, ge=10)
    test: int = Field(1500, ge=10)


class Ties(BaseModel):
    """Votes with ties after Davidson (1970), with the tie parameter `nu`, to learn one aspect from."""

    model_config = ConfigDict(extra="forbid")

    features: int = Field(12, ge=1)
    train: int = Field(300, ge=10)
    test: int = Field(3000, ge=10)
    nu: float = Field(0.85, gt=0)


class Boards(BaseModel):
    """Generators whose strength on an aspect is a common part and one of the aspect (standard deviations)."""

    model_config = ConfigDict(extra="forbid")

    generators: int = Field(9, ge=2)
    battles: int = Field(1000, ge=10)
    common: float = Field(0.5, ge=0)
    own: float = Field(0.5, ge=0)


class Parameters(BaseModel):
    """Parameters of `run`; `ridge` (l2/2 |w|^2 of the mean loss) is that of every scorer."""

    model_config = ConfigDict(extra="forbid")

    heads: Heads
    ties: Ties = Ties()
    boards: Boards = Boards()
    ridge: float = Field(1e-3, gt=0)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on test pairs, mean over aspects (``separate``, ``shared``); accuracy on decided pairs and
    mean |P - 1/2| on tied ones, with training ties kept and dropped; Kendall's tau of leaderboards with each
    aspect's true order, mean over aspects (``boards/by_aspect``, ``boards/one``).
    """
    plan = read(Parameters, "aspect_heads", parameters)
    found = _heads(seed, plan.heads, plan.ridge) | _ties(seed, plan.ties, plan.ridge)
    return found | _boards(seed, plan.boards, list(plan.heads.aspects))


def train_linear(difference: Floats, target: Floats, ridge: float, mask: Floats | None = None) -> Floats:
    """Weights of a linear score, shape (d,), from feature differences (n, d) and soft labels (n,)."""
    x, y = torch.from_numpy(difference), torch.from_numpy(target)
    kept = None if mask is None else torch.from_numpy(mask)
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss: torch.Tensor = logistic(x @ weights, y, mask=kept) + 0.5 * ridge * weights @ weights
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach().numpy()


def _heads(seed: int, plan: Heads, ridge: float) -> dict[str, float]:
    rng = generator(seed, "heads")
    d = plan.features
    # Features of the first object less those of the second, the views one after the other.
    difference = np.sqrt(2.0) * rng.normal(size=(plan.train + plan.test, len(VIEWS) * d))
    train, test = slice(None, plan.train), slice(plan.train, None)
    targets, columns = {}, {}
    for aspect, views in plan.aspects.items():
        seen = np.concatenate([np.arange(d) + d * VIEWS.index(view) for view in views])
        weights = rng.normal(size=len(seen))
        weights /= np.linalg.norm(weights)
        chance = expit(difference[:, seen] @ weights)
        targets[aspect] = (rng.random(len(chance)) < chance).astype(np.float64)
        columns[aspect] = seen
    every = np.concatenate([target[train] for target in targets.values()])
    shared = train_linear(np.tile(difference[train], (len(targets), 1)), every, ridge)
    scores: dict[str, list[float]] = {"separate": [], "shared": []}
    for aspect, target in targets.items():
        own = difference[:, columns[aspect]]
        head = train_linear(own[train], target[train], ridge)
        for name, margin in {"separate": own[test] @ head, "shared": difference[test] @ shared}.items():
            scores[name].append(pairwise_alignment(expit(margin), target[test]))
    return {f"heads/{name}": float(np.mean(values)) for name, values in scores.items()}


def _ties(seed: int, plan: Ties, ridge: float) -> dict[str, float]:
    rng = generator(seed, "ties")
    difference = np.sqrt(2.0) * rng.normal(size=(plan.train + plan.test, plan.features))
    weights = rng.normal(size=plan.features)
    gap = difference @ (weights / np.linalg.norm(weights))
    total = np.exp(gap / 2) + np.exp(-gap / 2) + plan.nu
    luck = rng.random(len(gap))
    won, tied = luck < np.exp(gap / 2) / total, luck > 1.0 - plan.nu / total
    target = np.where(tied, 0.5, won.astype(np.float64))
    train, test = slice(None, plan.train), slice(plan.train, None)
    found = {"ties/share": float(tied.mean())}
    for name, mask in {"kept": None, "dropped": ~tied[train]}.items():
        head = train_linear(difference[train], target[train], ridge, mask)
        chance, open_ = expit(difference[test] @ head), tied[test]
        found[f"ties/{name}_accuracy"] = pairwise_alignment(chance[~open_], target[test][~open_])
        found[f"ties/{name}_certainty"] = float(np.abs(chance[open_] - 0.5).mean())
    return found


def _boards(seed: int, plan: Boards, aspects: Sequence[str]) -> dict[str, float]:
    rng = generator(seed, "boards")
    common = plan.common * rng.normal(size=plan.generators)
    truth: dict[str, dict[str, float]] = {}
    parts = []
    for k, aspect in enumerate(aspects):
        strengths = common + plan.own * rng.normal(size=plan.generators)
        truth[aspect] = {f"generator-{i + 1}": float(value) for i, value in enumerate(strengths)}
        votes = simulate_battles(plan.battles, truth[aspect], seed=seed * len(aspects) + k)
        parts.append(votes.with_columns(aspect=[aspect] * len(votes)))
    fitted = CompositeBradleyTerry(cluster=None).fit(PreferenceData.concat(parts))
    alone = fitted.aspects_
    taus: dict[str, list[float]] = {"by_aspect": [], "one": []}
    for aspect, values in truth.items():
        true = [values[item] for item in fitted.items_]
        by_aspect = dict(alone.select("item", aspect).rows())
        taus["one"].append(kendalltau(fitted.strengths_, true).statistic)
        taus["by_aspect"].append(kendalltau([by_aspect[item] for item in fitted.items_], true).statistic)
    return {f"boards/{name}": float(np.mean(values)) for name, values in taus.items()}
