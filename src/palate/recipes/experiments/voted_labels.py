"""Labels of which some are wrong: voters measure the strength of each, treatments follow, and what they
gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from palate.curate import apply_strength, preference_strength, strength_groups
from palate.data import PreferenceData
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.reward.ensemble import Bootstrap
from palate.seeding import generator

Bools = npt.NDArray[np.bool_]


class Labels(BaseModel):
    """Votes of Bradley-Terry voters on a utility linear in standard normal features, with weights of length
    `scale`; a share `flips` of the votes is turned round."""

    model_config = ConfigDict(extra="forbid")

    features: int = Field(60, ge=1)
    pairs: int = Field(1500, ge=10)
    test: int = Field(2000, ge=10)
    scale: float = Field(3.0, gt=0)
    flips: float = Field(0.22, ge=0, lt=1)


class Setting(BaseModel):
    """How voters and the final models are trained (parameters of a linear `RewardModel` on features), how
    voters come to differ, which treatments are compared (names of `Parameters.treatments`) and which tenths
    of the pairs, weakest first, are trained on alone."""

    model_config = ConfigDict(extra="forbid")

    model: dict[str, Any] = Field(default_factory=dict)
    bootstrap: Bootstrap = "none"
    mode: Literal["in_sample", "cross_fit"] = "in_sample"
    folds: int = Field(2, ge=2)
    treatments: list[str] | None = None
    groups: bool = False


class Parameters(BaseModel):
    """Parameters of `run`; a treatment is arguments of `palate.curate.apply_strength`."""

    model_config = ConfigDict(extra="forbid")

    labels: Labels = Labels()
    members: int = Field(10, ge=2)
    settings: dict[str, Setting]
    treatments: dict[str, dict[str, Any]]


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """For every setting the share of test pairs ordered as the utility orders them: after each treatment
    (``setting/treatment``), untreated (``setting/untreated``), and of each tenth alone
    (``setting/group_1``..``group_10``); ``setting/negative``, the share of strengths below 0,
    ``setting/wrong``, of labels against the utility, and ``setting/wrong_in_lowest``, of those among the
    weakest fifth. ``half`` is one half.
    """
    plan = read(Parameters, "voted_labels", parameters)
    train, test, wrong = simulated(seed, plan.labels)
    values = {"half": 0.5}
    for name, setting in plan.settings.items():
        strength = preference_strength(
            train, RewardModel("features", seed=seed, **setting.model), members=plan.members,
            bootstrap=setting.bootstrap, mode=setting.mode, folds=setting.folds, by="row", seed=seed,
        )  # fmt: skip
        mu = strength["mu"].to_numpy()
        weakest = np.argsort(mu, kind="stable")[: len(mu) // 5]
        values[f"{name}/negative"] = float((mu < 0).mean())
        values[f"{name}/wrong"] = float(wrong.mean())
        values[f"{name}/wrong_in_lowest"] = float(wrong[weakest].mean())
        final = RewardModel("features", seed=seed, **setting.model)
        values[f"{name}/untreated"] = _accuracy(final, train, test)
        chosen = setting.treatments if setting.treatments is not None else list(plan.treatments)
        for key in chosen:
            treated = apply_strength(train, strength, **plan.treatments[key])
            told = {what: what for what in ("margin", "smoothing") if {"smoothing": "soft"}.get(what, what) in
                    plan.treatments[key]}  # fmt: skip
            model = RewardModel("features", seed=seed, **setting.model, columns=told or None)
            values[f"{name}/{key}"] = _accuracy(model, treated, test)
        if setting.groups:
            table = strength_groups(train, strength, final, test, groups=10)
            values |= {f"{name}/group_{g}": a for g, a in table.select("group", "accuracy").rows()}
    return values


def simulated(seed: int, plan: Labels) -> tuple[PreferenceData, PreferenceData, Bools]:
    """Pairs with votes to train on, pairs with the utility's own order to test on, and which votes are
    against the utility."""
    rng = generator(seed, "voted_labels")
    weights = rng.normal(size=plan.features)
    weights *= plan.scale / np.linalg.norm(weights)
    x = rng.normal(size=(plan.pairs + plan.test, 2, plan.features))
    gap = (x[:, 0] - x[:, 1]) @ weights
    first = (rng.random(len(gap)) < expit(gap)) ^ (rng.random(len(gap)) < plan.flips)
    first[plan.pairs :] = gap[plan.pairs :] > 0
    data = PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": np.stack([first, ~first], axis=1).astype(np.float64),
            "annotator_kind": ["rule"] * len(gap),
        }
    )
    train, test = (data.take(rows) for rows in np.split(np.arange(len(gap)), [plan.pairs]))
    return train, test, np.asarray((first != (gap > 0))[: plan.pairs])


def _accuracy(model: RewardModel, train: PreferenceData, test: PreferenceData) -> float:
    """Share of decided test pairs ordered rightly by the model, fitted to `train`."""
    scores = model.fit(train).score_data(test).scores
    right = (scores[:, 0] > scores[:, 1]) == (test.scores[::2] > test.scores[1::2])
    return float(right.mean())
