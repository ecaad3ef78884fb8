"""Pairs from forum votes: of two replies to a post the one with more net votes is preferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.data.codes import first_places
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.seeding import generator

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Posts = pl.DataFrame | Mapping[str, Any] | str | Path

REQUIRED = ("post_id", "reply_id", "reply_body", "up")
MOST_VOTES = 2**31 - 1
"""More votes than this are a mistake, and would not leave room to order posts and votes by one number."""
READERS: Mapping[str, Callable[[str | Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".ndjson": pl.read_ndjson
}  # fmt: skip
REASONS = {
    "empty_post": "has no text",
    "duplicate": "has the text of an earlier post",
    "one_reply": "has fewer than two replies with text",
    "equal_votes": "has replies of one net vote only",
    "below_gap": "has no two replies as far apart as the gap",
}
"""Why a post gives no pair."""


@dataclass(frozen=True)
class VotedPairs:
    """Pairs made of forum votes, and what became of the other posts.

    Attributes:
        data: one judgment per pair, the reply with more votes first: net votes as scores (ordinal within a
            post: votes of two posts do not compare), `prompt_id` of the post, replies' ids as items, and the
            difference of the votes as `vote_gap` in the metadata.
        posts: how many posts there were.
        dropped: posts without a pair, by reason; see `REASONS`.
        empty_replies: replies left out because they have no text.
    """

    data: PreferenceData
    posts: int
    dropped: dict[str, int]
    empty_replies: int


def from_votes(
    posts: Posts,
    *,
    gap: int = 1,
    pairs_per_post: int | None = 1,
    accept_bonus: int = 1,
    max_replies: int | None = None,
    seed: int = 0,
) -> VotedPairs:
    """Draw pairs of replies to one post with different net votes (Wang et al. 2025, "WorldPM").

    A reply's net votes are ``up - down``, plus `accept_bonus` if the post's author accepted it. All pairs of
    a post whose nets are `gap` or more apart are equally likely; the reply with more is preferred.

    Args:
        posts: one row per reply, as a table, a mapping of columns or a .parquet, .csv or .jsonl file, with
            columns `post_id`, `reply_id`, `reply_body`, `up`, at least one of `title` and `body` (of the
            post), and optionally `down` (0 where there is none) and `accepted` (true or false).
        gap: least difference of net votes of a pair, 1 or more.
        pairs_per_post: most pairs drawn from a post, all different; None for all there are.
        accept_bonus: votes that acceptance is worth.
        max_replies: pairs are drawn among at most so many replies of a post, a random choice; None for all.
        seed: of the draws.

    Raises:
        ConfigError: an argument out of range, or a file of another kind.
        DataError: a column is missing, votes are missing, negative or no whole numbers, an id is missing, a
            reply is given twice, or no post gives a pair; the message counts the reasons.
    """
    _check(gap, pairs_per_post, max_replies)
    table, source = _table(posts)
    prompt, net = _prompts(table, source), _nets(table, accept_bonus, source)
    post, reply = (_ids(table, name, source) for name in ("post_id", "reply_id"))
    codes = post.rank("dense").to_numpy().astype(np.int64) - 1
    n_posts = int(codes.max(initial=-1)) + 1
    _refuse_twice(post, reply, source)

    rng = generator(seed, "forum")
    text = pl.Series(table["reply_body"], dtype=pl.String).fill_null("")
    written = (text.str.strip_chars() != "").to_numpy()
    first = first_places(codes, n_posts)
    opening = prompt.gather(first)
    empty = (opening == "").to_numpy()
    duplicate = ~empty & ~_firsts(opening, first)
    kept = written & ~(empty | duplicate)[codes]
    if max_replies is not None:
        kept &= _random_few(codes, kept, max_replies, rng)
    legal = _Legal(codes, net, np.flatnonzero(kept), n_posts, gap)
    of_post, better, worse = legal.draw(pairs_per_post, rng)

    none = ~(empty | duplicate) & (legal.total == 0)
    fewer = none & (np.bincount(codes[kept], minlength=n_posts) < 2)
    equal = none & ~fewer & (legal.spread == 0)
    masks = (empty, duplicate, fewer, equal, none & ~fewer & ~equal)
    dropped = {name: int(mask.sum()) for name, mask in zip(REASONS, masks, strict=True)}
    if not len(of_post):
        counts = ", ".join(f"{count:,} {REASONS[name]}" for name, count in dropped.items() if count)
        raise DataError(
            f"no post gives a pair of replies: of {n_posts:,} posts {counts or 'none is there'}",
            file=source, remedy="lower the gap, or give posts with replies that got different votes",
        )  # fmt: skip
    data = _pairs(prompt, post, reply, text, net, better, worse, source)
    return VotedPairs(data, n_posts, dropped, int((~written).sum()))


class _Legal:
    """The pairs of each post that are `gap` or more apart, counted but not listed.

    Replies are in order of post and net votes, so that those a reply beats are a run before it.
    """

    def __init__(self, codes: Ints, net: Ints, rows: Ints, n_posts: int, gap: int) -> None:
        order = rows[np.lexsort((net[rows], codes[rows]))]
        self.rows, post, votes = order, codes[order], net[order]
        self.start = np.searchsorted(post, np.arange(n_posts + 1))
        low = votes.min(initial=0)
        span = int(votes.max(initial=0) - low) + gap + 1
        key = post * span + (votes - low)
        beaten = np.searchsorted(key, key - gap, side="right")
        self.beats = beaten - self.start[post]
        self.before = np.concatenate([[0], np.cumsum(self.beats)])
        self.total = np.diff(self.before[self.start])
        self.spread = np.zeros(n_posts, dtype=np.int64)
        there = np.diff(self.start) > 0
        self.spread[there] = votes[self.start[1:][there] - 1] - votes[self.start[:-1][there]]

    def draw(self, most: int | None, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """Post, row of the better and of the worse reply of every pair drawn, in order of the posts."""
        if most is None:
            number = np.arange(self.before[-1])
        else:
            number = np.sort(_distinct(self.total, most, rng, self.before[self.start[:-1]]))
        at = np.searchsorted(self.before, number, side="right") - 1
        post = np.searchsorted(self.start, at, side="right") - 1
        other = self.start[post] + number - self.before[at]
        return post, self.rows[at], self.rows[other]


def _distinct(total: Ints, most: int, rng: np.random.Generator, offset: Ints) -> Ints:
    """For each post min(most, total) different numbers below its total, all choices equally likely, plus its
    offset (Floyd's method: Bentley and Floyd 1987, one draw of all posts at a time)."""
    take = np.minimum(total, most)
    chosen = np.full((len(total), int(take.max(initial=0))), -1, dtype=np.int64)
    for step in range(chosen.shape[1]):
        live = np.flatnonzero(take > step)
        bound = (total - take)[live] + step
        drawn = rng.integers(0, bound + 1)
        taken = (chosen[live, :step] == drawn[:, None]).any(axis=1)
        chosen[live, step] = np.where(taken, bound, drawn)
    return (chosen + offset[:, None])[chosen >= 0]


def _check(gap: int, pairs_per_post: int | None, max_replies: int | None) -> None:
    for name, value, least in (
        ("gap", gap, 1),
        ("pairs_per_post", pairs_per_post, 1),
        ("max_replies", max_replies, 2),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{name} must be {least} or more; got {value}")


def _table(posts: Posts) -> tuple[pl.DataFrame, str | None]:
    source = str(posts) if isinstance(posts, str | Path) else None
    if isinstance(posts, str | Path):
        reader = READERS.get(Path(posts).suffix)
        if reader is None:
            raise ConfigError(f"{posts}: cannot read this file of votes; give one of {', '.join(READERS)}")
        try:
            table = reader(posts)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"cannot be read: {error}", file=source) from None
    else:
        try:
            table = posts if isinstance(posts, pl.DataFrame) else pl.DataFrame(dict(posts), strict=False)
        except (pl.exceptions.ShapeError, TypeError, ValueError) as error:
            raise DataError(f"these votes are no table: {error}",
                            remedy="give columns of one length, one row per reply") from None  # fmt: skip
    for name in REQUIRED:
        if name not in table.columns:
            raise DataError(
                "is missing", field=name, file=source,
                remedy="give one row per reply with post_id, title or body, reply_id, reply_body, up",
            )  # fmt: skip
    if not {"title", "body"} & set(table.columns):
        raise DataError("there is neither a title nor a body of the posts", file=source, field="body",
                        remedy="give the text of the posts")  # fmt: skip
    return table, source


def _prompts(table: pl.DataFrame, source: str | None) -> pl.Series:
    """Title and body of the post of each row, with an empty line between."""
    parts = [
        pl.col(name).cast(pl.String).fill_null("").str.strip_chars()
        for name in ("title", "body")
        if name in table.columns
    ]
    return table.select(pl.concat_str(parts, separator="\n\n").str.strip_chars()).to_series()


def _nets(table: pl.DataFrame, bonus: int, source: str | None) -> Ints:
    net = _counts(table, "up", source)
    if "down" in table.columns:
        net = net - _counts(table, "down", source)
    if "accepted" in table.columns:
        said = table["accepted"].cast(pl.String).str.to_lowercase().fill_null("false")
        _refuse(~said.is_in(["true", "false", "1", "0"]), "is neither true nor false", "accepted", source)
        net = net + bonus * said.is_in(["true", "1"]).to_numpy()
    return net


def _counts(table: pl.DataFrame, name: str, source: str | None) -> Ints:
    votes = table[name].cast(pl.Float64, strict=False).fill_null(np.nan)
    values = votes.to_numpy()
    bad = ~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)))
    _refuse(pl.Series(bad), "is no whole number of votes, 0 or more", name, source)
    _refuse(pl.Series(values > MOST_VOTES), f"is more than {MOST_VOTES:,} votes", name, source)
    return values.astype(np.int64)


def _ids(table: pl.DataFrame, name: str, source: str | None) -> pl.Series:
    ids = table[name].cast(pl.String)
    _refuse(ids.is_null(), "is missing", name, source)
    return ids


def _refuse(bad: pl.Series, problem: str, field: str, source: str | None) -> None:
    rows = np.flatnonzero(bad.to_numpy())
    if len(rows):
        more = f" ({len(rows):,} rows)" if len(rows) > 1 else ""
        raise DataError(f"{problem}{more}", row=int(rows[0]) + 1, field=field, file=source,
                        remedy="correct or drop the row")  # fmt: skip


def _refuse_twice(post: pl.Series, reply: pl.Series, source: str | None) -> None:
    again = (
        ~pl.DataFrame({"post": post, "reply": reply})
        .select(pl.struct("post", "reply").is_first_distinct())
        .to_series()
    )
    _refuse(again, "the reply is given twice for its post", "reply_id", source)


def _firsts(opening: pl.Series, row: Ints) -> Bools:
    """Whether no post of an earlier row has the text; shape (posts,)."""
    seen = pl.DataFrame({"text": opening, "row": row}).select(
        pl.col("row") == pl.col("row").min().over("text")
    )
    return np.asarray(seen.to_series().to_numpy())


def _random_few(codes: Ints, kept: Bools, most: int, rng: np.random.Generator) -> Bools:
    """At most `most` of the kept rows of each post, all choices equally likely."""
    order = np.lexsort((rng.random(len(codes)), ~kept, codes))
    ordered = codes[order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    few = np.zeros(len(codes), dtype=bool)
    few[order] = place < most
    return few


def _pairs(
    prompt: pl.Series,
    post: pl.Series,
    reply: pl.Series,
    text: pl.Series,
    net: Ints,
    better: Ints,
    worse: Ints,
    source: str | None,
) -> PreferenceData:
    both = np.stack([better, worse], axis=1).ravel()
    n = len(better)
    names = pl.DataFrame({"post": post.gather(better), "a": reply.gather(better), "b": reply.gather(worse)})
    gap = pl.DataFrame({"vote_gap": net[better] - net[worse]})
    columns: dict[str, Any] = {
        "id": names.select(pl.format("{}:{}-{}", "post", "a", "b")).to_series().to_arrow(),
        "prompt_id": names["post"].to_arrow(),
        "prompt": prompt.gather(better).to_arrow(),
        "items": _twos(reply.gather(both).to_arrow()),
        "responses": _twos(text.gather(both).to_arrow()),
        "scores": _twos(pa.array(net[both].astype(np.float64))),
        "metadata": gap.select(pl.struct("vote_gap").struct.json_encode()).to_series().to_arrow(),
    }
    for name, value in (
        ("scale", "ordinal"), ("protocol", "comparison"), ("annotator", "forum"), ("annotator_kind", "human"),
    ):  # fmt: skip
        columns[name] = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(n, dtype=np.int32)), pa.array([value])
        )
    return PreferenceData.from_columns(columns, source=source)


def _twos(flat: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(flat) + 1, 2, dtype=np.int32)), flat)
