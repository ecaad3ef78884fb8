"""Plackett-Luce: worked numbers, its likelihood written out, oracles, real rankings, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import kendalltau

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import BradleyTerry, count, information, orderings, plackett_luce
from palate.rank.battles import battles
from palate.rank.luce import TIES, Luce
from palate.rank.orderings import Orderings
from palate.rank.plackett_luce import PlackettLuce

FIVE = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1), (0, 1, 2)]


def judged(rankings, **columns):
    """Judgments from rankings: lists of groups of tied items, best group first."""
    items, scores = [], []
    for ranking in rankings:
        pairs = [(f"{item}", -float(place)) for place, group in enumerate(ranking) for item in group]
        items.append([item for item, _ in pairs])
        scores.append([score for _, score in pairs])
    return PreferenceData.from_columns({"items": items, "scores": scores, **columns})


def strict(rankings):
    return [[[item] for item in ranking] for ranking in rankings]


def random_rankings(n=60, size=6, tied=0.0, seed=0, shortest=3):
    """Rankings of a random part of the items by Gumbel noise; neighbours tie with probability `tied`."""
    rng = np.random.default_rng(seed)
    theta = np.linspace(-1, 1, size)
    found = []
    for _ in range(n):
        part = rng.permutation(size)[: rng.integers(shortest, size + 1)]
        order = part[np.argsort(-(theta[part] + rng.gumbel(size=len(part))))]
        groups = [[int(order[0])]]
        for item in order[1:]:
            if rng.random() < tied:
                groups[-1].append(int(item))
            else:
                groups.append([int(item)])
        found.append(groups)
    return found


def written_out(theta, ranking, ties, apart=False):
    """Minus the log-likelihood of one ranking, as the documentation of `TIES` has it."""
    p, loss = np.exp(theta), 0.0
    for g, group in enumerate(ranking):
        below = sum(p[i] for later in ranking[g + 1 :] for i in later)
        size, tied = len(group), sum(p[i] for i in group)
        last = g == len(ranking) - 1
        for t, i in enumerate(group):
            if apart or ties == "drop":
                loss += 0.0 if last else np.log(below + p[i]) - theta[i]
            else:
                left = 1.0 if last or ties == "breslow" else 1.0 - t / size
                loss += ((size - 1) / size if last else 1.0) * (np.log(below + left * tied) - theta[i])
    return loss


def in_order(fitted, size):
    position = {name: i for i, name in enumerate(fitted.items_)}
    at = [position[str(i)] for i in range(size)]
    covariance = fitted.covariance_
    return fitted.strengths_[at], None if covariance is None else covariance[np.ix_(at, at)]


def test_the_five_rankings_give_the_sheets_strengths():
    fitted = PlackettLuce().fit(judged(strict(FIVE)))
    np.testing.assert_allclose(in_order(fitted, 3)[0], [0.968383, -0.278437, -0.689945], atol=5e-7)
    assert fitted.log_likelihood_ == pytest.approx(-7.221895, abs=5e-7)
    assert fitted.converged_
    assert fitted.n_.tolist() == [5, 5, 5]
    again = PlackettLuce().fit(Orderings.from_codes(FIVE))
    np.testing.assert_allclose(again.covariance_, fitted.covariance_, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.booleans(), st.sampled_from(["efron", "breslow", "drop"]))
def test_of_pairs_it_is_bradley_terry_with_half_ties_and_the_same_covariance(seed, weighted, ties):
    rng = np.random.default_rng(seed)
    pairs = np.array(list(itertools.permutations(range(4), 2)) * 8)
    won = rng.integers(0, 3, len(pairs))
    weight = rng.uniform(0.2, 3.0, len(pairs)) if weighted else np.ones(len(pairs))
    annotator = [f"u{u}" for u in rng.integers(0, 12, len(pairs))]
    data = PreferenceData.from_columns(
        {
            "items": [[f"{a}", f"{b}"] for a, b in pairs],
            "scores": [[(1, 0, 1)[o], (0, 1, 1)[o]] for o in won],
            "weight": weight,
            "annotator": annotator,
        }
    )
    half = "drop" if ties == "drop" else "half"
    options = rng.choice([{}, {"interval": "hessian"}, {"cluster": "annotator"}, {"l2": 0.5}])
    pairwise = BradleyTerry(ties=half, **options).fit(data)
    fitted = PlackettLuce(ties=ties, **options).fit(data)
    assert fitted.items_ == pairwise.items_
    np.testing.assert_allclose(fitted.strengths_, pairwise.strengths_, atol=1e-8)
    np.testing.assert_allclose(fitted.covariance_, pairwise.covariance_, atol=1e-8)
    assert fitted.log_likelihood_ == pytest.approx(pairwise.log_likelihood_)
    counted = PlackettLuce(ties=ties).fit(count(data))
    np.testing.assert_allclose(counted.strengths_, PlackettLuce(ties=ties).fit(data).strengths_, atol=1e-9)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("interval", ["sandwich", "hessian"])
def test_strengths_and_errors_are_those_of_the_likelihood_written_out(ties, interval):
    rankings = random_rankings(80, 5, tied=0.3, seed=1, shortest=2)
    choice = np.arange(80) % 4 == 0
    data = judged(rankings, protocol=["choice" if c else "ranking" for c in choice])
    fitted = PlackettLuce(ties=ties, interval=interval).fit(data)
    theta, covariance = in_order(fitted, 5)
    losses = [lambda x, r=r, c=c: written_out(x, r, ties, c) for r, c in zip(rankings, choice, strict=True)]
    assert fitted.log_likelihood_ == pytest.approx(-sum(loss(theta) for loss in losses))
    scores = np.array([approx_fprime(theta, loss, 1e-7) for loss in losses])
    np.testing.assert_allclose(scores.sum(axis=0), 0.0, atol=1e-4)
    hessian = np.array(
        [
            approx_fprime(theta, lambda x, i=i: sum(approx_fprime(x, f, 1e-5)[i] for f in losses), 1e-4)
            for i in range(5)
        ]
    )
    inverse = np.linalg.pinv((hessian + hessian.T) / 2, rcond=1e-3)
    expected = inverse if interval == "hessian" else inverse @ scores.T @ scores @ inverse
    np.testing.assert_allclose(covariance, expected, atol=2e-4)


@pytest.mark.parametrize("ties", TIES)
def test_gradient_and_curvature_are_derivatives_of_the_loss_anywhere(ties):
    rankings = random_rankings(40, 5, tied=0.4, seed=2)
    model = Luce(orderings.orderings(judged(rankings)), ties)
    theta = np.random.default_rng(0).normal(size=5)
    point = model.at(theta)
    np.testing.assert_allclose(
        point.gradient, approx_fprime(theta, lambda x: model.at(x).loss, 1e-7), atol=1e-4
    )
    slopes = np.array([approx_fprime(theta, lambda x, i=i: model.at(x).gradient[i], 1e-6) for i in range(5)])
    np.testing.assert_allclose(information.laplacian(model.graph, point.curvature), slopes, atol=1e-4)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_ties_above_the_last_place_are_those_of_cox_regression(ties):
    statsmodels = pytest.importorskip("statsmodels.duration.hazard_regression")
    rankings = [[*r, [int(i)]] for r in random_rankings(60, 5, tied=0.4, seed=3) for i in [5]]
    rankings += [[[5], [i], [(i + 1) % 5]] for i in range(5)]
    fitted = PlackettLuce(ties=ties).fit(judged(rankings))
    time, stratum, item = np.array(
        [(t, r, i) for r, ranking in enumerate(rankings) for t, group in enumerate(ranking) for i in group]
    ).T
    dummies = (item[:, None] == np.arange(1, 6)).astype(float)
    cox = statsmodels.PHReg(time + 1.0, dummies, strata=stratum, ties=ties).fit(disp=0)
    theta = np.concatenate([[0.0], cox.params])
    np.testing.assert_allclose(in_order(fitted, 6)[0], theta - theta.mean(), atol=1e-6)


def test_choix_finds_the_same_strengths():
    choix = pytest.importorskip("choix")
    rankings = [[item for (item,) in r] for r in random_rankings(60, 8, seed=4)]
    data = judged(strict(rankings))
    found = in_order(PlackettLuce().fit(data), 8)[0]
    np.testing.assert_allclose(found, choix.opt_rankings(8, rankings, alpha=0.0, tol=1e-10), atol=1e-6)
    np.testing.assert_allclose(found, choix.ilsr_rankings(8, rankings), atol=1e-6)
    # The penalty of choix is alpha |theta|^2, ours l2/2 |theta|^2.
    ridge = choix.opt_rankings(8, rankings, alpha=2.0, tol=1e-10)
    np.testing.assert_allclose(in_order(PlackettLuce(l2=4.0).fit(data), 8)[0], ridge, atol=1e-6)


def test_a_choice_is_the_first_factor_alone():
    choix = pytest.importorskip("choix")
    chosen = [(r[0][0], [i for (i,) in r[1:]]) for r in random_rankings(200, 6, seed=5)]
    data = judged([[[best], others] for best, others in chosen], protocol=["choice"] * 200)
    found = PlackettLuce().fit(data)
    np.testing.assert_allclose(
        in_order(found, 6)[0], choix.opt_top1(6, chosen, alpha=0.0, tol=1e-10), atol=1e-6
    )
    assert found.diagnostics_["ties"] == 0
    cut = judged([[[best], others] for best, others in chosen])
    np.testing.assert_allclose(PlackettLuce(ties="drop").fit(cut).strengths_, found.strengths_, atol=1e-9)


def test_items_not_judged_are_no_part_of_a_ranking():
    rankings = strict(list(itertools.permutations("012"))[:5])
    data = judged(rankings)
    unknown = PreferenceData.from_columns(
        {
            "items": [[*items, "3"] for items in data.column("items").to_pylist()] + [["3", "0"], ["0", "3"]],
            "scores": [[*scores, np.nan] for scores in data.column("scores").to_pylist()] + [[1, 0], [1, 0]],
        }
    )
    left, right = PlackettLuce().fit(data), PlackettLuce().fit(unknown)
    known = in_order(right, 4)[0][:3]
    np.testing.assert_allclose(known - known.mean(), in_order(left, 3)[0], atol=1e-9)


def test_the_order_in_which_alternatives_are_listed_does_not_matter():
    rankings = random_rankings(50, 5, tied=0.3, seed=6)
    data = judged(rankings)
    turned = PreferenceData.from_columns(
        {name: [row[::-1] for row in data.column(name).to_pylist()] for name in ("items", "scores")}
    )
    one, other = PlackettLuce().fit(data), PlackettLuce().fit(turned)
    np.testing.assert_allclose(in_order(one, 5)[0], in_order(other, 5)[0], atol=1e-9)
    np.testing.assert_allclose(in_order(one, 5)[1], in_order(other, 5)[1], atol=1e-9)
    assert one.diagnostics_["distinct_rankings"] == other.diagnostics_["distinct_rankings"] < 50


def test_counts_are_so_many_equal_rankings():
    rankings = random_rankings(25, 4, tied=0.2, seed=7)
    times = np.arange(25) % 3 + 1
    repeated = PlackettLuce().fit(judged([r for r, n in zip(rankings, times, strict=True) for _ in range(n)]))
    data = judged(rankings, weight=times.astype(float))
    counted = PlackettLuce(weights="count").fit(data)
    weighed = PlackettLuce().fit(data)
    np.testing.assert_allclose(counted.covariance_, repeated.covariance_, atol=1e-10)
    np.testing.assert_allclose(weighed.strengths_, repeated.strengths_, atol=1e-9)
    assert counted.diagnostics_["rankings"] == repeated.diagnostics_["rankings"] == times.sum()
    assert counted.n_.tolist() == repeated.n_.tolist()
    assert np.trace(weighed.covariance_) > np.trace(counted.covariance_)


def test_doubled_rankings_halve_the_variance_but_not_if_one_person_gave_both():
    rankings = random_rankings(40, 5, tied=0.2, seed=8)
    once = PlackettLuce().fit(judged(rankings))
    people = [f"u{i}" for i in range(40)] * 2
    data = judged(rankings * 2, annotator=people, weight=np.ones(80))
    np.testing.assert_allclose(PlackettLuce().fit(data).covariance_, once.covariance_ / 2, atol=1e-10)
    clustered = PlackettLuce(cluster="annotator").fit(data)
    np.testing.assert_allclose(clustered.covariance_, once.covariance_, atol=1e-10)
    nobody = judged(rankings, annotator=["u0", *[None] * 39])
    alone = PlackettLuce(cluster="annotator").fit(nobody)
    np.testing.assert_allclose(alone.covariance_, once.covariance_, atol=1e-10)


def test_many_items_get_draws_whose_spread_is_that_of_the_covariance(monkeypatch):
    rankings = random_rankings(300, 12, tied=0.1, seed=9)
    data = judged(rankings, annotator=[f"u{i % 60}" for i in range(300)])
    for options in (
        {},
        {"interval": "hessian"},
        {"cluster": "annotator"},
        {"l2": 1.0, "interval": "hessian"},
    ):
        dense = PlackettLuce(**options).fit(data)
        with monkeypatch.context() as patched:
            for module in (information, plackett_luce):
                patched.setattr(module, "DENSE_ITEMS", 5)
            patched.setattr(orderings, "TABLE_ITEMS", 5)
            patched.setattr(plackett_luce, "DRAWS", 4000)
            drawn = PlackettLuce(**options).fit(data)
        assert drawn.covariance_ is None
        np.testing.assert_allclose(drawn.strengths_, dense.strengths_, atol=1e-8)
        np.testing.assert_allclose(np.cov(drawn.draws_, bias=True), dense.covariance_, atol=0.006)


def test_the_implied_comparisons_are_those_of_the_battles():
    rankings = random_rankings(60, 5, tied=0.3, seed=10, shortest=2)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 60)
    data = judged(rankings, weight=weight, protocol=["choice", "ranking"] * 30)
    found, expected = orderings.orderings(data).comparisons(), count(data)
    assert found.items == expected.items
    for name in ("first", "second", "weight", "count"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name))
    assert found.unused == expected.unused


def test_strengths_far_apart_stay_finite():
    ladder = [[[i], [i + 1], [i + 2]] for i in range(30)] * 50
    fitted = PlackettLuce(l2=1e-6).fit(judged(ladder))
    strengths = in_order(fitted, 32)[0]
    assert (np.diff(strengths) < 0).all()
    assert np.isfinite(fitted.covariance_).all()
    assert strengths[0] - strengths[-1] > 200


def test_groups_that_never_met_are_named():
    data = judged([[[0], [1]], [[1], [0]], [[2], [3], [4]], [[4], [3], [2]]])
    with pytest.raises(DataError, match=r"2 groups that never met: \(2, 3, 4\), \(0, 1\)"):
        PlackettLuce().fit(data)
    with pytest.warns(PalateWarning, match="different groups"):
        assert PlackettLuce(l2=0.1).fit(data).diagnostics_["components"] == 2


def test_an_item_that_is_always_first_or_last_is_named():
    with pytest.raises(DataError, match="0 never lost, 3 never won"):
        PlackettLuce().fit(judged(strict([(0, 1, 2, 3), (0, 2, 1, 3)])))
    with pytest.raises(DataError, match="0 never lost"):
        PlackettLuce().fit(judged(strict([(0, 1, 2), (0, 2, 1)])))
    assert PlackettLuce(l2=1.0).fit(judged(strict([(0, 1, 2), (0, 2, 1)]))).strengths_[0] > 0


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (judged([[[0, 1, 2]]]), {"ties": "drop"}, DataError, "every comparison is a tie"),
        (judged([[[0], [1], [0]]]), {}, DataError, "row 1, field 'items': the item '0' is ranked twice"),
        (judged([[[0], [0]], [[0], [1]]]), {}, DataError, "row 1, field 'items'"),
        (judged([[[0]], [[1]]]), {}, DataError, "every judgment scores a single item"),
        (judged([[[0], [1], [2]]], weight=[0.0]), {}, DataError, "every weight is 0"),
        (judged([[[0], [1], [2]]], weight=[1.5]), {"weights": "count"}, DataError, "row 1, .*not a count"),
        (judged(strict(FIVE)), {"ties": "half"}, ConfigError, "ties is 'half'; use 'efron' or"),
        (judged(strict(FIVE)), {"weights": "votes"}, ConfigError, "weights is 'votes'"),
        (judged(strict(FIVE)), {"both_bad": "?"}, ConfigError, "both_bad is"),
        (judged(strict(FIVE)), {"anchor": "9"}, ConfigError, "unknown anchor '9'"),
        (judged(strict(FIVE)), {"cluster": "annotator"}, DataError, "name no annotator"),
        (judged(strict(FIVE)), {"cluster": "prompt", "interval": "hessian"}, ConfigError, "cluster needs"),
        (count(judged(strict(FIVE))), {}, ConfigError, "needs whole rankings"),
        (battles(judged(strict(FIVE))), {}, ConfigError, "needs whole rankings"),
        (Orderings.from_codes(FIVE), {"cluster": "prompt"}, ConfigError, "judgments only"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_with_a_reason(data, options, error, message):
    with pytest.raises(error, match=message):
        PlackettLuce(**options).fit(data)


def test_all_ties_are_all_equal():
    fitted = PlackettLuce().fit(judged([[[0, 1, 2]], [[2, 3, 0]]]))
    np.testing.assert_allclose(fitted.strengths_, 0.0, atol=1e-12)


def test_both_bad_ties_can_be_left_out():
    data = judged([*strict(FIVE), [[0, 1, 2]]], tie=[None] * 5 + ["both_bad"])
    left_out = PlackettLuce(both_bad="drop").fit(data)
    np.testing.assert_allclose(left_out.strengths_, PlackettLuce().fit(judged(strict(FIVE))).strengths_)
    assert left_out.comparisons_.unused == 1
    assert np.ptp(PlackettLuce().fit(data).strengths_) < np.ptp(left_out.strengths_)


@pytest.mark.parametrize(
    ("codes", "message"),
    [([[0, 0, 1]], "'0' is ranked twice"), ([0, 1], "shape"), ([[0, -1]], "without a name")],
)
def test_rankings_of_codes_are_checked(codes, message):
    with pytest.raises(DataError, match=message):
        Orderings.from_codes(codes)


def test_a_board_of_rankings_says_what_it_is_made_of():
    board = palate.rank(judged(strict(FIVE)), method="plackett_luce")
    assert board.table["n"].to_list() == [5, 5, 5]
    assert board.diagnostics["rankings"] == 5
    assert board.diagnostics["distinct_rankings"] == 4
    assert board.win_probability("0", "1") == pytest.approx(1 / (1 + np.exp(-0.968383 - 0.278437)), abs=1e-6)
    assert board.win_matrix().counts[0, 1] == 5


@pytest.mark.parametrize("kind", ["dots/00024", "puzzle/00025"])
@pytest.mark.parametrize("number", range(1, 5))
def test_the_true_order_of_dots_and_puzzles_is_found(shared_data, kind, number):
    data = palate.load(shared_data / "preflib" / f"{kind}-0000000{number}.soc")
    board = palate.rank(data, method="plackett_luce", weights="count")
    assert list(board.strengths) == sorted(board.strengths, key=int)


def test_judges_of_a_skating_contest_agree_on_a_board_with_ties(shared_data):
    data = palate.load(shared_data / "preflib" / "skate" / "00006-00000001.toc")
    boards = [palate.rank(data, method="plackett_luce", ties=ties, l2=0.1).strengths for ties in TIES]
    names = list(boards[0])
    for other in boards[1:]:
        assert kendalltau([boards[0][x] for x in names], [other[x] for x in names]).statistic > 0.95


def test_images_are_ordered_within_their_prompt_as_the_expert_ranked_them(shared_data):
    frame = pl.read_parquet(shared_data / "image-reward-test" / "rankings.parquet")
    grouped = frame.group_by("prompt_id", maintain_order=True).agg("image", -pl.col("rank").cast(pl.Float64))
    data = PreferenceData.from_columns(
        {"items": grouped["image"].to_list(), "scores": grouped["rank"].to_list()}
    )
    counted = orderings.orderings(data).comparisons()
    assert counted.without_ties().n_comparisons == 6399
    with pytest.warns(PalateWarning, match="100 groups"):
        fitted = PlackettLuce(l2=0.1).fit(data.take(np.arange(100)))
    strength = dict(zip(fitted.items_, fitted.strengths_, strict=True))
    for images, ranks in zip(grouped["image"][:100].to_list(), grouped["rank"][:100].to_list(), strict=True):
        found = np.array([strength[image] for image in images])
        order = np.argsort(-np.array(ranks), kind="stable")
        steps = np.diff(np.array(ranks)[order])
        assert (np.diff(found[order])[steps < 0] < 0).all()
        np.testing.assert_allclose(np.diff(found[order])[steps == 0], 0.0, atol=1e-7)


@pytest.mark.parametrize(
    ("number", "elected"),
    [
        (2, ["Lenihan", "Higgins", "Burton"]),
        (3, ["Dempsey", "Bruton", "Wallace", "English", "Brady"]),
    ],
)  # fmt: skip
def test_those_elected_lead_the_partial_ballots_of_their_constituency(shared_data, number, elected):
    data = palate.load(shared_data / "preflib" / "irish" / f"00001-0000000{number}.soi")
    board = palate.rank(data, method="plackett_luce", weights="count")
    first = list(board.strengths)[: len(elected)]
    assert all(any(name in candidate for candidate in first) for name in elected)
    listed = np.diff(data.offsets())
    assert board.diagnostics["rankings"] == data.weights[listed > 1].sum()
    assert board.diagnostics["judgments_without_comparison"] == (listed == 1).sum()


@pytest.mark.parametrize(("year", "first"), [(1, "Bob Kiss"), (2, "Andy Montroll")])
@pytest.mark.parametrize("ties", TIES)
def test_the_condorcet_winner_leads_the_tied_ballots_of_burlington(shared_data, year, first, ties):
    data = palate.load(shared_data / "preflib" / "burlington" / f"00005-0000000{year}.toc")
    board = palate.rank(data, method="plackett_luce", weights="count", ties=ties)
    assert next(iter(board.strengths)) == first
