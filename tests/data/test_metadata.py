"""Metadata is read and written by key, without a row losing what it held."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from palate.data import PreferenceData, metadata
from palate.errors import ConfigError


def votes(*texts: str | None) -> PreferenceData:
    n = len(texts)
    return PreferenceData.from_columns(
        {"items": [["a", "b"]] * n, "scores": [[1.0, 0.0]] * n, "metadata": list(texts)}
    )


def test_new_keys_stand_beside_the_old_ones_whatever_a_text_holds() -> None:
    data = votes(None, "{}", ' {"turn": {"n": 3}} ', '{"a": "\\"}", "b": "ä, {"}')
    made = metadata.with_values(
        data, {"mu": np.array([0.1, np.nan, -1e-9, 2.0]), "flip": [True, None, False, True]}
    )
    assert metadata.values(made, "mu") == pytest.approx([0.1, np.nan, -1e-9, 2.0], nan_ok=True)
    assert metadata.values(made, "flip") == pytest.approx([1.0, np.nan, 0.0, 1.0], nan_ok=True)
    assert metadata.values(made, "turn.n")[2] == 3
    assert metadata.values(made, "a")[3] == '"}'
    assert metadata.values(made, "b")[3] == "ä, {"


def test_a_key_that_is_there_is_replaced_where_it_stands_and_not_inside_other_values() -> None:
    data = votes('{"margin": 1, "old": {"margin": 2}}', '{"margin": null}', '{"other": 5}')
    made = metadata.with_values(data, {"margin": pl.Series([7.0, 8.0, 9.0])})
    assert metadata.values(made, "margin").tolist() == [7.0, 8.0, 9.0]
    assert metadata.values(made, "old.margin")[0] == 2
    assert metadata.values(made, "other")[2] == 5
    assert '"margin": null' not in made.values("metadata")[1]


def test_data_without_metadata_gets_some_and_lengths_must_agree() -> None:
    bare = PreferenceData.from_columns({"items": [["a", "b"]], "scores": [[1.0, 0.0]]})
    assert metadata.values(metadata.with_values(bare, {"mu": [float("nan")], "w": [1.5]}), "w").tolist() == [
        1.5
    ]
    with pytest.raises(ConfigError, match="metadata for 2 judgments where there are 1"):
        metadata.with_values(bare, {"mu": [1.0, 2.0]})
