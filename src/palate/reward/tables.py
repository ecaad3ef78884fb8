"""From outputs per response to margins between the responses of a group, and scores within it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from palate.data import PreferenceData
from palate.reward.heads import Head

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CELLS = 1 << 18
"""Margins computed at a time: a head may hold many numbers for each."""


def margins(head: Head, outputs: Floats, lengths: Integers, contexts: Floats | None = None) -> Floats:
    """By how much response i of each group is preferred to j: shape (n, k, k), NaN where padded.

    Args:
        head: what reads the outputs.
        outputs: of the responses of all groups, one after the other, shape (sum of lengths, width).
        lengths: how many responses each group has, shape (n,).
        contexts: shape (n, context_width), for a head that reads prompts.
    """
    n, k = len(lengths), int(lengths.max(initial=0))
    found = np.full((n, k, k), np.nan)
    inside = np.arange(k)[None, :] < lengths[:, None]
    start = np.concatenate([[0], np.cumsum(lengths)])
    step = max(1, CELLS // max(k * k, 1))
    with torch.no_grad():
        for first in range(0, n, step):
            part = slice(first, first + step)
            here = inside[part]
            padded = np.zeros((*here.shape, head.width))
            padded[here] = outputs[start[first] : start[min(first + step, n)]]
            context = None if contexts is None else torch.from_numpy(contexts[part])
            table = head.margins(torch.from_numpy(padded), context).numpy()
            found[part] = np.where(here[:, :, None] & here[:, None, :], table, np.nan)
    return found


def mean_scores(table: Floats) -> Floats:
    """Mean margin of each response over its group, itself (margin 0) among them: (..., k) from (..., k, k).

    NaN where padded, and for a response that stands alone.
    """
    there = ~np.isnan(table)
    count = there.sum(axis=-1)
    total = np.where(there, table, 0.0).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 1))


def padded(flat: Floats, lengths: npt.NDArray[np.int64]) -> Floats:
    """Values of all alternatives in rows of their judgments: (n, k) padded with NaN, from (alternatives,)."""
    inside = np.arange(int(lengths.max(initial=0)))[None, :] < lengths[:, None]
    rows = np.full(inside.shape, np.nan)
    rows[inside] = flat
    return rows


def of_aspects(head: Head, outputs: Floats, overall: Floats, data: PreferenceData) -> Floats:
    """Scores of the flat alternatives of `data`, shape (alternatives,): of the aspect that a judgment is of,
    where the head scores it, and `overall` elsewhere.

    Args:
        head: whose outputs they are.
        outputs: shape (alternatives, width).
        overall: shape (alternatives,).
        data: the judgments.
    """
    if not head.aspects or not data.has("aspect"):
        return overall
    codes, names = data.codes("aspect")
    place = {name: number for number, name in enumerate(head.aspects)}
    aspect = np.array([*(place.get(name, -1) for name in names), -1])[codes]
    of_row = np.repeat(aspect, np.diff(data.offsets()))
    with torch.no_grad():
        scores = head.by_aspect(torch.from_numpy(outputs)).numpy()
    chosen = scores[np.arange(len(scores)), np.maximum(of_row, 0)]
    return np.where(of_row < 0, overall, chosen)
