"""The one protocol: whatever expresses a preference is a judge.

A judge gives absolute scores (`score`), compares two responses (`compare`), or both; it says which in
`native`. From either one the other forms follow, so nothing that uses a judge asks which kind it got.
Anything a judge could not answer is missing (NaN), never a default.

Subclasses implement `_score` (flat lists of texts) or `_compare` (flat lists of pairs, in one order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from palate.data import PreferenceData
from palate.errors import ConfigError

Floats = npt.NDArray[np.float64]
Group = Sequence[str]


@dataclass(frozen=True)
class Scores:
    """What a judge says of single responses.

    Attributes:
        scores: shape (n,) for n responses, (n, k) for n groups padded with NaN, with a last axis per aspect
            where the judge has `aspects`. Higher is better; NaN is missing.
        confidence: shape of `scores`, 0 to 1, or None.
        samples: shape of `scores` plus one axis of repeated judgments, or None.
        rationale: one text (or None) per response, flat, or None.
        trace: one mapping per response, flat (raw output, parts of a sum), or None.
        spread: standard deviation of each score, in its units and shape, as far as the judge knows it, or
            None.
    """

    scores: Floats
    confidence: Floats | None = None
    samples: Floats | None = None
    rationale: list[str | None] | None = None
    trace: list[dict[str, Any]] | None = None
    spread: Floats | None = None


@dataclass(frozen=True)
class Comparison:
    """What a judge says of n pairs (a, b).

    Attributes:
        probability: shape (n,), that a is preferred; 0.5 is a tie, NaN is missing. Where both orders were
            asked it is their mean.
        forward: shape (n,), as judged with a shown first; None for a judge to which order cannot matter.
        backward: shape (n,), probability of a as judged with b shown first; None as above.
        rationale: one text (or None) per pair, or None.
        trace: one mapping per pair, or None.
    """

    probability: Floats
    forward: Floats | None = None
    backward: Floats | None = None
    rationale: list[str | None] | None = None
    trace: list[dict[str, Any]] | None = None

    @property
    def agree(self) -> npt.NDArray[np.bool_]:
        """Shape (n,): whether both orders prefer the same side.

        True where order cannot matter, false where an answer is missing.
        """
        if self.forward is None or self.backward is None:
            return ~np.isnan(self.probability)
        missing = np.isnan(self.forward) | np.isnan(self.backward)
        same = np.sign(self.forward - 0.5) == np.sign(self.backward - 0.5)
        return np.asarray(same & ~missing, dtype=np.bool_)


@dataclass
class Judge:
    """Base of all judges.

    Attributes:
        name: how the judge signs its judgments.
        kind: "human", "model", "rule" or "behaviour".
        native: which of "score" and "compare" the judge does itself.
        calibrated: whether a difference of scores is a log-odds of preference (then `compare` is its
            logistic); otherwise only the sign of the difference counts.
        order_matters: whether `_compare` may answer differently when the two responses change places.
        aspects: names of the aspects scored, empty for one overall score.
    """

    name: str = "judge"
    kind: ClassVar[str] = "model"
    native: ClassVar[frozenset[str]] = frozenset()
    calibrated: ClassVar[bool] = False
    order_matters: ClassVar[bool] = True
    aspects: tuple[str, ...] = field(default=(), kw_only=True)

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        """Score n responses; both lists have length n; `scores` has shape (n,) or (n, aspects)."""
        raise ConfigError(f"the judge {self.name!r} has no absolute scores; use compare")

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        """Judge n pairs with a shown first; lists have length n."""
        raise ConfigError(f"the judge {self.name!r} cannot compare")

    def score(
        self, prompts: Sequence[str], responses: Sequence[str] | Sequence[Group], **options: Any
    ) -> Scores:
        """Score one response per prompt, or a group of k responses per prompt.

        Args:
            prompts: n prompts.
            responses: n texts, or n sequences of texts (lengths may differ).
            **options: passed to the judge (`context`, `annotator`, `references`: one entry per prompt).

        Returns:
            `Scores` of shape (n,) for texts, (n, k) padded with NaN for groups. A judge that only compares
            gives each response its mean probability to win against the others of its group, which needs
            groups of 2 or more.
        """
        flat_prompts, flat, lengths = _flatten(prompts, responses)
        options = {name: _checked(name, value, len(prompts)) for name, value in options.items()}
        per_response = {name: _repeat(value, lengths) for name, value in options.items()}
        if "score" in self.native:
            result = self._score(flat_prompts, flat, **per_response)
            if lengths is None:
                return result
            return Scores(
                _pad(result.scores, lengths), _pad(result.confidence, lengths), _pad(result.samples, lengths),
                result.rationale, result.trace, _pad(result.spread, lengths),
            )  # fmt: skip
        if not len(prompts):
            return Scores(np.empty((0, 0)))
        if lengths is None:
            raise ConfigError(f"the judge {self.name!r} only compares; give groups of two or more responses")
        table = self.compare_table(prompts, responses, **options)
        k = table.shape[1]
        others = np.where(np.eye(k, dtype=bool), np.nan, table)
        counts = (~np.isnan(others)).sum(axis=2)
        totals = np.nansum(others, axis=2)
        return Scores(np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0))

    def compare(
        self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str], **options: Any
    ) -> Comparison:
        """Which of a and b is preferred, for n prompts; both orders are asked where order can matter."""
        if not len(prompts) == len(a) == len(b):
            raise ConfigError(
                f"compare needs equally many prompts, a and b; got {len(prompts)}, {len(a)}, {len(b)}"
            )
        if "compare" not in self.native:
            both = self.score(prompts, [[x, y] for x, y in zip(a, b, strict=True)], **options).scores
            if both.ndim == 3:
                raise ConfigError(
                    f"the judge {self.name!r} scores {both.shape[2]} aspects; compose them to one first"
                )
            return Comparison(self.preference(both[:, 0] - both[:, 1]) if len(both) else np.empty(0))
        options = {name: _checked(name, value, len(prompts)) for name, value in options.items()}
        first = self._compare(list(prompts), list(a), list(b), **options)
        if not self.order_matters:
            return first
        second = self._compare(list(prompts), list(b), list(a), **options)
        backward = 1.0 - second.probability
        traces = None
        if first.trace is not None and second.trace is not None:
            traces = [{"forward": x, "backward": y} for x, y in zip(first.trace, second.trace, strict=True)]
        return Comparison(
            (first.probability + backward) / 2, first.probability, backward, first.rationale, traces
        )

    def preference(self, difference: Floats) -> Floats:
        """Probability of preference for a difference of scores: logistic if `calibrated`, else 0, 0.5 or
        1."""
        if self.calibrated:
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * difference)))
        return np.asarray(0.5 + 0.5 * np.sign(difference))

    def compare_table(self, prompts: Sequence[str], responses: Sequence[Group], **options: Any) -> Floats:
        """Shape (n, k, k): probability that response i beats response j, 0.5 on the diagonal, NaN where
        padded."""
        _, _, lengths = _flatten(prompts, responses)
        if not len(prompts):
            return np.empty((0, 0, 0))
        if lengths is None:
            raise ConfigError("compare_table needs a group of responses per prompt")
        if "compare" not in self.native:
            scores = self.score(prompts, responses, **options).scores
            if scores.ndim == 3:
                raise ConfigError(
                    f"the judge {self.name!r} scores several aspects; compose them to one first"
                )
            return self.preference(scores[:, :, None] - scores[:, None, :])
        k = int(lengths.max(initial=0))
        group, i, j = _upper(lengths)
        spread = {
            name: [value[g] for g in group] if isinstance(value, list | tuple) else value
            for name, value in options.items()
        }
        result = self.compare(
            [prompts[g] for g in group],
            [responses[g][x] for g, x in zip(group, i, strict=True)],
            [responses[g][x] for g, x in zip(group, j, strict=True)],
            **spread,
        )
        table = np.full((len(lengths), k, k), np.nan)
        table[group, i, j] = result.probability
        table[group, j, i] = 1.0 - result.probability
        inside = np.arange(k)[None, :] < lengths[:, None]
        diagonal = np.arange(k)
        table[:, diagonal, diagonal] = np.where(inside, 0.5, np.nan)
        return table

    def annotate(self, data: PreferenceData, **options: Any) -> PreferenceData:
        """The same prompts and responses with this judge's scores in place of those there.

        A judge with `aspects` must be composed to one score first. A response that is missing from the data,
        or that the judge could not answer, gets NaN.
        """
        if not data.has("responses"):
            raise ConfigError("this judge reads responses; the data has none")
        prompts = data.column("prompt").to_pylist() if data.has("prompt") else [""] * data.n_rows
        given = data.column("responses").to_pylist()
        groups = [[text for text in group or () if text is not None] for group in given]
        scores = self.score([p or "" for p in prompts], groups, **options).scores
        if scores.ndim == 3:
            raise ConfigError(f"the judge {self.name!r} scores several aspects; compose them to one first")
        present = data.flat("responses").is_valid().to_numpy(zero_copy_only=False)
        offsets = data.offsets()
        flat = np.full(int(offsets[-1]), np.nan)
        inside = np.arange(scores.shape[-1])[None, :] < np.array([len(group) for group in groups])[:, None]
        flat[present] = scores[inside] if data.n_rows else scores
        n = data.n_rows
        kept = {
            name: data.table.column(name)
            for name in data.table.column_names
            if name
            not in ("scores", "tie", "rationale", "annotator", "annotator_kind", "scale", "protocol", "time")
        }
        return PreferenceData.from_columns(
            kept
            | {
                "scores": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat)),
                "annotator": [self.name] * n,
                "annotator_kind": [self.kind] * n,
                "scale": ["interval"] * n,
                "protocol": ["rating"] * n,
            },
            source=data.source,
        )


def _flatten(
    prompts: Sequence[str], responses: Sequence[str] | Sequence[Group]
) -> tuple[list[str], list[str], npt.NDArray[np.int64] | None]:
    """Flat prompts and responses of equal length, and the group lengths (None if the responses were flat
    texts)."""
    if len(prompts) != len(responses):
        raise ConfigError(
            f"one entry of responses per prompt is needed; got {len(prompts)} and {len(responses)}"
        )
    if all(isinstance(response, str) for response in responses):
        return list(prompts), [str(response) for response in responses], None
    if any(isinstance(response, str) for response in responses):
        raise ConfigError("responses are a text for some prompts and a group for others; give one kind")
    lengths = np.array([len(group) for group in responses], dtype=np.int64)
    flat = [text for group in responses for text in group]
    return [p for p, k in zip(prompts, lengths, strict=True) for _ in range(k)], flat, lengths


def _checked(name: str, values: Any, n: int) -> Any:
    """An option as it came; a list or tuple has one entry per prompt."""
    if isinstance(values, list | tuple) and len(values) != n:
        raise ConfigError(
            f"the option {name!r} needs one entry per prompt; got {len(values)} for {n} prompts"
        )
    return values


def _repeat(values: Any, lengths: npt.NDArray[np.int64] | None) -> Any:
    if lengths is None or not isinstance(values, list | tuple):
        return values
    return [value for value, k in zip(values, lengths, strict=True) for _ in range(k)]


def _pad(values: Floats | None, lengths: npt.NDArray[np.int64]) -> Any:
    if values is None:
        return None
    inside = np.arange(int(lengths.max(initial=0)))[None, :] < lengths[:, None]
    padded = np.full((*inside.shape, *values.shape[1:]), np.nan)
    padded[inside] = values
    return padded


def _upper(
    lengths: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every group the index pairs i < j, as (group, i, j) arrays."""
    parts = [np.empty((3, 0), np.int64)]
    for k in np.unique(lengths):
        groups = np.flatnonzero(lengths == k)
        i, j = np.triu_indices(int(k), 1)
        parts.append(np.stack([np.repeat(groups, len(i)), np.tile(i, len(groups)), np.tile(j, len(groups))]))
    group, i, j = np.concatenate(parts, axis=1)
    return group, i, j
