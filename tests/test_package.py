"""The package as a whole: what its import loads, and what its kernels depend on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import flashlogit

ROOT = Path(__file__).parents[1]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_loads_little_beside_torch() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import flashlogit; flashlogit.bce_loss, flashlogit.LogisticHead;"
        "print(*(set(sys.modules) - before))"
    )
    loaded = run_python(code).split()
    others = {name.split(".")[0] for name in loaded} - {"flashlogit", "flashlogit_kernels"}
    assert others <= set(sys.stdlib_module_names) | {"torch"}
    assert len(loaded) < 40


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
    known = {"torch", "triton", "__future__"} | set(sys.stdlib_module_names)
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= known, path


def test_files_of_jitted_functions_hold_nothing_else() -> None:
    for path in (ROOT / "kernels/flashlogit_kernels/gpu").glob("_[a-z]*.py"):
        for node in ast.parse(path.read_text()).body:
            assert isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.FunctionDef), path
            if isinstance(node, ast.FunctionDef):
                (decorator,) = node.decorator_list
                assert ast.unparse(decorator).partition("(")[0] == "triton.jit", node.name
