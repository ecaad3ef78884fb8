"""Log-probabilities in chunks beside the naive ones: tokens a second and peak memory.

SmolLM2-135M, responses of half of each row. Peak memory is taken in a process per way; speed in one process
in which the ways take turns, so that both meet the same load. Writes results/log_probs.json.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "log_probs.json"
ROWS, LENGTH, REPEATS = 4, 256, 3
WAYS = ("naive", "chunked")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def steps(backward: bool) -> tuple[Any, dict[str, Callable[[], Any]]]:
    """The loaded model, and for each way a function that takes a step and gives scores, shape (rows,)."""
    import torch

    from palate.models import load_causal_lm, sequence_log_probs

    lm = load_causal_lm("smollm2-135m-instruct", device="cpu")
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(100, 49_000, (ROWS, LENGTH), generator=draw)
    attended = torch.ones_like(ids)
    answered = (torch.arange(LENGTH) >= LENGTH // 2).long().expand_as(ids)

    def naive() -> torch.Tensor:
        logits = lm.model(input_ids=ids, attention_mask=attended, use_cache=False).logits
        table = logits.float().log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        return (table * answered[:, 1:]).sum(1)

    def chunked() -> torch.Tensor:
        return sequence_log_probs(lm.model, ids, attended, answered).sum

    def step(score: Callable[[], torch.Tensor]) -> torch.Tensor:
        with torch.set_grad_enabled(backward):
            scores = score()
            if backward:
                scores.mean().backward()
                lm.model.zero_grad()
        return scores.detach()

    sequence_log_probs(lm.model, ids[:1, :8], attended[:1, :8], answered[:1, -8:])
    return lm, {"naive": lambda: step(naive), "chunked": lambda: step(chunked)}


def memory(way: str, backward: bool) -> dict[str, Any]:
    _, ways = steps(backward)
    before = peak_mb()
    scores = ways[way]()
    return {
        "peak_memory_mb": round(peak_mb()),
        "peak_memory_above_loaded_model_mb": round(peak_mb() - before),
        "mean_score": round(float(scores.mean()), 3),
    }


def speed(backward: bool) -> dict[str, Any]:
    import torch

    lm, ways = steps(backward)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(REPEATS):
        for way in WAYS:
            start = time.perf_counter()
            ways[way]()
            times[way].append(time.perf_counter() - start)
    tokens = {way: round(ROWS * LENGTH / min(taken), 1) for way, taken in times.items()}
    return {
        "tokens_per_second": tokens,
        "ratio": round(tokens["chunked"] / tokens["naive"], 2),
        "dtype": str(lm.model.dtype),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def in_a_process(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, __file__, *map(str, arguments)]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return found


def main() -> None:
    found: dict[str, dict[str, Any]] = {}
    load = os.getloadavg()[0]
    for backward in (0, 1):
        name = "forward and backward" if backward else "forward"
        found[name] = {
            "speed": in_a_process("speed", backward),
            "memory": {way: in_a_process(way, backward) for way in WAYS},
        }
        print(name, found[name])
    result = {
        "what": "log-probabilities of responses: chunked (palate.models.sequence_log_probs) beside naive",
        "model": "smollm2-135m-instruct",
        "rows": ROWS,
        "length": LENGTH,
        "response_tokens": ROWS * LENGTH // 2,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load_before": round(load, 2),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "best_of": REPEATS,
        "results": found,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "speed":
        print(json.dumps(speed(bool(int(sys.argv[2])))))
    else:
        print(json.dumps(memory(sys.argv[1], bool(int(sys.argv[2])))))
