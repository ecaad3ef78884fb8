"""Losses by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from palate.errors import ConfigError, unknown
from palate.losses import anchored, contrastive, pairwise, pointwise, regularisers
from palate.losses.base import Loss
from palate.losses.distributions import Gaussian, Quantile, TwoHot
from palate.losses.groups import AnchoredPairwise, FunctionLoss, Pairwise, TiedPairwise
from palate.losses.importance import ImportanceMatch
from palate.losses.lambda_rank import lambdarank
from palate.losses.listwise import listmle, listnet
from palate.losses.ordinal import Ordinal
from palate.losses.rank_hinge import RankHinge
from palate.losses.rank_n_contrast import RankNContrast
from palate.losses.ranklist import RankList
from palate.losses.smooth_ranking import approx_ndcg, soft_kendall, soft_rank, soft_spearman
from palate.losses.sources import BySource
from palate.losses.squared_target import SquaredTarget
from palate.losses.sums import Sum, params_of, terms_of

_LOSSES: dict[str, Callable[..., Loss]] = {
    "bradley_terry": partial(Pairwise, pairwise.logistic),
    "scaled_bradley_terry": partial(Pairwise, pairwise.logistic, label_weight=True),
    "margin_bradley_terry": partial(Pairwise, pairwise.logistic, label_margin=1.0),
    "thurstone": partial(Pairwise, pairwise.thurstone),
    "robust": partial(Pairwise, pairwise.robust),
    "hinge": partial(Pairwise, pairwise.hinge),
    "ipo": partial(Pairwise, pairwise.ipo),
    "exponential": partial(Pairwise, pairwise.exponential),
    "discopop": partial(Pairwise, pairwise.discopop),
    "exo": partial(Pairwise, pairwise.exo),
    "davidson": partial(TiedPairwise, pairwise.davidson, "nu", 0.0),
    "rao_kupper": partial(TiedPairwise, pairwise.rao_kupper, "eta", 1.0),
    "nca": partial(AnchoredPairwise, anchored.nca),
    "sppo": partial(AnchoredPairwise, anchored.sppo),
    "apo_zero": partial(AnchoredPairwise, anchored.apo_zero),
    "apo_down": partial(AnchoredPairwise, anchored.apo_down),
    "ranknet": partial(Pairwise, pairwise.logistic),
    "listmle": partial(FunctionLoss, listmle),
    "listnet": partial(FunctionLoss, listnet),
    "ranklist": RankList,
    "rank_hinge": RankHinge,
    "rank_n_contrast": RankNContrast,
    "lambdarank": partial(FunctionLoss, lambdarank),
    "approx_ndcg": partial(FunctionLoss, approx_ndcg),
    "soft_rank": partial(FunctionLoss, soft_rank),
    "soft_spearman": partial(FunctionLoss, soft_spearman),
    "soft_kendall": partial(FunctionLoss, soft_kendall),
    "importance_match": ImportanceMatch,
    "mse": partial(pointwise.Regression),
    "huber": partial(pointwise.Regression, delta=1.0),
    "ordinal": Ordinal,
    "two_hot": TwoHot,
    "gaussian": Gaussian,
    "quantile": Quantile,
    "squared_target": SquaredTarget,
    "kto": pointwise.KTO,
    "bco": pointwise.BCO,
    "centering": regularisers.Centering,
    "magnitude": regularisers.Magnitude,
    "simcse": contrastive.SimCSE,
    "swav": contrastive.SwAV,
    "more": BySource,
}


def names() -> list[str]:
    """Names of all losses."""
    return sorted(_LOSSES)


def get(name: str, **params: Any) -> Loss:
    """Build a loss, or a sum of losses with weights.

    >>> loss = get("bradley_terry", scale=0.1)
    >>> loss = get("bradley_terry + 0.01 * centering", bradley_terry={"scale": 0.1})

    Args:
        name: one of `names()`, or a sum of such names, each with a weight of 0 or more before it.
        **params: parameters of the loss; of a sum, those of each term under its name.

    Raises:
        ConfigError: no loss has this name, or the loss has no such parameter, or its value is out of range,
            or the sum cannot be read.
    """
    if name in _LOSSES or not set(name) & set("+*"):
        return _one(name, params)
    terms = terms_of(name)
    per_term = params_of([term for _, term in terms], params)
    loss = Sum([(weight, _one(term, per_term[term])) for weight, term in terms])
    loss.params = params
    return loss


def _one(name: str, params: dict[str, Any]) -> Loss:
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    build = _LOSSES[name]
    known = [p.name for p in inspect.signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(build).parameters.values())
    for parameter in params:
        if parameter not in known and not open_ended:
            raise unknown(f"parameter of the loss {name!r}:", parameter, known)
    try:
        loss = build(**params)
    except TypeError as error:
        raise ConfigError(
            f"the loss {name!r} cannot be built with {params}: a parameter of the wrong kind ({error})"
        ) from None
    loss.name, loss.params = name, params
    return loss
