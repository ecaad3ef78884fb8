"""From judgments to what a score head reads: texts, features, and the texts an encoder is given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.reward.linear import Array

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
TextBlocks = Literal["both", "joint", "response"]


def texts_of(data: PreferenceData) -> tuple[list[str], list[str]]:
    """The prompt and the response of every flat alternative.

    Raises:
        DataError: the data has no responses, or one is missing.
    """
    if not data.has("responses"):
        instead = (
            'use RewardModel(encoder="features")' if data.has("features") else "load data with response texts"
        )
        raise DataError("this reward model reads texts; the data has no responses", field="responses",
                        file=data.source, remedy=instead)  # fmt: skip
    responses = data.flat("responses")
    if responses.null_count:
        bad = int(np.flatnonzero(pc.is_null(responses).to_numpy(zero_copy_only=False))[0])
        number = int(rows_of(data, np.array([bad]))[0])
        raise DataError(
            "a response is missing", row=number, field="responses", file=data.source, remedy="drop the row"
        )
    row = np.repeat(np.arange(data.n_rows), np.diff(data.offsets()))
    prompts = pc.fill_null(data.column("prompt"), "")
    return pc.take(prompts, pa.array(row)).to_pylist(), responses.to_pylist()


def rows_of(data: PreferenceData, alternatives: Integers) -> Integers:
    """The row, from 1, of the judgment that each of the flat alternatives numbered belongs to."""
    return data.row_numbers[np.searchsorted(data.offsets(), alternatives, side="right") - 1]


def refuse_long(lengths: Integers, window: int, rows: Integers | None = None) -> None:
    """Refuse texts of more tokens than a model reads.

    Args:
        lengths: tokens of each text, shape (n,).
        window: most tokens the model reads.
        rows: where each text comes from, from 1, shape (n,); its place in the list if None.

    Raises:
        DataError: which is the first, and how many there are.
    """
    long = np.flatnonzero(lengths > window)
    if len(long):
        first = int(long[0])
        raise DataError(
            f"a text of {lengths[first]} tokens where the model reads {window}; "
            f"{len(long)} of {len(lengths)} texts are too long",
            row=first + 1 if rows is None else int(rows[first]), field="responses",
            remedy='shorten or drop them, take a model with a larger window, or let them be cut '
            '(too_long="cut")',
        )  # fmt: skip


def features_of(data: PreferenceData, names: Sequence[str] = ()) -> npt.NDArray[np.float32]:
    """The feature vectors of every flat alternative, shape (alternatives, d), each number named by `names`.

    They are a view of the data where it lies in one piece, and cannot be written to.

    Raises:
        DataError: the data has no features, their lengths differ, one is missing, or one is not finite.
    """
    if not data.has("features"):
        raise DataError(
            "this reward model reads features; the data has none", field="features", file=data.source,
            remedy='give it a features column, or fit RewardModel(encoder="all-minilm-l6-v2") on texts',
        )  # fmt: skip
    flat = data.flat("features")

    def fail(bad: npt.NDArray[np.bool_], problem: str, remedy: str = "give vectors of equal length") -> None:
        if bad.any():
            row = int(rows_of(data, np.flatnonzero(bad)[:1])[0])
            raise DataError(problem, row=row, field="features", file=data.source, remedy=remedy)

    fail(
        pc.is_null(flat).to_numpy(zero_copy_only=False), "an alternative has no features", "give it a vector"
    )
    lengths = pc.list_value_length(flat).to_numpy(zero_copy_only=False)
    usual = int(lengths[0]) if len(lengths) else 0
    fail(np.asarray(lengths == 0), "a vector without numbers", "give one number or more")
    fail(np.asarray(lengths != usual), f"a vector whose length is not {usual}, as the first one's is")
    values = np.asarray(flat.flatten().to_numpy(zero_copy_only=False)).reshape(len(flat), usual)
    if names and usual != len(names):
        raise DataError(
            f"vectors of length {usual} for {len(names)} named features", field="features", file=data.source,
            remedy=f"give the values of: {', '.join(names)}",
        )  # fmt: skip
    if not all_finite(values):
        bad = np.asarray(~np.isfinite(values).all(axis=1))
        fail(bad, _not_finite(values, names), "fill in or drop missing values")
    return values


def all_finite(values: Array) -> bool:
    """Whether every entry of `values` (n, d) is finite; one product in place of a table of answers."""
    with np.errstate(all="ignore"):
        sums = values @ np.ones(values.shape[1], dtype=values.dtype)
    # A sum may overflow where no entry does.
    return bool(np.isfinite(sums).all() or np.isfinite(values).all())


def vectors(features: npt.ArrayLike) -> Floats:
    """Feature vectors as an array of shape (..., d).

    Raises:
        DataError: their lengths differ, one holds no number, or there is one number in place of a vector.
    """
    try:
        values = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "vectors of unequal length, or with something that is no number", field="features",
            remedy="give numbers, every vector as many",
        ) from None  # fmt: skip
    if not values.ndim:
        raise DataError("one number in place of a vector", field="features", remedy="give a vector")
    return values


def check_judgments(data: object) -> None:
    """Refuse what is no `PreferenceData`.

    Raises:
        ConfigError: what it is instead.
    """
    if not isinstance(data, PreferenceData):
        raise ConfigError(
            f"a reward model learns from PreferenceData, not {type(data).__name__}; palate.load(path) and "
            "PreferenceData.from_columns(...) make it"
        )


def used(values: Array, position: Integers) -> tuple[Array, Integers]:
    """The rows of `values` (m, d) that `position` (n, k) points at, and where it points among them."""
    needed = np.zeros(len(values), dtype=bool)
    needed[position] = True
    if needed.all():
        return values, position
    return values[needed], (np.cumsum(needed) - 1)[position]


def check_finite(values: Floats, names: Sequence[str]) -> None:
    """Refuse features, shape (n, d), that are not finite, by name.

    Raises:
        DataError: which feature it is, and of how many responses.
    """
    if not np.isfinite(values).all():
        raise DataError(
            _not_finite(values, names), field="features",
            remedy="leave the feature out, or let FeatureJudge fill in with on_missing='mean'",
        )  # fmt: skip


def warn_of_constants(values: Array, names: Sequence[str]) -> None:
    """Say which of the named features, shape (n, d), never change: nothing can be learnt of them."""
    if not names:
        return
    constant = [name for name, width in zip(names, np.ptp(values, axis=0), strict=True) if not width]
    if constant:
        warnings.warn(
            f"features with one value in every response, of which nothing is learnt: {', '.join(constant)}",
            PalateWarning,
            stacklevel=5,
        )


def _not_finite(values: Floats, names: Sequence[str]) -> str:
    bad = ~np.isfinite(values)
    if not names or not bad.any():
        return "a feature that is not finite"
    worst = int(bad.sum(axis=0).argmax())
    if bad[:, worst].all():
        return f"the feature {names[worst]!r} has no value in any response"
    return f"the feature {names[worst]!r} is not finite ({int(bad[:, worst].sum())} of {len(bad)} responses)"


def unique_texts(prompts: Sequence[str], responses: Sequence[str]) -> tuple[list[str], list[str], Integers]:
    """Distinct (prompt, response) pairs and, for each pair given, its place among them."""
    import polars as pl

    frame = pl.DataFrame(
        {"prompt": list(prompts), "response": list(responses)},
        schema={"prompt": pl.String, "response": pl.String},
    )
    distinct = frame.unique(maintain_order=True).with_row_index("place")
    place = frame.join(distinct, on=["prompt", "response"], how="left", maintain_order="left")["place"]
    return distinct["prompt"].to_list(), distinct["response"].to_list(), place.to_numpy().astype(np.int64)


def encoder_texts(prompts: Sequence[str], responses: Sequence[str], text: TextBlocks) -> list[list[str]]:
    """The texts an encoder reads, one list per block of the input vector.

    "joint" is the prompt and the response as one text, which lets the score depend on how they fit together;
    "response" the response alone, which a long prompt cannot push out of the encoder's window; "both" puts
    the two vectors side by side.
    """
    blocks = []
    if text not in ("both", "joint", "response"):
        raise ConfigError(f"text must be 'both', 'joint' or 'response', not {text!r}")
    if text in ("both", "joint"):
        blocks.append([f"{p}\n\n{r}" if p else r for p, r in zip(prompts, responses, strict=True)])
    if text in ("both", "response"):
        blocks.append(list(responses))
    return blocks
