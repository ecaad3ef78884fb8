"""What a fitted reward model says beyond its score: how much each feature counts, and each attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.reward.scorers import FeatureScorer

if TYPE_CHECKING:
    from palate.reward.model import RewardModel


def explain(model: RewardModel, data: PreferenceData | None = None) -> pl.DataFrame:
    """How much each feature counts: the mean gradient of the overall score by the inputs.

    Of a linear model that is its weights, wherever they are taken. Of a network it is the mean over the
    responses of `data`, or without data the gradient at the mean of the training set.

    Returns:
        One row per feature, in order of the inputs: `feature` (its name, or its number from 0), `weight` (how
        much the score rises when the feature rises by one of its units) and `per_sd` (when it rises by one
        standard deviation of the training set, which makes features comparable).

    Raises:
        ConfigError: the model reads texts through an encoder, whose inputs have no meaning of their own, or
            compares and has no score.
    """
    scorer = model.scorer_
    if not isinstance(scorer, FeatureScorer) or scorer.network is None:
        raise ConfigError("explain is for models of features; the numbers an encoder gives have no meaning")
    if model.head_.native != "score":
        raise ConfigError(f"the head {model.head!r} compares; it has no score to explain")
    network = scorer.network
    at = network.mean[None].clone()
    if data is not None:
        at = torch.from_numpy(scorer.inputs_of(data).astype(np.float64))
    at.requires_grad_()
    total = model.head_.score(network(at)).sum()
    weight = torch.autograd.grad(total, at)[0].mean(0).numpy()
    names = scorer.names or [str(number) for number in range(network.dim)]
    return pl.DataFrame(
        {"feature": list(names), "weight": weight, "per_sd": weight * network.scale.numpy()},
        schema={"feature": pl.String, "weight": pl.Float64, "per_sd": pl.Float64},
    )


def attributes(model: RewardModel, prompts: Sequence[str], responses: Sequence[str]) -> pl.DataFrame:
    """Every aspect of n responses, and their weighted sum in the column `goodness`; n rows.

    Raises:
        ConfigError: the head scores no aspects.
    """
    aspects = model.head_.aspects
    if not aspects:
        raise ConfigError(f"the head {model.head!r} scores no aspects; use head='attributes'")
    if len(prompts) != len(responses):
        raise ConfigError(
            f"attributes needs one prompt per response; got {len(prompts)} and {len(responses)}"
        )
    outputs = model.scorer_.texts(list(prompts), list(responses))
    with torch.no_grad():
        given = torch.from_numpy(np.ascontiguousarray(outputs))
        each, goodness = model.head_.by_aspect(given).numpy(), model.head_.score(given).numpy()
    columns = {name: each[:, number] for number, name in enumerate(aspects)}
    return pl.DataFrame({**columns, "goodness": goodness})
