"""Citations of search-augmented answers as covariates of a comparison (Search Arena, Miroyan et al. 2025)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data import metadata
from palate.data.style import answers
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Groups = Mapping[str, Sequence[str]]

OTHER = "other"
"""The group of hosts that are in no other."""

GROUPS: Groups = {
    "youtube": ("youtube.*", "youtu.be"),
    "gov_edu": (".gov", ".edu", ".mil"),
    "wiki": ("wikipedia.org", "wikihow.com", "wikimedia.org"),
    "us_news": (
        "cnn.com", "nytimes.com", "washingtonpost.com", "foxnews.com", "nbcnews.com", "abcnews.go.com",
        "cbsnews.com", "usatoday.com", "wsj.com", "npr.org", "pbs.org", "apnews.com", "bloomberg.com",
        "cnbc.com", "forbes.com", "time.com", "newsweek.com", "politico.com", "axios.com", "thehill.com",
        "latimes.com", "nypost.com", "chicagotribune.com", "sfchronicle.com", "bostonglobe.com",
        "theatlantic.com", "newyorker.com", "vox.com", "slate.com", "huffpost.com", "buzzfeednews.com",
        "businessinsider.com", "marketwatch.com", "fortune.com", "espn.com", "theverge.com", "wired.com",
    ),
    "foreign_news": (
        "bbc.com", "bbc.co.uk", "theguardian.com", "reuters.com", "aljazeera.com", "ft.com", "economist.com",
        "telegraph.co.uk", "independent.co.uk", "dailymail.co.uk", "dw.com", "france24.com", "lemonde.fr",
        "spiegel.de", "elpais.com", "cbc.ca", "abc.net.au", "scmp.com", "japantimes.co.jp",
        "straitstimes.com", "indiatimes.com", "ndtv.com", "thehindu.com",
    ),
    "social_media": (
        "tiktok.com", "facebook.com", "instagram.com", "x.com", "twitter.com", "linkedin.com", "snapchat.com",
        "pinterest.*",
    ),
    "community_blog": (
        "reddit.com", "quora.com", "blog.", "blogs.", "blogspot.*", "medium.com", "wordpress.com",
        "substack.com", "tumblr.com",
    ),
    "tech_coding": (
        "github.com", "github.io", "gitlab.com", "stackexchange.com", "stackoverflow.com", "microsoft.com",
        "dev.to", "codecademy.com",
    ),
    "academic_journal": (
        "jstor.org", "springer.com", "sciencedirect.com", "nature.com", "arxiv.org", "researchgate.net",
        "biorxiv.org",
    ),
    "retail": ("amazon.*", "ebay.*", "walmart.*", "target.com", "bestbuy.*", "costco.*"),
}  # fmt: skip
"""The paper's groups in its order, by whole parts of a host and not by substrings ("netflix.com" holds
"x.com").

A pattern ``x.com`` is that host and all below it; ``amazon.*`` the name under any country's ending; ``.gov``
a top-level name, also before a country (``gov.uk``); ``blog.`` a part of the host before its registered name.
The paper names its news groups by kind; the outlets here are large ones of that kind.
"""

_HOST = r"^[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@]*@)?([^/?#:]+)"


@dataclass(frozen=True)
class Citations:
    """All citations of all alternatives.

    Attributes:
        frame: one row a citation: side (position in a flat column), turn (from 0), url, host, group.
        turns: answers of each alternative, shape (sum of k,).
    """

    frame: pl.DataFrame
    turns: Ints


def domain_group(url: str, groups: Groups = GROUPS) -> str:
    """The first group whose patterns fit the host of `url`, else "other".

    Raises:
        DataError: the address has no scheme, or no host.
        ConfigError: a pattern is none of the forms of `GROUPS`.

    >>> domain_group("https://en.wikipedia.org/wiki/Taste"), domain_group("https://netflix.com")
    ('wiki', 'other')
    """
    host = _hosts(pl.Series([url], dtype=pl.String))
    if host[0] is None:
        raise _no_host(url)
    return str(_grouped(host, groups)[0])


def citation_features(
    data: PreferenceData, groups: Groups = GROUPS, traces: Sequence[Any] | None = None
) -> dict[str, Floats]:
    """Citations of each side as features of a comparison, name -> shape (rows, 2).

    "citations" is the mean number of citations per turn; every group of `groups`, and "other", is 1 where the
    side cites a host of it and 0 elsewhere. What a turn cites twice counts twice.

    Args:
        data: judgments of two answers, with Search Arena's traces in the metadata
            (`system_a_metadata.web_search_trace`: per turn a list of [marker, url]) unless `traces` is given.
        groups: name -> patterns, in the order in which they are tried; see `GROUPS`.
        traces: of each judgment, of each of its two sides, of each turn: the addresses, or [marker, address].

    Raises:
        DataError: no traces, a trace of another shape, one whose turns are not those of the conversation, or
            an address without a scheme.
        ConfigError: a pattern of `groups` is none of those forms, or a group is called "other" or
            "citations".
    """
    for name in (OTHER, "citations"):
        if name in groups:
            raise ConfigError(f"a group of domains cannot be called {name!r}; that is a feature of its own")
    found = citations(data, groups, traces)
    sides = len(found.turns)
    side = found.frame["side"].to_numpy()
    count = np.bincount(side, minlength=sides) / np.maximum(found.turns, 1)
    features = {"citations": count.reshape(-1, 2)}
    group = found.frame["group"]
    for name in (*groups, OTHER):
        present = np.zeros(sides)
        present[side[(group == name).to_numpy()]] = 1.0
        features[name] = present.reshape(-1, 2)
    return features


def citations(
    data: PreferenceData, groups: Groups = GROUPS, traces: Sequence[Any] | None = None
) -> Citations:
    """Every citation with its host and group; arguments and errors as `citation_features`."""
    lengths = np.diff(data.offsets())
    if (lengths != 2).any():
        row = int(np.flatnonzero(lengths != 2)[0])
        raise DataError(
            f"{lengths[row]} answers are judged; citations are compared between two", row=row + 1,
            file=data.source, remedy="turn longer judgments into pairs first (data.as_pairs())",
        )  # fmt: skip
    per_side = _stored(data) if traces is None else _given(data, traces)
    turns = per_side.list.len().fill_null(0).to_numpy().astype(np.int64)
    turns = _check_turns(data, turns, per_side.is_null().to_numpy())
    frame = pl.DataFrame({"side": np.arange(len(per_side)), "trace": per_side})
    frame = frame.filter(pl.col("trace").list.len() > 0).explode("trace", empty_as_null=False)
    frame = frame.with_columns(pl.int_range(pl.len()).over("side").alias("turn"))
    frame = frame.filter(pl.col("trace").list.len() > 0).explode("trace", empty_as_null=False)
    # A citation is the address alone or comes after its marker.
    frame = frame.select("side", "turn", pl.col("trace").list.last().alias("url"))
    hosts = _hosts(frame["url"])
    if hosts.null_count():
        at = int(hosts.is_null().arg_true()[0])
        raise _no_host(frame["url"][at], int(frame["side"][at]) // 2 + 1, data)
    unique = hosts.unique()
    group = hosts.replace_strict(unique, _grouped(unique, groups)) if len(hosts) else hosts
    return Citations(frame.with_columns(hosts.alias("host"), group.alias("group")), turns)


_TRACE = pl.List(pl.List(pl.List(pl.String)))
_SHAPE = "a trace is a list of turns, each a list of [marker, url]"


def _stored(data: PreferenceData) -> pl.Series:
    columns = [metadata.texts(data, f"system_{side}_metadata.web_search_trace") for side in "ab"]
    if all(column.null_count() == len(column) for column in columns):
        raise DataError(
            "no judgment has web search traces", field="metadata", file=data.source,
            remedy="give them under system_a_metadata.web_search_trace, or as traces=",
        )  # fmt: skip
    sides = []
    for side, column in zip("ab", columns, strict=True):
        try:
            sides.append(column.str.json_decode(_TRACE))
        except pl.exceptions.PolarsError:
            raise _misshapen(data, column, f"system_{side}_metadata.web_search_trace") from None
    order = np.arange(2 * data.n_rows).reshape(2, -1).T.ravel()
    return pl.concat(sides).gather(order)


def _misshapen(data: PreferenceData, column: pl.Series, key: str) -> DataError:
    def broken(text: str | None) -> bool:
        try:
            pl.Series([text], dtype=pl.String).str.json_decode(_TRACE)
        except pl.exceptions.PolarsError:
            return True
        return False

    row = next(row for row, text in enumerate(column) if broken(text))
    return DataError(
        f"{key} is no trace", row=row + 1, field="metadata", file=data.source, remedy=_SHAPE
    )  # fmt: skip


def _given(data: PreferenceData, traces: Sequence[Any]) -> pl.Series:
    if len(traces) != data.n_rows:
        raise DataError(f"there are {len(traces)} traces for {data.n_rows} judgments", file=data.source)
    for row, sides in enumerate(traces):
        if len(sides) != 2:
            raise DataError(
                f"has traces of {len(sides)} sides", row=row + 1, file=data.source, remedy="give one a side"
            )
    flat = [
        None if side is None else [[[c] if isinstance(c, str) else list(c) for c in turn] for turn in side]
        for sides in traces
        for side in sides
    ]
    try:
        return pl.Series(flat, dtype=_TRACE)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"the traces are of another shape: {error}", remedy=_SHAPE) from None


def _check_turns(data: PreferenceData, turns: Ints, missing: npt.NDArray[np.bool_]) -> Ints:
    """Turns of each side, from the conversation where there is one; a side without a trace cites nothing."""
    if not data.has("responses") and not data.has("response_messages"):
        return turns
    said = np.bincount(answers(data)[1], minlength=2 * data.n_rows)
    if data.has("messages"):
        roles = pl.Series(data.column("messages")).list.eval(pl.element().struct.field("role") == "assistant")
        said += np.repeat(roles.list.sum().fill_null(0).to_numpy().astype(np.int64), 2)
    wrong = np.flatnonzero(~missing & (turns != said))
    if len(wrong):
        at = int(wrong[0])
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise DataError(
            f"the trace of side {'ab'[at % 2]} has {turns[at]} turns where it has {said[at]} answers{more}",
            row=at // 2 + 1, file=data.source, remedy="give one list of citations, perhaps empty, per answer",
        )  # fmt: skip
    return said


def _hosts(urls: pl.Series) -> pl.Series:
    """Hosts in lower case without a last dot, null where an address has no scheme or no host."""
    return urls.str.extract(_HOST).str.to_lowercase().str.strip_suffix(".")


def _no_host(url: Any, row: int | None = None, data: PreferenceData | None = None) -> DataError:
    return DataError(
        f"the address {url!r} has no scheme and host", row=row, file=data.source if data else None,
        remedy="give whole addresses such as https://example.org/page",
    )  # fmt: skip


def _grouped(hosts: pl.Series, groups: Groups) -> pl.Series:
    """The first group that fits each host, shape (n,)."""
    expression: Any = pl
    for name, patterns in groups.items():
        fits = "|".join(map(_pattern, patterns))
        expression = expression.when(pl.col("host").str.contains(f"(?:^|\\.)(?:{fits})")).then(pl.lit(name))
    if expression is pl:
        return pl.Series([OTHER] * len(hosts), dtype=pl.String)
    return pl.DataFrame({"host": hosts}).select(expression.otherwise(pl.lit(OTHER))).to_series()


def _pattern(pattern: str) -> str:
    """A pattern of `GROUPS` as a regular expression of the end of a host that begins a part of it."""
    bare = pattern.lower().removeprefix(".").removesuffix(".*").removesuffix(".")
    if not bare or not re.fullmatch(r"[\w\-]+(\.[\w\-]+)*", bare):
        raise ConfigError(
            f"a domain group has the pattern {pattern!r}; use 'x.com', 'amazon.*', '.gov' or 'blog.'"
        )
    name = re.escape(bare)
    if pattern.startswith("."):
        return rf"{name}(?:\.[a-z]{{2}})?$"
    if pattern.endswith(".*"):
        return rf"{name}\.[a-z]{{2,}}(?:\.[a-z]{{2}})?$"
    return rf"{name}\..+\..+$" if pattern.endswith(".") else f"{name}$"
