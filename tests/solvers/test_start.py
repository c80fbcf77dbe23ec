"""Where solvers start: what a sample of the rows knows, and what it does not."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flashlogit import fit, fit_softmax, reference
from flashlogit.objectives.logistic import Logistic
from flashlogit.objectives.objective import Objective
from flashlogit.objectives.softmax import Softmax
from flashlogit.solvers.method import Start
from flashlogit.solvers.newton import start_from_sample

N, DENSE, RARE = 120_000, 4, 12


def flights_like(classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns of numbers, and categories of 20 rows each, which a sample of one row in 16 hardly has."""
    generator = torch.Generator().manual_seed(0)
    X = torch.cat([torch.randn(N, DENSE, generator=generator), torch.zeros(N, RARE)], dim=1).double()
    for j in range(RARE):
        X[torch.randint(N, (20,), generator=generator), DENSE + j] = 1.0
    logits = X[:, :1] * torch.linspace(-0.5, 0.5, classes) - 1.0
    noise = -torch.log(-torch.log(torch.rand(N, classes, generator=generator)))
    return X, (logits + noise).argmax(dim=1)


class OnGpu:
    """What the start asks of an X of float32 on a GPU."""

    is_cuda = True

    def __init__(self, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns

    def __len__(self) -> int:
        return self._rows

    def numel(self) -> int:
        return self._rows * self._columns

    def element_size(self) -> int:
        return 4


@pytest.mark.parametrize(("rows", "taken"), [(11_000_000, False), (80_000_000, True)])
def test_a_gpu_takes_no_sample_of_what_it_reads_in_three_milliseconds(rows: int, taken: bool) -> None:
    """28 columns of float32: 1.2 and 9 GB."""
    X = OnGpu(rows, 28)
    asked: list[int] = []
    objective: Any = SimpleNamespace(X=X, parameters=29, sample=asked.append)
    start = Start(torch.zeros(29, 1), 1e-6)
    assert start_from_sample(objective, start) is start
    assert asked == ([rows // 16] if taken else [])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_column_without_rows_in_the_sample_starts_at_0(classes: int) -> None:
    X, y = flights_like(classes)
    loss = (
        Logistic.of(y, None, reference, intercept=True)
        if classes == 2
        else Softmax.of(y, classes, None, intercept=True)
    )
    objective = Objective.of(X, loss, l1=0.0, l2=1e-7)
    start = start_from_sample(objective, Start(objective.null_theta(), 1e-6))
    assert start.hessian is not None
    weight = objective.to_user(start.theta)[0]
    assert weight[:DENSE].abs().max() > 0.1
    assert weight[DENSE:].abs().max() <= 1e-3  # what the ridge leaves of a constant column
    C = objective.loss.columns
    unknown = start.hessian[0].diagonal()[DENSE * C : -C]
    assert torch.equal(unknown, torch.ones(RARE * C, dtype=torch.float64))
    assert (start.hessian[0].diagonal()[: DENSE * C] != 1).all()


def test_rare_categories_take_few_reads():
    X, y = flights_like()
    result = fit(X, y, l2=1e-7, tolerance=1e-6, solver="newton")
    assert result.converged
    assert result.passes <= 16
    several = fit_softmax(*flights_like(classes=3), l2=1e-7, tolerance=1e-6, solver="newton")
    assert several.converged
