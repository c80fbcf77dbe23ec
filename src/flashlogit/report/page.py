"""The report as one HTML file that needs nothing else: styles, script, charts and counts are inside it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from ..metrics.evaluation import rates
from ..metrics.intervals import METHOD, Interval
from ..metrics.null_model import METHOD as REFERENCE_METHOD
from ..system.files import write_atomically
from . import charts
from .caveats import recalibration_words
from .content import Report
from .decisions import Decision, Question
from .grid import MEANS, MEASURED, MODELS
from .svg import draw_svg, swatch
from .text import METRICS, aligns, amount, decimal_places, digits, fixed, metric, number, p_value, sentence

METRIC_NAMES = {name: title for name, (title, _) in METRICS.items()}
_CARDS = ("roc_auc", "macro_roc_auc", "log_loss", "accuracy", "average_precision", "macro_f1")
"""Metrics above all others, of which either kind of run has four."""
_LOG_ODDS = 300 * math.log(10)


def write_page(report: Report, path: Path) -> None:
    """Write the page in UTF-8; it appears whole or not at all."""
    text = render(report)
    write_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def render(report: Report) -> str:
    """Return the page as text. All that comes from the user is escaped, in the text and in the inlined JSON."""
    question = report.questions[0]
    two_classes, of_headline = not report.confusions, report.metrics[report.headline]
    names = {name: title for name, title in METRIC_NAMES.items() if name in of_headline}
    if all(split.get("clamped_log_loss") == split["log_loss"] for split in report.metrics.values()):
        del names["clamped_log_loss"]  # for eps = 0 nothing is clamped
    return template("page.html.j2").render(
        report=report,
        counts=_counts(question) if two_classes else None,
        names=names,
        undefined=any(None in split.values() for split in report.metrics.values()),
        mean_heads=MEANS,
        model_heads=MODELS,
        method=METHOD,
        reference_method=REFERENCE_METHOD,
        calibration_words=recalibration_words,
        cards=[name for name in _CARDS if name in of_headline],
        confusion=_confusion(question.headline(report.headline)) if two_classes else None,
    )


def template(name: str) -> Template:
    """Return one of the templates, with all that the macros and pages call."""
    loader = PackageLoader("flashlogit.report", ".")
    # A template that is rendered once gains nothing from constants folded beforehand, which takes 13 ms of a page's 90.
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, optimized=False
    )
    environment.filters |= {"digits": digits, "fixed": fixed, "metric": metric, "number": number, "p_value": p_value}
    environment.filters["sentence"] = sentence
    environment.globals.update(
        charts=charts, draw=draw_svg, swatch=swatch, interval=interval, odds=odds, difference=difference, amount=amount
    )
    for key, file in (("style", "style.css"), ("script", "script.js")):
        environment.globals[key] = Markup(loader.get_source(environment, file)[0])
    environment.globals["measured"] = MEASURED
    return environment.get_template(name)


def interval(value: float | None, ends: Interval | None) -> str:
    """Return `0.91–0.95`, or nothing. Ends are written like the value above them, where that and the upper one align;
    with more decimals where both would be 1.0000.
    """
    if ends is None:
        return ""
    low, high = ends
    if not all(one is None or aligns(one) for one in (value, high)):
        return f"{metric(low)}–{metric(high)}"
    decimals = next((d for d in range(4, 10) if f"{low:.{d}f}" != f"{high:.{d}f}"), 10)
    return "–".join(decimal_places(end, decimals) for end in (low, high))


def difference(by: float | None, value: float | None) -> str:
    """Return a difference in the decimals of one of the two values that differ."""
    return decimal_places(by, 4) if by is not None and value is not None and aligns(value) else metric(by)


def odds(coefficient: float | None) -> str:
    """Return the odds ratio exp(coefficient) with four digits, or beyond which power of ten it is."""
    if coefficient is None:
        return "–"
    if abs(coefficient) < _LOG_ODDS:
        return fixed(math.exp(coefficient))
    return "> 1e300" if coefficient > 0 else "< 1e−300"


def _confusion(decision: Decision) -> dict[str, str]:
    """Return the matrix and its rates at the run's threshold, as the script would write them."""
    counts = decision.counts()
    texts = [amount(value, whole=decision.whole) for value in counts.tolist()]
    shares = {name: "–" if np.isnan(value) else f"{value:.1%}" for name, value in rates(counts).items()}
    return dict(zip(("tn", "fn", "fp", "tp"), texts, strict=True)) | shares


def _counts(question: Question) -> Markup:
    """Return what the slider needs: counts by threshold and no row of the data, as JSON inside of a script element,
    which only `<` could end."""
    splits = {}
    for one in question.decisions:
        of_label = {"tp": one.true_positive, "fp": one.false_positive}
        plain = {name: of.astype(float if one.weighted else int).tolist() for name, of in of_label.items()}
        splits[one.split] = {"whole": one.whole, **plain}
    first = question.decisions[0]
    counts = {"thresholds": first.thresholds.tolist(), "at": first.at, "splits": splits}
    return Markup(json.dumps(counts, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))
