"""The shipped set: what it promises, and that its scores are the checker's."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from palate.data.resources import verifiable_instructions, verifiable_instructions_summary
from palate.judges import ConstraintJudge, LengthJudge, constraints_of, describe


@pytest.fixture(scope="module")
def data():
    return verifiable_instructions()


@pytest.fixture(scope="module")
def summary():
    return verifiable_instructions_summary()


def test_the_checker_gives_the_shipped_scores_again(data):
    for judge in (ConstraintJudge(), ConstraintJudge.from_data(data)):
        judged = judge.annotate(data)
        np.testing.assert_array_equal(judged.scores, data.scores)
        assert judged.values("annotator").tolist() == data.values("annotator").tolist()


def test_each_prompt_says_each_of_its_constraints(data):
    for prompt, constraints in zip(data.column("prompt").to_pylist(), constraints_of(data), strict=True):
        assert 1 <= len(constraints) <= 3
        for sentence in describe(constraints):
            assert sentence in prompt


def test_every_row_holds_one_answer_per_system(data, summary):
    rows = data.column("items").to_pylist()
    assert len({tuple(row) for row in rows}) == 1
    assert set(rows[0]) == set(summary["settings"]["temperature"])
    assert len(rows) == summary["prompts"] == 400
    assert len(set(data.column("prompt").to_pylist())) == 400
    assert len({json.loads(text)["task"] for text in data.column("metadata").to_pylist()}) == 400
    assert len(data.flat("responses")) == summary["responses"] == 400 * summary["systems"]
    assert data.flat("responses").null_count == 0
    assert set(data.values("protocol")) == {"rating"}
    assert set(data.values("annotator_kind")) == {"rule"}


def test_there_is_something_to_learn(data, summary):
    scores = data.scores.reshape(400, -1)
    differs = (np.ptp(scores, axis=1) > 0).mean()
    assert differs > 0.6
    assert round(float(differs), 4) == summary["prompts_with_a_difference"]
    means = dict(zip(data.column("items").to_pylist()[0], scores.mean(axis=0), strict=True))
    assert means == pytest.approx(summary["score"], abs=1e-4)
    assert means["unaware"] == min(means.values())
    assert max(means.values()) - min(means.values()) > 0.1


def test_length_alone_does_not_answer_it(data, summary):
    """A text-only baseline finds some signal, and leaves much."""
    pairs = data.pairs()
    right = (
        LengthJudge(prefer="shorter")
        .compare(pairs["prompt"].to_list(), pairs["chosen"].to_list(), pairs["rejected"].to_list())
        .probability
    )
    assert len(pairs) == summary["pairs_with_different_scores"]
    assert round(float(right[right != 0.5].mean()), 4) == summary["shorter_is_better"]
    assert 0.4 < right.mean() < 0.8


def test_the_readme_gives_the_figures_of_the_summary(summary):
    text = (files("palate.data.resources") / "README.md").read_text("utf-8")
    assert f"{summary['pairs_with_different_scores']} pairs of answers" in text
    for system, score in summary["score"].items():
        assert any(f"`{system}`" in line and f"| {score:.3f} |" in line for line in text.splitlines())


def test_the_set_is_small_and_loads_without_torch():
    size = sum(
        len(entry.read_bytes()) for entry in files("palate.data.resources").iterdir() if entry.is_file()
    )
    assert size <= 2_000_000
    code = (
        "import sys; from palate.data.resources import verifiable_instructions as v; "
        "from palate.judges import ConstraintJudge as C; C().annotate(v()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
