"""What a curation writes down: plans, models and labels of each round, so that none is paid for twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.curate.asked import agreement
from palate.curate.dual_filter import Consistency
from palate.data import PreferenceData, load
from palate.judges import Judge
from palate.progress import progress
from palate.reward.model import RewardModel
from palate.runs import Run, atomic_write

Floats = npt.NDArray[np.float64]

PLAN, VERIFIED, TO_VERIFY = "plan.json", "verified.parquet", "to_verify.parquet"


@dataclass(frozen=True)
class Store:
    """A run folder of curation; labels are written in blocks of `block`."""

    run: Run
    block: int

    def round(self, number: int) -> Round:
        return Round(self, f"{number:02d}", number)

    def second(self) -> Round:
        """The place of stage 2."""
        return Round(self, "wild", 0)

    def verified(self, known: list[str]) -> Mapping[str, PreferenceData]:
        """What people have verified by now, by name of the round, without that of the rounds `known`."""
        files = sorted(self.run.path("rounds").glob(f"*/{VERIFIED}"))
        return {path.parent.name: load(path) for path in files if path.parent.name not in known}

    def model(self, name: str) -> RewardModel | None:
        """The model in a folder of this name, if it is there."""
        place = self.run.path(name)
        return RewardModel.load(place) if (place / "reward.json").exists() else None

    def finish(
        self,
        table: pl.DataFrame,
        data: PreferenceData,
        wild: Consistency | None,
        models: Mapping[str, RewardModel | None],
    ) -> None:
        """Write what was made: the table of rounds, the curated judgments, the models by name, and every
        decision of stage 2."""
        for name, model in models.items():
            if model is not None:
                model.save(self.run.path(name))
        self.run.write_json("iterations.json", table.to_dicts())
        data.save(self.run.path("curated.parquet"))
        if wild is not None:
            with atomic_write(self.run.path("decisions.parquet"), "wb") as file:
                wild.table.write_parquet(file)


@dataclass(frozen=True)
class Round:
    """The folder of one round."""

    store: Store
    name: str
    number: int

    def file(self, name: str) -> str:
        return f"rounds/{self.name}/{name}"

    @property
    def planned(self) -> bool:
        """Whether this round had begun before."""
        return self.store.run.path(self.file(PLAN)).exists()

    def plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = self.store.run.read_json(self.file(PLAN))
        return plan

    def begin(self, plan: Mapping[str, Any], model: RewardModel, to_verify: PreferenceData) -> None:
        """Write what the round is about to do; the plan comes last, for it says that the rest is there."""
        model.save(self.store.run.path(self.file("model")))
        if to_verify.n_rows:
            to_verify.save(self.store.run.path(self.file(TO_VERIFY)))
        self.store.run.write_json(self.file(PLAN), plan)

    def model(self) -> RewardModel:
        return RewardModel.load(self.store.run.path(self.file("model")))

    def joined(self) -> Mapping[str, PreferenceData]:
        """What had been verified when this round began."""
        return {name: self.store.round(int(name)).read_verified() for name in self.plan()["joined"]}

    @property
    def has_verified(self) -> bool:
        return self.store.run.path(self.file(VERIFIED)).exists()

    def read_verified(self) -> PreferenceData:
        return load(self.store.run.path(self.file(VERIFIED)))

    def write_verified(self, data: PreferenceData) -> None:
        data.save(self.store.run.path(self.file(VERIFIED)))

    def labels(self, name: str, data: PreferenceData, judge: Callable[[], Judge]) -> Floats:
        """The judge's probability that each judgment is right, shape (rows,); blocks on disk are read."""
        found = np.full(data.n_rows, np.nan)
        asked: Judge | None = None
        with progress("labels", data.n_rows) as bar:
            for start in range(0, data.n_rows, self.store.block):
                rows = np.arange(start, min(start + self.store.block, data.n_rows))
                path = self.store.run.path(self.file(f"{name}-{start:08d}.parquet"))
                if path.exists():
                    found[rows] = pl.read_parquet(path)["p"].fill_null(np.nan).to_numpy()
                else:
                    asked = judge() if asked is None else asked
                    found[rows] = agreement(asked, data.take(rows))
                    with atomic_write(path, "wb") as file:
                        pl.DataFrame({"p": found[rows]}).write_parquet(file)
                bar.advance(len(rows))
        return found
