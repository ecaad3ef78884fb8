"""The errors a user meets: one line that names file, row and field, and says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

LISTED = 50
"""At most so many known names are listed."""


class PalateError(Exception):
    """Base of every error Palate raises on purpose. Its text is one line fit to show to a user."""

    exit_code = 2


class DataError(PalateError, ValueError):
    """Input that cannot be read as judgments.

    The message reads ``FILE: row ROW, field 'FIELD': PROBLEM; REMEDY``; unknown parts are left out.
    Rows are numbered from 1, as the first record of a file (a CSV header is not a row).
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str = "",
        file: str | Path | None = None,
        row: int | None = None,
        field: str | None = None,
    ) -> None:
        self.problem, self.remedy, self.file, self.row, self.field = problem, remedy, file, row, field
        super().__init__(problem)

    def __str__(self) -> str:
        parts = (self.row and f"row {self.row}", self.field and f"field '{self.field}'")
        where = [part for part in parts if part]
        head = f"{self.file}: " if self.file is not None else ""
        place = f"{', '.join(where)}: " if where else ""
        tail = f"; {self.remedy}" if self.remedy else ""
        return f"{head}{place}{self.problem}{tail}"


class ConfigError(PalateError, ValueError):
    """An option or configuration value that cannot be used."""


class MissingDependency(PalateError, ImportError):
    """A part of Palate whose optional packages are not installed."""

    def __init__(self, what: str, extra: str = "", *, package: str = "") -> None:
        """`what` needs the packages of an extra, or one `package` that no extra brings."""
        needed = package or f'"palate[{extra}]"'
        super().__init__(f"{what} needs packages that are not installed; run: pip install {needed}")

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> MissingDependency | None:
        """The error that names the extra which brings the missing module; None if no extra does."""
        import re
        from importlib.metadata import requires

        packages = {"sklearn": "scikit-learn"}
        module = (error.name or "").partition(".")[0]
        for requirement in requires("palate") or ():
            match = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", requirement)
            if match and match[1] == packages.get(module, module) and match[2] not in ("all", "dev"):
                return cls(f"this (module {module})", match[2])
        return None


class CheckFailed(PalateError):
    """A check that ran to its end and did not hold."""

    exit_code = 1


class PalateWarning(UserWarning):
    """Something the user should know that does not stop the work."""


def unknown(what: str, given: object, known: Iterable[str]) -> ConfigError:
    """A `ConfigError` for a name that is not among `known`, with the closest known name first."""
    names = sorted(known)
    # Closeness is slow to find among very many.
    close = get_close_matches(str(given), names[:10_000], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ConfigError(f"unknown {what} {given!r}; {hint}known: {', '.join(names[:LISTED])}{more}")
