"""`RewardModel`: scores learnt from preferences, with scikit-learn's habits and a judge's protocol."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from palate import losses
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateError
from palate.judges.base import Comparison, Judge, Scores
from palate.judges.feature_judge import FeatureJudge, ordered
from palate.reward import heads, inputs, tables
from palate.reward.fitting import check_supervised
from palate.reward.scorers import Held, Scorer, TextScorer, make_scorer
from palate.reward.settings import check_settings
from palate.training import seeded
from palate.training.groups import TrainingGroups, groups_for

if TYPE_CHECKING:
    import polars as pl

    from palate.reward.sequences import TooLong
    from palate.runs import Run
    from palate.training import TrainingConfig

Floats = npt.NDArray[np.float64]


class RewardModel(Judge):
    """A model that scores responses, fitted to judgments.

    The constructor only stores its arguments; `fit` learns; what was learnt ends in an underscore.

    Args:
        encoder: what turns a text into numbers: a sentence encoder's name, folder or hub id (with
            ``mode="finetune"`` any transformer), a `palate.judges.FeatureJudge` for a model over named
            features, or "features" to read the data's `features` column, no text.
        head: what the outputs mean, a name of `palate.reward.heads`: "scalar" (one score), "attributes" (one
            score per aspect and a merit vector), "gpm" (preference embeddings, which allow circles), ...
        loss: name of a loss of `palate.losses`, or a sum like "bradley_terry + 0.01 * centering".
        head_params: parameters of the head.
        loss_params: parameters of the loss; of a sum, those of each term by its name. Tied pairs
            are left out unless the loss has a use for them.
        mode: "frozen" keeps the encoder and fits a network on cached embeddings, standardised over the
            training set: over all data at once (L-BFGS), or in steps if `training` is given; "finetune"
            trains low-rank adapters and a linear layer through `palate.training`.
        text: what a frozen encoder reads: "joint" (prompt and response as one text), "response", or "both"
            side by side.
        l2: penalty ``l2 / 2 * |w|^2`` on the network's weights, beside the mean loss, in a full-batch fit.
        pull: what `l2` pulls the weights to: "zero", or "start" (those of `init`).
        groups: "pairs" learns from `data.pairs()`, every pair weighing the same; "lists" from whole
            judgments, every judgment weighing the same; "auto" takes pairs for pairwise losses and lists
            for the others.
        max_iter: most iterations of a frozen fit.
        tolerance: a frozen fit stops when no entry of the gradient exceeds this.
        hidden: widths of the network's hidden layers with ``mode="frozen"``; none is a linear model.
        activation: after each hidden layer: "gelu", "relu", "tanh" or "sigmoid".
        dropout: share of the last layer's inputs dropped in training; needs `training`.
        feature_names: names of the numbers in the data's `features` column, in order; those of a judge that
            is the encoder are its own. They are saved, and features given by name are put in this order.
        columns: what judgments tell the loss beside who won: "strength", "margin", "smoothing" or "source",
            each with the column or metadata key that holds it; see `palate.training.told.COLUMNS`.
        training: settings of training in steps, see `palate.training.TrainingConfig`.
        too_long: what to do with texts beyond the encoder's window: "cut" them, counted in `fit_` and warned
            of, or "error".
        seed: of new weights and of the order of the data.
        name: how it signs as a judge.

    Attributes:
        head_: the fitted head.
        scorer_: maps prompts and responses (or features) to what the head reads.
        loss_: the fitted loss.
        fit_: objective, iterations and whether a frozen fit converged; last metrics for ``mode="finetune"``.
        n_groups_: how many pairs or lists it learnt from.
        n_ties_: judgments left out as ties.
        data_fingerprint_: of the training data.

    The probability that a is preferred to b is the logistic of the difference of their scores where the
    loss is a likelihood of that form (`calibrated`); Bradley & Terry (1952). A model whose head compares
    ("gpm", "pair") has no absolute scores: it gives margins between the responses of a group, each encoded
    once, and scores that are mean margins within the group.
    """

    kind: ClassVar[str] = "model"
    order_matters: ClassVar[bool] = False

    __eq__ = object.__eq__  # two models are not equal for sharing a name
    __hash__ = object.__hash__

    def __init__(
        self,
        encoder: str | FeatureJudge = "all-minilm-l6-v2",
        head: str = "scalar",
        loss: str = "bradley_terry",
        *,
        head_params: Mapping[str, Any] | None = None,
        loss_params: Mapping[str, Any] | None = None,
        mode: Literal["frozen", "finetune"] = "frozen",
        text: inputs.TextBlocks = "both",
        l2: float = 0.1,
        pull: Literal["zero", "start"] = "zero",
        groups: Literal["auto", "pairs", "lists"] = "auto",
        max_iter: int = 500,
        tolerance: float = 1e-6,
        hidden: Sequence[int] = (),
        activation: str = "gelu",
        dropout: float = 0.0,
        feature_names: Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        training: TrainingConfig | Mapping[str, Any] | None = None,
        too_long: TooLong = "cut",
        seed: int = 0,
        name: str = "reward_model",
    ) -> None:
        super().__init__(name)
        self.encoder = encoder
        self.head = head
        self.loss = loss
        self.head_params = head_params
        self.loss_params = loss_params
        self.mode = mode
        self.text = text
        self.l2 = l2
        self.pull = pull
        self.groups = groups
        self.max_iter = max_iter
        self.tolerance = tolerance
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.feature_names = feature_names
        self.columns = columns
        self.training = training
        self.too_long = too_long
        self.seed = seed

    # -- parameters --

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
        from palate.errors import unknown

        for name, value in params.items():
            if name not in self.get_params():
                raise unknown("parameter of RewardModel", name, self.get_params())
            setattr(self, name, value)
        return self

    @property
    def native(self) -> frozenset[str]:  # type: ignore[override]
        """{"score"}, or {"compare"} if the head compares."""
        return frozenset({heads.kind(self.head).native})

    @property
    def calibrated(self) -> bool:  # type: ignore[override]
        """Whether a difference of scores, or the margin of a head that compares, is a log-odds.

        It is one under a loss with `log_odds` (the likelihood of a logistic choice) unless judgments demand
        gaps of their own. Penalties shrink such estimates, as `l2` does, and leave them log-odds.
        """
        loss = self.loss_ if hasattr(self, "loss_") else losses.get(self.loss, **(self.loss_params or {}))
        return loss.log_odds and "margin" not in (self.columns or {})

    # -- learning --

    def fit(
        self,
        data: PreferenceData,
        *,
        run: Run | None = None,
        init: RewardModel | None = None,
        beside: RewardModel | None = None,
        meta: PreferenceData | None = None,
        validation: PreferenceData | None = None,
    ) -> Self:
        """Learn from judgments.

        Args:
            data: judgments with responses, or with features for ``encoder="features"``.
            run: run folder for metrics and checkpoints of training in steps.
            init: a fitted model with the same inputs, network and head to start from.
            beside: a fitted model on the same frozen encoder, which then is loaded and held once.
            meta: responses of a new policy, two or more to a prompt, whose scores are not read: every step is
                taken where the model tells them apart better (MetaRM, `palate.training.MetaStep`, with
                `meta_rate` of `training`).
            validation: judgments that are not learnt, on which `fit_` gives `validation_loss` (without `l2`)
                and `validation_accuracy`. Training in steps measures on them every `eval_steps`, and with
                ``training={"select": "best"}`` the weights of `best_step` are the result.

        Raises:
            DataError: nothing to learn (no pairs, all ties), a text or feature is missing or not finite.
            ConfigError: a parameter cannot be used.
        """
        self._check()
        inputs.check_judgments(data)
        loss = losses.get(self.loss, **(self.loss_params or {}))
        check_supervised(loss)
        if loss.heads and self.head not in loss.heads:
            raise ConfigError(
                f"the loss {self.loss!r} reads a distribution; it needs head={loss.heads[0]!r}, "
                f"got {self.head!r}"
            )
        with seeded(self.seed):
            head = heads.get(self.head, data, **(self.head_params or {})).double()
        groups = self._groups_of(data, loss, head)
        held = None if validation is None else self._held(validation, loss, head, groups)
        if init is None:
            head.check(groups)
        scorer = make_scorer(self.get_params(), head)
        for other in (init, beside):
            if other is not None and isinstance(scorer, TextScorer):
                scorer.share(other._fitted())
        start = init._fitted() if init is not None else None
        self.fit_ = scorer.fit(data, groups, loss, run, start, meta, held)
        self.head_, self.scorer_, self.loss_ = head.eval(), scorer, loss
        self.n_groups_, self.n_ties_ = len(groups), groups.ties
        self.data_fingerprint_ = data.fingerprint()
        return self

    def _groups_of(self, data: PreferenceData, loss: losses.Loss, head: heads.Head) -> TrainingGroups:
        return groups_for(
            loss, data, groups=self.groups, columns=self.columns, aspects=head.aspects, seed=self.seed
        )

    def _held(
        self, data: PreferenceData, loss: losses.Loss, head: heads.Head, learnt: TrainingGroups
    ) -> Held:
        try:
            return Held(data, self._groups_of(data, loss, head).coded_as(learnt))
        except DataError as error:
            raise DataError(
                f"in the validation data: {error.problem}", remedy=error.remedy, file=error.file,
                row=error.row, field=error.field,
            ) from None  # fmt: skip

    def _check(self) -> None:
        check_settings(self.get_params())

    # -- scoring --

    def _fitted(self) -> Scorer:
        if not hasattr(self, "scorer_"):
            raise PalateError(
                "this reward model has not been fitted; call fit(data) or RewardModel.load(folder)"
            )
        return self.scorer_

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        outputs = self._fitted().texts(prompts, responses)
        return Scores(self._overall(outputs), spread=self._spread(outputs))

    def score(
        self, prompts: Sequence[str], responses: Sequence[str] | Sequence[Sequence[str]], **options: Any
    ) -> Scores:
        """As `Judge.score`. A head that compares scores a response by its mean margin over its group, itself
        included, so such scores depend on the group.

        Raises:
            ConfigError: the head compares, and single responses are given.
        """
        if "score" in self.native:
            return super().score(prompts, responses, **options)
        return Scores(tables.mean_scores(self.margins(prompts, responses)))

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        table = self.margins(prompts, list(zip(a, b, strict=True)))
        return Comparison(self.preference(table[:, 0, 1] if len(a) else np.empty(0)))

    def compare_table(
        self, prompts: Sequence[str], responses: Sequence[Sequence[str]], **options: Any
    ) -> Floats:
        """As `Judge.compare_table`, from one pass over the responses."""
        return self.preference(self.margins(prompts, responses))

    def margins(self, prompts: Sequence[str], responses: Sequence[Sequence[str]]) -> Floats:
        """By how much response i to a prompt is preferred to j, shape (n, k, k), NaN where padded: log-odds
        where the model is `calibrated`. Each response is encoded once.

        Raises:
            ConfigError: single responses are given in place of groups.
        """
        if len(responses) and any(isinstance(group, str) for group in responses):
            raise ConfigError(
                f"margins are between the responses to a prompt, and the head {self.head!r} has no absolute "
                "score of one alone; give groups of two or more responses"
                if "compare" in self.native
                else "margins are between the responses to a prompt; give groups of responses"
            )
        scorer, lengths = self._fitted(), np.array([len(group) for group in responses], dtype=np.int64)
        if len(prompts) != len(lengths):
            raise ConfigError(
                f"one group of responses per prompt is needed; got {len(prompts)} and {len(lengths)}"
            )
        asked = [prompt for prompt, k in zip(prompts, lengths, strict=True) for _ in range(k)]
        outputs = scorer.texts(asked, [text for group in responses for text in group])
        return tables.margins(self.head_, outputs, lengths, scorer.contexts(list(prompts)))

    def margins_data(self, data: PreferenceData) -> Floats:
        """Margins between the alternatives of every judgment, as `margins`; shape (n, k, k)."""
        scorer, contexts = self._fitted(), None
        if self.head_.context_width:
            contexts = scorer.contexts([prompt or "" for prompt in data.column("prompt").to_pylist()])
        return tables.margins(self.head_, scorer.data(data), np.diff(data.offsets()), contexts)

    def _overall(self, outputs: Floats) -> Floats:
        """Overall scores of shape (...) from outputs of shape (..., width)."""
        if "compare" in self.native and (outputs.ndim < 2 or outputs.shape[-2] < 2):
            raise ConfigError(
                f"the head {self.head!r} compares and has no absolute score of one response; "
                "give groups of two or more"
            )
        with torch.no_grad():
            return self.head_.score(torch.from_numpy(outputs)).numpy()

    def _spread(self, outputs: Floats) -> Floats | None:
        """Standard deviations of shape (...) from outputs (..., width), if the loss taught them."""
        if self.head not in self.loss_.heads:
            return None
        with torch.no_grad():
            spread = self.head_.spread(torch.from_numpy(outputs))
        return None if spread is None else spread.numpy()

    @property
    def feature_names_(self) -> tuple[str, ...]:
        """Names of the features in order of the inputs; empty where they have none."""
        return getattr(self._fitted(), "names", ())

    def score_features(self, features: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> Floats:
        """Scores for feature vectors of shape (..., d), shape (...); for models of features.

        Features may be given by name, in any order, each of shape (...), if they have names. A head that
        compares scores within groups: vectors of shape (..., k, d), k of 2 or more.

        Raises:
            DataError: a feature is missing or not finite, or the length of a vector is wrong.
        """
        if isinstance(features, Mapping):
            features = ordered(features, self.feature_names_)
        return self._overall(self._fitted().features(inputs.vectors(features)))

    def explain(self, data: PreferenceData | None = None) -> pl.DataFrame:
        """How much each feature counts; see `palate.reward.explain.explain`."""
        from palate.reward.explain import explain

        self._fitted()
        return explain(self, data)

    def attributes(self, prompts: Sequence[str], responses: Sequence[str]) -> pl.DataFrame:
        """Every aspect of n responses and their `goodness`; see `palate.reward.explain.attributes`."""
        from palate.reward.explain import attributes

        self._fitted()
        return attributes(self, prompts, responses)

    def score_data(self, data: PreferenceData) -> Scores:
        """Scores of every alternative of the judgments, shape (n, k) padded with NaN.

        A judgment of an aspect that the head scores gets that aspect's scores, any other the overall ones.
        """
        if "compare" in self.native:
            return Scores(tables.mean_scores(self.margins_data(data)))
        outputs, lengths = self._fitted().data(data), np.diff(data.offsets())
        spread = self._spread(outputs)
        return Scores(
            tables.padded(tables.of_aspects(self.head_, outputs, self._overall(outputs), data), lengths),
            spread=None if spread is None else tables.padded(spread, lengths),
        )

    def predict_proba(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Floats:
        """Shape (n, 2): the probabilities that a and that b is preferred.

        Raises:
            ConfigError: the loss gives no probabilities.
        """
        if not self.calibrated:
            odds = ", ".join(name for name in losses.names() if losses.get(name).log_odds)
            raise ConfigError(
                f"scores under the loss {self.loss!r} are no log-odds; use compare, or one of {odds}"
            )
        first = self.compare(prompts, a, b).probability
        return np.stack([first, 1.0 - first], axis=1)

    # -- keeping --

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model: JSON and safetensors, and a transformers or peft folder if tuned."""
        from palate.reward.store import save

        self._fitted()
        return save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> RewardModel:
        """A reward model that any library trained as a sequence classifier; see
        `palate.reward.interop.from_pretrained`."""
        from palate.reward.interop import from_pretrained

        return from_pretrained(name, **options)

    def export(self, folder: str | Path, **options: Any) -> Path:
        """Write a folder that transformers loads; see `palate.reward.interop.export`."""
        from palate.reward.interop import export

        return export(self, folder, **options)

    @classmethod
    def load(cls, folder: str | Path, *, encoder: FeatureJudge | None = None) -> RewardModel:
        """Read what `save` wrote.

        Args:
            encoder: the judge of the features of a model that was fitted with one; it is code, which a folder
                does not hold. Without it the model scores features, not texts.

        Raises:
            ConfigError: the folder is no reward model, is of another version, or is damaged; or the judge
                does not score the model's features.
        """
        from palate.reward.store import load

        return load(Path(folder), encoder)
