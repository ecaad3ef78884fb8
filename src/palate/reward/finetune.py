"""A reward model whose transformer is trained along: a scalar head on an encoder or a causal LM."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data import PreferenceData
from palate.errors import ConfigError, PalateWarning
from palate.models.lm import prepare_tokenizer
from palate.models.loading import loading, locate
from palate.models.tokens import encode_prompts, encode_responses
from palate.reward import inputs
from palate.reward.heads import Head
from palate.reward.scorers import Scorer, training_config
from palate.training import (
    Loss,
    PreferenceTrainer,
    Scored,
    ScoreFunction,
    TrainingGroups,
    seeded,
)

if TYPE_CHECKING:
    from palate.runs import Run

Floats = npt.NDArray[np.float64]
WINDOW = 512


@dataclass
class TextGroups:
    """Tokenised alternatives and the groups that point at them; what the trainer takes batches from."""

    tokens: list[list[int]]
    groups: TrainingGroups
    tokenizer: Any
    pad_to_multiple_of: int

    def __len__(self) -> int:
        return len(self.groups)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """See `palate.training.Groups`; adds `input_ids` and `attention_mask` of the judged alternatives."""
        index = np.asarray(rows)
        mask = self.groups.mask[index]
        used = self.groups.position[index][mask]
        return {
            **pad_tokens(self.tokenizer, [self.tokens[i] for i in used], self.pad_to_multiple_of),
            **self.groups.tensors(index),
        }


def pad_tokens(tokenizer: Any, tokens: list[list[int]], multiple: int) -> dict[str, Tensor]:
    """Right-padded `input_ids` and `attention_mask`, both of shape (rows, length)."""
    padded = tokenizer.pad(
        {"input_ids": tokens}, padding=True, pad_to_multiple_of=multiple, return_tensors="pt"
    )
    return {name: padded[name] for name in ("input_ids", "attention_mask")}


def score_batch(head: Head) -> ScoreFunction:
    """Reads the labels of a sequence classifier with `head`."""

    def score(model: Any, batch: dict[str, Any]) -> Scored:
        values = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        mask = batch["mask"]
        outputs = values.new_zeros(*mask.shape, values.shape[1])
        outputs = outputs.masked_scatter(mask[:, :, None], values)
        return replace(head.read(outputs, batch), tokens=int(batch["attention_mask"].sum()))

    return score


class TunedScorer:
    """Trains and applies a transformer with a scalar head."""

    def __init__(self, settings: dict[str, Any], head: Head) -> None:
        self.settings, self.head = settings, head
        self.training = training_config(settings)
        self.model: Any = None
        self.tokenizer: Any = None
        self.window = WINDOW

    def fit(
        self,
        data: PreferenceData,
        groups: TrainingGroups,
        loss: Loss,
        run: Run | None,
        init: Scorer | None,
    ) -> dict[str, Any]:
        self._build(self.settings["encoder"], self.training.lora)
        prompts, responses = inputs.texts_of(data)
        made = TextGroups(
            self._tokenise(prompts, responses), groups, self.tokenizer, self.training.pad_to_multiple_of
        )
        trainer = PreferenceTrainer(
            self.model, made, score_batch(self.head), loss, self.training, run=run, stage="reward"
        )
        last = trainer.fit()
        self.model.eval()
        return {
            "steps": trainer.args.max_steps,
            **{k: v for k, v in last.items() if k not in ("time", "stage")},
        }

    def texts(self, prompts: list[str], responses: list[str]) -> Floats:
        tokens = self._tokenise(prompts, responses)
        outputs = np.empty((len(tokens), self.head.width))
        order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(order), 32):
                rows = order[start : start + 32]
                batch = pad_tokens(
                    self.tokenizer, [tokens[i] for i in rows], self.training.pad_to_multiple_of
                )
                found = self.model(**{name: value.to(device) for name, value in batch.items()}).logits
                outputs[rows] = found.double().cpu().numpy()
        return outputs

    def features(self, features: Floats) -> Floats:
        raise ConfigError("this reward model was fitted on texts and reads no features; use score")

    def data(self, data: PreferenceData) -> Floats:
        return self.texts(*inputs.texts_of(data))

    def contexts(self, prompts: list[str]) -> Floats | None:
        return None

    def write(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self.model.save_pretrained(str(folder / "model"))
        self.tokenizer.save_pretrained(str(folder / "model"))
        return {"adapters": self.training.lora > 0}, {}

    def read(self, folder: Path, described: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        place = str(folder / "model")
        if described["adapters"]:
            from peft import PeftModel

            self._build(self.settings["encoder"], lora=0)
            self.model = PeftModel.from_pretrained(self.model, place)
        else:
            self._build(place, lora=0)
        self.model.eval()

    def _build(self, name: str, lora: int) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = locate(name)
        with loading(source), seeded(self.training.seed):
            self.model = AutoModelForSequenceClassification.from_pretrained(
                source.location,
                num_labels=self.head.width,
                dtype=getattr(torch, self.training.weights_dtype),
                **source.arguments,
            )
            self.tokenizer = AutoTokenizer.from_pretrained(source.location, **source.arguments)
            if lora:
                from peft import LoraConfig, TaskType, get_peft_model

                self.model = get_peft_model(
                    self.model,
                    LoraConfig(
                        task_type=TaskType.SEQ_CLS, r=lora, lora_alpha=2 * lora, target_modules="all-linear"
                    ),
                )
        prepare_tokenizer(self.tokenizer)
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        limit = int(getattr(self.model.config.get_text_config(), "max_position_embeddings", WINDOW))
        self.window = min(self.training.max_length or WINDOW, limit)

    def _tokenise(self, prompts: list[str], responses: list[str]) -> list[list[int]]:
        """Prompt and response as one sequence; prompts lose their beginning where both do not fit."""
        before, between, after = _specials(self.tokenizer)
        if between:
            first, second = (self._plain(texts) for texts in (prompts, responses))
        else:  # a language model: what generation would see, closed by its end of turn
            first = [ids.tolist() for ids in encode_prompts(self.tokenizer, prompts)]
            second = [ids.tolist() for ids in encode_responses(self.tokenizer, responses)]
            before, after = [], []
        room = self.window - len(before) - len(between) - len(after)
        cut = sum(len(ids) > room for ids in second)
        shortened = sum(len(a) + len(b) > room >= len(b) for a, b in zip(first, second, strict=True))
        if cut or shortened:
            warnings.warn(
                f"{cut} responses were cut on the right and {shortened} prompts on the left to fit "
                f"{self.window} tokens; raise max_length in training where the model has room",
                PalateWarning,
                stacklevel=2,
            )
        out = []
        for a, b in zip(first, second, strict=True):
            kept = b[:room]
            head = a[max(0, len(a) - (room - len(kept))) :]
            out.append([*before, *head, *between, *kept, *after])
        return out

    def _plain(self, texts: list[str]) -> list[list[int]]:
        return (
            list(self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]) if texts else []
        )


def _specials(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """Ids a tokenizer puts before, between and after two texts."""
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    both = list(tokenizer("a", "b")["input_ids"])
    starts = [i for i in range(len(both)) if both[i : i + len(a)] == a]
    start = starts[0]
    second = next(i for i in range(start + len(a), len(both)) if both[i : i + len(b)] == b)
    return both[:start], both[start + len(a) : second], both[second + len(b) :]
