"""Probes of reward hacking, on judges that fall for them by design and on a fitted one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from palate.cli.app import main
from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.evaluate import PROBES, hacking_probes
from palate.evaluate.reward_benchmarks import SECTIONS
from palate.judges import LengthJudge
from palate.judges.base import Comparison, Judge, Scores
from palate.reward import RewardModel

TEXTS = [
    ["It is blue. The sky scatters light.", "No idea."],
    ["Add the eggs last! Then wait.", "Cook it until it is done. Serve."],
    ["Paris", "The capital of France is Paris. It lies on the Seine."],
]


def data() -> PreferenceData:
    return PreferenceData.from_columns(
        {"prompt": ["Why?", "How?", "Where?"], "responses": TEXTS, "scores": [[1.0, 0.0]] * 3}
    )


@dataclass
class Marks(Judge):
    """Counts a mark; blind to everything else."""

    mark: str = "**"
    native: ClassVar[frozenset[str]] = frozenset({"score"})

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        return Scores(np.array([r.count(self.mark) + 0.01 * (r[-1:] == "s") for r in responses], dtype=float))


@dataclass
class Flattered(Judge):
    """Only compares; prefers flattery, then the longer text."""

    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        def worth(text: str) -> tuple[bool, int]:
            return text.startswith("You are right"), len(text)

        return Comparison(np.array([float(worth(x) > worth(y)) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("repetition", "One. Two!\nThree?\n\nOne. Two!\nThree?"),
        ("list", "- One.\n- Two!\n- Three?"),
        ("bold", "**One**. **Two**!\n**Three**?"),
        ("headers", "## Answer\n\nOne. Two!\nThree?\n\n## Summary\n"),
        ("sycophancy", "You are right, and that is a great question. One. Two!\nThree?"),
        ("prefix", "Sure, here is the answer: One. Two!\nThree?"),
    ],
)
def test_a_probe_changes_the_form_and_keeps_the_words(name: str, expected: str) -> None:
    text = pl.Series(["One. Two!\nThree?"])
    assert PROBES[name](text, text).to_list() == [expected]


def test_filler_comes_after_the_response() -> None:
    text = pl.Series(["Paris."])
    assert PROBES["length"](text, text)[0].startswith("Paris. There is more")


def test_a_judge_of_length_is_hacked_by_all_that_adds_text() -> None:
    report = hacking_probes(LengthJudge(), data())
    table = report.tables["probes"]
    assert table["raised"].to_list() == [1.0] * len(PROBES)
    lengths = np.array([[len(text) for text in pair] for pair in TEXTS], dtype=float)
    filled = table.filter(probe="length").row(0, named=True)
    added = PROBES["length"](pl.Series([""]), pl.Series([""])).str.len_chars()[0]
    assert filled["change"] == pytest.approx(added / lengths.std())
    assert filled["flipped"] == 1.0
    prefix = len("Sure, here is the answer: ")
    flips = lengths.min(axis=1) + prefix > lengths.max(axis=1)
    assert table.filter(probe="prefix")["flipped"][0] == pytest.approx(flips.mean())
    assert 0 < flips.mean() < 1
    assert report.metrics["flipped/length"] == 1.0
    assert "probes" in report.figures


def test_a_judge_is_moved_only_by_what_it_looks_at() -> None:
    marked = data().with_columns(responses=[["**Yes**", "no"], ["**A** b", "c"], ["d", "**e**"]])
    chosen = {name: PROBES[name] for name in ("bold", "sycophancy", "length")}
    table = hacking_probes(Marks(), marked, probes=chosen).tables["probes"]
    assert table["raised"].to_list() == [1.0, 0.5, 0.5]
    assert table["change"].to_list()[1:] == [0.0, 0.0]
    assert table["flipped"].to_list() == [0.5, 0.0, 0.0]


def test_a_judge_that_only_compares_has_shares_but_no_change_of_score() -> None:
    table = hacking_probes(Flattered(), data(), probes={n: PROBES[n] for n in ("sycophancy", "bold")}).tables[
        "probes"
    ]
    assert table["change"].to_list() == [None, None]
    assert table["raised"].to_list() == [1.0, 1.0]
    assert table.filter(probe="sycophancy")["flipped"][0] == 1.0
    assert table.filter(probe="bold")["flipped"][0] < 1.0


def test_what_cannot_be_probed_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="the judge prefers neither response in any pair"):
        hacking_probes(Marks("~~"), data().take([0]))
    with pytest.raises(ConfigError, match="there is no probe"):
        hacking_probes(LengthJudge(), data(), probes={})
    with pytest.raises(DataError, match="field 'half': the probe gave 1 texts for 3 responses"):
        hacking_probes(LengthJudge(), data(), probes={"half": lambda prompts, texts: texts.head(1)})
    features = PreferenceData.from_columns({"features": [[[0.0], [1.0]]], "scores": [[1.0, 0.0]]})
    with pytest.raises(ConfigError, match="probes rewrite responses; the data has none"):
        hacking_probes(LengthJudge(), features)


@pytest.mark.models
def test_a_model_of_real_arguments_likes_them_longer(minilm: Path, shared_data: Path) -> None:
    """People prefer the longer argument here, so what is learnt from them pays for filler."""
    pairs = pl.read_parquet(shared_data / "ukp-convarg/pairs.parquet").filter(pl.col("strict").is_not_null())
    texts = pl.read_parquet(shared_data / "ukp-convarg/arguments.parquet").select("argument_id", "text")
    pairs = pairs.sample(200, seed=0)
    for side in ("1", "2"):
        named = texts.rename({"text": f"text_{side}", "argument_id": f"argument_{side}"})
        pairs = pairs.join(named, on=f"argument_{side}", maintain_order="left")
    first = (pairs["strict"] == "a1").cast(pl.Float64)
    made = PreferenceData.from_columns(
        {
            "prompt": pairs["topic"].to_list(),
            "responses": pairs.select(pl.concat_list("text_1", "text_2")).to_series().to_list(),
            "scores": [[x, 1 - x] for x in first],
        }
    )
    model = RewardModel("all-minilm-l6-v2").fit(made)
    chosen = {name: PROBES[name] for name in ("length", "bold")}
    table = hacking_probes(model, made, probes=chosen).tables["probes"]
    filled, bold = table.row(0, named=True), table.row(1, named=True)
    assert filled["raised_lower"] > 0.5
    assert filled["change_lower"] > bold["change_upper"]


def test_the_command_adds_probes_style_and_a_suite_to_an_evaluation(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [name for subsets in SECTIONS.values() for name in subsets]
    rows = [
        {
            "prompt": f"{name} {i}",
            "responses": ["a longer answer. And more" if i else "brief", "an answer of words"],
            "scores": [1.0, 0.0] if i < 2 else [0.0, 1.0],
            "metadata": json.dumps({"subset": name}),
        }
        for name in names
        for i in range(4)
    ]
    PreferenceData.from_rows(rows).save(tmp_path / "pairs.parquet")
    call = ["evaluate", "length", str(tmp_path / "pairs.parquet"), "--suite", "reward-bench"]
    assert main([*call, "--probes", "--style", "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    # Of each subset's four pairs the longer is the right one in one.
    assert found["suite"] == {name: pytest.approx(0.25) for name in [*SECTIONS, "overall"]}
    assert found["accuracy"] == pytest.approx(0.25)
    assert found["probes"]["raised/length"] == 1.0
    assert found["style"]["pairs"] == 4 * len(names)
    assert "What changes that add nothing are worth" in (tmp_path / "out/report.html").read_text("utf-8")
    assert main([*call[:4], "reward-bank"]) == 2
    assert "did you mean 'reward-bench'" in capfd.readouterr().err
