"""`python -m palate`."""

from palate.cli.app import run

run()
