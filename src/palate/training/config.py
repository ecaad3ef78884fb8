"""What a training run is told: frozen data, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.errors import ConfigError, unknown


class TrainingConfig(BaseModel):
    """Settings of one training stage.

    Attributes:
        steps: optimizer steps; if given, `epochs` is not used.
        epochs: passes over the groups.
        batch_size: groups (a prompt with its k responses) per forward and backward pass.
        gradient_accumulation: passes per optimizer step.
        learning_rate: peak of AdamW's learning rate.
        warmup: share of the steps in which the learning rate rises from 0.
        schedule: course of the learning rate after the warm-up.
        weight_decay: AdamW's decoupled decay.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        max_length: longest sequence in tokens, prompt and response together; None takes the model's own
            limit.
        seed: fixes the order of the data, new parameters and dropout.
        lora: rank of low-rank adapters; 0 trains every weight.
        dtype: of the frozen weights; "auto" takes bfloat16 under adapters and float32 for full training.
        logging_steps: steps summed up in one line of metrics.jsonl.
        save_steps: steps between checkpoints, from which an interrupted run goes on.
        eval_steps: steps between measurements on validation data, where some are given; the last step is
            measured too.
        select: which weights are the result: those of the "last" step, or those "best" on validation data.
        select_by: what is best: the least validation "loss", or the highest validation "accuracy"; the first
            of equals.
        stratify: every batch holds as many groups of each source (`columns={"source": ...}`); groups of a
            small source come round more often than those of a large one.
        meta_rate: MetaRM's step up the separation of unlabelled responses, where they are given.
        pad_to_multiple_of: sequences are padded to a multiple of this. In bfloat16 a kernel rounds
            differently for the last rows of odd-sized matrices; equal blocks keep a sequence's
            log-probability independent of what it is batched with, so that a policy starts exactly at its
            reference.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them: less
            memory, a third to a half more time.
        share_prompts: encode the prompt of a group once for all its responses; for reward models on decoders
            with full attention (others are refused). Rounding apart, it changes nothing but the time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1)
    epochs: float = Field(1.0, gt=0, allow_inf_nan=False)
    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    warmup: float = Field(0.1, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, ge=0, allow_inf_nan=False)
    max_length: int | None = Field(None, ge=2)
    seed: int = Field(0, ge=0)
    lora: int = Field(16, ge=0)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    logging_steps: int = Field(1, ge=1)
    save_steps: int = Field(50, ge=1)
    eval_steps: int = Field(50, ge=1)
    select: Literal["last", "best"] = "last"
    select_by: Literal["loss", "accuracy"] = "loss"
    stratify: bool = False
    meta_rate: float = Field(0.01, ge=0, allow_inf_nan=False)
    pad_to_multiple_of: int = Field(16, ge=1)
    gradient_checkpointing: bool = False
    share_prompts: bool = False

    def total_steps(self, n_groups: int) -> int:
        """Optimizer steps for a set of `n_groups`."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(self.epochs * n_groups / (self.batch_size * self.gradient_accumulation)))

    @property
    def weights_dtype(self) -> Literal["bfloat16", "float32"]:
        """The dtype of the model's own weights, with "auto" resolved."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if self.lora else "float32"


Config = TypeVar("Config", bound=BaseModel)


def configure(kind: type[Config], base: Config | Mapping[str, Any] | None, **overrides: Any) -> Config:
    """A config of type `kind` from a config or mapping and overrides; overrides that are None are left out.

    Raises:
        ConfigError: a name is unknown or a value is out of range; one line naming the setting.
    """
    given: dict[str, Any] = {}
    if isinstance(base, BaseModel):
        given = base.model_dump()
    elif base is not None:
        given = dict(base)
    given |= {name: value for name, value in overrides.items() if value is not None}
    for name in given:
        if name not in kind.model_fields:
            raise unknown("setting", name, kind.model_fields)
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting {name!r} cannot be {first['input']!r}: {first['msg'].lower()}") from None
