"""Which labels stand: two reward models, and a language model where they doubt, must not contradict them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.curate.asked import Opinion, agreement, decided
from palate.curate.treat import turned
from palate.data import PreferenceData, metadata
from palate.data.views import PairIndex
from palate.errors import ConfigError
from palate.judges import Judge

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]
Integers = npt.NDArray[np.int64]

DECISIONS = ("keep", "flip", "discard", "needs_llm")


@dataclass(frozen=True)
class Consistency:
    """What becomes of each judgment.

    Attributes:
        table: one row per judgment: `judgment` (row), `id` if there are ids, `decision` ("keep", "flip",
            "discard" or "needs_llm"), `reason`, and the probabilities that the label is right, `p_gold`,
            `p_best`, `p_llm` (null: not asked, or no answer).
        recycle: whether `data` holds flipped judgments.
    """

    table: pl.DataFrame
    source: PreferenceData
    recycle: bool = False

    def rows(self, decision: str) -> Integers:
        """Rows with a decision."""
        return self.table.filter(decision=decision)["judgment"].to_numpy().astype(np.int64)

    @property
    def keep(self) -> Integers:
        """Rows whose label stands."""
        return self.rows("keep")

    @property
    def flip(self) -> Integers:
        """Rows whose label is turned round."""
        return self.rows("flip")

    @property
    def discard(self) -> Integers:
        """Rows of which nothing is learnt."""
        return self.rows("discard")

    @property
    def needs_llm(self) -> Integers:
        """Rows that only an answer of a language model could decide."""
        return self.rows("needs_llm")

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each decision."""
        found = dict(self.table.group_by("decision").len().iter_rows())
        return {name: int(found.get(name, 0)) for name in DECISIONS}

    @property
    def reasons(self) -> pl.DataFrame:
        """How many judgments there are of each `decision` and `reason`, most first."""
        return (
            self.table.group_by("decision", "reason").len("n").sort("n", "reason", descending=[True, False])
        )

    @property
    def data(self) -> PreferenceData:
        """The judgments kept; with `recycle` the flipped ones after them, see `flipped`."""
        kept = self._noted(self.source.take(self.keep), self.keep)
        return PreferenceData.concat([kept, self.flipped]) if self.recycle and len(self.flip) else kept

    @property
    def flipped(self) -> PreferenceData:
        """The judgments to flip with their scores exchanged, signed as by `palate.curate.apply_strength`."""
        rows = self.flip
        part = self._noted(self.source.take(rows), rows)
        return turned(part, self.source.weights[rows]) if len(rows) else part

    def _noted(self, part: PreferenceData, rows: Integers) -> PreferenceData:
        """Judgments whose metadata say what was found of them."""
        said = self.table[rows.tolist()] if len(rows) else self.table.head(0)
        return metadata.with_values(
            part, {name: said[name] for name in ("decision", "reason", "p_gold", "p_best", "p_llm")}
        )


def consistency(
    data: PreferenceData,
    gold_judge: Opinion,
    best_judge: Opinion,
    llm_judge: Opinion | Callable[[PreferenceData], npt.ArrayLike] | None = None,
    *,
    threshold: float = 0.5,
    recycle: bool = False,
) -> Consistency:
    """Keep, flip or discard labels by two reward models and a language model (Skywork-Reward-V2, stage 2).

    With p the probability a judge gives the label, a judge agrees if p > threshold and objects if
    p < 1 - threshold; the language model is asked only where the best model does not agree and an answer can
    change the outcome. Then

        keep    = gold agrees and (best agrees or llm agrees)
        flip    = gold, best and llm all object
        discard = everything else

    (Liu et al., 2025, arXiv 2507.01352). Nothing is decided by silence: a judge without an answer, or with
    p = 1/2, neither agrees nor objects, and a tie among the labels is discarded. The threshold says where
    agreement begins, not how sure a model is; check the precision of what is kept before moving it.

    Args:
        data: judgments of two alternatives.
        gold_judge: a reward model learnt from verified pairs alone; or its probabilities, shape (rows,).
        best_judge: the best reward model at hand.
        llm_judge: a language model as judge, or a function that labels the judgments it is given; without it
            what it would have to decide comes out as "needs_llm".
        threshold: from 0.5 to below 1.
        recycle: let `data` of the result hold the flipped judgments.

    Raises:
        ConfigError: a threshold outside its range, judgments of more than two alternatives, or probabilities
            that are not one per judgment.
    """
    if not 0.5 <= threshold < 1:
        raise ConfigError(f"threshold is a probability from 0.5 to below 1; got {threshold}")
    pairs = decided(data)
    gold, best = (agreement(judge, data, pairs) for judge in (gold_judge, best_judge))
    llm = np.full(len(gold), np.nan)
    decision, reason = _without_llm(gold, best, threshold)
    open_ = decision == "needs_llm"
    if llm_judge is not None and open_.any():
        llm[open_] = _labels(llm_judge, data, pairs, open_)
        decision[open_], reason[open_] = _by_llm(gold[open_] > threshold, llm[open_], threshold)
    every = {
        "decision": np.full(data.n_rows, "discard", object),
        "reason": np.full(data.n_rows, "tie", object),
    }
    every["decision"][pairs.judgment], every["reason"][pairs.judgment] = decision, reason
    columns: dict[str, object] = {"judgment": np.arange(data.n_rows)}
    if data.has("id"):
        columns["id"] = data.values("id")
    columns |= {name: pl.Series(values, dtype=pl.String) for name, values in every.items()}
    for name, values in (("p_gold", gold), ("p_best", best), ("p_llm", llm)):
        spread = np.full(data.n_rows, np.nan)
        spread[pairs.judgment] = values
        columns[name] = pl.Series(spread).fill_nan(None)
    return Consistency(pl.DataFrame(columns), data, recycle)


def _labels(
    llm: Opinion | Callable[[PreferenceData], npt.ArrayLike],
    data: PreferenceData,
    pairs: PairIndex,
    open_: Bools,
) -> Floats:
    asked = PairIndex(pairs.judgment[open_], pairs.chosen[open_], pairs.rejected[open_], pairs.margin[open_])
    if isinstance(llm, Judge) or not callable(llm):
        return agreement(llm, data, asked)
    part = data.take(asked.judgment)
    return agreement(llm(part), part)


def _without_llm(gold: Floats, best: Floats, threshold: float) -> tuple[Names, Names]:
    """Decisions and reasons of both reward models, shape (pairs,) each; "needs_llm" where they leave it
    open."""
    gold_agrees, best_agrees = gold > threshold, best > threshold
    gold_objects, best_objects = gold < 1 - threshold, best < 1 - threshold
    return _first_true(
        (~gold_agrees & ~gold_objects, "discard", "gold undecided"),
        (gold_agrees & best_agrees, "keep", "gold and best agree"),
        (gold_agrees, "needs_llm", "gold agrees, best does not"),
        (best_agrees, "discard", "gold objects, best agrees"),
        (best_objects, "needs_llm", "gold and best object"),
        (np.ones(len(gold), dtype=bool), "discard", "gold objects, best undecided"),
    )


def _by_llm(gold_agrees: Bools, llm: Floats, threshold: float) -> tuple[Names, Names]:
    """The same where the language model was asked: gold agrees alone, or gold and best object."""
    agrees, objects = llm > threshold, llm < 1 - threshold
    return _first_true(
        (~agrees & ~objects, "discard", "llm abstains"),
        (gold_agrees & agrees, "keep", "gold and llm agree"),
        (gold_agrees, "discard", "gold agrees alone"),
        (objects, "flip", "all object"),
        (np.ones(len(llm), dtype=bool), "discard", "llm agrees alone"),
    )


def _first_true(*cases: tuple[Bools, str, str]) -> tuple[Names, Names]:
    pick = np.argmax(np.stack([case[0] for case in cases]), axis=0)
    decisions, reasons = (np.array([case[i] for case in cases], dtype=object) for i in (1, 2))
    return decisions[pick], reasons[pick]
