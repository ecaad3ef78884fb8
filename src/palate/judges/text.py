"""Counting what a reader would count in a text: words, sentences, paragraphs.

These are rules, not models; each docstring says what counts. Texts are taken in Unicode normal form C, so
that an accent typed as a separate mark makes no difference.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_LIST_MARKER = re.compile(r"^[^\S\n]*(?:[-*•]|\d{1,3}[.)])[^\S\n]+", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*(?=\s|$)|(?<=[。！？])")
_INITIAL = re.compile(r"(?:^|[\s(\"'“])(?:[^\W\d_]\.)+$")
_ABBREVIATIONS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "fig", "jr", "sr", "approx", "dept", "est")
)


def normal(text: str) -> str:
    """The text in normal form C with Unix line ends and without surrounding white space."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip()


def words(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, joined by inner apostrophes and hyphens ("well-read").

    >>> words("Don't panic: 42 well-read owls.")
    ["Don't", 'panic', '42', 'well-read', 'owls']
    """
    return _WORD.findall(normal(text))


def paragraphs(text: str) -> list[str]:
    """The parts of a text between blank lines, without empty ones."""
    return [part for part in _BLANK_LINES.split(normal(text)) if part.strip()]


def sentences(text: str) -> list[str]:
    """The sentences of a text.

    A sentence ends at ``.``, ``!``, ``?`` or an ellipsis before white space (or at their full-width forms
    anywhere), at a blank line, and before a list item. A full stop after a single initial, a dotted
    abbreviation ("e.g.") or a common short form ("Dr.") ends no sentence unless the text stops there. What is
    left at the end counts, even without a full stop. Parts that hold no letter or digit do not count.

    >>> sentences("Dr. Lee paid 3.50 for tea, e.g. green. Was it good?! Yes")
    ['Dr. Lee paid 3.50 for tea, e.g. green.', 'Was it good?!', 'Yes']
    """
    found = []
    for paragraph in paragraphs(text):
        for block in _LIST_MARKER.split(paragraph):
            found.extend(_split(block))
    return [sentence for sentence in found if _WORD.search(sentence)]


def _split(block: str) -> list[str]:
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(block):
        part = block[start : end.end()]
        if (
            part.endswith(".")
            and not part.endswith("..")
            and end.end() < len(block.rstrip())
            and _is_short(part)
        ):
            continue
        parts.append(part.strip())
        start = end.end()
    parts.append(block[start:].strip())
    return parts


def _is_short(part: str) -> bool:
    last = part.split()[-1].rstrip(".").lstrip("(\"'“").casefold()
    return last in _ABBREVIATIONS or _INITIAL.search(part) is not None
