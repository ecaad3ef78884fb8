"""Arithmetic on the weights of reward models: extrapolate beyond a second stage, average several."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import torch
from torch import Tensor

from palate.errors import ConfigError
from palate.reward.model import RewardModel
from palate.reward.scorers import Scorer, training_config

Weights = dict[str, Tensor]


def extrapolate(base: RewardModel, tuned: RewardModel, alpha: float) -> RewardModel:
    """The model with weights ``base + alpha (tuned - base)``: beyond the second training stage for alpha
    above 1 (ExPO; Zheng et al., 2024; HelpSteer2-Preference, Wang et al., 2024).

    Adapters are merged into the weights first. `alpha` 0 and 1 give the weights of `base` and `tuned`.

    Raises:
        ConfigError: the models differ in names or shapes of weights, or in how they standardise inputs; all
            differences are named; or alpha is no finite number.
    """
    if not math.isfinite(alpha):
        raise ConfigError(f"alpha must be a finite number; got {alpha}")
    return _combined([base, tuned], [1.0 - alpha, alpha])


def merge(models: Sequence[RewardModel], weights: Sequence[float] | None = None) -> RewardModel:
    """The weighted mean of the models' weights, equal shares without `weights` (model soups; Wortsman et al.,
    2022).

    Members should come from one start (`fit(init=...)`): means of weights found from different starts are
    seldom good.

    Raises:
        ConfigError: fewer than two models, shares that are negative or sum to 0, or models that differ as in
            `extrapolate`.
    """
    if len(models) < 2:
        raise ConfigError(f"merging needs two models or more; got {len(models)}")
    shares = [1.0] * len(models) if weights is None else [float(w) for w in weights]
    if len(shares) != len(models) or min(shares) < 0 or not sum(shares) > 0:
        raise ConfigError(f"give one share of 0 or more to each of {len(models)} models; got {shares}")
    return _combined(models, [share / sum(shares) for share in shares])


def search(
    base: RewardModel,
    tuned: RewardModel,
    metric: Callable[[RewardModel], float],
    alphas: Sequence[float] = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0),
) -> tuple[RewardModel, pl.DataFrame]:
    """The extrapolation with the highest `metric`, of those with the least alpha, and a table of all.

    Args:
        base: the model before the second stage.
        tuned: the model after it.
        metric: say, accuracy on validation pairs. Not on the pairs of the final test: alpha would fit them.
        alphas: to try.

    Returns:
        The model, and columns `alpha, metric`.
    """
    if not len(alphas):
        raise ConfigError("name at least one alpha to try")
    models = {float(alpha): extrapolate(base, tuned, alpha) for alpha in sorted(alphas)}
    values = {alpha: float(metric(model)) for alpha, model in models.items()}
    best = max(values, key=lambda alpha: values[alpha])
    return models[best], pl.DataFrame({"alpha": list(values), "metric": list(values.values())})


def _combined(models: Sequence[RewardModel], shares: Sequence[float]) -> RewardModel:
    parts = [_weights(model) for model in models]
    _check(parts)
    with torch.no_grad():
        made = {
            name: _mixed([part[name] for part in parts], shares) if like.is_floating_point() else like
            for name, like in parts[-1].items()
        }
    return _with_weights(models[-1], made)


def _mixed(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Sum of shares times values; exactly one of them where its share is 1 and the others' 0."""
    terms = [share * value.double() for share, value in zip(shares, values, strict=True) if share != 0]
    return torch.stack(terms).sum(0).to(values[-1].dtype) if terms else torch.zeros_like(values[-1])


def _weights(model: RewardModel) -> Weights:
    """All weights of a fitted model by name, those of its head among them."""
    scorer: Any = model._fitted()
    if model.mode == "finetune":
        from palate.reward.finetune import plain

        own = {f"model.{name}": value for name, value in plain(scorer.model).state_dict().items()}
        return own | {f"head.{name}": value for name, value in model.head_.state_dict().items()}
    return dict(scorer.network.state_dict())


def _with_weights(like: RewardModel, weights: Mapping[str, Tensor]) -> RewardModel:
    """A copy of a fitted model with other weights; a tuned one comes without adapters."""
    made, scorer = copy.copy(like), copy.copy(_scorer(like))
    if like.mode == "finetune":
        made.training = training_config(like.get_params()).model_copy(update={"lora": 0})
        scorer.settings = {**scorer.settings, "training": made.training}
        scorer.training = made.training
        scorer.replace_weights({n[6:]: w for n, w in weights.items() if n.startswith("model.")})
        scorer.head = copy.deepcopy(like.head_)
        scorer.head.load_state_dict({n[5:]: w for n, w in weights.items() if n.startswith("head.")})
    else:
        scorer.network = copy.deepcopy(scorer.network)
        scorer.network.load_state_dict(dict(weights))
        scorer.head = scorer.network.head
    made.scorer_, made.head_ = scorer, scorer.head
    made.fit_ = {"merged": True}
    return made


def _scorer(model: RewardModel) -> Any:
    scorer: Scorer = model._fitted()
    return scorer


def _check(parts: Sequence[Weights]) -> None:
    """Refuse weights that do not belong together, naming all that differ."""
    first, problems = parts[0], []
    for part in parts[1:]:
        problems += [f"{name} is only in one" for name in sorted(first.keys() ^ part.keys())]
        for name in sorted(first.keys() & part.keys()):
            a, b = first[name], part[name]
            if a.shape != b.shape:
                problems.append(f"{name} has shapes {tuple(a.shape)} and {tuple(b.shape)}")
            elif name in ("mean", "scale") and not torch.equal(a, b):
                problems.append(f"{name} of the inputs differs")
    if problems:
        raise ConfigError(
            "these models cannot be mixed: " + "; ".join(dict.fromkeys(problems))
            + ". Fit one from the other with init="
        )  # fmt: skip
