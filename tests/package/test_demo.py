"""The demo on a user's own file, interrupted and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palate.data.resources import verifiable_instructions


def _demo(data: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-u",
        "-m",
        "palate",
        "demo",
        "--data",
        str(data),
        "--out",
        str(out),
        "--steps",
        "2",
    ]


@pytest.mark.models
def test_an_interrupted_demo_leaves_a_run_that_resumes(tmp_path: Path, smollm2: Path, minilm: Path) -> None:
    data, out = tmp_path / "own.parquet", tmp_path / "demo"
    verifiable_instructions().sample(24, seed=1).save(data)
    with subprocess.Popen(_demo(data, out), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("Align"):
                running.send_signal(signal.SIGINT)
                break
        running.stdout.read()
    assert running.returncode == 130
    done = json.loads((out / "state.json").read_text("utf-8"))["done"]
    assert done == ["inspect", "rank", "reward", "judge"]
    before = (out / "5_reward_model.json").stat().st_mtime_ns

    again = subprocess.run(_demo(data, out), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (out / "5_reward_model.json").stat().st_mtime_ns == before
    assert (out / "policy" / "model" / "adapter_model.safetensors").exists()
    page = (out / "report.html").read_text("utf-8")
    for heading in ("What happened", "Leaderboard", "Reward model on held-out prompts", "before and after"):
        assert heading in page

    other = [*_demo(data, out), "--seed", "1"]
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "other settings (seed)" in refused.stderr


def test_a_file_without_texts_is_ranked_and_reported(tmp_path: Path, votes_csv: Path) -> None:
    run = subprocess.run(_demo(votes_csv, tmp_path / "demo"), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "nothing to align" in run.stdout
    assert (tmp_path / "demo" / "report.html").exists()


@pytest.fixture
def votes_csv(tmp_path: Path) -> Path:
    path = tmp_path / "votes.csv"
    path.write_text("model_a,model_b,winner\n" + "a,b,model_a\nb,a,model_a\nb,c,tie\n" * 5, encoding="utf-8")
    return path
