"""A page from whatever a run left behind."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from palate.errors import DataError
from palate.report import Report, from_run
from palate.report.run_folder import read_metrics
from palate.runs import Run

BOARD = {
    "method": "bradley_terry",
    "items": [
        {"item": f"item <{i}>", "strength": 1.0 - i, "rating": 1174.0 - 174 * i, "lower": 1100.0 - 174 * i,
         "upper": 1250.0 - 174 * i, "rank_best": i + 1, "rank_worst": i + 1, "n": 10}
        for i in range(3)
    ],
    "diagnostics": {"converged": True},
}  # fmt: skip


def test_every_known_file_gets_its_section(tmp_path: Path) -> None:
    run = Run(tmp_path / "demo", {"command": "demo", "model": "smollm2", "training": {"beta": 0.1}})
    run.write_json(
        "data.json",
        {
            "rows": 12,
            "fingerprint": "abc",
            "problems": [{"message": "3 duplicates", "remedy": "keep one"}],
            "ties": {"equal": 1},
        },
    )
    run.write_json("leaderboard.json", BOARD)
    Report(
        "Length judge", {"accuracy": 0.7}, {"confusion": pl.DataFrame({"gold": ["first"], "n": [3]})}
    ).to_json(run.path("evaluation.json"))
    run.write_json("timing.json", {"seconds": 12.5})
    for step in range(1, 5):
        run.log(
            stage="dpo",
            step=step,
            loss=1 / step,
            accuracy=0.5,
            chosen_log_prob=-10.0,
            rejected_log_prob=-11.0,
        )
    html = from_run(run.folder).html()
    for heading in ("Leaderboard", "Length judge", "Timing", "Training", "Data", "How it was made"):
        assert f"<bdi>{heading}</bdi></h2>" in html
    assert "Demo: demo" in html
    assert "3 duplicates; keep one" in html
    assert "training.beta" in html
    assert "item &lt;0&gt;" in html
    assert (
        html.count("data-figure=") == 2 + 3
    )  # ratings, matrix; loss, accuracy, both log-probabilities together
    assert "Chosen log prob, rejected log prob by step in stage dpo." in html


def test_runs_inside_a_run_are_shown_and_model_folders_are_not(tmp_path: Path) -> None:
    Run(tmp_path, {"command": "demo"})
    inner = Run(tmp_path / "rank", {"command": "rank"})
    inner.write_json("leaderboard.json", BOARD)
    inner.finish("rank")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    html = from_run(tmp_path).html()
    assert "rank: Leaderboard" in html
    assert "llama" not in html


def test_a_line_cut_off_by_an_interruption_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n{"step": 3, "lo', "utf-8"
    )
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    assert "data-figure" in from_run(tmp_path).html()


def test_numbers_that_are_missing_in_a_line_leave_a_gap(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": None, "eval_loss": 0.9},
        {"step": 3, "loss": 0.5, "eval_loss": 0.8},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    html = from_run(tmp_path).html()
    assert html.count("data-figure=") == 1
    assert "Loss, eval loss by step." in html


def test_two_stages_have_curves_of_their_own(tmp_path: Path) -> None:
    run = Run(tmp_path, {"command": "align"})
    for stage in ("sft", "dpo"):
        for step in (1, 2):
            run.log(stage=stage, step=step, loss=1.0)
    html = from_run(tmp_path).html()
    assert "Loss by step in stage sft." in html
    assert "Loss by step in stage dpo." in html


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, None, "there is no such folder"),
        ("notes.txt", "hello", "is no run folder"),
        ("config.json", "[1]", "it is not a JSON object"),
        ("config.json", "{", "cannot be read"),
    ],
)
def test_a_folder_that_is_no_run_gets_one_clear_error(
    tmp_path: Path, name: str | None, content: str | None, message: str
) -> None:
    folder = tmp_path / "run"
    if name is not None and content is not None:
        folder.mkdir()
        (folder / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message) as error:
        from_run(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_report_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"metrics": {}}', "utf-8")
    with pytest.raises(DataError, match="is not a report"):
        Report.from_json(tmp_path / "x.json")


def test_a_report_keeps_its_column_order_and_missing_values(tmp_path: Path) -> None:
    table = pl.DataFrame({"z": [1.5, None], "a": ["x", None]})
    Report("r", tables={"t": table}).to_json(tmp_path / "r.json")
    assert Report.from_json(tmp_path / "r.json").tables["t"].equals(table)
