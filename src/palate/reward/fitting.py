"""Fitting a network on fixed inputs: over the whole training set at once, or in steps by the one trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.optimize
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from palate import losses
from palate.errors import ConfigError, PalateError
from palate.losses import Scored
from palate.reward.network import Network
from palate.training import (
    Loss,
    PreferenceTrainer,
    ScoreFunction,
    TrainingConfig,
    TrainingGroups,
    loss_of,
)

if TYPE_CHECKING:
    from palate.runs import Run

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Pull = Literal["zero", "start"]


def fit_network(
    network: Network,
    inputs: Floats,
    position: Integers,
    groups: TrainingGroups,
    loss: Loss,
    *,
    l2: float,
    pull: Pull = "zero",
    max_iter: int,
    tolerance: float,
) -> dict[str, Any]:
    """Minimise ``loss + l2 / 2 * |w - w0|^2`` over the whole training set with L-BFGS.

    Each distinct input is multiplied once, however many groups point at it. What the loss and the head learn
    is fitted along; only matrices of weights are penalised.

    Args:
        network: its standardisation is in place.
        inputs: shape (m, d).
        position: shape (n, k), row of `inputs` of each alternative of the groups.
        groups: targets, mask and weight.
        loss: from `palate.losses`.
        l2: penalty, 0 or more.
        pull: what the weights are pulled to, w0: zero, or where they start.
        max_iter: most iterations.
        tolerance: stop when no gradient entry exceeds it.

    Returns:
        `objective`, `iterations` and whether it `converged`.

    Raises:
        PalateError: the objective is not finite.
    """
    x = network.standardise(torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float64)))
    place = torch.from_numpy(position)
    batch = groups.tensors()
    modules = [network, *([loss.double()] if isinstance(loss, nn.Module) else [])]
    parameters = [p for module in modules for p in module.parameters()]
    penalised = [p for p in network.parameters() if p.ndim == 2]
    centre = [p.detach().clone() if pull == "start" else torch.zeros_like(p) for p in penalised]

    def objective(values: Floats) -> tuple[float, Floats]:
        vector_to_parameters(torch.from_numpy(values), parameters)
        for parameter in parameters:
            parameter.grad = None
        features = network.features(x)
        read = network.read(network.last(features)[place], batch)
        scored = Scored(read.scores, {}, 0, read.margins, read.outputs, read.support, features[place])
        value = loss_of(loss, scored, batch)
        penalty = [((p - c) ** 2).sum() for p, c in zip(penalised, centre, strict=True)]
        value = value + 0.5 * l2 * torch.stack(penalty).sum()
        value.backward()  # type: ignore[no-untyped-call]
        gradient = torch.cat(
            [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters]
        )
        if not torch.isfinite(value):
            raise PalateError("the training objective is not finite; raise l2 or look at the inputs' range")
        return float(value.detach()), gradient.numpy().copy()

    start = parameters_to_vector(parameters).detach().numpy().copy()
    result = scipy.optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B",
        options={"maxiter": max_iter, "gtol": tolerance, "ftol": 1e-12, "maxfun": 2 * max_iter},
    )  # fmt: skip
    vector_to_parameters(torch.from_numpy(result.x.copy()), parameters)
    return {"objective": float(result.fun), "iterations": int(result.nit), "converged": bool(result.success)}


@dataclass
class InputGroups:
    """Groups over fixed inputs; what the trainer takes batches from."""

    inputs: torch.Tensor  # (m, d), standardised
    position: Integers  # (n, k)
    groups: TrainingGroups

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def source(self) -> Integers | None:
        """Codes of where the groups come from, if that is known."""
        return self.groups.extra.get("source")

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """See `palate.training.Groups`; adds `inputs` of shape (batch, k, d)."""
        index = np.asarray(rows)
        return {"inputs": self.inputs[self.position[index]], **self.groups.tensors(index)}


def train_network(
    network: Network,
    inputs: Floats,
    position: Integers,
    groups: TrainingGroups,
    loss: Loss,
    config: TrainingConfig,
    run: Run | None = None,
) -> dict[str, Any]:
    """Train on fixed inputs in steps, by `palate.training.PreferenceTrainer`: for losses that need batches,
    passes with dropout, or a schedule. Arguments as in `fit_network`."""
    x = network.standardise(torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float64)))
    made = InputGroups(x, position, groups)
    if isinstance(loss, nn.Module):
        loss.double()
    trainer = PreferenceTrainer(network, made, score_inputs(loss), loss, config, run=run, stage="reward")
    last = trainer.fit()
    network.cpu().eval()
    kept = {name: value for name, value in last.items() if name not in ("time", "stage")}
    return {"steps": trainer.args.max_steps, **kept}


def score_inputs(loss: Loss) -> ScoreFunction:
    """Scores of a batch of `InputGroups`, with as many passes as the loss needs."""
    views = getattr(loss, "views", 1)

    def score(model: Any, batch: dict[str, Any]) -> Scored:
        scored: Scored = model.scored(batch["inputs"], batch, views)
        return scored

    return score


def check_fit(loss: losses.Loss, network_dropout: float, in_steps: bool) -> None:
    """A full-batch fit needs a function of the weights alone.

    Raises:
        ConfigError: the loss or the network asks for dropout or changes from step to step, and no training in
            steps was asked for; or the loss compares two passes that dropout would have to tell apart.
    """
    ask = "give training={'steps': ...}"
    if loss.views > 1 and not network_dropout:
        raise ConfigError(f"the loss {loss.name!r} compares two passes with dropout; set dropout above 0")
    if in_steps:
        return
    if network_dropout > 0:
        raise ConfigError(f"dropout needs training in steps; {ask} or set dropout to 0")
    if loss.stepwise:
        raise ConfigError(f"the loss {loss.name!r} changes from step to step; {ask}")
