"""A reward model trained from the command line can choose its step on held-out prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from palate.data import PreferenceData
from palate.report.run_folder import read_metrics
from palate.reward import RewardModel

Palate = Callable[..., tuple[int, str, str]]


def pairs(n: int) -> PreferenceData:
    """Two pairs a prompt; the first number of a vector decides, but for one pair in five."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(n, 2, 4))
    first = (x[:, 0, 0] > x[:, 1, 0]) ^ (rng.random(n) < 0.2)
    scores = np.stack([first, ~first], axis=1).astype(float)
    prompts = [f"p{i // 2}" for i in range(n)]
    return PreferenceData.from_columns({"prompt": prompts, "features": x.tolist(), "scores": scores.tolist()})


def test_the_command_line_holds_out_prompts_to_choose_the_step_by(palate: Palate, tmp_path: Path) -> None:
    pairs(120).save(tmp_path / "pairs.parquet")
    out = tmp_path / "out"
    told = ["train", "reward", str(tmp_path / "pairs.parquet"), "--encoder", "features", "--out", str(out)]
    steps = [part for name in ("steps=12", "eval_steps=3", "select=best") for part in ("--training", name)]
    code, _, err = palate(*told, *steps, "--validation", "0.25")
    assert code == 0, err
    model = RewardModel.load(out / "model")
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "validation_loss" in row]
    best = min(rows, key=lambda row: row["validation_loss"])
    assert (model.fit_["best_step"], [row["step"] for row in rows]) == (best["step"], [3, 6, 9, 12])
    assert model.n_groups_ == 72  # of 120 pairs a fifth is held out, then a quarter
    code, _, err = palate(*told, "--loss", "hinge,bradley_terry", "--validation", "0.25")
    assert code != 0
    assert "--validation goes with one model" in err
