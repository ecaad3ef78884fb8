"""TrueSkill and OpenSkill: a Gaussian belief about each skill, updated by one judgment after another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, ndtri

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, MissingDependency
from palate.rank.base import Floats, Ints
from palate.rank.battles import FIRST_WINS, SECOND_WINS, Battles
from palate.rank.leaderboard import Scale
from palate.rank.online import Batch, Online
from palate.seeding import generator

DENSE_ITEMS = 2048
"""Beyond this many items the diagonal covariance is given as draws."""

DRAWS = 64


class _Skill(Online):
    """Items with a belief N(mu, sigma^2) each.

    Further attributes after `fit`:
        sigma_: standard deviations, shape (M,).
        ordinal_: mu - 3 sigma, the skill an item has almost certainly, shape (M,).
    """

    mu: float
    sigma: float
    beta: float
    tau: float
    sigma_: Floats
    ordinal_: Floats
    _variance: Floats

    def _check(self) -> None:
        self._number("mu", -np.inf)
        self._number("sigma", 0.0, open=True)
        self._number("beta", 0.0, open=True)
        self._number("tau", 0.0)
        self._number("level", 0.0, 1.0, open=True)

    def _forget(self) -> None:
        self.mu_, self._variance = np.zeros(0), np.zeros(0)

    def _start(self, batch: Batch, size: int) -> tuple[Floats, Floats]:
        """Means and variances to update, new items at the prior."""
        weight = batch.rows.weight
        if weight is not None and (weight != 1).any():
            at = int(np.argmax(weight != 1))
            raise DataError(
                f"{self.method} knows no weights ({weight[at]:g} is given)",
                row=int(batch.rows.judgment[at]) + 1, field="weight", file=batch.rows.source,
                remedy="drop the column, or repeat a judgment as often as it counts",
            )  # fmt: skip
        new = size - len(self.mu_)
        mu = np.concatenate([self.mu_, np.full(new, float(self.mu))])
        variance = np.concatenate([self._variance, np.full(new, float(self.sigma) ** 2)])
        return mu, variance

    def _finish(self) -> dict[str, Any]:
        mean = float(self.mu_.mean())
        self.sigma_ = np.sqrt(self._variance)
        self.strengths_ = self.mu_ - mean
        self.ordinal_ = self.mu_ - 3.0 * self.sigma_
        self.scale_ = Scale("skill", 1.0, mean)
        if len(self.mu_) <= DENSE_ITEMS:
            self.covariance_, self.draws_ = np.diag(self._variance), None
        else:
            normal = generator(0, self.method).standard_normal((len(self.mu_), DRAWS))
            normal /= np.sqrt(np.mean(normal**2, axis=1, keepdims=True))
            self.covariance_, self.draws_ = None, normal * self.sigma_[:, None]
        return {"interval": "posterior of each item, without their correlations"}


@dataclass(kw_only=True, repr=False, eq=False)
class TrueSkill(_Skill):
    """TrueSkill: skill s_i ~ N(mu_i, sigma_i^2), performance ~ N(s_i, beta^2), the better performance wins
    and a difference within a margin is a draw (Herbrich, Minka and Graepel 2006).

    Judgments of two items are rated by closed form: with v = sigma^2 + tau^2, c^2 = 2 beta^2 + v_w + v_l,
    t = (mu_w - mu_l)/c and the margin e = Phi^-1((draw_probability + 1)/2) sqrt(2) beta / c, a win moves the
    means by v V/c and scales the variances by 1 - v W/c^2, V = phi(t - e)/Phi(t - e), W = V (V + t - e); a
    draw likewise, truncated to the margin on both sides. Rankings of more items go through the package
    `trueskill`, which passes messages over the whole ranking.

    The leaderboard shows mu; `ordinal_` has mu - 3 sigma. Intervals are those of the beliefs, which know no
    correlations between items. The probability to win is that of two items whose skills are known.

    Args:
        mu, sigma: belief about a new item.
        beta: standard deviation of a performance.
        tau: growth of sigma before each judgment; more follows changes faster.
        draw_probability: probability of a draw between equal items. Set it to what your data suggest; the
            diagnostics have their share of ties.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        anchor: an item, or {item: skill}; all skills are shifted so that it has this one.
        level: coverage of the intervals.
    """

    method = "trueskill"

    mu: float = 25.0
    sigma: float = 25.0 / 3.0
    beta: float = 25.0 / 6.0
    tau: float = 25.0 / 300.0
    draw_probability: float = 0.1
    both_bad: Literal["tie", "drop"] = "tie"
    anchor: str | Mapping[str, float] | None = None
    level: float = 0.95

    def link(self, difference: Any) -> Any:
        """P(win) + P(draw)/2 of two items whose skills are known and differ by `difference`."""
        gap = np.asarray(difference) / (math.sqrt(2.0) * self.beta)
        margin = ndtri((self.draw_probability + 1.0) / 2.0)
        return 0.5 * (ndtr(gap - margin) + ndtr(gap + margin))

    def _check(self) -> None:
        super()._check()
        self._number("draw_probability", 0.0, 1.0)
        if self.draw_probability == 1:
            raise ConfigError("draw_probability is 1; use a number below 1")

    def _update(self, batch: Batch, size: int) -> None:
        mu, variance = self._start(batch, size)
        rows = batch.rows
        tie = np.flatnonzero(rows.outcome == 2)
        if self.draw_probability == 0 and len(tie):
            raise DataError(
                "a tie, which draw_probability=0 rules out", row=int(rows.judgment[tie[0]]) + 1,
                field="scores", file=rows.source, remedy="set draw_probability, such as to the share of ties",
            )  # fmt: skip
        if not rows.shared:
            self._rate_pairs(batch.code, rows.first, rows.second, rows.outcome, batch.order, mu, variance)
        else:
            self._rate_contests(contests(batch, self.both_bad), batch.code, mu, variance)
        self.mu_, self._variance = mu, variance

    def _rate_pairs(
        self, code: Ints, first: Any, second: Any, outcome: Any, order: Ints, mu: Floats, variance: Floats
    ) -> None:
        from palate.rank._online_kernels import trueskill

        margin = float(ndtri((self.draw_probability + 1.0) / 2.0)) * math.sqrt(2.0) * float(self.beta)
        trueskill(
            order, code[first], code[second], outcome, float(self.beta), float(self.tau), margin, mu, variance
        )

    def _rate_contests(self, played: Contests, code: Ints, mu: Floats, variance: Floats) -> None:
        """Runs of pairs through the kernel, rankings of more items through the package."""
        start, length = played.offsets[:-1], np.diff(played.offsets)
        pair = length[played.order] == 2
        edges = np.flatnonzero(np.diff(pair, prepend=not pair[0]))
        for begin, end in zip(edges, [*edges[1:], len(pair)], strict=True):
            chosen = played.order[begin:end]
            if pair[begin]:
                at = start[chosen]
                left, right = played.scores[at], played.scores[at + 1]
                outcome = np.where(left == right, 2, np.where(left > right, FIRST_WINS, SECOND_WINS))
                first, second = played.items[at], played.items[at + 1]
                self._rate_pairs(code, first, second, outcome, np.arange(len(at)), mu, variance)
            else:
                self._rate_rankings(played, chosen, code, mu, variance)

    def _rate_rankings(
        self, played: Contests, chosen: Ints, code: Ints, mu: Floats, variance: Floats
    ) -> None:
        try:
            import trueskill  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "TrueSkill of rankings of more than two items", package="trueskill"
            ) from error
        # The package's own normal distribution is good to 1e-7 only.
        model = trueskill.TrueSkill(
            self.mu, self.sigma, self.beta, self.tau, self.draw_probability, (ndtr, _density, ndtri)
        )
        for contest in chosen:
            part = slice(played.offsets[contest], played.offsets[contest + 1])
            items, scores = code[played.items[part]], played.scores[part]
            where: dict[str, Any] = {"row": int(played.judgment[contest]) + 1, "file": played.source}
            if played.apart[contest] and len(np.unique(scores)) < len(scores):
                raise DataError(
                    "trueskill rates rankings, and this judgment leaves some of its items uncompared",
                    **where, field="scores", remedy="use method='openskill'",
                )  # fmt: skip
            sigma = np.sqrt(variance[items])
            before = [(model.create_rating(*belief),) for belief in zip(mu[items], sigma, strict=True)]
            try:
                after = model.rate(before, ranks=(-scores).tolist())
            except FloatingPointError:
                raise DataError(
                    "a ranking so unlikely that trueskill cannot compute its update",
                    **where, field="scores", remedy="use method='openskill'",
                ) from None  # fmt: skip
            mu[items] = [rating.mu for (rating,) in after]
            variance[items] = [rating.sigma**2 for (rating,) in after]


@dataclass(kw_only=True, repr=False, eq=False)
class OpenSkill(_Skill):
    """Weng-Lin ratings with the Plackett-Luce likelihood, for judgments of any number of items
    (Weng and Lin 2011, algorithm 4).

    With v_i = sigma_i^2 + tau^2, c^2 = sum (v_q + beta^2), p_iq = e^{mu_i/c} / sum over {s: rank_s >= rank_q}
    of e^{mu_s/c} and A_q the number tied at rank_q, mu_i grows by (v_i/c) sum over {q: rank_q <= rank_i} of
    (1[q = i] - p_iq)/A_q, and sigma_i^2 becomes v_i max(1 - (sqrt(v_i)/c)(v_i/c^2) sum p_iq (1 - p_iq)/A_q,
    kappa). A pick of one among several is the first factor alone: the others are not compared. These are the
    numbers of the package `openskill` (model PlackettLuce, its defaults).

    The leaderboard shows mu; `ordinal_` has mu - 3 sigma. Intervals are those of the beliefs, which know no
    correlations between items. The probability to win is that of the model for two items whose skills are
    known, 1 / (1 + exp(-(mu_i - mu_j) / (sqrt(2) beta))).

    Args:
        mu, sigma: belief about a new item.
        beta: standard deviation of a performance.
        tau: growth of sigma before each judgment; more follows changes faster.
        kappa: least share of a variance that one judgment leaves.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        anchor: an item, or {item: skill}; all skills are shifted so that it has this one.
        level: coverage of the intervals.
    """

    method = "openskill"

    mu: float = 25.0
    sigma: float = 25.0 / 3.0
    beta: float = 25.0 / 6.0
    tau: float = 25.0 / 300.0
    kappa: float = 1e-4
    both_bad: Literal["tie", "drop"] = "tie"
    anchor: str | Mapping[str, float] | None = None
    level: float = 0.95

    def link(self, difference: Any) -> Any:
        """Probability to win of two items whose skills are known and differ by `difference`."""
        return expit(np.asarray(difference) / (math.sqrt(2.0) * self.beta))

    def _check(self) -> None:
        super()._check()
        self._number("kappa", 0.0, 1.0, open=True)

    def _update(self, batch: Batch, size: int) -> None:
        from palate.rank._online_kernels import weng_lin

        mu, variance = self._start(batch, size)
        played = contests(batch, self.both_bad)
        weng_lin(
            played.order, played.offsets, batch.code[played.items], played.scores, played.apart,
            float(self.beta), float(self.tau), float(self.kappa), mu, variance,
        )  # fmt: skip
        self.mu_, self._variance = mu, variance


@dataclass(frozen=True)
class Contests:
    """Judgments as contests of any number of items; those that compare nothing are left out.

    Attributes:
        offsets: contest r is among entries offsets[r]:offsets[r + 1], shape (contests + 1,).
        items: codes, as those of the battles.
        scores: higher is better, none is NaN.
        apart: whether equal scores of a contest are not compared (else they are ties), shape (contests,).
        order: contests in the order in which they are rated, shape (contests,).
        judgment: row of the data of each, shape (contests,).
        source: the file the judgments came from, for messages.
    """

    offsets: Ints
    items: npt.NDArray[np.integer[Any]]
    scores: Floats
    apart: npt.NDArray[np.bool_]
    order: Ints
    judgment: Ints
    source: Any


def contests(batch: Batch, both_bad: str) -> Contests:
    """The judgments of a batch as contests; `both_bad` as in `palate.rank.battles`."""
    rows, data = batch.rows, batch.data
    if not rows.shared:
        return _of_pairs(rows, batch.order)
    if data is None:
        raise ConfigError("rankings cannot be rated from their pairs; give the judgments themselves")
    judgment, place = np.unique(rows.judgment, return_inverse=True)
    used = np.zeros(data.n_rows, dtype=bool)
    used[judgment] = True
    row = np.repeat(np.arange(data.n_rows), np.diff(data.offsets()))
    keep = used[row] & ~np.isnan(data.scores)
    position = {item: i for i, item in enumerate(rows.items)}
    codes, names = data.flat_codes("items")
    recoded = np.array([position[name] for name in names.to_pylist()], dtype=np.int64)
    apart = _is(data, "protocol", "choice", judgment)
    if both_bad == "drop":
        apart |= _is(data, "tie", "both_bad", judgment)
    return Contests(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(row[keep], minlength=data.n_rows)[judgment])]),
        items=recoded[codes[keep]],
        scores=data.scores[keep],
        apart=apart,
        order=place[batch.order][np.flatnonzero(np.diff(place[batch.order], prepend=-1))],
        judgment=judgment,
        source=rows.source,
    )


def _of_pairs(rows: Battles, order: Ints) -> Contests:
    total = len(rows)
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])[rows.outcome]
    return Contests(
        offsets=np.arange(0, 2 * total + 1, 2),
        items=np.stack([rows.first, rows.second], axis=1).ravel(),
        scores=scores.ravel(),
        apart=np.zeros(total, dtype=bool),
        order=order,
        judgment=rows.judgment,
        source=rows.source,
    )


def _is(data: PreferenceData, column: str, value: str, rows: Ints) -> npt.NDArray[np.bool_]:
    codes, names = data.codes(column)
    return (
        np.asarray(codes[rows] == names.index(value)) if value in names else np.zeros(len(rows), dtype=bool)
    )


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
