"""What a run leaves for people: one HTML page, and its charts as PNG."""

from .build import build_report
from .content import Report
from .page import render, write_page
from .png import PICTURES, write_curves, write_pictures
from .summary import EpochSummary, RunSummary, SolverSummary

__all__ = [
    "PICTURES",
    "EpochSummary",
    "Report",
    "RunSummary",
    "SolverSummary",
    "build_report",
    "render",
    "write_curves",
    "write_page",
    "write_pictures",
]
