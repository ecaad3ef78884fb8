"""From what is known about battles and alternatives to the columns of a regression: differences, scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.battles import Battles, encode

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TRANSFORMS = ("ratio", "diff", "log")

MOST_CATEGORIES = 200
"""A text feature with more distinct values than this is refused: each takes a column of the regression."""

LARGEST = 1e100
"""Features are no larger than this, so that sums of their squares stay finite."""

MISSING = "a value is missing or not finite", "fill it in, or drop the row"
HUGE = f"a value or difference is beyond {LARGEST:g}, whose square is no number", "scale the feature"
NEGATIVE = "a value is negative, so a ratio of its difference means nothing", "use transform='diff'"
NOT_POSITIVE = "a value is not positive, so it has no logarithm", "use transform='diff' or 'ratio'"

BLOCK = 1 << 14
"""Battles that are worked on at a time, so that what is computed of them stays in the processor's cache."""

POSITION = "position"
"""Name of the column that is 1 in every battle, the advantage of being shown first."""


@dataclass(frozen=True)
class Design:
    """F columns of a regression on N battles.

    Attributes:
        names: of the F columns; a category's column is "feature[category]".
        values: shape (F, N), as seen by the first item of each battle.
        mean, scale: what was subtracted from each column and then divided by, shape (F,).
        constant: names of columns that are left out of `values` because they say the same of all battles.
        reference: the category of each text feature that has no column, the others being compared with it.
    """

    names: list[str]
    values: Floats
    mean: Floats
    scale: Floats
    constant: list[str]
    reference: dict[str, str]


class Designer:
    """Turns features into a `Design`.

    Args:
        rows: the N battles.
        data: their judgments, where there are any.
        transform: how the numbers u_a, u_b of a battle's two alternatives become one: "ratio" is
            (u_a - u_b) / (u_a + u_b + 1), "diff" is u_a - u_b, "log" is log(u_a / u_b); or one per feature.
        standardize: whether numeric columns are divided by their standard deviation over the battles; or the
            names of those that are.
        center: whether the mean over the battles is subtracted before. Without, the divisor is the root mean
            square, so that turning any battle around turns its features around exactly.
    """

    def __init__(
        self,
        rows: Battles,
        data: PreferenceData | None,
        transform: str | Mapping[str, str],
        standardize: bool | Sequence[str],
        center: bool,
    ) -> None:
        self.rows, self.data, self.transform = rows, data, transform
        self.standardize, self.center = standardize, center
        self.pairs_only = data is None or bool((np.diff(data.offsets()) == 2).all())
        self._columns: list[tuple[str, Floats, float, float]] = []
        self._constant: list[str] = []
        self._reference: dict[str, str] = {}
        self._intercept = False

    def design(self, features: Mapping[str, Any] | None, position: bool) -> Design:
        """The columns of all `features` (None: the data's own vectors), after that of the position.

        Raises:
            DataError: a feature has a missing, infinite or unusable value; names the feature and the row.
            ConfigError: there are no features, one has another shape, or an option does not fit.
        """
        given = self._own() if features is None and not (position and not self._has_own()) else features or {}
        self._check(given, position)
        if position:
            self._refuse_lists(POSITION)
            self._intercept = True
            self._columns.append((POSITION, np.ones(len(self.rows)), 0.0, 1.0))
        for name, values in given.items():
            self._add(name, _as_array(values, name))
        if not self._columns and not self._constant:
            raise ConfigError("no features; give features={name: values}, or set position=True")
        values = np.empty((len(self._columns), len(self.rows)))
        for row, (_, column, mean, scale) in zip(values, self._columns, strict=True):
            np.subtract(column, mean, out=row)
            if scale != 1.0:
                row /= scale
        return Design(
            [name for name, _, _, _ in self._columns],
            values,
            np.array([mean for _, _, mean, _ in self._columns]),
            np.array([scale for _, _, _, scale in self._columns]),
            self._constant,
            self._reference,
        )

    # -- what is given --

    def _has_own(self) -> bool:
        return self.data is not None and self.data.has("features")

    def _own(self) -> dict[str, Floats]:
        """The data's own feature vectors, one column each."""
        data = self.data
        if data is None or not self._has_own():
            raise ConfigError("the data have no 'features'; give features={name: values}, or position=True")
        vectors = data.flat("features")
        widths = pc.list_value_length(vectors)
        usual = pc.max(widths).as_py()
        odd = np.flatnonzero(pc.fill_null(widths, -1).to_numpy(zero_copy_only=False) != usual)
        if len(odd):
            at = int(np.searchsorted(data.offsets(), odd[0], side="right"))
            found = widths[int(odd[0])].as_py()
            what = "a missing feature vector" if found is None else f"{found} features, others have {usual}"
            raise DataError(
                what, row=at, field="features", file=data.source,
                remedy="give every alternative the same features",
            )  # fmt: skip
        numbers = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, usual or 0)
        return {f"feature_{k}": numbers[:, k] for k in range(numbers.shape[1])}

    def _check(self, given: Mapping[str, Any], position: bool) -> None:
        if not isinstance(given, Mapping):
            raise ConfigError(f"features is a {type(given).__name__}; give a mapping of name to values")
        for name in given:
            if not isinstance(name, str):
                raise ConfigError(f"a feature is named {name!r}; give its name as text")
        if position and POSITION in given:
            raise ConfigError(f"a feature is named {POSITION!r} and position is set; rename one")
        chosen = self.transform.items() if isinstance(self.transform, Mapping) else [("", self.transform)]
        for name, kind in chosen:
            if kind not in TRANSFORMS:
                raise ConfigError(f"transform is {kind!r}; use {' or '.join(map(repr, TRANSFORMS))}")
            if name and name not in given:
                raise ConfigError(f"transform names {name!r}, which is no feature")
        if isinstance(self.standardize, str) or not isinstance(self.standardize, bool | Sequence):
            raise ConfigError(f"standardize is {self.standardize!r}; use True, False or names of features")
        for option, value in {"center": self.center, "position": position}.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{option} is {value!r}; use True or False")
        for name in [] if isinstance(self.standardize, bool) else self.standardize:
            if name not in given:
                raise ConfigError(f"standardize names {name!r}, which is no feature")

    def _add(self, name: str, values: npt.NDArray[Any]) -> None:
        """Find out from its shape what a feature is about, and add its columns."""
        rows, shape = self.rows, values.shape
        if shape == (rows.n_rows,):
            self._refuse_lists(name)
            of_battle = rows.of(values)
            if values.dtype == object:
                self._add_categories_of_battles(name, of_battle)
            else:
                self._add_numbers(name, of_battle.astype(np.float64))
            return
        alternatives = 2 * rows.n_rows if self.data is None else int(self.data.offsets()[-1])
        if shape == (rows.n_rows, 2) and self.pairs_only:
            both = rows.of(values)
            first, second = both[:, 0], both[:, 1]
        elif shape == (alternatives,) or (shape[:1] == (rows.n_rows,) and values.size == alternatives):
            one, other = self._alternatives
            first, second = values.ravel()[one], values.ravel()[other]
        else:
            raise ConfigError(
                f"the feature {name!r} has shape {shape}; the data have {rows.n_rows} judgments: give "
                f"({rows.n_rows},) for the battle, or ({rows.n_rows}, 2) for its alternatives as shown"
            )
        if values.dtype == object:
            self._add_categories_of_alternatives(name, first, second)
        else:
            self._add_numbers(name, self._difference(name, first, second))

    @property
    def _alternatives(self) -> tuple[Ints, Ints]:
        """Where each battle's two alternatives are in the data's flat columns, shape (N,) each."""
        judgment = self.rows.judgment
        if self.data is None or self.pairs_only:
            return 2 * judgment, 2 * judgment + 1
        codes, items = encode(self.data)
        offsets = self.data.offsets()
        key = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * len(items) + codes
        order = np.argsort(key)
        found = (
            order[np.searchsorted(key[order], judgment * len(items) + side)]
            for side in (self.rows.first, self.rows.second)
        )
        return next(found), next(found)

    # -- columns --

    def _difference(self, name: str, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Floats:
        kind = self.transform
        if isinstance(kind, Mapping):
            kind = kind.get(name, "ratio")
        column = np.empty(len(first))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for start in range(0, len(column), BLOCK):
                part = slice(start, start + BLOCK)
                a, b = first[part].astype(np.float64), second[part].astype(np.float64)
                if kind == "log":
                    self._refuse(name, np.minimum(a, b) <= 0, NOT_POSITIVE, start)
                    np.log(a / b, out=column[part])
                    continue
                np.subtract(a, b, out=column[part])
                if kind == "ratio":
                    self._refuse(name, np.minimum(a, b) < 0, NEGATIVE, start)
                    a += b
                    a += 1.0
                    column[part] /= a
        return column

    def _add_numbers(self, name: str, column: Floats) -> None:
        if not np.isfinite(column.sum()):
            self._refuse(name, ~np.isfinite(column), MISSING)
        mean, scale = 0.0, 1.0
        size = max(float(column.max()), -float(column.min()))
        if size > LARGEST:
            self._refuse(name, np.abs(column) > LARGEST, HUGE)
        chosen = self.standardize if isinstance(self.standardize, bool) else name in self.standardize
        if chosen:
            mean = float(column.mean()) if self.center else 0.0
            scale = float(column.std()) if self.center else float(np.sqrt(column @ column / len(column)))
        # A mean of equal numbers may differ from them by rounding.
        if size == 0.0 or scale <= 1e-12 * size:
            self._constant.append(name)
        else:
            self._columns.append((name, column, mean, scale))

    def _add_categories_of_battles(self, name: str, values: npt.NDArray[Any]) -> None:
        """The advantage of the first in battles of each category, or, beside another intercept, how far
        it differs from that in the first category."""
        codes, names = self._categories(name, values)
        start = 0
        if self._intercept:
            self._reference[name], start = names[0], 1
        self._intercept = True
        for code in range(start, len(names)):
            column = (codes == code).astype(np.float64)
            self._columns.append((f"{name}[{names[code]}]", column, 0.0, 1.0))
        if len(names) == 1 and start:
            self._constant.append(name)

    def _add_categories_of_alternatives(
        self, name: str, first: npt.NDArray[Any], second: npt.NDArray[Any]
    ) -> None:
        """Whether the first has a category minus whether the second has it, for all categories but one."""
        codes, names = self._categories(name, np.concatenate([first, second]))
        a, b = codes[: len(first)], codes[len(first) :]
        self._reference[name] = names[0]
        for code in range(1, len(names)):
            column = (a == code).astype(np.float64) - (b == code)
            self._columns.append((f"{name}[{names[code]}]", column, 0.0, 1.0))
        if len(names) == 1:
            self._constant.append(name)

    def _categories(self, name: str, values: npt.NDArray[Any]) -> tuple[Ints, list[str]]:
        """Codes of texts, and the texts in alphabetical order."""
        encoded = pa.array(values, type=pa.string(), from_pandas=True).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        if encoded.null_count:
            self._refuse(name, (codes < 0).reshape(-1, len(self.rows)).any(axis=0), MISSING)
        names = encoded.dictionary.to_pylist()
        if len(names) > MOST_CATEGORIES:
            raise ConfigError(
                f"the feature {name!r} has {len(names)} different values; use at most {MOST_CATEGORIES}, "
                "or give numbers"
            )
        order = np.argsort(np.array(names))
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        return rank[codes], [names[k] for k in order]

    # -- refusals --

    def _refuse(self, name: str, bad: npt.NDArray[np.bool_], reason: tuple[str, str], start: int = 0) -> None:
        """Raise a `DataError` if a battle is bad; `start` is the first battle's number."""
        if bad.any():
            row = int(self.rows.judgment[start + np.flatnonzero(bad)[0]]) + 1
            raise DataError(reason[0], row=row, field=name, file=self.rows.source, remedy=reason[1])

    def _refuse_lists(self, name: str) -> None:
        if not self.pairs_only:
            _refuse_lists(name)


def _refuse_lists(name: str) -> NoReturn:
    raise ConfigError(
        f"{name!r} is about a battle's order, which a judgment of more than two has not; give a feature "
        "per alternative, or turn lists into pairs with data.as_pairs()"
    )


def _as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """A feature as an array of numbers (NaN for none), or of objects where it is text."""
    if isinstance(values, str):
        raise ConfigError(f"the feature {name!r} is a text; give its values")
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype.kind == "O":
        try:
            flat = pa.array(array.ravel(), from_pandas=True)
        except pa.ArrowException as error:
            raise ConfigError(f"the feature {name!r} is neither numbers nor texts ({error})") from None
        if pa.types.is_string(flat.type) or pa.types.is_large_string(flat.type):
            return array
        if (
            pa.types.is_floating(flat.type)
            or pa.types.is_integer(flat.type)
            or pa.types.is_boolean(flat.type)
        ):
            numbers = flat.cast(pa.float64()).to_numpy(zero_copy_only=False)
            return np.asarray(numbers).reshape(array.shape)
    raise ConfigError(f"the feature {name!r} is neither numbers nor texts")
