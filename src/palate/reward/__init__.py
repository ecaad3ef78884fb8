"""Reward models: scores learnt from preferences, on frozen embeddings or features or with the model tuned."""

from palate.reward.arrays import fit_arrays
from palate.reward.ensemble import RewardEnsemble
from palate.reward.levels import beta_levels
from palate.reward.model import RewardModel
from palate.reward.rescale import Rescaled, standardize

__all__ = ["Rescaled", "RewardEnsemble", "RewardModel", "beta_levels", "fit_arrays", "standardize"]
