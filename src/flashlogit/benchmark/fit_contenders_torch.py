"""torch.optim.LBFGS with its strong Wolfe line search, over autograd's gradient of the objective."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from .fit_contender import Contender, Entrant, FitData, Solution, ladder, solution, tolerances

FAMILY = "torch"
_TOLERANCES = tolerances(2, 10)
_MEMORY = 20
_EVALUATIONS = 1.25
"""Per iteration, at most: torch's own default."""


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    ladders = [
        ladder(str(dtype).removeprefix("torch."), _TOLERANCES, partial(_run, data, device, dtype))
        for dtype in (torch.float64, torch.float32)
    ]
    return [Contender(f"{FAMILY} LBFGS", FAMILY, device, ladders)]


def _run(data: FitData, device: str, dtype: torch.dtype, tolerance: float, most: int) -> Solution:
    X, y = data.tensors(device, dtype, dtype)
    weight = X.new_zeros(X.shape[1], requires_grad=True)
    bias = X.new_zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=most,
        max_eval=int(_EVALUATIONS * most),
        tolerance_grad=tolerance,
        # Its default of 1e-9 would end a float32 run as soon as two losses round to the same.
        tolerance_change=0.0,
        history_size=_MEMORY,
        line_search_fn="strong_wolfe",
    )
    evaluations = 0

    def closure() -> float:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(X @ weight + bias, y) + 0.5 * data.l2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss)

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = weight.detach().cpu().numpy(), bias.detach().cpu().numpy()
    # Each evaluation reads X twice, for X @ w and for X.T @ r.
    return solution(*found, optimizer.state[weight].get("n_iter"), passes=2.0 * evaluations)
