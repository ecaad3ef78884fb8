"""Leaderboards: Palate beside evalica, Arena-Rank, choix and crowd-kit on the same votes, in one run.

All start from the same columns in memory, two of item names and one of winners. Palate takes them as Arrow
strings; each peer gets them in the form it likes best, made before the clock starts: evalica lists of shared
Python strings and of its own winner values, Arena-Rank and crowd-kit a pandas frame. choix takes no names, so
its time holds the encoding and counting with pyarrow and NumPy.

Palate's time ends at the table of the board, intervals included where the method has any; evalica and choix
give none. Reported are medians (the peers' slow runs once or twice), the floor, which is one pass of
`dictionary_encode` over the two columns of names on one core, and the largest difference of a strength (or
score) where both define the same, with the peer run to a tight tolerance.

Sections can be run alone; their results are kept beside those of the others, so a run can be resumed.

Run: python benchmarks/rank.py [--only bradley_terry elo ...] [--repeats 5] [--missing]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import palate
from palate.data import PreferenceData
from palate.rank import count, methods
from palate.rank.battles import Battles
from palate.rank.orderings import Orderings

RESULT = Path(__file__).parent / "results" / "rank.json"
PACKAGES = ("palate", "evalica", "arena-rank", "choix", "crowd-kit", "numpy", "scipy", "pyarrow", "numba")
WINNERS = ("model_a", "model_b", "tie")


@dataclass
class Votes:
    """The same votes in the forms that the packages take."""

    first: pa.Array
    second: pa.Array
    winner: pa.Array
    i: np.ndarray
    j: np.ndarray
    outcome: np.ndarray
    names: list[str] = field(repr=False)

    @property
    def lists(self) -> tuple[list[str], list[str], list[Any]]:
        import evalica

        value = [evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw]
        names = self.names
        return (
            [names[i] for i in self.i.tolist()],
            [names[j] for j in self.j.tolist()],
            [value[k] for k in self.outcome.tolist()],
        )

    def frame(self) -> Any:
        import pandas as pd

        return pd.DataFrame(
            {name: pd.Series(values.to_pandas()) for name, values in
             (("model_a", self.first), ("model_b", self.second), ("winner", self.winner))}
        )  # fmt: skip

    def battles(self) -> Battles:
        return Battles.from_columns(self.first, self.second, self.winner)

    def encode(self) -> pa.ChunkedArray:
        return pa.chunked_array([self.first, self.second]).dictionary_encode().unify_dictionaries()

    @property
    def bytes(self) -> int:
        return self.first.nbytes + self.second.nbytes + self.winner.nbytes

    @cached_property
    def floor(self) -> float:
        """Seconds of one pass of encoding."""
        return timed({"floor": self.encode}, 3)["floor"]


def votes(n: int, items: int, ties: float = 0.15, seed: int = 0) -> Votes:
    """Columns of n votes between items of normal strengths."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0.0, 0.8, items)
    i = rng.integers(0, items, n, dtype=np.int32)
    j = (i + rng.integers(1, items, n, dtype=np.int32)) % np.int32(items)
    won = rng.random(n) < 1.0 / (1.0 + np.exp(theta[j] - theta[i]))
    outcome = np.where(rng.random(n) < ties, 2, np.where(won, 0, 1)).astype(np.int8)
    names = [f"organisation-{k % 37}/model-{k:04d}-chat" for k in range(items)]
    known = pa.array(names)
    return Votes(
        known.take(pa.array(i)), known.take(pa.array(j)), pa.array(WINNERS).take(pa.array(outcome)),
        i, j, outcome, names,
    )  # fmt: skip


def timed(work: dict[str, Callable[[], Any]], repeats: int, slow: float = 8.0) -> dict[str, float]:
    """Median seconds of each; they take turns, to meet the same machine.

    The first turn warms up (caches, compilers) unless it is the only one; a peer that takes longer than
    `slow` seconds is run once.
    """
    taken: dict[str, list[float]] = {name: [] for name in work}
    once: dict[str, float] = {}
    for turn in range(repeats + 1):
        for name, function in work.items():
            if name in once:
                continue
            gc.collect()
            start = time.perf_counter()
            function()
            seconds = time.perf_counter() - start
            if turn or not repeats:
                taken[name].append(seconds)
            elif seconds > slow and not name.startswith("palate"):
                once[name] = seconds
    return {name: once.get(name) or statistics.median(taken[name]) for name in work}


def row(case: str, method: str, seconds: float, given: Votes | None = None, **more: Any) -> dict[str, Any]:
    """One line of the result; `more` has the peer, its seconds, the agreement, a target."""
    found: dict[str, Any] = {"case": case, "method": method, "seconds": seconds}
    if "peer_seconds" in more:
        found |= {"peer": more["peer"], "peer_seconds": more["peer_seconds"]}
        found["ratio"] = more["peer_seconds"] / seconds
    if given is not None:
        found |= {"floor_seconds": given.floor, "bytes": given.bytes}
        found["floor_ratio"] = seconds / found["floor_seconds"]
    if "target_ratio" in more:
        found["target"] = f"{more['target_ratio']} x"
        found["met"] = found["ratio"] >= more["target_ratio"]
    if "target_seconds" in more:
        found["target"] = f"{more['target_seconds']} s"
        found["met"] = seconds <= more["target_seconds"]
    found |= {key: more[key] for key in ("difference", "note") if key in more}
    return found


def largest_difference(one: dict[str, float], other: dict[str, float], centre: bool = True) -> float:
    shift = statistics.fmean(other.values()) if centre else 0.0
    return max(abs(value - (other[name] - shift)) for name, value in one.items())


def case(n: int, items: int) -> str:
    return f"{n:,} votes, {items:,} items"


# -- sections --


def bradley_terry(repeats: int) -> list[dict[str, Any]]:
    """Bradley-Terry with sandwich intervals."""
    import evalica

    rows = []
    for n, items in ((10_000, 50), (100_000, 200), (1_000_000, 200), (1_000_000, 1000), (10_000_000, 200)):
        given = votes(n, items)
        xs, ys, winners = given.lists
        big = n > 1_000_000

        def ours(given: Votes = given) -> Any:
            return palate.rank(given.battles()).table

        work: dict[str, Callable[[], Any]] = {"palate": ours}
        work["evalica"] = lambda xs=xs, ys=ys, winners=winners: evalica.bradley_terry(xs, ys, winners)
        if not big:
            work["choix"] = lambda given=given: choix_strengths(given, 1e-8)
        if n in (100_000, 1_000_000) and items == 200:
            frame = given.frame()
            work["arena_rank"] = lambda frame=frame: arena_rank(frame)
            work["palate from pandas"] = lambda frame=frame: (
                palate.rank(Battles.from_columns(frame["model_a"], frame["model_b"], frame["winner"])).table
            )
        took = timed(work, repeats if not big else min(repeats, 3), slow=3.0)
        theta = palate.rank(given.battles()).strengths
        differences: dict[str, float] = {}
        if not big:
            exact = evalica.bradley_terry(xs, ys, winners, tolerance=1e-12, limit=10_000).scores
            differences["evalica"] = largest_difference(theta, np.log(exact).to_dict())
            differences["choix"] = largest_difference(theta, choix_strengths(given, 1e-12))
        if "arena_rank" in took:
            found = arena_rank(frame)
            ratings = np.asarray(found["ratings"]) / 400.0 * np.log(10.0)
            differences["arena_rank"] = largest_difference(
                theta, dict(zip(found["competitors"], ratings.tolist(), strict=True))
            )
        targets: dict[str, dict[str, Any]] = {}
        if n >= 1_000_000 and items == 200:
            targets["evalica"] = {"target_seconds": 1.0} if big else {"target_ratio": 8}
        for peer in ("evalica", "arena_rank", "choix"):
            if peer in took:
                more = targets.get(peer, {})
                if peer in differences:
                    more["difference"] = differences[peer]
                rows.append(
                    row(case(n, items), "bradley_terry", took["palate"], given, peer=peer,
                        peer_seconds=took[peer], **more)
                )  # fmt: skip
        if "palate from pandas" in took:
            rows.append(
                row(case(n, items), "bradley_terry", took["palate from pandas"], given,
                    note="from a pandas frame", peer="evalica", peer_seconds=took["evalica"])
            )  # fmt: skip
    return rows


def choix_strengths(given: Votes, tolerance: float) -> dict[str, float]:
    import choix

    first, second = given.encode().chunks
    names = first.dictionary.to_pylist()
    size = len(names)
    i, j = first.indices.to_numpy(), second.indices.to_numpy()
    code = pc.index_in(given.winner, pa.array(WINNERS)).to_numpy()
    cell = i.astype(np.int64) * size + j
    counts = [np.bincount(cell[code == k], minlength=size * size).reshape(size, size) for k in range(3)]
    wins = counts[0] + counts[1].T + 0.5 * (counts[2] + counts[2].T)
    return dict(zip(names, choix.ilsr_pairwise_dense(wins, tol=tolerance, max_iter=1000), strict=True))


def arena_rank(frame: Any) -> dict[str, Any]:
    """Arena-Rank's Bradley-Terry with sandwich intervals, from the frame."""
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    dataset = PairDataset.from_pandas(frame)
    found: dict[str, Any] = BradleyTerry(n_competitors=dataset.n_competitors).compute_ratings_and_cis(dataset)
    return found


def evalica_section(method: str, repeats: int, **options: Any) -> list[dict[str, Any]]:
    """A method that evalica has too, at a million votes."""
    import evalica

    rows = []
    for n, items in ((100_000, 200), (1_000_000, 200)):
        given = votes(n, items)
        xs, ys, winners = given.lists
        peer = {"davidson": evalica.newman, "elo": evalica.elo, "pagerank": evalica.pagerank}[method]

        def theirs(peer: Any = peer, xs: Any = xs, ys: Any = ys, winners: Any = winners, **tight: Any) -> Any:
            return peer(xs, ys, winners, **tight).scores

        took = timed(
            {
                "palate": lambda given=given: palate.rank(given.battles(), method, **options).table,
                "evalica": theirs,
            },
            repeats,
        )
        board = palate.rank(given.battles(), method, **options)
        tight = {} if method == "elo" else {"tolerance": 1e-12, "limit": 10_000}
        scores = theirs(**tight)
        if method == "davidson":
            difference = largest_difference(board.strengths, np.log(scores).to_dict())
        else:
            ratings = dict(zip(board.table["item"], board.table["rating"], strict=True))
            difference = largest_difference(ratings, scores.to_dict(), centre=False)
        name = f"evalica {peer.__name__}"
        rows.append(
            row(case(n, items), method, took["palate"], given, peer=name, peer_seconds=took["evalica"],
                difference=difference)
        )  # fmt: skip
    return rows


def davidson(repeats: int) -> list[dict[str, Any]]:
    """Davidson's ties beside evalica's Newman, the same model without intervals."""
    return evalica_section("davidson", repeats)


def elo(repeats: int) -> list[dict[str, Any]]:
    """Elo in the given order, k = 4; differences are in rating points."""
    return evalica_section("elo", repeats)


def pagerank(repeats: int) -> list[dict[str, Any]]:
    """PageRank; differences are of scores that sum to 1."""
    return evalica_section("pagerank", repeats)


def plackett_luce(repeats: int) -> list[dict[str, Any]]:
    """Plackett-Luce from rankings of 5 of 100 items, beside choix's I-LSR at its default tolerance."""
    import choix

    rng = np.random.default_rng(1)
    items, n, length = 100, 100_000, 5
    theta = rng.normal(0.0, 0.8, items)
    drawn = np.argpartition(rng.random((n, items)), length, axis=1)[:, :length]
    order = np.argsort(-(theta[drawn] + rng.gumbel(size=drawn.shape)), axis=1)
    ranked = np.take_along_axis(drawn, order, axis=1)
    names = pa.array([f"model-{k:03d}" for k in range(items)])
    flat = names.take(pa.array(ranked.ravel()))
    offsets = pa.array(np.arange(0, n * length + 1, length, dtype=np.int32))
    scores = pa.array(np.tile(-np.arange(1.0, length + 1), n))

    def ours() -> Any:
        columns = {"items": pa.ListArray.from_arrays(offsets, flat)}
        columns["scores"] = pa.ListArray.from_arrays(offsets, scores)
        return palate.rank(PreferenceData.from_columns(columns), "plackett_luce")

    def theirs(tolerance: float = 1e-8) -> dict[str, float]:
        encoded = flat.dictionary_encode()
        codes = encoded.indices.to_numpy().reshape(-1, length)
        found = choix.ilsr_rankings(items, [tuple(each) for each in codes.tolist()], tol=tolerance)
        return dict(zip(encoded.dictionary.to_pylist(), found.tolist(), strict=True))

    def ours_encoded() -> Any:
        encoded = flat.dictionary_encode()
        codes = encoded.indices.to_numpy().reshape(-1, length)
        rankings = Orderings.from_codes(codes, encoded.dictionary.to_pylist())
        return palate.rank.PlackettLuce().fit(rankings).leaderboard()

    took = timed(
        {"palate": lambda: ours().table, "encoded": lambda: ours_encoded().table, "choix": theirs}, repeats
    )
    floor = timed({"floor": flat.dictionary_encode}, 3)["floor"]
    without = row(
        f"{n:,} rankings of {length}, {items} items", "plackett_luce", took["encoded"],
        peer="choix ilsr_rankings", peer_seconds=took["choix"],
        difference=largest_difference(ours_encoded().strengths, theirs()), note="without a judgment record",
    )  # fmt: skip
    found = row(
        f"{n:,} rankings of {length}, {items} items", "plackett_luce", took["palate"],
        peer="choix ilsr_rankings", peer_seconds=took["choix"], target_ratio=50,
        difference=largest_difference(ours().strengths, theirs()), note="making and checking the record too",
    )  # fmt: skip
    return [
        entry | {"floor_seconds": floor, "floor_ratio": seconds / floor, "bytes": flat.nbytes}
        for entry, seconds in ((found, took["palate"]), (without, took["encoded"]))
    ]


def contextual_bt(repeats: int) -> list[dict[str, Any]]:
    """Contextual Bradley-Terry with four numeric features, with intervals, beside Arena-Rank's."""
    from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
    from arena_rank.utils.data_utils import ContextualPairDataset

    reg = 1e-3
    rows = []
    for n, items in ((100_000, 200), (1_000_000, 200)):
        rng = np.random.default_rng(2)
        given = votes(n, items, seed=2)
        features = {name: rng.normal(size=n) for name in ("length", "headers", "lists", "bold")}
        frame = given.frame().assign(**features)

        def theirs(frame: Any = frame, features: Any = features) -> dict[str, Any]:
            dataset = ContextualPairDataset.from_pandas(frame, list(features), reweighted=False)
            model = ContextualBradleyTerry(dataset.n_competitors, dataset.n_features, reg=reg)
            model.fit(dataset)
            found: dict[str, Any] = model.compute_ratings_and_cis(dataset)
            return found

        def ours(given: Votes = given, features: Any = features, n: int = n) -> Any:
            return palate.rank(given.battles(), "contextual_bt", features=features, l2_features=reg * n)

        # Timed on its second run, though its compiled loss belongs to one model and is compiled for each.
        took = timed({"palate": lambda ours=ours: ours().table, "arena_rank": theirs}, 1, slow=60.0)
        found = theirs() if n == 100_000 else None
        more: dict[str, Any] = {"target_ratio": 20}
        if found is not None:
            ratings = np.asarray(found["ratings"]) / 400.0 * np.log(10.0)
            competitors = dict(zip(found["competitors"], ratings.tolist(), strict=True))
            more["difference"] = largest_difference(ours().strengths, competitors)
            more["note"] = "Arena-Rank stops at a relative loss change of 1e-9"
        rows.append(
            row(case(n, items) + ", 4 features", "contextual_bt", took["palate"], given, peer="arena_rank",
                peer_seconds=took["arena_rank"], **more)
        )  # fmt: skip
    return rows


def factor_bt(repeats: int) -> list[dict[str, Any]]:
    """Votes of annotators who prefer a side, beside crowd-kit's noisy Bradley-Terry."""
    from crowdkit.aggregation import NoisyBradleyTerry

    n, items, workers = 10_000, 50, 100
    rng = np.random.default_rng(3)
    given = votes(n, items, ties=0.0, seed=3)
    worker = pa.array([f"worker-{k}" for k in range(workers)]).take(pa.array(rng.integers(0, workers, n)))
    frame = given.frame().rename(columns={"model_a": "left", "model_b": "right"})
    frame["worker"] = worker.to_pandas()
    frame["label"] = np.where(given.outcome == 0, frame["left"], frame["right"])
    data = record(given, annotator=worker)
    peer = NoisyBradleyTerry()
    took = timed(
        {
            "palate": lambda: palate.rank(record(given, annotator=worker), "factor_bt").table,
            "crowd-kit": lambda: peer.fit(frame),
        },
        repeats,
    )
    scores = peer.scores_
    board = palate.rank(data, "factor_bt")
    order = [board.strengths[name] for name in scores.index]
    rho = float(np.corrcoef(np.argsort(np.argsort(order)), np.argsort(np.argsort(scores)))[0, 1])
    return [
        row(case(n, items) + f", {workers} annotators", "factor_bt", took["palate"], given,
            peer="crowd-kit NoisyBradleyTerry", peer_seconds=took["crowd-kit"], target_ratio=10,
            note=f"priors differ; rank correlation {rho:.4f}")
    ]  # fmt: skip


def record(given: Votes, **more: Any) -> PreferenceData:
    """The votes as judgments."""
    n = len(given.first)
    offsets = pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32))
    places = np.arange(2 * n).reshape(2, n).T.ravel()
    code = pc.index_in(given.winner, pa.array(WINNERS)).to_numpy()
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[code].ravel()
    items = pa.concat_arrays([given.first, given.second]).take(pa.array(places))
    columns = {
        "items": pa.ListArray.from_arrays(offsets, items),
        "scores": pa.ListArray.from_arrays(offsets, pa.array(scores)),
    }
    return PreferenceData.from_columns(columns | more)


def bootstrap(repeats: int) -> list[dict[str, Any]]:
    """1000 bootstrap replicates of Bradley-Terry."""
    from palate.rank import BradleyTerry

    if "interval" not in BradleyTerry.parameters() or "replicates" not in BradleyTerry.parameters():
        print("  skipped: bradley_terry has no bootstrap yet")
        return []
    rows = []
    for n, items in ((100_000, 200), (1_000_000, 200)):
        given = votes(n, items)

        def ours(given: Votes = given) -> Any:
            return palate.rank(given.battles(), interval="bootstrap", replicates=1000).table

        counted = count(given.battles())
        sandwich, drawn = palate.rank(counted), palate.rank(counted, interval="bootstrap", replicates=1000)
        widths = [(t["upper"] - t["lower"]).to_numpy() for t in (sandwich.table, drawn.table)]
        took = timed({"palate": ours}, min(repeats, 3))
        rows.append(
            row(case(n, items) + ", 1000 replicates", "bootstrap", took["palate"], given, target_seconds=1.0,
                note=f"mean width {float(widths[1].mean() / widths[0].mean()):.3f} of the sandwich's")
        )  # fmt: skip
    return rows


def many_items(repeats: int) -> list[dict[str, Any]]:
    """A million distinct items with a ridge, whose intervals come from draws instead of a square matrix."""
    rows = []
    for n, items in ((1_000_000, 100_000), (5_000_000, 1_000_000)):
        given = votes(n, items, seed=4)
        once = 0 if items > 100_000 else 1
        took = timed(
            {
                "palate counts": lambda given=given: count(given.battles()),
                "palate": lambda given=given: palate.rank(given.battles(), l2=1.0),
            },
            once,
        )
        rows.append(row(case(n, items), "counts alone", took["palate counts"], given))
        rows.append(row(case(n, items), "bradley_terry, l2=1", took["palate"], given))
    return rows


def streaming(repeats: int) -> list[dict[str, Any]]:
    """Ten million votes from a Parquet file in batches, beside reading its three columns."""
    from palate.rank.streaming import count_file

    given = [votes(1_000_000, 200, seed=seed) for seed in range(10)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        schema = pa.schema([("model_a", pa.string()), ("model_b", pa.string()), ("winner", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for each in given:
                columns = [each.first, each.second, each.winner]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=1 << 18)
        size = path.stat().st_size

        def read() -> None:
            with pq.ParquetFile(path) as file:
                for _ in file.iter_batches(batch_size=1 << 17):
                    pass

        took = timed({"palate": lambda: count_file(path), "pyarrow": read}, min(repeats, 3))
    floor = {"floor_seconds": took["pyarrow"], "floor_ratio": took["palate"] / took["pyarrow"], "bytes": size}
    note = "the floor is reading the batches with pyarrow"
    return [row("10,000,000 votes, 200 items, Parquet", "count_file", took["palate"], note=note) | floor]


def partial_fit(repeats: int) -> list[dict[str, Any]]:
    """1000 further votes after a million, beside a fit to all of them."""
    from palate.rank import BradleyTerry

    given, more = votes(1_000_000, 200), votes(1000, 200, seed=9)
    fitted = BradleyTerry().fit(given.battles())
    before = dict(vars(fitted))
    everything = [pa.concat_arrays(pair) for pair in (
        (given.first, more.first), (given.second, more.second), (given.winner, more.winner))]  # fmt: skip

    def update() -> BradleyTerry:
        vars(fitted).update(before)
        return fitted.partial_fit(more.battles())

    def whole() -> BradleyTerry:
        return BradleyTerry().fit(Battles.from_columns(*everything))

    took = timed({"update": update, "whole": whole}, repeats)
    one, other = update().leaderboard().strengths, whole().leaderboard().strengths
    return [
        row("1,000 votes after 1,000,000, 200 items", "partial_fit", took["update"], peer="fit to all",
            peer_seconds=took["whole"], difference=largest_difference(one, other))
    ]  # fmt: skip


SECTIONS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "bradley_terry": bradley_terry, "davidson": davidson, "elo": elo, "pagerank": pagerank,
    "plackett_luce": plackett_luce, "contextual_bt": contextual_bt, "factor_bt": factor_bt,
    "bootstrap": bootstrap, "many_items": many_items, "streaming": streaming, "partial_fit": partial_fit,
}  # fmt: skip
METHODS = ("davidson", "elo", "pagerank", "plackett_luce", "contextual_bt", "factor_bt")


def show(found: dict[str, Any]) -> None:
    line = f"  {found['method']:<20} {found['case']:<44} {found['seconds'] * 1e3:9.1f} ms"
    if "peer" in found:
        line += f"   {found['peer']} {found['peer_seconds'] * 1e3:.1f} ms, {found['ratio']:.1f} x"
    if "floor_ratio" in found:
        line += f"   {found['floor_ratio']:.1f} x floor"
    if "difference" in found:
        line += f"   difference {found['difference']:.1e}"
    if "target" in found:
        line += f"   target {found['target']}: {'met' if found['met'] else 'NOT met'}"
    if "note" in found:
        line += f"   ({found['note']})"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--missing", action="store_true", help="leave out sections that the result file has")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    kept = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {}
    sections = kept.get("sections", {})
    for name in arguments.only:
        if arguments.missing and name in sections:
            continue
        print(name, flush=True)
        if name in METHODS and name not in methods():
            print(f"  skipped: palate has no method {name} yet")
            continue
        start = time.perf_counter()
        rows = SECTIONS[name](arguments.repeats)
        if not rows:
            continue
        for found in rows:
            show(found)
        sections[name] = {
            "about": (SECTIONS[name].__doc__ or "").strip(),
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "seconds_of_the_section": time.perf_counter() - start,
            "rows": rows,
        }
        result = {
            "machine": {
                "cpu": processor(), "cores": os.cpu_count(), "system": platform.system(),
                "python": platform.python_version(),
            },
            "versions": {name: version(name) for name in PACKAGES},
            "repeats": arguments.repeats,
            "sections": {name: sections[name] for name in SECTIONS if name in sections},
        }  # fmt: skip
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor()


if __name__ == "__main__":
    main()
