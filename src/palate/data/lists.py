"""Lists to learn an order from: items of a context drawn without replacement, each at most once an epoch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.seeding import generator


def lists(
    data: PreferenceData | npt.ArrayLike,
    size: int = 8,
    *,
    seed: int,
    epoch: int = 0,
    by: Literal["context", "all"] = "context",
    context: npt.ArrayLike | None = None,
    min_spread: float = 0.0,
) -> npt.NDArray[np.int64]:
    """One epoch of random lists of judged items.

    The judged items of each context are shuffled and cut into lists of `size`; the last list of a context may
    be shorter, and one that would hold a single item is left out of this epoch. The same `seed` and `epoch`
    give the same lists.

    Args:
        data: judgments, of which each alternative is an item (as in `PreferenceData.scores`); or labels,
            shape (n,), NaN for not judged.
        size: items in a list, 2 or more.
        seed: where the shuffling starts from.
        epoch: which pass over the data, from 0; each has lists of its own.
        by: "context": only items of one context share a list; "all": items need no context.
        context: of each item, shape (n,), any values that can be sorted. For judgments it is the prompt id,
            else the prompt, else each row; for labels it must be given with ``by="context"``.
        min_spread: leave out lists whose largest and smallest label differ by less, in units of the labels.

    Returns:
        Positions of items, shape (lists, size), in random order of lists, -1 filling up short ones.

    Raises:
        ConfigError: `size`, `by` or `min_spread` out of range, or no context.
        DataError: `context` has another length, or no context has two judged items.
    """
    if size < 2:
        raise ConfigError(f"size must be at least 2, got {size}")
    if by not in ("context", "all"):
        raise ConfigError(f"by must be 'context' or 'all', got {by!r}")
    if not min_spread >= 0:
        raise ConfigError(f"min_spread must be 0 or more, got {min_spread}")
    if isinstance(data, PreferenceData):
        labels = data.scores
        context = _prompts(data) if context is None else context
    else:
        labels = np.asarray(data, dtype=np.float64)
    if by == "all":
        groups = np.zeros(len(labels), dtype=np.int64)
    elif context is None:
        raise ConfigError("by='context' needs the context of each item; give context, or by='all'")
    else:
        given = np.asarray(context)
        if len(given) != len(labels):
            raise DataError(
                f"{len(given)} contexts for {len(labels)} labels", remedy="give one context per item"
            )
        groups = np.unique(given, return_inverse=True)[1]

    rng = generator(seed, "lists", epoch)
    judged = np.flatnonzero(~np.isnan(labels))
    shuffled = rng.permutation(judged)
    items = shuffled[np.argsort(groups[shuffled], kind="stable")]
    if len(items) == 0:
        raise DataError("no item is judged", remedy="give at least two labels that are not NaN")
    starts = np.flatnonzero(np.diff(groups[items], prepend=-1))
    counts = np.diff(starts, append=len(items))
    place = np.arange(len(items)) - np.repeat(starts, counts)
    per_context = -(-counts // size)
    row = np.repeat(np.cumsum(per_context) - per_context, counts) + place // size
    out = np.full((int(per_context.sum()), size), -1, dtype=np.int64)
    out[row, place % size] = items

    out = out[out[:, 1] >= 0]
    if len(out) == 0:
        raise DataError(
            "no context has two judged items", remedy="judge more items per context, or give by='all'"
        )
    if min_spread > 0:
        known = np.where(out >= 0, labels[out], np.nan)
        out = out[np.nanmax(known, axis=1) - np.nanmin(known, axis=1) >= min_spread]
    return out[rng.permutation(len(out))]


def _prompts(data: PreferenceData) -> npt.NDArray[np.int64]:
    """Number of the prompt of each alternative; a row without prompt is a context of its own."""
    rows = np.arange(data.n_rows, dtype=np.int64)
    name = next((name for name in ("prompt_id", "prompt") if data.has(name)), None)
    if name is not None:
        codes = data.codes(name)[0].astype(np.int64)
        rows = np.where(codes >= 0, codes, codes.max(initial=0) + 1 + rows)
    return np.repeat(rows, np.diff(data.offsets()))
