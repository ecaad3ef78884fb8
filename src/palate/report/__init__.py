"""Reports: results as objects, and as single HTML pages that open offline."""

from __future__ import annotations

from palate.report.page import Page
from palate.report.result import Report
from palate.report.run_folder import from_run

__all__ = ["Page", "Report", "from_run"]
