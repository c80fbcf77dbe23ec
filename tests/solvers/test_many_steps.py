"""Steps of many models by kernels: the points, decisions and ends of those in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from launches import counted_launches
from torch.utils._python_dispatch import _disable_current_modes

from flashlogit.objectives.models import Counts, ModelObjectives
from flashlogit.passes import choose_backend
from flashlogit.solvers.many import hessians, side_by_side
from flashlogit.solvers.many import steps as many_steps
from flashlogit.solvers.many.hessians import Path
from flashlogit.solvers.many.side_by_side import Solved, solve_models
from flashlogit_kernels.models import NO_FOLD, Models

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Solve = Callable[..., Solved]


@pytest.fixture
def solve(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> Solve:
    """Solve models of some penalties and folds with steps by kernels or in torch."""

    def solved(
        *,
        launched: bool,
        C: int = 1,
        intercept: bool = True,
        mean: float = 0.2,
        dtype: torch.dtype = torch.float64,
        tolerance: float = 1e-8,
        own: int = 0,
        matrices: int = 2048,
        penalties: Sequence[float] = (1e-2,),
        folds: int = 2,
        iterations: int = 9,
    ) -> Solved:
        tuning = replace(hessians.TUNING, own_parameters=own, parameters=matrices)
        monkeypatch.setattr(hessians, "TUNING", tuning)
        monkeypatch.setattr(side_by_side, "TUNING", side_by_side.Tuning(memory=3))
        generator = torch.Generator().manual_seed(C)
        X = torch.randn(120, 4, generator=generator, dtype=torch.float64)
        z = X @ torch.randn(4, max(C, 2), generator=generator, dtype=torch.float64)
        y = (z + torch.randn(z.shape, generator=generator, dtype=torch.float64)).argmax(dim=1).to(torch.uint8)
        X = (X * torch.logspace(-1, 1, 4) + mean).to(DEVICE, dtype)
        level, fold = (each.reshape(-1) for each in np.meshgrid(range(len(penalties)), range(folds), indexing="ij"))
        codes, numbers = (each[None].to(DEVICE) for each in (y, (torch.arange(120) % folds).to(torch.uint8)))
        fold = fold if folds > 1 else fold + NO_FOLD
        zeros, held = (torch.from_numpy(each.astype(np.int32)).to(DEVICE) for each in (0 * fold, fold))
        models = Models(codes, numbers, zeros, zeros, held, classes=C)
        plain = choose_backend("torch", DEVICE)
        program = replace(plain.models_program, step=kernels.ModelsStep if launched else None)
        l2, counts = np.array(penalties)[None, level], Counts.of(models, max(C, 2))
        objectives = ModelObjectives.of(
            X, models, 0.0 * l2, l2, counts, passes=plain.passes, program=program, intercept=intercept
        )
        path = Path(chain=fold, level=len(penalties) - 1 - level, target=0 * fold)
        return solve_models(objectives, path, tolerance=tolerance, iterations=iterations)

    return solved


@pytest.mark.parametrize(
    "options",
    [
        {"tolerance": 1e-4},
        {"own": 64, "mean": 100.0, "dtype": torch.float32, "penalties": (1e-2, 1.0), "folds": 1},
        {"C": 3, "folds": 1, "iterations": 8},
    ],
    ids=["one M, folded", "an M each, subtracted", "softmax, folded"],
)
def test_whole_solves_are_those_in_torch(solve: Solve, options: dict[str, Any]) -> None:
    found, expected = (solve(launched=launched, **options) for launched in (True, False))
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    np.testing.assert_array_equal(found.done, expected.done)
    torch.testing.assert_close(found.theta, expected.theta, rtol=0, atol=1e-9)
    for name in ("value", "gap", "held_loss"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-12)


def test_refused_steps_and_vectors_of_several_tiles(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without M the first step along columns that are nearly one is too long; a tile holds two of four."""
    monkeypatch.setattr("flashlogit_kernels.gpu.steps.many_step._TILE", 2)
    accepted: list[bool] = []
    merged = many_steps._merged
    monkeypatch.setattr(many_steps, "_merged", lambda xp, a, *at: accepted.extend(a.tolist()) or merged(xp, a, *at))
    options: dict[str, Any] = {"intercept": False, "matrices": 0, "mean": 20.0, "folds": 1, "iterations": 6}
    found, expected = (solve(launched=launched, **options) for launched in (True, False))
    assert True in accepted
    assert False in accepted
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    torch.testing.assert_close(found.theta, expected.theta, rtol=0, atol=1e-9)


def test_a_step_is_four_launches_around_a_pass_and_one_copy(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kernels and two products with factors of M^-1; `cpu` and `numpy` are counted apart."""
    counts: list[tuple[int, int, int]] = []
    advance, run = many_steps.LaunchedSteps.advance, ModelObjectives._run

    def counted(self: many_steps.LaunchedSteps, *args: Any, **options: Any) -> None:
        with counted_launches() as found:
            advance(self, *args, **options)
            self.standing()
        counts.append((found.kernels.total(), found.total, found.reads))

    def uncounted(*args: Any, **options: Any) -> Any:
        with _disable_current_modes():
            return run(*args, **options)

    monkeypatch.setattr(many_steps.LaunchedSteps, "advance", counted)
    monkeypatch.setattr(ModelObjectives, "_run", uncounted)
    solve(launched=True, folds=1, iterations=1)
    assert counts == [(2, 4, 2)]


def test_models_of_too_many_parameters_are_stepped_in_torch(
    solve: Solve, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashlogit_kernels.gpu.steps.many_step.MOST_PARAMETERS", 4)
    ones: Any = torch.ones(5, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="4 parameters each, not 5"):
        kernels.ModelsStep(
            ones, ones, center=None, weight_sum=ones[0], goal=ones[0], floor=ones[0], classes=1, intercept=True,
            memory=3, curved=0.0, noise=0.0, rough_noise=0.0, near=1.0, refusals=1, stalled=1,
        )  # fmt: skip
    monkeypatch.setattr(many_steps.LaunchedSteps, "advance", None)
    assert solve(launched=True, tolerance=1e-4).done.all()
