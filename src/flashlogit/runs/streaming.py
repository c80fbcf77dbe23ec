"""Rows from a pipe, each answered before the next is read: CSV with a header line, or a JSON object a line."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..models.model import Model
from ..models.predictor import Predictor
from ..system.decoding import parsed
from ..system.errors import UserError, listing
from ..system.files import safe_cell

_SEPARATORS = (",", ";", "\t", "|")
_MARK = "\ufeff"


def predict_stream(
    model_path: Path, lines: Iterable[bytes], out: TextIO, *, id_columns: Sequence[str], threshold: float | None
) -> tuple[int, int]:
    """Write each row's id columns, probability and prediction, and where it cannot be used the error in their place.

    What comes in as CSV goes out as CSV, with the columns of `flashlogit predict` and `error`; a line that is a JSON
    object has one for its answer.

    Args:
        model_path: a run directory or its model.safetensors.
        lines: UTF-8 lines, with their ends.
        out: takes the answers; it is flushed after each.
        id_columns: columns to copy.
        threshold: probability from which a row is called positive; None for the model's.

    Returns:
        How many rows there were, and how many could not be used.

    Raises:
        UserError: no such model, a threshold that is none, no rows, or a header line without one of the columns.
    """
    model = Model.load(model_path, rule=False)
    predictor = Predictor(model)
    predictor.threshold = model.threshold_or(threshold)
    encoding = "utf-8" if model.encoding is None else model.encoding.text_encoding
    text = (_decoded(line, encoding) for line in lines)
    first = next((line for line in text if (begun := line.strip(_MARK).strip()) and begun[0] != "#"), None)
    if first is None:
        remedy = "give CSV with a header line, or a JSON object a line"
        raise UserError("there are no rows", setting="--data", value="-", remedy=remedy)
    first = first.removeprefix(_MARK)
    if first.lstrip().startswith("{"):
        answers = _of_json(predictor, _chained(first, text), id_columns)
    else:
        answers = _of_csv(predictor, model, _chained(first, text), id_columns)
    rows = bad = 0
    for answer, failed in answers:
        out.write(answer)
        out.flush()
        rows, bad = rows + 1, bad + failed
    return rows, bad


def _decoded(line: bytes, encoding: str) -> str:
    """Return a line as UTF-8, or as the training file was written; what is in neither has another character."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode(encoding, errors="replace")


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _of_json(predictor: Predictor, lines: Iterator[str], ids: Sequence[str]) -> Iterator[tuple[str, bool]]:
    for line in lines:
        if not line.strip():
            continue
        answer: dict[str, Any] = {}
        try:
            record = parsed(line)
            if not isinstance(record, Mapping):
                raise UserError("must be a JSON object", setting="the line")
            if lacking := [name for name in ids if name not in record]:
                raise UserError(f"lacks {listing(lacking)}, which --id names", setting="the record")
            answer |= {name: record[name] for name in ids}
            answer |= _answer(predictor, record)
        except (UserError, ValueError) as error:
            answer["error"] = _line(error)
        yield json.dumps(answer) + "\n", "error" in answer


def _of_csv(predictor: Predictor, model: Model, lines: Iterator[str], ids: Sequence[str]) -> Iterator[tuple[str, bool]]:
    first = next(lines)
    usual: str = "," if model.encoding is None else model.encoding.separator
    if stated := re.fullmatch(r'"?sep=(.)"?', first.strip("\r\n")):  # as Excel has it
        usual, first = stated[1], next(lines, "")
    separator = usual if usual in first else max(_SEPARATORS, key=first.count)
    rows = csv.reader(_chained(first, lines), delimiter=separator)
    header = _distinct(name.strip() or f"column {i}" for i, name in enumerate(next(rows), 1))
    for names, what in ((predictor.columns, "the model needs"), (ids, "--id names")):
        if lacking := [name for name in names if name not in header]:
            problem = f"lacks {listing(lacking)}, which {what}"
            raise UserError(problem, setting="the header line", remedy="name the columns as the training file does")
    several = [f"probability_{name}" for name in model.label_names]
    probabilities = several if len(several) > 2 else ["probability"]
    names = [*ids, *probabilities, "prediction", "error"]
    begun = _csv_line(map(safe_cell, names))
    for row in rows:
        if not row:
            continue
        record = dict(zip(header, row, strict=False))
        cells: list[Any] = [safe_cell(record.get(name, "")) for name in ids]
        try:
            if len(row) != len(header):
                raise UserError(f"has {len(row)} fields, and the header line {len(header)}", setting="the row")
            found = _answer(predictor, record)
            p = found["probability"]
            cells += [*(p.values() if isinstance(p, dict) else [p]), safe_cell(found["prediction"]), ""]
            failed = False
        except UserError as error:
            cells += [*[""] * (len(probabilities) + 1), _line(error)]
            failed = True
        yield begun + _csv_line(cells), failed
        begun = ""


def _distinct(names: Iterable[str]) -> list[str]:
    """Return the names, a second one of fee as `fee (2)`, as they are in a file."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _answer(predictor: Predictor, record: Mapping[str, Any]) -> dict[str, Any]:
    p = predictor.probability(record)
    shown = p if isinstance(p, float) else dict(zip(predictor.classes, p.tolist(), strict=True))
    return {"probability": shown, "prediction": predictor.named(p)}


class _Lines:
    """Takes what a writer of CSV writes."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def _csv_line(cells: Iterable[Any]) -> str:
    line = _Lines()
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(cells)
    return line.text


def _line(error: Exception) -> str:
    return "; ".join(str(error).splitlines())
