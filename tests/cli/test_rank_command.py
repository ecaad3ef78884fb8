"""`palate rank` as people and programs use it: every option, bad files, real sets, nothing half-written."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from palate.data import PreferenceData
from palate.rank import methods

Palate = Callable[..., tuple[int, str, str]]
COLUMNS = ["item", "strength", "rating", "lower", "upper", "rank_best", "rank_worst", "n"]
ATTACK = "<script>window.pwned=1</script><b>bold</b>"
LLMFAO = (
    "-f", "arena", "--column", "model_a=left", "--column", "model_b=right", "--column", "annotator=worker",
    "--label", "left=model_a", "--label", "right=model_b",
)  # fmt: skip
NEEDED = {"contextual_bt": ("--features", "length"), "factor_bt": (), "mean_opinion_score": ()}


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """300 votes with all that any option asks for."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, 300)
    b = (a + rng.integers(1, 5, 300)) % 5
    names = np.array(["alpha", "beta", "gamma", "delta", ATTACK])
    scores = [[1.0, 0.0] if x else [0.0, 1.0] for x in rng.random(300) < 1 / (1 + np.exp(0.5 * (b - a)))]
    texts = [["word " * int(n) for n in row] for row in rng.integers(1, 30, (300, 2))]
    lengths = rng.integers(1, 99, (300, 2)).tolist()
    data = PreferenceData.from_columns(
        {
            "items": [[str(names[i]), str(names[j])] for i, j in zip(a, b, strict=True)],
            "responses": texts,
            "scores": scores,
            "annotator": [f"u{i % 30}" for i in range(300)],
            "aspect": ["quality" if i % 2 else "speed" for i in range(300)],
            "protocol": ["comparison"] * 300,
            "time": [datetime(2024, 1 + i // 100, 1 + i % 28, tzinfo=UTC) for i in range(300)],
            "metadata": [
                json.dumps({"language": "en" if i % 3 else "de", "length_a": x, "length_b": y})
                for i, (x, y) in enumerate(lengths)
            ],
        }
    )
    path = tmp_path / "full.jsonl"
    data.save(path)
    return path


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    data = PreferenceData.from_columns(
        {
            "items": [[f"clip {i % 4}"] for i in range(80)],
            "scores": [[float(x)] for x in rng.integers(1, 6, 80)],
            "annotator": [f"u{i // 4 % 5}" for i in range(80)],
            "protocol": ["rating"] * 80,
            "scale": ["interval"] * 80,
        }
    )
    path = tmp_path / "rated.jsonl"
    data.save(path)
    return path


def shaped(text: str) -> dict[str, object]:
    """The JSON of a board, after a look at its shape; a number that is none is no JSON."""
    found = json.loads(text, parse_constant=pytest.fail)
    assert set(found) == {"method", "items", "diagnostics"}
    for row in found["items"]:
        assert set(row) == set(COLUMNS)
        assert isinstance(row["rating"], float)
    return found


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of an error, after a look that it is one."""
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("palate: ")
    assert err.count("\n") == 1
    assert "Error:" not in err
    return err


@pytest.mark.parametrize("method", methods())
def test_every_method_prints_the_fixed_shape_and_a_table(
    palate: Palate, full: Path, rated: Path, method: str
) -> None:
    file = rated if method == "mean_opinion_score" else full
    given = ("rank", file, "-m", method, *NEEDED.get(method, ()))
    code, out, err = palate(*given, "--json")
    assert (code, err) == (0, "")
    found = shaped(out)
    assert len(found["items"]) == (4 if file == rated else 5)  # type: ignore[arg-type]
    code, out, err = palate(*given)
    assert (code, err) == (0, "")
    assert "clip" in out if file == rated else "gamma" in out
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (("--set", "l2=0.5", "--set", "anchor=beta"), "l2"),
        (("--compare", "alpha,delta"), "compare"),
        (("--annotators",), "annotator_report"),
        (("-m", "contextual_bt", "--features", "style"), "coefficients"),
        (("-m", "contextual_bt", "--features", "words,length", "--set", "position=true"), "coefficients"),
        (
            (
                "-m",
                "crowd_bt",
            ),
            "annotators",
        ),
        (("-m", "elo", "--set", "advantage=50", "--set", "k=16"), "mean_advantage"),
    ],
)
def test_what_an_option_adds_is_part_of_the_diagnostics(
    palate: Palate, full: Path, options: tuple[str, ...], key: str
) -> None:
    code, out, _ = palate("rank", full, *options, "--json")
    assert code == 0
    assert key in shaped(out)["diagnostics"]  # type: ignore[operator]
    assert palate("rank", full, *options)[0] == 0


@pytest.mark.parametrize(
    ("by", "slices"),
    [
        (("--by", "aspect"), {"quality", "speed"}),
        (("--by", "language"), {"en", "de"}),
        (("--by", "time", "--every", "month"), {"2024-01", "2024-02", "2024-03"}),
    ],
)
def test_slices_have_a_board_each(
    palate: Palate, full: Path, tmp_path: Path, by: tuple[str, ...], slices: set[str]
) -> None:
    files = tmp_path / "slices.csv", tmp_path / "slices.html"
    code, out, _ = palate("rank", full, *by, "--json", "--csv", files[0], "--plot", files[1])
    assert code == 0
    found = json.loads(out)
    assert set(found["slices"]) == slices
    for board in found["slices"].values():
        shaped(json.dumps(board))
    assert set(pl.read_csv(files[0])["slice"].cast(str)) == slices
    assert ATTACK not in files[1].read_text("utf-8")
    code, out, _ = palate("rank", full, *by)
    assert code == 0
    assert all(name in out for name in slices)


def test_streaming_gives_the_board_of_the_whole_file(palate: Palate, full: Path) -> None:
    whole, streamed = (shaped(palate("rank", full, *more, "--json")[1]) for more in ((), ("--stream",)))
    assert streamed["items"] == whole["items"]


def test_a_table_survives_csv_and_a_name_with_markup_the_picture(
    palate: Palate, full: Path, tmp_path: Path
) -> None:
    table, page = tmp_path / "new" / "board.csv", tmp_path / "new" / "board.html"
    code, out, _ = palate("rank", full, "--csv", table, "--plot", page, "--json")
    assert code == 0
    read = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    assert list(read[0]) == COLUMNS
    for row, item in zip(read, shaped(out)["items"], strict=True):  # type: ignore[call-overload]
        assert row["item"] == item["item"]
        assert float(row["rating"]) == item["rating"]
    text = page.read_text("utf-8")
    assert ATTACK not in text
    assert "window.pwned" in text
    assert sorted(path.name for path in table.parent.iterdir()) == ["board.csv", "board.html"]


def test_annotators_that_matter_come_first_and_the_rest_are_counted(palate: Palate, full: Path) -> None:
    code, out, _ = palate("rank", full, "--annotators")
    assert code == 0
    assert "... and 10 more annotators; all are in --json" in out
    report = shaped(palate("rank", full, "--annotators", "--json")[1])["diagnostics"]["annotator_report"]  # type: ignore[index]
    assert len(report) == 30
    printed = [row["annotator"] for row in report if f"\n{row['annotator']} " in out]
    flagged = [row["annotator"] for row in report if row["flags"] not in ("", "too few")]
    assert set(flagged) <= set(printed)
    assert len(printed) == 20


def test_a_long_board_is_cut_for_people_only(palate: Palate, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    rows = [f"i{i},i{(i + step) % 150},model_{side}" for i in range(150) for step in (1, 7) for side in "ab"]
    path.write_text("model_a,model_b,winner\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert "... and 50 more; all are in --json and --csv" in palate("rank", path)[1]
    assert len(shaped(palate("rank", path, "--json")[1])["items"]) == 150  # type: ignore[arg-type]


def test_methods_are_listed_for_people_and_programs(palate: Palate) -> None:
    rows = json.loads(palate("rank", "--methods", "--json")[1])
    assert {row["method"] for row in rows} == set(methods())
    assert all(row["what"] and row["options"] for row in rows)
    assert "bradley_terry" in palate("rank", "--methods")[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give a file"),
        (("nowhere.csv",), "nowhere.csv"),
        (("FULL", "-m", "nothing"), "unknown ranking method 'nothing'"),
        (("FULL", "--set", "level=2"), "level is 2"),
        (("FULL", "--set", "l2=-1"), "l2 is -1"),
        (("FULL", "--set", "seed=-1", "--set", "interval=bootstrap"), "seed is -1"),
        (("FULL", "--set", "nothing=1"), "unknown option of bradley_terry 'nothing'"),
        (("FULL", "--set", "anchor=nobody"), "unknown anchor 'nobody'"),
        (("FULL", "--features", "words"), "has no covariates"),
        (("FULL", "-m", "contextual_bt", "--features", "nothing"), "unknown key 'nothing'"),
        (("FULL", "-m", "contextual_bt", "--features", "words,words"), "named twice"),
        (("FULL", "--by", "nothing"), "unknown key 'nothing'"),
        (("FULL", "--by", "time"), "every"),
        (("FULL", "--by", "time", "--every", "fortnight"), "every is 'fortnight'"),
        (("FULL", "--every", "month"), "--by time"),
        (("FULL", "--by", "aspect", "--annotators"), "--by goes with none"),
        (("FULL", "--compare", "alpha"), "not two items"),
        (("FULL", "--compare", "alpha,alpha"), "not two items"),
        (("FULL", "--compare", "alpha,nobody"), "unknown item 'nobody'"),
        (("FULL", "-m", "borda", "--compare", "alpha,beta"), "borda"),
        (("FULL", "--stream", "--annotators"), "--stream"),
        (("FULL", "--stream", "-m", "elo"), "elo"),
        (("FULL", "-m", "mean_opinion_score"), "a comparison, not a rating"),
        (("RATED",), "every judgment scores a single item"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_two(
    palate: Palate, full: Path, rated: Path, options: tuple[str, ...], message: str
) -> None:
    files = {"FULL": str(full), "RATED": str(rated)}
    assert message in refused(palate("rank", *(files.get(word, word) for word in options)))


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(
    palate: Palate, full: Path, tmp_path: Path, option: str
) -> None:
    before = sorted(tmp_path.iterdir())
    for place in (full / "board.out", tmp_path):
        assert f"cannot write {place}" in refused(palate("rank", full, option, place))
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_leaves_the_files_of_the_last_run(palate: Palate, full: Path, tmp_path: Path) -> None:
    table = tmp_path / "board.csv"
    table.write_text("from the last run", encoding="utf-8")
    refused(palate("rank", full, "--csv", table, "--compare", "alpha,nobody"))
    assert table.read_text("utf-8") == "from the last run"


@pytest.mark.parametrize(
    "text", ["", "model_a,model_b,winner\n", "not a table", "\x00\x01\x02", "[1, 2", "{}\n"]
)
def test_a_file_that_holds_no_votes_is_refused(palate: Palate, tmp_path: Path, text: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text, encoding="utf-8")
    assert "votes.csv" in refused(palate("rank", path))


def test_a_reader_that_goes_away_is_no_error(full: Path) -> None:
    run = subprocess.run(
        f"{sys.executable} -m palate rank {full} --json | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr, len(run.stdout)) == (0, "", 10)


# -- real sets --


def saved(path: Path, columns: dict[str, object]) -> Path:
    PreferenceData.from_columns(columns).save(path)
    return path


def test_real_votes_by_a_crowd(palate: Palate, shared_data: Path) -> None:
    file = shared_data / "llmfao" / "crowd-comparisons.csv.gz"
    code, out, _ = palate("rank", file, *LLMFAO, "--annotators", "--compare", "GPT 4,command", "--json")
    assert code == 0
    found = shaped(out)
    assert found["items"][0]["item"] == "GPT 4"  # type: ignore[index]
    assert len(found["diagnostics"]["annotator_report"]) == 124  # type: ignore[index]


def test_real_arguments_matches_and_images(palate: Palate, shared_data: Path, tmp_path: Path) -> None:
    pairs = pl.read_parquet(shared_data / "ukp-convarg" / "pairs.parquet")
    votes = pl.read_parquet(shared_data / "ukp-convarg" / "judgments.parquet").join(
        pairs, on=["topic", "pair_id"]
    )
    topic = votes["topic"].unique().sort()[0]
    votes = votes.filter(pl.col("topic") == topic)
    equal = (votes["choice"] == "equal").to_numpy()
    first = np.where(equal, 1.0, (votes["choice"] == "a1").to_numpy())
    second = np.where(equal, 1.0, 1.0 - first)
    arguments = saved(
        tmp_path / "arguments.parquet",
        {
            "items": votes.select(pl.concat_list("argument_1", "argument_2").alias("i"))["i"].to_arrow(),
            "scores": np.stack([first, second], axis=1).tolist(),
            "annotator": votes["annotator"].to_list(),
        },
    )
    for method in ("bradley_terry", "crowd_bt"):
        code, out, _ = palate(
            "rank", arguments, "-m", method, *(["--set", "l2=0.1"] * (method != "crowd_bt")), "--json"
        )
        assert code == 0
        scores = dict(
            pl.read_parquet(shared_data / "ukp-convarg" / "arguments.parquet")
            .select("argument_id", "rank_score")
            .iter_rows()
        )
        both = [
            (row["strength"], scores[row["item"]]) for row in shaped(out)["items"] if row["item"] in scores
        ]  # type: ignore[attr-defined]
        # The corpus' own score is a PageRank of the cleaned pairs along the way from the better to the worse.
        assert spearmanr(np.array(both)).statistic < -0.9

    frame = pl.read_parquet(shared_data / "football-international" / "matches.parquet").drop_nulls(
        "home_score"
    )
    frame = frame.filter(pl.col("date") >= "2015")
    matches = saved(
        tmp_path / "matches.parquet",
        {
            "items": frame.select(pl.concat_list("home_team", "away_team").alias("i"))["i"].to_arrow(),
            "scores": frame.select("home_score", "away_score").cast(float).to_numpy().tolist(),
            "time": [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in frame["date"]],
        },
    )
    code, out, _ = palate("rank", matches, "-m", "elo", "--set", "k=30", "--json")
    assert code == 0
    best = [row["item"] for row in shaped(out)["items"]][:10]  # type: ignore[attr-defined]
    assert {"Argentina", "Spain", "France"} <= set(best)

    ranked = pl.read_parquet(shared_data / "image-reward-test" / "rankings.parquet")
    ranked = ranked.group_by("prompt_id", maintain_order=True).agg("image", "rank")
    images = saved(
        tmp_path / "images.parquet",
        {
            "items": ranked["image"].to_list(),
            "scores": [[-float(x) for x in ranks] for ranks in ranked["rank"]],
            "protocol": ["ranking"] * ranked.height,
        },
    )
    # Images of different prompts never meet: no board, unless a ridge or a count of wins makes do without.
    error = refused(palate("rank", images, "-m", "plackett_luce"))
    assert f"{ranked.height} groups that never met" in error
    code, out, _ = palate("rank", images, "-m", "borda", "--json")
    assert code == 0
    assert shaped(out)["diagnostics"]["components"] == ranked.height  # type: ignore[index]
    assert len(shaped(out)["items"]) == 2720  # type: ignore[arg-type]


def test_real_ballots_and_ratings(palate: Palate, shared_data: Path, tmp_path: Path) -> None:
    ballots = shared_data / "preflib" / "burlington" / "00005-00000002.toi"
    code, out, _ = palate("rank", ballots, "-m", "schulze", "--set", "weights=count", "--json")
    assert code == 0
    assert shaped(out)["items"][0]["item"] == "Andy Montroll"  # type: ignore[index]

    frame = pl.read_parquet(shared_data / "street-review" / "individual_ratings.parquet")
    streets = saved(
        tmp_path / "streets.parquet",
        {
            "items": [[street] for street in frame["street"]],
            "scores": [[float(x)] for x in frame["aesthetics"]],
            "annotator": frame["evaluator"].to_list(),
            "protocol": ["rating"] * frame.height,
            "scale": ["interval"] * frame.height,
        },
    )
    for correction in ("none", "zscore", "bias", "bias_variance"):
        code, out, _ = palate(
            "rank", streets, "-m", "mean_opinion_score", "--set", f"correction={correction}", "--json"
        )
        assert code == 0
        assert len(shaped(out)["items"]) == 20  # type: ignore[arg-type]

    models = pl.read_parquet(shared_data / "subjective-qa" / "model_ratings.parquet").drop_nulls("rating")
    answers = saved(
        tmp_path / "answers.parquet",
        {
            "items": [[model] for model in models["model"]],
            "scores": [[float(x)] for x in models["rating"]],
            "aspect": models["aspect"].to_list(),
            "prompt_id": [str(x) for x in models["id"]],
            "protocol": ["rating"] * models.height,
            "scale": ["interval"] * models.height,
        },
    )
    code, out, _ = palate("rank", answers, "-m", "mean_opinion_score", "--by", "aspect", "--json")
    assert code == 0
    assert set(json.loads(out)["slices"]) == set(models["aspect"])
