"""Item strengths and leaderboards from judgments. The package is also a function: `palate.rank(data)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palate._callable import make_callable
from palate.rank.battles import Battles
from palate.rank.counts import Comparisons, count
from palate.rank.leaderboard import Difference, Leaderboard, Probability, Scale, WinMatrix
from palate.rank.registry import METHODS, methods, rank

# Methods and tools load when first used: most need no more than one of them.
_LAZY = {name: module for module, name in (place.split(":") for place in METHODS.values())} | {
    "Boards": "boards",
    "Ranker": "base",
    "VotesNeeded": "planning",
    "annotator_report": "raters",
    "clean": "hygiene",
    "count_file": "streaming",
    "find_cycles": "cycles",
    "influence": "raters",
    "merge": "merging",
    "next_pair_weights": "hygiene",
    "pairwise_tests": "significance",
    "rank_by": "boards",
    "rank_sets": "significance",
    "votes_needed": "planning",
    "votes_to_separate": "planning",
}

if TYPE_CHECKING:
    from palate.rank.base import Ranker as Ranker
    from palate.rank.boards import Boards as Boards
    from palate.rank.boards import rank_by as rank_by
    from palate.rank.bradley_terry import BradleyTerry as BradleyTerry
    from palate.rank.composite import CompositeBradleyTerry as CompositeBradleyTerry
    from palate.rank.consensus import Borda as Borda
    from palate.rank.consensus import Copeland as Copeland
    from palate.rank.consensus import Schulze as Schulze
    from palate.rank.contextual import ContextualBradleyTerry as ContextualBradleyTerry
    from palate.rank.crowd import CrowdBT as CrowdBT
    from palate.rank.cycles import find_cycles as find_cycles
    from palate.rank.cyclic import CyclicRatings as CyclicRatings
    from palate.rank.dynamic import DynamicBradleyTerry as DynamicBradleyTerry
    from palate.rank.elo import Elo as Elo
    from palate.rank.factor import FactorBT as FactorBT
    from palate.rank.hygiene import clean as clean
    from palate.rank.hygiene import next_pair_weights as next_pair_weights
    from palate.rank.kemeny import Kemeny as Kemeny
    from palate.rank.link_analysis import Eigenvector as Eigenvector
    from palate.rank.link_analysis import PageRank as PageRank
    from palate.rank.merging import merge as merge
    from palate.rank.opinion import MeanOpinionScore as MeanOpinionScore
    from palate.rank.plackett_luce import PlackettLuce as PlackettLuce
    from palate.rank.planning import VotesNeeded as VotesNeeded
    from palate.rank.planning import votes_needed as votes_needed
    from palate.rank.planning import votes_to_separate as votes_to_separate
    from palate.rank.raters import annotator_report as annotator_report
    from palate.rank.raters import influence as influence
    from palate.rank.significance import pairwise_tests as pairwise_tests
    from palate.rank.significance import rank_sets as rank_sets
    from palate.rank.skill import OpenSkill as OpenSkill
    from palate.rank.skill import TrueSkill as TrueSkill
    from palate.rank.spectral import IterativeLSR as IterativeLSR
    from palate.rank.spectral import LuceSpectralRanking as LuceSpectralRanking
    from palate.rank.spectral import RankCentrality as RankCentrality
    from palate.rank.streaming import count_file as count_file
    from palate.rank.thurstone import Thurstone as Thurstone
    from palate.rank.ties import Davidson as Davidson
    from palate.rank.ties import RaoKupper as RaoKupper
    from palate.rank.win_rates import AverageWinRate as AverageWinRate
    from palate.rank.win_rates import WinRate as WinRate

__all__ = [
    "Battles",
    "Comparisons",
    "Difference",
    "Leaderboard",
    "Probability",
    "Scale",
    "WinMatrix",
    "count",
    "methods",
    "rank",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"palate.rank.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'palate.rank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


make_callable(__name__, rank)
