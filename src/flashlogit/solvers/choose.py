"""Which solver `auto` takes, and what was measured.

Milliseconds of a core and passes over X (less the one of the certificate, which `Fit.passes` counts), one
thread on a busy AMD EPYC (Zen 4), C = 1, to a relative gap of 1e-8, by `scripts/benchmark.py spectra`: tables whose
columns are independent, correlated, or combinations of independent ones whose sizes span some decades, without or with
five that are 30 times as large.

                                         newton        newton-cg     lbfgs
    1,000,000 x 28, correlated           122 (4)       212 (11)      149 (5)
    400,000 x 64, correlated             133 (7)       184 (12)      137 (7)
    100,000 x 128, one decade            161 (9)       106 (18)       77 (10)
    100,000 x 384, two decades           862 (11)      376 (26)      295 (13)
      20,000 x 384, one-hot              200 (10)      115 (28)       94 (16)
    20,000 x 1,024, independent        1,300 (14)      349 (27)      144 (15)
    20,000 x 1,024, one decade         1,391 (14)      303 (24)      261 (18)
    20,000 x 1,024, three decades      1,389 (14)      255 (21)      218 (13)
     5,000 x 1,024, five large           593 (18)      199 (59)      160 (21)
    12,000 x 4,096, independent                      4,783 (124)   2,525 (111)
    12,000 x 4,096, three decades                    4,755 (301)   2,766 (14)

Beyond 32 columns L-BFGS with a sample's Hessian (`flashlogit.solvers.sampled_lbfgs`) took at most 1.23 times as long as
the best other method on each of the sixty tables, and on most of them less; at 500 x 10 it took 1.5 times as long.

With an l1 term a CPU takes Newton's method at any number of columns. Its model is minimised by coordinate descent, and
unless half of all weights are in one, it goes over working sets of them (`flashlogit.solvers.working_set`). In ms, to
1e-7, C = 1, standard normal columns of float64 and an intercept, on two busy cores of the EPYC, least of 3 to 9
calls in turn (`python scripts/benchmark.py l1`); a dash where 1e-7 was not reached:

                     weights   newton   skglm   liblinear    saga
        60 x  1,500       40      7.0     3.0           -
        60 x  2,200       35      7.0     3.0           -
       200 x 20,000       97       64      58           -
    10,000 x     10       10      7.4     7.0         7.1      23
    20,000 x    300      297      447     507       1,225   1,097

Without sets, and with an interior-point method in place of coordinate descent, the first two took 8.8 s and 28 s. A
GPU takes L-BFGS beyond `Bounds.limit` columns. To 1e-6, l1 = 1e-3, on the AMD EPYC, easy and hard columns:

                          newton without sets         lbfgs
    1,000,000 x 28        178 (4)    200 (4)       532 (18)     2,963 (90)
       20,000 x 300       165 (8)    336 (14)    1,257 (58)     7,172 !
     20,000 x 1,024     1,101 (10) 2,210 (19)    2,038 (73)     9,016 !
     20,000 x 2,000     6,615 (11) 18,520 (21)   2,800 (77)    11,900 !

On a CPU N does not move the boundary: both methods read X in proportion to it. A GPU reads a gigabyte in a third of a
millisecond, and the host takes 10 us for each operation that it launches, so that a method of few operations may well
read more often: at 200,000 x 1,024 an H100 took 6.5 to 9 ms for lbfgs (11 evaluations) and 45 for newton-cg (23
passes), 4 and 11 of them on the device. There the least time that `COSTS` predict decides, from the shape and dtype of
X and the options alone: the same problem is solved by the same method at every call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor

from ..objectives.objective import Objective
from ..system.errors import UserError
from .lbfgs import LBFGS
from .method import Method, Start
from .newton import Newton
from .newton_cg import TUNING, NewtonCG
from .sampled_lbfgs import SampledLBFGS
from .stepped import Stepped, takes_steps
from .working_set import WorkingSet

SolverName = Literal["auto", "lbfgs", "newton", "newton-cg"]
METHODS: Final[dict[str, type[Newton] | type[NewtonCG] | type[LBFGS]]] = {
    "newton": Newton,
    "newton-cg": NewtonCG,
    "lbfgs": LBFGS,
}


def begun(name: str, objective: Objective, start: Start) -> Method:
    """Return a method at its start: one whose steps a kernel makes where there is such a one, else one in torch."""
    if takes_steps(objective, name):
        return Stepped(objective, start, newton=name == "newton")
    if name == "newton" and objective.l1 > 0 and not objective.X.is_cuda:
        return WorkingSet(objective, start)
    if name == "lbfgs" and not objective.X.is_cuda and objective.loss.columns == 1 and objective.l1 == 0:
        return SampledLBFGS(objective, start)
    return METHODS[name](objective, start)


@dataclass(frozen=True)
class Bounds:
    """Most columns, or parameters of all classes of a softmax, of Newton's method."""

    newton: int = 128
    """Most columns for which `auto` takes it on a GPU without an l1 term: as many as the pass with the Hessian has."""
    cpu_newton: int = 32
    """The same on a CPU, where L-BFGS with a sample's Hessian takes as many passes and no Hessian of all rows."""
    softmax_newton: int = 320
    """The same for (D + 1) K parameters of a softmax."""
    limit: int = 2048
    """Most for which it is offered, and with an l1 term taken on a GPU: where L-BFGS converges it takes half the time
    at 2,000 columns, but often it does not. On a CPU working sets make it of any number with an l1 term."""


BOUNDS = Bounds()


@dataclass(frozen=True)
class Costs:
    """What a fit of two classes without an l1 term takes on an H100, in seconds."""

    byte: float = 1 / 3e12
    shortest_pass: float = 3e-5
    launch: float = 1e-5
    passes: tuple[int, int, int] = (7, 25, 40)
    """Passes of Newton's method without its Hessians, truncated Newton's, which took 15 to 50, and those of L-BFGS: 10
    to 30 on easy data and up to 400 on hard ones."""
    launches: tuple[int, int, int] = (60, 700, 160)
    """Launches of a whole fit by each: 4 an evaluation, and 40 a product."""
    hessians: int = 2
    columns_a_read: int = 25
    """A Hessian takes a read, and one more for each so many columns: 2, 3.6 and 6 at 28, 64 and 128."""
    preconditioner: float = 2e-6
    """Seconds of each column, for a sample's second moments, their factors and the inverse of these."""


COSTS = Costs()


def predicted_seconds(N: int, D: int, itemsize: int) -> dict[SolverName, float]:
    """Return about what each solver takes on a GPU for X [N, D] of so many bytes a number."""
    one_pass = max(COSTS.byte * N * D * itemsize, COSTS.shortest_pass)
    newton, newton_cg, lbfgs = (
        passes * one_pass + launches * COSTS.launch
        for passes, launches in zip(COSTS.passes, COSTS.launches, strict=True)
    )
    newton += COSTS.hessians * (1 + D / COSTS.columns_a_read) * one_pass
    if TUNING.most_parameters > D:
        newton_cg += COSTS.preconditioner * D
    return {"newton": newton, "newton-cg": newton_cg, "lbfgs": lbfgs}


def choose_method(name: SolverName, X: Tensor, *, outputs: int = 1, l1: float) -> SolverName:
    """Return the solver for X [N, D], by its shape, dtype and kind of device, and so many logits of a row.

    outputs: 1 for two classes, K for a softmax.

    Raises:
        UserError: one asked for by name that cannot take this problem.
        ValueError: a name that no solver has.
    """
    if name not in ("auto", *METHODS):
        raise ValueError(f"solver is {name!r}; must be auto, {', '.join(METHODS)}")
    D = X.shape[1]
    size, auto = (D, BOUNDS.newton) if outputs == 1 else ((D + 1) * outputs, BOUNDS.softmax_newton)
    by_sets = l1 > 0 and not X.is_cuda
    if name == "newton" and size > BOUNDS.limit and not by_sets:
        many = f"{D:,} columns" if outputs == 1 else f"{size:,} parameters, an intercept and {D:,} of each class"
        problem, remedy = f"there are {many}; it takes at most {BOUNDS.limit:,}", "set it to auto, lbfgs or newton-cg"
        raise UserError(problem, setting="solver", value=name, remedy=remedy)
    if name == "newton-cg" and l1 > 0:
        problem, remedy = f"it takes no l1 term, here of {l1:g}", "set it to auto, newton or lbfgs"
        raise UserError(problem, setting="solver", value=name, remedy=remedy)
    if name != "auto":
        return name
    if not X.is_cuda and outputs == 1 and l1 == 0:
        return "newton" if BOUNDS.cpu_newton >= D else "lbfgs"
    if by_sets or size <= (BOUNDS.limit if l1 > 0 else auto):
        return "newton"
    if X.is_cuda and outputs == 1 and l1 == 0:
        seconds = predicted_seconds(len(X), D, X.element_size())
        if size > auto:
            del seconds["newton"]
        return min(seconds, key=lambda solver: seconds[solver])
    return "lbfgs" if l1 > 0 else "newton-cg"
