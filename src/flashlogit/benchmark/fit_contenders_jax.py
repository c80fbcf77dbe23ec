"""optax's L-BFGS in a loop that JAX compiles once for each dtype."""

from __future__ import annotations

import importlib
import os
from functools import partial
from typing import Any

import numpy as np

from .fit_contender import Absent, Contender, Entrant, FitData, Solution, ladder, solution, tolerances

FAMILY = "JAX"
_NAME = f"{FAMILY} optax.lbfgs"
_TOLERANCES = tolerances(2, 10)
_MEMORY = 20


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    # JAX would take three quarters of the GPU's memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    # Without it JAX turns float64 into float32.
    jax.config.update("jax_enable_x64", True)
    try:
        where = jax.devices(device)[0]
    except RuntimeError:
        return [Absent(_NAME, FAMILY, device, "skipped", f"this JAX has no {device} device")]
    solve = _solver(jax, optax)
    ladders = [
        ladder(dtype, _TOLERANCES, partial(_run, data, jax, where, solve, dtype))
        for dtype in ("float64", "float32")
    ]
    return [Contender(_NAME, FAMILY, device, ladders, compiles=True)]


def _solver(jax: Any, optax: Any) -> Any:
    """X, y, l2, tolerance on the gradient, most iterations -> theta [D + 1], iterations."""
    jnp = jax.numpy
    optimizer = optax.lbfgs(memory_size=_MEMORY)
    tree = optax.tree_utils

    def solve(X: Any, y: Any, l2: Any, tolerance: Any, most: Any) -> Any:
        def objective(theta: Any) -> Any:
            w, b = theta[:-1], theta[-1]
            z = X @ w + b
            return jnp.mean(jax.nn.softplus(z) - y * z) + 0.5 * l2 * (w @ w)

        evaluate = optax.value_and_grad_from_state(objective)

        def step(carry: Any) -> Any:
            theta, state = carry
            value, gradient = evaluate(theta, state=state)
            updates, state = optimizer.update(
                gradient, state, theta, value=value, grad=gradient, value_fn=objective
            )
            return optax.apply_updates(theta, updates), state

        def goes_on(carry: Any) -> Any:
            count = tree.tree_get(carry[1], "count")
            error = jnp.max(jnp.abs(tree.tree_get(carry[1], "grad")))
            return (count == 0) | ((count < most) & (error > tolerance))

        start = jnp.zeros(X.shape[1] + 1, dtype=X.dtype)
        theta, state = jax.lax.while_loop(goes_on, step, (start, optimizer.init(start)))
        return theta, tree.tree_get(state, "count")

    return jax.jit(solve)


def _run(
    data: FitData, jax: Any, where: Any, solve: Any, dtype: str, tolerance: float, most: int
) -> Solution:
    X = data.kept(("jax", where, dtype), lambda: jax.device_put(data.matrix(dtype), where))
    y = data.kept(("jax y", where, dtype), lambda: jax.device_put(data.labels(dtype), where))
    numbers = [np.asarray(value, dtype=dtype) for value in (data.l2, tolerance)]
    theta, iterations = solve(X, y, *numbers, most)
    theta = np.asarray(theta)
    return solution(theta[:-1], theta[-1], iterations)
