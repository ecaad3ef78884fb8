"""Reward models: scores learnt from preferences, on frozen embeddings or features or with the model tuned."""

from palate.reward.arrays import fit_arrays
from palate.reward.classifier import PreferenceAugmentedClassifier
from palate.reward.ensemble import RewardEnsemble
from palate.reward.levels import beta_levels
from palate.reward.merging import extrapolate, merge, search
from palate.reward.model import RewardModel
from palate.reward.rescale import Rescaled, standardize
from palate.reward.stages import RewardStage, fit_stages

__all__ = [
    "PreferenceAugmentedClassifier", "Rescaled", "RewardEnsemble", "RewardModel", "RewardStage",
    "beta_levels", "extrapolate", "fit_arrays", "fit_stages", "merge", "search", "standardize",
]  # fmt: skip
