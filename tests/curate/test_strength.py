"""Voters say how strongly a preference is meant; treatments make labels, margins and weights of that."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from palate import losses
from palate.curate.strength import accuracy, preference_strength, strength_groups
from palate.curate.treat import apply_strength
from palate.data import PreferenceData, metadata
from palate.errors import ConfigError, DataError, PalateWarning
from palate.judges.base import Judge, Scores
from palate.losses import Scored
from palate.reward import RewardModel
from palate.runs import Run
from palate.training import groups_for

VOTES = np.array([[0.5, 0.7, 0.3, 0.6], [-1.0, 0.2, -0.4, -0.8], [0.1, -0.1, 0.2, 0.0]])
"""Differences of four voters on three pairs."""
STEPS = {"epochs": 2, "batch_size": 16, "learning_rate": 0.03, "schedule": "constant", "logging_steps": 10**6}
VOTER = RewardModel("features", training=STEPS)


class Table(Judge):
    """Looks scores up."""

    native = frozenset({"score"})

    def __init__(self, scores: dict[str, float]) -> None:
        super().__init__("table")
        self.scores = scores

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        return Scores(np.array([self.scores[response] for response in responses]))


def voters(votes: np.ndarray) -> list[Judge]:
    """Judges whose differences on `three()` are `votes`."""
    return [
        Table({f"{side}{i}": 0.0 if side == "r" else float(d) for i, d in enumerate(column) for side in "cr"})
        for column in votes.T
    ]


def three(**more: Any) -> PreferenceData:
    """Three decided pairs, the second with the chosen response last, and a tie."""
    return PreferenceData.from_columns(
        {
            "prompt": ["p", "q", "s", "t"],
            "responses": [["c0", "r0"], ["r1", "c1"], ["c2", "r2"], ["c0", "r1"]],
            "scores": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]],
            **more,
        }
    )


def strength_of(data: PreferenceData, votes: np.ndarray = VOTES) -> pl.DataFrame:
    return preference_strength(data, members=voters(votes), standardize=False)


def simulated(n: int, seed: int = 0, flips: float = 0.22, d: int = 8) -> tuple[PreferenceData, np.ndarray]:
    """Votes of a linear utility, some turned round; and whether each label contradicts the utility."""
    rng = np.random.default_rng(seed)
    weights = np.linspace(-1.5, 1.5, d)
    x = rng.normal(size=(n, 2, d))
    gap = (x[:, 0] - x[:, 1]) @ weights
    first = (rng.random(n) < 1 / (1 + np.exp(-gap))) ^ (rng.random(n) < flips)
    scores = np.stack([first, ~first], axis=1).astype(float)
    data = PreferenceData.from_columns(
        {"features": x.tolist(), "scores": scores.tolist(), "prompt_id": [str(i) for i in range(n)]}
    )
    return data, first != (gap > 0)


# -- strength --


def test_strength_is_mean_and_population_deviation_of_the_votes() -> None:
    table = strength_of(three())
    assert table["judgment"].to_list() == [0, 1, 2]
    assert table["mu"].to_list() == pytest.approx([0.525, -0.5, 0.05])
    assert table["sigma"].to_list() == pytest.approx([0.1479020, 0.4582576, 0.1118034], abs=1e-7)
    assert np.array(table["scores"].to_list()) == pytest.approx(VOTES)


def test_standardised_voters_weigh_the_same_and_keep_the_scale() -> None:
    plain = preference_strength(three(), members=voters(VOTES))
    loud = preference_strength(three(), members=voters(VOTES * np.array([100.0, 1.0, 1.0, 1.0])))
    ratio = loud["mu"].to_numpy() / plain["mu"].to_numpy()
    assert ratio == pytest.approx(np.full(3, ratio[0]))
    size = np.sqrt((np.array(plain["scores"].to_list()) ** 2).mean(axis=0))
    assert size == pytest.approx(np.full(4, np.sqrt((VOTES**2).mean(axis=0)).mean()))


def test_a_voter_without_an_answer_is_left_out_of_that_pair_only() -> None:
    votes = VOTES.copy()
    votes[0, 3] = np.nan
    table = strength_of(three(), votes)
    assert table["mu"].to_list() == pytest.approx([0.5, -0.5, 0.05])
    votes[1] = np.nan
    with pytest.raises(DataError, match=r"row 2, field 'responses': no voter could score .* of 1 pairs"):
        strength_of(three(), votes)


def test_wrong_labels_gather_at_the_lowest_strengths_and_cross_fitting_finds_them_too() -> None:
    data, wrong = simulated(300)
    for mode in ("in_sample", "cross_fit"):
        table = preference_strength(data, VOTER, members=2, mode=mode, folds=2)
        lowest = np.argsort(table["mu"].to_numpy())[:60]
        assert wrong[lowest].mean() > 2 * wrong.mean()
        assert (table["sigma"] > 0).all()


def test_a_cross_fitted_pair_is_judged_by_voters_that_have_not_seen_it() -> None:
    """A voter that has seen every prompt's own feature knows its label; one that has not is at chance."""
    n = 60
    first = np.random.default_rng(1).random(n) < 0.5
    x = np.zeros((n, 2, n))
    x[np.arange(n), 0, np.arange(n)] = 1.0
    data = PreferenceData.from_columns(
        {
            "features": x.tolist(),
            "scores": np.stack([first, ~first], axis=1).astype(float).tolist(),
            "prompt_id": [str(i) for i in range(n)],
        }
    )
    model = RewardModel("features", training={**STEPS, "epochs": 5, "learning_rate": 0.1})
    with pytest.warns(PalateWarning, match="side with every label: .* use mode='cross_fit'"):
        seen = preference_strength(data, model, members=2)
    assert (seen["mu"] > 0).all()
    with pytest.warns(PalateWarning, match="all give the same scores"):
        unseen = preference_strength(data, model, members=2, mode="cross_fit", folds=2)
    assert unseen["mu"].to_numpy() == pytest.approx(np.zeros(n), abs=1e-6)


def test_interrupted_votes_go_on_and_other_settings_are_refused(tmp_path: Any) -> None:
    data, _ = simulated(60)
    options: dict[str, Any] = {
        "model": RewardModel("features"), "bootstrap": "pairs", "mode": "cross_fit", "folds": 2,
    }  # fmt: skip
    whole = preference_strength(data, members=2, **options)
    run = Run(tmp_path / "run", {"what": "strength"})
    kept = preference_strength(data, members=2, **options, run=run)
    assert kept.equals(whole)
    files = sorted((tmp_path / "run" / "strength").glob("*.parquet"))
    assert len(files) == 4
    before = [path.stat().st_mtime_ns for path in files[1:]]
    files[0].unlink()
    assert preference_strength(data, members=2, **options, run=run).equals(whole)
    assert [path.stat().st_mtime_ns for path in files[1:]] == before
    with pytest.raises(ConfigError, match=r"votes with other settings \(members\)"):
        preference_strength(data, members=3, **options, run=run)


def test_members_that_say_the_same_are_warned_of() -> None:
    data, _ = simulated(40)
    with pytest.warns(PalateWarning, match="the members share seed or data order"):
        preference_strength(data, RewardModel("features"), members=2)
    different = preference_strength(data, RewardModel("features"), members=2, bootstrap="pairs")
    assert (different["sigma"] > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 1}, "votes of 2 members or more; got 1"),
        ({"members": voters(VOTES)[:1]}, "votes of 2 members or more; got 1"),
        ({"mode": "in-sample"}, "unknown mode 'in-sample'; did you mean 'in_sample'"),
        ({"mode": "cross_fit", "folds": 9}, "cannot make 9 folds by prompt of 4"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preference_strength(three(), VOTER, **options)


def test_strength_is_of_decided_pairs() -> None:
    ties = three().take([3])
    with pytest.raises(DataError, match="none of 1 judgments prefers one"):
        strength_of(ties)
    lists = PreferenceData.from_columns({"responses": [["a", "b", "c"]], "scores": [[3.0, 2.0, 1.0]]})
    with pytest.raises(ConfigError, match=r"row 1 has 3: take pairs with data\.as_pairs\('all'\)"):
        strength_of(lists)


# -- treatments --


def test_a_flip_is_a_new_judgment_and_the_original_stays_without_weight() -> None:
    data = three(id=["a", "b", "c", "d"], weight=[1.0, 2.0, 1.0, 1.0], rationale=["because"] * 4)
    made = apply_strength(data, strength_of(data), flip_below=0.0)
    assert made.values("id").tolist() == ["a", "b", "c", "d", "b:flip"]
    assert made.weights.tolist() == [1.0, 0.0, 1.0, 1.0, 2.0]
    assert made.column("scores").to_pylist()[1::3] == [[0.0, 1.0], [1.0, 0.0]]
    assert made.values("annotator")[4] == "curate:flip"
    assert made.values("annotator_kind")[4] == "model"
    assert made.values("rationale")[4] is None
    assert metadata.values(made, "superseded").tolist() == [0, 1, 0, 0, 0]
    assert metadata.values(made, "strength_mu") == pytest.approx(
        [0.525, -0.5, 0.05, np.nan, 0.5], nan_ok=True
    )
    trained = groups_for(losses.get("bradley_terry"), made)
    assert trained.judgment.tolist() == [0, 2, 4]
    assert data.n_rows == 4


def test_a_share_takes_the_weakest_and_what_is_dropped_is_not_flipped() -> None:
    data, _ = simulated(50)
    table = preference_strength(data, VOTER, members=2)
    weakest = np.argsort(table["mu"].to_numpy())
    dropped = apply_strength(data, table, drop_below="q20")
    assert np.flatnonzero(dropped.weights == 0).tolist() == sorted(weakest[:10].tolist())
    both = apply_strength(data, table, drop_below="q10", flip_below="q20")
    assert both.n_rows == 55
    assert sorted(np.flatnonzero(both.weights == 0).tolist()) == sorted(weakest[:10].tolist())


def test_margins_and_softness_follow_the_strength_after_flips() -> None:
    data = three()
    table = strength_of(data)
    plain = apply_strength(data, table, margin="mu", soft={"alpha": 0.2})
    assert metadata.values(plain, "margin") == pytest.approx([0.525, -0.5, 0.05, 0.0])
    assert metadata.values(plain, "smoothing") == pytest.approx([0.0, 0.2, 0.0, 0.0])
    clipped = apply_strength(data, table, margin="clipped")
    assert metadata.values(clipped, "margin") == pytest.approx([0.525, 0.0, 0.05, 0.0])
    turned = apply_strength(data, table, margin="mu", soft={}, flip_below=0)
    assert metadata.values(turned, "margin") == pytest.approx([0.525, -0.5, 0.05, 0.0, 0.5])
    assert metadata.values(turned, "smoothing")[4] == 0


def test_weights_by_votes_are_shares_of_voters_on_the_side_of_the_label() -> None:
    data = three()
    made = apply_strength(data, strength_of(data), weight="votes", flip_below=0.0)
    assert made.weights == pytest.approx([1.0, 0.0, 0.625, 1.0, 0.75])


def test_treating_again_replaces_what_was_written() -> None:
    data = three(metadata=['{"source": "web"}'] * 4)
    once = apply_strength(data, strength_of(data), margin="mu")
    twice = apply_strength(once, strength_of(once, 2 * VOTES), margin="mu")
    assert metadata.values(twice, "margin") == pytest.approx([1.05, -1.0, 0.1, 0.0])
    assert metadata.values(twice, "source").tolist() == ["web"] * 4


@pytest.mark.parametrize(
    ("alpha", "margin", "expected"),
    [(0.1, 0.0, 0.5530153), (0.0, 0.8, 0.9130153), (0.0, -0.5, 0.3411539), (0.0, 0.0, 0.5130153)],
)
def test_the_loss_reads_margin_and_smoothing_that_a_treatment_wrote(
    alpha: float, margin: float, expected: float
) -> None:
    """Worked losses of one pair whose scores differ by 0.4, chosen first or last."""
    for first in (True, False):
        scores = [[1.0, 0.0]] if first else [[0.0, 1.0]]
        data = PreferenceData.from_columns({"responses": [["a", "b"]], "scores": scores})
        table = pl.DataFrame({"judgment": [0], "mu": [margin], "sigma": [0.1]})
        soft = {"below": math.inf, "alpha": alpha}
        made = apply_strength(data, table, margin="mu", soft=soft)
        loss = losses.get("bradley_terry")
        groups = groups_for(loss, made, columns={"margin": "margin", "smoothing": "smoothing"})
        value = loss.of(Scored(torch.tensor([[0.7, 0.3]], dtype=torch.float64)), groups.tensors())
        assert float(value) == pytest.approx(expected, abs=1e-7)


def test_smoothing_is_content_at_the_log_odds_of_its_share() -> None:
    gap = torch.tensor(math.log(9.0), dtype=torch.float64, requires_grad=True)
    losses.logistic(gap, 0.9).backward()
    assert float(gap.detach()) == pytest.approx(2.1972, abs=1e-4)
    assert float(gap.grad) == pytest.approx(0.0, abs=1e-12)


def test_a_flip_is_the_loss_of_the_exchanged_pair() -> None:
    data, _ = simulated(80)
    table = preference_strength(data, VOTER, members=2)
    flipped = RewardModel("features").fit(apply_strength(data, table, flip_below="q20"))
    lowest = np.argsort(table["mu"].to_numpy())[:16]
    scores = data.scores.reshape(-1, 2).copy()
    scores[lowest] = scores[lowest, ::-1]
    by_hand = RewardModel("features").fit(data.with_columns(scores=scores.tolist()))
    probe = np.random.default_rng(0).normal(size=(5, 8))
    assert flipped.score_features(probe) == pytest.approx(by_hand.score_features(probe), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_below": "20%"}, "flip_below must be a number or a share such as 'q20'; got '20%'"),
        ({"drop_below": "q100"}, "drop_below must be a number or a share"),
        ({"drop_below": float("nan")}, "drop_below must be a finite number"),
        ({"soft": {"alpha": 0.5}}, r"alpha of soft must be in \[0, 0.5\), got 0.5"),
        ({"soft": {"mu_lt": 0.5}}, "unknown setting of soft: 'mu_lt'"),
        ({"margin": "sigma"}, "unknown margin 'sigma'"),
        ({"weight": "mu"}, "unknown weight 'mu'"),
    ],
)
def test_a_treatment_that_cannot_be_applied_is_named(options: dict[str, Any], message: str) -> None:
    data = three()
    with pytest.raises(ConfigError, match=message):
        apply_strength(data, strength_of(data), **options)


def test_strength_of_other_judgments_is_refused_by_id_or_row() -> None:
    data = three(id=["a", "b", "c", "d"])
    table = strength_of(data)
    with pytest.raises(DataError, match=r"field 'mu': 2 of 3 preferences have no strength \(id b, c\)"):
        apply_strength(data, table.head(1), margin="mu")
    shuffled = data.take([2, 0, 3, 1])
    made = apply_strength(shuffled, table, margin="mu")
    assert metadata.values(made, "margin") == pytest.approx([0.05, 0.525, 0.0, -0.5])
    with pytest.raises(DataError, match=r"1 of 3 preferences have no strength \(row 3\)"):
        apply_strength(three(), table.drop("id").head(2))
    with pytest.raises(ConfigError, match="a strength table has a column 'mu'"):
        apply_strength(data, table.drop("mu"), margin="mu")


# -- groups --


def test_weak_groups_teach_the_wrong_order_and_strong_ones_the_right_one() -> None:
    data, _ = simulated(500, flips=0.3)
    test, _ = simulated(300, seed=7, flips=0.0)
    table = preference_strength(data, VOTER, members=2)
    found = strength_groups(data, table, RewardModel("features"), test, groups=5)
    assert found["n"].to_list() == [100] * 5
    assert found["mu_mean"].is_sorted()
    assert found["accuracy"][0] < 0.3
    assert found["accuracy"][4] > 0.7
    with pytest.raises(ConfigError, match="cannot make 501 groups of 500 pairs"):
        strength_groups(data, table, RewardModel("features"), test, groups=501)


def test_accuracy_counts_equal_scores_half() -> None:
    assert accuracy(np.array([1.0, -1.0, 0.0, 2.0])) == 0.625
