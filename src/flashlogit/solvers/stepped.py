"""Newton's method and L-BFGS with a kernel for all that happens between two passes over X.

On a GPU the dozens of small operations of a step take longer than reading a gigabyte. So one kernel makes the step: it
judges the point that a pass has just evaluated, goes there or shortens the step, finds the next direction, and leaves
the coefficients of the next trial point where the next pass reads them (`flashlogit_kernels.gpu.steps.step`). An
iteration is three kernels, a pass, its reduction and a step, and a copy of eight numbers. The next pass is launched
before these are looked at: where the kernel has decided to stop, the pass finds that out on the device and reads
nothing.

The first passes are in float32. Its sums show a gap down to some share of the null model's P, and above that they lead
to the same place for less. From there on, or as soon as a step is refused or gains nothing, passes are in float64 and
sum X^T h beside X^T r, so that the gap which the step finds is the proven one (`flashlogit.objectives.certificate`),
without another read of X.

This is for a logistic loss with an l2 penalty that proves a gap and no l1 term. The methods in torch take all else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashlogit_kernels.gpu.launch import fits_registers

from ..objectives.certificate import float32_gap
from ..objectives.logistic import Logistic
from ..objectives.objective import Objective, Point
from ..objectives.parameters import RowLoss
from .lbfgs import TUNING as LBFGS
from .method import ROUNDING, Basis, Numbers, Start, State, of_shapes
from .newton import TUNING as NEWTON


@dataclass(frozen=True)
class Tuning:
    """When passes are in float64."""

    rough: float = 1e-4
    """Estimated gap, as a share of the null model's P, from which on passes are in float64."""
    above_noise: float = 100.0
    """The same, in gaps that rounding errors of float32 alone would make."""
    rounding: float = 1e-6
    """Differences of P below this share are noise where one of two points was evaluated in float32."""
    most_weight: float = 1e30
    """Sum of weights beyond which float32 sums may overflow."""
    hessian_columns: int = 32
    """Columns up to which the second point from the null model is evaluated with its Hessian, for twice the time of a
    pass on an H100: it is wanted there more often than not, and then spares the pass."""
    ridges: tuple[float, ...] = (1e-10, 1e-7, 1e-4, 1.0)
    """What is added to the diagonal of a Hessian without a Cholesky factor, which is about 1, until it has one."""


TUNING = Tuning()
_UNKNOWN = 1e300
"""A gap that is larger than any, and finite, as what is saved has to be."""
_CLOSE, _NOT_FINITE, _WANTS_HESSIAN, _MISLED, _NO_FACTOR = range(1, 6)
"""Values of the status of `flashlogit_kernels.gpu.steps.step.Step` that this module answers."""


def by_kernels(loss: RowLoss) -> bool:
    """Return whether kernels sum this loss, on a GPU or in Triton's interpreter."""
    return isinstance(loss, Logistic) and hasattr(loss.passes, "Step")


def takes_steps(objective: Objective, name: str) -> bool:
    """Return whether a kernel makes the steps of the method `name` for this objective."""
    provable = objective.l1 == 0 and objective.proving_l2 > 0 and objective.null_space is None
    if name not in ("newton", "lbfgs") or not provable or not by_kernels(objective.loss):
        return False
    kernels: Any = objective.loss
    return bool(kernels.passes.fits_step(objective.parameters, name))


class Stepped:
    """State of the method at an accepted point; `advance` is one evaluation."""

    def __init__(self, objective: Objective, start: Start, *, newton: bool) -> None:
        self.objective, self._newton = objective, newton
        coordinates, loss, null = objective.design.coordinates, objective.loss, objective.null_value
        assert isinstance(loss, Logistic)
        noise = TUNING.above_noise * float32_gap(objective.proving_l2, coordinates)
        self._goal = start.tolerance * null
        self._rough_gap = max(self._goal, TUNING.rough * null, noise)
        huge = loss.weight_sum > TUNING.most_weight
        self._exact = objective.X.dtype == torch.float64 or self._rough_gap >= null or huge
        self._exact_hessian = huge
        """Whether Hessians are summed in float64."""
        centred, D = objective.design.center is not None, objective.X.shape[1]
        bordered = fits_registers(D, torch.float64, centred=centred, border=True)
        self._border = objective.intercept and (bordered or not fits_registers(D, torch.float64, centred=centred))
        """Whether passes in float64 sum a border. Where one more sum would not fit the registers beside a row, it would
        cost two more reads; the certificate is asked for at the end instead."""
        self._last_gap = _UNKNOWN
        known = dict(start.state or {})
        if known:  # that of a method in torch has sums in float64 only
            self._exact = self._exact or bool(known.get("exact_point", True))
            self._exact_hessian |= bool(known.get("exact", False))
            self._last_gap = float(known.get("last_gap", _UNKNOWN))
        elif newton and start.hessian is not None:
            known = {"hessian": start.hessian, "new": torch.tensor(False)}
        kernels: Any = loss.passes
        self._kernels = kernels
        of_rows = {"sample_weight": loss.sample_weight, "center": objective.design.center}
        self._passes = kernels.Plans(objective.X, loss.y, eps=0.0, compute_dtype=torch.float32, **of_rows)
        self._plans: dict[Any, Any] = {}
        self._ahead = list(_AHEAD)
        # A pass whose coefficients are known is launched first: the device works while the rest is made.
        known_there = start.theta is objective.null or start.coefficients is not None
        first = known_there and not known and not (newton and self._exact_hessian)
        sums = self._first_sums(start.coefficients) if first else None
        folded = objective.intercept and objective.design.center is None
        with np.errstate(over="ignore"):
            penalties = objective.l2 * np.square(coordinates.scales)
        penalties[objective.X.shape[1] :] = 0.0
        self._step: Any = kernels.Step(
            coordinates.scales,
            penalties,
            center=coordinates.centers if folded else None,
            device=objective.X.device,
            weight_sum=loss.weight_sum,
            intercept=objective.intercept,
            method="newton" if newton else "lbfgs",
            **self._limits(),
        )
        self._mail = _Mail(self._step.numbers)
        self._numbers: Numbers | None = None
        self._sums: Tensor
        self._second: Tensor | None = None
        """Sums with the Hessian at the next point, where the pass that has been launched is such a one."""
        self._status, self._was_new, self._decrement = 0, False, 0.0
        self._proven = False
        if "step" in known:
            self._proven = self._exact
            self._step.begin(start.theta, known)
            self._send()
            if known.get("second"):
                self._launch_second()
            else:
                self._launch_pass()
        else:
            if known:
                P, pairs = objective.parameters, (LBFGS.memory, objective.parameters, 1)
                shapes = {"hessian": (1, P, P), "new": ()} if newton else {"steps": pairs, "changes": pairs}
                of_shapes(known, **shapes)
            self._launch_first(start.theta, known, sums)

    @property
    def search(self) -> Stepped:
        """What is known of the accepted point, as of the search of a method in torch."""
        return self

    @property
    def numbers(self) -> Numbers:
        """What is known of the last trial; waits for the device the first time it is asked for."""
        if self._numbers is None:
            while self._ahead and not self._mail.has_come:
                self._ahead.pop(0)(self)
            status, value, gap, gradient_norm, step, refused, self._decrement, was_new = self._mail.read()
            self._status, self._was_new = int(status), was_new != 0
            if self._status == _NOT_FINITE:
                if not self._exact:  # too large for float32, perhaps
                    self._exact = self._exact_hessian = True
                    self._step.limit(**self._limits())
                    self._launch_first(self.theta, {}, None)
                    return self.numbers
                value = math.nan
            self._proven = self._exact if refused == 0 else self._proven
            proven: Basis = "proven" if self._border or not self.objective.intercept else "estimated"
            self._numbers = Numbers(refused, value, gap, gradient_norm, step, proven if self._proven else "rough")
        return self._numbers

    @property
    def theta(self) -> Tensor:
        """The accepted parameters [P, 1], as they are now."""
        theta: Tensor = self._step.theta.clone()
        return theta

    @property
    def at(self) -> Point:
        """The accepted point, as it is now; of its rows nothing is kept."""
        return Point(*self._step.point())

    @property
    def decrement(self) -> float:
        """The decrease of P that the method's model expects of its next step."""
        _ = self.numbers
        return self._decrement

    def advance(self) -> bool:
        """Judge the trial point, whose pass has been launched, and launch the next one's; return whether it was good
        enough."""
        while True:
            if self._prepare() and self._status == _CLOSE:
                return True  # the point was evaluated again, and is close enough
            self._launch_step()
            good = self.numbers.refused == 0
            if self._status != _NO_FACTOR:  # without one no step was made
                return good

    def state(self) -> State:
        """Return the pairs or the Hessian, which sums are in float64, and the gap before the last step."""
        more: dict[str, float] = {
            "second": self._second is not None,
            "exact_point": self._exact,
            "exact": self._exact_hessian,
            "last_gap": self._last_gap,
        }
        return {
            **self._step.state(),
            **{name: torch.tensor(value, dtype=torch.float64) for name, value in more.items()},
        }

    def _prepare(self) -> bool:
        """Do what the last numbers ask for before the next step: another Hessian, or sums in float64. Return whether
        the accepted point was evaluated again for it."""
        numbers, status, null = self.numbers, self._status, self.objective.null_value
        stuck = numbers.gap > 0.5 * self._last_gap and self._decrement < TUNING.rounding * null
        doubtful = not self._proven and (numbers.refused > 0 or stuck)
        sharpen = not self._exact and (status == _CLOSE or doubtful)
        self._last_gap = numbers.gap
        self._exact |= sharpen
        if doubtful:
            # What float32 says of the accepted point may be further from the truth than the trial point is from it.
            self._step.resume(**self._limits(), back=True)
            self._launch_pass()
            self._launch_step(first=True)
            _ = self.numbers
        elif status == _CLOSE or (status == _MISLED and self._exact_hessian):
            self._step.resume(**self._limits())
            self._launch_pass()
        elif status == _NO_FACTOR and self._exact_hessian:
            self._add_ridges()
            self._launch_pass()
        elif status != 0:
            led_nowhere = self._was_new and self._decrement < NEWTON.exact_below * null
            self._exact_hessian = self._exact_hessian or status != _WANTS_HESSIAN or led_nowhere
            self._step.hessian(self._hessian_sums())
            self._launch_pass()
        return doubtful

    def _add_ridges(self) -> None:
        """Give the Hessian a diagonal that is just large enough for it to have a Cholesky factor."""
        sums, D = self._hessian_sums(), self.objective.X.shape[1]
        ridge = self.objective.loss.weight_sum / self.objective.design.coordinates.scale.square()
        for share in TUNING.ridges:
            more = sums.clone()
            more[-D * D :].view(D, D).diagonal().add_(share * ridge[:D])
            self._step.hessian(more)
            self._send()
            if self.numbers and self._status != _NO_FACTOR:
                return
        self._step.resume(back=True)

    def _launch_first(self, theta: Tensor, known: State, sums: Tensor | None) -> None:
        """Launch the first point's pass, with its Hessian unless that is known, the step, and the next pass.

        sums: those of the pass, if that was launched already.
        """
        self._step.begin(theta, known or None)
        if known or not self._newton:
            if sums is None:
                self._launch_pass()
            else:
                self._sums, self._second = sums, None
            self._launch_step(first=True)
            return
        sums = self._hessian_sums() if sums is None else sums
        if self._exact and not self._exact_hessian:  # a Hessian in float32 will do, but not its gradient
            self._launch_pass()
            self.objective.design.count()
            sums[: len(self._sums)] = self._sums
        self._step.hessian(sums, first=True)
        self._send()
        if self._exact or self.objective.X.shape[1] > TUNING.hessian_columns or theta is not self.objective.null:
            self._launch_pass()
        else:
            self._launch_second()

    def _launch_pass(self) -> None:
        """Launch the pass at the next point, which reads nothing where the step has decided to stop."""
        dtype, self._second = torch.float64 if self._exact else torch.float32, None
        self._sums = self._plan(dtype).run(*self._step.weights(dtype), guard=self._step.status)

    def _launch_second(self) -> None:
        """Launch the pass at the second point, with its Hessian."""
        self._sums = self._second = self._plan(None).run(*self._step.weights(torch.float32))

    def _launch_step(self, *, first: bool = False) -> None:
        """Launch the step behind the pass, a copy of its numbers, and the next pass."""
        self.objective.design.count()
        with_border = self._border if self._exact else self.objective.intercept and self._second is not None
        self._step.advance(self._sums, exact=with_border, first=first)
        if self._second is not None:  # taken up if the step wants one
            self._step.hessian(self._second)
        self._send()
        self._launch_pass()

    def _hessian_sums(self) -> Tensor:
        """Return the sums of a pass with the Hessian at the accepted point, [2 D + 6 + D D]."""
        self.objective.design.count()
        if not self._exact_hessian:
            sums: Tensor = self._plan(None).run(*self._step.weights(torch.float32))
            return sums
        w, b = self._step.weights(torch.float64)
        X, loss, center = self.objective.X, self.objective.loss, self.objective.design.center
        assert isinstance(loss, Logistic)
        found = self._kernels.bce_hessian(
            X, loss.y, w, b, sample_weight=loss.sample_weight, center=center, eps=0.0, compute_dtype=torch.float64
        )
        return torch.cat([found.sums.packed, found.matrix[-1], found.matrix[:-1, :-1].reshape(-1)])

    def _first_sums(self, coefficients: Tensor | None) -> Tensor:
        """Return the sums of the first pass, at `Start.coefficients` or at the null model, whose weights are 0."""
        D, loss = self.objective.X.shape[1], self.objective.loss
        at = -(-D // 4) * 4  # a whole 16 bytes
        if coefficients is None:
            numbers = np.zeros(at + 1)
            if self.objective.intercept:
                numbers[at:] = loss.null_intercepts()
            coefficients = torch.from_numpy(numbers)
        if self._newton:
            self.objective.design.count()  # as a step does for the pass behind it
        dtype = torch.float64 if self._exact and not self._newton else torch.float32
        plan = self._plan(None if self._newton else dtype)
        on_device = coefficients.to(dtype).to(self.objective.X.device, non_blocking=True)
        sums: Tensor = plan.run(on_device[:D], on_device[at:])
        return sums

    def _plan(self, dtype: torch.dtype | None) -> Any:
        """Return the plan of passes in float32, of those in float64 with a border, or for None of those in float32 with
        the Hessian."""
        if dtype not in self._plans:
            border = dtype == torch.float64 and self._border
            self._plans[dtype] = self._passes.onepass(dtype, border=border) if dtype else self._passes.hessian()
        return self._plans[dtype]

    def _limits(self) -> dict[str, float]:
        """Return the gap at which passes in this arithmetic end, and their noise."""
        if self._exact:
            return {"stop_gap": self._goal, "rounding": ROUNDING}
        return {"stop_gap": self._rough_gap, "rounding": TUNING.rounding}

    def _send(self) -> None:
        """Send for the numbers of the last launch."""
        self._mail.send()
        self._numbers = None


_AHEAD: tuple[Callable[[Stepped], object], ...] = (
    lambda method: method._plan(torch.float64 if method._exact else torch.float32),
    lambda method: method._step.prepare(exact=method._border),
    lambda method: method._plan(torch.float64),
    lambda method: method.objective.scale,
)
"""What will be needed, in the order in which it is: made while the device works it costs nothing."""


class _Mail:
    """Numbers [1, n] float64 of a device on their way to the host, which waits for them only when it reads them."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers, self._on_gpu = numbers, numbers.is_cuda
        self._copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=self._on_gpu)
        self._arrived: Any = torch.cuda.Event() if self._on_gpu else None  # type: ignore[no-untyped-call]

    def send(self) -> None:
        """Copy the numbers as they are when the device comes to it."""
        self._copy.copy_(self._numbers, non_blocking=True)
        if self._arrived is not None:
            self._arrived.record(torch.cuda.current_stream(self._numbers.device))

    @property
    def has_come(self) -> bool:
        """Whether what was sent last can be read without waiting."""
        return self._arrived is None or bool(self._arrived.query())

    def read(self) -> list[float]:
        """Wait for what was sent last, and return it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found: list[float] = self._copy[0].tolist()
        return found
