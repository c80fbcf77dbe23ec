"""How many launches and read-backs a fit makes, its kernels interpreted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from launches import Launches, counted_launches

from flashlogit import fit
from flashlogit.fitting.task import FitTask
from flashlogit.objectives import design
from flashlogit.objectives.objective import Objective

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("counts what is interpreted", allow_module_level=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_fit_begins_and_ends_in_a_few_launches(
    monkeypatch: pytest.MonkeyPatch, sampled: bool, intercept: bool, weighted: bool
) -> None:
    """Two kernels look at the data, perhaps at a sample of it, which is drawn first; at the end weights and intercept
    are put into the units of X."""
    begun: list[tuple[int, int]] = []
    ended: list[tuple[int, int]] = []
    null_theta, finished = Objective.null_theta, FitTask.finished
    X = torch.randn(150, 5)
    y = (X[:, 0] + 0.5 * torch.randn(150) > 0).float()
    sample_weight = torch.rand(150) if weighted else None
    found: Launches

    def at_null(objective: Objective) -> torch.Tensor:
        theta = null_theta(objective)
        begun.append((found.total, found.reads))
        return theta

    def finish(*arguments: Any) -> Any:
        before = found.total, found.reads
        result = finished(*arguments)
        ended.append((found.total - before[0], found.reads - before[1]))
        return result

    monkeypatch.setattr(design, "_MEASURED_ROWS", 64 if sampled else 1024)
    monkeypatch.setattr(design, "_MEASURED_VALUES", 1)
    monkeypatch.setattr(Objective, "null_theta", at_null)
    monkeypatch.setattr(FitTask, "finished", finish)
    with counted_launches() as found:
        result = fit(
            X, y, sample_weight=sample_weight, l2=1.0, intercept=intercept, backend="triton", solver="lbfgs",
            tolerance=0.5,
        )  # fmt: skip
    drawn = 2 if sampled else 0  # the draw, and on a CPU a sort
    assert begun == [(2 + drawn, 2)]
    assert len(ended) == 1
    assert ended[0][0] <= 4
    assert ended[0][1] == 0
    assert result.converged
    assert found.kernels["label_sums_kernel"] == found.kernels["column_moments_kernel"] == 1
