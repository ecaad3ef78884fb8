"""Log-probabilities of responses, exact, without ever holding logits for all rows, positions and words.

log p(y | x) = sum_t log softmax(W h_t)[y_t] needs the logits of one position at a time. The backbone gives
the hidden states h; only positions that predict a scored token go through the output head, chunk by chunk,
and each chunk's logits are computed again in the backward pass instead of being kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from palate.errors import ConfigError, PalateWarning

if TYPE_CHECKING:
    from palate.models.lm import CausalLM
    from palate.models.tokens import TokenBatch

Backbone = Callable[..., torch.Tensor]
Head = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class SequenceScores:
    """Log-probabilities (natural log) of n rows, in float32.

    Attributes:
        sum: (rows,), sum over the response's tokens; 0 for an empty response.
        count: (rows,), number of those tokens.
        per_token: (rows, length), log-probability of each response token, 0 elsewhere; or None.
        prompt_sum: (rows,), sum over the prompt's tokens but its first, which nothing predicts; or None.
        last_hidden: (rows, hidden), final hidden state of the last token of each row; or None.
    """

    sum: torch.Tensor
    count: torch.Tensor
    per_token: torch.Tensor | None = None
    prompt_sum: torch.Tensor | None = None
    last_hidden: torch.Tensor | None = None

    @property
    def mean(self) -> torch.Tensor:
        """(rows,), log-probability per token; 0 for an empty response."""
        return self.sum / self.count.clamp(min=1)


def sequence_log_probs(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    response_mask: torch.Tensor,
    *,
    per_token: bool = False,
    prompt: bool = False,
    last_hidden: bool = False,
    chunk_tokens: int = 512,
) -> SequenceScores:
    """Log-probabilities of the response tokens of each row under a causal language model.

    Equal to `log_softmax(model(...).logits.float())` gathered at the tokens, and differentiable like it;
    memory for logits is `chunk_tokens` x vocabulary instead of rows x length x vocabulary, forward and
    backward. (A model whose head is not understood is run whole instead, with a warning.)

    Args:
        model: a transformers causal LM, or a PEFT model around one.
        input_ids: (rows, length), padded on either side.
        attention_mask: (rows, length), 1 on real tokens.
        response_mask: (rows, length), 1 on tokens to score.
        per_token: also give each token's log-probability.
        prompt: also score the prompt's tokens.
        last_hidden: also give the hidden state of each row's last token.
        chunk_tokens: positions whose logits are held at once.

    Raises:
        ConfigError: shapes differ, or `model` is no causal LM or one whose adapters change the input.
    """
    if (
        input_ids.shape != attention_mask.shape
        or input_ids.shape != response_mask.shape
        or input_ids.ndim != 2
    ):
        shapes = ", ".join(str(tuple(t.shape)) for t in (input_ids, attention_mask, response_mask))
        raise ConfigError(
            f"input_ids, attention_mask and response_mask must have one shape (rows, length), not {shapes}"
        )
    if chunk_tokens < 1:
        raise ConfigError(f"chunk_tokens must be at least 1, not {chunk_tokens}")
    attended, answered = attention_mask.bool(), response_mask.bool()
    backbone, head = _split(model, input_ids)
    if last_hidden and head is _as_it_is:
        raise ConfigError(f"the last hidden state of {type(model).__name__} cannot be had beside its logits")
    extra: dict[str, torch.Tensor] = {}
    if not bool(attended[:, 0].all()):
        extra["position_ids"] = (attended.long().cumsum(1) - 1).clamp(min=0)
    hidden = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **extra)

    # The state at position t predicts the token at t + 1; after padding there is no prediction.
    predicted = attended[:, 1:] & attended[:, :-1]
    answered = answered[:, 1:] & predicted
    scored = predicted if prompt else answered
    rows, columns = scored.nonzero(as_tuple=True)
    found = _token_log_probs(head, hidden[rows, columns], input_ids[rows, columns + 1], chunk_tokens)
    table = found.new_zeros(scored.shape).index_put((rows, columns), found)
    answer_table = torch.where(answered, table, 0.0)
    return SequenceScores(
        sum=answer_table.sum(1),
        count=answered.sum(1),
        per_token=F.pad(answer_table, (1, 0)) if per_token else None,
        prompt_sum=torch.where(answered, 0.0, table).sum(1) if prompt else None,
        last_hidden=_last(hidden, attended) if last_hidden else None,
    )


def group_log_probs(lm: CausalLM, groups: TokenBatch, *, chunk_tokens: int = 512) -> SequenceScores:
    """`sequence_log_probs` of a batch of groups, with `sum` and `count` of shape (batch, k).

    The prompt is run once per response; whoever calls this does not see it, so a pass that shares it can take
    its place.
    """
    batch = groups.to(lm.device)
    flat = sequence_log_probs(
        lm.model, batch.input_ids, batch.attention_mask, batch.response_mask, chunk_tokens=chunk_tokens
    )
    return SequenceScores(sum=batch.by_group(flat.sum), count=batch.by_group(flat.count))


def _token_log_probs(head: Head, states: torch.Tensor, targets: torch.Tensor, chunk: int) -> torch.Tensor:
    """Shape (n, hidden), (n,) -> (n,)."""

    def of_chunk(part: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(head(part).float(), wanted, reduction="none")

    if not len(states):
        return states.new_zeros(0, dtype=torch.float32) + states.sum().float() * 0
    out = []
    for part, wanted in zip(torch.split(states, chunk), torch.split(targets, chunk), strict=True):
        if torch.is_grad_enabled():
            out.append(checkpoint(of_chunk, part, wanted, use_reentrant=False))
        else:
            out.append(of_chunk(part, wanted))
    return torch.cat(out)


def _last(hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(attended.shape[1], device=attended.device)
    last = (attended * positions).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _as_it_is(logits: torch.Tensor) -> torch.Tensor:
    return logits


_UNDERSTOOD: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _split(model: Any, input_ids: torch.Tensor) -> tuple[Backbone, Head]:
    """The backbone of `model`, and a function from its hidden states to the logits of the model itself."""
    base = model
    if hasattr(model, "get_base_model"):
        if model.active_peft_config.is_prompt_learning:
            raise ConfigError("prompt-tuning adapters change the input; use LoRA, or merge the adapter")
        base = model.get_base_model()
    layer = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    if layer is None or decoder is base:
        raise ConfigError(f"{type(base).__name__} is no causal language model with an output layer")
    config = base.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)

    def backbone(**inputs: Any) -> torch.Tensor:
        states: torch.Tensor = decoder(**inputs).last_hidden_state
        return states

    def finish(logits: torch.Tensor) -> torch.Tensor:
        if scale != 1.0:
            logits = logits * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def head(states: torch.Tensor) -> torch.Tensor:
        return finish(layer(states))

    def whole(**inputs: Any) -> torch.Tensor:
        logits: torch.Tensor = base(**inputs).logits
        return logits

    # Models change logits after the output layer in ways of their own, so ours are compared with theirs once.
    if base not in _UNDERSTOOD:
        _UNDERSTOOD[base] = _same_logits(base, decoder, layer, finish, input_ids)
    return (backbone, head) if _UNDERSTOOD[base] else (whole, _as_it_is)


def _same_logits(base: Any, decoder: Any, layer: Any, finish: Head, input_ids: torch.Tensor) -> bool:
    """Whether `base` itself gives `finish(layer(states))`, tried on a few tokens; warns where it does not."""
    states: list[torch.Tensor] = []
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []
    hooks = [
        decoder.register_forward_hook(lambda _module, _inputs, out: states.append(out.last_hidden_state)),
        layer.register_forward_hook(lambda _module, inputs, out: layers.append((inputs[0], out))),
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng():
            own = base(input_ids=input_ids[:1, :4], use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    if len(states) == len(layers) == 1:
        before, after = layers[0]
        if torch.equal(before, states[0]) and torch.allclose(own, finish(after), rtol=1e-2, atol=0):
            return True
    warnings.warn(
        f"{type(base).__name__} changes its logits in a way that is not known here; "
        "its log-probabilities are exact, but need memory for all logits of a batch",
        PalateWarning,
        stacklevel=4,
    )
    return False
