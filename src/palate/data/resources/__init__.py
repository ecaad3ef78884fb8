"""Preference data that comes with the package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.table import PreferenceData

__all__ = ["verifiable_instructions", "verifiable_instructions_summary"]

_NAME = "verifiable-instructions"


def verifiable_instructions() -> PreferenceData:
    """Prompts with checkable constraints, six answers each, scored by the share of constraints satisfied.

    A small language model wrote the answers and a program judged them; no person did (see the README beside
    the file). One row a prompt: `items` are the six settings of the model, `metadata` holds the constraints,
    which `palate.judges.ConstraintJudge` checks again.
    """
    content = (files(__name__) / f"{_NAME}.parquet").read_bytes()
    return PreferenceData(pq.read_table(pa.BufferReader(content)), source=f"{_NAME}.parquet")


def verifiable_instructions_summary() -> dict[str, Any]:
    """How the set was made and what it holds (settings, scores per system, satisfaction per kind of
    constraint)."""
    summary: dict[str, Any] = json.loads((files(__name__) / f"{_NAME}.json").read_text("utf-8"))
    return summary
