"""Values of the `metadata` column: one JSON object a judgment, read by key without a loop over rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import polars as pl

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, unknown

PROBED = 1000
"""Rows whose keys are listed in the message about a key that occurs nowhere."""


def values(data: PreferenceData, key: str | Sequence[str]) -> npt.NDArray[Any]:
    """One value of each judgment's metadata, shape (rows,).

    Args:
        data: judgments with `metadata`.
        key: names from the outside in, separated by dots (``"conv_metadata.turns"``), or as a sequence where
            a name itself holds a dot.

    Returns:
        Floats, NaN where the key is missing or null, if all values are numbers (also written as text) or all
        are true or false (1 and 0); else strings, None where missing. Lists and objects come as JSON text.

    Raises:
        DataError: there is no metadata, or the key occurs in no judgment.

    >>> columns = {"items": [["a", "b"]], "scores": [[1, 0]], "metadata": ['{"turn": {"n": 3}}']}
    >>> votes = PreferenceData.from_columns(columns)
    >>> values(votes, "turn.n")
    array([3.])
    """
    found = texts(data, key)
    if found.null_count() == len(found):
        raise _nowhere(data, key)
    given = found.drop_nulls()
    numbers = given.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        return found.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if given.is_in(["true", "false"]).all():
        return (found == "true").cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return found.to_numpy()


def texts(data: PreferenceData, key: str | Sequence[str]) -> pl.Series:
    """As `values`, always as text and null where missing, also where the key occurs nowhere; shape (rows,).

    Raises:
        DataError: the metadata of a judgment is no JSON.
        ConfigError: the key cannot be looked for.
    """
    names = key.split(".") if isinstance(key, str) else list(key)
    column = pl.Series(data.column("metadata"), dtype=pl.String)
    try:
        return column.str.json_path_match(
            "$" + "".join(f"[{json.dumps(name, ensure_ascii=False)}]" for name in names)
        )
    except pl.exceptions.PolarsError:
        for row, text in enumerate(column):
            try:
                json.loads(text or "{}")
            except ValueError as error:
                raise DataError(
                    f"is not JSON: {error}", row=row + 1, field="metadata", file=data.source
                ) from None
        raise ConfigError(f"cannot read a key like {key!r}") from None


def with_values(data: PreferenceData, given: Mapping[str, Any]) -> PreferenceData:
    """Judgments whose metadata has these keys too; what a key held before is replaced.

    Args:
        data: judgments, with metadata or without.
        given: name of each key -> one value a judgment: numbers, true and false or texts, as an array, list
            or polars series of length (rows,); NaN and null come out as null, which readers take as missing.

    >>> columns = {"items": [["a", "b"]], "scores": [[1, 0]], "metadata": ['{"turn": 3}']}
    >>> with_values(PreferenceData.from_columns(columns), {"margin": [0.5]}).values("metadata")[0]
    '{"turn": 3,"margin":0.5}'
    """
    if not given:
        return data
    series = [pl.Series(name, values, nan_to_null=True) for name, values in given.items()]
    frame = pl.DataFrame(series)
    if len(frame) != data.n_rows:
        raise ConfigError(f"metadata for {len(frame)} judgments where there are {data.n_rows}")
    extra = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    own = pl.Series(data.column("metadata"), dtype=pl.String).str.strip_chars()
    again = pl.any_horizontal(pl.lit(own).str.contains(json.dumps(name), literal=True) for name in given)
    rows = pl.select(again.fill_null(False)).to_series().arg_true()
    if len(rows):
        objects = [json.loads(text) for text in own.gather(rows)]
        rest = [{name: value for name, value in found.items() if name not in given} for found in objects]
        own = own.scatter(rows, [json.dumps(found, ensure_ascii=False) for found in rest])
    inner = own.str.strip_suffix("}")
    none = own.is_null() | (inner.str.strip_prefix("{").str.strip_chars() == "")
    joined = pl.select(pl.when(none).then(extra).otherwise(inner + "," + extra.str.strip_prefix("{")))
    return data.with_columns(metadata=joined.to_series().to_arrow())


def keys(data: PreferenceData) -> list[str]:
    """Dotted keys of the metadata of the first judgments, in order of first appearance."""
    found: dict[str, None] = {}
    for text in data.column("metadata").slice(0, PROBED).to_pylist():
        found |= dict.fromkeys(_keys(json.loads(text or "{}")))
    return list(found)


def _keys(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _keys(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


def _nowhere(data: PreferenceData, key: str | Sequence[str]) -> DataError:
    name = key if isinstance(key, str) else ".".join(key)
    known = keys(data) if data.has("metadata") else []
    if not known:
        return DataError(
            f"no judgment has metadata to read {name!r} from", field="metadata", file=data.source,
            remedy="columns of the file that no field takes are kept as metadata",
        )  # fmt: skip
    return DataError(str(unknown("key", name, known)), field="metadata", file=data.source)
