"""Votes that follow content and style: how the test loss falls with their number, and what they are worth as
a start for learning a related taste from few clean pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from palate.data import PreferenceData
from palate.evaluate import fit_power_law, sweep
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Parameters(BaseModel):
    """Parameters of `run`.

    Attributes:
        content: how many content features a response has; one style feature is beside them.
        content_weight, style_weight: log-odds of a vote per unit of content, the projection of the content
            features on the first taste, and of style. Content and style of a response are standard normal.
        votes: numbers of votes to learn from.
        test: how many pairs of each kind to test on.
        related: cosine of the second taste, of people, with the first.
        human: numbers of clean pairs of the second taste, to which style is nothing.
        human_weight: log-odds of a clean choice per unit of that taste.
        l2: penalty of models of votes beside the *sum* of their losses, a normal prior of variance 1 / l2.
        penalties: those among which a held-out fifth of the clean pairs chooses.
    """

    model_config = ConfigDict(extra="forbid")

    content: int = Field(60, ge=2)
    content_weight: float = 1.2
    style_weight: float = 0.8
    votes: list[int] = Field(min_length=4)
    test: int = Field(4000, ge=10)
    related: float = Field(0.8, gt=0, lt=1)
    human: list[int] = Field(min_length=1)
    human_weight: float = Field(2.0, gt=0)
    l2: float = Field(1.0, gt=0)
    penalties: list[float] = Field(default=[1.0, 4.0, 16.0, 64.0, 256.0], min_length=1)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Test loss and accuracy by number of votes, ``GROUP/loss_N`` and ``GROUP/accuracy_N``, on pairs in order
    of content: "adversarial" ones, whose loser has the better style, and "fair" ones of any style; the
    exponents ``GROUP/b`` of ``L = a N^-b``; ``adversarial/half_loss_N`` is half the loss at the smallest N.

    Then the share of pairs in the order of people's taste after N clean ones: ``scratch_N`` from zero
    weights and ``tuned_N`` from those of all votes, the penalty around them being the one with the least loss
    on a fifth of the clean pairs; ``fixed_scratch_N`` and ``fixed_tuned_N`` with the penalty `l2`; ``start``
    before any clean pair.
    """
    plan = read(Parameters, "vote_scaling", parameters)
    world = Votes(seed, plan)
    most = max(plan.votes)
    votes, fair, adversarial = world.votes(most), world.pairs(plan.test), world.pairs(plan.test, True)
    test = PreferenceData.concat([labelled(*fair, "fair"), labelled(*adversarial, "adversarial")])
    values: dict[str, float] = {"zero": 0.0}
    tables = []
    with TemporaryDirectory(prefix="palate-") as folder:
        for n in sorted(plan.votes):
            settings = {"encoder": "features", "l2": plan.l2 / n}
            tables.append(
                sweep(votes, Path(folder, str(n)), sizes=[n], seeds=1, test=test, by="group",
                      settings=settings, seed=seed)
            )  # fmt: skip
    runs = pl.concat(tables)
    for group in ("adversarial", "fair"):
        part = runs.filter(group=group).sort("n")
        for n, loss, accuracy in part.select("n", "loss", "accuracy").iter_rows():
            values |= {f"{group}/loss_{n}": loss, f"{group}/accuracy_{n}": accuracy}
        values[f"{group}/b"] = fit_power_law(part["n"], part["loss"]).b
    least = min(plan.votes)
    values[f"adversarial/half_loss_{least}"] = 0.5 * values[f"adversarial/loss_{least}"]
    return values | _fine_tuned(world, plan, votes, seed)


def _fine_tuned(world: Votes, plan: Parameters, votes: PreferenceData, seed: int) -> dict[str, float]:
    start = RewardModel("features", l2=plan.l2 / votes.n_rows, seed=seed).fit(votes)
    human = world.choices(max(plan.human))
    test = labelled(*world.pairs(plan.test, taste=world.people), "human")
    values = {"start": _accuracy(start, test)}
    for n in plan.human:
        clean = human.take(np.arange(n))
        for name, init in (("scratch", None), ("tuned", start)):
            values[f"fixed_{name}_{n}"] = _accuracy(_learnt(clean, init, plan.l2, seed), test)
            held_out, rest = clean.take(np.arange(n // 5)), clean.take(np.arange(n // 5, n))
            losses = [_loss(_learnt(rest, init, l2, seed), held_out) for l2 in plan.penalties]
            best = plan.penalties[int(np.argmin(losses))]
            values[f"{name}_{n}"] = _accuracy(_learnt(clean, init, best, seed), test)
    return values


def _learnt(data: PreferenceData, init: RewardModel | None, l2: float, seed: int) -> RewardModel:
    """With the penalty around the weights of `init`, or zero."""
    pull: Literal["start", "zero"] = "start" if init is not None else "zero"
    return RewardModel("features", l2=l2 / data.n_rows, pull=pull, seed=seed).fit(data, init=init)


def _loss(model: RewardModel, data: PreferenceData) -> float:
    scores = model.score_data(data).scores
    return float(np.logaddexp(0.0, scores[:, 1] - scores[:, 0]).mean())


def _accuracy(model: RewardModel, test: PreferenceData) -> float:
    """Share of the pairs, chosen response first, that the model orders rightly."""
    scores = model.score_data(test).scores
    return float((scores[:, 0] > scores[:, 1]).mean())


class Votes:
    """A seed's forum: a taste for content that votes follow, beside style, and a related one of people."""

    def __init__(self, seed: int, plan: Parameters) -> None:
        self.plan, self.rng = plan, generator(seed, "vote_scaling")
        first, other = self.rng.normal(size=(2, plan.content))
        self.taste: Floats = first / np.linalg.norm(first)
        other -= (other @ self.taste) * self.taste
        other /= np.linalg.norm(other)
        self.people: Floats = plan.related * self.taste + np.sqrt(1 - plan.related**2) * other

    def votes(self, n: int) -> PreferenceData:
        """Votes for one of two responses, Bradley-Terry on content and style together."""
        plan = self.plan
        return self._chosen(n, np.append(plan.content_weight * self.taste, plan.style_weight), "votes")

    def choices(self, n: int) -> PreferenceData:
        """People's choices of one of two responses, Bradley-Terry on their taste alone."""
        return self._chosen(n, np.append(self.plan.human_weight * self.people, 0.0), "human")

    def _chosen(self, n: int, weights: Floats, group: str) -> PreferenceData:
        x = self.rng.normal(size=(n, 2, self.plan.content + 1))
        worth = x @ weights
        return labelled(x, self.rng.random(n) < expit(worth[:, 0] - worth[:, 1]), group)

    def pairs(
        self, n: int, adversarial: bool = False, taste: Floats | None = None
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Features, shape (n, 2, content + 1), of pairs and whether the first has the better content; if
        `adversarial` the other has the better style."""
        x = self.rng.normal(size=(n, 2, self.plan.content + 1))
        worth = x[..., :-1] @ (self.taste if taste is None else taste)
        first = worth[:, 0] > worth[:, 1]
        if adversarial:
            wrong = (x[:, 0, -1] > x[:, 1, -1]) == first
            x[wrong, :, -1] = x[wrong, ::-1, -1]
        return x, first


def labelled(x: Floats, first: npt.NDArray[np.bool_], group: str) -> PreferenceData:
    """Pairs of features, shape (n, 2, d), as judgments with the preferred one first."""
    n, _, d = x.shape
    ordered = np.where(first[:, None, None], x, x[:, ::-1])
    vectors = pa.ListArray.from_arrays(
        np.arange(0, 2 * n * d + 1, d, dtype=np.int32), pa.array(ordered.astype(np.float32).ravel())
    )
    return PreferenceData.from_columns(
        {
            "features": pa.ListArray.from_arrays(np.arange(0, 2 * n + 1, 2, dtype=np.int32), vectors),
            "scores": np.tile([1.0, 0.0], (n, 1)),
            "metadata": [f'{{"group": "{group}"}}'] * n,
            "annotator_kind": ["rule"] * n,
        }
    )
