"""Whether one setting of a system beats another, from head-to-head votes."""

from __future__ import annotations

from typing import Literal, NamedTuple

from palate.errors import DataError, unknown


class PairedSetting(NamedTuple):
    """Share won of the votes used, and the one-sided p value of p > 1/2."""

    share: float
    p: float
    n: int


def paired_setting_test(
    wins: int, losses: int, ties: int = 0, ties_rule: Literal["drop", "half"] = "drop"
) -> PairedSetting:
    """Exact one-sided binomial test that a setting wins more than half of its votes (Search Arena's
    cross-setting comparison).

    Args:
        wins, losses, ties: numbers of votes.
        ties_rule: "drop" leaves ties out; "half" gives each side half of them as whole votes (of an odd
            number, one is left out).

    Raises:
        DataError: a number is not whole or negative, or no vote is left.
        ConfigError: `ties_rule` has another value.

    >>> round(paired_setting_test(60, 40).p, 6)
    0.028444
    """
    from scipy.stats import binomtest  # slow to import, and needed here only

    if ties_rule not in ("drop", "half"):
        raise unknown("ties_rule", ties_rule, ("drop", "half"))
    for name, votes in {"wins": wins, "losses": losses, "ties": ties}.items():
        if votes != int(votes) or votes < 0:
            raise DataError(f"{votes!r} is no number of votes", field=name)
    each = ties // 2 if ties_rule == "half" else 0
    won, n = int(wins + each), int(wins + losses + 2 * each)
    if n == 0:
        raise DataError("no votes are left to test", remedy="count ties as half with ties_rule='half'")
    return PairedSetting(won / n, float(binomtest(won, n, 0.5, alternative="greater").pvalue), n)
