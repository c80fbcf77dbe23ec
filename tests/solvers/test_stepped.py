"""Methods whose steps a kernel makes: the models of the methods in torch, for fewer launches and the same proof."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from launches import counted_launches
from torch import Tensor

import flashlogit
from flashlogit.objectives.certificate import Certificate
from flashlogit.objectives.objective import Objective, Point
from flashlogit.solvers import sample, stepped

pytest.importorskip("triton")
METHODS = pytest.mark.parametrize("solver", ["newton", "lbfgs"])


@pytest.fixture(autouse=True)
def no_tiny_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables are not fitted in one launch, as they would be otherwise."""
    monkeypatch.setattr("flashlogit_kernels.gpu.fits.tiny.TINY_BYTES", 0)


def table(N: int = 160, D: int = 6, *, decades: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal numbers, of singular values over so many decades, and labels of a logistic model with logits of size 2."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(N, D, generator=generator, dtype=torch.float64)
    if decades:
        turned, _ = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))
        X = (X * torch.logspace(0, -decades, D, dtype=torch.float64)) @ turned
    logits = X @ torch.randn(D, generator=generator, dtype=torch.float64)
    noise = torch.rand(N, generator=generator, dtype=torch.float64)
    return X.float(), noise < torch.sigmoid(2 * logits / logits.std() + 0.3)


def fitted(X: Tensor, y: Tensor, solver: Any, backend: Any = "triton", **options: Any) -> flashlogit.Fit:
    known = {"l2": 1 / len(X), "tolerance": 1e-13, **options}
    return flashlogit.fit(X, y, solver=solver, backend=backend, **known)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # of the interpreter
@pytest.mark.parametrize(
    ("solver", "intercept", "kind"),
    [
        *[
            ("newton", True, kind)
            for kind in ("plain", "bfloat16", "weights", "far from 0", "units", "one column", "huge weights")
        ],
        *[("newton", False, kind) for kind in ("float64", "far from 0", "hard")],
        *[("lbfgs", True, kind) for kind in ("float64", "far from 0", "one column")],
        *[("lbfgs", False, kind) for kind in ("weights", "units", "huge weights", "beyond float32")],
    ],
)
def test_the_model_is_that_of_the_methods_in_torch(solver: str, intercept: bool, kind: str) -> None:
    X, y = table(decades=2.0 * (kind == "hard"))
    options: dict[str, Any] = {"intercept": intercept}
    if kind == "float64":
        X = X.double()
    elif kind == "bfloat16":
        X = X.bfloat16()
    elif kind == "weights":
        options["sample_weight"] = torch.arange(len(X)) % 3
    elif kind == "huge weights":
        options["sample_weight"] = 1e38 * (1 + torch.arange(len(X)) % 3)
    elif kind == "beyond float32":  # in sums, and not in X
        X, options["sample_weight"], options["l2"] = X * 1e20, torch.full((len(X),), 1e20), 1e40 / len(X)
    elif kind == "far from 0":
        X = X + 700 * torch.tensor([0, 1, 0, 1, 0, 0])
    elif kind == "units":
        X = X * torch.logspace(-4, 4, 6)
    elif kind == "one column":
        X = X[:, :1].contiguous()
    ours, known = fitted(X, y, solver, **options), fitted(X, y, solver, "torch", **options)
    assert ours.converged
    assert ours.certificate.kind == "gap"
    spread = X.double().std(dim=0)
    torch.testing.assert_close(ours.weight * spread, known.weight * spread, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.bias, known.bias, rtol=1e-6, atol=1e-6 * (1 + 1e3 * (kind == "far from 0")))
    assert ours.objective == pytest.approx(known.objective, rel=1e-12)


@METHODS
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("tolerance", [1e-6, 0.05])
def test_the_gap_is_the_one_that_the_certificate_proves(solver: str, intercept: bool, tolerance: float) -> None:
    """Found in the last pass itself, which is counted once; a gap of float32 sums proves nothing, however large."""
    X, y = table()
    points: list[Any] = []
    kept: dict[str, Any] = {"intercept": intercept, "on_point": lambda row, point: points.append(point)}
    found = fitted(X, y, solver, tolerance=tolerance, **kept)
    objective = points[-1].objective
    proven = objective.certify(objective.evaluate(points[-1].state.tensors["theta"], certified=True))
    assert found.gap == pytest.approx(proven.gap, rel=1e-6)
    assert found.objective == pytest.approx(proven.objective, rel=1e-14)
    assert found.relative_gap <= tolerance
    assert found.history[-1]["gap"] == found.gap


@METHODS
@pytest.mark.parametrize("decades", [0.0, 2.0])
def test_float32_passes_come_first_and_cost_no_digit(
    solver: str, decades: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same final gap as with float64 throughout, in about as many passes."""
    X, y = table(decades=decades)
    ours = fitted(X, y, solver)
    monkeypatch.setattr(stepped, "TUNING", dataclasses.replace(stepped.TUNING, rough=1.0))
    exact = fitted(X, y, solver)
    assert ours.converged
    assert exact.converged
    assert ours.history[1]["objective"] != exact.history[1]["objective"]
    assert ours.history[1]["objective"] == pytest.approx(exact.history[1]["objective"], rel=1e-5)
    assert ours.passes <= exact.passes + 4


@METHODS
def test_a_fit_goes_on_from_each_of_its_points_to_the_last_bit(solver: str) -> None:
    X, y = table(decades=1.0)
    states: list[flashlogit.FitState] = []
    whole = fitted(X, y, solver, tolerance=1e-9, on_point=lambda row, point: states.append(point.state))
    assert len(states) == len(whole.history) > 4
    for at in (0, 1, len(states) // 2, -2):
        resumed = fitted(X, y, solver, tolerance=1e-9, start=states[at])
        assert torch.equal(resumed.weight, whole.weight)
        assert torch.equal(resumed.bias, whole.bias)
        assert resumed.gap == whole.gap
        assert resumed.iterations == whole.iterations


@METHODS
def test_a_state_is_gone_on_from_by_the_other_implementation(solver: str) -> None:
    X, y = table()
    for one, other in (("triton", "torch"), ("torch", "triton")):
        states: list[flashlogit.FitState] = []
        whole = fitted(X, y, solver, one, on_point=lambda row, point, kept=states: kept.append(point.state))
        resumed = fitted(X, y, solver, other, start=states[2])
        torch.testing.assert_close(resumed.weight, whole.weight, rtol=1e-6, atol=1e-6)
        assert resumed.iterations <= whole.iterations + 2


@METHODS
def test_bits_do_not_depend_on_who_listens_or_on_what_has_been_compiled(solver: str) -> None:
    X, y = table()
    first, second = fitted(X, y, solver), fitted(X, y, solver, on_point=lambda row, point: None)
    assert torch.equal(first.weight, second.weight)
    assert [row["gap"] for row in first.history] == [row["gap"] for row in second.history]


@METHODS
def test_the_limit_of_iterations_is_kept(solver: str) -> None:
    X, y = table()
    found = fitted(X, y, solver, max_iterations=2)
    assert (found.ending, found.iterations) == ("limit", 2)
    assert found.certificate.kind == "gap"
    assert found.gap >= found.objective - fitted(X, y, solver).objective > 0


@pytest.mark.parametrize(("D", "l2"), [(4, 1e-10), (66, 1e-10), (4, 1e-18)])
def test_a_hessian_without_factors_is_mended(D: int, l2: float) -> None:
    """Copied columns and a penalty far below rounding of float32, or of float64: the Hessian summed in it has no
    Cholesky factor. Such a state can be saved."""
    X, y = table(N=3 * D + 60, D=D)
    X = torch.cat([X, X[:, :2]], dim=1)
    states: list[flashlogit.FitState] = []
    found = fitted(X, y, "newton", l2=l2, tolerance=1e-8, on_point=lambda row, point: states.append(point.state))
    known = fitted(X, y, "newton", "torch", l2=l2, tolerance=1e-8)
    resumed = fitted(X, y, "newton", l2=l2, tolerance=1e-8, start=states[0])
    assert torch.equal(resumed.weight, found.weight)
    assert found.converged
    assert found.objective == pytest.approx(known.objective, rel=1e-7)


def test_a_start_far_away_is_refused_steps_and_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    null = fitted(X, y, "lbfgs", max_iterations=1).history[0]["objective"]
    for solver in ("newton", "lbfgs"):
        far = (40 * torch.ones(6).double(), torch.zeros(1).double())
        found = fitted(X, ~y, solver, start=far)  # worse than the null model: left out
        assert found.converged
        assert "left out" in found.notes[0]
        near = fitted(X, y, solver, start=(fitted(X, y, solver).weight, torch.zeros(1).double()))
        assert near.converged
        assert near.history[0]["objective"] < null


@pytest.mark.parametrize(
    ("solver", "D", "once", "hessian"), [("newton", 64, 20, 4), ("newton", 70, 20, 10), ("lbfgs", 90, 25, 0)]
)
def test_a_fit_costs_its_passes(solver: str, D: int, once: int, hessian: int) -> None:
    """Four launches an iteration, a pass, a reduction, a step and a copy, and so many for a Hessian and once; a
    read-back for each point, and two of the data."""
    X, y = table(N=600, D=D)
    with counted_launches() as found:
        fit = fitted(X, y, solver, tolerance=1e-8)
    assert fit.converged
    assert found.total <= once + 4 * fit.iterations + hessian * found.kernels["hessian_kernel"]
    assert found.reads <= fit.iterations + 3


def test_beyond_the_widest_step_fits_are_made_by_the_methods_in_torch() -> None:
    """16,384 columns and an intercept are one parameter too many."""
    X, y = table(N=6, D=16_384)
    with counted_launches() as found:
        ours = fitted(X, y, "lbfgs", max_iterations=1)
    assert found.kernels["step_kernel"] == 0
    assert ours.objective == pytest.approx(fitted(X, y, "lbfgs", "torch", max_iterations=1).objective, rel=1e-9)


def test_rows_without_room_for_a_border_are_certified_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gap is an estimate until it is asked for: as with more than 4,096 columns in float64."""
    X, y = table()
    bordered = fitted(X, y, "lbfgs", tolerance=1e-7)
    monkeypatch.setattr(stepped, "fits_registers", lambda *_, border=False, **options: not border)
    with counted_launches() as found:
        ours = fitted(X, y, "lbfgs", tolerance=1e-7)
    assert found.kernels["onepass_kernel"] > 0
    assert ours.converged
    assert ours.relative_gap <= 1e-7
    assert ours.passes == bordered.passes + 2  # evaluated once more for it, with a read for the intercept
    assert ours.objective == pytest.approx(bordered.objective, rel=1e-7)


def test_a_certificate_that_was_too_large_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate was within the goal, and what is proven is not: the method goes on from there."""
    X, y = table()
    monkeypatch.setattr(stepped, "fits_registers", lambda *_, border=False, **options: not border)
    asked: list[float] = []
    certify = Objective.certify

    def larger(self: Objective, point: Point) -> Certificate:
        found = certify(self, point)
        asked.append(found.gap)
        return dataclasses.replace(found, gap=1e4 * found.gap) if len(asked) < 3 else found

    monkeypatch.setattr(Objective, "certify", larger)
    found = fitted(X, y, "lbfgs", tolerance=1e-7)
    assert found.converged
    assert len(asked) == 3
    assert asked[2] < asked[1] < asked[0]


@METHODS
def test_what_is_made_while_the_device_works_changes_nothing(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter nothing ever takes longer than its launch, and all is made when it is needed."""
    X, y = table()
    late, made = fitted(X, y, solver), []
    ahead = [lambda method, make=make: made.append(make(method)) for make in stepped._AHEAD]
    monkeypatch.setattr(stepped, "_AHEAD", tuple(ahead))
    monkeypatch.setattr(stepped._Mail, "has_come", property(lambda self: len(made) >= len(ahead)))
    early = fitted(X, y, solver)
    assert len(made) == len(ahead)
    assert torch.equal(early.weight, late.weight)
    assert early.passes == late.passes


@pytest.mark.parametrize(
    ("kind", "kernels"),
    [
        *((kind, 1) for kind in ("plain", "float64, far from 0", "sorted", "separated", "no signal")),
        *((kind, 0) for kind in ("rare", "rare by weight", "weights", "no intercept", "l1")),
    ],
)
def test_a_start_from_small_samples_spares_passes(kind: str, kernels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each of the interpreter's two multiprocessors, in one launch, and their mean in another. There is none
    where so few rows might say too little, and it is the null model where no sample has an optimum."""
    X, y = table(N=1500 if kind == "no signal" else 600, D=4)  # of eight multiprocessors, more rows
    options: dict[str, Any] = {"tolerance": 1e-8}
    if kind == "float64, far from 0":  # whose centre a pass subtracts
        X = X.double() + 700
    elif kind == "sorted":
        order = y.argsort()
        X, y = X[order], y[order]
    elif kind == "separated":
        y, options["l2"] = X[:, 0] > 0, 1e-7
    elif kind == "no signal":
        y = y[torch.randperm(len(y))]
        monkeypatch.setattr("flashlogit_kernels.gpu.launch.multiprocessors", lambda device: 8)
    elif kind == "rare":
        y = y & (torch.rand(len(X)) < 0.02)
    elif kind == "rare by weight":
        y = y.double() * 1e-310
    elif kind == "weights":
        options["sample_weight"] = 0.5 + torch.rand(len(X))
    elif kind == "no intercept":
        options["intercept"] = False
    elif kind == "l1":
        options["l1"] = 1e-3
    null = fitted(X, y, "newton", **options)
    monkeypatch.setattr(sample, "TUNING", dataclasses.replace(sample.TUNING, fitted_bytes=0))
    with counted_launches() as found:
        ours = fitted(X, y, "newton", **options)
    assert found.kernels["tiny_kernel"] == kernels
    assert ours.converged == (kind != "rare by weight")
    torch.testing.assert_close(ours.weight, null.weight, rtol=1e-3, atol=1e-3)
    if kind in ("plain", "float64, far from 0", "sorted"):
        begun = ours.history[0]["objective"], null.history[0]["objective"]
        assert begun[0] - ours.objective < 0.3 * (begun[1] - null.objective)
        assert ours.iterations <= null.iterations
        assert found.total <= 26 + 4 * ours.iterations  # one of them draws the rows
        assert found.reads <= 3 + ours.iterations
        again = fitted(X, y, "newton", **options)
        assert torch.equal(again.weight, ours.weight)
    elif kind == "no signal":  # the null model is next to the optimum, and no better by what it costs to begin again
        assert ours.history[0]["objective"] != pytest.approx(null.history[0]["objective"], rel=1e-9)
        assert ours.iterations <= null.iterations + 1
    else:
        assert ours.history[0]["objective"] == pytest.approx(null.history[0]["objective"], rel=1e-12)
