"""A reward model whose transformer is trained along takes every head, keeps float32 where it learns, goes on
from another, and says what did not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.reward import RewardModel, finetune
from palate.reward.finetune import last_layer
from palate.reward.sequences import encode
from palate.reward.shared_prompts import check_same, packed
from palate.runs import Run

pytestmark = pytest.mark.models

WORDS = ["tea", "cup", "house", "runs", "red", "seven", "quickly", "maybe", "answer", "list"]
FAST = {"steps": 4, "batch_size": 4, "learning_rate": 3e-3, "dtype": "float32", "pad_to_multiple_of": 1}


@pytest.fixture(scope="module")
def llama(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model of two small layers, with SmolLM2's tokenizer and chat template."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=96,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def text(rng: np.random.Generator, word: str) -> str:
    return " ".join([*rng.choice(WORDS, 4), word])


def pairs(n: int = 16, **columns: Any) -> PreferenceData:
    rng = np.random.default_rng(0)
    return PreferenceData.from_columns(
        {
            "prompt": ["Describe"] * n,
            "responses": [[text(rng, "excellent"), text(rng, "terrible")] for _ in range(n)],
            "scores": [[1.0, 0.0]] * n,
            **columns,
        }
    )


def ratings(n: int = 16) -> PreferenceData:
    rng = np.random.default_rng(0)
    return PreferenceData.from_columns(
        {
            "prompt": ["Describe"] * n,
            "responses": [[text(rng, WORDS[i % 3])] for i in range(n)],
            "scores": [[float(i % 3)] for i in range(n)],
            "aspect": [("clear", "kind", "overall")[i // 3 % 3] for i in range(n)],
            "scale": ["interval"] * n,
        }
    )


def test_every_head_is_trained_saved_and_loaded(llama: str, tmp_path: Path) -> None:
    cases: list[tuple[str, str, dict[str, Any], PreferenceData]] = [
        ("scalar", "bradley_terry", {}, pairs()),
        ("attributes", "mse", {"learn_merit": True}, ratings()),
        ("gpm", "bradley_terry", {"dim": 4}, pairs()),
        ("pair", "bradley_terry", {}, pairs()),
        ("bins", "two_hot", {}, ratings()),
    ]
    for head, loss, params, data in cases:
        training = {**FAST, "steps": 8, "lora": 4}
        model = RewardModel(llama, head, loss, head_params=params, mode="finetune", training=training)
        run = Run(tmp_path / f"run-{head}", {"head": head})
        model.fit(data, run=run)
        logged = [row["loss"] for row in run.metrics()]
        assert min(logged[1:]) < logged[0], head
        again = RewardModel.load(model.save(tmp_path / head))
        if "score" in model.native:
            assert np.array_equal(again.score_data(data).scores, model.score_data(data).scores), head
        else:
            assert np.array_equal(again.margins_data(data), model.margins_data(data)), head
        for name, value in model.head_.state_dict().items():
            assert torch.equal(again.head_.state_dict()[name], value), (head, name)
        if head == "attributes":
            assert not np.allclose(model.head_.state_dict()["merit"], 0.5, atol=1e-4)


@pytest.mark.parametrize("lora", [0, 4])
def test_an_interrupted_fit_ends_bitwise_like_an_uninterrupted_one(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: int
) -> None:
    def model() -> RewardModel:
        return RewardModel(
            llama, "attributes", "mse", head_params={"learn_merit": True}, mode="finetune", dropout=0.2,
            training={**FAST, "lora": lora, "save_steps": 2},
        )  # fmt: skip

    data = ratings()
    whole = model().fit(data, run=Run(tmp_path / "whole", {}))
    sound, calls = finetune.score_batch, 0

    def failing(*arguments: Any) -> Any:
        score = sound(*arguments)

        def scored(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise KeyboardInterrupt
            return score(*given)

        return scored

    monkeypatch.setattr(finetune, "score_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        model().fit(data, run=Run(tmp_path / "cut", {}))
    monkeypatch.undo()
    resumed = model().fit(data, run=Run(tmp_path / "cut", {}))
    assert np.array_equal(resumed.score_data(data).scores, whole.score_data(data).scores)
    assert torch.equal(resumed.head_.state_dict()["merit"], whole.head_.state_dict()["merit"])


def test_under_bfloat16_the_adapters_and_the_last_layer_learn_in_float32(llama: str, tmp_path: Path) -> None:
    data = pairs()
    for lora in (4, 0):
        training = {**FAST, "dtype": "bfloat16", "learning_rate": 1e-5, "lora": lora, "warmup": 0.0}
        model = RewardModel(llama, mode="finetune", training=training).fit(data)
        tuned = model.scorer_.model  # type: ignore[attr-defined]
        last = last_layer(tuned)
        assert last.weight.dtype == torch.float32
        assert not torch.equal(last.weight, last.weight.bfloat16().float())
        if lora:
            assert {p.dtype for p in tuned.parameters() if p.requires_grad} == {torch.float32}
        again = RewardModel.load(model.save(tmp_path / str(lora)))
        assert torch.equal(last_layer(again.scorer_.model).weight, last.weight)  # type: ignore[attr-defined]
        assert np.array_equal(again.score_data(data).scores, model.score_data(data).scores)


@pytest.mark.parametrize(("before", "after"), [(4, 4), (4, 2), (0, 4)])
def test_a_fit_goes_on_from_another_tuned_model(llama: str, tmp_path: Path, before: int, after: int) -> None:
    data = pairs()

    def model(lora: int, **settings: Any) -> RewardModel:
        return RewardModel(llama, mode="finetune", training={**FAST, "lora": lora, **settings})

    first = model(before).fit(data)
    scores = first.score_data(data).scores
    still = model(after, learning_rate=1e-30, steps=1).fit(data, init=first)
    assert still.score_data(data).scores == pytest.approx(scores, abs=1e-5)
    on = model(after).fit(data, init=first)
    assert np.abs(on.score_data(data).scores - scores).max() > 1e-3
    assert np.array_equal(first.score_data(data).scores, scores)
    again = RewardModel.load(on.save(tmp_path / "on"))
    assert again.score_data(data).scores == pytest.approx(on.score_data(data).scores, abs=1e-6)


def test_a_fit_goes_on_from_a_loaded_model_but_from_no_other_kind(llama: str, tmp_path: Path) -> None:
    data = pairs()
    tuned = RewardModel(llama, mode="finetune", training=FAST | {"lora": 4})
    loaded = RewardModel.load(tuned.fit(data).save(tmp_path / "first"))
    on = RewardModel(llama, mode="finetune", training=FAST | {"lora": 4}).fit(data, init=loaded)
    assert np.abs(on.score_data(data).scores - loaded.score_data(data).scores).max() > 1e-3
    gpm = RewardModel(llama, "gpm", mode="finetune", training=FAST)
    with pytest.raises(ConfigError, match=r"init must be a model with mode=\"finetune\" and the same head"):
        gpm.fit(data, init=loaded)


def test_the_last_layer_gives_the_outputs_of_the_features(llama: str) -> None:
    model = RewardModel(llama, mode="finetune", training=FAST | {"lora": 4}).fit(pairs())
    scorer: Any = model.scorer_
    batch = scorer.tokenizer(["red tea", "seven cups of it, quickly"], padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = scorer.model(**batch).logits
        last = last_layer(scorer.model)
        features = last.features(batch["input_ids"], scorer.tokenizer.pad_token_id)
    assert features.shape == (2, 16)
    assert torch.allclose(features @ last.weight.T, outputs, atol=1e-6)


def test_a_loss_that_compares_two_passes_needs_dropout(llama: str) -> None:
    model = RewardModel(llama, loss="bradley_terry+simcse", mode="finetune", training=FAST)
    with pytest.raises(ConfigError, match="set dropout above 0"):
        model.fit(pairs())
    fitted = model.set_params(dropout=0.1).fit(pairs())
    assert np.isfinite(fitted.fit_["loss"])


def test_checkpointing_activations_changes_no_weight(llama: str) -> None:
    def scores(checkpointing: bool) -> np.ndarray:
        training = FAST | {"lora": 4, "gradient_checkpointing": checkpointing}
        model = RewardModel(llama, mode="finetune", training=training).fit(pairs())
        return model.score_data(pairs()).scores

    assert scores(True) == pytest.approx(scores(False), abs=1e-6)
    with pytest.raises(ConfigError, match="gradient_checkpointing is for transformers"):
        RewardModel("features", training={"gradient_checkpointing": True}).fit(
            PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1.0, 0.0]]})
        )


def test_sharing_prompts_changes_only_how_much_is_computed(llama: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lists = PreferenceData.from_columns(
        {
            "prompt": ["Describe tea", "Why?"] * 4,
            "responses": [[text(rng, word) for word in WORDS[: 3 + i % 2]] for i in range(8)],
            "scores": [[2.0, 1.0, np.nan, 0.0][: 3 + i % 2] for i in range(8)],
        }
    )
    for data, loss in ((lists, "listmle"), (pairs(), "bradley_terry")):
        found, losses = [], []
        for share in (False, True):
            training = FAST | {"lora": 4, "share_prompts": share, "pad_to_multiple_of": 8}
            model = RewardModel(llama, loss=loss, mode="finetune", training=training)
            run = Run(tmp_path / f"{loss}-{share}", {})
            found.append(model.fit(data, run=run).score_data(data).scores)
            losses.append([row["loss"] for row in run.metrics()])
        assert found[1] == pytest.approx(found[0], abs=1e-5, nan_ok=True)
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_sharing_prompts_is_refused_where_responses_would_see_each_other(minilm: Path) -> None:
    training = FAST | {"share_prompts": True}
    with pytest.raises(ConfigError, match="share_prompts is for language models"):
        RewardModel(str(minilm), mode="finetune", training=training).fit(pairs())
    with pytest.raises(ConfigError, match="changes the scores of this architecture"):
        check_same(torch.zeros(2, 1), torch.ones(2, 1))


def test_a_packed_group_is_the_prompt_once_and_each_response_blind_to_the_others() -> None:
    made = packed([[[5, 6, 7, 8], [5, 6, 9, 0]]], pad=0)
    assert made["input_ids"].tolist() == [[5, 6, 7, 8, 9, 0]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 3, 2, 3]]
    assert made["ends"].tolist() == [[0, 3], [0, 4]]
    assert made["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1],
    ]  # fmt: skip


def test_texts_beyond_the_window_are_counted_or_refused(llama: str) -> None:
    n = 16
    asked = ["Describe"] * n
    asked[2] = " ".join(["please"] * 90)
    rng = np.random.default_rng(0)
    responses = [[text(rng, "excellent"), text(rng, "terrible")] for _ in range(n)]
    responses[5][1] = " ".join(["red"] * 120)
    data = pairs(prompt=asked, responses=responses)
    model = RewardModel(llama, mode="finetune", training=FAST | {"steps": 1})
    with pytest.warns(PalateWarning, match="1 responses were cut on the right and 3 prompts on the left"):
        model.fit(data)
    assert (model.fit_["truncated_responses"], model.fit_["truncated_prompts"]) == (1, 3)
    with pytest.raises(DataError, match=r"row 3, field 'responses': a text of \d+ tokens .* 3 of 32 texts"):
        model.set_params(too_long="error").fit(data)
    model.fit(pairs())
    with pytest.raises(DataError, match=r"row 2, field 'responses'.*where the model reads 96"):
        model.score(["a", "b"], ["red", responses[5][1]])
    with pytest.raises(ConfigError, match="too_long must be one of cut, error"):
        model.set_params(too_long="ignore").fit(data)


def test_a_conversation_that_fits_has_the_ids_its_template_gives_it(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    prompts = ["What is tea?", "", "\n two "]
    responses = [" A leaf.", "\n\nNothing\n", ""]
    made = encode(tokenizer, "chat", prompts, responses, 512)
    for ids, prompt, response in zip(made.ids, prompts, responses, strict=True):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        assert ids == tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
    assert made.types is None
    assert made.counts == {"truncated_prompts": 0, "truncated_responses": 0}


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_a_long_prompt_loses_its_beginning_and_a_long_response_its_end(smollm2: Path, style: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    long = " ".join(f"word{i}" for i in range(60))
    made = encode(tokenizer, style, [long, "Why?"], ["Because.", long], 40)
    assert [len(ids) for ids in made.ids] == [40, 40]
    first, second = (tokenizer.decode(ids) for ids in made.ids)
    assert "word59" in first
    assert "word0 " not in first
    assert "Because.<|im_end|>" in first
    assert second.startswith("word0 word1")
    assert second.rstrip("\n").endswith("<|im_end|>")
    assert made.cut_prompts.tolist() == [True, True]
    assert made.cut_responses.tolist() == [False, True]


def test_a_pair_keeps_its_special_tokens_and_types_when_it_is_cut(minilm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    long = " ".join(["apple"] * 30 + ["pear"])
    made = encode(tokenizer, "pair", ["red", long, long, "red"], ["tea", "tea", long, long], 20)
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert [len(ids) for ids in made.ids] == [5, 20, 20, 20]
    assert all((ids[0], ids[-1], ids.count(end)) == (start, end, 2) for ids in made.ids)
    assert tokenizer.decode(made.ids[1]).endswith("pear [SEP] tea [SEP]")
    assert made.types is not None
    assert [sum(types) for types in made.types] == [2, 2, 18, 18]
    assert made.cut_prompts.tolist() == [False, True, True, True]
    assert made.cut_responses.tolist() == [False, False, True, True]


def test_an_encoder_is_given_what_its_tokenizer_gives_of_two_texts(minilm: Path) -> None:
    data = pairs(8)
    training = FAST | {"steps": 1, "lora": 0, "pad_to_multiple_of": 8}
    model = RewardModel("all-minilm-l6-v2", mode="finetune", training=training).fit(data)
    scorer: Any = model.scorer_
    responses = data.flat("responses").to_pylist()
    batch = scorer.tokenizer(["Describe"] * 16, responses, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = scorer.model(**batch).logits[:, 0].double().numpy().reshape(8, 2)
        untyped = scorer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert model.score_data(data).scores == pytest.approx(expected, abs=1e-5)
    assert np.abs(untyped[:, 0].numpy().reshape(8, 2) - expected).max() > 1e-4


def test_a_frozen_encoder_counts_or_refuses_what_is_beyond_its_window(minilm: Path) -> None:
    responses = [["short", "shorter"], ["a " * 400, "brief"], ["red", "blue"]]
    data = PreferenceData.from_columns({"responses": responses, "scores": [[1.0, 0.0]] * 3})
    model = RewardModel(str(minilm))
    with pytest.warns(PalateWarning, match="1 of 6 texts are longer than the 256 tokens") as warned:
        model.fit(data)
    assert len(warned) == 1
    assert model.fit_["truncated_responses"] == 1
    with pytest.raises(DataError, match=r"row 2, field 'responses': a text of 402 tokens .* reads 256"):
        model.set_params(too_long="error").fit(data)
    assert "truncated_responses" in RewardModel(str(minilm)).fit(data.take([0, 2])).fit_


def test_the_model_is_what_transformers_makes_of_the_same_folder(llama: str) -> None:
    """New weights are drawn by the seed alone, and nothing else of the folder is changed."""
    first, second = (
        RewardModel(llama, mode="finetune", training=FAST | {"steps": 1, "learning_rate": 1e-30}, seed=3)
        for _ in range(2)
    )
    a, b = first.fit(pairs()), second.fit(pairs())
    assert np.array_equal(a.score_data(pairs()).scores, b.score_data(pairs()).scores)
    theirs = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=1).model.state_dict()
    ours: Any = a.scorer_.model  # type: ignore[attr-defined]
    loaded = ours.merge_and_unload().model.state_dict()
    assert all(torch.allclose(loaded[name], value, atol=1e-7) for name, value in theirs.items())
