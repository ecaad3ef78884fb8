"""Linear outputs of many inputs, and the change of variables in which a fit of them takes few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from torch import Tensor

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SINGLE = 1 << 25
"""Inputs in single precision with at least this many entries are multiplied as they are."""

SAMPLE = 1 << 14
"""Groups from which the curvature is taken, at least; 16 per column if that is more."""

_BLOCK = 1 << 15
_CACHED = 1 << 10  # rows of a block that stay in the cache between two uses; divides _BLOCK
_FAR = 8.0  # means further from zero than this many spreads are subtracted before single-precision products


def mean_and_spread(values: Array) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the columns of `values` (m, d), in one pass."""
    m, d = values.shape
    # A value of the column itself, so that a constant column has no spread, and one near its mean.
    head = values[:1024]
    nearest = np.abs(head - head.mean(axis=0, dtype=np.float64)).argmin(axis=0)
    shift = head[nearest, np.arange(d)]

    def sums(begin: int) -> Floats:
        total = np.zeros((2, d))
        for start in range(begin, min(begin + _BLOCK, m), _CACHED):
            block = values[start : start + _CACHED] - shift
            total[0] += block.sum(axis=0)
            np.square(block, out=block)
            total[1] += block.sum(axis=0)
        return total

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        first, second = sum(pool.map(sums, range(0, m, _BLOCK)), np.zeros((2, d))) / m
    return shift + first, np.sqrt(np.maximum(second - first**2, 0.0))


def differences(values: Array, position: Integers) -> Array:
    """Rows of `values` (m, d) at the first places of `position` (n, 2) less those at the second; (n, d)."""
    n = len(position)
    made = np.empty((n, values.shape[1]), dtype=values.dtype)

    def fill(begin: int) -> None:
        for start in range(begin, min(begin + _BLOCK, n), _CACHED):
            first, second = position[start : start + _CACHED].T
            np.subtract(values[first], values[second], out=made[start : start + len(first)])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fill, range(0, n, _BLOCK)))
    return made


class LinearInputs:
    """Products of standardised inputs with weights, and of gradients with inputs.

    Large inputs in single precision are neither copied nor standardised: ``((x - mean) / scale) @ w`` is
    ``x @ (w / scale) - mean @ (w / scale)``. Their products are of single precision, summed over blocks in
    double precision; outputs are carried from one call to the next in double precision, so that rounding is
    in proportion to the change of the weights and an optimiser's last steps see a smooth objective. Smaller
    inputs are standardised in double precision.

    Args:
        values: shape (m, d).
        mean: shape (d,).
        scale: shape (d,).
    """

    def __init__(self, values: Array, mean: Floats, scale: Floats) -> None:
        self.mean, self.scale = mean, scale
        self.values: Array = values
        self.shift: Array | None = None
        self._known: tuple[Floats, Floats] | None = None  # weights and their outputs
        if values.dtype != np.float32 or values.size < SINGLE:
            self.values = (values - mean) / scale
            self.mean, self.scale = np.zeros_like(mean), np.ones_like(scale)
        elif (np.abs(mean) > _FAR * scale).any():
            self.shift = mean.astype(np.float32)
            self.mean = mean - self.shift

    def rows(self, index: Integers) -> Floats:
        """Standardised inputs at `index` (...), shape (..., d)."""
        shift = 0.0 if self.shift is None else self.shift.astype(np.float64)
        return np.asarray((self.values[index] - shift - self.mean) / self.scale)

    def outputs(self, weight: Floats) -> Floats:
        """Shape (m, width) for `weight` of shape (width, d)."""
        known, made = self._known or (np.zeros_like(weight), np.zeros((len(self.values), len(weight))))
        change = (weight - known) / self.scale
        if not change.any():
            return made
        narrow: npt.NDArray[Any] = change.T.astype(self.values.dtype)
        made = made - change @ self.mean
        for start, block in self._blocks():
            made[start : start + len(block)] += block @ narrow
        self._known = weight.copy(), made
        return made

    def gradient(self, outputs: Floats) -> Floats:
        """Gradient (width, d) of the weights from the gradient (m, width) of the outputs."""
        total = np.zeros((outputs.shape[1], self.values.shape[1]))
        narrow: npt.NDArray[Any] = outputs.astype(self.values.dtype, copy=False)
        for start, block in self._blocks():
            total += narrow[start : start + len(block)].T @ block
        return np.asarray((total - np.outer(outputs.sum(axis=0), self.mean)) / self.scale)

    def _blocks(self) -> Iterator[tuple[int, Array]]:
        for start in range(0, len(self.values), _BLOCK):
            block = self.values[start : start + _BLOCK]
            yield start, block if self.shift is None else block - self.shift

    def __call__(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Outputs (m, width) with gradient, of a layer with `weight` (width, d) and `bias` (width,)."""
        made: Tensor = _Product.apply(weight, self)  # type: ignore[no-untyped-call]
        return made if bias is None else made + bias


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, inputs: LinearInputs) -> Tensor:
        ctx.inputs = inputs
        return torch.from_numpy(inputs.outputs(weight.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.inputs.gradient(gradient.numpy())), None


class Whitening:
    """Variables v with ``w = start + L^-T v``, in which the objective is about as curved in every direction.

    ``L L^T = c G + l2 I`` with G the mean over a sample of groups of the sum of ``x x^T`` over the group,
    the inputs x centred within the group for a loss that ignores the level of scores, and c the curvature of
    the loss along its gradient. Only the number of steps depends on how well this fits, never the optimum.

    Args:
        rows: arrays of shape (any, d) whose rows are the x of a sample of groups.
        count: how many groups that is.
        curvature: c; see `curvature`.
        l2: penalty on the weights.
    """

    def __init__(self, rows: Iterable[Floats], count: int, curvature: float, l2: float) -> None:
        gram: Floats = np.asarray(sum(x.T @ x for x in rows))
        d = len(gram)
        gram = gram * (curvature / count)
        # Directions in which the sample does not vary keep a small curvature, so that no step is unbounded.
        gram.flat[:: d + 1] += l2 + 1e-8 * max(float(np.trace(gram)) / d, 1e-300)
        self.factor = np.asarray(scipy.linalg.cholesky(gram, lower=True))

    def weights(self, v: Floats) -> Floats:
        """``L^-T v`` for every output: shape (width, d) from v of shape (width, d)."""
        return np.asarray(scipy.linalg.solve_triangular(self.factor, v.T, lower=True, trans="T").T)

    def gradient(self, gradient: Floats) -> Floats:
        """Gradient of v, ``L^-1 g``, from that of the weights; both of shape (width, d)."""
        return np.asarray(scipy.linalg.solve_triangular(self.factor, gradient.T, lower=True).T)


def varying(x: Floats, mask: npt.NDArray[np.bool_], centred: bool) -> Floats:
    """Rows whose squares sum to those of `x` (n, k, d) where `mask` holds, less the mean of the group."""
    if centred and x.shape[1] == 2:
        return np.asarray((x[:, 0] - x[:, 1])[mask.all(axis=1)] * np.sqrt(0.5))
    x = np.where(mask[:, :, None], x, 0.0)
    if centred:
        count = np.maximum(mask.sum(axis=1), 1)[:, None, None]
        x -= mask[:, :, None] * x.sum(axis=1, keepdims=True) / count
    return x.reshape(-1, x.shape[2])


def curvature(loss: Callable[[Tensor], Tensor], outputs: Tensor) -> float:
    """Second derivative of a mean over groups along its gradient, per group and unit of squared output.

    For Bradley and Terry's loss at equal scores it is 1/2. It is 1 where the loss is straight or bends
    down, as nothing better is known there.

    Args:
        loss: mean over n groups, of outputs of shape (n, k, width).
        outputs: where.
    """

    def gradient(at: Tensor) -> Tensor:
        leaf = at.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf, allow_unused=True)[0]

    first = gradient(outputs)
    if first is None or not bool(torch.isfinite(first).all()) or not bool(first.any()):
        return 1.0
    step = 1e-3 / first.abs().max()
    second = gradient(outputs + step * first)
    value = float(len(outputs) * ((second - first) * first).sum() / (step * first.square().sum()))
    return value if 1e-6 < value < 1e6 else 1.0
