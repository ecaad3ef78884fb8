"""Fitting rewards on frozen embeddings, RankList and preference embeddings beside their peers.

    python benchmarks/reward.py [--pairs 1000000] [--encoded 2000] [--only frozen,ranklist,gpm]

frozen: Bradley and Terry's model on pairs of 384-dimensional embeddings, mean loss plus l2/2 times the
squared norm of the weights of standardised inputs, under every way. The embeddings are drawn: a mean in
common of about the length of the rest, variances that fall as 1/i along random axes (as those of sentence
encoders do, roughly), half of each shared by the two responses to a prompt, single precision; votes are
Bernoulli with log-odds of spread 1.5. Peers get differences of standardised embeddings ready in memory, and
the seconds to make them are given apart. Each way runs in a process of its own, one after the other. A second
table has embeddings of generated texts by MiniLM.

ranklist: forward and backward of a batch of 64 lists of n, on one thread.

gpm: margins between all pairs of n responses to a prompt, of one encoder: as a preference embedding, each
response encoded once, and as a model that reads both responses of every ordered pair as one text.

Writes results/reward.json.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RESULT = Path(__file__).parent / "results" / "reward.json"
ENCODER = "all-minilm-l6-v2"
DIM, L2, HELD_OUT = 384, 0.01, 100_000
WAYS = ("palate", "scikit-learn", "scikit-learn, default tolerance", "torch L-BFGS", "torch Adam, 3 epochs")
TOLERANCE = 1e-5
"""Held-out losses closer than this are equal."""

Single = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def simulated(n: int, seed: int = 0) -> tuple[Single, Bools]:
    """Embeddings (2 n, DIM), two rows a pair, and whether the first of each pair won."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0] * np.arange(1, DIM + 1)[:, None] ** -0.5
    axes = (axes / np.linalg.norm(axes)).astype(np.float32)
    centre = rng.normal(size=DIM)
    centre = (centre / np.linalg.norm(centre)).astype(np.float32)
    value = rng.normal(size=DIM)
    x = np.empty((n, 2, DIM), dtype=np.float32)
    step = 50_000
    for start in range(0, n, step):
        size = min(step, n - start)
        shared = rng.standard_normal((size, 1, DIM), dtype=np.float32)
        own = rng.standard_normal((size, 2, DIM), dtype=np.float32)
        x[start : start + size] = (shared + own) * np.float32(np.sqrt(0.5)) @ axes + centre
    x = x.reshape(2 * n, DIM)
    spread = x[:step].std(axis=0, dtype=np.float64)
    score = x @ (value / spread).astype(np.float32)
    margin = (score[0::2] - score[1::2]).astype(np.float64)
    return x, rng.random(n) < 1 / (1 + np.exp(-1.5 * margin / margin.std()))


def loss_of(margin: npt.NDArray[Any], first: Bools) -> float:
    """Mean of -log sigmoid of the winner's lead."""
    return float(np.logaddexp(0.0, -np.where(first, margin, -margin.astype(np.float64))).mean())


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fit(way: str, folder: Path, n: int) -> dict[str, Any]:
    """Fit in this process; `folder` holds embeddings and votes, the last ones held out."""
    x, first = np.load(folder / "x.npy"), np.load(folder / "first.npy")
    x, held = x[: 2 * n], x[2 * n :]
    first, held_first = first[:n], first[n:]
    result: dict[str, Any] = {"way": way}
    loaded = peak_gib()
    if way == "palate":
        result |= fit_palate(x, first, held, held_first)
    else:
        mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        del mean  # it cancels in differences
        scale = spread.astype(np.float32)
        start = time.perf_counter()
        differences = np.subtract(x[0::2], x[1::2])
        differences /= scale
        result["seconds_to_make_differences"] = time.perf_counter() - start
        weight, seconds, notes = PEERS[way](differences, first)
        margin = ((held[0::2] - held[1::2]) / scale) @ weight.astype(np.float32)
        result |= {"seconds": seconds, "held_out_loss": loss_of(margin, held_first), **notes}
    result["peak_gib_above_inputs"] = peak_gib() - loaded
    return result


def fit_palate(x: Single, first: Bools, held: Single, held_first: Bools) -> dict[str, Any]:
    from palate import losses
    from palate.reward import RewardModel, fit_arrays, heads
    from palate.reward.fitting import fit_network
    from palate.reward.network import Network
    from palate.training import TrainingGroups

    n = len(first)
    pairs = np.arange(2 * n).reshape(n, 2)
    pairs = np.where(first[:, None], pairs, pairs[:, ::-1])
    targets, mask = np.tile([1.0, 0.0], (n, 1)), np.ones((n, 2), dtype=bool)
    seconds, parts = [], []
    for _ in range(3):
        start = time.perf_counter()
        network = Network(x.shape[1], heads.get("scalar").double())
        network.standardise_on(x)
        standardised = time.perf_counter()
        groups = TrainingGroups(pairs, targets, mask, np.ones(n), np.arange(n), 0)
        ended = fit_network(
            network, x, pairs, groups, losses.get("bradley_terry"), l2=L2, max_iter=500, tolerance=1e-6
        )
        seconds.append(time.perf_counter() - start)
        parts.append(standardised - start)
    ones = np.ones(x.shape[1], dtype=x.dtype)
    one_pass = timed(lambda: x @ ones, 0.0)
    # Mean and spread, and differences, read the inputs; an evaluation reads the differences twice.
    gib = (2 * x.nbytes + (1 + 2 * ended["evaluations"]) * x.nbytes / 2) / 2**30
    floor = one_pass * gib / (x.nbytes / 2**30)
    start = time.perf_counter()
    model = fit_arrays(RewardModel("features", l2=L2), x, pairs)
    whole = time.perf_counter() - start
    scores = model.score_features(held)
    return {
        "seconds": float(np.median(seconds)),
        "seconds_each": [round(value, 3) for value in seconds],
        "seconds_to_standardise": float(np.median(parts)),
        "seconds_of_fit_arrays_with_checks_and_fingerprint": whole,
        "gib_moved": gib,
        "seconds_to_read_as_much": floor,
        "times_the_floor": float(np.median(seconds)) / floor,
        "held_out_loss": loss_of(scores[0::2] - scores[1::2], held_first),
        "iterations": ended["iterations"],
        "evaluations": ended["evaluations"],
        "converged": ended["converged"],
    }


Fitted = tuple[npt.NDArray[Any], float, dict[str, Any]]


def fit_sklearn(tolerance: float) -> Callable[[Single, Bools], Fitted]:
    def run(differences: Single, first: Bools) -> Fitted:
        from sklearn.linear_model import LogisticRegression

        start = time.perf_counter()
        model = LogisticRegression(
            C=1 / (L2 * len(first)), fit_intercept=False, tol=tolerance, max_iter=5000
        ).fit(differences, first)
        return model.coef_[0], time.perf_counter() - start, {"iterations": int(model.n_iter_[0])}

    return run


def fit_lbfgs(differences: Single, first: Bools) -> Fitted:
    import torch

    start = time.perf_counter()
    x, sign = torch.from_numpy(differences), torch.from_numpy(np.where(first, 1.0, -1.0).astype(np.float32))
    w = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.softplus(-sign * (x @ w)).mean() + L2 / 2 * w.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    state = optimizer.state[w]
    notes = {"iterations": state["n_iter"], "evaluations": state["func_evals"]}
    return w.detach().numpy(), time.perf_counter() - start, notes


def fit_adam(differences: Single, first: Bools) -> Fitted:
    import torch

    start = time.perf_counter()
    x, sign = torch.from_numpy(differences), torch.from_numpy(np.where(first, 1.0, -1.0).astype(np.float32))
    w = torch.zeros(x.shape[1], requires_grad=True)
    size, epochs = 1024, 3
    optimizer = torch.optim.Adam([w], lr=1e-2)
    steps = epochs * -(-len(x) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=draw).split(size):
            optimizer.zero_grad()
            value = torch.nn.functional.softplus(-sign[rows] * (x[rows] @ w)).mean()
            (value + L2 / 2 * w.square().sum()).backward()
            optimizer.step()
            schedule.step()
    return w.detach().numpy(), time.perf_counter() - start, {"iterations": steps}


PEERS: dict[str, Callable[[Single, Bools], Fitted]] = {
    "scikit-learn": fit_sklearn(1e-6),
    "scikit-learn, default tolerance": fit_sklearn(1e-4),
    "torch L-BFGS": fit_lbfgs,
    "torch Adam, 3 epochs": fit_adam,
}


def compared(x: Single, first: Bools, n: int) -> list[dict[str, Any]]:
    """All ways on the same embeddings, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", x)
        np.save(Path(folder) / "first.npy", first)
        del x
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--folder", folder, "--pairs", str(n)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(way, json.dumps(rows[-1]), flush=True)
    ours = rows[0]
    for row in rows[1:]:
        row["ratio"] = row["seconds"] / ours["seconds"]
        row["ratio_with_differences"] = (row["seconds"] + row["seconds_to_make_differences"]) / ours[
            "seconds"
        ]
        row["held_out_loss_above_palate"] = row["held_out_loss"] - ours["held_out_loss"]
        row["equal_held_out_loss"] = abs(row["held_out_loss_above_palate"]) <= TOLERANCE
    for row in rows:
        row |= {
            key: float(f"{value:.4g}")
            for key, value in row.items()
            if type(value) is float and "loss" not in key
        }
    return rows


def frozen(pairs: int, encoded: int) -> dict[str, Any]:
    held_out = min(HELD_OUT, pairs)
    made: dict[str, Any] = {
        "pairs": pairs, "held_out_pairs": held_out, "l2": L2, "equal_within": TOLERANCE,
        "rows": compared(*simulated(pairs + held_out), pairs),
    }  # fmt: skip
    if encoded:
        x, first = minilm(encoded + encoded // 4)
        made["minilm"] = {
            "pairs": encoded,
            "held_out_pairs": encoded // 4,
            "rows": compared(x, first, encoded),
        }
    return made


WORDS = [
    "answer", "question", "because", "people", "think", "good", "reason", "school", "water", "money",
    "always", "never", "better", "should", "would", "every", "child", "teacher", "city", "health",
    "music", "travel", "read", "write", "learn", "simple", "strong", "quiet", "early", "late",
]  # fmt: skip


def minilm(n: int) -> tuple[Single, Bools]:
    """MiniLM's embeddings (2 n, DIM) of texts of 10 to 29 words, and votes that lean to the one with more of
    the word 'reason'."""
    from palate import models

    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(10, 30))) for _ in range(2 * n)]
    lead = np.array([text.split().count("reason") for text in texts]).reshape(n, 2) @ [1, -1]
    x = models.embed(models.load_encoder(ENCODER), texts).astype(np.float32)
    return x, rng.random(n) < 1 / (1 + np.exp(-2.0 * lead))


def timed(run: Callable[[], Any], least: float = 0.3) -> float:
    """Median seconds of a call, over at least three calls and `least` seconds."""
    run()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < least:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def ranklist() -> dict[str, Any]:
    import torch

    from palate import losses

    def step(loss: Any, n: int) -> Callable[[], Any]:
        draw = torch.Generator().manual_seed(n)
        scores = torch.randn(64, n, generator=draw, requires_grad=True)
        labels = torch.randn(64, n, generator=draw)
        return lambda: torch.autograd.grad(loss(scores, labels), scores)

    ways = {
        "log-sum-exp, 1 skip": lambda: losses.get("ranklist", skips=1),
        "log-sum-exp, 3 skips": lambda: losses.get("ranklist", skips=3),
        "log-sum-exp, all skips": lambda: losses.get("ranklist"),
        "all pairs, by skips": lambda: losses.get("ranklist", form="exact", weights=1.0),
        "all pairs, by definition": lambda: losses.get("ranknet"),
    }
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # most of these steps are too short to share
    for n in (4, 16, 64, 256):
        row: dict[str, Any] = {"n": n}
        for name, build in ways.items():
            row[name] = float(f"{timed(step(build(), n)):.3g}")
        row["ratio"] = round(row["all pairs, by definition"] / row["log-sum-exp, 1 skip"], 2)
        rows.append(row)
        print(json.dumps(row), flush=True)
    torch.set_num_threads(threads)
    return {"batch": 64, "threads": 1, "seconds": rows}


def gpm() -> dict[str, Any]:
    import torch

    from palate import models
    from palate.reward import heads
    from palate.reward.network import Network

    encoder = models.load_encoder(ENCODER)
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(rng.choice(WORDS, 20))

    embedding = Network(DIM, heads.get("gpm", dim=6).double())
    pair = torch.nn.Linear(DIM, 1).double()

    def encode(texts: list[str]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(encoder.encode(texts), dtype=np.float64))

    rows = []
    with torch.no_grad():
        for n in (2, 4, 8, 16, 32):
            prompt, responses = text(), [text() for _ in range(n)]
            single = [f"{prompt}\n\n{response}" for response in responses]
            joint = [f"{prompt}\n\n{a}\n\n{b}" for i, a in enumerate(responses)
                     for j, b in enumerate(responses) if i != j]  # fmt: skip
            linear = timed(lambda: embedding.head.margins(embedding(encode(single))[None]), 0.0)  # noqa: B023
            square = timed(lambda: pair(encode(joint)), 0.0)  # noqa: B023
            rows.append(
                {"n": n, "encodes": n, "seconds": round(linear, 4), "pair_model_encodes": n * (n - 1),
                 "pair_model_seconds": round(square, 4), "ratio": round(square / linear, 2)}
            )  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    return {"encoder": ENCODER, "words": 20, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--encoded", type=int, default=2000, help="pairs of real embeddings; 0 for none")
    parser.add_argument("--only", default="frozen,ranklist,gpm")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(fit(args.way, args.folder, args.pairs)))
        return
    known = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "frozen": lambda: frozen(args.pairs, args.encoded), "ranklist": ranklist, "gpm": gpm,
    }  # fmt: skip
    for name in args.only.split(","):
        load = os.getloadavg()[0]
        known[name] = parts[name]() | {"load_at_start": round(load, 2)}
    import torch

    known["threads"] = torch.get_num_threads()
    known["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    known["versions"] = {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
