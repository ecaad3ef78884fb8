"""The reference of losses and heads names each of them, and their parameters."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from palate import losses
from palate.reward import heads
from palate.training.told import COLUMNS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "losses-and-heads.md").read_text("utf-8")


def _rows(section: str) -> dict[str, str]:
    """Rows of the tables under headings that begin so, by the name in their first cell."""
    parts = [part for part in re.split(r"^## ", PAGE, flags=re.M) if part.startswith(section)]
    return {name: row for part in parts for row, name in re.findall(r"^(\| `(\w+)` \|.*)$", part, flags=re.M)}


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_is_in_the_reference(name: str) -> None:
    tables = _rows("Losses") | _rows("Terms")
    if name == "more":
        assert "`more` wraps another loss" in PAGE
    else:
        assert name in tables, f"docs/losses-and-heads.md has no row for the loss {name}"


def test_the_reference_names_no_loss_that_is_not_there() -> None:
    assert set(_rows("Losses") | _rows("Terms")) <= set(losses.names())


@pytest.mark.parametrize("name", losses.names())
def test_log_odds_and_levels_are_as_the_losses_say(name: str) -> None:
    loss = losses.get(name)
    of_labels = _rows("Losses of labels")
    level = name in of_labels or name in ("nca", "sppo", "apo_zero", "apo_down", "centering", "magnitude")
    assert loss.anchored == level
    if name in _rows("Losses of pairs") or name in _rows("Losses of lists"):
        row = (_rows("Losses of pairs") | _rows("Losses of lists"))[name]
        assert ("| yes |" in row) == loss.log_odds, row
    if loss.heads:
        assert f"head `{loss.heads[0]}`" in of_labels[name]


@pytest.mark.parametrize("name", heads.names())
def test_every_head_is_in_the_reference_with_its_parameters(name: str) -> None:
    row = _rows("Heads")[name]
    kind = heads.kind(name)
    assert f"| {kind.native} |" in row
    own = inspect.signature(kind.__init__).parameters if "__init__" in vars(kind) else ()
    for parameter in own:
        assert parameter == "self" or f"`{parameter}`" in row, f"{name}: {parameter}"


def test_everything_judgments_can_tell_a_loss_is_in_the_reference() -> None:
    assert set(_rows("What judgments tell")) == set(COLUMNS)
