"""Fitting a reward model to a matrix of embeddings and pairs of its rows."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from palate import losses
from palate.errors import ConfigError, DataError
from palate.reward import heads, inputs
from palate.reward.fitting import check_supervised
from palate.reward.model import RewardModel
from palate.reward.scorers import FEATURES, FeatureScorer
from palate.training import TrainingGroups, seeded

_SLICE = 1 << 26  # bytes hashed at once by a thread


def fit_arrays(
    model: RewardModel,
    features: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    pairs: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    strength: npt.ArrayLike | None = None,
) -> RewardModel:
    """Fit ``RewardModel("features", ...)`` to rows of a matrix, which is not copied; responses may be shared.

    >>> import numpy as np
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], dtype=np.float32)
    >>> model = fit_arrays(RewardModel("features"), x, [[1, 0], [2, 0], [2, 1]])
    >>> bool(model.score_features(x[2]) > model.score_features(x[0]))
    True

    Args:
        model: with ``encoder="features"``; it is fitted in place.
        features: shape (m, d), one row per response.
        pairs: shape (n, 2), rows of `features`, the preferred one first.
        weight: shape (n,), how much a pair counts, above 0; 1 each if None.
        strength: shape (n,), how strongly the first is preferred, above 0; 1 each if None.

    Returns:
        The model.

    Raises:
        DataError: no pairs, a row that is not there, a feature, weight or strength that cannot be used.
        ConfigError: the model does not read features, or its columns or head need judgments.
    """
    if model.encoder != FEATURES or model.columns or model.feature_names:
        raise ConfigError(
            'arrays are for RewardModel("features") without columns or feature_names; fit others to judgments'
        )
    model._check()
    if features.dtype not in (np.float32, np.float64):
        features = np.asarray(features, dtype=np.float64)
    position = np.asarray(pairs)
    if features.ndim != 2 or position.ndim != 2 or position.shape[1] != 2 or not len(position):
        raise DataError(
            f"features of shape {features.shape} and pairs of shape {position.shape}", field="pairs",
            remedy="give features (m, d) and one or more pairs (n, 2) of their rows",
        )  # fmt: skip
    if position.dtype.kind not in "iu":
        raise DataError("pairs must be whole numbers", field="pairs", remedy="give rows of the features")
    _refuse((position < 0) | (position >= len(features)), "pairs", f"rows of {len(features)} features")
    _refuse(position[:, 0] == position[:, 1], "pairs", "two different rows")
    if not inputs.all_finite(features):
        _refuse(~np.isfinite(features), "features", "finite numbers")
    n = len(position)
    counts, strong = _numbers(weight, n, "weight"), _numbers(strength, n, "strength")
    targets = np.zeros((n, 2))
    targets[:, 0] = strong
    position = position.astype(np.int64, copy=False)
    groups = TrainingGroups(position, targets, np.ones((n, 2), dtype=bool), counts, np.arange(n), 0)
    loss = losses.get(model.loss, **(model.loss_params or {}))
    check_supervised(loss)
    with seeded(model.seed):
        head = heads.get(model.head, **(model.head_params or {})).double()
    head.check(groups)
    scorer = FeatureScorer(model.get_params(), head)
    used, place = inputs.used(features, position)
    model.fit_ = scorer._fit(used, place, groups, loss, None, None)
    model.head_, model.scorer_, model.loss_ = head.eval(), scorer, loss
    model.n_groups_, model.n_ties_ = n, 0
    model.data_fingerprint_ = _fingerprint(features, position, counts, strong)
    return model


def _numbers(values: npt.ArrayLike | None, n: int, name: str) -> npt.NDArray[np.float64]:
    if values is None:
        return np.ones(n)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (n,):
        raise DataError(f"{name} has shape {numbers.shape}, not ({n},)", field=name, remedy="give one a pair")
    _refuse(~(np.isfinite(numbers) & (numbers > 0)), name, "finite numbers above 0; leave out other pairs")
    return numbers


def _refuse(bad: npt.NDArray[np.bool_], field: str, want: str) -> None:
    if bad.any():
        row = int(np.argwhere(bad)[0][0]) + 1
        raise DataError("a value that cannot be used", row=row, field=field, remedy=f"give {want}")


def _fingerprint(*arrays: npt.NDArray[Any]) -> str:
    """SHA-256 of the digests of slices of the arrays' bytes."""
    total = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for array in arrays:
            data = np.ascontiguousarray(array).view(np.uint8).data.cast("B")
            total.update(f"{array.dtype.str} {array.shape}".encode())
            parts = (data[start : start + _SLICE] for start in range(0, len(data), _SLICE))
            for digest in pool.map(lambda part: hashlib.sha256(part).digest(), parts):
                total.update(digest)
    return total.hexdigest()
