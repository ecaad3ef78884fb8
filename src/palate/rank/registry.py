"""`palate.rank`: ranking methods by name."""

from __future__ import annotations

from typing import Any

from palate.data.table import PreferenceData
from palate.errors import ConfigError, unknown
from palate.rank.base import Ranker
from palate.rank.bradley_terry import BradleyTerry
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import Leaderboard

_METHODS: dict[str, type[Ranker]] = {BradleyTerry.method: BradleyTerry}


def methods() -> list[str]:
    """Names of the ranking methods."""
    return sorted(_METHODS)


def rank(data: PreferenceData | Comparisons, method: str = "bradley_terry", **options: Any) -> Leaderboard:
    """A leaderboard of the items of `data`.

    Args:
        data: judgments about named items, or comparisons counted before (`palate.rank.count`).
        method: one of `palate.rank.methods()`.
        **options: parameters of the method; for "bradley_terry" see `palate.rank.BradleyTerry`.

    Raises:
        DataError: the data compare nothing, or do not determine a finite strength for each item.
        ConfigError: the method or an option is unknown or cannot be used.

    >>> from palate.data import PreferenceData
    >>> votes = PreferenceData.from_columns({"items": [["a", "b"]] * 3, "scores": [[1, 0], [1, 0], [0, 1]]})
    >>> rank(votes).strengths
    {'a': 0.346..., 'b': -0.346...}
    """
    if not isinstance(data, PreferenceData | Comparisons):
        raise ConfigError(f"cannot rank a {type(data).__name__}; read files with palate.load")
    if method not in _METHODS:
        raise unknown("ranking method", method, _METHODS)
    chosen = _METHODS[method]
    for name in options:
        if name not in chosen.parameters():
            raise unknown(f"option of {method}", name, chosen.parameters())
    return chosen(**options).fit(data).leaderboard()
