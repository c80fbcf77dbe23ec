"""What competes: flashlogit's passes and torch's ways to the same answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.contract import HESSIAN_COLUMNS
from flashlogit_kernels.gpu.launch import fits_registers
from flashlogit_kernels.padding import pad_rows

from . import torch_ways
from .problem import Problem
from .truth import PassName


@dataclass(frozen=True, eq=False)
class Contender:
    """A way to compute a pass over one problem.

    run: one evaluation; gives parts of the answer by the names of `truth`, which times `scale` are sums over rows.
        The first part's error is the one that is reported.
    arithmetic: dtype of its numbers. ours: whether the strict bound on the error applies.
    baseline: whether speed-ups of its pass are against it.
    """

    pass_name: PassName
    name: str
    arithmetic: str
    run: Callable[[], Mapping[str, Tensor]]
    ours: bool = False
    baseline: bool = False
    scale: float = 1.0

    @property
    def key(self) -> str:
        """Unlike that of any other contender for the same problem."""
        return f"{self.pass_name}: {self.name} ({self.arithmetic})"


def gpu_contenders(problem: Problem, passes: Any, *, compiled: bool) -> list[Contender]:
    """All contenders for a GPU, where eager torch is the one to beat.

    Args:
        problem: on any device: tests run the kernels in Triton's interpreter.
        passes: `flashlogit_kernels`.
        compiled: whether torch.compile takes part.
    """
    found = our_contenders(problem, passes, "flashlogit")
    padded = replace(problem, X=pad_rows(problem.X))
    if padded.X is not problem.X:
        arithmetic = natural_arithmetic(problem.X.dtype)
        found.append(our_contender(padded, passes, "flashlogit, rows padded", "onepass", arithmetic))
    X, w, b = problem.X, problem.weight.to(problem.X.dtype), problem.bias.to(problem.X.dtype)
    eager = partial(torch_ways.eager, X, problem.y, w, b)
    found.append(Contender("onepass", "torch eager", problem.dtype, eager, baseline=True))
    found.append(_autograd(problem, baseline=False))
    if compiled:
        found.append(_compiled(problem, w, b))
    if not fits_registers(problem.d, torch.float32):
        s = problem.curvature.to(X.dtype)
        floor = partial(torch_ways.two_products, X, w, s)
        found.append(Contender("two_products", "torch X @ w and X.T @ r", problem.dtype, floor))
    return found + _torch_curvature(problem, w, b)


def cpu_contenders(problem: Problem, passes: Any) -> list[Contender]:
    """All contenders for a CPU, where autograd is the one to beat; `passes` is `flashlogit.reference`."""
    found = our_contenders(problem, passes, "flashlogit reference")
    X, w, b = problem.X, problem.weight.to(problem.X.dtype), problem.bias.to(problem.X.dtype)
    found.append(_autograd(problem, baseline=True))
    found.append(
        Contender("onepass", "torch eager", problem.dtype, partial(torch_ways.eager, X, problem.y, w, b))
    )
    found.append(Contender("product", "torch X @ w", problem.dtype, partial(torch_ways.product, X, w)))
    return found + _torch_curvature(problem, w, b)


def our_contenders(problem: Problem, passes: Any, name: str) -> list[Contender]:
    """The project's own passes: loss and gradient in float32 and float64 arithmetic, the others in one of them."""
    own = natural_arithmetic(problem.X.dtype)
    found = [
        our_contender(problem, passes, name, "onepass", arithmetic)
        for arithmetic in dict.fromkeys((own, torch.float64))
    ]
    found.append(our_contender(problem, passes, name, "hessian_product", own))
    if problem.d <= HESSIAN_COLUMNS:
        found.append(our_contender(problem, passes, name, "hessian", own))
    return found


def natural_arithmetic(storage: torch.dtype) -> torch.dtype:
    """What a pass computes in unless told otherwise: float64 where X is stored in it, else float32."""
    return torch.float64 if storage == torch.float64 else torch.float32


def our_contender(
    problem: Problem,
    passes: Any,
    name: str,
    pass_name: PassName,
    arithmetic: torch.dtype,
    **launch: Any,
) -> Contender:
    """One of the project's own passes; `launch` is empty or holds a launch configuration under that name."""
    run = partial(_RUNS[pass_name], passes, problem, compute_dtype=arithmetic, **launch)
    label = str(arithmetic).removeprefix("torch.")
    return Contender(pass_name, name, label, run, ours=True)


def _our_onepass(passes: Any, problem: Problem, **options: Any) -> dict[str, Tensor]:
    sums = passes.bce_onepass(problem.X, problem.y, problem.weight, problem.bias, **options)
    return {"gradient": sums.weight_grad, "intercept": sums.bias_grad, "loss": sums.loss}


def _our_hessian_product(passes: Any, problem: Problem, **options: Any) -> dict[str, Tensor]:
    product = passes.hessian_product(problem.X, problem.curvature, problem.v, **options)
    return {"gradient": product[:-1], "intercept": product[-1]}


def _our_hessian(passes: Any, problem: Problem, **options: Any) -> dict[str, Tensor]:
    found = passes.bce_hessian(problem.X, problem.y, problem.weight, problem.bias, **options)
    return {
        "hessian": found.matrix[:-1, :-1],
        "border": found.matrix[-1],
        "gradient": found.sums.weight_grad,
        "intercept": found.sums.bias_grad,
        "loss": found.sums.loss,
    }


_RUNS: dict[PassName, Callable[..., dict[str, Tensor]]] = {
    "onepass": _our_onepass,
    "hessian_product": _our_hessian_product,
    "hessian": _our_hessian,
}


def _autograd(problem: Problem, *, baseline: bool) -> Contender:
    X = problem.X
    run = partial(torch_ways.autograd, X, problem.y, problem.weight.to(X.dtype), problem.bias.to(X.dtype))
    return Contender("onepass", "torch autograd", problem.dtype, run, baseline=baseline, scale=problem.n)


def _compiled(problem: Problem, w: Tensor, b: Tensor) -> Contender:
    # Dynamo gives up on a function after a few shapes; what it knows of the last one is dropped.
    torch.compiler.reset()
    compiled = torch.compile(torch_ways.eager, dynamic=False)
    return Contender("onepass", "torch.compile", problem.dtype, partial(compiled, problem.X, problem.y, w, b))


def _torch_curvature(problem: Problem, w: Tensor, b: Tensor) -> list[Contender]:
    X = problem.X
    s, v = problem.curvature.to(X.dtype), problem.v.to(X.dtype)
    product = partial(torch_ways.hessian_product, X, s, v)
    found = [Contender("hessian_product", "torch eager", problem.dtype, product, baseline=True)]
    if problem.d <= HESSIAN_COLUMNS:
        matrix = partial(torch_ways.hessian, X, w, b)
        found.append(Contender("hessian", "torch eager", problem.dtype, matrix, baseline=True))
    return found
