"""A pair model whose antisymmetry is built in: a small network reads two responses in both orders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.errors import ConfigError
from palate.reward.heads.comparing import ComparingHead


class PairHead(ComparingHead):
    """``log-odds(a beats b) = g(u_a, u_b) - g(u_b, u_a)``, with u the outputs of a response and g a network
    with one hidden layer.

    Swapping two responses turns the sign, whatever g has learnt, and a response is tied with itself. k
    responses cost k encodes and k^2 evaluations of g, which are cheap: its first layer is linear, so each
    response passes it once. More general than preference embeddings, whose g is bilinear.

    Args:
        width: length of u.
        hidden: units of g.

    Raises:
        ConfigError: one of them is below 1.
    """

    name = "pair"

    def __init__(self, width: int = 16, hidden: int = 32) -> None:
        if width < 1 or hidden < 1:
            raise ConfigError(f"width and hidden must be 1 or more; got {width} and {hidden}")
        super().__init__(width)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(width, hidden, bias=False)
        self.last = nn.Linear(hidden, 1, bias=False)
        self.params = {"width": width, "hidden": hidden}

    def margins(self, outputs: Tensor, context: Tensor | None = None) -> Tensor:
        as_first, as_second = self.first(outputs), self.second(outputs)
        pairs = as_first[..., :, None, :] + as_second[..., None, :, :]
        one_way = self.last(torch.tanh(pairs))[..., 0]
        return one_way - one_way.transpose(-1, -2)  # type: ignore[no-any-return]
