"""What a run leaves for people: one HTML page, and its charts as PNG."""

from flashlogit.report.build import build_report
from flashlogit.report.content import Report
from flashlogit.report.page import render, write_page
from flashlogit.report.pictures import PICTURES, write_pictures

__all__ = ["PICTURES", "Report", "build_report", "render", "write_page", "write_pictures"]
