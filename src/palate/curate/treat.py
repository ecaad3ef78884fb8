"""What to do about preferences of known strength: flip, leave out, soften, ask for a margin, weigh."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.curate.strength import aligned
from palate.data import PreferenceData, metadata
from palate.errors import ConfigError, unknown

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

FLIP = "curate:flip"
"""Who signs the judgments that `apply_strength` turns round."""

SOFT = {"below": 0.0, "alpha": 0.1}


def apply_strength(
    data: PreferenceData,
    strength: pl.DataFrame,
    *,
    flip_below: float | str | None = None,
    drop_below: float | str | None = None,
    soft: Mapping[str, float] | None = None,
    margin: Literal["none", "mu", "clipped"] = "none",
    weight: Literal["none", "votes"] = "none",
) -> PreferenceData:
    """Judgments treated by their strength (Wang et al., 2024, "Secrets of RLHF ... Part II").

    Nothing is deleted. A judgment that is flipped or dropped stays with weight 0, by which training leaves it
    out, and a flip is a new judgment at the end: the same alternatives with their scores exchanged, signed by
    annotator "curate:flip" of kind "model", with strength -mu, id ``ID:flip`` and no rationale. Take
    ``data.mask(data.weights > 0)`` before writing a format that has no weights.

    The metadata of each judgment gets `strength_mu`, `strength_sigma`, `superseded` (true for what was
    flipped or dropped), and what the loss is told with
    ``RewardModel(columns={"margin": "margin", "smoothing": "smoothing"})``::

        L = -(1 - smoothing) log sigmoid(z) - smoothing log(1 - sigmoid(z)),   z = r_c - r_r - margin

    Args:
        data: judgments of two alternatives; ties and judgments of one alternative stay as they are.
        strength: of `preference_strength` for this data.
        flip_below: turn round what has a strength below this number, or "q20": the weakest 20 %. How many
            labels are wrong differs from set to set; 20 % is what was found for HH-RLHF.
        drop_below: leave out what has a strength below this, as above; it goes before flipping.
        soft: ``{"below": 0, "alpha": 0.1}``: `smoothing` alpha for strengths below that, after flips.
        margin: `margin`: "mu", the strength after flips, which may be negative and then loosens a doubtful
            pair; "clipped", at 0 or more.
        weight: "votes" multiplies each weight by the share of voters that side with the label, after flips.

    Returns:
        All judgments of `data` in their order, then the flips.

    Raises:
        DataError: a decided judgment has no strength; the message names the first ones.
        ConfigError: a threshold is no number and no "q" with a percentage, alpha is outside [0, 0.5), or an
            option is unknown.
    """
    if margin not in ("none", "mu", "clipped"):
        raise unknown("margin", margin, ("none", "mu", "clipped"))
    if weight not in ("none", "votes"):
        raise unknown("weight", weight, ("none", "votes"))
    _softness(soft)
    mu, rows = aligned(data, strength, "mu")
    sigma, _ = aligned(data, strength, "sigma")
    drop = _below("drop_below", mu, drop_below)
    flip = _below("flip_below", mu, flip_below) & ~drop
    siding = _siding(data, strength) if weight == "votes" else np.ones(len(mu))

    weights = data.weights.copy()
    weights[rows] *= np.where(flip | drop, 0.0, siding)
    tell = partial(_tell, margin=margin, soft=soft)
    kept = tell(data.with_columns(weight=weights), rows, mu, sigma, flip | drop)
    if not flip.any():
        return kept
    share = 1.0 - siding[flip] if weight == "votes" else 1.0
    against = turned(data.take(rows[flip]), data.weights[rows[flip]] * share)
    flips = tell(against, np.arange(against.n_rows), -mu[flip], sigma[flip], np.zeros(against.n_rows, bool))
    return PreferenceData.concat([kept, flips])


def _tell(
    data: PreferenceData,
    rows: Integers,
    mu: Floats,
    sigma: Floats,
    superseded: Bools,
    *,
    margin: str,
    soft: Mapping[str, float] | None,
) -> PreferenceData:
    """Write the strengths of `rows`, and what follows from them, into the metadata."""

    def everywhere(values: npt.NDArray[Any], other: float | bool) -> npt.NDArray[Any]:
        made = np.full(data.n_rows, other)
        made[rows] = values
        return made

    given = {
        "strength_mu": everywhere(mu, np.nan),
        "strength_sigma": everywhere(sigma, np.nan),
        "superseded": everywhere(superseded, False),
    }
    # What has no strength asks for no gap and no smoothing: a loss wants a number of every judgment.
    if margin != "none":
        given["margin"] = everywhere(np.maximum(mu, 0.0) if margin == "clipped" else mu, 0.0)
    if soft is not None:
        limit, alpha = _softness(soft)
        given["smoothing"] = everywhere(np.where(mu < limit, alpha, 0.0), 0.0)
    return metadata.with_values(data, given)


def turned(data: PreferenceData, weights: Floats) -> PreferenceData:
    """Judgments of two alternatives with their scores exchanged, signed as flips, of the given weights."""
    n = data.n_rows
    left_out = ("rationale", "time", "tie")
    columns: dict[str, Any] = {
        name: data.table.column(name) for name in data.table.column_names if name not in left_out
    }
    exchanged = np.ascontiguousarray(data.scores.reshape(n, 2)[:, ::-1]).ravel()
    columns["scores"] = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 2 * n + 1, 2), pa.int32()), pa.array(exchanged)
    )
    if data.has("id"):
        columns["id"] = pc.binary_join_element_wise(data.column("id"), "flip", ":")
    columns |= {"weight": weights, "annotator": [FLIP] * n, "annotator_kind": ["model"] * n}
    return PreferenceData.from_columns(columns, source=data.source)


def _softness(soft: Mapping[str, float] | None) -> tuple[float, float]:
    """Below which strength labels are softened, and by how much."""
    for name in soft or {}:
        if name not in SOFT:
            raise unknown("setting of soft:", name, SOFT)
    limit, alpha = ({**SOFT, **(soft or {})}[name] for name in ("below", "alpha"))
    if not 0 <= alpha < 0.5:
        raise ConfigError(f"alpha of soft must be in [0, 0.5), got {alpha}")
    return limit, alpha


def _below(name: str, mu: Floats, threshold: float | str | None) -> Bools:
    """Which strengths lie below a number, or are the weakest ("q20": the lowest 20 %)."""
    if threshold is None:
        return np.zeros(len(mu), dtype=bool)
    if not isinstance(threshold, str):
        if not np.isfinite(threshold):
            raise ConfigError(f"{name} must be a finite number or a share such as 'q20'; got {threshold}")
        return np.asarray(mu < threshold)
    share = re.fullmatch(r"q(\d+(?:\.\d+)?)", threshold)
    if share is None or not 0 < float(share[1]) < 100:
        raise ConfigError(f"{name} must be a number or a share such as 'q20'; got {threshold!r}")
    weakest = np.argsort(mu, kind="stable")[: int(len(mu) * float(share[1]) / 100 + 1e-9)]
    return np.isin(np.arange(len(mu)), weakest)


def _siding(data: PreferenceData, strength: pl.DataFrame) -> Floats:
    """Share of voters that side with the label of each decided judgment; no difference counts half."""
    if "scores" not in strength.columns:
        raise ConfigError("weight='votes' reads the column 'scores' of preference_strength")
    half = pl.col("scores").list.eval((pl.element().sign() + 1) / 2).list.mean()
    return aligned(data, strength.with_columns(half.alias("votes")), "votes")[0]
