"""Reward models of several sizes on more and more data, in one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import palate as library
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.evaluate import sweep
from palate.evaluate.sweep import trained_parameters
from palate.reward import RewardModel

Palate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def choices(tmp_path: Path) -> Path:
    """600 pairs, two to a prompt; a linear taste decides those of kind "fact", chance those of "whim"."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2, 5))
    value = 2 * x[..., 0] - x[..., 1]
    first = rng.random(600) < 1 / (1 + np.exp(value[:, 1] - value[:, 0]))
    whim = np.arange(600) % 2 == 1
    first[whim] = rng.random(300) < 0.5
    data = PreferenceData.from_columns(
        {
            "prompt": [f"p{i // 2}" for i in range(600)],
            "features": x.tolist(),
            "scores": np.stack([first, ~first], axis=1).astype(float).tolist(),
            "metadata": [json.dumps({"kind": "whim" if w else "fact"}) for w in whim],
        }
    )
    data.save(tmp_path / "choices.parquet")
    return tmp_path / "choices.parquet"


def command(file: Path, out: Path, *more: str) -> tuple[str, ...]:
    return (
        "train",
        "sweep",
        str(file),
        "--encoder",
        "features",
        "--out",
        str(out),
        "--set",
        "l2=0.01",
        *more,
    )


def test_one_command_fits_the_law_of_every_class(palate: Palate, choices: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    models = ("--hidden", "0", "--hidden", "2", "--hidden", "4,3", "--set", "max_iter=40")
    more = (*models, "--sizes", "30,80,200,480", "--seeds", "2")
    call = command(choices, out, *more, "--by", "kind", "--class", "checkable=fact", "--class", "any=all")
    code, printed, err = palate(*call, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert {(row["class"], row["model"]) for row in found["laws"]} == {
        (name, f"hidden {widths}") for name in ("checkable", "any") for widths in ("none", "2", "4×3")
    }
    assert [row["class"] for row in found["joint"]] == ["checkable", "any"]
    cells = pl.read_csv(out / "losses.csv")
    assert cells.height == 3 * 4 * 2 * 3
    assert set(cells["group"]) == {"all", "fact", "whim"}
    # One weight a feature, and one all responses share.
    assert cells.filter(model="hidden none")["parameters"][0] == 6
    assert cells.filter(model="hidden 2")["parameters"][0] == 5 * 2 + 2 + 2 + 1
    linear = cells.filter(model="hidden none", n=480)
    assert linear.filter(group="fact")["loss"].mean() < 0.55
    assert linear.filter(group="whim")["loss"].mean() > 0.69
    assert "What more data is worth" in (out / "report.html").read_text("utf-8")
    code, printed, _ = palate(*call)
    assert code == 0
    assert "checkable, hidden none: L = " in printed


def test_a_sweep_goes_on_with_the_cells_that_are_not_there(
    palate: Palate, choices: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    call = command(choices, out, "--points", "3", "--seeds", "1", "--json")
    first = palate(*call)
    assert first[0] == 0, first[2]
    cells = sorted((out / "cells").iterdir())
    assert len(cells) == 3
    before = cells[0].stat().st_mtime_ns
    cells[2].unlink()
    again = palate(*call)
    assert again[1] == first[1]
    assert cells[0].stat().st_mtime_ns == before
    assert cells[2].exists()
    code, _, err = palate(*command(choices, out, "--points", "3", "--seeds", "2"))
    assert code == 2
    assert "other settings (seeds)" in err


def test_a_cell_holds_the_loss_of_the_model_fitted_to_its_sample(choices: Path, tmp_path: Path) -> None:
    data = library.load(choices)
    learn, held_out = data.split(0.2, by="prompt", seed=0)
    settings = {"encoder": "features", "l2": 0.02}
    table = sweep(data, tmp_path / "a", sizes=[learn.n_rows], seeds=1, settings=settings)
    model = RewardModel(**settings).fit(learn)
    scores, wanted = model.score_data(held_out).scores, held_out.scores.reshape(-1, 2)
    gap = (scores[:, 0] - scores[:, 1]) * np.sign(wanted[:, 0] - wanted[:, 1])
    row = table.row(0, named=True)
    assert row["loss"] == pytest.approx(np.log1p(np.exp(-gap)).mean(), rel=1e-6)
    assert row["accuracy"] == pytest.approx((gap > 0).mean())
    assert row["pairs"] == held_out.n_rows
    assert row["parameters"] == trained_parameters(model)
    given = sweep(learn, tmp_path / "b", sizes=[learn.n_rows], seeds=1, settings=settings, test=held_out)
    assert given["loss"][0] == pytest.approx(row["loss"])


def test_what_cannot_be_swept_is_said(palate: Palate, choices: Path, tmp_path: Path) -> None:
    for number, (options, message) in enumerate(
        [
            (("--sizes", "10,100,1000"), "different numbers from 1 to the 480 judgments"),
            (("--sizes", "few"), "--sizes 'few' is not a list of whole numbers"),
            (("--set", "loss=hinge"), "scores under the loss 'hinge' are no log-odds"),
            (("--hidden", "4", "--hidden", "4"), "models that differ; got hidden 4, hidden 4"),
            (("--seeds", "0"), "seeds and points must be 1 or more"),
            (("--sizes", "50,100"), "--sizes: 2 different sizes do not show a law"),
            (("--points", "2"), "--points: 2 different sizes do not show a law"),
            (("--class", "fact=fact"), "say with --by what the groups are"),
            (("--by", "nothing"), "unknown slice 'nothing'"),
        ]
    ):
        code, _, err = palate(*command(choices, tmp_path / str(number), *options))
        assert code == 2, options
        assert message in err
    data = library.load(choices)
    tied = data.take(range(20)).with_columns(scores=[[1.0, 1.0]] * 20)
    with pytest.raises(DataError, match="every test pair is tied"):
        sweep(data, tmp_path / "tied", sizes=[50], seeds=1, test=tied, settings={"encoder": "features"})
    with pytest.raises(ConfigError, match="unknown parameter"):
        sweep(data, tmp_path / "x", settings={"encoders": "features"})
