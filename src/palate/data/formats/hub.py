"""Data sets of the Hugging Face hub, through the `datasets` library."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from palate.errors import DataError, MissingDependency


def frames(
    hub_id: str,
    batch_rows: int,
    *,
    split: str = "train",
    name: str | None = None,
    revision: str | None = None,
) -> Iterator[pl.DataFrame]:
    """The rows of one split of a data set, at most `batch_rows` at a time."""
    try:
        import datasets
    except ImportError:
        raise MissingDependency(f"reading {hub_id} from the Hugging Face hub", "train") from None
    try:
        data = datasets.load_dataset(hub_id, name, split=split, revision=revision)
    except Exception as error:
        # The library raises many kinds of errors, its own and those of its HTTP client.
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise DataError(
            f"cannot be fetched from the Hugging Face hub ({reason})", file=hub_id,
            remedy="check the id, split and network, or give a path to a file",
        ) from None  # fmt: skip
    for batch in data.with_format("arrow").iter(batch_size=batch_rows):
        yield pl.DataFrame(pl.from_arrow(batch))
