"""Several reward models in place of one: their mean is steadier, and where they differ nothing was learnt."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from palate.data import PreferenceData
from palate.errors import ConfigError, PalateError, PalateWarning, unknown
from palate.judges.base import Comparison, Judge, Scores
from palate.progress import track
from palate.reward.model import RewardModel
from palate.reward.scorers import TextScorer
from palate.runs import Run, atomic_write, to_json
from palate.seeding import generator
from palate.training import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from palate.judges import FeatureJudge

Floats = npt.NDArray[np.float64]
Bootstrap = Literal["none", "pairs", "prompts"]
Answer = TypeVar("Answer")

VERSION = 1
KIND = "palate.reward.ensemble"
AGREE = 1e-9
"""Members whose scores differ by less than this share of their spread over the data say the same."""

SAME = (
    "the members share seed or data order: they all give the same scores; set bootstrap='pairs', or give the "
    "model hidden layers or training in steps"
)


class RewardEnsemble(Judge):
    """Reward models of one kind that differ in seed, order and sample of the data, asked together.

    With s_m the score of member m, brought to one scale, M members give

        mean_i = (1/M) sum_m s_mi,   spread_i^2 = (1/M) sum_m (s_mi - mean_i)^2 + (1/M) sum_m v_mi

    where v_mi is the variance that member m itself states (0 for a head that states none): the law of total
    variance. The spread is small where the training data leave little choice and grows away from them. The
    probability that a is preferred to b is the mean of the members' probabilities.

    What the members share follows from the model: with ``mode="frozen"`` they are heads on one frozen
    encoder, which reads every text once for all of them; with ``mode="finetune"`` they are low-rank adapters
    on one set of base weights, or whole models (``training={"lora": 0}``).

    Args:
        model: what each member is; it is not fitted itself. `RewardModel()` if None.
        members: how many, 2 or more.
        bootstrap: what each member learns from: "none", all the data; "pairs", judgments drawn with
            replacement, as many as there are; "prompts", prompts drawn with replacement, with all their
            judgments. A judgment drawn twice counts twice (by its weight). Needed where the seed changes
            nothing: a full-batch fit without hidden layers has one solution.
        aggregate: the score: "mean"; "min", the worst member's; "lower", mean - caution * spread. The last
            two keep a policy from what only some members like (Coste et al., 2023).
        caution: how many spreads "lower" takes off, 0 or more.
        standardize: bring the members to one scale before they are put together: each is centred and divided
            by its standard deviation over the training data, then multiplied by the members' mean standard
            deviation, so that no member dominates and scores stay in units of log-odds.
        seed: the members' seeds and samples follow from it.
        name: how it signs as a judge.

    Attributes:
        members_: the fitted members.
        center_: mean of each member's scores over the training data, shape (members,).
        scale_: their standard deviation, shape (members,).
        data_fingerprint_: of the training data.
    """

    kind: ClassVar[str] = "model"
    native: ClassVar[frozenset[str]] = frozenset({"score", "compare"})
    order_matters: ClassVar[bool] = False

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        model: RewardModel | None = None,
        members: int = 5,
        *,
        bootstrap: Bootstrap = "none",
        aggregate: Literal["mean", "min", "lower"] = "mean",
        caution: float = 1.0,
        standardize: bool = True,
        seed: int = 0,
        name: str = "reward_ensemble",
    ) -> None:
        super().__init__(name)
        self.model = model
        self.members = members
        self.bootstrap = bootstrap
        self.aggregate = aggregate
        self.caution = caution
        self.standardize = standardize
        self.seed = seed

    # -- parameters --

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments as they are now; with `deep` also those of the model, as
        ``model__NAME``."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        params = {name: getattr(self, name) for name in names}
        if deep and self.model is not None:
            params |= {f"model__{name}": value for name, value in self.model.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments, or as ``model__NAME`` those of the model.

        Raises:
            ConfigError: an unknown name.
        """
        known = self.get_params(deep=False)
        for name, value in params.items():
            if name.startswith("model__"):
                self.model = self.model or RewardModel()
                self.model.set_params(**{name.removeprefix("model__"): value})
            elif name in known:
                setattr(self, name, value)
            else:
                raise unknown("parameter of RewardEnsemble", name, known)
        return self

    @property
    def calibrated(self) -> bool:  # type: ignore[override]
        """Whether the members' differences of scores are log-odds of preference."""
        return (self.model or RewardModel()).calibrated

    # -- learning --

    def member(self, number: int) -> RewardModel:
        """Member `number`, from 0, before it is fitted: the model with a seed of its own."""
        params = (self.model or RewardModel()).get_params()
        seed = int(generator(self.seed, "member", number).integers(2**31))
        training = params["training"]
        if isinstance(training, TrainingConfig):
            params["training"] = training.model_copy(update={"seed": seed})
        elif training is not None:
            params["training"] = {**training, "seed": seed}
        return RewardModel(**{**params, "seed": seed})

    def sample(self, data: PreferenceData, number: int) -> PreferenceData:
        """What member `number` learns from; see `bootstrap`.

        Raises:
            ConfigError: an unknown way, or judgments without a prompt to draw prompts from.
        """
        if self.bootstrap == "none":
            return data
        if self.bootstrap not in ("pairs", "prompts"):
            raise unknown("bootstrap", self.bootstrap, ("none", "pairs", "prompts"))
        unit = np.arange(data.n_rows)
        if self.bootstrap == "prompts":
            unit = data.prompt_codes()
            if (unit < 0).any():
                raise ConfigError("bootstrap='prompts' needs a prompt or prompt_id in every judgment")
            unit = np.unique(unit, return_inverse=True)[1]
        n = int(unit.max(initial=-1)) + 1
        rng = generator(self.seed, "bootstrap", number)
        times = np.bincount(rng.integers(0, max(n, 1), n), minlength=n)[unit]
        return data.with_columns(weight=data.weights * times).mask(times > 0)

    def fit(self, data: PreferenceData, *, run: Run | None = None) -> Self:
        """Fit the members one after the other.

        Args:
            data: judgments, as `RewardModel.fit` takes them.
            run: run folder; each member is kept there when it is done, and found done when the run is
                resumed.

        Raises:
            DataError, ConfigError: as `RewardModel.fit`; fewer than two members; the run folder holds
                members of other data or parameters.

        Warns:
            PalateWarning: all members say the same.
        """
        self._check()
        members: list[RewardModel] = []
        for number in track(range(self.members), "members of the ensemble"):
            before = members[0] if members else None
            members.append(self._fitted_member(self.sample(data, number), number, run, before))
            share_weights(members)
        self.members_ = members
        scores = [made.scores for made in self._each(lambda member: member.score_data(data))]
        raw = np.stack(scores, axis=-1).reshape(-1, len(members))
        raw = raw[np.isfinite(raw).all(axis=1)]
        self.center_, self.scale_ = raw.mean(axis=0), raw.std(axis=0)
        self.data_fingerprint_ = data.fingerprint()
        if agree(raw - self.center_):
            warnings.warn(SAME, PalateWarning, stacklevel=2)
        return self

    def _check(self) -> None:
        if isinstance(self.members, bool) or not isinstance(self.members, int) or self.members < 2:
            raise ConfigError(f"an ensemble needs 2 members or more; got members={self.members!r}")
        if self.aggregate not in ("mean", "min", "lower"):
            raise unknown("aggregate", self.aggregate, ("mean", "min", "lower"))
        if not self.caution >= 0:
            raise ConfigError(f"caution must be 0 or more; got {self.caution}")

    def _fitted_member(
        self, data: PreferenceData, number: int, run: Run | None, before: RewardModel | None
    ) -> RewardModel:
        member = self.member(number)
        if run is None:
            return member.fit(data, beside=before)
        plan = {"params": json.loads(to_json(member.get_params())), "data": data.fingerprint()}
        own = Run(run.path("members", str(number)), plan)
        if (own.path("model") / "reward.json").exists():
            return RewardModel.load(own.path("model"))
        member.fit(data, run=own, beside=before).save(own.path("model"))
        return member

    # -- scoring --

    def _each(self, ask: Callable[[RewardModel], Answer]) -> list[Answer]:
        first, *others = self._fitted()
        for member in others:
            if isinstance(member.scorer_, TextScorer):
                member.scorer_.share(first.scorer_)
        return [ask(member) for member in (first, *others)]

    def _fitted(self) -> list[RewardModel]:
        if not hasattr(self, "members_"):
            raise PalateError(
                "this ensemble has not been fitted; call fit(data) or RewardEnsemble.load(folder)"
            )
        return self.members_

    def _together(self, made: Sequence[Scores]) -> Scores:
        samples = np.stack([scores.scores for scores in made], axis=-1)
        factor = np.ones(len(made))
        if self.standardize:
            constant = self.scale_ <= 0
            factor = np.where(constant, 1.0, self.scale_.mean() / np.where(constant, 1.0, self.scale_))
            samples = (samples - self.center_) * factor
        within = [
            np.zeros_like(scores.scores) if scores.spread is None else (scores.spread * f) ** 2
            for scores, f in zip(made, factor, strict=True)
        ]
        mean = samples.mean(axis=-1)
        spread = np.sqrt(samples.var(axis=-1) + np.mean(within, axis=0))
        value = mean
        if self.aggregate == "min":
            value = samples.min(axis=-1)
        elif self.aggregate == "lower":
            value = mean - self.caution * spread
        usual = self.scale_.mean() ** 2
        confidence = usual / np.where(usual + spread**2 > 0, usual + spread**2, 1.0)
        return Scores(value, confidence, samples, spread=spread)

    def score(
        self, prompts: Sequence[str], responses: Sequence[str] | Sequence[Sequence[str]], **options: Any
    ) -> Scores:
        """As `Judge.score`, with `samples` (the members' scores), `spread` and `confidence`, the share
        ``v / (v + spread^2)`` with v the variance of scores over the training data."""
        return self._together(self._each(lambda member: member.score(prompts, responses)))

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        every = self._each(lambda member: member.compare(prompts, a, b).probability)
        return Comparison(np.mean(every, axis=0))

    def score_features(self, features: npt.ArrayLike) -> Scores:
        """Scores of feature vectors of shape (..., d); `scores` has shape (...), `samples` (..., members)."""
        return self._together(self._each(lambda member: Scores(member.score_features(features))))

    def score_data(self, data: PreferenceData) -> Scores:
        """Scores of every alternative of the judgments, shape (n, k) padded with NaN; `samples` (n, k,
        members)."""
        return self._together(self._each(lambda member: member.score_data(data)))

    def predict_proba(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Floats:
        """Shape (n, 2): the probabilities that a and that b is preferred, mean over the members.

        Raises:
            ConfigError: the members' loss gives no probabilities.
        """
        every = self._each(lambda member: member.predict_proba(prompts, a, b))
        return np.asarray(np.mean(every, axis=0))

    # -- keeping --

    def save(self, folder: str | Path) -> Path:
        """Write the fitted ensemble: ``ensemble.json``, and each member as `RewardModel.save` does."""
        folder = Path(folder)
        for number, member in enumerate(self._fitted()):
            member.save(folder / "members" / str(number))
        params = self.get_params(deep=False)
        state = {
            "kind": KIND,
            "version": VERSION,
            "params": {name: value for name, value in params.items() if name != "model"},
            "center": self.center_,
            "scale": self.scale_,
            "data_fingerprint": self.data_fingerprint_,
        }
        with atomic_write(folder / "ensemble.json") as file:
            file.write(to_json(state))
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, encoder: FeatureJudge | None = None) -> RewardEnsemble:
        """Read what `save` wrote. The model of the ensemble is then that of its first member, seed and all.

        Args:
            folder: where it is.
            encoder: as of `RewardModel.load`.

        Raises:
            ConfigError: the folder is no reward ensemble, is of another version, or is damaged.
        """
        folder = Path(folder)
        state = _description(folder / "ensemble.json")
        members = [
            RewardModel.load(folder / "members" / str(number), encoder=encoder)
            for number in range(len(state["scale"]))
        ]
        made = cls(RewardModel(**members[0].get_params()), **state["params"])
        share_weights(members)
        made.members_ = members
        made.center_, made.scale_ = np.array(state["center"]), np.array(state["scale"])
        made.data_fingerprint_ = state["data_fingerprint"]
        return made


def agree(differences: Floats) -> bool:
    """Whether members say the same: `differences` of shape (n, members) are all alike in every row."""
    return bool(differences.std(axis=1).max(initial=0.0) <= AGREE * np.abs(differences).max(initial=0.0))


def share_weights(members: Sequence[RewardModel]) -> None:
    """Hold once in memory what the transformers of fine-tuned members have in common, their frozen base."""
    models = [model for model in (getattr(m.scorer_, "model", None) for m in members) if model is not None]
    if not models:
        return
    first = dict(models[0].named_parameters())
    for model in models[1:]:
        for name, parameter in model.named_parameters():
            other = first.get(name)
            if other is not None and other.shape == parameter.shape and torch.equal(other, parameter):
                parameter.data = other.data


def _description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"{path.parent} holds no reward ensemble: {path.name} is missing; "
            "give a folder that RewardEnsemble.save wrote"
        )
    try:
        state = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ConfigError(f"{path} is damaged; fit and save the ensemble again") from None
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise ConfigError(f"{path} does not describe a reward ensemble")
    if state.get("version") != VERSION:
        raise ConfigError(
            f"{path.parent} is a reward ensemble of version {state.get('version')}; "
            f"this Palate reads version {VERSION}: fit and save it again"
        )
    return state
