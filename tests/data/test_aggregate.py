"""Gold judgments: worked numbers, rules for ties, Dawid-Skene against its oracle, and real votes."""

from __future__ import annotations

import json
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from palate.data import PreferenceData, aggregate
from palate.data.dawid_skene import dawid_skene
from palate.errors import ConfigError, DataError, PalateWarning

NAN = float("nan")
SHEET = [[2, 2, 1], [0, 1, 2], [1, 1, 1], [2, 0, 2], [0, 0, 1], [2, 1, 1]]


def rated(votes, **columns):
    """One rating per vote: row r of `votes` holds what each annotator says of the answer to question r."""
    unit, who = (
        np.array(x)
        for x in zip(*[(r, a) for r, row in enumerate(votes) for a in range(len(row))], strict=True)
    )
    return PreferenceData.from_columns(
        {
            "prompt_id": [f"q{r}" for r in unit],
            "responses": [["an answer"]] * len(unit),
            "scores": [[float(v)] for row in votes for v in row],
            "annotator": [f"a{a}" for a in who],
            "protocol": ["rating"] * len(unit),
            "scale": ["ordinal"] * len(unit),
            **columns,
        }
    )


def voted(*votes, **columns):
    """Comparisons of a and b about one prompt: "a", "b", "tie" or "bad"."""
    scores = {"a": [1, 0], "b": [0, 1], "tie": [1, 1], "bad": [0, 0]}
    kinds = {"tie": "equal", "bad": "both_bad"}
    return PreferenceData.from_columns(
        {
            "items": [["a", "b"]] * len(votes),
            "scores": [scores[vote] for vote in votes],
            "tie": [kinds.get(vote) for vote in votes],
            "protocol": ["comparison"] * len(votes),
            **columns,
        }
    )


def notes(gold):
    return [json.loads(text) for text in gold.column("metadata").to_pylist()]


def lists(gold):
    return gold.column("scores").to_pylist()


def test_the_six_rows_of_three_votes_give_the_worked_gold_labels():
    gold = aggregate(rated(SHEET))
    assert gold.scores.tolist() == [2, 1, 1, 2, 0, 1]
    assert [note["contested"] for note in notes(gold)] == [False, True, False, False, False, False]
    assert [note["n_votes"] for note in notes(gold)] == [3] * 6
    assert [round(note["agreement"], 3) for note in notes(gold)] == [0.667, 0.333, 1, 0.667, 0.667, 0.667]
    assert not gold.has("annotator")
    assert gold.column("prompt_id").to_pylist() == [f"q{r}" for r in range(6)]


def test_the_median_is_the_majority_wherever_two_of_three_agree():
    for row in np.stack(np.meshgrid(*[range(3)] * 3), axis=-1).reshape(-1, 3):
        if len(set(row)) < 3:
            votes = rated([row.tolist()])
            assert aggregate(votes, "median").scores == aggregate(votes, "majority").scores


@settings(max_examples=25, deadline=None)
@given(
    votes=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=6),
    seed=st.integers(0, 9),
)
def test_the_order_of_annotators_does_not_matter(votes, seed):
    rng = np.random.default_rng(seed)
    mixed = [rng.permutation(row).tolist() for row in votes]
    for method in ("majority", "median", "mean"):
        first, second = aggregate(rated(votes), method), aggregate(rated(mixed), method)
        np.testing.assert_allclose(first.scores, second.scores, rtol=1e-12)
        assert notes(first) == notes(second)


def test_a_shared_first_place_follows_the_rule():
    votes = rated([[0, 2], [1, 2], [0, 1, 2], [3, 4], [2, 2]])
    # The scale is 0 to 4: 1 and 2 are equally near to 1.5, and 2 is its middle.
    assert aggregate(votes, tie="middle").scores.tolist() == [1, 2, 1, 3, 2]
    assert aggregate(votes, tie="drop").scores.tolist() == [2]
    drawn = [aggregate(votes, tie="random", seed=seed).scores.tolist() for seed in range(40)]
    assert {row[0] for row in drawn} == {0, 2}
    assert {row[2] for row in drawn} == {0, 1, 2}
    assert drawn[3] == aggregate(votes, tie="random", seed=3).scores.tolist()
    with pytest.raises(ConfigError, match="row 1 is a rating, and ratings have no ties"):
        aggregate(votes, tie="tie")


def test_a_pair_is_the_same_in_either_order_and_keeps_the_first():
    votes = PreferenceData.from_columns(
        {
            "prompt": ["p", "p", "p", "other"],
            "items": [["a", "b"], ["b", "a"], ["b", "a"], ["b", "a"]],
            "scores": [[1, 0], [0, 1], [1, 0], [1, 0]],
        }
    )
    gold = aggregate(votes)
    assert gold.column("items").to_pylist() == [["a", "b"], ["b", "a"]]
    assert lists(gold) == [[1, 0], [1, 0]]
    assert [note["n_votes"] for note in notes(gold)] == [3, 1]


@pytest.mark.parametrize(
    ("votes", "majority", "median"),
    [
        (["a", "a", "b"], [1, 0], [1, 0]),
        (["a", "b"], [1, 1], [1, 1]),
        (["a", "tie"], [1, 1], [1, 0.5]),
        (["b", "tie"], [1, 1], [0.5, 1]),
        (["tie", "bad", "a"], [1, 1], [1, 1]),
        (["bad", "bad", "tie", "b"], [0, 0], [0, 0]),
        (["b", "b", "tie", "tie", "a"], [1, 1], [1, 1]),
    ],
)
def test_votes_on_a_pair(votes, majority, median):
    assert lists(aggregate(voted(*votes))) == [majority]
    assert lists(aggregate(voted(*votes), tie="tie")) == [majority]
    assert lists(aggregate(voted(*votes), "median")) == [median]
    cause = {(1, 1): "equal", (0, 0): "both_bad"}.get(tuple(majority))
    assert aggregate(voted(*votes)).column("tie").to_pylist() == [cause]


def test_swapping_the_sides_of_every_vote_swaps_the_gold_scores():
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(40), 4)
    scores = np.array([[1, 0], [0, 1], [1, 1]])[rng.integers(0, 3, len(prompts))]
    columns = {"prompt_id": [f"p{i}" for i in prompts], "annotator": [f"w{i % 7}" for i in range(160)]}
    one = PreferenceData.from_columns({**columns, "items": [["a", "b"]] * 160, "scores": scores.tolist()})
    two = PreferenceData.from_columns(
        {**columns, "items": [["b", "a"]] * 160, "scores": scores[:, ::-1].tolist()}
    )
    for method in ("majority", "median", "mean", "dawid_skene"):
        left = aggregate(one, method).scores.reshape(-1, 2)
        right = aggregate(two, method).scores.reshape(-1, 2)
        np.testing.assert_allclose(left, right[:, ::-1], atol=1e-6)


def test_the_mean_of_votes_is_the_share_of_wins_and_weights_count():
    votes = voted("a", "a", "b", "tie", weight=[1, 1, 4, 2])
    assert lists(aggregate(votes, "mean")) == [[0.5, 0.75]]
    assert lists(aggregate(votes)) == [[0, 1]]
    assert notes(aggregate(votes))[0]["agreement"] == 0.5
    assert lists(aggregate(rated([[1, 2, 5]], weight=[1, 1, 2]), "median")) == [[3.5]]
    assert lists(aggregate(rated([[1, 2, 5]], weight=[1, 1, 3]), "median")) == [[5]]


def test_a_choice_goes_to_the_most_chosen_and_stays_shared_if_contested():
    def chosen(*places):
        return PreferenceData.from_columns(
            {
                "items": [["x", "y", "z"]] * len(places),
                "scores": np.eye(3)[list(places)].tolist(),
                "protocol": ["choice"] * len(places),
            }
        )

    assert lists(aggregate(chosen(0, 2, 2))) == [[0, 0, 1]]
    assert lists(aggregate(chosen(0, 2))) == [[1, 0, 1]]
    assert lists(aggregate(chosen(0, 2, 2, 0), tie="random", seed=1))[0] in ([1, 0, 0], [0, 0, 1])
    assert lists(aggregate(chosen(0, 2, 2), "mean")) == [pytest.approx([1 / 3, 0, 2 / 3])]
    with pytest.raises(ConfigError, match="choice among more than two"):
        aggregate(chosen(0, 2), "dawid_skene")


def test_alternatives_rated_together_are_settled_one_by_one():
    votes = PreferenceData.from_columns(
        {
            "items": [["x", "y"], ["y", "x"], ["x", "y"]],
            "scores": [[1, 5], [4, 1], [2, NAN]],
            "protocol": ["rating"] * 3,
            "aspect": ["fun"] * 3,
        }
    )
    gold = aggregate(votes)
    assert lists(gold) == [[1, 4]]
    assert notes(gold) == [{"n_votes": 3, "agreement": pytest.approx((2 / 3 + 1 / 2) / 2), "contested": True}]
    assert gold.column("aspect").to_pylist() == ["fun"]


def test_equal_responses_of_one_judgment_stay_two():
    votes = PreferenceData.from_columns(
        {"responses": [["same", "same"]] * 3, "scores": [[1, 0], [1, 0], [0, 1]]}
    )
    assert lists(aggregate(votes)) == [[1, 0]]


def test_rankings_have_means_and_medians_only():
    votes = PreferenceData.from_columns(
        {
            "items": [["x", "y", "z"], ["z", "y", "x"]],
            "scores": [[-1, -2, -3], [-1, -3, -2]],
            "protocol": ["ranking"] * 2,
        }
    )
    assert lists(aggregate(votes, "mean")) == [[-1.5, -2.5, -2]]
    with pytest.raises(ConfigError, match="row 1 compares more than two alternatives"):
        aggregate(votes)


def test_things_nobody_judged_stay_without_scores():
    votes = rated([[NAN, NAN], [1, 1]])
    gold = aggregate(votes)
    np.testing.assert_array_equal(gold.scores, [NAN, 1])
    assert notes(gold)[0] == {"n_votes": 0, "agreement": None, "contested": False}
    weightless = aggregate(rated([[2, 1], [1, 1]], weight=[0, 0, 1, 1]), "mean")
    np.testing.assert_array_equal(weightless.scores, [NAN, 1])


def test_an_annotators_last_judgment_of_a_thing_counts():
    votes = voted("a", "b", "b", annotator=["w", "w", "v"])
    with pytest.warns(PalateWarning, match="1 judgments repeat an annotator's earlier one"):
        gold = aggregate(votes)
    assert lists(gold) == [[0, 1]]
    assert notes(gold)[0]["n_votes"] == 2


def test_what_cannot_be_aggregated_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'majority'"):
        aggregate(rated(SHEET), "majorty")
    with pytest.raises(ConfigError, match="unknown rule for ties"):
        aggregate(rated(SHEET), tie="first")
    with pytest.raises(ConfigError, match="items, responses or media"):
        aggregate(PreferenceData.from_columns({"features": [[[1.0], [2.0]]], "scores": [[1, 0]]}))
    with pytest.raises(DataError, match="row 2, field 'annotator'"):
        aggregate(voted("a", "b", annotator=["w", None]), "dawid_skene")
    with pytest.raises(DataError, match="150 different values"):
        aggregate(rated(np.arange(150).reshape(50, 3).tolist()), "dawid_skene")


def simulated(seed, tasks=300, annotators=12, labels=3, per_task=5):
    """Votes of annotators of known accuracy: (truth, task, annotator, label, accuracy)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, tasks)
    accuracy = rng.uniform(0.35, 0.95, annotators)
    annotator = np.concatenate([rng.choice(annotators, per_task, replace=False) for _ in range(tasks)])
    task = np.repeat(np.arange(tasks), per_task)
    right = rng.random(len(task)) < accuracy[annotator]
    wrong = (truth[task] + rng.integers(1, labels, len(task))) % labels
    return truth, task, annotator, np.where(right, truth[task], wrong), accuracy


def test_dawid_skene_finds_who_is_reliable_and_beats_the_majority():
    ahead = []
    for seed in range(3):
        truth, task, annotator, label, accuracy = simulated(seed)
        found = dawid_skene(task, annotator, label)
        assert found.converged
        assert np.corrcoef(found.reliability, accuracy)[0, 1] > 0.95
        counts = np.zeros((len(truth), 3))
        np.add.at(counts, (task, label), 1)
        ahead.append((found.labels == truth).mean() - (counts.argmax(axis=1) == truth).mean())
        np.testing.assert_allclose(found.posterior.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(found.confusion.sum(axis=2), 1, rtol=1e-12)
    assert min(ahead) > 0


def test_unsmoothed_dawid_skene_agrees_with_crowd_kit_step_by_step():
    pd = pytest.importorskip("pandas")
    crowdkit = pytest.importorskip("crowdkit.aggregation")
    _, task, annotator, label, _ = simulated(7, tasks=150, annotators=8)
    frame = pd.DataFrame({"task": task, "worker": annotator, "label": label})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about the peer
        peer = crowdkit.DawidSkene(n_iter=40, tol=-np.inf).fit(frame)

    def after(steps):
        with pytest.warns(PalateWarning, match="did not settle"):
            return dawid_skene(task, annotator, label, smoothing=0, tolerance=1e-300, max_iterations=steps)

    np.testing.assert_allclose(after(40).posterior, peer.probas_[[0, 1, 2]].to_numpy(), atol=1e-6)
    # The peer ends with the confusions and the prior of its last posterior, which are those of our next step.
    found = after(41)
    np.testing.assert_allclose(found.prior, peer.priors_[[0, 1, 2]].to_numpy(), atol=1e-6)
    for k in range(8):
        theirs = peer.errors_.loc[k].loc[[0, 1, 2], [0, 1, 2]].to_numpy().T
        np.testing.assert_allclose(found.confusion[k], theirs, atol=1e-6)


def test_the_majority_agrees_with_crowd_kit_where_it_is_not_contested():
    pd = pytest.importorskip("pandas")
    crowdkit = pytest.importorskip("crowdkit.aggregation")
    _, task, annotator, label, _ = simulated(3)
    peer = crowdkit.MajorityVote().fit_predict(
        pd.DataFrame({"task": task, "worker": annotator, "label": label})
    )
    gold = aggregate(rated(label.reshape(-1, 5).tolist()))
    clear = np.array([not note["contested"] for note in notes(gold)])
    assert 0.7 < clear.mean() < 1
    np.testing.assert_array_equal(gold.scores[clear], peer.sort_index().to_numpy()[clear])


def test_the_steps_of_em_never_lower_the_likelihood():
    _, task, annotator, label, _ = simulated(1, tasks=60)
    likelihoods = []
    for steps in (1, 2, 5, 20, 80):
        with pytest.warns(PalateWarning, match="did not settle"):
            found = dawid_skene(task, annotator, label, smoothing=0, tolerance=1e-300, max_iterations=steps)
        likelihoods.append(found.log_likelihood)
    assert (np.diff(likelihoods) >= -1e-9).all()
    assert likelihoods[-1] > likelihoods[0] + 1


def test_a_vote_of_weight_two_is_two_votes():
    _, task, annotator, label, _ = simulated(2, tasks=50)
    weight = np.where(np.arange(len(task)) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(len(task)), weight.astype(int))
    first = dawid_skene(task, annotator, label, weight=weight)
    second = dawid_skene(task[twice], annotator[twice], label[twice])
    np.testing.assert_allclose(first.posterior, second.posterior, atol=1e-4)


def test_arrays_that_are_no_votes_are_refused():
    one, two = np.array([0]), np.array([0, 1])
    with pytest.raises(ConfigError, match="one entry per vote"):
        dawid_skene(one, two, two)
    with pytest.raises(ConfigError, match="annotator must hold codes"):
        dawid_skene(two, np.array([0, -1]), two)
    with pytest.raises(ConfigError, match="beyond the 1 labels"):
        dawid_skene(two, two, two, n_labels=1)
    with pytest.raises(ConfigError, match="no votes"):
        dawid_skene(one[:0], one[:0], one[:0])
    with pytest.raises(ConfigError, match="smoothing of 0 or more"):
        dawid_skene(two, two, two, smoothing=-1)


def battles(frame, first, second, prompt, choice, left, right, annotator=None):
    scores = np.stack([frame[choice] != right, frame[choice] != left], axis=1).astype(float)
    columns = {
        "prompt_id": frame[prompt].cast(pl.String).to_arrow(),
        "items": frame.select(pl.concat_list(pl.col(first), pl.col(second)).alias("items"))[
            "items"
        ].to_arrow(),
        "scores": scores.tolist(),
    }
    if annotator:
        columns["annotator"] = frame[annotator].cast(pl.String).to_arrow()
    return PreferenceData.from_columns(columns)


def outcome(gold):
    """+1, 0 or -1 for each gold judgment, in order."""
    scores = gold.scores.reshape(-1, 2)
    return np.sign(scores[:, 0] - scores[:, 1])


@pytest.mark.parametrize(
    ("judge", "all_pairs", "decided", "n_decided"),
    [("gpt4", 0.523, 0.661, 1660), ("gpt3", 0.476, 0.616, 1564)],
)
def test_model_judges_agree_with_the_crowds_mean_vote_to_the_stated_degree(
    shared_data, judge, all_pairs, decided, n_decided
):
    crowd = pl.read_csv(shared_data / "llmfao" / "crowd-comparisons.csv.gz")
    model = pl.read_csv(shared_data / "llmfao" / f"{judge}-crowd-comparisons.csv.gz")
    gold = aggregate(battles(crowd, "left", "right", "id", "winner", "left", "right", "worker"), "mean")
    verdicts = dict(zip(model["id"].cast(pl.String), model["winner"], strict=True))
    named = {"left": 1, "right": -1, "tie": 0}
    theirs = np.array([named[verdicts[pair]] for pair in gold.column("prompt_id").to_pylist()])
    ours = outcome(gold)
    both = (ours != 0) & (theirs != 0)
    assert len(gold) == 2139
    assert round((ours == theirs).mean(), 3) == all_pairs
    assert (round((ours == theirs)[both].mean(), 3), both.sum()) == (decided, n_decided)


def test_who_is_reliable_beats_plain_votes_on_arguments(shared_data):
    folder = shared_data / "ukp-convarg"
    pairs = pl.read_parquet(folder / "pairs.parquet")
    frame = pl.read_parquet(folder / "judgments.parquet").join(pairs, on="pair_id", maintain_order="left")
    votes = battles(frame, "argument_1", "argument_2", "pair_id", "choice", "a1", "a2", "annotator")
    labels = {"a1": 1, "a2": -1, "equal": 0, None: 9}
    published = dict(zip(pairs["pair_id"], pairs["gold"], strict=True))
    right = {}
    for method in ("mean", "majority", "dawid_skene"):
        gold = aggregate(votes, method)
        truth = np.array([labels[published[pair]] for pair in gold.column("prompt_id").to_pylist()])
        known = truth != 9
        assert known.sum() == 16_081
        right[method] = (outcome(gold) == truth)[known].mean()
    assert round(right["mean"], 3) == 0.780
    assert right["mean"] < right["majority"] < right["dawid_skene"]

    workers = pl.read_parquet(folder / "annotators.parquet")
    code = {name: i for i, name in enumerate(workers["annotator"])}
    task = np.unique(frame["pair_id"].to_numpy().astype(str), return_inverse=True)[1]
    said = frame["choice"].replace_strict({"a1": 0, "a2": 1, "equal": 2}).to_numpy()
    who = frame["annotator"].replace_strict(code).to_numpy()
    found = dawid_skene(task, who, said, tolerance=1e-4)
    assert spearmanr(found.reliability, workers["competence"].to_numpy()).statistic > 0.7


def test_every_irony_label_counts_once(shared_data):
    frame = pl.read_parquet(shared_data / "multipico" / "annotations.parquet")
    votes = PreferenceData.from_columns(
        {
            "prompt_id": frame["item"].cast(pl.String).to_arrow(),
            "responses": [["the reply"]] * len(frame),
            "scores": frame["ironic"].cast(pl.Float64).to_numpy()[:, None],
            "annotator": frame["annotator"].to_arrow(),
            "protocol": ["rating"] * len(frame),
        }
    )
    gold = aggregate(votes, "mean")
    counted = np.array([note["n_votes"] for note in notes(gold)])
    assert (len(gold), counted.sum()) == (6761, 33_871)
    assert round((gold.scores @ counted) / counted.sum(), 3) == 0.329


def test_votes_over_six_emotions_give_the_published_agreement(shared_data):
    frame = pl.read_parquet(shared_data / "crema-d" / "votes.parquet").filter(pl.col("clip_type") == "face")
    counts = frame.select(list("ADFHNS")).to_numpy()
    clip, emotion = np.nonzero(counts)
    names = ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
    votes = PreferenceData.from_columns(
        {
            "prompt_id": frame["fileName"].gather(clip).to_arrow(),
            "items": [names] * len(clip),
            "scores": np.eye(6)[emotion].tolist(),
            "weight": counts[clip, emotion].astype(float),
            "protocol": ["choice"] * len(clip),
        }
    )
    gold = aggregate(votes)
    assert len(gold) == 7442
    agreement = np.array([note["agreement"] for note in notes(gold)])
    np.testing.assert_allclose(agreement, frame["agreement"], atol=5e-4)
    contested = np.array([note["contested"] for note in notes(gold)])
    np.testing.assert_array_equal(contested, frame["emoVote"].str.contains(":").to_numpy())
