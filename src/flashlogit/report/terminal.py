"""Metrics as a plain-text table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from ..metrics.binary import Metrics
from ..metrics.multiclass import ClassMetrics
from ..system.console import aligned

_WIDTH = 80
"""Columns of a terminal that nobody has widened."""

_COLUMNS = {
    "log-loss": "log_loss",
    "clamped": "clamped_log_loss",
    "accuracy": "accuracy",
    "ROC AUC": "roc_auc",
    "AP": "average_precision",
    "Brier": "brier",
    "ECE": "calibration_error",
}
"""Field of `Metrics` under each heading."""
_CLASS_COLUMNS = {
    "log-loss": "log_loss",
    "accuracy": "accuracy",
    "balanced": "balanced_accuracy",
    "macro F1": "macro_f1",
    "ROC AUC": "macro_roc_auc",
    "Brier": "brier",
}
"""The same of `ClassMetrics`."""

_LAYOUTS = ((4, "  "), (4, " "), (3, " "), (2, " "))
"""Significant digits and gap between columns, the most readable first. Only tiny losses need a later one."""


def metrics_table(metrics: Mapping[str, Metrics | ClassMetrics]) -> str:
    """An aligned table with one line per split, in the order given, and a heading; no newline at its end.

    Numbers have 4 significant digits, `-` stands for None. At most 80 columns wide for split names of up to
    10 characters and up to 10^12 rows: where four digits do not fit, all numbers get fewer.
    """
    several = any(isinstance(split, ClassMetrics) for split in metrics.values())
    columns = _CLASS_COLUMNS if several else _COLUMNS
    for digits, gap in _LAYOUTS:
        lines = [_line(name, split, columns, digits) for name, split in metrics.items()]
        table = aligned([["split", "rows", *columns], *lines], gap=gap)
        if len(table.partition("\n")[0]) <= _WIDTH:
            break
    return table


def _line(name: str, metrics: Metrics | ClassMetrics, columns: Mapping[str, str], digits: int) -> list[str]:
    values = metrics.to_json()
    return [name, str(metrics.rows), *(_number(values[field], digits) for field in columns.values())]


def _number(value: float | None, digits: int) -> str:
    """`digits` significant digits, zeros included: 0.07120, 1.000, 1.234e-5, 1.234e20; `-` for None."""
    if value is None:
        return "-"
    text = f"{value:.{digits - 1}e}" if 0 < value < 1e-3 else f"{value:#.{digits}g}".removesuffix(".")
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
