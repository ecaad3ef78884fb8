"""Mean opinion scores: boards of items that were rated, with what annotators do to ratings taken out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from scipy.special import ndtri, stdtrit

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank import ratings as reading
from palate.rank import subjects
from palate.rank.base import Floats, Ranker
from palate.rank.battles import Battles
from palate.rank.connectivity import describe_groups, listed
from palate.rank.counts import Comparisons
from palate.rank.leaderboard import Scale
from palate.rank.ratings import Ratings
from palate.rank.screening import bt500
from palate.rank.subjects import Cells, ratio
from palate.seeding import generator

if TYPE_CHECKING:
    import polars as pl

DENSE_ITEMS = 3000
"""Up to this many items the covariance is a matrix; beyond, errors are drawn."""

DRAWS = 64


@dataclass(kw_only=True, repr=False, eq=False)
class MeanOpinionScore(Ranker):
    """The score of an item is the mean of its ratings, corrected for who gave them.

    x_ijr is a rating of item j by annotator i. Corrections:

    - "none": the mean, with Student's t interval of the item's own ratings. An item with a single rating, or
      with equal ones, borrows the variance pooled over all items.
    - "zscore": annotators are brought to the same mean and standard deviation, (x - mean_i) / sd_i, and
      then back to the scale by the mean of all ratings and the pooled standard deviation within annotators;
      then as "none". It presumes that all annotators rate equally good items. Those with one rating, or with
      equal ones, have no z-scores: they are left out, and named in the diagnostics.
    - "bias": x = psi_j + Delta_i + noise by least squares, Delta of mean 0. Where all rate all items these
      are the means, with the intervals freed of bias of ITU-T P.913.
    - "bias_variance": x = psi_j + Delta_i + nu_i * noise by maximum likelihood (ITU-T P.910; Li,
      Bampis, Krasula, Janowski and Le Callet 2020): inconsistent annotators weigh less, in proportion to
      1 / nu_i^2. An annotator's nu is drawn towards the pooled one as if by `shrinkage` further ratings, so
      that few ratings that happen to fit do not weigh infinitely.

    Intervals of "bias" and "bias_variance" are those of the Fisher information of scores and biases, with
    residual variances that are corrected for the parameters they paid for. Ratings about several prompts are
    ratings of the item: what the prompts add is noise. Weights are precisions: a rating of weight w has
    variance nu^2 / w.

    Args:
        correction: see above; all but "none" need annotators.
        screening: "bt500" first rejects annotators by the rule of ITU-R BT.500 (see
            `palate.rank.screening.bt500`), prompt by prompt.
        aspects: "one" refuses data with several aspects; "mean" averages an annotator's ratings of an item
            over them.
        shrinkage: of "bias_variance", in ratings. 0 is the method as published, whose likelihood has no
            maximum: with few ratings it runs away to one annotator, and a `PalateWarning` says so.
        seed: for the errors of boards of more than 3000 items, which are drawn.
        anchor: an item, or {item: rating}; all ratings are shifted so that it has this rating.
        level: coverage of the intervals.

    After `fit`, ratings of the board are the scores: `scale_.base` is their mean over items. `annotators_`
    has one row per annotator: annotator, n, mean, bias (mean difference to the scores), inconsistency
    (standard deviation of the ratings around score and bias; of "bias_variance" nu), correlation (with the
    mean of the others' ratings, less their biases), rejected, and flag ("rejected", "one rating", "constant"
    or null).
    """

    method = "mean_opinion_score"
    link = None  # type: ignore[assignment]

    correction: Literal["none", "zscore", "bias", "bias_variance"] = "none"
    screening: Literal["bt500"] | None = None
    aspects: Literal["one", "mean"] = "one"
    shrinkage: float = 1.0
    seed: int = 0
    anchor: str | Mapping[str, float] | None = None
    level: float = 0.95

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate the scores.

        Raises:
            DataError: no ratings of two items or more, a comparison among them, several aspects or scales,
                equal ratings throughout, a correction and a rating without an annotator, or biases that
                cannot be told from scores because no annotator connects some items (the groups are named).
            ConfigError: a parameter has a value that cannot be used, or `data` are counted comparisons.
        """
        self._check()
        if not isinstance(data, PreferenceData):
            raise ConfigError("mean_opinion_score needs ratings; battles and counted comparisons hold none")
        given, notes = reading.read(data, self.aspects)
        self._anchor(given.items)
        if self.correction != "none" or self.screening:
            self._need_annotators(data, given)
        used, rejected, lost = self._screen(given)
        self.diagnostics_ = {
            "ratings": len(given),
            "annotators": len(np.unique(given.annotator[given.annotator >= 0])),
            "correction": self.correction,
            "screening": self.screening,
            **notes,
            "rejected": [given.annotators[i] for i in np.flatnonzero(rejected)],
        }
        self._forget()
        variance: Floats | None = None
        if self.correction in ("none", "zscore"):
            if self.correction == "zscore":
                used, more = self._standardise(used)
                lost += more
            psi = self._plain(used)
        else:
            psi, variance = self._modelled(used)
        self.diagnostics_["items_without_ratings"] = notes["items_without_ratings"] + lost
        self._anchor(used.items)
        self.items_, self.n_ = used.items, np.bincount(used.item)
        self.strengths_ = psi - psi.mean()
        self.scale_ = Scale("mean opinion score", 1.0, float(psi.mean()))
        if self.bounds_ is not None:
            self.bounds_ = self.bounds_ - psi.mean()
        self.annotators_ = _report(given, dict(zip(used.items, psi, strict=True)), rejected, variance)
        return self

    def _forget(self) -> None:
        self.covariance_ = self.draws_ = self.bounds_ = None

    def _check(self) -> None:
        self._choice("correction", ("none", "zscore", "bias", "bias_variance"))
        screening: str | None = self.screening
        if screening not in (None, "bt500"):
            raise ConfigError(f"screening is {self.screening!r}; use 'bt500' or None")
        self._choice("aspects", ("one", "mean"))
        self._number("shrinkage", 0.0)
        self._number("level", 0.0, 1.0, open=True)

    def _need_annotators(self, data: PreferenceData, given: Ratings) -> None:
        missing = np.flatnonzero(given.annotator < 0)
        if not len(missing):
            return
        what = f"correction={self.correction!r}" if self.correction != "none" else "screening='bt500'"
        row = int(np.flatnonzero(data.codes("annotator")[0] < 0)[0]) + 1
        raise DataError(
            f"{len(missing)} of {len(given)} ratings have no annotator, which {what} needs", row=row,
            field="annotator", file=data.source,
            remedy="name the annotators, or set correction='none' and screening=None",
        )  # fmt: skip

    def _screen(self, given: Ratings) -> tuple[Ratings, Any, list[str]]:
        """The ratings that count, which annotators are rejected, and the items that lose all ratings."""
        rejected = np.zeros(len(given.annotators), dtype=bool)
        if self.screening is None:
            return given, rejected, []
        found = bt500(given.annotator, given.stimulus, given.score)
        rejected[: len(found)] = found
        used, lost = given.kept(~rejected[given.annotator])
        return used, rejected, lost

    def _standardise(self, used: Ratings) -> tuple[Ratings, list[str]]:
        """The ratings as z-scores on the scale of all, without annotators who have none."""
        size = len(used.annotators)
        n = np.bincount(used.annotator, minlength=size)
        mean = ratio(np.bincount(used.annotator, used.score, size), n.astype(np.float64))
        gap = used.score - mean[used.annotator]
        squares = np.bincount(used.annotator, gap**2, size)
        scaled = squares > 1e-20 * np.bincount(used.annotator, used.score**2, size)
        left_out = np.flatnonzero((n > 0) & ~scaled)
        self.diagnostics_["annotators_without_zscore"] = [used.annotators[i] for i in left_out]
        keep = scaled[used.annotator]
        if not keep.any():
            raise DataError(
                "every annotator gave one rating or equal ones, so there are no z-scores", field="annotator",
                file=used.source, remedy="set correction='none'",
            )  # fmt: skip
        deviation = np.sqrt(ratio(squares, n - 1.0))
        pooled = float(np.sqrt(squares[scaled].sum() / (n[scaled] - 1).sum()))
        z = ratio(gap, deviation[used.annotator])
        middle = float(used.score[keep].mean())
        columns = {name: getattr(used, name) for name in ("item", "annotator", "stimulus", "weight")}
        mapped = Ratings(
            used.items, used.annotators, score=middle + pooled * z, source=used.source, **columns
        )
        return mapped.kept(keep)

    def _plain(self, used: Ratings) -> Floats:
        """Means with t intervals."""
        size = len(used.items)
        n, mass = np.bincount(used.item, minlength=size), np.bincount(used.item, used.weight, size)
        psi = np.asarray(np.bincount(used.item, used.weight * used.score, size) / mass)
        squares = (used.score - psi[used.item]) ** 2
        own = np.bincount(used.item, used.weight**2 * squares, size) / mass**2
        variance = ratio(own * n, n - 1.0)
        degrees = n - 1.0
        total = float((n - 1).sum())
        pooled = float(used.weight @ squares) / max(total, 1.0)
        borrows = variance <= 1e-20 * max(float(np.var(used.score)), 1e-280)
        variance[borrows], degrees[borrows] = pooled / mass[borrows], total
        self.diagnostics_["items_with_pooled_variance"] = int(borrows.sum())
        if pooled <= 1e-20 * float(np.var(used.score)):
            self.diagnostics_["no_intervals"] = "no item has two different ratings"
            return psi
        half = stdtrit(degrees, 0.5 + self.level / 2) * np.sqrt(variance)
        self.bounds_ = np.stack([psi - half, psi + half], axis=1)
        if size <= DENSE_ITEMS:
            self.covariance_ = np.diag(variance)
        else:
            draws = generator(self.seed, "opinion").normal(size=(size, DRAWS))
            # Each row has exactly the item's variance, so that only comparisons of two items are drawn.
            self.draws_ = draws * np.sqrt(variance / np.mean(draws**2, axis=1))[:, None]
        return psi

    def _modelled(self, used: Ratings) -> tuple[Floats, Floats | None]:
        """Scores of a model with biases, and the variance of each annotator if it has one of their own."""
        cells = Cells.of(
            used.annotator, used.item, used.score, used.weight, len(used.annotators), len(used.items)
        )
        groups, labels = cells.groups()
        if groups > 1:
            raise DataError(
                f"biases cannot be told from scores: {describe_groups(used.items, groups, labels)}; no "
                "annotator rated items of two groups",
                file=used.source, remedy="rank each group by itself, or set correction='none'",
            )  # fmt: skip
        equal = self.correction == "bias"
        fit = subjects.equal_variances(cells) if equal else subjects.own_variances(cells, self.shrinkage)
        variance = fit.variance if equal else subjects.unbiased_variances(cells, fit, self.shrinkage)
        if not fit.converged:
            warnings.warn(
                f"the fit did not settle within {subjects.MAX_ITERATIONS} steps; set a larger shrinkage",
                PalateWarning,
                stacklevel=3,
            )
        rated = cells.n > 0
        exact = rated & (fit.variance <= 1e-11 * float(np.var(used.score)))
        if exact.any() and not exact[rated].all():
            names = listed([used.annotators[i] for i in np.flatnonzero(exact)], 5)
            warnings.warn(
                f"the scores repeat the ratings of {names}: the likelihood has no maximum there, and the "
                "intervals mean nothing; set shrinkage=1",
                PalateWarning,
                stacklevel=3,
            )
        self.diagnostics_ |= {
            "iterations": fit.n_iter,
            "settled": fit.converged,
            "log_likelihood": fit.log_likelihood,
            "spread_of_biases": float(np.std(fit.bias[rated])),
            "median_inconsistency": float(np.sqrt(np.median(fit.variance[rated]))),
        }
        if exact[rated].all():
            self.diagnostics_["no_intervals"] = "the ratings leave no residuals to judge errors by"
        elif len(used.items) <= DENSE_ITEMS:
            self.covariance_ = subjects.covariance(cells, variance)
        else:
            rng = generator(self.seed, "opinion")
            self.draws_ = subjects.error_draws(cells, variance, DRAWS, rng)
        if self.covariance_ is not None:
            half = ndtri(0.5 + self.level / 2) * np.sqrt(np.diagonal(self.covariance_))
            self.bounds_ = np.stack([fit.psi - half, fit.psi + half], axis=1)
        return fit.psi, None if equal else fit.variance


def _report(
    given: Ratings, scores: Mapping[str, float], rejected: Any, variance: Floats | None
) -> pl.DataFrame | None:
    """What is to be said of each annotator; see `MeanOpinionScore`."""
    if not (given.annotator >= 0).any():
        return None
    import polars as pl

    psi = np.array([scores.get(item, np.nan) for item in given.items])
    size = len(given.annotators)
    named = given.annotator >= 0
    score, who = given.score[named], given.annotator[named]
    n = np.bincount(who, minlength=size)
    use = named & ~np.isnan(psi[given.item])
    cells = Cells.of(
        given.annotator[use], given.item[use], given.score[use], given.weight[use], size, len(psi)
    )
    expected = np.nan_to_num(psi)
    bias = cells.means - ratio(cells.by_annotator(cells.weight * expected[cells.item]), cells.mass)
    freedom = cells.n - 1.0
    spread = np.sqrt(ratio(cells.residuals(expected, bias), freedom, np.nan))
    if variance is not None:
        spread = np.where(rejected | (cells.n == 0), spread, np.sqrt(variance))
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, who, score)
    np.maximum.at(high, who, score)
    flag = np.full(size, None, dtype=object)
    flag[(n > 1) & (low == high)] = "constant"
    flag[n == 1] = "one rating"
    flag[rejected] = "rejected"
    correlation = _with_others(cells, np.where(cells.mass > 0, bias, 0.0))
    frame = pl.DataFrame(
        {
            "annotator": given.annotators,
            "n": n,
            "mean": ratio(np.bincount(who, score, size), n.astype(np.float64)),
            "bias": np.where(cells.mass > 0, bias, np.nan),
            "inconsistency": spread,
            "correlation": correlation,
            "rejected": rejected,
            "flag": pl.Series(flag.tolist(), dtype=pl.String),
        }
    ).fill_nan(None)
    return frame.filter(pl.col("n") > 0)


def _with_others(cells: Cells, bias: Floats) -> Floats:
    """Correlation of each annotator's ratings with the mean of the others', NaN where undefined."""
    total = cells.by_item(cells.weight)[cells.item] - cells.weight
    free = cells.weight * (cells.mean - bias[cells.annotator])
    rest = cells.by_item(free)[cells.item] - free
    shared = total > 1e-12
    others = ratio(rest, np.where(shared, total, 0.0))
    weight = np.where(shared, cells.weight, 0.0)
    mass = cells.by_annotator(weight)

    def centred(values: Floats) -> Floats:
        return np.asarray(values - ratio(cells.by_annotator(weight * values), mass)[cells.annotator])

    x, y = centred(cells.mean), centred(others)
    xx, yy = cells.by_annotator(weight * x**2), cells.by_annotator(weight * y**2)
    defined = (xx > 1e-20) & (yy > 1e-20)
    return ratio(cells.by_annotator(weight * x * y), np.where(defined, np.sqrt(xx * yy), 0.0), np.nan)
