"""Rankers compared: a linear scorer trained with one loss after another on the same lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import kendalltau

from palate import losses
from palate.data.lists import lists
from palate.errors import ConfigError, MissingDependency, unknown
from palate.recipes.experiments.parameters import read
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RankingData:
    """Items as features, shape (n, d), with labels to learn from, shape (n,); test items with their worth."""

    features: Floats
    labels: Floats
    test_features: Floats
    test_worth: Floats


def simulated_utility(seed: int, *, items: int, test_items: int, features: int, noise: float) -> RankingData:
    """Items whose utility is linear in standard normal features, with weights of length 1; labels add noise.

    A test item's worth is its true utility. `noise` is the standard deviation of a label around the utility,
    which has standard deviation 1.
    """
    rng = generator(seed, "simulated_utility")
    weights = rng.normal(size=features)
    weights /= np.linalg.norm(weights)
    train, test = rng.normal(size=(items, features)), rng.normal(size=(test_items, features))
    return RankingData(train, train @ weights + rng.normal(scale=noise, size=items), test, test @ weights)


def diabetes(seed: int, *, items: int) -> RankingData:
    """442 patients: disease progression after a year from ten measurements (Efron et al., 2004;
    scikit-learn).

    `seed` picks the `items` patients to learn from; the others are for the test. Features and labels are
    standardised by the former.
    """
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        raise MissingDependency("the diabetes data", "train") from None

    measured, progression = load_diabetes(return_X_y=True, scaled=False)
    return _parts(seed, "diabetes", measured, progression, items, len(progression))


def wine_quality(seed: int, *, items: int, test_items: int, folder: str) -> RankingData:
    """Wines and the median of at least three tasters' scores, 0 to 10 (Cortez et al., 2009).

    Eleven measurements and the colour, standardised; wines with equal measurements count once.
    """
    frame = pl.read_parquet(Path(folder, WINE)).unique(maintain_order=True)
    features = frame.with_columns(pl.col("colour") == "red").drop("quality").cast(pl.Float64)
    return _parts(seed, "wine", features.to_numpy(), frame["quality"].cast(pl.Float64).to_numpy(), items,
                  test_items)  # fmt: skip


def speech_emotion(seed: int, *, items: int, test_items: int, folder: str) -> RankingData:
    """Clips of CREMA-D and how intense their emotion seems with voice and face (Cao et al., 2014).

    The label is the mean intensity that about nine people gave the audio-visual clip. The features are what
    other people said of the voice alone and of the face alone: shares of the six emotions and mean
    intensity.
    """
    votes = pl.read_parquet(Path(folder, SPEECH))
    shares = [(pl.col(c) / pl.col("numResponses")).alias(c) for c in "ADFHNS"]
    parts = {
        name: votes.filter(clip_type=kind).select("fileName", *shares, "meanEmoResp")
        for name, kind in (("voice", "voice"), ("face", "face"), ("both", "audio-visual"))
    }
    joined = parts["both"].select("fileName", label="meanEmoResp")
    for name in ("voice", "face"):
        joined = joined.join(parts[name], on="fileName", suffix=f"_{name}").drop_nulls()
    joined = joined.sort("fileName")
    features = joined.drop("fileName", "label").to_numpy()
    return _parts(seed, "speech", features, joined["label"].to_numpy(), items, test_items)


def _parts(
    seed: int, scope: str, measured: Floats, rated: Floats, items: int, test_items: int
) -> RankingData:
    """Items to learn from and items for the test, drawn by `seed`, standardised by the former."""
    order = generator(seed, scope).permutation(len(rated))
    train, test = order[:items], order[items : items + test_items]
    centre, width = measured[train].mean(0), measured[train].std(0)
    scaled = (measured - centre) / np.where(width > 0, width, 1.0)
    labels = (rated - rated[train].mean()) / rated[train].std()
    return RankingData(scaled[train], labels[train], scaled[test], labels[test])


WINE, SPEECH = "wine-quality/wine_quality.parquet", "crema-d/votes.parquet"
DATA: dict[str, Callable[..., RankingData]] = {
    "simulated_utility": simulated_utility,
    "diabetes": diabetes,
    "wine_quality": wine_quality,
    "speech_emotion": speech_emotion,
}
FROM_FOLDER = ("wine_quality", "speech_emotion")


class Method(BaseModel):
    """A loss, and how it sees a list: whole, or cut into groups of `group` items (2: disjoint pairs)."""

    model_config = ConfigDict(extra="forbid")

    loss: str
    group: int | None = Field(None, ge=2)
    parameters: dict[str, Any] = Field(default_factory=dict)


class Setting(BaseModel):
    """Data, training and the methods compared on it (names of `Parameters.methods`; all without)."""

    model_config = ConfigDict(extra="forbid")

    data: str
    data_parameters: dict[str, float | int] = Field(default_factory=dict)
    methods: list[str] | None = None
    steps: int = Field(200, ge=1)
    lists_per_step: int = Field(4, ge=1)
    list_size: int = Field(8, ge=2)
    sampling: Literal["epochs", "independent"] = "epochs"
    learning_rate: float = Field(0.05, gt=0)


class Parameters(BaseModel):
    """Parameters of `run`."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Setting]
    methods: dict[str, Method]
    folder: str | None = None


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Kendall's tau-b of every method on the test items of every setting, as ``"setting/method"``."""
    plan = read(Parameters, "linear_ranking", parameters)
    values = {}
    for name, setting in plan.settings.items():
        if setting.data not in DATA:
            raise unknown("data of linear_ranking", setting.data, DATA)
        where = {"folder": plan.folder} if setting.data in FROM_FOLDER else {}
        data = DATA[setting.data](seed, **setting.data_parameters, **where)
        batches = draw_batches(data.labels, setting, seed)
        for key in setting.methods if setting.methods is not None else list(plan.methods):
            if key not in plan.methods:
                raise unknown("method", key, plan.methods)
            weights = train_linear(
                data.features, data.labels, batches, plan.methods[key], setting.learning_rate
            )
            values[f"{name}/{key}"] = float(
                kendalltau(data.test_features @ weights, data.test_worth).statistic
            )
    return values


def draw_batches(labels: Floats, setting: Setting, seed: int) -> npt.NDArray[np.int64]:
    """The lists of every step, shape (steps, lists, size) with -1 as padding.

    With `sampling` "epochs" every item is used once before any comes again; "independent" draws each list
    from all items.
    """
    wanted = setting.steps * setting.lists_per_step
    if setting.sampling == "independent":
        keys = generator(seed, "independent lists").random((wanted, len(labels)))
        together = np.argpartition(keys, setting.list_size, axis=1)[:, : setting.list_size]
    else:
        drawn: list[npt.NDArray[np.int64]] = []
        while sum(map(len, drawn)) < wanted:
            drawn.append(lists(labels, setting.list_size, seed=seed, epoch=len(drawn), by="all"))
        together = np.concatenate(drawn)[:wanted]
    return together.reshape(setting.steps, setting.lists_per_step, setting.list_size)


def train_linear(
    features: Floats, labels: Floats, batches: npt.NDArray[np.int64], method: Method, learning_rate: float
) -> Floats:
    """Weights of a linear scorer, shape (d,), after one Adam step per batch, starting from zero.

    Args:
        features: shape (n, d).
        labels: shape (n,), higher is better.
        batches: positions of items, shape (steps, lists, size), -1 is padding.
        method: the loss.
        learning_rate: of Adam.
    """
    loss = losses.get(method.loss, **method.parameters)
    size = method.group or batches.shape[2]
    if batches.shape[2] % size:
        raise ConfigError(f"lists of {batches.shape[2]} cannot be cut into groups of {size}")
    # Gathering all steps at once leaves only what must be sequential to the loop.
    index = torch.from_numpy(batches.reshape(len(batches), -1, size))
    mask, index = index >= 0, index.clamp(min=0)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)[index]
    weights = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([weights, *loss.parameters()], lr=learning_rate)
    for step in range(len(batches)):
        optimiser.zero_grad()
        loss(
            x[index[step]] @ weights, y[step], mask=mask[step], step=step, total_steps=len(batches)
        ).backward()
        optimiser.step()
    return weights.detach().numpy()
