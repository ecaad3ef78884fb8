"""Fit a frozen-encoder reward model twice, and scikit-learn's logistic regression on the same embeddings.

    python benchmarks/reward_frozen.py [--pairs 2000] [--encoder all-minilm-l6-v2]

The texts are generated; what is timed does not depend on what they say. The first fit encodes every text,
the second finds all embeddings on disk, and the peer starts from embeddings in memory. Objectives are the
same: mean logistic loss plus l2/2 times the squared norm of the weights, on the same standardised inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "reward_frozen.json"
WORDS = [
    "answer",
    "question",
    "because",
    "people",
    "think",
    "good",
    "reason",
    "school",
    "water",
    "money",
    "always",
    "never",
    "better",
    "should",
    "would",
    "every",
    "child",
    "teacher",
    "city",
    "health",
    "music",
    "travel",
    "read",
    "write",
    "learn",
    "simple",
    "strong",
    "quiet",
    "early",
    "late",
    "against",
    "support",
]


def generated(n: int, seed: int = 0) -> tuple[list[str], list[list[str]], np.ndarray]:
    """Prompts, two responses each, and votes that lean to the response with more of the word 'reason'."""
    rng = np.random.default_rng(seed)
    prompts = [" ".join(rng.choice(WORDS, 8)) for _ in range(n)]
    responses = [[" ".join(rng.choice(WORDS, rng.integers(10, 30))) for _ in range(2)] for _ in range(n)]
    lead = np.array([a.split().count("reason") - b.split().count("reason") for a, b in responses])
    first = rng.random(n) < 1 / (1 + np.exp(-2.0 * lead))
    return prompts, responses, np.stack([first, ~first], axis=1).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--encoder", default="all-minilm-l6-v2")
    args = parser.parse_args()
    import sklearn
    import torch
    from sklearn.linear_model import LogisticRegression

    from palate import models
    from palate.data import PreferenceData
    from palate.reward import RewardModel
    from palate.reward.inputs import encoder_texts

    models.get(args.encoder)
    folder = models.resolve(args.encoder)
    prompts, responses, scores = generated(args.pairs + args.pairs // 4)
    data = PreferenceData.from_columns({"prompt": prompts, "responses": responses, "scores": scores.tolist()})
    train, test = data.take(range(args.pairs)), data.take(range(args.pairs, data.n_rows))
    l2 = 0.01
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PALATE_CACHE"] = cache
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            model = RewardModel(folder, l2=l2).fit(train)
            seconds.append(time.perf_counter() - start)
        ours = held_out_loss(
            np.diff(model.score_data(test).scores[:, ::-1], axis=1)[:, 0], scores[args.pairs :]
        )
        encoder = models.load_encoder(folder)

        def differences(start: int, end: int) -> np.ndarray:
            sides = []
            for side in (0, 1):
                texts = [group[side] for group in responses[start:end]]
                sides.append(
                    np.hstack(
                        [
                            models.embed(encoder, block)
                            for block in encoder_texts(prompts[start:end], texts, "both")
                        ]
                    )
                )
            scale = model.scorer_.head.scale.numpy()
            return (sides[0].astype(float) - sides[1]) / scale

        x, held = differences(0, args.pairs), differences(args.pairs, data.n_rows)
        start = time.perf_counter()
        peer = LogisticRegression(C=1 / (l2 * args.pairs), fit_intercept=False, tol=1e-6, max_iter=2000)
        peer.fit(x, scores[: args.pairs, 0])
        peer_seconds = time.perf_counter() - start
        theirs = held_out_loss(peer.decision_function(held), scores[args.pairs :])
    result = {
        "pairs": args.pairs,
        "held_out_pairs": data.n_rows - args.pairs,
        "distinct_texts": 4 * args.pairs,
        "first_fit_seconds": round(seconds[0], 3),
        "second_fit_seconds": round(seconds[1], 3),
        "sklearn_fit_seconds_embeddings_in_memory": round(peer_seconds, 3),
        "held_out_loss": round(ours, 6),
        "sklearn_held_out_loss": round(theirs, 6),
        "iterations": model.fit_["iterations"],
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
        },
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def held_out_loss(margin: np.ndarray, scores: np.ndarray) -> float:
    """Mean of -log sigmoid of the chosen's lead."""
    return float(np.logaddexp(0.0, -np.where(scores[:, 0] > scores[:, 1], margin, -margin)).mean())


if __name__ == "__main__":
    main()
