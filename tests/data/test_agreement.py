"""Agreement: worked numbers, oracles, and units that do not depend on sides."""

from __future__ import annotations

import warnings

import krippendorff
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import chance
from palate.data.simulate import simulate_battles, simulate_rankings, simulate_ratings
from palate.data.table import PreferenceData
from palate.errors import ConfigError, PalateWarning

NAN = float("nan")

# Units are columns, annotators rows; the example of Krippendorff's own text.
EXAMPLE = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T

# Fleiss' example: 10 subjects, 14 raters, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "alpha"),
    [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107), ("ratio", 0.797403)],
)
def test_alpha_of_krippendorffs_example(level, alpha):
    assert chance.krippendorff_alpha(EXAMPLE, level) == pytest.approx(alpha, abs=5e-7)


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.625), ("ordinal", 0.659091), ("interval", 0.659091)]
)
def test_alpha_of_four_small_units(level, alpha):
    ratings = np.array([[0, 0, 2, 1], [0, 1, 2, 1], [0, 2, 2, NAN]]).T
    assert chance.krippendorff_alpha(ratings, level) == pytest.approx(alpha, abs=5e-7)


def test_coincidence_margins_of_krippendorffs_example():
    table = chance.Table.of_matrix(EXAMPLE)
    assert table.per_value(table.count.astype(float)).tolist() == [9, 13, 10, 5, 3]


def test_fleiss_kappa_and_ac1_of_fleiss_example():
    table = chance.Table.of_counts(FLEISS)
    assert chance.percent(table, np.ones(10)) == pytest.approx(0.378022, abs=5e-7)
    assert chance.fleiss_kappa(FLEISS) == pytest.approx(0.209931, abs=5e-7)
    assert chance.gwet_ac1(FLEISS) == pytest.approx(0.225614, abs=5e-7)


def test_high_agreement_on_a_rare_category_has_no_kappa_but_ac1():
    counts = [[5, 0]] * 18 + [[4, 1]] * 2
    assert chance.percent(chance.Table.of_counts(counts), np.ones(20)) == pytest.approx(0.96)
    assert chance.fleiss_kappa(counts) == pytest.approx(-0.0204, abs=5e-5)
    assert chance.gwet_ac1(counts) == pytest.approx(0.9584, abs=5e-5)


MATRIX = st.integers(2, 5).flatmap(
    lambda raters: st.lists(
        st.lists(st.sampled_from([NAN, 0.0, 1.0, 2.0, 5.0]), min_size=raters, max_size=raters),
        min_size=2,
        max_size=12,
    )
)


@settings(deadline=None, max_examples=150)
@given(MATRIX, st.sampled_from(chance.LEVELS))
def test_alpha_equals_that_of_the_krippendorff_package(rows, level):
    matrix = np.array(rows)
    pairable = matrix[(~np.isnan(matrix)).sum(axis=1) >= 2]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        assert np.isnan(chance.krippendorff_alpha(matrix, level))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = krippendorff.alpha(reliability_data=pairable.T, level_of_measurement=level)
    assert chance.krippendorff_alpha(matrix, level) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(MATRIX, st.sampled_from(chance.LEVELS), st.randoms(use_true_random=False))
def test_swapping_annotators_and_units_leaves_alpha(rows, level, random):
    matrix = np.array(rows)
    columns, units = list(range(matrix.shape[1])), list(range(len(rows)))
    random.shuffle(columns)
    random.shuffle(units)
    a, b = (chance.krippendorff_alpha(m, level) for m in (matrix, matrix[units][:, columns]))
    assert a == pytest.approx(b, abs=1e-9, nan_ok=True)


def test_cohen_kappa_equals_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 300)
    b = np.where(rng.random(300) < 0.5, a, rng.integers(0, 4, 300))
    for level, weights in (("nominal", None), ("ordinal", "linear"), ("interval", "quadratic")):
        expected = metrics.cohen_kappa_score(a, b, weights=weights)
        assert chance.cohen_kappa(a, b, level=level) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ConfigError, match="unknown level for cohen 'ratio'"):
        chance.cohen_kappa(a, b, level="ratio")


def test_kendall_w_runs_from_one_to_zero_and_corrects_for_ties():
    assert chance.kendall_w([[1, 2, 3]] * 4) == pytest.approx(1.0)
    assert chance.kendall_w([[1, 2, 3], [3, 2, 1]]) == pytest.approx(0.0)
    assert chance.kendall_w([[1, 2, 2], [1, 2, 2], [1, 2, 2]]) == pytest.approx(1.0)
    assert np.isnan(chance.kendall_w([[1, 1], [1, 1]]))


def test_kendall_w_follows_friedmans_statistic():
    from scipy.stats import friedmanchisquare

    scores = np.random.default_rng(1).integers(0, 5, (7, 6))
    statistic = friedmanchisquare(*scores.T).statistic
    assert chance.kendall_w(scores) == pytest.approx(statistic / (7 * 5))


def votes(*rows):
    """Rows (prompt, first, second, score of first, score of second, annotator)."""
    return PreferenceData.from_columns(
        {
            "prompt_id": [r[0] for r in rows],
            "items": [[r[1], r[2]] for r in rows],
            "scores": [[r[3], r[4]] for r in rows],
            "annotator": [r[5] for r in rows],
        }
    )


def test_votes_agree_whatever_side_each_annotator_saw():
    data = votes(
        ("p", "a", "b", 1, 0, "u"),
        ("p", "b", "a", 0, 1, "v"),
        ("q", "b", "a", 1, 0, "u"),
        ("q", "a", "b", 0, 1, "v"),
    )
    result = data.agreement()
    assert result.value == pytest.approx(1.0)
    assert (result.percent, result.n_units, result.n_annotators, result.n_values, result.n_pairs) == (
        1.0,
        2,
        2,
        4,
        2,
    )


def test_the_three_raters_of_the_sheet_as_votes():
    values = {"u": [0, 0, 2, 1], "v": [0, 1, 2, 1], "w": [0, 2, 2]}
    scores = {0: (1, 0), 1: (1, 1), 2: (0, 1)}
    rows = [
        (f"p{i}", "a", "b", *scores[v], who) for who, given in values.items() for i, v in enumerate(given)
    ]
    data = votes(*rows)
    assert data.agreement().value == pytest.approx(0.625)
    assert data.agreement(level="ordinal").value == pytest.approx(0.659091, abs=5e-7)
    assert data.agreement(level="interval").value == pytest.approx(0.659091, abs=5e-7)


def test_turning_sides_round_changes_nothing():
    data = simulate_battles(3000, 6, ties=0.5, annotators=15, prompts=20, seed=2)
    turn = np.random.default_rng(0).random(len(data)) < 0.5
    items = [row[::-1] if t else row for row, t in zip(data.column("items").to_pylist(), turn, strict=True)]
    scores = [row[::-1] if t else row for row, t in zip(data.column("scores").to_pylist(), turn, strict=True)]
    turned = data.with_columns(items=items, scores=scores)
    for measure in ("alpha", "percent", "fleiss", "ac1"):
        assert data.agreement(measure).value == pytest.approx(turned.agreement(measure).value, abs=1e-12)


def test_the_last_of_an_annotators_repeated_judgments_counts():
    data = votes(("p", "a", "b", 1, 0, "u"), ("p", "a", "b", 0, 1, "u"), ("p", "a", "b", 0, 1, "v"))
    result = data.agreement("percent")
    assert result.value == 1.0
    assert result.note == "1 values repeat an annotator's earlier one; the last counts"


def test_one_value_only_is_undefined_and_says_so():
    data = votes(("p", "a", "b", 1, 0, "u"), ("p", "a", "b", 1, 0, "v"))
    with pytest.warns(PalateWarning, match="alpha is undefined: only one value occurs"):
        result = data.agreement()
    assert np.isnan(result.value)
    assert result.percent == 1.0


def test_nothing_shared_is_undefined_and_says_so():
    data = votes(("p", "a", "b", 1, 0, "u"), ("q", "a", "b", 1, 0, "v"))
    with pytest.warns(PalateWarning, match="percent is undefined: no two annotators judged the same unit"):
        assert np.isnan(data.agreement("percent").value)


def test_ratings_are_compared_per_alternative_and_aspect():
    data = PreferenceData.from_columns(
        {
            "prompt_id": ["p"] * 6,
            "items": [["a"]] * 6,
            "scores": [[1], [1], [4], [4], [2], [3]],
            "annotator": ["u", "v"] * 3,
            "aspect": ["x", "x", "y", "y", "z", "z"],
            "protocol": ["rating"] * 6,
        }
    )
    expected = chance.krippendorff_alpha([[1, 1], [4, 4], [2, 3]], "interval")
    assert data.agreement(level="interval").value == pytest.approx(expected)
    assert data.agreement("percent", aspect="x").value == 1.0


def test_the_interval_of_the_bootstrap_covers_and_follows_the_seed():
    data = simulate_ratings(200, annotators=6, missing=0.2, seed=3)
    result = data.agreement(level="interval", ci=True, n_boot=200, seed=1)
    low, high = result.interval
    assert low < result.value < high
    assert high - low < 0.2
    assert data.agreement(level="interval", ci=True, n_boot=200, seed=1).interval == (low, high)


def test_cohen_on_data_needs_exactly_two_annotators():
    data = simulate_ratings(100, annotators=2, seed=1)
    wide = data.ratings().pivot("annotator", index="item", values="score")
    expected = chance.cohen_kappa(wide[:, 1], wide[:, 2], level="interval")
    assert data.agreement("cohen", level="interval").value == pytest.approx(expected)
    with pytest.raises(ConfigError, match="cohen compares two annotators and 3 share units here"):
        simulate_ratings(20, annotators=3).agreement("cohen")


def test_kendall_w_of_rankings_is_that_of_their_matrix():
    data = simulate_rankings(6, 8, annotators=1, seed=4).with_columns(annotator=list("abcdef"))
    matrix = data.ratings().pivot("item", index="annotator", values="score").drop("annotator").to_numpy()
    result = data.agreement("kendall_w")
    assert result.value == pytest.approx(chance.kendall_w(matrix))
    assert (result.n_units, result.n_annotators, result.n_pairs) == (1, 6, 15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "kappa"}, "unknown measure 'kappa'"),
        ({"level": "nominl"}, "unknown level 'nominl'; did you mean 'nominal'"),
    ],
)
def test_unknown_measures_and_levels_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        simulate_battles(20, 3).agreement(**options)


def test_ratings_and_votes_are_not_mixed():
    data = PreferenceData.concat([simulate_battles(10, 3), simulate_ratings(3, annotators=2)])
    with pytest.raises(ConfigError, match="ratings and comparisons cannot be compared with each other"):
        data.agreement()


def test_ratio_needs_values_from_zero():
    with pytest.raises(ConfigError, match="'ratio' needs values of 0 or more; found -1"):
        chance.krippendorff_alpha([[-1, 2], [1, 1]], "ratio")


def test_crowd_workers_agree_as_published(shared_data):
    table = pl.read_csv(shared_data / "llmfao" / "crowd-comparisons.csv.gz")
    data = PreferenceData.from_columns(
        {
            "prompt_id": table["prompt"].cast(pl.String).to_arrow(),
            "items": table.select(pl.concat_list("left", "right")).to_series().to_arrow(),
            "scores": table.select(
                pl.concat_list(
                    (pl.col("winner") != "right").cast(float), (pl.col("winner") != "left").cast(float)
                )
            )
            .to_series()
            .to_arrow(),
            "annotator": table["worker"].cast(pl.String).to_arrow(),
        }
    )
    result = data.agreement("percent")
    assert result.n_pairs == 15112
    assert round(result.value, 3) == 0.532


def test_argument_workers_agree_as_published(shared_data):
    folder = shared_data / "ukp-convarg"
    table = pl.read_parquet(folder / "judgments.parquet").join(
        pl.read_parquet(folder / "pairs.parquet"), on=["topic", "pair_id"], how="left", maintain_order="left"
    )
    data = PreferenceData.from_columns(
        {
            "prompt_id": table["topic"].to_arrow(),
            "items": table.select(pl.concat_list("argument_1", "argument_2")).to_series().to_arrow(),
            "scores": table.select(
                pl.concat_list((pl.col("choice") != "a2").cast(float), (pl.col("choice") != "a1").cast(float))
            )
            .to_series()
            .to_arrow(),
            "annotator": table["annotator"].to_arrow(),
        }
    )
    result = data.agreement("percent")
    assert result.n_pairs == 168510
    assert round(result.value, 3) == 0.524
