"""A page in a real browser, from a file, without a network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.report import Page, plots

CHROMIUM = Path(os.environ.get("PALATE_CHROMIUM", "/usr/bin/chromium"))
ATTACK = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'></script>"
    "<a href='javascript:alert(1)'>x</a>\u2028"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="requires the package playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"requires a browser: {CHROMIUM} is not there")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def hostile_page(tmp_path: Path) -> Path:
    names = [f"{ATTACK} {i}" for i in range(6)]
    curve = pl.DataFrame({"step": [1, 2, 3], "loss": [0.7, 0.6, 0.5], ATTACK: [1.0, 2.0, 3.0]})
    bins = pl.DataFrame(
        {
            "lower": [0.5, 0.75], "upper": [0.75, 1.0], "n": [10, 20],
            "predicted": [0.6, 0.9], "observed": [0.5, 0.8],
            "observed_lower": [0.3, 0.6], "observed_upper": [0.7, 0.9],
        }
    )  # fmt: skip
    share = [[float("nan") if i == j else 0.5 + (j - i) / 20 for j in range(6)] for i in range(6)]
    page = Page(ATTACK, ATTACK)
    page.heading(ATTACK).heading("Two").heading("Three").text(ATTACK).table(
        pl.DataFrame({ATTACK: names}), ATTACK
    )
    page.figure(
        plots.intervals(names, range(6), range(-1, 5), range(1, 7), axis=ATTACK), ATTACK, ATTACK, curve
    )
    page.figure(
        plots.matrix(names, [[float("nan") if x is None else x for x in row] for row in share]),
        ATTACK,
        ATTACK,
    )
    page.figure(plots.reliability(bins), "c", "a", bins)
    page.figure(plots.scatter({ATTACK: ([1, 2, 3], [1, 3, 2])}, x_axis="x", y_axis="y"), "c", "a")
    page.figure(plots.curves(curve, "step", {"loss": ATTACK, ATTACK: "b"}, y_axis="loss"), "c", "a", curve)
    page.examples([{"title": ATTACK, "prompt": ATTACK, "sides": [{"label": "chosen", "text": ATTACK}]}])
    return page.write(tmp_path / "report.html")


def wait(tab: Any, expression: str, seconds: float = 20.0) -> None:
    """Poll from outside: the page's policy forbids the polling that the browser driver would put into it."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        tab.wait_for_timeout(50)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_hostile_page_opens_offline_and_only_shows(browser: Any, hostile_page: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1100, "height": 900})
    tab = context.new_page()
    requests, errors, dialogs = [], [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on(
        "console",
        lambda message: errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    tab.goto(hostile_page.as_uri())
    wait(tab, "document.querySelectorAll('.plot .main-svg').length >= 5")
    assert tab.evaluate("window.pwned") is None
    assert dialogs == []
    assert errors == []
    assert requests == [hostile_page.as_uri()]
    assert tab.evaluate("document.querySelectorAll('.plot a[href], main img').length") == 0
    drawn = tab.evaluate(
        "[...document.querySelectorAll('.plot')]"
        ".map(p => p.querySelectorAll('.points path, .hm image, .lines path').length)"
    )
    assert len(drawn) == 5
    assert all(count > 0 for count in drawn)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_a_page_fits_a_narrow_screen(browser: Any, hostile_page: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 700})
    tab = context.new_page()
    tab.goto(hostile_page.as_uri())
    wait(tab, "document.querySelectorAll('.plot .main-svg').length >= 5")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_pictures_follow_the_colour_scheme(browser: Any, hostile_page: Path) -> None:
    context = browser.new_context(color_scheme="light")
    tab = context.new_page()
    tab.goto(hostile_page.as_uri())
    wait(tab, "document.querySelectorAll('.plot .main-svg').length >= 5")
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = tab.evaluate(ink)
    tab.emulate_media(color_scheme="dark")
    wait(tab, f"{ink} !== '{light}'")
    assert tab.evaluate(ink) == tab.evaluate("getComputedStyle(document.body).color")
    context.close()


def test_a_script_that_got_into_the_page_would_not_run(
    browser: Any, hostile_page: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.html"
    injected = "<script>window.pwned=1</script><img src='https://example.org/x.png' onerror='window.pwned=1'>"
    broken.write_text(hostile_page.read_text("utf-8").replace("<main>", f"<main>{injected}"), "utf-8")
    tab = browser.new_page()
    tab.goto(broken.as_uri())
    wait(tab, "document.querySelectorAll('.plot .main-svg').length >= 5")
    assert tab.evaluate("window.pwned") is None
    tab.close()
