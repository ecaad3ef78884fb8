"""Which judgments are not independent: those of one annotator, about one prompt, or of any given grouping."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError

Ints = npt.NDArray[np.int64]


def cluster_codes(data: PreferenceData, cluster: str | npt.ArrayLike) -> Ints:
    """The cluster of each judgment as a code, shape (rows,), -1 for one that belongs to none.

    Args:
        data: the judgments.
        cluster: "annotator", "prompt", or one label per judgment (None, NaN or "" for none).

    Raises:
        DataError: the data do not say it for any judgment.
        ConfigError: `cluster` is another word, or has another length.
    """
    if isinstance(cluster, str):
        if cluster not in ("annotator", "prompt"):
            raise ConfigError(
                f"cluster is {cluster!r}; use 'annotator', 'prompt', or an array of one label per judgment"
            )
        codes = data.codes("annotator")[0] if cluster == "annotator" else data.prompt_codes()
        if (codes < 0).all():
            raise DataError(
                f"the judgments name no {cluster}", field=cluster, file=data.source,
                remedy="add the column, or leave cluster out",
            )  # fmt: skip
        return codes.astype(np.int64)
    labels: npt.NDArray[Any] = np.asarray(cluster)
    if labels.shape != (data.n_rows,):
        raise ConfigError(
            f"cluster has shape {labels.shape}; give one label for each of {data.n_rows} judgments"
        )
    if labels.dtype.kind in "if":
        missing = np.isnan(labels) if labels.dtype.kind == "f" else labels < 0
    else:
        labels = np.array(["" if x is None or x != x else str(x) for x in labels.tolist()])
        missing = labels == ""
    codes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    codes[missing] = -1
    return codes
