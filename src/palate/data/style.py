"""Style of responses as numbers: lengths and markdown, as covariates of a comparison.

The default four are the style set of LMArena's leaderboards (Li et al. 2024, "Does style matter?"): tokens,
headers, list items and bold spans. Every count is over the assistant's turns of a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data import metadata
from palate.data.table import PreferenceData
from palate.errors import ConfigError, DataError, unknown

Floats = npt.NDArray[np.float64]

LMARENA = ("tokens", "headers", "lists", "bold")

# Scripts that put no spaces between words: each of their characters is a token.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}"
_FENCED = r"(?s)```.*?(?:```|\z)"
_ORDERED, _UNORDERED = r"(?m)^[ \t]*\d+\.\s", r"(?m)^[ \t]*[-*+]\s"

_WHOLE = {
    "words": r"\S+",
    "tokens": rf"[{_UNSPACED}]|[\w--[{_UNSPACED}]]+|[^\w\s]",
    "code_blocks": _FENCED,
    "urls": r"https?://",
}
_OUTSIDE_CODE = {
    "headers": r"(?m)^#{1,6}\s",
    **{f"h{level}": rf"(?m)^#{{{level}}}\s" for level in range(1, 7)},
    "lists": r"(?m)^[ \t]*(?:[-*+]|\d+\.)\s",
    "ordered_lists": _ORDERED,
    "unordered_lists": _UNORDERED,
    "bold": r"\*\*[^*\n]+\*\*|__[^_\n]+__",
    "sentences": r"[.!?…]+[\"'”’)\]*_]*(?:\s|\z)|[。！？]+",
    "questions": r"\?[!?]*[\"'”’)\]*_]*(?:\s|\z)|？+",
}
NAMES = ("characters", *_WHOLE, *_OUTSIDE_CODE)
"""What can be counted; see `style_features`."""


def style_features(
    data: PreferenceData,
    names: Sequence[str] = LMARENA,
    *,
    source: Literal["auto", "text", "metadata"] = "auto",
) -> dict[str, Floats]:
    """Style counts of every response, name -> shape (rows, k) where all judgments have k responses, else flat
    in the order of `data.offsets()`. NaN where a response is missing.

    Args:
        data: judgments with `responses` or `response_messages`, or with LMArena's counts in the metadata.
        names: of `NAMES`:
            characters (Unicode code points), words (what white space separates);
            tokens: no tokenizer's, but words, numbers, single marks, and single characters of scripts without
            spaces; in English about as many as a model's tokens;
            headers (markdown, h1 to h6 together), h1 ... h6, lists (items, ordered and not), ordered_lists,
            unordered_lists, bold (spans in ** or __), sentences, questions (their ends): all outside fenced
            code; code_blocks (fenced; one left open runs to the end), urls.
        source: "text" counts the responses; "metadata" reads LMArena's own counts (key `conv_metadata`: model
            tokens, headers, lists, bold), which are of the first four only; "auto" reads these where every
            judgment has them and counts otherwise, so that a column never mixes the two. They belong to the
            file's sides a and b: use "text" for data whose responses were put in another order.

    Raises:
        ConfigError: a name is unknown or `source` has another value.
        DataError: there are no responses to count, or no counts to read.

    >>> votes = PreferenceData.from_columns({"responses": [["**Yes**, it is.", "No"]], "scores": [[1, 0]]})
    >>> style_features(votes, ["words", "bold"])["bold"]
    array([[1., 0.]])
    """
    if source not in ("auto", "text", "metadata"):
        raise ConfigError(f"source is {source!r}; use 'auto', 'text' or 'metadata'")
    for name in names:
        if name not in NAMES:
            raise unknown("style feature", name, NAMES)
    stored = {} if source == "text" else _stored(data, [name for name in names if name in LMARENA])
    missing = [name for name in names if name not in stored]
    if source == "metadata" and missing:
        raise DataError(
            f"{', '.join(missing)} cannot be read from the metadata of every judgment", field="metadata",
            file=data.source, remedy="count the texts with source='text'",
        )  # fmt: skip
    counted = _counted(data, missing) if missing else {}
    return {name: stored[name] if name in stored else counted[name] for name in names}


def count(texts: pl.Series, names: Sequence[str] = LMARENA) -> dict[str, Floats]:
    """Style counts of texts, name -> shape (n,), NaN where a text is null; see `style_features`."""
    text, prose = pl.col("text"), pl.col("prose")
    wanted = [name for name in names if name in _OUTSIDE_CODE]
    frame = pl.LazyFrame({"text": texts.cast(pl.String)}).with_columns(
        *(text.str.count_matches(_WHOLE[name]).alias(name) for name in names if name in _WHOLE),
        *([text.str.len_chars().alias("characters")] if "characters" in names else []),
        *([text.str.replace_all(_FENCED, "").alias("prose")] if wanted else []),
    )
    frame = frame.with_columns(prose.str.count_matches(_OUTSIDE_CODE[name]).alias(name) for name in wanted)
    if "sentences" in names:
        # The mark after a list item's number ends no sentence.
        frame = frame.with_columns(pl.col("sentences") - prose.str.count_matches(_ORDERED))
    counted = frame.select(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in names).collect()
    return {name: counted[name].to_numpy() for name in names}


def _counted(data: PreferenceData, names: Sequence[str]) -> dict[str, Floats]:
    if not data.has("responses") and not data.has("response_messages"):
        raise DataError(
            "there are no responses to count", field="responses", file=data.source,
            remedy="give the texts, or counts under 'conv_metadata'",
        )  # fmt: skip
    contents, owner = answers(data)
    total = int(data.offsets()[-1])
    found = {}
    for name, values in count(contents, names).items():
        sums = np.bincount(owner, values, minlength=total).astype(np.float64)
        sums[np.bincount(owner, minlength=total) == 0] = np.nan
        found[name] = shaped(data, sums)
    return found


def answers(data: PreferenceData) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """The assistant's turns, and which alternative (position in a `flat` column) each belongs to.

    A response without turns of its own is one turn; a missing response has none.
    """
    texts = data.flat("responses")
    if not data.has("response_messages"):
        owner = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
        return pl.Series(texts.drop_null()), owner
    turns = data.flat("response_messages")
    plain = pc.and_(turns.is_null(), texts.is_valid())
    parents = pc.list_parent_indices(turns)
    flat = turns.flatten()
    said = pc.equal(pc.struct_field(flat, "role"), "assistant")
    own = np.flatnonzero(plain.to_numpy(zero_copy_only=False))
    contents = pa.concat_arrays(
        [texts.filter(plain), pc.struct_field(flat, "content").filter(said).cast(texts.type)]
    )
    owner = np.concatenate([own, parents.filter(said).to_numpy(zero_copy_only=False).astype(np.int64)])
    return pl.Series(contents), owner


def shaped(data: PreferenceData, flat: Floats) -> Floats:
    """A value of each alternative as shape (rows, k) where all judgments have k, else flat as it is."""
    lengths = np.diff(data.offsets())
    return flat.reshape(len(lengths), -1) if len(lengths) and (lengths == lengths[0]).all() else flat


_HEADERS = pl.Struct({f"h{level}": pl.Float64 for level in range(1, 7)})
_LISTS = pl.Struct({"ordered": pl.Float64, "unordered": pl.Float64})
_BOLD = pl.Struct({"**": pl.Float64, "__": pl.Float64})
_STORED: dict[str, tuple[str, pl.DataType]] = {
    "tokens": ("sum_assistant_{side}_tokens", pl.Float64()),
    "headers": ("header_count_{side}", _HEADERS),
    "lists": ("list_count_{side}", _LISTS),
    "bold": ("bold_count_{side}", _BOLD),
}


def _stored(data: PreferenceData, names: Sequence[str]) -> dict[str, Floats]:
    """LMArena's counts, name -> shape (rows, 2), of those names that every judgment has."""
    if not names or not data.n_rows or (np.diff(data.offsets()) != 2).any():
        return {}
    text = metadata.texts(data, "conv_metadata")
    if text.null_count():
        return {}
    wanted = [_STORED[name] for name in names]
    fields = {key.format(side=side): kind for key, kind in wanted for side in "ab"}
    try:
        table = text.str.json_decode(pl.Struct(fields)).struct.unnest()
    except pl.exceptions.PolarsError:
        return {}
    found = {}
    for name in names:
        sides = [_summed(table[_STORED[name][0].format(side=side)]) for side in "ab"]
        if not any(side.null_count() for side in sides):
            found[name] = np.stack([side.to_numpy() for side in sides], axis=1)
    return found


def _summed(counts: pl.Series) -> pl.Series:
    if not isinstance(counts.dtype, pl.Struct):
        return counts
    # A level that a record leaves out was not met; a record that has none of them is missing.
    levels = counts.struct.unnest()
    empty = levels.select(pl.all_horizontal(pl.all().is_null())).to_series()
    total = levels.select(pl.sum_horizontal(pl.all())).to_series()
    return pl.select(pl.when(~empty).then(total)).to_series()
