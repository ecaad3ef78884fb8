"""The embedding cache: each text once per encoder, whatever is interrupted and whoever else writes."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ConfigError, PalateWarning
from palate.models import cache as cache_module
from palate.models.cache import embed
from palate.models.encoder import TextEncoder, load_encoder

pytestmark = pytest.mark.models

TEXTS = ["one", "two", "one", "three 🙂", "", "two"]


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> TextEncoder:
    return load_encoder(minilm, device="cpu")


def stored(folder: Path) -> int:
    (path,) = folder.glob("*.sqlite")
    with sqlite3.connect(path) as store:
        return int(store.execute("SELECT count(*) FROM embeddings").fetchone()[0])


class Interrupting(TextEncoder):
    """An encoder that stops, as by Ctrl-C, after some calls."""

    calls_left = 1
    seen = 0

    def encode_counting(self, texts, batch_size=64, show_progress=False):  # type: ignore[no-untyped-def]
        if self.calls_left == 0:
            raise KeyboardInterrupt
        self.calls_left -= 1
        self.seen += len(texts)
        return super().encode_counting(texts, batch_size, show_progress)


def watched(encoder: TextEncoder, calls: int) -> Interrupting:
    made = Interrupting(**vars(encoder))
    made.calls_left = calls
    return made


@pytest.mark.parametrize("keep", [True, False])
def test_vectors_are_the_encoders_in_the_order_of_the_texts(
    encoder: TextEncoder, tmp_path: Path, keep: bool
) -> None:
    found = embed(encoder, TEXTS, cache=tmp_path if keep else False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, encoder.encode(TEXTS), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    assert embed(encoder, [], cache=tmp_path if keep else False).shape == (0, 384)


def test_a_text_is_encoded_once(encoder: TextEncoder, tmp_path: Path) -> None:
    first = embed(encoder, TEXTS, cache=tmp_path)
    assert stored(tmp_path) == 4
    again = embed(watched(encoder, 0), TEXTS[::-1], cache=tmp_path)
    np.testing.assert_array_equal(again, first[::-1])
    partly = watched(encoder, 1)
    embed(partly, [*TEXTS, "four"], cache=tmp_path)
    assert partly.seen == 1


def test_another_encoder_does_not_read_these_vectors(
    encoder: TextEncoder, minilm: Path, tmp_path: Path
) -> None:
    embed(encoder, TEXTS, cache=tmp_path)
    other = load_encoder(minilm, device="cpu", pooling="cls")
    assert not np.allclose(embed(other, TEXTS, cache=tmp_path), embed(encoder, TEXTS, cache=tmp_path))
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_an_interruption_loses_at_most_a_batch(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_COMMIT", 10)
    texts = [f"text number {i}" for i in range(35)]
    with pytest.raises(KeyboardInterrupt):
        embed(watched(encoder, 2), texts, cache=tmp_path)
    assert stored(tmp_path) == 20
    rest = watched(encoder, 10)
    found = embed(rest, texts, cache=tmp_path)
    assert rest.seen == 15
    np.testing.assert_allclose(found, encoder.encode(texts), atol=1e-5)


def test_a_cut_text_is_reported_also_when_it_comes_from_the_cache(
    encoder: TextEncoder, tmp_path: Path
) -> None:
    texts = ["word " * 400, "short", "word " * 400]
    for _ in range(2):
        with pytest.warns(PalateWarning, match="2 of 3 texts are longer than the 256 tokens"):
            embed(encoder, texts, cache=tmp_path)


def test_the_user_cache_is_the_default(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    embed(encoder, ["a"])
    assert (tmp_path / "embeddings" / f"{encoder.fingerprint}.sqlite").exists()


def test_a_broken_cache_file_is_named(encoder: TextEncoder, tmp_path: Path) -> None:
    path = tmp_path / f"{encoder.fingerprint}.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(
        ConfigError, match=rf"the embedding cache .*{path.name} cannot be used: .*; remove that file"
    ):
        embed(encoder, ["a"], cache=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        embed(encoder, ["a"], cache=tmp_path / "file")


def _embed_here(folder: str, start: int) -> None:
    import torch

    torch.set_num_threads(1)
    encoder = load_encoder("all-minilm-l6-v2", device="cpu")
    embed(encoder, [f"text {i}" for i in range(start, start + 60)], cache=folder, batch_size=8)


def test_processes_share_a_cache(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_embed_here, args=(str(tmp_path), start)) for start in (0, 20)]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0, 0]
    assert stored(tmp_path) == 80
    texts = [f"text {i}" for i in range(80)]
    np.testing.assert_allclose(
        embed(watched(encoder, 0), texts, cache=tmp_path), encoder.encode(texts), atol=1e-5
    )
