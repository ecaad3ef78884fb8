"""What the parameters of a reward model may be, whichever data it meets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, get_args

from pydantic import BaseModel

from palate.errors import ConfigError
from palate.reward import heads
from palate.reward.inputs import TextBlocks
from palate.reward.scorers import FEATURES

_CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("frozen", "finetune"),
    "text": get_args(TextBlocks),
    "groups": ("auto", "pairs", "lists"),
    "pull": ("zero", "start"),
    "too_long": ("cut", "error"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse parameters of a reward model that no data could make right.

    Args:
        settings: the arguments of its constructor by name.

    Raises:
        ConfigError: a value of the wrong kind or out of range, or two that do not go together.
    """
    for name in ("head", "loss"):
        if not isinstance(settings[name], str):
            raise ConfigError(f"{name} must be a name; got {settings[name]!r}")
    heads.kind(settings["head"])
    for name, allowed in _CHOICES.items():
        if settings[name] not in allowed:
            raise ConfigError(f"{name} must be one of {', '.join(allowed)}; got {settings[name]!r}")
    for name in ("head_params", "loss_params", "columns"):
        if not isinstance(settings[name], Mapping | None):
            raise ConfigError(f"{name} must be a mapping such as {{'name': value}}; got {settings[name]!r}")
    if not isinstance(settings["training"], Mapping | BaseModel | None):
        raise ConfigError(f"training must be settings such as {{'steps': 100}}; got {settings['training']!r}")
    for name in ("l2", "tolerance"):
        if not (_is_number(settings[name]) and settings[name] >= 0):
            raise ConfigError(f"{name} must be 0 or more, a finite number; got {settings[name]!r}")
    if not (_is_number(settings["dropout"]) and 0 <= settings["dropout"] < 1):
        raise ConfigError(f"dropout must be in [0, 1); got {settings['dropout']!r}")
    if not (_is_whole(settings["max_iter"]) and settings["max_iter"] >= 1):
        raise ConfigError(f"max_iter must be a whole number of 1 or more; got {settings['max_iter']!r}")
    if not (_is_whole(settings["seed"]) and settings["seed"] >= 0):
        raise ConfigError(f"seed must be a whole number of 0 or more; got {settings['seed']!r}")
    hidden, names = settings["hidden"], settings["feature_names"]
    if not (_is_list(hidden) and all(_is_whole(width) and width >= 1 for width in hidden)):
        raise ConfigError(f"hidden must be a list of widths of 1 or more such as [64]; got {hidden!r}")
    if names is not None and not (_is_list(names) and all(isinstance(name, str) for name in names)):
        raise ConfigError(f"feature_names must be a list of names; got {names!r}")
    if settings["mode"] == "finetune":
        if settings["encoder"] == FEATURES or not isinstance(settings["encoder"], str):
            raise ConfigError(
                'mode="finetune" trains a transformer on texts; features are fitted with mode="frozen"'
            )
        if hidden:
            raise ConfigError('mode="finetune" has a linear layer; hidden layers go with mode="frozen"')


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
