"""Small files of real judgments for trying the commands."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from palate.cli.app import main
from palate.data import PreferenceData, load
from palate.errors import PalateWarning


@pytest.fixture
def palate(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def text_pairs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three real sets of text preferences, a few hundred judgments each, as Palate Parquet files."""
    folder = tmp_path_factory.mktemp("pairs")
    sets = {"hh": _hh(shared_data), "ukp": _ukp(shared_data), "llmfao": _llmfao(shared_data)}
    for name, data in sets.items():
        data.save(folder / f"{name}.parquet")
    return {name: folder / f"{name}.parquet" for name in sets}


def _hh(shared: Path) -> PreferenceData:
    with pytest.warns(PalateWarning):  # prompts that differ, and empty answers
        data = load(shared / "hh-rlhf-harmless/harmless-base-test.jsonl.gz", format="hh-rlhf")
    return data.sample(120, seed=0)


def _ukp(shared: Path) -> PreferenceData:
    pairs = pl.read_parquet(shared / "ukp-convarg/pairs.parquet").filter(pl.col("strict").is_not_null())
    texts = pl.read_parquet(shared / "ukp-convarg/arguments.parquet").select("argument_id", "text")
    pairs = pairs.sample(240, seed=0)
    for side in ("1", "2"):
        pairs = pairs.join(
            texts.rename({"text": f"text_{side}"}), left_on=f"argument_{side}", right_on="argument_id"
        )
    first = (pairs["strict"] == "a1").cast(pl.Float64)
    return PreferenceData.from_columns(
        {
            "prompt": pairs["topic"].to_list(),
            "prompt_id": pairs["pair_id"].to_list(),
            "responses": [list(row) for row in pairs.select("text_1", "text_2").iter_rows()],
            "scores": [[x, 1 - x] for x in first],
            "protocol": ["comparison"] * pairs.height,
        }
    )


def _llmfao(shared: Path) -> PreferenceData:
    with gzip.open(shared / "llmfao/pairs-crowd.jsonl.gz", "rt", encoding="utf-8") as file:
        shown = {row["id"]: row for row in map(json.loads, file)}
    packed = (shared / "llmfao/gpt4-crowd-comparisons.csv.gz").read_bytes()
    votes = pl.read_csv(gzip.decompress(packed)).sample(300, seed=0)
    rows = list(votes.iter_rows(named=True))
    scores = {"left": [1.0, 0.0], "right": [0.0, 1.0], "tie": [1.0, 1.0]}
    return PreferenceData.from_columns(
        {
            "prompt": [shown[row["id"]]["text"] for row in rows],
            "prompt_id": [str(row["id"]) for row in rows],
            "items": [[row["left"], row["right"]] for row in rows],
            "responses": [[shown[row["id"]]["result_x"], shown[row["id"]]["result_y"]] for row in rows],
            "scores": [scores[row["winner"]] for row in rows],
            "annotator": ["gpt-4"] * len(rows),
            "annotator_kind": ["model"] * len(rows),
            "protocol": ["comparison"] * len(rows),
        }
    )


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """The 22 games of the Bradley-Terry example, as arena battles."""
    games = {"AB": (2, 3), "AD": (1, 4), "BC": (5, 3), "CD": (1, 3)}
    lines = ["model_a,model_b,winner"]
    for (a, b), (left, right) in ((tuple(pair), wins) for pair, wins in games.items()):
        lines += [f"{a},{b},model_a"] * left + [f"{a},{b},model_b"] * right
    path = tmp_path / "votes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
