"""What a comparison of runs says, as text, as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metrics.intervals import LEVEL, Interval
from ..metrics.paired import METHOD, Paired
from ..report.text import METRICS, measured
from ..system.console import aligned
from ..system.errors import UserError, shortened
from ..system.files import write_atomically

LOWER_IS_BETTER = frozenset({"log_loss", "clamped_log_loss", "brier", "calibration_error"})
_SHOWN = (
    *("log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1"),
    *("roc_auc", "macro_roc_auc", "average_precision"),
)
"""Metrics of the table on the terminal; JSON and CSV have them all."""
_FILES = ("comparison.json", "runs.csv", "differences.csv", "settings.csv")
_LONGEST = 60
"""Characters of a setting's value on the terminal."""


@dataclass(frozen=True)
class Measured:
    """A run and how good it is on the rows of the comparison."""

    name: str
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Against:
    """A run against the baseline."""

    name: str
    paired: Paired | None
    """Its metrics less the baseline's on the same rows; None where they cannot be known to be the same."""
    why_not: str = ""
    """Why there is no such difference."""


@dataclass(frozen=True)
class Comparison:
    """Several runs beside each other."""

    rows: str
    """Which rows the metrics are of: "test", or "data" for a file's."""
    runs: Sequence[Measured]
    baseline: str
    against: Sequence[Against]
    settings: Mapping[str, Mapping[str, Any]]
    """Settings that differ: by name each run's value, without those of runs that lack the setting."""
    notes: Sequence[str] = ()

    def best(self, metric: str) -> set[str]:
        """Return the names of the runs whose value is the best; none where no run has one, or some were measured on
        other rows, or may have been."""
        values = {run.name: value for run in self.runs if (value := run.metrics.get(metric)) is not None}
        if not values or not self._alike:
            return set()
        best = (min if metric in LOWER_IS_BETTER else max)(values.values())
        return {name for name, value in values.items() if value == best}

    def text(self) -> str:
        """Return all of it for the terminal."""
        parts = [self._table(), *(self._difference(each) for each in self.against)]
        if self.settings:
            lines = [f"settings that differ: {' | '.join(run.name for run in self.runs)}"]
            for setting, values in self.settings.items():
                cells = (shortened(_shown(values[n]), _LONGEST) if n in values else "-" for n in self._names)
                lines.append(f"  {setting}: {' | '.join(cells)}")
            parts.append("\n".join(lines))
        return "\n\n".join(parts)

    @property
    def _alike(self) -> bool:
        return all(each.paired is not None for each in self.against)

    @property
    def _names(self) -> list[str]:
        return [run.name for run in self.runs]

    def _metrics(self) -> list[str]:
        """Return the metrics that any run has."""
        return [name for name in METRICS if any(name in run.metrics for run in self.runs)]

    def _table(self) -> str:
        shown = [name for name in _SHOWN if name in self._metrics()]
        lines = [["run", "rows", *(f"{METRICS[name][1]} " for name in shown)]]
        best = {name: self.best(name) for name in shown}
        for run in self.runs:
            values = (measured(run.metrics.get(key), 4) + ("*" if run.name in best[key] else " ") for key in shown)
            lines.append([run.name, str(run.metrics.get("rows", "-")), *values])
            for side, word in enumerate((f"  {LEVEL:.0%} from", "  to")):
                ends = (run.intervals.get(key) for key in shown)
                lines.append([word, "", *(measured(None if end is None else end[side], 3) + " " for end in ends)])
        of = "the file's rows" if self.rows == "data" else f"the {self.rows} split"
        return f"{of}{', * the best of a column' if self._alike else ''}\n{aligned(lines)}"

    def _difference(self, against: Against) -> str:
        if against.paired is None:
            return f"{against.name} less {self.baseline}: no difference on the same rows, for {against.why_not}"
        lines = []
        for metric, of in against.paired.differences.items():
            ends = f"[{_signed(of.low, 3)}, {_signed(of.high, 3)}]"
            sure = of.low > 0 or of.high < 0
            verdict = ("better" if (of.value < 0) == (metric in LOWER_IS_BETTER) else "worse") if sure else ""
            lines.append([f"  {METRICS[metric][0]}", _signed(of.value, 4), ends, verdict])
        paired = against.paired
        counts = f"{self.baseline} {paired.only_first:,}, {against.name} {paired.only_second:,}"
        return (
            f"{against.name} less {self.baseline}, on the same {paired.rows:,} rows, with {LEVEL:.0%} intervals\n"
            f"{aligned(lines, left=(0, 3))}\n  Rows that only one calls right: {counts}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return `rows`, `baseline`, the `runs` by name with metrics and intervals, which are the `best` of each
        metric, the `differences` of each other run by metric, and the `settings` that differ."""
        runs = {run.name: {**run.metrics, "intervals": run.intervals} for run in self.runs}
        differences: dict[str, Any] = {}
        for each in self.against:
            if each.paired is None:
                differences[each.name] = {"why_not": each.why_not}
                continue
            of = {name: {"value": d.value, "low": d.low, "high": d.high} for name, d in each.paired.differences.items()}
            right = {"baseline": each.paired.only_first, "run": each.paired.only_second}
            differences[each.name] = {"rows": each.paired.rows, "metrics": of, "right_alone": right}
        best = {name: sorted(self.best(name)) for name in self._metrics()}
        about: dict[str, Any] = {"rows": self.rows, "baseline": self.baseline, "runs": runs, "best": best}
        about |= {"differences": differences, "level": LEVEL, "method": METHOD}
        return about | {"settings": self.settings}

    def write(self, folder: Path) -> None:
        """Write `comparison.json`, and `runs.csv`, `differences.csv` and `settings.csv` with a line for each run, for
        each metric of a run against the baseline, and for each setting that differs."""
        import pyarrow as pa

        from ..data.files.text import write_csv

        folder.mkdir(exist_ok=True)
        whole = json.dumps({**self.to_json(), "notes": self.notes}, indent=2, allow_nan=False) + "\n"
        write_atomically(folder / _FILES[0], lambda temporary: temporary.write_text(whole, encoding="utf-8"))
        tables = self._run_lines(), self._difference_lines(), self._setting_lines()
        for file, (names, *lines) in zip(_FILES[1:], tables, strict=True):
            columns = [pa.array([line[k] for line in lines]) for k in range(len(names))]
            write_csv(folder / file, pa.Table.from_arrays(columns, names=names))

    def _run_lines(self) -> list[list[Any]]:
        metrics = dict.fromkeys(name for run in self.runs for name in run.metrics)
        drawn = [name for name in metrics if any(name in run.intervals for run in self.runs)]
        lines: list[list[Any]] = [["run", *metrics, *(f"{name}_{end}" for name in drawn for end in ("low", "high"))]]
        for run in self.runs:
            ends = [end for name in drawn for end in run.intervals.get(name, (None, None))]
            lines.append([run.name, *(run.metrics.get(name) for name in metrics), *ends])
        return lines

    def _difference_lines(self) -> list[list[Any]]:
        """McNemar's counts stand beside the accuracy."""
        alone = "right_only_baseline", "right_only_run"
        lines: list[list[Any]] = [["run", "baseline", "metric", "difference", "low", "high", *alone]]
        for each, paired in ((each, each.paired) for each in self.against if each.paired is not None):
            for metric, of in paired.differences.items():
                counts = (paired.only_first, paired.only_second) if metric == "accuracy" else (None, None)
                lines.append([each.name, self.baseline, metric, of.value, of.low, of.high, *counts])
        return lines

    def _setting_lines(self) -> list[list[Any]]:
        lines: list[list[Any]] = [["setting", *self._names]]
        for setting, values in self.settings.items():
            lines.append([setting, *(_shown(values[name]) if name in values else None for name in self._names)])
        return lines


def require_folder(path: Path, overwrite: bool) -> None:
    """Raise UserError where --out is `path`, and a comparison cannot or must not be written there."""
    problem = remedy = ""
    if path.exists() and not path.is_dir():
        problem, remedy = "is a file", "give the name of a folder"
    elif not path.absolute().parent.is_dir():
        problem, remedy = "lies in a folder that does not exist", "make it first"
    elif not overwrite and (there := [name for name in _FILES if (path / name).exists()]):
        problem, remedy = f"has {there[0]}", "choose another folder, or replace its files with --overwrite"
    if problem:
        raise UserError(problem, setting="--out", value=path, remedy=remedy)


def _signed(value: float, places: int) -> str:
    return f"-{measured(-value, places)}" if value < 0 else measured(value, places)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
