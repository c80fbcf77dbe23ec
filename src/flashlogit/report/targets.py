"""The page of a run of many targets: a table of all of them, and the curves of one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.files import write_atomically
from .decisions import Question
from .grid import GridReport
from .page import template

MOST_SHOWN = 100
"""Targets whose curves are on the page, about 40 kB each: the first ones; the table has all."""


@dataclass(frozen=True)
class TargetCurves:
    """What is drawn of a target: its decisions, if it has two classes, and its grid, if it has one."""

    name: str
    question: Question | None
    grid: GridReport | None


@dataclass(frozen=True)
class TargetsReport:
    """All that the page says.

    heads are the names of the table's columns by their keys in `rows`, the first of which is the target's name; shown
    are the first targets' curves; chosen says of them which split's scores are drawn.
    """

    title: str
    statement: str
    converged: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    settings: str
    headline: str
    heads: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    shown: Sequence[TargetCurves]


def render_targets(report: TargetsReport) -> str:
    """Return the page as text. All that comes from the user is escaped."""
    return template("targets.html.j2").render(report=report)


def write_targets_page(report: TargetsReport, path: Path) -> None:
    """Write the page in UTF-8; it appears whole or not at all."""
    text = render_targets(report)
    write_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
