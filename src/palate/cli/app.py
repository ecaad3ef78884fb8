"""The command's frame: commands register here; errors become one line and an exit code.

Exit codes: 0 done, 1 ran and failed a check, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import Any

import typer

from palate.errors import MissingDependency, PalateError, PalateWarning

app = typer.Typer(
    name="palate",
    help="Preference learning: from judgments to leaderboards, reward models and aligned policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS = (
    "data",
    "rank",
    "judge",
    "curate",
    "train",
    "sweep",
    "align",
    "evaluate",
    "report",
    "recipe",
    "models",
    "demo",
    "doctor",
)


INTERRUPTED = 130
"""The exit code of a command stopped with Ctrl-C."""


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error (works after any command)."
    ),
) -> None:
    if version:
        from palate import __version__

        typer.echo(f"palate {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code after printing an error as one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    for name in _COMMANDS:
        importlib.import_module(f"palate.cli.{name}")
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", PalateWarning)
    try:
        code = app(args=given, standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code without a word
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        print("palate: interrupted; work in a run folder goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`palate ... | head`); that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if _shown_by_click(error):
            return int(getattr(error, "exit_code", 2))
        if debug:
            raise
        known = MissingDependency.of(error) if isinstance(error, ModuleNotFoundError) else error
        if isinstance(known, PalateError):
            print(f"palate: {_one_line(known)}", file=sys.stderr)
            return known.exit_code
        kind = type(error).__name__
        print(
            f"palate: {kind}: {_one_line(error)} (run again with --debug for the traceback)", file=sys.stderr
        )
        return 2


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main())


def _shown_by_click(error: Exception) -> bool:
    """Print a usage error the way click does; false if it is none (typer may bring its own copy of click)."""
    show = getattr(error, "show", None)
    if callable(show) and hasattr(error, "exit_code"):
        show()
        return True
    return type(error).__name__ in ("Abort", "Exit")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _show_warning(message: Any, category: type[Warning], *rest: Any, **named: Any) -> None:
    if issubclass(category, PalateWarning):
        print(f"warning: {_one_line(message)}", file=sys.stderr)
