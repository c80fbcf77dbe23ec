"""Which solver runs, and which cannot."""

from __future__ import annotations

import pytest

from flashlogit.solvers.choose import choose_method
from flashlogit.system.errors import UserError


@pytest.mark.parametrize(
    ("D", "outputs", "l1", "solver"),
    [
        (1, 1, 0.0, "newton"),
        (128, 1, 0.0, "newton"),
        (129, 1, 0.0, "newton-cg"),
        (2048, 1, 0.1, "newton"),
        (2049, 1, 0.1, "lbfgs"),
        (79, 4, 0.0, "newton"),
        (80, 4, 0.0, "newton-cg"),
        (511, 4, 0.1, "newton"),
        (512, 4, 0.1, "lbfgs"),
    ],
)
def test_auto(D: int, outputs: int, l1: float, solver: str) -> None:
    assert choose_method("auto", D, outputs=outputs, l1=l1) == solver


@pytest.mark.parametrize("name", ["newton", "newton-cg", "lbfgs"])
def test_a_name_is_obeyed(name: str) -> None:
    assert choose_method(name, 300, l1=0.0) == name


@pytest.mark.parametrize(
    ("name", "D", "outputs", "l1", "problem"),
    [
        ("newton", 2049, 1, 0.0, "2,049 columns; it takes at most 2,048"),
        ("newton", 600, 4, 0.0, "600 columns and 4 classes"),
        ("newton-cg", 10, 1, 0.5, "takes no l1, and l1 is 0.5"),
    ],
)
def test_what_a_solver_cannot_take(name: str, D: int, outputs: int, l1: float, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        choose_method(name, D, outputs=outputs, l1=l1)
    assert (error.value.setting, error.value.value) == ("solver", name)
