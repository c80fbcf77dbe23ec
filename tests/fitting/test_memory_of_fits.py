"""What a fit holds on to once its caller has let go (nothing, without a run of Python's collector), and what measuring
takes."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from problems import fitted
from torch.multiprocessing.reductions import StorageWeakRef

import flashlogit
from flashlogit.metrics.evaluation import evaluate
from flashlogit.metrics.intervals import bootstrap
from flashlogit.metrics.scores import SplitScores

OPTIONS = [{"solver": "newton-cg", "l2": 1e-3}, {"l1": 1e-3}, {"solver": "lbfgs", "l1": 1e-3, "l2": 1e-4}, {}]


@pytest.fixture(autouse=True, scope="module")
def _without_collections() -> Iterator[None]:
    """Once for all tests: a collection takes seconds where everything has been imported."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def table(N: int = 3000, D: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.randn(N, D)
    return X, (X[:, 0] + X[:, 1] * torch.randn(N) > 0).to(torch.uint8)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_x_goes_with_its_last_name(options: dict[str, Any], classes: int, place: str, stopped: bool) -> None:
    X, y = (tensor.to(place) for tensor in table())
    weak = StorageWeakRef(X.untyped_storage())
    y = y.long() + (X[:, 2] > 1) * (classes - 2)

    def stop(*_: object) -> None:
        if stopped:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        result = fitted(X, y, classes, on_point=stop, **options)
        assert not stopped
        assert result.weight.isfinite().all()
    del X
    assert weak.expired()


@pytest.mark.parametrize("dtype", [None, np.float32, np.float16, np.float64])
def test_an_estimator_keeps_no_data(dtype: Any) -> None:
    X, y = table(N=20_000, D=20)
    given = X if dtype is None else X.numpy().astype(dtype, copy=False)
    model = flashlogit.LogisticRegression(C=1.0).fit(given, y.numpy())
    model.predict_proba(given)
    of_rows = [each for each in gc.get_objects() if type(each) is torch.Tensor and len(X) in each.shape]
    kept, mine = ({each.untyped_storage().data_ptr() for each in tensors} for tensors in (of_rows, (X, y)))
    assert kept <= mine


@pytest.mark.parametrize(("measure", "options"), [(evaluate, {"bins": 10}), (bootstrap, {"seed": 0, "replicates": 20})])
def test_what_is_measured_of_a_row_takes_a_few_numbers(measure: Callable[..., Any], options: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    z, N = rng.normal(size=400_000).round(3), 400_000
    y = (z + rng.logistic(size=N) > 0).astype(np.uint8)
    measure(SplitScores(z[:100], y[:100]), eps=0.0, threshold=0.5, **options)
    tracemalloc.start()
    measure(SplitScores(z, y), eps=0.0, threshold=0.5, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 60 * N
