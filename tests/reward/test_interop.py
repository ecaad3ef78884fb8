"""A reward model trained here scores the same in transformers and TRL, and one trained there scores the same
here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.reward import RewardModel

pytestmark = pytest.mark.models

PROMPTS = ["What is tea?", "Name a colour.", "Why do leaves fall?", "Say hello."]
CHOSEN = ["A drink made of leaves.", "Red", "They dry out in autumn.", "\nHello!"]
REJECTED = ["Tea", "Seven", "No idea, ask me later.", " bye"]
FAST = {"steps": 2, "batch_size": 2, "learning_rate": 1e-3, "dtype": "float32", "pad_to_multiple_of": 1}


def votes(**columns: Any) -> PreferenceData:
    responses = [list(pair) for pair in zip(CHOSEN, REJECTED, strict=True)]
    return PreferenceData.from_columns(
        {"prompt": PROMPTS, "responses": responses, "scores": [[1.0, 0.0]] * 4, **columns}
    )


def conversations() -> list[list[dict[str, str]]]:
    return [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for prompt, pair in zip(PROMPTS, zip(CHOSEN, REJECTED, strict=True), strict=True)
        for response in pair
    ]


def loaded(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer as anyone would load them."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def outputs(model: Any, rows: list[list[int]]) -> np.ndarray:
    """Labels of token ids, shape (n, labels), one text at a time."""
    with torch.no_grad():
        return np.concatenate([model(input_ids=torch.tensor([ids])).logits.numpy() for ids in rows])


def templated(tokenizer: Any) -> list[list[int]]:
    return [tokenizer.apply_chat_template(c, return_dict=True)["input_ids"] for c in conversations()]


@pytest.fixture(scope="module")
def tuned(smollm2: Path) -> RewardModel:
    """SmolLM2 with adapters, trained for two steps."""
    return RewardModel(str(smollm2), mode="finetune", training={**FAST, "lora": 8}).fit(votes())


@pytest.fixture(scope="module")
def exported(tuned: RewardModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned.export(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def theirs(exported: Path) -> tuple[Any, Any]:
    return loaded(exported)


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


def preferences(chat: bool) -> Any:
    datasets = pytest.importorskip("datasets")
    if not chat:
        return datasets.Dataset.from_dict({"prompt": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED})
    both = conversations()
    return datasets.Dataset.from_dict({"chosen": both[0::2], "rejected": both[1::2]})


def reward_trainer(model: Any, tokenizer: Any, data: Any, folder: Path, **options: Any) -> Any:
    trl = pytest.importorskip("trl")
    config = trl.RewardConfig(
        str(folder), max_steps=2, per_device_train_batch_size=2, per_device_eval_batch_size=4,
        learning_rate=1e-2, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, bf16=False,
        gradient_checkpointing=False,
    )  # fmt: skip
    return trl.RewardTrainer(model, config, train_dataset=data, processing_class=tokenizer, **options)


def test_an_exported_model_scores_the_same_in_transformers(
    tuned: RewardModel, exported: Path, theirs: tuple[Any, Any]
) -> None:
    model, tokenizer = theirs
    ours = tuned.score_data(votes()).scores.ravel()
    assert outputs(model, templated(tokenizer))[:, 0] == pytest.approx(ours, abs=1e-4)
    again = RewardModel.from_pretrained(exported)
    assert again.score_data(votes()).scores.ravel() == pytest.approx(ours, abs=1e-4)
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "reward"}
    assert config["problem_type"] == "regression"
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert not (exported / "adapter_config.json").exists()


def test_programs_that_read_the_last_token_find_the_score_there(
    tuned: RewardModel, theirs: tuple[Any, Any]
) -> None:
    """OpenRLHF and vLLM apply the layer `score` to the last token that is attended to."""
    model, tokenizer = theirs
    with torch.no_grad():
        states = model.model(torch.tensor(templated(tokenizer)[:1])).last_hidden_state
        score = float(model.score(states[:, -1])[0, 0])
    assert score == pytest.approx(float(tuned.score(PROMPTS[:1], CHOSEN[:1]).scores[0]), abs=1e-4)


def test_an_exported_model_has_the_same_loss_and_accuracy_in_trl(
    tuned: RewardModel, theirs: tuple[Any, Any], tmp_path: Path
) -> None:
    trainer = reward_trainer(*theirs, preferences(chat=True), tmp_path)
    found = trainer.evaluate(preferences(chat=True))
    scores = tuned.score_data(votes()).scores
    lead = scores[:, 0] - scores[:, 1]
    assert found["eval_loss"] == pytest.approx(np.logaddexp(0, -lead).mean(), abs=1e-4)
    assert found["eval_accuracy"] == pytest.approx((lead > 0).mean())
    assert found["eval_margin"] == pytest.approx(lead.mean(), abs=1e-4)


@pytest.mark.parametrize("chat", [True, False])
def test_a_model_trained_by_trl_scores_the_same_here(llama: str, tmp_path: Path, chat: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    model = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=1)
    trainer = reward_trainer(model, tokenizer, preferences(chat), tmp_path / "run")
    trainer.train()
    trainer.save_model(str(tmp_path / "theirs"))

    def plain(tokenizer: Any) -> list[list[int]]:
        pairs = [text for pair in zip(CHOSEN, REJECTED, strict=True) for text in pair]
        end = tokenizer.eos_token
        return [tokenizer(PROMPTS[i // 2] + text + end)["input_ids"] for i, text in enumerate(pairs)]

    ours = RewardModel.from_pretrained(tmp_path / "theirs", chat=chat)
    scores = ours.score_data(votes()).scores
    there, read = loaded(tmp_path / "theirs")
    expected = outputs(there, (templated if chat else plain)(read))[:, 0]
    assert scores.ravel() == pytest.approx(expected, abs=1e-5)
    lead = scores[:, 0] - scores[:, 1]
    assert trainer.evaluate(preferences(chat))["eval_loss"] == pytest.approx(
        np.logaddexp(0, -lead).mean(), abs=1e-5
    )
    again = RewardModel.load(ours.save(tmp_path / "saved"))
    assert np.array_equal(again.score_data(votes()).scores, scores)
    probability = ours.predict_proba(PROMPTS, CHOSEN, REJECTED)[:, 0]
    assert probability == pytest.approx(1 / (1 + np.exp(-lead)))


def test_adapters_trained_by_trl_are_loaded_with_their_score_layer(llama: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    tokenizer = AutoTokenizer.from_pretrained(llama)
    model = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=1)
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear")
    trainer = reward_trainer(model, tokenizer, preferences(True), tmp_path / "run", peft_config=settings)
    trainer.train()
    trainer.save_model(str(tmp_path / "theirs"))
    scores = RewardModel.from_pretrained(tmp_path / "theirs").score_data(votes()).scores
    lead = scores[:, 0] - scores[:, 1]
    found = trainer.evaluate(preferences(True))
    assert found["eval_margin"] == pytest.approx(lead.mean(), abs=1e-5)
    assert found["eval_loss"] == pytest.approx(np.logaddexp(0, -lead).mean(), abs=1e-5)


def test_trl_takes_an_exported_model_as_a_reward_function(
    tuned: RewardModel, theirs: tuple[Any, Any]
) -> None:
    """What its online trainers do with a completion: render, tokenise without special tokens, first label."""
    trl_data = pytest.importorskip("trl.data_utils")
    model, tokenizer = theirs
    texts = [trl_data.apply_chat_template({"messages": c}, tokenizer)["text"] for c in conversations()]
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
    )
    with torch.no_grad():
        rewards = model(**batch).logits[:, 0].numpy()
    assert rewards == pytest.approx(tuned.score_data(votes()).scores.ravel(), abs=1e-4)


def test_aspects_become_labels_or_one_weighted_sum(llama: str, tmp_path: Path) -> None:
    head = {"merit": {"clear": 0.7, "kind": -0.2}}
    model = RewardModel(llama, "attributes", mode="finetune", head_params=head, training=FAST)
    model.fit(votes(aspect=["clear", "kind", "clear", "kind"]))
    scores = model.score_data(votes()).scores.ravel()
    there, tokenizer = loaded(model.export(tmp_path / "each"))
    each = outputs(there, templated(tokenizer))
    assert each.shape == (8, 2)
    assert each @ [0.7, -0.2] == pytest.approx(scores, abs=1e-5)
    there, tokenizer = loaded(model.export(tmp_path / "sum", overall=True))
    summed = outputs(there, templated(tokenizer))
    assert summed[:, 0] == pytest.approx(scores, abs=1e-5)
    again = RewardModel.from_pretrained(tmp_path / "each", merit=head["merit"])
    assert again.head_.aspects == ("clear", "kind")
    assert again.score_data(votes()).scores.ravel() == pytest.approx(scores, abs=1e-5)
    nameless = json.loads((tmp_path / "each" / "config.json").read_text())
    nameless |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    (tmp_path / "each" / "config.json").write_text(json.dumps(nameless))
    with pytest.raises(ConfigError, match=r"has 2 outputs without names; name them: aspects=\[\.\.\.\]"):
        RewardModel.from_pretrained(tmp_path / "each")
    named = RewardModel.from_pretrained(tmp_path / "each", aspects=["a", "b"])
    assert named.head_.aspects == ("a", "b")
    with pytest.raises(ConfigError, match="was made for 2 outputs, and 3 are named"):
        RewardModel.from_pretrained(tmp_path / "each", aspects=["a", "b", "c"])


def test_an_encoder_is_exported_with_the_intercept_of_its_classifier(minilm: Path, tmp_path: Path) -> None:
    model = RewardModel(str(minilm), mode="finetune", training={**FAST, "lora": 4}).fit(votes())
    there, tokenizer = loaded(model.export(tmp_path / "out"))
    with torch.no_grad():
        batch = tokenizer(PROMPTS, CHOSEN, padding=True, return_tensors="pt")
        expected = there(**batch).logits[:, 0].numpy()
    assert model.score(PROMPTS, CHOSEN).scores == pytest.approx(expected, abs=1e-5)


def test_weights_can_be_written_in_bfloat16(llama: str, tmp_path: Path) -> None:
    model = RewardModel(llama, mode="finetune", training=FAST).fit(votes())
    folder = model.export(tmp_path / "small", dtype="bfloat16")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    again = RewardModel.from_pretrained(folder, dtype="bfloat16").score_data(votes()).scores
    assert again == pytest.approx(model.score_data(votes()).scores, abs=0.02)
    with pytest.raises(ConfigError, match="unknown dtype 'int4'"):
        model.export(tmp_path / "int4", dtype="int4")


def test_what_cannot_be_exported_or_loaded_is_said(llama: str, tmp_path: Path) -> None:
    frozen = RewardModel("features").fit(
        PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1.0, 0.0]]})
    )
    with pytest.raises(ConfigError, match=r"is a network on embeddings, which no other library loads"):
        frozen.export(tmp_path / "x")
    gpm = RewardModel(llama, "gpm", mode="finetune", training=FAST | {"steps": 1}).fit(votes())
    with pytest.raises(ConfigError, match="the head 'gpm' cannot be exported: its outputs are no scores"):
        gpm.export(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="is no trained reward model: it holds no weights for score"):
        RewardModel.from_pretrained(llama)
    with pytest.raises(ConfigError, match="is not one model: it holds neither"):
        RewardModel.from_pretrained(tmp_path)
