"""Make the preference set "verifiable instructions" that Palate ships.

Prompts are drawn from templates; a small language model answers them under six settings ("systems"); the
constraint checker of `palate.judges` scores each answer. Answers are kept batch by batch in a work folder, so
that an interrupted run goes on where it stopped.

    python scripts/make_verifiable_instructions.py --model MODEL --work WORK_FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

import verifiable_tasks as tasks
from palate.judges.constraints import check, describe, parse_constraints
from palate.judges.text import words
from palate.progress import progress
from palate.runs import atomic_write, to_json
from palate.seeding import generator

RESOURCES = Path(__file__).resolve().parents[1] / "src" / "palate" / "data" / "resources"
MODEL = "smollm2-135m-instruct"
MAX_NEW_TOKENS = 64
BATCH = 40

CAREFUL = (
    "You follow every instruction exactly. Before you answer, you read all the rules about length, words and "
    "form. You answer briefly and add nothing else."
)
EXAMPLES = [
    (
        'Name a colour. Answer in exactly 1 sentence. Include the word "sky". Do not use any commas.',
        "Blue is the colour of the sky.",
    ),
    (
        "Give tips for a tidy desk. "
        'Use exactly 2 bullet points, each on its own line and starting with "- ".',
        "- Put pens in a cup.\n- Throw away old paper.",
    ),
    (
        "What is ice? Write only in lowercase letters. Answer in at most 10 words.",
        "ice is water that is frozen.",
    ),
]


@dataclass(frozen=True)
class Instruction:
    prompt_id: str
    task: str
    rules: list[str]
    constraints: list[dict[str, Any]]
    prompt: str


@dataclass(frozen=True)
class System:
    """A setting under which the model answers: how it is asked and how its tokens are drawn."""

    name: str
    about: str
    messages: Callable[[Instruction], list[dict[str, str]]]
    temperature: float = 0.0


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _careful(instruction: Instruction) -> list[dict[str, str]]:
    shown = [
        {"role": role, "content": text}
        for example in EXAMPLES
        for role, text in zip(("user", "assistant"), example, strict=True)
    ]
    return [{"role": "system", "content": CAREFUL}, *shown, *_user(instruction.prompt)]


def _restated(instruction: Instruction) -> list[dict[str, str]]:
    reminder = "\n".join(f"- {rule}" for rule in instruction.rules)
    return _user(f"{instruction.prompt}\n\nRemember:\n{reminder}\n\nKeep the answer short.")


SYSTEMS = (
    System("greedy", "the prompt, most likely token", lambda i: _user(i.prompt)),
    System("sampled", "the prompt, temperature 0.7", lambda i: _user(i.prompt), temperature=0.7),
    System("hot", "the prompt, temperature 1.3", lambda i: _user(i.prompt), temperature=1.3),
    System("careful", "a system prompt to follow all rules and three examples, most likely token", _careful),
    System(
        "restated",
        "the prompt with its rules repeated at the end, temperature 0.4",
        _restated,
        temperature=0.4,
    ),
    System(
        "unaware",
        "the task without the constraints, temperature 0.7",
        lambda i: _user(i.task),
        temperature=0.7,
    ),
)


def instructions(n: int, seed: int) -> list[Instruction]:
    """n different tasks, each with 1 to 3 constraints that do not contradict each other."""
    random = generator(seed, "instructions")
    everything = [(form, subject) for form, subjects in tasks.FORMS for subject in subjects]
    found = []
    for number, index in enumerate(random.choice(len(everything), size=n, replace=False)):
        form, subject = everything[index]
        task = form.format(subject, person=random.choice(tasks.PEOPLE))
        constraints = draw_constraints(random)
        rules = describe(parse_constraints(constraints))
        prompt = (
            f"{task} {' '.join(rules)}",
            f"{task}\n\nRules:\n" + "\n".join(f"- {rule}" for rule in rules),
            f"{' '.join(rules)} {task}",
        )[random.choice(3, p=(0.6, 0.2, 0.2))]
        found.append(Instruction(f"vi-{number:04d}", task, rules, constraints, prompt))
    return found


# A kind takes up slots of the answer; two constraints that share one are not put together.
KINDS: dict[str, tuple[set[str], Callable[[np.random.Generator], dict[str, Any]]]] = {
    "sentence_count": (
        {"length", "layout", "end"},
        lambda r: {
            "relation": _pick(r, ["exactly", "exactly", "at_most", "at_least"]),
            "n": int(r.integers(1, 4)),
        },
    ),
    "word_count": (
        {"length"},
        lambda r: (
            {"relation": "at_most", "n": int(_pick(r, [10, 15, 20, 25, 30]))}
            if r.random() < 0.6
            else {"relation": "at_least", "n": int(_pick(r, [15, 20, 25, 30, 35]))}
        ),
    ),
    "paragraph_count": ({"length", "layout"}, lambda r: {"relation": "exactly", "n": int(r.integers(1, 3))}),
    "character_limit": ({"length"}, lambda r: {"n": int(_pick(r, [80, 100, 120, 150, 200]))}),
    "include_words": ({"include"}, lambda r: {"words": _some(r, tasks.INCLUDED, 2)}),
    "exclude_words": ({"exclude", "language"}, lambda r: {"words": _some(r, tasks.EXCLUDED, 3)}),
    "word_frequency": (
        {"include"},
        lambda r: {"word": _pick(r, tasks.REPEATED), "relation": "at_least", "n": int(r.integers(2, 4))},
    ),
    "letter_case": ({"case"}, lambda r: {"case": _pick(r, ["lower", "upper", "title"])}),
    "starts_with": ({"start"}, lambda r: {"text": _pick(r, tasks.OPENINGS)}),
    "ends_with": ({"end"}, lambda r: {"text": _pick(r, tasks.ENDINGS)}),
    "bullet_list": ({"layout", "start"}, lambda r: {"n": int(r.integers(2, 5))}),
    "numbered_list": ({"layout", "start", "digits"}, lambda r: {"n": int(r.integers(2, 5))}),
    "json_object": (
        {"layout", "start", "end", "case", "commas", "length", "language"},
        lambda r: {"keys": list(_pick(r, tasks.KEYS))},
    ),
    "no_commas": ({"commas"}, lambda r: {}),
    "digits": ({"digits"}, lambda r: {"present": bool(r.random() < 0.5)}),
    "quoted": ({"start", "end", "layout"}, lambda r: {}),
    "language": (
        {"language", "include", "start", "end"},
        lambda r: {"language": _pick(r, ["spanish", "french"])},
    ),
}


def draw_constraints(random: np.random.Generator) -> list[dict[str, Any]]:
    wanted = 1 + int(random.choice(3, p=(0.2, 0.4, 0.4)))
    taken: set[str] = set()
    drawn: list[dict[str, Any]] = []
    for kind in random.permutation(sorted(KINDS)):
        slots, draw = KINDS[str(kind)]
        if len(drawn) < wanted and not slots & taken:
            drawn.append({"kind": str(kind), **draw(random)})
            taken |= slots
    required = {word.casefold() for one in drawn if one["kind"] != "exclude_words" for word in _texts(one)}
    for one in drawn:
        if one["kind"] == "exclude_words":
            one["words"] = [word for word in one["words"] if word not in required] or ["very"]
    return drawn


def _texts(constraint: dict[str, Any]) -> list[str]:
    """The words a constraint asks for."""
    asked = [*constraint.get("words", []), constraint.get("word", ""), constraint.get("text", "")]
    return [word for text in asked for word in words(text)]


def _pick(random: np.random.Generator, values: list[Any]) -> Any:
    return values[int(random.integers(len(values)))]


def _some(random: np.random.Generator, values: list[str], most: int) -> list[str]:
    return [values[i] for i in random.choice(len(values), size=1 + int(random.integers(most)), replace=False)]


def answers(
    system: System, prompts: list[Instruction], model: Any, tokenizer: Any, seed: int, work: Path
) -> list[str]:
    """One answer per instruction; what the model was given before, to the letter, is read from the work
    folder."""
    import torch

    texts = [
        tokenizer.apply_chat_template(system.messages(one), tokenize=False, add_generation_prompt=True)
        for one in prompts
    ]
    folder = work / system.name
    found: dict[str, str] = {}
    for file in folder.glob("*.json"):
        found |= json.loads(file.read_text("utf-8"))
    missing = sorted((text for text in texts if text not in found), key=len)
    with progress(system.name, len(texts)) as bar:
        bar.advance(len(texts) - len(missing))
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            key = hashlib.sha256("\0".join(batch).encode()).hexdigest()[:16]
            inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
            torch.manual_seed(int(generator(seed, system.name, key).integers(2**31)))
            options: dict[str, Any] = {"do_sample": False}
            if system.temperature:
                options = {"do_sample": True, "temperature": system.temperature, "top_p": 0.95, "top_k": 0}
            with torch.inference_mode():
                out = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **options)
            made = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            done = {text: answer.strip() for text, answer in zip(batch, made, strict=True)}
            with atomic_write(folder / f"{key}.json") as handle:
                handle.write(to_json(done))
            found |= done
            bar.advance(len(batch))
    return [found[text] for text in texts]


def load(model: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not Path(model).exists():
        from palate import models

        model = str(models.get(model))
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval(), tokenizer


def columns(prompts: list[Instruction], responses: dict[str, list[str]], seed: int) -> dict[str, Any]:
    names = list(responses)
    n = len(prompts)
    groups = list(zip(*responses.values(), strict=True))
    scores = []
    for one, group in zip(prompts, groups, strict=True):
        constraints = parse_constraints(one.constraints)
        scores.append([float(check(constraints, response).mean()) for response in group])
    return {
        "id": [one.prompt_id for one in prompts],
        "prompt_id": [one.prompt_id for one in prompts],
        "prompt": [one.prompt for one in prompts],
        "items": [names] * n,
        "responses": groups,
        "scores": scores,
        "scale": ["interval"] * n,
        "protocol": ["rating"] * n,
        "annotator": ["constraint-checker"] * n,
        "annotator_kind": ["rule"] * n,
        "aspect": ["constraints"] * n,
        "metadata": [
            json.dumps({"constraints": one.constraints, "seed": seed, "task": one.task}, ensure_ascii=False)
            for one in prompts
        ],
    }


def summary(columns: dict[str, Any], prompts: list[Instruction], settings: dict[str, Any]) -> dict[str, Any]:
    """What the set holds, from the set alone."""
    scores = np.array(columns["scores"])
    names = columns["items"][0]
    kinds: dict[str, list[bool]] = {}
    for one, group in zip(prompts, columns["responses"], strict=True):
        constraints = parse_constraints(one.constraints)
        for response in group:
            for constraint, holds in zip(constraints, check(constraints, response), strict=True):
                kinds.setdefault(constraint.kind, []).append(bool(holds))
    pairs = scores[:, :, None] > scores[:, None, :]
    lengths = np.array([[len(text) for text in group] for group in columns["responses"]])
    longer = lengths[:, :, None] > lengths[:, None, :]
    shorter = lengths[:, :, None] < lengths[:, None, :]
    return {
        "settings": settings,
        "prompts": len(prompts),
        "systems": len(names),
        "responses": int(scores.size),
        "score": {name: round(float(mean), 4) for name, mean in zip(names, scores.mean(axis=0), strict=True)},
        "all_satisfied": {
            name: round(float(share), 4)
            for name, share in zip(names, (scores == 1).mean(axis=0), strict=True)
        },
        "mean_characters": {
            name: round(float(mean), 1) for name, mean in zip(names, lengths.mean(axis=0), strict=True)
        },
        "pairs_with_different_scores": int(pairs.sum()),
        "prompts_with_a_difference": round(float((np.ptp(scores, axis=1) > 0).mean()), 4),
        "shorter_is_better": round(float((pairs & shorter).sum() / (pairs & (longer | shorter)).sum()), 4),
        "empty_responses": int((lengths == 0).sum()),
        "kinds": {
            kind: {"checked": len(holds), "satisfied": round(float(np.mean(holds)), 4)}
            for kind, holds in sorted(kinds.items())
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=MODEL, help="a packaged model's name or a folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished batches")
    parser.add_argument("--out", type=Path, default=RESOURCES)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument(
        "--systems", nargs="*", help="make the answers of these systems only and write no set"
    )
    options = parser.parse_args()
    prompts = instructions(options.prompts, options.seed)
    model, tokenizer = load(options.model)
    responses = {
        system.name: answers(system, prompts, model, tokenizer, options.seed, options.work)
        for system in SYSTEMS
        if not options.systems or system.name in options.systems
    }
    if len(responses) < len(SYSTEMS):
        return
    settings = {
        "model": MODEL,
        "seed": options.seed,
        "max_new_tokens": MAX_NEW_TOKENS,
        "temperature": {system.name: system.temperature for system in SYSTEMS},
    }
    write(options.out, columns(prompts, responses, options.seed), prompts, settings)


def write(folder: Path, made: dict[str, Any], prompts: list[Instruction], settings: dict[str, Any]) -> None:
    import pyarrow.parquet as pq

    from palate.data.table import PreferenceData

    data = PreferenceData.from_columns(made)
    with atomic_write(folder / "verifiable-instructions.parquet", "wb") as file:
        pq.write_table(data.table, file, compression="zstd", compression_level=19)
    found = summary(made, prompts, settings)
    with atomic_write(folder / "verifiable-instructions.json") as file:
        file.write(to_json(found) + "\n")
    with atomic_write(folder / "README.md") as file:
        file.write(readme(found))
    print(to_json(found))


def readme(found: dict[str, Any]) -> str:
    table = "\n".join(
        f"| `{system.name}` | {system.about} | {found['score'][system.name]:.3f} "
        f"| {found['all_satisfied'][system.name]:.1%} | {found['mean_characters'][system.name]:.0f} |"
        for system in SYSTEMS
    )
    kinds = "\n".join(
        f"| `{kind}` | {counts['checked']} | {counts['satisfied']:.1%} |"
        for kind, counts in found["kinds"].items()
    )
    template = Template((Path(__file__).parent / "verifiable_readme.md").read_text("utf-8"))
    return template.substitute(
        table=table,
        kinds=kinds,
        prompts=found["prompts"],
        systems=found["systems"],
        responses=found["responses"],
        pairs=found["pairs_with_different_scores"],
        difference=f"{found['prompts_with_a_difference']:.0%}",
        shorter=f"{found['shorter_is_better']:.0%}",
        max_new_tokens=MAX_NEW_TOKENS,
        seed=found["settings"]["seed"],
    )


if __name__ == "__main__":
    main()
