"""Every public format of preference data, in and out."""

from __future__ import annotations

from palate.data.formats.api import detect, load, scan
from palate.data.formats.output import write
from palate.data.formats.registry import Format, formats

__all__ = ["Format", "detect", "formats", "load", "scan", "write"]
