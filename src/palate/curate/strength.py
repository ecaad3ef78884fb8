"""How strongly each preference is meant, by the votes of several reward models."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from palate.data import PreferenceData
from palate.data.views import PairIndex, pair_index
from palate.errors import ConfigError, DataError, PalateWarning, unknown
from palate.judges.base import Judge
from palate.progress import progress
from palate.reward.ensemble import SAME, Bootstrap, RewardEnsemble, agree
from palate.reward.inputs import texts_of
from palate.reward.model import RewardModel
from palate.runs import Run, atomic_write, to_json

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MANY = 50
"""Among so many pairs some label is wrong; voters that side with every one of them have learnt them by
heart."""


def preference_strength(
    data: PreferenceData,
    model: RewardModel | None = None,
    *,
    members: int | Sequence[Judge] = 10,
    bootstrap: Bootstrap = "none",
    mode: Literal["in_sample", "cross_fit"] = "in_sample",
    folds: int = 5,
    by: Literal["prompt", "row"] = "prompt",
    standardize: bool = True,
    seed: int = 0,
    run: Run | None = None,
) -> pl.DataFrame:
    """The strength of every preference: by how much voters score the chosen above the rejected response.

    With r_m the score of voter m, d_im = r_m(x_i, chosen) - r_m(x_i, rejected), and over the M voters

        mu_i = (1/M) sum_m d_im,     sigma_i^2 = (1/M) sum_m (d_im - mu_i)^2

    (Wang et al., 2024, "Secrets of RLHF in Large Language Models Part II"). A strength far below 0 says that
    the label is wrong more likely than not, one near 0 that the pair is ambiguous.

    Args:
        data: judgments of two alternatives; ties have no strength and no row.
        model: what the voters are trained as, `RewardModel()` if None; not used with ready voters.
        members: how many voters to train, 2 or more, or the voters themselves: judges that score responses.
        bootstrap: what each voter is trained on, see `palate.reward.RewardEnsemble`.
        mode: "in_sample" lets voters judge the pairs they learnt from, as the paper does: train them for
            about one pass, for large models learn wrong labels by heart; "cross_fit" lets each pair be judged
            by voters that have not seen it.
        folds: parts of a cross-fit.
        by: what two parts of a cross-fit do not share: "prompt", or "row" for data without prompts.
        standardize: divide the differences of each voter by their root mean square, and multiply by the mean
            over voters, so that none dominates and strengths stay in units of the scores.
        seed: of the voters and the parts.
        run: run folder that keeps each voter's differences, so that interrupted work goes on.

    Returns:
        A row per decided judgment, in their order: `judgment` (row of the data), `id` if the data has ids,
        `mu`, `sigma`, `scores` (the differences, a list in order of the voters, null where one gave no
        answer; mu and sigma are of the others).

    Raises:
        ConfigError: fewer than two voters, judgments of more than two alternatives, an unknown mode.
        DataError: there is no decided pair, or one that no voter could score.

    Warns:
        PalateWarning: all voters say the same; or in-sample voters side with every single label.
    """
    _of_two(data)
    pairs = pair_index(data)
    if not len(pairs.judgment):
        raise DataError(
            f"none of {data.n_rows} judgments prefers one alternative to the other", field="scores",
            file=data.source, remedy="give judgments of two alternatives with different scores",
        )  # fmt: skip
    if mode not in ("in_sample", "cross_fit"):
        raise unknown("mode", mode, ("in_sample", "cross_fit"))
    voters = members if isinstance(members, int) else list(members)
    many = voters if isinstance(voters, int) else len(voters)
    if isinstance(voters, bool) or many < 2:
        raise ConfigError(f"strength needs the votes of 2 members or more; got {many}")
    if isinstance(voters, int):
        ensemble = RewardEnsemble(model, voters, bootstrap=bootstrap, seed=seed)
        differences = _trained(data, pairs, ensemble, mode, folds, by, run)
    else:
        differences = np.stack([_difference(judge, data, pairs) for judge in voters], axis=1)
    return _table(
        data, pairs, differences, standardize, trained=isinstance(voters, int) and mode == "in_sample"
    )


def strength_groups(
    data: PreferenceData,
    strength: pl.DataFrame,
    model: RewardModel,
    test: PreferenceData,
    *,
    groups: int = 10,
) -> pl.DataFrame:
    """What preferences of each strength teach: a fresh model trained on each group alone, and its accuracy.

    Args:
        data: judgments of two alternatives.
        strength: of `preference_strength` for these judgments.
        model: what is trained on each group; it is not fitted itself.
        test: judgments of two alternatives to test on, best with labels checked otherwise.
        groups: how many, equal in size and ordered by strength, weakest first.

    Returns:
        A row a group: `group` (from 1), `n`, `mu_min`, `mu_mean`, `mu_max`, `sigma_mean`, and `accuracy`, the
        share of decided pairs of `test` that the model orders rightly (equal scores count half).

    Raises:
        ConfigError: fewer than 2 groups, or more than there are pairs.
        DataError: the strength is not of these judgments.
    """
    mu, rows = aligned(data, strength, "mu")
    if not 2 <= groups <= len(rows):
        raise ConfigError(f"cannot make {groups} groups of {len(rows)} pairs; give 2 to {len(rows)}")
    sigma, _ = aligned(data, strength, "sigma")
    asked = pair_index(test)
    found = []
    parts = np.array_split(np.argsort(mu, kind="stable"), groups)
    with progress("groups of strength", groups) as bar:
        for number, part in enumerate(parts):
            fresh = RewardModel(**model.get_params()).fit(data.take(np.sort(rows[part])))
            found.append(
                {
                    "group": number + 1, "n": len(part), "mu_min": mu[part].min(), "mu_mean": mu[part].mean(),
                    "mu_max": mu[part].max(), "sigma_mean": sigma[part].mean(),
                    "accuracy": accuracy(_difference(fresh, test, asked)),
                }
            )  # fmt: skip
            bar.advance()
    return pl.DataFrame(found)


def accuracy(differences: Floats) -> float:
    """Share of pairs whose chosen alternative scores higher, from differences of shape (pairs,); equal scores
    count half."""
    return float(np.mean(0.5 + 0.5 * np.sign(differences)))


def aligned(data: PreferenceData, strength: pl.DataFrame, column: str) -> tuple[Floats, Integers]:
    """A column of a strength table for each decided judgment of `data`, and the rows of these judgments.

    Rows find each other by `id` where the table and the data have ids, else by `judgment`.

    Raises:
        DataError: a decided judgment has no strength; the message names the first ones.
        ConfigError: the table is no strength table.
    """
    for name in ("judgment", column):
        if name not in strength.columns:
            raise ConfigError(f"a strength table has a column {name!r}; make one with preference_strength")
    _of_two(data)
    pairs = pair_index(data)
    key = "id" if "id" in strength.columns and data.has("id") else "judgment"
    if strength[key].is_duplicated().any():
        raise ConfigError(f"the strength table names a judgment twice (column {key!r})")
    wanted = pl.DataFrame({"judgment": pairs.judgment})
    if key == "id":
        ids = pl.Series(pl.from_arrow(data.column("id")))
        wanted = wanted.select(id=ids.gather(wanted["judgment"]))
    joined = wanted.join(strength.select(key, column), on=key, how="left", maintain_order="left")
    missing = joined[column].is_null() | joined[column].is_nan()
    if missing.any():
        names = wanted[key].filter(missing)
        names = names if key == "id" else names + 1
        shown = ", ".join(str(name) for name in names.head(5)) + (", ..." if len(names) > 5 else "")
        raise DataError(
            f"{len(names)} of {len(joined)} preferences have no strength ({key if key == 'id' else 'row'} "
            f"{shown})",
            field=column, file=data.source, remedy="measure the strength of this data, all of it",
        )  # fmt: skip
    return joined[column].to_numpy().astype(np.float64), pairs.judgment


def _of_two(data: PreferenceData) -> None:
    lengths = np.diff(data.offsets())
    if (lengths > 2).any():
        row = int(np.flatnonzero(lengths > 2)[0])
        raise ConfigError(
            f"strength is of judgments of two alternatives; row {row + 1} has {lengths[row]}: "
            "take pairs with data.as_pairs('all')"
        )


def _difference(judge: Judge, data: PreferenceData, pairs: PairIndex) -> Floats:
    """By how much a judge scores the chosen above the rejected alternative, shape (pairs,)."""
    if isinstance(judge, RewardModel | RewardEnsemble):
        flat = judge.score_data(data).scores
    else:
        texts_of(data)
        prompts = [text or "" for text in data.column("prompt").to_pylist()]
        flat = judge.score(prompts, data.column("responses").to_pylist()).scores
    if flat.ndim != 2:
        raise ConfigError(f"the judge {judge.name!r} scores several aspects; compose them to one first")
    return np.asarray(flat[pairs.judgment, pairs.chosen] - flat[pairs.judgment, pairs.rejected])


def _trained(
    data: PreferenceData,
    pairs: PairIndex,
    ensemble: RewardEnsemble,
    mode: str,
    folds: int,
    by: Literal["prompt", "row"],
    run: Run | None,
) -> Floats:
    """Differences of shape (pairs, members), by voters trained here."""
    if run is not None:
        _same_plan(run, {
            "data": data.fingerprint(), "mode": mode, "folds": folds if mode == "cross_fit" else None,
            "by": by, **ensemble.get_params(),
        })  # fmt: skip
    found = np.full((len(pairs.judgment), ensemble.members), np.nan)
    voter: RewardModel | None = None
    parts = list(_parts(data, mode, folds, by, ensemble.seed))
    with progress("voters", len(parts) * ensemble.members) as bar:
        for fold, (train, judged) in enumerate(parts):
            place = np.flatnonzero(np.isin(pairs.judgment, judged))
            asked = data if mode == "in_sample" else data.take(judged)
            asked_pairs = pairs if mode == "in_sample" else pair_index(asked)
            for number in range(ensemble.members):
                name = f"strength/fold-{fold}-member-{number}.parquet"
                if run is not None and run.path(name).exists():
                    found[place, number] = pl.read_parquet(run.path(name))["difference"].to_numpy()
                else:
                    voter = ensemble.member(number).fit(ensemble.sample(train, number), beside=voter)
                    found[place, number] = _difference(voter, asked, asked_pairs)
                    if run is not None:
                        with atomic_write(run.path(name), "wb") as file:
                            pl.DataFrame({"difference": found[place, number]}).write_parquet(file)
                bar.advance()
    return found


def _parts(
    data: PreferenceData, mode: str, folds: int, by: Literal["prompt", "row"], seed: int
) -> Iterator[tuple[PreferenceData, Integers]]:
    """What voters learn from, and the rows they judge."""
    if mode == "in_sample":
        yield data, np.arange(data.n_rows)
        return
    columns = {name: data.column(name) for name in ("scores", "prompt", "prompt_id") if data.has(name)}
    numbers = pa.array(np.arange(data.n_rows)).cast(pa.string())
    numbered = PreferenceData(pa.table({**columns, "id": numbers}), source=data.source, check=False)
    for train, test in numbered.kfold(folds, by=by, seed=seed):
        learnt, judged = (part.values("id").astype(np.int64) for part in (train, test))
        yield data.take(learnt), judged


def _same_plan(run: Run, plan: dict[str, Any]) -> None:
    plan = json.loads(to_json(plan))
    if run.path("strength", "plan.json").exists():
        before = run.read_json("strength/plan.json")
        changed = sorted(name for name in plan.keys() | before.keys() if plan.get(name) != before.get(name))
        if changed:
            raise ConfigError(
                f"{run.folder} holds votes with other settings ({', '.join(changed)}); "
                "give another run folder"
            )
    run.write_json("strength/plan.json", plan)


def _table(
    data: PreferenceData, pairs: PairIndex, differences: Floats, standardize: bool, trained: bool
) -> pl.DataFrame:
    silent = ~np.isfinite(differences).any(axis=1)
    if silent.any():
        row = int(pairs.judgment[np.flatnonzero(silent)[0]])
        raise DataError(
            f"no voter could score both responses of {int(silent.sum())} pairs, first this one",
            row=row + 1, field="responses", file=data.source, remedy="drop the row, or ask other judges",
        )  # fmt: skip
    if standardize:
        size = np.sqrt(np.nanmean(differences**2, axis=0))
        differences = differences * np.where(size > 0, size.mean() / np.where(size > 0, size, 1.0), 1.0)
    mu, sigma = np.nanmean(differences, axis=1), np.nanstd(differences, axis=1)
    if np.isfinite(differences).all() and agree(differences):
        warnings.warn(SAME, PalateWarning, stacklevel=3)
    elif trained and len(mu) >= MANY and (mu > 0).all():
        warnings.warn(
            "the voters side with every label: they may have learnt them by heart; use mode='cross_fit', or "
            "train them for fewer steps",
            PalateWarning,
            stacklevel=3,
        )
    table = pl.DataFrame({"judgment": pairs.judgment, "mu": mu, "sigma": sigma})
    table = table.with_columns(
        scores=pl.Series(differences, dtype=pl.Array(pl.Float64, differences.shape[1])).cast(
            pl.List(pl.Float64)
        )
    )
    if data.has("id"):
        ids = pl.Series("id", pl.from_arrow(data.column("id"))).gather(pairs.judgment)
        table.insert_column(1, ids)
    return table
