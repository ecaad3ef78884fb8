"""Leaderboards of search-augmented answers whose length and citations move votes too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit
from scipy.stats import kendalltau

from palate.data import PreferenceData
from palate.data.citations import citation_features
from palate.data.style import style_features
from palate.rank import BradleyTerry
from palate.rank.contextual import ContextualBradleyTerry
from palate.recipes.experiments.parameters import read
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Style(BaseModel):
    """Votes that length and citations sway; the weakest system is `verbose` times as long as the others.

    Attributes:
        spread: strengths are evenly spaced from `spread` to -`spread`.
        words, citations: mean of an answer.
        length_effect, citation_effect: log-odds per standard deviation of the feature.
    """

    model_config = ConfigDict(extra="forbid")

    systems: int = Field(8, ge=2)
    battles: int = Field(4000, ge=10)
    spread: float = 0.5
    verbose: float = Field(3.0, gt=0)
    words: float = Field(200.0, gt=0)
    citations: float = Field(5.0, gt=0)
    length_effect: float = 0.35
    citation_effect: float = 0.30


class Credulous(BaseModel):
    """Votes that depend on how much is cited, whether it supports the claims or not.

    Attributes:
        supporting: share of citations that support their claim.
        effect: log-odds per standard deviation of the number of citations.
    """

    model_config = ConfigDict(extra="forbid")

    systems: int = Field(8, ge=2)
    battles: int = Field(6000, ge=10)
    spread: float = 0.5
    citations: float = Field(5.0, gt=0)
    supporting: float = Field(0.6, ge=0, le=1)
    effect: float = 0.35


class Parameters(BaseModel):
    """Parameters of `run`."""

    model_config = ConfigDict(extra="forbid")

    style: Style = Style()
    credulous: Credulous = Credulous()


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Of the style simulation, Kendall's tau with the true order and RMSE of strengths, plain and controlled,
    and the coefficients beside the true ones; of the credulous voter, the coefficients of supporting,
    irrelevant and unrelated counts.
    """
    plan = read(Parameters, "controlled_votes", parameters)
    return _style(seed, plan.style) | _credulous(seed, plan.credulous) | {"none": 0.0}


def _style(seed: int, plan: Style) -> dict[str, float]:
    rng = generator(seed, "style")
    strengths = np.linspace(plan.spread, -plan.spread, plan.systems)
    pair = _pairs(rng, plan.battles, plan.systems)
    scale = np.where(pair == plan.systems - 1, plan.verbose, 1.0)
    words = np.maximum(np.rint(plan.words * scale * np.exp(0.4 * rng.normal(size=pair.shape))), 1)
    cited = rng.poisson(plan.citations, size=pair.shape)
    style = plan.length_effect * _ratio(words) + plan.citation_effect * _ratio(cited)
    scores = _votes(rng, strengths[pair[:, 0]] - strengths[pair[:, 1]] + style)
    data = PreferenceData.from_columns({
        "items": [[f"system-{a + 1}", f"system-{b + 1}"] for a, b in pair.tolist()],
        "responses": [["word " * n for n in row] for row in words.astype(int).tolist()],
        "scores": scores,
    })  # fmt: skip
    traces = [[[["https://example.org/a"] * n] for n in row] for row in cited.tolist()]
    features = {
        "length": style_features(data, ["words"])["words"],
        "citations": citation_features(data, traces=traces)["citations"],
    }
    plain = BradleyTerry().fit(data)
    controlled = ContextualBradleyTerry(features=features).fit(data)
    effects = _effects(controlled)
    found = {"true/length": plan.length_effect, "true/citations": plan.citation_effect}
    found |= {f"fitted/{name}": effects[name] for name in features}
    for name, board in {"plain": plain, "controlled": controlled}.items():
        true = np.array([strengths[int(item.removeprefix("system-")) - 1] for item in board.items_])
        found[f"{name}/tau"] = float(kendalltau(board.strengths_, true).statistic)
        found[f"{name}/rmse"] = float(np.sqrt(np.mean((board.strengths_ - true) ** 2)))
    return found


def _credulous(seed: int, plan: Credulous) -> dict[str, float]:
    rng = generator(seed, "credulous")
    strengths = np.linspace(plan.spread, -plan.spread, plan.systems)
    pair = _pairs(rng, plan.battles, plan.systems)
    cited = rng.poisson(plan.citations, size=pair.shape)
    supporting = rng.binomial(cited, plan.supporting)
    features = {
        "support": supporting.astype(np.float64),
        "irrelevant": (cited - supporting).astype(np.float64),
        "unrelated": rng.poisson(plan.citations, size=pair.shape).astype(np.float64),
    }
    gap = strengths[pair[:, 0]] - strengths[pair[:, 1]] + plan.effect * _ratio(cited)
    data = PreferenceData.from_columns({
        "items": [[f"system-{a + 1}", f"system-{b + 1}"] for a, b in pair.tolist()],
        "scores": _votes(rng, gap),
    })  # fmt: skip
    effects = _effects(ContextualBradleyTerry(features=features).fit(data))
    return {f"credulous/{name}": effects[name] for name in features}


def _pairs(rng: np.random.Generator, n: int, systems: int) -> Ints:
    """Two different systems of each battle, shape (n, 2)."""
    first = rng.integers(systems, size=n)
    return np.stack([first, (first + rng.integers(1, systems, size=n)) % systems], axis=1)


def _ratio(values: npt.NDArray[Any]) -> Floats:
    """(u_a - u_b) / (u_a + u_b + 1), standardised over battles."""
    f = (values[:, 0] - values[:, 1]) / (values[:, 0] + values[:, 1] + 1.0)
    return np.asarray((f - f.mean()) / f.std())


def _votes(rng: np.random.Generator, gap: Floats) -> Floats:
    won = rng.random(len(gap)) < expit(gap)
    return np.stack([won, ~won], axis=1).astype(np.float64)


def _effects(board: ContextualBradleyTerry) -> dict[str, float]:
    assert board.coefficients_ is not None
    return dict(board.coefficients_.select("feature", "coefficient").rows())
