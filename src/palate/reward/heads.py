"""Score heads on fixed inputs, and their fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from palate.errors import PalateError, unknown
from palate.training import Loss, TrainingGroups, seeded

Floats = npt.NDArray[np.float64]


class ScoreHead(nn.Module):
    """Inputs to one score: standardised with the training set's mean and spread, then linear or a small
    network.

    Args:
        dim: length d of an input.
        kind: "scalar" is linear, which makes the fit under a convex loss a convex problem; "mlp" has one
            hidden layer of `hidden` units.
        hidden: width of the hidden layer.
        seed: of the hidden layer's first weights.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, kind: str = "scalar", hidden: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(dim, dtype=torch.float64))
        with seeded(seed):
            if kind == "scalar":
                self.layers: nn.Module = nn.Linear(dim, 1)
                nn.init.zeros_(self.layers.weight)
            elif kind == "mlp":
                self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))
            else:
                raise unknown("head", kind, KINDS)
        self.double()

    def standardise(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of shape (m,) for inputs of shape (m, d)."""
        return self.on_standardised(self.standardise(inputs))

    def on_standardised(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.layers(inputs)[:, 0]
        return scores


KINDS = ("scalar", "mlp")


def fit_head(
    head: ScoreHead,
    inputs: Floats,
    position: npt.NDArray[np.int64],
    groups: TrainingGroups,
    loss: Loss,
    *,
    l2: float,
    max_iter: int,
    tolerance: float,
) -> dict[str, Any]:
    """Minimise ``loss(scores) + l2 / 2 * |w|^2`` over the whole training set with L-BFGS.

    Each distinct input is multiplied once, however many groups point at it. What the loss learns is fitted
    along; only matrices of weights are penalised.

    Args:
        inputs: shape (m, d).
        position: shape (n, k), row of `inputs` of each alternative of the groups.
        max_iter: most iterations.
        tolerance: stop when no gradient entry exceeds it.

    Returns:
        `objective`, `iterations` and whether it `converged`.

    Raises:
        PalateError: the objective is not finite.
    """
    x = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float64))
    head.mean.copy_(x.mean(0))
    spread = x.std(0, correction=0)
    head.scale.copy_(torch.where(spread > 1e-12, spread, 1.0))  # a constant input has nothing to say
    x = head.standardise(x)
    place = torch.from_numpy(position)
    targets, mask, weight = (torch.from_numpy(part) for part in (groups.targets, groups.mask, groups.weight))
    modules = [head, *([loss.double()] if isinstance(loss, nn.Module) else [])]
    parameters = [p for module in modules for p in module.parameters()]
    penalised = [p for p in head.parameters() if p.ndim == 2]

    def objective(values: Floats) -> tuple[float, Floats]:
        vector_to_parameters(torch.from_numpy(values), parameters)
        for parameter in parameters:
            parameter.grad = None
        scores = head.on_standardised(x)[place]
        value = loss(scores, targets, mask=mask, weight=weight)
        value = value + 0.5 * l2 * torch.stack([(p**2).sum() for p in penalised]).sum()
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
