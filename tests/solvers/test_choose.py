"""Which solver runs, and which cannot."""

from __future__ import annotations

import pytest

from flashlogit.solvers.choose import choose_solver
from flashlogit.system.errors import UserError


@pytest.mark.parametrize(
    ("D", "l1", "solver"),
    [
        (1, 0.0, "newton"),
        (128, 0.0, "newton"),
        (129, 0.0, "newton-cg"),
        (100_000, 0.0, "newton-cg"),
        (128, 0.1, "newton"),
        (2048, 0.1, "newton"),
        (2049, 0.1, "lbfgs"),
    ],
)
def test_auto(D: int, l1: float, solver: str) -> None:
    assert choose_solver("auto", 1000, D, l1=l1) == solver


@pytest.mark.parametrize("name", ["newton", "newton-cg", "lbfgs"])
def test_a_name_is_obeyed(name: str) -> None:
    assert choose_solver(name, 1000, 300, l1=0.0) == name  # type: ignore[arg-type]


def test_what_a_solver_cannot_take() -> None:
    with pytest.raises(UserError, match=r"newton with 2,049 columns; it takes at most 2,048"):
        choose_solver("newton", 1000, 2049, l1=0.0)
    with pytest.raises(UserError, match=r"newton-cg with loss.l1 0.5; it takes no l1"):
        choose_solver("newton-cg", 1000, 10, l1=0.5)
