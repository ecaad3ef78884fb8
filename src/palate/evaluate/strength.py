"""How a judge's verdicts go with how strongly people preferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from palate.data import metadata
from palate.errors import DataError
from palate.evaluate import metrics
from palate.evaluate.verdicts import ask, clusters
from palate.judges.base import Judge

if TYPE_CHECKING:
    from palate.data import PreferenceData


def strength_report(
    judge: Judge, data: PreferenceData, strength: str = "strength"
) -> tuple[pl.DataFrame, float]:
    """Accuracy per strength of preference, and how margins follow it (HelpSteer2-Preference; Wang et al.,
    2024).

    Args:
        judge: any judge.
        data: pairs with responses, or whatever the judge's `score_data` reads.
        strength: metadata key of the strength of each judgment; its sign is not read.

    Returns:
        A frame with one row per strength, `strength, pairs, accuracy, lower, upper` (95 %, prompts as
        clusters), and Spearman's correlation between the judge's margin of chosen over rejected and the
        strength, NaN for a judge without margins.

    Raises:
        DataError: a strength is missing or no number.
    """
    values = metadata.values(data, strength)
    if values.dtype.kind != "f" or np.isnan(values).any():
        bad = np.array([not (isinstance(v, float) and np.isfinite(v)) for v in values.tolist()])
        raise DataError(
            "a strength that is missing or no number", row=int(np.flatnonzero(bad)[0]) + 1, field=strength,
            file=data.source, remedy="give a number, or leave the row out",
        )  # fmt: skip
    verdicts = ask(judge, data)
    judged = ~verdicts.tie
    level = np.abs(values[verdicts.pairs["judgment"].to_numpy()])[judged]
    by = metrics.accuracy_by(
        level, verdicts.probability[judged], verdicts.target[judged],
        cluster=clusters(verdicts.pairs)[judged],
    )  # fmt: skip
    margin = np.where(verdicts.chosen_first, verdicts.margin, -verdicts.margin)[judged]
    known = ~np.isnan(margin)
    varies = known.sum() > 2 and np.ptp(level[known]) > 0 and np.ptp(margin[known]) > 0
    return by, float(spearmanr(margin[known], level[known]).statistic) if varies else float("nan")
