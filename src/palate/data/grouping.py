"""Merging judgments: all alternatives judged for a prompt, once each, with their mean scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from palate.data import schema
from palate.data.codes import combine, first_places
from palate.data.table import PreferenceData
from palate.errors import ConfigError

Ints = npt.NDArray[np.int64]

_IDENTITY = ("items", "responses", "media")
_OF_PROMPT = ("prompt_id", "prompt", "messages", "context")
_OF_JUDGE = ("annotator", "annotator_kind", "aspect")


def group_by_prompt(data: PreferenceData, *, by: Sequence[str] = ("aspect",)) -> PreferenceData:
    """All alternatives judged for a prompt, once each, in one judgment.

    Judgments belong together if they have the same prompt (`prompt_id`, else its text; those with neither are
    about one empty prompt) and the same values of the columns `by`. Alternatives are the same if their item,
    response and medium are. Groups and alternatives come in the order of first appearance.

    Args:
        data: judgments with items, responses or media.
        by: row columns that keep judgments apart, such as "aspect" or "annotator".

    Returns:
        Judgments with protocol `rating`. `scores`: mean over the judgments that score the alternative,
        weighted by `weight`, NaN if there is none; for votes that is the share of wins (a tie counts as its
        scores say).
        `scale`: interval if all merged ones are. `weight`: mean of the merged weights. Prompt columns are
        those of the first judgment; annotator, its kind and aspect stay where all merged ones agree, else
        they are null; ids, ties, times, rationales and metadata belong to single judgments and are not
        carried over.

    Raises:
        ConfigError: `by` names no row column; the data has no items, responses or media; or a group mixes
            protocols, whose scores mean different things.
    """
    for name in by:
        if name not in schema.COLUMNS or pa.types.is_nested(schema.COLUMNS[name]):
            raise ConfigError(f"cannot group by {name!r}; name row columns such as 'aspect' or 'annotator'")
    identity = [name for name in _IDENTITY if data.has(name)]
    if not identity:
        raise ConfigError(
            "grouping needs items, responses or media to tell alternatives apart; the data has none"
        )
    group, n_groups = combine(data.prompt_codes(), *(_row_codes(data, name) for name in by))
    if n_groups == 0:
        return data
    first_row = first_places(group, n_groups)
    if data.has("protocol") and not _constant(_row_codes(data, "protocol"), group, first_row).all():
        raise ConfigError(
            "a prompt has judgments of several protocols, whose scores mean different things; "
            'filter to one, or group by=("aspect", "protocol")'
        )

    lengths = np.diff(data.offsets())
    member = np.repeat(group, lengths)
    code, n_alternatives = combine(member, *(data.flat_codes(name)[0] for name in identity))
    first = first_places(code, n_alternatives)
    order = np.argsort(member[first], kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(member[first], minlength=n_groups))]).astype(
        np.int32
    )

    scores, weights = data.scores, np.repeat(data.weights, lengths)
    judged = ~np.isnan(scores)
    total = np.bincount(code[judged], (weights * scores)[judged], n_alternatives)
    mass = np.bincount(code[judged], weights[judged], n_alternatives)
    mean = np.divide(total, mass, out=np.full(n_alternatives, np.nan), where=mass > 0)

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(offsets), values)

    columns: dict[str, Any] = {
        name: data.column(name).take(pa.array(first_row)) for name in (*_OF_PROMPT, *by)
    }
    for name in _OF_JUDGE:
        if data.has(name) and name not in by:
            same = _constant(_row_codes(data, name), group, first_row)
            columns[name] = data.column(name).take(pa.array(first_row, mask=~same))
    for name in schema.ALTERNATIVES:
        if data.has(name):
            columns[name] = lists(data.flat(name).take(pa.array(first[order])))
    columns["scores"] = lists(pa.array(mean[order]))
    columns["protocol"] = ["rating"] * n_groups
    if data.has("scale"):
        codes, names = data.codes("scale")
        other = codes != (names.index("interval") if "interval" in names else -2)
        ordinal = np.bincount(group[other], minlength=n_groups) > 0
        columns["scale"] = np.where(ordinal, "ordinal", "interval").tolist()
    if data.has("weight"):
        columns["weight"] = np.bincount(group, data.weights) / np.bincount(group)
    return PreferenceData.from_columns(columns, source=data.source)


def _row_codes(data: PreferenceData, name: str) -> Ints:
    column = data.column(name)
    if pa.types.is_dictionary(column.type):
        return data.codes(name)[0].astype(np.int64)
    indices = column.dictionary_encode().indices.fill_null(-1)
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _constant(codes: Ints, group: Ints, first_row: Ints) -> npt.NDArray[np.bool_]:
    """Whether all rows of a group have one code; shape (groups,)."""
    differs = codes != codes[first_row][group]
    return np.asarray(np.bincount(group[differs], minlength=len(first_row)) == 0)
