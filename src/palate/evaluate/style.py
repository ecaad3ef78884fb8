"""Judging a judge with style set aside: how much of its agreement is length and markdown.

The test loss of a judge is fitted with and without style covariates, and its reliance on style is set against
that of the people whose votes are predicted (Wang et al. 2025, "WorldPM", appendix B; Li et al. 2024).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import ConfigError, DataError, PalateWarning
from palate.evaluate import metrics
from palate.report import Report

if TYPE_CHECKING:
    from palate.data import PreferenceData
    from palate.judges.base import Judge

Floats = npt.NDArray[np.float64]
Style = Mapping[str, npt.ArrayLike]

FEATURES = ("tokens", "lists", "headers", "bold")
"""Style counts of `palate.data.style` used unless others are named."""
CAP = 30.0
"""Largest coefficient, in log-odds per root-mean-square of its covariate."""


@dataclass(frozen=True)
class StyleControl:
    """A fit of ``P(y_0 preferred) = logistic(alpha D + sum_f beta_f Z_f)``.

    D is the judge's score of y_0 less that of y_1, Z_f the difference of style feature f as in
    `style_difference`, divided by its root mean square over the set.

    Attributes:
        alpha: log-odds per unit of the judge's score.
        beta: of each style feature, log-odds per root mean square.
        scale: root mean square of each feature's difference; 0 for one that never differs.
        loss: mean logistic loss in nats.
        accuracy: share of pairs whose sign is right; a zero is half right, tied labels are left out.
        alpha_uncontrolled, loss_uncontrolled, accuracy_uncontrolled: with all beta at 0 and alpha fitted.
        n: pairs fitted.
        missing: pairs left out because the judge gave no answer or a count is missing.
        capped: whether a coefficient was held at `CAP`.
    """

    alpha: float
    beta: dict[str, float]
    scale: dict[str, float]
    loss: float
    accuracy: float
    alpha_uncontrolled: float
    loss_uncontrolled: float
    accuracy_uncontrolled: float
    n: int
    missing: int
    capped: bool

    def logits(self, judge_diffs: npt.ArrayLike, style_a: Style, style_b: Style) -> Floats:
        """alpha D + Z beta of any pairs, shape (n,)."""
        difference = style_difference(style_a, style_b, tuple(self.beta))
        total = self.alpha * np.asarray(judge_diffs, dtype=np.float64)
        for name, value in difference.items():
            if self.scale[name] > 0:
                total = total + self.beta[name] * value / self.scale[name]
        return total


def style_difference(
    style_a: Style, style_b: Style, features: Sequence[str] | None = None
) -> dict[str, Floats]:
    """Relative difference of each style count, ``(f_a - f_b) / (f_a + f_b)``, 0 where both are 0.

    Args:
        style_a, style_b: name -> counts of shape (n,), 0 or more; NaN where missing.
        features: which; all of `style_a` where None.

    Raises:
        ConfigError: a feature is missing from a side, or the shapes differ.
        DataError: a count is negative.
    """
    found = {}
    for name in style_a if features is None else features:
        if name not in style_a or name not in style_b:
            raise ConfigError(f"the style feature {name!r} is missing from a side; count it for both")
        a, b = (np.atleast_1d(np.asarray(side[name], dtype=np.float64)) for side in (style_a, style_b))
        if a.shape != b.shape:
            raise ConfigError(f"the two sides have {a.shape} and {b.shape} counts of {name!r}")
        negative = (a < 0) | (b < 0)
        if negative.any():
            raise DataError("a count is negative", row=int(np.flatnonzero(negative)[0]) + 1, field=name)
        total = a + b
        found[name] = np.divide(a - b, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)
    return found


def style_control(
    judge_diffs: npt.ArrayLike,
    style_a: Style,
    style_b: Style,
    labels: npt.ArrayLike,
    features: Sequence[str] | None = None,
) -> StyleControl:
    """Fit how far a judge's scores and style each go towards the labels, by maximum likelihood.

    There is no intercept and covariates are not centred, so that the result does not depend on which response
    of a pair is called first.

    Args:
        judge_diffs: D, score of y_0 less that of y_1, shape (n,); NaN is missing.
        style_a, style_b: counts of y_0 and y_1, name -> shape (n,), as `palate.data.style` gives them.
        labels: 1 where y_0 was preferred, 0 where y_1, 0.5 for a tie, shape (n,).
        features: which of the counts; all where None.

    Raises:
        ConfigError: shapes differ.
        DataError: a label is not in [0, 1], all labels are equal, or nothing is left to fit.

    Warns:
        PalateWarning: a coefficient is held at `CAP`, because what it multiplies separates the labels.
    """
    d, y = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (judge_diffs, labels))
    z = style_difference(style_a, style_b, features)
    if y.shape != d.shape or any(value.shape != d.shape for value in z.values()):
        shapes = ", ".join(str(x.shape) for x in (d, y, *z.values()))
        raise ConfigError(f"differences, labels and counts must have one shape (n,); got {shapes}")
    outside = ~((y >= 0) & (y <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(f"{y[row]:g} is not between 0 and 1", row=row + 1, field="labels")
    columns = np.stack([d, *z.values()], axis=1)
    kept = np.isfinite(columns).all(axis=1)
    columns, y = columns[kept], y[kept]
    if not len(y):
        raise DataError("no pair has an answer of the judge and counts of both sides")
    if (y == y[0]).all():
        raise DataError(
            "all labels are equal", field="labels",
            remedy="put the two responses in an order that does not depend on which was preferred",
        )  # fmt: skip
    scale = np.sqrt((columns**2).mean(axis=0))
    unit = np.divide(columns, scale, out=np.zeros_like(columns), where=scale > 0)
    alone, full = _fit(unit[:, :1], y), _fit(unit, y)
    capped = bool((np.abs(np.concatenate([alone, full])) >= CAP).any())
    if capped:
        names = ["the judge's score", *z]
        held = [name for name, value in zip(names, full, strict=True) if abs(value) >= CAP] or names[:1]
        warnings.warn(
            f"{', '.join(held)}: the labels are (nearly) separated, so no finite coefficient fits best; "
            f"held at {CAP:g} per root mean square",
            PalateWarning,
            stacklevel=2,
        )
    per_unit = scale[0] if scale[0] > 0 else 1.0
    return StyleControl(
        float(full[0] / per_unit),
        {name: float(value) for name, value in zip(z, full[1:], strict=True)},
        {name: float(value) for name, value in zip(z, scale[1:], strict=True)},
        _loss(unit @ full, y),
        _accuracy(unit @ full, y),
        float(alone[0] / per_unit),
        _loss(unit[:, :1] @ alone, y),
        _accuracy(unit[:, :1] @ alone, y),
        len(y),
        int((~kept).sum()),
        capped,
    )


def _fit(x: Floats, y: Floats) -> Floats:
    """Logistic regression of y (n,) on x (n, m), without intercept or penalty, coefficients within CAP."""
    from scipy import optimize  # slow to import

    def objective(w: Floats) -> tuple[float, Floats]:
        logit = x @ w
        return _loss(logit, y), x.T @ (_sigmoid(logit) - y) / len(y)

    start = np.zeros(x.shape[1])
    result = optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=[(-CAP, CAP)] * x.shape[1],
        options={"gtol": 1e-10, "ftol": 1e-15, "maxiter": 2000},
    )  # fmt: skip
    return np.asarray(result.x, dtype=np.float64)


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def _loss(logit: Floats, y: Floats) -> float:
    return float((np.logaddexp(0.0, logit) - y * logit).mean())


def _accuracy(logit: Floats, y: Floats) -> float:
    return metrics.accuracy(logit, y, neutral=0.0).value


def phi(pred: npt.ArrayLike, style: npt.ArrayLike) -> float:
    """Phi coefficient of two yes-or-no columns, Pearson's correlation of zeros and ones:
    ``(n11 n00 - n10 n01) / sqrt(product of the four margins)`` (Yule 1912).

    Args:
        pred: whether the judge (or a person) prefers y_0, shape (n,); NaN is left out.
        style: whether y_0 is the longer, or has more markdown, shape (n,); NaN is left out.

    Returns:
        In [-1, 1]; NaN where a column is constant.

    Raises:
        ConfigError: shapes differ.
        DataError: an entry is neither 0 nor 1.

    Warns:
        PalateWarning: a column is constant.

    >>> round(phi([1, 1, 0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 0, 1, 0, 1]), 7)
    0.2581989
    """
    p, s = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (pred, style))
    if p.shape != s.shape:
        raise ConfigError(f"both columns need one shape (n,); got {p.shape} and {s.shape}")
    kept = ~(np.isnan(p) | np.isnan(s))
    for name, column in (("pred", p), ("style", s)):
        bad = kept & ~np.isin(column, (0.0, 1.0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{column[row]:g} is neither 0 nor 1", row=row + 1, field=name)
    p, s = p[kept], s[kept]
    n11, n10 = float((p * s).sum()), float((p * (1 - s)).sum())
    n01, n00 = float(((1 - p) * s).sum()), float(((1 - p) * (1 - s)).sum())
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    if margins == 0:
        warnings.warn("a column is constant, so phi is undefined", PalateWarning, stacklevel=2)
        return float("nan")
    return (n11 * n00 - n10 * n01) / float(np.sqrt(margins))


def split_by_length(
    judge_diffs: npt.ArrayLike,
    labels: npt.ArrayLike,
    length_a: npt.ArrayLike,
    length_b: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike | None = None,
) -> pl.DataFrame:
    """Accuracy where the preferred response is the longer one and where it is the shorter one.

    Args:
        judge_diffs, labels: as in `style_control`; tied labels are left out.
        length_a, length_b: shape (n,), in any unit.
        cluster: shape (n,), prompt of each pair, for the intervals.

    Returns:
        Rows "chosen longer", "chosen shorter" and "equal length" where there are any, with the columns of
        `accuracy_by`.
    """
    d, y, a, b = (np.asarray(x, dtype=np.float64) for x in (judge_diffs, labels, length_a, length_b))
    longer = np.sign(a - b) * np.sign(y - 0.5)
    names = np.array(["chosen shorter", "equal length", "chosen longer"], dtype=object)
    known = ~np.isnan(longer) & (y != 0.5)
    half = names[np.where(known, longer, 0).astype(int) + 1]
    half[~known] = None
    return metrics.accuracy_by(half, d, y, neutral=0.0, cluster=cluster)


def style_report(judge: Judge, data: PreferenceData, *, features: Sequence[str] = FEATURES) -> Report:
    """How much of a judge's agreement with preferences is style.

    Args:
        judge: any judge with scores; one that only compares enters with the log-odds of its probabilities,
            kept within 0.01 and 0.99.
        data: judgments with responses.
        features: style counts, see `palate.data.style.NAMES`; the first is the length that halves are made
            by.

    Returns:
        Metrics `alpha`, `loss`, `accuracy` (with style in the model), `loss_uncontrolled`,
        `accuracy_uncontrolled`, and the same without any judge, `loss_style_only`, `accuracy_style_only`.
        Tables: "style" (per feature beta, phi of judge and of gold with the sign of its difference, and in
        how many pairs it differs), "halves" (`split_by_length`).

    Raises:
        ConfigError, DataError: as `style_control` and `palate.evaluate.evaluate`.
    """
    from palate.data import style
    from palate.evaluate.verdicts import ask, clusters

    verdicts = ask(judge, data)
    pairs = verdicts.pairs
    first, second = (
        pl.Series(
            np.where(verdicts.chosen_first == side, pairs["chosen"], pairs["rejected"]), dtype=pl.String
        )
        for side in (True, False)
    )
    a, b = style.count(first, features), style.count(second, features)
    diffs = verdicts.margin
    if np.isnan(diffs).all():
        p = np.clip(verdicts.probability, 0.01, 0.99)
        diffs = np.log(p) - np.log1p(-p)
    # The labels of a file that puts the chosen response first are all equal; turning every other pair round
    # changes nothing in the fit.
    turn = np.where(np.arange(len(diffs)) % 2 == 0, 1.0, -1.0)
    even = turn > 0
    y = np.where(even, verdicts.target, 1.0 - verdicts.target)
    left = {name: np.where(even, a[name], b[name]) for name in features}
    right = {name: np.where(even, b[name], a[name]) for name in features}
    fitted = style_control(turn * diffs, left, right, y)
    without = style_control(np.zeros(len(y)), left, right, y)
    difference = style_difference(left, right)
    rows = []
    for name in features:
        sign = np.where(difference[name] == 0, np.nan, (difference[name] > 0).astype(np.float64))
        said = np.where(diffs == 0, np.nan, (turn * diffs > 0).astype(np.float64))
        said = np.where(np.isnan(diffs), np.nan, said)
        gold = np.where(y == 0.5, np.nan, (y > 0.5).astype(np.float64))
        rows.append(
            {
                "feature": name,
                "beta": fitted.beta[name],
                "phi_judge": _quiet_phi(said, sign),
                "phi_gold": _quiet_phi(gold, sign),
                "n": int((~np.isnan(sign)).sum()),
            }
        )
    halves = split_by_length(turn * diffs, y, left[features[0]], right[features[0]], cluster=clusters(pairs))
    numbers = {
        "pairs": float(fitted.n),
        "missing": fitted.missing / len(y),
        "alpha": fitted.alpha,
        "loss": fitted.loss,
        "accuracy": fitted.accuracy,
        "loss_uncontrolled": fitted.loss_uncontrolled,
        "accuracy_uncontrolled": fitted.accuracy_uncontrolled,
        "loss_style_only": without.loss,
        "accuracy_style_only": without.accuracy,
    }
    return Report(
        title=f"Style and {judge.name} on {pairs.height:,} pairs",
        metrics={name: value for name, value in numbers.items() if not np.isnan(value)},
        tables={"style": pl.DataFrame(rows), "halves": halves},
        notes=_notes(fitted, without, rows),
        config={"judge": judge.name, "features": list(features), "data_fingerprint": data.fingerprint()},
    )


def _quiet_phi(pred: Floats, style: Floats) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PalateWarning)
        return phi(pred, style)


def _notes(fitted: StyleControl, without: StyleControl, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    told = without.loss - fitted.loss
    notes = [
        f"Style alone predicts the preferences with a loss of {without.loss:.3f} nats and an accuracy of "
        f"{without.accuracy:.1%}; with the judge beside it the loss falls by {told:.3f} to {fitted.loss:.3f}."
    ]
    for row in rows:
        judge, gold = row["phi_judge"], row["phi_gold"]
        if not (np.isnan(judge) or np.isnan(gold)):
            notes.append(
                f"{row['feature']}: phi {judge:+.2f} between the judge and having more of it, {gold:+.2f} "
                f"for the preferences ({row['n']:,} pairs differ)."
            )
    if fitted.capped:
        notes.append("A coefficient had no finite best value and was held at its cap.")
    return notes
