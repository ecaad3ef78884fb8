"""Rounds of curation, on pairs whose right labels are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palate.curate import Curated, Pipeline
from palate.curate.settings import budget
from palate.data import PreferenceData, load, metadata
from palate.errors import ConfigError, DataError
from palate.judges import Comparison, Judge
from palate.reward import RewardModel

TRUTH = np.array([2.0, -1.0, 0.5, 0.0])


def drawn(n: int, name: str, seed: int, wrong: float = 0.0) -> PreferenceData:
    """Pairs whose first response has the letter of its side, with a share of wrong labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2, 4))
    first = ((x[:, 0] - x[:, 1]) @ TRUTH > 0) ^ (rng.random(n) < wrong)
    return PreferenceData.from_columns(
        {
            "id": [f"{name}{i}" for i in range(n)],
            "prompt": [f"{name} {i}" for i in range(n)],
            "responses": [
                [f"{name}{i} " + " ".join(map(str, side)) for side in row] for i, row in enumerate(x)
            ],
            "features": x.tolist(),
            "scores": np.stack([first, ~first], axis=1).astype(float),
        }
    )


GOLD, POOL, WILD = drawn(40, "g", 0), drawn(150, "p", 1, wrong=0.4), drawn(200, "w", 2, wrong=0.4)
VECTORS = {
    prompt: np.array(row).ravel()
    for part in (GOLD, POOL)
    for prompt, row in zip(
        part.column("prompt").to_pylist(), part.column("features").to_pylist(), strict=True
    )
}


def value(response: str) -> float:
    return float(np.array(response.split()[1:], float) @ TRUTH)


class Knows(Judge):
    """Sides with the truth; counts what it is asked, and stops after a number of answers."""

    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def __init__(self, stop: int = 10**9) -> None:
        super().__init__("knows")
        self.asked, self.stop = 0, stop

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        if self.asked + len(prompts) > self.stop:
            raise KeyboardInterrupt
        self.asked += len(prompts)
        gap = np.array([value(x) - value(y) for x, y in zip(a, b, strict=True)])
        return Comparison(0.5 + 0.5 * np.sign(gap))


def curated(
    out: Path,
    judge: Judge | Callable[[PreferenceData], Judge],
    iterations: int = 3,
    wild: PreferenceData | None = WILD,
    verify: Callable[[PreferenceData], PreferenceData] | None = None,
    **config: Any,
) -> Curated:
    pipeline = Pipeline(
        {"k_max": 2, "block": 7, **config},
        labeller=judge,
        model=RewardModel("features"),
        embed=lambda texts: np.array([VECTORS[text] for text in texts]),
        verify=verify,
    )
    return pipeline.run(GOLD, POOL, wild, out=out, iterations=iterations)


def relabelled(part: PreferenceData) -> PreferenceData:
    """People who know the truth."""
    groups = part.column("responses").to_pylist()
    return part.with_columns(
        scores=[[float(value(a) > value(b)), float(value(b) > value(a))] for a, b in groups],
        annotator=["human:1"] * part.n_rows,
        annotator_kind=["human"] * part.n_rows,
    )


def right(data: PreferenceData) -> float:
    frame = data.pairs()
    return float(np.mean([value(a) > value(b) for a, b in frame.select("chosen", "rejected").rows()]))


def test_a_round_labels_new_pairs_and_says_what_it_did(tmp_path: Path) -> None:
    judge = Knows()
    made = curated(tmp_path / "run", judge)
    table = made.iterations
    assert table["iteration"].to_list() == [1, 2, 3]
    assert (table["retrieved"] == table["added"] + table["abstained"] + table["verified"]).all()
    assert made.silver is not None
    ids = made.silver.values("id")
    assert len(set(ids)) == len(ids) == table["added"].sum()
    assert not set(ids) & set(GOLD.values("id"))
    assert right(made.silver) == 1.0
    assert set(made.silver.values("annotator")) == {"knows"}
    turned = int((metadata.values(made.silver, "p_first_label") < 0.5).sum())
    assert turned == table["turned"].sum() > 0
    assert table["trained_on"].to_list()[1] == table["added"][0]
    assert (table["best_accuracy"].diff().drop_nulls() >= 0).all()
    assert made.wild is not None
    assert right(WILD.take(made.wild.keep)) > 0.97 > right(WILD)
    assert made.data.n_rows == GOLD.n_rows + made.silver.n_rows + len(made.wild.keep)
    assert load(tmp_path / "run/curated.parquet") == made.data


@pytest.mark.parametrize("stop", [5, 30, 90])
def test_an_interrupted_run_goes_on_and_pays_for_no_label_twice(tmp_path: Path, stop: int) -> None:
    whole = Knows()
    expected = curated(tmp_path / "whole", whole)
    first, second = Knows(stop), Knows()
    with pytest.raises(KeyboardInterrupt):
        curated(tmp_path / "run", first)
    made = curated(tmp_path / "run", second)
    assert first.asked + second.asked == whole.asked
    assert made.iterations.equals(expected.iterations)
    assert made.data == expected.data
    assert curated(tmp_path / "run", Knows(0)).data == expected.data


def test_more_rounds_go_on_from_those_done(tmp_path: Path) -> None:
    first, second, whole = Knows(), Knows(), Knows()
    curated(tmp_path / "run", first, iterations=1, wild=None)
    made = curated(tmp_path / "run", second, iterations=3, wild=None)
    assert made.iterations.equals(curated(tmp_path / "whole", whole, iterations=3, wild=None).iterations)
    assert first.asked + second.asked == whole.asked


def test_a_budget_is_never_exceeded(tmp_path: Path) -> None:
    judge = Knows()
    made = curated(tmp_path / "run", judge, iterations=8, cost_label=0.5, cost_filter=0.1, budget=20.0)
    assert made.spent <= 20.0 + 1e-9
    assert made.spent == pytest.approx(0.5 * sum(made.iterations["retrieved"]) + 0.1 * (judge.asked - 40))
    assert judge.asked == 40
    assert made.wild is not None
    assert set(made.wild.table.filter(decision="needs_llm")["reason"]) <= {"budget spent"}
    assert len(made.wild.needs_llm) > 0


def test_people_who_answer_at_once_make_gold_and_are_paid(tmp_path: Path) -> None:
    made = curated(tmp_path / "run", Knows(), iterations=2, verify=relabelled, humans=3, cost_gold=2.0)
    assert made.iterations["verified"].to_list() == [3, 3]
    assert made.spent == 12.0
    assert made.gold.n_rows == GOLD.n_rows + 6
    assert right(made.gold) == 1.0
    assert made.silver is not None
    assert not set(made.gold.values("id")) & set(made.silver.values("id"))


def test_people_who_answer_later_find_a_file_and_leave_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = curated(out, Knows(), iterations=1, wild=None, humans=3, cost_gold=2.0)
    assert made.spent == 0.0
    waiting = load(out / "rounds/01/to_verify.parquet")
    assert waiting.n_rows == 3
    relabelled(waiting).save(out / "rounds/01/verified.parquet")
    made = curated(out, Knows(), iterations=2, wild=None, humans=3, cost_gold=2.0)
    assert made.gold.n_rows == GOLD.n_rows + 3
    assert made.iterations["verified"].to_list() == [0, 3]
    assert made.spent == 6.0


def test_the_labeller_is_made_of_what_is_verified_by_then(tmp_path: Path) -> None:
    seen: list[int] = []

    def labeller(gold: PreferenceData) -> Judge:
        seen.append(gold.n_rows)
        return Knows()

    curated(tmp_path / "run", labeller, iterations=2, wild=None, verify=relabelled, humans=3)
    assert sorted(set(seen)) == [GOLD.n_rows + 3, GOLD.n_rows + 6]


def test_sets_that_cannot_be_curated_are_refused(tmp_path: Path) -> None:
    def run(gold: PreferenceData, pool: PreferenceData, **config: Any) -> Curated:
        pipeline = Pipeline(config, labeller=Knows(), model=RewardModel("features"))
        return pipeline.run(gold, pool, out=tmp_path / "refused", iterations=0)

    with pytest.raises(DataError, match="at least 10 human-verified pairs; got 0"):
        run(GOLD.take([]), POOL)
    both = PreferenceData.concat([POOL, GOLD.take([0, 1]).with_columns(id=["x", "y"])])
    with pytest.raises(DataError, match="2 of 152 pairs of the pool"):
        run(GOLD, both)
    assert run(GOLD, both, exclude_overlap=True).spent == 0.0
    twice = GOLD.with_columns(id=["p0", *[f"h{i}" for i in range(39)]])
    with pytest.raises(DataError, match="'p0' is in two of the sets"):
        run(twice, POOL)
    with pytest.raises(ConfigError, match="field 'k_max'"):
        run(GOLD, POOL, k_max=0)
    with pytest.raises(ConfigError, match="no cost is given for silver"):
        budget({"gold": 1, "silver": 2}, {"gold": 1.0})
