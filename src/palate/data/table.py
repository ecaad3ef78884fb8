"""`PreferenceData`: an Arrow table of judgments, checked once at the border."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import schema
from palate.data.checks import NOT_CONVERTIBLE, first_bad_row, normalise, unknown_column
from palate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

    from palate.data.agreement import AgreementResult


class PreferenceData:
    """Judgments in columns (see `palate.data.schema`).

    Build one with `palate.load`, `PreferenceData.from_columns` or `PreferenceData.from_rows`; the constructor
    takes an Arrow table whose columns are (a subset of) the schema's and checks it. The table is never
    changed in place.

    Raises:
        DataError: a column is unknown or of the wrong type, list lengths differ within a row, a row has no
            score, a fixed-value column holds another value, a weight is negative or not finite, or an id
            occurs twice.
    """

    def __init__(self, table: pa.Table, *, source: str | Path | None = None, check: bool = True) -> None:
        self.table = normalise(table, source) if check else table
        self.source = source
        self._numbers: npt.NDArray[np.int64] | None = None

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], *, source: str | Path | None = None) -> Self:
        """Judgments from a mapping of column name to values (lists, NumPy or Arrow arrays).

        >>> PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1, 0]]}).n_rows
        1
        """
        arrays: dict[str, Any] = {}
        for name, values in columns.items():
            if name not in schema.COLUMNS:
                raise unknown_column(name, source)
            if isinstance(values, pa.Array | pa.ChunkedArray):
                arrays[name] = values
                continue
            kind = schema.COLUMNS[name]
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            if isinstance(values, np.ndarray) and values.ndim > 1:
                values = list(values)
            try:
                arrays[name] = pa.array(values, type=plain)
            except NOT_CONVERTIBLE as error:
                row = first_bad_row(values, plain)
                raise DataError(f"not of type {plain}: {error}", row=row, field=name, file=source) from None
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            longest = max(lengths.values())
            name = next(name for name, length in lengths.items() if length < longest)
            raise DataError(
                f"has {lengths[name]} rows where other columns have {longest}", field=name, file=source,
                remedy="give every column one entry per judgment",
            )  # fmt: skip
        return cls(pa.table(arrays), source=source)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], *, source: str | Path | None = None) -> Self:
        """Judgments from dicts, one a judgment (for small data and tests; columns are the fast way)."""
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls.from_columns({name: [row.get(name) for row in rows] for name in names}, source=source)

    @property
    def n_rows(self) -> int:
        return int(self.table.num_rows)

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        return f"PreferenceData({self.n_rows} judgments; {', '.join(self.table.column_names)})"

    def __eq__(self, other: object) -> bool:
        """Same judgments in the same order (NaN scores are equal to each other)."""
        return isinstance(other, PreferenceData) and self.fingerprint() == other.fingerprint()

    __hash__ = None  # type: ignore[assignment]

    def has(self, *columns: str) -> bool:
        """Whether all `columns` are present (a column that is absent is null in every row)."""
        return all(name in self.table.column_names for name in columns)

    def column(self, name: str) -> pa.Array:
        """One column as a single Arrow array; an absent column comes as nulls."""
        if name not in schema.COLUMNS:
            raise unknown_column(name, self.source)
        if not self.has(name):
            return pa.nulls(self.n_rows, schema.COLUMNS[name])
        column = self.table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def values(self, name: str) -> npt.NDArray[Any]:
        """One plain (not list) column as a NumPy array; categories come as strings."""
        column = self.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def codes(self, name: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A string column as integer codes (rows,) with -1 for null, and the names they stand for."""
        column = self.column(name)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        return codes, column.dictionary.to_pylist()

    def offsets(self) -> npt.NDArray[np.int64]:
        """Row r's alternatives are entries offsets[r]:offsets[r+1] of `flat` columns; shape (rows + 1,)."""
        lengths = pc.list_value_length(self.column("scores")).to_numpy(zero_copy_only=False)
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def flat(self, name: str) -> pa.Array:
        """A column with one entry per alternative, flattened to shape (sum of k,); see `offsets`."""
        if name != "scores" and name not in schema.ALTERNATIVES:
            raise ValueError(f"{name!r} has no entry per alternative")
        if not self.has(name):
            return pa.nulls(int(self.offsets()[-1]), schema.COLUMNS[name].value_type)
        column = self.column(name)
        if column.null_count == 0:
            return column.flatten()
        # A row without this column keeps its place: one null for each of its alternatives.
        lengths = np.diff(self.offsets())
        valid = np.repeat(column.is_valid().to_numpy(zero_copy_only=False), lengths)
        take = np.where(valid, np.cumsum(valid) - 1, 0)
        return pc.take(column.flatten(), pa.array(take, mask=~valid))

    def flat_codes(self, name: str) -> tuple[npt.NDArray[np.int64], pa.Array]:
        """A `flat` text column as integer codes, -1 for null, and the distinct texts they stand for."""
        encoded = self.flat(name).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return codes.astype(np.int64), encoded.dictionary

    def prompt_codes(self) -> npt.NDArray[np.int64]:
        """Which prompt each judgment is about, shape (rows,): equal codes for the same `prompt_id`, or,
        where a row has none, for the same prompt text; -1 where it has neither.
        """
        codes = np.full(self.n_rows, -1, dtype=np.int64)
        for name in ("prompt", "prompt_id"):
            if self.has(name):
                encoded = self.column(name).dictionary_encode()
                found = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
                # Texts of rows without an id are a range of their own after the ids.
                codes = np.where(found >= 0, found, np.where(codes >= 0, codes + len(encoded.dictionary), -1))
        return codes

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """All scores in row order, flat; see `offsets`."""
        return np.asarray(self.flat("scores").to_numpy(zero_copy_only=False), dtype=np.float64)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Weight of each judgment, 1 where none is given; shape (rows,)."""
        if not self.has("weight"):
            return np.ones(self.n_rows)
        return np.asarray(
            pc.fill_null(self.column("weight"), 1.0).to_numpy(zero_copy_only=False), dtype=np.float64
        )

    def take(self, rows: npt.ArrayLike) -> PreferenceData:
        """The judgments at these row numbers, in this order (rows may not repeat: ids are unique)."""
        at = np.asarray(rows, dtype=np.int64)
        return self._part(self.table.take(pa.array(at)), at)

    def mask(self, keep: npt.ArrayLike) -> PreferenceData:
        """The judgments where `keep`, a boolean array of shape (rows,), is true."""
        kept = np.asarray(keep, dtype=bool)
        return self._part(self.table.filter(pa.array(kept)), np.flatnonzero(kept))

    def _part(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> PreferenceData:
        part = PreferenceData(table, source=self.source, check=False)
        part._numbers = rows if self._numbers is None else self._numbers[rows]
        return part

    @property
    def row_numbers(self) -> npt.NDArray[np.int64]:
        """The number of each judgment, from 1, in the data that this is a part of; shape (rows,).

        Errors name rows by it, so that what is found wrong after a split can be found in the file.
        """
        return (np.arange(self.n_rows) if self._numbers is None else self._numbers) + 1

    def with_columns(self, **columns: Any) -> PreferenceData:
        """A copy in which these columns are added or replaced."""
        merged = {name: self.table.column(name) for name in self.table.column_names} | columns
        changed = PreferenceData.from_columns(merged, source=self.source)
        changed._numbers = self._numbers
        return changed

    @staticmethod
    def concat(parts: Sequence[PreferenceData]) -> PreferenceData:
        """All judgments of `parts`, one after the other; ids must stay unique."""
        if not parts:
            raise ConfigError("concat needs at least one part")
        table = pa.concat_tables([part.table for part in parts], promote_options="default")
        sources = {part.source for part in parts}
        return PreferenceData(table, source=sources.pop() if len(sources) == 1 else None)

    def pairs(
        self,
        strategy: Literal["all", "best_worst", "best_random", "adjacent"] = "all",
        *,
        ties: Literal["drop", "keep"] = "drop",
        both_bad: Literal["tie", "drop"] = "tie",
        min_margin: float = 0.0,
        seed: int = 0,
    ) -> pl.DataFrame:
        """Chosen against rejected; see `palate.data.views.pairs`."""
        from palate.data import views

        return views.pairs(self, strategy, ties=ties, both_bad=both_bad, min_margin=min_margin, seed=seed)

    def rankings(self) -> pl.DataFrame:
        """One row a judgment, alternatives best first; see `palate.data.views.rankings`."""
        from palate.data import views

        return views.rankings(self)

    def ratings(self) -> pl.DataFrame:
        """One row a score; see `palate.data.views.ratings`."""
        from palate.data import views

        return views.ratings(self)

    def interactions(self) -> pl.DataFrame:
        """One row per user, item and value; see `palate.data.views.interactions`."""
        from palate.data import views

        return views.interactions(self)

    def group_by_prompt(self, *, by: Sequence[str] = ("aspect",)) -> PreferenceData:
        """All responses of a prompt in one judgment; see `palate.data.grouping.group_by_prompt`."""
        from palate.data import grouping

        return grouping.group_by_prompt(self, by=by)

    def as_pairs(
        self, strategy: Literal["all", "best_worst", "best_random", "adjacent"] = "best_worst", **options: Any
    ) -> PreferenceData:
        """Each pair as a judgment of two alternatives; see `palate.data.pairing.as_pairs`."""
        from palate.data import pairing

        return pairing.as_pairs(self, strategy, **options)

    def filter(self, **conditions: Any) -> PreferenceData:
        """Judgments whose columns equal the given values; see `palate.data.subsets.filter_rows`."""
        from palate.data import subsets

        return subsets.filter_rows(self, **conditions)

    def sample(self, n: int | float, *, seed: int = 0) -> PreferenceData:
        """A random subset of n judgments (or a share below 1), in the original order."""
        from palate.data import subsets

        return subsets.sample(self, n, seed=seed)

    def split(
        self,
        test: float = 0.2,
        *,
        by: Literal["prompt", "annotator", "item", "time", "row"] = "prompt",
        stratify: str | None = None,
        seed: int = 0,
    ) -> tuple[PreferenceData, PreferenceData]:
        """Train and test parts that share no prompt (annotator, item); see `palate.data.subsets.split`."""
        from palate.data import subsets

        return subsets.split(self, test, by=by, stratify=stratify, seed=seed)

    def kfold(
        self, k: int = 5, *, by: Literal["prompt", "annotator", "row"] = "prompt", seed: int = 0
    ) -> Iterator[tuple[PreferenceData, PreferenceData]]:
        """k train and test parts for cross-validation; see `palate.data.subsets.kfold`."""
        from palate.data import subsets

        return subsets.kfold(self, k, by=by, seed=seed)

    def fingerprint(self) -> str:
        """A hash of the content: equal for equal judgments however they are chunked or stored."""
        from palate.data.fingerprint import fingerprint

        return fingerprint(self.table)

    def describe(self) -> dict[str, Any]:
        """Counts, ties, agreement, biases and problems; see `palate.data.describe.describe`."""
        from palate.data.describe import describe

        return describe(self)

    def agreement(self, measure: str = "alpha", *, level: str = "nominal", **options: Any) -> AgreementResult:
        """How far annotators agree; see `palate.data.agreement.agreement`."""
        from palate.data.agreement import agreement

        return agreement(self, measure, level=level, **options)

    def save(self, path: str | Path, format: str | None = None, **options: Any) -> None:
        """Write to a file; the format follows from the name or `format`; see `palate.data.write`."""
        from palate.data import write

        write(self, path, format=format, **options)
