"""What a format is: its fields, how it is recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from palate.errors import unknown

if TYPE_CHECKING:
    import polars as pl

    from palate.data.formats.batch import Batch

COMMON: dict[str, tuple[str, ...]] = {
    "id": ("judgment_id",),
    "prompt_id": ("prompt_id",),
    "annotator": ("annotator", "annotator_id"),
    "annotator_kind": ("annotator_kind",),
    "aspect": ("aspect",),
    "weight": ("weight",),
    "rationale": ("rationale",),
    "time": ("time", "tstamp", "timestamp"),
    "scale": ("scale",),
    "protocol": ("protocol",),
    "tie": ("tie",),
    "metadata": ("metadata",),
}
"""Fields every tabular format may have, with the column names that are taken for them."""


@dataclass(frozen=True)
class Format:
    """A public format.

    Attributes:
        name: what ``format=`` calls it.
        summary: one line for people.
        fields: the format's own fields, each with the column names taken for it, most usual first.
        detect: from a table's columns (name to type) and its first rows to a certainty between 0 (no) and 1.
        read: from a batch of the file's rows to columns of the judgment record.
        required: fields without which nothing can be read.
        options: names of the options `read` takes.
        common: names that the common fields have in this format, where they differ.
        write: from data to the rows of a file; None where the format is only read.
        write_options: names of the options `write` takes.
        suffixes: endings of a file that say this format by themselves.
        parse: for formats that are no tables: from a stored file to judgments.
        render: for formats that are no tables: from data to a file's bytes, which judgments it has, and
            why not all.
    """

    name: str
    summary: str
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    detect: Callable[[Mapping[str, pl.DataType], pl.DataFrame], float] = lambda columns, sample: 0.0
    read: Callable[[Batch], pa.Table] | None = None
    required: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    common: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    write: Callable[..., pa.Table] | None = None
    write_options: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    parse: Callable[..., pa.Table] | None = None
    render: Callable[..., Any] | None = None

    def all_fields(self) -> dict[str, tuple[str, ...]]:
        """Own and common fields with the column names taken for them; own fields win."""
        return {**COMMON, **self.common, **self.fields}


_FORMATS: dict[str, Format] = {}


def register(*formats: Format) -> None:
    for each in formats:
        _FORMATS[each.name] = each


def formats() -> dict[str, Format]:
    """Every known format by name."""
    _load()
    return dict(_FORMATS)


def get(name: str) -> Format:
    """The format called `name`.

    Raises:
        ConfigError: there is none; the message names the closest.
    """
    _load()
    if name not in _FORMATS:
        raise unknown("format", name, _FORMATS)
    return _FORMATS[name]


def check_options(what: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in given:
        if name not in known:
            raise unknown(f"option of {what}", name, known)


def _load() -> None:
    if _FORMATS:
        return
    from palate.data.formats import (
        arena,
        helpsteer,
        native,
        opinpref,
        pairwise,
        preflib,
        ranked,
        ratings,
        transcripts,
        ultrafeedback,
    )

    for module in (
        native, arena, pairwise, transcripts, ultrafeedback, helpsteer, opinpref, ranked, ratings, preflib,
    ):  # fmt: skip
        register(*module.FORMATS)
