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

    Two vectors have a closed form, with weights kept within [0.001, 0.999] as in Sener & Koltun (2018). For
    more, Wolfe's algorithm (1976), a Frank-Wolfe method that corrects all weights at each step, ends when
    ``g_i . v >= |v|^2`` for the sum v and every i, up to 1e-9 of the longest squared length: then v is the
    shortest. Going along -v raises no objective (Desideri, 2012).

    Args:
        gradients: shape (K, d), of any scale; see `normalized` for making their lengths comparable.

    Returns:
        shape (K,), float64, without gradient.

    Raises:
        DataError: the shape is another, or a gradient is not finite.

    >>> [round(weight, 6) for weight in min_norm_weights(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()]
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
    gram = (rows @ rows.T).cpu()
    if len(rows) == 1:
        weights = torch.ones(1, dtype=torch.float64)
    elif len(rows) == 2:
        first = _share(float(gram[0, 0]), float(gram[1, 1]), float(gram[0, 1]))
        weights = torch.tensor([first, 1.0 - first], dtype=torch.float64)
    else:
        weights = _shortest(gram)
    return weights.to(gradients.device)


def _share(a: float, b: float, ab: float) -> float:
    """Weight c of the first of two vectors that makes ``c x + (1 - c) y`` shortest; a = x.x, b = y.y, ab =
    x.y."""
    if ab >= a:
        return CORNER
    if ab >= b:
        return 1.0 - CORNER
    return (b - ab) / (a + b - 2 * ab)


def _shortest(gram: Tensor) -> Tensor:
    """Wolfe's algorithm: take in the vector that shortens most, find the shortest combination of those taken
    with any weights of sum 1, and give up those whose weight would become negative."""
    slack = TOLERANCE * float(gram.diagonal().max())
    weights = torch.zeros(len(gram), dtype=gram.dtype)
    taken = [int(gram.diagonal().argmin())]
    weights[taken] = 1.0
    for _ in range(MOST_ITERATIONS):
        along = gram @ weights
        best = int(along.argmin())
        if best in taken or float(weights @ along - along[best]) <= slack:
            break
        taken.append(best)
        while True:
            wanted, now = _affine(gram[taken][:, taken]), weights[taken]
            if bool((wanted > 0).all()):
                weights[taken] = wanted
                break
            back = wanted <= 0
            way = (now[back] / (now[back] - wanted[back]).clamp(min=1e-300)).min()
            moved = (1 - way) * now + way * wanted
            moved[back & (moved <= 1e-15)] = 0.0
            weights[taken] = moved
            kept = [i for i in taken if float(weights[i]) > 0]
            if len(kept) == len(taken):  # nothing left to gain but rounding
                break
            taken = kept
    return weights / weights.sum()


def _affine(gram: Tensor) -> Tensor:
    """Weights of sum 1, of either sign, whose combination is shortest."""
    n = len(gram)
    scale = float(gram.diagonal().max()) or 1.0
    system = torch.ones(n + 1, n + 1, dtype=gram.dtype)
    system[0, 0], system[1:, 1:] = 0.0, gram / scale
    right = torch.zeros(n + 1, 1, dtype=gram.dtype)
    right[0] = 1.0
    solution: Tensor = torch.linalg.lstsq(system, right, driver="gelsd").solution
    return solution[1:, 0]


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
