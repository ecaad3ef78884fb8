"""Best of n: what a judge's choice among n samples is worth to another, and what it costs in divergence.

Curves over n come from one pool of N samples per prompt by order statistics, without bias and with less noise
than drawing n anew (Nakano et al. 2021, "WebGPT", appendix I; Gao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, DataError
from palate.report import Report
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.judges.base import Judge

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def best_of_n_kl(n: npt.ArrayLike) -> Floats:
    """``log n - (n - 1) / n`` in nats, element by element: divergence of the best of n from the policy that
    it is drawn from, if no two samples score the same; else an upper bound (Beirami et al. 2024).

    >>> best_of_n_kl([1, 2, 16]).round(4).tolist()
    [0.0, 0.1931, 1.8351]
    """
    values = np.asarray(n, dtype=np.float64)
    if not (values >= 1).all():
        raise ConfigError("n must be 1 or more")
    return np.asarray(np.log(values) - (values - 1.0) / values)


def log_spaced(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`, which is always the last."""
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})


def selection_weights(scores: npt.ArrayLike, n: int) -> Floats:
    """Chance that each sample of a pool is the one a judge picks among n drawn without replacement.

    With N samples in the pool, the one of rank r from below is the best of n with chance
    ``C(r - 1, n - 1) / C(N, n)``; samples that score the same share their chances.

    Args:
        scores: the judge's, shape (prompts, N); NaN is no sample.
        n: how many are drawn.

    Returns:
        Shape of `scores`, rows sum to 1, 0 where there is no sample.

    Raises:
        DataError: a pool has fewer than n samples.

    >>> selection_weights([[0.1, 0.9, 0.5]], 2).round(4).tolist()
    [[0.0, 0.6667, 0.3333]]
    """
    s = _pool(scores)
    size = (~np.isnan(s)).sum(axis=1)
    if n < 1 or (size < n).any():
        row = int(np.flatnonzero(size < n)[0]) if n >= 1 else 0
        raise DataError(
            f"the best of {n} needs pools of {max(n, 1)} or more samples; this one has {size[row]}",
            row=row + 1, field="scores", remedy="draw more samples or ask for smaller n",
        )  # fmt: skip
    order = np.argsort(s, axis=1, kind="stable")  # NaN last
    # C(r - 1, n - 1) / C(N, n) as n / N * prod_{i=1}^{n-1} (r - i) / (N - i), in logarithms.
    rank = np.arange(1, s.shape[1] + 1, dtype=np.float64)[None, :]
    sizes = size[:, None].astype(np.float64)
    chance = np.exp(
        np.log(n / sizes) + _log_falling(rank - 1, n - 1) - _log_falling(sizes - 1, n - 1)
    )  # fmt: skip
    chance = np.where((rank >= n) & (rank <= sizes), chance, 0.0)
    ordered = np.take_along_axis(s, order, axis=1)
    block = np.cumsum(
        np.concatenate([np.zeros((len(s), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1), axis=1
    )
    code = block + np.arange(len(s))[:, None] * s.shape[1]
    total = np.bincount(code.ravel(), chance.ravel(), s.size)
    count = np.maximum(np.bincount(code.ravel(), minlength=s.size), 1)
    weights = np.empty_like(s)
    np.put_along_axis(weights, order, (total / count)[code], axis=1)
    return np.where(np.isnan(s), 0.0, weights)


def best_of_n(
    proxies: Mapping[str, npt.ArrayLike],
    gold: npt.ArrayLike,
    n: Sequence[int] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """The mean gold reward of the sample each proxy picks among n, over n.

    Args:
        proxies: name -> the proxy's scores of the samples, shape (prompts, N), NaN where there is none.
        gold: the gold reward of the same samples.
        n: which n; powers of two up to the smallest pool where None.
        confidence: coverage of the intervals.
        resamples: bootstrap resamples of prompts.
        seed: of the bootstrap.

    Returns:
        One row for each proxy and n: `judge`, `n`, `kl` (nats), `proxy` (mean proxy score of the sample
        picked), `gold` with `lower` and `upper`, `gain` (gold less that of n = 1) with `gain_lower` and
        `gain_upper`, `best` (gold if the gold reward itself picked) and `share_of_best` (gain as a share of
        that of the best; NaN at n = 1).

    Raises:
        ConfigError: no proxy, or shapes differ.
        DataError: a sample has a proxy's score and no gold reward or the other way round, or a pool is
            smaller than n.
    """
    pools, g, sizes = checked_pools(proxies, gold, n)
    counts = resampled_rows(len(g), resamples, seed, "best of n")
    first, tops = picked(g, g, 1), {size: picked(g, g, size) for size in sizes}
    rows = []
    for name, s in pools.items():
        for size in sizes:
            chosen = picked(s, g, size)
            low, high = _percentiles(counts @ chosen / len(g), confidence)
            gain_low, gain_high = _percentiles(counts @ (chosen - first) / len(g), confidence)
            most = float((tops[size] - first).mean())
            gain = float((chosen - first).mean())
            rows.append(
                {
                    "judge": name,
                    "n": size,
                    "kl": float(best_of_n_kl(size)),
                    "proxy": float(picked(s, s, size).mean()),
                    "gold": float(chosen.mean()),
                    "lower": low,
                    "upper": high,
                    "gain": gain,
                    "gain_lower": gain_low,
                    "gain_upper": gain_high,
                    "best": float(tops[size].mean()),
                    "share_of_best": gain / most if most > 0 else np.nan,
                }
            )
    return pl.DataFrame(rows)


def best_of_n_report(
    judges: Mapping[str, Judge],
    gold: Judge,
    prompts: Sequence[str],
    pools: Sequence[Sequence[str]],
    n: Sequence[int] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """`best_of_n` for judges of texts: every judge scores every pool once.

    Args:
        judges: name -> judge that picks. One that only compares gives each sample its mean chance to win
            against its pool.
        gold: the judge whose scores count.
        prompts: shape (prompts,).
        pools: the samples of each prompt.
        n, resamples, seed: as `best_of_n`.

    Returns:
        A `Report` with the table "best_of_n" and the metrics `gain/NAME` and `share_of_best/NAME` at the
        largest n.
    """
    table = best_of_n(
        {name: judge.score(prompts, pools).scores for name, judge in judges.items()},
        gold.score(prompts, pools).scores,
        n,
        resamples=resamples,
        seed=seed,
    )
    most = int(table["n"].to_numpy().max())
    last = table.filter(pl.col("n") == most).sort("gain", descending=True)
    numbers = {f"gain/{row['judge']}": row["gain"] for row in last.iter_rows(named=True)}
    numbers |= {f"share_of_best/{row['judge']}": row["share_of_best"] for row in last.iter_rows(named=True)}
    notes = [
        f"{row['judge']} gains {row['gain']:.3g} ({row['gain_lower']:.3g} to {row['gain_upper']:.3g}) of "
        f"gold reward as the judge of the best of {most}, {row['share_of_best']:.0%} of what could be gained."
        for row in last.iter_rows(named=True)
    ]
    return Report(
        title=f"Best of up to {most} of {len(prompts):,} prompts",
        metrics={name: value for name, value in numbers.items() if not np.isnan(value)},
        tables={"best_of_n": table},
        notes=notes,
        config={"judges": list(judges), "gold": gold.name, "prompts": len(prompts), "seed": seed},
    )


def checked_pools(
    proxies: Mapping[str, npt.ArrayLike], gold: npt.ArrayLike, n: Sequence[int] | None
) -> tuple[dict[str, Floats], Floats, list[int]]:
    """The scores of each proxy, the gold reward and the sizes, checked as `best_of_n` says."""
    g = _pool(gold)
    if not proxies:
        raise ConfigError("there is no proxy; give a name and scores for each")
    pools = {name: _pool(scores) for name, scores in proxies.items()}
    for name, s in pools.items():
        if s.shape != g.shape:
            raise ConfigError(f"{name} has scores of shape {s.shape}; the gold reward has {g.shape}")
        odd = np.isnan(s) != np.isnan(g)
        if odd.any():
            row = int(np.flatnonzero(odd.any(axis=1))[0])
            raise DataError("a sample lacks the score or the gold reward", row=row + 1, field=name)
    smallest = int((~np.isnan(g)).sum(axis=1).min())
    if smallest < 1:
        row = int(np.flatnonzero(np.isnan(g).all(axis=1))[0])
        raise DataError("a prompt has no sample", row=row + 1, field="gold")
    sizes = log_spaced(smallest) if n is None else sorted(set(n))
    return pools, g, sizes


def resampled_rows(rows: int, resamples: int, seed: int, scope: str) -> Floats:
    """How often each row is drawn in each bootstrap resample, shape (resamples, rows)."""
    rng = generator(seed, scope)
    return rng.multinomial(rows, np.full(rows, 1.0 / rows), size=resamples).astype(np.float64)


def picked(scores: Floats, values: Floats, n: int) -> Floats:
    """Mean value of the sample that the scores pick among n, shape (prompts,); see `selection_weights`."""
    return np.asarray((selection_weights(scores, n) * np.nan_to_num(values)).sum(axis=1))


def _percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _log_falling(x: Floats, k: int) -> Floats:
    """``log(x (x - 1) ... (x - k + 1))``; -inf where a factor is 0 or less."""
    from scipy.special import gammaln

    inside = x >= k
    return np.where(
        inside, gammaln(np.where(inside, x, k) + 1) - gammaln(np.where(inside, x, k) - k + 1), -np.inf
    )


def _pool(scores: npt.ArrayLike) -> Floats:
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 2 or not s.size:
        raise ConfigError(f"a pool has scores of shape (prompts, samples); got {s.shape}")
    return s
