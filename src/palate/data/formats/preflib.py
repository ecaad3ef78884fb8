"""PrefLib profiles: strict and tied, complete and incomplete orders (soc, soi, toc, toi), and categories
(cat)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.formats import writing
from palate.data.formats.batch import Context, list_array, to_arrow
from palate.data.formats.registry import Format
from palate.data.formats.source import Stored, text_lines
from palate.errors import ConfigError, DataError

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

KINDS = ("soc", "soi", "toc", "toi", "cat")
_HEADER = re.compile(r"#\s*([A-Z ]+?)(?:\s+(\d+))?\s*:(.*)$")
_BALLOT = r"^\s*[0-9]+\s*:\s*((\{[0-9,\s]*\}|[0-9]+)(\s*,\s*(\{[0-9,\s]*\}|[0-9]+))*)?\s*$"


def parse(stored: Stored, context: Context) -> pa.Table:
    """Judgments of a profile, one per distinct ballot with its count as weight (``expand=True`` repeats it
    instead).

    Items are listed best first with scores minus their place; items tied in braces share a place, items a
    ballot
    does not list are not judged. Categories (`cat`) give the number of categories below: [1, 0] for approval.
    """
    with text_lines(stored) as file:
        return parse_text(file.read(), stored.suffix.lstrip("."), context)


def parse_text(text: str, suffix: str, context: Context) -> pa.Table:
    """As `parse`, from a profile's text; `suffix` is its kind where the header does not say it."""
    lines = re.split(r"\r?\n", text)
    head, names, categories = _header(lines, context)
    ballots = [line for line in lines if line.strip() and not line.startswith("#")]
    if not ballots:
        raise context.error("holds no ballots", "give a profile with at least one")
    kind = (head.get("DATA TYPE") or suffix).lower()
    if kind not in KINDS:
        raise context.error(
            f"unknown data type {kind!r}", f"use one of: {', '.join(KINDS)}", field="DATA TYPE"
        )
    counts, table = _ballots(ballots, names, kind, len(categories), context)
    voters = head.get("NUMBER VOTERS")
    if voters is not None and (not voters.isdigit() or int(voters) != int(counts.sum())):
        raise context.error(
            f"the counts of the ballots sum to {int(counts.sum())}, not to {voters}",
            "the file is cut off, or its header is wrong", field="NUMBER VOTERS",
        )  # fmt: skip
    n = len(ballots)
    about: dict[str, Any] = {"title": head["TITLE"]} if head.get("TITLE") else {}
    if categories:
        about["categories"] = categories
    if about:
        table["metadata"] = pa.array([json.dumps(about, ensure_ascii=False)] * n)
    table["protocol"] = pa.array(["rating" if kind == "cat" else "ranking"] * n)
    table["scale"] = pa.array(["ordinal"] * n)
    if context.options.get("expand"):
        rows = pa.array(np.repeat(np.arange(n), counts))
        return pa.table({name: to_arrow(column, name).take(rows) for name, column in table.items()})
    if (counts != 1).any():
        table["weight"] = pa.array(counts.astype(np.float64))
    return pa.table({name: to_arrow(column, name) for name, column in table.items()})


def _header(lines: list[str], context: Context) -> tuple[dict[str, str], dict[int, str], list[str]]:
    head: dict[str, str] = {}
    names: dict[int, str] = {}
    categories: dict[int, str] = {}
    for line in lines:
        if not line.startswith("#"):
            continue
        match = _HEADER.match(line)
        if match is None:
            continue
        key, number, value = match[1], match[2], match[3].strip()
        if number is None:
            head[key] = value
        elif key == "ALTERNATIVE NAME":
            names[int(number)] = value or number
        elif key == "CATEGORY NAME":
            categories[int(number)] = value
    if not names:
        raise context.error(
            "names no alternatives",
            "give lines such as '# ALTERNATIVE NAME 1: tea' (PrefLib's format since 2022)",
            field="ALTERNATIVE NAME",
        )  # fmt: skip
    repeated = (
        [name for name in names.values() if list(names.values()).count(name) > 1] if len(names) < 5000 else []
    )
    if repeated:
        raise context.error(
            f"two alternatives are called {repeated[0]!r}", "rename one", field="ALTERNATIVE NAME"
        )
    given = head.get("NUMBER ALTERNATIVES", str(len(names)))
    if given != str(len(names)):
        raise context.error(
            f"{len(names)} alternatives are named, not {given}",
            "the file is cut off, or its header is wrong",
            field="NUMBER ALTERNATIVES",
        )  # fmt: skip
    return head, names, [categories[number] for number in sorted(categories)]


def _ballots(
    lines: list[str], names: Mapping[int, str], kind: str, categories: int, context: Context
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    def fail(bad: pl.Series | np.ndarray[Any, Any], problem: str, remedy: str) -> None:
        rows = np.flatnonzero(bad if isinstance(bad, np.ndarray) else bad.fill_null(True).to_numpy())
        if len(rows):
            raise context.error(
                problem.format(lines[rows[0]][:60]), remedy, row=int(rows[0]) + 1, field="ballot"
            )

    text = pl.Series(lines)
    fail(
        ~text.str.contains(_BALLOT),
        "{!r} is not a ballot",
        "write count: 1,2,{{3,4}}".replace("{{", "{").replace("}}", "}"),
    )
    counts = text.str.extract(r"^\s*(\d+)").cast(pl.Int64, strict=False)
    fail(counts.is_null() | (counts < 1), "{!r} has no positive count", "give the number of voters")
    order = text.str.strip_chars().str.replace(r"^\d+\s*:\s*", "").str.replace_all(r"\s", "")
    fail(order == "", "{!r} lists nothing", "list at least one alternative or drop the ballot")
    if kind in ("soc", "soi"):
        fail(
            order.str.contains("{", literal=True),
            f"{{!r}} has ties, which {kind} cannot have",
            "name the file .toc or .toi",
        )
    groups = order.str.extract_all(r"\{[^}]*\}|[^,{}]+")
    frame = pl.DataFrame({"ballot": np.arange(len(lines)), "group": groups}).explode("group")
    frame = frame.with_columns(place=pl.int_range(pl.len()).over("ballot"))
    if kind == "cat":
        sizes = frame.group_by("ballot", maintain_order=True).len()["len"]
        fail(
            sizes > max(categories, 1), f"{{!r}} has more than {categories} categories", "name every category"
        )
    frame = frame.with_columns(item=pl.col("group").str.strip_chars("{}").str.split(",")).explode("item")
    frame = frame.filter(pl.col("item") != "")
    frame = frame.with_columns(item=pl.col("item").cast(pl.Int64, strict=False))
    numbers = list(names)

    def at(rows: pl.Series) -> np.ndarray[Any, Any]:
        mask = np.zeros(len(lines), dtype=bool)
        mask[rows.to_numpy()] = True
        return mask

    fail(
        at(frame.filter(~pl.col("item").is_in(numbers).fill_null(False))["ballot"]),
        "{!r} lists an alternative that has no name", f"use the numbers of the {len(names)} alternatives",
    )  # fmt: skip
    fail(
        at(frame.filter(pl.struct("ballot", "item").is_duplicated())["ballot"]),
        "{!r} lists an alternative twice",
        "list it once",
    )
    listed = np.bincount(frame["ballot"].to_numpy(), minlength=len(lines))
    fail(listed == 0, "{!r} lists nothing", "list at least one alternative or drop the ballot")
    if kind in ("soc", "toc"):
        fail(
            listed != len(names),
            f"{{!r}} does not list all {len(names)} alternatives, as {kind} must",
            "name the file .soi or .toi",
        )
    place = frame["place"].to_numpy().astype(np.float64)
    scores = categories - 1 - place if kind == "cat" else -1 - place
    offsets = np.concatenate([[0], np.cumsum(listed)])
    items = frame["item"].replace_strict(names, return_dtype=pl.String)
    columns = {
        "items": list_array(offsets, items.to_arrow().cast(pa.string())),
        "scores": list_array(offsets, pa.array(scores)),
    }
    return counts.to_numpy(), columns


def render(data: PreferenceData, kind: str | None = None) -> tuple[bytes, np.ndarray[Any, Any], str]:
    """A profile's text, the judgments it has (a mask) and why others have no place in it.

    Args:
        data: judgments of items, each listed best first; equal scores are ties. Alternatives are numbered
            in the
            order in which they first occur.
        kind: soc, soi, toc, toi or cat; what the data needs by default.
    """
    kept = writing.given(data, "items") & ~np.isin(
        np.arange(data.n_rows), _rows_of(data)[np.isnan(data.scores)]
    )
    weights = data.weights
    kept &= (weights == np.floor(weights)) & (weights >= 1)
    is_rating = data.values("protocol") == "rating"
    kept &= ~is_rating if kind != "cat" and not is_rating.all() else True
    data, weights = data.mask(kept), weights[kept]
    if not data.n_rows:
        raise DataError("no judgment ranks items with whole weights", remedy="write another format")
    about = _about(data)
    categories = [str(name) for name in about.get("categories", [])]
    scores, rows = data.scores, _rows_of(data)
    codes = data.flat("items").dictionary_encode()
    names = codes.dictionary.to_pylist()
    tied = bool(((np.diff(scores) == 0) & (np.diff(rows) == 0)).any())
    complete = bool((writing.lengths(data) == len(names)).all())
    if kind is None:
        kind = "cat" if is_rating.all() else ("t" if tied else "s") + "o" + ("c" if complete else "i")
    if kind not in KINDS:
        raise ConfigError(f"unknown PrefLib type {kind!r}; use one of: {', '.join(KINDS)}")
    if (tied and kind in ("soc", "soi")) or (not complete and kind in ("soc", "toc")):
        fitting = ("t" if tied else "s") + "o" + ("c" if complete else "i")
        raise DataError(
            f"{kind} cannot hold orders that are {'tied' if tied else 'incomplete'}",
            remedy=f"write .{fitting}",
        )
    if any("\n" in name or "\r" in name or name != name.strip() or not name for name in names):
        raise DataError(
            "an item's name is empty, has a line break or outer spaces", field="items", remedy="rename it"
        )
    numbers = pl.Series(codes.indices.to_numpy(zero_copy_only=False).astype(np.int64) + 1).cast(pl.String)
    frame = pl.DataFrame({"ballot": rows, "score": scores, "item": numbers})
    groups = frame.group_by("ballot", "score", maintain_order=True).agg(
        pl.col("item").str.join(","), pl.len().alias("size")
    )
    if kind == "cat":
        if not categories:
            categories = [f"category {number}" for number in range(1, int(scores.max()) + 2)]
        grid = pl.DataFrame({"ballot": np.arange(data.n_rows)}).join(
            pl.DataFrame({"score": np.arange(len(categories) - 1, -1, -1, dtype=np.float64)}), how="cross"
        )
        groups = grid.join(groups, on=["ballot", "score"], how="left", maintain_order="left").with_columns(
            pl.col("item").fill_null(""), pl.col("size").fill_null(0)
        )
    text = pl.when(pl.col("size") == 1).then(pl.col("item")).otherwise("{" + pl.col("item") + "}")
    ballots = groups.sort(["ballot", "score"], descending=[False, True], maintain_order=True).with_columns(
        text=text
    )
    orders = ballots.group_by("ballot", maintain_order=True).agg(pl.col("text").str.join(","))["text"]
    counts = pl.Series(weights.astype(np.int64)).cast(pl.String)
    lines = [
        f"# TITLE: {about.get('title', '')}", f"# DATA TYPE: {kind}", f"# NUMBER ALTERNATIVES: {len(names)}",
        f"# NUMBER VOTERS: {int(weights.sum())}", f"# NUMBER UNIQUE ORDERS: {orders.n_unique()}",
    ]  # fmt: skip
    if kind == "cat":
        lines.append(f"# NUMBER CATEGORIES: {len(categories)}")
        lines += [f"# CATEGORY NAME {number}: {name}" for number, name in enumerate(categories, start=1)]
    lines += [f"# ALTERNATIVE NAME {number}: {name}" for number, name in enumerate(names, start=1)]
    lines += pl.select(pl.concat_str([counts, orders], separator=": ")).to_series().to_list()
    return ("\n".join(lines) + "\n").encode(), kept, "that are not rankings of items with whole weights"


def _rows_of(data: PreferenceData) -> np.ndarray[Any, Any]:
    return np.repeat(np.arange(data.n_rows), writing.lengths(data))


def _about(data: PreferenceData) -> dict[str, Any]:
    if not data.has("metadata"):
        return {}
    unique = pc.unique(data.column("metadata")).to_pylist()
    if len(unique) != 1 or unique[0] is None:
        return {}
    value = json.loads(unique[0])
    title = str(value.get("title", ""))
    return value if isinstance(value, dict) and "\n" not in title else {}


FORMATS = (
    Format(
        "preflib", "PrefLib profiles: .soc, .soi, .toc, .toi, .cat", options=frozenset({"expand"}),
        suffixes=tuple(f".{kind}" for kind in KINDS), parse=parse, render=render,
        write_options=frozenset({"kind"}),
    ),
)  # fmt: skip
