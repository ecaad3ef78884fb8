"""Factor BT: votes that follow either the items' strengths or what is known of how they were shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtri

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError
from palate.rank.base import Ranker
from palate.rank.battles import SECOND_WINS, Battles, battles
from palate.rank.counts import Comparisons
from palate.rank.covariates import LARGEST
from palate.rank.mixture import Bend, Chance, Mixture
from palate.rank.voters import beta_penalty, check_prior, learn
from palate.rank.votes import Votes, rows_of, votes

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]


@dataclass(kw_only=True, repr=False, eq=False)
class FactorBT(Ranker):
    """P_k(first shown wins | x) = g_k s(d) + (1 - g_k) s(<x, b_k>), d = theta_first - theta_second.

    Annotator k follows the strengths with probability g_k (the reliability) and otherwise the presentation x,
    with pull b_k, the log-odds of the first per unit of a feature. With x = 1 (which was shown first) it is
    the noisy Bradley-Terry model of Bugakova et al. (2019). Strengths, g_k and b_k maximise the
    log-likelihood, plus a virtual item as in `CrowdBT`, the log density of a Beta prior on each g_k, and
    -l2/2 * sum (b_k * r)^2 with r the root mean square of the feature, so that l2 has no unit.

    An annotator without pulls (b_k = 0) and g_k = 0 tosses a coin; none can vote against the strengths, which
    is what `CrowdBT` is for. Strengths are those of a fully reliable annotator, so `link` is s(d).

    Args:
        features: {name: value of each judgment of the data, shape (rows,)}, signed for the first item: +1 for
            the left, length of the first minus that of the second; or of each side, shape (rows, 2), which
            becomes (a - b) / (|a| + |b| + 1). Left out, {"position": 1}; given, they are all there is, so
            name the position (all 1) too if it should count.
        ties: "half", a tie is half a vote for each side: its log-likelihood is half of log P + log(1 - P);
            "drop" leaves ties out.
        both_bad: "tie" counts ties marked "both_bad" as ties, "drop" leaves them out.
        virtual: weight of the virtual item; positive, so that finite strengths exist for any data.
        prior: Beta prior of a reliability.
        l2: ridge of the pulls; positive, as the pull of an annotator with g_k = 1 is in no vote.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating.
        interval: "hessian" inverts the observed information with the annotators eliminated; "sandwich" lets
            votes of one annotator depend on each other beyond the model (too narrow for fewer than about 30
            annotators).
        level: coverage of the intervals.

    Further attributes after `fit` (see `Ranker` for the rest):
        annotators_: annotator, n, reliability, standard_error, lower, upper (on the logit scale), and for
            each feature pull_NAME and pull_NAME_error.
        log_likelihood_: without the penalties.
        n_iter_, converged_: of the optimiser.
    """

    method = "factor_bt"

    log_likelihood_: float = field(init=False)
    n_iter_: int = field(init=False)
    converged_: bool = field(init=False)

    features: Mapping[str, Any] | None = None
    ties: Literal["half", "drop"] = "half"
    both_bad: Literal["tie", "drop"] = "tie"
    virtual: float = 0.5
    prior: tuple[float, float] = (2.0, 1.1)
    l2: float = 0.1
    anchor: str | Mapping[str, float] | None = None
    interval: Literal["hessian", "sandwich"] = "hessian"
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate strengths, reliabilities and pulls.

        Raises:
            DataError: nothing is compared, a judgment names no annotator or has more than two items, the
                winner is always first, or a feature is missing or 0 everywhere.
            ConfigError: a parameter has a value that cannot be used, or `data` are not judgments.
        """
        self._choice("ties", ("half", "drop"))
        self._choice("interval", ("hessian", "sandwich"))
        self._number("virtual", 0, open=True)
        self._number("l2", 0, open=True)
        self._number("level", 0, 1, open=True)
        check_prior(self.prior)
        judgments = rows_of(data, self.method)
        rows = battles(judgments, self.both_bad)
        self._anchor(rows.items)
        refuse_unordered(rows)
        names, values = _features(self.features, judgments)
        given = self.features is not None
        cells = votes(
            judgments,
            rows,
            ties=self.ties,
            ordered=True,
            features=values[:, rows.judgment] if given else None,
        )
        presented = cells.features if given else np.ones((1, len(cells.won)))
        unit = np.sqrt(np.average(presented**2, axis=1, weights=cells.won + cells.lost))
        if not unit.all():
            raise DataError(
                f"the feature {names[int(np.argmin(unit))]!r} is 0 in every comparison",
                file=judgments.source, remedy="leave it out",
            )  # fmt: skip
        model = FactorModel(
            cells, presented / unit[:, None], self.virtual, (self.prior[0], self.prior[1]), self.l2
        )
        start = np.zeros((1 + len(names), len(cells.annotators)))
        start[0] = logit(0.9)
        found = learn(self, model, rows, start)
        self.annotators_ = _report(cells, names, unit, found.own, found.own_errors, self.level)
        self.diagnostics_ |= {"prior": list(self.prior), "l2": self.l2, "features": names}
        return self


class FactorModel(Mixture):
    """P = g s(d) + (1 - g) s(<x, b>); the annotator's parameters are logit(g) and b, so q = 1 + F."""

    def __init__(
        self, votes: Votes, features: Floats, virtual: float, prior: tuple[float, float], l2: float
    ) -> None:
        super().__init__(votes, virtual)
        self.features, self.prior, self.l2 = features, prior, l2

    def chance(self, gap: Floats, own: Floats) -> Chance:
        s, t = expit(gap), expit(self._pull(own))
        g, not_g = expit(own[0]), expit(-own[0])
        by_own = np.concatenate([(g * not_g * (s - t))[None, :], not_g * t * (1.0 - t) * self.features])
        return Chance(g * s + not_g * t, g * (1.0 - s) + not_g * (1.0 - t), g * s * (1.0 - s), by_own)

    def bend(self, gap: Floats, own: Floats) -> Bend:
        s, t = expit(gap), expit(self._pull(own))
        g, not_g = expit(own[0]), expit(-own[0])
        slope, change, tilt = s * (1.0 - s), g * not_g, t * (1.0 - t)
        x = self.features
        q = 1 + len(x)
        mixed = np.zeros((q, len(gap)))
        mixed[0] = change * slope
        both = np.empty((q, q, len(gap)))
        both[0, 0] = change * (not_g - g) * (s - t)
        both[0, 1:] = both[1:, 0] = -change * tilt * x
        both[1:, 1:] = not_g * tilt * (1.0 - 2.0 * t) * x[:, None] * x[None, :]
        return Bend(g * slope * (1.0 - 2.0 * s), mixed, both)

    def penalty(self, own: Floats) -> tuple[Floats, Floats, Floats]:
        value, slope, stiff = beta_penalty(own[0], self.prior)
        pulls = own[1:]
        return (
            value + 0.5 * self.l2 * np.sum(pulls**2, axis=0),
            np.concatenate([slope[None, :], self.l2 * pulls]),
            np.concatenate([stiff[None, :], np.full_like(pulls, self.l2)]),
        )

    def _pull(self, own: Floats) -> Floats:
        return np.asarray(np.einsum("fc,fc->c", self.features, own[1:]))


def refuse_unordered(rows: Battles) -> None:
    """Raise a `DataError` where the judgments do not say which item was shown first."""
    if rows.shared:
        raise DataError(
            "a judgment has more than two items, of which none is first", file=rows.source,
            remedy="give judgments of two items, as they were shown",
        )  # fmt: skip
    if not (rows.outcome == SECOND_WINS).any():
        raise DataError(
            "the second item never wins, so the order of the items is not that in which they were shown",
            field="items", file=rows.source, remedy="list the items as they were shown, or use crowd_bt",
        )  # fmt: skip


def _features(given: Mapping[str, Any] | None, data: PreferenceData) -> tuple[list[str], Floats]:
    """Names and values, shape (F, rows), of the features."""
    if given is None:
        return ["position"], np.ones((1, data.n_rows))
    if not isinstance(given, Mapping) or not given:
        raise ConfigError("features is no mapping of names to values; use {'length': [...]} or leave it out")
    columns = []
    for name, values in given.items():
        try:
            column = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ConfigError(f"the feature {name!r} is not numeric; give one number per judgment") from None
        if column.shape == (data.n_rows, 2):
            first, second = column.T
            column = (first - second) / (np.abs(first) + np.abs(second) + 1.0)
        if column.shape != (data.n_rows,):
            raise ConfigError(
                f"the feature {name!r} has shape {column.shape}; give one number for each of the "
                f"{data.n_rows} judgments, or two, one a side"
            )
        broken = np.flatnonzero(~(np.abs(column) <= LARGEST))
        if len(broken):
            raise DataError(
                f"is {column[broken[0]]:g}", row=int(broken[0]) + 1, field=str(name), file=data.source,
                remedy=f"give a finite number (to {LARGEST:g}), 0 where the two sides do not differ",
            )  # fmt: skip
        columns.append(column)
    return [str(name) for name in given], np.stack(columns)


def _report(
    cells: Votes, names: list[str], unit: Floats, own: Floats, errors: Floats, level: float
) -> pl.DataFrame:
    import polars as pl

    half = float(ndtri(0.5 + level / 2)) * errors[:, 0]
    reliability = expit(own[0])
    columns: dict[str, Any] = {
        "annotator": cells.annotators,
        "n": cells.n,
        "reliability": reliability,
        "standard_error": reliability * (1.0 - reliability) * errors[:, 0],
        "lower": expit(own[0] - half),
        "upper": expit(own[0] + half),
    }
    for f, name in enumerate(names):
        columns[f"pull_{name}"] = own[1 + f] / unit[f]
        columns[f"pull_{name}_error"] = errors[:, 1 + f] / unit[f]
    return pl.DataFrame(columns)
