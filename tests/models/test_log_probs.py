"""Chunked log-probabilities equal the naive ones, in value, gradient and whatever model they are taken of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.errors import ConfigError, PalateWarning
from palate.models.log_probs import group_log_probs, sequence_log_probs

VOCABULARY, ROWS, LENGTH = 97, 5, 14
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    # Large first weights make the logits differ enough for a wrong scale or cap to show.
    "initializer_range": 0.5,
    "pad_token_id": 0,
}


def llama(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**{**SMALL, **changes})).eval()


def batch(left: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of several lengths; the third row has an empty response."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (ROWS, LENGTH), generator=draw)
    lengths, prompts = [14, 9, 6, 12, 3], [5, 4, 6, 1, 2]
    attended, answered = (
        torch.zeros(ROWS, LENGTH, dtype=torch.long),
        torch.zeros(ROWS, LENGTH, dtype=torch.long),
    )
    for row, (length, prompt) in enumerate(zip(lengths, prompts, strict=True)):
        start = LENGTH - length if left else 0
        attended[row, start : start + length] = 1
        answered[row, start + prompt : start + length] = 1
    return ids * attended, attended, answered


def naive(model: Any, ids: torch.Tensor, attended: torch.Tensor, answered: torch.Tensor) -> torch.Tensor:
    """(rows, length): log-probability of each response token from all logits at once."""
    positions = (attended.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=attended, position_ids=positions, use_cache=False).logits
    table = logits.float().log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(torch.where(answered[:, 1:].bool(), table, 0.0), (1, 0))


@pytest.mark.parametrize("left", [False, True], ids=["right-padded", "left-padded"])
@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_values_equal_the_naive_ones(left: bool, chunk: int) -> None:
    model, inputs = llama(), batch(left)
    with torch.no_grad():
        wanted = naive(model, *inputs)
        found = sequence_log_probs(model, *inputs, per_token=True, chunk_tokens=chunk)
    assert found.per_token is not None
    torch.testing.assert_close(found.per_token, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sum, wanted.sum(1), atol=1e-5, rtol=1e-5)
    assert found.count.tolist() == inputs[2].sum(1).tolist()
    assert (found.sum[2], found.mean[2]) == (0, 0)
    assert found.sum.dtype == torch.float32


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_gradients_of_all_parameters_equal_the_naive_ones(tied: bool) -> None:
    weight = torch.tensor([1.0, -2.0, 3.0, 0.5, -1.0])
    gradients = []
    for chunked in (True, False):
        model = llama(tie_word_embeddings=tied)
        table = (
            sequence_log_probs(model, *batch(), per_token=True, chunk_tokens=4).per_token
            if chunked
            else naive(model, *batch())
        )
        assert table is not None
        (torch.sigmoid(table.sum(1) / 30) * weight).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert gradients[1][name].abs().max() > 0, name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_backward_holds_no_logits_of_more_than_a_chunk() -> None:
    model, kept = llama(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        total = sequence_log_probs(model, *batch(), chunk_tokens=2).sum.sum()
    assert len(kept) > 20
    assert [shape for shape in kept if shape[-1:] == (VOCABULARY,)] == []
    total.backward()


def test_prompt_sum_and_response_sum_make_up_the_whole_sequence() -> None:
    model, (ids, attended, answered) = llama(), batch()
    with torch.no_grad():
        parts = sequence_log_probs(model, ids, attended, answered, prompt=True, last_hidden=True)
        whole = sequence_log_probs(model, ids, attended, attended)
        states = model.model(input_ids=ids, attention_mask=attended).last_hidden_state
    assert parts.prompt_sum is not None
    assert parts.last_hidden is not None
    torch.testing.assert_close(parts.prompt_sum + parts.sum, whole.sum, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(parts.last_hidden, states[torch.arange(ROWS), attended.sum(1) - 1])
    assert parts.count.tolist() == answered.sum(1).tolist()


def capped() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(**SMALL, final_logit_softcapping=2.0))


def divided() -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0))


def scaled() -> Any:
    from transformers import CohereConfig, CohereForCausalLM

    return CohereForCausalLM(CohereConfig(**{**SMALL, "logit_scale": 0.0625}))


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.5
        )
    )


@pytest.mark.parametrize("make", [capped, divided, scaled, gpt2])
def test_models_that_change_their_logits_give_their_own_log_probabilities(make: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().eval()
    with torch.no_grad():
        wanted = naive(model, *batch()).sum(1)
        found = sequence_log_probs(model, *batch(), chunk_tokens=3).sum
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


def test_a_head_that_is_not_understood_is_run_whole_with_a_warning() -> None:
    from transformers import LlamaForCausalLM

    class Shifted(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = super().forward(*args, **kwargs)
            out.logits = out.logits * torch.linspace(0.5, 2, VOCABULARY)
            return out

    model = Shifted(llama().config).eval()
    with pytest.warns(PalateWarning, match="Shifted changes its logits"):
        found = sequence_log_probs(model, *batch()).sum
    torch.testing.assert_close(found, naive(model, *batch()).sum(1), atol=1e-4, rtol=1e-5)
    with pytest.raises(ConfigError, match="last hidden state of Shifted"):
        sequence_log_probs(model, *batch(), last_hidden=True)


def test_the_first_look_at_a_model_draws_no_random_numbers() -> None:
    model = llama(attention_dropout=0.5).train()
    torch.manual_seed(3)
    first = sequence_log_probs(model, *batch()).sum
    torch.manual_seed(3)
    assert torch.equal(first, sequence_log_probs(model, *batch()).sum)


def test_lora_adapters_count_and_can_be_switched_off() -> None:
    from peft import LoraConfig, get_peft_model

    with torch.no_grad():
        before = sequence_log_probs(llama(), *batch()).sum
    model = get_peft_model(
        llama(), LoraConfig(r=4, target_modules=["q_proj", "down_proj", "lm_head"], lora_dropout=0.0)
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.05)
    table = naive(model, *batch())
    found = sequence_log_probs(model, *batch(), chunk_tokens=4)
    torch.testing.assert_close(found.sum, table.sum(1), atol=1e-4, rtol=1e-5)
    assert not torch.allclose(found.sum, before, atol=0.1)
    with torch.no_grad(), model.disable_adapter():
        torch.testing.assert_close(sequence_log_probs(model, *batch()).sum, before, atol=1e-4, rtol=1e-5)
    found.sum.mean().backward()
    trained = [p.grad for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in trained)


def test_dropout_in_an_adapted_head_is_the_same_in_both_passes() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["lm_head"], lora_dropout=0.5)).train()
    head = model.get_base_model().lm_head
    torch.nn.init.normal_(head.lora_B["default"].weight, generator=torch.Generator().manual_seed(2))
    weight = head.lora_A["default"].weight
    torch.manual_seed(0)
    total = sequence_log_probs(model, *batch(), chunk_tokens=1000).sum.sum()
    (gradient,) = torch.autograd.grad(total, weight)
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        weight += step
        torch.manual_seed(0)
        after = sequence_log_probs(model, *batch(), chunk_tokens=1000).sum.sum()
    # Along its gradient a function grows by the gradient's norm times the step, if both passes drop the same.
    assert (after - total).item() == pytest.approx(1e-3 * gradient.norm().item(), rel=0.1)


def test_a_batch_without_responses_scores_nothing_and_still_has_a_gradient() -> None:
    ids, attended, _ = batch()
    found = sequence_log_probs(llama(), ids, attended, torch.zeros_like(ids))
    assert found.sum.tolist() == [0.0] * ROWS
    found.sum.sum().backward()


def test_inputs_that_cannot_be_meant_are_refused() -> None:
    ids, attended, answered = batch()
    with pytest.raises(ConfigError, match=r"one shape \(rows, length\), not \(5, 14\), \(5, 14\), \(5, 13\)"):
        sequence_log_probs(llama(), ids, attended, answered[:, 1:])
    with pytest.raises(ConfigError, match="chunk_tokens must be at least 1"):
        sequence_log_probs(llama(), ids, attended, answered, chunk_tokens=0)
    with pytest.raises(ConfigError, match="LlamaModel is no causal language model"):
        sequence_log_probs(llama().model, ids, attended, answered)


@pytest.mark.models
def test_group_scores_of_smollm2_equal_each_response_alone(smollm2: Path) -> None:
    from palate.models import load_causal_lm, tokenize_groups

    lm = load_causal_lm(smollm2, dtype="float32", device="cpu")
    prompts = ["What is the capital of France?", "Say hi."]
    responses = [["The capital of France is Paris.", "Bananas walk."], ["Hi!"]]
    groups = tokenize_groups(lm.tokenizer, prompts, responses, max_length=128)
    with torch.no_grad():
        scores = group_log_probs(lm, groups.collate([0, 1]))
        for row, group in enumerate(responses):
            for k, response in enumerate(group):
                alone = tokenize_groups(lm.tokenizer, [prompts[row]], [[response]], max_length=128).collate(
                    [0]
                )
                wanted = naive(lm.model, alone.input_ids, alone.attention_mask, alone.response_mask).sum()
                torch.testing.assert_close(scores.sum[row, k], wanted, atol=1e-3, rtol=1e-5)
    assert scores.sum.shape == (2, 2)
    assert (scores.sum[1, 1], scores.count[1, 1]) == (0, 0)
    assert scores.mean[0, 0] > scores.mean[0, 1], "a fluent answer is likelier than nonsense"
