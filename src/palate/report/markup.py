"""Text, numbers and frames as HTML in which nothing a user wrote can act."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

MAX_TEXT = 4000
MAX_CELL = 200
MAX_ROWS = 200

# Control characters, which HTML forbids or terminals act on; tab and line feed are text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
_BREAKS = re.compile("\r\n?|[\u2028\u2029\x85\x0b\x0c]")


def clean(text: object) -> str:
    """Text that UTF-8 and HTML can hold: line ends become line feeds, other control characters a mark."""
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub("\ufffd", _BREAKS.sub("\n", whole))


def cut(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters and how many more there were."""
    return text[:limit], max(0, len(text) - limit)


def inline(text: object, limit: int = MAX_CELL) -> str:
    """Escaped text kept apart from the writing direction around it, cut with a visible note."""
    shown, more = cut(clean(text), limit)
    note = f' <span class="cut">… {more:,} more characters</span>' if more else ""
    return f"<bdi>{html.escape(shown)}</bdi>{note}"


def block(text: object, limit: int = MAX_TEXT) -> str:
    """Escaped text of several lines in a box of its own, cut with a visible note."""
    shown, more = cut(clean(text), limit)
    note = f'<p class="cut">… cut here; {more:,} more characters</p>' if more else ""
    return f'<div class="quote" dir="auto" tabindex="0">{html.escape(shown)}</div>{note}'


def number(value: float) -> str:
    """A number for reading: whole ones with separators, others with at most four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e6:
        digits = max(1, 3 - math.floor(math.log10(abs(value)))) if abs(value) < 1000 else 1
        return f"{value:,.{min(digits, 4)}f}".replace("-", "−")
    return f"{value:.2e}".replace("-", "−")


def cell(value: object, limit: int = MAX_CELL) -> str:
    """Any value of a table as HTML."""
    if value is None:
        return '<span class="none">–</span>'
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping | list | tuple):
        return inline(json.dumps(value, ensure_ascii=False, default=str), limit)
    return inline(value, limit)


def table(frame: pl.DataFrame, caption: str, *, max_rows: int = MAX_ROWS) -> str:
    """A frame as a table; rows after `max_rows` are left out with a visible note."""
    numeric = [kind.is_numeric() for kind in frame.dtypes]
    heads = "".join(
        f'<th scope="col"{" class=number" if right else ""}>{inline(name.replace("_", " "))}</th>'
        for name, right in zip(frame.columns, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class=number>{cell(value)}</td>" if right else f"<td>{cell(value)}</td>"
            for value, right in zip(row, numeric, strict=True)
        )
        + "</tr>"
        for row in frame.head(max_rows).iter_rows()
    )
    note = ""
    if frame.height > max_rows:
        note = f'<p class="cut">The first {max_rows:,} of {frame.height:,} rows are shown.</p>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(clean(caption))}"><table>'
        f"<caption>{inline(caption, 400)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, nested ones with dotted names."""
    rows = "".join(
        f"<dt>{inline(name)}</dt><dd>{cell(value, 600)}</dd>" for name, value in flatten(values).items()
    )
    return f'<dl class="facts">{rows}</dl>'


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level of names: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no character in it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
