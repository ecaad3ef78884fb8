"""From ratings on named principles to pairs: a weighted mean, a gap it must reach, and principles with a
veto."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, unknown
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Missing = Literal["raise", "skip_aspect"]
ROUNDING = 1e-9
"""A gap may miss its least value by this, for means of whole numbers are rarely exact."""


@dataclass(frozen=True)
class RatedPairs:
    """Pairs made of ratings, and what became of the others.

    Attributes:
        data: one judgment per pair with scores [1, 0]; its metadata hold the `gap` of the means and the
            difference of each aspect (`aspect_deltas`).
        considered: how many pairs of rated responses there were.
        dropped: pairs left out, by reason: `tie`, `below_gap`, `veto`, `same_item`, `different_aspects`,
            `over_limit`.
    """

    data: PreferenceData
    considered: int
    dropped: dict[str, int]


def pairs_from_ratings(
    data: PreferenceData,
    *,
    gap: float = 1.0,
    weights: Mapping[str, float] | None = None,
    veto: Sequence[str] = (),
    scale: tuple[float, float] | None = None,
    same_item: bool = True,
    missing: Missing = "raise",
    max_pairs_per_prompt: int | None = None,
    seed: int = 0,
) -> RatedPairs:
    """All pairs of the responses to a prompt whose weighted mean ratings differ by `gap` or more.

    A response's rating on an aspect is the mean over those who rated it; its score the weighted mean over
    aspects. The generic form of how PsychoCounsel-Preference was made (Zhang et al., 2025): seven principles
    of equal weight, rated 1 to 5, gap 1.

    Args:
        data: ratings with `aspect`: any number of judgments per prompt, of one response or of several.
            Responses to a prompt are told apart by item id, or by text where there are no items.
        gap: least difference of the means, in rating points; 0 keeps every pair that is no tie.
        weights: of the aspects, by name; all weigh 1 without it, and an aspect left out weighs 0.
        veto: aspects on which the chosen response may not be rated lower than the rejected one.
        scale: least and greatest rating; None takes any.
        same_item: whether two responses with one item id (one generator) may form a pair.
        missing: what a response without a rating on an aspect does: "raise", or "skip_aspect": two responses
            are compared on the aspects both have, if they have the same.
        max_pairs_per_prompt: at most this many, drawn by `seed`.
        seed: of that draw.

    Raises:
        DataError: no aspects, a rating outside the scale, a response without one of the aspects, one
            response per prompt, or no pair reaches the gap (the message has the distribution of gaps).
        ConfigError: an unknown aspect, or a value out of range.
    """
    if not gap >= 0:
        raise ConfigError(f"gap must be 0 or more; got {gap}")
    if missing not in get_args(Missing):
        raise unknown("missing", missing, get_args(Missing))
    if max_pairs_per_prompt is not None and max_pairs_per_prompt < 1:
        raise ConfigError(f"max_pairs_per_prompt must be 1 or more; got {max_pairs_per_prompt}")
    rated, aspects = _by_response(data, scale)
    weight = _weights(weights, aspects)
    for name in veto:
        if name not in aspects:
            raise unknown("aspect in veto", name, aspects)
    values = rated.select(aspects).to_numpy().astype(np.float64)
    if missing == "raise" and np.isnan(values[:, weight > 0]).any():
        raise _incomplete(data, rated, values, aspects, weight)
    first, second = _within(rated["prompt_code"].to_numpy())
    if not len(first):
        raise DataError(
            "no prompt has two rated responses", field="responses", file=data.source,
            remedy="rate at least two responses to a prompt; equal prompts or prompt ids belong together",
        )  # fmt: skip
    has = ~np.isnan(values)
    used = weight > 0
    comparable = (has[first][:, used] == has[second][:, used]).all(1) & has[first][:, used].any(1)
    share = np.where(has, weight, 0.0)
    mean = np.divide(np.nansum(values * share, 1), share.sum(1), where=share.sum(1) > 0,
                     out=np.full(len(values), np.nan))  # fmt: skip
    difference = mean[first] - mean[second]
    chosen, rejected = np.where(difference >= 0, (first, second), (second, first))
    deltas = values[chosen] - values[rejected]
    item = rated["item"].to_numpy()
    vetoed = np.zeros(len(first), dtype=bool)
    for name in veto:
        vetoed |= deltas[:, aspects.index(name)] < -ROUNDING
    known = np.array([x is not None for x in item], dtype=bool)
    one_item = known[first] & known[second] & (item[first] == item[second])
    difference = np.abs(difference)
    keep = np.ones(len(first), dtype=bool)
    dropped: dict[str, int] = {}
    for reason, bad in (
        ("different_aspects", ~comparable),
        ("same_item", one_item if not same_item else np.zeros_like(keep)),
        ("tie", difference <= ROUNDING),
        ("below_gap", difference < gap - ROUNDING),
        ("veto", vetoed),
    ):
        dropped[reason] = int((keep & bad).sum())
        keep &= ~bad
    if not keep.any():
        raise _nothing(data, difference[comparable], gap, dropped)
    kept = np.flatnonzero(keep)
    if max_pairs_per_prompt is not None:
        kept = _limited(kept, rated["prompt_code"].to_numpy()[first], max_pairs_per_prompt, seed)
    dropped["over_limit"] = int(keep.sum()) - len(kept)
    made = _judgments(data, rated, aspects, chosen[kept], rejected[kept], difference[kept], deltas[kept])
    return RatedPairs(made, len(first), dropped)


def _by_response(data: PreferenceData, scale: tuple[float, float] | None) -> tuple[pl.DataFrame, list[str]]:
    """One row per response to a prompt, sorted by prompt and first appearance, and a column per aspect."""
    if not data.has("aspect"):
        raise DataError("these ratings name no aspect", field="aspect", file=data.source,
                        remedy="say what each rating is of, or compare scores with data.pairs()")  # fmt: skip
    codes = data.prompt_codes()
    if (codes < 0).any():
        raise DataError("a rating without prompt", row=int(np.flatnonzero(codes < 0)[0]) + 1, field="prompt",
                        file=data.source, remedy="give prompt or prompt_id")  # fmt: skip
    row = np.repeat(np.arange(data.n_rows), np.diff(data.offsets()))
    scores = data.scores
    if scale is not None:
        outside = ~np.isnan(scores) & ((scores < scale[0]) | (scores > scale[1]))
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"{scores[at]:g} lies outside the scale {scale[0]:g} to {scale[1]:g}", row=int(row[at]) + 1,
                field="scores", file=data.source, remedy="correct the rating or give its scale",
            )  # fmt: skip
    text, item = (
        pl.Series(data.flat("responses"), dtype=pl.String),
        pl.Series(data.flat("items"), dtype=pl.String),
    )
    aspect = pl.Series(data.values("aspect")[row], dtype=pl.String)
    long = pl.DataFrame(
        {"prompt_code": codes[row], "row": row, "response": text, "item": item, "aspect": aspect,
         "score": pl.Series(scores).fill_nan(None)}
    )  # fmt: skip
    nameless = long.filter(pl.col("aspect").is_null())
    if nameless.height:
        raise DataError("a rating without aspect", row=int(nameless["row"][0]) + 1, field="aspect",
                        file=data.source, remedy="name it, or leave the row out")  # fmt: skip
    aspects = long["aspect"].unique(maintain_order=True).to_list()
    key = ["prompt_code", "item", "response"]
    of_aspect = [pl.col("score").filter(pl.col("aspect") == name).mean().alias(name) for name in aspects]
    wide = long.group_by(key, maintain_order=True).agg(pl.col("row").min(), *of_aspect)
    return wide.sort("prompt_code", maintain_order=True), aspects


def _weights(given: Mapping[str, float] | None, aspects: Sequence[str]) -> Floats:
    for name, value in (given or {}).items():
        if name not in aspects:
            raise unknown("aspect in weights", name, aspects)
        if not (np.isfinite(value) and value >= 0):
            raise ConfigError(f"the weight of {name!r} must be 0 or more; got {value}")
    weight = np.array([1.0 if given is None else float(given.get(name, 0.0)) for name in aspects])
    if not weight.any():
        raise ConfigError("every aspect weighs 0; nothing is left to compare")
    return weight


def _within(group: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All pairs i < j of equal `group`, which is sorted; each of shape (pairs,)."""
    _, start, count = np.unique(group, return_index=True, return_counts=True)
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for size in np.unique(count[count > 1]):
        i, j = np.triu_indices(int(size), 1)
        base = start[count == size][:, None]
        first.append((base + i).ravel())
        second.append((base + j).ravel())
    one, other = np.concatenate(first), np.concatenate(second)
    order = np.lexsort((other, one))
    return one[order], other[order]


def _limited(
    kept: npt.NDArray[np.int64], group: npt.NDArray[np.int64], most: int, seed: int
) -> npt.NDArray[np.int64]:
    """At most `most` of the `kept` pairs of each group, drawn by lot, in their order."""
    lot = generator(seed, "pairs per prompt").random(len(kept))
    order = np.lexsort((lot, group[kept]))
    groups = group[kept][order]
    _, start, count = np.unique(groups, return_index=True, return_counts=True)
    place = np.arange(len(kept)) - np.repeat(start, count)
    return np.sort(kept[order[place < most]])


def _judgments(
    data: PreferenceData,
    rated: pl.DataFrame,
    aspects: Sequence[str],
    chosen: npt.NDArray[np.int64],
    rejected: npt.NDArray[np.int64],
    gap: Floats,
    deltas: Floats,
) -> PreferenceData:
    rows = rated["row"].to_numpy()[chosen]
    n = len(chosen)
    columns = {
        name: data.column(name).take(rows) for name in ("prompt_id", "prompt", "messages") if data.has(name)
    }
    for name, single in (("responses", "response"), ("items", "item")):
        if data.has(name):
            values = rated[single]
            columns[name] = list(
                zip(values.gather(chosen).to_list(), values.gather(rejected).to_list(), strict=True)
            )
    facts = pl.DataFrame({name: deltas[:, place] for place, name in enumerate(aspects)}).fill_nan(None)
    told = pl.DataFrame({"gap": gap, "aspect_deltas": facts.to_struct()}).to_struct()
    return PreferenceData.from_columns(
        columns
        | {
            "scores": np.tile([1.0, 0.0], (n, 1)).tolist(),
            "metadata": told.struct.json_encode(),
            "annotator": ["curate:pairs_from_ratings"] * n,
            "annotator_kind": ["rule"] * n,
            "protocol": ["comparison"] * n,
            "scale": ["ordinal"] * n,
        },
        source=data.source,
    )


def _incomplete(
    data: PreferenceData, rated: pl.DataFrame, values: Floats, aspects: Sequence[str], weight: Floats
) -> DataError:
    gaps = np.isnan(values) & (weight > 0)
    at = int(np.flatnonzero(gaps.any(1))[0])
    lacking = [name for name, absent in zip(aspects, gaps[at], strict=True) if absent]
    return DataError(
        f"{int(gaps.any(1).sum())} of {len(values)} responses lack a rating on an aspect, first this one: "
        f"{', '.join(lacking)}",
        row=int(rated["row"][at]) + 1, field="scores", file=data.source,
        remedy='rate them, drop them, or use missing="skip_aspect"',
    )  # fmt: skip


def _nothing(data: PreferenceData, gaps: Floats, gap: float, dropped: Mapping[str, int]) -> DataError:
    edges = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, np.inf])
    counts = np.histogram(gaps[~np.isnan(gaps)], edges)[0]
    shown = ", ".join(
        f"{low:g}-{high:g}: {n}" for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    reasons = ", ".join(f"{reason} {n}" for reason, n in dropped.items() if n)
    return DataError(
        f"no pair is left at a gap of {gap:g} ({reasons}); pairs by gap: {shown}", field="scores",
        file=data.source, remedy="lower the gap or the veto",
    )  # fmt: skip
