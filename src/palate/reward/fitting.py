"""Fitting a network on fixed inputs: over the whole training set at once, or in steps by the one trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from palate import losses
from palate.errors import ConfigError, PalateError
from palate.losses import Scored
from palate.progress import Bar, progress
from palate.reward import linear
from palate.reward.heads.base import ScalarHead
from palate.reward.linear import SAMPLE, Array, LinearInputs, Whitening, curvature, differences, varying
from palate.reward.network import Network
from palate.training import (
    Loss,
    MetaStep,
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
    inputs: Array,
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
    is fitted along; only matrices of weights are penalised. A linear network under a head that scores is
    fitted in the variables of `palate.reward.linear.Whitening`, which takes few passes over the inputs;
    large inputs in single precision are then multiplied as they are, see `palate.reward.linear.LinearInputs`.

    Args:
        network: its standardisation is in place.
        inputs: shape (m, d), in single or double precision.
        position: shape (n, k), row of `inputs` of each alternative of the groups.
        groups: targets, mask and weight.
        loss: from `palate.losses`.
        l2: penalty, 0 or more.
        pull: what the weights are pulled to, w0: zero, or where they start.
        max_iter: most iterations.
        tolerance: stop when no gradient entry exceeds it.

    Returns:
        `objective`, `iterations`, `evaluations` of the objective and its gradient, and whether it
        `converged`: the gradient is within `tolerance`, or a step no longer changes the objective by 1e-12.

    Raises:
        PalateError: the objective is not finite.
    """
    if isinstance(loss, nn.Module):
        loss.double()
    objective = _Objective(network, inputs, position, groups, loss, l2, pull)
    change = objective.change_of_variables()
    value, gradient = objective(objective.start)
    # L-BFGS starts with a step of length 1; these units make it the step that the curvature asks for.
    unit = max(float(np.linalg.norm(change.gradient(gradient))), 1e-300) if change is not None else 1.0
    first: tuple[float, Floats] | None = (value, gradient)
    best, lowest = objective.start, value
    iterations = 0

    def weights(v: Floats) -> Floats:
        return v if change is None else objective.start + change.weights(unit * v)

    def at(v: Floats) -> tuple[float, Floats]:
        nonlocal best, first, lowest
        w = weights(v)
        value, gradient = objective(w) if first is None else first  # the optimiser begins at the start
        first = None
        # A line search may try a saddle, such as zero weights before a head that compares.
        lowest = min(lowest, value)
        if value <= lowest and np.abs(gradient).max(initial=0.0) <= tolerance:
            best = w
            raise _Flat(value)
        return value, gradient if change is None else unit * change.gradient(gradient)

    def count(_: Floats) -> None:
        nonlocal iterations
        iterations += 1

    try:
        result = scipy.optimize.minimize(
            at, objective.start if change is None else np.zeros_like(objective.start),
            jac=True, method="L-BFGS-B", callback=count,
            options={"maxiter": max_iter, "gtol": 0.0, "ftol": 1e-12, "maxfun": 2 * max_iter},
        )  # fmt: skip
        best, value, converged = weights(result.x), float(result.fun), bool(result.success)
    except _Flat as flat:
        value, converged = flat.value, True
    finally:
        objective.close()
    objective.put(best)
    return {
        "objective": value,
        "iterations": iterations,
        "evaluations": objective.evaluations,
        "converged": converged,
    }


class _Flat(Exception):
    """The gradient is within the tolerance; ends the optimiser where it is, be it within a line search."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value


class _Objective:
    """The penalised loss of a training set, and its gradient, as a function of all parameters in one vector.

    Calling it shows a progress bar once it has gone on for a second.
    """

    def __init__(
        self,
        network: Network,
        inputs: Array,
        position: Integers,
        groups: TrainingGroups,
        loss: Loss,
        l2: float,
        pull: Pull,
    ) -> None:
        self.network, self.loss, self.l2, self.groups = network, loss, l2, groups
        self.position = position
        self.place = torch.from_numpy(position)
        self.batch = groups.tensors()
        modules = [network, *([loss] if isinstance(loss, nn.Module) else [])]
        self.parameters = [p for module in modules for p in module.parameters()]
        self.penalised = [p for p in network.parameters() if p.ndim == 2]
        self.centre = [p.detach().clone() if pull == "start" else torch.zeros_like(p) for p in self.penalised]
        self.start: Floats = parameters_to_vector(self.parameters).detach().numpy().copy()
        self.reads_features = bool(getattr(loss, "reads_features", False))
        self.linear: LinearInputs | None = None
        self.paired = False
        if len(network.layers) or self.reads_features:
            self.x = network.standardise(torch.from_numpy(inputs.astype(np.float64)))
        else:
            mean, scale = network.mean.numpy(), network.scale.numpy()
            self.paired = self._only_differences_count(inputs)
            if self.paired:
                inputs, mean = differences(inputs, position), np.zeros_like(mean)
            self.linear = LinearInputs(inputs, mean, scale)
        self.evaluations = 0
        self._began = time.perf_counter()
        self._shown = ExitStack()
        self._bar: Bar | None = None

    def _only_differences_count(self, inputs: Array) -> bool:
        """Whether differences of large inputs hold all that the loss sees, in less memory than the inputs."""
        return (
            inputs.dtype == np.float32
            and inputs.size >= linear.SINGLE
            and self.position.shape[1] == 2
            and len(inputs) > len(self.position)
            and type(self.network.head) is ScalarHead
            and isinstance(self.loss, losses.Loss)
            and not self.loss.anchored
            and bool(self.groups.mask.all())
        )

    def __call__(self, values: Floats) -> tuple[float, Floats]:
        self.put(values)
        for parameter in self.parameters:
            parameter.grad = None
        last, features = self.network.last, None
        if self.linear is not None:
            outputs = self._linear_outputs(self.linear)
        else:
            features = self.network.features(self.x)
            outputs = last(features)[self.place]
        value = self.of(outputs, self.batch, features)
        penalty = [((p - c) ** 2).sum() for p, c in zip(self.penalised, self.centre, strict=True)]
        value = value + 0.5 * self.l2 * torch.stack(penalty).sum()
        value.backward()  # type: ignore[no-untyped-call]
        gradient = torch.cat(
            [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in self.parameters]
        )
        if not torch.isfinite(value):
            raise PalateError("the training objective is not finite; raise l2 or look at the inputs' range")
        self._progress()
        return float(value.detach()), gradient.numpy().copy()

    def _linear_outputs(self, inputs: LinearInputs) -> Tensor:
        """Shape (n, k, width); of a pair that counts as a difference, the difference and zero."""
        last = self.network.last
        if not self.paired:
            return inputs(last.weight, last.bias)[self.place]
        outputs = inputs(last.weight, None)
        return torch.stack([outputs, torch.zeros_like(outputs)], 1)

    def of(self, outputs: Tensor, batch: dict[str, Any], features: Tensor | None = None) -> Tensor:
        """The loss of outputs of shape (n, k, width)."""
        read = self.network.read(outputs, batch)
        if features is not None and self.reads_features:
            read = replace(read, features=features[self.place])
        return loss_of(self.loss, read, batch)

    def put(self, values: Floats) -> None:
        """Set all parameters."""
        vector_to_parameters(torch.from_numpy(values), self.parameters)

    def change_of_variables(self) -> _Change | None:
        """For a linear network under a head that scores; None where it would cost more than it saves."""
        n, k = self.position.shape
        dim = self.network.last.in_features
        rows = np.arange(0, n, -(-n // max(SAMPLE, 16 * dim)))
        if self.linear is None or self.network.head.native != "score" or dim * len(rows) > 1024 * n:
            return None
        centred = k > 1 and not getattr(self.loss, "anchored", False)
        with torch.no_grad():
            outputs = self._linear_outputs(self.linear)[rows]
        batch = self.groups.tensors(rows)
        bent = curvature(lambda at: self.of(at, batch), outputs)
        whitening = Whitening(self._varying(self.linear, rows, centred), len(rows), bent, self.l2)
        last = self.network.last
        begin = 0
        for parameter in self.parameters:
            if parameter is last.weight:
                break
            begin += parameter.numel()
        return _Change(whitening, slice(begin, begin + last.weight.numel()), last.out_features)

    def _varying(self, inputs: LinearInputs, groups: Integers, centred: bool) -> Iterator[Floats]:
        step = max(1, 4096 // self.position.shape[1])  # small tables, for which memory is used again
        for start in range(0, len(groups), step):
            some = groups[start : start + step]
            if self.paired:
                yield inputs.rows(some) * np.sqrt(0.5)
            else:
                yield varying(inputs.rows(self.position[some]), self.groups.mask[some], centred)

    def _progress(self) -> None:
        self.evaluations += 1
        if self._bar is None and time.perf_counter() - self._began > 1.0:
            self._bar = self._shown.enter_context(progress("Fitting: passes over the training set"))
            self._bar.advance(self.evaluations)
        elif self._bar is not None:
            self._bar.advance()

    def close(self) -> None:
        """End the progress bar."""
        self._shown.close()


@dataclass
class _Change:
    """`Whitening` of the weights of the last layer within the vector of all parameters."""

    whitening: Whitening
    place: slice
    width: int

    def _apply(self, function: Callable[[Floats], Floats], values: Floats) -> Floats:
        made = values.copy()
        made[self.place] = function(values[self.place].reshape(self.width, -1)).ravel()
        return made

    def weights(self, v: Floats) -> Floats:
        return self._apply(self.whitening.weights, v)

    def gradient(self, gradient: Floats) -> Floats:
        return self._apply(self.whitening.gradient, gradient)


@dataclass
class InputGroups:
    """Groups over fixed inputs; what the trainer takes batches from."""

    inputs: Array  # (m, d)
    position: Integers  # (n, k)
    groups: TrainingGroups
    mean: Floats  # (d,)
    scale: Floats  # (d,)

    @classmethod
    def of(cls, network: Network, inputs: Array, position: Integers, groups: TrainingGroups) -> InputGroups:
        """With the standardisation of `network`."""
        return cls(inputs, position, groups, network.mean.numpy().copy(), network.scale.numpy().copy())

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def source(self) -> Integers | None:
        """Codes of where the groups come from, if that is known."""
        return self.groups.extra.get("source")

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """See `palate.training.Groups`; adds standardised `inputs` of shape (batch, k, d)."""
        index = np.asarray(rows)
        standard = (self.inputs[self.position[index]] - self.mean) / self.scale
        return {"inputs": torch.from_numpy(standard), **self.groups.tensors(index)}


def train_network(
    network: Network,
    inputs: Array,
    position: Integers,
    groups: TrainingGroups,
    loss: Loss,
    config: TrainingConfig,
    run: Run | None = None,
    meta: MetaStep | None = None,
    validation: InputGroups | None = None,
) -> dict[str, Any]:
    """Train on fixed inputs in steps, by `palate.training.PreferenceTrainer`: for losses that need batches,
    passes with dropout, or a schedule. Arguments as in `fit_network`; `meta` and `validation` as in the
    trainer."""
    made = InputGroups.of(network, inputs, position, groups)
    if isinstance(loss, nn.Module):
        loss.double()
    trainer = PreferenceTrainer(
        network, made, score_inputs(loss), loss, config, run=run, stage="reward", meta=meta,
        validation=validation,
    )  # fmt: skip
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


def check_supervised(loss: losses.Loss) -> None:
    """Refuse a loss from which no order of responses can be learnt.

    Raises:
        ConfigError: the loss, or every term of a sum, reads no preferences.
    """
    if not loss.supervised:
        raise ConfigError(
            f"the loss {loss.name!r} reads no preferences, so that it alone teaches no scores; "
            f"add it to one that does: 'bradley_terry + {loss.name}'"
        )


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
