"""Which other input of its class each input is compared with, drawn anew in every pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from palate.data.label_preferences import LabelPreferences, compared, random_partners
from palate.seeding import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sampler = Literal["random", "disagreement", "inconsistency"]
SAMPLERS: tuple[Sampler, ...] = ("random", "disagreement", "inconsistency")
CANDIDATES = 64
"""So many random inputs of its class are looked at for each input where every pair could be compared."""
_TARGETS = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [np.nan, np.nan]])  # by code; the last: not judged

State = Callable[[], tuple[Floats, Floats]]
"""Class probabilities (n, classes) and preference scores for the own label (n, heads), as they are now."""


class PartnerGroups:
    """Groups of two inputs of one class; what the trainer takes batches from.

    Every input is the first of one pair in each pass. Its partner comes from the given comparisons, turned
    round where it stands second; without any, from its class, and shares of votes say which of the two is
    more of it. An input in no comparison gets a random partner, of which nothing is known.

    Args:
        inputs: shape (n, d), standardised.
        label: shape (n,), codes of classes.
        rows: shape (m,), which inputs come first in pairs; each has another of its class.
        shares: shape (n, classes), or None.
        preferences: comparisons, or None.
        sampler: "random"; "disagreement" takes the candidate on which most pairs of heads differ, chance
            deciding between equals; "inconsistency" draws with a probability that goes along with how far the
            classifier contradicts the comparison, scaled to [0, 1] over the candidates of an input. The
            first pass is random.
        seed: of partners.
        state: what the network says of all inputs, for the samplers that ask it.
    """

    def __init__(
        self,
        inputs: Floats,
        label: Ints,
        rows: Ints,
        shares: Floats | None,
        preferences: LabelPreferences | None,
        sampler: Sampler,
        seed: int,
        state: State,
    ) -> None:
        self.inputs, self.label, self.rows, self.shares = inputs, label, rows, shares
        self.sampler, self.seed, self.state = sampler, seed, state
        self.own = None if shares is None else shares[np.arange(len(label)), label]
        self.given: tuple[Ints, Ints] | None = None
        if preferences is not None:
            turned = np.array([1, 0, 2])[preferences.preference]
            pairs = np.concatenate([preferences.pairs, preferences.pairs[:, ::-1]])
            self.given = pairs, np.concatenate([preferences.preference, turned])
        self._pass, self._served = -1, 0
        self.partner = np.full(len(label), -1)
        self.code = np.full(len(label), -1)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """See `palate.training.Groups`; adds `inputs` (batch, 2, d), `label` (batch,) and `shares` (batch, 2,
        classes)."""
        if self._served // len(self) > self._pass:
            self._pass = self._served // len(self)
            self.partner, self.code = self.draw(self._pass)
        self._served += len(rows)
        first = self.rows[np.asarray(rows)]
        both = np.stack([first, self.partner[first]], axis=1)
        targets = _TARGETS[self.code[first]]
        parts = {
            "inputs": self.inputs[both], "label": self.label[first], "targets": targets,
            "mask": ~np.isnan(targets), "weight": np.ones(len(first)),
        }  # fmt: skip
        if self.shares is not None:
            parts["shares"] = self.shares[both]
        return {name: torch.from_numpy(part) for name, part in parts.items()}

    def draw(self, number: int) -> tuple[Ints, Ints]:
        """A partner for every input, shape (n,), -1 for inputs not in `rows`; and the codes of what is known
        of each pair, -1 for nothing."""
        rng = generator(self.seed, "partners", number)
        n, asked = len(self.label), self.sampler != "random" and number > 0
        partner, code = np.full(n, -1), np.full(n, -1)
        spare = random_partners(self.label, 1, rng)
        partner[spare[:, 0]] = spare[:, 1]
        if self.given is not None:
            pairs, codes = self.given
        else:
            pairs = random_partners(self.label, CANDIDATES, rng) if asked else spare
            codes = np.full(len(pairs), -1) if self.own is None else compared(self.own, pairs)
        chosen = _greatest(pairs[:, 0], self._keys(pairs, codes, rng) if asked else rng.random(len(pairs)))
        first = pairs[chosen, 0]
        partner[first], code[first] = pairs[chosen, 1], codes[chosen]
        return partner, code

    def _keys(self, pairs: Ints, codes: Ints, rng: np.random.Generator) -> Floats:
        """Of each input's candidates the one with the greatest key is taken."""
        probability, scores = self.state()
        first, second = pairs.T
        if self.sampler == "disagreement":
            return disagreement(scores[first], scores[second]) + rng.random(len(pairs))
        violation = _violations(probability, self.label, self.shares, pairs, codes)
        # The greatest of log-weights with Gumbel noise is a draw with these weights.
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(_scaled(first, violation)) + rng.gumbel(size=len(pairs)))


def disagreement(h1: Floats, h2: Floats) -> Ints:
    """How many pairs of heads put two inputs in different orders, shape (m,), from scores of shape (m,
    heads)."""
    ahead, behind = (h1 > h2).sum(axis=1), (h1 < h2).sum(axis=1)
    level = h1.shape[1] - ahead - behind
    return np.asarray(ahead * behind + level * (ahead + behind), dtype=np.int64)


def _violations(probability: Floats, label: Ints, shares: Floats | None, pairs: Ints, codes: Ints) -> Floats:
    """By how much the classifier contradicts each pair: of shares where there are any, else of the order."""
    first, second = pairs.T
    if shares is not None:
        gap, shown = shares[first] - shares[second], probability[first] - probability[second]
        return np.asarray(np.where(gap >= 0, gap - shown, shown - gap).clip(min=0).sum(axis=1))
    own = probability[np.arange(len(label)), label]
    d = own[first] - own[second]
    by_code = np.stack([d.clip(min=0), (-d).clip(min=0), np.abs(d), np.zeros_like(d)], axis=1)
    return np.asarray(by_code[np.arange(len(d)), codes])


def _scaled(group: Ints, values: Floats) -> Floats:
    """Values scaled to [0, 1] within each group; 1 where a group's values are all equal."""
    size = int(group.max(initial=-1)) + 1
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, group, values)
    np.maximum.at(high, group, values)
    width = (high - low)[group]
    return np.where(width > 0, (values - low[group]) / np.where(width > 0, width, 1.0), 1.0)


def _greatest(group: Ints, key: Floats) -> Ints:
    """Place of the greatest key of each group."""
    order = np.lexsort((key, group))
    last = np.ones(len(order), dtype=bool)
    last[:-1] = group[order][1:] != group[order][:-1]
    return order[last]
