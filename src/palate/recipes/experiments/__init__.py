"""What recipes run: functions of a seed and parameters that give named values.

Recipe files name an entry of `EXPERIMENTS`; they cannot name any other code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from palate.errors import unknown

Experiment = Callable[[int, Mapping[str, Any]], dict[str, float]]

EXPERIMENTS = {
    "aspect_heads": "palate.recipes.experiments.aspect_heads:run",
    "circular_preferences": "palate.recipes.experiments.circular_preferences:run",
    "controlled_votes": "palate.recipes.experiments.controlled_votes:run",
    "guided_curation": "palate.recipes.experiments.guided_curation:run",
    "linear_ranking": "palate.recipes.experiments.linear_ranking:run",
    "listening_gate": "palate.recipes.experiments.listening_gate:run",
    "named_features": "palate.recipes.experiments.named_features:run",
    "prefer_to_classify": "palate.recipes.experiments.prefer_to_classify:run",
    "steered_policy": "palate.recipes.experiments.steered_policy:run",
    "ratings_then_pairs": "palate.recipes.experiments.ratings_then_pairs:run",
    "rank_then_score": "palate.recipes.experiments.rank_then_score:run",
    "rating_gaps": "palate.recipes.experiments.rating_gaps:run",
    "source_weights": "palate.recipes.experiments.source_weights:run",
    "vote_scaling": "palate.recipes.experiments.vote_scaling:run",
    "voted_labels": "palate.recipes.experiments.voted_labels:run",
}


def resolve(name: str) -> Experiment:
    """The experiment of this name; its module loads now, not before."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    module, function = EXPERIMENTS[name].split(":")
    experiment: Experiment = getattr(import_module(module), function)
    return experiment
