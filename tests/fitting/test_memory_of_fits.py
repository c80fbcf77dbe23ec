"""What a fit holds on to once its caller has let go (nothing, without a run of Python's collector), and what measuring
takes."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

import flashlogit
from flashlogit.fitting.fit import fit_softmax
from flashlogit.metrics.evaluation import evaluate
from flashlogit.metrics.intervals import bootstrap
from flashlogit.metrics.scores import SplitScores


@pytest.fixture(autouse=True, scope="module")
def _without_collections() -> Iterator[None]:
    """Once for all tests: a collection takes seconds where everything has been imported."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def table(device: torch.device, N: int = 3000, D: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.randn(N, D)
    return X.to(device), (X[:, 0] + X[:, 1] * torch.randn(N) > 0).to(torch.uint8).to(device)


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "newton", "l2": 1e-3},
        {"solver": "newton-cg", "l2": 1e-3},
        {"solver": "lbfgs", "l2": 1e-3},
        {"solver": "newton", "l1": 1e-3},
        {"solver": "lbfgs", "l1": 1e-3, "l2": 1e-4},
        {"solver": "newton"},
        {"solver": "newton-cg"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_x_goes_with_its_last_name(options: dict[str, Any], classes: int, place: str) -> None:
    X, y = table(torch.device(place))
    if classes == 2:
        result: Any = flashlogit.fit(X, y, **options)
    else:
        result = fit_softmax(X, y.long() + (X[:, 2] > 1), **options)
    weak = StorageWeakRef(X.untyped_storage())
    del X
    assert weak.expired()
    assert result.weight.isfinite().all()


def test_x_goes_after_a_fit_that_was_stopped() -> None:
    X, y = table(torch.device("cpu"))
    weak = StorageWeakRef(X.untyped_storage())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        flashlogit.fit(X, y, l2=1e-3, on_point=stop)
    del X
    assert weak.expired()


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda X: X, id="torch"),
        pytest.param(lambda X: X.numpy(), id="float32"),
        pytest.param(lambda X: X.numpy().astype(np.float16), id="float16"),
        pytest.param(lambda X: X.numpy().astype(np.float64), id="float64"),
    ],
)
def test_an_estimator_keeps_no_data(convert: Callable[[torch.Tensor], Any]) -> None:
    X, y = table(torch.device("cpu"), N=20_000, D=20)
    given = convert(X)
    model = flashlogit.LogisticRegression(C=1.0).fit(given, y.numpy())
    model.predict_proba(given)
    of_rows = [each for each in gc.get_objects() if type(each) is torch.Tensor and len(X) in each.shape]
    assert {each.untyped_storage().data_ptr() for each in of_rows} <= {
        each.untyped_storage().data_ptr() for each in (X, y)
    }


@pytest.mark.parametrize("measure", [evaluate, bootstrap])
def test_what_is_measured_of_a_row_takes_a_few_numbers(measure: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    z, N = rng.normal(size=400_000).round(3), 400_000
    y = (z + rng.logistic(size=N) > 0).astype(np.uint8)
    options = {"bins": 10} if measure is evaluate else {"seed": 0, "replicates": 20}
    measure(SplitScores(z, y), eps=0.0, threshold=0.5, **options)
    tracemalloc.start()
    measure(SplitScores(z, y), eps=0.0, threshold=0.5, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 60 * N
