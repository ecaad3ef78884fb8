"""`palate demo`: the whole way on real data, from judgments to a report, in a few minutes on two cores.

Every step keeps its result in the run folder, so an interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from palate.data import PreferenceData, load
from palate.errors import ConfigError, DataError, PalateError
from palate.report import Report
from palate.report.run_folder import from_run, read_metrics
from palate.runs import Run
from palate.seeding import generator

if TYPE_CHECKING:
    from palate.judges import Judge
    from palate.models import SequenceScores

POLICY = "smollm2-135m-instruct"
ENCODER = "all-minilm-l6-v2"
STEPS, PAIRS_PER_STEP = 32, 4
# Two passes of two pairs a step instead of one of four: the same gradient with less memory at once.
TRAINING: dict[str, Any] = {
    "batch_size": PAIRS_PER_STEP // 2,
    "gradient_accumulation": 2,
    "learning_rate": 2e-4,
    "max_length": 320,
    "lora": 16,
}
HELD_OUT_PROMPTS = 40
JUDGED_PAIRS = 30
NEW_TOKENS = 64


@dataclass
class Demo:
    """A demo run: `say` gets one line for each thing done."""

    run: Run
    data: PreferenceData
    own: bool
    seed: int
    steps: int
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def report(self, name: str, report: Report) -> None:
        report.to_json(self.run.path(f"{name}.json"))

    def step(self, name: str, title: str, work: Callable[[], list[str]]) -> None:
        """Do `work` once; its sentences are kept, and printed again when a resumed demo passes by."""
        self.say(f"\n{title}")
        if not self.run.done(name):
            started = time.perf_counter()
            lines = work()
            self.run.write_json(f"notes/{name}.json", lines)
            self.run.log(name=title, seconds=round(time.perf_counter() - started, 1))
            self.run.finish(name)
        lines = self.run.read_json(f"notes/{name}.json")
        self.notes += [f"{title.partition(':')[0]}: {line}" for line in lines]
        for line in lines:
            self.say(f"  {line}")


def run_demo(
    out: str | Path = "runs/demo",
    *,
    data: str | None = None,
    steps: int = STEPS,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Run the demo and return the path of its report.

    Args:
        out: run folder; the same call resumes it.
        data: a file of the user's own in place of the sets that come with Palate.
        steps: of the alignment, four pairs each.
        seed: of splits, training and sampling.
        say: takes one line for each thing done.

    Raises:
        DataError: the user's file cannot be read.
        ConfigError: the folder holds a demo with other settings.
    """
    from palate.data.resources import verifiable_instructions

    judgments = load(data) if data is not None else verifiable_instructions()
    if not judgments.n_rows:
        raise ConfigError("the file holds no judgments; give one with at least a few")
    config = {
        "command": "demo",
        "title": "Palate demo",
        "file": data,
        "seed": seed,
        "data": judgments.fingerprint(),
        "policy": POLICY,
        "encoder": ENCODER,
        "training": {"steps": steps, **TRAINING},
    }
    demo = Demo(Run(out, config), judgments, data is not None, seed, steps, say)
    if not demo.own:
        demo.step(
            "choices",
            "People's choices: travellers and voters (statsmodels, public domain)",
            lambda: choices(demo),
        )
    demo.step("inspect", f"Text preferences: {data or 'verifiable instructions'}", lambda: inspect(demo))
    if judgments.has("items"):
        demo.step("rank", "Leaderboard", lambda: rank(demo))
    if judgments.has("responses") or judgments.has("features"):
        demo.step("reward", "Reward model", lambda: reward(demo))
    if judgments.has("responses"):
        demo.step("judge", "A language model as judge", lambda: language_model_judge(demo))
        demo.step("align", "Align SmolLM2-135M with DPO", lambda: align(demo))
        demo.step("after", "Before and after", lambda: before_and_after(demo))
    else:
        demo.say("\nNo responses in the file: there is nothing to align a language model with.")
    demo.report("0_summary", Report("What happened", notes=demo.notes))
    path = from_run(demo.run.folder).write(demo.run.path("report.html"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    seconds = sum(row["seconds"] for row in demo.run.metrics() if "seconds" in row)
    demo.say(
        f"\nDone in {seconds:.0f} s of work, {peak:.1f} GiB at the peak. Everything is in {demo.run.folder}/;"
    )
    demo.say(f"open {path}")
    return path


def choices(demo: Demo) -> list[str]:
    """Rank ways to travel, and learn from features what travellers and voters go by."""
    from palate.data.surveys import anes96, modechoice
    from palate.evaluate import evaluate
    from palate.rank import rank as rank_judgments
    from palate.reward import RewardModel

    travel, vote = modechoice(), anes96()
    board = rank_judgments(travel)
    demo.run.write_json("1_leaderboard_of_ways_to_travel.json", board.to_json())
    lines = [
        f"210 travellers: {board.table['item'][0]} is chosen most readily, {board.table['item'][-1]} least."
    ]
    cases = (("travellers", travel, "2_travellers"), ("voters", vote, "3_voters"))
    for who, data, name in cases:
        train, test = data.split(0.3, by="annotator", seed=demo.seed)
        model = RewardModel(encoder="features", loss="listmle", groups="lists", l2=1e-3, seed=demo.seed).fit(
            train
        )
        report = evaluate(model, test, seed=demo.seed)
        report.title = f"What {who} choose, from features"
        demo.report(name, report)
        lines.append(
            f"A linear reward model on features ranks {_share(report)} of held-out {who}' comparisons right."
        )
    return lines


def inspect(demo: Demo) -> list[str]:
    found = demo.data.describe()
    demo.run.write_json("data.json", {"fingerprint": demo.data.fingerprint(), **found})
    lines = [
        f"{found['rows']:,} judgments on {found['prompts']:,} prompts, {found['items']:,} systems; "
        f"annotators: {found['annotators']:,}."
    ]
    if not demo.own:
        lines.append(
            "Small language models wrote the answers; a program checked them against each prompt's rules."
        )
    lines += [f"Note: {problem['message']} ({problem['count']:,})." for problem in found["problems"][:3]]
    return lines


def rank(demo: Demo) -> list[str]:
    from palate.rank import rank as rank_judgments

    try:
        board = rank_judgments(demo.data)
    except PalateError as error:
        if not demo.own:
            raise
        return [f"No leaderboard: {error}."]
    demo.run.write_json("4_leaderboard.json", board.to_json())
    best, worst = board.table["item"][0], board.table["item"][-1]
    return [
        f"{best} is first; it beats {worst}, the last, with probability "
        f"{board.win_probability(best, worst):.2f}."
    ]


def reward(demo: Demo) -> list[str]:
    """Train on some prompts, evaluate on others, beside the rule that the longer answer is better."""
    from palate.evaluate import evaluate
    from palate.judges import LengthJudge
    from palate.reward import RewardModel

    train, test = demo.data.split(0.2, by="prompt", seed=demo.seed)
    encoder = ENCODER if demo.data.has("responses") else "features"
    model = RewardModel(encoder, seed=demo.seed).fit(train)
    model.save(demo.run.path("reward_model"))
    report = evaluate(model, test, seed=demo.seed)
    report.title = "Reward model on held-out prompts"
    demo.report("5_reward_model", report)
    lines = [
        f"Trained on {model.n_groups_:,} pairs; right on {_share(report)} "
        f"of {_decided(report):,} held-out pairs."
    ]
    if demo.data.has("responses"):
        rules = {prefer: evaluate(LengthJudge(prefer=prefer), test) for prefer in ("longer", "shorter")}
        better = max(rules, key=lambda prefer: rules[prefer].metrics["accuracy"])
        lines.append(f"The rule '{better} is better' is right on {_share(rules[better])}: the bar to beat.")
    return lines


def language_model_judge(demo: Demo) -> list[str]:
    """Ask the small language model itself, in both orders, on a few held-out pairs."""
    from palate.evaluate import evaluate
    from palate.judges import LLMJudge

    _, test = demo.data.split(0.2, by="prompt", seed=demo.seed)
    pairs = test.as_pairs("best_worst")
    pairs = pairs.take(range(min(JUDGED_PAIRS, len(pairs))))
    report = evaluate(LLMJudge(POLICY, rubric="instruction-following"), pairs, seed=demo.seed)
    report.title = "SmolLM2-135M as judge"
    demo.report("6_language_model_as_judge", report)
    if "accuracy" not in report.metrics:
        return ["It answered none of the pairs."]
    return [
        f"It is right on {_share(report)} of {_decided(report):,} pairs, "
        f"and keeps its verdict in {report.metrics['order_consistency']:.0%} when the two change places."
    ]


def align(demo: Demo) -> list[str]:
    """DPO on best against worst of some training prompts."""
    from palate.align import align as align_policy

    train, _ = demo.data.split(0.2, by="prompt", seed=demo.seed)
    rows = np.unique(train.pairs("best_worst")["judgment"].to_numpy())
    chosen = generator(demo.seed, "demo", "align").permutation(rows)[: demo.steps * PAIRS_PER_STEP]
    policy = align_policy(
        POLICY,
        train.take(np.sort(chosen)),
        method="dpo",
        out=demo.run.path("policy"),
        seed=demo.seed,
        steps=demo.steps,
        **TRAINING,
    )
    summary = policy.summary
    losses = [row["loss"] for row in read_metrics(demo.run.path("policy", "metrics.jsonl")) if "loss" in row]
    return [
        f"{summary['steps']} steps of {PAIRS_PER_STEP} pairs, low-rank adapters, "
        f"{summary['tokens_per_second']:.0f} tokens/s; the policy is in {demo.run.path('policy', 'model')}.",
        f"Mean loss: {_mean(losses[:10]):.3f} in the first ten steps, {_mean(losses[-10:]):.3f} in the last.",
    ]


def before_and_after(demo: Demo) -> list[str]:
    """On held-out prompts: does it rank pairs better, and does a judge like its answers better?"""
    from palate.align import Policy
    from palate.evaluate import answer_win_rate, evaluate_policy
    from palate.models import generate

    _, test = demo.data.split(0.2, by="prompt", seed=demo.seed)
    policy = Policy.load(demo.run.path("policy", "model"))
    pairs = test.pairs("best_worst").head(HELD_OUT_PROMPTS)
    texts = [[row["chosen"], row["rejected"]] for row in pairs.iter_rows(named=True)]
    prompts = _turns(test, pairs["judgment"].to_numpy())
    scored = [
        policy.log_probs(prompts, texts, batch_size=2),
        policy.reference_log_probs(prompts, texts, batch_size=2),
    ]
    sides = [(_column(found, 0), _column(found, 1)) for found in scored]

    judge, who = _judge(demo, test)
    rows = _first_of_each_prompt(test)[:HELD_OUT_PROMPTS]
    asked = _turns(test, rows)
    # A judge reads a prompt as the data has it, also where the policy is given its turns.
    texts_asked = [text or "" for text in test.column("prompt").take(pa.array(rows)).to_pylist()]
    settings: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "temperature": 0.0, "batch_size": 10}
    after = [group[0] for group in policy.generate(asked, **settings)]
    before = [group[0] for group in generate(policy.reference, asked, **settings)]
    wins = answer_win_rate(judge, texts_asked, after, before, graded=False)
    report = evaluate_policy(
        *sides,
        beta=policy.beta,
        wins=wins,
        metrics_file=demo.run.path("policy", "metrics.jsonl"),
        title="The policy before and after",
    )
    verdicts = judge.score(texts_asked, [list(two) for two in zip(after, before, strict=True)]).scores
    shown = np.argsort(-np.abs(np.nan_to_num(verdicts[:, 0] - verdicts[:, 1])), kind="stable")[:6]
    report.examples = [
        {
            "prompt": texts_asked[i],
            "sides": [{"label": "before", "text": before[i]}, {"label": "after", "text": after[i]}],
            "note": f"{who} gives {verdicts[i, 1]:.2f} before and {verdicts[i, 0]:.2f} after.",
        }
        for i in shown
    ]
    demo.report("7_policy", report)
    lines = [*report.notes]
    means = np.nanmean(verdicts, axis=0)
    lines.append(
        f"{who} gives its answers {means[0]:.2f} on average, and {means[1]:.2f} before, "
        f"on {len(asked)} held-out prompts."
    )
    return lines


def _judge(demo: Demo, data: PreferenceData) -> tuple[Judge, str]:
    """The exact checker where the data has constraints, else the reward model trained on other prompts."""
    from palate.judges import ConstraintJudge
    from palate.reward import RewardModel

    try:
        return ConstraintJudge.from_data(data), "The checker"
    except DataError:
        return RewardModel.load(demo.run.path("reward_model")), "The reward model"


def _turns(data: PreferenceData, rows: npt.NDArray[np.int64]) -> list[Any]:
    """Prompts of these judgments: their turns where there are several, else their text."""
    texts = data.column("prompt").take(pa.array(rows)).to_pylist()
    turns = data.column("messages").take(pa.array(rows)).to_pylist()
    return [turn or text or "" for turn, text in zip(turns, texts, strict=True)]


def _first_of_each_prompt(data: PreferenceData) -> npt.NDArray[np.int64]:
    return np.unique(np.unique(data.prompt_codes(), return_index=True)[1])


def _column(scores: SequenceScores, side: int) -> SequenceScores:
    return replace(scores, sum=scores.sum[:, side], count=scores.count[:, side])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _decided(report: Report) -> int:
    """Pairs with a gold preference."""
    return round(report.metrics["pairs"] - report.metrics["gold_ties"])


def _share(report: Report) -> str:
    m = report.metrics
    return f"{m['accuracy']:.1%} ({m['accuracy_lower']:.1%} to {m['accuracy_upper']:.1%})"
