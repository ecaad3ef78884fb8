"""`palate rank`: win rates at equal length, and options that are JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest


@pytest.fixture
def against_baseline(tmp_path: Path) -> Path:
    rng = random.Random(0)
    path = tmp_path / "against.jsonl"
    with path.open("w") as file:
        for prompt in range(60):
            for model, strength, verbosity in (("terse", 0.3, 1.0), ("verbose", -0.3, 2.5)):
                own, other = (int(50 * factor * rng.uniform(0.5, 1.5)) for factor in (verbosity, 1.0))
                won = rng.random() < 1 / (1 + 2.718 ** -(strength + 0.6 * (own - other) / 60))
                row = {
                    "prompt": f"p{prompt}", "model_a": model, "model_b": "base", "response_a": "x" * own,
                    "response_b": "y" * other, "winner": "model_a" if won else "model_b",
                }  # fmt: skip
                file.write(json.dumps(row) + "\n")
    return path


def test_win_rates_at_equal_length_take_verbosity_away(palate, against_baseline, tmp_path):
    table = tmp_path / "lc.csv"
    code, out, _ = palate("rank", against_baseline, "--length-controlled", "base", "--json", "--csv", table)
    assert code == 0
    rows = {row["item"]: row for row in json.loads(out)["items"]}
    assert rows["base"]["length_controlled"] == 50
    assert rows["verbose"]["win_rate"] - rows["verbose"]["length_controlled"] > 10
    assert abs(rows["terse"]["win_rate"] - rows["terse"]["length_controlled"]) < 10
    assert set(pl.read_csv(table)["item"]) == {"base", "terse", "verbose"}
    code, out, _ = palate("rank", against_baseline, "--length-controlled", "base")
    assert code == 0
    assert "win rates against base" in out


def test_it_is_a_table_of_its_own(palate, against_baseline):
    for wrong in (["--by", "aspect"], ["--set", "l2=1"], ["--plot", "x.html"]):
        code, _, err = palate("rank", against_baseline, "--length-controlled", "base", *wrong)
        assert code == 2
        assert "--length-controlled is a table of its own" in err
    code, _, err = palate("rank", against_baseline, "--length-controlled", "nobody")
    assert code == 2
    assert "unknown baseline 'nobody'" in err


def test_an_option_may_be_json(palate, against_baseline):
    code, out, _ = palate("rank", against_baseline, "--set", 'anchor={"base": 1500}', "--json")
    assert code == 0
    rating = {row["item"]: row["rating"] for row in json.loads(out)["items"]}
    assert rating["base"] == 1500
