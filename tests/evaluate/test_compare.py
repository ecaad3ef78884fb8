"""Judges side by side: exact tests, clusters, categories, and what cannot be compared."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.evaluate import (
    compare,
    mcnemar,
    mean_with_interval,
    paired_accuracy,
    phi,
    split_by_length,
    style_control,
    style_difference,
    style_report,
)
from palate.evaluate.paired import EXACT, _flipped
from palate.judges import LengthJudge
from palate.judges.base import Judge, Scores
from palate.report import Report


@dataclass
class Table(Judge):
    """Scores that were given before, by response."""

    scores: dict[str, float] = field(default_factory=dict, repr=False)
    native: ClassVar[frozenset[str]] = frozenset({"score"})
    order_matters: ClassVar[bool] = False

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        return Scores(np.array([self.scores.get(text, np.nan) for text in responses]))


@dataclass
class Odds(Table):
    calibrated: ClassVar[bool] = True


def pairs(n: int, per_prompt: int = 1) -> PreferenceData:
    """Pairs whose first response is preferred, with the categories "even" and "odd"."""
    return PreferenceData.from_columns(
        {
            "prompt": [f"p{i // per_prompt}" for i in range(n)],
            "responses": [[f"good {i}", f"bad {i}"] for i in range(n)],
            "scores": [[1.0, 0.0]] * n,
            "metadata": [json.dumps({"kind": ("even", "odd")[i % 2]}) for i in range(n)],
        }
    )


def right_on(which: set[int], n: int, kind: type[Table] = Table, size: float = 1.0) -> Table:
    scores = {f"good {i}": size if i in which else -size for i in range(n)}
    return kind(scores=scores | {f"bad {i}": 0.0 for i in range(n)})


def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs() -> None:
    for a, b in ((9, 2), (0, 5), (7, 7), (0, 0), (40, 61)):
        expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
        assert float(mcnemar(a, b)) == pytest.approx(expected, abs=1e-12)


def test_with_one_pair_a_prompt_the_randomisation_test_is_mcnemars() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((150, 4)) < [0.8, 0.6, 0.55, 0.5]).astype(float)
    table = paired_accuracy(list("abcd"), right)
    assert table.height == 6
    assert table["p"].to_list() == pytest.approx(table["p_mcnemar"].to_list(), abs=1e-10)
    assert (table["difference"] >= 0).all()
    assert ((table["lower"] <= table["difference"]) & (table["difference"] <= table["upper"])).all()


def test_p_values_are_adjusted_as_statsmodels_does() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(1)
    right = (rng.random((200, 4)) < [0.8, 0.7, 0.6, 0.6]).astype(float)
    table = paired_accuracy(list("abcd"), right)
    expected = multipletests(table["p"].to_numpy(), method="holm")[1]
    assert table["p_holm"].to_list() == pytest.approx(expected.tolist(), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_randomisation_test_counts_all_signs_of_whole_prompts(halves: list[int]) -> None:
    d = np.array(halves) / 2
    sums = np.array(list(itertools.product((-1, 1), repeat=len(d)))) @ np.abs(d)
    assert _flipped(d) == pytest.approx((np.abs(sums) >= abs(d.sum()) - 1e-9).mean(), abs=1e-12)


def test_beyond_the_exact_test_the_normal_one_takes_over_smoothly() -> None:
    d = np.ones(EXACT)
    d[: EXACT // 2 - 20] = -1
    exact, normal = _flipped(d), _flipped(np.append(d, [1.0, -1.0]))
    assert normal == pytest.approx(exact, rel=0.3)


def test_pairs_of_a_prompt_count_once() -> None:
    right = np.repeat([[1.0, 0.0]] * 9 + [[0.0, 1.0]] * 2, 10, axis=0)
    row = paired_accuracy(["a", "b"], right, cluster=np.repeat(np.arange(11), 10)).row(0, named=True)
    assert row["p"] == pytest.approx(binomtest(9, 11, 0.5).pvalue)
    assert row["p_mcnemar"] < 1e-10
    assert row["lower"] < 0.3 < row["upper"]


def test_a_tie_is_half_right_and_better_than_wrong() -> None:
    row = paired_accuracy(["a", "b"], [[0.5, 0.0], [1.0, 0.5], [0.5, 0.5], [1.0, 1.0]]).row(0, named=True)
    assert (row["a"], row["a_only"], row["b_only"], row["difference"]) == ("a", 2, 0, 0.25)


def test_judges_are_listed_best_first_and_the_indistinguishable_are_named() -> None:
    n = 200
    judges = {
        "poor": right_on(set(range(100)), n),
        "good": right_on(set(range(180)), n),
        "nearly": right_on(set(range(5, 182)), n, Odds),
    }
    report = compare(judges, pairs(n), seed=1)
    models = report.tables["models"]
    assert models["model"].to_list() == ["good", "nearly", "poor"]
    assert models["accuracy"].to_list() == [0.9, 0.885, 0.5]
    assert models["tied_with_best"].to_list() == [True, True, False]
    assert report.metrics["tied_with_best"] == 2
    # Of the second's 200 verdicts 177 have the odds e : 1 for the right side.
    loss = 177 / 200 * np.log1p(np.exp(-1)) + 23 / 200 * np.log1p(np.exp(1))
    assert models["log_loss"].to_list() == [None, pytest.approx(loss), None]
    assert report.tables["differences"].height == 3
    assert Report.from_json(json.loads(report.to_json())).tables["models"]["model"].to_list()[0] == "good"
    assert "models" in report.figures


def test_categories_have_accuracy_of_every_judge() -> None:
    judges = {"even": right_on(set(range(0, 40, 2)), 40), "all": right_on(set(range(40)), 40)}
    table = compare(judges, pairs(40), by=["kind"]).tables["categories"]
    found = {(row["model"], row["value"]): row["accuracy"] for row in table.iter_rows(named=True)}
    assert found == {("even", "even"): 1.0, ("even", "odd"): 0.0, ("all", "even"): 1.0, ("all", "odd"): 1.0}
    with pytest.raises(ConfigError, match="unknown slice 'nothing'"):
        compare(judges, pairs(40), by=["nothing"])


def test_unanswered_and_tied_pairs_are_left_out_for_all_and_counted() -> None:
    data = pairs(10)
    silent = right_on(set(range(10)), 10)
    del silent.scores["good 3"]
    tied = PreferenceData.from_columns(
        {"prompt": ["t"], "responses": [["good 1", "bad 1"]], "scores": [[1.0, 1.0]]}
    )
    report = compare({"a": silent, "b": right_on({3}, 10)}, PreferenceData.concat([data, tied]))
    assert (report.metrics["pairs"], report.metrics["unanswered"], report.metrics["gold_ties"]) == (9, 1, 1)
    assert report.metrics["accuracy/b"] == 0.0
    assert report.tables["models"].filter(model="a")["missing"][0] == pytest.approx(0.1)


def test_what_cannot_be_compared_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="there is no judge"):
        compare({}, pairs(3))
    ties = PreferenceData.from_columns(
        {"prompt": ["p"], "responses": [["good 1", "bad 1"]], "scores": [[1.0, 1.0]]}
    )
    with pytest.raises(DataError, match="none of 1 pairs has a preference"):
        compare({"length": LengthJudge()}, ties)
    with pytest.raises(DataError, match=r"no pair was answered by every judge; leave out .*mute \(100%"):
        compare({"length": LengthJudge(), "mute": Table()}, pairs(4))
    with pytest.raises(ConfigError, match="must have answered every pair"):
        paired_accuracy(["a"], [[np.nan]])
    with pytest.raises(ConfigError, match=r"shape \(pairs, 2\)"):
        paired_accuracy(["a", "b"], [[1.0]])


def test_the_mean_of_clusters_has_the_t_interval_of_their_means() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    values = rng.normal(size=30)
    low, high = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert mean_with_interval(values) == pytest.approx((values.mean(), low, high))
    thrice = mean_with_interval(np.repeat(values, 3), cluster=np.repeat(np.arange(30), 3))
    assert thrice == pytest.approx((values.mean(), low, high))
    assert np.isnan(mean_with_interval([1.0])[1])


# -- style --

A = {"tokens": [120], "lists": [2], "headers": [1], "bold": [0]}
B = {"tokens": [80], "lists": [2], "headers": [0], "bold": [4]}


def styled(n: int = 400, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    a, b = ({"tokens": rng.integers(20, 200, n), "lists": rng.integers(0, 5, n)} for _ in range(2))
    d = rng.normal(size=n)
    z = style_difference(a, b)
    y = (rng.random(n) < 1 / (1 + np.exp(-(1.3 * d + 2.0 * z["tokens"])))).astype(float)
    return d, a, b, y


def test_style_differences_are_relative_and_nothing_against_nothing_is_zero() -> None:
    assert {name: z.tolist() for name, z in style_difference(A, B).items()} == {
        "tokens": [pytest.approx(0.2)], "lists": [0.0], "headers": [1.0], "bold": [-1.0],
    }  # fmt: skip
    assert style_difference({"bold": [0]}, {"bold": [0]})["bold"].tolist() == [0.0]
    for name, z in style_difference(B, A).items():
        assert z == pytest.approx(-style_difference(A, B)[name])


def test_phi_is_pearsons_correlation_of_zeros_and_ones() -> None:
    p, s = [1, 1, 0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 0, 1, 0, 1]
    assert phi(p, s) == pytest.approx(0.2581989, abs=1e-7)
    assert phi(p, s) == pytest.approx(np.corrcoef(p, s)[0, 1])
    with pytest.warns(PalateWarning, match="constant"):
        assert np.isnan(phi([1, 1, 1], [0, 1, 0]))
    with pytest.raises(DataError, match="row 2, field 'style': 2 is neither 0 nor 1"):
        phi([1, 0], [0, 2])


def test_style_control_is_logistic_regression_without_intercept() -> None:
    d, a, b, y = styled()
    found = style_control(d, a, b, y)
    z = style_difference(a, b)
    scaled = [z[name] / np.sqrt((z[name] ** 2).mean()) for name in ("tokens", "lists")]
    x = np.stack([d, *scaled], axis=1)
    oracle = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-10, max_iter=1000).fit(x, y)
    assert [found.alpha, *found.beta.values()] == pytest.approx(oracle.coef_[0].tolist(), abs=1e-4)
    assert found.beta["tokens"] > 3 * abs(found.beta["lists"])
    logits = found.logits(d, a, b)
    assert found.loss == pytest.approx((np.logaddexp(0, logits) - y * logits).mean())
    assert found.accuracy == pytest.approx(((logits > 0) == y).mean())


def test_changing_the_sides_of_any_pairs_changes_nothing() -> None:
    d, a, b, y = styled()
    turn = np.arange(len(d)) % 3 == 0
    left = {name: np.where(turn, b[name], a[name]) for name in a}
    right = {name: np.where(turn, a[name], b[name]) for name in a}
    first = style_control(d, a, b, y)
    second = style_control(np.where(turn, -d, d), left, right, np.where(turn, 1 - y, y))
    assert second.loss == pytest.approx(first.loss, abs=1e-9)
    assert second.accuracy == first.accuracy
    assert second.alpha == pytest.approx(first.alpha, abs=1e-5)


def test_without_style_the_logits_are_the_judges_and_a_feature_never_raises_the_loss() -> None:
    d, a, b, y = styled(100)
    fitted = style_control(d, a, b, y)
    plain = type(fitted)(1.0, {"tokens": 0.0}, {"tokens": 1.0}, *[0.0] * 5, 0, 0, False)  # type: ignore[arg-type]
    assert plain.logits(d, a, b) == pytest.approx(d)
    one = style_control(d, a, b, y, ["lists"])
    assert fitted.loss <= one.loss + 1e-9 <= one.loss_uncontrolled + 2e-9


def test_bad_style_input_is_refused_and_separation_capped() -> None:
    d, a, b, y = styled(50)
    with pytest.raises(DataError, match="all labels are equal"):
        style_control(d, a, b, np.ones(50))
    with pytest.raises(DataError, match="row 1, field 'labels': 2 is not between 0 and 1"):
        style_control(d, a, b, np.full(50, 2.0))
    with pytest.raises(ConfigError, match="'bold' is missing from a side"):
        style_control(d, a, b, y, ["bold"])
    with pytest.raises(DataError, match="field 'tokens': a count is negative"):
        style_control(d, {"tokens": -np.ones(50)}, {"tokens": np.ones(50)}, y)
    with pytest.warns(PalateWarning, match="the judge's score"):
        assert style_control(d, a, b, (d > 0).astype(float)).capped
    holes = d.copy()
    holes[:3] = np.nan
    assert style_control(holes, a, b, y).missing == 3


def test_halves_by_length_split_where_the_preferred_response_is_longer() -> None:
    table = split_by_length([1, 1, -1, 1], [1, 1, 1, 0.5], [9, 1, 1, 5], [1, 9, 9, 6])
    found = {row["value"]: (row["accuracy"], row["n"]) for row in table.iter_rows(named=True)}
    assert found == {"chosen shorter": (0.5, 2), "chosen longer": (1.0, 1)}


def test_a_judge_of_length_adds_nothing_to_style() -> None:
    rng = np.random.default_rng(0)
    texts = [[" ".join(["word"] * k) for k in rng.integers(1, 40, 2)] for _ in range(120)]
    gap = [3 * (len(a.split()) - len(b.split())) / len(f"{a} {b}".split()) for a, b in texts]
    first = rng.random(120) < 1 / (1 + np.exp(-np.array(gap)))
    data = PreferenceData.from_columns(
        {
            "prompt": [f"p{i}" for i in range(120)],
            "responses": texts,
            "scores": [[float(x), float(not x)] for x in first],
        }
    )
    report = style_report(LengthJudge(unit="words"), data, features=("words", "bold"))
    row = report.tables["style"].row(0, named=True)
    assert row["phi_judge"] == pytest.approx(1.0)
    assert 0.3 < row["phi_gold"] < 1.0
    assert report.metrics["loss_style_only"] - report.metrics["loss"] < 0.02
    assert report.tables["halves"].filter(value="chosen shorter")["accuracy"][0] == 0.0
