"""The report as one HTML file that needs nothing else: styles, script, charts and counts are inside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from ..metrics.binary import rates
from ..metrics.intervals import METHOD, Interval
from ..system.files import write_atomically
from . import charts
from .amounts import amount
from .chart import digits, number
from .content import Decision, Question, Report
from .svg import draw_svg, swatch

METRIC_NAMES = {
    "log_loss": "Log loss",
    "clamped_log_loss": "Clamped log loss",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC AUC",
    "macro_roc_auc": "ROC AUC, macro",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "f1": "F1",
    "macro_f1": "F1, macro",
}
_CARDS = (
    "roc_auc",
    "macro_roc_auc",
    "log_loss",
    "accuracy",
    "average_precision",
    "macro_f1",
    "brier",
    "balanced_accuracy",
)
_CARD_COUNT = 4
_LOG_ODDS = 300 * math.log(10)


def write_page(report: Report, path: Path) -> None:
    """Write the page in UTF-8; it appears whole or not at all."""
    text = render(report)
    write_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def render(report: Report) -> str:
    """The page as text. All that comes from the user is escaped, in the text and in the inlined JSON."""
    environment = Environment(
        loader=PackageLoader("flashlogit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"digits": digits, "metric": metric, "number": number, "p_value": p_value}
    package = files("flashlogit.report")
    two_classes = not report.confusions
    of_headline = report.metrics[report.headline]
    metric_rows = _metric_rows(report)
    return environment.get_template("page.html.j2").render(
        report=report,
        style=Markup(package.joinpath("style.css").read_text(encoding="utf-8")),
        script=Markup(package.joinpath("script.js").read_text(encoding="utf-8")),
        counts=_inlined(_counts(report.questions[0])) if two_classes else None,
        names=METRIC_NAMES,
        rows=metric_rows,
        clamped_hidden="clamped_log_loss" not in metric_rows,
        undefined=any(None in of_split.values() for of_split in report.metrics.values()),
        method=METHOD,
        cards=[name for name in _CARDS if name in of_headline][:_CARD_COUNT],
        interval=interval,
        charts=charts,
        draw=draw_svg,
        swatch=swatch,
        odds=odds,
        category=report.category,
        amount=amount,
        confusion=_confusion(report.questions[0].headline(report.headline)) if two_classes else None,
    )


def _metric_rows(report: Report) -> list[str]:
    """Metrics in order; without the clamped loss where nothing was clamped, as for eps = 0."""
    of_headline = report.metrics[report.headline]
    clamped = any(
        of_split["clamped_log_loss"] != of_split["log_loss"]
        for of_split in report.metrics.values()
        if "clamped_log_loss" in of_split
    )
    return [name for name in METRIC_NAMES if name in of_headline and (clamped or name != "clamped_log_loss")]


def interval(value: float | None, ends: Interval | None) -> str:
    """`0.91–0.95`, or nothing. Ends are written like the value above them, where that and the upper one align; with
    more decimals where both would be 1.0000.
    """
    if ends is None:
        return ""
    low, high = ends
    if not all(one is None or _aligns(one) for one in (value, high)):
        return f"{metric(low)}–{metric(high)}"
    decimals = next((d for d in range(4, 10) if f"{low:.{d}f}" != f"{high:.{d}f}"), 10)
    return "–".join(_decimals(end, decimals) for end in (low, high))


def metric(value: float | None) -> str:
    """Four decimals, which align; or four digits where those would not be enough."""
    return digits(value) if value is None or not _aligns(value) else _decimals(value, 4)


def _aligns(value: float) -> bool:
    return value == 0 or 1e-2 <= abs(value) < 1e4


def _decimals(value: float, places: int) -> str:
    return f"{value:.{places}f}".replace("-", "−")


def p_value(value: float) -> str:
    """Three decimals, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def odds(coefficient: float | None) -> str:
    """The odds ratio exp(coefficient) in four digits, or beyond which power of ten it is."""
    if coefficient is None:
        return "–"
    if abs(coefficient) < _LOG_ODDS:
        return digits(math.exp(coefficient))
    return "> 1e300" if coefficient > 0 else "< 1e−300"


def _confusion(decision: Decision) -> dict[str, str]:
    """The matrix and its rates at the run's threshold, as the script would write them."""
    counts = decision.counts()
    texts = [amount(value, whole=decision.whole) for value in counts.tolist()]
    shares = {name: "–" if np.isnan(value) else f"{value:.1%}" for name, value in rates(counts).items()}
    return dict(zip(("tn", "fn", "fp", "tp"), texts, strict=True)) | shares


def _counts(question: Question) -> dict[str, Any]:
    """What the slider needs: counts by threshold, and no row of the data."""

    def plain(values: NDArray[np.float64], weighted: bool) -> list[float]:
        return values.tolist() if weighted else [round(v) for v in values.tolist()]

    return {
        "thresholds": question.decisions[0].thresholds.tolist(),
        "at": question.decisions[0].at,
        "splits": {
            one.split: {
                "whole": one.whole,
                "tp": plain(one.true_positive, one.weighted),
                "fp": plain(one.false_positive, one.weighted),
            }
            for one in question.decisions
        },
    }


def _inlined(content: Mapping[str, Any]) -> Markup:
    """JSON inside of a script element, which only `<` could end."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
