"""Palate: preference learning from judgments to leaderboards, reward models and aligned policies."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Heavy parts load when first used, so that `import palate` stays quick.
_LAZY = {
    "load": "palate.data",
    "scan": "palate.data",
    "PreferenceData": "palate.data",
    "Leaderboard": "palate.rank",
    "RewardModel": "palate.reward",
    "Report": "palate.evaluate",
}
_SUBPACKAGES = frozenset(
    [
        "align",
        "curate",
        "data",
        "errors",
        "evaluate",
        "judges",
        "losses",
        "models",
        "rank",
        "recipes",
        "report",
        "reward",
        "training",
    ]
)

if TYPE_CHECKING:
    from palate.align import align as align  # type: ignore[no-redef]
    from palate.data import PreferenceData as PreferenceData
    from palate.data import load as load
    from palate.data import scan as scan
    from palate.evaluate import Report as Report
    from palate.evaluate import evaluate as evaluate  # type: ignore[no-redef]
    from palate.rank import Leaderboard as Leaderboard
    from palate.rank import rank as rank
    from palate.reward import RewardModel as RewardModel

__all__ = [
    "Leaderboard",
    "PreferenceData",
    "Report",
    "RewardModel",
    "__version__",
    "align",
    "evaluate",
    "load",
    "rank",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(_import(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return _import(f"palate.{name}")
    raise AttributeError(f"module 'palate' has no attribute {name!r}")


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        from palate.errors import MissingDependency

        raise MissingDependency.of(error) or error from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_SUBPACKAGES])
