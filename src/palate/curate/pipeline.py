"""Curation in rounds: find what the reward model gets wrong, have its like labelled, and filter the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.curate.asked import agreement, decided, enough
from palate.curate.dual_filter import Consistency, consistency
from palate.curate.hygiene import overlap
from palate.curate.retrieval import error_driven, refuse_overlap
from palate.curate.rounds import Round, Store
from palate.curate.settings import CurationConfig, affordable, budget, settings
from palate.curate.strength import accuracy
from palate.data import PreferenceData, metadata
from palate.errors import DataError
from palate.judges import Judge
from palate.judges.neighbours import described
from palate.progress import track
from palate.reward.model import RewardModel
from palate.runs import Run

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Labeller = Judge | Callable[[PreferenceData], Judge]
Verify = Callable[[PreferenceData], PreferenceData]


@dataclass(frozen=True)
class Curated:
    """What curation made.

    Attributes:
        iterations: one row per round: `iteration`; `gold_accuracy`, of the round's model on the verified
            pairs held out, and `best_accuracy` so far; `trained_on` pairs; `retrieved`, `verified`, `added`
            (labelled) and `abstained` pairs; `turned`, how many of those added got the opposite of their
            first label; `cost` and `spent`, in all.
        gold: verified pairs, with those that joined.
        silver: labelled pairs of stage 1.
        wild: outcome of stage 2, None without wild pairs.
        gold_model: the reward model of the verified pairs; None without wild pairs.
        best: the reward model most accurate on the verified pairs held out.
        spent: costs of both stages.
    """

    iterations: pl.DataFrame
    gold: PreferenceData
    silver: PreferenceData | None
    wild: Consistency | None
    gold_model: RewardModel | None
    best: RewardModel
    spent: float

    @property
    def data(self) -> PreferenceData:
        """All there is to train on: verified, labelled and kept pairs, and flipped ones with `recycle`."""
        parts = [self.gold, self.silver, self.wild.data if self.wild is not None else None]
        return PreferenceData.concat([part for part in parts if part is not None and part.n_rows])


class Pipeline:
    """Human-guided curation of preference pairs in two stages (Skywork-Reward-V2, Liu et al., 2025).

    Stage 1, in rounds: a reward model is trained on the labelled pairs there are (verified ones in the first
    round, unless `silver` is given) and kept if none was more accurate on the verified pairs held out. The
    pool's pairs nearest to what the best model gets wrong (`error_driven`) are labelled by a judge that sees
    verified neighbours, or verified by people, and leave the pool. Stage 2: wild pairs go through
    `consistency` with the best model, a model of all verified pairs, and the judge.

    Every label is written down as soon as its block is done, so an interrupted run pays for none twice: the
    same call on the same folder goes on. More `iterations` on a finished folder add rounds.

    People's part: with `humans` the pairs to verify are in ``rounds/NN/to_verify.parquet`` of the folder. A
    file ``verified.parquet`` beside it, with the labels people gave, joins the verified pairs when the next
    round begins; or `verify` is called with them at once.

    Args:
        config: settings.
        labeller: the judge of unverified pairs, or a function that makes one of the verified pairs, such as
            ``lambda gold: FewShotJudge(llm, gold)``.
        model: what is trained in each round; `RewardModel()` if None.
        embed: what neighbours are found by, see `palate.judges.neighbours.embedded`.
        text: what is embedded of judgments.
        verify: gives the labels of people to the pairs it gets; it may leave some out.
    """

    def __init__(
        self,
        config: CurationConfig | Mapping[str, Any] | None = None,
        *,
        labeller: Labeller,
        model: RewardModel | None = None,
        embed: Any = "all-minilm-l6-v2",
        text: Callable[[PreferenceData], Sequence[str]] = described,
        verify: Verify | None = None,
    ) -> None:
        self.config = settings(config)
        self.labeller, self.verify = labeller, verify
        self.model = RewardModel() if model is None else model
        self.embed, self.text = embed, text

    def run(
        self,
        gold: PreferenceData,
        pool: PreferenceData,
        wild: PreferenceData | None = None,
        *,
        out: str | Path,
        silver: PreferenceData | None = None,
        iterations: int | None = None,
    ) -> Curated:
        """Curate.

        Args:
            gold: verified judgments of two responses.
            pool: unverified ones, for stage 1; ties among them are left alone.
            wild: the others, for stage 2.
            out: run folder.
            silver: labelled pairs to begin with.
            iterations: in place of those of the settings.

        Raises:
            DataError: too few verified pairs, or pairs or ids that are in two of these sets.
            ConfigError: judgments of more than two alternatives, or the folder holds another run.
        """
        config = self.config
        rounds = config.iterations if iterations is None else iterations
        enough(gold, config.least_gold)
        blocked = self._apart(gold, pool, "the pool")
        blocked[np.setdiff1d(np.arange(pool.n_rows), decided(pool).judgment)] = True
        if wild is not None:
            wild = wild.mask(~self._apart(gold, wild, "the wild pairs"))
        _distinct_ids(gold, pool, wild, silver)
        store = Store(Run(out, self._plan(gold, pool, wild, silver)), config.block)
        learn, held = gold.split(
            config.held_out, by="prompt" if gold.has("prompt") else "row", seed=config.seed
        )
        state = _State(learn, held, silver, np.flatnonzero(blocked))
        for number in track(range(1, rounds + 1), "rounds of curation"):
            if not self._round(store.round(number), state, pool):
                break
        self._last(store, state)
        assert state.best is not None
        outcome, gold_model = None, None
        if wild is not None:
            gold_model = self._new().fit(state.gold)
            outcome = self._second(store, state, wild, gold_model)
        made = Curated(
            pl.DataFrame(state.table), state.gold, state.silver, outcome, gold_model, state.best, state.spent
        )
        store.finish(made.iterations, made.data, outcome, {"best": state.best, "gold": gold_model})
        return made

    def _round(self, place: Round, state: _State, pool: PreferenceData) -> bool:
        """One round; false if there is nothing to do in it or no money left."""
        config = self.config
        state.join(place.store.verified(state.joined) if not place.planned else place.joined())
        if place.planned:
            plan = place.plan()
            if plan["accuracy"] > state.accuracy:
                state.accuracy, state.best = plan["accuracy"], place.model()
        else:
            model = self._fitted(state)
            right = accuracy_on(model, state.held)
            if right > state.accuracy:
                state.accuracy, state.best = right, model
            assert state.best is not None
            before = state.spent + config.cost_gold * (state.waiting - state.paid)
            rows = error_driven(
                state.best, state.gold, pool, self.embed, k_max=config.k_max, text=self.text,
                used=state.used, exclude_overlap=True,
            )  # fmt: skip
            human, asked = self._affordable(rows, before)
            plan = {
                "accuracy": right, "trained_on": state.trained_on, "human": human.tolist(),
                "asked": asked.tolist(), "joined": state.joined,
            }  # fmt: skip
            place.begin(plan, model, pool.take(human))
        human, asked = np.array(plan["human"], np.int64), np.array(plan["asked"], np.int64)
        state.used = np.concatenate([state.used, human, asked])
        if len(human) and self.verify is not None and not place.has_verified:
            place.write_verified(self.verify(pool.take(human)))
        if place.has_verified and self.verify is not None:
            state.join({place.name: place.read_verified()})
        p = place.labels("labels", pool.take(asked), self._judge(state))
        added = _labelled(pool.take(asked), p, self._name(state), place.number)
        state.silver = added if state.silver is None else PreferenceData.concat([state.silver, added])
        verified, state.paid = state.waiting - state.paid, state.waiting
        cost = budget(
            {"gold": verified, "label": len(asked)},
            {"gold": config.cost_gold, "label": config.cost_label},
        )
        state.spent += cost
        state.table.append(
            {
                "iteration": place.number, "gold_accuracy": float(plan["accuracy"]),
                "best_accuracy": float(state.accuracy), "trained_on": plan["trained_on"],
                "retrieved": len(human) + len(asked), "verified": verified, "added": added.n_rows,
                "abstained": len(asked) - added.n_rows, "turned": int((p < 0.5).sum()), "cost": cost,
                "spent": state.spent,
            }
        )  # fmt: skip
        place.store.run.write_json("iterations.json", state.table)
        return bool(len(human) + len(asked))

    def _last(self, store: Store, state: _State) -> None:
        """A model of all labels, those of the last round among them, stands for the best as well."""
        name = f"after-{len(state.table):02d}"
        model = store.model(name)
        if model is None:
            model = self._fitted(state)
            model.save(store.run.path(name))
        if (right := accuracy_on(model, state.held)) > state.accuracy:
            state.best, state.accuracy = model, right
        state.join(store.verified(state.joined))
        state.spent += self.config.cost_gold * (state.waiting - state.paid)
        state.paid = state.waiting

    def _second(
        self, store: Store, state: _State, wild: PreferenceData, gold_model: RewardModel
    ) -> Consistency:
        """Stage 2: as far as the budget goes, the judge decides where the models leave it open."""
        config = self.config
        pairs = decided(wild)
        given = {}
        for name, model in (("gold", gold_model), ("best", state.best)):
            assert model is not None
            given[name] = np.full(wild.n_rows, np.nan)
            given[name][pairs.judgment] = agreement(model, wild, pairs)
        threshold = config.threshold
        first = consistency(wild, given["gold"], given["best"], threshold=threshold)
        open_ = first.needs_llm
        asked = open_[: affordable(config.budget, state.spent, config.cost_filter, len(open_))]
        llm = np.full(wild.n_rows, np.nan)
        llm[asked] = store.second().labels("labels", wild.take(asked), self._judge(state))
        state.spent += config.cost_filter * len(asked)
        done = consistency(wild, given["gold"], given["best"], llm, threshold=threshold)
        unasked = pl.col("judgment").is_in(open_[len(asked) :].tolist())
        table = done.table.with_columns(
            decision=pl.when(unasked).then(pl.lit("needs_llm")).otherwise("decision"),
            reason=pl.when(unasked).then(pl.lit("budget spent")).otherwise("reason"),
        )
        return Consistency(table, wild, config.recycle)

    def _affordable(self, rows: Integers, spent: float) -> tuple[Integers, Integers]:
        """Pairs for people and pairs for the judge, first come first served within the budget."""
        config = self.config
        human, asked = rows[: config.humans], rows[config.humans :]
        human = human[: affordable(config.budget, spent, config.cost_gold, len(human))]
        spent += config.cost_gold * len(human)
        return human, asked[: affordable(config.budget, spent, config.cost_label, len(asked))]

    def _apart(self, gold: PreferenceData, other: PreferenceData, name: str) -> npt.NDArray[np.bool_]:
        """Which pairs are verified ones; an error unless they may be passed over."""
        decided(other)
        shared = overlap(other, gold)
        if shared.any() and not self.config.exclude_overlap:
            refuse_overlap(shared, other, name)
        return shared

    def _plan(
        self,
        gold: PreferenceData,
        pool: PreferenceData,
        wild: PreferenceData | None,
        silver: PreferenceData | None,
    ) -> dict[str, Any]:
        params = {key: value for key, value in self.model.get_params().items() if key != "name"}
        sets = {"gold": gold, "pool": pool, "wild": wild, "silver": silver}
        return {
            "curation": self.config.model_dump(exclude={"iterations", "block"}),
            "model": params,
            "data": {name: None if part is None else part.fingerprint() for name, part in sets.items()},
        }

    def _new(self) -> RewardModel:
        return RewardModel(**self.model.get_params())

    def _fitted(self, state: _State) -> RewardModel:
        train = state.silver if state.silver is not None and state.silver.n_rows else state.learn
        state.trained_on = train.n_rows
        return self._new().fit(train)

    def _judge(self, state: _State) -> Callable[[], Judge]:
        return lambda: self.labeller if isinstance(self.labeller, Judge) else self.labeller(state.gold)

    def _name(self, state: _State) -> str:
        return self._judge(state)().name


class _State:
    """What the rounds so far have made."""

    def __init__(
        self, learn: PreferenceData, held: PreferenceData, silver: PreferenceData | None, used: Integers
    ) -> None:
        self.learn, self.held, self.silver, self.used = learn, held, silver, used
        self.best: RewardModel | None = None
        self.accuracy, self.spent, self.trained_on = -1.0, 0.0, 0
        self.joined: list[str] = []
        self.waiting = self.paid = 0
        self.table: list[dict[str, Any]] = []

    @property
    def gold(self) -> PreferenceData:
        return PreferenceData.concat([self.learn, self.held])

    def join(self, verified: Mapping[str, PreferenceData]) -> None:
        """Add what people verified since; models learn from it, and those held out stay as they are."""
        for name, part in verified.items():
            if name not in self.joined:
                pairs = decided(part)
                self.joined = [*self.joined, name]
                self.waiting += len(pairs.judgment)
                self.learn = PreferenceData.concat([self.learn, part.take(pairs.judgment)])


def accuracy_on(model: RewardModel, data: PreferenceData) -> float:
    """Share of decided pairs whose chosen side the model prefers; equal scores count half."""
    return accuracy(agreement(model, data) - 0.5)


def _labelled(data: PreferenceData, p: Floats, name: str, number: int) -> PreferenceData:
    """The pairs a judge labelled, with its label in place of the first; p is of the first label being
    right."""
    sure = ~np.isnan(p) & (p != 0.5)
    data, p = data.take(np.flatnonzero(sure)), p[sure]
    left_out = ("rationale", "time", "tie")
    table = data.table.drop_columns([column for column in left_out if data.has(column)])
    scores = data.scores.reshape(-1, 2)
    scores = np.where((p > 0.5)[:, None], scores, scores[:, ::-1])
    made = PreferenceData(table, source=data.source, check=False).with_columns(
        scores=pa.ListArray.from_arrays(pa.array(data.offsets(), pa.int32()), pa.array(scores.ravel())),
        annotator=[name] * len(p),
        annotator_kind=["model"] * len(p),
    )
    return (
        metadata.with_values(made, {"iteration": [number] * len(p), "p_first_label": p}) if len(p) else made
    )


def _distinct_ids(*parts: PreferenceData | None) -> None:
    ids = pl.concat(
        [
            pl.Series(part.values("id"), dtype=pl.String)
            for part in parts
            if part is not None and part.has("id")
        ]
        or [pl.Series([], dtype=pl.String)]
    ).drop_nulls()
    if ids.is_duplicated().any():
        raise DataError(
            f"the id {ids.filter(ids.is_duplicated())[0]!r} is in two of the sets", field="id",
            remedy="give judgments ids that differ across gold, pool and wild, or none",
        )  # fmt: skip
