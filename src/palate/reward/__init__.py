"""Reward models: scores learnt from preferences, on frozen embeddings or features or with the model tuned."""

from palate.reward.model import RewardModel

__all__ = ["RewardModel"]
