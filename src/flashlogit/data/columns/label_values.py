"""The distinct values of a label column, and which of them a differently written value means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...system.wording import number_text

LabelText: TypeAlias = bool | int | float | str

_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""What YAML 1.1 reads as true and false when it is not quoted."""
_YES_AND_NO = {("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("on", "off")}


def means_yes(one: LabelText, other: LabelText) -> bool:
    """Return whether `one` is the yes to which `other` is the no, in any spelling."""
    return (str(one).strip().casefold(), str(other).strip().casefold()) in _YES_AND_NO


def encode(column: pa.ChunkedArray) -> tuple[list[LabelText], NDArray[np.int32]]:
    """Return the distinct values of a column [N] without missing ones, and each row's position [N] among them."""
    if pa.types.is_floating(column.type):
        column = pc.add(column, pa.scalar(0.0, column.type))  # -0.0 becomes 0.0
    distinct = pc.unique(column)
    positions: NDArray[np.int32] = pc.index_in(column, value_set=distinct).to_numpy()
    if pa.types.is_float32(distinct.type):
        # The shortest decimals, so that 0.1 stays 0.1 and equals the 0.1 of a CSV file.
        return [float(str(value)) for value in distinct.to_numpy()], positions
    return distinct.to_pylist(), positions


def text_of(value: LabelText) -> str:
    """Return how a value is shown, and what its class is called: `true`, `1` for 1.0, `malignant`."""
    if isinstance(value, bool):
        return str(value).lower()
    return number_text(value) if isinstance(value, float) else str(value)


class Matcher:
    """Finds the one of some values that another means: the same, or else the same but for how it is written.

    1, 1.0, "1" and true are alike, and so are true, "true" and "yes". A value that is like two of them is
    like none.
    """

    def __init__(self, values: Iterable[LabelText]) -> None:
        self._alike: dict[bool | Decimal | str, list[LabelText]] = defaultdict(list)
        self._exact = set()
        for value in values:
            self._exact.add((type(value), value))
            self._alike[_meaning(value)].append(value)

    def find(self, wanted: LabelText) -> LabelText | None:
        """Return the value that `wanted` means, or None."""
        if (type(wanted), wanted) in self._exact:
            return wanted
        alike = self._alike.get(_meaning(wanted), [])
        return alike[0] if len(alike) == 1 else None


def _meaning(value: LabelText) -> bool | Decimal | str:
    """Return numbers, booleans and text that stands for them in a form that compares (True equals Decimal(1))."""
    if isinstance(value, bool):
        return value
    text = str(value).strip()
    if text.casefold() in _TRUTH:
        return _TRUTH[text.casefold()]
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    return number if number.is_finite() else text
