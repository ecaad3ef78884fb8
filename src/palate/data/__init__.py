"""Judgments: the record, the table, its views, and every format it comes from and goes to."""

from __future__ import annotations

from palate.data.aggregate import aggregate
from palate.data.formats import load, scan, write
from palate.data.forum import VotedPairs, from_votes
from palate.data.label_preferences import LabelPreferences, preferences_from_votes, vote_shares
from palate.data.rating_labels import RatingLabels, aggregate_ratings, aggregate_strengths
from palate.data.table import PreferenceData

__all__ = [
    "LabelPreferences",
    "PreferenceData",
    "RatingLabels",
    "VotedPairs",
    "aggregate",
    "aggregate_ratings",
    "aggregate_strengths",
    "from_votes",
    "load",
    "preferences_from_votes",
    "scan",
    "vote_shares",
    "write",
]
