"""A page is one file that shows everything and does nothing."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from palate.report import Page, plots
from palate.report.markup import cell, clean, inline, number, script_json

HOSTILE = [
    "<script>window.pwned = true; alert(1)</script>",
    "</script><script>window.pwned = true</script>",
    '<img src=x onerror="window.pwned=true">',
    "'\"><svg onload=alert(1)>",
    "<!--<script>",
    "line\u2028separator\u2029and\u0085next",
    "\u202eright to left\u2066",
    "nul\x00 and escape \x1b[31m",
    "half a pair \ud800",
    '<a href="javascript:window.pwned=true">link</a>',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_tag_of_a_text_survives_in_any_place(text: str) -> None:
    page = Page(text, text).heading(text).subheading(text).text(text).notes([text]).numbers({text: text})
    page.table(pl.DataFrame({clean(text): [clean(text)]}), text).facts({text: {text: [text]}}, text)
    page.examples(
        [{"title": text, "prompt": text, "note": text, "sides": [{"label": text, "text": text}]}], text
    )
    html = page.html()
    body = html[html.index("<body>") :]
    assert not re.search(r"<(script|img|svg|a href=\"javascript)", body, re.IGNORECASE)
    assert "<!--" not in body
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u2028\u2029\u0085]", html)
    html.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_figure_cannot_end_its_script_element(text: str) -> None:
    figure = plots.curves(
        pl.DataFrame({"step": [1, 2], "loss": [1.0, 0.5]}), "step", {"loss": text}, y_axis=text
    )
    html = Page("p").figure(figure, text, text).html()
    data = html[html.index('id="figures">') + len('id="figures">') :]
    json_text = data[: data.index("</script>")]
    assert "<" not in json_text
    assert ">" not in json_text
    assert json_text.startswith("[{")
    assert json_text.endswith("}]")


def test_links_in_figure_texts_are_shown_as_text() -> None:
    import plotly.graph_objects as go

    figure = go.Figure(go.Scatter(x=[1], y=[1], name='<a href="https://example.org">x</a>')).update_layout(
        title="< A href>"
    )
    html = Page("p").figure(figure, "c", "a").html()
    figures = html[html.index('id="figures">') : html.index("</script>")]
    assert "\\u003ca" not in figures
    assert "\\u003c A" not in figures
    assert "\\u0026lt;a href" in figures


def test_nothing_is_fetched_and_only_known_scripts_run() -> None:
    html = (
        Page("p")
        .figure(plots.scatter({"all": ([1, 2, 3], [1, 2, 3])}, x_axis="x", y_axis="y"), "c", "a")
        .html()
    )
    head = html[: html.index("</head>")]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', head)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy[1].partition("style-src")[0]
    assert not re.search(r"<(link|iframe|object|embed)\b", html[: html.index("<script")])


def test_a_page_without_pictures_has_no_script_at_all() -> None:
    html = Page("p").heading("h").text("t").html()
    assert "<script" not in html
    assert "script-src 'none'" in html
    assert len(html) < 20_000


def test_the_plot_library_is_in_the_page_once() -> None:
    figure = plots.scatter({"all": ([1, 2, 3], [1, 2, 3])}, x_axis="x", y_axis="y")
    one, three = Page("p").figure(figure, "c", "a").html(), Page("p")
    for _ in range(3):
        three.figure(figure, "c", "a")
    assert len(three.html()) - len(one) < 10_000


def test_long_texts_and_tables_are_cut_with_a_note() -> None:
    page = Page("p").table(pl.DataFrame({"n": range(1000)}), "numbers", max_rows=5)
    page.examples([{"prompt": "", "sides": [{"label": "chosen", "text": "x" * 10_000}]}])
    html = page.html()
    assert "The first 5 of 1,000 rows are shown." in html
    assert "6,000 more characters" in html
    assert "x" * 4001 not in html


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    Page("first").write(target)
    second = Page("second")
    monkeypatch.setattr(second, "_parts", [None])
    with pytest.raises(TypeError):
        second.write(target)
    assert "first" in target.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [target]


def test_headings_become_contents() -> None:
    html = Page("p").heading("One").heading("Two").heading("Three").html()
    assert '<a href="#section-3"><bdi>Three</bdi></a>' in html
    assert 'id="section-3"' in html


def test_pictures_have_an_alternative_and_their_numbers() -> None:
    table = pl.DataFrame({"x": [1, 2], "y": [3.0, 4.0]})
    html = (
        Page("p")
        .figure(plots.curves(table, "x", {"y": "y"}, y_axis="y"), "A caption.", "An <alternative>.", table)
        .html()
    )
    assert 'role="img" aria-label="An &lt;alternative&gt;."' in html
    assert "The numbers behind this picture" in html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5000"),
        (12.3456, "12.35"),
        (1234.5, "1,234.5"),
        (-3, "−3"),
        (1_000_000, "1,000,000"),
        (float("nan"), "–"),
        (1e-9, "1.00e−09"),
        (float("inf"), "∞"),
        (True, "yes"),
    ],
)
def test_numbers_read_as_a_person_writes_them(value: float, shown: str) -> None:
    assert number(value) == shown


def test_cells_of_any_kind_are_text() -> None:
    assert cell(None) == '<span class="none">–</span>'
    assert "&lt;b&gt;" in cell({"a": "<b>"})
    assert inline("ab" * 150, 10).startswith("<bdi>ababababab</bdi>")
    assert script_json({"a": "</script>"}) == '{"a": "\\u003c/script\\u003e"}'


def test_long_names_that_begin_alike_keep_a_place_each() -> None:
    names = ["a" * 50 + "1", "a" * 50 + "2"]
    figure = plots.intervals(names, [1, 2], [0, 1], [2, 3], axis="rating")
    assert list(figure.data[0].y) == [0, 1]
    assert len(figure.layout.yaxis.ticktext) == 2
