"""A fine-tuning step beside TRL's RewardTrainer: tokens a second and peak memory on the same batches.

SmolLM2-135M with rank-16 adapters, pairs of one prompt and two responses of fixed lengths. Each way runs in a
process of its own, and the ways take turns; all start from the same score layer, so their first losses must
agree. "shared prompt" is the setting `share_prompts`. Ratios are of processor time, which other work on the
machine disturbs less than the clock. Writes results/reward_step.json.

    python benchmarks/reward_step.py [--pairs 4] [--prompt 192] [--response 64] [--steps 3] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "reward_step.json"
MODEL = "smollm2-135m-instruct"
WAYS = ("palate", "palate, checkpointed activations", "palate, shared prompt", "trl")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sequences(pairs: int, prompt: int, response: int) -> list[list[int]]:
    """Token ids, chosen and rejected in turn; a pair starts with the same `prompt` tokens."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(pairs):
        asked = rng.integers(100, 49_000, prompt).tolist()
        rows += [[*asked, *rng.integers(100, 49_000, response).tolist()] for _ in range(2)]
    return rows


def same_score_layer(model: Any) -> None:
    import torch

    made = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "score" in name:
            with torch.no_grad():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=made))


def ours(rows: list[list[int]], way: str) -> tuple[Any, Callable[[], Any]]:
    """The model, and a function that gives the loss of the batch."""
    import torch

    from palate import losses
    from palate.reward import heads
    from palate.reward.finetune import TunedScorer, score_batch
    from palate.reward.shared_prompts import packed

    settings = {"training": {"lora": 16}, "seed": 0, "dropout": 0.0, "too_long": "cut"}
    head = heads.get("scalar")
    scorer = TunedScorer(settings, head)
    scorer.build(MODEL, lora=16)
    model, loss = scorer.model, losses.get("bradley_terry")
    if "checkpointed" in way:
        model.activation_checkpointing_enable()
    n = len(rows) // 2
    batch = {"targets": torch.tensor([[1.0, 0.0]] * n), "mask": torch.ones(n, 2, dtype=torch.bool)}
    pad = scorer.tokenizer.pad_token_id
    if "shared" in way:
        tokens = packed([rows[i : i + 2] for i in range(0, len(rows), 2)], pad)
    else:
        ids = torch.tensor(rows)
        tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    score = score_batch(head, pad)
    return model, lambda: loss.of(score(model, {**batch, "tokens": tokens}), batch)


def theirs(rows: list[list[int]]) -> tuple[Any, Callable[[], Any]]:
    import datasets
    import torch
    import trl
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from palate import models

    folder = models.get(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.bfloat16)
    data = datasets.Dataset.from_dict({"chosen_ids": rows[::2], "rejected_ids": rows[1::2]})
    settings = trl.RewardConfig(
        tempfile.mkdtemp(), max_steps=1, per_device_train_batch_size=len(data), use_cpu=True, bf16=False,
        report_to="none", gradient_checkpointing=False, max_length=None,
    )  # fmt: skip
    lora = LoraConfig(
        task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules="all-linear", modules_to_save=["score"]
    )
    trainer = trl.RewardTrainer(
        model, settings, train_dataset=data, processing_class=tokenizer, peft_config=lora
    )
    batch = trainer.data_collator([data[i] for i in range(len(data))])
    return trainer.model, lambda: trainer.compute_loss(trainer.model, dict(batch))


def measure(way: str, pairs: int, prompt: int, response: int, steps: int) -> dict[str, Any]:
    import torch

    rows = sequences(pairs, prompt, response)
    model, loss_of_batch = theirs(rows) if way == "trl" else ours(rows, way)
    same_score_layer(model)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    before = peak_mb()
    seconds: list[float] = []
    processor: list[float] = []
    first = None
    for _ in range(steps + 1):  # the first one warms up
        start, used = time.perf_counter(), time.process_time()
        loss = loss_of_batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
        first = float(loss.detach()) if first is None else first
    return {
        "seconds": min(seconds[1:]),
        "processor_seconds": min(processor[1:]),
        "first_loss": first,
        "peak_memory_above_loaded_model_mb": round(peak_mb() - before),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("pairs", 4), ("prompt", 192), ("response", 64), ("steps", 3), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        found = measure(args.way, args.pairs, args.prompt, args.response, args.steps)
        print(json.dumps(found))
        return
    import torch
    import transformers
    import trl

    load = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    sizes = [f"--{name}={getattr(args, name)}" for name in ("pairs", "prompt", "response", "steps")]
    for _ in range(args.repeats):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, *sizes]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(way, runs[way][-1], flush=True)
    tokens = args.pairs * 2 * (args.prompt + args.response)
    distinct = args.pairs * (args.prompt + 2 * args.response)
    table = {
        way: {
            "seconds": round(min(run["seconds"] for run in found), 3),
            "processor_seconds": round(min(run["processor_seconds"] for run in found), 3),
            "tokens_per_second": round(tokens / min(run["seconds"] for run in found), 1),
            "first_loss": found[0]["first_loss"],
            "peak_memory_above_loaded_model_mb": min(
                run["peak_memory_above_loaded_model_mb"] for run in found
            ),
        }
        for way, found in runs.items()
    }
    result = {
        "what": "a fine-tuning step of a reward model beside trl.RewardTrainer, forward to optimizer",
        "model": MODEL,
        "pairs": args.pairs,
        "prompt_tokens": args.prompt,
        "response_tokens": args.response,
        "tokens": tokens,
        "tokens_with_the_prompt_once": distinct,
        "dtype": "bfloat16, adapters float32",
        "best_of": args.repeats * args.steps,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load_before": round(load, 2),
            "threads": runs["trl"][0]["threads"],
            "python": platform.python_version(),
        },
        "versions": {
            "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
        },
        "results": table,
        "speed_over_trl": {
            way: round(table["trl"]["processor_seconds"] / row["processor_seconds"], 2)
            for way, row in table.items()
        },
    }  # fmt: skip
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["results"] | {"speed_over_trl": result["speed_over_trl"]}, indent=2))


if __name__ == "__main__":
    main()
