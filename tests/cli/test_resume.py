"""A killed alignment goes on to the same policy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from palate.data.resources import verifiable_instructions


@pytest.mark.models
@pytest.mark.slow
def test_a_killed_alignment_of_smollm2_resumes_to_the_same_weights(tmp_path: Path, smollm2: Path) -> None:
    data = tmp_path / "pairs.parquet"
    verifiable_instructions().sample(40, seed=2).save(data)
    settings = [
        word
        for name, value in {
            "steps": 6,
            "save_steps": 2,
            "batch_size": 2,
            "max_length": 256,
            "lora": 4,
        }.items()
        for word in ("--set", f"{name}={value}")
    ]

    def command(out: str) -> list[str]:
        return [sys.executable, "-m", "palate", "align", str(smollm2), str(data), "--out", out, *settings]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(str(whole)), check=True, capture_output=True)
    with subprocess.Popen(command(str(cut)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while not list(cut.glob("checkpoints/*/checkpoint-*/palate.json")):
            assert running.poll() is None, "the run ended before its first checkpoint was seen"
            time.sleep(0.05)
        running.kill()
    assert not (cut / "model").exists()
    subprocess.run(command(str(cut)), check=True, capture_output=True)
    first, second = (load_file(run / "model" / "adapter_model.safetensors") for run in (whole, cut))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
