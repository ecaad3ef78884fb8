"""A classifier learns labels and which inputs are more of their class, from votes, comparisons or a judge."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from palate.data import LabelPreferences, preferences_from_votes, vote_shares
from palate.data.label_preferences import random_partners
from palate.errors import ConfigError, DataError, PalateError, PalateWarning
from palate.judges import LengthJudge
from palate.judges.base import Comparison, Judge
from palate.reward import PreferenceAugmentedClassifier
from palate.reward.label_preferences import LabelJudge, preferences_from_judge
from palate.reward.partners import PartnerGroups, disagreement

QUICK = {"steps": 60, "batch_size": 40, "learning_rate": 0.01}


def voted(n: int = 120, seed: int = 0, d: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, votes of nine annotators on two classes, and the class with more votes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    second = rng.binomial(9, 1 / (1 + np.exp(-2 * (x[:, 0] - x[:, 1]))))
    votes = np.stack([9 - second, second], axis=1)
    return x, votes, votes.argmax(axis=1)


def small(**params: Any) -> PreferenceAugmentedClassifier:
    return PreferenceAugmentedClassifier(**{"hidden": (16,), "training": QUICK, **params})


# -- preferences from votes --


def test_the_input_with_the_larger_share_of_votes_is_more_of_the_class():
    votes = [[5, 0], [3, 2], [6, 4], [1, 4], [0, 5]]
    found = preferences_from_votes(votes, [0, 0, 0, 1, 1])
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 2], [3, 4]]
    assert found.preference.tolist() == [1, 1, 2, 0]
    decided = preferences_from_votes(votes, [0, 0, 0, 1, 1], tie="drop")
    assert decided.preference.tolist() == [1, 1, 0]


def test_a_vote_for_both_classes_counts_half_for_each():
    assert vote_shares([[2 + 0.5, 1 + 0.5]]).tolist() == [[0.625, 0.375]]


def test_random_partners_are_others_of_the_same_class():
    label = np.array([2, 0, 1, 0, 2, 2, 0, 1, 7])
    pairs = random_partners(label, 50, 0)
    first, second = pairs.T
    assert (label[first] == label[second]).all()
    assert (first != second).all()
    assert np.bincount(first, minlength=9).tolist() == [50] * 8 + [0]  # nothing is paired with the only 7
    for input_ in range(8):
        others = np.flatnonzero((label == label[input_]) & (np.arange(9) != input_))
        assert set(second[first == input_]) == set(others)


def test_comparisons_become_judgments_whose_prompt_is_the_class():
    comparisons = LabelPreferences(np.array([[0, 1], [1, 0], [0, 1]]), np.array([1, 1, 2]))
    data = comparisons.judgments(["great!", "fine"], ["positive", "positive"], annotator="crowd")
    assert data.column("prompt").to_pylist() == ["positive"] * 3
    assert data.column("responses").to_pylist()[1] == ["fine", "great!"]
    assert data.scores.reshape(3, 2).tolist() == [[1, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("votes", "labels", "message"),
    [
        ([[1, 2], [0, 0]], [1, 1], r"row 2, field 'votes': an input nobody voted on \(1 of 2\); drop it"),
        ([[1, 2], [-1, 2]], [1, 1], "row 2, field 'votes': a count of votes that is negative"),
        ([[1, 2], [1, 2]], [1, 2], "row 2, field 'labels': the label 2 is no column"),
        ([[1, 2], [1, 2]], [1], "labels of shape"),
    ],
)
def test_votes_that_say_nothing_are_refused(votes, labels, message):
    with pytest.raises(DataError, match=message):
        preferences_from_votes(votes, labels)


# -- partners --


def groups(sampler: str, *, given: LabelPreferences | None = None, state: Any = None) -> PartnerGroups:
    x, votes, label = voted(20)
    shares = vote_shares(votes)
    return PartnerGroups(x, label, np.arange(20), shares, given, sampler, 3, state)


def test_partners_change_from_pass_to_pass_and_share_the_label():
    made = groups("random")
    first = made.batch(range(20))
    second = made.batch(range(20))
    assert first["targets"].shape == (20, 2)
    assert not np.array_equal(first["inputs"], second["inputs"])
    (one, code), (other, _) = made.draw(5), made.draw(6)
    assert (made.label[one] == made.label).all()
    assert (one != other).any()
    gap = made.own - made.own[one]
    assert code.tolist() == np.where(gap == 0, 2, gap > 0).tolist()


def test_given_comparisons_are_turned_round_for_their_second_input():
    _, _, label = voted(20)
    a, b, c = np.flatnonzero(label == 1)[:3]
    given = LabelPreferences(np.array([[a, b]]), np.array([0]))
    partner, code = groups("random", given=given).draw(0)
    assert (partner[a], code[a], partner[b], code[b]) == (b, 0, a, 1)
    assert code[c] == -1
    assert label[partner[c]] == label[c]
    targets = groups("random", given=given).batch([a, b, c])["targets"].numpy()
    assert targets[:2].tolist() == [[0, 1], [1, 0]]
    assert np.isnan(targets[2]).all()


def test_disagreement_counts_the_pairs_of_heads_with_different_orders():
    h1 = np.array([[1.0, 1, 1], [1, 1, -1], [1, 0, -1]])
    assert disagreement(h1, np.zeros((3, 3))).tolist() == [0, 2, 3]


def test_after_the_first_pass_the_partner_is_the_one_on_which_heads_differ_most():
    _, _, label = voted(20)
    h = np.random.default_rng(0).normal(size=(20, 3))
    made = groups("disagreement", state=lambda: (np.full((20, 2), 0.5), h))
    partner, _ = made.draw(1)
    for i in range(20):
        others = np.flatnonzero((label == label[i]) & (np.arange(20) != i))
        most = disagreement(np.repeat(h[i][None], len(others), 0), h[others]).max()
        assert disagreement(h[i][None], h[partner[i]][None])[0] == most


def test_inconsistency_never_draws_the_least_contradicted_comparison():
    x, _, label = voted(20)
    a, b, c = np.flatnonzero(label == 1)[:3]
    given = LabelPreferences(np.array([[a, b], [a, c]]), np.array([1, 1]))
    p = np.full((20, 2), 0.5)
    p[[a, b, c], 1] = [0.6, 0.5, 0.9]  # the pair with b is in order, that with c is not
    made = PartnerGroups(x, label, np.arange(20), None, given, "inconsistency", 0, lambda: (p, p))
    assert all(made.draw(number)[0][a] == c for number in range(1, 20))


# -- the classifier --


@pytest.fixture(scope="module")
def by_margin() -> PreferenceAugmentedClassifier:
    x, votes, y = voted()
    names = np.array(["calm", "loud"])[y]
    return small(consistency="margin").fit(x, names, soft_labels=vote_shares(votes))


def test_it_learns_the_label_and_who_is_more_of_it(by_margin):
    model = by_margin
    test, test_votes, test_y = voted(400, seed=1)
    names = np.array(["calm", "loud"])[test_y]
    assert model.score(test, names) > 0.8
    pairs = preferences_from_votes(test_votes, test_y, partners=3)
    decided = pairs.preference != 2
    (a, b), code = pairs.pairs[decided].T, pairs.preference[decided]
    stated = model.prefer(test[a], test[b], names[a])
    assert ((stated > 0.5) == code).mean() > 0.7
    assert stated.min() >= 1 / (1 + np.exp(2)) - 1e-12
    assert np.allclose(stated, 1 - model.prefer(test[b], test[a], names[a]))


def test_texts_given_as_objects_are_labels_as_in_a_list():
    x, _, y = voted(n=40)
    names = np.array(["no", "yes"])[y]
    plain = {"lambda_pref": 0.0, "lambda_cons": 0.0, "training": {**QUICK, "steps": 5}}
    by_list, by_object = (small(**plain).fit(x, each) for each in (names.tolist(), names.astype(object)))
    assert by_object.classes_.tolist() == by_list.classes_.tolist() == ["no", "yes"]
    assert np.array_equal(by_object.predict_proba(x), by_list.predict_proba(x))
    with pytest.raises(DataError, match="several kinds"):
        small(**plain).fit(x, np.array([1, *names[1:]], dtype=object))


@pytest.mark.parametrize("label_input", ["embedding", "repeat"])
def test_preferences_tell_from_labels_alone_what_votes_would(label_input):
    """Comparisons without any votes, given as rows of numbers."""
    x, votes, y = voted()
    pairs = preferences_from_votes(votes, y, partners=4)
    rows = np.column_stack([pairs.pairs, pairs.preference])
    model = small(label_input=label_input).fit(x, y, rows)
    decided = pairs.preference != 2
    (a, b), code = pairs.pairs[decided].T, pairs.preference[decided]
    assert ((model.prefer(x[a], x[b], y[a]) > 0.5) == code).mean() > 0.75


@pytest.mark.parametrize("sampler", ["disagreement", "inconsistency"])
def test_other_partners_learn_too(sampler):
    x, votes, y = voted()
    model = small(sampler=sampler, consistency="margin").fit(x, y, soft_labels=vote_shares(votes))
    assert model.score(x, y) > 0.85


def test_plain_training_reads_no_votes():
    x, votes, y = voted()
    plain = {"lambda_pref": 0.0, "lambda_cons": 0.0, "lambda_div": 0.0, "training": {"steps": 5}}
    without = small(**plain).fit(x, y)
    beside = small(**plain).fit(x, y, soft_labels=vote_shares(votes))
    assert np.array_equal(without.predict_proba(x), beside.predict_proba(x))


def test_validation_keeps_the_best_pass():
    x, votes, y = voted()
    test, _, test_y = voted(200, seed=1)
    long = {**QUICK, "steps": 30, "learning_rate": 0.05}
    model = small(training=long).fit(x, y, soft_labels=vote_shares(votes), validation=(test, test_y))
    last = small(training=long).fit(x, y, soft_labels=vote_shares(votes))
    assert model.score(test, test_y) == model.fit_["validation_accuracy"]
    assert model.fit_["validation_accuracy"] >= last.score(test, test_y)
    assert model.fit_["chosen_step"] % 3 == 0


def test_it_has_the_habits_of_scikit_learn(by_margin):
    x, _, _ = voted()
    model = small(seed=4, lambda_div=0.2).set_params(heads=2)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.heads == 2
    model = by_margin
    assert model.classes_.tolist() == ["calm", "loud"]
    assert set(model.predict(x)) <= {"calm", "loud"}
    assert np.allclose(model.predict_proba(x).sum(axis=1), 1)
    assert np.array_equal(model.prefer(x[:3], x[3:6], "loud"), model.prefer(x[:3], x[3:6], ["loud"] * 3))
    with pytest.raises(ConfigError, match="unknown parameter"):
        model.set_params(head=1)


def test_a_saved_classifier_says_the_same(tmp_path, by_margin):
    x, _, _ = voted()
    model = by_margin
    back = PreferenceAugmentedClassifier.load(model.save(tmp_path / "model"))
    assert np.array_equal(back.predict_proba(x), model.predict_proba(x))
    assert np.array_equal(back.prefer(x, x[::-1], "loud"), model.prefer(x, x[::-1], "loud"))
    assert back.fit_ == model.fit_
    path = tmp_path / "model" / "classifier.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "version": 99}))
    with pytest.raises(ConfigError, match="version 99"):
        PreferenceAugmentedClassifier.load(tmp_path / "model")
    path.write_text(json.dumps({**state, "dim": 5}))
    with pytest.raises(ConfigError, match=r"does not hold what its classifier\.json says"):
        PreferenceAugmentedClassifier.load(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"classifier\.json is missing"):
        PreferenceAugmentedClassifier.load(tmp_path)


def test_an_input_alone_in_its_class_is_left_out_with_a_warning():
    x, votes, y = voted(40)
    three = y.copy()
    three[0] = 2
    pairs = preferences_from_votes(votes, y, partners=1)
    kept = (pairs.pairs != 0).all(axis=1)
    given = LabelPreferences(pairs.pairs[kept], pairs.preference[kept])
    with pytest.warns(PalateWarning, match="1 inputs are left out, each the only one of its class.*: 2"):
        model = small(training={"steps": 2}).fit(x, three, given)
    assert model.n_alone_ == 1


def test_inputs_in_no_comparison_are_counted():
    x, _, y = voted(40)
    a, b = np.flatnonzero(y == 1)[:2]
    model = small(training={"steps": 2}).fit(x, y, [[a, b, 1]])
    assert model.n_unjudged_ == 38


def bad(**changes: Any) -> None:
    x, votes, y = voted(20)
    params = changes.pop("params", {})
    given = {"X": x, "y": y, "soft_labels": vote_shares(votes), **changes}
    small(**params).fit(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preferences": [[0, 1, 3]]}, r"row 1, field 'preference': a preference of 3; give 1"),
        ({"preferences": [[0, 0, 1]]}, "input 0 is compared with itself"),
        ({"preferences": [[0, 99, 1]]}, "inputs 0 and 99 of a set of 20"),
        ({"preferences": [[0, 1]]}, "give rows"),
        ({"soft_labels": None, "params": {"consistency": "margin"}}, "field 'soft_labels': margins"),
        ({"soft_labels": None, "params": {"soft_targets": True}}, "field 'soft_labels': margins"),
        ({"soft_labels": None}, "there are no preferences to learn"),
        ({"soft_labels": np.full((20, 2), 0.4)}, "soft labels that are no shares"),
        ({"soft_labels": np.full((20, 3), 1 / 3)}, r"soft labels of shape \(20, 3\)"),
        ({"y": np.zeros(20)}, "every input has the same label"),
        ({"y": np.zeros(19)}, "labels of shape"),
        ({"y": np.arange(20), "soft_labels": None, "preferences": np.empty((0, 3), int)}, "no two inputs"),
        ({"X": np.full((20, 2), np.nan)}, "row 1, field 'X': a feature that is not finite"),
        ({"X": ["a text"] * 20}, "name an encoder for texts"),
        ({"params": {"sampler": "hardest"}}, "unknown sampler 'hardest'"),
        ({"params": {"heads": 0}}, "heads must be 1 or more"),
        ({"params": {"label_input": "one_hot"}}, "label_input"),
        ({"params": {"classes": [0, 7]}}, "the class 1 is unknown"),
        ({"params": {"classes": ["a", "b"]}}, "both as numbers or both as texts"),
    ],
)
def test_bad_input_gives_one_clear_error(changes, message):
    with pytest.raises(PalateError, match=message):
        bad(**changes)


def test_partners_of_another_class_are_refused_with_their_places():
    x, _, y = voted(20)
    a, b = np.flatnonzero(y == 0)[0], np.flatnonzero(y == 1)[0]
    with pytest.raises(DataError, match=rf"inputs {a} and {b} have different labels, 0 and 1 \(1 of 1 pairs"):
        small().fit(x, y, [[a, b, 1]])


def test_before_it_is_fitted_it_says_so():
    with pytest.raises(PalateError, match="has not been fitted"):
        small().predict(np.zeros((1, 2)))


# -- judges --

TEXTS = [
    "ok",
    "it was good",
    "it was very, very good indeed",
    "bad",
    "that was bad",
    "that was really very bad",
]
LABELS = ["positive"] * 3 + ["negative"] * 3


class Silent(Judge):
    """Answers only where the first text is the shorter."""

    native = frozenset({"compare"})
    order_matters = False

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        return Comparison(np.array([1.0 if len(x) < len(y) else np.nan for x, y in zip(a, b, strict=True)]))


def test_a_judge_says_which_input_is_more_of_its_class():
    asked = {"positive": "positive", "negative": "negative"}
    found = preferences_from_judge(LengthJudge(), TEXTS, LABELS, asked, partners=2, seed=1)
    assert len(found) == 12
    found.check(LABELS)
    lengths = np.array([len(text) for text in TEXTS])
    a, b = found.pairs.T
    assert found.preference.tolist() == (lengths[a] > lengths[b]).astype(int).tolist()


def test_questions_a_judge_cannot_answer_are_counted():
    asked = {"positive": "positive", "negative": "negative"}
    with pytest.warns(PalateWarning, match=r"could not answer \d+ of 24 questions"):
        found = preferences_from_judge(Silent(), TEXTS, LABELS, asked, partners=4)
    assert 0 < len(found) < 24
    assert (found.preference == 1).all()
    with pytest.raises(DataError, match="no text for the label 'negative'"):
        preferences_from_judge(Silent(), TEXTS, LABELS, {"positive": "x"})
    with pytest.raises(ConfigError, match="where the class goes"):
        preferences_from_judge(Silent(), TEXTS, LABELS, asked, question="Which?")


def test_a_classifier_of_texts_is_a_judge_of_its_classes(minilm, tmp_path):
    pairs = LabelPreferences(np.array([[2, 1], [1, 0], [5, 4], [4, 3]]), np.array([1, 1, 1, 1]))
    model = small(encoder=str(minilm), training={**QUICK, "batch_size": 6}).fit(TEXTS, LABELS, pairs)
    assert model.predict(TEXTS).tolist() == LABELS
    judge = LabelJudge(PreferenceAugmentedClassifier.load(model.save(tmp_path)))
    stated = judge.compare(["positive", "negative"], [TEXTS[2], TEXTS[3]], [TEXTS[0], TEXTS[5]]).probability
    assert stated[0] > 0.5 > stated[1]
    data = pairs.judgments(TEXTS, LABELS)
    assert judge.annotate(data).scores.reshape(4, 2)[:, 0].min() > 0.5
    with pytest.raises(DataError, match="'neutral' names no class"):
        judge.compare(["neutral"], ["a"], ["b"])
