"""Steps repeated from a recording reach what steps made one by one do.

On the CPU a trace of the step's tensor operations stands in for a CUDA graph: it too repeats fixed operations on fixed
memory and runs no Python in between.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_steps import Models
from torch.fx.experimental.proxy_tensor import make_fx

from flashlogit.fitting import fit
from flashlogit.solvers.lbfgs import LBFGS
from flashlogit.solvers.newton_cg import NewtonCG
from flashlogit.solvers.replay import Replay


class Traced:
    """Records like `torch.cuda.graph`: nothing is computed while it does, and what repeats it needs no Python."""

    def __init__(self) -> None:
        self.replay: Replay | None = None
        self.repeats = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], object]:
        replay = self.replay
        assert replay is not None
        places = replay._places
        kept = [place.clone() for place in places]

        def step(*state: torch.Tensor) -> None:
            replay._places = list(state)
            run()

        graph = make_fx(step)(*places)
        replay._places = places
        for place, value in zip(places, kept, strict=True):
            place.copy_(value)

        def repeat() -> None:
            self.repeats += 1
            graph(*places)

        return repeat


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashlogit.solvers.proximal.may_look", lambda tensor: False)
    monkeypatch.setattr("flashlogit.solvers.lbfgs._INNER_STEPS", 5)


@pytest.mark.parametrize("reads", [1, 4])
@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_lbfgs_replayed(l1: float, reads: int) -> None:
    models = Models(l1=l1)
    eager = LBFGS(models, models.start())  # type: ignore[arg-type]
    traced = Traced()
    replayed = LBFGS(models, models.start(), record=traced, reads=reads)  # type: ignore[arg-type]
    traced.replay = replayed._replay
    before = models.reads
    for _ in range(12):
        eager.advance()
    for _ in range(12 // reads):
        replayed.advance()
    assert traced.repeats == 10
    torch.testing.assert_close(replayed.search.theta, eager.search.theta, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(replayed.search.at.value, eager.search.at.value, rtol=1e-13, atol=0)
    assert models.reads == before + 24


@pytest.mark.parametrize("reads", [1, 3])
def test_newton_cg_replayed(reads: int) -> None:
    models = Models()
    solvers = []
    for record in (None, Traced()):
        solver = NewtonCG(models, models.start(), tolerance=1e-12, record=record, reads=reads)  # type: ignore[arg-type]
        if record:
            record.replay = solver._product
        for _ in range(6):
            solver.advance()
        solvers.append(solver)
    eager, replayed = solvers
    assert float(replayed.search.at.gradient.norm()) < 1e-7
    torch.testing.assert_close(replayed.search.theta, eager.search.theta, rtol=1e-6, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize(("n", "d"), [(569, 30), (200_000, 200)])
def test_on_a_gpu(n: int, d: int, solver: str, device: torch.device) -> None:
    """Against the same fit on the CPU, where nothing is recorded."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn((n, d), generator=generator)
    y = (
        torch.rand(n, generator=generator) < torch.sigmoid(X @ torch.randn(d, generator=generator) / d**0.5)
    ).double()
    there = fit(X.to(device), y.to(device), l2=1e-3, solver=solver, tolerance=1e-10)  # type: ignore[arg-type]
    here = fit(X, y, l2=1e-3, tolerance=1e-12)
    assert there.converged
    assert torch.linalg.norm(there.weight.cpu() - here.weight) < 1e-4 * torch.linalg.norm(here.weight)
