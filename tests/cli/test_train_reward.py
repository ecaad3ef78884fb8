"""Comparing heads and losses in one command."""

from __future__ import annotations

import _thread
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.evaluate import compare_reward_models
from palate.evaluate.reward_models import combinations, slug
from palate.report import Report
from palate.reward import RewardModel, heads

Palate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def choices(tmp_path: Path) -> Path:
    """300 pairs of feature vectors whose first two entries decide, two pairs a prompt, in two categories."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2, 4))
    value = 2.0 * x[..., 0] - x[..., 1]
    first = rng.random(300) < 1 / (1 + np.exp(value[:, 1] - value[:, 0]))
    data = PreferenceData.from_columns(
        {
            "prompt": [f"p{i // 2}" for i in range(300)],
            "features": x.tolist(),
            "scores": np.stack([first, ~first], axis=1).astype(float).tolist(),
            "metadata": [json.dumps({"kind": "ab"[i % 2]}) for i in range(300)],
        }
    )
    path = tmp_path / "choices.parquet"
    data.save(path)
    return path


def command(file: Path, out: Path, *more: str) -> tuple[str, ...]:
    return ("train", "reward", str(file), "--encoder", "features", "--out", str(out), *more)


def test_every_head_is_fitted_with_every_loss_on_the_same_pairs(
    palate: Palate, choices: Path, tmp_path: Path
) -> None:
    out = tmp_path / "which"
    losses = "bradley_terry,hinge,bradley_terry + 0.01*centering"
    code, printed, err = palate(
        *command(choices, out, "--head", "scalar,gpm", "--loss", losses, "--by", "kind", "--json")
    )
    assert code == 0, err
    found = json.loads(printed)
    models = {row["model"]: row for row in found["models"]}
    assert len(models) + len(found.get("skipped", [])) == 6
    assert {row["accuracy"] > 0.6 for row in models.values()} == {True}
    plain = models["scalar · bradley_terry"]
    assert (plain["head"], plain["loss"], plain["groups"]) == ("scalar", "bradley_terry", 240)
    assert plain["lower"] < plain["accuracy"] < plain["upper"]
    assert plain["log_loss"] < np.log(2)
    assert models["scalar · hinge"]["log_loss"] is None
    assert len(found["differences"]) == len(models) * (len(models) - 1) // 2
    assert {row["value"] for row in found["categories"]} == {"a", "b"}
    for row in models.values():
        model = RewardModel.load(out / "models" / slug(row["head"], row["loss"]))
        assert model.name == row["model"]
    page = (out / "report.html").read_text("utf-8")
    assert "Which is right most often" in page
    # The same data, split and seed as the command for one model.
    alone = palate(*command(choices, tmp_path / "one", "--json"))
    assert json.loads(alone[1])["accuracy"] == pytest.approx(plain["accuracy"])


def test_a_model_that_was_fitted_is_not_fitted_again(palate: Palate, choices: Path, tmp_path: Path) -> None:
    out = tmp_path / "which"
    call = command(choices, out, "--loss", "bradley_terry,exponential", "--hidden", "4", "--json")
    first = json.loads(palate(*call)[1])
    weights = out / "models" / "scalar-bradley_terry" / "weights.safetensors"
    written = weights.stat().st_mtime_ns
    cut = out / "models" / "scalar-exponential"
    for path in cut.iterdir():
        path.unlink()
    again = json.loads(palate(*call)[1])
    assert weights.stat().st_mtime_ns == written
    assert (cut / "reward.json").exists()
    assert RewardModel.load(cut).hidden == [4]
    for before, after in zip(first["models"], again["models"], strict=True):
        assert after["accuracy"] == before["accuracy"]
    code, _, err = palate(*command(choices, out, "--loss", "bradley_terry,hinge"))
    assert code == 2
    assert "other settings (hidden, losses)" in err


def test_what_does_not_fit_together_is_listed_with_the_reason(
    palate: Palate, choices: Path, tmp_path: Path
) -> None:
    out = tmp_path / "which"
    call = ("--head", "scalar,attributes", "--loss", "bradley_terry,centering")
    code, printed, err = palate(*command(choices, out, *call))
    assert code == 0, err
    words = " ".join(printed.split())
    assert "1 reward model on" in words
    assert "Combinations skipped, with the reasons listed: 3." in words
    assert "There are no texts" in words
    report = Report.from_json(out / "evaluation.json")
    reasons = dict(report.tables["skipped"].iter_rows())
    assert "no judgment names one" in reasons["attributes · bradley_terry"]
    assert "the loss 'centering' reads no preferences" in reasons["scalar · centering"]
    assert [path.name for path in (out / "models").iterdir()] == ["scalar-bradley_terry"]


def test_if_nothing_can_be_fitted_the_first_reason_is_the_error(
    palate: Palate, choices: Path, tmp_path: Path
) -> None:
    code, _, err = palate(*command(choices, tmp_path / "a", "--head", "attributes", "--loss", "hinge,mse"))
    assert code == 2
    assert "the head 'attributes' learns aspects" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--loss", "bradley_terry,bradley_tery"), "did you mean 'bradley_terry'"),
        (("--head", "scalar,scaler"), "did you mean 'scalar'"),
        (("--head", "scalar,scalar"), "the head 'scalar' is given twice"),
        (("--loss", "hinge,mse", "--hidden", "wide"), "--hidden 'wide' is not a list of whole numbers"),
        (("--repeats", "0"), "repeats must be 1 or more"),
        (("--loss", "hinge,mse", "--by", "nothing"), "unknown slice 'nothing'"),
        (("--loss", ","), "no loss is given"),
    ],
)
def test_a_comparison_that_cannot_run_says_so_in_one_line(
    palate: Palate, choices: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, err = palate(*command(choices, tmp_path / "out", *options))
    assert code == 2
    assert message in err
    assert len([line for line in err.splitlines() if line.startswith("palate: ")]) == 1


def test_repeats_sum_up_several_splits(palate: Palate, choices: Path, tmp_path: Path) -> None:
    out = tmp_path / "which"
    call = command(choices, out, "--loss", "bradley_terry,hinge", "--repeats", "3", "--json")
    code, printed, err = palate(*call)
    assert code == 0, err
    splits = json.loads(printed)["splits"]
    assert [row["splits"] for row in splits] == [3, 3]
    assert all(row["lowest"] <= row["mean"] <= row["highest"] for row in splits)
    assert sum(row["times_best"] for row in splits) >= 3
    assert (out / "split-2" / "models" / "scalar-hinge" / "reward.json").exists()


def test_all_stands_for_every_name() -> None:
    assert len(combinations(["all"], ["bradley_terry"])) == len(heads.names())
    pairs = combinations(["scalar"], ["all"])
    assert ("scalar", "ranklist") in pairs
    assert len({slug(*pair) for pair in pairs}) == len(pairs)
    with pytest.raises(ConfigError, match="unknown head 'al'"):
        combinations(["al"], ["all"])


def test_every_head_and_loss_there_is_runs_or_says_why_not(choices: Path, tmp_path: Path) -> None:
    """On pairs without aspects or levels, from which most of them can learn."""
    import palate

    data = palate.load(choices).take(range(80))
    report = compare_reward_models(
        data, tmp_path, heads=["all"], losses=["bradley_terry", "mse", "ordinal"],
        settings={"encoder": "features", "max_iter": 20},
    )  # fmt: skip
    done, skipped = report.tables["models"], report.tables["skipped"]
    assert done.height + skipped.height == 3 * len(heads.names())
    assert {"scalar · bradley_terry", "scalar · mse", "gpm · bradley_terry"} <= set(done["model"])
    assert (skipped["reason"].str.len_chars() > 20).all()
    assert not done["accuracy"].is_null().any()


@pytest.mark.models
def test_real_arguments_are_embedded_once_and_length_is_the_reference(
    palate: Palate, text_pairs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "which"
    call = ("train", "reward", text_pairs["ukp"], "--loss", "bradley_terry,hinge", "--out", out)
    code, printed, err = palate(*call)
    assert code == 0, err
    assert "against preferring the longer response, which is" in " ".join(printed.split())
    rows = Report.from_json(out / "evaluation.json").tables["models"]
    length = rows.filter(model="length").row(0, named=True)
    assert length["log_loss"] is None
    assert length["fit_seconds"] is None
    # People prefer the longer argument in these debates more often than not.
    assert length["accuracy"] > 0.6


def test_a_model_of_ratings_of_single_responses_is_held_against_the_ratings(
    palate: Palate, tmp_path: Path
) -> None:
    x = np.random.default_rng(3).normal(size=(80, 1, 3))
    rating = np.clip(np.round(3 + x[..., 0]), 1, 5)
    path = tmp_path / "ratings.parquet"
    PreferenceData.from_columns(
        {"prompt": [f"p{i}" for i in range(80)], "features": x.tolist(), "scores": rating.tolist()}
    ).save(path)
    code, printed, err = palate(*command(path, tmp_path / "run", "--loss", "mse", "--json"))
    assert code == 0, err
    found = json.loads(printed)
    assert found["ratings"] == 16
    assert found["spearman"] > 0.8
    assert found["rmse"] < 0.6
    assert (tmp_path / "run" / "report.html").is_file()


def test_an_interrupted_training_says_that_it_goes_on_and_does(
    palate: Palate, choices: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = command(choices, out, "--training", "steps=2000", "--training", "batch_size=4", "--json")

    def interrupt() -> None:
        for _ in range(600):
            if list(out.glob("checkpoints/*/checkpoint-*/palate.json")):
                break
            time.sleep(0.05)
        _thread.interrupt_main()

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    code, _, err = palate(*words)
    watcher.join()
    assert code == 130
    assert err.strip() == "palate: interrupted; work in a run folder goes on where it stopped"
    assert not (out / "model").exists()
    code, printed, err = palate(*words)
    assert code == 0, err
    assert json.loads(printed)["accuracy"] > 0.6
