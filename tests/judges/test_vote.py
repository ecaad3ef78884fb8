"""Votes of several judges."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.judges import Comparison, Judge, Vote


class Says(Judge):
    """Gives fixed probabilities."""

    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def __init__(self, name: str, *probability: float) -> None:
        super().__init__(name)
        self.probability = np.array(probability)

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        return Comparison(self.probability)


def asked(vote: Vote) -> list[float]:
    n = len(vote.judges[0].probability)  # type: ignore[attr-defined]
    return vote.compare(["p"] * n, ["a"] * n, ["b"] * n).probability.tolist()


THREE = (
    Says("x", 0.9, 0.6, np.nan, np.nan),
    Says("y", 0.8, 0.1, 0.7, np.nan),
    Says("z", 0.4, 0.2, 0.2, np.nan),
)


def test_most_votes_decide_and_a_missing_answer_is_no_vote() -> None:
    np.testing.assert_allclose(asked(Vote(THREE)), [2 / 3, 1 / 3, np.nan, np.nan])


def test_a_draw_is_withheld_or_half() -> None:
    np.testing.assert_allclose(asked(Vote(THREE, tie="half"))[2:], [0.5, np.nan])


def test_probabilities_can_be_averaged_in_place_of_votes() -> None:
    np.testing.assert_allclose(asked(Vote(THREE, within="mean")), [0.7, 0.3, 0.45, np.nan])


def test_all_that_answer_must_agree_where_that_is_asked() -> None:
    judges = (Says("x", 0.9, 0.6, np.nan, 0.2, 0.5), Says("y", 0.8, 0.1, 0.7, 0.1, 0.5))
    np.testing.assert_allclose(asked(Vote(judges, across="unanimous")), [1.0, np.nan, 1.0, 0.0, np.nan])


def test_the_trace_says_what_each_judge_said() -> None:
    found = Vote(THREE).compare(["p"] * 4, ["a"] * 4, ["b"] * 4).trace
    assert found is not None
    assert found[0] == {"x": 0.9, "y": 0.8, "z": 0.4}


def test_one_judge_or_one_name_twice_is_no_vote() -> None:
    for judges in ((), (Says("x", 0.5),), (Says("x", 0.5), Says("x", 0.4))):
        with pytest.raises(ConfigError, match="two judges or more with different names"):
            Vote(judges)
    with pytest.raises(ConfigError, match="did you mean 'abstain'"):
        Vote(THREE, tie="abstein")  # type: ignore[arg-type]
