"""A reward model whose transformer is trained along: a sequence classifier read by any head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.losses import Loss
from palate.models.lm import prepare_tokenizer
from palate.models.loading import loading, locate, quiet
from palate.reward import inputs
from palate.reward.heads import Head
from palate.reward.scorers import Held, Scorer, meta_step, training_config
from palate.reward.sequences import Style, TokenSequences, encode, style_of
from palate.reward.shared_prompts import check_same, packed, states
from palate.training import (
    PreferenceTrainer,
    Scored,
    ScoreFunction,
    TrainingGroups,
    seeded,
    unlabelled_of,
)

if TYPE_CHECKING:
    from palate.runs import Run

Floats = npt.NDArray[np.float64]
LARGEST_WINDOW = 1 << 20
ROWS = 32


class LastLayer(nn.Linear):
    """The linear layer that gives the outputs, in float32 whatever the transformer computes in: small updates
    vanish in bfloat16.

    Attributes:
        dropout: share of its inputs set to zero in training.
        intercept: whether the architecture's own layer has one.
        seen: what it read last, after dropout; taken away by `features`.
    """

    def __init__(self, like: nn.Linear, bias: bool, dropout: float) -> None:
        super().__init__(like.in_features, like.out_features, bias and like.bias is not None)
        self.dropout, self.intercept = dropout, like.bias is not None
        self.seen: Tensor | None = None
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(getattr(like, name))

    def forward(self, input: Tensor) -> Tensor:
        read = nn.functional.dropout(input.float(), self.dropout, self.training)
        self.seen = read
        return super().forward(read)

    def features(self, input_ids: Tensor, pad: int) -> Tensor:
        """What the outputs of each row were made from, shape (rows, h). A layer that reads every token is
        taken at the last that is no padding, as transformers takes its outputs."""
        seen, self.seen = self.seen, None
        assert seen is not None
        if seen.ndim == 2:
            return seen
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (place * (input_ids != pad)).argmax(-1)
        return seen[torch.arange(len(seen), device=seen.device), last]


def last_layer(model: nn.Module) -> LastLayer:
    """The layer that is trained and read: under adapters the copy they made."""
    return [module for module in model.modules() if isinstance(module, LastLayer)][-1]


@dataclass
class TextGroups:
    """Tokenised alternatives and the groups that point at them; what the trainer takes batches from."""

    sequences: TokenSequences
    position: npt.NDArray[np.int64]  # (n, k), number of each alternative's sequence
    groups: TrainingGroups
    tokenizer: Any
    pad_to_multiple_of: int
    share_prompts: bool = False

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def source(self) -> npt.NDArray[np.int64] | None:
        """Codes of where the groups come from, if that is known."""
        return self.groups.extra.get("source")

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """See `palate.training.Groups`; adds what the transformer reads of the judged alternatives."""
        index = np.asarray(rows)
        position, mask = self.position[index], self.groups.mask[index]
        if self.share_prompts:
            groups = [
                [self.sequences.ids[i] for i in row[seen]] for row, seen in zip(position, mask, strict=True)
            ]
            tokens = packed(groups, self.tokenizer.pad_token_id, self.pad_to_multiple_of)
        else:
            tokens = self.sequences.padded(self.tokenizer, position[mask].tolist(), self.pad_to_multiple_of)
        return {"tokens": tokens, **self.groups.tensors(index)}


def score_batch(head: Head, pad: int, views: int = 1) -> ScoreFunction:
    """Reads the outputs of a sequence classifier with `head`, from as many passes as the loss needs."""

    def score(model: Any, batch: dict[str, Any]) -> Scored:
        tokens, mask = batch["tokens"], batch["mask"]
        last = last_layer(model)

        def in_groups(values: Tensor) -> Tensor:
            empty = values.new_zeros(*mask.shape, values.shape[1])
            return empty.masked_scatter(mask[:, :, None], values)

        def read() -> tuple[Tensor, Tensor]:
            shared = "ends" in tokens
            outputs = last(states(model, tokens)) if shared else model(**tokens).logits
            return outputs, last.features(tokens["input_ids"], pad)

        outputs, features = read()
        second = None
        if views == 2:
            second = read()[1]
            if model.training and torch.equal(features, second):
                raise ConfigError(
                    "the loss compares two passes that differ by dropout, and this model has none; "
                    "set dropout above 0"
                )
        return replace(
            head.read(in_groups(outputs), batch),
            tokens=views * int((tokens["input_ids"] != pad).sum()),
            features=in_groups(features),
            second=None if second is None else in_groups(second),
        )

    return score


class TunedScorer:
    """Trains and applies a sequence classifier."""

    def __init__(self, settings: dict[str, Any], head: Head) -> None:
        self.settings, self.head = settings, head
        self.training = training_config(settings)
        self.model: Any = None
        self.tokenizer: Any = None
        self.style: Style = "pair"
        self.window = 0
        self.own_base = False  # whether the adapters sit on weights that `encoder` does not name

    def fit(
        self,
        data: PreferenceData,
        groups: TrainingGroups,
        loss: Loss,
        run: Run | None,
        init: Scorer | None,
        meta: PreferenceData | None = None,
        validation: Held | None = None,
    ) -> dict[str, Any]:
        if init is None:
            self.build(self.settings["encoder"], self.training.lora)
        else:
            self._start_from(init)
        made = self._groups(data, groups)
        made.sequences.warn()
        if made.share_prompts:
            self._check_sharing(made)
        groups.prepare(loss, last_layer(self.model).in_features)
        pad = self.tokenizer.pad_token_id
        score = score_batch(self.head.float(), pad, loss.views)
        climb = None
        if meta is not None:
            climb = meta_step(
                self._groups(meta, unlabelled_of(meta)), score_batch(self.head, pad), self.training
            )
        held = None if validation is None else self._groups(validation.data, validation.groups)
        if held is not None:
            held.sequences.warn()
        trainer = PreferenceTrainer(
            self.model,
            made,
            score,
            loss,
            self.training,
            run=run,
            stage="reward",
            meta=climb,
            beside=self.head,
            validation=held,
        )
        last = trainer.fit()
        self.model.eval()
        self.head.cpu().double()
        kept = {name: value for name, value in last.items() if name not in ("time", "stage")}
        return {"steps": trainer.args.max_steps, **kept, **made.sequences.counts}

    def _groups(self, data: PreferenceData, groups: TrainingGroups) -> TextGroups:
        """The judged alternatives of the groups, each tokenised once."""
        prompts, responses = inputs.texts_of(data)
        used, place = np.unique(groups.position[groups.mask], return_inverse=True)
        position = np.zeros_like(groups.position)
        position[groups.mask] = place
        sequences = self._encode(
            [prompts[i] for i in used], [responses[i] for i in used], inputs.rows_of(data, used)
        )
        return TextGroups(
            sequences, position, groups, self.tokenizer, self.training.pad_to_multiple_of,
            self.training.share_prompts,
        )  # fmt: skip

    def _check_sharing(self, groups: TextGroups) -> None:
        if self.style == "pair":
            raise ConfigError("share_prompts is for language models; this transformer reads both ways")
        alone = replace(groups, share_prompts=False)
        with torch.no_grad():
            shared = last_layer(self.model)(states(self.model.eval(), groups.batch([0])["tokens"]))
            check_same(shared, self.model(**alone.batch([0])["tokens"]).logits)

    def texts(self, prompts: list[str], responses: list[str], rows: inputs.Integers | None = None) -> Floats:
        """Outputs for n responses, shape (n, width); `rows` are where they come from, for errors."""
        sequences = self._encode(prompts, responses, rows)
        sequences.warn()
        outputs = np.empty((len(sequences), self.head.width))
        order = np.argsort([-len(ids) for ids in sequences.ids], kind="stable")
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(order), ROWS):
                some = order[start : start + ROWS]
                batch = sequences.padded(self.tokenizer, some.tolist(), self.training.pad_to_multiple_of)
                found = self.model(**{name: value.to(device) for name, value in batch.items()}).logits
                outputs[some] = found.double().cpu().numpy()
        return outputs

    def features(self, features: Floats) -> Floats:
        raise ConfigError("this reward model was fitted on texts and reads no features; use score")

    def contexts(self, prompts: list[str]) -> Floats | None:
        return None

    def data(self, data: PreferenceData) -> Floats:
        prompts, responses = inputs.texts_of(data)
        return self.texts(prompts, responses, inputs.rows_of(data, np.arange(len(prompts))))

    def write(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        adapters = hasattr(self.model, "peft_config")
        with quiet():
            if self.own_base:
                plain(self.model, merge=False).save_pretrained(str(folder / "base"))
            self.model.save_pretrained(str(folder / "model"))
            self.tokenizer.save_pretrained(str(folder / "model"))
        tensors = {name: value.detach() for name, value in last_layer(self.model).state_dict().items()}
        described = {
            "adapters": adapters, "base": self.own_base, "style": self.style, "window": self.window,
        }  # fmt: skip
        return described, tensors

    def read(self, folder: Path, described: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        place = str(folder / "model")
        self.own_base = described["base"]
        if described["adapters"]:
            from peft import PeftModel

            self.build(str(folder / "base") if self.own_base else self.settings["encoder"], tokenizer=place)
            self.model = PeftModel.from_pretrained(self.model, place)
        else:
            self.build(place)
        last_layer(self.model).load_state_dict(tensors)  # a folder in bfloat16 rounds it
        self.style, self.window = described["style"], described["window"]
        self.model.eval()

    def replace_weights(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of a `plain` model in place of transformer, adapters and last layer."""
        self.model = plain(self.model)
        self.model.load_state_dict(weights)
        self._set_last_layer(())
        self.model.eval()

    def build(self, name: str, lora: int = 0, tokenizer: str | None = None) -> list[str]:
        """Load transformer and tokenizer, put the last layer in place and adapters on top; returns the names
        of the modules whose weights the folder does not hold, which start anew."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = locate(name)
        read = source if tokenizer is None else locate(tokenizer)
        with loading(source), seeded(self.training.seed):
            self.model, info = AutoModelForSequenceClassification.from_pretrained(
                source.location,
                num_labels=self.head.width,
                dtype=getattr(torch, self.training.weights_dtype),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **source.arguments,
            )
            self.tokenizer = AutoTokenizer.from_pretrained(read.location, **read.arguments)
            unread = [*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])]
            new = sorted({key.rpartition(".")[0] for key in unread})
            self._set_last_layer(new)
            self._finish(lora, new)
        self.style = style_of(self.tokenizer, self.model.config.model_type)
        return new

    def _set_last_layer(self, new: Sequence[str]) -> None:
        name, old = [item for item in self.model.named_modules() if isinstance(item[1], nn.Linear)][-1]
        if old.out_features != self.head.width:
            raise ValueError(f"its last linear layer {name} gives {old.out_features} outputs")
        last = LastLayer(old, self.head.bias, self.settings["dropout"])
        if name in new:
            nn.init.normal_(last.weight, std=1 / (last.in_features + 1))
        parent, _, child = name.rpartition(".")
        setattr(self.model.get_submodule(parent), child, last)

    def _finish(self, lora: int, new: Sequence[str]) -> None:
        """Add adapters, and settle padding and window."""
        if lora:
            from peft import LoraConfig, TaskType, get_peft_model

            settings = LoraConfig(
                task_type=TaskType.SEQ_CLS, r=lora, lora_alpha=2 * lora, target_modules="all-linear",
                modules_to_save=list(new) or None,
            )  # fmt: skip
            self.model = get_peft_model(self.model, settings)
        prepare_tokenizer(self.tokenizer)
        config = self.model.config.get_text_config()
        if hasattr(config, "use_cache"):
            config.use_cache = False  # it is for generation
        self.model.config.pad_token_id = config.pad_token_id = self.tokenizer.pad_token_id
        limits = (
            self.training.max_length,
            self.tokenizer.model_max_length,
            getattr(config, "max_position_embeddings", None),
        )
        self.window = min(limit for limit in (*limits, LARGEST_WINDOW) if limit is not None)

    def _start_from(self, init: Scorer) -> None:
        """Go on from another fitted model: with its adapters if they are of the rank asked for, else with new
        ones on its merged weights."""
        if not isinstance(init, TunedScorer) or init.head.width != self.head.width:
            raise ConfigError('init must be a model with mode="finetune" and the same head')
        same = all(init.settings[name] == self.settings[name] for name in ("encoder", "dropout"))
        same &= init.training.weights_dtype == self.training.weights_dtype
        same &= _rank(init.model) == self.training.lora
        self.tokenizer = copy.deepcopy(init.tokenizer)
        with seeded(self.training.seed):
            if same:
                self.model, self.own_base = copy.deepcopy(init.model), init.own_base
                self._finish(0, ())
            else:
                self.model, self.own_base = plain(init.model), self.training.lora > 0
                self.model.to(getattr(torch, self.training.weights_dtype))
                self._set_last_layer(())
                last_layer(self.model).load_state_dict(last_layer(init.model).state_dict())
                self._finish(self.training.lora, ())
        if same and self.training.lora:  # a loaded model has adapters that do not learn
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_("lora_" in name or ".modules_to_save." in name)
        self.style = init.style
        self.head.load_state_dict(init.head.state_dict())

    def _encode(
        self, prompts: list[str], responses: list[str], rows: inputs.Integers | None
    ) -> TokenSequences:
        return encode(
            self.tokenizer, self.style, prompts, responses, self.window, self.settings["too_long"], rows
        )


def _rank(model: Any) -> int:
    """Rank of a model's adapters; 0 without."""
    settings = getattr(model, "peft_config", None)
    return int(settings["default"].r) if settings else 0


def plain(model: Any, merge: bool = True) -> Any:
    """A copy that transformers alone can read: adapters merged in float32 (or taken off), and an ordinary
    last layer, with an intercept where the architecture has one."""
    made, dtype = copy.deepcopy(model), model.dtype
    if hasattr(made, "peft_config"):
        made = made.float().merge_and_unload() if merge else made.unload()
    name, last = [item for item in made.named_modules() if isinstance(item[1], LastLayer)][-1]
    linear = nn.Linear(last.in_features, last.out_features, last.intercept)
    with torch.no_grad():
        linear.weight.copy_(last.weight)
        if last.intercept:
            linear.bias.copy_(torch.zeros_like(linear.bias) if last.bias is None else last.bias)
    parent, _, child = name.rpartition(".")
    setattr(made.get_submodule(parent), child, linear)
    return made.to(dtype)
