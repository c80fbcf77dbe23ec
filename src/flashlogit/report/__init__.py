"""What a run leaves for people: one HTML page, and its charts as PNG."""

from .build import build_report
from .content import Report
from .page import render, write_page
from .pictures import PICTURES, write_pictures

__all__ = ["PICTURES", "Report", "build_report", "render", "write_page", "write_pictures"]
