"""The state of many models between two passes over X, and the launches that take all of them from one to the next.

    theta_(t+1) = theta_t - step M^-1 (L-BFGS's correction) gradient,      W_jc = d_j theta_jc,
    b_c = d_b theta_bc - sum_j center_j W_jc

`judge` takes the sums of a pass at the trial points, accepts or refuses each (Armijo's rule), and leaves the vectors q
to which its caller applies M^-1; `next_points` takes the products and gives the coefficients of the next pass. In
between the host reads `status`, once a step: which models end, and what the next pass has to be.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from triton import next_power_of_2

from ...models import ModelSums
from ..arguments import on_device
from ..plan import Launch
from . import _many_step as at
from ._many_step import judge_kernel, try_kernel

MOST_PARAMETERS = 1 << 15
"""Parameters of a model up to which one program steps it. It reads 41 vectors of them one after the other, on one
multiprocessor of a hundred; beyond, torch's operations have numbers enough for all of them."""
_TILE = 2048
"""Numbers of a vector that a program holds at once."""
_NUMBERS_A_THREAD = 4
"""Numbers of these for each thread, so that q and a pair take 24 registers."""


Layout = tuple[NDArray[np.int64], int, int]
"""Where the caller has number i of model k's vector: at first[k] + i width, (first [K], width, how many in all)."""


class Points(Protocol):
    """Trial points whose gaps were found elsewhere, float64: gradient [P C, K]; value, gap and held_loss [K]."""

    @property
    def gradient(self) -> Tensor: ...
    @property
    def value(self) -> Tensor: ...
    @property
    def gap(self) -> Tensor: ...
    @property
    def held_loss(self) -> Tensor: ...


class ModelsStep:
    """K models of P C parameters, row j C + c of theta [P C, K] being class c of column j, the last column that of the
    intercept where there is one.

    Attributes:
        status: [K] int32 after `judge`, sums of 1 where a gap ends a model; 2 where the model ends; 4, 8 and 16 where
            its gap is at most the goal, the floor, and `near` goals.
    """

    def __init__(
        self,
        scale: Tensor,
        l2: Tensor,
        *,
        center: Tensor | None,
        weight_sum: Tensor,
        goal: Tensor,
        floor: Tensor,
        classes: int,
        intercept: bool,
        memory: int,
        curved: float,
        noise: float,
        rough_noise: float,
        near: float,
        refusals: int,
        stalled: int,
    ) -> None:
        """Allocate the state; `begin` sets the points.

        Args:
            scale: d [P, K], float64, on the device.
            l2: [P, K] by theta, above 0 but for the intercept's 0.
            center: [D] where it is folded into the intercept, None where a pass subtracts it.
            weight_sum: S [K].
            goal: gaps [K] that end a model.
            floor: gaps [K] from which passes are in float64.
            classes: C.
            intercept: whether the last column is one.
            memory: pairs kept.
            curved: least s . y as a share of |y|^2 at which one is.
            noise: share of P below which a difference is none, of passes in float64; above 0.
            rough_noise: the same where one of two points was evaluated in float32.
            near: gaps of so many times the goal may be below it after the next step.
            refusals: in a row, after which a model ends.
            stalled: points in a row that do not lower a model's best gap by a tenth, after which it ends.

        Raises:
            ValueError: more parameters than `MOST_PARAMETERS`.
        """
        (P, K), C = scale.shape, classes
        if not self.fits(P * C):
            raise ValueError(f"a step of many models takes up to {MOST_PARAMETERS} parameters each, not {P * C}")
        self._P, self._C, self._D, self._memory = P, C, P - intercept, memory
        rows = torch.zeros((K, 1), dtype=torch.float64, device=scale.device)
        self._device = rows.device
        self._numbers = rows.repeat(1, at.NUMBERS_A_MODEL.value)
        for place, value in ((at.WEIGHT_SUM, weight_sum), (at.GOAL, goal), (at.FLOOR, floor)):
            self._numbers[:, place.value] = value
        self._vectors = rows.new_zeros((K, at.VECTORS_A_MODEL.value, P * C))
        centers = rows.new_zeros(P)
        if center is not None:
            centers[: len(center)] = center
        limits = torch.tensor([noise, rough_noise, curved, near, refusals, stalled], dtype=torch.float64)
        self._state: dict[str, Any] = {
            "SCALE": scale.t().contiguous(),
            "CENTER": centers,
            "NUMBERS": self._numbers,
            "VECTORS": self._vectors,
            "PAIRS": rows.new_empty((K, memory, 2, P * C)),
            "INVERSES": rows.new_zeros((K, memory)),
            "ALPHAS": rows.new_zeros((K, memory)),
        }
        # Compiled without the promise of whole 16 bytes: a pass's sums are parts of one tensor.
        odd = rows.new_empty(3)[1:]
        odd = odd if odd.data_ptr() % 16 else odd[1:]
        self._odd = odd
        # A gap has gradient^2 / (2 l2) for each weight; the intercepts' part is twice what they alone could still gain.
        penalty = l2.t().contiguous()
        proving = torch.where(penalty > 0, 0.5 / penalty, 1.0)
        self._judged = {"L2": penalty, "PROVING": proving, "LIMITS": limits.to(self._device)}
        self._host_rows = np.arange(K)
        self._rows = self._on_device(self._host_rows.astype(np.int32))
        self._whole_status = torch.zeros(K, dtype=torch.int32, device=self._device)
        self._coefficients: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
        self._q = rows.new_empty(0)
        self._first, self._width = self._rows.long(), 1
        self._judged_at = self._first, self._width
        self._head, self._pairs, self._rough = 0, 0, False
        self._launches: dict[Any, Launch] = {}

    @staticmethod
    def fits(parameters: int) -> bool:
        """Return whether a program steps a model of so many parameters."""
        return parameters <= MOST_PARAMETERS

    @property
    def status(self) -> Tensor:
        """What became of the models that are left, [K] int32."""
        return self._whole_status[: len(self._host_rows)]

    @property
    def theta(self) -> Tensor:
        """The accepted points of the models that are left, [P C, K]."""
        return self._vector(at.THETA)

    @property
    def trial(self) -> Tensor:
        """Their trial points, [P C, K]."""
        return self._vector(at.TRIAL)

    def values(self, models: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return P, gaps and held-out losses of some of the models that are left at their accepted points, [3, k]."""
        rows = self._numbers[self._on_device(self._host_rows[models])]
        places = [place.value for place in (at.VALUE, at.GAP, at.HELD_LOSS)]
        found: NDArray[np.float64] = rows.cpu().numpy()[:, places].T
        return found

    def begin(self, theta: Tensor, points: Points, layout: Layout, *, rough: bool, proofs: bool) -> Tensor:
        """Set the accepted points to theta [P C, K], where a pass gave `points`; see `judge`."""
        self._vectors.zero_()
        self._vectors[:, at.THETA.value] = self._vectors[:, at.TRIAL.value] = theta.t()
        for place, number in ((at.VALUE, torch.inf), (at.BEST, torch.inf), (at.STEP, 1.0)):
            self._numbers[:, place.value] = number
        self.move(layout)
        return self.judge(points, rough=rough, proofs=proofs, forget=True)

    def move(self, layout: Layout) -> None:
        """Have the next vectors q where the layout says, which is that of the models that are left."""
        rows = np.zeros(len(self._numbers), dtype=np.int64)
        rows[self._host_rows], self._width, numbers = layout
        self._first = self._on_device(rows)
        if len(self._q) != numbers:
            self._q = self._numbers.new_zeros(numbers)

    def chosen(self, models: NDArray[np.int64], layout: Layout) -> None:
        """Go on with some of the models that are left."""
        self._host_rows = self._host_rows[models]
        self._rows = self._on_device(self._host_rows.astype(np.int32))
        self.move(layout)

    def judge(
        self,
        found: ModelSums | Points,
        *,
        rough: bool,
        proofs: bool,
        first_proofs: bool = False,
        forget: bool = False,
    ) -> Tensor:
        """Accept the trial points or refuse them by what a pass found there.

        Args:
            found: sums, with the border of logistic models where their gaps are to be proven, or points.
            rough: whether the pass was in float32.
            proofs: whether a gap at most the goal ends a model.
            first_proofs: whether gaps are proven and those of the last pass were estimates.
            forget: whether the pairs are left out from here on.

        Returns:
            q, as the layout has it, for those that were accepted; what other models' numbers are has no meaning. The
            next call writes to the same memory.
        """
        self._head = (self._head + 1) % self._memory
        self._pairs = 0 if forget else min(self._pairs + 1, self._memory)
        given, proven = not isinstance(found, ModelSums), False
        if isinstance(found, ModelSums):
            tensors = {"SUMS": found.weight_grad, "BIAS_SUMS": found.bias_grad, "LOSS": found.loss}
            tensors |= {"HELD": found.held_loss}
            if found.border is not None and found.corner is not None:
                proven = True
                tensors |= {"BORDER": found.border, "CORNER": found.corner}
        else:
            tensors = {"SUMS": found.gradient, "BIAS_SUMS": found.gap, "LOSS": found.value, "HELD": found.held_loss}
        tensors = {name: each.contiguous() for name, each in tensors.items()}
        flags = at.IS_ROUGH.value * (rough or self._rough) + at.ARE_PROOFS.value * proofs
        flags += at.ARE_FIRST_PROOFS.value * first_proofs
        self._rough = rough
        self._judged_at = self._first, self._width
        key = "judge", given, proven
        with on_device(self._numbers):
            if key not in self._launches:
                optional = self._odd if proven else None
                arguments = {
                    **dict.fromkeys(("SUMS", "BIAS_SUMS", "LOSS", "HELD"), self._odd),
                    **dict.fromkeys(("BORDER", "CORNER"), optional),
                    **self._judged,
                    "STATUS": self._whole_status,
                    "flags": 0,
                    "GIVEN": given,
                    "PROVEN": proven,
                }
                self._launches[key] = self._launch(judge_kernel, arguments, (*tensors, "flags", "Q"))
            self._launches[key]({**tensors, **self._changing(), "flags": flags, "Q": self._q})
        return self._q

    def next_points(self, products: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return W [D, K C] and b [K C] of the next pass, in the dtype of its arithmetic.

        products: M^-1 q as the layout had it when the points were judged; written over. The next call writes to the
        same memory.
        """
        if dtype not in self._coefficients:
            count = len(self._numbers) * self._C
            both = [self._numbers.new_empty(n * count, dtype=dtype) for n in (self._D, 1)]
            self._coefficients[dtype] = both[0], both[1]
        W, b = self._coefficients[dtype]
        key = "try", dtype
        with on_device(self._numbers):
            if key not in self._launches:
                self._launches[key] = self._launch(try_kernel, {"R": self._odd, "W": W, "B": b}, ("R",))
            self._launches[key]({**self._changing(), "R": products})
        columns = len(self._host_rows) * self._C
        return W[: self._D * columns].view(self._D, columns), b[:columns]

    def _changing(self) -> dict[str, Tensor | int]:
        """Return what changes from launch to launch of both kernels."""
        first, width = self._judged_at
        numbers = {"K": len(self._host_rows), "head": self._head, "pairs": self._pairs, "width": width}
        return {"ROWS": self._rows, "SLOTS": first, **numbers}

    def _launch(self, kernel: Any, arguments: dict[str, Any], changing: tuple[str, ...]) -> Launch:
        # The same for every launch, so that none looks like one to be compiled for.
        changes = {name: 0 if isinstance(value, int) else value for name, value in self._changing().items()}
        every = {**self._state, "Q": self._odd, **changes, **arguments, "D": self._D, "P": self._P, **self._geometry()}
        return Launch(
            kernel,
            (len(self._numbers),),
            {name: value for name, value in every.items() if name in kernel.arg_names or name in _OPTIONS},
            changing=(*changes, *changing),
        )

    def _geometry(self) -> dict[str, Any]:
        lanes = next_power_of_2(self._C)
        height = min(next_power_of_2(self._P), max(1, _TILE // lanes))
        warps = min(16, max(1, height * lanes // (32 * _NUMBERS_A_THREAD)))
        sizes = {"C": self._C, "MEMORY": self._memory, "HEIGHT": height, "LANES": lanes, "WHOLE": height >= self._P}
        return {**sizes, "num_warps": warps, "enable_fp_fusion": True}

    def _vector(self, which: Any) -> Tensor:
        return self._vectors[self._rows, which.value].t()

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


_OPTIONS = ("num_warps", "enable_fp_fusion")
