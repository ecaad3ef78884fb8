"""Preferences that go in circles: preference embeddings against Bradley-Terry, and a game."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from palate.data import PreferenceData
from palate.data.resources import verifiable_instructions
from palate.evaluate.verdicts import ask
from palate.recipes.experiments.parameters import read
from palate.reward import RewardModel
from palate.seeding import generator

Floats = npt.NDArray[np.float64]

THINGS = (
    "the train", "the soup", "the garden", "the old bridge", "this printer", "the lighthouse", "my bicycle",
    "the museum", "the weekly market", "this keyboard", "the ferry", "the bakery", "the library card",
    "the orchard", "the radio", "the tea", "this umbrella", "the staircase", "the atlas", "the piano",
)  # fmt: skip
LONG = (
    "Concerning {}, the record lists where it stood, when it was first described, who measured it, and in "
    "which order its parts were numbered."
)
POSITIVE = ("wonderful", "lovely", "great", "delightful", "excellent")
MODELS = {"gpm": "gpm", "bradley_terry": "scalar"}


class Simulated(BaseModel):
    """Responses with normal features, judged in pairs: without error by a turned product of one plane
    ("circle"), or after Bradley and Terry by a linear worth ("scale")."""

    model_config = ConfigDict(extra="forbid")

    features: int = Field(10, ge=2)
    train: int = Field(2000, ge=10)
    test: int = Field(2000, ge=10)
    dim: int = Field(4, ge=2)


class Texts(BaseModel):
    """Short responses about `THINGS`; those about `held_out` things, drawn by the seed, are for the test."""

    model_config = ConfigDict(extra="forbid")

    held_out: int = Field(6, ge=2)
    dim: int = Field(4, ge=2)


class Instructions(BaseModel):
    """The packaged set of verifiable instructions; a share of its prompts is for the test."""

    model_config = ConfigDict(extra="forbid")

    held_out: float = Field(0.3, gt=0, lt=1)
    dim: int = Field(6, ge=2)


class Parameters(BaseModel):
    """Parameters of `run`; both models get the `ridges` entry that predicts a fifth of the training
    judgments best after learning from the others."""

    model_config = ConfigDict(extra="forbid")

    encoder: str = "all-minilm-l6-v2"
    ridges: list[float] = Field(default=[0.01, 0.1, 1.0, 10.0, 100.0], min_length=1)
    simulated: Simulated = Simulated()
    texts: Texts = Texts()
    instructions: Instructions | None = Instructions()
    rounds: int = Field(1000, ge=1)


def run(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on held-out pairs as ``"setting/model"``, the losses of Bradley-Terry on pure circles, and
    exploitability in a game (``game/...``); `log_two`, `one` and `worst` are what to compare with.
    """
    plan = read(Parameters, "circular_preferences", parameters)
    found = {"one": 1.0, "log_two": float(np.log(2.0))}
    for n in (3, 4):
        found |= pure_circle(n, seed)
    kinds: tuple[Literal["circle", "scale"], ...] = ("circle", "scale")
    for kind in kinds:
        train, test = simulated(kind, plan.simulated, seed), simulated(kind, plan.simulated, seed, test=True)
        found |= _compared(
            f"simulated/{kind}", train, test, plan, plan.simulated.dim, seed, encoder="features"
        )
    for kind in kinds:
        train, test = written(kind, plan.texts, seed)
        found |= _compared(f"texts/{kind}", train, test, plan, plan.texts.dim, seed, text="response")
    if plan.instructions is not None:
        data = verifiable_instructions()
        order = generator(seed, "instructions").permutation(len(data))
        cut = round(plan.instructions.held_out * len(data))
        train, test = data.take(order[cut:]), data.take(order[:cut])
        found |= _compared("instructions", train, test, plan, plan.instructions.dim, seed)
    return found | game(plan.rounds)


def _compared(
    name: str,
    train: PreferenceData,
    test: PreferenceData,
    plan: Parameters,
    dim: int,
    seed: int,
    **settings: Any,
) -> dict[str, float]:
    """Accuracy of both models on the pairs of `test`."""
    settings = {"encoder": plan.encoder, **settings}
    order = generator(seed, name, "ridge").permutation(len(train))
    learn, try_on = train.take(order[len(train) // 5 :]), train.take(order[: len(train) // 5])
    found = {}
    for model, head in MODELS.items():
        params = {"dim": dim} if head == "gpm" else None

        def made(l2: float, data: PreferenceData, head: str = head, params: Any = params) -> RewardModel:
            return RewardModel(head=head, head_params=params, l2=l2, seed=seed, **settings).fit(data)

        losses = [_log_loss(made(l2, learn), try_on) for l2 in plan.ridges]
        best = plan.ridges[int(np.argmin(losses))]
        found[f"{name}/{model}"] = _accuracy(made(best, train), test)
    return found


def _accuracy(model: RewardModel, data: PreferenceData) -> float:
    verdicts = ask(model, data)
    right = 0.5 + 0.5 * np.sign(verdicts.of_chosen - 0.5)
    return float(right[~verdicts.tie].mean())


def _log_loss(model: RewardModel, data: PreferenceData) -> float:
    verdicts = ask(model, data)
    margin = np.where(verdicts.chosen_first, 1, -1) * verdicts.margin
    return float(np.logaddexp(0.0, -margin[~verdicts.tie]).mean())


def pure_circle(n: int, seed: int) -> dict[str, float]:
    """n responses of which each is preferred to the next: losses and accuracy on these pairs."""
    eye = np.eye(n)
    first = np.arange(n)
    pairs = np.stack([eye, eye[(first + 1) % n]], axis=1)
    data = PreferenceData.from_columns({"features": pairs.tolist(), "scores": [[1.0, 0.0]] * n})
    found = {}
    for model, head in MODELS.items():
        params = {"dim": 2} if head == "gpm" else None
        fitted = RewardModel("features", head=head, head_params=params, l2=0.0, seed=seed).fit(data)
        found[f"circle_of_{n}/{model}_loss"] = _log_loss(fitted, data)
        found[f"circle_of_{n}/{model}"] = _accuracy(fitted, data)
    return found


def simulated(
    kind: Literal["circle", "scale"], plan: Simulated, seed: int, *, test: bool = False
) -> PreferenceData:
    """Pairs of responses with features; see `Simulated`."""
    truth = generator(seed, "simulated", kind)
    plane = truth.normal(size=(2, plan.features))
    rng = generator(seed, "simulated", kind, "test" if test else "train")
    x = rng.normal(size=(plan.test if test else plan.train, 2, plan.features))
    place = x @ plane.T
    if kind == "circle":
        won = place[:, 0, 0] * place[:, 1, 1] > place[:, 0, 1] * place[:, 1, 0]
    else:
        won = rng.random(len(x)) < expit(place[:, 0, 0] - place[:, 1, 0])
    scores = np.stack([won, ~won], axis=1).astype(np.float64)
    return PreferenceData.from_columns({"features": x.tolist(), "scores": scores.tolist()})


def written(
    kind: Literal["circle", "scale"], plan: Texts, seed: int
) -> tuple[PreferenceData, PreferenceData]:
    """Pairs of short responses of three kinds (long, warm, asking), to learn from and for the test.

    "circle": a long and a warm response are judged by their length, a warm and an asking one by their
    positive words, an asking and a long one by their questions, so that each kind beats the next. "scale":
    all pairs are judged by length.
    """
    order = generator(seed, "texts").permutation(len(THINGS))
    parts = []
    for chosen in (order[plan.held_out :], order[: plan.held_out]):
        kinds = [_of_kind(k, chosen.tolist()) for k in range(3)]
        rows = [(a, b, k) for k in range(3) for a in kinds[k] for b in kinds[(k + 1) % 3]]
        values = [
            (_criterion(k if kind == "circle" else 0, a), _criterion(k if kind == "circle" else 0, b))
            for a, b, k in rows
        ]
        parts.append(
            PreferenceData.from_columns(
                {"prompt": [""] * len(rows), "responses": [[a, b] for a, b, _ in rows],
                 "scores": [[float(x), float(y)] for x, y in values]}
            )
        )  # fmt: skip
    return parts[0], parts[1]


def _of_kind(kind: int, things: list[int]) -> list[str]:
    made = []
    for number in things:
        thing = THINGS[number]
        warm = f"{thing.capitalize()} is {POSITIVE[number % len(POSITIVE)]}."
        asking = f"{('Where', 'How old', 'Whose')[number % 3]} is {thing}?"
        made.append((LONG.format(thing), warm, asking)[kind])
    return made


def _criterion(number: int, text: str) -> int:
    """Words, positive words, or questions of a text."""
    if number == 0:
        return len(text.split())
    return sum(text.count(word) for word in POSITIVE) if number == 1 else text.count("?")


def game(rounds: int) -> dict[str, float]:
    """Exact preference optimisation in a game of four actions: rock, paper and scissors (scores of 1), and
    one that loses to all by 1.5.

    Each round multiplies the policy by ``exp(mean score / beta)``, with beta the root of the number of
    rounds. Exploitability is the mean score of the best reply: of the average policy, of the last one, and
    of the best pure one, which is all that a scale can name.
    """
    scores = np.array([[0, 1, -1, 1.5], [-1, 0, 1, 1.5], [1, -1, 0, 1.5], [-1.5, -1.5, -1.5, 0]])
    policy, beta = np.array([0.4, 0.3, 0.2, 0.1]), np.sqrt(rounds)
    total = np.zeros(4)
    for _ in range(rounds):
        total += policy
        policy = policy * np.exp(scores @ policy / beta)
        policy /= policy.sum()
    return {
        "game/average": float((scores @ (total / rounds)).max()),
        "game/last": float((scores @ policy).max()),
        "game/pure": float(scores.max(axis=0).min()),
    }
