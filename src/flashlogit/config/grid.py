"""The section `grid`: penalties to try by cross-validation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_serializer, model_validator

from .data import Conflict, Penalty, Settings, without_fraction


class PenaltyRange(Settings):
    """Penalties that are evenly spread by their logarithms, both ends among them."""

    from_: float = Field(default=1e-6, alias="from", ge=1e-30, le=1e30)
    """The weakest penalty."""
    to: float = Field(default=100.0, ge=1e-30, le=1e30)
    """The strongest penalty."""
    num: Annotated[int, Field(ge=2, le=1000), BeforeValidator(without_fraction)] = 20
    """How many penalties there are."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.from_ >= self.to:
            problem = f"{self.from_:g}, which is not below to = {self.to:g}"
            raise Conflict(problem, "from", "to", remedy="set from below to")
        return self

    @model_serializer
    def _by_key(self) -> dict[str, Any]:
        return {"from": self.from_, "to": self.to, "num": self.num}


def _kind_of(value: object) -> str | None:
    return "list" if isinstance(value, list) else "PenaltyRange" if isinstance(value, dict | PenaltyRange) else None


# By the kind of the value, so that what is wrong with a range is not told of a list too.
_Penalties = Annotated[
    Annotated[PenaltyRange, Tag("PenaltyRange")] | Annotated[list[Penalty], Tag("list")],
    Discriminator(
        _kind_of,
        custom_error_type="penalties",
        custom_error_message="a list of penalties such as [0.001, 0.01], or a section (from, to, num)",
    ),
]


class GridSettings(Settings):
    """A model for every penalty and fold. The penalty whose held-out rows have the least loss is then fitted to all
    training rows."""

    l2: _Penalties = PenaltyRange()
    """Penalties to try, a list or a range; each is used as `loss.l2` is. With l1_ratio r > 0 each is a sum p of both:
    l1 = r * p and l2 = (1 - r) * p."""
    l1_ratio: float = Field(default=0.0, ge=0, le=1)
    """Share of l1 in each penalty; above 0 it makes coefficients exactly zero."""
    folds: Annotated[int, Field(ge=2, le=254), BeforeValidator(without_fraction)] = 5
    """Folds of the training rows, drawn by the seed. Those of `data.group` keep groups together; those of `data.time`
    are spans of time, and each model is trained on what is earlier."""
    select: Literal["best", "one_standard_error"] = "best"
    """`best` takes the least mean held-out loss, `one_standard_error` the strongest penalty within one standard error
    of it."""

    @model_validator(mode="after")
    def _has_penalties(self) -> Self:
        if isinstance(self.l2, list) and not 1 <= len(self.l2) <= 1000:
            remedy = "list 1 to 1000 penalties, or give a range such as {from: 1e-6, to: 100, num: 20}"
            raise Conflict(f"a list of {len(self.l2)} penalties", "l2", remedy=remedy)
        return self

    @property
    def penalties(self) -> list[float]:
        """The penalties, ascending and each once."""
        if isinstance(self.l2, list):
            return sorted(set(self.l2))
        return [float(each) for each in np.geomspace(self.l2.from_, self.l2.to, self.l2.num)]
