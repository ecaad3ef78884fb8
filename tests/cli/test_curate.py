"""Cleaning and filtering pairs from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from palate.data import PreferenceData, load
from palate.reward import RewardModel

Palate = Callable[..., tuple[int, str, str]]
LONG = "please tell me in your own words why the sky over the sea is blue today"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    PreferenceData.from_columns(
        {
            "prompt": ["p", "p", "p", LONG, "q"],
            "responses": [["a", "bbb"], ["a", "bbb"], ["a", "cc"], ["a", "b"], ["a", " "]],
            "scores": [[0, 1], [0, 1], [0, 1], [1, 0], [1, 0]],
        }
    ).save(path)
    return path


def test_equal_and_empty_pairs_are_left_out(palate: Palate, pairs: Path, tmp_path: Path) -> None:
    out, why = tmp_path / "clean.parquet", tmp_path / "dropped.jsonl"
    code, printed, err = palate("curate", "dedup", pairs, out, "--dropped", why, "--json")
    assert code == 0, err
    assert json.loads(printed) == {"read": 5, "kept": 3, "empty": 1, "duplicate": 1}
    assert load(out).n_rows == 3
    assert [json.loads(line)["reason"] for line in why.read_text().splitlines()] == ["duplicate", "empty"]


def test_questions_of_a_benchmark_are_left_out(palate: Palate, pairs: Path, tmp_path: Path) -> None:
    held, out = tmp_path / "held.txt", tmp_path / "clean.parquet"
    held.write_text(f"short\n{LONG.upper()}!\n")
    code, printed, _ = palate("curate", "decontaminate", pairs, out, "--benchmark", held, "--json")
    assert code == 0
    assert json.loads(printed) == {"read": 5, "kept": 4, "contaminated": 1, "texts": 2, "too_short": 1}
    code, _, err = palate("curate", "decontaminate", pairs, out)
    assert code == 2
    assert "--benchmark" in err


def test_labels_are_filtered_by_two_models_and_a_third_judge(palate: Palate, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2, 3))
    first = x[:, 0, 0] > x[:, 1, 0]
    x[:, 0, 0] += np.where(first, 3.0, -3.0)
    columns = {"features": x.tolist(), "responses": [["long text", "short"]] * 60}
    right = PreferenceData.from_columns(columns | {"scores": np.stack([first, ~first], 1).astype(float)})
    RewardModel("features").fit(right).save(tmp_path / "model")
    wrong = first.copy()
    wrong[:20] = ~wrong[:20]
    right.with_columns(scores=np.stack([wrong, ~wrong], 1).astype(float)).save(tmp_path / "wild.parquet")
    model = ("--gold", tmp_path / "model", "--best", tmp_path / "model")
    command = ("curate", "consistency", tmp_path / "wild.parquet", tmp_path / "kept.parquet", *model)
    rest = tmp_path / "rest.parquet"
    code, printed, err = palate(*command, "--undecided", rest, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert (found["keep"], found["flip"], found["discard"], found["needs_llm"]) == (40, 0, 0, 20)
    assert load(rest).n_rows == 20
    code, printed, _ = palate(*command, "--llm", "length", "--recycle", "--json")
    found = json.loads(printed)
    # The longer answer is listed first: length objects to those labels that prefer the second.
    assert found["flip"] == int((~wrong[:20]).sum())
    assert found["flip"] + found["discard"] == 20
    assert load(tmp_path / "kept.parquet").n_rows == found["written"] == 40 + found["flip"]
    assert palate(*command, "--threshold", "0.2")[0] == 2


def test_a_name_that_cannot_be_written_is_said_before_a_judge_is_loaded(
    palate: Palate, pairs: Path, tmp_path: Path
) -> None:
    judged = ("--gold", "length", "--best", "no judge at all")
    for output, more, message in (
        ("kept.weird", (), "cannot tell how to store it"),
        ("kept.csv", (), "a table can hold several formats"),
        ("kept.jsonl", ("--undecided", tmp_path / "rest.weird"), "rest.weird: cannot tell how to store it"),
        ("kept.jsonl", (), "'no judge at all' is no judge"),
    ):
        code, _, err = palate("curate", "consistency", pairs, tmp_path / output, *judged, *more)
        assert code == 2
        assert message in err


def test_every_part_shows_an_example(palate: Palate) -> None:
    for name in ("dedup", "decontaminate", "consistency"):
        code, out, _ = palate("curate", name, "--help")
        assert code == 0
        assert f"palate curate {name}" in out
