"""Which solver `auto` takes, and what was measured."""

from __future__ import annotations

from typing import Literal

from flashlogit.errors import UserError

SolverName = Literal["auto", "lbfgs", "newton", "newton-cg"]

NEWTON_COLUMNS = 128
"""Most columns for which `auto` takes Newton's method without an l1 term: as many as the pass with the Hessian has."""
NEWTON_COLUMNS_L1 = 512
"""The same where there is one."""
NEWTON_LIMIT = 2048
"""Most columns for which Newton's method is offered."""


def choose_solver(name: SolverName, N: int, D: int, *, l1: float) -> Literal["lbfgs", "newton", "newton-cg"]:
    """The solver for N rows and D columns.

    Raises:
        UserError: one asked for by name that cannot take this problem.
    """
    if name == "newton" and D > NEWTON_LIMIT:
        raise UserError(
            f"solver.name is newton with {D:,} columns; it takes at most {NEWTON_LIMIT:,}: set it to auto,"
            " lbfgs or newton-cg"
        )
    if name == "newton-cg" and l1 > 0:
        raise UserError(
            f"solver.name is newton-cg with loss.l1 {l1:g}; it takes no l1: set it to auto, newton or lbfgs"
        )
    if name != "auto":
        return name
    if (NEWTON_COLUMNS_L1 if l1 > 0 else NEWTON_COLUMNS) >= D:
        return "newton"
    return "lbfgs" if l1 > 0 else "newton-cg"
