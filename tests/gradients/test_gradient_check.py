"""The gradient check: the values known by hand, every method, wrong gradients found, and the clamp told honestly."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flashlogit import reference
from flashlogit.commands.check_gradients import main, table
from flashlogit.gradients import check as gradient_check
from flashlogit.gradients import methods as gradient_methods
from flashlogit.gradients.check import (
    GradientCheck,
    KernelPlace,
    NotRun,
    Row,
    check,
    check_data,
    check_example,
    data_problem,
    example_problem,
    find_kernel,
)
from flashlogit.gradients.methods import ChainRule, Problem
from flashlogit.system.errors import UserError
from flashlogit_kernels.contract import BCESums, Clamp, ClampGradient

ROOT = Path(__file__).parents[2]
BCE = str(ROOT / "configs/bce.yaml")
OWN = str(ROOT / "configs/own_file.yaml")
CPU = torch.device("cpu")
NO_KERNEL = KernelPlace(CPU, False, "the package triton is not installed")

# The loss, dL/dw and dL/db of x = 6.7, y = 0, w = 1, b = 0: in exact arithmetic, and as float32 by hand gives them.
LOSS = 6.7012
FLOAT64 = (6.691763029237442, 0.9987706013787226)
FLOAT32 = (6.691762447357178, 0.998770534992218)


def rows_of(outcome: GradientCheck, method: str) -> list[Row]:
    return [row for row in outcome.rows if isinstance(row, Row) and row.method.startswith(method)]


@pytest.fixture(scope="module")
def example() -> GradientCheck:
    return check_example(example_problem(6.7, 0, 1, 0), find_kernel(CPU))


@pytest.mark.parametrize("method", ["chain rule by hand", "autograd", "reference", "kernel"])
def test_golden_values(example: GradientCheck, method: str) -> None:
    double, single = rows_of(example, method)
    assert double.arithmetic.startswith("float64")
    assert single.arithmetic.startswith("float32")
    for row, tolerance in ((double, 1e-14), (single, 1e-6)):
        assert row.gradient.loss == pytest.approx(LOSS, abs=5e-5)
        assert row.gradient.weight.item() == pytest.approx(FLOAT64[0], rel=tolerance, abs=0)
        assert row.gradient.bias == pytest.approx(FLOAT64[1], rel=tolerance, abs=0)


def test_float32_by_hand_has_the_known_digits(example: GradientCheck) -> None:
    _, single = rows_of(example, "chain rule by hand")
    assert single.gradient.weight.item() == FLOAT32[0]
    assert single.gradient.bias == FLOAT32[1]


def test_the_example_agrees(example: GradientCheck) -> None:
    assert example.agrees
    assert 0 < example.disagreement <= example.bound <= 1e-6
    (differences,) = rows_of(example, "finite differences")
    assert differences.gradient.weight.item() == pytest.approx(FLOAT64[0], rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("z", [-1e20, -800.0, -20.0, 0.0, 6.7, 40.0, 1e20])
def test_the_factors_multiply_to_the_residual(z: float, y: float, dtype: torch.dtype) -> None:
    logit, label = torch.tensor(z, dtype=dtype), torch.tensor(y, dtype=dtype)
    chain = ChainRule.at(logit, label, Clamp(1e-8, "through"))
    p = 1 / (1 + math.exp(-z)) if z > -700 else 0.0
    assert chain.loss_by_z.item() == pytest.approx(p - y, rel=1e-5, abs=1e-7)
    if not chain.cancelled:
        assert torch.equal(chain.loss_by_p * chain.p_by_z, chain.loss_by_z)
    if y == 1 and -20 <= z <= 40:  # the sure prediction keeps its digits
        assert chain.loss_by_z.item() == pytest.approx(-1 / (1 + math.exp(z)), rel=1e-5)


@pytest.mark.parametrize("clamp_gradient", ["through", "exact"])
@pytest.mark.parametrize("eps", [0, 1e-8, 1e-3, 0.4])
@pytest.mark.parametrize("y", [0, 1e-6, 0.5, 1])
@pytest.mark.parametrize(("x", "b"), [(0, 0), (6.7, -6.7), (-3, 1e6), (1e3, 0), (1e20, 0), (1e-30, 25)])
def test_no_example_is_a_false_alarm(
    x: float, b: float, y: float, eps: float, clamp_gradient: ClampGradient
) -> None:
    outcome = check_example(example_problem(x, y, 1, b, eps=eps, clamp_gradient=clamp_gradient), NO_KERNEL)
    assert outcome.agrees, table(outcome)


@pytest.mark.parametrize("offset", [-1e-9, 0, 1e-9])
def test_rows_at_the_clamp_may_fall_on_either_side(offset: float) -> None:
    clamp = Clamp(1e-3, "exact")
    outcome = check_example(
        example_problem(clamp.bound + offset, 0, 1, 0, eps=1e-3, clamp_gradient="exact"), NO_KERNEL
    )
    assert outcome.agrees
    assert any("where the derivative jumps" in note for note in outcome.notes)


def test_beyond_the_clamp_exact_is_what_differences_give() -> None:
    problem = example_problem(100, 0, 1, 0, eps=1e-3, clamp_gradient="exact")
    outcome = check_example(problem, find_kernel(CPU))
    assert outcome.agrees
    for row in outcome.rows:
        assert isinstance(row, Row)
        assert row.gradient.weight.item() == 0
        assert row.gradient.loss == pytest.approx(-math.log(1e-3), rel=1e-6)


def test_beyond_the_clamp_through_differs_from_differences_by_design() -> None:
    problem = example_problem(100, 0, 1, 0, eps=1e-3, clamp_gradient="through")
    outcome = check_example(problem, find_kernel(CPU))
    assert outcome.agrees
    for method in ("chain rule", "autograd", "reference", "kernel", "differences, unclamped"):
        for row in rows_of(outcome, method):
            assert row.gradient.weight.item() == pytest.approx(100, rel=1e-8)
    (clamped,) = rows_of(outcome, "differences, clamped")
    assert clamped.gradient.weight.item() == 0
    assert any("differ from the gradient above by design" in note for note in outcome.notes)


def wrong_reference(monkeypatch: pytest.MonkeyPatch, factor: float, entry: int | slice) -> None:
    right = reference.bce_onepass

    def wrong(*args: Any, **kwargs: Any) -> BCESums:
        packed = right(*args, **kwargs).packed
        packed[entry] *= factor
        return BCESums(packed)

    monkeypatch.setattr(reference, "bce_onepass", wrong)


@pytest.mark.parametrize("entry", [0, -5, -4], ids=["weight", "bias", "loss"])
@pytest.mark.parametrize("factor", [1 + 1e-4, -1, 0, math.nan])
def test_a_wrong_reference_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], factor: float, entry: int
) -> None:
    wrong_reference(monkeypatch, factor, entry)
    assert main([]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert "reference" in verdict
    assert verdict.endswith("DISAGREE")


def test_one_wrong_column_of_the_data_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_reference(monkeypatch, 1 + 1e-6, 17)
    assert main(["--config", BCE]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("(reference, float64, dL/dw[17]): DISAGREE")


def test_a_wrong_truth_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gradient_methods.by_hand
    monkeypatch.setattr(
        gradient_check, "by_hand", lambda *args: replace(right(*args), bias=right(*args).bias * 0.9)
    )
    assert not check_example(example_problem(6.7, 0, 1, 0), NO_KERNEL).agrees


def test_the_wrong_clamp_convention_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.bce_onepass

    def through(*args: Any, **kwargs: Any) -> BCESums:
        return right(*args, **(kwargs | {"clamp_gradient": "through"}))

    monkeypatch.setattr(reference, "bce_onepass", through)
    problem = example_problem(10, 0, 1, 0, eps=1e-3, clamp_gradient="exact")
    outcome = check_example(problem, NO_KERNEL)
    assert not outcome.agrees
    assert outcome.worst.method == "reference"


def rows(N: int, D: int, dtype: torch.dtype, clamp: Clamp) -> Problem:
    generator = torch.Generator().manual_seed(N + D)
    X = torch.randn(N, D, generator=generator)
    return Problem(
        X=X.to(dtype),
        y=(torch.rand(N, generator=generator) < 0.3).to(torch.uint8),
        sample_weight=torch.rand(N, generator=generator),
        weight=torch.randn(D, generator=generator).double() / D**0.5,
        bias=0.25,
        clamp=clamp,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "clamp", [Clamp(1e-8, "through"), Clamp(0.3, "through"), Clamp(0.3, "exact")], ids=str
)
@pytest.mark.parametrize(("N", "D"), [(3, 1), (2500, 4), (300, 70)])
def test_data_agree_in_every_storage_dtype(N: int, D: int, clamp: Clamp, dtype: torch.dtype) -> None:
    dtypes = (torch.float64,) if dtype == torch.float64 else (torch.float64, torch.float32)
    outcome = check(rows(N, D, dtype, clamp), find_kernel(CPU) if N < 1000 else NO_KERNEL, dtypes)
    assert outcome.agrees, table(outcome)


def test_a_constant_column_over_many_rows_is_no_false_alarm() -> None:
    """Where float32 sums are at their worst: 1e-4 off, in plain torch too."""
    N = 300_000
    X = torch.full((N, 3), 1999.0)
    weight = torch.full((3,), 2.0**-13, dtype=torch.float64)
    problem = Problem(X, torch.zeros(N, dtype=torch.uint8), weight, 0.0, Clamp(0.0, "through"))
    outcome = check(problem, NO_KERNEL, (torch.float64, torch.float32))
    assert outcome.agrees, table(outcome)


def test_breast_cancer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", BCE, "data.dtype=bfloat16", "device=cpu", "loss.class_weight=balanced"]) == 0
    out = capsys.readouterr().out
    assert "399 training rows, 30 columns stored in bfloat16" in " ".join(out.split())
    assert "dL/dw[0]: mean radius" in out
    assert out.splitlines()[-1].endswith(": agree")
    assert max(map(len, out.splitlines())) <= 100


def test_own_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv"
    lines = [f"{i % 7},{i * 0.1:.1f},{int(i % 3 == 0)}" for i in range(40)]
    path.write_text("\n".join(["first,second,y", *lines]) + "\n")
    assert main(["--config", OWN, f"data.path={path}", "data.dtype=float64", "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "2 columns stored in float64" in " ".join(out.split())
    assert "float32" not in out
    assert "dL/dw[1]: second" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernel runs on the GPU, on all rows")
def test_the_interpreter_gets_the_first_rows() -> None:
    overrides = ["data.rows=1e4", "data.columns=300", "device=cpu"]
    data = data_problem(ROOT / "configs/synthetic.yaml", overrides)
    assert data.rows_in_all == 8000
    assert data.problem.X.shape == (2**20 // 300, 300)
    outcome = check_data(replace(data, kernel=NO_KERNEL))
    assert outcome.agrees
    (differences,) = rows_of(outcome, "finite differences")
    assert differences.gradient.weight.shape == (50,)
    assert any("first 50 of 300 columns" in note for note in outcome.notes)


def test_the_same_seed_gives_the_same_point() -> None:
    one, two, other = (data_problem(Path(BCE), [f"seed={seed}", "device=cpu"]).problem for seed in (1, 1, 2))
    assert torch.equal(one.weight, two.weight)
    assert one.bias == two.bias
    assert not torch.equal(one.weight, other.weight)
    assert (one.X.double() @ one.weight).abs().mean().item() == pytest.approx(1, rel=1e-5)


def test_without_triton_the_row_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "triton" else find_spec(name)
    )
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "did not run: the package triton is not installed" in out
    assert "the verdict is not about it" in out


def test_not_run_is_a_row_of_its_own() -> None:
    outcome = check_example(example_problem(6.7, 0, 1, 0), NO_KERNEL)
    assert [row.reason for row in outcome.rows if isinstance(row, NotRun)] == [NO_KERNEL.obstacle] * 2


def test_numbers_that_float32_cannot_hold() -> None:
    outcome = check_example(example_problem(1e-50, 0, 1e50, 0), NO_KERNEL)
    assert outcome.agrees
    assert not any(row.arithmetic.startswith("float32") for row in outcome.rows)
    assert any("float32 cannot hold" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--y", "1.5"], "--y is 1.5; must be from 0 to 1"),
        (["--y=-0.1"], "--y is -0.1"),
        (["--y", "nan"], "--y is nan; must be a finite number"),
        (["--x", "inf"], "--x is inf; must be a finite number"),
        (["--x", "1e200", "--w", "1e200"], "overflows"),
        (["--eps", "0.5"], "--eps is 0.5; must be at least 0 and less than 0.5"),
        (["--eps=-1e-9"], "--eps is -1e-09"),
        (["loss.eps=0"], "name the file with --config"),
        (["--config", BCE, "--eps", "0"], "--eps is for one row"),
        (["--config", BCE, "--clamp-gradient", "exact"], "--clamp-gradient is for one row"),
        (["--config", BCE, "loss.epss=0"], "did you mean loss.eps"),
        (["--config", BCE, "device=cuda:99"], "device is 'cuda:99'"),
        (["--config", "none.yaml"], "none.yaml: no such file"),
        (["--config", OWN, "data.path=none.csv"], "none.csv"),
    ],
)
def test_user_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    with pytest.raises(UserError):
        main([*arguments, "--debug"])


@pytest.mark.parametrize("arguments", [[], ["--x=-1.25e-201", "--w=7.123456789012345e200", "--b", "1.1e10"]])
def test_the_output_is_at_most_100_columns_wide(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--eps", "1e-3"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_the_script_as_a_user_runs_it() -> None:
    """Without TRITON_INTERPRET, which the script sets itself where there is no GPU."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = [sys.executable, "-W", "error", str(ROOT / "scripts/check_gradients.py")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    for number in (*FLOAT64, *FLOAT32, 6.70123):
        assert f"{number:.16g}" in done.stdout
    label = "kernel" if torch.cuda.is_available() else "kernel (interpreter)"
    assert re.search(rf"^{re.escape(label)} +float32", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1].endswith(": agree")
