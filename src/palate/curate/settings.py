"""Settings of a curation, and what its labels cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.errors import ConfigError


class CurationConfig(BaseModel):
    """Settings of `Pipeline`.

    Attributes:
        iterations: most rounds of stage 1.
        k_max: neighbours that a verified pair asks for where the model is wrong.
        least_gold: fewest verified pairs to start from.
        held_out: share of the verified pairs that no model learns from; the best model is chosen on them.
        humans: pairs of each round, nearest to the worst mistakes, that people verify.
        threshold, recycle: of `palate.curate.consistency`.
        cost_gold, cost_label, cost_filter: of a pair that people verify, that a judge labels in stage 1, and
            that it labels in stage 2, in one currency.
        budget: most that may be spent; no limit if None.
        block: pairs labelled before their labels are written down.
        exclude_overlap: pass over pairs of pool and wild that are verified; they are an error without.
        seed: of the split of the verified pairs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(8, ge=0)
    k_max: int = Field(8, ge=1)
    least_gold: int = Field(10, ge=2)
    held_out: float = Field(0.3, gt=0, lt=1)
    humans: int = Field(0, ge=0)
    threshold: float = Field(0.5, ge=0.5, lt=1)
    recycle: bool = False
    cost_gold: float = Field(0.0, ge=0)
    cost_label: float = Field(0.0, ge=0)
    cost_filter: float = Field(0.0, ge=0)
    budget: float | None = Field(None, ge=0)
    block: int = Field(256, ge=1)
    exclude_overlap: bool = False
    seed: int = Field(0, ge=0)


def settings(config: CurationConfig | Mapping[str, Any] | None) -> CurationConfig:
    """Settings as given, or read from a mapping; ConfigError names the field that cannot be used."""
    if isinstance(config, CurationConfig):
        return config
    try:
        return CurationConfig.model_validate(dict(config or {}))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"settings of the curation: field {field!r}: {first['msg']}") from None


def budget(counts: Mapping[str, int], costs: Mapping[str, float]) -> float:
    """What labels cost, B = sum over kinds of cost times count, in the unit of `costs`.

    Raises:
        ConfigError: a kind has no cost.

    >>> budget({"gold": 400, "silver": 5000}, {"gold": 0.5, "silver": 0.002})
    210.0
    """
    if missing := [kind for kind in counts if kind not in costs]:
        raise ConfigError(f"no cost is given for {', '.join(missing)}")
    return float(sum(count * costs[kind] for kind, count in counts.items()))


def affordable(limit: float | None, spent: float, cost: float, wanted: int) -> int:
    """How many of `wanted` things of this cost there is money for."""
    if limit is None or cost == 0:
        return wanted
    return max(0, min(wanted, int((limit - spent) / cost + 1e-9)))
