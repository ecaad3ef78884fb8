"""What each response got on every aspect, for losses that choose pairs by all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate.data import PreferenceData
from palate.data.codes import combine
from palate.errors import DataError
from palate.training.told import aspect_codes

Floats = npt.NDArray[np.float64]


def ratings_of(data: PreferenceData, position: npt.NDArray[np.int64], aspects: Sequence[str]) -> Floats:
    """The mean score of each alternative on every aspect; shape (n, k, aspects), NaN where it has none.

    An alternative is known by its prompt and its item, or its text where there are no items, so that
    judgments of different aspects may list the alternatives in any order.

    Args:
        data: judgments, each of one aspect; those without aspect, or of "overall", do not count.
        position: shape (n, k), places among the flat alternatives.
        aspects: names, in the order of the result.

    Raises:
        DataError: alternatives have neither items nor texts; an aspect is unknown.
    """
    name = next((name for name in ("items", "responses") if data.has(name)), None)
    if name is None:
        raise DataError(
            "nothing says which alternatives of two judgments are the same", field="items",
            file=data.source, remedy="give alternatives items or responses",
        )  # fmt: skip
    row = np.repeat(np.arange(data.n_rows), np.diff(data.offsets()))
    which, count = combine(data.prompt_codes()[row], data.flat_codes(name)[0])
    code, scores = aspect_codes(data, aspects)[row], data.scores
    there = (code >= 0) & ~np.isnan(scores)
    cell, size = which[there] * len(aspects) + code[there], count * len(aspects)
    number = np.bincount(cell, minlength=size)
    total = np.bincount(cell, weights=scores[there], minlength=size)
    mean = np.divide(total, number, out=np.full(size, np.nan), where=number > 0)
    return np.asarray(mean.reshape(count, len(aspects))[which[position]])
