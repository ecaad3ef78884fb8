"""Subsets of judgments: filters, random samples, and splits through which nothing leaks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.data import schema
from palate.data.codes import combine
from palate.errors import ConfigError, PalateWarning, unknown
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def filter_rows(data: PreferenceData, **conditions: Any) -> PreferenceData:
    """The judgments that meet every condition, in their order.

    Args:
        data: judgments.
        **conditions: by column name: a value; a list, tuple, set or array of values, any of which will do;
            None for rows without a value; or a function that takes the column as a polars Series and
            returns booleans of shape (rows,). In a column with one entry per alternative a value is met by
            any of the entries: ``items="gpt-4"`` keeps the judgments that gpt-4 takes part in.

    Raises:
        ConfigError: an unknown column, a value for a column of structures (give a function), or a function
            whose result is not one boolean per row.
    """
    keep = np.ones(data.n_rows, dtype=bool)
    for name, condition in conditions.items():
        if name not in schema.COLUMNS:
            raise unknown("column", name, schema.COLUMNS)
        if callable(condition):
            keep &= _apply(data, name, condition)
        elif condition is None:
            keep &= data.column(name).is_null().to_numpy(zero_copy_only=False)
        else:
            keep &= _matches(data, name, condition)
    return data.mask(keep)


def _apply(data: PreferenceData, name: str, condition: Callable[[pl.Series], Any]) -> Bools:
    column = data.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    result = condition(pl.Series(name, pl.from_arrow(column)))
    if isinstance(result, pl.Series):
        result = result.fill_null(False).to_numpy()
    result = np.asarray(result)
    if result.shape != (data.n_rows,) or result.dtype != np.bool_:
        raise ConfigError(
            f"the condition on {name!r} must return {data.n_rows} booleans, one per judgment; "
            f"it returned {result.dtype} of shape {result.shape}"
        )
    return np.asarray(result)


def _matches(data: PreferenceData, name: str, condition: Any) -> Bools:
    many = isinstance(condition, list | tuple | set | frozenset | np.ndarray | pl.Series | pa.Array)
    values = list(condition) if many else [condition]
    kind = schema.COLUMNS[name]
    listed = name == "scores" or name in schema.ALTERNATIVES
    if pa.types.is_nested(kind.value_type if listed else kind):
        raise ConfigError(f"the column {name!r} holds structures; filter it with a function")
    column = data.flat(name) if listed else data.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    series = pl.Series(name, pl.from_arrow(column))
    try:
        wanted = pl.Series(values, dtype=series.dtype, strict=True)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{condition!r} cannot be compared with the column {name!r}: {error}") from None
    hits = series.is_in(wanted.implode()).fill_null(False).to_numpy()
    if not listed:
        return np.asarray(hits)
    counts = np.concatenate([[0], np.cumsum(hits)])
    return np.asarray(np.diff(counts[data.offsets()]) > 0)


def sample(data: PreferenceData, n: int | float, *, seed: int = 0) -> PreferenceData:
    """`n` judgments drawn at random without replacement (or a share of them, for n below 1), in their order.

    Raises:
        ConfigError: n is negative or more than there are.
    """
    size = round(n * data.n_rows) if isinstance(n, float) and n < 1 else int(n)
    if size < 0 or size > data.n_rows:
        raise ConfigError(f"cannot sample {n} of {data.n_rows} judgments; give 0 to {data.n_rows}")
    drawn = generator(seed, "sample").choice(data.n_rows, size=size, replace=False)
    return data.take(np.sort(drawn))


def split(
    data: PreferenceData,
    test: float = 0.2,
    *,
    by: Literal["prompt", "annotator", "item", "time", "row"] = "prompt",
    stratify: str | None = None,
    seed: int = 0,
) -> tuple[PreferenceData, PreferenceData]:
    """Train and test parts between which nothing leaks; both keep the order of the judgments.

    Args:
        data: judgments.
        test: share of the judgments in the test part, above 0 and below 1, met as nearly as whole prompts
            (annotators, moments) allow. With by="item" it is the share of the items.
        by: what the parts must not share. "prompt": `prompt_id`, or the prompt's text where there is none;
            "annotator"; "item": a judgment of items of both parts belongs to neither, is left out, and a
            `PalateWarning` says how many were; "time": all of train comes before all of test; "row": rows
            only, so that copies of a judgment may be on both sides. Judgments without a prompt (annotator)
            stay together.
        stratify: a column, such as "aspect", whose values keep their shares in both parts, as nearly as whole
            prompts (annotators) allow; a prompt with several values counts for the one it has first. Not for
            "item" and "time".
        seed: for the random choice.

    Raises:
        ConfigError: a share outside 0..1, a column that the split needs and the data lacks, or a part that
            would be empty.
    """
    if not 0 < test < 1:
        raise ConfigError(f"the test share must lie between 0 and 1; got {test}")
    rng = generator(seed, "split")
    if by == "item":
        _no_strata(by, stratify)
        return _split_items(data, test, rng)
    if by == "time":
        _no_strata(by, stratify)
        is_test = _later_part(data, test)
    else:
        group, n_groups = _groups(data, by)
        stratum = np.zeros(n_groups, dtype=np.int64)
        if stratify is not None:
            stratum[group[::-1]] = _strata(data, stratify)[::-1]
        chosen = _choose(np.bincount(group, minlength=n_groups), stratum, test, rng)
        is_test = chosen[group]
    return _parts(data, ~is_test, is_test, by)


def kfold(
    data: PreferenceData,
    k: int = 5,
    *,
    by: Literal["prompt", "annotator", "row"] = "prompt",
    seed: int = 0,
) -> Iterator[tuple[PreferenceData, PreferenceData]]:
    """k train and test parts; every judgment is in one test part, and no prompt (annotator) is in two.

    Folds are balanced by numbers of judgments. See `split` for `by`.

    Raises:
        ConfigError: k below 2 or above the number of prompts (annotators, rows).
    """
    if by not in ("prompt", "annotator", "row"):
        raise unknown("way to make folds", by, ("prompt", "annotator", "row"))
    group, n_groups = _groups(data, by)
    if not 2 <= k <= n_groups:
        raise ConfigError(f"cannot make {k} folds by {by} of {n_groups}; give 2 to {n_groups}")
    sizes = np.bincount(group, minlength=n_groups)
    # Dealing out the groups by size, there and back like cards, keeps the folds near equal.
    order = np.lexsort((generator(seed, "kfold").random(n_groups), -sizes))
    lap, place = np.divmod(np.arange(n_groups), k)
    fold = np.empty(n_groups, dtype=np.int64)
    fold[order] = np.where(lap % 2 == 0, place, k - 1 - place)
    return ((data.mask(fold[group] != i), data.mask(fold[group] == i)) for i in range(k))


def _groups(data: PreferenceData, by: str) -> tuple[Ints, int]:
    """Code of what must stay together for each row, and how many there are."""
    if by == "row":
        return np.arange(data.n_rows), data.n_rows
    if by == "prompt":
        if not data.has("prompt") and not data.has("prompt_id"):
            raise _lacks(data, by, "a column 'prompt_id' or 'prompt'")
        return combine(data.prompt_codes())
    if by == "annotator":
        if not data.has("annotator"):
            raise _lacks(data, by, "a column 'annotator'")
        return combine(data.codes("annotator")[0])
    raise unknown("way to split", by, ("prompt", "annotator", "item", "time", "row"))


def _lacks(data: PreferenceData, by: str, what: str) -> ConfigError:
    place = f"{data.source}: " if data.source is not None else ""
    return ConfigError(f"{place}a split by {by} needs {what}; the data has none, give by='row' or another")


def _no_strata(by: str, stratify: str | None) -> None:
    if stratify is not None:
        raise ConfigError(f"a split by {by} cannot be stratified; leave stratify out")


def _strata(data: PreferenceData, name: str) -> Ints:
    if name not in schema.COLUMNS:
        raise unknown("column", name, schema.COLUMNS)
    if pa.types.is_nested(schema.COLUMNS[name]) or not data.has(name):
        raise ConfigError(f"cannot stratify by {name!r}; give a column with one value per judgment")
    column = data.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return np.asarray(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def _choose(sizes: Ints, stratum: Ints, share: float, rng: np.random.Generator) -> Bools:
    """Which groups are test: within each stratum a random few whose rows come nearest to the share."""
    order = np.lexsort((rng.random(len(sizes)), stratum))
    chosen = np.zeros(len(sizes), dtype=bool)
    cuts = np.flatnonzero(np.diff(stratum[order])) + 1
    for groups in np.split(order, cuts):
        rows = np.concatenate([[0], np.cumsum(sizes[groups])])
        count = int(np.abs(rows - share * rows[-1]).argmin())
        if len(cuts) == 0:
            count = min(max(count, 1), len(groups) - 1)
        chosen[groups[:count]] = True
    return chosen


def _later_part(data: PreferenceData, share: float) -> Bools:
    """The last rows by time, as near to `share` of all as equal times, which stay together, allow."""
    if not data.has("time"):
        raise _lacks(data, "time", "a column 'time'")
    column = data.column("time")
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]) + 1
        raise ConfigError(
            f"a split by time needs the time of every judgment; row {row} has none "
            f"({column.null_count} in all); filter those out first"
        )
    moments = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    starts, counts = np.unique(moments, return_counts=True)
    after = len(moments) - np.concatenate([[0], np.cumsum(counts)[:-1]])
    if len(starts) < 2:
        return np.zeros(len(moments), dtype=bool)
    best = int(np.abs(after[1:] - share * len(moments)).argmin()) + 1
    return np.asarray(moments >= starts[best])


def _split_items(
    data: PreferenceData, share: float, rng: np.random.Generator
) -> tuple[PreferenceData, PreferenceData]:
    if not data.has("items"):
        raise _lacks(data, "item", "a column 'items'")
    codes, names = data.flat_codes("items")
    n_test = min(max(round(share * len(names)), 1), len(names) - 1)
    # The last entry stands for a null id, whose code is -1.
    is_test_item = np.zeros(len(names) + 1, dtype=bool)
    is_test_item[rng.permutation(len(names))[:n_test]] = True
    counts = np.concatenate([[0], np.cumsum(is_test_item[codes])])
    in_test = np.diff(counts[data.offsets()])
    lengths = np.diff(data.offsets())
    is_test, is_train = in_test == lengths, in_test == 0
    parts = _parts(data, is_train, is_test, "item")
    left_out = int(data.n_rows - is_test.sum() - is_train.sum())
    if left_out:
        warnings.warn(
            f"{left_out} of {data.n_rows} judgments are of items of both parts and were left out of both",
            PalateWarning,
            stacklevel=3,
        )
    return parts


def _parts(
    data: PreferenceData, is_train: Bools, is_test: Bools, by: str
) -> tuple[PreferenceData, PreferenceData]:
    for name, rows in (("train", is_train), ("test", is_test)):
        if not rows.any():
            raise ConfigError(
                f"a split by {by} of {data.n_rows} judgments would leave the {name} part empty, as a {by} is "
                f"not divided; give another share, another 'by', or more data"
            )
    return data.mask(is_train), data.mask(is_test)
