"""Log-probabilities in chunks beside the naive ones: tokens a second and peak memory, forward and with backward.

SmolLM2-135M, responses of half of each row, right-padded. Each measurement runs in a process of its own, so that
peak memory is that of one way. Writes results/log_probs.json.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "log_probs.json"
ROWS, LENGTH, REPEATS = 8, 256, 2


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, backward: bool) -> dict[str, Any]:
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

    def step() -> torch.Tensor:
        with torch.set_grad_enabled(backward):
            scores = {"naive": naive, "chunked": chunked}[way]()
            if backward:
                scores.mean().backward()
                lm.model.zero_grad()
        return scores.detach()

    sequence_log_probs(lm.model, ids[:1, :8], attended[:1, :8], answered[:1, -8:])
    before, times = peak_mb(), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        scores = step()
        times.append(time.perf_counter() - start)
    return {
        "tokens_per_second": round(ROWS * LENGTH / min(times), 1),
        "peak_memory_mb": round(peak_mb()),
        "peak_memory_above_loaded_model_mb": round(peak_mb() - before),
        "mean_score": round(float(scores.mean()), 3),
        "dtype": str(lm.model.dtype),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    found: dict[str, dict[str, Any]] = {}
    for backward in (False, True):
        for way in ("naive", "chunked"):
            name = f"{way}, {'forward and backward' if backward else 'forward'}"
            command = [sys.executable, __file__, way, str(int(backward))]
            found[name] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout
            )
            print(name, found[name])
    result = {
        "what": "log-probabilities of responses: chunked (palate.models.sequence_log_probs) beside naive",
        "model": "smollm2-135m-instruct",
        "rows": ROWS,
        "length": LENGTH,
        "response_tokens": ROWS * LENGTH // 2,
        "machine": {
            "processor": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "best_of": REPEATS,
        "results": found,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], bool(int(sys.argv[2])))))
    else:
        main()
