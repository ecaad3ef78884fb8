"""Compiled loops of the sequential ratings. Ratings are changed in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

NEAR = 5.0
"""Beyond so many standard deviations the normal tail is taken from its continued fraction."""

TERMS = 40
"""Terms of the continued fraction: beyond `NEAR` they leave no error in double precision."""

FAR = 37.0
"""What is expected by so many standard deviations moves nothing when it happens."""


@njit(cache=True, nogil=True)
def elo(battles: Any, weight: Any, ahead: Any, step: float, theta: Any, expected: Any) -> None:
    """Elo updates of `theta` (M,), natural-log strengths.

    A battle is one number, first << 33 | second << 2 | outcome: in a random order it is read by one look into
    memory instead of three. `weight` is (N,), or empty where all are 1; `ahead`, the first item's advantage,
    is (N,), or empty where it is 0. What the first was expected to win goes to `expected` (N,) if that is not
    empty.
    """
    weighted, given, kept = len(weight) > 0, len(ahead) > 0, len(expected) > 0
    for r in range(len(battles)):
        battle = battles[r]
        a, b, outcome = battle >> 33, (battle >> 2) & 0x7FFFFFFF, battle & 3
        won = 0.5 if outcome == 2 else 1.0 - outcome
        behind = theta[b] - theta[a]
        if given:
            behind -= ahead[r]
        share = 1.0 / (1.0 + math.exp(behind))
        if kept:
            expected[r] = share
        change = step * (won - share)
        if weighted:
            change *= weight[r]
        theta[a] += change
        theta[b] -= change


@njit(cache=True)
def tail(y: float) -> float:
    """phi(y)/Phi(-y) - y for y > 0 that is not small: the continued fraction 1/(y + 2/(y + 3/(y + ...)))."""
    rest = y
    for n in range(TERMS, 1, -1):
        rest = y + n / rest
    return 1.0 / rest


@njit(cache=True)
def mills(x: float) -> float:
    """Phi(x) / phi(x)."""
    if x < -NEAR:
        return 1.0 / (tail(-x) - x)
    return 0.5 * math.erfc(-x / math.sqrt(2.0)) * math.sqrt(2.0 * math.pi) * math.exp(0.5 * x * x)


@njit(cache=True)
def of_win(x: float) -> tuple[float, float]:
    """V = phi(x)/Phi(x) and W = V (V + x), for x = t - e: how a win moves mean and variance."""
    if x > FAR:
        return 0.0, 0.0
    if x < -NEAR:
        # V + x would lose its digits in the tail; the continued fraction is that difference.
        beyond = tail(-x)
        return beyond - x, (beyond - x) * beyond
    v = 1.0 / mills(x)
    return v, v * (v + x)


@njit(cache=True)
def of_draw(t: float, e: float) -> tuple[float, float]:
    """V = [phi(-e-t) - phi(e-t)] / D and W = V^2 + [(e-t) phi(e-t) + (e+t) phi(e+t)] / D with
    D = Phi(e-t) - Phi(-e-t): how a draw within the margin e moves mean and variance.

    Everything is divided by phi(e-|t|), so nothing underflows for far |t|; a margin so narrow that D would
    lose its digits is expanded around 0.
    """
    d = abs(t)
    if e * (1.0 + d) < 1e-3:
        return -t * (1.0 - e * e / 3.0), 1.0 - e * e / 3.0
    a, b = e - d, -e - d
    if a > FAR:
        return 0.0, 0.0
    ratio = math.exp(-2.0 * e * d)
    inside = mills(a) - ratio * mills(b)
    v = math.expm1(-2.0 * e * d) / inside
    w = v * v + (a - b * ratio) / inside
    return (v if t > 0 else -v), w


@njit(cache=True, nogil=True)
def trueskill(
    order: Any, first: Any, second: Any, outcome: Any, beta: float, tau: float, margin: float,
    mu: Any, variance: Any,
) -> None:  # fmt: skip
    """TrueSkill updates of `mu` and `variance` (M,) for games of two; `margin` is that of a draw."""
    for r in order:
        i, j = first[r], second[r]
        if outcome[r] == 1:
            i, j = j, i
        vi, vj = variance[i] + tau * tau, variance[j] + tau * tau
        c2 = 2.0 * beta * beta + vi + vj
        c = math.sqrt(c2)
        t, e = (mu[i] - mu[j]) / c, margin / c
        v, w = of_draw(t, e) if outcome[r] == 2 else of_win(t - e)
        mu[i] += vi * v / c
        mu[j] -= vj * v / c
        variance[i] = vi * (1.0 - vi * w / c2)
        variance[j] = vj * (1.0 - vj * w / c2)


@njit(cache=True, nogil=True)
def weng_lin(
    order: Any, offsets: Any, items: Any, scores: Any, apart: Any, beta: float, tau: float, kappa: float,
    mu: Any, variance: Any,
) -> None:  # fmt: skip
    """Plackett-Luce updates of `mu` and `variance` (M,).

    Contest r is among items[offsets[r]:offsets[r + 1]], higher scores first; where apart[r] (contests,) equal
    scores are not compared, else they are ties.
    """
    most = 0
    for r in order:
        most = max(most, offsets[r + 1] - offsets[r])
    v, power, omega, delta = np.empty(most), np.empty(most), np.empty(most), np.empty(most)
    for r in order:
        start, k = offsets[r], offsets[r + 1] - offsets[r]
        total, top = 0.0, -math.inf
        for i in range(k):
            item = items[start + i]
            v[i] = variance[item] + tau * tau
            total += v[i] + beta * beta
            top = max(top, mu[item])
            omega[i] = delta[i] = 0.0
        c = math.sqrt(total)
        for i in range(k):
            # Bounded, so that a sum over weak items alone is never 0.
            power[i] = math.exp(max((mu[items[start + i]] - top) / c, -700.0))
        for q in range(k):
            level = scores[start + q]
            among, equal = power[q], 1
            for s in range(k):
                score = scores[start + s]
                if score < level:
                    among += power[s]
                elif score == level and s != q and not apart[r]:
                    among += power[s]
                    equal += 1
            for i in range(k):
                score = scores[start + i]
                if i == q or score < level or (score == level and not apart[r]):
                    p = power[i] / among
                    omega[i] += ((1.0 if i == q else 0.0) - p) / equal
                    delta[i] += p * (1.0 - p) / equal
        for i in range(k):
            item = items[start + i]
            mu[item] += v[i] / c * omega[i]
            shrink = math.sqrt(v[i]) / c * v[i] / total * delta[i]
            variance[item] = v[i] * max(1.0 - shrink, kappa)
