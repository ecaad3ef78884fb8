"""`Page`: a report as one HTML file that needs nothing else to open.

Pictures are Plotly figures drawn by the library inside the file (once a page, and only if there is a
picture); behind each stands a table with its numbers. The page's own policy lets only its two known scripts
run, named by their hashes, and lets nothing be fetched, so a text that slipped through the escaping still
could not act.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

import polars as pl

from palate.report import markup
from palate.runs import atomic_write

# The only markup in figure texts that leads out of the page; Plotly shows the escaped form as typed.
_LINK = re.compile(r"<(?=\s*/?\s*a\b)", re.IGNORECASE)


class Page:
    """A report built section by section; every method returns the page, so calls can be chained.

    >>> page = Page("My run").heading("Result").text("All is well.")
    >>> "All is well." in page.html()
    True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._parts: list[str] = []
        self._headings: list[str] = []
        self._figures: list[dict[str, Any]] = []

    def heading(self, text: str) -> Self:
        """Begin a section; it appears in the contents at the top."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="section-{len(self._headings)}">{markup.inline(text)}</h2>')
        return self

    def subheading(self, text: str) -> Self:
        self._parts.append(f"<h3>{markup.inline(text)}</h3>")
        return self

    def text(self, *paragraphs: str) -> Self:
        """Paragraphs in plain words."""
        self._parts += [f"<p>{markup.inline(paragraph, 4000)}</p>" for paragraph in paragraphs]
        return self

    def notes(self, lines: Sequence[str]) -> Self:
        """A list of short statements."""
        if lines:
            items = "".join(f"<li>{markup.inline(line, 2000)}</li>" for line in lines)
            self._parts.append(f'<ul class="notes">{items}</ul>')
        return self

    def numbers(self, values: Mapping[str, str]) -> Self:
        """A few key figures, large: label to value as it should read."""
        tiles = "".join(
            f"<div><dd>{markup.inline(value)}</dd><dt>{markup.inline(label)}</dt></div>"
            for label, value in values.items()
        )
        self._parts.append(f'<dl class="numbers">{tiles}</dl>')
        return self

    def table(self, frame: pl.DataFrame, caption: str, *, max_rows: int = markup.MAX_ROWS) -> Self:
        """A frame; rows after `max_rows` are left out with a visible note."""
        self._parts.append(markup.table(frame, caption, max_rows=max_rows))
        return self

    def facts(self, values: Mapping[str, Any], caption: str = "") -> Self:
        """Names and values, such as a configuration; folded away under `caption` if there is one."""
        inside = markup.facts(values)
        if caption:
            inside = f"<details><summary>{markup.inline(caption)}</summary>{inside}</details>"
        self._parts.append(inside)
        return self

    def figure(self, figure: Any, caption: str, alt: str, table: pl.DataFrame | None = None) -> Self:
        """A picture.

        Args:
            figure: a Plotly figure; its colours and fonts are replaced by the page's, in light and dark.
            caption: what it shows, in a sentence below it.
            alt: what a reader who cannot see it should know.
            table: the numbers behind it, folded away below.
        """
        drawn = json.loads(figure.to_json())
        layout = drawn.get("layout", {})
        layout.pop("template", None)
        height = layout.get("height")
        size = f' style="height:{int(height)}px"' if isinstance(height, int | float) else ""
        self._figures.append(_plain_texts({"data": drawn.get("data", []), "layout": layout}))
        behind = ""
        if table is not None:
            shown = markup.table(table, caption)
            behind = f"<details><summary>The numbers behind this picture</summary>{shown}</details>"
        self._parts.append(
            f'<figure><div class="plot" role="img" aria-label="{html.escape(markup.clean(alt))}"{size}'
            f' data-figure="{len(self._figures) - 1}"></div>'
            f"<figcaption>{markup.inline(caption, 1000)}</figcaption>{behind}</figure>"
        )
        return self

    def examples(self, examples: Sequence[Mapping[str, Any]], caption: str = "") -> Self:
        """Comparisons side by side.

        Args:
            examples: each with `prompt` and `sides`, a list of {"label", "text", optional "note"}, and
                optionally `title` and `note`.
            caption: a line above them.
        """
        if caption:
            self._parts.append(f"<p>{markup.inline(caption, 1000)}</p>")
        self._parts += [_example(example) for example in examples]
        return self

    def html(self) -> str:
        """The whole page."""
        contents = ""
        if len(self._headings) > 2:
            links = "".join(
                f'<li><a href="#section-{index}">{markup.inline(text)}</a></li>'
                for index, text in enumerate(self._headings, 1)
            )
            contents = f'<nav aria-label="Contents"><ol>{links}</ol></nav>'
        scripts = [_plotly(), _asset("page.js")] if self._figures else []
        policy = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
        title = html.escape(markup.clean(self.title))
        subtitle = f'<p class="subtitle">{markup.inline(self.subtitle, 1000)}</p>' if self.subtitle else ""
        figures = ""
        if self._figures:
            figures = (
                "<noscript><p>The pictures need JavaScript; the tables hold the same numbers.</p></noscript>"
                f'<script type="application/json" id="figures">{markup.script_json(self._figures)}</script>'
                + "".join(f"<script>{script}</script>" for script in scripts)
            )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src {policy}; '
            "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'\">\n"
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">\n'
            f"<title>{title}</title><style>{_asset('page.css')}</style></head>\n"
            f"<body><header><h1>{markup.inline(self.title, 300)}</h1>{subtitle}</header>{contents}\n<main>\n"
            + "\n".join(self._parts)
            + f"\n</main>\n{figures}</body></html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page to `path`, whole or not at all."""
        with atomic_write(path) as file:
            file.write(self.html())
        return Path(path)


def _example(example: Mapping[str, Any]) -> str:
    title = f"<h4>{markup.inline(example['title'], 300)}</h4>" if example.get("title") else ""
    note = f'<p class="note">{markup.inline(example["note"], 1000)}</p>' if example.get("note") else ""
    prompt = example.get("prompt") or ""
    asked = f'<p class="label">Prompt</p>{markup.block(prompt, 1500)}' if prompt else ""
    sides = "".join(
        f'<div class="side"><p class="label">{markup.inline(side["label"], 200)}</p>'
        + markup.block(side["text"])
        + (f'<p class="note">{markup.inline(side["note"], 1000)}</p>' if side.get("note") else "")
        + "</div>"
        for side in example["sides"]
    )
    return f'<article class="example">{title}{asked}<div class="sides">{sides}</div>{note}</article>'


def _plain_texts(value: Any) -> Any:
    if isinstance(value, str):
        return _LINK.sub("&lt;", value)
    if isinstance(value, dict):
        return {name: _plain_texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain_texts(item) for item in value]
    return value


@cache
def _asset(name: str) -> str:
    return resources.files("palate.report").joinpath("assets", name).read_text("utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
