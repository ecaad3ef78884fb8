"""Training measures on groups it does not learn, and keeps the weights that are best there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from palate import losses
from palate.errors import ConfigError, PalateError
from palate.runs import Run
from palate.training import PreferenceTrainer, Scored, TrainingConfig, configure, measured

DIM = 6
CONFIG = TrainingConfig(
    steps=30, batch_size=4, learning_rate=0.02, schedule="constant", warmup=0, weight_decay=0.0, save_steps=7,
    logging_steps=5, eval_steps=2, select="best",
)  # fmt: skip


class VectorGroups:
    """Pairs of vectors; the first number of a vector says which is better, and `noise` of them lie."""

    def __init__(self, n: int, noise: float, seed: int) -> None:
        made = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 2, DIM, generator=made)
        first = self.x[:, 0, 0] > self.x[:, 1, 0]
        first ^= torch.rand(n, generator=made) < noise
        self.targets = torch.stack([first, ~first], 1).float()
        self.weight = torch.arange(1.0, n + 1)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Any) -> dict[str, Any]:
        rows = list(rows)
        targets = self.targets[rows]
        return {"x": self.x[rows], "targets": targets, "mask": torch.ones_like(targets, dtype=torch.bool),
                "weight": self.weight[rows]}  # fmt: skip


class RunningScale(nn.Module):
    """Logistic loss of the difference of scores with a learned scale, and a mean over what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, scores: torch.Tensor, targets: torch.Tensor, **_: Any) -> torch.Tensor:
        margin = (scores[:, 0] - scores[:, 1]) * (targets[:, 0] - targets[:, 1])
        self.mean = 0.9 * self.mean + 0.1 * margin.mean().detach()
        return nn.functional.softplus(-self.scale * margin).mean()


class Interrupted(Exception):
    pass


LEARN, HELD = VectorGroups(12, 0.25, 2), VectorGroups(40, 0.0, 1)


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(DIM, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))


def score(model: nn.Module, batch: dict[str, Any]) -> Scored:
    return Scored(model(batch["x"].flatten(0, 1)).view(-1, 2))


def trainer(
    folder: Path | None = None, *, stop_at: int | None = None, validation: Any = HELD, **settings: Any
) -> PreferenceTrainer:
    seen = 0

    def scored(model: nn.Module, batch: dict[str, Any]) -> Scored:
        nonlocal seen
        seen += model.training
        if stop_at is not None and seen > stop_at:
            raise Interrupted
        return score(model, batch)

    config = configure(TrainingConfig, CONFIG, **settings)
    run = None if folder is None else Run(folder, {})
    return PreferenceTrainer(
        network(), LEARN, scored, RunningScale(), config, run=run, validation=validation
    )  # fmt: skip


def weights(made: PreferenceTrainer) -> dict[str, torch.Tensor]:
    return {**made.model.state_dict(), **made.beside.state_dict()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def held_out(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if "validation_loss" in row]


def test_the_result_has_the_weights_of_the_step_with_the_least_validation_loss(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    fitted = made.fit()
    rows = held_out(made.run.metrics() if made.run else [])
    assert [row["step"] for row in rows] == list(range(2, 31, 2))
    best = min(rows, key=lambda row: row["validation_loss"])
    assert 2 < best["step"] < 30, "the case must have its best within the training"
    assert fitted["best_step"] == best["step"]
    assert fitted["validation_loss"] == best["validation_loss"]
    assert fitted["validation_accuracy"] == best["validation_accuracy"]
    # The same training stopped at that step ends with these weights, loss and buffers included.
    until = trainer(steps=best["step"], select="last")
    until.fit()
    assert same(weights(made), weights(until))
    assert made.preference_loss.scale != 1  # type: ignore[attr-defined]


def test_accuracy_chooses_where_it_is_asked_to_and_the_first_of_equals_stays(tmp_path: Path) -> None:
    made = trainer(tmp_path, select_by="accuracy")
    fitted = made.fit()
    rows = held_out(made.run.metrics() if made.run else [])
    highest = max(row["validation_accuracy"] for row in rows)
    assert fitted["best_step"] == next(r["step"] for r in rows if r["validation_accuracy"] == highest)
    assert fitted["validation_accuracy"] == highest


def test_weights_kept_in_memory_and_on_disk_are_the_same(tmp_path: Path) -> None:
    on_disk, in_memory = trainer(tmp_path), trainer()
    on_disk.fit()
    in_memory.fit()
    assert same(weights(on_disk), weights(in_memory))


def test_an_interrupted_run_keeps_the_same_best_weights(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    fitted = whole.fit()
    for stop in (10, 9, 9):  # the second begins after the checkpoint of step 7, the third after that of 14
        with pytest.raises(Interrupted):
            trainer(tmp_path / "cut", stop_at=stop).fit()
    resumed = trainer(tmp_path / "cut")
    again = resumed.fit()
    assert same(weights(whole), weights(resumed))
    clock = {"time", "tokens_per_second"}
    assert {k: v for k, v in again.items() if k not in clock} == {
        k: v for k, v in fitted.items() if k not in clock
    }
    assert whole.run is not None
    assert resumed.run is not None
    assert held_out(resumed.run.metrics())[-1]["step"] == 30
    strip = [{k: v for k, v in row.items() if k not in clock} for row in resumed.run.metrics()]
    assert strip == [{k: v for k, v in row.items() if k not in clock} for row in whole.run.metrics()]
    assert resumed.checkpoints is not None
    left = sorted(path.name for path in resumed.checkpoints.iterdir())
    assert left == [f"best-{fitted['best_step']}.safetensors", "checkpoint-30"]
    finished = trainer(tmp_path / "cut", stop_at=0)  # nothing is trained again
    finished.fit()
    assert same(weights(whole), weights(finished))


def test_the_best_of_the_newest_checkpoint_outlives_a_better_one_that_came_after_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trainer(tmp_path, stop_at=12).fit()  # checkpoint at 7, measured until 12
    folder = tmp_path / "checkpoints" / "train"
    found = {int(path.stem.split("-")[1]) for path in folder.glob("best-*.safetensors")}
    rows = held_out(Run(tmp_path, {}).metrics())
    until = {end: min((r for r in rows if r["step"] <= end), key=lambda r: r["validation_loss"])["step"]
             for end in (7, 12)}  # fmt: skip
    assert until[7] != until[12], "the case must find a better one after the checkpoint"
    assert found == set(until.values())


def test_best_weights_cut_off_while_they_were_written_are_not_used(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trainer(tmp_path, stop_at=8).fit()
    torn = tmp_path / "checkpoints" / "train" / "best-9.partial"
    torn.write_bytes(b"half")
    resumed, whole = trainer(tmp_path), trainer()
    resumed.fit()
    whole.fit()
    assert same(weights(resumed), weights(whole))
    assert not torn.exists()


def test_best_weights_that_were_removed_are_missed_by_name(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    best = made.fit()["best_step"]
    (tmp_path / "checkpoints" / "train" / f"best-{best}.safetensors").unlink()
    with pytest.raises(PalateError, match=rf"best-{best}\.safetensors with the best weights is missing"):
        trainer(tmp_path).fit()


def test_measuring_changes_nothing_of_the_training() -> None:
    watched, alone = trainer(select="last"), trainer(select="last", validation=None)
    fitted, plain = watched.fit(), alone.fit()
    assert same(weights(watched), weights(alone))
    assert "validation_loss" not in plain
    last = held_out(watched.history)[-1]
    assert fitted["validation_loss"] == last["validation_loss"]
    assert fitted["best_step"] == min(held_out(watched.history), key=lambda r: r["validation_loss"])["step"]


def test_the_last_step_is_measured_also_where_none_is_due() -> None:
    made = trainer(steps=5, eval_steps=3)
    made.fit()
    assert [row["step"] for row in held_out(made.history)] == [3, 5]


def test_the_measured_loss_is_the_mean_over_groups_by_weight_however_they_are_batched() -> None:
    model, loss = network().eval(), losses.get("bradley_terry")
    batch = HELD.batch(range(len(HELD)))
    scores = score(model, batch).scores.detach()
    gap = (scores[:, 0] - scores[:, 1]) * (batch["targets"][:, 0] - batch["targets"][:, 1])
    expected = float((batch["weight"] * nn.functional.softplus(-gap)).sum() / batch["weight"].sum())
    right = float((gap > 0).double().mean())
    for size in (7, 40):
        found = measured(model, HELD, score, loss, batch_size=size)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert found["accuracy"] == pytest.approx(right)


def test_a_loss_with_a_schedule_is_measured_as_it_is_at_its_end() -> None:
    asked = []

    class Scheduled(losses.Loss):
        def forward(self, scores: Any, targets: Any, *, step: Any = None, total_steps: Any = None, **_: Any):  # type: ignore[no-untyped-def]
            if not self.training:
                asked.append((step, total_steps))
            return (scores**2).mean()

    config = configure(TrainingConfig, CONFIG, steps=4)
    PreferenceTrainer(network(), LEARN, score, Scheduled(), config, validation=HELD).fit()
    assert set(asked) == {(3, 4)}


def test_choosing_without_anything_to_choose_by_is_refused() -> None:
    with pytest.raises(ConfigError, match="select='best' chooses by validation data"):
        trainer(validation=None)
    alone = VectorGroups(6, 0.0, 3)
    alone.targets = torch.ones_like(alone.targets)
    with pytest.raises(ConfigError, match="needs validation data with responses to compare"):
        trainer(validation=alone, select_by="accuracy").fit()
    broken = VectorGroups(6, 0.0, 3)
    broken.x[2] = math.nan
    with pytest.raises(PalateError, match="the validation loss became nan at step 2"):
        trainer(validation=broken).fit()


def test_one_norm_limits_the_gradients_of_model_and_loss() -> None:
    norms = []

    def record(trained: PreferenceTrainer) -> None:
        step = trained.create_optimizer().step

        def stepped(*args: Any, **kwargs: Any) -> Any:
            learned = [*trained.model.parameters(), *trained.beside.parameters()]
            norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in learned if p.grad is not None)))
            return step(*args, **kwargs)

        trained.optimizer.step = stepped

    for limit in (1e-3, 0.0):
        made = trainer(steps=3, max_grad_norm=limit, logging_steps=1, select="last", validation=None)
        record(made)
        made.fit()
        logged = [row["grad_norm"] for row in made.history]
        if limit:
            assert norms == pytest.approx([limit] * 3, rel=1e-2)
            assert min(logged) > limit
        else:
            assert norms == pytest.approx(logged, rel=1e-5)
        norms.clear()
