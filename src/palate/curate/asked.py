"""What a judge says of judgments already made: how probable it is that their chosen side is the better."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.data import PreferenceData
from palate.data.views import PairIndex, pair_index
from palate.errors import ConfigError, DataError
from palate.judges import Judge
from palate.judges.neighbours import attribute_texts
from palate.reward.ensemble import RewardEnsemble
from palate.reward.model import RewardModel

Floats = npt.NDArray[np.float64]
Opinion = Judge | npt.ArrayLike
"""A judge, or what it has said: the probability that the chosen side is better of every judgment, NaN where
it said nothing."""


def decided(data: PreferenceData) -> PairIndex:
    """The judgments of two alternatives that prefer one; ties and single responses are not among them.

    Raises:
        ConfigError: a judgment has more than two alternatives.
    """
    lengths = np.diff(data.offsets())
    if (lengths > 2).any():
        row = int(np.flatnonzero(lengths > 2)[0])
        raise ConfigError(
            f"curation works on judgments of two alternatives; row {row + 1} has {lengths[row]}: "
            "take pairs with data.as_pairs('all')"
        )
    return pair_index(data)


def enough(gold: PreferenceData, least: int) -> PairIndex:
    """The decided pairs of verified data; DataError if there are fewer than `least`."""
    pairs = decided(gold)
    if len(pairs.judgment) < least:
        raise DataError(
            f"curation needs at least {least} human-verified pairs; got {len(pairs.judgment)}",
            file=gold.source, field="scores", remedy="verify more pairs",
        )  # fmt: skip
    return pairs


def agreement(opinion: Opinion, data: PreferenceData, pairs: PairIndex | None = None) -> Floats:
    """The probability that the chosen side of each pair is better, by a judge; shape (pairs,).

    It is NaN where the judge has no answer.

    A model is asked once per alternative, any other judge once per pair with the attributes of the judgment,
    if it has some. A judge whose scores are no log-odds gives 0, 1/2 or 1.

    Args:
        opinion: a judge, or its probabilities of shape (rows,).
        data: judgments of two alternatives.
        pairs: which of them are asked about, all decided ones if None.

    Raises:
        ConfigError: an array of another length, or with a number outside 0 to 1.
        DataError: a judge of texts, and the data has none.
    """
    pairs = decided(data) if pairs is None else pairs
    if not isinstance(opinion, Judge):
        given = np.asarray(opinion, dtype=np.float64)
        if given.shape != (data.n_rows,):
            raise ConfigError(f"{given.shape} probabilities for {data.n_rows} judgments; give one for each")
        if (outside := (given < 0) | (given > 1)).any():
            row = int(np.flatnonzero(outside)[0])
            raise ConfigError(f"probability {given[row]:g} of judgment {row + 1} lies outside 0 to 1")
        return given[pairs.judgment]
    if not len(pairs.judgment):
        return np.empty(0)
    if isinstance(opinion, RewardModel | RewardEnsemble):
        scores = opinion.score_data(data).scores
        if scores.ndim != 2:
            raise ConfigError(f"the judge {opinion.name!r} scores several aspects; compose them to one first")
        return opinion.preference(
            scores[pairs.judgment, pairs.chosen] - scores[pairs.judgment, pairs.rejected]
        )
    if not data.has("responses"):
        raise DataError(
            f"the judge {opinion.name!r} reads responses; the data has none", field="responses",
            file=data.source, remedy="load data with response texts",
        )  # fmt: skip
    responses = data.flat("responses").to_pylist()
    prompts = data.column("prompt").to_pylist()
    attributes = attribute_texts(data)
    start = data.offsets()[pairs.judgment]
    rows = pairs.judgment.tolist()
    options = {"attributes": [attributes[row] for row in rows]} if any(attributes) else {}
    return opinion.compare(
        [prompts[row] or "" for row in rows],
        [responses[place] or "" for place in (start + pairs.chosen).tolist()],
        [responses[place] or "" for place in (start + pairs.rejected).tolist()],
        **options,
    ).probability
