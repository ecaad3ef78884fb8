"""What a set of judgments holds: counts, ties, agreement, biases, connectivity and problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from palate.data import chance, problems
from palate.data.codes import combine
from palate.data.facts import Facts

if TYPE_CHECKING:
    from palate.data.table import PreferenceData

SMALLEST = 3  # components named, and items named of each


def describe(data: PreferenceData) -> dict[str, Any]:
    """Counts, ties, agreement, biases and problems of judgments; plain values that go into JSON as they are.

    Returns:
        A dict with these keys; what cannot be said of the data is None.

        - `rows, prompts, items, annotators`: how many (prompts by id, else by text).
        - `aspects, kinds, protocols`: name (kind of annotator, protocol) to number of judgments.
        - `ties`: `count` of judgments that find all their alternatives equal, `share` of those that
          compare, and `causes`.
        - `responses_per_row`: `min, mean, max`.
        - `scores`: one entry per aspect and scale: `n, missing, min, max, mean, distinct`.
        - `time`: `first, last` (ISO 8601, UTC), `missing`.
        - `agreement`: `percent`, Krippendorff's `alpha` and its `level`, on `units` that `annotators` share.
        - `duplicates`: `exact` (all of prompt, alternatives, scores, annotator, aspect, time the same as in
          an earlier row) and `repeated` (an annotator judging the same again).
        - `length_bias`: `share` of decided pairs won by the response with more characters, of `n` pairs
          that differ in length, with a 95% Wilson `interval`.
        - `position_bias`: `share` of decided two-way comparisons won by the first listed, of `n`, with the
          `p` of a two-sided binomial test against 1/2.
        - `connectivity`: numbers of `components` and `strong_components` of the graph of compared items,
          and the `smallest` components by name.
        - `problems`: see `palate.data.problems.find`.
    """
    facts = Facts(data)
    graph = components(facts)
    length, position = length_bias(facts), position_bias(facts)
    return {
        "rows": data.n_rows,
        "prompts": len(np.unique(facts.prompt[facts.prompt >= 0])),
        "items": len(facts.items[1]) if data.has("items") else 0,
        "annotators": len(np.unique(facts.annotator[facts.annotator >= 0])),
        "aspects": _counts(data, "aspect"),
        "kinds": _counts(data, "annotator_kind"),
        "protocols": _counts(data, "protocol"),
        "ties": _ties(facts),
        "responses_per_row": _sizes(facts),
        "scores": _scores(facts),
        "time": _time(data),
        "agreement": _agreement(facts),
        "duplicates": {"exact": len(facts.exact_duplicates), "repeated": len(facts.repeated)},
        "length_bias": length,
        "position_bias": position,
        "connectivity": graph,
        "problems": problems.find(facts, length=length, position=position, graph=graph),
    }


def _counts(data: PreferenceData, name: str) -> dict[str, int]:
    codes, names = data.codes(name)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return {name: int(count) for name, count in sorted(zip(names, counts, strict=True)) if count}


def _ties(facts: Facts) -> dict[str, Any]:
    rows = np.flatnonzero(facts.tied)
    codes, names = facts.data.codes("tie")
    causes = np.bincount(codes[rows] + 1, minlength=len(names) + 1)
    named = dict(zip(["unstated", *names], causes.tolist(), strict=True))
    comparing = int(facts.comparing.sum())
    return {
        "count": len(rows),
        "share": len(rows) / comparing if comparing else None,
        "causes": {name: count for name, count in named.items() if count},
    }


def _sizes(facts: Facts) -> dict[str, Any] | None:
    if not len(facts.lengths):
        return None
    k = facts.lengths
    return {"min": int(k.min()), "mean": float(k.mean()), "max": int(k.max())}


def _scores(facts: Facts) -> list[dict[str, Any]]:
    data = facts.data
    aspect, aspects = data.codes("aspect")
    scale, scales = data.codes("scale")
    group, size = combine(aspect, scale)
    found = []
    for code in range(size):
        row = int(np.argmax(group == code))
        values = facts.scores[group[facts.row] == code] if size > 1 else facts.scores
        known = values[~np.isnan(values)]
        found.append(
            {
                "aspect": aspects[aspect[row]] if aspect[row] >= 0 else None,
                "scale": scales[scale[row]] if scale[row] >= 0 else None,
                "n": len(known),
                "missing": len(values) - len(known),
                "min": float(known.min()) if len(known) else None,
                "max": float(known.max()) if len(known) else None,
                "mean": float(known.mean()) if len(known) else None,
                "distinct": len(np.unique(known)),
            }
        )
    return sorted(found, key=lambda entry: (entry["aspect"] or "", entry["scale"] or ""))


def _time(data: PreferenceData) -> dict[str, Any] | None:
    if not data.has("time"):
        return None
    column = data.column("time")
    ends = pc.min_max(column)
    first, last = ends["min"].as_py(), ends["max"].as_py()
    if first is None:
        return None
    return {"first": first.isoformat(), "last": last.isoformat(), "missing": column.null_count}


def _agreement(facts: Facts) -> dict[str, Any] | None:
    if facts.votes is None:
        return None
    shared = facts.votes.last_ones().shared()
    table = chance.Table.of(shared.unit, shared.value)
    if table.n_units == 0:
        return None
    level = "nominal"
    if facts.rating.all():
        level = "interval" if "interval" in _counts(facts.data, "scale") else "ordinal"
    weights = np.ones(table.n_units)
    alpha = chance.alpha(table, level, weights)
    return {
        "percent": chance.percent(table, weights),
        "alpha": None if np.isnan(alpha) else alpha,
        "level": level,
        "units": table.n_units,
        "annotators": len(np.unique(shared.annotator)),
        "pairs": int((table.size * (table.size - 1) // 2).sum()),
    }


def length_bias(facts: Facts) -> dict[str, Any] | None:
    """Share of decided pairs, among responses of different length in characters, that the longer one won."""
    if not facts.data.has("responses"):
        return None
    codes, texts = facts.responses
    length = np.append(texts.str.len_chars().to_numpy(), 0)[codes].astype(np.int64)
    pairs = facts.pairs
    start = facts.offsets[pairs.judgment]
    chosen, rejected = start + pairs.chosen, start + pairs.rejected
    count = ~pairs.tie & (codes[chosen] >= 0) & (codes[rejected] >= 0) & (length[chosen] != length[rejected])
    return _share(length[chosen[count]] > length[rejected[count]])


def position_bias(facts: Facts) -> dict[str, Any] | None:
    """Share of decided two-way comparisons that the first listed won; None if the order was not recorded."""
    if not facts.order_recorded:
        return None
    from scipy.stats import binomtest

    first = facts.sides[1]
    found = _share(first)
    if found is not None:
        found["p"] = float(binomtest(int(first.sum()), len(first)).pvalue)
    return found


def _share(won: npt.NDArray[np.bool_]) -> dict[str, Any] | None:
    from scipy.stats import binomtest

    if not len(won):
        return None
    interval = binomtest(int(won.sum()), len(won)).proportion_ci(0.95, method="wilson")
    ends = [float(interval.low), float(interval.high)]
    return {"share": float(won.mean()), "n": len(won), "interval": ends}


def components(facts: Facts) -> dict[str, Any] | None:
    """The graph of items, with an edge from loser to winner and both ways for a tie."""
    if not facts.data.has("items") or not len(facts.neighbours.judgment):
        return None
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes, names = facts.items
    pairs = facts.neighbours
    start = facts.offsets[pairs.judgment]
    winner, loser = codes[start + pairs.chosen], codes[start + pairs.rejected]
    known = (winner >= 0) & (loser >= 0)
    winner, loser, tie = winner[known], loser[known], pairs.tie[known]
    sources = np.concatenate([loser, winner[tie]])
    targets = np.concatenate([winner, loser[tie]])
    edges = np.unique(sources * len(names) + targets)
    sources, targets = np.divmod(edges, len(names))
    shape = (len(names), len(names))
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (sources, targets)), shape=shape).tocsr()
    weak, label = connected_components(graph, directed=True, connection="weak")
    strong, _ = connected_components(graph, directed=True, connection="strong")
    sizes = np.bincount(label)
    smallest = []
    if weak > 1:
        for component in np.argsort(sizes, kind="stable")[:SMALLEST]:
            members = np.flatnonzero(label == component)
            smallest.append({"size": len(members), "items": [names[i] for i in members[:SMALLEST]]})
    return {"components": int(weak), "strong_components": int(strong), "smallest": smallest}
