"""Conversations in columns: turns of a batch of rows as flat arrays, cut and compared without a loop over
rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema
from palate.data.formats.batch import Batch

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Turns:
    """Row r's turns are entries starts[r]:ends[r] of `roles` and `contents`."""

    roles: pa.Array
    contents: pa.Array
    starts: Ints
    ends: Ints

    @property
    def counts(self) -> Ints:
        return self.ends - self.starts

    def part(self, first: Ints, last: Ints) -> Turns:
        """Turns first[r] up to (not with) last[r] of each row."""
        return Turns(self.roles, self.contents, self.starts + first, self.starts + last)

    def _flat(self) -> tuple[Ints, Ints]:
        counts = self.counts
        offsets = np.concatenate([[0], np.cumsum(counts)])
        index = np.arange(offsets[-1]) + np.repeat(self.starts - offsets[:-1], counts)
        return index, offsets

    def to_arrow(self) -> pa.Array:
        """As a column of type ``list<struct<role, content>>``."""
        index, offsets = self._flat()
        take = pa.array(index)
        pairs = pa.StructArray.from_arrays(
            [self.roles.take(take), self.contents.take(take)], ["role", "content"]
        )
        array = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pairs)
        return array.cast(schema.COLUMNS["messages"])

    def text(self) -> pa.Array:
        """Each row's turns joined for reading: a single turn is its content, more are ``role: content``
        lines."""
        index, offsets = self._flat()
        take = pa.array(index)
        contents, roles = self.contents.take(take), self.roles.take(take)
        lines = pc.binary_join_element_wise(
            roles.cast(pa.large_string()), contents, pa.scalar(": ", pa.large_string())
        )
        alone = np.repeat(self.counts == 1, self.counts)
        lines = pc.if_else(pa.array(alone), contents, lines)
        joined = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), lines)
        return pc.binary_join(joined, pa.scalar("\n\n", pa.large_string()))

    def role_at(self, position: Ints, role: str) -> npt.NDArray[np.bool_]:
        """Whether each row's turn at `position` exists and has this role."""
        inside = (position >= 0) & (position < self.counts)
        if not len(self.roles):
            return np.zeros(len(position), dtype=bool)
        index = np.where(inside, self.starts + position, 0)
        same = pc.equal(self.roles.take(pa.array(index)), role)
        has: npt.NDArray[np.bool_] = same.fill_null(False).to_numpy(zero_copy_only=False)
        return inside & has

    def last(self, role: str) -> Ints:
        """Position of each row's last turn of this role, -1 where there is none."""
        hit = pc.equal(self.roles, role).fill_null(False).to_numpy(zero_copy_only=False)
        seen = (
            np.maximum.accumulate(np.where(hit, np.arange(len(hit)), -1))
            if len(hit)
            else np.empty(0, np.int64)
        )
        at = np.full(len(self.starts), -1, dtype=np.int64)
        filled = self.counts > 0
        at[filled] = seen[self.ends[filled] - 1]
        return np.where(at >= self.starts, at - self.starts, -1)


def common_prefix(a: Turns, b: Turns) -> Ints:
    """Number of turns, from the first on, that are equal in both; shape (rows,)."""
    n = np.minimum(a.counts, b.counts)
    x, offsets = Turns(a.roles, a.contents, a.starts, a.starts + n)._flat()
    y, _ = Turns(b.roles, b.contents, b.starts, b.starts + n)._flat()
    same = pc.and_(
        pc.equal(a.roles.take(pa.array(x)), b.roles.take(pa.array(y))),
        pc.equal(a.contents.take(pa.array(x)), b.contents.take(pa.array(y))),
    )
    differs = ~same.fill_null(False).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(n)), n)
    first = n.copy()
    at = np.flatnonzero(differs)
    np.minimum.at(first, rows[at], at - offsets[rows[at]])
    return first


def turns(batch: Batch, name: str) -> Turns:
    """A field that holds conversations: lists of {role, content}, or such lists as JSON text.

    A content made of parts (``[{"type": "text", "text": ...}]``) is the text of its parts, one after the
    other.
    """
    values = batch.raw(name)
    remedy = 'give a list such as [{"role": "user", "content": "..."}]'
    if values.dtype == pl.String:
        values = decode(batch, values, name, MESSAGES, remedy)
    if isinstance(values.dtype, pl.Struct):
        values = pl.select(pl.concat_list(values)).to_series()
    batch.fail(values.is_null(), name, "is missing", remedy)
    inner = values.dtype.inner if isinstance(values.dtype, pl.List) else None
    if inner == pl.Null or (inner is None and values.dtype == pl.Null):
        values = values.cast(MESSAGES)
        inner = MESSAGES.inner
    if not isinstance(inner, pl.Struct) or not {"role", "content"} <= {f.name for f in inner.fields}:
        batch.fail(
            np.ones(batch.height, dtype=bool), name, "is not a list of messages with role and content", remedy
        )
    flat = values.explode(empty_as_null=False) if len(values) else values.explode()
    roles, contents = flat.struct.field("role"), flat.struct.field("content")
    if isinstance(contents.dtype, pl.List) and isinstance(contents.dtype.inner, pl.Struct):
        contents = _join_parts(contents)
    if contents.dtype == pl.Null:
        contents = contents.cast(pl.String)
    counts = values.list.len().to_numpy().astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    row_of = np.repeat(np.arange(batch.height), counts)
    bad = np.zeros(batch.height, dtype=bool)
    if roles.dtype != pl.String or contents.dtype != pl.String:
        batch.fail(counts > 0, name, "has a role or content that is not text", remedy)
        roles, contents = roles.cast(pl.String), contents.cast(pl.String)
    bad[row_of[(roles.is_null() | contents.is_null()).to_numpy()]] = True
    batch.fail(bad, name, "has a turn without role or content", remedy)
    return Turns(roles.to_arrow(), contents.to_arrow(), offsets[:-1], offsets[1:])


def _join_parts(contents: pl.Series) -> pl.Series:
    if "text" not in {part.name for part in contents.dtype.inner.fields}:  # type: ignore[attr-defined]
        return pl.Series([None] * len(contents), dtype=pl.String)
    texts = contents.list.eval(pl.element().struct.field("text").cast(pl.String).drop_nulls())
    return texts.list.join("")


def decode(batch: Batch, values: pl.Series, name: str, kind: pl.DataType, remedy: str) -> pl.Series:
    """JSON texts as values of a type; the row that is not of it is named."""
    try:
        return values.str.json_decode(kind)
    except pl.exceptions.PolarsError:
        pass
    from palate.data.formats.jsontext import checked_depth

    for row, text in enumerate(values.to_list()):
        try:
            checked_depth(text)
            pl.Series([text], dtype=pl.String).str.json_decode(kind)
        except (pl.exceptions.PolarsError, ValueError):
            bad = np.zeros(len(values), dtype=bool)
            bad[row] = True
            batch.fail(bad, name, "is not JSON of the right kind", remedy)
    raise batch.context.error("is not JSON of the right kind", remedy, field=name)


def prompt_columns(prompt: Turns) -> dict[str, pa.Array]:
    """Columns `prompt` and `messages`: messages only where the prompt is more than one user turn."""
    simple = (prompt.counts == 0) | (
        (prompt.counts == 1) & prompt.role_at(np.zeros(len(prompt.starts), np.int64), "user")
    )
    text = pc.fill_null(prompt.text(), "")
    if simple.all():
        return {"prompt": text}
    messages = pc.if_else(pa.array(~simple), prompt.to_arrow(), pa.scalar(None, schema.COLUMNS["messages"]))
    return {"prompt": text, "messages": messages}


def response_columns(*sides: Turns) -> dict[str, pa.Array]:
    """Columns `responses` and `response_messages` of k sides; the latter where a side is not one assistant
    turn."""
    k, n = len(sides), len(sides[0].starts)
    zero = np.zeros(n, dtype=np.int64)
    plain = np.all([(side.counts == 1) & side.role_at(zero, "assistant") for side in sides], axis=0)
    order = pa.array(np.arange(n * k).reshape(k, n).T.ravel())
    offsets = pa.array(np.arange(0, n * k + 1, k, dtype=np.int32))
    texts = pa.concat_arrays([pc.fill_null(side.text(), "") for side in sides]).take(order)
    columns = {"responses": pa.ListArray.from_arrays(offsets, texts)}
    if not plain.all():
        kind = schema.COLUMNS["response_messages"]
        whole = pa.concat_arrays([side.to_arrow() for side in sides]).take(order)
        listed = pa.ListArray.from_arrays(offsets, whole).cast(kind)
        columns["response_messages"] = pc.if_else(pa.array(~plain), listed, pa.scalar(None, kind))
    return columns


def split_pair(a: Turns, b: Turns, *, role: str = "assistant") -> tuple[Turns, Turns, Turns]:
    """The prompt two conversations share and what is left of each.

    The prompt ends before the last assistant turn of each, and earlier where the turns differ earlier:
    then the
    rest of a conversation, with all its turns, is its response.
    """
    cut = np.minimum(common_prefix(a, b), np.minimum(a.last(role), b.last(role)))
    cut = np.maximum(cut, 0)
    zero = np.zeros_like(cut)
    return a.part(zero, cut), a.part(cut, a.counts), b.part(cut, b.counts)
