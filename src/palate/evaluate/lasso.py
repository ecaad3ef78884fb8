"""Logistic regression with an L1 penalty on a few features: many problems over the same rows at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]

STEPS, SWEEPS, TOLERANCE = 100, 200, 1e-10


def l1_logistic(features: Floats, target: Floats, weight: Floats, inverse_penalty: Floats) -> Floats:
    """b, shape (problems, d), that minimises |b|_1 + C sum_i w_i [log(1 + e^(x_i b)) - y_i x_i b].

    Proximal Newton steps with coordinate descent inside (Friedman, Hastie and Tibshirani 2010) and a line
    search. There is no intercept: give a column of ones, which is penalised as any other.

    Args:
        features: x, shape (n, d), d small.
        target: y in [0, 1], shape (n,).
        weight: w of each row in each problem, 0 or more, shape (problems, n).
        inverse_penalty: C of each problem, shape (problems,).
    """
    c = inverse_penalty[:, None]
    b = np.zeros((len(weight), features.shape[1]))
    value = _objective(b, features, target, weight, c)
    for _ in range(STEPS):
        p = expit(b @ features.T)
        gradient = c * ((weight * (p - target)) @ features)
        curvature = c[:, :, None] * np.einsum("bn,ni,nj->bij", weight * p * (1.0 - p), features, features)
        # A feature without any spread, or without curvature where all is decided, must not divide by 0.
        curvature += 1e-12 * (1.0 + np.trace(curvature, axis1=1, axis2=2))[:, None, None] * np.eye(b.shape[1])
        step = _step(b, gradient, curvature)
        slope = (gradient * step).sum(1) + np.abs(b + step).sum(1) - np.abs(b).sum(1)
        size = np.ones(len(b))
        for _ in range(40):
            trial = b + size[:, None] * step
            reached = _objective(trial, features, target, weight, c)
            worse = reached > value + 1e-4 * size * slope + 1e-13 * np.abs(value)
            if not worse.any():
                break
            size[worse] /= 2
        moved = np.where(worse[:, None], 0.0, size[:, None] * step)
        b = b + moved
        value = np.where(worse, value, reached)
        if np.abs(moved).max(initial=0.0) < TOLERANCE:
            break
    return b


def _objective(b: Floats, features: Floats, target: Floats, weight: Floats, c: Floats) -> Floats:
    z = b @ features.T
    loss = (weight * (np.logaddexp(0.0, z) - target * z)).sum(axis=1)
    return np.asarray(np.abs(b).sum(axis=1) + c[:, 0] * loss)


def _step(b: Floats, gradient: Floats, curvature: Floats) -> Floats:
    """Steps to the minimum of the penalised quadratic models, coordinate by coordinate."""
    step = np.zeros_like(b)
    for _ in range(SWEEPS):
        before = step.copy()
        for j in range(b.shape[1]):
            diagonal = curvature[:, j, j]
            pull = gradient[:, j] + (curvature[:, j] * step).sum(1) - diagonal * step[:, j]
            z = diagonal * b[:, j] - pull
            step[:, j] = np.sign(z) * np.maximum(np.abs(z) - 1.0, 0.0) / diagonal - b[:, j]
        if np.abs(step - before).max(initial=0.0) < 1e-13:
            break
    return step
