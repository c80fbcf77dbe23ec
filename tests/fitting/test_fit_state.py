"""A fit that goes on from a state, saved and loaded, is the fit that never stopped, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from problems import alike, fitted
from safetensors.torch import load_file, save_file

from flashlogit.fitting.fit import Fit, FitState
from flashlogit.objectives.design import PassCounter
from flashlogit.solvers.driver import Limits, Progress

OPTIONS = [
    {"solver": "newton", "l2": 1e-4},
    {"solver": "newton-cg", "l2": 1e-6},
    {"solver": "newton", "l1": 1e-2},
    {"solver": "lbfgs", "l1": 1e-2, "l2": 1e-3},
    {"solver": "newton-cg", "intercept": False},
    {"solver": "lbfgs", "max_iterations": 9},
]


def problem(classes: int, options: dict[str, Any], device: str = "cpu") -> Callable[..., Fit]:
    X, y = (tensor.to(device) for tensor in alike(classes))
    return lambda **more: fitted(X, y, classes, **{"tolerance": 1e-10, "max_iterations": 14, **options, **more})


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_it_goes_on_to_the_last_bit_from_every_point(
    options: dict[str, Any], classes: int, device: str, tmp_path: Path
) -> None:
    """With more than one thread too: these sum in another order, always the same one."""
    before = torch.get_num_threads()
    torch.set_num_threads(classes - 1)
    solve = problem(classes, options, device)
    states: list[FitState] = []
    try:
        whole = solve(on_point=lambda row, point: states.append(point.state))
        assert len(states) == len(whole.history) > 2
        for place in {1, len(states) // 2, len(states) - 1}:
            state = states[place]
            path = tmp_path / f"{place}.safetensors"
            save_file({name: tensor.cpu().contiguous() for name, tensor in state.tensors.items()}, path)
            resumed = solve(start=FitState(state.solver, load_file(path)))
            assert torch.equal(resumed.weight, whole.weight)
            assert torch.equal(resumed.bias, whole.bias)
            assert timeless(resumed.history) == timeless(whole.history[place:])
            assert (resumed.iterations, resumed.passes) == (whole.iterations, whole.passes)
            assert resumed.certificate == whole.certificate
            assert resumed.seconds > state.tensors["driver"][-1]
        assert len(solve(start=states[-1], tolerance=0.5).history) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "changed", "message"),
    [
        ({"solver": "lbfgs"}, {}, "solver"),
        ({"intercept": False}, {}, "theta"),
        ({}, {"hessian": torch.full((1, 13, 13), torch.nan)}, "not finite"),
        ({}, {"hessian": torch.ones((1, 13, 13), dtype=torch.uint8)}, "hessian"),
        ({}, {"hessian": None}, "hessian"),
    ],
)
def test_a_state_of_another_problem_is_refused(options: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    states: list[FitState] = []
    solve = problem(2, {"solver": "newton", "l2": 1e-4})
    solve(on_point=lambda row, point: states.append(point.state))
    tensors = {name: each for name, each in (states[1].tensors | changed).items() if each is not None}
    with pytest.raises(ValueError, match=message):
        solve(start=FitState("newton", tensors), **options)


def test_the_driver_knows_what_it_knew_unless_the_goal_is_another() -> None:
    saved = Progress(0.05, best_gap=0.02, expected_gap=0.01, gap_stalled=3, iterations=7).saved(2.5, 1.0)
    for tolerance, expected in ((0.1, 0.01), (0.2, 0.1)):
        problem = SimpleNamespace(null_value=0.5, counter=PassCounter())
        progress = Progress.begun(problem, Limits(tolerance, 10, None, None, 0.0, saved))
        assert progress.expected_gap == expected
        assert (progress.best_gap, progress.gap_stalled, progress.iterations) == (0.02, 3, 7)
        assert problem.counter.passes == 2.5
