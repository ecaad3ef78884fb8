"""Item strengths and leaderboards from judgments. The package is also a function: `palate.rank(data)`."""

from __future__ import annotations

from palate._callable import make_callable
from palate.rank.base import Ranker
from palate.rank.bradley_terry import BradleyTerry
from palate.rank.counts import Comparisons, count
from palate.rank.leaderboard import Difference, Leaderboard, Probability, WinMatrix
from palate.rank.registry import methods, rank

__all__ = [
    "BradleyTerry",
    "Comparisons",
    "Difference",
    "Leaderboard",
    "Probability",
    "Ranker",
    "WinMatrix",
    "count",
    "methods",
    "rank",
]

make_callable(__name__, rank)
