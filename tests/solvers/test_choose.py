"""Which solver runs, and where it starts: what a sample of the rows knows, and what it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from problems import fitted, objective_of
from torch import Tensor

from flashlogit.solvers.choose import COSTS, choose_method, predicted_seconds
from flashlogit.solvers.method import Start
from flashlogit.solvers.sample import start_from_sample
from flashlogit.system.errors import UserError

N, DENSE, RARE = 120_000, 4, 12
CLASSES = pytest.mark.parametrize("classes", [2, 3])


class OfShape(torch.Tensor):
    """X [N, D] without numbers."""

    def __new__(cls, N: int, D: int, itemsize: int = 4, *, on_gpu: bool = False) -> OfShape:
        dtype = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}[itemsize]
        X = torch.empty(N, D, dtype=dtype, device="meta").as_subclass(cls)
        X.on_gpu = on_gpu
        return X

    is_cuda = property(lambda self: self.on_gpu)


@pytest.mark.parametrize(
    ("most", "outputs", "l1", "beyond"),
    [(32, 1, 0.0, "lbfgs"), (2048, 1, 0.1, "lbfgs"), (79, 4, 0.0, "newton-cg"), (511, 4, 0.1, "lbfgs")],
)
def test_which_solver_runs(most: int, outputs: int, l1: float, beyond: Any) -> None:
    """On a CPU, and on a GPU with an l1 term or several outputs."""
    for N, on_gpu in ((1, False), (10**9, False), (10**6, l1 > 0 or outputs > 1)):
        kinds = [OfShape(N, D, on_gpu=on_gpu) for D in (most, most + 1, 511 if outputs > 1 else 2048)]
        chosen = [choose_method("auto", X, outputs=outputs, l1=l1) for X in kinds[:2]]
        assert chosen == ["newton", beyond]
        assert choose_method(beyond, kinds[0], outputs=outputs, l1=l1) == beyond
        assert choose_method("newton", kinds[2], outputs=outputs, l1=l1) == "newton"


@pytest.mark.parametrize(
    ("N", "D", "itemsize", "chosen"),
    [
        (569, 30, 4, "newton"),
        (11_000_000, 28, 4, "newton"),
        (2_000_000, 64, 4, "newton"),
        (40_000_000, 128, 4, "newton"),
        (1, 129, 4, "lbfgs"),
        (20_000_000, 129, 4, "newton-cg"),
        (200_000, 1024, 4, "lbfgs"),
        (200_000, 1024, 8, "newton-cg"),
        (2_500_000, 1024, 4, "newton-cg"),
        (500_000, 1024, 2, "lbfgs"),
        (500_000, 1024, 4, "newton-cg"),
        (10_000, 16_384, 4, "lbfgs"),
        (1_000_000, 16_384, 2, "newton-cg"),
    ],
)
def test_a_gpu_takes_what_is_predicted_to_be_fastest(N: int, D: int, itemsize: int, chosen: str) -> None:
    assert choose_method("auto", OfShape(N, D, itemsize, on_gpu=True), l1=0.0) == chosen
    assert choose_method("auto", OfShape(N, D, itemsize), l1=0.0) == ("newton" if D <= 32 else "lbfgs")


def test_a_preconditioner_is_reckoned_with_where_there_is_one() -> None:
    """Up to 4,096 columns."""
    least, most = (predicted_seconds(10, D, 4)["newton-cg"] for D in (4097, 4096))
    assert most - least == pytest.approx(COSTS.preconditioner * 4096)


@pytest.mark.parametrize(
    ("name", "D", "outputs", "problem"),
    [
        ("newton", 2049, 1, "2,049 columns; it takes at most 2,048"),
        ("newton", 512, 4, "2,052 parameters, an intercept and 512 of each class; it takes at most 2,048"),
        ("newton-cg", 10, 1, "it takes no l1 term, here of 0.5"),
        ("newton_cg", 10, 1, "'newton_cg'; must be auto, newton, newton-cg, lbfgs"),
    ],
)
def test_what_a_solver_cannot_take(name: Any, D: int, outputs: int, problem: str) -> None:
    with pytest.raises((UserError, ValueError), match=problem) as error:
        choose_method(name, OfShape(10, D), outputs=outputs, l1=0.5)
    assert name == "newton_cg" or (error.value.setting, error.value.value) == ("solver", name)


def flights_like(classes: int) -> tuple[Tensor, Tensor]:
    """Columns of numbers, and categories of 20 rows each, which a sample of one row in 16 hardly has."""
    X = torch.cat([torch.randn(N, DENSE), torch.zeros(N, RARE)], dim=1).double()
    for j in range(RARE):
        X[torch.randint(N, (20,)), DENSE + j] = 1.0
    logits = X[:, :1] * torch.linspace(-0.5, 0.5, classes) - 1.0
    return X, (logits - torch.rand(N, classes).log().neg().log()).argmax(dim=1)


@pytest.mark.parametrize(("rows", "taken"), [(11_000_000, False), (80_000_000, True)])
def test_a_gpu_takes_no_sample_of_what_it_reads_in_three_milliseconds(rows: int, taken: bool) -> None:
    """28 columns of float32: 1.2 and 9 GB."""

    asked: list[int] = []
    objective: Any = SimpleNamespace(X=OfShape(rows, 28, on_gpu=True), parameters=29, sample=asked.append, loss=None)
    start = Start(torch.zeros(29, 1), 1e-6)
    assert start_from_sample(objective, start) is start
    assert asked == ([rows // 16] if taken else [])


@CLASSES
def test_a_column_without_rows_in_the_sample_starts_at_0(classes: int) -> None:
    X, y = flights_like(classes)
    objective = objective_of(X, y, None, classes, l2=1e-7)
    start = start_from_sample(objective, Start(objective.null, 1e-6))
    assert start.hessian is not None
    weight = objective.to_user(start.theta)[0]
    assert weight[:DENSE].abs().max() > 0.1
    assert weight[DENSE:].abs().max() <= 1e-3  # what the ridge leaves of a constant column
    diagonal = start.hessian[0].diagonal().reshape(-1, objective.loss.columns)
    assert (diagonal[DENSE:-1] == 1).all()
    assert (diagonal[:DENSE] != 1).all()
    result = fitted(X, y, classes, l2=1e-7, solver="newton")
    assert result.converged
    assert result.passes <= 16 or classes > 2
