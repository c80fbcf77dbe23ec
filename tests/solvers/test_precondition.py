"""Conjugate gradients with the Hessian of a sample: what they solve, and what it saves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from launches import counted_launches
from problems import objective_of
from torch import Tensor

from flashlogit.fitting.fit import fit
from flashlogit.objectives.coordinates import Coordinates
from flashlogit.objectives.design import _shared_blocks, _strided_blocks
from flashlogit.objectives.objective import Objective, Point
from flashlogit.solvers.newton_cg import (
    ConjugateGradients,
    NewtonCG,
    Preconditioner,
    inverted,
    precondition,
    precondition_by_inverse,
)
from flashlogit.solvers.proximal import factor


def decaying(N: int, D: int, decades: float) -> tuple[Tensor, Tensor]:
    """Singular values over some decades in directions that are no column's, and logits of size 3."""
    basis = torch.linalg.qr(torch.randn(D, D))[0]
    X = torch.randn(N, D) * torch.logspace(0, -decades, D) @ basis.t()
    z = X @ torch.randn(D)
    return X, (torch.rand(N) < torch.sigmoid(3 * z / z.std())).to(torch.uint8)


def at_null(objective: Objective) -> Point:
    return objective.evaluate(objective.null, products=objective.product_dtype)


def test_a_rough_one_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor: those without units for bfloat16 multiply it too, only not faster."""
    monkeypatch.setattr("flashlogit.objectives.design.half_dtype", lambda X: torch.bfloat16)
    objective = objective_of(*decaying(4000, 300, 0.5), l2=1 / 4000)
    point, exact = at_null(objective), objective.hessian(objective.null)[0]
    for rough, least, most in ((True, 1e-6, 0.01), (False, 0.0, 1e-5)):
        found = objective.sampled_hessian(point, 4000, rough=rough)[0].double()
        assert least <= float(torch.linalg.eigvalsh(found - exact).abs().max()) < most


@pytest.mark.parametrize("K", [1, 3])
def test_residuals_of_any_size_survive_float32(K: int) -> None:
    H = torch.tensor([[1.0, 5e-3], [5e-3, 1e-4]], dtype=torch.float64)
    L, r = factor(H[None]).float(), torch.tensor([[1e-60, 1.0, 1e60]] * 2, dtype=torch.float64)[:, :K]
    torch.testing.assert_close(precondition(L, r) / r[0], torch.linalg.solve(H, r / r), rtol=1e-5, atol=0)
    assert precondition(L, 0 * r).abs().sum() == 0


@pytest.mark.parametrize("shape", [(60, 1), (60, 3), (180, 1)])
def test_an_inverse_does_as_much_as_factors(shape: tuple[int, int]) -> None:
    """The eigenvalues of its matrix span six decades: what a GPU does with it is as near to the truth in float32."""
    basis = torch.linalg.qr(torch.randn(60, 60).double())[0]
    H = basis * torch.logspace(0, -6, 60).double() @ basis.t()
    L, r = factor(H[None]).float(), torch.randn(shape).double()
    exact = torch.linalg.solve(H, r.reshape(60, -1)).reshape(shape)
    by_factors, by_inverse = precondition(L, r), precondition_by_inverse(inverted(L), r)
    assert by_inverse.shape == shape
    assert by_inverse.dtype == torch.float64
    assert (by_inverse - exact).norm() <= 2 * (by_factors - exact).norm() < 0.1 * exact.norm()


@pytest.mark.gpu
def test_a_gpu_makes_the_same_preconditioner() -> None:
    """In bfloat16 with sums in float32, and exactly; then inverted and applied."""
    X, y = decaying(1600, 300, 0.5)  # so few that coordinates are measured from all, on both
    on_cpu, on_gpu = objective_of(X, y, l2=1 / 1600), objective_of(X.cuda(), y.cuda(), l2=1 / 1600)
    known = on_cpu.sampled_hessian(at_null(on_cpu), 1600)[0].double()
    for rough in (True, False):
        found = on_gpu.sampled_hessian(at_null(on_gpu), 1600, rough=rough)[0].double().cpu()
        assert torch.linalg.eigvalsh(found - known).abs().max() < (0.01 if rough else 1e-4)
    preconditioner = Preconditioner(on_gpu)
    preconditioner.make(at_null(on_gpu))
    assert preconditioner.factors is not None
    r = torch.randn(on_gpu.parameters, 1).double()
    expected = precondition(preconditioner.factors.cpu(), r)
    torch.testing.assert_close(preconditioner.times(r.cuda()).cpu(), expected, rtol=1e-3, atol=1e-4)


def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Let solvers do on the CPU what they do on a GPU; the matrices that are inverted."""
    made: list[Tensor] = []

    def times(self: Preconditioner, r: Tensor) -> Tensor:
        if self.factors is None:
            return r
        if self._inverse is None:
            self._inverse = inverted(self.factors)
            made.append(self.factors)
        return precondition_by_inverse(self._inverse, r)

    monkeypatch.setattr(Preconditioner, "times", times)
    monkeypatch.setattr("flashlogit.objectives.design._shared_blocks", _strided_blocks)
    original = NewtonCG.__init__

    def reading_late(self: NewtonCG, *arguments: Any) -> None:
        original(self, *arguments)
        self._reads_late = True

    monkeypatch.setattr(NewtonCG, "__init__", reading_late)
    return made


@pytest.mark.parametrize("decades", [0.0, 3.0])
def test_a_gpu_comes_to_the_same_and_waits_less(decades: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does is done here on the CPU; each preconditioner is inverted once."""
    problem = decaying(6000, 150, decades)
    reads: list[Tensor] = []
    monkeypatch.setattr(
        ConjugateGradients, "residual_norm", property(lambda run: reads.append(run._r) or run._r.norm() * run._size[0])
    )
    results = []
    for gpu in (False, True):
        made = on_a_gpu(monkeypatch) if gpu else []
        reads.clear()
        results.append((fit(*problem, l2=1e-5, solver="newton-cg", tolerance=1e-9), len(reads)))
    (cpu, cpu_reads), (found, found_reads) = results
    assert found.converged
    torch.testing.assert_close(found.objective, cpu.objective, rtol=2e-9, atol=0)
    assert found.passes <= 1.2 * cpu.passes
    assert found_reads <= 0.75 * cpu_reads
    assert 1 <= len(made) == len({id(each) for each in made}) <= found.iterations


@pytest.mark.parametrize("layout", ["rows", "columns", "wider rows", "bfloat16"])
@pytest.mark.parametrize("rows", [640, 10_000])
@pytest.mark.parametrize("most", [28, 15])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_blocks_of_a_sample(device: str, most: int, rows: int, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 32 places, or all rows; in as few parts as memory allows."""
    monkeypatch.setattr("flashlogit.objectives.design._GRAM_BYTES", {"cuda": 1 << most})
    monkeypatch.setattr("flashlogit.objectives.design._BLOCK_BYTES", 1 << most)
    monkeypatch.setattr("flashlogit.objectives.design._PIECE_BYTES", 1 << min(most, 13))
    N, D = 5010, 40
    X, h = torch.randn(N, D + 3)[:, :D], torch.rand(N)
    X = X.contiguous() if layout == "rows" else X.t().contiguous().t() if layout == "columns" else X
    X = X.bfloat16() if layout == "bfloat16" else X
    center, scales = torch.randn(D, dtype=torch.float64), torch.rand(D + 1, dtype=torch.float64)
    coordinates = Coordinates(X.device, center.numpy(), scales.numpy(), True, False, 0.0, (0.0, 0.0))
    make = _strided_blocks if device == "cuda" else _shared_blocks
    blocks, visited = make(X, h, rows, coordinates, torch.float32)
    found = [(block.clone(), root.clone()) for block, root in blocks]
    assert (len(found) == 1) == (most == 28)
    assert all(block.nbytes <= 1 << most for block, _ in found)
    chosen = torch.arange(N)
    if rows < N:
        starts = [k * 156 if device == "cuda" else k * N // 32 for k in range(32)]
        chosen = torch.cat([chosen[start:][:20] for start in starts])
    assert visited == len(chosen)
    got, roots = (torch.cat(each) for each in zip(*found, strict=True))
    known = (X[chosen].float() - center.float()) * scales[:D].float() * h[chosen, None].sqrt()
    order = got[:, 0].sort().indices, known[:, 0].sort().indices
    torch.testing.assert_close(got[order[0]], known[order[1]])
    torch.testing.assert_close(roots[order[0]], h[chosen][order[1]].sqrt())


def test_moments_of_strided_rows_take_a_handful_of_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 pieces took 673 at 1,024 columns; each panel of 256 columns takes two here, and one more of bfloat16.

    Some CPUs take a cast more for a product.
    """
    monkeypatch.setattr("flashlogit.objectives.design._shared_blocks", _strided_blocks)
    monkeypatch.setattr("flashlogit.objectives.design.mirrored", lambda upper: upper.triu() + upper.triu(1).t())
    monkeypatch.setattr("flashlogit.objectives.design.half_dtype", lambda X: torch.bfloat16)
    objective = objective_of(*decaying(1200, 300, 0.5), l2=1 / 4000)
    point = at_null(objective)
    with counted_launches() as found:
        objective.sampled_hessian(point, 600, rough=True)
    assert found.total <= 46
    assert found.reads == 0


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("exact_too", [False, True])
def test_products_that_are_no_numbers_are_not_taken(
    solver: Any, exact_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashlogit.solvers.newton_cg.half_dtype", lambda X: torch.bfloat16)
    original, asked = Objective.sampled_hessian, []

    def broken(objective: Objective, point: Point, rows: int, *, rough: bool = False) -> Tensor:
        asked.append(rough)
        found = original(objective, point, rows)
        return found * torch.nan if rough or exact_too else found

    monkeypatch.setattr(Objective, "sampled_hessian", broken)
    result = fit(*decaying(6000, 150, 1.0), l2=1e-4, solver=solver, tolerance=1e-9)
    assert asked[:2] == [True, False]
    assert result.converged
    assert (result.passes < 60) == (not exact_too)


@pytest.mark.parametrize(("decades", "half"), [(0.0, False), (3.0, True), (3.0, False)])
def test_few_products_whatever_the_conditioning(decades: float, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashlogit.objectives.design._HALF_COLUMNS", 1 if half else 10**6)
    X, y = decaying(6000, 150, decades)
    result = fit(X, y, l2=1e-5, solver="newton-cg", tolerance=1e-9)
    assert result.converged
    # Without a preconditioner, three decades take 2,500 reads.
    assert result.passes < 70


def test_where_it_does_not_pay_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preconditioner, "make", lambda *_: pytest.fail("it was made"))
    X, y = decaying(1000, 400, 0.0)
    assert fit(X, y, l2=1e-2, solver="newton-cg", tolerance=1e-6).converged


@pytest.mark.parametrize(
    ("D", "left", "rate", "pays"),
    [(40, 10, None, True), (40, 10, -1, True), (40, 10, 2, False), (40, 0, None, False), (5000, 10, 0, False)],
)
def test_it_pays_when_the_residual_stalls_and_never_for_too_many_columns(
    D: int, left: float, rate: float | None, pays: bool
) -> None:
    N = 6000 if D == 40 else 2
    objective = objective_of(torch.zeros((N, D)), torch.arange(N) % 2, l2=1.0)
    assert Preconditioner(objective).pays(left, rate) == pays


def test_the_second_is_made_of_more_rows_and_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    objective = objective_of(*decaying(6000, 300, 1), l2=1 / 6000)
    monkeypatch.setattr("flashlogit.solvers.newton_cg.half_dtype", lambda X: torch.bfloat16)
    sampled = Objective.sampled_hessian

    def asking(self: Objective, at: Point, rows: int, *, rough: bool) -> Tensor:
        asked.append((rows, rough))
        return sampled(self, at, rows)

    monkeypatch.setattr(Objective, "sampled_hessian", asking)
    preconditioner = Preconditioner(objective)
    for _ in range(4):
        preconditioner.make(at_null(objective))
        assert preconditioner.factors is not None
        assert preconditioner.factors.isfinite().all()
    assert asked == [(2408, True), (2408, False), (4816, False), (6000, False)]
