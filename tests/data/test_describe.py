"""What `describe` counts, and the problems it finds."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from palate.data.simulate import simulate_battles, simulate_rankings, simulate_ratings
from palate.data.table import PreferenceData
from palate.runs import to_json

NAN = float("nan")


def votes(*rows, **columns):
    """Rows (first, second, score of first, score of second)."""
    return PreferenceData.from_columns(
        {
            "items": [list(row[:2]) for row in rows],
            "scores": [list(row[2:]) for row in rows],
            "protocol": ["comparison"] * len(rows),
        }
        | columns
    )


def problems(data):
    return {problem["kind"]: problem for problem in data.describe()["problems"]}


def test_counts_of_a_small_set():
    data = PreferenceData.from_columns(
        {
            "prompt_id": ["p", "p", "q"],
            "items": [["a", "b"], ["a", "c"], ["b", "c"]],
            "scores": [[1, 0], [1, 1], [0, 0]],
            "tie": [None, "equal", "both_bad"],
            "annotator": ["u", "u", "v"],
            "annotator_kind": ["human", "human", "model"],
            "aspect": ["style", "style", "facts"],
            "scale": ["ordinal"] * 3,
            "protocol": ["comparison"] * 3,
            "time": np.array([0, 10, 5], dtype="datetime64[s]").tolist(),
        }
    )
    found = data.describe()
    assert (found["rows"], found["prompts"], found["items"], found["annotators"]) == (3, 2, 3, 2)
    assert found["aspects"] == {"style": 2, "facts": 1}
    assert found["kinds"] == {"human": 2, "model": 1}
    assert found["protocols"] == {"comparison": 3}
    assert found["ties"] == {"count": 2, "share": pytest.approx(2 / 3), "causes": {"equal": 1, "both_bad": 1}}
    assert found["responses_per_row"] == {"min": 2, "mean": 2.0, "max": 2}
    assert found["scores"][0] == {
        "aspect": "facts", "scale": "ordinal", "n": 2, "missing": 0,
        "min": 0.0, "max": 0.0, "mean": 0.0, "distinct": 1,
    }  # fmt: skip
    assert found["time"] == {
        "first": "1970-01-01T00:00:00+00:00", "last": "1970-01-01T00:00:10+00:00", "missing": 0,
    }  # fmt: skip
    assert found["agreement"] is None
    assert found["length_bias"] is None
    # Ties join a with c and c with b both ways.
    assert found["connectivity"] == {"components": 1, "strong_components": 1, "smallest": []}


@pytest.mark.parametrize(
    "data",
    [
        simulate_battles(300, 5, ties=0.4, prompts=10),
        simulate_rankings(50, 6, k=4),
        simulate_ratings(20),
        PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1, NAN]]}),
        PreferenceData.from_columns({"media": [["x.png", "y.png"]], "scores": [[1, 0]]}),
        PreferenceData.from_columns({"items": [], "scores": []}),
    ],
)
def test_every_kind_of_data_is_described_in_plain_json(data):
    found = data.describe()
    assert json.loads(to_json(found)) == json.loads(json.dumps(found))
    assert found["rows"] == len(data)


def test_clean_honest_votes_have_no_problems():
    data = simulate_battles(4000, 8, ties=0.3, annotators=40, seed=5)
    assert problems(data) == {}


def test_agreement_is_that_of_the_measure():
    data = simulate_battles(2000, 5, ties=0.4, prompts=10, seed=1)
    found, measured = data.describe()["agreement"], data.agreement()
    assert found["alpha"] == pytest.approx(measured.value)
    assert found["percent"] == pytest.approx(measured.percent)
    assert found["units"] == measured.n_units
    ratings = simulate_ratings(50, seed=1)
    assert ratings.describe()["agreement"]["alpha"] == pytest.approx(
        ratings.agreement(level="interval").value
    )


def test_empty_and_identical_responses_are_found():
    data = PreferenceData.from_columns(
        {
            "prompt": list("pqrst"),
            "responses": [["x", " "], ["x", "x"], ["x", "y"], ["x", None], ["x", "y", "x"]],
            "scores": [[1, 0]] * 4 + [[1, 2, 3]],
        }
    )
    found = problems(data)
    assert (found["empty_response"]["count"], found["empty_response"]["rows"]) == (2, [1, 4])
    assert (found["identical_responses"]["count"], found["identical_responses"]["rows"]) == (2, [2, 5])


def test_an_item_against_itself_is_found():
    assert problems(votes(("a", "a", 1, 0), ("a", "b", 1, 0)))["item_against_itself"]["rows"] == [1]


def test_copies_repetitions_and_contradictions_are_told_apart():
    data = votes(
        ("a", "b", 1, 0), ("b", "a", 0, 1), ("b", "a", 1, 0), ("a", "b", 1, 0), ("a", "c", 1, 0),
        annotator=["u", "u", "u", "v", "u"], prompt_id=["p"] * 5,
    )  # fmt: skip
    found = data.describe()
    assert found["duplicates"] == {"exact": 1, "repeated": 2}
    by_kind = problems(data)
    assert by_kind["duplicate"]["rows"] == [2]
    assert by_kind["repeated_judgment"]["rows"] == [3]
    assert (by_kind["contradiction"]["count"], by_kind["contradiction"]["rows"]) == (1, [1, 2, 3])


def test_votes_on_unrecorded_prompts_are_not_duplicates():
    data = votes(*[("a", "b", 1, 0)] * 5, annotator=["u"] * 5)
    assert data.describe()["duplicates"] == {"exact": 0, "repeated": 0}
    unnamed = votes(*[("a", "b", 1, 0)] * 5, prompt_id=["p"] * 5)
    assert unnamed.describe()["duplicates"] == {"exact": 0, "repeated": 0}


def test_equal_rows_at_other_times_are_repetitions_not_copies():
    data = votes(
        *[("a", "b", 1, 0)] * 3,
        annotator=["u"] * 3, prompt_id=["p"] * 3, time=np.array([1, 1, 2], dtype="datetime64[s]").tolist(),
    )  # fmt: skip
    assert data.describe()["duplicates"] == {"exact": 1, "repeated": 2}


def test_annotators_with_one_vote_or_one_side_are_found():
    rng = np.random.default_rng(0)
    honest = [("a", "b", 1, 0) if left else ("a", "b", 0, 1) for left in rng.random(40) < 0.5]
    data = votes(
        *honest, *[("a", "b", 1, 0)] * 12, ("a", "b", 0, 1), annotator=["u"] * 40 + ["masher"] * 12 + ["once"]
    )
    found = problems(data)
    assert found["single_vote"]["rows"] == [53]
    assert found["constant_side"]["count"] == 1
    assert "masher" in found["constant_side"]["message"]
    assert found["constant_side"]["rows"] == [41, 42, 43, 44, 45]


def test_a_spammer_pressing_one_side_is_position_bias_of_all():
    data = simulate_battles(3000, 6, position_bias=0.5, seed=2)
    bias = data.describe()["position_bias"]
    assert bias["share"] > 0.55
    assert bias["p"] < 1e-6
    assert "position_bias" in problems(data)


def test_winners_always_written_first_are_no_position_bias():
    data = votes(*[("a", "b", 1, 0), ("b", "a", 1, 0)] * 20)
    assert data.describe()["position_bias"] is None
    assert "position_bias" not in problems(data)


def test_items_that_never_lose_or_win_are_named():
    found = problems(
        votes(("a", "b", 1, 0), ("a", "c", 1, 0), ("b", "c", 1, 0), ("c", "b", 1, 0), ("b", "d", 1, 0))
    )
    assert found["never_lost"]["message"].endswith(": a")
    assert found["never_won"]["message"].endswith(": d")
    assert found["separated"]["count"] == 3


def test_a_tie_counts_as_lost_and_won():
    assert problems(votes(("a", "b", 1, 1), ("a", "b", 1, 0), ("b", "a", 1, 0))) == {}


def test_disconnected_items_are_named():
    data = votes(("a", "b", 1, 0), ("b", "a", 1, 0), ("x", "y", 1, 0), ("y", "x", 1, 0), ("b", "c", 1, 1))
    graph = data.describe()["connectivity"]
    assert graph["components"] == 2
    assert graph["smallest"][0] == {"size": 2, "items": ["x", "y"]}
    assert "x, y" in problems(data)["disconnected"]["message"]


def test_all_ties_and_rows_without_scores_are_found():
    assert problems(votes(("a", "b", 1, 1), ("a", "b", 0, 0)))["all_ties"]["count"] == 2
    assert problems(votes(("a", "b", NAN, NAN), ("a", "b", 1, 0)))["missing_scores"]["rows"] == [1]


def test_prompts_with_one_response_are_found():
    data = PreferenceData.from_columns(
        {"prompt": ["p", "q", "q"], "responses": [["x"], ["x"], ["y"]], "scores": [[1], [1], [0]]}
    )
    found = problems(data)["one_response"]
    assert (found["count"], found["rows"]) == (1, [1])


def test_extreme_length_bias_is_found_and_measured():
    rng = np.random.default_rng(1)
    longer = rng.random(200) < 0.9
    data = PreferenceData.from_columns(
        {
            "prompt": [str(i) for i in range(200)],
            "responses": [["long text é", "short"]] * 200,
            "scores": [[1, 0] if won else [0, 1] for won in longer],
        }
    )
    bias = data.describe()["length_bias"]
    assert bias["share"] == longer.mean()
    assert bias["n"] == 200
    assert bias["interval"][0] < longer.mean() < bias["interval"][1]
    assert problems(data)["length_bias"]["message"].startswith("the longer response wins")


@pytest.mark.parametrize("odd", [0.0, 55.0, -1.0])
def test_a_code_outside_the_scale_is_found(odd):
    scores = [[float(v)] for v in np.random.default_rng(0).integers(1, 6, 500)]
    scores[17] = [odd]
    data = PreferenceData.from_columns(
        {"items": [[f"i{n}"] for n in range(500)], "scores": scores, "protocol": ["rating"] * 500}
    )
    found = problems(data)["scale_values"]
    assert found["rows"] == [18]
    assert f"{odd:g}" in found["message"]
    data = data.take(np.delete(np.arange(500), 17))
    assert "scale_values" not in problems(data)


def test_wide_rankings_are_described_without_all_their_pairs():
    data = simulate_rankings(400, 200, seed=1)
    found = data.describe()
    assert found["connectivity"]["components"] == 1
    assert found["agreement"] is None


def columns_of(table: pl.DataFrame, winner: str, first: str, second: str):
    """Scores of votes with `winner` holding `first`, `second` or anything else for a tie."""
    scores = pl.concat_list((pl.col(winner) != second).cast(float), (pl.col(winner) != first).cast(float))
    return table.select(scores).to_series().to_arrow()


def test_crowd_votes_of_language_models(shared_data):
    folder = shared_data / "llmfao"
    texts = pl.read_ndjson(folder / "pairs-crowd.jsonl.gz", infer_schema_length=None)
    table = pl.read_csv(folder / "crowd-comparisons.csv.gz").join(
        texts.select("id", "text", "result_x", "result_y"), on="id", how="left", maintain_order="left"
    )
    data = PreferenceData.from_columns(
        {
            "prompt_id": table["prompt"].cast(pl.String).to_arrow(),
            "prompt": table["text"].to_arrow(),
            "items": table.select(pl.concat_list("left", "right")).to_series().to_arrow(),
            "responses": table.select(pl.concat_list("result_x", "result_y")).to_series().to_arrow(),
            "scores": columns_of(table, "winner", "left", "right"),
            "annotator": table["worker"].cast(pl.String).to_arrow(),
            "protocol": ["comparison"] * len(table),
        }
    )
    found = data.describe()
    assert (found["rows"], found["prompts"], found["items"], found["annotators"]) == (8931, 13, 59, 124)
    assert round(found["ties"]["share"], 2) == 0.39
    assert round(found["position_bias"]["share"], 3) == 0.533
    assert round(found["length_bias"]["share"], 2) == 0.41
    assert (found["agreement"]["pairs"], round(found["agreement"]["percent"], 3)) == (15112, 0.532)
    assert found["connectivity"]["components"] == 1
    assert {"empty_response", "position_bias"} <= {problem["kind"] for problem in found["problems"]}


def test_position_of_model_judges(shared_data):
    for name, share in (("gpt4", 0.455), ("gpt3", 0.695)):
        table = pl.read_csv(shared_data / "llmfao" / f"{name}-crowd-comparisons.csv.gz")
        data = PreferenceData.from_columns(
            {
                "items": table.select(pl.concat_list("left", "right")).to_series().to_arrow(),
                "scores": columns_of(table, "winner", "left", "right"),
            }
        )
        assert round(data.describe()["position_bias"]["share"], 3) == share


def test_arguments_are_won_by_the_longer(shared_data):
    folder = shared_data / "ukp-convarg"
    texts = pl.read_parquet(folder / "arguments.parquet").select("topic", "argument_id", "text")
    table = pl.read_parquet(folder / "pairs.parquet").filter(pl.col("strict").is_not_null())
    for side in ("1", "2"):
        names = {"argument_id": f"argument_{side}", "text": f"text_{side}"}
        table = table.join(
            texts.rename(names), on=["topic", f"argument_{side}"], how="left", maintain_order="left"
        )
    data = PreferenceData.from_columns(
        {
            "prompt_id": table["topic"].to_arrow(),
            "items": table.select(pl.concat_list("argument_1", "argument_2")).to_series().to_arrow(),
            "responses": table.select(pl.concat_list("text_1", "text_2")).to_series().to_arrow(),
            "scores": columns_of(table, "strict", "a1", "a2"),
        }
    )
    words = [pl.col(name).str.extract_all(r"\S+").list.len().cast(int) for name in ("chosen", "rejected")]
    right = data.pairs().select(0.5 + 0.5 * (words[0] - words[1]).sign()).to_series()
    assert len(right) == 11650
    assert round(right.mean(), 3) == 0.760
    found = data.describe()
    assert found["length_bias"]["interval"][0] > 0.76
    assert found["connectivity"]["components"] == 32
    assert problems(data)["disconnected"]["count"] == 32


def test_revised_votes_of_a_deliberation_are_found(shared_data):
    table = pl.read_parquet(shared_data / "polis" / "votes.parquet")
    data = PreferenceData.from_columns(
        {
            "items": table.select(pl.concat_list(pl.format("{}/{}", "conversation", "comment_id")))
            .to_series()
            .to_arrow(),
            "scores": table.select(pl.concat_list(pl.col("vote").cast(float))).to_series().to_arrow(),
            "annotator": table.select(pl.format("{}/{}", "conversation", "voter_id")).to_series().to_arrow(),
            "time": table["datetime"].dt.replace_time_zone("UTC").to_arrow(),
            "protocol": ["rating"] * len(table),
            "scale": ["ordinal"] * len(table),
        }
    )
    found = data.describe()
    assert found["rows"] == 103030
    assert found["annotators"] == 4487
    assert found["duplicates"]["repeated"] == 1365
