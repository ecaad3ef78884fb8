"""Simulated judgments with a known truth, for tests, benchmarks and claims about methods.

Nobody made these judgments: they are drawn from the models named, their annotators are of kind "rule", and
their items and annotators have invented names. A result on them says something about a method, never about
people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from palate.data.table import PreferenceData
from palate.errors import ConfigError, unknown
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Items = int | Sequence[str] | Mapping[str, float]

SPREAD = 1.5
"""Items given by number or name alone have log-strengths evenly spaced from +SPREAD to -SPREAD, first is
best."""


def true_strengths(items: Items) -> dict[str, float]:
    """The natural-log strengths, with mean 0, that the simulations use for `items`.

    Args:
        items: how many, their names, or a mapping of name to log-strength.

    Raises:
        ConfigError: fewer than two items, or a strength that is not finite.
    """
    if isinstance(items, Mapping):
        given = {str(name): float(value) for name, value in items.items()}
    else:
        width = len(str(items))
        names = [f"item-{i + 1:0{width}d}" for i in range(items)] if isinstance(items, int) else list(items)
        spaced = np.linspace(SPREAD, -SPREAD, len(names)).tolist()
        given = dict(zip(names, spaced, strict=True))
    if len(given) < 2:
        raise ConfigError(f"a simulation needs at least two items; got {len(given)}")
    if not np.isfinite(list(given.values())).all():
        raise ConfigError("a simulation needs finite strengths")
    mean = sum(given.values()) / len(given)
    return {name: value - mean for name, value in given.items()}


def simulate_battles(
    n: int,
    items: Items = 10,
    *,
    ties: float = 0.0,
    tie_model: Literal["davidson", "rao_kupper"] = "davidson",
    annotators: int = 20,
    spammers: float = 0.0,
    adversaries: float = 0.0,
    position_bias: float = 0.0,
    prompts: int = 0,
    seed: int = 0,
) -> PreferenceData:
    """n votes between two different random items, from Bradley-Terry strengths with ties.

    With p = exp(strength): Davidson (1970) has P(i wins) = p_i / (p_i + p_j + ties sqrt(p_i p_j)); Rao and
    Kupper (1967) P(i wins) = p_i / (p_i + theta p_j) with theta = 1 + ties. Without ties both are
    Bradley-Terry.

    Args:
        n: number of votes.
        items: how many, their names, or name to log-strength; see `true_strengths`.
        ties: tie parameter, 0 for none.
        annotators: how many; each vote is by a random one. Names tell the truth: `honest-..`, `spammer-..`,
            `adversary-..`.
        spammers: share of annotators who ignore the items: they choose a side (or tie, as often as two
            equal items would) at random.
        adversaries: share of annotators who give the opposite of an honest vote.
        position_bias: log-odds added to the item listed first, by honest annotators and adversaries.
        prompts: number of prompts (`prompt_id` only) that votes are spread over, 0 for none.
        seed: for all draws.

    Raises:
        ConfigError: negative `ties`, shares that exceed 1 together, or fewer than two items or one annotator.
    """
    if tie_model not in ("davidson", "rao_kupper"):
        raise unknown("tie model", tie_model, ("davidson", "rao_kupper"))
    if ties < 0:
        raise ConfigError(f"ties must be 0 or more; got {ties}")
    if annotators < 1 or spammers < 0 or adversaries < 0 or spammers + adversaries > 1:
        raise ConfigError(
            "give at least one annotator, and shares of spammers and adversaries that sum to 1 at most"
        )
    rng = generator(seed, "battles")
    strengths = true_strengths(items)
    value = np.array(list(strengths.values()))
    first = rng.integers(0, len(value), n)
    second = (first + rng.integers(1, len(value), n)) % len(value)

    n_spam, n_against = round(spammers * annotators), round(adversaries * annotators)
    who = rng.integers(0, annotators, n)
    spam, against = who < n_spam, (who >= n_spam) & (who < n_spam + n_against)
    difference = value[first] - value[second] + position_bias
    difference = np.where(spam, 0.0, np.where(against, -difference, difference))
    win, lose = _outcomes(difference, ties, tie_model)
    luck = rng.random(n)
    won, lost = luck < win, luck > 1.0 - lose
    tie = ~won & ~lost

    width = len(str(annotators))
    kinds = ["spammer"] * n_spam + ["adversary"] * n_against
    kinds += ["honest"] * (annotators - len(kinds))
    columns: dict[str, Any] = {
        "items": _lists(pa.array(list(strengths)).take(pa.array(np.stack([first, second], 1).ravel())), 2),
        "scores": _lists(pa.array(np.stack([won | tie, lost | tie], 1).astype(np.float64).ravel()), 2),
        "tie": _categories(np.zeros(n, dtype=np.int32), ["equal"], missing=~tie),
        "annotator": _categories(who, [f"{kind}-{i:0{width}d}" for i, kind in enumerate(kinds)]),
    }
    if prompts:
        columns["prompt_id"] = pa.array([f"prompt-{i}" for i in range(prompts)]).take(
            pa.array(rng.integers(0, prompts, n))
        )
    return _judgments(columns, n, protocol="comparison", scale="ordinal")


def simulate_rankings(
    n: int, items: Items = 10, *, k: int | None = None, annotators: int = 20, seed: int = 0
) -> PreferenceData:
    """n rankings of k random items (all, if None), from the Plackett-Luce model (Plackett 1975).

    Each next best is chosen with probability proportional to exp(strength), which is the order of strengths
    plus independent Gumbel noise (Yellott 1977). The items of a ranking are listed in random order.

    Raises:
        ConfigError: k below 2 or above the number of items.
    """
    rng = generator(seed, "rankings")
    strengths = true_strengths(items)
    value = np.array(list(strengths.values()))
    k = len(value) if k is None else k
    if not 2 <= k <= len(value):
        raise ConfigError(f"k must lie between 2 and the number of items, {len(value)}; got {k}")
    listed = rng.random((n, len(value))).argsort(axis=1)[:, :k]
    utility = value[listed] + rng.gumbel(size=(n, k))
    rank = (-utility).argsort(axis=1).argsort(axis=1) + 1
    columns = {
        "items": _lists(pa.array(list(strengths)).take(pa.array(listed.ravel())), k),
        "scores": _lists(pa.array(-rank.astype(np.float64).ravel()), k),
        "annotator": _annotators(rng, annotators, n),
    }
    return _judgments(columns, n, protocol="ranking", scale="ordinal")


def simulate_ratings(
    items: Items = 100,
    *,
    annotators: int = 10,
    levels: int = 5,
    bias: float = 0.5,
    noise: float = 0.7,
    missing: float = 0.0,
    seed: int = 0,
) -> PreferenceData:
    """Ratings 1..levels of every item by every annotator, one a judgment.

    A rating is round(middle + strength + b_r + e), cut to the scale: b_r ~ N(0, bias^2) is an annotator's
    leniency, and e ~ N(0, noise^2 v_r) has a variance of the annotator's own with v_r log-normal (sigma
    0.5) around 1.

    Args:
        items: how many, their names, or name to mean rating above the middle of the scale.
        missing: share of ratings left out at random.

    Raises:
        ConfigError: fewer than two levels, or a share outside 0 to 1.
    """
    if levels < 2 or not 0 <= missing < 1:
        raise ConfigError("give at least two levels, and a share of missing ratings from 0 to below 1")
    rng = generator(seed, "ratings")
    strengths = true_strengths(items)
    value = np.array(list(strengths.values()))
    leniency = rng.normal(0.0, bias, annotators)
    spread = noise * np.exp(rng.normal(0.0, 0.5, annotators) / 2)
    item = np.repeat(np.arange(len(value)), annotators)
    who = np.tile(np.arange(annotators), len(value))
    rating = (levels + 1) / 2 + value[item] + leniency[who] + spread[who] * rng.normal(size=len(item))
    rating = np.clip(np.rint(rating), 1, levels)
    kept = np.flatnonzero(rng.random(len(item)) >= missing)
    width = len(str(annotators))
    columns = {
        "items": _lists(pa.array(list(strengths)).take(pa.array(item[kept])), 1),
        "scores": _lists(pa.array(rating[kept]), 1),
        "annotator": _categories(who[kept], [f"annotator-{i:0{width}d}" for i in range(annotators)]),
    }
    return _judgments(columns, len(kept), protocol="rating", scale="interval")


def _outcomes(difference: Floats, ties: float, tie_model: str) -> tuple[Floats, Floats]:
    """Probabilities that the first wins and that the second wins, for differences of log-strength."""
    if tie_model == "davidson":
        middle = ties * np.exp(difference / 2)
        total = np.exp(difference) + 1.0 + middle
        return np.exp(difference) / total, 1.0 / total
    theta = 1.0 + ties
    return 1.0 / (1.0 + theta * np.exp(-difference)), 1.0 / (1.0 + theta * np.exp(difference))


def _annotators(rng: np.random.Generator, annotators: int, n: int) -> pa.Array:
    width = len(str(annotators))
    names = [f"annotator-{i:0{width}d}" for i in range(annotators)]
    return _categories(rng.integers(0, annotators, n), names)


def _lists(values: pa.Array, k: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, k, dtype=np.int32)), values)


def _categories(
    codes: npt.NDArray[np.integer], names: list[str], missing: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=missing), pa.array(names))


def _judgments(columns: dict[str, Any], n: int, *, protocol: str, scale: str) -> PreferenceData:
    constant = np.zeros(n, dtype=np.int32)
    columns["protocol"] = _categories(constant, [protocol])
    columns["scale"] = _categories(constant, [scale])
    columns["annotator_kind"] = _categories(constant, ["rule"])
    return PreferenceData.from_columns(columns)
