"""Every contender gives the right answer, and one that does not is found out."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from samples import instant_clock, make_problem
from torch import Tensor

from flashlogit import reference
from flashlogit.benchmark.check import FLOAT32_SHARE, Checker
from flashlogit.benchmark.contenders import Contender, cpu_contenders, gpu_contenders
from flashlogit.benchmark.problem import Problem
from flashlogit.benchmark.shape import CeilingCalls, measure
from flashlogit.benchmark.truth import truth_of

CPU = torch.device("cpu")


def verdicts(problem: Problem, contenders: list[Contender]):
    checker = Checker(problem)
    return {c.key: checker.check(c, c.run()) for c in contenders}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("d", [1, 28, 130])
def test_cpu_contenders_are_right(dtype: torch.dtype, d: int):
    problem = make_problem(300, d, dtype)
    found = verdicts(problem, cpu_contenders(problem, reference))
    assert all(v.correct for v in found.values()), found
    passes = {key.partition(":")[0] for key in found}
    assert passes == {"onepass", "hessian_product", "product"} | ({"hessian"} if d <= 128 else set())
    assert "onepass: flashlogit reference (float64)" in found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("d", [1, 19])
def test_gpu_contenders_are_right(dtype: torch.dtype, d: int, kernels: ModuleType, device: torch.device):
    problem = make_problem(50, d, dtype, device)
    contenders = gpu_contenders(problem, kernels, compiled=False)
    found = verdicts(problem, contenders)
    assert all(v.correct for v in found.values()), found
    padded = "onepass: flashlogit, rows padded (float32)"
    assert (padded in found) == (dtype == torch.bfloat16 and d == 19)
    assert {c.pass_name for c in contenders if c.baseline} == {"onepass", "hessian_product", "hessian"}


def test_wide_rows_have_their_floor():
    problem = make_problem(3, 16385)
    contenders = gpu_contenders(problem, reference, compiled=False)
    floor = [c for c in contenders if c.pass_name == "two_products"]
    assert len(floor) == 1
    assert Checker(problem).check(floor[0], floor[0].run()).correct


def test_compile_takes_part_where_asked_for():
    problem = make_problem(10, 2)
    names = [{c.name for c in gpu_contenders(problem, reference, compiled=c)} for c in (True, False)]
    assert names[0] - names[1] == {"torch.compile"}


def test_keys_are_unlike():
    for contenders in (
        cpu_contenders(make_problem(10, 3), reference),
        gpu_contenders(make_problem(10, 17000, torch.bfloat16), reference, compiled=True),
    ):
        assert len({c.key for c in contenders}) == len(contenders)


def test_truth_is_the_textbooks():
    problem = make_problem(40, 3)
    X, y = problem.X.double(), problem.y.double()
    p = 1 / (1 + torch.exp(-(X @ problem.weight.double() + problem.bias.double())))
    onepass = truth_of("onepass", problem)
    torch.testing.assert_close(onepass.parts["gradient"], X.t() @ (p - y))
    torch.testing.assert_close(onepass.parts["loss"], -(y * p.log() + (1 - y) * (1 - p).log()).sum())
    assert onepass.magnitudes["gradient"] == pytest.approx(float((X * (p - y)[:, None]).abs().sum(0).max()))
    hessian = truth_of("hessian", problem)
    ones = torch.cat([X, torch.ones(40, 1, dtype=torch.float64)], 1)
    whole = ones.t() @ torch.diag(p * (1 - p)) @ ones
    torch.testing.assert_close(hessian.parts["hessian"], whole[:-1, :-1])
    torch.testing.assert_close(hessian.parts["border"], whole[-1])


@pytest.mark.parametrize("name", ["onepass", "hessian_product", "hessian", "product", "two_products"])
def test_truth_does_not_depend_on_blocks(name: str, monkeypatch: pytest.MonkeyPatch):
    problem = make_problem(101, 5)
    whole = truth_of(name, problem)
    monkeypatch.setattr("flashlogit.benchmark.truth._CPU_BLOCK_NUMBERS", 35)
    blocks = truth_of(name, problem)
    for part, value in whole.parts.items():
        torch.testing.assert_close(blocks.parts[part], value)
        assert blocks.magnitudes[part] == pytest.approx(whole.magnitudes[part])


def onepass(problem: Problem, *, gradient: float = 1.0, loss: float = 1.0, ours: bool = True) -> Contender:
    """The right answer times factors."""

    def run() -> dict[str, Tensor]:
        sums = reference.bce_onepass(
            problem.X, problem.y, problem.weight, problem.bias, compute_dtype=torch.float64
        )
        return {
            "gradient": sums.weight_grad * gradient,
            "intercept": sums.bias_grad,
            "loss": sums.loss * loss,
        }

    return Contender("onepass", "altered", "float32", run, ours=ours)


def test_small_errors_are_found():
    problem = make_problem(500, 4)
    checker = Checker(problem)

    def correct(**changes: float) -> bool:
        contender = onepass(problem, **changes)
        return checker.check(contender, contender.run()).correct

    assert correct()
    assert not correct(gradient=1 + 1e-4)
    assert not correct(loss=1 + 1e-4)
    assert not correct(gradient=float("nan"))
    assert not correct(loss=float("inf"))


def test_the_allowance_is_plain_torchs_error_and_a_little():
    problem = make_problem(500, 4)
    ours, theirs = onepass(problem), onepass(problem, ours=False)
    checker = Checker(problem)
    assert FLOAT32_SHARE <= checker.check(ours, ours.run()).allowed < 1e-6
    assert checker.check(theirs, theirs.run()).allowed == 1e-4
    half = replace(theirs, arithmetic="bfloat16")
    assert checker.check(half, half.run()).allowed == 1e-2


def test_a_wrong_shape_is_wrong():
    problem = make_problem(20, 4)
    contender = replace(onepass(problem), run=lambda: {"gradient": torch.zeros(3)})
    verdict = Checker(problem).check(contender, contender.run())
    assert (verdict.correct, verdict.error) == (False, None)


def raising(error: Exception) -> Contender:
    def run() -> dict[str, Tensor]:
        raise error

    return Contender("onepass", f"raises {type(error).__name__}", "float32", run)


def test_what_becomes_of_contenders():
    problem = make_problem(400, 4)
    right = replace(onepass(problem), name="right", baseline=True)
    wrong = replace(onepass(problem, gradient=2.0), name="wrong")
    contenders = [
        right,
        wrong,
        raising(ValueError("no /home/somebody/project/file.py today")),
        raising(torch.OutOfMemoryError("too much")),
        raising(MemoryError()),
    ]
    ceilings = CeilingCalls(1600 * 4, CPU)
    ceiling, records = measure(problem, contenders, ceilings, instant_clock, 3)
    assert [r.status for r in records] == ["ok", "incorrect", "failed", "skipped", "skipped"]
    assert [r.correct for r in records] == [True, False, None, None, None]
    assert records[0].speedup == 1.0
    assert records[0].speedup_against == "right"
    assert records[1].ms == pytest.approx(1.0)
    assert records[1].speedup is None
    assert "gradient is off by" in records[1].reason
    assert records[2].reason == "ValueError: no file.py today"
    assert records[3].reason == "out of memory"
    assert ceiling.read_tb_per_s == pytest.approx(6400 / 1e9)
    assert ceiling.copy_tb_per_s == pytest.approx(12800 / 1e9)
    # The pass reads four bytes a row more than the ceiling does in the same time.
    assert records[0].fraction == pytest.approx((6400 + 1600) / 6400)


def test_nothing_is_ranked_against_a_wrong_answer():
    problem = make_problem(400, 4)
    wrong = replace(onepass(problem, gradient=2.0), name="wrong", baseline=True)
    _, records = measure(problem, [wrong, onepass(problem)], CeilingCalls(64, CPU), instant_clock, 1)
    assert [r.speedup for r in records] == [None, None]


def test_failing_while_timed():
    calls = iter(range(10))
    problem = make_problem(40, 4)
    good = onepass(problem)

    def run() -> dict[str, Tensor]:
        if next(calls) == 2:
            raise RuntimeError("third time unlucky")
        return dict(good.run())

    _, records = measure(problem, [replace(good, run=run)], CeilingCalls(640, CPU), instant_clock, 5)
    assert (records[0].status, records[0].ms) == ("failed", None)
    assert "third time unlucky" in records[0].reason


def test_autograd_leaves_no_gradient_behind():
    problem = make_problem(40, 4)
    for contender in cpu_contenders(problem, SimpleNamespace(**vars(reference))):
        contender.run()
        contender.run()
    assert problem.weight.grad is None
    assert not problem.weight.requires_grad
