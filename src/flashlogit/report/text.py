"""Numbers, names and metrics as text: on the page, in the pictures and on the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray

from ..metrics.evaluation import ClassMetrics, Metrics
from ..system.console import aligned

_DIGITS = 5
"""Significant digits of an amount that is no whole number."""
_LONGEST = 9
"""Digits before the point from which on a power of ten takes their place."""
_FIRST_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
_DIRECTIONS = frozenset(["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"])
_WIDTH = 80
"""Columns of a terminal that nobody has widened."""
_LAYOUTS = ((4, "  "), (4, " "), (3, " "), (2, " "))
"""Significant digits and gap between columns, the most readable first. Only tiny losses need a later one."""
SPLITS = ("test", "validation", "held-out", "train")
"""Splits in the order in which a reader should look at them: the less of a split went into the model, the earlier."""
METRICS = {
    "log_loss": ("Log loss", "log-loss"),
    "clamped_log_loss": ("Clamped log loss", "clamped"),
    "accuracy": ("Accuracy", "accuracy"),
    "balanced_accuracy": ("Balanced accuracy", "balanced"),
    "macro_f1": ("F1, macro", "macro F1"),
    "roc_auc": ("ROC AUC", "ROC AUC"),
    "macro_roc_auc": ("ROC AUC, macro", "ROC AUC"),
    "average_precision": ("Average precision", "AP"),
    "brier": ("Brier score", "Brier"),
    "calibration_error": ("Calibration error", "ECE"),
    "precision": ("Precision", ""),
    "recall": ("Recall", ""),
    "specificity": ("Specificity", ""),
    "f1": ("F1", ""),
}
"""Every metric's name on the page, and its heading on the terminal, which has no room for some."""


def in_order(splits: Iterable[str]) -> list[str]:
    """Return names of splits in the order of `SPLITS`, others after them as they are given."""
    return sorted(splits, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))


def amount(value: float, *, whole: bool) -> str:
    """Return a number of rows or a sum of weights: `1,234`, `12.345` or `1.2346e−6`; what is whole has all digits below
    10^9.

    Halves are rounded up, as JavaScript's `toFixed` and `toExponential` do: `amount` in script.js is the same function.
    """
    if value == 0:
        return "0"
    exponent = int(f"{value:.{_DIGITS - 1}e}".partition("e")[2])
    if exponent >= _LONGEST or (exponent < -4 and not whole):
        return f"{_rounded(Decimal(value).scaleb(-exponent), _DIGITS - 1)}e{exponent}".replace("-", "−")
    return f"{_rounded(Decimal(value), 0 if whole else max(_DIGITS - 1 - exponent, 0)):,}"


def _rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def are_whole(weight: NDArray[np.floating] | None) -> bool:
    """Return whether sums of these weights are whole numbers; None stands for ones."""
    return weight is None or bool((np.rint(weight) == weight).all())


def number(value: float) -> str:
    """Return a tick's label: 0.2, 1,000, 10^6 as 1e6."""
    value = value or 0.0  # for −0 too
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        text = f"{value:,.10g}" if size < 1 else f"{value:,.6g}"
    return text.replace("-", "−")


def digits(value: float | None, places: int = 4) -> str:
    """Return a number with some significant digits, or a dash for None and NaN."""
    return "–" if value is None or value != value else number(float(f"{value:.{places}g}"))


def fixed(value: float | None, places: int = 4) -> str:
    """Return a number with so many significant digits, zeros included, so that those of a column can be compared:
    0.5580, 1.400; 0 for what is exactly 0, and a dash for None and NaN."""
    if value is None or value != value:
        return "–"
    if value == 0:
        return "0"
    return measured(value, places).replace("-", "−")


def metric(value: float | None) -> str:
    """Return four decimals, which align; or four digits where those would not be enough."""
    return digits(value) if value is None or not aligns(value) else decimal_places(value, 4)


def aligns(value: float) -> bool:
    """Return whether four decimals have at least two digits of a value, and not very many."""
    return value == 0 or 1e-3 <= abs(value) < 1e4


def decimal_places(value: float, places: int) -> str:
    """Return so many decimals, with a minus sign."""
    return f"{value:.{places}f}".replace("-", "−")


def p_value(value: float) -> str:
    """Return three decimals, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def sentence(text: str) -> str:
    """Return the text with its first letter raised."""
    return text[:1].upper() + text[1:]


def plural(count: int, what: str, several: str = "") -> str:
    """Return `1 epoch`, `2 epochs`; `several` is the plural where it has no s alone."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def shortened(name: str, most: int) -> str:
    """Return the plain name in at most so many characters, the middle left out: names of a table often begin or end
    alike."""
    name = plain(name)
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}"


def joined(names: Sequence[str], most: int | None = None) -> str:
    """Return one or two names isolated from each other, of at most so many characters together with what joins two;
    what one leaves the other may have."""
    if most is not None and len(names) == 1:
        names = [shortened(names[0], most)]
    elif most is not None:
        first, second = map(plain, names)
        first = shortened(first, max((most - 1) // 2, most - 1 - len(second)))
        names = [first, shortened(second, most - 1 - len(first))]
    return " → ".join(map(isolated, names))


def plain(name: str) -> str:
    """Return the name in one line and without the characters that would turn the direction of what follows it."""
    return "".join(_harmless(character) for character in name)


def isolated(name: str) -> str:
    """Return a plain name for text of an SVG, of whose direction what stands around it knows nothing."""
    return f"{_FIRST_ISOLATE}{plain(name)}{_POP_ISOLATE}"


def _harmless(character: str) -> str:
    if unicodedata.bidirectional(character) in _DIRECTIONS:
        return "\ufffd"
    return " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character


def metrics_table(metrics: Mapping[str, Metrics | ClassMetrics]) -> str:
    """Return an aligned table with one line per split, in the order given, and a heading; no newline at its end.

    Numbers have 4 significant digits, `-` stands for None. At most 80 columns wide for split names of up to
    10 characters and up to 10^12 rows: where four digits do not fit, all numbers get fewer.
    """
    kind = ClassMetrics if any(isinstance(split, ClassMetrics) for split in metrics.values()) else Metrics
    fields = {name: short for name, (_, short) in METRICS.items() if short and name in kind.__dataclass_fields__}
    for places, gap in _LAYOUTS:
        lines = [["split", "rows", *fields.values()]]
        for name, split in metrics.items():
            values = split.to_json()
            lines.append([name, str(split.rows), *(measured(values[field], places) for field in fields)])
        table = aligned(lines, gap=gap)
        if len(table.partition("\n")[0]) <= _WIDTH:
            break
    return table


def measured(value: float | None, places: int) -> str:
    """Return so many significant digits, zeros included: 0.07120, 1.000, 1.234e-5, 1.234e20; `-` for None."""
    if value is None:
        return "-"
    text = f"{value:.{places - 1}e}" if 0 < abs(value) < 1e-3 else f"{value:#.{places}g}".removesuffix(".")
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
