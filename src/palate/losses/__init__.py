"""Preference losses: functions of scores, targets and weights, blind to where the scores came from."""

from __future__ import annotations

from palate.losses.anchored import AnchoredLoss, apo_down, apo_zero, nca, sppo
from palate.losses.base import Loss
from palate.losses.contrastive import SimCSE, SwAV, info_nce, sinkhorn, swav
from palate.losses.curriculum import PairCurriculum
from palate.losses.distributions import DistributionLoss, Gaussian, Quantile, TwoHot
from palate.losses.groups import AnchoredPairwise, FunctionLoss, Pairwise, TiedPairwise
from palate.losses.importance import ImportanceMatch, effective_size, importance_match
from palate.losses.lambda_rank import lambdarank
from palate.losses.listwise import listmle, listnet
from palate.losses.min_norm import min_norm_weights, normalized
from palate.losses.ordinal import Ordinal
from palate.losses.p2c import (
    PreferToClassify,
    head_diversity,
    head_preference,
    margin_consistency,
    order_consistency,
)
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
from palate.losses.rank_hinge import RankHinge
from palate.losses.rank_n_contrast import RankNContrast, rank_n_contrast
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
    "PairCurriculum",
    "Pairwise",
    "Penalty",
    "PreferToClassify",
    "Quantile",
    "RankHinge",
    "RankList",
    "RankNContrast",
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
    "head_diversity",
    "head_preference",
    "hinge",
    "importance_match",
    "info_nce",
    "ipo",
    "lambdarank",
    "listmle",
    "listnet",
    "logistic",
    "margin_consistency",
    "min_norm_weights",
    "mixture",
    "names",
    "nca",
    "normalized",
    "order_consistency",
    "rank_n_contrast",
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
