"""What every section of the settings has: its strictness, its numbers, and how keys contradict each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def without_fraction(value: object) -> object:
    """Return the int that a float such as 1e6 stands for; everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Settings are strict (true is no number, "64" no whole number), but 1e6 is how people write a million rows.
WholeNumber = Annotated[int, Field(le=10**15), BeforeValidator(without_fraction)]
Rate = Annotated[float, Field(ge=0, le=1e18)]
"""A learning rate or a decay of weights; the product of two is a float32."""
Penalty = Annotated[float, Field(ge=0, le=1e30)]


class Settings(BaseModel):
    """Base of every section: refuses unknown keys and values of another type; frozen once validated."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Conflict(ValueError):  # noqa: N818
    """Values that are each in bounds and do not go together.

    Attributes:
        problem: what is wrong with the first key.
        keys: the keys that are at odds, as seen from the section whose validator raises, such as "split.validation".
        remedy: what to do.
    """

    def __init__(self, problem: str, *keys: str, remedy: str = "") -> None:
        super().__init__(f"{keys[0]}: {problem}; {remedy}")
        self.problem, self.keys, self.remedy = problem, keys, remedy
