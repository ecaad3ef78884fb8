"""Reward models: scores learnt from preferences."""

from palate.reward.heads import ScoreHead
from palate.reward.model import RewardModel

__all__ = ["RewardModel", "ScoreHead"]
