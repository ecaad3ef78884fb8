"""Named features of a response, each scored by a judge or a function: what a small reward model reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, unknown
from palate.judges.base import Judge, Scores

Floats = npt.NDArray[np.float64]
Measure = Callable[[list[str], list[str]], Sequence[float | None] | Floats]
OnMissing = Literal["nan", "mean", "raise"]


@dataclass
class FeatureJudge(Judge):
    """Scores responses on k named features: a matrix of shape (n, k), or of one score with `weights`.

    What makes an output good is named by people who know the field; each feature is scored by whatever can
    (a language model with a rubric, a count, a retriever), and a `palate.reward.RewardModel` with this
    judge as its encoder learns from a few hundred preferences how much each counts (Nath et al., 2024).

    Attributes:
        features: name -> a judge that scores, or a function of n prompts and n responses that gives n
            numbers, NaN or None where it has none. Several `LLMRater` should share one loaded model. A
            function that fails is not caught.
        scale: least and greatest value a feature can take; None takes any finite number.
        on_missing: what becomes of a value that is missing (NaN, as of a language model that did not
            answer): "nan" leaves it, "mean" puts the mean of the feature in its place, "raise" refuses.
        weights: weight of each feature, by name, for one score ``sum_f w_f value_f`` in place of the
            matrix; a feature left out weighs 0. `mean` is the usual baseline.
        failures: how many values of each feature were missing so far, before anything was put in their place.

    >>> words = FeatureJudge({"words": lambda prompts, responses: [len(r.split()) for r in responses]}, None)
    >>> words.score(["Hello?"], ["Hi there"]).scores
    array([[2.]])
    """

    features: Mapping[str, Judge | Measure]
    scale: tuple[float, float] | None = (0.0, 5.0)
    on_missing: OnMissing = "nan"
    weights: Mapping[str, float] | None = None
    name: str = field(default="features", kw_only=True)
    failures: dict[str, int] = field(init=False, repr=False, compare=False)
    native: ClassVar[frozenset[str]] = frozenset({"score"})
    order_matters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("name at least one feature, such as FeatureJudge({'length': LengthJudge()})")
        for name, scorer in self.features.items():
            if isinstance(scorer, Judge) and ("score" not in scorer.native or scorer.aspects):
                raise ConfigError(
                    f"the feature {name!r} needs a judge with one absolute score; {scorer.name!r} has "
                    + ("several aspects" if scorer.aspects else "none")
                )
            if not isinstance(scorer, Judge) and not callable(scorer):
                raise ConfigError(f"the feature {name!r} is {scorer!r}; give a judge or a function")
        if self.on_missing not in get_args(OnMissing):
            raise unknown("on_missing", self.on_missing, get_args(OnMissing))
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ConfigError(f"scale goes from the least to the greatest value; got {self.scale}")
        for name in self.weights or ():
            if name not in self.features:
                raise unknown("feature in weights", name, self.features)
        self.aspects = () if self.weights is not None else self.names
        self.failures = dict.fromkeys(self.features, 0)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order of the columns."""
        return tuple(self.features)

    def mean(self) -> FeatureJudge:
        """The judge whose one score is the plain mean of the features."""
        weights = dict.fromkeys(self.features, 1.0 / len(self.features))
        return FeatureJudge(self.features, self.scale, self.on_missing, weights, name=f"{self.name}_mean")

    def measure(self, prompts: list[str], responses: list[str], **options: Any) -> Floats:
        """Every feature of n responses as scored, NaN where missing, which is counted; shape (n, k).

        Raises:
            DataError: a value outside the scale, not as many values as responses, or a missing one with
                ``on_missing="raise"``; the message names the feature.
        """
        columns = [
            self._column(name, scorer, prompts, responses, options) for name, scorer in self.features.items()
        ]
        return np.stack(columns, axis=1)

    def add_features(self, data: PreferenceData, **options: Any) -> PreferenceData:
        """The same judgments with a `features` column of this judge's values, in order of `names`.

        It keeps what a slow judge said: fit ``RewardModel("features", feature_names=judge.names)`` on it.

        Raises:
            DataError: as `measure`; the data has no responses or one is missing; or a value is missing and
                nothing was put in its place.
        """
        if not data.has("responses"):
            raise DataError("features are scored of texts; the data has no responses", field="responses",
                            file=data.source, remedy="load data with response texts")  # fmt: skip
        flat, offsets = data.flat("responses"), data.offsets()
        self._refuse(pc.is_null(flat).to_numpy(zero_copy_only=False), data, "a response is missing",
                     "drop the row")  # fmt: skip
        row = np.repeat(np.arange(data.n_rows), np.diff(offsets))
        prompts = pc.take(pc.fill_null(data.column("prompt"), ""), pa.array(row)).to_pylist()
        values = self._filled(self.measure(prompts, flat.to_pylist(), **options))
        for name, column in zip(self.names, values.T, strict=True):
            self._refuse(np.isnan(column), data, f"the feature {name!r} has no value",
                         "drop the row, or use on_missing='mean'")  # fmt: skip
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(values.astype(np.float32).ravel()), values.shape[1]
        ).cast(pa.list_(pa.float32()))
        return data.with_columns(features=pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), vectors))

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        values = self._filled(self.measure(prompts, responses, **options))
        if self.weights is None:
            return Scores(values)
        weights = np.array([self.weights.get(name, 0.0) for name in self.names])
        trace = [dict(zip(self.names, row, strict=True)) for row in values.tolist()]
        return Scores(values @ weights, trace=trace)

    def _column(
        self,
        name: str,
        scorer: Judge | Measure,
        prompts: list[str],
        responses: list[str],
        options: Mapping[str, Any],
    ) -> Floats:
        if isinstance(scorer, Judge):
            values = scorer.score(prompts, responses, **options).scores
        else:
            values = np.asarray(scorer(prompts, responses), dtype=np.float64)
        if values.shape != (len(responses),):
            raise DataError(
                f"{len(values)} values of the feature {name!r} for {len(responses)} responses",
                field="features", remedy="give one number, or NaN, for each response",
            )  # fmt: skip
        missing = np.isnan(values)
        self.failures[name] += int(missing.sum())
        low, high = self.scale if self.scale is not None else (-np.inf, np.inf)
        outside = ~missing & ((values < low) | (values > high) | np.isinf(values))
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            where = "is not finite" if self.scale is None else f"lies outside the scale {low:g} to {high:g}"
            raise DataError(
                f"{values[at]:g} as {name!r} of response {at + 1} {where}", field="features",
                remedy="correct the scorer, or say its scale",
            )  # fmt: skip
        if missing.any() and self.on_missing == "raise":
            raise DataError(
                f"{int(missing.sum())} of {len(values)} values of the feature {name!r} are missing, first "
                f"of response {int(np.flatnonzero(missing)[0]) + 1}",
                field="features", remedy="ask again, or use on_missing='mean'",
            )  # fmt: skip
        return values

    def _filled(self, values: Floats) -> Floats:
        if self.on_missing != "mean" or not np.isnan(values).any():
            return values
        known = ~np.isnan(values)
        empty = ~known.any(axis=0)
        if empty.any():
            raise DataError(
                f"the feature {self.names[int(np.flatnonzero(empty)[0])]!r} is missing of every response, "
                "so it has no mean",
                field="features", remedy="correct the scorer or leave the feature out",
            )  # fmt: skip
        mean = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
        return np.where(known, values, mean)

    @staticmethod
    def _refuse(bad: npt.NDArray[np.bool_], data: PreferenceData, problem: str, remedy: str) -> None:
        if bad.any():
            row = int(np.searchsorted(data.offsets(), int(np.flatnonzero(bad)[0]), side="right"))
            raise DataError(
                f"{problem} ({int(bad.sum())} of {len(bad)} responses)", row=row, field="features",
                file=data.source, remedy=remedy,
            )  # fmt: skip


def ordered(values: Mapping[str, npt.ArrayLike], names: Sequence[str]) -> Floats:
    """Features given by name, as one array of shape (..., k) in order of `names`.

    Raises:
        DataError: a feature is missing; the message lists all that are.
        ConfigError: a feature that is not among `names`.
    """
    missing = [name for name in names if name not in values]
    if missing:
        raise DataError(
            f"missing: {', '.join(map(repr, missing))}", field="features",
            remedy=f"give all of: {', '.join(names)}",
        )  # fmt: skip
    for name in values:
        if name not in names:
            raise unknown("feature", name, names)
    return np.stack([np.asarray(values[name], dtype=np.float64) for name in names], axis=-1)
