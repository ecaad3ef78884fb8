"""Weighted sums of losses, written as ``bradley_terry + 0.01 * centering``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from palate.errors import ConfigError
from palate.losses.base import Loss
from palate.losses.scored import Scored

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
TERM = re.compile(rf"\s*(?:(?P<weight>{NUMBER})\s*\*\s*)?(?P<name>[A-Za-z_]\w*)\s*")


def terms_of(text: str) -> list[tuple[float, str]]:
    """Weights and names of the terms of a sum; a name alone is one term of weight 1.

    >>> terms_of("bradley_terry + 0.01 * centering")
    [(1.0, 'bradley_terry'), (0.01, 'centering')]

    Raises:
        ConfigError: the text is no sum of ``weight * name``, a weight is not finite, or a name stands twice.
    """
    terms: list[tuple[float, str]] = []
    end = 0
    while True:
        found = TERM.match(text, end)
        if found is None or (found.end() < len(text) and text[found.end()] != "+"):
            rest = text[found.end() if found else end :].strip()
            raise ConfigError(
                f"the loss {text!r} cannot be read at {rest or 'its end'!r}; "
                "write a sum like 'bradley_terry + 0.01 * centering' (weights are 0 or more)"
            )
        weight = float(found["weight"] or 1.0)
        if not math.isfinite(weight):
            raise ConfigError(f"the weight of {found['name']!r} in the loss {text!r} is not finite")
        if any(found["name"] == name for _, name in terms):
            raise ConfigError(f"the loss {text!r} has the term {found['name']!r} twice; add up its weights")
        terms.append((weight, found["name"]))
        if found.end() == len(text):
            return terms
        end = found.end() + 1


class Sum(Loss):
    """``sum_i weight_i * loss_i``: each term is averaged over the groups that it counts, then weighted.

    Parameters and state of the terms are its own. It is made for pairs if all terms that read targets are:
    a sum of a pairwise and a pointwise loss takes whole judgments, whose labels a pair would lose. Its scores
    are log-odds if those of all terms that read targets are: a penalty shrinks or shifts an estimate, but it
    remains one of the same thing. A group needs the most items that any term needs.

    Args:
        terms: losses with their weights, 0 or more, in order.

    Raises:
        ConfigError: terms read the outputs of different heads.
    """

    def __init__(self, terms: list[tuple[float, Loss]]) -> None:
        super().__init__()
        self.weights = tuple(weight for weight, _ in terms)
        self.terms = nn.ModuleList(loss for _, loss in terms)
        self.name = " + ".join(
            f"{weight:g} * {loss.name}" if weight != 1 else loss.name for weight, loss in terms
        )
        losses = [loss for _, loss in terms]
        self.graded = any(loss.graded for loss in losses)
        self.anchored = any(loss.anchored for loss in losses)
        self.min_items = max(loss.min_items for loss in losses)
        self.views = max(loss.views for loss in losses)
        self.reads_features = any(loss.reads_features for loss in losses)
        self.reads_ratings = any(loss.reads_ratings for loss in losses)
        self.stepwise = any(loss.stepwise for loss in losses)
        voters = [loss for loss in losses if loss.supervised]
        self.supervised = bool(voters)
        self.pairwise = bool(voters) and all(loss.pairwise for loss in voters)
        self.log_odds = bool(voters) and all(loss.log_odds for loss in voters)
        self.ties = "half" if any(getattr(loss, "ties", "drop") == "half" for loss in losses) else "drop"
        wanted = [loss for loss in losses if loss.heads]
        if wanted:
            shared = set.intersection(*(set(loss.heads) for loss in wanted))
            if not shared:
                raise ConfigError(
                    f"no head suits all terms of {self.name!r}: "
                    + "; ".join(f"{loss.name} reads {', '.join(loss.heads)}" for loss in wanted)
                )
            self.heads = tuple(name for name in wanted[0].heads if name in shared)

    def prepare(
        self,
        *,
        width: int | None = None,
        sources: Mapping[str, int] | None = None,
        targets: Tensor | None = None,
    ) -> None:
        """Prepare every term; see `Loss.prepare`."""
        for loss in self._losses():
            loss.prepare(width=width, sources=sources, targets=targets)

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of a batch; see `Loss.forward`."""
        return self._total(
            [
                loss(scores, targets, mask=mask, weight=weight, step=step, total_steps=total_steps)
                for loss in self._losses()
            ]
        )

    def of(
        self,
        scored: Scored,
        batch: Mapping[str, Tensor],
        *,
        step: int | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """The loss of what a model says of a batch; see `Loss.of`. Every term is watched by its name."""
        values = [loss.of(scored, batch, step=step, total_steps=total_steps) for loss in self._losses()]
        self.watched = {
            name: value
            for loss, own in zip(self._losses(), values, strict=True)
            for name, value in {f"loss_{loss.name}": own.detach(), **loss.watched}.items()
        }
        return self._total(values)

    def _losses(self) -> list[Loss]:
        return [loss for loss in self.terms if isinstance(loss, Loss)]

    def _total(self, values: list[Tensor]) -> Tensor:
        parts = [weight * value for weight, value in zip(self.weights, values, strict=True)]
        return sum(parts[1:], parts[0])


def params_of(names: list[str], params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters of each term of a sum, from ``{"centering": {...}}``.

    Raises:
        ConfigError: an entry that is no term, or that holds no parameters by name.
    """
    for entry, value in params.items():
        if entry not in names or not isinstance(value, Mapping):
            raise ConfigError(
                f"parameters of a sum of losses are given per term, like {{{names[0]!r}: {{...}}}}; "
                f"got {entry!r}"
                + (f", which is none of {', '.join(names)}" if entry not in names else f" = {value!r}")
            )
    return {name: dict(params.get(name, {})) for name in names}
