"""Judgments: the record, the table, its views, and every format it comes from and goes to."""

from __future__ import annotations

from palate.data.aggregate import aggregate
from palate.data.formats import load, scan, write
from palate.data.rating_labels import RatingLabels, aggregate_ratings, aggregate_strengths
from palate.data.table import PreferenceData

__all__ = [
    "PreferenceData",
    "RatingLabels",
    "aggregate",
    "aggregate_ratings",
    "aggregate_strengths",
    "load",
    "scan",
    "write",
]
