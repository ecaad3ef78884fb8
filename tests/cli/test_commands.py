"""The commands as a user types them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Palate = Callable[..., tuple[int, str, str]]
LLMFAO = (
    "-f", "arena", "--column", "model_a=left", "--column", "model_b=right", "--column", "annotator=worker",
    "--label", "left=model_a", "--label", "right=model_b",
)  # fmt: skip


COMMANDS = (
    "inspect", "convert", "rank", "judge", "train reward", "align", "evaluate", "report", "recipe list",
    "recipe show", "recipe run", "recipe check", "recipe report", "models list", "models get", "demo",
    "doctor",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(palate: Palate, command: str) -> None:
    code, out, _ = palate(*command.split(), "--help")
    assert code == 0
    assert f"Example: palate {command}" in " ".join(out.split())


def test_rank_prints_the_board_of_the_fixed_shape(palate: Palate, votes: Path) -> None:
    code, out, _ = palate("rank", votes, "--json")
    assert code == 0
    board = json.loads(out)
    assert set(board) == {"method", "items", "diagnostics"}
    assert set(board["items"][0]) == {
        "item", "strength", "rating", "lower", "upper", "rank_best", "rank_worst", "n",
    }  # fmt: skip
    ratings = {row["item"]: row["rating"] for row in board["items"]}
    assert ratings == pytest.approx({"A": 922.43, "B": 1007.37, "C": 927.77, "D": 1142.44}, abs=0.005)


def test_rank_reads_standard_input(palate: Palate, votes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(votes.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, _ = palate("rank", "-", "--json")
    assert code == 0
    assert len(json.loads(out)["items"]) == 4


def test_rank_writes_a_picture_that_fetches_nothing(palate: Palate, votes: Path, tmp_path: Path) -> None:
    code, _, _ = palate("rank", votes, "--plot", tmp_path / "board.html")
    assert code == 0
    page = (tmp_path / "board.html").read_text("utf-8")
    assert "default-src 'none'" in page


def test_inspect_prints_the_promised_keys(palate: Palate, votes: Path) -> None:
    code, out, _ = palate("inspect", votes, "--json")
    assert code == 0
    found = json.loads(out)
    promised = {"rows", "prompts", "items", "annotators", "aspects", "kinds", "ties", "problems"}
    assert promised <= set(found)
    assert found["rows"] == 22


def test_convert_and_back_is_the_identity(palate: Palate, votes: Path, tmp_path: Path) -> None:
    assert palate("convert", votes, tmp_path / "votes.parquet")[0] == 0
    assert palate("convert", tmp_path / "votes.parquet", tmp_path / "again.csv", "--to", "arena")[0] == 0
    first = json.loads(palate("rank", votes, "--json")[1])
    assert json.loads(palate("rank", tmp_path / "again.csv", "--json")[1])["items"] == first["items"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_a,model_b,winner\na,b,model_a\na,b,left\n", "row 2, field 'winner'"),
        ("model_a,model_b,winner\na,a,model_a\n", "row 1"),
        ("", "empty"),
        ("model_a,model_b\na,b\n", "no format has these columns: model_a, model_b"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(
    palate: Palate, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    code, out, err = palate("rank", path)
    assert code == 2
    assert out == ""
    assert message in err
    assert str(path) in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("rank", "missing.csv"),
        ("rank", "VOTES", "--method", "bradley-tery"),
        ("rank", "VOTES", "--set", "ties"),
        ("rank", "VOTES", "--set", "tiess=drop"),
        ("evaluate", "nobody", "VOTES"),
        ("recipe", "run", "ranklisst"),
        ("report", "missing"),
        ("models", "get", "smollm"),
        ("train", "reward", "VOTES", "--out", "OUT"),
        ("align", "smollm2-135m-instruct", "VOTES", "--out", "OUT", "--method", "dpoo"),
    ],
)
def test_a_command_that_cannot_run_says_so_in_one_line(
    palate: Palate, votes: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    places = {"VOTES": str(votes), "OUT": str(tmp_path / "out")}
    code, _, err = palate(*(places.get(word, word) for word in arguments))
    assert code == 2
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("palate: ")]
    assert len(lines) == 1


def test_debug_shows_the_traceback(votes: Path) -> None:
    run = [sys.executable, "-m", "palate", "rank", str(votes), "--method", "nothing", "--debug"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


def test_importing_palate_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "polars", "pyarrow", "plotly", "numpy")
    code = f"import sys, palate; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_doctor_names_every_extra_and_model(palate: Palate) -> None:
    code, out, _ = palate("doctor", "--json")
    assert code == 0
    what = {finding["what"] for finding in json.loads(out)["findings"]}
    assert {"train", "demo", "smollm2-135m-instruct", "all-minilm-l6-v2", "cpu"} <= what


def test_recipe_list_has_the_promised_keys(palate: Palate) -> None:
    code, out, _ = palate("recipe", "list", "--json")
    assert code == 0
    rows = json.loads(out)
    assert {"name", "paper", "number", "package", "claim", "status"} == set(rows[0])
    assert "ranklist" in {row["name"] for row in rows}


@pytest.mark.parametrize(
    ("file", "options", "first", "rows"),
    [
        ("llmfao/crowd-comparisons.csv.gz", LLMFAO, "GPT 4", 8931),
        # By GPT-4's verdicts GPT 3.5 Turbo wins 0.967 of its comparisons and GPT 4 itself 0.897.
        ("llmfao/gpt4-crowd-comparisons.csv.gz", (*LLMFAO[:6], *LLMFAO[8:]), "GPT 3.5 Turbo", 2139),
        ("preflib/dots/00024-00000001.soc", (), None, 24),
    ],
)
def test_real_sets_are_inspected_and_ranked(
    palate: Palate, shared_data: Path, file: str, options: tuple[str, ...], first: str | None, rows: int
) -> None:
    code, out, _ = palate("inspect", shared_data / file, *options, "--json")
    assert code == 0
    assert json.loads(out)["rows"] == rows
    code, out, _ = palate("rank", shared_data / file, *options, "--json")
    assert code == 0
    items = json.loads(out)["items"]
    if first is not None:
        assert items[0]["item"] == first
    else:  # the true order of the dots is the order of their numbers
        names = [int("".join(filter(str.isdigit, row["item"]))) for row in items]
        assert names == sorted(names)


@pytest.mark.models
@pytest.mark.parametrize("name", ["hh", "ukp", "llmfao"])
def test_train_evaluate_and_report_on_real_sets(
    palate: Palate, text_pairs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    file, out = text_pairs[name], tmp_path / "reward"
    code, printed, err = palate("train", "reward", file, "--out", out, "--json")
    assert code == 0, err
    trained = json.loads(printed)
    assert 0 <= trained["accuracy"] <= 1
    assert trained["groups"] > 50
    code, printed, err = palate("evaluate", out, file, "--out", tmp_path / "evaluation", "--json")
    assert code == 0, err
    # It has seen four fifths of these pairs, so chance would be a sign of a broken scorer.
    assert json.loads(printed)["accuracy"] > 0.6
    code, printed, _ = palate("report", tmp_path / "evaluation")
    assert code == 0
    assert Path(printed.strip()).stat().st_size > 10_000
    again = palate("train", "reward", file, "--out", out, "--json")
    assert json.loads(again[1])["accuracy"] == trained["accuracy"]
    code, _, err = palate("train", "reward", file, "--out", out, "--loss", "hinge")
    assert code == 2
    assert "loss" in err


@pytest.mark.models
@pytest.mark.parametrize("name", ["hh", "ukp", "llmfao"])
def test_align_on_real_sets_writes_a_policy_that_judges(
    palate: Palate, text_pairs: dict[str, Path], tmp_path: Path, smollm2: Path, name: str
) -> None:
    out = tmp_path / "policy"
    settings = ("--set", "steps=2", "--set", "batch_size=2", "--set", "max_length=384", "--set", "lora=4")
    code, printed, err = palate("align", smollm2, text_pairs[name], "--out", out, *settings, "--json")
    assert code == 0, err
    assert json.loads(printed)["steps"] == 2
    assert (out / "model" / "adapter_model.safetensors").exists()
    assert (out / "report.html").exists()
    code, printed, err = palate("evaluate", out, text_pairs[name], "--sample", "4", "--json")
    assert code == 0, err
    assert json.loads(printed)["pairs"] >= 1


def test_lists_are_converted_to_pairs_for_trl(palate: Palate, tmp_path: Path) -> None:
    from palate.data.resources import verifiable_instructions

    verifiable_instructions().sample(20, seed=0).save(tmp_path / "lists.parquet")
    code, _, err = palate("convert", tmp_path / "lists.parquet", tmp_path / "p.jsonl", "--to", "trl")
    assert code == 2
    assert "pairs" in err
    code, _, err = palate(
        "convert", tmp_path / "lists.parquet", tmp_path / "p.jsonl", "--to", "trl", "--pairs", "best_worst",
        "--write", "lossy=true",
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()]
    assert all(row["score_chosen"] > row["score_rejected"] for row in rows)


def test_a_corrected_command_may_use_the_folder_of_one_that_failed(
    palate: Palate, votes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert palate("train", "reward", votes, "--encoder", "features", "--out", out)[0] == 2
    code, _, err = palate("train", "reward", votes, "--encoder", "features", "--out", out, "--seed", "1")
    assert code == 2
    assert "other settings" not in err
