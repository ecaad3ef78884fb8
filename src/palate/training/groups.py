"""From judgments to groups to learn from: which alternatives, with which targets, at which weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from palate import losses
from palate.data import PreferenceData
from palate.data.views import pair_index
from palate.errors import DataError
from palate.training.ratings import ratings_of
from palate.training.told import told

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Strategy = Literal["all", "best_worst", "best_random", "adjacent"]
ALL = slice(None)


@dataclass(frozen=True)
class TrainingGroups:
    """Groups to learn from.

    Attributes:
        position: shape (n, k), place of each alternative among the flat alternatives of the data; 0 where
            padded.
        targets: shape (n, k), higher is better.
        mask: shape (n, k), false where padded or not judged.
        weight: shape (n,).
        judgment: shape (n,), row of the data each group comes from.
        ties: judgments left out because all their alternatives are tied.
        extra: what else the loss is told, each of shape (n, ...); see `palate.losses.Loss.of`.
        source_names: of the codes in ``extra["source"]``, in their order.
    """

    position: Integers
    targets: Floats
    mask: npt.NDArray[np.bool_]
    weight: Floats
    judgment: Integers
    ties: int
    extra: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    source_names: tuple[str, ...] = ()

    @property
    def sources(self) -> dict[str, int]:
        """How many groups come from each source, in order of the codes; empty if none is named."""
        if not self.source_names:
            return {}
        counts = np.bincount(self.extra["source"], minlength=len(self.source_names))
        return dict(zip(self.source_names, counts.tolist(), strict=True))

    def prepare(self, loss: losses.Loss, width: int) -> None:
        """Tell a loss what only the groups and the model (`width` features) say, before training."""
        targets = torch.from_numpy(self.targets[self.mask])
        loss.prepare(width=width, sources=self.sources or None, targets=targets)

    def tensors(self, rows: Integers | slice = ALL) -> dict[str, torch.Tensor]:
        """`targets`, `mask`, `weight` and what is in `extra`, of the groups at `rows`."""
        parts = {"targets": self.targets, "mask": self.mask, "weight": self.weight, **self.extra}
        return {name: torch.from_numpy(part[rows]) for name, part in parts.items()}

    def take(self, rows: Integers) -> TrainingGroups:
        """The groups at `rows`."""
        return TrainingGroups(
            self.position[rows], self.targets[rows], self.mask[rows], self.weight[rows], self.judgment[rows],
            self.ties, {name: part[rows] for name, part in self.extra.items()}, self.source_names,
        )  # fmt: skip

    def coded_as(self, other: TrainingGroups) -> TrainingGroups:
        """With the codes that `other` gives to sources.

        Raises:
            DataError: a source that `other` does not have.
        """
        if not self.source_names or self.source_names == other.source_names:
            return self
        place = {name: code for code, name in enumerate(other.source_names)}
        for name in self.source_names:
            if name not in place:
                raise DataError(f"the source {name!r} is not in the training data", field="source",
                                remedy="leave its judgments out, or train on some of them")  # fmt: skip
        codes = np.array([place[name] for name in self.source_names], dtype=np.int64)
        extra = {**self.extra, "source": codes[self.extra["source"]]}
        return replace(self, extra=extra, source_names=other.source_names)

    def __len__(self) -> int:
        return len(self.weight)


def groups_for(
    loss: losses.Loss,
    data: PreferenceData,
    *,
    groups: Literal["auto", "pairs", "lists"] = "auto",
    strategy: Strategy = "all",
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    aspects: Sequence[str] = (),
) -> TrainingGroups:
    """The groups a loss learns from: pairs for a pairwise loss, whole judgments for another, or as told.

    Tied pairs are left out unless the loss has a use for them, and judgments of weight 0 always. A loss that
    reads how far the targets of a pair are apart is told the difference of their scores, unless `columns`
    name another strength.

    Args:
        loss: what learns.
        data: the judgments.
        groups: "pairs", "lists" or what the loss is made for.
        strategy: which pairs of a group of more than two.
        seed: of random pairs.
        columns: what else judgments tell the loss, see `palate.training.told`: a column of the
            data ("annotator", "aspect", ...) or a key of its metadata for each; for "strength" also "scores".
        aspects: names of the aspects a model scores; groups then carry the code of theirs, -1 for a judgment
            without aspect.

    Raises:
        DataError: nothing to learn from; a column is missing, has no number, or one out of range.
        ConfigError: an unknown name in `columns`.
    """
    if groups == "pairs" or (groups == "auto" and loss.pairwise):
        keep = getattr(loss, "ties", "drop") == "half"
        made = pairs_of(data, strategy, ties="keep" if keep else "drop", seed=seed)
        if loss.graded and not keep:
            columns = {"strength": "scores", **(columns or {})}
    else:
        made = lists_of(data, min_items=loss.min_items, anchored=loss.anchored and not loss.pairwise)
    counted = made.weight > 0
    if not counted.all():
        if not counted.any():
            raise DataError("every judgment that could teach something has weight 0", field="weight",
                            file=data.source, remedy="give weights above 0")  # fmt: skip
        made = made.take(np.flatnonzero(counted))
    made = told(made, data, columns or {}, aspects)
    if loss.reads_ratings and aspects:
        made.extra["ratings"] = ratings_of(data, made.position, aspects)
    return made


def pairs_of(
    data: PreferenceData, strategy: Strategy = "all", *, ties: Literal["drop", "keep"] = "drop", seed: int = 0
) -> TrainingGroups:
    """Groups of two, chosen first, with targets 1 and 0, or 1 and 1 for a tie.

    Raises:
        DataError: there is no pair to learn from; the message says whether every judgment is a tie or none
            has two judged alternatives.
    """
    index = pair_index(data, strategy, ties=ties, seed=seed)
    tied = _tied_rows(data)
    if index.tie.all():
        raise _nothing_to_learn(data, int(tied.sum()))
    start = data.offsets()[index.judgment]
    position = np.stack([start + index.chosen, start + index.rejected], axis=1)
    targets = np.stack([np.ones(len(start)), np.where(index.tie, 1.0, 0.0)], axis=1)
    left_out = int(tied.sum()) if ties == "drop" else 0
    mask = np.ones_like(targets, dtype=bool)
    return TrainingGroups(position, targets, mask, data.weights[index.judgment], index.judgment, left_out)


def lists_of(data: PreferenceData, *, min_items: int = 2, anchored: bool = False) -> TrainingGroups:
    """One group per judgment, padded to the longest.

    Args:
        data: the judgments.
        min_items: how many judged alternatives a group needs.
        anchored: whether equal scores teach something too (a rating does, a tie in a ranking does not).

    Raises:
        DataError: as `pairs_of`.
    """
    offsets = data.offsets()
    lengths = np.diff(offsets)
    k = int(lengths.max(initial=0))
    inside = np.arange(k)[None, :] < lengths[:, None]
    targets = np.full((data.n_rows, k), np.nan)
    targets[inside] = data.scores
    mask = ~np.isnan(targets)
    tied = _tied_rows(data)
    useful = mask.sum(axis=1) >= min_items
    if not anchored:
        useful &= ~tied
    if not useful.any():
        raise _nothing_to_learn(data, int(tied.sum()))
    position = np.where(inside, offsets[:-1, None] + np.arange(k)[None, :], 0)
    left_out = 0 if anchored else int(tied.sum())
    return TrainingGroups(
        position[useful],
        np.where(mask, targets, 0.0)[useful],
        mask[useful],
        data.weights[useful],
        np.flatnonzero(useful),
        left_out,
    )


def unlabelled_of(data: PreferenceData) -> TrainingGroups:
    """All alternatives of each judgment as a group, whatever was said of them; targets are 0.

    Raises:
        DataError: a judgment has fewer than two alternatives, or there is none.
    """
    lengths = np.diff(data.offsets())
    if not len(lengths):
        raise DataError("there are no responses to tell apart", file=data.source)
    if (lengths < 2).any():
        row = int(np.flatnonzero(lengths < 2)[0])
        raise DataError(
            "one response where there is nothing to tell it apart from", row=row + 1, field="responses",
            file=data.source, remedy="sample two or more responses to each prompt",
        )  # fmt: skip
    inside = np.arange(int(lengths.max()))[None, :] < lengths[:, None]
    position = np.where(inside, data.offsets()[:-1, None] + np.arange(inside.shape[1])[None, :], 0)
    return TrainingGroups(
        position, np.zeros(inside.shape), inside, np.ones(len(lengths)), np.arange(len(lengths)), 0
    )


def _tied_rows(data: PreferenceData) -> npt.NDArray[np.bool_]:
    """Judgments of two or more alternatives whose judged scores are all equal; shape (rows,)."""
    offsets = data.offsets()
    row = np.repeat(np.arange(data.n_rows), np.diff(offsets))
    scores = data.scores
    judged = ~np.isnan(scores)
    count = np.bincount(row[judged], minlength=data.n_rows)
    low, high = np.full(data.n_rows, np.inf), np.full(data.n_rows, -np.inf)
    np.minimum.at(low, row[judged], scores[judged])
    np.maximum.at(high, row[judged], scores[judged])
    return np.asarray((count >= 2) & (low == high))


def _nothing_to_learn(data: PreferenceData, tied: int) -> DataError:
    if data.n_rows == 0:
        return DataError("there are no judgments to learn from", file=data.source)
    if tied:
        return DataError(
            f"no judgment prefers one alternative to another: {tied} of {data.n_rows} are ties",
            field="scores", file=data.source, remedy="give judgments with different scores",
        )  # fmt: skip
    return DataError(
        f"none of {data.n_rows} judgments has two judged alternatives to compare",
        field="scores", file=data.source,
        remedy="put the responses to one prompt into one judgment with PreferenceData.group_by_prompt()",
    )  # fmt: skip
