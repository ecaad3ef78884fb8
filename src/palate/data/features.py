"""Features of comparisons by name: style, citations, or any value of the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data import metadata, style
from palate.data.citations import GROUPS, OTHER, citation_features
from palate.data.table import PreferenceData
from palate.errors import ConfigError

SETS = {"style": style.LMARENA, "citations": ("citations",), "domains": (*GROUPS, OTHER)}
"""Names that stand for several features."""


def battle_features(data: PreferenceData, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Features of judgments about two alternatives, as the covariates of `palate.rank` take them.

    Args:
        data: judgments of two alternatives.
        names: each a style count (`palate.data.style.NAMES`); "citations" or a group of cited domains
            (`palate.data.citations.GROUPS`); a key of the metadata: KEY_a and KEY_b where both are there,
            else KEY itself; or a set: "style" (tokens, headers, lists, bold), "domains" (all groups).

    Returns:
        Name -> shape (rows, 2), a value per side, or (rows,), a value of the comparison.

    Raises:
        DataError: the judgments have no such text, trace or metadata.
        ConfigError: no names are given, or one is given twice.
    """
    wanted = [name for given in names for name in SETS.get(given, (given,))]
    if not wanted:
        raise ConfigError("no features are named; give some, such as 'style' or 'words'")
    if len(set(wanted)) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise ConfigError(f"the feature '{twice}' is named twice")
    styles = [name for name in wanted if name in style.NAMES]
    cited = [name for name in wanted if name in ("citations", OTHER, *GROUPS)]
    counted: dict[str, npt.NDArray[Any]] = dict(style.style_features(data, styles)) if styles else {}
    if cited:
        every = citation_features(data)
        counted |= {name: every[name] for name in cited}
    return {name: counted[name] if name in counted else _from_metadata(data, name) for name in wanted}


def _from_metadata(data: PreferenceData, key: str) -> npt.NDArray[Any]:
    sides = [metadata.texts(data, f"{key}_{side}") for side in "ab"]
    if all(side.null_count() < len(side) for side in sides):
        return np.stack([metadata.values(data, f"{key}_{side}") for side in "ab"], axis=1)
    return metadata.values(data, key)
