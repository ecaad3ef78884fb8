"""Causal language models: loading, adapters, and sampling from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from palate.errors import ConfigError, DataError
from palate.models.generation import generate
from palate.models.lm import CausalLM, LoraSettings, load_causal_lm
from palate.models.log_probs import group_log_probs
from palate.models.tokens import tokenize_groups

pytestmark = pytest.mark.models

PROMPTS = [
    "What is the capital of France?",
    "Name three colors.",
    [{"role": "user", "content": "What is the opposite of hot?"}],
]


@pytest.fixture(scope="module")
def lm(smollm2: Path) -> CausalLM:
    return load_causal_lm(smollm2, device="cpu")


def score(lm: CausalLM) -> float:
    groups = tokenize_groups(lm.tokenizer, ["Say hi."], [["Hello there!"]], max_length=128)
    with torch.no_grad():
        return float(group_log_probs(lm, groups.collate([0])).sum)


def test_greedy_answers_are_sensible(lm: CausalLM) -> None:
    answers = generate(lm, PROMPTS, max_new_tokens=24, temperature=0)
    assert "Paris" in answers[0][0]
    assert {"Red", "Blue"} <= set(answers[1][0].replace(",", " ").split())
    assert "cold" in answers[2][0]
    assert all(len(group) == 1 and "<|" not in group[0] for group in answers)


def test_padding_does_not_change_greedy_answers(smollm2: Path) -> None:
    lm = load_causal_lm(smollm2, device="cpu", dtype="float32")
    alone = [generate(lm, [prompt], max_new_tokens=6, temperature=0)[0] for prompt in PROMPTS]
    assert generate(lm, PROMPTS, max_new_tokens=6, temperature=0) == alone


def test_a_seed_gives_the_same_samples_and_another_seed_others(lm: CausalLM) -> None:
    options = {"max_new_tokens": 8, "temperature": 1.0, "n": 3, "batch_size": 3}
    before = torch.random.get_rng_state()
    first = generate(lm, PROMPTS, seed=1, **options)  # type: ignore[arg-type]
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are left alone"
    assert first == generate(lm, PROMPTS, seed=1, **options)  # type: ignore[arg-type]
    assert first != generate(lm, PROMPTS, seed=2, **options)  # type: ignore[arg-type]
    assert [len(group) for group in first] == [3, 3, 3]
    assert len({text for group in first for text in group}) > 3


def test_a_system_message_reaches_the_model(lm: CausalLM) -> None:
    plain = generate(lm, ["Hello!"], max_new_tokens=12, temperature=0)
    assert generate(lm, ["Hello!"], max_new_tokens=12, temperature=0, system="Answer in French.") != plain


def test_options_out_of_range_are_refused(lm: CausalLM) -> None:
    for options, message in (
        ({"max_new_tokens": 0}, "must be at least 1"),
        ({"temperature": -1}, "temperature must not be negative"),
        ({"top_p": 0}, "top_p in"),
        ({"temperature": 0, "n": 2}, "2 times the same response"),
        ({"max_new_tokens": 9000}, "exceed the model's window of 8192 tokens"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate(lm, ["a"], **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="row 1, field 'prompt'"):
        generate(lm, [[{"role": "user", "content": None}]])


def test_dtype_and_fingerprint(smollm2: Path, lm: CausalLM) -> None:
    exact = load_causal_lm("smollm2-135m-instruct", device="cpu", dtype="float32")
    assert exact.model.dtype == torch.float32
    assert exact.fingerprint == load_causal_lm(smollm2, device="cpu", dtype="float32").fingerprint
    assert exact.fingerprint != load_causal_lm(smollm2, device="cpu", dtype="bfloat16").fingerprint
    assert not exact.model.training
    with pytest.raises(ConfigError, match="unknown dtype 'float8'"):
        load_causal_lm(smollm2, dtype="float8")
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        load_causal_lm(smollm2, device="gpu")


def test_new_adapters_change_nothing_and_alone_are_trained_in_float32(smollm2: Path) -> None:
    plain = load_causal_lm(smollm2, device="cpu", dtype="bfloat16")
    lm = load_causal_lm(smollm2, device="cpu", dtype="bfloat16", lora=LoraSettings(rank=4, seed=1))
    assert score(lm) == score(plain)
    trained = {name: p for name, p in lm.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    again = load_causal_lm(smollm2, device="cpu", dtype="bfloat16", lora=LoraSettings(rank=4, seed=1))
    other = load_causal_lm(smollm2, device="cpu", dtype="bfloat16", lora=LoraSettings(rank=4, seed=2))
    name = next(name for name in trained if "lora_A" in name)
    assert torch.equal(trained[name], dict(again.model.named_parameters())[name])
    assert not torch.equal(trained[name], dict(other.model.named_parameters())[name])
    with pytest.raises(ConfigError, match="LoRA settings cannot be used with this model"):
        load_causal_lm(smollm2, lora=LoraSettings(targets=["no_such_layer"]))


def test_a_saved_adapter_loads_again_and_new_adapters_start_from_it(smollm2: Path, tmp_path: Path) -> None:
    lm = load_causal_lm(smollm2, device="cpu", dtype="float32", lora=LoraSettings(rank=2, targets=["q_proj"]))
    plain = score(lm)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.02)
    trained = score(lm)
    assert abs(trained - plain) > 0.01
    folder = lm.save(tmp_path / "adapter")
    again = load_causal_lm(folder, device="cpu", dtype="float32")
    assert score(again) == pytest.approx(trained, abs=1e-4)
    stacked = load_causal_lm(folder, device="cpu", dtype="float32", lora=LoraSettings(rank=2))
    assert score(stacked) == pytest.approx(trained, abs=1e-3)
    assert len({again.fingerprint, stacked.fingerprint, lm.fingerprint}) == 3

    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/elsewhere/models/smollm2-135m-instruct"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert score(load_causal_lm(folder, device="cpu", dtype="float32")) == pytest.approx(trained, abs=1e-4)


def test_a_saved_model_is_a_plain_folder(smollm2: Path, lm: CausalLM, tmp_path: Path) -> None:
    again = load_causal_lm(lm.save(tmp_path / "model"), device="cpu")
    assert score(again) == score(lm)


def test_folders_that_are_no_model_are_refused(smollm2: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"")
    (tmp_path / "b.gguf").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"it holds a\.gguf, b\.gguf; give the file"):
        load_causal_lm(tmp_path)
    with pytest.raises(ConfigError, match="cannot load model"):
        load_causal_lm(tmp_path / "a.gguf")
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(ConfigError, match="is a file; give the folder"):
        load_causal_lm(tmp_path / "model.txt")
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(smollm2 / "config.json", broken)
    with pytest.raises(ConfigError, match="cannot load model"):
        load_causal_lm(broken)
    (broken / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header")
    with pytest.raises(ConfigError, match="cannot load model"):
        load_causal_lm(broken)
