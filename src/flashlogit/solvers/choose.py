"""Which solver `auto` takes, and what was measured.

Medians in ms and reads of X (less the one of the certificate, which `Fit.passes` counts), two cores of an AMD EPYC,
C = 1, to a relative gap of 1e-8. "Easy" columns have correlations of 0.3 to 0.65; "hard" ones singular values over two
decades and logits of size 3. A ! has not converged after 400 reads.

                          easy                                       hard
                   newton     newton-cg   lbfgs          newton     newton-cg    lbfgs
    1,000,000 x 28     80 (4)    130 (11)   330 (20)          95 (5)    137 (12)   3,396 (232)
      400,000 x 64     78 (5)    122 (11)   330 (24)         108 (7)    141 (13)   4,967 !
     200,000 x 128     93 (7)    103 (11)   261 (24)         106 (9)    122 (13)   3,813 !
     100,000 x 200    119 (8)     82 (13)   393 (53)         295 (14)   137 (23)   2,691 !
     100,000 x 384    262 (9)    153 (14)   804 (71)         614 (14)   344 (35)   4,772 !
      20,000 x 384     79 (9)     61 (18)   198 (48)         158 (14)   136 (49)   1,543 !
       5,000 x 384     52 (10)    25 (13)   124 (71)          83 (16)    60 (47)     744 !

With l1 = 1e-3, to 1e-6:

    1,000,000 x 28    178 (4)               532 (18)         200 (4)               2,963 (90)
      20,000 x 300    165 (8)             1,257 (58)         336 (14)              7,172 !
    20,000 x 1,024  1,101 (10)            2,038 (73)       2,210 (19)              9,016 !
    20,000 x 2,000  6,615 (11)            2,800 (77)      18,520 (21)             11,900 !

N moves neither boundary: both methods read X in proportion to it. On an H100 all three take about as long, since the
host's time for some 2,000 launches decides: at 11,000,000 x 28 newton 33, newton-cg 40 and lbfgs 38 ms (10, 14 and 11
of them on the device), and at 200,000 x 1,024 newton-cg 49 and lbfgs 70 (15 and 8).
"""

from __future__ import annotations

from typing import Literal

from ..system.errors import UserError

SolverName = Literal["auto", "lbfgs", "newton", "newton-cg"]

NEWTON_COLUMNS = 128
"""Most columns for which `auto` takes Newton's method without an l1 term: as many as the pass with the Hessian has."""
NEWTON_LIMIT = 2048
"""Most columns for which Newton's method is offered, and with an l1 term taken: where L-BFGS converges it takes half
the time at 2,000 columns, but often it does not."""


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
    if (NEWTON_LIMIT if l1 > 0 else NEWTON_COLUMNS) >= D:
        return "newton"
    return "lbfgs" if l1 > 0 else "newton-cg"


SOFTMAX_NEWTON, SOFTMAX_NEWTON_LIMIT = 320, 2048
"""Most parameters of all classes for which `auto` takes Newton's method, and for which it is offered."""


def choose_softmax_solver(
    name: SolverName, D: int, K: int, *, l1: float
) -> Literal["lbfgs", "newton", "newton-cg"]:
    """The solver for D columns and K classes, whose Hessian has (D + 1) K rows; UserError as for two classes."""
    if name == "newton" and (D + 1) * K > SOFTMAX_NEWTON_LIMIT:
        raise UserError(
            f"solver.name is newton with {D:,} columns and {K} classes; their product may be at most"
            f" {SOFTMAX_NEWTON_LIMIT:,}: set it to auto, lbfgs or newton-cg"
        )
    if name == "newton-cg" and l1 > 0:
        raise UserError(
            f"solver.name is newton-cg with loss.l1 {l1:g}; it takes no l1: set it to auto, newton or lbfgs"
        )
    if name != "auto":
        return name
    if (SOFTMAX_NEWTON_LIMIT if l1 > 0 else SOFTMAX_NEWTON) >= (D + 1) * K:
        return "newton"
    return "lbfgs" if l1 > 0 else "newton-cg"
