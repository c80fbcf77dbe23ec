"""The state of K fits between their passes, and the launches that take them from one pass to the next.

    P(theta) = 1/S sum_i s_i loss_i(z_i) + 1/2 sum_j l2_j theta_j^2
    w_j = d_j theta_j        b = d_b theta_b - sum_j c_j w_j

A step takes the sums of a pass at the trial point, accepts it or tries a shorter step (Armijo's rule), and writes the
weights and bias of the next point. All decisions are made on the device, so that passes and steps may be launched ahead
of what the host knows of them: a model whose status is not 0 is left as it is, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from triton import next_power_of_2

from ..arguments import on_device
from ..plan import Launch
from ..resources import stand_in
from . import _point as at
from ._hessian_step import build_hessian_kernel, newton_hessian_kernel
from ._step import resume_kernel, step_kernel

MEMORY = 20
"""Pairs that L-BFGS remembers."""
MOST_PARAMETERS = {"lbfgs": 16_384, "newton": 129}
"""Parameters up to which a program holds a method's step."""
SWEPT_COLUMNS = 64
"""Columns of X up to which a new Hessian is inverted within a program. An H100 took 18 us for a tile of 32 x 32 numbers
and 500 us for one of 128 x 128; torch took 65 us for 31 parameters and 130 us for 65, in a dozen launches."""
NUMBERS = ("status", "value", "gap", "gradient_norm", "step", "refused", "decrement", "new")
"""Names of the columns of `Step.numbers`."""
_BUILT_ROWS = 8
"""Rows of a Hessian that a program builds, of more than `SWEPT_COLUMNS`."""
_ALIGNED = 16
"""Vectors begin at multiples of so many numbers."""


def fits_step(parameters: int, method: Literal["lbfgs", "newton"]) -> bool:
    """Return whether a step with so many parameters has a kernel."""
    return parameters <= MOST_PARAMETERS[method]


class Step:
    """K fits with P parameters each, their state on one device.

    Attributes:
        method: "lbfgs" or "newton".
        numbers: [K, 8] float64, see `NUMBERS`: the status, P and the gap at the accepted point, the norm of the
            gradient there, the length of the step that was tried, refusals in a row, the decrease that the quadratic
            model expects of the next step, and whether the Hessian behind the step that was tried was new.
        theta: [P, K] float64, the accepted point.
        gradient: [P, K] float64, the gradient there.
        status: [K] int32. 0 goes on; 1 has a gap of at most the limit; 2 began at a point whose P is not finite; 3
            wants a new Hessian; 4 was refused four steps although its Hessian is new; 5 has a Hessian without a
            Cholesky factor. A model of another status than 0 has the accepted point for its next one.
    """

    def __init__(
        self,
        scale: ArrayLike,
        l2: ArrayLike,
        *,
        center: ArrayLike | None,
        weight_sum: float | ArrayLike,
        intercept: bool,
        method: Literal["lbfgs", "newton"],
        device: torch.device,
        models: int = 1,
        stop_gap: float = 0.0,
        rounding: float = 2e-14,
        good_ratio: float = 0.1,
    ) -> None:
        """Allocate the state; `begin` sets the point.

        Args:
            scale: d [P] on the host; P is D or, with an intercept, D + 1.
            l2: [P] on the host, above 0 but for the intercept's 0.
            center: c [D] on the host where it is folded into the intercept, None where a pass subtracts it.
            weight_sum: S, a number or [K].
            intercept: whether the last parameter is one.
            method: "lbfgs" or "newton".
            device: where the fits are.
            models: K.
            stop_gap: the gap at which a model ends, in nats.
            rounding: the share of P below which a difference is rounding: 2e-14 after a pass in float64.
            good_ratio: a new Hessian is wanted where the decrement is more than this share of the last one.

        Raises:
            ValueError: more parameters than `MOST_PARAMETERS`.
        """
        d, penalty = np.asarray(scale), np.asarray(l2)
        if not fits_step(len(d), method):
            raise ValueError(f"a step by {method} takes up to {MOST_PARAMETERS[method]} parameters, not {len(d)}")
        self.method, self._P, self._K = method, len(d), models
        self._newton = method == "newton"
        P, K, D = len(d), models, len(d) - intercept
        self._by_torch = D > SWEPT_COLUMNS
        pitch = self._pitch = _whole(P)
        # One piece of memory: it takes one launch to clear, one to save, and another one for what the host knows.
        constants = np.zeros((4, pitch))
        constants[0, :P], constants[1, :P], constants[3, :P] = d, penalty, 1.0
        constants[3, :D] = 0.5 / penalty[:D]
        if center is not None:
            constants[2, :D] = np.asarray(center)
        limits = np.empty((K, at.LIMITS_A_MODEL.value))
        limits[:, at.WEIGHT_SUM_LIMIT.value] = weight_sum
        limits[:, 1:] = stop_gap, rounding, good_ratio
        kept = np.empty((K, at.KEPT_A_MODEL.value))
        kept[:] = 1.0, MEMORY, 1.0, 0.0, 0.0
        self._host = {"CONSTANTS": constants, "LIMITS": limits, "KEPT": kept}
        sizes = {name: each.size for name, each in self._host.items()}
        # The bias begins at whole 16 bytes, as the weights do: no kernel is compiled for less.
        bias = -(-D // 4) * 4
        sizes |= {"NUMBERS": K * len(NUMBERS), "STATUS": K, "W64": K * (bias + 4), "W32": K * (bias // 2 + 2)}
        sizes |= {"VECTORS": K * at.VECTORS_A_MODEL.value * pitch}
        sizes |= {"MEMORY": K * (P if self._newton else 2 * (MEMORY + 1)) * pitch}
        sizes |= {} if self._newton else {"MATRICES": K * at.MATRICES_A_MODEL.value}
        whole = [_whole(size) for size in sizes.values()]
        self._all = torch.zeros(sum(whole), dtype=torch.float64, device=device)
        of: dict[str, Tensor] = dict(zip(sizes, torch.split(self._all, whole), strict=True))
        of |= {"STATUS": of["STATUS"].view(torch.int32), "W32": of["W32"].view(torch.float32)}
        self._pieces = of
        self._begins = dict(zip(sizes, accumulate(whole, initial=0), strict=False))
        self._saved = self._all[self._begins["KEPT"] :]
        self.numbers, self.status = self._rows("NUMBERS", len(NUMBERS)), of["STATUS"][:K]
        both = {torch.float64: self._rows("W64", bias + 4), torch.float32: self._rows("W32", bias + 4)}
        self._weights = {dtype: [(row[:D], row[bias : bias + 1]) for row in rows] for dtype, rows in both.items()}
        self.theta, self.gradient = (self._vector(which, of["VECTORS"]) for which in (at.THETA, at.GRADIENT))
        self._point: dict[str, Any] = {name: of[name] for name in ("CONSTANTS", "VECTORS", "STATUS", "W64", "W32")}
        self._point |= {"P": P, "pitch": pitch, "INTERCEPT": int(intercept)}
        self._state = {name: of[name] for name in ("LIMITS", "NUMBERS", "KEPT", "MEMORY")}
        self._launches: dict[tuple[str, bool, bool], Launch] = {}
        self._unit: Tensor | None = None
        self._fresh = True

    def point(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the accepted point as it is now: theta and gradient [P, K], P and the gap [K], for one copy."""
        copy = self._saved[: self._begins["MEMORY"] - self._begins["KEPT"]].clone()
        numbers, vectors = (copy[self._begins[name] - self._begins["KEPT"] :] for name in ("NUMBERS", "VECTORS"))
        numbers = numbers[: self._K * len(NUMBERS)].view(self._K, -1)
        return self._vector(at.THETA, vectors), self._vector(at.GRADIENT, vectors), numbers[:, 1], numbers[:, 2]

    @property
    def inverse(self) -> Tensor:
        """The inverse of the Hessian of Newton's method, [K, P, P] float64."""
        return self._memory[:, :, : self._P]

    def weights(self, dtype: torch.dtype, model: int = 0) -> tuple[Tensor, Tensor]:
        """Return (w [D], b [1]) of a model's next point for a pass, in float64 or float32; every launch writes them."""
        return self._weights[dtype][model]

    def begin(self, theta: Tensor, state: Mapping[str, Tensor] | None = None) -> None:
        """Set the accepted point and the next one to theta [P, K], with what `state` gave or nothing remembered.

        Where the state is that of a step of the same size, all is as it was then, to the last bit, and no point need be
        evaluated `first`.

        Raises:
            ValueError: a state of another size.
        """
        if not self._fresh:
            self._saved.zero_()
        self._fresh = False
        host = np.zeros(self._begins["NUMBERS"])
        for name, each in self._host.items():
            host[self._begins[name] :][: each.size] = each.reshape(-1)
        self._all[: len(host)].copy_(torch.from_numpy(host), non_blocking=True)
        if state is not None and "step" in state:
            if state["step"].shape != self._saved.shape:
                raise ValueError(f"the state's step has {state['step'].numel()} numbers; must be {self._saved.numel()}")
            self._saved.copy_(state["step"])
            return
        self.theta.copy_(theta)
        if self._newton and state is not None:
            self.inverse[:] = torch.linalg.inv_ex(state["hessian"])[0]
            self._rows("KEPT", at.KEPT_A_MODEL.value)[:, at.IS_NEW.value] = state["new"]
        elif state is not None:
            self._begin_pairs(state)
        self.resume()

    def resume(self, *, stop_gap: float | None = None, rounding: float | None = None, back: bool = False) -> None:
        """Let all models go on to where their directions lead, with new limits where they are given.

        The next sums may be those of another arithmetic than the last. With `back` they are those of a pass at the
        accepted point, to be taken as they are: `advance(..., first=True)`.
        """
        self.limit(stop_gap=stop_gap, rounding=rounding)
        self._launch("resume", first=back)

    def limit(self, *, stop_gap: float | None = None, rounding: float | None = None) -> None:
        """Set new limits, where they are given."""
        if stop_gap is None and rounding is None:
            return
        limits = self._host["LIMITS"]
        for place, limit in ((at.STOP_GAP, stop_gap), (at.ROUNDING, rounding)):
            limits[:, place.value] = limits[:, place.value] if limit is None else limit
        self._pieces["LIMITS"][: limits.size].copy_(torch.from_numpy(limits.reshape(-1)), non_blocking=True)

    def prepare(self, *, exact: bool) -> None:
        """Settle the launch of `advance` ahead of its first use."""
        self._settled("step", exact=exact, first=False)

    def advance(self, sums: Tensor, *, exact: bool = False, first: bool = False) -> None:
        """Judge the trial point by the sums of its pass, and set the next one.

        Args:
            sums: [K, D + 5] or, with `exact`, [K, 2 D + 6] float64, contiguous: gradient by w, the five scalars and,
                with `exact`, sum_i s_i h_i x_i and sum_i s_i h_i, by which the gap is proven.
            exact: see `sums`.
            first: whether the point is the accepted one, to be taken as it is.
        """
        self._launch("step", {"SUMS": sums}, exact=exact, first=first)

    def hessian(self, raw: Tensor, *, first: bool = False) -> None:
        """Take up the Hessian at the accepted point, and set the next one, for models of status 3 and more.

        Args:
            raw: [K, 2 D + 6 + D D] float64, contiguous: what `advance` takes with `exact`, and sum_i s_i h_i x_i x_i^T.
            first: whether value, gradient and gap of the accepted point are to be taken from `raw` as well, for models
                of status 0 too.
        """
        P, K = self._P, self._K
        if not self._by_torch:
            return self._launch("hessian", {"RAW": raw}, first=first)
        hessian = raw.new_empty((K, P, P))
        self._launch("build", {"RAW": raw, "HESSIAN": hessian})
        # torch.cholesky_inverse waits for the device, and takes longer.
        factors, info = torch.linalg.cholesky_ex(hessian)
        if self._unit is None:
            self._unit = torch.eye(P, dtype=raw.dtype, device=raw.device)
        inverse = torch.linalg.solve_triangular(factors, self._unit, upper=False)
        inverse = inverse.mT @ inverse
        return self._launch("hessian", {"RAW": raw, "INVERTED": inverse, "INFO": info}, first=first)

    def state(self) -> dict[str, Tensor]:
        """Return what `begin` goes on from: all of it as "step", and what the methods of flashlogit.solvers in torch
        take: for L-BFGS steps and changes [20, P, K], newest first, and which are used [20, K]; for Newton's method
        nothing."""
        step = self._saved.clone()
        if self._newton:
            return {"step": step}
        head = self._rows("KEPT", at.KEPT_A_MODEL.value)[:, at.HEAD.value, None].long()
        places = (head - 1 - torch.arange(MEMORY, device=self.status.device)) % (MEMORY + 1)
        pairs = torch.arange(self._K, device=places.device)[:, None], places
        steps, changes = (self._memory[:, of, :, : self._P][pairs].permute(1, 2, 0) for of in (0, 1))
        inverse = self._square(at.INVERSE).diagonal(dim1=1, dim2=2)
        return {"step": step, "steps": steps, "changes": changes, "used": (inverse[pairs] != 0).to(steps.dtype).t()}

    def _begin_pairs(self, state: Mapping[str, Tensor]) -> None:
        # The oldest comes first, so that the free place behind the newest is followed by the oldest.
        S, Y = (state[name].flip(0).permute(2, 0, 1) for name in ("steps", "changes"))
        used = state["used"].flip(0).t().to(S.dtype)
        self._memory[:, 0, :MEMORY, : self._P], self._memory[:, 1, :MEMORY, : self._P] = S, Y
        matrices = self._rows("MATRICES", at.MATRICES_A_MODEL.value)
        products = S @ Y.mT
        inverse = torch.linalg.inv(products.triu() + torch.diag_embed(1 - used))
        self._square(at.INVERSE)[:, :MEMORY, :MEMORY] = inverse * used[:, :, None] * used[:, None, :]
        self._square(at.PRODUCTS)[:, :MEMORY, :MEMORY] = Y @ Y.mT
        curvature = products.diagonal(dim1=1, dim2=2)
        matrices[:, at.CURVATURE.value : at.CURVATURE.value + MEMORY] = curvature
        newest, length = curvature[:, -1], Y[:, -1].square().sum(dim=1)
        self._rows("KEPT", at.KEPT_A_MODEL.value)[:, at.SIZE.value] = torch.where(newest > 0, newest / length, 1.0)

    def _square(self, which: Any) -> Tensor:
        n = at.PLACES.value
        return self._rows("MATRICES", at.MATRICES_A_MODEL.value)[:, which.value : which.value + n * n].view(-1, n, n)

    @property
    def _memory(self) -> Tensor:
        """[K, P, pitch] of Newton's method, [K, 2, places, pitch] of L-BFGS."""
        shape = (self._P, self._pitch) if self._newton else (2, MEMORY + 1, self._pitch)
        return self._rows("MEMORY", math.prod(shape)).view(-1, *shape)

    def _rows(self, name: str, numbers: int) -> Tensor:
        """Return so many numbers of each model, [K, numbers]."""
        return self._pieces[name][: self._K * numbers].view(self._K, numbers)

    def _vector(self, which: Any, vectors: Tensor) -> Tensor:
        """Return one of the vectors of each model, [P, K]."""
        rows = vectors[: self._K * at.VECTORS_A_MODEL.value * self._pitch].view(self._K, -1, self._pitch)
        return rows[:, which.value, : self._P].t()

    def _launch(
        self, name: str, changed: dict[str, Tensor] | None = None, *, exact: bool = False, first: bool = False
    ) -> None:
        """Launch a kernel, for which its arguments are settled when it is first launched."""
        with on_device(self.status):
            self._settled(name, exact=exact, first=first)(changed)

    def _settled(self, name: str, *, exact: bool, first: bool) -> Launch:
        key = name, exact, first
        if key not in self._launches:
            with on_device(self.status):
                self._launches[key] = self._made(name, exact=exact, first=first)
        return self._launches[key]

    def _made(self, name: str, *, exact: bool, first: bool) -> Launch:
        P, K = self._P, self._K
        width, tile, warps = _geometry(P, newton=self._newton)
        options: dict[str, Any] = {"BLOCK": width, "num_warps": warps, "enable_fp_fusion": True}
        sums = stand_in(torch.float64, self.status.device)
        if name == "resume":
            return Launch(resume_kernel, (K,), {**self._point, "KEPT": self._pieces["KEPT"], "BACK": first, **options})
        if name == "step":
            options |= {"NEWTON": self._newton, "FIRST": first, "EXACT": exact, "TILE": tile}
            options |= {"SUMS": sums, "MATRICES": self._pieces.get("MATRICES")}
            arguments = {**self._point, **self._state, **options}
            return Launch(step_kernel, (K,), arguments, changing=("SUMS",))
        if name == "build":
            point = {key: self._point[key] for key in ("CONSTANTS", "P", "pitch", "INTERCEPT")}
            point["LIMITS"] = self._pieces["LIMITS"]
            options |= {"RAW": sums, "HESSIAN": sums, "TILE": _BUILT_ROWS, "num_warps": 4}
            grid = K, -(-P // _BUILT_ROWS)
            return Launch(build_hessian_kernel, grid, {**point, **options}, changing=("RAW", "HESSIAN"))
        options |= {"FIRST": first, "TILE": tile, "RAW": sums, "INVERTED": None, "INFO": None}
        changing: tuple[str, ...] = ("RAW",)
        if self._by_torch:
            options |= {"INVERTED": sums, "INFO": stand_in(torch.int32, self.status.device)}
            changing = "RAW", "INVERTED", "INFO"
        else:  # the tile has a row for each column of X, and none for the intercept
            block, _, warps = _geometry(P - self._point["INTERCEPT"], newton=True)
            options |= {"BLOCK": block, "num_warps": warps}
        return Launch(newton_hessian_kernel, (K,), {**self._point, **self._state, **options}, changing=changing)


def _whole(numbers: int) -> int:
    """Return the multiple of `_ALIGNED` that holds so many numbers."""
    return -(-numbers // _ALIGNED) * _ALIGNED


def _geometry(P: int, *, newton: bool) -> tuple[int, int, int]:
    """Return the numbers in a block of a vector, columns of a tile of pairs or rows of one of the inverse Hessian, and
    warps."""
    block = max(16, next_power_of_2(P))
    if newton:
        return block, min(block, 16 if P > 64 else 32), 4 if P <= 32 else 8 if P <= 64 else 16
    return min(block, 512 if P <= 2048 else 1024), min(block, 64), 4 if P <= 32 else 8 if P <= 2048 else 16
