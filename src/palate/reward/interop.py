"""Reward models from and for other libraries: transformers, TRL, OpenRLHF, vLLM."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from palate import losses
from palate.errors import ConfigError, PalateWarning
from palate.models.lm import adapter_base
from palate.models.loading import loading, locate, pick_dtype, quiet
from palate.reward import heads
from palate.reward.finetune import TunedScorer, plain

if TYPE_CHECKING:
    from palate.reward.model import RewardModel

OVERALL = "reward"


def from_pretrained(
    name: str | Path,
    *,
    aspects: Sequence[str] | None = None,
    merit: Mapping[str, float] | None = None,
    chat: bool = True,
    max_length: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    **params: Any,
) -> RewardModel:
    """A reward model that any library trained as a sequence classifier, fitted and ready to score.

    It reads what its users give it elsewhere: a language model the conversation as its chat template renders
    it (or prompt, response and end of text, without a template), another transformer a pair of texts.

    Args:
        name: folder, also of a PEFT adapter with a score layer; packaged name or hub id.
        aspects: names of the outputs of a model with several; those the model states if None.
        merit: weight of each aspect in the overall score; see `palate.reward.heads`.
        chat: false for a model with a chat template that was trained on plain texts.
        max_length: most tokens of prompt and response; what the model has room for if None.
        dtype: of the weights.
        params: other arguments of `RewardModel`, such as `too_long`.

    Raises:
        ConfigError: the model cannot be loaded, has no trained score layer, or has several outputs without
            names.
    """
    from palate.reward.model import RewardModel

    location = str(name)
    names = _aspects(location, aspects)
    head = {"head": "attributes", "head_params": {"names": names, "merit": merit}} if names else {}
    training = {"lora": 0, "dtype": dtype, "max_length": max_length}
    model = RewardModel(location, mode="finetune", training=training, **{**head, **params})
    model.head_ = heads.get(model.head, None, **(model.head_params or {})).double().eval()
    scorer = TunedScorer(model.get_params(), model.head_)
    _load(scorer, location)
    if not chat and scorer.style == "chat":
        scorer.tokenizer.chat_template, scorer.style = None, "plain"
    model.scorer_, model.loss_ = scorer, losses.get(model.loss, **(model.loss_params or {}))
    model.fit_, model.n_groups_, model.n_ties_, model.data_fingerprint_ = {}, 0, 0, ""
    return model


def _load(scorer: TunedScorer, location: str) -> None:
    source = locate(location)
    base = adapter_base(source)
    if base is None:
        new = scorer.build(location)
        if new:
            raise ConfigError(
                f"{location!r} is no trained reward model: it holds no weights for {', '.join(new)}; "
                'train it with RewardModel(mode="finetune").fit(data)'
            )
    else:
        from peft import PeftModel

        own = source.folder is not None and (source.folder / "tokenizer_config.json").exists()
        new = scorer.build(base, tokenizer=location if own else None)
        with loading(source):
            tuned = PeftModel.from_pretrained(scorer.model, source.location)
        saved = set(tuned.peft_config["default"].modules_to_save or ())
        missing = [module for module in new if not any(module.endswith(name) for name in saved)]
        if missing:
            raise ConfigError(
                f"{location!r} is no whole reward model: neither the adapter nor its base holds weights for "
                f"{', '.join(missing)}; train it with modules_to_save={missing}"
            )
        scorer.model = tuned.merge_and_unload()
    scorer.model.eval()


def _aspects(location: str, given: Sequence[str] | None) -> list[str]:
    """Names of the outputs of a model with several, those given or those it states; empty for one."""
    from transformers import AutoConfig

    source = locate(location)
    if adapter_base(source) is not None:
        return list(given or ())
    with loading(source):
        config = AutoConfig.from_pretrained(source.location, **source.arguments)
    if not any("Classification" in kind for kind in config.architectures or ()):
        return []  # it has no score layer, which is found when it is loaded
    if given is not None and len(given) != config.num_labels:
        raise ConfigError(
            f"{location!r} was made for {config.num_labels} outputs, and {len(given)} are named"
        )
    if given is not None or config.num_labels == 1:
        return list(given or ())
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    if any(name == f"LABEL_{number}" for number, name in enumerate(names)):
        raise ConfigError(
            f"{location!r} has {config.num_labels} outputs without names; name them: aspects=[...]"
        )
    return names


def export(
    model: RewardModel, folder: str | Path, *, overall: bool = False, dtype: str | None = None
) -> Path:
    """Write a plain transformers folder: adapters merged, one label per output, tokenizer with chat template.

    ``AutoModelForSequenceClassification`` loads it, and with it TRL (as a reward function, or in
    RewardTrainer) and vLLM (``--runner pooling``, architectures named ``*ForSequenceClassification``, which
    take the last token). OpenRLHF loads decoders whose score layer is called ``score`` (Llama, Qwen, Mistral,
    Gemma), with ``--value_head_prefix score``; it too takes the last token. The configuration says
    ``problem_type="regression"``, so that a server returns the outputs as they are, without a softmax.

    Args:
        model: fitted with ``mode="finetune"``, or from `from_pretrained`.
        folder: where to.
        overall: make one output of the aspects, their sum weighted by merit, for programs that read one
            reward.
        dtype: of the weights; as they are if None. Scores in bfloat16 have about three digits.

    Warns:
        PalateWarning: a language model without chat template pads with the token that ends its texts, so that
            other programs may take the outputs one token apart.

    Raises:
        ConfigError: the model has no transformer of its own, or a head that transformers does not know.
    """
    scorer = model._fitted()
    if not isinstance(scorer, TunedScorer):
        raise ConfigError(
            'a reward model with mode="frozen" is a network on embeddings, which no other library loads; '
            'export one with mode="finetune", or keep this one with save(folder)'
        )
    if model.head_.name not in ("scalar", "attributes"):
        raise ConfigError(
            f"the head {model.head_.name!r} cannot be exported: its outputs are no scores; "
            "scalar and attributes can, save(folder) keeps every model"
        )
    end = scorer.tokenizer.eos_token
    if scorer.style == "plain" and end is not None and scorer.tokenizer.pad_token == end:
        warnings.warn(
            f"the tokenizer pads with {end!r}, which also ends the texts: transformers takes the outputs at "
            "the token before it, as in training, and programs that take the last token (vLLM, OpenRLHF) one "
            "token later; give the tokenizer a padding token of its own, or a chat template, before training",
            PalateWarning,
            stacklevel=3,
        )
    made = plain(scorer.model)
    names = list(model.head_.aspects) or [OVERALL]
    if overall and model.head_.aspects:
        _fold(made, model.head_.state_dict()["merit"])
        names = [OVERALL]
    if dtype is not None:
        made = made.to(pick_dtype(dtype, made.dtype))
    config = made.config
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.problem_type = "regression"
    config.pad_token_id = config.get_text_config().pad_token_id = scorer.tokenizer.pad_token_id
    folder = Path(folder)
    with quiet():
        made.save_pretrained(str(folder))
        scorer.tokenizer.save_pretrained(str(folder))
    return folder


def _fold(model: Any, merit: torch.Tensor) -> None:
    """Make the last layer give the weighted sum of its outputs."""
    name, last = [item for item in model.named_modules() if isinstance(item[1], nn.Linear)][-1]
    one = nn.Linear(last.in_features, 1, last.bias is not None, dtype=last.weight.dtype)
    with torch.no_grad():
        for to, of in zip(one.parameters(), last.parameters(), strict=True):
            to.copy_((merit @ of.double()).reshape(to.shape))
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, one)
