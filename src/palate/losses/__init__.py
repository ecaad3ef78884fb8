"""Preference losses: functions of scores, targets and weights, blind to where the scores came from."""

from __future__ import annotations

from palate.losses.anchored import AnchoredLoss, apo_down, apo_zero, nca, sppo
from palate.losses.base import Loss
from palate.losses.contrastive import SimCSE, SwAV, info_nce, sinkhorn, swav
from palate.losses.distributions import DistributionLoss, Gaussian, Quantile, TwoHot
from palate.losses.groups import AnchoredPairwise, FunctionLoss, Pairwise, TiedPairwise
from palate.losses.importance import ImportanceMatch, effective_size, importance_match
from palate.losses.lambda_rank import lambdarank
from palate.losses.listwise import listmle, listnet
from palate.losses.min_norm import min_norm_weights, normalized
from palate.losses.ordinal import Ordinal
from palate.losses.pairwise import (
    MarginLoss,
    davidson,
    discopop,
    exo,
    exponential,
    hinge,
    ipo,
    logistic,
    mixture,
    rao_kupper,
    robust,
    thurstone,
)
from palate.losses.pointwise import BCO, KTO, Regression
from palate.losses.ranklist import RankList, ranklist
from palate.losses.registry import get, names
from palate.losses.regularisers import Centering, Magnitude, Penalty
from palate.losses.scored import Scored
from palate.losses.smooth_ranking import approx_ndcg, soft_kendall, soft_rank, soft_spearman
from palate.losses.sources import BySource
from palate.losses.squared_target import SquaredTarget, squared_target
from palate.losses.sums import Sum

__all__ = [
    "BCO",
    "KTO",
    "AnchoredLoss",
    "AnchoredPairwise",
    "BySource",
    "Centering",
    "DistributionLoss",
    "FunctionLoss",
    "Gaussian",
    "ImportanceMatch",
    "Loss",
    "Magnitude",
    "MarginLoss",
    "Ordinal",
    "Pairwise",
    "Penalty",
    "Quantile",
    "RankList",
    "Regression",
    "Scored",
    "SimCSE",
    "SquaredTarget",
    "Sum",
    "SwAV",
    "TiedPairwise",
    "TwoHot",
    "apo_down",
    "apo_zero",
    "approx_ndcg",
    "davidson",
    "discopop",
    "effective_size",
    "exo",
    "exponential",
    "get",
    "hinge",
    "importance_match",
    "info_nce",
    "ipo",
    "lambdarank",
    "listmle",
    "listnet",
    "logistic",
    "min_norm_weights",
    "mixture",
    "names",
    "nca",
    "normalized",
    "ranklist",
    "rao_kupper",
    "robust",
    "sinkhorn",
    "soft_kendall",
    "soft_rank",
    "soft_spearman",
    "sppo",
    "squared_target",
    "swav",
    "thurstone",
]
