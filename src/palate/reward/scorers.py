"""How a fitted reward model turns texts or features into scores on a frozen input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges.feature_judge import FeatureJudge
from palate.losses import Loss, Scored
from palate.reward import inputs
from palate.reward.fitting import InputGroups, check_fit, fit_network, score_inputs, train_network
from palate.reward.heads import Head
from palate.reward.linear import Array
from palate.reward.network import Network
from palate.training import (
    Groups,
    MetaStep,
    ScoreFunction,
    TrainingConfig,
    TrainingGroups,
    configure,
    measured,
    unlabelled_of,
)

if TYPE_CHECKING:
    from palate.runs import Run

Floats = npt.NDArray[np.float64]
FEATURES = "features"
_BLOCK = 1 << 16  # responses whose outputs are computed at once
_HELD = 1 << 12  # groups that are measured at once


class Held(NamedTuple):
    """Groups to measure on, and the data whose alternatives they point at."""

    data: PreferenceData
    groups: TrainingGroups


class Scorer(Protocol):
    """Maps texts, features or data to what the head reads: outputs of shape (n, width)."""

    head: Head

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
        """Learn from groups of the data's alternatives, from new weights or those of `init`, and with `meta`
        to tell its responses apart; returns how the fit ended, and what it comes to on `validation`."""
        ...

    def write(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A description for JSON and tensors for safetensors; anything larger goes into `folder`."""
        ...

    def read(self, folder: Path, described: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Bring back what `write` gave."""
        ...

    def texts(self, prompts: list[str], responses: list[str]) -> Floats:
        """Outputs for n responses, shape (n, width)."""
        ...

    def features(self, features: Floats) -> Floats:
        """Outputs for vectors of shape (..., d), shape (..., width)."""
        ...

    def data(self, data: PreferenceData) -> Floats:
        """Outputs for the flat alternatives of `data`, shape (alternatives, width)."""
        ...

    def contexts(self, prompts: list[str]) -> Floats | None:
        """What the head reads of n prompts, shape (n, context_width); None for a head that reads none."""
        ...


class _NetworkScorer:
    """What the two kinds of fixed inputs share: fit a network, apply it."""

    def __init__(self, settings: dict[str, Any], head: Head) -> None:
        self.settings = settings
        self.head = head
        self.network: Network | None = None

    def _network(self, dim: int, context_dim: int = 0) -> Network:
        s = self.settings
        return Network(dim, self.head, s["hidden"], s["activation"], s["dropout"], s["seed"], context_dim)

    def _fit(
        self,
        values: Array,
        position: npt.NDArray[np.int64],
        groups: TrainingGroups,
        loss: Loss,
        run: Run | None,
        init: Scorer | None,
        meta: PreferenceData | None = None,
        prompts: Array | None = None,
        validation: Held | None = None,
    ) -> dict[str, Any]:
        """`prompts` are the distinct embeddings of prompts, for a head that reads them."""
        s = self.settings
        context_dim = 0 if prompts is None else prompts.shape[1]
        self.network = network = self._network(values.shape[1], context_dim)
        if init is None:
            network.standardise_on(values)
            if prompts is not None:
                network.standardise_prompts_on(prompts)
        else:
            _take_over(network, getattr(init, "network", None))
        check_fit(loss, s["dropout"], s["training"] is not None)
        groups.prepare(loss, network.last.in_features)
        if s["training"] is None:
            if meta is not None:
                raise ConfigError("learning to tell responses apart (meta) needs training={'steps': ...}")
            ended = fit_network(
                network, values, position, groups, loss,
                l2=s["l2"], pull=s["pull"], max_iter=s["max_iter"], tolerance=s["tolerance"],
            )  # fmt: skip
            held = None if validation is None else self._held(network, validation)
            return ended if held is None else ended | _on_validation(network, held, loss)
        held = None if validation is None else self._held(network, validation)
        config = training_config(s)
        climb = None if meta is None else self._meta(network, meta, config)
        return train_network(network, values, position, groups, loss, config, run, climb, held)

    def _held(self, network: Network, held: Held) -> InputGroups:
        values, position = inputs.used(self.inputs_of(held.data), held.groups.position)
        self._check_length(values)
        return InputGroups.of(network, values, position, self._told(held.data, held.groups))

    def _told(self, data: PreferenceData, groups: TrainingGroups) -> TrainingGroups:
        """The groups with what the head reads beside responses."""
        return groups

    def _meta(self, network: Network, data: PreferenceData, config: TrainingConfig) -> MetaStep:
        if self.head.context_width:
            raise ConfigError(f"the head {self.head.name!r} reads prompts by themselves; meta is not for it")
        groups = unlabelled_of(data)
        made = InputGroups.of(network, self.inputs_of(data), groups.position, groups)
        return meta_step(made, _one_pass, config)

    def inputs_of(self, data: PreferenceData) -> Array:
        """The inputs of every flat alternative, shape (alternatives, d)."""
        raise NotImplementedError

    def write(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        assert self.network is not None
        # The head is part of the network, and kept on its own.
        state = {k: v for k, v in self.network.state_dict().items() if not k.startswith("head.")}
        return {"dim": self.network.dim, "context_dim": self.network.context_dim}, state

    def read(self, folder: Path, described: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.network = self._network(described["dim"], described["context_dim"])
        head = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        self.network.load_state_dict({**tensors, **head})
        self.network.eval()

    def _apply(self, values: Array) -> Floats:
        assert self.network is not None
        self._check_length(values)
        wanted = self.network.dim
        flat = values.reshape(-1, wanted)
        made = np.empty((len(flat), self.head.width))
        with torch.no_grad():
            for start in range(0, len(flat), _BLOCK):
                block = torch.from_numpy(flat[start : start + _BLOCK].astype(np.float64))
                made[start : start + _BLOCK] = self.network(block).numpy()
        return made.reshape(*values.shape[:-1], made.shape[1])

    def _check_length(self, values: Array) -> None:
        assert self.network is not None
        wanted = self.network.dim
        if values.shape[-1] != wanted:
            raise DataError(
                f"vectors of length {values.shape[-1]} where the model was fitted on {wanted}",
                field="features", remedy="use the features it was fitted on",
            )  # fmt: skip


def _take_over(network: Network, from_: Network | None) -> None:
    """Start from another network's standardisation and weights."""
    try:
        if from_ is None:
            raise RuntimeError
        network.load_state_dict(from_.state_dict())
    except RuntimeError:
        raise ConfigError("init must be a model with the same inputs, hidden layers and head") from None


def training_config(settings: dict[str, Any]) -> TrainingConfig:
    """The settings of training in steps, with the model's seed unless they name one."""
    given = settings["training"]
    if isinstance(given, TrainingConfig):
        return given
    return configure(TrainingConfig, {"seed": settings["seed"], **(given or {})})


def meta_step(groups: Groups, score: ScoreFunction, config: TrainingConfig) -> MetaStep:
    """MetaRM's step, with the settings and the batches of the training it belongs to."""
    return MetaStep(groups, score, eta=config.meta_rate, batch_size=config.batch_size, seed=config.seed)


def _on_validation(network: Network, held: InputGroups, loss: Loss) -> dict[str, float]:
    found = measured(network.eval(), held, score_inputs(loss), loss, batch_size=_HELD)
    return {f"validation_{name}": found[name] for name in ("loss", "accuracy") if name in found}


def _one_pass(network: Any, batch: dict[str, Any]) -> Scored:
    scored: Scored = network.scored(batch["inputs"], batch)
    return scored


class FeatureScorer(_NetworkScorer):
    """Reads the `features` column; its numbers may have names."""

    def __init__(self, settings: dict[str, Any], head: Head) -> None:
        super().__init__(settings, head)
        self.names: tuple[str, ...] = tuple(settings["feature_names"] or ())
        if len(set(self.names)) < len(self.names):
            raise ConfigError("feature_names holds a name twice")

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
        values, position = inputs.used(self.inputs_of(data), groups.position)
        inputs.warn_of_constants(values, self.names)
        return self._fit(values, position, groups, loss, run, init, meta, validation=validation)

    def texts(self, prompts: list[str], responses: list[str]) -> Floats:
        raise ConfigError(
            "this reward model was fitted on features and reads no text; use score_features or score_data, "
            "or give the judge of its features: RewardModel.load(folder, encoder=judge)"
        )

    def contexts(self, prompts: list[str]) -> Floats | None:
        return None

    def features(self, features: Floats) -> Floats:
        if not np.isfinite(features).all():
            raise DataError(
                "a feature that is not finite", field="features", remedy="fill in or drop missing values"
            )
        return self._apply(features)

    def inputs_of(self, data: PreferenceData) -> Array:
        """The features of every flat alternative, shape (alternatives, d)."""
        return inputs.features_of(data, self.names)

    def data(self, data: PreferenceData) -> Floats:
        return self._apply(self.inputs_of(data))


class TextScorer(_NetworkScorer):
    """Reads prompts and responses through a frozen sentence encoder, with its embeddings cached on disk."""

    def __init__(self, settings: dict[str, Any], head: Head) -> None:
        super().__init__(settings, head)
        self._encoder: Any = None
        self.encoder_fingerprint: str | None = None

    @property
    def encoder(self) -> Any:
        """The sentence encoder, loaded when first needed.

        Raises:
            ConfigError: the encoder has changed since the head was fitted on it.
        """
        if self._encoder is None:
            from palate.models import load_encoder

            loaded = load_encoder(self.settings["encoder"])
            if self.encoder_fingerprint not in (None, loaded.fingerprint):
                raise ConfigError(
                    f"the encoder {self.settings['encoder']!r} is not the one this model was fitted on; "
                    "fit it again"
                )
            self._encoder, self.encoder_fingerprint = loaded, loaded.fingerprint
        return self._encoder

    def share(self, other: Scorer) -> None:
        """Use the encoder that another scorer has loaded, or would load, where it is the same."""
        if (
            isinstance(other, TextScorer)
            and other.settings["encoder"] == self.settings["encoder"]
            and self.encoder_fingerprint in (None, other.encoder.fingerprint)
        ):
            self._encoder, self.encoder_fingerprint = other.encoder, other.encoder_fingerprint

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
        prompts, responses = inputs.texts_of(data)
        used, place = np.unique(groups.position, return_inverse=True)
        values, text, cut = self._inputs(
            [prompts[i] for i in used], [responses[i] for i in used], inputs.rows_of(data, used)
        )
        position = text[place.reshape(groups.position.shape)]
        counted = {"truncated_responses": cut}
        if not self.head.context_width:
            return self._fit(values, position, groups, loss, run, init, meta, None, validation) | counted
        told, embedded = self._with_contexts(data, groups)
        return self._fit(values, position, told, loss, run, init, meta, embedded, validation) | counted

    def _told(self, data: PreferenceData, groups: TrainingGroups) -> TrainingGroups:
        return self._with_contexts(data, groups)[0] if self.head.context_width else groups

    def _with_contexts(self, data: PreferenceData, groups: TrainingGroups) -> tuple[TrainingGroups, Array]:
        """The groups with the embeddings of their prompts, and the distinct embeddings."""
        asked = pl.Series(pl.from_arrow(data.column("prompt")), dtype=pl.String).fill_null("")
        distinct = asked.gather(groups.judgment).unique(maintain_order=True)
        embedded, lengths = self._embedded([distinct.to_list()])
        self.encoder.warn_of_cuts(lengths)
        code = asked.gather(groups.judgment).replace_strict(distinct, np.arange(len(distinct))).to_numpy()
        return replace(groups, extra={**groups.extra, "context": embedded[code]}), embedded

    def _inputs(
        self, prompts: list[str], responses: list[str], rows: inputs.Integers | None = None
    ) -> tuple[Array, inputs.Integers, int]:
        """Vectors of the distinct texts, the place of each text given among them, and of how many of those
        given the encoder reads only the beginning; `rows` are where they come from, for an error."""
        distinct_prompts, distinct, place = inputs.unique_texts(prompts, responses)
        values, lengths = self._embedded(
            inputs.encoder_texts(distinct_prompts, distinct, self.settings["text"])
        )
        if self.settings["too_long"] == "error":
            inputs.refuse_long(lengths[place], self.encoder.max_length, rows)
        self.encoder.warn_of_cuts(lengths[place])
        return values, place, int((lengths[place] > self.encoder.max_length).sum())

    def inputs_of(self, data: PreferenceData) -> Array:
        prompts, responses = inputs.texts_of(data)
        values, place, _ = self._inputs(prompts, responses)
        return values[place]

    def _embedded(self, blocks: list[list[str]]) -> tuple[Array, inputs.Integers]:
        """The embeddings of blocks of equally many texts side by side, and the most tokens of each."""
        from palate.models import embed_counting

        found = [embed_counting(self.encoder, block) for block in blocks]
        lengths = np.max([count for _, count in found], axis=0)
        values = np.concatenate([vectors for vectors, _ in found], axis=1)
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise DataError(
                f"the encoder gave {int(bad.sum())} embeddings that are not finite, first for the text "
                f"{blocks[-1][int(np.flatnonzero(bad)[0])][:60]!r}",
                field="responses", remedy="clear the embedding cache or use another encoder",
            )  # fmt: skip
        return values, lengths

    def write(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        described, tensors = super().write(folder)
        return {**described, "encoder_fingerprint": self.encoder_fingerprint}, tensors

    def read(self, folder: Path, described: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().read(folder, described, tensors)
        self.encoder_fingerprint = described["encoder_fingerprint"]

    def texts(self, prompts: list[str], responses: list[str]) -> Floats:
        if not prompts:
            return np.empty((0, self.head.width))
        return self._scored(prompts, responses)

    def _scored(
        self, prompts: list[str], responses: list[str], rows: inputs.Integers | None = None
    ) -> Floats:
        values, place, _ = self._inputs(prompts, responses, rows)
        return self._apply(values)[place]

    def contexts(self, prompts: list[str]) -> Floats | None:
        if not self.head.context_width:
            return None
        assert self.network is not None
        if not prompts:
            return np.empty((0, self.head.context_width))
        with torch.no_grad():
            return self.network.context(torch.from_numpy(self._embedded([prompts])[0])).numpy()

    def features(self, features: Floats) -> Floats:
        raise ConfigError("this reward model was fitted on texts and reads no features; use score")

    def data(self, data: PreferenceData) -> Floats:
        prompts, responses = inputs.texts_of(data)
        if not prompts:
            return np.empty((0, self.head.width))
        return self._scored(prompts, responses, inputs.rows_of(data, np.arange(len(prompts))))


def make_scorer(settings: dict[str, Any], head: Head) -> Scorer:
    """The scorer that a reward model's parameters ask for.

    Raises:
        ConfigError: the head reads prompts, which only a frozen encoder of texts gives alone.
    """
    if head.context_width and (settings["mode"] == "finetune" or settings["encoder"] == FEATURES):
        raise ConfigError(
            f"the head {head.name!r} with these parameters reads the prompt alone, which needs "
            'mode="frozen" and an encoder of texts'
        )
    if settings["mode"] == "finetune":
        from palate.reward.finetune import TunedScorer

        return TunedScorer(settings, head)
    if isinstance(settings["encoder"], FeatureJudge):
        from palate.reward.judged import JudgeScorer

        return JudgeScorer(settings, head)
    kind = FeatureScorer if settings["encoder"] == FEATURES else TextScorer
    return kind(settings, head)
