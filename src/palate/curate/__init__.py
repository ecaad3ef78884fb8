"""Better judgments from those at hand: measure, filter, flip, weigh, pair, and ask again where it pays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What trains reward models loads torch, and only when it is asked for.
_LAZY = {
    "Cleaned": "hygiene",
    "Consistency": "dual_filter",
    "Curated": "pipeline",
    "CurationConfig": "settings",
    "Pipeline": "pipeline",
    "apply_strength": "treat",
    "attributes": "tagging",
    "consistency": "dual_filter",
    "decontaminate": "hygiene",
    "dedup": "hygiene",
    "error_driven": "retrieval",
    "pairs_from_ratings": "pairs",
    "preference_strength": "strength",
    "retrieval_budget": "retrieval",
    "strength_groups": "strength",
}

if TYPE_CHECKING:
    from palate.curate.dual_filter import Consistency as Consistency
    from palate.curate.dual_filter import consistency as consistency
    from palate.curate.hygiene import Cleaned as Cleaned
    from palate.curate.hygiene import decontaminate as decontaminate
    from palate.curate.hygiene import dedup as dedup
    from palate.curate.pairs import pairs_from_ratings as pairs_from_ratings
    from palate.curate.pipeline import Curated as Curated
    from palate.curate.pipeline import Pipeline as Pipeline
    from palate.curate.retrieval import error_driven as error_driven
    from palate.curate.retrieval import retrieval_budget as retrieval_budget
    from palate.curate.settings import CurationConfig as CurationConfig
    from palate.curate.strength import preference_strength as preference_strength
    from palate.curate.strength import strength_groups as strength_groups
    from palate.curate.tagging import attributes as attributes
    from palate.curate.treat import apply_strength as apply_strength

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"palate.curate.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'palate.curate' has no attribute {name!r}")
