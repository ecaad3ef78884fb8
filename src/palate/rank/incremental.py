"""Fits that go on: new votes are added to the counts so far, whatever number of votes those stand for."""

from __future__ import annotations

from typing import Any, Self

from palate.data.table import PreferenceData
from palate.errors import ConfigError
from palate.rank.base import Ranker
from palate.rank.battles import Battles
from palate.rank.counts import Comparisons, count
from palate.rank.merging import merge


class Incremental(Ranker):
    """A ranker that works from counts, and can therefore take votes as they come.

    A method offers `_counted` (its counts of some data) and `_fit` (what it learns from counts, beginning at
    an earlier fit's parameters if that helps), which keeps the counts it was given in `counted_`.

    Attributes:
        counted_: the counts that were fitted, before the method drops or weighs any.
    """

    counted_: Comparisons | None = None

    def partial_fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Learn from further judgments, as one `fit` to all judgments so far would.

        The cost depends on the number of items and distinct pairs and on the new judgments, not on those
        before; strengths start at the last ones. Items may be new. If it raises, nothing has changed, and the
        data can be given again with more.

        Raises:
            DataError, ConfigError: as `fit`.
            ConfigError: `cluster` is set, whose clusters could not be followed from one call to the next;
                merge counts with their clusters (`palate.rank.merging.merge`) and fit those.
        """
        if getattr(self, "cluster", None) is not None:
            raise ConfigError(
                "partial_fit cannot follow clusters from one call to the next; merge the counts of each part "
                "with merge(parts, clusters=...) and fit them"
            )
        before = dict(vars(self))
        try:
            self._check()
            new, known = self._counted(data), self.counted_
            if known is None:
                return self._fit(new)
            counted = merge((known, new))
            return self._fit(counted, self._start(counted))
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _check(self) -> None:
        """Refuse parameters that cannot be used."""

    def _counted(self, data: PreferenceData | Battles | Comparisons) -> Comparisons:
        """The counts that the method is fitted to."""
        return count(data, getattr(self, "both_bad", "tie"), getattr(self, "weights", "importance"))

    def _fit(self, counted: Comparisons, start: Any = None) -> Self:
        """Learn from counts, and keep them."""
        self.fit(counted)
        self.counted_ = counted
        return self

    def _start(self, counted: Comparisons) -> Any:
        """Where a fit to `counted`, which has the items so far and then any new ones, should begin."""
        return None
