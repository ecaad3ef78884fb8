"""The one trainer, for reward models and policies alike."""

from palate.training.config import TrainingConfig, configure
from palate.training.contracts import Groups, Loss, ScoreFunction, loss_of
from palate.training.groups import TrainingGroups, groups_for, lists_of, pairs_of, unlabelled_of
from palate.training.meta import MetaStep, separation
from palate.training.metrics import Scored, Window, comparisons, extremes
from palate.training.rng import seeded
from palate.training.sampling import order_of, stratified_order
from palate.training.stages import Stage, train_stages
from palate.training.trainer import PreferenceTrainer
from palate.training.validation import measured

__all__ = [
    "Groups",
    "Loss",
    "MetaStep",
    "PreferenceTrainer",
    "ScoreFunction",
    "Scored",
    "Stage",
    "TrainingConfig",
    "TrainingGroups",
    "Window",
    "comparisons",
    "configure",
    "extremes",
    "groups_for",
    "lists_of",
    "loss_of",
    "measured",
    "order_of",
    "pairs_of",
    "seeded",
    "separation",
    "stratified_order",
    "train_stages",
    "unlabelled_of",
]
