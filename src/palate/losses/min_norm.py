"""The shortest vector in the convex hull of gradients: a step that none of several objectives loses by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from palate.errors import DataError, unknown

CORNER = 0.999
"""Largest weight the rule for two vectors gives, so that no objective is left out for good."""
MOST_ITERATIONS = 1000
TOLERANCE = 1e-9


def min_norm_weights(gradients: Tensor) -> Tensor:
    """Weights l of gradients g_1..g_K that minimise ``|sum_i l_i g_i|^2`` with ``l >= 0`` and ``sum l = 1``.

    Two vectors have a closed form, with weights kept within [0.001, 0.999]. More start from the best two and
    go on by Frank-Wolfe steps from one vertex to another (Jaggi, 2013; Lacoste-Julien & Jaggi, 2015) until
    ``g_i . v >= |v|^2`` for the sum v and every i, up to 1e-9 of the longest squared length: then v is the
    shortest. Going along -v raises no objective (Desideri, 2012; Sener & Koltun, 2018).

    Args:
        gradients: shape (K, d), of any scale; see `normalized` for making their lengths comparable.

    Returns:
        shape (K,), float64, without gradient.

    Raises:
        DataError: the shape is another, or a gradient is not finite.

    >>> min_norm_weights(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [0.8, 0.2]
    """
    if gradients.ndim != 2 or not len(gradients):
        raise DataError(
            f"gradients have shape {tuple(gradients.shape)}", remedy="give K >= 1 of them in shape (K, d)"
        )
    bad = ~torch.isfinite(gradients).all(1)
    if bool(bad.any()):
        raise DataError(
            "a gradient that is not finite", row=int(bad.nonzero()[0]) + 1, field="gradients",
            remedy="lower the learning rate if training diverged",
        )  # fmt: skip
    rows = gradients.detach().double()
    gram = (rows @ rows.T).tolist()
    weights = _best_two(gram)
    if len(gram) > 2:
        _descend(weights, gram)
    return torch.tensor(weights, dtype=torch.float64, device=gradients.device)


def _best_two(gram: list[list[float]]) -> list[float]:
    """The shortest combination of two vectors, as weights of all K."""
    n = len(gram)
    if n == 1:
        return [1.0]
    found = []
    for i in range(n):
        for j in range(i + 1, n):
            a, b, ab = gram[i][i], gram[j][j], gram[i][j]
            share = _share(a, b, ab)
            length = share**2 * a + (1 - share) ** 2 * b + 2 * share * (1 - share) * ab
            found.append((length, i, j, share))
    _, i, j, share = min(found)
    weights = [0.0] * n
    weights[i], weights[j] = share, 1.0 - share
    return weights


def _share(a: float, b: float, ab: float) -> float:
    """Weight c of the first of two vectors that makes ``c x + (1 - c) y`` shortest; a = x.x, b = y.y, ab =
    x.y."""
    if ab >= a:
        return CORNER
    if ab >= b:
        return 1.0 - CORNER
    return (b - ab) / (a + b - 2 * ab)


def _descend(weights: list[float], gram: list[list[float]]) -> None:
    """Move weight from the vertex that adds most length to the one that adds least, in place."""
    n = len(gram)
    slack = TOLERANCE * max(gram[i][i] for i in range(n))
    slope = [sum(g * w for g, w in zip(row, weights, strict=True)) for row in gram]
    for _ in range(MOST_ITERATIONS):
        to = min(range(n), key=slope.__getitem__)
        if sum(w * s for w, s in zip(weights, slope, strict=True)) - slope[to] <= slack:
            return
        from_ = max((i for i in range(n) if weights[i] > 0), key=slope.__getitem__)
        bend = gram[to][to] + gram[from_][from_] - 2 * gram[to][from_]
        step = weights[from_]
        if bend > 0:
            step = min(step, (slope[from_] - slope[to]) / bend)
        weights[to] += step
        weights[from_] = max(weights[from_] - step, 0.0)
        slope = [s + step * (up - down) for s, up, down in zip(slope, gram[to], gram[from_], strict=True)]


def normalized(gradients: Tensor, values: Tensor, how: str = "l2") -> Tensor:
    """Gradients of comparable length, for `min_norm_weights`; the shortest vector else follows the short.

    Args:
        gradients: shape (K, d).
        values: shape (K,), the losses they are of.
        how: "l2" divides by the length, "loss" by ``(loss + 1) / sum (loss + 1)``, "loss+" by length times
            loss, "none" by nothing. What would be divided by 0 stays.

    Returns:
        shape (K, d).

    Raises:
        ConfigError: another name.
    """
    if how not in NORMALIZERS:
        raise unknown("normalizer", how, NORMALIZERS)
    divisor = NORMALIZERS[how](gradients.norm(dim=1), values.detach().to(gradients.dtype))
    return gradients / torch.where(divisor != 0, divisor, 1.0)[:, None]


NORMALIZERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": lambda length, loss: length,
    "loss": lambda length, loss: (loss + 1) / (loss + 1).sum(),
    "loss+": lambda length, loss: length * loss,
    "none": lambda length, loss: torch.ones_like(length),
}
