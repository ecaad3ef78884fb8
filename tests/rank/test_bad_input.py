"""What every method answers to data that are odd, broken or hostile: the tables below are the specification.

An answer is a board, or the words of the one error. A board is always finite, its ranks are in order, and it
can be printed, saved and compared.
"""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.special import expit

import palate
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateError, PalateWarning
from palate.rank import count, methods
from palate.rank.battles import Battles
from palate.rank.registry import get, rank
from palate.runs import to_json

N = 120
START = datetime(2024, 1, 1, tzinfo=UTC)
OPTIONS = {"contextual_bt": {"position": True}}
"""What a method cannot do without."""

BOARD = "board"

# -- the inputs --


def judged(items, scores, **columns):
    """Judgments with all that any method asks for, unless a column is given as None."""
    n = len(items)
    given = {
        "items": items,
        "scores": scores,
        "annotator": [f"u{i % 4}" for i in range(n)],
        "aspect": ["overall" if i % 2 else "style" for i in range(n)],
        "time": [START + timedelta(days=i) for i in range(n)],
    }
    given |= columns
    return PreferenceData.from_columns({name: values for name, values in given.items() if values is not None})


def votes(n=N, size=4, ties=0.2, **columns):
    rng = np.random.default_rng(0)
    a = rng.integers(0, size, n)
    b = (a + rng.integers(1, size, n)) % size
    won = rng.random(n) < expit(0.7 * (a - b))
    scores = np.stack([won, ~won], axis=1).astype(float)
    scores[rng.random(n) < ties] = 1.0
    return judged([[f"m{i}", f"m{j}"] for i, j in zip(a, b, strict=True)], scores.tolist(), **columns)


def outcomes(*pairs, times=6):
    """Wins of the first named over the second, every other one shown the other way round."""
    rows = [pair.split(">") for _ in range(times) for pair in pairs]
    turned = [(row[::-1], [0, 1]) if i // len(pairs) % 2 else (row, [1, 0]) for i, row in enumerate(rows)]
    return judged([items for items, _ in turned], [scores for _, scores in turned])


def with_scores(change):
    data = votes()
    scores = [change(i, row) for i, row in enumerate(data.column("scores").to_pylist())]
    return judged(data.column("items").to_pylist(), scores)


def renamed(names):
    data = votes()
    items = [[names[int(item[1])] for item in row] for row in data.column("items").to_pylist()]
    return judged(items, data.column("scores").to_pylist())


def lists(k, protocol=None):
    """Judgments of `k` of five items; `choice` marks one of them."""
    rng = np.random.default_rng(0)
    items = [[f"m{j}" for j in rng.permutation(5)[:k]] for _ in range(60)]
    scores = rng.permuted(np.tile(np.arange(k), (60, 1)), axis=1)
    if protocol == "choice":
        scores = scores == k - 1
    return judged(items, scores.tolist(), protocol=None if protocol is None else [protocol] * 60)


def ratings(scores=None, **columns):
    rng = np.random.default_rng(0)
    given = {
        "annotator": [f"u{i // 4 % 5}" for i in range(60)],
        "protocol": ["rating"] * 60,
        "scale": ["interval"] * 60,
        "aspect": ["overall"] * 60,
    }
    scores = rng.integers(1, 6, 60) if scores is None else scores
    return judged([[f"m{i % 4}"] for i in range(60)], [[float(x)] for x in scores], **(given | columns))


def some(share, value, usual):
    """A column in which every tenth value is another."""
    return [value if i % 10 == 0 else usual(i) for i in range(N)]


HOSTILE = ["", "line\nbreak", '<b onclick="x">&amp;</b>', "\U0001f600 [red]x[/red] \u202e\u0000"]

INPUTS = {
    "plain": votes,
    "an item against itself": lambda: judged([["a", "b"], ["a", "a"], ["b", "a"]], [[1, 0]] * 3),
    "an item that never loses": lambda: outcomes("a>b", "a>c", "b>c", "c>b"),
    "an item that never wins": lambda: outcomes("b>a", "c>a", "b>c", "c>b"),
    "groups that never met": lambda: outcomes("a>b", "b>a", "c>d", "d>c"),
    "one item": lambda: judged([["a"], ["a"]], [[1], [0]]),
    "no judgments": lambda: votes().mask(np.zeros(N, dtype=bool)),
    "one vote": lambda: judged([["a", "b"]], [[1, 0]]),
    "one tie": lambda: judged([["a", "b"]], [[1, 1]]),
    "all ties": lambda: votes(ties=1.1),
    "all both bad": lambda: judged(
        [["a", "b"], ["b", "c"], ["c", "a"]] * 10, [[0, 0]] * 30, tie=["both_bad"] * 30
    ),
    "an annotator a vote": lambda: votes(annotator=[f"u{i}" for i in range(N)]),
    "one annotator": lambda: votes(annotator=["u"] * N),
    "no annotators": lambda: votes(annotator=None),
    "a missing annotator": lambda: votes(annotator=some(0.1, None, lambda i: f"u{i % 4}")),
    "no aspects": lambda: votes(aspect=None),
    "a missing aspect": lambda: votes(aspect=some(0.1, None, lambda i: "style")),
    "no times": lambda: votes(time=None),
    "a missing time": lambda: votes(time=some(0.1, None, lambda i: START)),
    "one time": lambda: votes(time=[START] * N),
    "zero weights": lambda: votes(weight=[float(i % 3 > 0) for i in range(N)]),
    "no weight": lambda: votes(weight=[0.0] * N),
    "weights from 1e-12 to 1e12": lambda: votes(
        weight=(10.0 ** np.random.default_rng(1).uniform(-12, 12, N)).tolist()
    ),
    "weights of 1e300": lambda: votes(weight=[1e300] * N),
    "weights of 1e-300": lambda: votes(weight=[1e-300] * N),
    "missing scores": lambda: with_scores(lambda i, row: [float("nan"), 1.0] if i % 10 == 0 else row),
    "scores of 1e300": lambda: with_scores(lambda i, row: [x * 1e300 for x in row]),
    "hostile names": lambda: renamed(HOSTILE),
    "choices": lambda: lists(3, "choice"),
    "rankings": lambda: lists(4),
    "rankings of one": lambda: PreferenceData.from_columns(
        {"items": [["a"], ["b"]] * 3, "scores": [[-1.0]] * 6, "protocol": ["ranking"] * 6}
    ),
    "ratings": ratings,
    "equal ratings": lambda: ratings([3.0] * 60),
    "ratings of 1e300": lambda: ratings([1e300 * (1 + i % 3) for i in range(60)]),
    "counts": lambda: count(votes()),
    "battles": lambda: Battles.from_columns(
        ["a", "b", "c"] * 20, ["b", "c", "a"] * 20, ["model_a", "tie", "model_b", "model_b"] * 15
    ),
    "no items": lambda: PreferenceData.from_columns({"responses": [["x", "y"]], "scores": [[1, 0]]}),
    "a list": lambda: [["a", "b"]],
}

# -- the answers --

PAIR_MODELS = (
    "bradley_terry", "composite_bt", "contextual_bt", "davidson", "ilsr", "lsr", "plackett_luce",
    "rank_centrality", "rao_kupper", "thurstone",
)  # fmt: skip
"""Methods that have no finite estimate where an item never lost or won."""
SKILLS = ("openskill", "trueskill", "weng_lin")
ONE_BY_ONE = ("elo", *SKILLS)
VOTERS = ("crowd_bt", "factor_bt")
TIE_MODELS = ("davidson", "rao_kupper")
COUNTED_FIRST = ("composite_bt", "dynamic_bt", *VOTERS, *ONE_BY_ONE)


def all_of(names, answer):
    return dict.fromkeys(names, answer)


NO_ORDER = {
    "contextual_bt": "'position' is about a battle's order, which a judgment of more than two has not",
    "factor_bt": "more than two items, of which none is first",
}
ALL_TIES = all_of(TIE_MODELS, "every comparison is a tie") | {"factor_bt": "the second item never wins"}
NOTHING_COMPARED = all_of(
    methods(),
    "every judgment scores a single item, so nothing is compared; rank ratings with",
)
OUT_OF_RANGE = all_of(
    methods(), r"row 1, field 'weight': the weight 1e[+-]300 is not within 1e-60 and 1e\+15"
)

ANSWERS = {
    "plain": {},
    "an item against itself": all_of(
        methods(), "row 2, field 'items': the item 'a' is compared with itself; drop the row"
    ),
    "an item that never loses": all_of(PAIR_MODELS, r"no finite estimate: a never lost; set \w+ > 0 or drop"),
    "an item that never wins": all_of(PAIR_MODELS, r"no finite estimate: a never won; set \w+ > 0 or drop"),
    "groups that never met": all_of(
        PAIR_MODELS, r"the items fall into 2 groups that never met: \(a, b\), \(c, d\); .* set \w+ > 0"
    ),
    "one item": all_of(methods(), r"only one item \('a'\); a ranking needs two or more"),
    "no judgments": all_of(methods(), "no judgments to rank"),
    "one vote": all_of(PAIR_MODELS, "a never lost, b never won")
    | {
        "factor_bt": "the second item never wins",
        "eigenvector": "no chain of wins returns to where",
    },
    "one tie": ALL_TIES | {"contextual_bt": "the feature 'position' follows from the items"},
    "all ties": ALL_TIES,
    "all both bad": ALL_TIES,
    "an annotator a vote": {},
    "one annotator": {},
    "no annotators": all_of(VOTERS, "field 'annotator': the judgments name no annotators"),
    "a missing annotator": all_of(VOTERS, r"row 1, field 'annotator': no annotator \(and 11 more\)"),
    "no aspects": {"composite_bt": "field 'aspect': no judgment names an aspect"},
    "a missing aspect": {"composite_bt": "row 1, field 'aspect'"},
    "no times": {"dynamic_bt": r"row 1, field 'time': a judgment without a time \(and 119 more\)"},
    "a missing time": {"dynamic_bt": r"row 1, field 'time': a judgment without a time \(and 11 more\)"},
    "one time": {},
    "zero weights": {},
    "no weight": all_of(methods(), "every weight is 0"),
    "weights from 1e-12 to 1e12": all_of(SKILLS, r"row 1, field 'weight': \w+ knows no weights"),
    "weights of 1e300": OUT_OF_RANGE,
    "weights of 1e-300": OUT_OF_RANGE,
    "missing scores": {},
    "scores of 1e300": {},
    "hostile names": {},
    "choices": NO_ORDER | {"trueskill": "row 1, .*leaves some of its items uncompared"},
    "rankings": NO_ORDER,
    "rankings of one": NOTHING_COMPARED | {"composite_bt": "no judgment names an aspect"},
    "ratings": NOTHING_COMPARED | {"mean_opinion_score": BOARD},
    "equal ratings": NOTHING_COMPARED | {"mean_opinion_score": "every rating is 3, which tells no item from"},
    "ratings of 1e300": NOTHING_COMPARED
    | {"mean_opinion_score": r"row 1, field 'scores': the rating 1e\+300 is beyond 1e\+100"},
    "counts": all_of(COUNTED_FIRST, "(counts|counted comparisons|battles)")
    | {"contextual_bt": "needs the battles one by one", "mean_opinion_score": "needs ratings"},
    "battles": all_of(("composite_bt", "dynamic_bt", *VOTERS), "battles|counts")
    | {"mean_opinion_score": "needs ratings"},
    "no items": all_of(methods(), "field 'items': the judgments name no items")
    | {"composite_bt": "no judgment names an aspect"},
    "a list": all_of(methods(), "cannot rank a list; read files with palate.load"),
}
"""Input -> method -> the error; methods that are not named answer with a board."""


def answer(name, method):
    """The stated answer of a method to an input."""
    answers = ANSWERS[name]
    if method != "mean_opinion_score":
        return answers.get(method, BOARD)
    if name == "rankings of one":
        return "every rating is -1, which tells no item from another"
    if method in answers and name not in ("an item against itself", "no weight"):
        return answers[method]
    return r"row 1, field 'protocol': a comparison, not a rating( \(and \d+ more\))?; keep"


@pytest.fixture(scope="module")
def given():
    """Each input once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = INPUTS[name]()
        return made[name]

    return make


def check(board):
    """A board that can be believed and shown."""
    table = board.table
    for name in ("strength", "rating", "lower", "upper"):
        if table[name].null_count() < table.height:
            assert np.isfinite(table[name].to_numpy()).all(), name
    assert abs(table["strength"].mean()) <= 1e-6 * max(1.0, table["strength"].abs().max())
    assert table["item"].n_unique() == table.height
    if table["rank_best"].null_count() == 0:
        best, worst = table["rank_best"].to_numpy(), table["rank_worst"].to_numpy()
        assert ((best >= 1) & (best <= worst) & (worst <= table.height)).all()
        assert np.isfinite(board.compare(*table["item"].head(2))).all()
    saved = json.loads(to_json(board.to_json()))
    assert {"method", "items", "diagnostics"} <= set(saved)
    assert len(repr(board).splitlines()) == 2 + table.height
    assert all(isinstance(line, str) and line for line in board.diagnostics["advice"])


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize("name", INPUTS)
def test_every_method_has_a_stated_answer(given, name, method):
    expected = answer(name, method)
    with warnings.catch_warnings():
        # Numerical warnings are errors; words of advice are part of an answer.
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PalateWarning)
        if expected == BOARD:
            board = rank(given(name), method, **OPTIONS.get(method, {}))
            check(board)
            return
        with pytest.raises((DataError, ConfigError), match=expected) as caught:
            rank(given(name), method, **OPTIONS.get(method, {}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", sorted(set(methods()) - {"mean_opinion_score"}))
@pytest.mark.parametrize(("name", "left_out"), [("zero weights", 40), ("missing scores", 12)])
def test_judgments_that_were_left_out_are_counted(given, name, left_out, method):
    found = rank(given(name), method, **OPTIONS.get(method, {})).diagnostics
    assert found["judgments_without_comparison"] == left_out
    assert found["comparisons"] == N - left_out
    assert any(str(left_out) in line and "compare nothing" in line for line in found["advice"])


def test_ratings_that_were_left_out_are_counted():
    scores = [float("nan") if i % 10 == 0 else float(i % 5) for i in range(60)]
    found = rank(ratings(scores, weight=[float(i != 3) for i in range(60)]), "mean_opinion_score").diagnostics
    assert (found["scores_not_given"], found["scores_without_weight"]) == (6, 1)


@pytest.mark.parametrize("method", [m for m in methods() if m not in ("mean_opinion_score", "dynamic_bt")])
def test_a_judgment_given_twice_counts_twice(method):
    data = votes(time=None)
    twice = PreferenceData(data.table.take([i for i in range(N) for _ in range(2)]))
    one, two = (rank(x, method, **OPTIONS.get(method, {})) for x in (data, twice))
    assert two.diagnostics["comparisons"] == 2 * one.diagnostics["comparisons"]


def test_the_same_id_twice_is_refused():
    with pytest.raises(DataError, match=r"row 2, field 'id'"):
        judged([["a", "b"]] * 2, [[1, 0]] * 2, id=["x", "x"])


def test_groups_that_never_met_are_said_of_every_board(given):
    for method in methods():
        if answer("groups that never met", method) != BOARD:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PalateWarning)
            board = rank(given("groups that never met"), method)
        assert board.diagnostics["components"] == 2, method
        assert "never met" in board.diagnostics["advice"][0], method


def test_all_ties_say_that_intervals_have_no_width(given):
    board = palate.rank(given("all ties"))
    assert set(board.strengths.values()) == {0.0}
    assert board.compare("m0", "m1") == (0.0, 0.0, 1.0)
    assert any("the width of every interval" in line for line in board.diagnostics["advice"])
    told = palate.rank(given("all ties"), interval="hessian")
    assert (told.table["upper"] - told.table["lower"]).min() > 0


# -- from files and columns --


@pytest.mark.parametrize("label", ["left", "3", "", "None", "model_c"])
def test_an_unknown_winner_is_named_with_its_row(tmp_path, label):
    path = tmp_path / "votes.csv"
    path.write_text(f"model_a,model_b,winner\na,b,model_a\nb,a,tie\na,b,{label}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"votes\.csv: row 3, field 'winner'"):
        palate.load(path, format="arena")
    with pytest.raises(DataError, match=r"row 3, field 'winner'"):
        Battles.from_columns(["a", "b", "a"], ["b", "a", "b"], ["model_a", "tie", label])


@pytest.mark.parametrize("weight", [-1.0, float("inf"), 1e300, 1e-300, "heavy", None])
def test_a_weight_that_is_none_is_named_with_its_row(weight):
    with pytest.raises(DataError, match="field 'weight'"):
        Battles.from_columns(["a", "b"], ["b", "a"], [1, 0], weight=[weight, weight])
    if isinstance(weight, float):
        with pytest.raises(DataError, match="row 1, field 'weight'"):
            palate.rank(judged([["a", "b"], ["b", "a"]], [[1, 0]] * 2, weight=[weight, 1.0]))


def test_infinite_scores_are_refused():
    with pytest.raises(DataError, match="row 1, field 'scores': an infinite score"):
        with_scores(lambda i, row: [float("inf"), 0.0])


# -- options --

WRONG = {
    "level": (0, 1, 1.5, -1, float("nan"), "high", None, True),
    "l2": (-1, float("nan"), float("inf"), "x", None, True),
    "alpha": (-1, float("nan"), "x"),
    "anchor": (
        "nobody",
        {"nobody": 1},
        {"m0": float("nan")},
        {"m0": "x"},
        {"m0": 1, "m1": 2},
        {"m0": True},
        3,
    ),
    "ties": ("x", None, 1),
    "both_bad": ("x", None),
    "weights": ("x", None),
    "interval": ("x", None),
    "cluster": ("x", 3, [1, 2]),
    "max_iter": (0, 1.5, "x"),
    "max_iterations": (0, 1.5, "x"),
    "exact_items": (-1, 1.5, "x"),
    "time_limit": (-1, "x"),
    "damping": (1, -0.1, "x"),
    "virtual": (-1, 0, "x"),
    "prior": ((0, 0), 1, "x", None),
    "reliability": (2, -1, float("nan"), "x", {"u0": 3}, {"nobody": 0.5}),
    "periods": (0, 1.5, "fortnight", None),
    "drift": (-1, float("nan"), "x", None),
    "sigma": (0, -1, "x"),
    "draw_probability": (1, -1, "x"),
    "k": (0, -1, float("nan"), "x"),
    "base": (1, "x"),
    "order": ("x",),
    "correction": ("x",),
    "shrinkage": (-1, "x"),
    "partial": ("x",),
    "strength": ("x",),
    "aspect_weights": ({"x": 1}, {"style": -1}, {"style": 0, "overall": 0}, 3, "x"),
}


@pytest.mark.parametrize("option", WRONG)
def test_an_option_out_of_range_is_named(given, option):
    asked = [method for method in methods() if option in get(method).parameters()]
    assert asked
    for method in asked:
        data = given("ratings") if method == "mean_opinion_score" else given("plain")
        for value in WRONG[option]:
            options = OPTIONS.get(method, {}) | {option: value}
            with pytest.raises(ConfigError, match=rf"\b({option}|aspect|annotator|weight)\b"):
                rank(data, method, **options)


@pytest.mark.parametrize("value", ["x", -1, 1.5, None, True])
def test_a_seed_is_a_whole_number(given, value):
    for method, options in {"bradley_terry": {"interval": "bootstrap"}, "elo": {"order": "average"}}.items():
        with pytest.raises(ConfigError, match="seed is"):
            rank(given("plain"), method, seed=value, **options)


@pytest.mark.parametrize("value", [0, 1, -3, 2.5, "x", None, True])
def test_replicates_are_a_whole_number_of_two_or_more(given, value):
    with pytest.raises(ConfigError, match=r"replicates is .*; use a whole number of 2 or more"):
        palate.rank(given("plain"), interval="bootstrap", replicates=value)


@pytest.mark.parametrize("method", methods())
def test_a_misspelt_option_is_named_with_those_there_are(given, method):
    with pytest.raises(ConfigError, match=rf"unknown option of {method} 'levle'; .*known: "):
        rank(given("plain"), method, levle=0.9)


# -- features --

NUMBERS = np.random.default_rng(0).uniform(0, 9, (N, 2))
FEATURES = {
    "NaN": (np.full(N, np.nan), "row 1, field 'f'"),
    "one missing": (np.where(np.arange(N) == 6, np.nan, 1.0 * np.arange(N)), "row 7, field 'f'"),
    "infinite": (np.where(np.arange(N) == 6, np.inf, 1.0 * np.arange(N)), "row 7, field 'f'"),
    "huge": (np.where(np.arange(N) == 6, 1e300, 1.0 * np.arange(N)), "row 7, field 'f'"),
    "too few": (np.ones(7), r"the feature 'f' has shape \(7,\)"),
    "three a judgment": (np.ones((N, 3)), r"the feature 'f' has shape \(120, 3\)"),
    "a number": (3, r"the feature 'f' has shape \(\)"),
    "a text": ("long", "the feature 'f' is (a text|not numeric)"),
    "objects": ([object()] * N, "the feature 'f' is (neither numbers nor texts|not numeric)"),
}


@pytest.mark.parametrize("method", ["contextual_bt", "factor_bt"])
@pytest.mark.parametrize("kind", FEATURES)
def test_a_feature_that_cannot_be_used_is_named(given, kind, method):
    values, message = FEATURES[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PalateError, match=message):
            rank(given("plain"), method, features={"f": values})


@pytest.mark.parametrize("features", [3, "f", {}, {3: np.ones(N)}, [("f", np.ones(N))]])
def test_features_are_a_mapping_of_names_to_values(given, features):
    with pytest.raises(ConfigError, match="feature"):
        rank(given("plain"), "contextual_bt", features=features)


def test_a_constant_feature_changes_nothing_and_is_reported(given):
    plain = rank(given("plain"), "contextual_bt", features={"length": NUMBERS})
    more = rank(given("plain"), "contextual_bt", features={"length": NUMBERS, "same": np.full((N, 2), 7.0)})
    assert more.diagnostics["constant_features"] == ["same"]
    assert more.strengths == pytest.approx(plain.strengths)


def test_collinear_features_are_named(given):
    twins = {"length": NUMBERS, "twice": 2 * NUMBERS}
    with pytest.raises(DataError, match=r"the feature 'twice' follows from .*length; drop it"):
        rank(given("plain"), "contextual_bt", features=twins, transform="diff")
    board = rank(given("plain"), "contextual_bt", features=twins, transform="diff", l2_features=1.0)
    assert np.isfinite(board.coefficients["coefficient"].to_numpy()).all()


# -- very many items --

LARGE = 100_000


def test_a_hundred_thousand_items_get_a_board_in_bounded_memory():
    """A ring of items, each of which beat the next, and lost to it, once."""
    names = np.array([f"item {i}" for i in range(LARGE)])
    following = np.roll(names, -1)
    ring = count(
        Battles.from_columns(
            np.concatenate([names, following]), np.concatenate([following, names]), np.ones(2 * LARGE)
        )
    )
    for method in ("win_rate", "average_win_rate", "borda", "copeland", "pagerank", "elo"):
        data = ring
        if method == "elo":
            data = Battles.from_columns(names, following, np.ones(LARGE))
        board = rank(data, method)
        assert board.table.height == LARGE
        assert np.isfinite(board.table["rating"].to_numpy()).all()
        assert "... and 99,980 more" in repr(board)
    with pytest.raises(ConfigError, match="too large; name at most 2000"):
        board.win_matrix()
    with pytest.raises(ConfigError) as caught:
        board.compare("item 3", "item x")
    assert len(str(caught.value)) < 2000


# -- pictures --


@pytest.mark.filterwarnings("ignore::palate.errors.PalateWarning")
def test_hostile_names_are_shown_letter_by_letter_in_pictures(given):
    data = given("hostile names")
    board, boards = palate.rank(data), palate.rank.rank_by(data, "aspect", min_judgments=10)
    figures = (board.plot(), board.plot_win_matrix(), boards.plot(), boards.plot_ranks())
    for figure in figures:
        text = figure.to_json()
        assert "<b" not in json.loads(json.dumps(text)).replace("\\u003cbr", "").replace("<br>", "")
        assert "&lt;b onclick" in text.replace("\\u0026", "&")
        assert "(no name)" in text
