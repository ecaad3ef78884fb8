"""Cleaning pairs: no empty text, none twice, and none of the questions a model will be tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import PreferenceData
from palate.data.codes import combine, first_places
from palate.data.table import PreferenceData as Judgments
from palate.errors import ConfigError, DataError, unknown

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Benchmarks = PreferenceData | Sequence[str] | Mapping[str, "PreferenceData | Sequence[str]"]

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that a word's place in a run of words changes the run's hash."""


@dataclass(frozen=True)
class Cleaned:
    """Judgments that stay, and why the others do not.

    Attributes:
        data: what stays, in its order.
        dropped: one row per judgment left out: `judgment` (row), `reason`, and what the reason points at.
        counts: judgments read, kept, and dropped by reason; of `decontaminate` also `texts` compared with and
            how many of them were `too_short` to share n words.
    """

    data: PreferenceData
    dropped: pl.DataFrame
    counts: dict[str, int]


def pair_codes(*parts: PreferenceData) -> list[Integers]:
    """One code per judgment of two alternatives: equal for the same prompt, chosen and rejected alternative.

    Alternatives are known by their texts, else item ids, media or features, whichever all parts have. For a
    tie the order of the alternatives makes no difference.

    Args:
        parts: judgments; codes are equal across them.

    Returns:
        An array of shape (rows,) for each part.

    Raises:
        ConfigError: a judgment has not two alternatives.
        DataError: no column says what the alternatives are.
    """
    names = ("responses", "items", "media", "features")
    name = next((name for name in names if all(part.has(name) for part in parts)), None)
    if name is None:
        raise DataError("judgments without responses, items, media or features cannot be told apart",
                        field="responses", file=parts[0].source)  # fmt: skip
    for part in parts:
        lengths = np.diff(part.offsets())
        if (lengths != 2).any():
            row = int(np.flatnonzero(lengths != 2)[0])
            raise ConfigError(
                f"this works on judgments of two alternatives; row {row + 1} has {lengths[row]}: "
                "take pairs with data.as_pairs('all')"
            )
    sides = pa.concat_arrays([_plain(part.flat(name)) for part in parts])
    side = sides.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    side = side.reshape(-1, 2)
    prompts = pa.chunked_array([part.column("prompt") for part in parts]).combine_chunks()
    prompt = prompts.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    scores = np.concatenate([part.scores for part in parts]).reshape(-1, 2)
    swap = (scores[:, 1] > scores[:, 0]) | ((scores[:, 0] == scores[:, 1]) & (side[:, 1] < side[:, 0]))
    first, second = np.where(swap, side[:, 1], side[:, 0]), np.where(swap, side[:, 0], side[:, 1])
    tie = (scores[:, 0] == scores[:, 1]).astype(np.int64)
    codes, _ = combine(prompt.astype(np.int64), first, second, tie)
    return np.split(codes, np.cumsum([part.n_rows for part in parts])[:-1])


def overlap(data: PreferenceData, other: PreferenceData) -> npt.NDArray[np.bool_]:
    """Which judgments of `data` are about a prompt and two alternatives that `other` has too, whoever won;
    shape (rows,)."""
    if not data.n_rows or not other.n_rows:
        return np.zeros(data.n_rows, dtype=bool)
    plain = [_level(part) for part in (data, other)]
    mine, theirs = pair_codes(*plain)
    return np.isin(mine, theirs)


def dedup(data: PreferenceData) -> Cleaned:
    """Leave out pairs with an empty text, and all but the first of equal pairs.

    Pairs are equal if prompt (the whole conversation so far), chosen and rejected response are: one that
    differs in the rejected response alone stays, and so does a pair with its sides exchanged, which says the
    opposite. `dropped` names in `same_as` the judgment that stays.

    Args:
        data: judgments of two alternatives.

    Raises:
        ConfigError: a judgment has not two alternatives.
        DataError: no column says what the alternatives are.
    """
    (codes,) = pair_codes(data)
    first = first_places(codes, int(codes.max(initial=-1)) + 1)[codes] if len(codes) else codes
    empty = _empty(data)
    again = (first != np.arange(data.n_rows)) & ~empty
    left_out = np.flatnonzero(empty | again)
    dropped = pl.DataFrame(
        {
            "judgment": left_out,
            "reason": np.where(empty[left_out], "empty", "duplicate"),
            "same_as": pl.Series(np.where(empty[left_out], -1, first[left_out])).replace(-1, None),
        }
    )
    counts = {"read": data.n_rows, "kept": data.n_rows - len(left_out), "empty": int(empty.sum()),
              "duplicate": int(again.sum())}  # fmt: skip
    return Cleaned(data.mask(~(empty | again)), dropped, counts)


def decontaminate(
    data: PreferenceData, benchmarks: Benchmarks, *, n: int = 13, where: Literal["prompt", "all"] = "prompt"
) -> Cleaned:
    """Leave out judgments that share n words in a row with the first prompt of a benchmark.

    Words are runs of letters, digits and underscores, in lower case; what stands between them makes no
    difference. In scripts without spaces a run is long, and fewer copies are found. Runs of words are found
    by a 64-bit hash and confirmed by the words themselves, so that nothing is left out by chance. `dropped`
    names `benchmark`, its `row`, and the first `shared` words.

    About a quarter of such finds are no copies of a question but phrases in common use (Liu et al., 2025):
    look at `shared` before more is left out than must be.

    Args:
        data: judgments with prompts.
        benchmarks: judgments or texts to be kept apart from, or several of these by name. Of a conversation
            the first user message counts.
        n: words in a row.
        where: look in the "prompt" (the whole conversation), or in "all" texts: responses too.

    Raises:
        ConfigError: n is below 1, `where` is unknown, or there is no text in the benchmarks.
        DataError: the data has no prompts.
    """
    if n < 1:
        raise ConfigError(f"n is a number of words, 1 or more; got {n}")
    if where not in ("prompt", "all"):
        raise unknown("value of where", where, ("prompt", "all"))
    if not data.has("prompt"):
        raise DataError("judgments without prompts cannot share one with a benchmark", field="prompt",
                        file=data.source)  # fmt: skip
    named = benchmarks if isinstance(benchmarks, Mapping) else {"benchmark": benchmarks}
    texts = {name: _questions(part) for name, part in named.items()}
    held = _Runs([text for part in texts.values() for text in part], n)
    if not held.documents:
        raise ConfigError("there is no text in the benchmarks to keep apart from")
    owner = [(name, row) for name, part in texts.items() for row in range(len(part))]
    found: dict[int, tuple[int, str]] = {}
    for column, rows in _columns(data, where):
        runs = _Runs(column, n)
        for place, other in runs.shared(held):
            row = int(rows[runs.document[place]])
            found.setdefault(row, (int(held.document[other]), runs.words(place)))
    left_out = sorted(found)
    dropped = pl.DataFrame(
        {
            "judgment": left_out,
            "reason": ["contaminated"] * len(left_out),
            "benchmark": [owner[found[row][0]][0] for row in left_out],
            "row": [owner[found[row][0]][1] for row in left_out],
            "shared": [found[row][1] for row in left_out],
        },
        schema={"judgment": pl.Int64, "reason": pl.String, "benchmark": pl.String, "row": pl.Int64,
                "shared": pl.String},
    )  # fmt: skip
    keep = np.ones(data.n_rows, dtype=bool)
    keep[left_out] = False
    counts = {"read": data.n_rows, "kept": int(keep.sum()), "contaminated": len(left_out),
              "texts": held.documents, "too_short": held.too_short}  # fmt: skip
    return Cleaned(data.mask(keep), dropped, counts)


class _Runs:
    """All runs of n words of some texts, by hash."""

    def __init__(self, texts: Sequence[str | None], n: int) -> None:
        split = pl.Series(texts, dtype=pl.String).fill_null("").str.to_lowercase().str.extract_all(r"\w+")
        lengths = split.list.len().to_numpy().astype(np.int64)
        self.n, self.documents, self.too_short = n, len(texts), int((lengths < n).sum())
        self.tokens = split.explode(empty_as_null=False) if len(texts) else pl.Series([], dtype=pl.String)
        hashes = self.tokens.hash(0).to_numpy().astype(np.uint64)
        document = np.repeat(np.arange(len(texts)), lengths)
        m = max(0, len(hashes) - n + 1)
        runs = np.zeros(m, dtype=np.uint64)
        for step in range(n):
            runs = runs * MULTIPLIER + hashes[step : step + m]
        # A run that would reach into the next text is none.
        self.start = np.flatnonzero(document[:m] == document[n - 1 :][:m])
        self.hash = runs[self.start]
        self.document = document[self.start]

    def words(self, place: int) -> str:
        """The words of the run at this place."""
        return " ".join(self.tokens.slice(int(self.start[place]), self.n).to_list())

    def shared(self, other: _Runs) -> list[tuple[int, int]]:
        """The first run of each text that `other` has as well, with its place there."""
        order = np.argsort(other.hash, kind="stable")
        place = np.searchsorted(other.hash[order], self.hash)
        place = order[np.minimum(place, max(0, len(order) - 1))] if len(order) else place
        hits = np.flatnonzero(other.hash[place] == self.hash) if len(order) else np.empty(0, np.int64)
        confirmed: dict[int, tuple[int, int]] = {}
        _, firsts = np.unique(self.document[hits], return_index=True)
        for hit in (*hits[firsts], *np.delete(hits, firsts)):
            text = int(self.document[hit])
            if text not in confirmed and self.words(hit) == other.words(int(place[hit])):
                confirmed[text] = (int(hit), int(place[hit]))
        return list(confirmed.values())


def _columns(data: PreferenceData, where: str) -> list[tuple[list[str | None], Integers]]:
    """The texts to look in, and the judgment each belongs to."""
    rows = np.arange(data.n_rows)
    columns = [(data.column("prompt").to_pylist(), rows)]
    if where == "all" and data.has("responses"):
        columns.append((data.flat("responses").to_pylist(), np.repeat(rows, np.diff(data.offsets()))))
    return columns


def _questions(part: PreferenceData | Sequence[str]) -> list[str]:
    """The first user message of each conversation, or the prompt."""
    if not isinstance(part, Judgments):
        return list(part)
    prompts = [text or "" for text in part.column("prompt").to_pylist()]
    if part.has("messages"):
        for row, turns in enumerate(part.column("messages").to_pylist()):
            first = next((turn["content"] for turn in turns or () if turn["role"] == "user"), None)
            prompts[row] = first or prompts[row]
    return prompts


def _empty(data: PreferenceData) -> npt.NDArray[np.bool_]:
    """Judgments with a response that is missing or only white space, or with a prompt of that kind where
    others have one."""
    empty = np.zeros(data.n_rows, dtype=bool)
    if data.has("responses"):
        blank = _blank(data.flat("responses"))
        empty |= blank.reshape(-1, 2).any(axis=1)
    if data.has("prompt"):
        empty |= _blank(data.column("prompt"))
    return empty


def _blank(column: pa.Array) -> npt.NDArray[np.bool_]:
    text = pc.utf8_trim_whitespace(pc.fill_null(column, ""))
    return np.asarray(pc.equal(pc.utf8_length(text), 0).to_numpy(zero_copy_only=False))


def _level(data: PreferenceData) -> PreferenceData:
    """The same judgments without who won, which leaves their pairs alone."""
    n = data.n_rows
    scores = pa.ListArray.from_arrays(pa.array(data.offsets(), pa.int32()), pa.array(np.zeros(2 * n)))
    table: Any = {name: data.table.column(name) for name in data.table.column_names}
    return PreferenceData(pa.table(table | {"scores": scores}), source=data.source, check=False)


def _plain(column: pa.Array) -> pa.Array:
    """A column of texts, or of lists as their bytes: what can be told apart by value."""
    if not pa.types.is_list(column.type):
        return column.cast(pa.large_string())
    values = column.to_pylist()
    return pa.array([None if row is None else np.asarray(row, np.float32).tobytes() for row in values])
