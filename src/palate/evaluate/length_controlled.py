"""Length-controlled win rates against a baseline (AlpacaEval 2.0; Dubois et al. 2024).

The model of a preference, for a model m, the baseline b and an instruction x of difficulty gamma_x::

    logit P(m preferred) = theta + phi tanh((len_b - len_m) / sd) + psi gamma_x

and the length-controlled win rate is the mean of P over the instructions with the length term at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import expit

from palate.data.style import style_features
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, unknown
from palate.evaluate.lasso import l1_logistic

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PENALTIES = np.logspace(-4.0, 4.0, 10)
"""Inverse penalties C that cross-validation chooses among."""

GAMED_WEIGHT = 0.2
"""Weight of a judgment of the gamed baselines, shared among them."""


class Judged(NamedTuple):
    """Judgments of one model against the baseline; arrays of shape (n,).

    Attributes:
        preference: probability in [0, 1] that the model's answer is preferred, 0.5 a tie, NaN missing.
        model_length, baseline_length: of the two answers, in one unit.
        difficulty: of each instruction (see `instruction_difficulty`); None leaves its term out.
    """

    preference: npt.ArrayLike
    model_length: npt.ArrayLike
    baseline_length: npt.ArrayLike
    difficulty: npt.ArrayLike | None = None


@dataclass(frozen=True)
class LengthControlled:
    """Win rates of a model against the baseline, in percent, with their standard errors.

    Attributes:
        win_rate, standard_error: 100 times the mean preference, and the standard error of that mean.
        length_controlled, length_controlled_error: the same of the predicted preferences at equal length.
        theta, phi, psi: of the model; psi is 0 without difficulties.
        penalty: the inverse penalty C that cross-validation chose.
        n: preferences used.
        missing: preferences that were NaN; their instructions still count in the length-controlled mean.
    """

    win_rate: float
    standard_error: float
    length_controlled: float
    length_controlled_error: float
    theta: float
    phi: float
    psi: float
    penalty: float
    n: int
    missing: int


def alpaca_preference(raw: npt.ArrayLike) -> Floats:
    """AlpacaEval's preferences (1 the baseline ... 2 the model; 0 or 1.5 a draw; NaN none) as probabilities.

    Raises:
        DataError: a value is none of these.
    """
    given = np.asarray(raw, dtype=np.float64)
    probability = np.where(given == 0.0, 0.5, given - 1.0)
    wrong = np.flatnonzero((probability < 0) | (probability > 1))
    if len(wrong):
        raise DataError(
            f"the preference {given[wrong[0]]:g} is not between 1 and 2", row=int(wrong[0]) + 1,
            remedy="1 prefers the baseline, 2 the model, 0 or 1.5 is a draw",
        )  # fmt: skip
    return probability


def predicted_win_rate(theta: float, psi: float, difficulty: npt.ArrayLike) -> tuple[float, float]:
    """100 mean_x s(theta + psi gamma_x) at equal length, and its standard error; `difficulty` has shape (n,).

    >>> round(predicted_win_rate(0.4, 0.3, [-1, 0, 1])[0], 6)
    59.728487
    """
    return _percent(expit(theta + psi * np.asarray(difficulty, dtype=np.float64)))


def length_controlled_win_rate(
    preference: npt.ArrayLike,
    model_length: npt.ArrayLike,
    baseline_length: npt.ArrayLike,
    difficulty: npt.ArrayLike | None = None,
    *,
    gamed: Sequence[Judged] = (),
    folds: int = 5,
) -> LengthControlled:
    """The win rate a model would have if its answers were as long as the baseline's.

    An L1-penalised logistic regression without intercept, fitted to preferences as soft labels; `folds`-fold
    cross-validation of the weighted log loss chooses the penalty. Lengths are divided by the standard
    deviation of their difference, for each model on its own. A model with the baseline's own answers has
    exactly 50.

    Args:
        preference, model_length, baseline_length, difficulty: see `Judged`.
        gamed: judgments of the baseline told to be concise or verbose. They are not explained by a theta, so
            that they hold phi to what length alone does; together they weigh `GAMED_WEIGHT` a judgment.
        folds: 2 or more.

    Raises:
        DataError: shapes differ, no preference is given, or a length, a preference or a difficulty is out of
            range or NaN.
        ConfigError: there are fewer preferences than folds, or fewer than 2 folds.
    """
    own = _checked(Judged(preference, model_length, baseline_length, difficulty))
    parts = [own, *(_checked(Judged(*other)) for other in gamed)]
    if any((part.difficulty is None) != (own.difficulty is None) for part in parts):
        raise DataError(
            "difficulties are given for the model or the gamed baselines only", remedy="give all or none"
        )
    answered = [~np.isnan(part.preference) for part in parts]
    n = int(answered[0].sum())
    if not isinstance(folds, int) or not 2 <= folds <= n:
        raise ConfigError(f"folds is {folds!r}; use a whole number from 2 to the {n} preferences")
    weight = np.concatenate(
        [np.full(len(part.preference), 1.0 if part is own else GAMED_WEIGHT / len(gamed)) for part in parts]
    )
    features = np.concatenate([_features(part, part is own) for part in parts])
    keep = np.concatenate(answered)
    target = np.concatenate([part.preference for part in parts])[keep]
    fitted, penalty = _cross_validated(features[keep], target, weight[keep], folds)
    phi, psi, theta = (float(value) for value in fitted)
    gamma = np.zeros(len(own.preference)) if own.difficulty is None else own.difficulty
    raw = own.preference[answered[0]]
    return LengthControlled(
        *_percent(raw), *predicted_win_rate(theta, psi, gamma), theta, phi, psi, penalty, n,
        len(own.preference) - n,
    )  # fmt: skip


def instruction_difficulty(
    preference: npt.ArrayLike,
    prompt: npt.ArrayLike,
    model: npt.ArrayLike,
    length_gap: npt.ArrayLike,
    *,
    l2: float = 1.0,
) -> Floats:
    """gamma of each prompt, shape (prompts,), mean 0, from the judgments of all models together.

    Fits logit P = theta_m + phi_m tanh(gap) + gamma_x (psi fixed at 1) with a ridge l2/2 |gamma|^2, by
    L-BFGS.

    Args:
        preference: shape (n,), in [0, 1]; NaN is left out.
        prompt, model: codes from 0, shape (n,).
        length_gap: (len_b - len_m) / sd of the model's differences, shape (n,).
        l2: ridge on gamma, above 0; a prior of variance 1 / l2.

    Raises:
        ConfigError: `l2` is not above 0.
    """
    from scipy.optimize import minimize  # slow to import, and needed here only

    if not l2 > 0:
        raise ConfigError(f"l2 is {l2!r}; the difficulties need a ridge above 0")
    y = np.asarray(preference, dtype=np.float64)
    keep = ~np.isnan(y)
    x, m = np.asarray(prompt)[keep], np.asarray(model)[keep]
    bend, y = np.tanh(np.asarray(length_gap, dtype=np.float64))[keep], y[keep]
    models, prompts = int(np.max(model)) + 1, int(np.max(prompt)) + 1

    def loss(parameters: Floats) -> tuple[float, Floats]:
        theta, phi, gamma = np.split(parameters, [models, 2 * models])
        z = theta[m] + phi[m] * bend + gamma[x]
        residual = expit(z) - y
        # The small ridge on theta and phi keeps a model that always loses finite.
        value = np.sum(np.logaddexp(0.0, z) - y * z) + 0.5 * l2 * gamma @ gamma
        value += 0.5e-3 * (theta @ theta + phi @ phi)
        gradient = [
            np.bincount(m, residual, models) + 1e-3 * theta,
            np.bincount(m, residual * bend, models) + 1e-3 * phi,
            np.bincount(x, residual, prompts) + l2 * gamma,
        ]
        return float(value), np.concatenate(gradient)

    found = minimize(
        loss, np.zeros(2 * models + prompts), jac=True, method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-14, "gtol": 1e-5},
    )  # fmt: skip
    gamma = found.x[2 * models :]
    return np.asarray(gamma - gamma.mean())


def length_controlled_board(
    data: PreferenceData,
    baseline: str,
    *,
    lengths: npt.ArrayLike | None = None,
    gamed: Sequence[str] = (),
    folds: int = 5,
    l2: float = 1.0,
) -> pl.DataFrame:
    """Length-controlled win rates of all items that were judged against one baseline, best first.

    Difficulties are estimated from all items together (`instruction_difficulty`), so their term is left out
    where fewer than two items answered the same prompts; AlpacaEval's published ones come from another set
    of models and differ.

    Args:
        data: judgments of two `items`, one of them the baseline. Two scores in [0, 1] that add up to 1 are a
            graded preference; others say who won or that it was a tie; NaN scores are missing.
        baseline: the item all others are compared with.
        lengths: of each alternative, shape (rows, 2); characters of `responses` without it.
        gamed: items that are the baseline told to be shorter or longer (see `length_controlled_win_rate`).
            They get a row as any other item, fitted without themselves.
        folds, l2: see `length_controlled_win_rate` and `instruction_difficulty`.

    Returns:
        A frame with columns item, win_rate, standard_error, length_controlled, length_controlled_error (in
        percent), theta, phi, psi, penalty, n, missing, mean_length. The baseline has 50.

    Raises:
        DataError: a judgment is not of two items with the baseline among them, or has no lengths.
        ConfigError: `baseline` or an item of `gamed` does not occur, or an option is out of range.
    """
    rows = _against(data, baseline, lengths)
    names = rows.items
    for name in gamed:
        if name not in names:
            raise unknown("gamed item", name, names)
    gap = np.zeros(len(rows.item))
    for code in range(len(names)):
        mine = rows.item == code
        gap[mine] = _gap(rows.own[mine], rows.other[mine])
    difficulty = None
    shared = np.unique(np.stack([rows.prompt, rows.item]), axis=1)[0]
    if (rows.prompt >= 0).all() and len(shared) and np.bincount(shared).max() > 1:
        gamma = instruction_difficulty(rows.preference, rows.prompt, rows.item, gap, l2=l2)
        difficulty = gamma[rows.prompt]

    def of(name: str) -> Judged:
        mine = rows.item == names.index(name)
        part = None if difficulty is None else difficulty[mine]
        return Judged(rows.preference[mine], rows.own[mine], rows.other[mine], part)

    table: list[dict[str, Any]] = []
    for code, name in enumerate(names):
        others = [of(other) for other in gamed if other != name]
        found = length_controlled_win_rate(*of(name), gamed=others, folds=folds)
        table.append({"item": name, **found.__dict__, "mean_length": rows.own[rows.item == code].mean()})
    same = LengthControlled(50.0, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)
    table.append({"item": baseline, **same.__dict__, "penalty": None, "mean_length": rows.other.mean()})
    return pl.DataFrame(table).sort(["length_controlled", "item"], descending=[True, False])


# -- inside --


class _Rows(NamedTuple):
    items: list[str]
    item: Ints
    prompt: Ints
    preference: Floats
    own: Floats
    other: Floats


def _against(data: PreferenceData, baseline: str, lengths: npt.ArrayLike | None) -> _Rows:
    """Every judgment as one item against the baseline."""
    sizes = np.diff(data.offsets())
    if not data.has("items") or (sizes != 2).any():
        row = int(np.flatnonzero(sizes != 2)[0]) + 1 if (sizes != 2).any() else None
        raise DataError(
            "win rates against a baseline need judgments of two items", row=row, file=data.source,
            remedy="name the items, and turn longer judgments into pairs (data.as_pairs())",
        )  # fmt: skip
    codes, names = data.flat_codes("items")
    items = names.to_pylist()
    if baseline not in items:
        raise unknown("baseline", baseline, items)
    codes, scores = codes.reshape(-1, 2), data.scores.reshape(-1, 2)
    at = codes == items.index(baseline)
    wrong = np.flatnonzero(at.sum(axis=1) != 1)
    if len(wrong):
        raise DataError(
            "compares {!r} with {!r}".format(*(items[code] for code in codes[wrong[0]])),
            row=int(wrong[0]) + 1, file=data.source,
            remedy=f"keep the judgments of {baseline!r} against another item",
        )  # fmt: skip
    counted = style_features(data, ["characters"])["characters"] if lengths is None else lengths
    length = np.asarray(counted, dtype=np.float64)
    if length.shape != scores.shape:
        raise DataError(f"lengths have shape {length.shape} where the judgments have {scores.shape}")
    second = at[:, 0].astype(np.int64)
    rows = np.arange(len(codes))
    graded = (scores.sum(axis=1) == 1.0) & (scores >= 0).all(axis=1)
    margin = scores[rows, second] - scores[rows, 1 - second]
    preference = np.where(
        graded, scores[rows, second], np.where(np.isnan(margin), np.nan, 0.5 + 0.5 * np.sign(margin))
    )
    used, item = np.unique(codes[rows, second], return_inverse=True)
    prompts = data.prompt_codes()
    prompt = np.unique(prompts, return_inverse=True)[1] if (prompts >= 0).all() else prompts
    return _Rows(
        [items[code] for code in used],
        item,
        prompt,
        preference,
        length[rows, second],
        length[rows, 1 - second],
    )


class _Part(NamedTuple):
    preference: Floats
    model_length: Floats
    baseline_length: Floats
    difficulty: Floats | None


def _checked(given: Judged) -> _Part:
    preference = np.atleast_1d(np.asarray(given.preference, dtype=np.float64))
    fields = {"preference": preference}
    for name in ("model_length", "baseline_length", "difficulty"):
        value = getattr(given, name)
        if value is None:
            continue
        fields[name] = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if fields[name].shape != preference.shape or preference.ndim != 1:
            raise DataError(f"has shape {fields[name].shape}, preferences {preference.shape}", field=name)
        bad = ~np.isfinite(fields[name]) | ((fields[name] < 0) if name != "difficulty" else False)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{fields[name][row]:g} is not usable", row=row + 1, field=name)
    outside = np.flatnonzero((preference < 0) | (preference > 1))
    if len(outside):
        raise DataError(
            f"{preference[outside[0]]:g} is not between 0 and 1", row=int(outside[0]) + 1, field="preference",
            remedy="for AlpacaEval's scale of 1 to 2 use alpaca_preference",
        )  # fmt: skip
    if np.isnan(preference).all():
        raise DataError("no preference is given", field="preference")
    return _Part(preference, fields["model_length"], fields["baseline_length"], fields.get("difficulty"))


def _gap(model_length: Floats, baseline_length: Floats) -> Floats:
    """(len_b - len_m) / sd, 0 where all answers differ by the same."""
    gap = baseline_length - model_length
    deviation = gap.std(ddof=1) if len(gap) > 1 else 0.0
    return np.asarray(gap / deviation if deviation > 0 else np.zeros_like(gap))


def _features(part: _Part, has_theta: bool) -> Floats:
    """Columns of phi, psi and theta, shape (n, 3)."""
    bend = np.tanh(_gap(part.model_length, part.baseline_length))
    gamma = np.zeros_like(bend) if part.difficulty is None else part.difficulty
    return np.stack([bend, gamma, np.full(len(bend), float(has_theta))], axis=1)


def _cross_validated(features: Floats, target: Floats, weight: Floats, folds: int) -> tuple[Floats, float]:
    """Coefficients at the penalty with the least mean log loss on the left-out folds, and that penalty."""
    fold = np.arange(len(target)) % folds
    trained = np.repeat(weight * (fold != np.arange(folds)[:, None]), len(PENALTIES), axis=0)
    found = l1_logistic(features, target, trained, np.tile(PENALTIES, folds))
    z = (found @ features.T).reshape(folds, len(PENALTIES), -1)
    loss = weight * (np.logaddexp(0.0, z) - target * z)
    held = (fold == np.arange(folds)[:, None])[:, None]
    score = np.mean((loss * held).sum(axis=2) / held.sum(axis=2), axis=0)
    best = PENALTIES[int(np.argmin(score))]
    return l1_logistic(features, target, weight[None], np.array([best]))[0], float(best)


def _percent(shares: Floats) -> tuple[float, float]:
    error = shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
    return 100.0 * float(shares.mean()), 100.0 * float(error)
