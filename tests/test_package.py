"""The package as a whole: its public names, which are those of 0.1.0, what its import loads, what its kernels need."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flashlogit
import flashlogit_kernels
from flashlogit.config.load import load_settings

ROOT = Path(__file__).parents[1]


def run_python(code: str, folder: Path = ROOT) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder).stdout


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


def test_it_works_without_numba() -> None:
    """A small table is fitted by the twin of the compiled loop."""
    code = """
import sys
sys.modules["numba"] = None
import torch, flashlogit
X = torch.arange(8.0)[:, None]
print(len({flashlogit.fit(X, X[:, 0] % 3 > 1, l2=0.1, backend=name).objective for name in ("auto", "torch")}))
print("flashlogit_kernels.cpu.loops" in sys.modules)
"""
    assert run_python(code).split() == ["1", "False"]


HEAVY = ["numba", "torch._dynamo", "sympy", "matplotlib", "pandas", "scipy", "sklearn", "flashlogit.nn"]
"""What a command has no use for, each some tenths of a second to import, and torch's compiler two seconds."""
TABLE = "a,b,city,y\n" + "".join(f"{i % 7},{i % 5 - 2.5},{'Rome' if i % 3 else 'Bonn'},{i % 2}\n" for i in range(60))
QUIET = "--overwrite --quiet"
SOLVERS = ["flashlogit.fitting.fit", "flashlogit.solvers"]
COMMANDS = {
    f"train --config {ROOT}/configs/bce.yaml training.epochs=2 output=. {QUIET}": SOLVERS,
    f"train --config {ROOT}/configs/newton.yaml output=. {QUIET}": [],
    f"train --config c.yaml data.source=file data.path=t.csv data.label.column=y {QUIET}": SOLVERS,
    f"train --config u.yaml data.source=file data.path=t.csv data.label.column=y {QUIET}": [],
    f"predict --model table --data t.csv --out p.csv {QUIET}": ["torch"],
    "evaluate --model table --data t.csv": ["torch"],
    "inspect t.csv --label y": ["torch", "pydantic"],
}
"""Those of a small run, in an order in which each has what it needs; and what else it has no use for."""


def test_commands_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "c.yaml").write_text("name: table\noutput: .\ntraining: {epochs: 2}\n")
    (tmp_path / "u.yaml").write_text("name: unpenalised\noutput: .\nsolver: {name: auto}\n")
    for command, more in COMMANDS.items():
        code = f"import linecache, sys; from flashlogit.commands.main import main; code = main({command.split()})"
        code += "; print(); print(code, *sys.modules, *linecache.cache)"
        loaded = run_python(code, tmp_path).splitlines()[-1].split()
        assert loaded[0] == "0", command
        assert not {*HEAVY, *more} & {*loaded}, command
        assert not [name for name in loaded if name.endswith("settings.py")], "a source was read for its docstrings"


def test_a_command_does_not_search_all_objects_for_garbage(tmp_path: Path) -> None:
    """Neither while it runs, nor when the process ends, where what `atexit` has registered first is called last."""
    code = f"""
import atexit, gc
seen, before = [], gc.get_threshold()
gc.callbacks.append(lambda phase, found: seen.append(found["generation"]))
atexit.register(lambda: print(seen.count(2), 0 in seen, gc.get_freeze_count() > 50_000, gc.get_threshold() == before))
from flashlogit.commands.main import main
main({f"train --config {ROOT}/configs/newton.yaml output=. {QUIET}".split()})
"""
    assert run_python(code, tmp_path).splitlines()[-1].split() == ["0", "True", "True", "True"]


def test_triton_does_not_complain_when_a_command_ends() -> None:
    command = [sys.executable, "-m", "flashlogit", "check-gradients"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


PASSES = {
    "bce_onepass": "X y weight bias residual curvature logits border options",
    "bce_rows": "X y weight bias options",
    "bce_hessian": "X y weight bias options",
    "hessian_product": "X curvature v v_bias options",
    "column_sums": "X v options",
}
FIT = "sample_weight l1 l2 intercept solver tolerance max_iterations start"
PARAMETERS_OF_0_1_0 = {
    "flashlogit.LogisticHead": "in_features bias eps clamp_gradient reduction device dtype",
    "flashlogit.LogisticRegression": "penalty C l1_ratio dual tol fit_intercept intercept_scaling class_weight"
    " random_state solver max_iter verbose warm_start n_jobs device backend learning_rate batch_size",
    "flashlogit.bce_loss": "X y weight bias sample_weight pos_weight eps clamp_gradient reduction backend",
    "flashlogit.fit": f"X y {FIT} backend names on_point",
    "flashlogit.fit_softmax": f"X y classes {FIT} names on_point backend",
    "flashlogit.reference.logits": "X weight bias",
    **{f"flashlogit.reference.{name}": parameters for name, parameters in PASSES.items()},
}


@pytest.mark.parametrize("name", PARAMETERS_OF_0_1_0)
def test_parameters_are_those_of_0_1_0(name: str) -> None:
    module, _, function = name.rpartition(".")
    public = getattr(importlib.import_module(module), function)
    assert list(inspect.signature(public).parameters) == PARAMETERS_OF_0_1_0[name].split()


NEW_KERNELS = ["ModelsStep", "Plans", "Step", "column_moments", "fits_step", "label_sums", "models_onepass"]
"""Names of flashlogit_kernels that 0.1.0 did not have."""
NEW = [
    "Bootstrap",
    "GroupFits",
    "LogisticRegressionCV",
    "ManyFits",
    "PermutationTest",
    "Predictor",
    "TargetFits",
    "bootstrap",
    "fit_groups",
    "fit_many",
    "permutation_test",
]
"""The same of flashlogit."""


def test_names_are_those_of_0_1_0() -> None:
    names = "Fit FitState LogisticHead LogisticRegression UserError bce_loss fit fit_softmax"
    assert flashlogit.__all__ == sorted([*names.split(), *NEW])
    assert all(getattr(flashlogit, name) is not None and name in dir(flashlogit) for name in flashlogit.__all__)
    assert flashlogit_kernels.__all__ == sorted([*PASSES, "pad_rows", *NEW_KERNELS])
    assert str(flashlogit.UserError("no")) == "no"


def test_operators_take_what_those_of_0_1_0_took() -> None:
    importlib.import_module("flashlogit.nn.ops")
    X, y, weight, bias = torch.ones(3, 2), torch.ones(3), torch.zeros(2), torch.zeros(1)
    sample_weight, pos_weight = torch.full((3,), 2.0), torch.tensor(3.0)
    rest = (X, y, weight, bias, sample_weight, pos_weight, 1e-8, "through", "torch")
    packed, residual = torch.ops.flashlogit.bce_onepass(*rest, True)
    assert packed[:3].tolist() == [-9.0, -9.0, -9.0]
    assert residual.tolist() == [-3.0] * 3
    names = "X y weight bias sample_weight pos_weight eps clamp_gradient backend"
    loss, same = torch.ops.flashlogit.bce_rows(**dict(zip(names.split(), rest, strict=True)))
    torch.testing.assert_close(loss, torch.full((3,), 6 * math.log(2)))
    assert torch.equal(same, residual)
    assert torch.ops.flashlogit.column_sums(X=X, v=residual, backend="torch").tolist() == [-9.0, -9.0]


CONFIGS = "bce elastic_net flights lbfgs million newton newton_cg own_file synthetic"


@pytest.mark.parametrize("name", CONFIGS.split())
def test_config_files_of_0_1_0_load(name: str) -> None:
    assert load_settings(ROOT / f"configs/{name}.yaml").name == name


def test_kernels_depend_on_torch_numpy_triton_and_numba_only() -> None:
    known = {"torch", "triton", "numba", "numpy", "__future__"} | set(sys.stdlib_module_names)
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= known, path


def test_files_of_jitted_functions_hold_nothing_else() -> None:
    for path in (ROOT / "kernels/flashlogit_kernels/gpu").rglob("_[a-z]*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign):
                assert ast.unparse(node.value).startswith(("tl.constexpr(", "(tl.constexpr(")), path
            elif isinstance(node, ast.FunctionDef):
                (decorator,) = node.decorator_list
                assert ast.unparse(decorator).partition("(")[0] == "triton.jit", node.name
            else:
                assert isinstance(node, ast.Expr | ast.Import | ast.ImportFrom), path
