"""Real sets read with one call, checked against the figures their descriptions give."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate.data import PreferenceData, load, scan, write
from palate.errors import PalateWarning

PROFILES = (".soc", ".soi", ".toc", ".toi", ".cat")


def test_llmfao_crowd_votes(shared_data: Path) -> None:
    data = load(
        shared_data / "llmfao" / "crowd-comparisons.csv.gz",
        format="arena",
        columns={"model_a": "left", "model_b": "right", "prompt_id": "prompt", "annotator": "worker"},
        labels={"left": "model_a", "right": "model_b"},
        constants={"annotator_kind": "human"},
    )
    assert data.n_rows == 8931
    assert len(set(data.values("annotator"))) == 124
    ties = data.values("tie") == "equal"
    assert round(ties.mean(), 2) == 0.39
    left = data.scores.reshape(-1, 2)[~ties, 0]
    assert round(left.mean(), 3) == 0.533


def test_llmfao_model_judge_has_no_annotator_column(shared_data: Path) -> None:
    data = load(
        shared_data / "llmfao" / "gpt4-crowd-comparisons.csv.gz",
        format="arena",
        columns={"model_a": "left", "model_b": "right", "prompt_id": "prompt"},
        labels={"left": "model_a", "right": "model_b"},
        constants={"annotator": "gpt-4", "annotator_kind": "model"},
    )
    assert data.n_rows == 2139
    assert set(data.values("annotator")) == {"gpt-4"}


def test_llmfao_votes_joined_with_the_answers(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "llmfao"
    votes = pl.read_csv(folder / "crowd-comparisons.csv.gz")
    texts = pl.read_ndjson(folder / "pairs-crowd.jsonl.gz", infer_schema_length=None).select(
        "id", "text", "result_x", "result_y"
    )
    votes.join(texts, on="id").write_parquet(tmp_path / "votes.parquet")
    data = load(
        tmp_path / "votes.parquet",
        format="arena",
        columns={
            "model_a": "left", "model_b": "right", "prompt": "text", "response_a": "result_x",
            "response_b": "result_y", "prompt_id": "prompt", "annotator": "worker",
        },
        labels={"left": "model_a", "right": "model_b"},
    )  # fmt: skip
    assert data.n_rows == 8931
    lengths = np.array([[len(text) for text in pair] for pair in data.column("responses").to_pylist()])
    decided = data.values("tie") != "equal"
    scores = data.scores.reshape(-1, 2)
    longer_won = ((lengths[:, 0] > lengths[:, 1]) == (scores[:, 0] > scores[:, 1]))[
        decided & (lengths[:, 0] != lengths[:, 1])
    ]
    assert round(longer_won.mean(), 2) == 0.41


def test_hh_rlhf_transcripts(shared_data: Path) -> None:
    with pytest.warns(PalateWarning) as caught:
        data = load(shared_data / "hh-rlhf-harmless" / "harmless-base-test.jsonl.gz")
    reported = sorted(str(each.message).split(": ", 1)[1] for each in caught)
    assert reported == [
        "4 pairs with an empty answer (kept)",
        "5 pairs whose prompts differ (kept: the prompt is the turns they share)",
    ]
    assert data.n_rows == 2312
    assert data.column("response_messages").null_count == 2307
    same = data.column("response_messages").is_null().to_numpy(zero_copy_only=False)
    pairs = [pair for pair, kept in zip(data.column("responses").to_pylist(), same, strict=True) if kept]
    shorter = sum(len(chosen) < len(rejected) for chosen, rejected in pairs)
    assert shorter / len(pairs) == pytest.approx(0.553, abs=0.002)
    assert data.column("messages").null_count == 662


def test_all_preflib_profiles_survive_a_write(shared_data: Path, tmp_path: Path) -> None:
    with open(shared_data / "preflib" / "index.csv") as file:
        index = list(csv.DictReader(file))
    assert len(index) == 159
    for entry in index:
        path = shared_data / "preflib" / entry["set"] / entry["file"]
        data = load(path)
        assert data.weights.sum() == int(entry["voters"]), path
        copy = tmp_path / f"copy{path.suffix}"
        write(data, copy)
        assert load(copy) == data, path


def test_preflib_approval_scores_yes_above_no(shared_data: Path) -> None:
    data = load(shared_data / "preflib" / "frenchapproval" / "00026-00000003.cat")
    first = data.take([0])
    best = dict(zip(first.column("items").to_pylist()[0], first.scores, strict=True))
    assert best["Chirac"] == 1.0
    assert sum(best.values()) == 1.0
    assert len(load(shared_data / "preflib" / "frenchapproval" / "00026-00000003.cat", expand=True)) == 476


def test_a_folder_of_profiles_reads_in_order_of_name(shared_data: Path) -> None:
    data = load(shared_data / "preflib" / "dots", pattern="*.soc")
    files = sorted((shared_data / "preflib" / "dots").glob("*.soc"))
    assert data == PreferenceData.concat([load(file) for file in files])


def test_alpaca_eval_graded_preferences(shared_data: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(shared_data / "alpaca-eval" / "annotations.parquet")
    frame = frame.filter(
        pl.col("annotator") == "weighted_alpaca_eval_gpt4_turbo", pl.col("preference").is_not_null()
    )
    frame = frame.filter(pl.col("model") != pl.col("baseline"))
    draw = pl.col("preference").is_in([0.0, 1.5])
    frame = frame.with_columns(strength=pl.when(draw).then(0.0).otherwise(pl.col("preference") - 1.5))
    frame.write_parquet(tmp_path / "annotations.parquet")
    data = load(
        tmp_path / "annotations.parquet",
        format="arena",
        columns={"model_a": "baseline", "model_b": "model", "strength": "strength"},
        constants={"annotator_kind": "model"},
    )
    assert data.n_rows == frame.height
    won = data.scores.reshape(-1, 2)[:, 1].sum() - (data.values("tie") == "equal").sum()
    assert won == (frame["preference"] > 1.5).sum()


def test_alpaca_eval_answers_as_rated_list(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "alpaca-eval"
    marks = pl.read_parquet(folder / "annotations.parquet").filter(
        pl.col("annotator") == "weighted_alpaca_eval_gpt4_turbo", pl.col("preference").is_not_null()
    )
    marks = marks.with_columns(pl.col("prompt_id").cast(pl.Int64))
    prompts, outputs = (
        pl.read_parquet(folder / "prompts.parquet"),
        pl.read_parquet(folder / "outputs.parquet"),
    )
    joined = marks.join(outputs, on=["prompt_id", "model"]).join(prompts, on="prompt_id")
    joined.select("prompt_id", "instruction", "model", "output", "annotator", "preference").write_parquet(
        tmp_path / "r.parquet"
    )
    data = load(
        tmp_path / "r.parquet",
        format="ratings",
        columns={"item": "model", "prompt": "instruction", "response": "output", "rating": "preference"},
        range=(0, 2),
    )
    assert data.n_rows == joined.height > 40_000
    assert len(set(data.values("prompt_id"))) == 805


def test_ukp_convarg_judgments_with_arguments(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ukp-convarg"
    arguments = pl.read_parquet(folder / "arguments.parquet").select("argument_id", "text")
    pairs = pl.read_parquet(folder / "pairs.parquet").select("topic", "pair_id", "argument_1", "argument_2")
    votes = pl.read_parquet(folder / "judgments.parquet").join(pairs, on=["topic", "pair_id"])
    for side in ("1", "2"):
        votes = votes.join(
            arguments.rename({"text": f"text_{side}"}), left_on=f"argument_{side}", right_on="argument_id"
        )
    votes.write_parquet(tmp_path / "votes.parquet")
    data = load(
        tmp_path / "votes.parquet",
        format="arena",
        columns={
            "model_a": "argument_1", "model_b": "argument_2", "winner": "choice", "prompt": "topic",
            "response_a": "text_1", "response_b": "text_2", "rationale": "reason", "time": "submitted",
        },
        labels={"a1": "model_a", "a2": "model_b", "equal": "tie"},
    )  # fmt: skip
    assert data.n_rows == 84_445
    assert len(set(data.values("annotator"))) == 3815
    assert len(set(data.flat("items").to_pylist())) == 1052


def test_wmt_mqm_penalties_are_lower_is_better(shared_data: Path) -> None:
    data = load(
        shared_data / "wmt-mqm" / "ted_segments.parquet",
        format="ratings",
        columns={
            "item": "system", "response": "target", "rating": "mqm", "annotator": "rater",
            "prompt_id": ["lp", "seg_id"],
        },
        higher_is_better=False,
    )  # fmt: skip
    assert data.n_rows == 15_341
    frame = pl.DataFrame(
        {"lp": pl.Series(data.values("prompt_id")).str.split("/").list.first()}
    ).with_columns(system=pl.Series(data.flat("items").to_pylist()), score=pl.Series(data.scores))
    means = dict(
        frame.filter(pl.col("lp") == "ende").group_by("system").agg(pl.col("score").mean()).iter_rows()
    )
    assert round(-means["ref"], 2) == 0.91
    assert round(-means["Facebook-AI"], 2) == 1.06


def test_polis_votes(shared_data: Path) -> None:
    call = {
        "format": "ratings",
        "columns": {
            "item": ["conversation", "comment_id"], "annotator": ["conversation", "voter_id"],
            "rating": "vote", "time": "datetime",
        },
        "range": (-1, 1),
    }  # fmt: skip
    path = shared_data / "polis" / "votes.parquet"
    data = load(path, **call)
    assert data.n_rows == 103_030
    assert len(set(data.values("annotator"))) == 4487
    agrees = pl.read_parquet(shared_data / "polis" / "comments.parquet")["agrees"].sum()
    assert (data.scores == 1).sum() == agrees
    assert PreferenceData.concat(list(scan(path, batch_rows=10_000, **call))) == data


def test_tournesol_negative_means_the_first(shared_data: Path) -> None:
    data = load(
        shared_data / "tournesol" / "comparisons.parquet",
        format="arena",
        columns={
            "model_a": "video_a", "model_b": "video_b", "strength": "score", "annotator": "user",
            "aspect": "criteria", "time": "week_date",
        },
    )  # fmt: skip
    assert data.n_rows == 38_387
    assert round((data.values("tie") == "equal").mean(), 3) == 0.242
    raw = pl.read_parquet(shared_data / "tournesol" / "comparisons.parquet")["score"].to_numpy()
    assert (data.scores.reshape(-1, 2)[raw < 0] == [1, 0]).all()


def test_image_reward_rankings_gathered_per_prompt(shared_data: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(shared_data / "image-reward-test" / "rankings.parquet")
    grouped = rows.group_by("prompt_id", "prompt", maintain_order=True).agg("image", "rank")
    grouped.write_parquet(tmp_path / "rankings.parquet")
    data = load(tmp_path / "rankings.parquet", format="ranked", columns={"items": "image"}, renumber=True)
    assert data.n_rows == 466
    assert len(data.scores) == 2720
    offsets = data.offsets()
    strict = 0
    for start, end in pairwise(offsets):
        scores = data.scores[start:end]
        strict += int((scores[:, None] > scores[None, :]).sum())
    assert strict == 6399


def test_multipico_labels(shared_data: Path) -> None:
    path = shared_data / "multipico" / "annotations.parquet"
    data = load(path, format="ratings", columns={"rating": "ironic"}, range=(0, 1))
    assert data.n_rows == 33_871
    assert len(set(data.values("annotator"))) == 506
    assert round(data.scores.mean(), 3) == 0.329


def test_coat_ratings_and_interactions(shared_data: Path) -> None:
    path = shared_data / "coat" / "self_selected.parquet"
    data = load(path, range=(1, 5))
    assert data.n_rows == 6960
    assert round(data.scores.mean(), 3) == 2.611
    clicks = load(path, format="interactions")
    assert set(clicks.values("protocol")) == {"behaviour"}
