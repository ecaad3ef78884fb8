"""The one trainer: a model, a score function, a loss and groups, on `transformers.Trainer`.

The trainer knows neither reward models nor policies. It asks a score function for scores of shape (batch,
k), gives them to a loss of `palate.losses`, and keeps what makes a run trustworthy: an order of the data
fixed by the seed, one line of metrics per logged step, and checkpoints from which an interrupted run
reaches the same end.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from palate.errors import ConfigError, PalateError
from palate.progress import Bar, progress
from palate.runs import Run, atomic_write
from palate.training.config import TrainingConfig
from palate.training.contracts import Batch, Groups, Loss, ScoreFunction, loss_of
from palate.training.meta import MetaStep
from palate.training.metrics import Scored, Window, comparisons
from palate.training.rng import seeded
from palate.training.sampling import order_of, stratified_order
from palate.training.validation import Selection, measured

MARKER = "palate.json"
BESIDE = "beside.safetensors"


class PreferenceTrainer(Trainer):  # type: ignore[misc]
    """Train `model` so that `score(model, batch)` has a low `loss` on `groups`.

    Args:
        model: what is trained; parameters that require no gradient stay.
        groups: the data, see `Groups`.
        score: gives a `Scored` for a batch.
        loss: from `palate.losses`; what it learns is trained along, and its state goes into checkpoints.
        config: how to train.
        run: run folder for metrics.jsonl and checkpoints; None trains in memory.
        stage: name of this stage in the run folder.
        meta: takes each gradient at weights moved to tell unlabelled responses apart; None trains plainly.
        beside: a module the score function uses that is not part of `model`, such as a head; what it learns
            is trained along, without weight decay, and its state goes into checkpoints.
        validation: groups on which loss and accuracy are measured every `config.eval_steps` steps and after
            the last, by which `config.select` chooses; a loss with a schedule is measured as it is at its
            end. Measuring changes nothing of the training.

    Raises:
        PalateError: there are no groups, or the loss is not finite.
        ConfigError: `config.stratify` is set and the groups have no sources, or a batch cannot hold them; or
            gradient checkpointing is asked of a model that has none; or the best weights are asked for
            without validation groups.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        score: ScoreFunction,
        loss: Loss,
        config: TrainingConfig,
        *,
        run: Run | None = None,
        stage: str = "train",
        meta: MetaStep | None = None,
        beside: nn.Module | None = None,
        validation: Groups | None = None,
    ) -> None:
        if not len(groups):
            raise PalateError("there is nothing to train on: no group has alternatives that differ")
        if validation is None and config.select == "best":
            raise ConfigError("select='best' chooses by validation data; give fit(data, validation=...)")
        self.groups, self.score_groups, self.preference_loss = groups, score, loss
        self.settings, self.run, self.stage, self.meta = config, run, stage, meta
        self.window = Window()
        self.validation = validation
        self._passes = (-1, 0)
        self.history: list[dict[str, Any]] = []
        self.beside = nn.ModuleDict({"loss": _module(loss), "head": beside or nn.Module()})
        if config.gradient_checkpointing:
            _checkpoint_activations(model)
        total = config.total_steps(len(groups))
        self._scratch = (
            tempfile.TemporaryDirectory() if run is None else None
        )  # transformers insists on a folder
        folder = Path(self._scratch.name) if self._scratch else self.checkpoints
        arguments = _arguments(config, total, folder, keep=run is not None)
        self.order = _order(groups, config, total * config.gradient_accumulation * arguments.world_size)
        with seeded(config.seed):
            super().__init__(
                model=model,
                args=arguments,
                train_dataset=self.order.tolist(),
                data_collator=groups.batch,
            )
        self.beside.to(self.args.device)
        self.selection = Selection(
            model, self.beside, keep=config.select == "best", by=config.select_by, folder=self.checkpoints,
            writes=self.is_world_process_zero(),
        )  # fmt: skip
        self.remove_callback(PrinterCallback)
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False

    # -- what a caller uses --

    @property
    def checkpoints(self) -> Path | None:
        return self.run.path("checkpoints", self.stage) if self.run else None

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written to its end."""
        if self.checkpoints is None:
            return None
        complete = [path.parent for path in self.checkpoints.glob(f"checkpoint-*/{MARKER}")]
        return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def fit(self) -> dict[str, float]:
        """Train to the last step, from the newest checkpoint if there is one.

        Returns:
            The last line logged of training and, with validation groups, `validation_loss` and
            `validation_accuracy` of the weights that `config.select` leaves in the model, and the
            `best_step`.
        """
        checkpoint = self.last_checkpoint()
        with seeded(self.settings.seed), progress(f"training ({self.stage})", self.args.max_steps) as bar:
            every = 0 if self.validation is None else self.settings.eval_steps
            self.add_callback(_AtEachStep(bar, self.beside, every))
            if checkpoint is not None:
                self._restore(checkpoint)
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self.settings.select == "best":
            self.selection.restore()
        rows = self.history if self.run is None else self.run.metrics()
        logged = [row for row in rows if row.get("stage") == self.stage and "loss" in row]
        return {**(logged[-1] if logged else {}), **self.selection.chosen}

    def measure(self, rows: Sequence[int] | None = None) -> dict[str, float]:
        """Mean loss and watched quantities on the groups at `rows` (all of them), without training."""
        return self._measured(self.groups, rows, self.state.global_step)

    def _measured(self, groups: Groups, rows: Sequence[int] | None, step: int) -> dict[str, float]:
        return measured(
            self.model, groups, self.score_groups, self.preference_loss,
            batch_size=self.settings.batch_size, rows=rows, step=step, total_steps=self.args.max_steps,
            place=self._prepare_inputs,
        )  # fmt: skip

    # -- what transformers.Trainer calls --

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        made = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        learned = list(self.beside.parameters())
        if made and learned:
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        return optimizer

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        value, scored = self._loss(self.accelerator.unwrap_model(model), inputs)
        if not torch.isfinite(value):
            raise PalateError(
                f"the loss became {float(value.detach())} at step {self.state.global_step + 1}; "
                "lower the learning rate, or look for texts of length 0 in the data"
            )
        own = getattr(self.preference_loss, "watched", {})
        self.window.add({**_watched(value, scored, inputs), **own}, scored.tokens)
        return (value, scored.scores) if return_outputs else value

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        if self.meta is None:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-any-return]
        model.train()
        number = self.args.gradient_accumulation_steps * self.state.global_step + self._micro_step()
        unlabelled = self._prepare_inputs(self.meta.groups.batch(self.meta.rows(number)))
        with self.meta.ascended(self.accelerator.unwrap_model(model), unlabelled) as told_apart:
            value = super().training_step(model, inputs, num_items_in_batch)
        self.window.add({"separation": told_apart})
        return value  # type: ignore[no-any-return]

    def _micro_step(self) -> int:
        """Which pass of this optimizer step it is, from 0."""
        step, passes = self._passes
        self._passes = (self.state.global_step, passes + 1 if step == self.state.global_step else 1)
        return self._passes[1] - 1

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Scored]:
        scored = self.score_groups(model, batch)
        value = loss_of(
            self.preference_loss,
            scored,
            batch,
            step=self.state.global_step,
            total_steps=self.args.max_steps,
        )
        return value, scored

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure on the validation groups, log it, and keep the weights if they are the best."""
        assert self.validation is not None
        with seeded(self.settings.seed):
            # Mixed, as training batches are, for losses that hold the groups of a batch against each other.
            order = order_of(len(self.validation), len(self.validation), self.settings.seed, "validation")
            means = self._measured(self.validation, order.tolist(), self.args.max_steps - 1)
        line = {"stage": self.stage, **self.selection.add(self.state.global_step, means)}
        self.history.append(line)
        if self.run is not None and self.is_world_process_zero():
            self.run.log(**line)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, means)
        return means

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        return super()._clip_grad_norm(self._learning(model))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        return super()._get_grad_norm(self._learning(model), grad_norm=grad_norm)

    def _learning(self, model: nn.Module) -> nn.Module:
        """All whose gradients one norm limits: the model and what is trained beside it."""
        return nn.ModuleList([model, self.beside]) if any(True for _ in self.beside.parameters()) else model

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        if "loss" not in logs:  # the summary at the end of training repeats what was logged
            return
        line = {
            "stage": self.stage,
            "step": self.state.global_step,
            "epoch": self.state.global_step * len(self.order) / (self.args.max_steps * len(self.groups)),
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm"),
            **self.window.means(),
            "tokens_per_second": self.window.speed(),
        }
        self.window.reset()
        self.history.append(line)
        if self.run is not None and self.is_world_process_zero():
            self.run.log(**line)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        Path(output_dir or self.args.output_dir, "training_args.bin").unlink(missing_ok=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        state = self.beside.state_dict()
        if state:
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in state.items()},
                folder / BESIDE,
            )
        # The marker comes last: a folder without it was cut off, and replaces no older one.
        with atomic_write(folder / MARKER) as file:
            window = {"sums": self.window.sums, "counts": self.window.counts}
            step = self.state.global_step
            json.dump({"step": step, **window, "validation": self.selection.state()}, file)
        for other in Path(self.args.output_dir).glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other)
        self.selection.saved()

    def _restore(self, checkpoint: Path) -> None:
        """Bring back what is trained beside the model and the open window, and drop lines logged after the
        checkpoint."""
        if (checkpoint / BESIDE).exists():
            self.beside.load_state_dict(load_file(checkpoint / BESIDE))
        saved = json.loads((checkpoint / MARKER).read_text("utf-8"))
        self.window.sums, self.window.counts = saved["sums"], saved["counts"]
        self.selection.resume(saved.get("validation"))
        assert self.run is not None
        rows = self.run.metrics()
        kept = [row for row in rows if row.get("stage") != self.stage or row["step"] <= saved["step"]]
        with atomic_write(self.run.path("metrics.jsonl")) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)


class _AtEachStep(TrainerCallback):  # type: ignore[misc]
    def __init__(self, bar: Bar, beside: nn.Module, validate_every: int) -> None:
        self.bar, self.beside, self.validate_every = bar, beside, validate_every

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.beside.zero_grad()  # transformers clears the model's gradients only
        self.bar.advance()
        if self.validate_every:
            last = state.global_step >= args.max_steps
            control.should_evaluate = last or state.global_step % self.validate_every == 0


def _order(groups: Groups, config: TrainingConfig, batches: int) -> npt.NDArray[np.int64]:
    """Which groups go into which place of `batches` batches, one after the other."""
    if not config.stratify:
        return order_of(len(groups), batches * config.batch_size, config.seed)
    source = getattr(groups, "source", None)
    if source is None:
        raise ConfigError(
            "stratify wants as many groups of each source in a batch; "
            "say where sources stand with columns={'source': ...}"
        )
    return stratified_order(source, config.batch_size, batches, config.seed)


def _watched(value: Tensor, scored: Scored, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    return {"loss": value, **comparisons(scored.scores, batch["targets"], batch["mask"]), **scored.watched}


def _module(loss: Loss) -> nn.Module:
    """The loss where it is a module, with what it learns and keeps; a plain function has neither."""
    return loss if isinstance(loss, nn.Module) else nn.Module()


def _checkpoint_activations(model: Any) -> None:
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError("gradient_checkpointing is for transformers that can; this model cannot")
    # transformers is about to give it another name.
    name = "activation_checkpointing_enable"
    getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")()


def _arguments(config: TrainingConfig, steps: int, folder: Path | None, *, keep: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        warmup_steps=round(config.warmup * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if keep else "no",
        save_steps=config.save_steps,
        seed=config.seed,
        train_sampling_strategy="sequential",  # the order is in the data set
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
    arguments._n_gpu = min(
        arguments.n_gpu, 1
    )  # score functions reach into the model, which DataParallel would hide
    return arguments
