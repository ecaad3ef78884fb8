"""Running judges on preferences: small data with known answers, then real sets with published figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

import palate
from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.evaluate import Report, evaluate, win_rate
from palate.judges.base import Comparison, Judge, Scores
from palate.judges.length import LengthJudge


@dataclass
class Recorded(Judge):
    """Verdicts that were given before: (prompt, shown first, shown second) to probability for the first."""

    verdicts: dict[tuple[str, str, str], float] = field(default_factory=dict, repr=False)
    asked: int = 0
    native: ClassVar[frozenset[str]] = frozenset({"compare"})

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        self.asked += len(prompts)
        keys = zip(prompts, a, b, strict=True)
        return Comparison(np.array([self.verdicts.get(key, np.nan) for key in keys], dtype=np.float64))


@dataclass
class Logistic(Judge):
    """Scores a response by the number in it; differences of scores are log-odds."""

    calibrated: ClassVar[bool] = True
    order_matters: ClassVar[bool] = False
    native: ClassVar[frozenset[str]] = frozenset({"score"})
    asked: int = 0

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        self.asked += len(responses)
        return Scores(np.array([float(text.split()[0]) for text in responses]))


@dataclass
class SpacedWords(Judge):
    """More words between spaces are better: the length that the published baseline counts."""

    native: ClassVar[frozenset[str]] = frozenset({"score"})

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        return Scores(np.array([float(len(text.split())) for text in responses]))


def pairs_of(rows: Sequence[tuple[str, str, str]], **columns: Any) -> PreferenceData:
    prompts, chosen, rejected = zip(*rows, strict=True)
    return PreferenceData.from_columns(
        {
            "prompt": list(prompts),
            "prompt_id": list(prompts),
            "responses": [[c, r] for c, r in zip(chosen, rejected, strict=True)],
            "scores": [[1.0, 0.0]] * len(prompts),
        }
        | columns
    )


def test_accuracy_ties_and_slices_of_a_rule_judge_by_hand() -> None:
    data = pairs_of(
        [("p", "long one", "short"), ("q", "a", "bb"), ("r", "same", "size"), ("s", "xx", "x")],
        aspect=["helpful", "helpful", "honest", "honest"],
    )
    report = evaluate(LengthJudge(), data)
    assert report.metrics["accuracy"] == pytest.approx(2.5 / 4)
    assert report.metrics["judge_ties"] == 0.25
    assert report.metrics["accuracy_chosen_longer"] == 1.0
    assert report.metrics["accuracy_chosen_shorter"] == 0.0
    assert report.metrics["longer_preferred"] == 1.0
    assert report.metrics["longer_preferred_gold"] == pytest.approx(2 / 3)
    assert report.metrics["length_correlation"] == pytest.approx(1.0)
    by_aspect = report.tables["slices"].filter(pl.col("slice") == "aspect")
    assert dict(by_aspect.select("value", "accuracy").iter_rows()) == {"helpful": 0.5, "honest": 0.75}
    assert "expected_calibration_error" not in report.metrics
    assert "order_consistency" not in report.metrics


def test_gold_ties_are_left_out_and_said() -> None:
    data = PreferenceData.from_columns(
        {"prompt": ["p", "q"], "responses": [["aa", "b"], ["aa", "b"]], "scores": [[1, 0], [1, 1]]}
    )
    report = evaluate(LengthJudge(), data)
    assert (report.metrics["accuracy"], report.metrics["gold_ties"], report.metrics["pairs"]) == (
        1.0,
        1.0,
        2.0,
    )
    confusion = {row["gold"]: row for row in report.tables["confusion"].to_dicts()}
    assert confusion["tie"]["judge_first"] + confusion["tie"]["judge_second"] == 1
    assert any("gold tie" in note for note in report.notes)


def test_calibration_of_a_logistic_judge_does_not_depend_on_the_order_of_the_sides() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=4000), rng.normal(size=4000)
    first_wins = rng.random(4000) < 1 / (1 + np.exp(b - a))
    responses = [[f"{x:.4f} a", f"{y:.4f} b"] for x, y in zip(a, b, strict=True)]
    columns = {"prompt": [str(i) for i in range(4000)], "responses": responses}
    given = PreferenceData.from_columns(columns | {"scores": [[1, 0] if w else [0, 1] for w in first_wins]})
    turned = [r if w else r[::-1] for r, w in zip(responses, first_wins, strict=True)]
    chosen_first = PreferenceData.from_columns(columns | {"responses": turned, "scores": [[1, 0]] * 4000})
    one, two = evaluate(Logistic(), given).metrics, evaluate(Logistic(), chosen_first).metrics
    for name in ("expected_calibration_error", "brier", "log_loss", "accuracy"):
        assert one[name] == pytest.approx(two[name])
    assert one["expected_calibration_error"] < 0.03
    assert one["log_loss"] < np.log(2)


def test_an_overconfident_judge_is_seen() -> None:
    rng = np.random.default_rng(1)
    margin = rng.normal(size=3000)
    first_wins = rng.random(3000) < 1 / (1 + np.exp(-margin))
    data = PreferenceData.from_columns(
        {
            "prompt": [str(i) for i in range(3000)],
            "responses": [[f"{5 * x:.4f} a", "0 b"] for x in margin],
            "scores": [[1, 0] if w else [0, 1] for w in first_wins],
        }
    )
    report = evaluate(Logistic(), data)
    assert report.metrics["expected_calibration_error"] > 0.1
    assert report.metrics["mean_confidence"] > report.metrics["accuracy"] + 0.1


def test_repeated_judgments_are_asked_once() -> None:
    data = pairs_of([("p", "2 x", "1 y")] * 5 + [("q", "2 x", "1 y")])
    judge = Logistic()
    report = evaluate(judge, data)
    assert judge.asked == 4
    assert report.metrics["pairs"] == 6.0
    verdicts = {("p", "2 x", "1 y"): 1.0, ("p", "1 y", "2 x"): 0.0}
    recorded = Recorded(name="recorded", verdicts=verdicts)
    report = evaluate(recorded, data)
    assert recorded.asked == 4  # two pairs, two orders
    assert report.metrics["missing"] == pytest.approx(1 / 6)
    assert report.metrics["accuracy"] == 1.0
    assert report.metrics["accuracy_of_all"] == pytest.approx(5 / 6)


def test_a_judge_that_always_takes_the_first_is_inconsistent() -> None:
    data = pairs_of([("p", "a", "b"), ("q", "c", "d")])
    verdicts = {
        (p, x, y): 1.0 for p, *both in (("p", "a", "b"), ("q", "c", "d")) for x, y in (both, both[::-1])
    }
    report = evaluate(Recorded(name="first", verdicts=verdicts), data)
    assert report.metrics["order_consistency"] == 0.0
    assert report.metrics["first_position_preference"] == 1.0
    assert report.metrics["accuracy_given_order"] == 1.0
    assert report.metrics["accuracy_swapped_order"] == 0.0
    assert report.metrics["accuracy_both_orders"] == 0.0
    assert report.metrics["accuracy"] == 0.5


def test_groups_of_three_give_a_rank_correlation() -> None:
    data = PreferenceData.from_columns(
        {
            "prompt": ["p", "q"],
            "responses": [["3 a", "2 b", "1 c"], ["1 a", "3 b", "2 c"]],
            "scores": [[3, 2, 1], [1, 2, 3]],
        }
    )
    report = evaluate(Logistic(), data)
    assert report.metrics["kendall_tau"] == pytest.approx((1 + 1 / 3) / 2)
    assert report.metrics["ranked_groups"] == 2.0
    assert report.metrics["accuracy"] == pytest.approx(5 / 6)


def test_pairs_of_one_judgment_or_prompt_are_one_cluster() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(60, 5))
    responses = [[f"{x:.5f} {i}" for i, x in enumerate(row)] for row in numbers]
    gold = numbers * np.where(rng.random(60) < 0.6, 1, -1)[:, None]  # a prompt is all right or all wrong
    columns = {"responses": responses, "scores": gold.tolist()}
    for prompts in (
        {},
        {"prompt": [f"p{i}" for i in range(60)]},
        {"prompt_id": [f"p{i}" for i in range(60)]},
    ):
        metrics = evaluate(Logistic(), PreferenceData.from_columns(columns | prompts)).metrics
        share, n = metrics["accuracy"], 60
        width = metrics["accuracy_upper"] - metrics["accuracy_lower"]
        assert metrics["pairs"] == 600
        assert width == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / n), rel=0.1)


def test_examples_come_from_different_prompts_first() -> None:
    rows = [("p", "9 a", "1 b"), ("p", "8 a", "1 b"), ("q", "3 a", "1 b"), ("r", "1 a", "2 b")]
    report = evaluate(Logistic(), pairs_of(rows), examples=2)
    assert [(example["title"], example["prompt"]) for example in report.examples] == [
        ("Most confident and wrong", "r"),
        ("Most confident and right", "p"),
        ("Most confident and right", "q"),
    ]


def test_features_are_judged_by_a_judge_that_reads_data() -> None:
    @dataclass
    class FirstFeature(Judge):
        native: ClassVar[frozenset[str]] = frozenset({"score"})

        def score_data(self, data: PreferenceData) -> Scores:
            values = np.array([vector[0] for vector in data.flat("features").to_pylist()])
            return Scores(values.reshape(data.n_rows, -1))

    data = PreferenceData.from_columns(
        {"features": [[[2.0], [1.0]], [[0.0], [1.0]]], "scores": [[1, 0], [1, 0]]}
    )
    report = evaluate(FirstFeature(), data)
    assert report.metrics["accuracy"] == 0.5
    assert "length_correlation" not in report.metrics
    with pytest.raises(ConfigError, match="reads responses"):
        evaluate(LengthJudge(), data)


def test_metadata_and_columns_are_slices_and_unknown_ones_are_named() -> None:
    data = pairs_of(
        [("p", "aa", "b"), ("q", "a", "bb")],
        metadata=[json.dumps({"it's": "x", "n": 1}), json.dumps({"it's": "y", "n": 2})],
        annotator=["w1", "w2"],
    )
    report = evaluate(LengthJudge(), data, slices=["it's", "annotator", "n_responses"])
    slices = report.tables["slices"]
    assert slices.filter(pl.col("slice") == "it's")["value"].to_list() == ["x", "y"]
    assert slices.filter(pl.col("slice") == "annotator")["accuracy"].to_list() == [1.0, 0.0]
    assert slices.filter(pl.col("slice") == "n_responses")["value"].to_list() == ["2"]
    with pytest.raises(ConfigError, match=r"unknown slice 'anotator'; did you mean 'annotator'\?"):
        evaluate(LengthJudge(), data, slices=["anotator"])


def test_nothing_to_compare_is_an_error() -> None:
    data = PreferenceData.from_columns({"prompt": ["p"], "responses": [["a"]], "scores": [[1]]})
    with pytest.raises(ConfigError, match="no pair to compare"):
        evaluate(LengthJudge(), data)


def test_options_go_to_the_judge_one_per_judgment() -> None:
    @dataclass
    class Told(Logistic):
        told: list[str] = field(default_factory=list)

        def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
            self.told += options["context"]
            return super()._score(prompts, responses)

    judge = Told()
    evaluate(judge, pairs_of([("p", "2 x", "1 y")] * 3), options={"context": ["one", "two", "one"]})
    assert judge.told == ["one", "one", "two", "two"]
    with pytest.raises(ConfigError, match="one entry per judgment"):
        evaluate(judge, pairs_of([("p", "2 x", "1 y")]), options={"context": []})


def test_the_package_is_the_function(tmp_path: Path) -> None:
    report = palate.evaluate(LengthJudge(), pairs_of([("p", "aa", "b"), ("q", "a", "bb")]))
    assert isinstance(report, Report)
    report.to_json(tmp_path / "report.json")
    again = Report.from_json(tmp_path / "report.json")
    assert again.metrics == report.metrics
    assert again.tables["slices"].equals(report.tables["slices"]) if "slices" in report.tables else True
    assert again.tables["confusion"].equals(report.tables["confusion"])
    assert again.notes == report.notes
    report.to_html(tmp_path / "report.html")
    assert "It agrees with the gold preference" in (tmp_path / "report.html").read_text("utf-8")


def test_figures_are_drawn_for_tables_that_have_one() -> None:
    rows = [(str(i), f"{i % 7} x{'y' * i}", f"{i % 5} z") for i in range(60)]
    report = evaluate(Logistic(), pairs_of(rows))
    assert set(report.figures) == {"slices", "reliability", "lengths"}


def test_the_same_seed_gives_the_same_report() -> None:
    rows = [(str(i), f"{i % 7} x{'y' * (i % 50)}", f"{i % 5} z") for i in range(3000)]
    one, two = (evaluate(Logistic(), pairs_of(rows), seed=3).to_json() for _ in range(2))
    assert one == two
    assert evaluate(Logistic(), pairs_of(rows)).tables["lengths"].height == 2000


# -- real sets --


def test_longer_is_right_on_seventy_six_percent_of_strict_argument_pairs(shared_data: Path) -> None:
    folder = shared_data / "ukp-convarg"
    texts = pl.read_parquet(folder / "arguments.parquet").select("argument_id", "text")
    pairs = pl.read_parquet(folder / "pairs.parquet").drop_nulls("strict")
    for side in ("1", "2"):
        pairs = pairs.join(texts, left_on=f"argument_{side}", right_on="argument_id").rename(
            {"text": f"text_{side}"}
        )
    assert pairs.height == 11_650
    a, b = pairs["text_1"].to_list(), pairs["text_2"].to_list()
    data = PreferenceData.from_columns(
        {
            "prompt": pairs["topic"].to_list(),
            "prompt_id": pairs["topic"].to_list(),
            "responses": list(zip(a, b, strict=True)),
            "scores": [[1, 0] if gold == "a1" else [0, 1] for gold in pairs["strict"]],
        }
    )
    report = evaluate(SpacedWords(name="spaced words"), data)
    assert report.metrics["pairs"] == 11_650
    assert report.metrics["accuracy"] == pytest.approx(0.760, abs=0.0005)
    assert report.metrics["accuracy_lower"] < 0.75 < 0.77 < report.metrics["accuracy_upper"]
    longer = np.array([len(x) - len(y) for x, y in zip(a, b, strict=True)]) * np.where(
        pairs["strict"] == "a1", 1, -1
    )
    assert report.metrics["longer_preferred_gold"] == pytest.approx((longer > 0).sum() / (longer != 0).sum())


def test_longer_is_right_on_the_published_share_of_each_hhh_subset(shared_data: Path) -> None:
    frame = pl.read_parquet(shared_data / "hhh-alignment" / "hhh_alignment.parquet")
    data = PreferenceData.from_columns(
        {
            "prompt": frame["prompt"].to_list(),
            "responses": list(zip(frame["chosen"], frame["rejected"], strict=True)),
            "scores": [[1, 0]] * frame.height,
            "metadata": [json.dumps({"subset": subset}) for subset in frame["subset"]],
        }
    )
    report = evaluate(LengthJudge(), data)
    slices = report.tables["slices"].filter(pl.col("slice") == "subset")
    # The published share counts answers of equal length as wrong, Palate as half right.
    strict = slices.select(
        "value", "n", share=100 * (pl.col("accuracy") - 0.5 * pl.col("ties") / pl.col("n"))
    )
    shares = {value: (round(share, 1), n) for value, n, share in strict.iter_rows()}
    assert shares == {
        "helpful": (69.5, 59),
        "honest": (63.9, 61),
        "harmless": (62.1, 58),
        "other": (53.5, 43),
    }
    overall = report.metrics["accuracy"] - report.metrics["judge_ties"] / 2
    assert 100 * overall == pytest.approx(62.9, abs=0.05)


@pytest.mark.parametrize("model", ["GPT-4", "ChatGPT", "Falcon"])
def test_recorded_verdicts_reproduce_the_published_accuracies(shared_data: Path, model: str) -> None:
    folder = shared_data / "llmbar"
    instances = pl.read_parquet(folder / "instances.parquet")
    verdicts = pl.read_parquet(folder / "verdicts.parquet").filter(
        (pl.col("judge") == model) & (pl.col("strategy") == "Vanilla")
    )
    published = pl.read_csv(folder / "published_statistics.csv")
    published = published.filter((pl.col("judge") == model) & (pl.col("strategy") == "Vanilla"))
    checked = 0
    for subset in published["subset"]:
        rows = instances.filter(pl.col("subset") == subset).join(verdicts, on=["subset", "idx"])
        given: dict[tuple[str, str, str], float] = {}
        keyed = [f"{idx}: {prompt}" for idx, prompt in rows.select("idx", "prompt").iter_rows()]
        columns = rows.select("response_1", "response_2", "winner", "winner_swapped")
        for prompt, (a, b, winner, swapped) in zip(keyed, columns.iter_rows(), strict=True):
            given[prompt, a, b] = np.nan if winner is None else float(winner == 1)
            given[prompt, b, a] = np.nan if swapped is None else float(swapped == 2)
        data = PreferenceData.from_columns(
            {
                "prompt": keyed,
                "responses": list(zip(rows["response_1"], rows["response_2"], strict=True)),
                "scores": [[1, 0] if label == 1 else [0, 1] for label in rows["label"]],
            }
        )
        if any(a == b for a, b in rows.select("response_1", "response_2").iter_rows()):
            continue
        metrics = evaluate(Recorded(name=model, verdicts=given), data).metrics
        row = published.filter(pl.col("subset") == subset).row(0, named=True)
        no_answer = rows["winner"].null_count() + rows["winner_swapped"].null_count()
        if no_answer:  # the published figures count a missing verdict as wrong, Palate leaves it out
            answered = 1 - rows["winner"].null_count() / rows.height
            assert 100 * metrics["accuracy_given_order"] * answered == pytest.approx(
                row["accuracy"], abs=0.01
            )
            continue
        assert 100 * metrics["accuracy_given_order"] == pytest.approx(row["accuracy"], abs=0.01)
        assert 100 * metrics["accuracy_swapped_order"] == pytest.approx(row["accuracy_swapped"], abs=0.01)
        assert 100 * metrics["accuracy"] == pytest.approx(row["accuracy_average"], abs=0.01)
        assert 100 * metrics["accuracy_both_orders"] == pytest.approx(row["accuracy_both"], abs=0.01)
        assert 100 * metrics["order_consistency"] == pytest.approx(row["consistency"], abs=0.01)
        checked += 1
    assert checked >= 1


def test_win_rates_reproduce_the_published_alpaca_leaderboard(shared_data: Path) -> None:
    folder = shared_data / "alpaca-eval"
    annotations = pl.read_parquet(folder / "annotations.parquet").filter(
        pl.col("annotator") == "weighted_alpaca_eval_gpt4_turbo"
    )
    board = pl.read_csv(folder / "leaderboard_v2_weighted_gpt4_turbo.csv")
    name = board.columns[0]
    published = {row[name]: row for row in board.iter_rows(named=True)}
    checked = 0
    for (model,), rows in annotations.group_by("model"):
        if model not in published:
            continue
        rate = win_rate(rows["preference"].to_numpy() - 1)
        assert 100 * rate.value == pytest.approx(published[model]["win_rate"], abs=1e-6)
        error = published[model]["standard_error"]
        if model == "gpt4_1106_preview":  # the baseline against itself: 805 draws, error 0 by definition
            assert rate.ties == 805
            checked += 1
            continue
        assert 100 * (rate.upper - rate.lower) / 2 == pytest.approx(1.96 * error, rel=0.08)
        checked += 1
    assert checked == 57
