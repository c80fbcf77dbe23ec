"""The gradient check: the values known by hand, every method, wrong gradients found, and the clamp told honestly."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from flashlogit import reference
from flashlogit.commands.check_gradients import table
from flashlogit.commands.main import run_command
from flashlogit.gradients import check as gradient_check
from flashlogit.gradients import methods
from flashlogit.gradients.check import GradientCheck, KernelPlace, Row, check, example_problem, find_kernel
from flashlogit.gradients.methods import ChainRule, Problem
from flashlogit_kernels.contract import BCESums, Clamp

main = partial(run_command, "check-gradients")
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
    return [row for row in outcome.rows if row.gradient and row.method.startswith(method)]


def differences_of(outcome: GradientCheck) -> dict[str, Row]:
    return {row.method: row for row in outcome.rows if "differences" in row.method}


@pytest.fixture(scope="module")
def example() -> GradientCheck:
    return check(example_problem(6.7, 0, 1, 0), find_kernel(CPU))


@pytest.mark.parametrize("method", ["chain rule by hand", "autograd", "reference", "kernel"])
def test_golden_values(example, method):
    double, single = rows_of(example, method)
    assert [row.arithmetic.split(",")[0] for row in (double, single)] == ["float64", "float32"]
    for row, tolerance in ((double, 1e-15), (single, 1e-6)):
        assert row.gradient.loss == pytest.approx(LOSS, abs=5e-5)
        assert (row.gradient.weight.item(), row.gradient.bias) == pytest.approx(FLOAT64, rel=tolerance, abs=0)
    if method == "chain rule by hand":
        assert (single.gradient.weight.item(), single.gradient.bias) == FLOAT32
    assert example.agrees
    assert 0 < (example.worst.disagreement or 0) <= example.worst.bound <= 1e-6
    assert differences_of(example)["finite differences"].agrees


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_the_factors_multiply_to_the_residual(y, dtype):
    for z in (-1e20, -800.0, -20.0, 0.0, 6.7, 40.0, 1e20):
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
def test_no_example_is_a_false_alarm(eps, clamp_gradient):
    """Numbers far apart, rows at the clamp and beyond it, soft labels; also where steps are lost in rounding."""
    edge = Clamp(eps, clamp_gradient).bound if eps else 1.0
    points = [(0, 0), (6.7, -6.7), (-3, 1e6), (1e3, 0), (1e20, 0), (1e20, -1e20), (1e-30, 25), (edge, 0)]
    for x, b in [*points, (edge + 1e-9, 0), (edge - 1e-9, 0)]:
        for y in (0, 1e-6, 0.5, 1):
            outcome = check(example_problem(x, y, 1, b, eps=eps, clamp_gradient=clamp_gradient), NO_KERNEL)
            assert outcome.agrees, (x, b, y, table(outcome))


def test_a_row_at_the_clamp_is_left_out_of_the_differences():
    clamp = Clamp(1e-3, "exact")
    outcome = check(example_problem(clamp.bound + 1e-9, 0, 1, 0, eps=1e-3, clamp_gradient="exact"), NO_KERNEL)
    assert outcome.agrees
    assert differences_of(outcome)["finite differences"].agrees is None
    assert "where the derivative jumps" in outcome.notes[0]


@pytest.mark.parametrize(
    ("clamp_gradient", "weight", "ways"),
    [
        ("exact", 0.0, {"finite differences": 0.0}),
        ("through", 100.0, {"differences, unclamped": 100.0, "differences, clamped": 0.0}),
    ],
)
def test_beyond_the_clamp(clamp_gradient, weight, ways):
    """Differences give the gradient of "exact"; from that of "through" they differ by design, which a note says."""
    outcome = check(example_problem(100, 0, 1, 0, eps=1e-3, clamp_gradient=clamp_gradient), find_kernel(CPU))
    assert outcome.agrees
    for row in rows_of(outcome, "")[:8]:
        assert row.gradient.weight.item() == pytest.approx(weight, rel=1e-8)
        assert row.gradient.loss == pytest.approx(-math.log(1e-3), rel=1e-6)
    found = {name: row.gradient.weight.item() for name, row in differences_of(outcome).items()}
    assert found == pytest.approx(ways, rel=1e-6)
    assert len(outcome.rows) == 8 + len(ways)
    assert ("by design" in outcome.notes[0]) == (clamp_gradient == "through")


def wrong_reference(monkeypatch: pytest.MonkeyPatch, factor: float, entry: int, **options: Any) -> None:
    right = reference.bce_onepass

    def wrong(*args: Any, **given: Any) -> BCESums:
        packed = right(*args, **given | options).packed
        packed[entry] *= factor
        return BCESums(packed)

    monkeypatch.setattr(reference, "bce_onepass", wrong)


@pytest.mark.parametrize("entry", [0, -5, -4], ids=["weight", "bias", "loss"])
@pytest.mark.parametrize("factor", [1 + 1e-4, -1, 0, math.nan])
def test_a_wrong_reference_is_found(monkeypatch, capsys, factor, entry):
    wrong_reference(monkeypatch, factor, entry)
    assert main([]) == 1
    assert re.search(r"\(reference, .*: DISAGREE$", capsys.readouterr().out)


def test_one_wrong_column_of_the_data_is_found(monkeypatch, capsys):
    wrong_reference(monkeypatch, 1 + 1e-6, 17)
    monkeypatch.setattr(gradient_check, "find_kernel", lambda device: NO_KERNEL)
    assert main(["--config", BCE]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("(reference, float64, dL/dw[17]): DISAGREE")


@pytest.mark.parametrize("D", [3, 80])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_differences_find_a_wrong_gradient_by_themselves(part, D, monkeypatch, capsys):
    """Where every other method is wrong in the same way, as a formula that all of them share would be."""
    problem = rows(40, D, torch.float32, Clamp(1e-8, "through"))
    outcome = check(problem, NO_KERNEL)
    assert outcome.agrees
    assert ["first 50 of 80 columns" in note for note in outcome.notes] == [True] * (D == 80)

    def scaled(right: Any, *args: Any) -> Any:
        gradient = right(*args)
        return replace(gradient, **{part: 1.01 * getattr(gradient, part)})

    for name in ("by_hand", "by_autograd", "by_reference", "by_kernel"):
        monkeypatch.setattr(gradient_check, name, partial(scaled, getattr(gradient_check, name)))
    outcome = check(problem, NO_KERNEL)
    assert [row.method for row in outcome.rows if row.agrees is False] == ["finite differences"]
    assert main([]) == 1
    assert "finite differences" in capsys.readouterr().out.splitlines()[-1]


def test_a_wrong_truth_is_found(monkeypatch):
    right = methods.by_hand
    monkeypatch.setattr(gradient_check, "by_hand", lambda *args: replace(right(*args), bias=right(*args).bias * 0.9))
    assert not check(example_problem(6.7, 0, 1, 0), NO_KERNEL).agrees


def test_the_wrong_clamp_convention_is_found(monkeypatch):
    wrong_reference(monkeypatch, 1.0, 0, clamp_gradient="through")
    outcome = check(example_problem(10, 0, 1, 0, eps=1e-3, clamp_gradient="exact"), NO_KERNEL)
    assert not outcome.agrees
    assert outcome.worst.method == "reference"


def rows(N: int, D: int, dtype: torch.dtype, clamp: Clamp) -> Problem:
    generator = torch.Generator().manual_seed(N + D)
    X, y = torch.randn(N, D, generator=generator).to(dtype), torch.rand(N, generator=generator) < 0.3
    s, w = torch.rand(N, generator=generator), torch.randn(D, generator=generator) / D**0.5
    return Problem(X, y.to(torch.uint8), w.double(), 0.25, clamp, s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("N", "D", "clamp"),
    [(3, 1, Clamp(1e-8, "through")), (2500, 4, Clamp(0.3, "exact")), (300, 70, Clamp(0.3, "through"))],
    ids=str,
)
def test_data_agree_in_every_storage_dtype(N, D, clamp, dtype):
    outcome = check(rows(N, D, dtype, clamp), find_kernel(CPU) if N < 1000 else NO_KERNEL)
    assert outcome.agrees, table(outcome)
    assert len(rows_of(outcome, "reference")) == 2


def test_a_constant_column_over_many_rows_is_no_false_alarm():
    """Float32 sums are at their worst there, in plain torch too."""
    N = 1 << 14
    weight = torch.full((3,), 2.0**-13, dtype=torch.float64)
    X, y = torch.full((N, 3), 1999.0), torch.zeros(N, dtype=torch.uint8)
    outcome = check(Problem(X, y, weight, 0.0, Clamp(0.0, "through")), NO_KERNEL)
    assert outcome.agrees, table(outcome)


def test_breast_cancer_and_the_width_of_the_output(capsys):
    assert main(["--config", BCE, "data.dtype=bfloat16", "device=cpu", "loss.class_weight=balanced"]) == 0
    out = capsys.readouterr().out
    assert "399 training rows, 30 columns stored in bfloat16" in " ".join(out.split())
    assert "dL/dw[0]: mean radius" in out
    assert out.splitlines()[-1].endswith(": agree")
    assert main(["--x=-1.25e-201", "--w=7.123456789012345e200", "--b", "1.1e10", "--eps", "1e-3"]) == 0
    assert max(map(len, (out + capsys.readouterr().out).splitlines())) <= 100


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernel runs on the GPU, on more rows")
def test_the_interpreter_gets_the_first_rows_of_a_seeded_point():
    overrides = ["data.rows=1e4", "data.columns=300", "device=cpu"]
    seeded = [[*overrides, f"seed={seed}"] for seed in (1, 1, 2)]
    one, two, other = (gradient_check.data_problem(ROOT / "configs/synthetic.yaml", given) for given in seeded)
    assert one.rows_in_all == 8000
    assert one.problem.X.shape == (2**20 // 300, 300)
    assert check(one.problem, NO_KERNEL).agrees
    assert torch.equal(one.problem.weight, two.problem.weight)
    assert one.problem.bias == two.problem.bias
    assert not torch.equal(one.problem.weight, other.problem.weight)
    assert (one.problem.X.double() @ one.problem.weight).abs().mean().item() == pytest.approx(1, rel=1e-5)


def test_without_triton_the_row_says_so(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "did not run: the package triton is not installed" in out
    assert "is not about what did not run: kernel" in out


def test_numbers_that_float32_cannot_hold():
    outcome = check(example_problem(1e-50, 0, 1e50, 0), NO_KERNEL)
    assert outcome.agrees
    assert not any(row.arithmetic.startswith("float32") for row in outcome.rows)
    assert "float32 cannot hold" in outcome.notes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--y", "nan"], "--y is nan"),
        (["--x", "1e200", "--w", "1e200"], "overflows"),
        (["--eps", "0.5"], "--eps is 0.5"),
        (["loss.eps=0"], "--config"),
        (["--config", BCE, "--clamp-gradient", "exact"], "--clamp-gradient"),
        (["--config", BCE, "loss.epss=0"], "loss.eps"),
        (["--config", OWN, "data.path=none.csv"], "none.csv"),
    ],
)
def test_user_errors(arguments, message, capsys):
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told


def test_the_script_as_a_user_runs_it():
    """Without TRITON_INTERPRET, which the script sets itself where there is no GPU."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = [sys.executable, "-W", "error", str(ROOT / "scripts/check_gradients.py")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"{number:.16g}" in done.stdout for number in (*FLOAT64, *FLOAT32, 6.70123))
    label = "kernel" if torch.cuda.is_available() else "kernel (interpreter)"
    assert re.search(rf"^{re.escape(label)} +float32", done.stdout, re.MULTILINE)
