"""Heads that give a distribution of labels per response; its mean is the score."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.losses import Scored
from palate.losses.distributions import log_variance_of
from palate.reward.heads.base import Batch, Head


class BinsHead(Head):
    """A probability for each of equally spaced labels, softmax of the outputs; for the loss "two_hot".

    The score is the expected label, so any other loss of scores can train it too.

    Args:
        low: lowest label; the lowest score in the data if not given.
        high: highest label; the highest score in the data if not given.
        bins: how many labels from `low` to `high`, both included.

    Raises:
        ConfigError: fewer than two bins, or `high` is not above `low`.
    """

    name = "bins"
    support: Tensor

    def __init__(self, low: float, high: float, bins: int = 21) -> None:
        if bins < 2:
            raise ConfigError(f"the head 'bins' needs 2 bins or more; got {bins}")
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ConfigError(f"the head 'bins' needs low below high, both finite; got {low} and {high}")
        super().__init__(bins)
        self.register_buffer("support", torch.linspace(low, high, bins, dtype=torch.float64))
        self.params = {"low": float(low), "high": float(high), "bins": bins}

    @classmethod
    def for_data(cls, data: PreferenceData, **params: Any) -> Self:
        """A head whose range is that of the data's scores where `low` or `high` is not given.

        Raises:
            DataError: the scores are all equal.
        """
        scores = data.scores[~np.isnan(data.scores)]
        if len(scores):
            params = {"low": float(scores.min()), "high": float(scores.max()), **params}
            if params["low"] == params["high"]:
                raise DataError(
                    f"all scores are {params['low']:g}, which spans no bins",
                    field="scores", file=data.source, remedy="give the head low and high",
                )  # fmt: skip
        return cls(**params)

    def score(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, -1) @ self.support.to(outputs)

    def spread(self, outputs: Tensor) -> Tensor:
        away = self.support.to(outputs) - self.score(outputs)[..., None]
        return (torch.softmax(outputs, -1) * away**2).sum(-1).sqrt()

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        return Scored(self.score(outputs), outputs=outputs, support=self.support)


class GaussianHead(Head):
    """Mean and log-variance of a normal distribution; for the loss "gaussian". The score is the mean."""

    name = "gaussian"

    def __init__(self) -> None:
        super().__init__(2)

    def score(self, outputs: Tensor) -> Tensor:
        return outputs[..., 0]

    def spread(self, outputs: Tensor) -> Tensor:
        return torch.exp(0.5 * log_variance_of(outputs))

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        return Scored(self.score(outputs), outputs=outputs)


class QuantilesHead(Head):
    """Quantiles at the probabilities ``(i - 1/2) / n``; for the loss "quantile".

    The score is their mean, and the spread their standard deviation, which leaves out what lies beyond the
    outermost quantiles (of a normal distribution 7 % of the deviation at n = 9). Both are the same if
    quantiles cross.

    Args:
        quantiles: n, how many.

    Raises:
        ConfigError: fewer than two quantiles.
    """

    name = "quantiles"
    support: Tensor

    def __init__(self, quantiles: int = 9) -> None:
        if quantiles < 2:
            raise ConfigError(f"the head 'quantiles' needs 2 quantiles or more; got {quantiles}")
        super().__init__(quantiles)
        places = (torch.arange(quantiles, dtype=torch.float64) + 0.5) / quantiles
        self.register_buffer("support", places)
        self.params = {"quantiles": quantiles}

    def score(self, outputs: Tensor) -> Tensor:
        return outputs.mean(-1)

    def spread(self, outputs: Tensor) -> Tensor:
        return outputs.std(-1, correction=0)

    def read(self, outputs: Tensor, batch: Batch) -> Scored:
        return Scored(self.score(outputs), outputs=outputs, support=self.support)
