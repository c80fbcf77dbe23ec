"""Nodes and constants of an ONNX graph, and whole numbers in it that Python's operators take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

OUTPUTS = ("label", "probabilities")
Node: TypeAlias = tuple[str, list[str], list[str], dict[str, Any]]
"""Operator, names of operands and of results, and attributes."""


class Graph:
    """Nodes and constants, each with a name of its own."""

    def __init__(self, taken: Iterable[str]) -> None:
        """`taken`: the names of inputs and outputs."""
        self._taken = {*taken}
        self._nodes: list[Node] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._whole: dict[int, str] = {}

    def node(self, operator: str, *operands: str, name: str, output: str = "", **more: Any) -> str:
        """Add a node, and return the name of what it makes: a free one like `name`, unless `output` is given."""
        name = self._free(name)
        self._nodes.append((operator, [*operands], [output or name], {"name": name, **more}))
        return output or name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an array, and return its name."""
        name = self._free(name)
        self._constants[name] = value
        return name

    def whole(self, number: int) -> str:
        """Add a whole number unless it is there, and return its name."""
        if number not in self._whole:
            self._whole[number] = self.constant(str(number), np.array(number, np.int64))
        return self._whole[number]

    def cast(self, name: str, kind: Literal["double", "int64"] = "double") -> str:
        """Add a node that makes numbers of another kind of a value, whose codes ONNX has."""
        return self.node("Cast", name, name=f"{name} as {kind}", to=11 if kind == "double" else 7)

    def needed(self) -> tuple[list[Node], dict[str, NDArray[Any]]]:
        """Return the nodes and constants that the outputs need: a calendar has parts that a model may not."""
        used, nodes = {*OUTPUTS}, []
        for node in reversed(self._nodes):
            if not used.isdisjoint(node[2]):
                used.update(node[1])
                nodes.append(node)
        return nodes[::-1], {name: array for name, array in self._constants.items() if name in used}

    def _free(self, name: str) -> str:
        count, free = 1, name
        while free in self._taken:
            count += 1
            free = f"{name} #{count}"
        self._taken.add(free)
        return free


@dataclass(frozen=True)
class WholeNumbers:
    """Whole numbers [n, 1] in a graph, with the operators of Python that `calendar` needs."""

    graph: Graph
    column: str
    name: str

    def _then(self, operator: str, other: int | WholeNumbers) -> WholeNumbers:
        operand = self.graph.whole(other) if isinstance(other, int) else other.name
        name = self.graph.node(operator, self.name, operand, name=f"{self.column}: {operator}")
        return WholeNumbers(self.graph, self.column, name)

    def __add__(self, other: int | WholeNumbers) -> WholeNumbers:
        return self._then("Add", other)

    def __sub__(self, other: int | WholeNumbers) -> WholeNumbers:
        return self._then("Sub", other)

    def __mul__(self, other: int | WholeNumbers) -> WholeNumbers:
        return self._then("Mul", other)

    __rmul__ = __mul__

    def __mod__(self, other: int) -> WholeNumbers:
        return self._then("Mod", other)  # of the sign of `other`, as Python's

    def __floordiv__(self, other: int) -> WholeNumbers:
        return (self - self % other)._then("Div", other)  # which truncates, and here leaves nothing to truncate

    def __truediv__(self, other: int) -> WholeNumbers:
        by = self.graph.constant(f"{other} as double", np.array(float(other)))
        name = self.graph.node("Div", self.graph.cast(self.name), by, name=f"{self.column}: quotient")
        return WholeNumbers(self.graph, self.column, name)

    def __le__(self, other: int) -> WholeNumbers:
        return self._compared("LessOrEqual", other)

    def __ge__(self, other: int) -> WholeNumbers:
        return self._compared("GreaterOrEqual", other)

    def _compared(self, operator: str, other: int) -> WholeNumbers:
        return WholeNumbers(self.graph, self.column, self.graph.cast(self._then(operator, other).name, "int64"))
