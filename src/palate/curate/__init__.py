"""Better judgments from those at hand: measure, filter, flip, weigh, pair, and ask again where it pays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What trains reward models loads torch, and only when it is asked for.
_LAZY = dict.fromkeys(("preference_strength", "strength_groups"), "palate.curate.strength") | {
    "apply_strength": "palate.curate.treat"
}

if TYPE_CHECKING:
    from palate.curate.strength import preference_strength, strength_groups
    from palate.curate.treat import apply_strength

__all__ = ["apply_strength", "preference_strength", "strength_groups"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'palate.curate' has no attribute {name!r}")
