"""`palate.rank`: ranking methods by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from palate.data.table import PreferenceData
from palate.errors import ConfigError, unknown
from palate.rank.base import Ranker
from palate.rank.battles import Battles
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import Leaderboard

METHODS = {
    "bradley_terry": "bradley_terry:BradleyTerry",
    "crowd_bt": "crowd:CrowdBT",
    "factor_bt": "factor:FactorBT",
    "cyclic": "cyclic:CyclicRatings",
    "composite_bt": "composite:CompositeBradleyTerry",
    "contextual_bt": "contextual:ContextualBradleyTerry",
    "davidson": "ties:Davidson",
    "rao_kupper": "ties:RaoKupper",
    "thurstone": "thurstone:Thurstone",
    "mean_opinion_score": "opinion:MeanOpinionScore",
    "elo": "elo:Elo",
    "trueskill": "skill:TrueSkill",
    "openskill": "skill:OpenSkill",
    "weng_lin": "skill:OpenSkill",
    "dynamic_bt": "dynamic:DynamicBradleyTerry",
    "ilsr": "spectral:IterativeLSR",
    "lsr": "spectral:LuceSpectralRanking",
    "plackett_luce": "plackett_luce:PlackettLuce",
    "rank_centrality": "spectral:RankCentrality",
    "win_rate": "win_rates:WinRate",
    "average_win_rate": "win_rates:AverageWinRate",
    "pagerank": "link_analysis:PageRank",
    "eigenvector": "link_analysis:Eigenvector",
    "borda": "consensus:Borda",
    "copeland": "consensus:Copeland",
    "schulze": "consensus:Schulze",
    "kemeny": "kemeny:Kemeny",
}
"""Where each method is: module of `palate.rank` and class. Modules load when their method is used."""


SUMMARIES = {
    "bradley_terry": "strengths by maximum likelihood; a tie is half a win for each",
    "davidson": "Bradley-Terry in which a tie is most likely between equals, with a parameter nu",
    "rao_kupper": "Bradley-Terry in which small differences are ties, with a threshold eta",
    "thurstone": "probit strengths (case V); ties half, or with a threshold (Glenn-David)",
    "contextual_bt": "Bradley-Terry with features of the battle: style, length, position, language",
    "composite_bt": "one Bradley-Terry board that weighs several aspects",
    "dynamic_bt": "Bradley-Terry strengths that drift over time",
    "crowd_bt": "Bradley-Terry with a reliability for each annotator",
    "factor_bt": "Bradley-Terry with each annotator's pull towards a side or feature",
    "cyclic": "a vector for each item: odds that may go in circles, and how much of them does",
    "plackett_luce": "strengths from rankings of any length, partial, top-k and tied ones included",
    "ilsr": "the maximum of Plackett-Luce by iterated spectral ranking",
    "lsr": "one pass of spectral ranking: fast, without intervals",
    "rank_centrality": "stationary distribution of a walk from losers to winners",
    "elo": "online ratings, one judgment after the other, or averaged over orders",
    "trueskill": "online Gaussian skills of pairs with draws",
    "openskill": "online Gaussian skills of any number of sides (Weng-Lin)",
    "weng_lin": "another name of openskill",
    "win_rate": "share of comparisons won",
    "average_win_rate": "mean over opponents of the share won against each",
    "pagerank": "PageRank of the win matrix; descriptive",
    "eigenvector": "leading eigenvector of the win matrix; descriptive",
    "borda": "points for each alternative ranked below",
    "copeland": "majorities won, ties half",
    "schulze": "strongest paths of majorities",
    "kemeny": "the order with the fewest disagreements",
    "mean_opinion_score": "mean ratings, corrected for annotators' bias and inconsistency",
}
"""What each method gives, in a phrase."""


def methods() -> list[str]:
    """Names of the ranking methods."""
    return sorted(METHODS)


def get(method: str) -> type[Ranker]:
    """The class of a ranking method.

    Raises:
        ConfigError: the method is unknown.
    """
    if method not in METHODS:
        raise unknown("ranking method", method, METHODS)
    module, _, name = METHODS[method].partition(":")
    found: type[Ranker] = getattr(import_module(f"palate.rank.{module}"), name)
    return found


def rank(
    data: PreferenceData | Battles | Comparisons, method: str = "bradley_terry", **options: Any
) -> Leaderboard:
    """A leaderboard of the items of `data`.

    Args:
        data: judgments about named items, battles made of columns (`Battles.from_columns`), or comparisons
            counted before (`palate.rank.count`).
        method: one of `palate.rank.methods()`.
        **options: parameters of the method; for "bradley_terry" see `palate.rank.BradleyTerry`.

    Raises:
        DataError: the data compare nothing, or do not determine a finite strength for each item.
        ConfigError: the method or an option is unknown or cannot be used.

    >>> from palate.data import PreferenceData
    >>> votes = PreferenceData.from_columns({"items": [["a", "b"]] * 3, "scores": [[1, 0], [1, 0], [0, 1]]})
    >>> rank(votes).strengths
    {'a': 0.346..., 'b': -0.346...}
    """
    if not isinstance(data, PreferenceData | Battles | Comparisons):
        raise ConfigError(f"cannot rank a {type(data).__name__}; read files with palate.load")
    chosen = get(method)
    for name in options:
        if name not in chosen.parameters():
            raise unknown(f"option of {method}", name, chosen.parameters())
    return chosen(**options).fit(data).leaderboard()
