"""Heads by name: what the outputs of a reward model mean."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from palate.data import PreferenceData
from palate.errors import ConfigError, unknown
from palate.reward.heads.base import Head as Head
from palate.reward.heads.base import ScalarHead as ScalarHead

HEADS = {
    "scalar": "palate.reward.heads.base:ScalarHead",
    "gpm": "palate.reward.heads.gpm:PreferenceEmbeddingHead",
    "pair": "palate.reward.heads.pair:PairHead",
    "attributes": "palate.reward.heads.attributes:AttributesHead",
    "levels": "palate.reward.heads.level_prompts:LevelHead",
    "bins": "palate.reward.heads.distributions:BinsHead",
    "gaussian": "palate.reward.heads.distributions:GaussianHead",
    "quantiles": "palate.reward.heads.distributions:QuantilesHead",
}
"""Name of a head -> "module:Class"."""


def names() -> list[str]:
    """Names of all heads."""
    return sorted(HEADS)


def kind(name: str) -> type[Head]:
    """The class of a head.

    Raises:
        ConfigError: no head has this name.
    """
    if name not in HEADS:
        raise unknown("head", name, HEADS)
    module, _, attribute = HEADS[name].partition(":")
    found: type[Head] = getattr(importlib.import_module(module), attribute)
    return found


def get(name: str, data: PreferenceData | None = None, /, **params: Any) -> Head:
    """Build a head, for `data` if its parameters leave open what the data says.

    Raises:
        ConfigError: no head has this name, or it has no such parameter, or a value is out of range.
    """
    found = kind(name)
    known = [p for p in inspect.signature(found.__init__).parameters if p != "self"]
    for parameter in params:
        if parameter not in known:
            raise unknown(f"parameter of the head {name!r}:", parameter, known or ("none",))
    try:
        return found(**params) if data is None else found.for_data(data, **params)
    except TypeError as error:
        raise ConfigError(f"the head {name!r} cannot be built: {error}") from None


def described(head: Head) -> dict[str, Any]:
    """What `get` needs to build it again: name and parameters as JSON values."""
    return {"name": head.name, "params": head.params}


def rebuilt(description: Mapping[str, Any]) -> Head:
    """The head of `described`, before its weights are loaded."""
    return get(description["name"], **description["params"])
