"""Token groups: boundaries, end of turn, masks, and truncation that says what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.errors import ConfigError, DataError, PalateWarning
from palate.models.tokens import encode_prompts, encode_responses, end_of_turn, tokenize_groups

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokenizer(template: str | None = None, bos: bool = False) -> Any:
    """One token a byte, built here: lengths can be counted by eye."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>" if bos else None, eos_token="</s>"
    )
    made.chat_template = template
    return made


def spaced_tokenizer() -> Any:
    """Puts a space before every text, as SentencePiece tokenizers do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["</s>", "\u2581", *"abcdefghijklmnopqrstuvwxyz.\n"])}
    backend = Tokenizer(models.BPE(vocabulary, [], fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="</s>", eos_token="</s>")


def test_prompt_then_response_then_end_of_turn() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    groups = tokenize_groups(tokenizer, ["Hi"], [["yes", "no"]], max_length=64)
    assert tokenizer.decode(groups.prompts[0]) == "[user]Hi</s>[assistant]"
    assert [tokenizer.decode(ids) for ids in groups.responses[0]] == ["yes</s>", "no</s>"]
    assert groups.report().startswith("1 groups, 2 responses")


def test_messages_are_rendered_as_they_are() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    (ids,) = encode_prompts(tokenizer, [messages])
    assert tokenizer.decode(ids) == "[user]a</s>[assistant]b</s>[user]c</s>[assistant]"
    (ids,) = encode_prompts(tokenizer, ["c"], system="s")
    assert tokenizer.decode(ids) == "[system]s</s>[user]c</s>[assistant]"


def test_without_a_template_a_text_goes_on_and_messages_are_refused() -> None:
    tokenizer = byte_tokenizer(bos=True)
    groups = tokenize_groups(tokenizer, ["a b", ""], [[" c"], ["d"]], max_length=64)
    assert [tokenizer.decode(ids) for ids in groups.prompts] == ["<s>a b", "<s>"]
    assert tokenizer.decode(groups.responses[0][0]) == " c</s>"
    with pytest.raises(ConfigError, match="no chat template"):
        tokenize_groups(tokenizer, [[{"role": "user", "content": "a"}]], [["b"]], max_length=64)


def test_a_template_that_refuses_names_the_row() -> None:
    tokenizer = byte_tokenizer("{{ raise_exception('roles must alternate') }}")
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}x</s>"
    )
    with pytest.raises(
        DataError, match="row 2, field 'prompt': the chat template refuses these messages: no tools"
    ):
        encode_prompts(tokenizer, ["a", [{"role": "tool", "content": "b"}]])


def test_the_response_mask_covers_response_and_end_of_turn_only() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    groups = tokenize_groups(tokenizer, ["Hi", "Hello"], [["yes", "no"], ["x"]], max_length=64)
    batch = groups.collate([1, 0])
    shown = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch.input_ids, batch.response_mask, strict=True)
    ]
    assert shown == ["x</s>", "yes</s>", "no</s>"]
    whole = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    assert whole[0] == "[user]Hello</s>[assistant]x</s>"
    assert batch.group.tolist() == [0, 1, 1]
    assert batch.slot.tolist() == [0, 0, 1]
    assert batch.index.tolist() == [1, 0]
    assert batch.mask.tolist() == [[True, False], [True, True]]
    assert batch.by_group(batch.response_mask.sum(1)).tolist() == [[2, 0], [4, 3]]


def test_the_prompt_loses_its_left_end_the_same_for_all_responses_of_a_group() -> None:
    tokenizer = byte_tokenizer()
    groups = tokenize_groups(tokenizer, ["0123456789", "ab"], [["xyz", "x"], ["y"]], max_length=8)
    assert tokenizer.decode(groups.prompts[0]) == "6789"
    assert [tokenizer.decode(ids) for ids in groups.responses[0]] == ["xyz</s>", "x</s>"]
    assert groups.truncated_prompts == 1
    assert groups.lengths.tolist() == [8, 4]
    assert "1 prompts cut on the left" in groups.report()
    shorter = tokenize_groups(tokenizer, ["0123456789"], [["x"]], max_length=64, max_prompt_length=3)
    assert tokenizer.decode(shorter.prompts[0]) == "789"


def test_a_cut_prompt_keeps_the_token_that_begins_a_text() -> None:
    tokenizer = byte_tokenizer(bos=True)
    groups = tokenize_groups(tokenizer, ["0123456789"], [["xyz"]], max_length=8)
    assert tokenizer.decode(groups.prompts[0]) == "<s>789"


def test_a_response_that_does_not_fit_is_never_cut_silently() -> None:
    tokenizer = byte_tokenizer()
    prompts, responses = ["ab", "cd", "ef"], [["ok", "no"], ["much too long", "x"], ["y"]]
    with pytest.raises(
        DataError, match=r"row 2, field 'responses': a response has 14 tokens, and only 7 fit"
    ):
        tokenize_groups(tokenizer, prompts, responses, max_length=8)
    with pytest.warns(PalateWarning, match="1 groups were left out"):
        groups = tokenize_groups(tokenizer, prompts, responses, max_length=8, too_long="drop-count")
    assert groups.kept.tolist() == [0, 2]
    assert groups.dropped_groups == 1
    assert "1 groups dropped" in groups.report()
    with pytest.warns(PalateWarning, match="1 responses were cut on the right"):
        groups = tokenize_groups(tokenizer, prompts, responses, max_length=8, too_long="cut-and-report")
    assert groups.kept.tolist() == [0, 1, 2]
    assert [tokenizer.decode(ids) for ids in groups.responses[1]] == ["much to", "x</s>"]
    assert tokenizer.decode(groups.prompts[1]) == "d"
    assert groups.cut_responses == 1


def test_options_and_lists_that_cannot_be_meant_are_refused() -> None:
    tokenizer = byte_tokenizer()
    with pytest.raises(DataError, match="2 prompts but 1 groups"):
        tokenize_groups(tokenizer, ["a", "b"], [["c"]], max_length=8)
    with pytest.raises(ConfigError, match="max_length must be at least 2"):
        tokenize_groups(tokenizer, ["a"], [["c"]], max_length=1)
    with pytest.raises(ConfigError, match="unknown too_long 'cut'"):
        tokenize_groups(tokenizer, ["a"], [["c"]], max_length=8, too_long="cut")  # type: ignore[arg-type]
    assert len(tokenize_groups(tokenizer, [], [], max_length=8)) == 0


def test_a_tokenizer_that_begins_texts_with_a_space_adds_none_to_a_response() -> None:
    tokenizer = spaced_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer("no")["input_ids"]) == ["\u2581", "n", "o"]
    (ids,) = encode_responses(tokenizer, ["no"])
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == ["n", "o", "</s>"]


def test_the_end_of_turn_is_the_templates_where_it_has_one() -> None:
    tokenizer = byte_tokenizer(TEMPLATE.replace("</s>", "<end>"))
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<end>")


def test_batches_keep_to_the_token_budget_and_hold_every_group_once() -> None:
    tokenizer = byte_tokenizer()
    prompts = ["p" * (1 + i * 7 % 13) for i in range(20)]
    groups = tokenize_groups(tokenizer, prompts, [["ab"] * (1 + i % 3) for i in range(20)], max_length=32)
    batches = groups.batches(max_tokens=60)
    assert sorted(number for batch in batches for number in batch) == list(range(20))
    assert all(groups.collate(batch).input_ids.numel() <= 60 for batch in batches)
    assert len(batches) < 20
    assert [len(batch) for batch in groups.batches(max_tokens=1)] == [1] * 20


def test_the_fingerprint_tells_ids_and_grouping_apart() -> None:
    tokenizer = byte_tokenizer()

    def of(prompts: list[str], responses: list[list[str]]) -> str:
        return tokenize_groups(tokenizer, prompts, responses, max_length=16).fingerprint

    assert of(["a"], [["b", "c"]]) == of(["a"], [["b", "c"]])
    different = [
        of(["a"], [["b", "c"]]),
        of(["a"], [["c", "b"]]),
        of(["ab"], [["", "c"]]),
        of(["a", "a"], [["b"], ["c"]]),
    ]
    assert len(set(different)) == 4


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(max_size=30),
    responses=st.lists(st.text(max_size=12), min_size=1, max_size=4),
    room=st.integers(2, 90),
)
def test_no_response_token_is_ever_lost_unless_it_is_counted(
    prompt: str, responses: list[str], room: int
) -> None:
    tokenizer = byte_tokenizer()
    too_long = any(len(text.encode()) + 1 > room - 1 for text in responses)
    if too_long:
        with pytest.raises(DataError):
            tokenize_groups(tokenizer, [prompt], [responses], max_length=room)
        return
    groups = tokenize_groups(tokenizer, [prompt], [responses], max_length=room)
    assert [tokenizer.decode(ids) for ids in groups.responses[0]] == [text + "</s>" for text in responses]
    assert groups.lengths[0] <= room
    batch = groups.collate([0])
    assert batch.response_mask.sum(1).tolist() == [len(text.encode()) + 1 for text in responses]
    assert np.array_equal(batch.attention_mask.sum(1), len(groups.prompts[0]) + batch.response_mask.sum(1))


@pytest.mark.models
def test_smollm2_groups_read_back_as_the_conversation(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(smollm2))
    groups = tokenize_groups(tokenizer, ["Say  hé\n"], [["\n\n 日本 12", "ok"]], max_length=256)
    batch = groups.collate([0])
    text = tokenizer.decode(batch.input_ids[0][batch.attention_mask[0].bool()])
    conversation = [
        {"role": "user", "content": "Say  hé\n"},
        {"role": "assistant", "content": "\n\n 日本 12"},
    ]
    assert text + "\n" == tokenizer.apply_chat_template(conversation, tokenize=False)
    assert groups.responses[0][1].tolist()[-1] == 2
