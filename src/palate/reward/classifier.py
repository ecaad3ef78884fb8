"""`PreferenceAugmentedClassifier`: a classifier that also learns which inputs are more of their class."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from transformers import TrainerCallback

from palate.data.label_preferences import LabelPreferences
from palate.errors import ConfigError, DataError, PalateError, PalateWarning, unknown
from palate.losses.p2c import PreferToClassify
from palate.reward.inputs import all_finite
from palate.reward.label_network import LabelInput, LabelNetwork
from palate.reward.labels import checked_labels, checked_preferences, checked_shares, class_codes
from palate.reward.partners import SAMPLERS, PartnerGroups, Sampler
from palate.reward.scorers import FEATURES
from palate.training import PreferenceTrainer, TrainingConfig, configure

if TYPE_CHECKING:
    from palate.models import TextEncoder

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Inputs = npt.ArrayLike | Sequence[str]
_TRAINING = {
    "epochs": 20, "batch_size": 16, "learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0,
    "max_grad_norm": 0.0, "logging_steps": 100,
}  # fmt: skip
_BLOCK = 1 << 14


class PreferenceAugmentedClassifier:
    """A classifier trained along with preferences between inputs of one class (Kim et al., 2023).

    Cheap comparisons, "which of these two is more of the class both are labelled with", teach a trunk that
    the class layer shares, and the class probabilities are held to them. Predictions use the class layer
    alone. The loss is `palate.losses.PreferToClassify`; inputs are standardised features, or texts through a
    frozen encoder.

    Args:
        encoder: "features" for arrays of numbers, or a sentence encoder's name, folder or hub id.
        classes: all classes, in order of the columns of soft labels; None takes those of the labels, sorted.
        heads: preference heads T.
        label_input: how heads are told the label, "embedding" or "repeat"; see
            `palate.reward.label_network.LabelNetwork`.
        lambda_pref, lambda_cons, lambda_div: weights of the preference loss, of the consistency of class
            probabilities with preferences, and of the diversity of heads.
        consistency: "order" of probabilities, or "margin": a difference at least as large as that of soft
            labels.
        soft_targets: learn soft labels in place of labels.
        sampler: which partner an input meets, see `palate.reward.partners.PartnerGroups`.
        hidden, activation, dropout: of the trunk.
        training: settings of `palate.training.TrainingConfig`.
        seed: of weights, partners and order.

    Attributes:
        classes_: shape (classes,).
        network_: the fitted network.
        fit_: last metrics of training; with validation data `validation_accuracy` and `chosen_step`.
        n_alone_: inputs left out as the only ones of their class.
        n_unjudged_: inputs in no comparison, which taught the class alone.
        encoder_fingerprint_: of the sentence encoder; None where inputs are features.
    """

    encoder_fingerprint_: str | None = None

    def __init__(
        self,
        encoder: str = FEATURES,
        classes: Sequence[Any] | None = None,
        *,
        heads: int = 3,
        label_input: LabelInput = "embedding",
        lambda_pref: float = 1.0,
        lambda_cons: float = 1.0,
        lambda_div: float = 0.1,
        consistency: Literal["order", "margin"] = "order",
        soft_targets: bool = False,
        sampler: Sampler = "random",
        hidden: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.1,
        training: TrainingConfig | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.classes = classes
        self.heads = heads
        self.label_input = label_input
        self.lambda_pref = lambda_pref
        self.lambda_cons = lambda_cons
        self.lambda_div = lambda_div
        self.consistency = consistency
        self.soft_targets = soft_targets
        self.sampler = sampler
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.training = training
        self.seed = seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments as they are now."""
        return {
            name: getattr(self, name)
            for name in inspect.signature(type(self).__init__).parameters
            if name != "self"
        }

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments.

        Raises:
            ConfigError: an unknown name.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise unknown("parameter of PreferenceAugmentedClassifier", name, self.get_params())
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: Inputs,
        y: npt.ArrayLike,
        preferences: LabelPreferences | npt.ArrayLike | None = None,
        soft_labels: npt.ArrayLike | None = None,
        *,
        validation: tuple[Inputs, npt.ArrayLike] | None = None,
    ) -> Self:
        """Learn from labels, and comparisons of inputs of the same label.

        Args:
            X: n inputs: features of shape (n, d), or texts.
            y: shape (n,), labels.
            preferences: comparisons, or rows (first, second, code) of shape (m, 3) with places in X and code
                1 (the first is more of the class), 0 (the second is) or 2 (neither). None takes them from
                soft labels: the input with the larger share of votes for its class is more of it.
            soft_labels: shape (n, classes), shares of annotators' votes, see
                `palate.data.label_preferences.vote_shares`.
            validation: inputs and labels; the weights kept are those after the pass over the data with the
                highest accuracy on them.

        Raises:
            DataError: numbers of inputs, labels and soft labels differ, an input is not finite, a class is
                unknown, two inputs that are compared differ in their labels, soft labels are no shares, or
                are needed and missing.
            ConfigError: a parameter out of range, or neither preferences nor soft labels for a loss that
                wants them.

        Warns:
            PalateWarning: inputs that are alone in their class are left out.
        """
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        loss = PreferToClassify(
            heads=self.heads, lambda_pref=self.lambda_pref, lambda_cons=self.lambda_cons,
            lambda_div=self.lambda_div, consistency=self.consistency, soft_targets=self.soft_targets,
        )  # fmt: skip
        values = self._inputs(X)
        labels = checked_labels(y, len(values))
        self.classes_ = np.unique(labels) if self.classes is None else np.asarray(self.classes)
        if len(self.classes_) < 2:
            raise DataError("every input has the same label", field="y", remedy="give at least two classes")
        code = class_codes(labels, self.classes_)
        shares = None if soft_labels is None else checked_shares(soft_labels, len(values), len(self.classes_))
        given = checked_preferences(preferences, labels)
        if shares is None and loss.needs_shares:
            raise DataError(
                "margins between inputs and soft targets are taken from soft labels", field="soft_labels",
                remedy="give soft_labels, or use consistency='order' and soft_targets=False",
            )  # fmt: skip
        if shares is None and given is None and (self.lambda_pref or self.lambda_cons):
            raise ConfigError(
                "there are no preferences to learn; give preferences or soft_labels, or set lambda_pref and "
                "lambda_cons to 0"
            )
        rows = self._with_partner(code)
        network = self.new_network(values.shape[1])
        network.trunk.standardise_on(values[rows])
        standard = network.trunk.standardise(torch.from_numpy(values)).numpy()
        self.network_ = network
        self.n_unjudged_ = len(rows)
        if given is not None:
            self.n_unjudged_ -= len(np.unique(given.pairs))
        elif shares is not None:
            self.n_unjudged_ = 0

        def state() -> tuple[Floats, Floats]:
            return self._read(standard, code)

        groups = PartnerGroups(standard, code, rows, shares, given, self.sampler, self.seed, state)
        config = self._config()
        trainer = PreferenceTrainer(network, groups, network.score, loss, config, stage="classifier")
        chosen = None
        if validation is not None:
            held = self._standard(validation[0])
            known = class_codes(checked_labels(validation[1], len(held)), self.classes_, "validation")
            each = -(-len(rows) // (config.batch_size * config.gradient_accumulation))
            chosen = _Best(lambda: float((self._read(held)[0].argmax(1) == known).mean()), network, each)
            trainer.add_callback(chosen)
        last = trainer.fit()
        network.cpu().eval()
        self.fit_ = {name: value for name, value in last.items() if name not in ("time", "stage")}
        if chosen is not None:
            network.load_state_dict(chosen.weights)
            self.fit_ |= {"validation_accuracy": chosen.accuracy, "chosen_step": chosen.step}
        return self

    def predict_proba(self, X: Inputs) -> Floats:
        """Probabilities of the classes in `classes_`, shape (n, classes)."""
        return self._read(self._standard(X))[0]

    def predict(self, X: Inputs) -> npt.NDArray[Any]:
        """The most probable class of each input, shape (n,)."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def score(self, X: Inputs, y: npt.ArrayLike) -> float:
        """Share of inputs whose predicted class is their label."""
        predicted = self.predict(X)
        return float((predicted == checked_labels(y, len(predicted))).mean())

    def prefer(self, x1: Inputs, x2: Inputs, y: npt.ArrayLike) -> Floats:
        """Probability that x1 is more of class y than x2, the mean over heads, shape (n,).

        Args:
            x1, x2: n inputs each.
            y: shape (n,), classes to compare by; one class for all of them.
        """
        first, second = self._standard(x1), self._standard(x2)
        if len(first) != len(second):
            raise DataError(f"{len(first)} and {len(second)} inputs to compare", field="x2")
        asked = (
            np.broadcast_to(np.asarray(y), len(first)) if np.ndim(y) == 0 else checked_labels(y, len(first))
        )
        code = class_codes(asked, self.classes_)
        difference = self._read(first, code)[1] - self._read(second, code)[1]
        return np.asarray((0.5 + 0.5 * np.tanh(0.5 * difference)).mean(axis=1))

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model: ``classifier.json`` and ``weights.safetensors``."""
        from palate.reward.classifier_store import save

        self._fitted()
        return save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> PreferenceAugmentedClassifier:
        """Read what `save` wrote.

        Raises:
            ConfigError: there is no such model, it is damaged, or of another version.
        """
        from palate.reward.classifier_store import load

        return load(Path(folder))

    # -- parts --

    def _config(self) -> TrainingConfig:
        if isinstance(self.training, TrainingConfig):
            return self.training
        return configure(TrainingConfig, {"seed": self.seed, **_TRAINING, **(self.training or {})})

    def new_network(self, dim: int) -> LabelNetwork:
        """A network for inputs of length `dim` and the classes in `classes_`, with new weights."""
        return LabelNetwork(
            dim,
            len(self.classes_),
            self.heads,
            self.label_input,
            self.hidden,
            self.activation,
            self.dropout,
            self.seed,
        )

    def _fitted(self) -> LabelNetwork:
        if not hasattr(self, "network_"):
            raise PalateError(
                "this classifier has not been fitted; call fit(X, y) or "
                "PreferenceAugmentedClassifier.load(folder)"
            )
        return self.network_

    def _with_partner(self, code: Ints) -> Ints:
        """Places of inputs that are not alone in their class; the others are counted."""
        count = np.bincount(code, minlength=len(self.classes_))
        kept = count[code] > 1
        self.n_alone_ = int((~kept).sum())
        if not kept.any():
            raise DataError("no two inputs have the same label", field="y", remedy="give more of each class")
        if self.n_alone_:
            names = ", ".join(repr(name) for name in self.classes_[count == 1].tolist()[:5])
            warnings.warn(
                f"{self.n_alone_} inputs are left out, each the only one of its class and without another to "
                f"compare it with: {names}",
                PalateWarning,
                stacklevel=3,
            )
        return np.flatnonzero(kept)

    def _inputs(self, X: Inputs) -> Floats:
        """Numbers the trunk reads, not standardised, shape (n, d)."""
        if self.encoder != FEATURES:
            from palate.models import embed

            if isinstance(X, str) or not all(isinstance(text, str) for text in X):  # type: ignore[union-attr]
                raise DataError("inputs that are no texts", field="X", remedy="give a list of texts")
            return embed(self._text_encoder(), list(X)).astype(np.float64)  # type: ignore[arg-type]
        try:
            values = np.asarray(X, dtype=np.float64)
        except ValueError:
            raise DataError("inputs that are no numbers", field="X",
                            remedy="give features, or name an encoder for texts") from None  # fmt: skip
        if values.ndim != 2:
            raise DataError(f"features of shape {values.shape}", field="X", remedy="give (n, d)")
        if not all_finite(values):
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DataError("a feature that is not finite", row=row + 1, field="X",
                            remedy="fill in or drop missing values")  # fmt: skip
        return values

    def _text_encoder(self) -> TextEncoder:
        from palate.models import load_encoder

        if not hasattr(self, "_loaded"):
            loaded = load_encoder(self.encoder)
            if self.encoder_fingerprint_ not in (None, loaded.fingerprint):
                raise ConfigError(
                    f"the encoder {self.encoder!r} is not the one this classifier was fitted on; fit it again"
                )
            self._loaded, self.encoder_fingerprint_ = loaded, loaded.fingerprint
        return self._loaded

    def _standard(self, X: Inputs) -> Floats:
        network, values = self._fitted(), self._inputs(X)
        if values.shape[1] != network.trunk.dim:
            raise DataError(
                f"features of length {values.shape[1]} where the classifier was fitted on "
                f"{network.trunk.dim}", field="X",
            )  # fmt: skip
        trunk = network.trunk
        return np.asarray((values - trunk.mean.cpu().numpy()) / trunk.scale.cpu().numpy())

    def _read(self, standard: Floats, code: Ints | None = None) -> tuple[Floats, Floats]:
        """Class probabilities (n, classes), and preference scores (n, heads) by the classes in `code`."""
        network = self._fitted()
        was_training, device = network.training, network.trunk.last.weight.device
        code = np.zeros(len(standard), dtype=np.int64) if code is None else code
        outputs = np.empty((len(standard), network.classes + len(network.heads)))
        network.eval()
        with torch.no_grad():
            for start in range(0, len(standard), _BLOCK):
                part = slice(start, start + _BLOCK)
                told = torch.from_numpy(code[part]).to(device)
                outputs[part] = network(torch.from_numpy(standard[part]).to(device), told).cpu().numpy()
        network.train(was_training)
        logits = outputs[:, : network.classes]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True), outputs[:, network.classes :]


class _Best(TrainerCallback):  # type: ignore[misc]
    """Keeps the weights after the pass with the highest accuracy, the first of equals."""

    def __init__(self, accuracy: Any, network: LabelNetwork, each: int) -> None:
        self.measure, self.network, self.each = accuracy, network, each
        self.accuracy, self.step = -1.0, 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.each and state.global_step < args.max_steps:
            return
        found = self.measure()
        if found > self.accuracy:
            self.accuracy, self.step = found, state.global_step
            self.weights = {n: value.detach().cpu().clone() for n, value in self.network.state_dict().items()}
