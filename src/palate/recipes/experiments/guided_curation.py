"""Noisy pairs curated with a few verified ones: what each filter lets a reward model learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate.curate import Pipeline, consistency
from palate.curate.asked import agreement
from palate.curate.pipeline import accuracy_on
from palate.curate.settings import CurationConfig
from palate.data import PreferenceData
from palate.judges.base import Comparison, Judge
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.seeding import generator

Floats = npt.NDArray[np.float64]


class Parameters(BaseModel):
    """Parameters of `run`.

    Utilities are linear in standard normal features. A share `wrong` of the unverified labels follows a
    criterion of its own, drawn independently; of the verified ones a share `gold_noise` is turned round. A
    labeller is right with probability `unguided`, with verified neighbours `guided`, each error drawn anew.
    """

    model_config = ConfigDict(extra="forbid")

    features: int = Field(40, ge=2)
    wild: int = Field(20000, ge=100)
    pool: int = Field(8000, ge=100)
    gold: int = Field(400, ge=20)
    test: int = Field(5000, ge=100)
    wrong: float = Field(0.45, ge=0, le=1)
    gold_noise: float = Field(0.08, ge=0, lt=0.5)
    unguided: float = Field(0.8, ge=0.5, le=1)
    guided: float = Field(0.88, ge=0.5, le=1)
    model: dict[str, Any] = Field(default_factory=dict)
    curation: CurationConfig = CurationConfig()


@dataclass(frozen=True)
class Pairs:
    """Pairs with their labels, and which of the labels the true utility gives; shape (rows,)."""

    data: PreferenceData
    right: npt.NDArray[np.bool_]


@dataclass
class Labeller(Judge):
    """Sides with the true utility with a given probability; a pair gets one answer, however often it is
    asked about."""

    answers: Mapping[str, float] = field(default_factory=dict)
    name: str = field(default="simulated labeller", kw_only=True)
    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        first = np.array([self.answers[prompt] for prompt in prompts])
        shown = np.array([text.endswith("/0") for text in a])
        return Comparison(np.where(shown, first, 1.0 - first))


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on test pairs with true labels of a model of: the verified pairs (``gold_only``), the wild
    pairs as they are (``uncurated``), those an unguided labeller agrees with (``labeller_filter``), the best
    model of stage 1 (``best``), and the wild pairs that both stages keep (``dual_filter``), with flips
    (``dual_filter_flips``). ``kept`` and ``flipped`` are shares of the wild pairs, ``kept_right`` and
    ``flipped_right`` the shares of those whose label then is the true one; ``added`` and ``added_right`` of
    stage 1. ``one`` is 1.
    """
    plan = read(Parameters, "guided_curation", parameters)
    world = simulated(seed, plan)
    gold, pool, wild, test = (world[name] for name in ("gold", "pool", "wild", "test"))
    rng = generator(seed, "labellers")

    def fitted(data: PreferenceData) -> float:
        return accuracy_on(RewardModel("features", seed=seed, **plan.model).fit(data), test.data)

    unguided = _answers(rng, wild, plan.unguided)
    filtered = wild.data.mask(agreement(Labeller(answers=unguided), wild.data) > 0.5)
    guided = _answers(rng, pool, plan.guided) | _answers(rng, wild, plan.guided)
    pipeline = Pipeline(
        plan.curation.model_copy(update={"seed": seed}),
        labeller=Labeller(answers=guided),
        model=RewardModel("features", seed=seed, **plan.model),
        embed=_Vectors(gold.data, pool.data),
        text=_names,
    )
    with TemporaryDirectory(prefix="palate-") as folder, warnings.catch_warnings():
        made = pipeline.run(gold.data, pool.data, wild.data, out=folder)
    assert made.wild is not None
    keep, flip = made.wild.keep, made.wild.flip
    kept = wild.data.take(keep)
    # Only the wild pairs that were kept: what the filter is worth without the labels of stage 1.
    with_flips = PreferenceData.concat([kept, made.wild.flipped]) if len(flip) else kept
    silver = made.silver
    return {
        "gold_only": fitted(gold.data),
        "uncurated": fitted(wild.data),
        "labeller_filter": fitted(filtered),
        "best": accuracy_on(made.best, test.data),
        "dual_filter": fitted(kept),
        "dual_filter_flips": fitted(with_flips),
        "models_only": fitted(
            wild.data.take(consistency(wild.data, made.gold_model, made.best).keep)  # type: ignore[arg-type]
        ),
        "kept": len(keep) / wild.data.n_rows,
        "kept_right": float(wild.right[keep].mean()),
        "flipped": len(flip) / wild.data.n_rows,
        "flipped_right": float((~wild.right[flip]).mean()),
        "wild_right": float(wild.right.mean()),
        "added": float(silver.n_rows if silver is not None else 0),
        "one": 1.0,
    }


def simulated(seed: int, plan: Parameters) -> dict[str, Pairs]:
    """Verified, unverified (pool and wild) and test pairs."""
    rng = generator(seed, "guided_curation")
    truth, other = rng.normal(size=(2, plan.features))
    truth, other = truth / np.linalg.norm(truth), other / np.linalg.norm(other)
    made = {}
    for name, n in (("gold", plan.gold), ("pool", plan.pool), ("wild", plan.wild), ("test", plan.test)):
        x = rng.normal(size=(n, 2, plan.features)).astype(np.float32)
        gap = x[:, 0] - x[:, 1]
        true = gap @ truth > 0
        first = true
        if name in ("pool", "wild"):
            first = np.where(rng.random(n) < plan.wrong, gap @ other > 0, true)
        elif name == "gold":
            first = true ^ (rng.random(n) < plan.gold_noise)
        data = PreferenceData.from_columns(
            {
                "prompt": [f"{name}-{i}" for i in range(n)],
                "responses": [[f"{name}-{i}/0", f"{name}-{i}/1"] for i in range(n)],
                "features": x.tolist(),
                "scores": np.stack([first, ~first], axis=1).astype(np.float64),
                "annotator_kind": ["rule"] * n,
            }
        )
        made[name] = Pairs(data, first == true)
    return made


def _answers(rng: np.random.Generator, pairs: Pairs, right: float) -> dict[str, float]:
    """Probability that the first alternative is better, as a labeller says it: 1 or 0, by prompt."""
    labels = pairs.data.scores.reshape(-1, 2)[:, 0] > 0.5
    true = np.where(pairs.right, labels, ~labels)
    said = np.where(rng.random(len(true)) < right, true, ~true).astype(np.float64)
    return dict(zip(pairs.data.column("prompt").to_pylist(), said.tolist(), strict=True))


class _Vectors:
    """The difference of features, first alternative minus second, of a pair known by its prompt: it does not
    show the label."""

    def __init__(self, *parts: PreferenceData) -> None:
        prompts = [prompt for part in parts for prompt in part.column("prompt").to_pylist()]
        self.rows = {prompt: row for row, prompt in enumerate(prompts)}
        self.table = np.concatenate([self._differences(part) for part in parts])

    @staticmethod
    def _differences(data: PreferenceData) -> Floats:
        values = data.flat("features").flatten().to_numpy(zero_copy_only=False)
        x = np.asarray(values, dtype=np.float64).reshape(data.n_rows, 2, -1)
        return np.asarray(x[:, 0] - x[:, 1])

    def __call__(self, texts: Sequence[str]) -> Floats:
        return self.table[[self.rows[text] for text in texts]]


def _names(data: PreferenceData) -> list[str]:
    return [str(prompt) for prompt in data.column("prompt").to_pylist()]
