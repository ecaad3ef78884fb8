"""Nearest judgments: prompts and their attributes as vectors, and which of them lie closest together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data import PreferenceData, metadata
from palate.errors import ConfigError

if TYPE_CHECKING:
    pass

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]
Embed = "str | os.PathLike[str] | TextEncoder | Callable[[Sequence[str]], npt.ArrayLike]"

ATTRIBUTES = ("category", "objective", "controversy", "desired", "guideline")
"""Keys of the metadata that say what kind of question a judgment is about and how to judge it."""

_BLOCK = 1 << 24  # similarities held at once


def attribute_texts(data: PreferenceData) -> list[str]:
    """The attributes of each judgment in one text (``"category: math; objective: yes"``), shape (rows,).

    Keys are those of `ATTRIBUTES`; what a judgment lacks is left out, and "" is a judgment without any.
    """
    if not data.has("metadata"):
        return [""] * data.n_rows
    parts = [
        pl.Series(name, metadata.texts(data, name)).str.strip_chars().replace("", None) for name in ATTRIBUTES
    ]
    named = pl.DataFrame(parts).select((pl.lit(f"{p.name}: ") + pl.col(p.name)).alias(p.name) for p in parts)
    return named.select(pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)).to_series().to_list()


def described(data: PreferenceData) -> list[str]:
    """Prompt and attributes of each judgment, (x, a): what neighbours are found by; shape (rows,)."""
    prompts = [text or "" for text in data.column("prompt").to_pylist()]
    return joined(prompts, attribute_texts(data))


def joined(prompts: Sequence[str], attributes: Sequence[str]) -> list[str]:
    """Each prompt with its attributes below it."""
    return [f"{x}\n{a}" if a else x for x, a in zip(prompts, attributes, strict=True)]


def normal(text: str) -> str:
    """A text in which case and white space no longer tell: near copies become equal."""
    return " ".join(text.casefold().split())


def embedded(embed: Any, texts: Sequence[str], dim: int | None = None) -> Floats:
    """Unit vectors of `texts`, shape (n, d).

    Args:
        embed: a sentence encoder's name, folder or hub id, a loaded `palate.models.TextEncoder` (both through
            the cache of `palate.models.embed`), or a function of texts that gives an array (n, d).
        texts: n of them.
        dim: the d that is wanted; any if None.

    Raises:
        ConfigError: the vectors have another shape, or one is not finite.
    """
    if callable(embed):
        vectors = np.asarray(embed(list(texts)))
    else:
        from palate.models import embed as through_cache
        from palate.models import load_encoder

        encoder = load_encoder(embed) if isinstance(embed, str | os.PathLike) else embed
        vectors = through_cache(encoder, texts)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ConfigError(f"embed gave an array of shape {vectors.shape} for {len(texts)} texts; give (n, d)")
    if dim is not None and vectors.shape[1] != dim:
        raise ConfigError(
            f"embed gave vectors of {vectors.shape[1]} numbers where the others have {dim}; use one encoder "
            "for both sides"
        )
    if not np.isfinite(vectors).all():
        bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ConfigError(f"embed gave a vector that is not finite, for text {bad + 1}")
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norm > 0, norm, 1.0))


def nearest(
    queries: Floats,
    targets: Floats,
    counts: npt.ArrayLike,
    *,
    apart: Sequence[tuple[Integers, Integers]] = (),
) -> Integers:
    """The targets most similar to each query, most similar first; of equal ones the first.

    Args:
        queries: unit vectors, shape (n, d).
        targets: unit vectors, shape (m, d).
        counts: how many of each query, shape (n,) or one number.
        apart: pairs of codes, shapes (n,) and (m,): a target with the query's code is not taken.

    Returns:
        Rows of `targets`, shape (n, most), padded with -1.
    """
    n, m = len(queries), len(targets)
    wanted = np.broadcast_to(np.asarray(counts, dtype=np.int64), (n,))
    k = int(min(wanted.max(initial=0), m))
    found = np.full((n, k), -1, dtype=np.int64)
    if not k:
        return found
    step = max(1, _BLOCK // m)
    for start in range(0, n, step):
        part = slice(start, min(n, start + step))
        near = queries[part] @ targets.T
        for of_query, of_target in apart:
            near[of_query[part, None] == of_target[None, :]] = -np.inf
        if k < m:
            # The k-th largest value, then all that reach it: equal ones are told apart by their place.
            least = np.partition(near, m - k, axis=1)[:, m - k, None]
            row, place = np.nonzero(near >= least)
        else:
            row, place = np.divmod(np.arange(near.size), m)
        value = near[row, place]
        order = np.lexsort((place, -value, row))
        row, place, value = row[order], place[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        taken = (rank < wanted[part][row]) & (rank < k) & (value > -np.inf)
        found[start + row[taken], rank[taken]] = place[taken]
    return found
