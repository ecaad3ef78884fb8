"""Bradley-Terry with covariates: strengths as they would be if style, length or position were equal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, PalateWarning
from palate.rank.advice import fit_of_pairs
from palate.rank.battles import TIE, Battles, battles
from palate.rank.bradley_terry import BradleyTerry
from palate.rank.clusters import cluster_codes
from palate.rank.connectivity import listed
from palate.rank.counts import Comparisons, count
from palate.rank.covariates import Design, Designer
from palate.rank.information import DENSE_ITEMS, laplacian, threads
from palate.rank.likelihood import DRAWS
from palate.rank.links import Logistic
from palate.rank.parts import part
from palate.rank.row_likelihood import Estimate, Gram, Rows, maximise
from palate.seeding import generator

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(kw_only=True, repr=False, eq=False)
class ContextualBradleyTerry(BradleyTerry):
    """P(a beats b) = 1 / (1 + exp(-d)), d = theta_a - theta_b + <f, beta>, with features f of the battle.

    Minimises sum_r w_r [log(1 + e^d_r) - y_r d_r] + l2/2 |theta|^2 + l2_features/2 |beta|^2 by Newton's
    method. Ratings are those at f = 0: equal style where f is a difference of style. Battles are not
    aggregated, because equal pairs differ in their features.

    Args:
        features: values by name. Numbers of shape (rows,) are f itself, as seen by the alternative shown
            first; of shape (rows, 2), or (alternatives,) in the order of the data, they are of each
            alternative and become a difference by `transform`. Texts of shape (rows,) give the advantage of
            the first in each category; texts of each alternative give the effect of having a category
            instead of the alphabetically first one. None: the data's own vectors, as feature_0, feature_1...
        transform: "ratio" is (u_a - u_b) / (u_a + u_b + 1), "diff" is u_a - u_b, "log" is log(u_a / u_b); or
            {feature: one of them}, the others being ratios.
        standardize: divide numeric columns by their population standard deviation over battles, so that a
            coefficient is the effect of one standard deviation; or the names of those to divide. Texts and
            the position stay 0 and 1. A column that is then constant is left out.
        center: subtract the mean over battles first, so that f = 0 is the usual difference, whoever was shown
            first. A flag of the battle such as "played at home" must not lose its mean: leave it out of
            `standardize`. With False the divisor is the root mean square about 0, and turning battles around
            changes no estimate.
        position: add the advantage of being shown first.
        l2_features: ridge on the coefficients. Positive values give finite coefficients for any data.

    The other parameters are those of `BradleyTerry`, without its bootstrap, which resamples counts; the
    sandwich clusters as well. With `reweight="pair"`, l2 and the likelihood are in
    units of weights with mean 1.

    Ridges elsewhere: the loss sum NLL + 1/4 |(R/400, beta)|^2 of base-10 ratings R (FastChat) is
    l2 = 0.5 / ln(10)^2 and l2_features = 0.5; the loss mean(w NLL) + reg/2 |beta|^2 with w of mean 1
    (Arena-Rank) is l2 = 0 and l2_features = reg * number of battles. The ridges are part of H here.

    After `fit`, `coefficients_` has a row a feature (feature, coefficient, standard_error, lower, upper, p,
    odds_factor = exp(coefficient), mean and sd that standardised it); a constant feature has nulls. Further
    attributes: coefficient_covariance_, shape (F, F), of those that are not constant.

    Sources: Bradley and Terry 1952 for the model, with covariates as in Springall 1973; style control after
    Chiang et al. 2024, "Chatbot Arena".
    """

    method = "contextual_bt"

    features: Mapping[str, Any] | None = None
    transform: str | Mapping[str, str] = "ratio"
    standardize: bool | Sequence[str] = True
    center: bool = True
    position: bool = False
    l2_features: float = 0.0

    def partial_fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Refused: battles that differ in their features cannot be summed.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("contextual_bt cannot go on from counts, which have no features; fit all battles")

    def fit(self, data: PreferenceData | Battles | Comparisons) -> Self:
        """Estimate strengths and coefficients.

        Raises:
            DataError: nothing is compared, a feature has an unusable value, or no finite estimate exists (it
                names the items or features concerned).
            ConfigError: a parameter has a value that cannot be used, or `data` are counts, which have lost
                what differs between equal battles.
        """
        self._choice("interval", ("sandwich", "hessian"))
        self._check()
        self._number("l2_features", 0.0)
        if isinstance(data, Comparisons):
            raise ConfigError("contextual_bt needs the battles one by one, because their features differ")
        every = battles(data, self.both_bad)
        self._anchor(every.items)
        judgments = data if isinstance(data, PreferenceData) else None
        counted = count(every, weights=self.weights)
        ties = counted.ties
        rows = part(every, every.outcome != TIE) if self.ties == "drop" else every
        used = self._prepared(counted, Logistic())
        designer = Designer(rows, judgments, self.transform, self.standardize, self.center)
        design = designer.design(self.features, self.position)
        clusters = self._clusters(rows, judgments)
        turned = _turned(rows, used, design, self.reweight is not None)
        self.comparisons_, self.n_comparisons_ = counted, counted.n_comparisons
        self.items_, self.link_, self.tie_, self.tie_error_ = used.items, Logistic(), 0.0, None
        with threads(used.n_items):
            found = maximise(turned, self.l2, self.l2_features)
            self._judge(found, design, used)
            self.strengths_, self.log_likelihood_ = found.theta - found.theta.mean(), found.log_likelihood
            self.n_iter_, self.converged_ = found.steps, found.converged
            probability = turned.probabilities(found.theta, found.beta)
            # A weight that counts equal judgments stands for as many squares.
            repeated = self.weights == "count" and self.cluster is None
            once = np.sqrt(rows.weights) if repeated else 1.0
            self._spread(turned, found, probability, clusters, once)
        self.coefficients_ = self._coefficients(design, found.beta)
        self.diagnostics_ = self._diagnose(used, ties) | self._more(turned, design, probability, clusters)
        return self

    def _clusters(self, rows: Battles, data: PreferenceData | None) -> Ints | None:
        """The cluster of each battle from 0, those of its own included; None where all are independent."""
        if self.cluster is None:
            return np.unique(rows.judgment, return_inverse=True)[1] if rows.shared else None
        if data is None:
            raise ConfigError("cluster is not known for battles; fit judgments")
        codes = cluster_codes(data, self.cluster)
        alone = codes < 0
        codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
        return np.unique(rows.of(codes), return_inverse=True)[1]

    # -- what has no estimate --

    def _judge(self, found: Estimate, design: Design, pairs: Comparisons) -> None:
        """Refuse data without a unique, finite estimate; warn where the fit did not end."""
        if found.converged:
            return
        if found.dependent is not None:
            feature, others = found.dependent
            names = [design.names[j] for j in others]
            by = f"the items and {listed(names, 5)}" if names else "the items"
            raise DataError(
                f"no unique estimate: the feature '{design.names[feature]}' follows from {by}",
                file=pairs.source, remedy="drop it, or set l2_features > 0",
            )  # fmt: skip
        if found.direction is not None:
            growth = np.abs(found.direction[1])
            names = [design.names[k] for k in np.flatnonzero(growth > 0.01 * growth.max(initial=0.0))]
            several = len(names) > 1
            raise DataError(
                f"no finite estimate: the feature{'s' if several else ''} {listed(names, 5)} "
                f"separate{'' if several else 's'} wins from losses",
                file=pairs.source,
                remedy=f"set l2_features > 0, or drop {'them' if several else 'it'}",
            )
        close = "the data are close to having no finite estimate"
        if found.system is None:
            raise DataError(close, file=pairs.source, remedy="set l2 > 0 and l2_features > 0")
        warnings.warn(
            f"the fit stopped after {found.steps} steps; {close}, set l2 > 0 and l2_features > 0",
            PalateWarning,
            stacklevel=3,
        )

    # -- uncertainty --

    def _spread(
        self, rows: Rows, found: Estimate, probability: Floats, clusters: Ints | None, once: Floats | float
    ) -> None:
        """Covariance of strengths and coefficients; beyond `DENSE_ITEMS` draws with that covariance."""
        system = found.system
        assert system is not None
        size, sandwich = rows.pairs.n_items, self.interval == "sandwich"
        self.covariance_ = self.draws_ = None
        weight: Floats | float = 1.0 if rows.weight is None else rows.weight
        scores = weight * (rows.won - probability) / once
        if size <= DENSE_ITEMS:
            covariance = system.inverse()
            if sandwich:
                covariance = covariance @ _middle(rows, scores, clusters) @ covariance
            self.covariance_ = covariance[:size, :size]
            self.coefficient_covariance_ = covariance[size:, size:]
            return
        normal = generator(0, "row_likelihood").standard_normal
        if sandwich:
            items, features = _noise(rows, scores, clusters, normal)
        else:
            items, features = _noise(rows, np.sqrt(weight * probability * (1.0 - probability)), None, normal)
            items += np.sqrt(self.l2) * normal(items.shape)
            features += np.sqrt(self.l2_features) * normal(features.shape)
        self.draws_, coefficients = system.solve(items - items.mean(axis=0), features, 1e-3)
        self.coefficient_covariance_ = coefficients @ coefficients.T / DRAWS

    # -- what is said --

    def _coefficients(self, design: Design, beta: Floats) -> pl.DataFrame:
        import polars as pl

        error = np.sqrt(np.diagonal(self.coefficient_covariance_))
        half = ndtri(0.5 + self.level / 2) * error
        p = 2.0 * ndtr(-np.abs(np.divide(beta, error, out=np.zeros_like(beta), where=error > 0)))
        columns = {
            "feature": design.names,
            "coefficient": beta,
            "standard_error": error,
            "lower": beta - half,
            "upper": beta + half,
            "p": p,
            "odds_factor": np.exp(beta),
            "mean": design.mean,
            "sd": design.scale,
        }
        kinds = {name: pl.String if name == "feature" else pl.Float64 for name in columns}
        found = pl.DataFrame(columns, schema=kinds)
        left_out = pl.DataFrame({"feature": design.constant}, schema={"feature": pl.String})
        return pl.concat([found, left_out], how="diagonal")

    def _more(self, rows: Rows, design: Design, probability: Floats, clusters: Ints | None) -> dict[str, Any]:
        # What the pairs should have won, their features being what they were.
        pairs = rows.pairs
        weighted = probability if rows.weight is None else rows.weight * probability
        expected = np.bincount(rows.pair, weighted, minlength=len(pairs.first))
        more: dict[str, Any] = {
            "features": len(design.names),
            "l2_features": self.l2_features,
            "fit": fit_of_pairs(pairs, expected / pairs.total),
        }
        if design.constant:
            more["constant_features"] = design.constant
        if design.reference:
            more["reference"] = design.reference
        if clusters is not None:
            more["clusters"] = int(clusters.max()) + 1
        return more


def _turned(rows: Battles, pairs: Comparisons, design: Design, reweighted: bool) -> Rows:
    """The battles as the likelihood sees them; `pairs` are theirs, with weights rescaled or not.

    The columns of `design` are turned in place.
    """
    first, second = rows.first.astype(np.int64), rows.second.astype(np.int64)
    turn = first > second
    size = pairs.n_items
    if size * size <= max(1 << 20, 4 * len(rows)):
        table = np.zeros(size * size, dtype=np.int64)
        forth, back = pairs.first * size + pairs.second, pairs.second * size + pairs.first
        table[forth] = table[back] = np.arange(len(pairs.first))
        first *= size
        first += second
        pair = table.take(first)
    else:
        pair = pairs.pair_of(first, second)
    won = np.array([1.0, 0.0, 0.5, 0.0, 1.0, 0.5]).take(rows.outcome + 3 * turn)
    weight = rows.weight
    if reweighted:
        raw = np.bincount(pair, weight, minlength=len(pairs.first))
        factor = (pairs.total / raw)[pair]
        weight = factor if weight is None else weight * factor
    side = np.array([1.0, -1.0]).take(turn)
    for column in design.values:
        column *= side
    return Rows(pairs, pair, design.values, won, weight)


def _middle(rows: Rows, scores: Floats, clusters: Ints | None) -> Floats:
    """The sandwich's middle: squared scores of battles, or of clusters, shape (M + F, M + F)."""
    if clusters is None:
        return _dense(rows.pairs, rows.gram(scores * scores))
    table = _score_table(rows, scores, clusters)
    size, some = table[0].shape[1], rows.features.shape[0]
    middle = np.empty((size + some, size + some))
    middle[:size, :size] = (table[0].T @ table[0]).toarray()
    middle[:size, size:] = table[0].T @ table[1]
    middle[size:, :size] = middle[:size, size:].T
    middle[size:, size:] = table[1].T @ table[1]
    return middle


def _dense(pairs: Comparisons, gram: Gram) -> Floats:
    return np.block([[laplacian(pairs, gram.pair), gram.mixed], [gram.mixed.T, gram.features]])


def _score_table(rows: Rows, scores: Floats, clusters: Ints) -> tuple[csr_array, Floats]:
    """Scores summed by cluster: of items, sparse (C, M), and of features, (C, F)."""
    groups = int(clusters.max()) + 1
    first, second = rows.pairs.first[rows.pair], rows.pairs.second[rows.pair]
    place = np.concatenate([clusters, clusters]), np.concatenate([first, second])
    of_items = csr_array((np.concatenate([scores, -scores]), place), shape=(groups, rows.pairs.n_items))
    columns = [np.bincount(clusters, scores * column, minlength=groups) for column in rows.features]
    return of_items, np.array(columns, dtype=np.float64).reshape(-1, groups).T


def _noise(
    rows: Rows, scores: Floats, clusters: Ints | None, normal: Callable[..., Floats]
) -> tuple[Floats, Floats]:
    """Draws with the covariance of the scores of items, (M, DRAWS), and of features, (F, DRAWS)."""
    if clusters is not None:
        of_items, of_features = _score_table(rows, scores, clusters)
        draws = normal((of_items.shape[0], DRAWS))
        return np.asarray(of_items.T @ draws), of_features.T @ draws
    items = np.empty((rows.pairs.n_items, DRAWS))
    features = np.empty((len(rows.features), DRAWS))
    for column in range(DRAWS):
        noisy = scores * normal(len(scores))
        by_pair = np.bincount(rows.pair, noisy, minlength=len(rows.pairs.first))
        items[:, column] = rows.pairs.per_item(by_pair, -by_pair)
        features[:, column] = rows.features @ noisy
    return items, features
