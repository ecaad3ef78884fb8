"""The judgment record: one row says who preferred what to what, about which prompt, and how it was asked.

Every row holds k things judged together and k scores. The things are `items` (ids: systems, songs, parties),
`responses` (texts), `features` (vectors), `media` (paths or addresses of images, audio, video), or several of
these side by side. Higher scores are better; NaN means "not judged".

| judgment               | protocol   | scale    | scores                                  |
|------------------------|------------|----------|-----------------------------------------|
| vote for the first     | comparison | ordinal  | [1, 0]                                  |
| tie, both bad          | comparison | ordinal  | [1, 1] with tie "equal", [0, 0] "both_bad" |
| ranking                | ranking    | ordinal  | minus the rank: [-1, -2, -3]            |
| rating                 | rating     | interval | the rating                              |
| pick of one among k    | choice     | ordinal  | [0, 1, 0]; the others are incomparable  |
| click                  | behaviour  | ordinal  | [1] or a 1 among NaN                    |
| label thumbs up/down   | rating     | ordinal  | [1] or [0]                              |
"""

from __future__ import annotations

import pyarrow as pa

PROTOCOLS = ("comparison", "ranking", "rating", "choice", "generation", "behaviour")
SCALES = ("ordinal", "interval")
TIES = ("equal", "both_bad", "order_inconsistent")
ANNOTATOR_KINDS = ("human", "model", "rule", "behaviour")

_CATEGORY = pa.dictionary(pa.int32(), pa.string())
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_string())]))

# Only `scores` is always there; a column that would hold nothing but nulls is left out.
COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),  # unique where given
    "prompt_id": pa.string(),  # judgments with one prompt_id are about the same prompt
    "prompt": pa.large_string(),  # the prompt as text; turns of a conversation are joined for reading
    "messages": _TURNS,  # the prompt's turns, where it is more than one user message
    "context": pa.list_(pa.struct([("id", pa.string()), ("text", pa.large_string())])),  # e.g. passages
    "items": pa.list_(pa.string()),
    "responses": pa.list_(pa.large_string()),
    "response_messages": pa.list_(_TURNS),  # where a response is more than one assistant message
    "response_context": pa.list_(pa.large_string()),  # a context of each response's own
    "response_views": pa.list_(pa.map_(pa.string(), pa.large_string())),  # named views of each response
    "features": pa.list_(pa.list_(pa.float32())),
    "media": pa.list_(pa.string()),
    "scores": pa.list_(pa.float64()),
    "scale": _CATEGORY,
    "protocol": _CATEGORY,
    "tie": _CATEGORY,
    "annotator": _CATEGORY,
    "annotator_kind": _CATEGORY,
    "aspect": _CATEGORY,
    "weight": pa.float64(),
    "rationale": pa.large_string(),
    "time": pa.timestamp("us", tz="UTC"),
    "metadata": pa.large_string(),  # one JSON object
}

ALTERNATIVES = (
    "items", "responses", "response_messages", "response_context", "response_views", "features", "media",
)  # fmt: skip
"""Columns with one entry per alternative: their list lengths equal that of `scores`."""

CATEGORIES = {"scale": SCALES, "protocol": PROTOCOLS, "tie": TIES, "annotator_kind": ANNOTATOR_KINDS}
"""Columns whose values are fixed."""

VERSION = "1"
SCHEMA_KEY = b"palate.judgments"
"""Schema metadata under which a Parquet or Arrow file says that it holds judgments of this `VERSION`."""
