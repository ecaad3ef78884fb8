"""Over-optimisation: how far a proxy can be pushed before the gold reward falls (Gao et al. 2023).

The gold reward is known; a proxy, say a reward model fitted to labels of it, selects. Two ways of pushing are
measured on one pool of samples, best of n and the policy that a penalty on divergence leads to (the pool's
samples reweighed by ``exp(proxy / temperature)``), beside checkpoints of a policy that was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, DataError
from palate.evaluate.best_of_n import best_of_n_kl, checked_pools, picked, resampled_rows
from palate.report import Report

Floats = npt.NDArray[np.float64]
Form = Literal["best_of_n", "rl"]


class GoldLaw(NamedTuple):
    """``R(d) = d (alpha - beta d)`` for best of n, ``d (alpha - beta log d)`` for training, d = sqrt(KL).

    Attributes:
        alpha: gold reward gained per unit of d at first.
        beta: how fast the gain fades.
        peak: sqrt(KL) at which the gold reward is highest; infinite where it never falls.
        r2: share of the variance of the gains that the law explains.
    """

    alpha: float
    beta: float
    peak: float
    r2: float


def gold_law(kl: npt.ArrayLike, gain: npt.ArrayLike, form: Form = "best_of_n") -> GoldLaw:
    """Fit the law of Gao et al. (2023), equations 1 and 2, by least squares.

    Args:
        kl: divergence from the first policy in nats, shape (n,), 0 or more.
        gain: gold reward less that of the first policy, shape (n,).
        form: which law.

    Raises:
        ConfigError: shapes differ or the form is unknown.
        DataError: fewer than three points with a divergence above 0, or one that is not finite.
    """
    if form not in ("best_of_n", "rl"):
        raise ConfigError(f"form is {form!r}; use 'best_of_n' or 'rl'")
    divergence, y = (np.asarray(x, dtype=np.float64) for x in (kl, gain))
    if divergence.ndim != 1 or divergence.shape != y.shape:
        raise ConfigError(f"kl and gain need one shape (n,); got {divergence.shape} and {y.shape}")
    bad = ~(np.isfinite(divergence) & np.isfinite(y) & (divergence >= 0))
    if bad.any():
        raise DataError(
            "a divergence or gain is not finite or negative",
            row=int(np.flatnonzero(bad)[0]) + 1,
            field="kl",
        )
    d, y = np.sqrt(divergence[divergence > 0]), y[divergence > 0]
    if len(np.unique(d)) < 3:
        raise DataError(
            f"{len(np.unique(d))} divergences above 0 do not show a curve", field="kl",
            remedy="measure three or more",
        )  # fmt: skip
    bend = d**2 if form == "best_of_n" else d * np.log(d)
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -bend], axis=1), y, rcond=None)
    residual = y - d * alpha + bend * beta
    spread = float(((y - y.mean()) ** 2).sum())
    peak = np.inf
    if beta > 0:
        peak = alpha / (2 * beta) if form == "best_of_n" else np.exp(alpha / beta - 1)
    return GoldLaw(
        float(alpha), float(beta), float(max(peak, 0.0)),
        1.0 - float((residual**2).sum()) / spread if spread > 0 else np.nan,
    )  # fmt: skip


class Step(NamedTuple):
    """A policy pushed so far: n or the temperature; divergence (nats), proxy and gold of shape (prompts,)."""

    step: float
    kl: Floats
    proxy: Floats
    gold: Floats


def tilted(proxy: npt.ArrayLike, gold: npt.ArrayLike, temperatures: Sequence[float]) -> list[Step]:
    """The policy that maximises ``E[proxy] - temperature * KL`` among those over the samples of each pool.

    It gives the sample i a probability proportional to ``exp(proxy_i / temperature)``; with the pool drawn
    from a policy it stands for what that policy becomes under the penalty (Korbak et al. 2022).

    Args:
        proxy, gold: of the samples, shape (prompts, N), NaN where there is none.
        temperatures: above 0.

    Returns:
        One step for each temperature, in the order given.
    """
    s, g = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    there = ~np.isnan(s)
    found = []
    for temperature in temperatures:
        if not temperature > 0:
            raise ConfigError(f"temperatures must be above 0; got {temperature}")
        logits = np.where(there, s / temperature, -np.inf)
        logits = logits - logits.max(axis=1, keepdims=True)
        weight = np.exp(logits)
        weight /= weight.sum(axis=1, keepdims=True)
        log_ratio = np.log(np.maximum(weight, 1e-300)) + np.log(there.sum(axis=1, keepdims=True))
        found.append(
            Step(
                float(temperature),
                (weight * np.where(there, log_ratio, 0.0)).sum(axis=1),
                (weight * np.nan_to_num(s)).sum(axis=1),
                (weight * np.nan_to_num(g)).sum(axis=1),
            )
        )
    return found


def over_optimisation(
    proxies: Mapping[str, npt.ArrayLike],
    gold: npt.ArrayLike,
    n: Sequence[int] | None = None,
    *,
    temperatures: Sequence[float] = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125),
    checkpoints: Sequence[Mapping[str, Any]] = (),
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Report:
    """Proxy and gold reward against the square root of the divergence from the first policy.

    Args:
        proxies: name -> scores of samples of the first policy, shape (prompts, N), NaN where there is none.
        gold: their known gold reward.
        n: of best of n; powers of two up to the smallest pool where None.
        temperatures: of the penalised policy, in standard deviations of each proxy over the pool.
        checkpoints: of policies that were trained against a proxy, rows with "judge" (the proxy), "kl"
            (nats), "proxy" and "gold" (means), as measured on samples of theirs.
        confidence: coverage of the intervals.
        resamples: bootstrap resamples of prompts.
        seed: of the bootstrap.

    Returns:
        A `Report` with the table "over_optimisation": `judge`, `way` ("best of n", "penalised", "trained"),
        `step` (n, the temperature, the place among the checkpoints), `kl`, `sqrt_kl`, `proxy` and `gold`
        (gains over the first policy; the proxy's in standard deviations over the pool), `lower` and `upper`
        of gold; and "laws": `gold_law` of each curve, `highest_gold` measured and `at_sqrt_kl`, the `fall`
        from there to the end, and whether it is `certain` (its bootstrap interval is above 0). Metrics
        `fall/NAME`, the fall of the gold gain from its highest point to the end under best of n.

    Raises:
        ConfigError, DataError: as `best_of_n`; a checkpoint lacks an entry or is of an unknown proxy.
    """
    pools, g, sizes = checked_pools(proxies, gold, n)
    counts = resampled_rows(len(g), resamples, seed, "over-optimisation") / len(g)
    base = np.nanmean(g, axis=1)
    rows: list[dict[str, Any]] = []
    laws: list[dict[str, Any]] = []
    for name, s in pools.items():
        centre, spread = float(np.nanmean(s)), float(np.nanstd(s))
        if not spread > 0:
            raise DataError("the proxy gives all samples one score, so it selects nothing", field=name)
        unit = (s - centre) / spread
        start = np.nanmean(unit, axis=1)
        measured = {
            "best of n": [
                Step(
                    size, best_of_n_kl(np.full(len(g), size)), picked(unit, unit, size), picked(unit, g, size)
                )
                for size in sizes
            ],
            "penalised": tilted(unit, g, sorted(temperatures, reverse=True)),
        }
        for way, steps in measured.items():
            found, fall = _curve(steps, start, base, counts, confidence)
            rows += [{"judge": name, "way": way, **row} for row in found]
            laws.append({"judge": name, "way": way, **_law(found, way), **fall})
        trained = [row for row in checkpoints if row.get("judge") == name]
        if trained:
            found = _of_trained(trained, centre, spread, float(base.mean()))
            rows += [{"judge": name, "way": "trained", **row} for row in found]
            laws.append({"judge": name, "way": "trained", **_law(found, "trained"), "certain": None})
    known = {row.get("judge") for row in checkpoints}
    if unknown_names := sorted(str(name) for name in known - set(proxies)):
        raise ConfigError(f"checkpoints of unknown proxies: {', '.join(unknown_names)}")
    return Report(
        title=f"Over-optimisation of {', '.join(proxies)}",
        metrics={f"fall/{row['judge']}": row["fall"] for row in laws if row["way"] == "best of n"},
        tables={"over_optimisation": pl.DataFrame(rows), "laws": pl.DataFrame(laws)},
        notes=[_note(row) for row in laws],
        config={"proxies": list(proxies), "prompts": len(g), "resamples": resamples, "seed": seed},
    )


def _point(step: float, kl: float, proxy: float, gold: float, lower: float, upper: float) -> dict[str, float]:
    return {"step": float(step), "kl": kl, "sqrt_kl": float(np.sqrt(max(kl, 0.0))), "proxy": proxy,
            "gold": gold, "lower": lower, "upper": upper}  # fmt: skip


def _curve(
    steps: Sequence[Step], start: Floats, base: Floats, counts: Floats, confidence: float
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Points with intervals over resampled prompts, and whether the fall from the highest is certain."""
    tail = (1.0 - confidence) / 2
    gains = np.stack([step.gold - base for step in steps])
    draws = counts @ gains.T
    lower, upper = np.quantile(draws, [tail, 1.0 - tail], axis=0)
    found = [
        _point(
            step.step,
            float(step.kl.mean()),
            float((step.proxy - start).mean()),
            float(gain.mean()),
            low,
            high,
        )
        for step, gain, low, high in zip(steps, gains, lower.tolist(), upper.tolist(), strict=True)
    ]
    top = int(gains.mean(axis=1).argmax())
    falls = draws[:, top] - draws[:, -1]
    return found, {"certain": bool(np.quantile(falls, tail) > 0)}


def _of_trained(
    trained: Sequence[Mapping[str, Any]], centre: float, spread: float, base: float
) -> list[dict[str, float]]:
    rows = []
    for place, row in enumerate(trained, 1):
        lacking = [name for name in ("kl", "proxy", "gold") if name not in row]
        if lacking:
            raise ConfigError(f"checkpoint {place} lacks {', '.join(lacking)}")
        gain = float(row["gold"]) - base
        rows.append(
            _point(place, float(row["kl"]), (float(row["proxy"]) - centre) / spread, gain, np.nan, np.nan)
        )
    return rows


def _law(curve: Sequence[Mapping[str, float]], way: str) -> dict[str, Any]:
    gold = np.array([row["gold"] for row in curve])
    top = int(gold.argmax())
    fall = float(gold[top] - gold[-1])
    try:
        law = gold_law([row["kl"] for row in curve], gold, "best_of_n" if way == "best of n" else "rl")
    except DataError:
        law = GoldLaw(np.nan, np.nan, np.nan, np.nan)
    return {
        **law._asdict(),
        "highest_gold": float(gold[top]),
        "at_sqrt_kl": curve[top]["sqrt_kl"],
        "fall": fall,
    }


def _note(row: Mapping[str, Any]) -> str:
    where = f"{row['judge']}, {row['way']}: the gold reward is highest at sqrt(KL) {row['at_sqrt_kl']:.2f}"
    if not row["fall"] > 0:
        return f"{where}, the furthest measured; no over-optimisation is seen."
    sure = {True: ", which is certain", False: ", which may be chance", None: ""}[row["certain"]]
    return f"{where} and {row['fall']:.3g} lower at the end{sure}."
