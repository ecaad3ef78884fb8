"""Recipes: files, runs that resume, verdicts, recorded results and the table of papers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from palate import recipes
from palate.errors import CheckFailed, ConfigError, PalateError
from palate.recipes import experiments, papers, running
from palate.recipes.result import judge, recorded
from palate.recipes.spec import Check, parse

FAST = """
name = "toy"
number = 7
paper = "A | paper"
package = "losses"
claim = "small training helps"
metric = "Kendall's tau"
experiment = "linear_ranking"
seeds = 3
[components]
data = "simulated"
judge = "none"
curation = "none"
parametrisation = "linear"
loss = "ranknet"
training = "Adam"
evaluation = "tau"
[[checks]]
method = "long/ranknet"
baseline = "short/ranknet"
threshold = 0.1
[parameters.methods]
ranknet = { loss = "ranknet" }
[parameters.settings.short]
data = "simulated_utility"
data_parameters = { items = 60, test_items = 60, features = 5, noise = 0.1 }
steps = 1
[parameters.settings.long]
data = "simulated_utility"
data_parameters = { items = 60, test_items = 60, features = 5, noise = 0.1 }
steps = 30
[sizes.small]
[sizes.gpu]
seeds = 4
parameters = { settings = { long = { steps = 40 } } }
"""


@pytest.fixture(scope="module")
def toy() -> recipes.Recipe:
    return parse(FAST, "toy.toml")


@pytest.fixture(scope="module")
def result(toy: recipes.Recipe) -> recipes.RecipeResult:
    return recipes.run(toy)


def test_a_result_holds_the_paired_effect_its_interval_and_the_verdict(result):
    long, short = (np.array([v[key] for v in result.values]) for key in ("long/ranknet", "short/ranknet"))
    wanted = stats.ttest_rel(long, short).confidence_interval(0.95)
    assert result.interval == pytest.approx((wanted.low, wanted.high))
    assert result.effect == pytest.approx((long - short).mean())
    assert result.baseline == pytest.approx(short.mean())
    assert result.holds is bool((long - short).mean() >= 0.1 and wanted.low > 0)
    assert result.firm is bool(wanted.low >= 0.1)
    assert result.seeds == [0, 1, 2]
    assert {"palate", "python", "numpy", "torch"} <= result.versions.keys()


@pytest.mark.parametrize(
    ("direction", "threshold", "holds", "firm"),
    [
        ("at_least", 0.05, True, True),
        ("at_least", 0.09, True, False),
        ("at_least", 0.11, False, False),
        ("at_most", 0.09, False, False),
        ("at_most", 0.2, True, True),
        ("within", 0.2, True, True),
        ("within", 0.11, False, False),
    ],
)
def test_the_mean_must_reach_the_threshold_and_firmly_the_whole_interval(direction, threshold, holds, firm):
    values = [{"a": 0.1 + error, "b": 0.0} for error in (-0.02, 0.0, 0.02, 0.0)]
    check = Check(method="a", baseline="b", direction=direction, threshold=threshold)
    outcome = judge(check, values)
    assert outcome.interval == pytest.approx((0.1 - 0.025985, 0.1 + 0.025985), abs=1e-5)
    assert (outcome.holds, outcome.firm) == (holds, firm)


def test_an_effect_that_the_seeds_cannot_tell_from_nothing_does_not_hold():
    values = [{"a": value, "b": 0.0} for value in (-0.3, 0.1, 0.5)]
    assert not judge(Check(method="a", baseline="b", threshold=0.05), values).holds
    assert judge(Check(method="a", baseline="b", threshold=-1.0), values).firm


def test_a_check_of_a_value_the_experiment_does_not_give_is_refused():
    with pytest.raises(ConfigError, match="unknown value of the experiment 'aa'; did you mean 'a'"):
        judge(Check(method="aa", baseline="b", threshold=0.1), [{"a": 1.0, "b": 0.0}] * 3)


def test_an_interrupted_run_goes_on_with_the_seeds_left(toy, result, tmp_path, monkeypatch):
    real = experiments.resolve(toy.experiment)
    done: list[int] = []

    def interrupted(seed: int, parameters: Mapping[str, Any]) -> dict[str, float]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(seed)
        return real(seed, parameters)

    monkeypatch.setattr(running.experiments, "resolve", lambda name: interrupted)
    with pytest.raises(KeyboardInterrupt):
        recipes.run(toy, out=tmp_path)
    assert done == [0, 1]
    done.clear()
    resumed = recipes.run(toy, out=tmp_path)
    assert done == [2]
    assert resumed.values == result.values
    assert json.loads((tmp_path / "result.json").read_text())["holds"] is result.holds


def test_a_run_folder_of_other_seeds_is_refused(toy, tmp_path):
    recipes.run(toy, out=tmp_path)
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(seeds\)"):
        recipes.run(toy, seeds=4, out=tmp_path)


def test_sizes_change_parameters_and_seeds(toy):
    assert toy.parameters_at("small")["settings"]["long"]["steps"] == 30
    assert toy.parameters_at("gpu")["settings"]["long"] == toy.parameters["settings"]["long"] | {"steps": 40}
    assert recipes.run(toy, "gpu").seeds == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "paper"}, "the recipe 'toy' has no size 'paper'; it has: small, gpu"),
        ({"seeds": 2}, "a verdict needs at least 3 seeds, got 2"),
        ({"seeds": [1, 2, 1]}, "a seed is given twice"),
        ({"seeds": [-1, 0, 1]}, "seeds must be 0 or more"),
    ],
)
def test_bad_options(toy, options, message):
    with pytest.raises(ConfigError, match=message):
        recipes.run(toy, **options)


def test_a_value_that_is_not_finite_stops_the_run(toy, monkeypatch):
    monkeypatch.setattr(
        running.experiments, "resolve", lambda name: lambda seed, parameters: {"x": float("nan")}
    )
    with pytest.raises(PalateError, match="recipe 'toy', seed 0: 'x' came out as nan"):
        recipes.run(toy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = 3", "seeds = 2"), "toy.toml: field 'seeds': Input should be greater than or equal to 3"),
        (("threshold = 0.1", "treshold = 0.1"), "toy.toml: field 'checks.0.threshold': Field required"),
        (("[sizes.small]", "[sizes.tiny]"), r"toy.toml: field 'sizes.tiny.\[key\]': Input should be 'small'"),
        (("[sizes.small]\n", ""), "toy.toml: field 'recipe': Value error, sizes must hold 'small'"),
        (('name = "toy"', 'name = "../toy"'), "toy.toml: field 'name': String should match pattern"),
        (('name = "toy"', "name = "), "toy.toml: Invalid value"),
        (('metric = "Kendall\'s tau"', 'code = "os.system"'), "toy.toml: field 'metric': Field required"),
    ],
)
def test_a_broken_file_names_the_field(change, message):
    with pytest.raises(ConfigError, match=message):
        parse(FAST.replace(*change), "toy.toml")


def test_a_recipe_can_only_name_registered_experiments():
    other = parse(FAST.replace("linear_ranking", "os:system"), "toy.toml")
    with pytest.raises(ConfigError, match=r"unknown experiment 'os:system'; known: .*linear_ranking"):
        recipes.run(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('{ loss = "ranknet" }', '{ loss = "ranknt" }'), "unknown loss 'ranknt'; did you mean 'ranknet'"),
        (
            ('{ loss = "ranknet" }', '{ loss = "ranknet", group = 3 }'),
            "lists of 8 cannot be cut into groups of 3",
        ),
        (("steps = 1\n", "step = 1\n"), "field 'settings.short.step': Extra inputs are not permitted"),
        (
            ('"simulated_utility"', '"diabets"'),
            "unknown data of linear_ranking 'diabets'; did you mean 'diabetes'",
        ),
    ],
)
def test_bad_parameters_of_an_experiment(change, message):
    with pytest.raises(ConfigError, match=message):
        recipes.run(parse(FAST.replace(*change), "toy.toml"))


def test_every_shipped_recipe_is_valid_and_its_experiment_known():
    assert recipes.names()
    for name in recipes.names():
        recipe = recipes.get(name)
        assert recipe.experiment in experiments.EXPERIMENTS
    with pytest.raises(ConfigError, match="unknown recipe 'ranklst'; did you mean 'ranklist'"):
        recipes.get("ranklst")


@pytest.fixture
def shipped(toy, monkeypatch) -> None:
    """A project whose only recipe is the toy."""
    monkeypatch.setattr(papers, "names", lambda: ["toy"])
    monkeypatch.setattr(papers, "get", lambda name: toy)
    monkeypatch.setattr(running, "get", lambda name: toy)


@pytest.mark.usefixtures("shipped")
def test_the_table_is_made_from_recorded_results(result, tmp_path):
    assert recipes.list_rows(tmp_path) == [
        {
            "name": "toy",
            "paper": "A | paper",
            "number": 7,
            "package": "losses",
            "claim": "small training helps",
            "status": "not run",
        }
    ]
    recipes.record(result, tmp_path)
    assert recorded("toy", tmp_path) == result
    assert recipes.list_rows(tmp_path)[0]["status"] == ("holds" if result.holds else "does not hold here")
    last = recipes.table(tmp_path).splitlines()[-1]
    assert last.startswith(
        f"| 7 | A \\| paper | `toy` | `losses` | small training helps | {result.baseline:.3f} |"
    )
    changed = result.model_copy(update={"recipe": "other"})
    recipes.record(changed, tmp_path)
    assert recipes.list_rows(tmp_path)[0]["status"] == "not run"


@pytest.mark.usefixtures("shipped")
def test_the_readme_is_updated_between_its_markers(result, tmp_path):
    recipes.record(result, tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- papers:begin -->\nold\n<!-- papers:end -->\nafter\n")
    assert recipes.update_readme(readme, tmp_path)
    assert (
        readme.read_text()
        == f"before\n<!-- papers:begin -->\n{recipes.table(tmp_path)}\n<!-- papers:end -->\nafter\n"
    )
    assert not recipes.update_readme(readme, tmp_path)
    readme.write_text("<!-- papers:end --> <!-- papers:begin -->")
    with pytest.raises(ConfigError, match="needs one line '<!-- papers:begin -->'"):
        recipes.update_readme(readme, tmp_path)


@pytest.mark.usefixtures("shipped")
def test_a_check_fails_only_if_a_verdict_changed(result, tmp_path):
    with pytest.raises(ConfigError, match="no result of 'toy'"):
        recipes.check("toy", tmp_path)
    recipes.record(result, tmp_path)
    assert recipes.check("toy", tmp_path).values == result.values
    opposite = [check.model_copy(update={"holds": not check.holds}) for check in result.checks]
    recipes.record(result.model_copy(update={"checks": opposite}), tmp_path)
    with pytest.raises(CheckFailed, match="recipe 'toy': long/ranknet against short/ranknet"):
        recipes.check("toy", tmp_path)
    recipes.record(result.model_copy(update={"recipe": "other"}), tmp_path)
    with pytest.raises(ConfigError, match="the recipe 'toy' has changed since its result"):
        recipes.check("toy", tmp_path)


def test_a_broken_result_file_says_how_to_make_it_anew(tmp_path: Path):
    (tmp_path / "ranklist.json").write_text('{"name": "ranklist"}')
    with pytest.raises(
        ConfigError, match=r"ranklist.json: field 'paper': .*; run `palate recipe run ranklist`"
    ):
        recipes.list_rows(tmp_path)


def test_a_readme_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.md cannot be read"):
        recipes.update_readme(tmp_path / "none.md", tmp_path)


def test_a_missing_folder_of_results_leaves_the_table_as_it_is(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(text := "<!-- papers:begin -->\nverdicts\n<!-- papers:end -->\n")
    with pytest.raises(ConfigError, match="no folder of results"):
        recipes.update_readme(readme, tmp_path / "none")
    assert readme.read_text() == text
