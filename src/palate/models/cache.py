"""Embeddings on disk: a text is encoded once per encoder, whoever asks and however often.

One SQLite file (write-ahead log) per encoder fingerprint, in ``<cache>/embeddings/``, maps the sha256 of a
text to its vector and its length in tokens. Batches are committed as they finish, and processes share a file.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palate.errors import ConfigError
from palate.models.zoo import cache_folder
from palate.progress import progress

if TYPE_CHECKING:
    from palate.models.encoder import TextEncoder

_COMMIT = 512
_ASK = 10_000
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS embeddings (
        text BLOB PRIMARY KEY, tokens INTEGER NOT NULL, vector BLOB NOT NULL
    )
"""


def embed(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    cache: bool | str | os.PathLike[str] = True,
    batch_size: int = 64,
) -> npt.NDArray[np.float32]:
    """Vectors of `texts`, shape (n, dim), float32; each distinct text is encoded at most once, ever.

    Args:
        cache: true for the user cache, a folder, or false to keep nothing.
        batch_size: texts that go through the encoder at once.

    Raises:
        ConfigError: the cache cannot be read or written.

    Warns:
        PalateWarning: texts are longer than the encoder's window, whether they come from the cache or not.
    """
    vectors, lengths = embed_counting(encoder, texts, cache=cache, batch_size=batch_size)
    encoder.warn_of_cuts(lengths)
    return vectors


def embed_counting(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    cache: bool | str | os.PathLike[str] = True,
    batch_size: int = 64,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """As `embed` without the warning, and each text's length in tokens before it is cut, shape (n,)."""
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    rows = {key: row for row, key in reversed(list(enumerate(keys)))}
    number = {key: place for place, key in enumerate(rows)}
    places = np.fromiter((number[key] for key in keys), dtype=np.int64, count=len(keys))
    distinct = [texts[row] for row in rows.values()]
    if cache is False:
        vectors, lengths = encoder.encode_counting(distinct, batch_size, show_progress=True)
    else:
        folder = cache_folder("embeddings") if cache is True else Path(cache)
        with _opened(folder / f"{encoder.fingerprint}.sqlite") as store:
            vectors, lengths = _through(store, encoder, list(rows), distinct, batch_size)
    return vectors[places], lengths[places]


def _through(
    store: sqlite3.Connection, encoder: TextEncoder, keys: list[bytes], texts: list[str], batch_size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Vectors and lengths of distinct `texts`, read from `store` or encoded and written to it."""
    vectors = np.empty((len(keys), encoder.dim), dtype=np.float32)
    lengths = np.empty(len(keys), dtype=np.int64)
    place = {key: row for row, key in enumerate(keys)}
    missing = np.ones(len(keys), dtype=bool)
    for start in range(0, len(keys), _ASK):
        asked = keys[start : start + _ASK]
        marks = ",".join("?" * len(asked))
        found = store.execute(
            f"SELECT text, tokens, vector FROM embeddings WHERE text IN ({marks})", asked
        ).fetchall()
        if found:
            at = [place[key] for key, _, _ in found]
            read = np.frombuffer(b"".join(vector for _, _, vector in found), dtype="<f4")
            if read.size != len(found) * encoder.dim:
                raise sqlite3.DatabaseError("vectors of another size")
            vectors[at] = read.reshape(len(found), encoder.dim)
            lengths[at] = [tokens for _, tokens, _ in found]
            missing[at] = False
    # Texts of similar length share a batch here too: `encode` sorts only within what is committed at once.
    todo = sorted(np.flatnonzero(missing).tolist(), key=lambda row: len(texts[row]))
    with progress("Encoding texts", total=len(todo)) as bar:
        for start in range(0, len(todo), _COMMIT):
            part = todo[start : start + _COMMIT]
            vectors[part], lengths[part] = encoder.encode_counting([texts[row] for row in part], batch_size)
            with store:
                store.executemany(
                    "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)",
                    [(keys[row], int(lengths[row]), vectors[row].astype("<f4").tobytes()) for row in part],
                )
            bar.advance(len(part))
    return vectors, lengths


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=120)) as store:
            store.execute("PRAGMA journal_mode=WAL")
            store.execute("PRAGMA synchronous=NORMAL")
            store.execute(_SCHEMA)
            yield store
    except (sqlite3.DatabaseError, OSError) as error:
        raise ConfigError(
            f"the embedding cache {path} cannot be used: {error}; remove that file, or give another cache"
        ) from error
