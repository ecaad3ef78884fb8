"""Recipes: one file per paper, its claim, and whether it holds here."""

from __future__ import annotations

from palate.recipes.papers import list_rows, table, update_readme
from palate.recipes.result import CheckResult, RecipeResult, record, recorded
from palate.recipes.running import check, run
from palate.recipes.spec import Recipe, get, names

__all__ = [
    "CheckResult",
    "Recipe",
    "RecipeResult",
    "check",
    "get",
    "list_rows",
    "names",
    "record",
    "recorded",
    "run",
    "table",
    "update_readme",
]
