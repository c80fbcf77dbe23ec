"""A fit that goes on from a state, saved and loaded, is the fit that never stopped, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import flashlogit
from flashlogit.fitting.fit import Fit, FitState, fit_softmax
from flashlogit.objectives.design import PassCounter
from flashlogit.solvers.driver import Limits, Progress

OPTIONS = [
    {"solver": "newton", "l2": 1e-4},
    {"solver": "newton-cg", "l2": 1e-6},
    {"solver": "lbfgs", "l2": 1e-4},
    {"solver": "newton", "l1": 1e-2},
    {"solver": "lbfgs", "l1": 1e-2, "l2": 1e-3},
    {"solver": "newton"},
    {"solver": "newton-cg", "intercept": False},
    {"solver": "lbfgs", "max_iterations": 9},
]


def problem(classes: int, options: dict[str, Any], device: str = "cpu") -> Callable[..., Fit]:
    """A fit of its own data, whose columns are alike so that no solver is done at once."""
    generator = torch.Generator().manual_seed(classes)
    X = torch.randn(600, 12, generator=generator, dtype=torch.float64)
    X[:, 1:] = X[:, :1] + 0.3 * X[:, 1:]
    z = X @ torch.randn(12, classes, generator=generator, dtype=torch.float64)
    gumbel = -torch.rand(z.shape, generator=generator, dtype=torch.float64).log().neg().log()
    y = (z + 2 * gumbel).argmax(dim=1).to(device)
    X = X.to(device)
    if classes == 2:
        return lambda **more: flashlogit.fit(
            X, y.to(torch.uint8), **{"tolerance": 1e-10, "max_iterations": 14, **options, **more}
        )
    return lambda **more: fit_softmax(X, y, **{"tolerance": 1e-10, "max_iterations": 14, **options, **more})


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_it_goes_on_to_the_last_bit_from_every_point(options: dict[str, Any], classes: int, tmp_path: Path) -> None:
    solve = problem(classes, options)
    states: list[FitState] = []
    whole = solve(on_point=lambda row, point: states.append(point.state))
    assert len(states) == len(whole.history) > 2
    for place in {1, len(states) // 2, len(states) - 1}:
        state = states[place]
        path = tmp_path / f"{place}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, path)
        resumed = solve(start=FitState(state.solver, load_file(path)))
        assert torch.equal(resumed.weight, whole.weight)
        assert torch.equal(resumed.bias, whole.bias)
        assert timeless(resumed.history) == timeless(whole.history[place:])
        assert (resumed.iterations, resumed.passes) == (whole.iterations, whole.passes)
        assert resumed.certificate == whole.certificate
        assert resumed.seconds > states[place].tensors["driver"][-1]


@pytest.mark.gpu
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_on_a_gpu_too(options: dict[str, Any], classes: int) -> None:
    solve = problem(classes, options, "cuda")
    states: list[FitState] = []
    whole = solve(on_point=lambda row, point: states.append(point.state))
    state = states[len(states) // 2]
    resumed = solve(start=FitState(state.solver, {name: each.cpu() for name, each in state.tensors.items()}))
    assert torch.equal(resumed.weight, whole.weight)
    assert timeless(resumed.history) == timeless(whole.history[len(states) // 2 :])


def test_a_state_of_another_problem_is_refused() -> None:
    states: list[FitState] = []
    solve = problem(2, {"solver": "newton", "l2": 1e-4})
    solve(on_point=lambda row, point: states.append(point.state))
    with pytest.raises(ValueError, match="solver"):
        solve(start=states[1], solver="lbfgs")
    with pytest.raises(ValueError, match="theta"):
        solve(start=states[1], intercept=False)
    with pytest.raises(ValueError, match="not finite"):
        solve(start=FitState("newton", states[1].tensors | {"hessian": torch.full((1, 13, 13), torch.nan)}))
    with pytest.raises(ValueError, match="hessian"):
        solve(start=FitState("newton", states[1].tensors | {"hessian": torch.ones((1, 13, 13), dtype=torch.uint8)}))
    with pytest.raises(ValueError, match="hessian"):
        solve(start=FitState("newton", {k: v for k, v in states[1].tensors.items() if k != "hessian"}))


def test_the_driver_knows_what_it_knew_unless_the_goal_is_another() -> None:
    saved = Progress(0.05, best_gap=0.02, expected_gap=0.01, gap_stalled=3, iterations=7).saved(2.5, 1.0)
    for tolerance, expected in ((0.1, 0.01), (0.2, 0.1)):
        problem = SimpleNamespace(null_value=0.5, counter=PassCounter())
        progress = Progress.begun(problem, Limits(tolerance, 10, None, None, 0.0, saved))
        assert progress.expected_gap == expected
        assert (progress.best_gap, progress.gap_stalled, progress.iterations) == (0.02, 3, 7)
        assert problem.counter.passes == 2.5
