"""Constraints on a response that a program can check: counts, words, case, format, language.

Each kind is one class that can say itself in English (`describe`, the sentence put into a prompt) and check a
response exactly. A response is read in Unicode normal form C without surrounding white space; words are
matched whole and without regard to case; an empty response satisfies nothing.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from palate.errors import DataError
from palate.judges.language import language
from palate.judges.text import normal, paragraphs, sentences, words

Relation = Literal["exactly", "at_least", "at_most"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class _Constraint(BaseModel, ABC):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def describe(self) -> str:
        """The constraint as a sentence for a prompt."""

    @abstractmethod
    def holds(self, text: str) -> bool:
        """Whether it holds for a text that is normal (see `palate.judges.text.normal`) and not empty."""


class SentenceCount(_Constraint):
    """Number of sentences, as counted by `palate.judges.text.sentences`."""

    kind: Literal["sentence_count"] = "sentence_count"
    relation: Relation
    n: Count

    def describe(self) -> str:
        return f"Answer in {_amount(self.relation, self.n, 'sentence')}."

    def holds(self, text: str) -> bool:
        return _compare(len(sentences(text)), self.relation, self.n)


class WordCount(_Constraint):
    """Number of words, as counted by `palate.judges.text.words`."""

    kind: Literal["word_count"] = "word_count"
    relation: Relation
    n: Count

    def describe(self) -> str:
        return f"Answer in {_amount(self.relation, self.n, 'word')}."

    def holds(self, text: str) -> bool:
        return _compare(len(words(text)), self.relation, self.n)


class ParagraphCount(_Constraint):
    """Number of paragraphs, which are separated by blank lines."""

    kind: Literal["paragraph_count"] = "paragraph_count"
    relation: Relation
    n: Count

    def describe(self) -> str:
        amount = _amount(self.relation, self.n, "paragraph")
        return f"Write {amount}." if self.n == 1 else f"Write {amount}, separated by a blank line."

    def holds(self, text: str) -> bool:
        return _compare(len(paragraphs(text)), self.relation, self.n)


class CharacterLimit(_Constraint):
    """At most n characters, spaces included."""

    kind: Literal["character_limit"] = "character_limit"
    n: Count

    def describe(self) -> str:
        return f"Keep the whole answer within {_amount('', self.n, 'character')}, counting spaces."

    def holds(self, text: str) -> bool:
        return len(text) <= self.n


class IncludeWords(_Constraint):
    """Each of these words or phrases occurs."""

    kind: Literal["include_words"] = "include_words"
    words: Texts

    def describe(self) -> str:
        return f"Include the {_noun(self.words)} {_listed(self.words, 'and')}."

    def holds(self, text: str) -> bool:
        return all(_occurrences(word, text) for word in self.words)


class ExcludeWords(_Constraint):
    """None of these words or phrases occurs."""

    kind: Literal["exclude_words"] = "exclude_words"
    words: Texts

    def describe(self) -> str:
        return f"Do not use the {_noun(self.words)} {_listed(self.words, 'or')}."

    def holds(self, text: str) -> bool:
        return not any(_occurrences(word, text) for word in self.words)


class WordFrequency(_Constraint):
    """A word or phrase occurs so many times."""

    kind: Literal["word_frequency"] = "word_frequency"
    word: Text
    relation: Relation
    n: Count

    def describe(self) -> str:
        return f'Use the {_noun((self.word,))} "{self.word}" {_amount(self.relation, self.n, "time")}.'

    def holds(self, text: str) -> bool:
        return _compare(_occurrences(self.word, text), self.relation, self.n)


class LetterCase(_Constraint):
    """All letters lower or upper case, or every word that begins with a letter capitalised; some letter must
    be cased."""

    kind: Literal["letter_case"] = "letter_case"
    case: Literal["lower", "upper", "title"]

    def describe(self) -> str:
        return {
            "lower": "Write only in lowercase letters.",
            "upper": "Write only in capital letters.",
            "title": "Start every word with a capital letter.",
        }[self.case]

    def holds(self, text: str) -> bool:
        if self.case == "lower":
            return text.islower()
        if self.case == "upper":
            return text.isupper()
        firsts = [word[0] for word in words(text) if word[0].isalpha()]
        return bool(firsts) and not any(first.islower() for first in firsts)


class StartsWith(_Constraint):
    """The response begins with these words, in any case."""

    kind: Literal["starts_with"] = "starts_with"
    text: Text

    def describe(self) -> str:
        return f'Begin your answer with "{self.text}".'

    def holds(self, text: str) -> bool:
        return re.match(_pattern(self.text), text.casefold()) is not None


class EndsWith(_Constraint):
    """The response ends with exactly these words and marks, in any case, and nothing follows."""

    kind: Literal["ends_with"] = "ends_with"
    text: Text

    def describe(self) -> str:
        return f'End your answer with "{self.text}" and write nothing after it.'

    def holds(self, text: str) -> bool:
        return re.search(_pattern(self.text) + r"\Z", text.casefold()) is not None


class BulletList(_Constraint):
    """Exactly n lines that begin with ``-``, ``*`` or ``•`` and a space; other lines are allowed."""

    kind: Literal["bullet_list"] = "bullet_list"
    n: Count

    def describe(self) -> str:
        return (
            f'Use {_amount("exactly", self.n, "bullet point")}, each on its own line and starting with "- ".'
        )

    def holds(self, text: str) -> bool:
        return len(re.findall(r"^[^\S\n]*[-*•][^\S\n]+\S", text, re.MULTILINE)) == self.n


class NumberedList(_Constraint):
    """Lines numbered 1 to n in order, as ``1.`` or ``1)``; other lines are allowed."""

    kind: Literal["numbered_list"] = "numbered_list"
    n: Count

    def describe(self) -> str:
        numbers = "1." if self.n == 1 else f"1. to {self.n}."
        return (
            f"Give a list of {_amount('exactly', self.n, 'item')}, each on its own line, numbered {numbers}"
        )

    def holds(self, text: str) -> bool:
        found = re.findall(r"^[^\S\n]*([0-9]{1,4})[.)][^\S\n]+\S", text, re.MULTILINE)
        return [int(number) for number in found] == list(range(1, self.n + 1))


class JsonObject(_Constraint):
    """The whole response is one JSON object that has these keys; a code fence around it is allowed."""

    kind: Literal["json_object"] = "json_object"
    keys: Texts

    def describe(self) -> str:
        noun = "key" if len(self.keys) == 1 else "keys"
        return f"Answer only with a valid JSON object that has the {noun} {_listed(self.keys, 'and')}."

    def holds(self, text: str) -> bool:
        fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", text, re.DOTALL | re.IGNORECASE)
        try:
            value = json.loads(fenced.group(1) if fenced else text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and all(key in value for key in self.keys)


class NoCommas(_Constraint):
    """No comma, neither ``,`` nor the full-width, ideographic or Arabic one."""

    kind: Literal["no_commas"] = "no_commas"

    def describe(self) -> str:
        return "Do not use any commas."

    def holds(self, text: str) -> bool:
        return not any(mark in text for mark in ",，、،")


class Digits(_Constraint):
    """At least one digit, or none at all (digits of any script count)."""

    kind: Literal["digits"] = "digits"
    present: bool

    def describe(self) -> str:
        return "Use at least one digit." if self.present else "Do not use any digits."

    def holds(self, text: str) -> bool:
        return any(character.isdigit() for character in text) == self.present


class Quoted(_Constraint):
    """The whole response stands in double quotation marks, straight or curly."""

    kind: Literal["quoted"] = "quoted"

    def describe(self) -> str:
        return "Put your whole answer in double quotation marks."

    def holds(self, text: str) -> bool:
        inner = text[1:-1].strip()
        return bool(inner) and (text[0], text[-1]) in {('"', '"'), ("“", "”")}


class InLanguage(_Constraint):
    """The response is written in this language, as told by `palate.judges.language.language`."""

    kind: Literal["language"] = "language"
    language: Literal["english", "spanish", "french", "german", "italian"]

    def describe(self) -> str:
        return f"Answer in {self.language.capitalize()}."

    def holds(self, text: str) -> bool:
        return language(text) == self.language


Constraint = Annotated[
    SentenceCount | WordCount | ParagraphCount | CharacterLimit | IncludeWords | ExcludeWords | WordFrequency
    | LetterCase | StartsWith | EndsWith | BulletList | NumberedList | JsonObject | NoCommas | Digits | Quoted
    | InLanguage,
    Field(discriminator="kind"),
]  # fmt: skip
_CONSTRAINTS: TypeAdapter[list[Constraint]] = TypeAdapter(list[Constraint])


def parse_constraints(value: Any, *, row: int | None = None) -> list[Constraint]:
    """Constraints from JSON text or from a list of mappings, each with its `kind`.

    Raises:
        DataError: not a list, an unknown kind, or a wrong or missing field; `row` (from 1) is named if given.
    """
    try:
        if isinstance(value, str | bytes):
            return _CONSTRAINTS.validate_json(value)
        return _CONSTRAINTS.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{place}: {first['msg']}" if place else first["msg"], row=row, field="constraints",
            remedy="give a list of constraints, each with its 'kind' and that kind's fields",
        ) from None  # fmt: skip


def describe(constraints: Iterable[Constraint]) -> list[str]:
    """The English sentence of each constraint."""
    return [constraint.describe() for constraint in constraints]


def check(constraints: Sequence[Constraint], response: str) -> npt.NDArray[np.bool_]:
    """Shape (constraints,): which constraints the response satisfies; an empty response satisfies none."""
    text = normal(response)
    return np.array([bool(text) and constraint.holds(text) for constraint in constraints], dtype=bool)


def _compare(value: int, relation: Relation, n: int) -> bool:
    return value == n if relation == "exactly" else value >= n if relation == "at_least" else value <= n


def _amount(relation: str, n: int, noun: str) -> str:
    return f"{relation.replace('_', ' ')} {n} {noun}{'' if n == 1 else 's'}".strip()


def _noun(texts: Sequence[str]) -> str:
    noun = "phrase" if any(" " in text for text in texts) else "word"
    return noun if len(texts) == 1 else noun + "s"


def _listed(texts: Sequence[str], conjunction: str) -> str:
    quoted = [f'"{text}"' for text in texts]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"


def _pattern(phrase: str) -> str:
    """A regular expression for a phrase as whole words, with any white space between them, in folded case."""
    folded = normal(phrase).casefold()
    body = r"\s+".join(re.escape(part) for part in folded.split())
    before = r"(?<!\w)" if re.match(r"\w", folded) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", folded) else ""
    return before + body + after


def _occurrences(phrase: str, text: str) -> int:
    return len(re.findall(_pattern(phrase), text.casefold()))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
