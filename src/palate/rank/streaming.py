"""Counting files that are larger than memory: batch by batch, keeping only the sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.formats import source
from palate.data.formats.api import detect, scan
from palate.data.formats.batch import ColumnMap
from palate.data.schema import SCHEMA_KEY
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.progress import progress
from palate.rank.battles import Battles, Ints, of_columns, some_battles
from palate.rank.columns import Column, is_text
from palate.rank.counts import Comparisons, count
from palate.rank.merging import merge

VOTE = ("model_a", "model_b", "winner")
OTHERWISE = frozenset(("strength", "tie", "protocol", "weight"))
"""Columns with which a table of votes says more than those three do; it is then read as judgments."""

MERGE_ENTRIES = 1 << 17
"""Items and pairs that batches may bring before they are merged, or as many as there are already."""


def count_file(
    path: str | Path,
    format: str | None = None,
    *,
    both_bad: Literal["tie", "drop"] = "tie",
    weights: Literal["importance", "count"] = "importance",
    cluster: Literal["annotator"] | None = None,
    batch_rows: int = 1 << 17,
    columns: ColumnMap | None = None,
    labels: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = (),
    pattern: str = "*",
    **options: Any,
) -> Comparisons:
    """The aggregated comparisons of a file or folder that need not fit in memory.

    The same as ``count(palate.load(path))``, for any ranking method that works from counts. Memory is that of
    a batch and of the distinct pairs, however many votes there are; judgments of more than two items, and
    votes clustered by annotator, keep one entry per comparison that differs within a cluster. Of votes in
    Parquet or Arrow files only the columns that say who won are read.

    Args:
        path, format, columns, labels, constants, ignore, pattern, **options: as for `palate.load`.
        both_bad, weights: as for `count`.
        cluster: "annotator" if votes of one annotator are not independent.
        batch_rows: rows that are read at a time.

    Raises:
        DataError: the input cannot be read as judgments, or compares nothing; rows count through the file.
        ConfigError: an option is unknown or has another value.
    """
    if both_bad not in ("tie", "drop"):
        raise ConfigError(f"both_bad is {both_bad!r}; use 'tie' or 'drop'")
    if cluster not in (None, "annotator"):
        raise ConfigError(f"cluster is {cluster!r}; use 'annotator', or leave it out")
    if batch_rows < 1:
        raise ConfigError(f"batch_rows must be at least 1, got {batch_rows}")
    running = _Running(weights, cluster)
    chosen = None
    if cluster is None and not (constants or options):
        chosen = _vote_columns(path, format, columns or {})
    with progress("counting comparisons", _rows(path)) as bar:
        if chosen is not None:
            for batch in _batches(Path(path), chosen, batch_rows):
                with running.rows(batch.num_rows):
                    votes = [Column(batch.column(name), name, path) for name in chosen]
                    running.add(of_columns(*votes, labels=labels, both_bad=both_bad))
                bar.advance(batch.num_rows)
        else:
            for data in scan(
                path, format, batch_rows, columns=columns, labels=labels, constants=constants, ignore=ignore,
                pattern=pattern, **options,
            ):  # fmt: skip
                with running.rows(data.n_rows):
                    running.add(some_battles(data, both_bad), data)
                bar.advance(data.n_rows)
    return running.total(path)


class _Running:
    """The sum of the batches so far; it is brought up to date when what is waiting is as large as itself."""

    def __init__(self, weights: Literal["importance", "count"], cluster: str | None) -> None:
        self.weights, self.cluster = weights, cluster
        self.before = 0
        self.parts: list[Comparisons] = []
        self.codes: list[Ints] = []
        self.known: dict[str, int] = {}
        self.n_clusters = self.waiting = self.merged = 0

    @contextmanager
    def rows(self, number: int) -> Iterator[None]:
        """While a batch of so many rows is counted: errors name the row of the file."""
        try:
            yield
        except DataError as error:
            if error.row is not None:
                error.row += self.before
            raise
        self.before += number

    def add(self, found: Battles, data: PreferenceData | None = None) -> None:
        cluster = None
        if self.cluster is not None and data is not None:
            cluster = self._annotators(data)
        part = count(found, weights=self.weights, cluster=cluster)
        self.parts.append(part)
        if cluster is not None:
            self.codes.append(np.unique(found.of(cluster)))
        self.waiting += _size(part)
        if self.waiting > max(MERGE_ENTRIES, self.merged):
            self._merge()

    def total(self, path: str | Path) -> Comparisons:
        """The sum of all batches; a `DataError` if they compare nothing."""
        self._merge()
        total = self.parts[0]
        if len(total.items) < 2:
            raise DataError(
                f"only one item ('{total.items[0]}')", field="items", file=path,
                remedy="a ranking needs two or more",
            )  # fmt: skip
        if total.n_comparisons == 0:
            raise DataError(
                "no judgment compares two items", file=path,
                remedy="keep ties (both_bad='tie'), bring ratings of a prompt together, or add comparisons",
            )  # fmt: skip
        return total

    def _merge(self) -> None:
        total = merge(self.parts, self.codes if self.cluster is not None else None)
        self.parts = [total]
        if self.cluster is not None:
            self.codes = [np.unique(np.concatenate(self.codes))]
        self.waiting, self.merged = 0, _size(total)

    def _annotators(self, data: PreferenceData) -> Ints:
        """A code for each judgment's annotator, the same in all batches; a new one where there is none."""
        codes, names = data.codes("annotator")
        for name in names:
            if name not in self.known:
                self.known[name] = self.n_clusters
                self.n_clusters += 1
        of_names = np.array([self.known[name] for name in names], dtype=np.int64)
        alone = codes < 0
        found = of_names[codes] if len(names) else np.zeros(len(codes), dtype=np.int64)
        found[alone] = self.n_clusters + np.arange(int(alone.sum()))
        self.n_clusters += int(alone.sum())
        return found


def _size(part: Comparisons) -> int:
    return len(part.items) + len(part.first) + (0 if part.clustered is None else len(part.clustered.winner))


def _vote_columns(path: str | Path, format: str | None, columns: ColumnMap) -> tuple[str, str, str] | None:
    """The columns of a table of votes in a Parquet or Arrow file, if they are all that it says of a vote."""
    if str(path) == "-" or not Path(path).is_file() or format not in (None, "arena"):
        return None
    with source.located(path) as stored:
        kinds = source.arrow_schema(stored)
        if kinds is None or stored.compression or (kinds.metadata and SCHEMA_KEY in kinds.metadata):
            return None
    chosen = [columns.get(field, field) for field in VOTE]
    if not (set(columns) <= set(VOTE) and set(chosen) <= set(kinds.names)) or OTHERWISE & set(kinds.names):
        return None
    if format is None and detect(path, columns=columns) != "arena":
        return None
    names = [str(name) for name in chosen]
    return (names[0], names[1], names[2]) if all(is_text(kinds.field(name).type) for name in names) else None


def _batches(path: Path, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    with source.located(path) as stored:
        if stored.kind == "arrow":
            for batch in source.arrow_batches(stored, batch_rows):
                chosen = batch.select(list(columns))
                for start in range(0, chosen.num_rows, batch_rows):
                    yield chosen.slice(start, batch_rows)
            return
        with source.one_error(stored.name), pq.ParquetFile(stored.path, memory_map=True) as file:
            yield from file.iter_batches(batch_size=batch_rows, columns=list(columns))


def _rows(path: str | Path) -> int | None:
    """How many rows there are, where the file says it."""
    if str(path) == "-" or not Path(path).is_file():
        return None
    with source.located(path) as stored:
        if stored.kind != "parquet":
            return None
        with source.one_error(stored.name), pq.ParquetFile(stored.path) as file:
            return int(file.metadata.num_rows)
