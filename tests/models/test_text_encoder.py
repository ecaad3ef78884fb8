"""Text encoders: what the vectors mean, and that nothing but the text decides them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ConfigError, PalateWarning
from palate.models.encoder import TextEncoder, load_encoder

pytestmark = pytest.mark.models

TEXTS = [
    "A cat sits on the mat.",
    "A kitten is sitting on a rug.",
    "Stock prices fell sharply on Monday.",
    "",
    "naïve café 日本語 🙂",
    "word " * 150,
    "Short.",
]


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> TextEncoder:
    return load_encoder(minilm, device="cpu")


def test_paraphrases_are_closer_than_unrelated_texts(encoder: TextEncoder) -> None:
    cat, kitten, stocks = encoder.encode(TEXTS[:3])
    assert cat @ kitten > 0.6
    assert cat @ stocks < 0.2


def test_vectors_are_unit_float32_of_the_stated_size(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), 384), np.float32)
    assert encoder.dim == 384
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert encoder.encode([]).shape == (0, 384)


def test_neither_batch_nor_order_shows_in_a_vector(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS)
    np.testing.assert_array_equal(together, encoder.encode(TEXTS))
    for size in (1, 2, 5):
        np.testing.assert_allclose(together, encoder.encode(TEXTS, batch_size=size), atol=1e-5)
    np.testing.assert_allclose(together[::-1], encoder.encode(TEXTS[::-1]), atol=1e-5)


def test_the_vector_is_the_mean_over_the_tokens_as_the_model_states(encoder: TextEncoder) -> None:
    import torch

    inputs = encoder.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        states = encoder.model(**inputs).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(encoder.encode([TEXTS[0]])[0], states / states.norm(), atol=1e-6)


def test_texts_longer_than_the_window_are_counted_not_silently_cut(encoder: TextEncoder) -> None:
    assert encoder.max_length == 256
    long = "word " * 400
    with pytest.warns(
        PalateWarning, match=r"1 of 2 texts are longer than the 256 tokens .* \(the longest has 402\)"
    ):
        vectors = encoder.encode([long, "Short."])
    np.testing.assert_allclose(vectors[0], encoder.encode(["word " * 254])[0], atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(["word " * 254])


def test_a_smaller_window_can_be_asked_for_but_not_a_larger_one(minilm: Path, encoder: TextEncoder) -> None:
    assert load_encoder(minilm, max_length=32).max_length == 32
    assert load_encoder(minilm, max_length=1000).max_length == 256


def test_the_fingerprint_follows_all_that_the_vectors_depend_on(
    minilm: Path, encoder: TextEncoder, tmp_path: Path
) -> None:
    assert load_encoder("all-minilm-l6-v2", device="cpu").fingerprint == encoder.fingerprint
    shutil.copytree(minilm, tmp_path / "copy")
    assert load_encoder(tmp_path / "copy").fingerprint == encoder.fingerprint
    weights = tmp_path / "copy/model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    others = {
        load_encoder(tmp_path / "copy").fingerprint,
        load_encoder(minilm, max_length=32).fingerprint,
        load_encoder(minilm, pooling="cls").fingerprint,
        load_encoder(minilm, dtype="bfloat16").fingerprint,
    }
    assert len(others - {encoder.fingerprint}) == 4


def test_steps_that_are_not_known_are_refused(minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(minilm, folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(
        json.dumps([*modules, {"type": "sentence_transformers.models.Dense", "path": "3"}])
    )
    with pytest.raises(ConfigError, match="has a step 'Dense', which is not known"):
        load_encoder(folder)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ConfigError, match="pooling pooling_mode_max_tokens is not known"):
        load_encoder(folder)
    with pytest.raises(ConfigError, match="unknown pooling 'max'"):
        load_encoder(minilm, pooling="max")  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_causal_model_is_an_encoder_too(smollm2: Path, pooling: str) -> None:
    encoder = load_encoder(smollm2, pooling=pooling, max_length=64, device="cpu")  # type: ignore[arg-type]
    texts = ["The weather is nice.", "Cats sleep a lot during the day and hunt at night.", "x"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, 576)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, encoder.encode(texts, batch_size=1), atol=1e-4)


def test_a_model_that_cannot_be_had_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot load model 'nobody/no-such-model': .*all-minilm-l6-v2"
    ) as caught:
        load_encoder("nobody/no-such-model")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"is not one model: it holds neither config.json nor a GGUF file"):
        load_encoder(tmp_path)
