"""What `describe` and its problem finder both need of judgments, each computed once when first used."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.data import agreement
from palate.data.codes import combine, scramble
from palate.data.views import PairIndex, pair_index

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MOST_PAIRS = 5_000_000
"""Above this many pairs, wide rankings are described by their best and worst alternatives alone."""


class Facts:
    def __init__(self, data: PreferenceData) -> None:
        self.data = data
        self.offsets = data.offsets()
        self.lengths = np.diff(self.offsets)
        self.scores = data.scores
        self.prompt = data.prompt_codes()
        self.annotator, self.annotators = data.codes("annotator")
        self.rating = agreement.is_rating(data)

    @cached_property
    def row(self) -> Ints:
        """Row of each alternative."""
        return np.repeat(np.arange(self.data.n_rows), self.lengths)

    @cached_property
    def items(self) -> tuple[Ints, list[str]]:
        codes, names = self.data.flat_codes("items")
        return codes, names.to_pylist()

    @cached_property
    def responses(self) -> tuple[Ints, pl.Series]:
        codes, texts = self.data.flat_codes("responses")
        return codes, pl.Series(pl.from_arrow(texts), dtype=pl.String)

    @cached_property
    def alternative(self) -> Ints:
        """Code of what each alternative is; each its own where nothing tells them apart."""
        columns = []
        if self.data.has("items"):
            columns.append(self.items[0])
        if self.data.has("responses"):
            columns.append(self.responses[0])
        if self.data.has("media"):
            columns.append(self.data.flat_codes("media")[0])
        return combine(*columns)[0] if columns else np.arange(len(self.scores))

    @cached_property
    def judged(self) -> Ints:
        """How many scores of each row are not NaN."""
        return self.per_row((~np.isnan(self.scores)).astype(np.int64))

    def per_row(self, amounts: npt.NDArray[np.int64]) -> Ints:
        """Sums over the alternatives of each row, shape (rows,)."""
        totals = np.concatenate([[0], np.cumsum(amounts)])
        return np.asarray(np.diff(totals[self.offsets]))

    def of_protocol(self, name: str) -> Bools:
        codes, names = self.data.codes("protocol")
        return np.asarray(codes == (names.index(name) if name in names else -2))

    @cached_property
    def tied(self) -> Bools:
        """Rows that compare two or more alternatives and find them all equal."""
        comparing = self.comparing & ~self.of_protocol("choice")
        known = np.where(np.isnan(self.scores), -np.inf, self.scores)
        low = np.where(np.isnan(self.scores), np.inf, self.scores)
        tied = np.zeros(self.data.n_rows, dtype=bool)
        if len(known):
            starts = self.offsets[:-1]
            tied = np.maximum.reduceat(known, starts) == np.minimum.reduceat(low, starts)
        return np.asarray(tied & comparing)

    @cached_property
    def comparing(self) -> Bools:
        """Rows that set two or more alternatives against each other."""
        return np.asarray(~self.rating & (self.judged >= 2))

    @cached_property
    def n_pairs(self) -> int:
        return int((self.lengths * (self.lengths - 1) // 2).sum())

    @cached_property
    def neighbours(self) -> PairIndex:
        """Pairs next to each other in the order of their judgment, ties too: edges of the graph of items."""
        return pair_index(self.data, "adjacent", ties="keep")

    @cached_property
    def pairs(self) -> PairIndex:
        """All pairs, ties too, or best against worst of each judgment where all were too many."""
        if self.lengths.max(initial=0) <= 2:
            return self.neighbours
        return pair_index(self.data, "all" if self.n_pairs <= MOST_PAIRS else "best_worst", ties="keep")

    @cached_property
    def sides(self) -> tuple[Ints, Bools]:
        """Decided comparisons of two alternatives: their rows, and whether the first listed won."""
        rows = np.flatnonzero((self.lengths == 2) & ~self.rating & ~self.of_protocol("ranking"))
        difference = self.scores[self.offsets[rows]] - self.scores[self.offsets[rows] + 1]
        decided = (difference != 0) & ~np.isnan(difference)
        return rows[decided], difference[decided] > 0

    @cached_property
    def order_recorded(self) -> bool:
        """False where one side always wins: then winners were written first (last), not shown so."""
        first = self.sides[1]
        return len(first) < 10 or 0 < int(first.sum()) < len(first)

    @cached_property
    def traceable(self) -> Bools:
        """Rows of which it is known what was judged: votes between items on unrecorded prompts are not."""
        known = self.rating | (self.prompt >= 0) | self.of_protocol("ranking")
        return np.asarray(known | self.data.has("responses") | self.data.has("media"))

    @cached_property
    def set_key(self) -> Ints:
        """Word for prompt, aspect and alternatives (in any order) of each row."""
        return self._rows_alike(scramble(self.alternative))

    @cached_property
    def exact_key(self) -> Ints:
        """Word for prompt, aspect, alternatives with their scores (in any order), annotator and time."""
        scored = scramble(self.alternative) ^ (self.scores + 0.0).view(np.uint64)
        time = np.zeros(self.data.n_rows, dtype=np.int64)
        if self.data.has("time"):
            time = self.data.column("time").cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        return _mix(self._rows_alike(scramble(scored.view(np.int64))), self.annotator, time)

    def _rows_alike(self, words: npt.NDArray[np.uint64]) -> Ints:
        if not len(words):
            return np.empty(0, dtype=np.int64)
        total = np.add.reduceat(words, self.offsets[:-1]).view(np.int64)
        return _mix(total, self.prompt, self.data.codes("aspect")[0])

    @cached_property
    def exact_duplicates(self) -> Ints:
        """Rows that repeat an earlier row's prompt, alternatives, scores, annotator, aspect and time."""
        named = self.annotator >= 0
        texts = np.full(self.data.n_rows, self.data.has("responses") or self.data.has("media"))
        told_apart = (self.traceable & (named | texts)) | (named & self.data.has("time"))
        return _later(self.exact_key, told_apart)

    @cached_property
    def repeated(self) -> Ints:
        """Rows in which an annotator judges what the same annotator judged in an earlier row."""
        return _later(_mix(self.set_key, self.annotator), self.traceable & (self.annotator >= 0))

    @cached_property
    def votes(self) -> agreement.Votes | None:
        """Values on units (see `agreement`), of comparisons if there are any; None without units."""
        identified = any(self.data.has(name) for name in ("items", "responses", "media"))
        if self.n_pairs > MOST_PAIRS or not identified or not self.data.has("annotator"):
            return None
        comparing = ~self.rating
        if comparing.all() or not comparing.any():
            return agreement.votes(self.data, prompt=self.prompt, alternative=self.alternative)
        rows = np.flatnonzero(comparing)
        part = agreement.votes(self.data.take(rows))
        return agreement.Votes(part.unit, part.annotator, part.value, rows[part.judgment])


def _later(key: Ints, among: Bools) -> Ints:
    """Rows of `among` whose word an earlier one of them has."""
    rows = np.flatnonzero(among)
    return np.asarray(rows[~pl.Series(key[rows]).is_first_distinct().to_numpy()])


def _mix(word: Ints, *codes: npt.NDArray[np.integer]) -> Ints:
    """One word for a word and the codes beside it."""
    for column in codes:
        word = scramble(scramble(column).view(np.int64) ^ scramble(word).view(np.int64) * 3).view(np.int64)
    return word
