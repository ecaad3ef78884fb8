"""Classifiers learnt from few labelled inputs, with and without preferences between inputs of one class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from palate.data import vote_shares
from palate.errors import MissingDependency, unknown
from palate.evaluate import expected_calibration_error
from palate.recipes.experiments.parameters import read
from palate.reward import PreferenceAugmentedClassifier
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Setting(BaseModel):
    """Inputs with votes of annotators on two classes; a label is the class with more votes.

    "latent" draws normal features x and votes by ``sigmoid(sharpness * z)`` with
    ``z = (a'x + curvature * ((b'x)^2 - 1)) / s``, a and b random unit vectors and s the spread of z. "digits"
    are scikit-learn's images of digits, with z the digit less 4.5, of spread 1 ("is it a large digit?").
    `training` changes settings of training, and `methods` names those to run; None runs all.
    """

    model_config = ConfigDict(extra="forbid")

    data: Literal["latent", "digits"]
    points: int = Field(2400, ge=10)
    features: int = Field(50, ge=1)
    curvature: float = 0.5
    sharpness: float = Field(3.0, ge=0)
    annotators: int = Field(5, ge=1)
    train: int = Field(300, ge=4)
    training: dict[str, Any] = Field(default_factory=dict)
    methods: list[str] | None = None


class Parameters(BaseModel):
    """Parameters of `run`: of each method those of the classifier; `model` goes to every method."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Setting]
    methods: dict[str, dict[str, Any]]
    model: dict[str, Any] = Field(default_factory=dict)
    bins: int = Field(10, ge=2)


def simulate(seed: int, setting: Setting) -> tuple[Floats, Ints]:
    """Features (n, d) and counts of votes on two classes (n, 2), in random order."""
    rng = generator(seed, "votes on labels", setting.data)
    if setting.data == "digits":
        x, z = _digits()
        order = rng.permutation(len(x))
        x, z = x[order], z[order]
    else:
        x = rng.normal(size=(setting.points, setting.features))
        a, b = (_direction(rng, setting.features) for _ in range(2))
        z = x @ a + setting.curvature * ((x @ b) ** 2 - 1)
    z = z / z.std()
    second = rng.binomial(setting.annotators, expit(setting.sharpness * z))
    return x, np.stack([setting.annotators - second, second], axis=1)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy and expected calibration error (of the class predicted) of every method on inputs not learnt
    from, as ``"setting/method/accuracy"`` and ``"setting/method/ece"``; ``"setting/method/ece_x0.5"`` is half
    the latter."""
    plan = read(Parameters, "prefer_to_classify", parameters)
    values = {}
    for place, setting in plan.settings.items():
        x, votes = simulate(seed, setting)
        label, shares, n = votes.argmax(axis=1), vote_shares(votes), setting.train
        training = {**plan.model.get("training", {}), **setting.training}
        for name in plan.methods if setting.methods is None else setting.methods:
            if name not in plan.methods:
                raise unknown(f"method of the setting {place!r}", name, plan.methods)
            params = {**plan.model, **plan.methods[name], "training": training}
            model = PreferenceAugmentedClassifier(classes=[0, 1], seed=seed, **params)
            model.fit(x[:n], label[:n], soft_labels=shares[:n])
            probability = model.predict_proba(x[n:])
            right = probability.argmax(axis=1) == label[n:]
            ece = expected_calibration_error(probability.max(axis=1), right.astype(np.float64), plan.bins)
            values[f"{place}/{name}/accuracy"] = float(right.mean())
            values[f"{place}/{name}/ece"] = ece
            values[f"{place}/{name}/ece_x0.5"] = 0.5 * ece
    return values


def _direction(rng: np.random.Generator, d: int) -> Floats:
    drawn = rng.normal(size=d)
    return np.asarray(drawn / np.linalg.norm(drawn))


def _digits() -> tuple[Floats, Floats]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependency("the digits data", "train") from error
    x, digit = load_digits(return_X_y=True)
    return np.asarray(x, dtype=np.float64), np.asarray(digit, dtype=np.float64) - 4.5
