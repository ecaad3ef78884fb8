"""The `palate` command: parse, call the library, print."""

from palate.cli.app import main

__all__ = ["main"]
