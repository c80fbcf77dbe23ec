"""The package as a whole: what its import costs, and which way its parts depend on each other."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import flashlogit

ROOT = Path(__file__).parents[1]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_costs_little_over_torch() -> None:
    code = (
        "import time, torch; start = time.perf_counter(); import flashlogit; flashlogit.bce_loss;"
        "print(time.perf_counter() - start)"
    )
    assert statistics.median(float(run_python(code)) for _ in range(3)) <= 0.3


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, flashlogit; flashlogit.bce_loss, flashlogit.LogisticHead; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in run_python(code).split()}
    assert loaded.isdisjoint(
        {"triton", "sklearn", "pyarrow", "matplotlib", "pydantic", "yaml", "safetensors"}
    )


def test_it_works_without_triton() -> None:
    code = """
import sys
sys.modules["triton"] = None
import torch, flashlogit
w = torch.zeros(2, requires_grad=True)
flashlogit.bce_loss(torch.ones(3, 2), torch.ones(3), w).backward()
print(w.grad.tolist())
"""
    assert run_python(code).strip() == "[-0.5, -0.5]"


def test_the_public_names_exist() -> None:
    for name in flashlogit.__all__:
        assert getattr(flashlogit, name) is not None
        assert name in dir(flashlogit)


def test_kernels_depend_on_torch_and_triton_only() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in {"torch", "triton", "__future__"} | set(sys.stdlib_module_names), (
                    f"{path}: {name}"
                )


def test_files_of_jitted_functions_hold_nothing_else() -> None:
    for path in (ROOT / "kernels/flashlogit_kernels/gpu").glob("_[a-z]*.py"):
        for node in ast.parse(path.read_text()).body:
            assert isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.FunctionDef), path
            if isinstance(node, ast.FunctionDef):
                (decorator,) = node.decorator_list
                assert ast.unparse(decorator).partition("(")[0] == "triton.jit", node.name
