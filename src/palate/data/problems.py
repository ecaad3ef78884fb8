"""Problems in judgments that a user should know of before they are ranked or learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.codes import combine
from palate.data.facts import Facts

Ints = npt.NDArray[np.int64]

SHOWN = 5  # rows and names given as examples
ENOUGH_VOTES = 10  # ten votes for one side by an unbiased annotator: p = .002
EXTREME_LENGTH = 0.7
POSITION_P, POSITION_SHIFT = 0.01, 0.02

Problem = dict[str, Any]


def find(
    facts: Facts,
    *,
    length: dict[str, Any] | None,
    position: dict[str, Any] | None,
    graph: dict[str, Any] | None,
) -> list[Problem]:
    """Problems found, each `{kind, count, rows, message, remedy}`.

    `rows` are the numbers, from 1, of the first few rows concerned; empty where the problem is of the whole.

    Args:
        facts: the judgments.
        length, position, graph: the entries `length_bias`, `position_bias` and `connectivity` of `describe`.
    """
    found = [
        *_responses(facts),
        *_repeats(facts),
        *_annotators(facts),
        *_items(facts, graph),
        *_scores(facts),
    ]
    if length is not None and max(length["share"], 1 - length["share"]) >= EXTREME_LENGTH:
        low, high = length["interval"]
        if low > 0.5 or high < 0.5:
            which = "longer" if low > 0.5 else "shorter"
            share = max(length["share"], 1 - length["share"])
            found.append(
                _problem(
                    "length_bias",
                    round(share * length["n"]),
                    (),
                    f"the {which} response wins {share:.1%} of {length['n']} decided pairs",
                    "compare results with those of a length baseline, or control for length",
                )
            )
    if position is not None and position["p"] < POSITION_P and abs(position["share"] - 0.5) >= POSITION_SHIFT:
        found.append(
            _problem(
                "position_bias",
                position["n"],
                (),
                f"the first listed wins {position['share']:.1%} of {position['n']} decided comparisons "
                f"(p = {position['p']:.2g})",
                "show sides in random order; for a judge, ask both orders",
            )
        )
    return found


def _problem(kind: str, count: int, rows: Any, message: str, remedy: str) -> Problem:
    first = [int(row) + 1 for row in np.asarray(rows, dtype=np.int64)[:SHOWN]]
    return {"kind": kind, "count": int(count), "rows": first, "message": message, "remedy": remedy}


def _rows(kind: str, rows: Ints, message: str, remedy: str) -> Iterator[Problem]:
    if len(rows):
        yield _problem(kind, len(rows), rows, f"{len(rows)} judgments {message}", remedy)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _responses(facts: Facts) -> Iterator[Problem]:
    data = facts.data
    if data.has("responses"):
        codes, texts = facts.responses
        blank = np.append((texts.str.strip_chars() == "").to_numpy(), True)[codes]
        # A row without any response is of another kind, not empty.
        present = facts.per_row((codes >= 0).astype(np.int64)) > 0
        rows = np.flatnonzero((facts.per_row(blank.astype(np.int64)) > 0) & present)
        yield from _rows("empty_response", rows, "have an empty response", "filter them out, or answer again")
        yield from _rows(
            "identical_responses",
            _same_within(facts, codes),
            "compare a response with an equal one",
            "leave them out of training; they say nothing about the text",
        )
    if data.has("items"):
        yield from _rows(
            "item_against_itself",
            # With texts, two answers of one item are two alternatives.
            _same_within(facts, facts.alternative if data.has("responses") else facts.items[0]),
            "compare an item with itself",
            "filter them out; a ranking of items cannot use them",
        )
    if (facts.lengths == 1).any() and (facts.prompt >= 0).any():
        known = facts.prompt[facts.row] >= 0
        prompt = facts.prompt[facts.row][known]
        pair, size = combine(prompt, facts.alternative[known])
        of = np.zeros(size, dtype=np.int64)
        of[pair] = prompt
        alone = np.bincount(of, minlength=int(facts.prompt.max()) + 1) == 1
        rows = np.flatnonzero(alone[facts.prompt] & (facts.prompt >= 0))
        if len(rows):
            yield _problem(
                "one_response",
                int(alone.sum()),
                rows,
                f"{int(alone.sum())} prompts have one response only",
                "they cannot be compared within a prompt; use them as unpaired labels",
            )


def _same_within(facts: Facts, codes: Ints) -> Ints:
    """Rows of two or more alternatives of which two have one code (and are not null)."""
    two = np.flatnonzero(facts.lengths == 2)
    start = facts.offsets[two]
    same: Ints = two[(codes[start] == codes[start + 1]) & (codes[start] >= 0)]
    wide = (facts.lengths > 2)[facts.row] & (codes >= 0)
    if not wide.any():
        return same
    row = facts.row[wide]
    cell, size = combine(row, codes[wide])
    of = np.zeros(size, dtype=np.int64)
    of[cell] = row
    n = facts.data.n_rows
    repeated = np.bincount(of, minlength=n) < np.bincount(row, minlength=n)
    return np.sort(np.concatenate([same, np.flatnonzero(repeated)]))


def _repeats(facts: Facts) -> Iterator[Problem]:
    yield from _rows(
        "duplicate",
        facts.exact_duplicates,
        "are exact copies of an earlier one",
        "keep one of each, unless they were given independently",
    )
    copies = np.zeros(facts.data.n_rows, dtype=bool)
    copies[facts.exact_duplicates] = True
    revised = facts.repeated[~copies[facts.repeated]]
    yield from _rows(
        "repeated_judgment",
        revised,
        "are by an annotator who had judged the same before",
        "decide whether the last one counts or all do",
    )
    if facts.votes is None or facts.rating.all():
        return
    votes = facts.votes
    named = (facts.annotator >= 0) & facts.traceable
    keep = named[votes.judgment] & (votes.value != 0)
    if not keep.any():
        return
    key, size = combine(votes.unit[keep], votes.annotator[keep])
    up = np.bincount(key, votes.value[keep] > 0, size) > 0
    down = np.bincount(key, votes.value[keep] < 0, size) > 0
    both = up & down
    if both.any():
        rows = np.unique(votes.judgment[keep][both[key]])
        yield _problem(
            "contradiction",
            int(both.sum()),
            rows,
            f"annotators contradict themselves on {int(both.sum())} pairs",
            "drop both votes, or keep the last",
        )


def _annotators(facts: Facts) -> Iterator[Problem]:
    known = facts.annotator >= 0
    counts = np.bincount(facts.annotator[known], minlength=len(facts.annotators))
    single = np.flatnonzero(counts == 1)
    if len(single):
        rows = np.flatnonzero(known & (counts == 1)[facts.annotator])
        yield _problem(
            "single_vote",
            len(single),
            rows,
            f"{len(single)} annotators gave one judgment only",
            "their reliability cannot be estimated; use models without annotators for them",
        )
    rows, first = facts.sides
    if not facts.order_recorded:
        return
    who = facts.annotator[rows]
    rows, first, who = rows[who >= 0], first[who >= 0], who[who >= 0]
    votes = np.bincount(who, minlength=len(facts.annotators))
    firsts = np.bincount(who, first, minlength=len(facts.annotators))
    constant = (votes >= ENOUGH_VOTES) & ((firsts == 0) | (firsts == votes))
    if constant.any():
        names = [facts.annotators[i] for i in np.flatnonzero(constant)]
        yield _problem(
            "constant_side",
            len(names),
            rows[constant[who]],
            f"annotators chose one side in all of {ENOUGH_VOTES} decided votes or more: {_named(names)}",
            "look at their votes, and rank without them",
        )


def _items(facts: Facts, graph: dict[str, Any] | None) -> Iterator[Problem]:
    if graph is None:
        return
    codes, names = facts.items
    pairs = facts.neighbours
    start = facts.offsets[pairs.judgment]
    winner, loser = codes[start + pairs.chosen], codes[start + pairs.rejected]
    clear = (winner != loser) & (winner >= 0) & (loser >= 0)
    size = len(names)
    wins = np.bincount(winner[clear], minlength=size)
    losses = np.bincount(loser[clear], minlength=size)
    met = (wins + losses) > 0
    # A tie is half a win and half a loss for each of the two.
    wins = wins + np.bincount(loser[clear & pairs.tie], minlength=size)
    losses = losses + np.bincount(winner[clear & pairs.tie], minlength=size)
    for kind, none, what in (
        ("never_lost", losses == 0, "never lost"),
        ("never_won", wins == 0, "never won"),
    ):
        items = np.flatnonzero(none & met)
        if len(items):
            yield _problem(
                kind,
                len(items),
                (),
                f"items that {what} a comparison: {_named([names[i] for i in items])}",
                "their strength has no finite estimate; collect more votes, or use a ridge or prior",
            )
    if graph["components"] > 1:
        smallest = "; ".join(_named(part["items"]) for part in graph["smallest"])
        yield _problem(
            "disconnected",
            graph["components"],
            (),
            f"the items fall into {graph['components']} groups never compared with each other, "
            f"the smallest: {smallest}",
            "rank each group by itself, or collect comparisons between them",
        )
    elif graph["strong_components"] > 1:
        yield _problem(
            "separated",
            graph["strong_components"],
            (),
            f"the items fall into {graph['strong_components']} groups of which one always beats the next",
            "the distance between them has no finite estimate; collect more votes, or use a ridge or prior",
        )


def _scores(facts: Facts) -> Iterator[Problem]:
    yield from _rows(
        "missing_scores",
        np.flatnonzero(facts.judged == 0),
        "have no score at all",
        "filter them out, or have them judged",
    )
    comparing = int(facts.comparing.sum())
    if comparing and int(facts.tied.sum()) == comparing:
        yield _problem(
            "all_ties",
            comparing,
            np.flatnonzero(facts.tied),
            "every comparison is a tie",
            "check how the winner was read; nothing can be ranked or learnt from ties alone",
        )
    rating = facts.rating[facts.row] & ~np.isnan(facts.scores)
    aspect, aspects = facts.data.codes("aspect")
    for code in np.unique(aspect):
        at = np.flatnonzero(rating & (aspect[facts.row] == code))
        odd = _odd_values(facts.scores[at])
        if odd is None:
            continue
        low, high, outside = odd
        values = np.unique(facts.scores[at[outside]])
        shown = ", ".join(f"{value:g}" for value in values[:SHOWN])
        name = f" of aspect '{aspects[code]}'" if code >= 0 else ""
        yield _problem(
            "scale_values",
            len(outside),
            np.unique(facts.row[at[outside]]),
            f"{len(outside)} scores{name} lie outside {low:g} to {high:g}, where nearly all are: {shown}",
            "check for typing errors and codes for 'no answer'; write those as NaN",
        )


def _odd_values(scores: npt.NDArray[np.float64]) -> tuple[float, float, Ints] | None:
    """The range of nearly all scores, and the places of the few beyond it; None if there are none.

    On a scale of few values these are the values that at least 0.5% of the scores have; otherwise the range
    from the 1st to the 99th percentile, widened by three times its length on both sides.
    """
    if len(scores) < 50:
        return None
    values, counts = np.unique(scores, return_counts=True)
    if len(values) <= 50:
        common = values[counts >= max(2.0, 0.005 * len(scores))]
        if not len(common):
            return None
        low, high = float(common[0]), float(common[-1])
    else:
        lower, upper = np.quantile(scores, [0.01, 0.99])
        low, high = float(4 * lower - 3 * upper), float(4 * upper - 3 * lower)
    outside = np.flatnonzero((scores < low) | (scores > high))
    return (low, high, outside) if 0 < len(outside) <= 0.01 * len(scores) else None
