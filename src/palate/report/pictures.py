"""The tables of a report that have a picture, and how each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Picture:
    """How a table is drawn: section, caption, what a reader who cannot see it should know, and the figure."""

    section: str
    caption: str
    alt: Callable[[pl.DataFrame], str]
    draw: Callable[[pl.DataFrame], Any]


def _slices(table: pl.DataFrame) -> Any:
    from palate.report import plots

    shown = table.filter(pl.col("n") >= 10).head(40)
    columns = shown.select("value", "slice", "n").iter_rows()
    names = [f"{value} · {name.replace('_', ' ')} ({n:,})" for value, name, n in columns]
    bounds = [shown[name].to_numpy() for name in ("accuracy", "lower", "upper")]
    axis = "agreement with the gold preference"
    return plots.intervals(names, *bounds, axis=axis, reference=0.5, name_length=44)


def _reliability(table: pl.DataFrame) -> Any:
    from palate.report import plots

    return plots.reliability(table, axis="how sure the judge was of the side it preferred")


def _lengths(table: pl.DataFrame) -> Any:
    from palate.report import plots

    groups = {}
    for name in ("right", "wrong", "equal"):
        part = table.filter(pl.col("verdict") == name)
        if part.height:
            groups[name] = (part["length_difference"].to_numpy(), part["preference"].to_numpy())
    return plots.scatter(
        groups, x_axis="first response longer by (characters)", y_axis="preference for the first response"
    )


def _models(table: pl.DataFrame) -> Any:
    from palate.report import plots

    shown = table.head(60)
    bounds = [shown[name].to_numpy() for name in ("accuracy", "lower", "upper")]
    axis = "agreement with the gold preference"
    return plots.intervals(shown["model"].to_list(), *bounds, axis=axis, reference=0.5, name_length=56)


def _rates(table: pl.DataFrame) -> Any:
    from palate.report import plots

    names = [name.replace("_", " ") for name in table["measure"]]
    bounds = [table[name].to_numpy() for name in ("share", "lower", "upper")]
    return plots.intervals(names, *bounds, axis="share of pairs", reference=0.5)


def _best_of_n(table: pl.DataFrame) -> Any:
    from palate.report import plots

    judges = table["judge"].unique(maintain_order=True).to_list()
    x = "divergence from the policy (nats)"
    wide = table.pivot("judge", index="kl", values="gain", aggregate_function="first")
    wide = wide.rename({"kl": x}).sort(x)
    return plots.curves(wide, x, {name: name for name in judges}, y_axis="gain in gold reward")


def _over_optimisation(table: pl.DataFrame) -> Any:
    from palate.report import plots

    named = table.with_columns(curve=pl.format("{} · {}", "judge", "way"))
    parts = [
        named.select("sqrt_kl", curve=pl.format("{} · " + what, "curve"), value=pl.col(what))
        for what in ("proxy", "gold")
    ]
    long = pl.concat(parts)
    curves = long["curve"].unique(maintain_order=True).sort().to_list()
    wide = long.pivot("curve", index="sqrt_kl", values="value", aggregate_function="mean")
    x, axis = "square root of the divergence (nats)", "gain over the first policy"
    wide = wide.rename({"sqrt_kl": x}).sort(x)
    return plots.curves(wide, x, {name: name for name in curves}, y_axis=axis)


def _probes(table: pl.DataFrame) -> Any:
    from palate.report import plots

    bounds = [table[name].to_numpy() for name in ("raised", "raised_lower", "raised_upper")]
    axis = "share of responses that score higher once changed"
    return plots.intervals(table["probe"].to_list(), *bounds, axis=axis, reference=0.5)


def _scaling(table: pl.DataFrame) -> Any:
    from palate.report import plots

    named = table.with_columns(curve=pl.format("{} · {}", "class", "model"))
    curves = named["curve"].unique(maintain_order=True).to_list()
    x = "judgments learnt from"
    wide = named.pivot("curve", index="n", values="loss", aggregate_function="mean").rename({"n": x}).sort(x)
    figure = plots.curves(wide, x, {name: name for name in curves}, y_axis="test loss (nats)")
    return figure.update_xaxes(type="log").update_yaxes(type="log")


def _training(table: pl.DataFrame) -> Any:
    from palate.report import plots

    names = {name: name.replace("_", " ") for name in table.columns if name.endswith("log_prob")}
    return plots.curves(table, "step", names, y_axis="log-probability (nats)")


PICTURES = {
    "models": Picture(
        "Which is right most often",
        "Agreement with the gold preference on the same pairs, with 95 % intervals; the dotted line is "
        "chance. Intervals of two models may overlap although their difference on these pairs is certain: "
        "see the paired differences. At most sixty are drawn.",
        lambda table: f"Agreement with intervals for {table.height} models, as in the table below.",
        _models,
    ),
    "rates": Picture(
        "What the policy prefers",
        "Shares of pairs ranked right and of answers that win, with 95 % intervals. Dotted: chance.",
        lambda table: f"Shares with intervals for {table.height} measures, as in the table below.",
        _rates,
    ),
    "training": Picture(
        "Likelihood over training",
        "Log-probability of chosen and rejected responses by step. Where chosen ones fall too, training "
        "moved probability to something that is in neither.",
        lambda table: f"Log-probabilities of chosen and rejected responses over {table.height} logged steps.",
        _training,
    ),
    "slices": Picture(
        "Where it is right",
        "Agreement with the gold preference per slice, with 95 % intervals; the dotted line is chance. "
        "Only slices of ten or more pairs are drawn, at most forty.",
        lambda table: f"Agreement for {table.height} slices of the data, as in the table below.",
        _slices,
    ),
    "probes": Picture(
        "What changes that add nothing are worth",
        "Share of responses that the judge likes more after a change that adds nothing to them, with 95 % "
        "intervals. Right of the dotted line the change pays.",
        lambda table: f"Shares with intervals for {table.height} probes, as in the table below.",
        _probes,
    ),
    "best_of_n": Picture(
        "What choosing is worth",
        "Gain in gold reward of the best of n by each judge over a sample drawn at random, against the "
        "divergence from the policy that n stands for (nats).",
        lambda table: f"Curves of {table['judge'].n_unique()} judges over n, as in the table below.",
        _best_of_n,
    ),
    "over_optimisation": Picture(
        "Does the proxy mislead?",
        "Proxy (in standard deviations) and gold reward against the square root of the divergence from the "
        "first policy. Where the gold reward falls while the proxy rises, the proxy is over-optimised.",
        lambda table: f"Proxy and gold reward at {table.height} points, as in the table below.",
        _over_optimisation,
    ),
    "scaling": Picture(
        "What more data is worth",
        "Mean test loss over seeds against the number of judgments learnt from, both in logarithmic units. "
        "A power law is a straight line that falls.",
        lambda table: f"Test losses at {table['n'].n_unique()} sizes of data, as in the table below.",
        _scaling,
    ),
    "reliability": Picture(
        "Is its confidence earned?",
        "How often the preferred side was the right one, against how sure the judge was. On the dotted line "
        "a judge that says 80 % is right 80 % of the time; below it, it is too sure. "
        "Larger points hold more pairs.",
        lambda table: f"Reliability diagram with {table.height} bins, as in the table below.",
        _reliability,
    ),
    "lengths": Picture(
        "Does length decide?",
        "Each point is a pair: how much longer its first response is, and how much the judge prefers it. A "
        "rising line means that longer answers win.",
        lambda table: f"Scatter of length difference and preference for {table.height} pairs.",
        _lengths,
    ),
}
"""Table name to picture, in the order in which a page shows them."""
