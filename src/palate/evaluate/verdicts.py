"""What a judge says of the pairs of a data set; each distinct group or pair is asked once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError
from palate.judges.base import Judge

if TYPE_CHECKING:
    from palate.data import PreferenceData

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdicts:
    """A judge's answers on the pairs of a data set, in columns.

    "First" is the response that stands first in the judgment, whatever was chosen.

    Attributes:
        pairs: the pairs view with ties kept, one row a pair; the columns below are aligned with it.
        chosen_first: shape (n,), whether the chosen response stands first; false for gold ties as well as
            else.
        tie: shape (n,), whether the gold judgment is a tie.
        probability: shape (n,), that the first is preferred, as the judge says; NaN is missing.
        margin: shape (n,), score of the first less that of the second, or what a judge that compares says in
            `margins_data`; NaN where missing or if the judge gives no margins.
        forward, backward: shape (n,), probability of the first as judged with the first and the second
            response shown first; None if the judge was not asked in both orders.
        rationale: one text or None per pair, or None.
    """

    pairs: pl.DataFrame
    chosen_first: npt.NDArray[np.bool_]
    tie: npt.NDArray[np.bool_]
    probability: Floats
    margin: Floats
    forward: Floats | None = None
    backward: Floats | None = None
    rationale: list[str | None] | None = None

    @property
    def target(self) -> Floats:
        """Shape (n,): 1 where the first was chosen, 0 where the second, 0.5 for gold ties."""
        return np.where(self.tie, 0.5, self.chosen_first.astype(np.float64))

    @property
    def of_chosen(self) -> Floats:
        """Shape (n,): probability the judge gives to the chosen response."""
        return np.where(self.chosen_first, self.probability, 1.0 - self.probability)


def ask(judge: Judge, data: PreferenceData, options: Mapping[str, Sequence[Any]] | None = None) -> Verdicts:
    """The judge's verdicts on all pairs of the data.

    Args:
        judge: any judge; one that reads whole data sets (`score_data`, or `margins_data` if it compares) is
            given the data, one with scores of its own the groups, one that compares the pairs.
        data: judgments with responses, or whatever else the judge's `score_data` reads.
        options: what else the judge is told (`context`, `annotator`, `references`), one entry per judgment.

    Raises:
        ConfigError: the data has no responses or no pair, an option has the wrong length, or the judge scores
            several aspects.
    """
    whole = getattr(judge, "score_data", None)
    if not data.has("responses") and whole is None:
        raise ConfigError(f"the judge {judge.name!r} reads responses; the data has none")
    told = {name: list(values) for name, values in (options or {}).items()}
    for name, values in told.items():
        if len(values) != data.n_rows:
            raise ConfigError(
                f"option {name!r} needs one entry per judgment ({data.n_rows}); got {len(values)}"
            )
    pairs = data.pairs("all", ties="keep", both_bad="tie")
    if data.has("responses"):
        pairs = pairs.filter(pl.col("chosen").is_not_null() & pl.col("rejected").is_not_null())
    if not pairs.height:
        raise ConfigError("the data holds no pair to compare; give judgments of two or more responses")
    if whole is not None and not told:
        at = pairs["judgment"].to_numpy()
        margins = getattr(judge, "margins_data", None)
        if margins is not None and "score" not in judge.native:
            one, two, _, _ = _orient(pairs)
            return _from_margins(judge, pairs, margins(data)[at, one, two])
        return _from_scores(judge, pairs, whole(data).scores, at)
    prompts = pl.Series(pl.from_arrow(data.column("prompt")), dtype=pl.String).fill_null("")
    answer = _scored if "score" in judge.native else _compared
    return answer(judge, data, pairs, prompts, told)


def clusters(pairs: pl.DataFrame) -> npt.NDArray[Any]:
    """Shape (n,): the prompt of each pair as a number: by id, else by text, else by judgment."""
    names = [pl.col(name).cast(pl.String) for name in ("prompt_id", "prompt") if name in pairs.columns]
    given = [pl.when(name.str.len_bytes() > 0).then(name) for name in names]
    key = pl.coalesce(*given, pl.format("judgment {}", pl.col("judgment")))
    return pairs.select(key.rank("dense")).to_series().to_numpy()


def _scored(
    judge: Judge, data: PreferenceData, pairs: pl.DataFrame, prompts: pl.Series, told: dict[str, list[Any]]
) -> Verdicts:
    rows = np.unique(pairs["judgment"].to_numpy())
    groups = pl.Series(pl.from_arrow(data.column("responses").take(rows))).list.eval(
        pl.element().fill_null("")
    )
    keys = pl.DataFrame({"prompt": prompts.gather(rows), "group": groups} | _key_columns(told, rows))
    code, first = _distinct(keys)
    asked = keys[first]
    options = {name: [values[row] for row in rows[first]] for name, values in told.items()}
    result = judge.score(asked["prompt"].to_list(), asked["group"].to_list(), **options)
    at = code[np.searchsorted(rows, pairs["judgment"].to_numpy())]
    return _from_scores(judge, pairs, result.scores, at)


def _from_scores(judge: Judge, pairs: pl.DataFrame, scores: Floats, at: npt.NDArray[np.int64]) -> Verdicts:
    """Verdicts from scores of shape (groups, k), where pair p is of group at[p]."""
    if scores.ndim == 3:
        raise ConfigError(
            f"the judge {judge.name!r} scores {scores.shape[2]} aspects; compose them to one first"
        )
    one, two, _, _ = _orient(pairs)
    return _from_margins(judge, pairs, scores[at, one] - scores[at, two])


def _from_margins(judge: Judge, pairs: pl.DataFrame, margin: Floats) -> Verdicts:
    """Verdicts from the margin of the first over the second of each pair, shape (n,)."""
    _, _, chosen_first, tie = _orient(pairs)
    return Verdicts(pairs, chosen_first, tie, np.asarray(judge.preference(margin)), margin)


def _compared(
    judge: Judge, data: PreferenceData, pairs: pl.DataFrame, prompts: pl.Series, told: dict[str, list[Any]]
) -> Verdicts:
    _, _, chosen_first, tie = _orient(pairs)
    rows = pairs["judgment"].to_numpy()
    a = pl.when(pl.Series(chosen_first)).then(pl.col("chosen")).otherwise(pl.col("rejected"))
    b = pl.when(pl.Series(chosen_first)).then(pl.col("rejected")).otherwise(pl.col("chosen"))
    keys = pairs.select(a=a, b=b).with_columns(prompt=prompts.gather(rows))
    keys = keys.hstack(pl.DataFrame(_key_columns(told, rows))) if told else keys
    code, first = _distinct(keys)
    asked = keys[first]
    options = {name: [values[row] for row in rows[first]] for name, values in told.items()}
    result = judge.compare(asked["prompt"].to_list(), asked["a"].to_list(), asked["b"].to_list(), **options)
    both = result.forward is not None and result.backward is not None
    return Verdicts(
        pairs,
        chosen_first,
        tie,
        result.probability[code],
        np.full(len(code), np.nan),
        result.forward[code] if both and result.forward is not None else None,
        result.backward[code] if both and result.backward is not None else None,
        [result.rationale[at] for at in code] if result.rationale is not None else None,
    )


def _orient(pairs: pl.DataFrame) -> tuple[Any, Any, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    chosen, rejected = pairs["chosen_index"].to_numpy(), pairs["rejected_index"].to_numpy()
    tie = pairs["tie"].to_numpy().astype(bool)
    return np.minimum(chosen, rejected), np.maximum(chosen, rejected), chosen < rejected, tie


def _distinct(keys: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each row the number of its distinct key, and for each distinct key its first row."""
    names = keys.columns
    numbered = keys.with_row_index("row_").group_by(names, maintain_order=True).agg(pl.col("row_"))
    code = np.empty(keys.height, dtype=np.int64)
    lengths = numbered["row_"].list.len().to_numpy()
    code[numbered["row_"].explode().to_numpy()] = np.repeat(np.arange(numbered.height), lengths)
    return code, numbered["row_"].list.first().to_numpy().astype(np.int64)


def _key_columns(told: Mapping[str, list[Any]], rows: npt.NDArray[Any]) -> dict[str, list[str]]:
    return {
        f"option {name}": [json.dumps(values[row], sort_keys=True, default=str) for row in rows]
        for name, values in told.items()
    }
