"""Real votes that several tests of ranking use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate.data import PreferenceData


@pytest.fixture(scope="session")
def model_votes(shared_data: Path) -> PreferenceData:
    """Votes of crowd workers on answers of language models (llmfao)."""
    frame = pl.read_csv(shared_data / "llmfao" / "crowd-comparisons.csv.gz")
    scores = np.stack([frame["winner"] != "right", frame["winner"] != "left"], axis=1).astype(float)
    return PreferenceData.from_columns(
        {
            "items": frame.select(pl.concat_list("left", "right").alias("items"))["items"].to_arrow(),
            "scores": scores,
            "annotator": frame["worker"].cast(pl.String).to_arrow(),
        }
    )


@pytest.fixture(scope="session")
def argument_votes(shared_data: Path) -> PreferenceData:
    """Votes of crowd workers on which of two arguments convinces more (ukp-convarg)."""
    folder = shared_data / "ukp-convarg"
    frame = pl.read_parquet(folder / "judgments.parquet").join(
        pl.read_parquet(folder / "pairs.parquet"), on="pair_id"
    )
    choice = frame["choice"].to_numpy()
    return PreferenceData.from_columns(
        {
            "items": frame.select(pl.concat_list("argument_1", "argument_2").alias("i"))["i"].to_arrow(),
            "scores": np.stack([choice != "a2", choice != "a1"], axis=1).astype(float),
            "annotator": frame["annotator"].to_arrow(),
            "time": frame["submitted"].to_arrow(),
        }
    )
