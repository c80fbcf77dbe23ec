"""An ONNX graph whose inputs are a file's own columns: the sum of `Model.terms` over their numbers and buckets.

    age (double), parts of joined (int64)                        -> numbers -> less their means -> MatMul
    plan (string), parts of joined, what is missing -> rows of the table of contributions -> Gather -> ReduceSum
    logits = constant + MatMul + ReduceSum

A category becomes the number of a row of that table, so that no one-hot matrix is made. What `flashlogit predict`
refuses (a missing value where none may be, an infinite number) makes NaN of the row's probabilities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.columns.encoding import (
    MISSING_PLACE,
    NO_MOMENT,
    CategoryColumn,
    DateColumn,
    Encoding,
    NumberColumn,
    calendar,
)
from ..data.files.values import text_of
from ..system.errors import UserError
from .export import onnx_labels, required_onnx, save_onnx
from .model import Model, class_labels
from .onnx_graph import OUTPUTS, Graph, WholeNumbers

_TYPES = {"number": "double", "category": "string", "date": "int64"}
_MEANINGS = {
    "number": "a number, without a unit; NaN where it is missing",
    "category": 'the value as text; "" where it is missing',
    "date": f"seconds from 1970-01-01 to the time as written, whatever its zone; {NO_MOMENT} where it is missing",
}
_LATEST = 253_402_300_800
"""Seconds to the year 10000, which no date in text reaches: today in milliseconds lies far beyond."""
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)
_NONE = ("None", "<NA>")
"""As which onnxruntime takes Python's and pandas' missing values in an array of strings."""


def onnx_inputs(encoding: Encoding) -> dict[str, str]:
    """Return the inputs, by the names of the file's columns in order, and their ONNX types.

    Raises:
        UserError: a name that no input can have.
    """
    for name in encoding.names:
        if name in ("", *OUTPUTS):
            problem = "ONNX needs a name for each input that no output has, and the outputs are label and probabilities"
            remedy = "rename the column and train again, or export a .joblib file"
            raise UserError(problem, setting="a column's name", value=name, remedy=remedy)
    return {column.name: _TYPES[column.kind] for column in encoding.columns}


def write_onnx_of_columns(path: Path, model: Model) -> dict[str, str]:
    """Write an ONNX model whose inputs are the file's columns, each [n, 1], and return their types as `onnx_inputs`.

    Outputs are label [n], int64 or strings, the likeliest class whatever the model's threshold, and probabilities
    [n, K] double, classes in order. Numbers are double, categories strings, and dates int64 seconds from 1970-01-01 to
    the time as written:

        import numpy as np, onnxruntime
        inputs = {
            "age": frame[["age"]].to_numpy(np.float64),
            "plan": frame[["plan"]].fillna("").to_numpy(str),
            "joined": frame[["joined"]].to_numpy("datetime64[s]").astype(np.int64),
        }
        label, probabilities = onnxruntime.InferenceSession("model.onnx").run(None, inputs)

    Missing are NaN; "", the spellings of `Encoding.words`, "None" and "<NA>"; and NumPy's NaT, the least int64. Where
    the model lets none be missing, and for infinite numbers and dates beyond the year 9999 (such as milliseconds),
    the probabilities are NaN, and the label says nothing. Categories match as `text_of` makes them in the spellings 1
    and 1.0, true, True and TRUE; blanks around them have to be taken off before, which ONNX cannot.

    Args:
        path: the file.
        model: one with an encoding.

    Raises:
        UserError: the package onnx is not installed, labels that ONNX does not know, or a column's name that no input
            can have.
    """
    assert model.encoding is not None
    inputs = onnx_inputs(model.encoding)
    onnx = required_onnx()
    names = class_labels(model.label_names)
    order = np.argsort(names)
    graph = Graph([*inputs, *OUTPUTS])
    logits = _logits(graph, model, order)
    place = graph.node("ArgMax", logits, name="place", axis=1, keepdims=0)
    classes = onnx_labels(names[order])
    graph.node("Gather", graph.constant("classes", classes), place, name="class at place", output="label")
    graph.node("Softmax", logits, name="softmax", output="probabilities", axis=1)
    nodes, constants = graph.needed()
    value, types, K = onnx.helper.make_tensor_value_info, onnx.TensorProto, len(names)
    of_inputs = [
        value(each.name, getattr(types, _TYPES[each.kind].upper()), ["n", 1], doc_string=_MEANINGS[each.kind])
        for each in model.encoding.columns
    ]
    of_label = types.INT64 if classes.dtype.kind == "i" else types.STRING
    of_outputs = [value("label", of_label, ["n"]), value("probabilities", types.DOUBLE, ["n", K])]
    made = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, of, to, **more) for operator, of, to, more in nodes],
        "flashlogit",
        of_inputs,
        of_outputs,
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    save_onnx(path, onnx.helper.make_model(made, producer_name="flashlogit", ir_version=8, opset_imports=opsets))
    return inputs


def _logits(graph: Graph, model: Model, order: NDArray[np.intp]) -> str:
    """Add the logits [n, K] of the classes in `order`: 0 and z for two."""
    assert model.encoding is not None
    terms = model.terms
    weight, of_buckets, constant = terms.weight.T, terms.of_buckets, terms.constant
    if weight.shape[1] == 1:
        weight, of_buckets, constant = (
            np.concatenate([0 * each, each], axis=-1) for each in (weight, of_buckets, constant)
        )
    weight, of_buckets, constant = weight[:, order], of_buckets[:, order], constant[order]
    none, unusable = len(of_buckets), len(of_buckets) + 1
    table = np.vstack([of_buckets, np.zeros(len(order)), np.full(len(order), np.nan)])
    numbers: list[str] = []
    fills: list[float] = []
    marks: dict[int, int] = {}  # the places in the table of columns of numbers that are marked, by those in `numbers`
    rows: list[str] = []
    places = iter(terms.places.tolist())
    for column in model.encoding.columns:
        if isinstance(column, NumberColumn):
            if column.marked:
                marks[len(numbers)] = next(places)
            numbers.append(column.name)
            fills.append(np.nan if column.fill is None else column.fill)
        elif isinstance(column, CategoryColumn):
            known, other = _category(column, model.encoding.words, next(places), unusable)
            name = f"{column.name} row"
            keys: dict[str, Any] = {"keys_strings": [*known], "values_int64s": [*known.values()]}
            keys |= {"default_int64": other, "domain": "ai.onnx.ml"}
            rows.append(graph.node("LabelEncoder", column.name, name=name, **keys))
        else:
            of_date = _Date(graph, column, none, unusable)
            for each in column.parts:
                if each.levels is None:
                    numbers.append(of_date.number(each.part, np.nan if each.fill is None else each.fill))
                    fills.append(np.nan)
                else:
                    rows.append(of_date.level(each.part, each.levels, next(places)))
            rows.append(of_date.missing_row(next(places) if column.marked else None))
    logits = graph.constant("constant", constant)
    if numbers:
        together = graph.node("Concat", *numbers, name="numbers", axis=1)
        missing = graph.node("IsNaN", together, name="missing numbers")
        if marks:
            marked = graph.constant("marked numbers", np.array([*marks]))
            chosen = graph.node("Gather", missing, marked, name="marks", axis=1)
            first = graph.constant("rows of no mark", np.array([*marks.values()]) - 1)
            rows.append(graph.node("Add", graph.cast(chosen, "int64"), first, name="rows of marks"))
        if not np.isnan(fills).all():
            fill = graph.constant("fill", np.array(fills))
            together = graph.node("Where", missing, fill, together, name="filled numbers")
        centred = graph.node("Sub", together, graph.constant("mean", terms.mean), name="centred numbers")
        # An infinite number makes NaN: here, times a weight of 0, which one of two classes has; or in the Softmax, of
        # logits of which one is infinite, or all are minus infinity.
        product = graph.node("MatMul", centred, graph.constant("weight", weight), name="logits of numbers")
        logits = graph.node("Add", product, logits, name="constant and numbers")
    if rows:
        together = graph.node("Concat", *rows, name="rows", axis=1)
        taken = graph.node("Gather", graph.constant("contributions", table), together, name="contribution of each row")
        axis = graph.constant("columns", np.array([1]))
        sums = graph.node("ReduceSum", taken, axis, name="logits of categories", keepdims=0)
        logits = graph.node("Add", sums, logits, name="logits")
    return logits


def _category(column: CategoryColumn, words: frozenset[str], place: int, unusable: int) -> tuple[dict[str, int], int]:
    """Return the row of the table for each text that means a value or a missing one, and for all others."""
    values = [*column.values, *([] if column.baseline is None else [column.baseline])]
    known: dict[str, int] = {}
    for text in (each for value in (*map(text_of, values), *sorted(words)) for each in _spellings(value or "")):
        bucket, _ = column.bucket(text, words)
        known[text] = unusable if bucket == MISSING_PLACE else place + bucket
    for text in _NONE:
        known.setdefault(text, known[""])
    return known, place + (len(column.values) if column.other else -1)


def _spellings(text: str) -> Iterator[str]:
    """Yield the text, and others that `text_of` makes the same of."""
    yield text
    if _WHOLE.fullmatch(text) is not None:
        yield f"{text}.0"
    if text in ("true", "false"):
        yield from (text.title(), text.upper())


class _Date:
    """The parts of a column of dates in a graph."""

    def __init__(self, graph: Graph, column: DateColumn, none: int, unusable: int) -> None:
        """`none`, `unusable`: rows of the table of contributions, of zeros and of NaN."""
        self._graph, self._column, self._none, self._unusable = graph, column, none, unusable
        name = column.name
        self._missing = graph.node("Equal", name, graph.whole(int(NO_MOMENT)), name=f"{name} is missing")
        seconds = graph.node("Where", self._missing, graph.whole(0), name, name=f"{name} or 1970")
        self._parts = calendar(WholeNumbers(graph, name, seconds), {each.part for each in column.parts})

    def number(self, part: str, fill: float) -> str:
        """Return a part as numbers, `fill` where the date is missing."""
        graph, found, name = self._graph, self._parts[part].name, f"{self._column.name} {part}"
        wide = found if part == "days" else graph.cast(found)
        return graph.node("Where", self._missing, graph.constant(f"fill of {name}", np.array(fill)), wide, name=name)

    def level(self, part: str, levels: tuple[int, ...], place: int) -> str:
        """Return the row of a part that is a category; `place` is that of its first level."""
        graph, name = self._graph, f"{self._column.name} {part}"
        of_level = np.full(25, self._none)  # hours from 0, and months from 1
        of_level[[*levels]] = place + np.arange(len(levels))
        row = graph.node("Gather", graph.constant(f"rows of {name}", of_level), self._parts[part].name, name=name)
        return graph.node("Where", self._missing, graph.whole(self._none), row, name=f"{name} row")

    def missing_row(self, place: int | None) -> str:
        """Return the row that says whether the date is there: `place` is that of the mark of a missing one."""
        graph, name, column = self._graph, self._column.name, self._column
        row = self._unusable if column.required else self._none if place is None else place
        size = graph.node("Abs", name, name=f"{name}: Abs")
        far = graph.node("GreaterOrEqual", size, graph.whole(_LATEST), name=f"{name} is too far")
        there = graph.node("Where", far, graph.whole(self._unusable), graph.whole(self._none), name=f"{name} there")
        return graph.node("Where", self._missing, graph.whole(row), there, name=f"{name} missing row")
