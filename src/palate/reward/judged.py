"""A reward model over named features that a judge scores of the texts (Nath et al., 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.judges.feature_judge import FeatureJudge
from palate.losses import Loss
from palate.reward import inputs
from palate.reward.heads import Head
from palate.reward.scorers import FeatureScorer, Held, Scorer

if TYPE_CHECKING:
    from palate.runs import Run
    from palate.training import TrainingGroups

Floats = npt.NDArray[np.float64]


class JudgeScorer(FeatureScorer):
    """Reads texts through a `FeatureJudge`.

    Features are taken from the judge by name, so a judge that lists them in another order gives the same
    scores. With ``on_missing="mean"`` a missing value is the mean of the training set, also when scoring;
    otherwise a response that misses one gets no score.
    """

    def __init__(self, settings: dict[str, Any], head: Head) -> None:
        judge: FeatureJudge = settings["encoder"]
        names = settings["feature_names"]
        super().__init__({**settings, "feature_names": names or judge.names}, head)
        if set(self.names) != set(judge.names):
            differ = ", ".join(sorted(set(self.names) ^ set(judge.names)))
            raise ConfigError(
                f"the judge {judge.name!r} does not score the features of this model; they differ in {differ}"
            )
        self.judge = judge

    def fit(
        self,
        data: PreferenceData,
        groups: TrainingGroups,
        loss: Loss,
        run: Run | None,
        init: Scorer | None,
        meta: PreferenceData | None = None,
        validation: Held | None = None,
    ) -> dict[str, Any]:
        prompts, responses = inputs.texts_of(data)
        used, place = np.unique(groups.position, return_inverse=True)
        prompts, responses, text = inputs.unique_texts(
            [prompts[i] for i in used], [responses[i] for i in used]
        )
        # A text counts as often as it occurs, as it does where features are a column of the data.
        values = self._judged(prompts, responses)[text]
        if self.judge.on_missing == "mean":
            known = ~np.isnan(values)
            total = np.where(known, values, 0.0).sum(axis=0)
            mean = np.divide(
                total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(axis=0)
            )
            values = np.where(known, values, mean)
        inputs.check_finite(values, self.names)
        inputs.warn_of_constants(values, self.names)
        position = place.reshape(groups.position.shape)
        return self._fit(values, position, groups, loss, run, init, meta, validation=validation)

    def texts(self, prompts: list[str], responses: list[str]) -> Floats:
        if not prompts:
            return np.empty((0, self.head.width))
        return self._apply(self._read(prompts, responses))

    def inputs_of(self, data: PreferenceData) -> Floats:
        return self._read(*inputs.texts_of(data))

    def _read(self, prompts: list[str], responses: list[str]) -> Floats:
        distinct_prompts, distinct, place = inputs.unique_texts(prompts, responses)
        values = self._judged(distinct_prompts, distinct)
        if self.judge.on_missing == "mean":
            assert self.network is not None
            values = np.where(np.isnan(values), self.network.mean.numpy(), values)
        return values[place]

    def _judged(self, prompts: list[str], responses: list[str]) -> Floats:
        order = [self.judge.names.index(name) for name in self.names]
        return self.judge.measure(prompts, responses)[:, order]
