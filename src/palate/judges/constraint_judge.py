"""A judge with exact answers: the share of a prompt's constraints that a response satisfies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from palate.data import PreferenceData
from palate.errors import ConfigError, DataError
from palate.judges.base import Judge, Scores
from palate.judges.constraints import Constraint, check, parse_constraints


@dataclass
class ConstraintJudge(Judge):
    """Scores a response by the share of its prompt's constraints that it satisfies (0 to 1).

    Where the constraints come from, first found first: the option ``constraints=`` (one list per prompt, of
    `Constraint` objects, mappings or JSON), for `annotate` the data's own metadata, and else `known`. A
    prompt without constraints is missing (NaN).

    Attributes:
        known: constraints by prompt text; `ConstraintJudge.from_data` fills it, so that the judge can be used
            wherever a judge is called with prompts and responses alone.
    """

    known: Mapping[str, Sequence[Constraint]] = field(default_factory=dict, repr=False)
    name: str = field(default="constraint-checker", kw_only=True)
    kind: ClassVar[str] = "rule"
    native: ClassVar[frozenset[str]] = frozenset({"score"})
    order_matters: ClassVar[bool] = False

    @classmethod
    def from_data(cls, data: PreferenceData) -> Self:
        """A judge that knows the constraints of the prompts in `data` (see `constraints_of`).

        Raises:
            DataError: no row has constraints, or one prompt text has two different lists of them.
        """
        known: dict[str, list[Constraint]] = {}
        found = constraints_of(data)
        for row, (prompt, constraints) in enumerate(
            zip(data.column("prompt").to_pylist(), found, strict=True), 1
        ):
            if constraints and known.setdefault(prompt or "", constraints) != constraints:
                raise DataError(
                    "this prompt has other constraints in an earlier row", row=row, field="metadata",
                    file=data.source, remedy="give both rows the same constraints",
                )  # fmt: skip
        if not known:
            raise DataError(
                "no row has constraints", field="metadata", file=data.source,
                remedy='give metadata such as {"constraints": [{"kind": "no_commas"}]}',
            )  # fmt: skip
        return cls(known=known)

    def _score(
        self, prompts: list[str], responses: list[str], *, constraints: Any = None, **options: Any
    ) -> Scores:
        if constraints is None and not self.known and prompts:
            raise ConfigError(
                "the constraint judge needs constraints: give constraints=[...] (one list per prompt), "
                "or make it with ConstraintJudge.from_data(data)"
            )
        if constraints is None:
            constraints = [self.known.get(prompt, ()) for prompt in prompts]
        elif len(constraints) != len(prompts):
            raise ConfigError(
                f"one list of constraints per prompt is needed; got {len(constraints)} and {len(prompts)}"
            )
        scores = np.full(len(responses), np.nan)
        trace: list[dict[str, Any]] = []
        for i, (wanted, response) in enumerate(zip(constraints, responses, strict=True)):
            parsed = parse_constraints(wanted, row=i + 1) if wanted else []
            holds = check(parsed, response)
            if len(holds):
                scores[i] = holds.mean()
            trace.append(
                {
                    "satisfied": [one.describe() for one, ok in zip(parsed, holds, strict=True) if ok],
                    "violated": [one.describe() for one, ok in zip(parsed, holds, strict=True) if not ok],
                }
            )
        return Scores(scores, trace=trace)

    def annotate(self, data: PreferenceData, **options: Any) -> PreferenceData:
        """The same prompts and responses with the share of constraints satisfied as scores."""
        if "constraints" not in options and not self.known:
            options["constraints"] = constraints_of(data)
        return super().annotate(data, **options)


def constraints_of(data: PreferenceData) -> list[list[Constraint]]:
    """The constraints of each judgment, from the key "constraints" of its metadata; an empty list where it
    has none.

    Raises:
        DataError: metadata that is not a JSON object, or constraints that cannot be read.
    """
    found: list[list[Constraint]] = []
    parsed: dict[str | None, list[Constraint]] = {None: []}
    for row, text in enumerate(data.column("metadata").to_pylist(), 1):
        if text not in parsed:
            try:
                metadata = json.loads(text)
            except ValueError:
                metadata = None
            if not isinstance(metadata, dict):
                raise DataError(
                    "is not a JSON object", row=row, field="metadata", file=data.source, remedy="write {...}"
                )
            parsed[text] = parse_constraints(metadata.get("constraints") or [], row=row)
        found.append(parsed[text])
    return found
